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
) -> Tensor:
    """The mean loss in each of `bins` even stretches of t, of shape `(bins,)`; each data point is seen in each.

    The field is in eval mode meanwhile, and no label is dropped. A coupling pairs one batch at a time, as in training.

    Raises:
        Stopped: As soon as it is asked to.
    """
    found = torch.zeros(bins, dtype=torch.float64)
    with evaluating(loss):
        for first in range(0, len(data), batch_size):
            noise = Noise(0, first, VALIDATION_STREAM)
            batch = data[first : first + batch_size]
            label = None if y is None else tree_map(lambda leaf: leaf[first : first + batch_size], y)  # noqa: B023
            for k in range(bins):
                if is_asked_to_stop():
                    raise Stopped
                begin = loss.coupling(loss.begin(batch, noise, k), batch, label)
                precise = torch.promote_types(data.dtype, torch.float32)
                t = (k + noise.uniform((len(batch), 1), bins + k, precise, data.device)[:, 0]) / bins
                point = loss.field.path.point(begin, batch, t, partial(noise.of(BRIDGE_STREAM).like, draw=k))
                found[k] += loss.errors(point, label).double().sum().cpu()
    return (found / len(data)).float()
