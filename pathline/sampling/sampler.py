"""A sampler is a way along the path of a field: which times, and how from each to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from pathline.arguments import instance, whole
from pathline.fields.field import Field
from pathline.noise import Noise
from pathline.sampling.grids import UNIFORM, Grid
from pathline.solvers.adaptive import AdaptiveSolver
from pathline.solvers.runge_kutta import RungeKutta
from pathline.solvers.solver import Solver, grid

STEPS = 50


class Sampler(ABC):
    """A way along a path. `nodes` are the fractions of a step at which the field is called."""

    nodes: tuple[float, ...]
    grid: Grid = UNIFORM
    is_laid_for_unit_size = True  # whether its steps depend on the scale that the path knows, 1 unless it says so

    @property
    def usual_steps(self) -> int:
        """As many as are taken unless told otherwise."""
        return STEPS

    @abstractmethod
    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Noise | None = None) -> Iterator[Tensor]:
        """The points at `times`, from `x` at the first of them; upwards to data, or downwards to noise."""

    def times(self, field: Field, steps: int | None = None, evaluations: int | None = None) -> Tensor:
        """Its grid from noise to data with this many steps, or at most this many calls of the field.

        Raises:
            ValueError: Unless exactly one is given, and is enough for one step.
        """
        if (steps is None) == (evaluations is None):
            raise ValueError(f"give either steps or evaluations, got steps={steps}, evaluations={evaluations}")
        if steps is None:
            steps = whole("evaluations", evaluations, len(self.nodes), f" for {self}") // len(self.nodes)
        instance("grid", self.grid, Grid, "UniformGrid() is one")
        return self.grid.times(field, whole("steps", steps, 1))

    def settled(self, steps: int) -> Sampler:
        """The method that it is for so many steps: itself, unless it chooses by their number."""
        return self


def checked_sampler(sampler: Any) -> Sampler:
    """The sampler, if it is one.

    Raises:
        ValueError: If it is a solver, a class, or a name.
    """
    way_out = "ODESampler(), SDESampler(sigma), DDIM() and default_sampler() are"
    if isinstance(sampler, RungeKutta):
        way_out = f"ODESampler({sampler}) goes by this solver"
    elif isinstance(sampler, AdaptiveSolver):
        way_out = f"AdaptiveSampler({type(sampler).__name__}(...)) goes by this solver"
    elif isinstance(sampler, Solver):
        way_out = f"SDESampler(sigma, {sampler}) goes by this solver"
    return instance("sampler", sampler, Sampler, way_out)


def path_grid(times: Tensor) -> Tensor:
    """A grid that stays on the path.

    Raises:
        ValueError: If it is not strictly monotone, or leaves [0, 1].
    """
    times = grid(times)
    if times.min() < 0 or times.max() > 1:
        raise ValueError(
            f"times must stay in [0, 1], noise to data, got {times[0]:g} to {times[-1]:g}; "
            "a bare process (walk) may go anywhere"
        )
    return times
