"""How far apart two sets of samples are, and how near one comes to copying another."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 1 << 14  # points that are compared with at once


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """The squared energy distance 2 E|x - y| - E|x - x'| - E|y - y'|, without bias: it can fall below 0.

    Args:
        x: Samples of shape `(n, *shape)`, at least two.
        y: Samples of shape `(m, *shape)`, at least two.

    Source: Szekely & Rizzo 2013, https://doi.org/10.1016/j.jspi.2013.03.018
    """
    x, y = _flat(x), _flat(y)
    if len(x) < 2 or len(y) < 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x and y must be at least two points each, of one size, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    between = torch.cdist(x, y).mean()
    within = [torch.cdist(z, z).sum() / (len(z) * (len(z) - 1)) for z in (x, y)]
    return 2 * between - within[0] - within[1]


def nearest_distance(x: Tensor, reference: Tensor) -> Tensor:
    """The distance from each point of `x` to the nearest of `reference`, of shape `(n,)`."""
    x, reference = _flat(x), torch.as_tensor(reference).flatten(1)
    if not len(reference) or x.shape[1] != reference.shape[1]:
        raise ValueError(
            f"reference must hold at least one point of the size of x, {x.shape[1]}, got shape {tuple(reference.shape)}"
        )
    nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for block in torch.split(reference, BLOCK):
        nearest = torch.minimum(nearest, torch.cdist(x, _flat(block)).amin(1))
    return nearest


def memorisation_ratio(samples: Tensor, training: Tensor, held_out: Tensor) -> Tensor:
    """The mean distance of samples to their nearest training point, over that of held-out data.

    Near 1: as new as real data. Far below 1: copies of the training set.
    """
    if not len(samples) or not len(held_out):
        raise ValueError(f"samples and held_out must hold at least one each, got {len(samples)} and {len(held_out)}")
    return nearest_distance(samples, training).mean() / nearest_distance(held_out, training).mean()


def _flat(x: Tensor) -> Tensor:
    return torch.as_tensor(x).flatten(1).double()
