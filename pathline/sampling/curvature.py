"""The grid that a field asks for itself: fine where its paths bend.

Every Gaussian path is a straight line at an even speed in the coordinates x / (alpha + beta) and alpha / (alpha + beta)
while data and noise stand still. How much it bends there is what a solver has to follow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pathline import arguments
from pathline.fields.field import Field, checked_field
from pathline.fields.modes import evaluating
from pathline.sampling.grids import UNIFORM, QuantileGrid
from pathline.sampling.multistep import Multistep

ROUNDING = 4  # what is below so many roundings of a point is no bend


def curvature_grid(field: Field, start: Tensor, order: int = 3, evaluations: int = 64) -> QuantileGrid:
    """The grid that a field asks for itself, without training: fine where its paths bend.

    The local error of a method of order p is h^(p+1) times a derivative of the path, which is taken to grow like the
    curvature c to the power p/2 (a path that turns within a time 1/k has derivatives that grow like powers of k, and
    curvature is the second). Errors are even where steps are as dense as c^(p / (2 (p+1))).

    Args:
        field: The field, bound to its condition.
        start: Some points of noise, of shape `(batch, *shape)`; a few dozen will do.
        order: Of the method that the grid is for.
        evaluations: Calls of the field that are spent on it.

    Raises:
        ValueError: If the order is not positive, or the evaluations are fewer than 4.
    """
    checked_field(field)
    start = arguments.points("start", start)
    if order < 1 or evaluations < 4:
        raise ValueError(f"order must be at least 1 and evaluations at least 4, got {order} and {evaluations}")
    with torch.no_grad(), evaluating(field):
        method = Multistep.adams_bashforth(2)
        points = [*method.walk(field, start, times := UNIFORM.times(field, evaluations))]
    c = field.path.unit.at(times)
    total = c.alpha + c.beta
    share = c.alpha / total
    straight = torch.stack(points).flatten(2).double().cpu() / total[:, None, None]
    h = share.diff()
    middle = (share[1:] + share[:-1]) / 2
    bend = (straight.diff(dim=0) / h[:, None, None]).diff(dim=0) / middle.diff()[:, None, None]
    rounding = ROUNDING * torch.finfo(start.dtype).eps * straight.abs().max() * (1 / h[1:] + 1 / h[:-1]) / middle.diff()
    bend = (bend.square().mean((1, 2)).sqrt() - rounding).clamp(min=0)
    density = bend ** (order / (2 * (order + 1)))
    density = density.clamp(min=float(density.mean()) / 10)  # where paths are straight there are few steps, but some
    height = torch.cat((density[:1], density, density[-1:])) if density.any() else torch.ones_like(share)
    mass = torch.cat((torch.zeros(1), ((height[1:] + height[:-1]) / 2 * share.diff()).cumsum(0)))
    levels = torch.linspace(0, 1, 65, dtype=torch.float64)
    place = torch.searchsorted(mass / mass[-1], levels).clamp(1, len(share) - 1)
    low, high = mass[place - 1] / mass[-1], mass[place] / mass[-1]
    q = torch.lerp(share[place - 1], share[place], (levels - low) / (high - low))
    q = (q - q[0]) / (q[-1] - q[0])
    return QuantileGrid((0.0, *q[1:-1].tolist(), 1.0))
