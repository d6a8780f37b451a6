"""Samplers: how a field's noise becomes data, and data noise.

A step is a solver's, except where it would read what is singular (the score at pure data, data from a noise prediction
at pure noise), or where its SDE renews the noise of a point faster than the solver's steps can follow. There it is a
renewal (`sampling.renewal`) or an exponential step (`sampling.exponential`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pathline.arguments import number
from pathline.fields.field import Field
from pathline.sampling.dynamics import FieldDiffusion, FieldFlow
from pathline.sampling.exponential import Exponential
from pathline.sampling.grids import UNIFORM, Grid
from pathline.sampling.multistep import GeneralSampler
from pathline.sampling.renewal import Renewal
from pathline.sampling.sampler import Sampler, path_grid
from pathline.sampling.sigmas import Sigma, sigma_of
from pathline.solvers.runge_kutta import HEUN, RungeKutta
from pathline.solvers.solver import Draw, Running, Solver, Source, advance, between
from pathline.solvers.stochastic import EulerMaruyama

STIFF = 0.5  # with a decay d of the noise in a step, Euler-Maruyama makes its variance 1 / (1 - d/2) times too large
MOST_STEPS = 1_000_000  # more are no advice
OUTRUN = 1.0  # with such a decay of the spread of data itself, not even exponential steps follow an SDE's paths


@dataclass(frozen=True)
class ODESampler(Sampler):
    """Along the flow of a field, by an ODE solver. It draws nothing but its start."""

    solver: RungeKutta = HEUN
    grid: Grid = UNIFORM

    def __post_init__(self) -> None:
        if isinstance(self.solver, type) or getattr(self.solver, "is_stochastic", True):
            raise ValueError(
                f"solver must be one for ODEs, got {self.solver}; SDESampler takes SDE solvers, AdaptiveSampler "
                "adaptive ones"
            )

    @property
    def nodes(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the solver."""
        return self.solver.nodes

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Running:
        """The points of the flow at `times`."""
        times = path_grid(times)
        process = FieldFlow(field)
        return advance(process, guarded(self.solver, process, x, times[:-1], times[1:]), x, times, noise)


