"""Where an end of a path is singular for a field, a walk begins or stops at a time just inside it.

The velocity read from data or score is singular at t = 1, as is that of the square root schedule; one read from noise
at t = 0. How near an end a time is shows in ratio = beta/alpha at data, alpha/beta at noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.sampling.dynamics import FieldFlow, no_gradient

SHORT = 0.1  # a step of usual length, for which a reading must not be too coarse
NEARBY = 1e-3  # of an end: what is coarse so near to it is so because of it


def inside(field: Field, x: Tensor, times: Tensor, ratio: float) -> Tensor:
    """The times, with an end of the path that is singular for the field's flow moved inside, as far as this ratio.

    It is moved no further than a third of the way to its neighbour. Times must not require a gradient if one is.
    """
    singular = FieldFlow(field).prepare(times[[0, -1]], x, SHORT)
    if not singular.any():
        return times
    no_gradient(times)
    inner = times.clone()
    for end, neighbour in ((0, 1), (-1, -2)):
        if singular[end] and min(float(times[end]), 1 - float(times[end])) < NEARBY:
            t, most = times[end], (times[neighbour] - times[end]).abs() / 3
            least = 4 * torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps  # for it to be another time
            away = torch.logspace(0, math.log10(least), 100, dtype=torch.float64).clamp(max=most)
            schedule, near = field.path.unit, (t - away).abs()
            parts = schedule.alpha(near), schedule.beta(near)
            is_small = (parts[1] / parts[0] if t > 0.5 else parts[0] / parts[1]) <= ratio
            inner[end] = near[is_small][0] if is_small.any() else near[-1]
    return inner
