"""Whether a grid is fine enough for data that is not of unit size, told from points that were made anyway.

Data and noise are of one size in a point where the share scale alpha / (scale alpha + beta) is near 1/2. A grid that is
made for data of unit size may step over all of that share at once, and what a field says there is never heard.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.paths.path import FAR
from pathline.paths.schedules import of_unit
from pathline.sampling.grids import share_of
from pathline.tensors import is_eager, mean_per_sample

COARSE = 0.15  # of the share of data in one step: fewer than seven steps where all is decided
MANY, WIDE = 16, 64  # samples that tell a spread; or else numbers of one sample


def spread_of(x: Tensor) -> float | None:
    """The median over samples of how far their numbers lie from the mean, or None where too few tell."""
    if x.is_meta or not is_eager(x):
        return None
    x = x.detach().flatten(1)
    if len(x) < MANY and x.shape[1] < WIDE:
        return None
    centre = x.mean(0) if len(x) >= MANY else x.mean(1, keepdim=True)
    return float(mean_per_sample((x - centre).to(torch.promote_types(x.dtype, torch.float32)) ** 2).sqrt().median())


def warn_of_scale(field: Field, x: Tensor, times: Tensor, what: str, stacklevel: int) -> None:
    """Warn where points at data are far from unit size, the path does not say so, and the grid is too coarse for them.

    Args:
        field: Which was solved.
        x: Points at data.
        times: The grid.
        what: Those points in a word.
        stacklevel: Of the caller's caller.
    """
    if not field.path.is_gaussian or field.path.scale is not None:
        return
    spread = spread_of(x)
    if spread is None or not 0 < spread < float("inf") or 1 / FAR <= spread <= FAR:
        return
    longest = float(share_of(of_unit(field.path.schedule, spread), times.detach()).diff().abs().max())
    if longest > COARSE:
        warnings.warn(
            f"the spread of the {what} is about {spread:.2g}, and the grid of {len(times) - 1} steps is laid for data "
            f"of about unit size: one step takes {longest:.0%} of the way on which noise turns into data of that size, "
            "so the result may be far off. Take more steps; or, where all data is of that size, divide it by its "
            "standard deviation before training, or tell the path: GaussianPath(schedule, scale=...) with it",
            stacklevel=stacklevel,
        )
