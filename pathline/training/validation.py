"""The held-out loss by time, under common random numbers: every call sees the same noise and the same times."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from pathline.fields.field import evaluating
from pathline.noise import Noise
from pathline.training.loss import BRIDGE_STREAM, MatchingLoss

VALIDATION_STREAM = 7


@torch.no_grad()
def loss_by_time(loss: MatchingLoss, data: Tensor, y: Any = None, bins: int = 10) -> Tensor:
    """The mean loss in each of `bins` even stretches of t, of shape `(bins,)`; each data point is seen in each.

    The field is in eval mode meanwhile, and no label is dropped.
    """
    noise = Noise(0, stream=VALIDATION_STREAM)
    found = []
    with evaluating(loss):
        for k in range(bins):
            begin = loss.coupling(loss.begin(data, noise, k), data, y)
            precise = torch.promote_types(data.dtype, torch.float32)
            t = (k + noise.uniform((len(data), 1), bins + k, precise, data.device)[:, 0]) / bins
            point = loss.field.path.point(begin, data, t, partial(noise.of(BRIDGE_STREAM).like, draw=k))
            found.append(loss.errors(point, y).mean())
    return torch.stack(found)
