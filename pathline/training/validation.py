"""The held-out loss by time, under common random numbers: every call sees the same noise and the same times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.fields.modes import evaluating
from pathline.noise import Noise
from pathline.training.loss import BRIDGE_STREAM, MatchingLoss

VALIDATION_STREAM = 7


class Stopped(Exception):
    """A validation was broken off, as it was asked to be."""


@torch.no_grad()
def loss_by_time(
    loss: MatchingLoss,
    data: Tensor,
    y: Any = None,
    bins: int = 10,
    batch_size: int = 256,
    is_asked_to_stop: Callable[[], bool] = lambda: False,
    begin: Tensor | None = None,
) -> Tensor:
    """The mean loss in each of `bins` even stretches of t, of shape `(bins,)`; each data point is seen in each.

    The field is in eval mode meanwhile, and no label is dropped. A coupling pairs one batch at a time, as in training.

    Args:
        loss: Whose errors are measured.
        data: Of shape `(samples, *shape)`.
        y: Its conditions.
        bins: How many stretches.
        batch_size: Samples at once.
        is_asked_to_stop: Asked before each batch.
        begin: Where the path to each sample begins, for a paired loss: its source is that of the training data.

    Raises:
        ValueError: If the loss is paired, and `begin` has no row for each sample.
        Stopped: As soon as it is asked to.
    """
    if loss.is_paired and (begin is None or len(begin) != len(data)):
        raise ValueError(
            f"begin must hold what the paths to these {len(data):,} samples begin at, as the loss is of pairs, got "
            f"{'none' if begin is None else f'{len(begin):,}'}"
        )
    found = torch.zeros(bins, dtype=torch.float64)
    with evaluating(loss):
        for first in range(0, len(data), batch_size):
            noise = Noise(0, first, VALIDATION_STREAM)
            batch = data[first : first + batch_size]
            label = None if y is None else tree_map(lambda leaf: leaf[first : first + batch_size], y)  # noqa: B023
            for k in range(bins):
                if is_asked_to_stop():
                    raise Stopped
                if begin is None:
                    start = loss.coupling(loss.begin(batch, noise, k), batch, label)
                else:
                    start = begin[first : first + batch_size]
                precise = torch.promote_types(data.dtype, torch.float32)
                t = (k + noise.uniform((len(batch), 1), bins + k, precise, data.device)[:, 0]) / bins
                point = loss.field.path.point(start, batch, t, partial(noise.of(BRIDGE_STREAM).like, draw=k))
                found[k] += loss.errors(point, label).double().sum().cpu()
    return (found / len(data)).float()
