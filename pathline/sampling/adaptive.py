"""Adaptive sampling: each sample goes along the flow of a field in steps of its own, as short as its error asks for.

Where an end of the path is singular for the field (the velocity read from data or score at t = 1, that of the square
root schedule there, one read from noise at t = 0), the DDIM step from or to a time just inside takes its place,

    ratio = ONCE sqrt(tolerance),   ratio = beta/alpha there at data, alpha/beta at noise

Its error is ratio^2 / (2 s^2), where s is the scale of what is finest in the data: within the tolerance for s > 0.02.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.noise import Noise
from pathline.sampling.dynamics import FieldFlow
from pathline.sampling.ends import inside
from pathline.sampling.grids import UNIFORM, Grid
from pathline.sampling.sampler import Sampler, path_grid
from pathline.sampling.samplers import DDIM
from pathline.solvers.adaptive import AdaptiveSolver, Dopri5
from pathline.solvers.solution import Solution
from pathline.tensors import mean_per_sample, meet

ALONE = 100.0  # a sample of unit-size data is hardly ever so much smaller than 1, and never so much larger
ONCE = 0.03  # squared and halved over 0.02^2, it is 1.1


@dataclass(frozen=True)
class AdaptiveSampler(Sampler):
    """Along the flow of a field, by an adaptive solver. It draws nothing but its start.

    Where it stops is not where it steps: states at the times of a grid are read between its steps, which are the same
    for any grid.

    Raises:
        ValueError: If the solver is not adaptive.
    """

    solver: AdaptiveSolver = Dopri5()  # noqa: RUF009 - it is frozen
    grid: Grid = UNIFORM
    is_laid_for_unit_size = False

    def __post_init__(self) -> None:
        if not isinstance(self.solver, AdaptiveSolver):
            raise ValueError(
                f"solver must be adaptive, Dopri5() or Tsit5(), got {self.solver}; ODESampler takes others"
            )

    @property
    def nodes(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the solver's method."""
        return self.solver.method.nodes

    def times(self, field: Field, steps: int | None = None, evaluations: int | None = None) -> Tensor:
        """A grid to stop at, with this many steps between stops.

        Raises:
            ValueError: If evaluations are given, which no grid settles, or fewer than one step.
        """
        if evaluations is not None:
            raise ValueError(
                f"evaluations must not be given for {self}, which takes as many as its tolerance needs, got "
                f"{evaluations}; raise rtol and atol, or give a cap: {type(self.solver).__name__}(evaluations=...)"
            )
        return super().times(field, steps)

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Noise | None = None) -> Iterator[Tensor]:
        """The points of the flow at `times`; raises a SolverError on the way, see `AdaptiveSolver.walk`."""
        times = path_grid(times)
        return self._walk(field, x, times, self._inside(field, x, times))

    def solve(self, field: Field, x: Tensor, times: Tensor) -> Solution:
        """The solution from the first to the last of the times: its end, what each sample took, and any point between.

        Near a singular end `Solution.at` begins, or ends, just inside.
        """
        times = path_grid(times)[[0, -1]]
        inner = self._inside(field, x, times)
        begin = _renewed(field, x, times[0], inner[0])
        solution = self.solver.solve(_Flow(field), begin, inner)
        solution.counts.evaluations.add_(int((inner != times).sum()))
        return replace(solution, x=_renewed(field, solution.x, inner[-1], times[-1]))

    def _walk(self, field: Field, x: Tensor, times: Tensor, inner: Tensor) -> Iterator[Tensor]:
        yield x
        begin = _renewed(field, x, times[0], inner[0])
        states = self.solver.walk(_Flow(field), begin, inner)
        next(states)
        for state, t, s in zip(states, inner[1:], times[1:], strict=True):
            yield _renewed(field, state, t, s)

    def _inside(self, field: Field, x: Tensor, times: Tensor) -> Tensor:
        return inside(field, x, times, ONCE * (self.solver.rtol + self.solver.atol) ** 0.5)


@dataclass(frozen=True)
class _Flow:
    """The flow of a field whose points each have their own time; it can be had for some of them."""

    field: Field

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return FieldFlow(self.field).drift(x, t)

    def size(self, x: Tensor, t: Tensor) -> Tensor | float:
        return point_size(self.field, x, t)

    def take(self, rows: Tensor) -> _Flow:
        return _Flow(self.field.take(rows))


def point_size(field: Field, x: Tensor, t: Tensor) -> Tensor | float:
    """How large points are at their times, shaped to multiply `x`: what an absolute tolerance is relative to.

    Where the path knows a scale of its data other than 1 it is sqrt((scale alpha)^2 + beta^2), else 1; but a sample
    that is itself larger or smaller than 1 by more than a factor ALONE is measured by its own size.
    """
    if field.path.scale not in (None, 1.0):
        unit, times = field.path.unit, t.to("cpu", torch.float64)
        size = (unit.alpha(times) ** 2 + unit.beta(times) ** 2).sqrt().to(x.device, x.dtype)
        return meet(size, x)
    own = mean_per_sample(x**2).sqrt()
    is_alone = (own > 0) & ((own > ALONE) | (own < 1 / ALONE))
    return meet(torch.where(is_alone, own, torch.ones_like(own)), x)


def _renewed(field: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The point at s by the DDIM step from t, unless they are the same."""
    if t == s:
        return x
    *_, x = DDIM().walk(field, x, torch.stack((t, s)))
    return x