@dataclass(frozen=True)
class SDESampler(Sampler):
    """Along an SDE with any diffusion `sigma`, a number, a function of time or a Sigma; the marginals are the same.

    Steps that are too long for the solver are exponential ones. Where sigma renews even the spread of data more than
    once in a step, those too only hold for data that is one normal cloud around each point: the walk ends with a
    warning, measured on its own points.

    Raises:
        ValueError: If sigma is negative.
    """

    sigma: float | Callable[[Tensor], Tensor] | Sigma
    solver: Solver = field(default_factory=EulerMaruyama)
    grid: Grid = UNIFORM

    def __post_init__(self) -> None:
        sigma_of(self.sigma)
        if isinstance(self.solver, type) or not getattr(self.solver, "is_stochastic", False):
            raise ValueError(
                f"solver must be one for SDEs, got {self.solver}; ODESampler takes ODE solvers, AdaptiveSampler "
                "adaptive ones"
            )

    @property
    def nodes(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the solver."""
        return self.solver.nodes

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Running:
        """The points of one path of the SDE at `times`; downwards it is the time reversal."""
        times = path_grid(times)
        process = FieldDiffusion(field, sigma_of(self.sigma), is_backward=bool(times[-1] < times[0]))
        solver = _guarded_diffusion(self.solver, process, x, times)
        states = advance(process, solver, x, times, noise)
        if isinstance(solver, _Guarded) and isinstance(solver.other, Exponential):
            return _warned(states, solver.other, len(times) - 1)
        return states


@dataclass(frozen=True)
class DDIM(Sampler):
    """Steps that renew a share of the noise: eta = 0 keeps all of it, eta = 1 is DDPM's ancestral sampling.

    On the linear path, eta = 0 is Euler's method on the flow.

    Raises:
        ValueError: If eta is not between 0 and 1.
    """

    eta: float = 0.0
    grid: Grid = UNIFORM
    nodes = (0.0,)

    def __post_init__(self) -> None:
        if not 0 <= number("eta", self.eta) <= 1:
            raise ValueError(f"eta must be between 0 (keep all noise) and 1 (ancestral), got {self.eta}")

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Running:
        """The points at `times`."""
        times = path_grid(times)
        c = field.path.schedule.at(times)
        noisy, clean = torch.stack((c.alpha[:-1] * c.beta[1:], c.alpha[1:] * c.beta[:-1])).sort(0).values
        ratio = noisy / clean  # of alpha/beta, at the noisier time over the cleaner
        kept = (1 - self.eta**2 * (1 - ratio**2)).clamp(min=0).sqrt()  # rounding can leave -1e-17
        return advance(FieldFlow(field), Renewal(field, x, times, kept), x, times, noise)


def default_sampler() -> Sampler:
    """The best general method: what `sample` and the command line use unless told otherwise."""
    return GeneralSampler()


@dataclass(frozen=True)
class _Guarded(Solver):
    """A solver, and another that takes its place in the steps that begin at some times."""

    solver: Solver
    other: Solver
    replaced: frozenset[float]

    @property
    def nodes(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the solver."""
        return self.solver.nodes

    @property
    def is_stochastic(self) -> bool:  # type: ignore[override]
        """As the solver is."""
        return self.solver.is_stochastic

    def check(self, process: Any, times: Tensor) -> None:
        """Either way will do."""

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The solver's step, or the other's."""
        solver = self.other if float(t) in self.replaced else self.solver
        return solver.step(process, x, t, s, noise)


def _warned(states: Running, steps: Exponential, count: int) -> Running:
    """The states, and a warning after the last if sigma outran their steps."""
    yield from states
    long = [(start, stop, float(decay)) for start, stop, decay in steps.decays if decay > OUTRUN]
    if long:
        worst = max(decay for *_, decay in long)
        enough = count * worst
        way = f"take {math.ceil(enough)} steps" if enough <= MOST_STEPS else "take a smaller sigma"
        warnings.warn(
            f"sigma renews the spread of data {worst:.2g} times over in a step (h sigma^2 / (2 v), {OUTRUN:g} at most) "
            f"between t = {min(min(step[:2]) for step in long):.3g} and {max(max(step[:2]) for step in long):.3g}; "
            f"{way}, a sigma that falls towards data (BetaSigma), or ExponentialSDE if it is meant",
            stacklevel=2,
        )


def _guarded_diffusion(solver: Solver, process: FieldDiffusion, x: Tensor, times: Tensor) -> Solver:
    """The solver, with exponential steps wherever its own would read what is singular, or be too long for its SDE."""
    replaced = _is_singular(tuple(sorted({*solver.nodes, 1.0})), process, x, times[:-1], times[1:])
    replaced |= process.decay(times).of_still_data > STIFF
    replaced[:-1] |= replaced[1:].clone()  # an exponential step knows the spread of data from the one before it
    if not replaced.any():
        return solver
    return _Guarded(solver, Exponential(process, x, times), frozenset(times[:-1][replaced].tolist()))


def guarded(solver: RungeKutta, process: FieldFlow, x: Tensor, starts: Tensor, stops: Tensor) -> Solver:
    """The solver, with a renewal wherever its own step from start to stop would read what is singular."""
    replaced = _is_singular(solver.nodes, process, x, starts, stops)
    if not replaced.any():
        return solver
    times = torch.stack((starts, stops), 1).flatten()
    renewal = Renewal(process.field, x, times, torch.ones(len(times) - 1))
    return _Guarded(solver, renewal, frozenset(starts[replaced].tolist()))


def _is_singular(nodes: tuple[float, ...], process: FieldFlow, x: Tensor, starts: Tensor, stops: Tensor) -> Tensor:
    """Which of the steps would read what has no finite value, or too coarse a one; all of it is read ahead."""
    stages = torch.stack([between(starts, stops, c) for c in nodes])
    spans = (stops - starts).abs().expand_as(stages)
    return process.prepare(stages.flatten(), x, spans.flatten()).reshape(stages.shape).any(0)
