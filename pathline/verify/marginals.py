"""Whether samples of different sigma_t have one law, as theory says of any field whose score is its own.

The SDE extension moves the marginals of every sigma_t as the flow does; so far as the velocity and the score of a field
belong to one density, samples agree whatever sigma_t. How far two sets are apart tells the share of their distances
that the set makes,

    share = (2 E|x - y| - E|x - x'| - E|y - y'|) / (2 E|x - y|),   0: one law,   1: two points

less what chance alone makes of it, which is found by swaps: sample i of either set goes to the other at random, and
nothing is changed by that where both have one law, under any condition that sample i has.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, theorem 17; Szekely & Rizzo 2013,
https://doi.org/10.1016/j.jspi.2013.03.018
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.noise import Noise
from pathline.sampling.sample import sample
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import SDESampler
from pathline.sampling.sigmas import BetaSigma, MemorylessSigma, Sigma, sigma_of
from pathline.tensors import sum_per_sample

SWAP_STREAM = 35
SWAPS = 500
SIGMAS: tuple[Sigma, ...] = (sigma_of(0.0), sigma_of(0.5), BetaSigma(1.0), MemorylessSigma())


class Apart(NamedTuple):
    """How far samples of one sigma_t are from those of another.

    Attributes:
        sigma: The sigma_t.
        share: The share of distances that the set makes, less that of chance: it can fall below 0.
        error: What chance makes it vary by: share / error is a z.
        p_value: The part of all swaps that are as far apart.
        variance_ratio: Of the variance of a sample, summed over its numbers.
        ratio_error: The standard error of that ratio.
        samples: Of this sigma_t.
    """

    sigma: Sigma
    share: float
    error: float
    p_value: float
    variance_ratio: float
    ratio_error: float
    samples: Tensor


def same_marginals(
    field: Field,
    shape: tuple[int, ...],
    sigmas: Sequence[float | Callable[[Tensor], Tensor] | Sigma] = SIGMAS,
    steps: int = 200,
    seed: int = 0,
    sampler: Callable[[Sigma], Sampler] = SDESampler,
    start: Tensor | None = None,
) -> Iterator[Apart]:
    """Samples of each sigma_t, and how far each is from those of the first.

    Args:
        field: Under its conditions, if it has any: one, or one for each sample.
        shape: The number of samples of each, then the shape of one.
        sigmas: The diffusions; the first, the flow unless given, is what the others are held against.
        steps: Of the sampler. Where these are too few, their own error is part of what is found.
        seed: Of the samples, which are others for each sigma_t.
        sampler: From a sigma to what samples with it. It should read the score from where the field has it:
            `ExponentialSDE` needs fewer steps, and reads data and noise in its place.
        start: Where samples begin, for a bridge.

    Raises:
        ValueError: If there is nothing to hold against the first.
    """
    chosen = [sigma_of(sigma) for sigma in sigmas]
    if len(chosen) < 2:
        raise ValueError(f"sigmas must be at least two, got {len(chosen)}")
    first: Tensor | None = None
    for k, sigma in enumerate(chosen):
        x = sample(field, shape, sampler(sigma), steps=steps, seed=seed + k, start=start)
        first = x if first is None else first
        yield apart(first, x, sigma, seed)


def apart(x: Tensor, y: Tensor, sigma: Sigma, seed: int = 0) -> Apart:
    """How far samples `y`, of a sigma_t, are from `x`, as many."""
    if x is y:
        return Apart(sigma, 0.0, 0.0, 1.0, 1.0, 0.0, y)
    both = torch.cat((x, y)).flatten(1).double()
    distances, count = torch.cdist(both, both), len(x)
    swapped = Noise(seed, stream=SWAP_STREAM).signs((SWAPS + 1, count), dtype=torch.float64)
    swapped[0] = 1
    side = torch.cat((swapped, -swapped), 1)
    shares = -((side @ distances) * side).sum(1) / count**2 / (2 * distances[:count, count:].mean())
    here, chance = float(shares[0]), shares[1:]
    p_value = (1 + int((chance >= here).sum())) / (1 + SWAPS)
    ratio, error = ratio_of_means(_squares(y), _squares(x))
    return Apart(sigma, here - float(chance.mean()), float(chance.std()), p_value, ratio, error, y)


def _squares(x: Tensor) -> Tensor:
    x = x.double()
    return sum_per_sample((x - x.mean(0)) ** 2)


def ratio_of_means(a: Tensor, b: Tensor) -> tuple[float, float]:
    """The ratio of two means, and its standard error."""
    ratio = float(a.mean() / b.mean())
    parts = [float(each.var() / each.mean() ** 2) / len(each) for each in (a, b)]
    return ratio, abs(ratio) * math.sqrt(sum(parts))
