"""Samplers: how a field's noise becomes data, and data noise.

A step is a solver's, except where it would read what is singular (the score at pure data, data from a noise prediction
at pure noise), or where noise dominates and an SDE renews it faster than the solver's steps can follow. There the
point is renewed from its parts,

    x_s = alpha_s data + beta_s (kept noise + sqrt(1 - kept^2) fresh),   kept = exp(-integral of sigma^2 / (2 beta^2))

with data and noise read at t, or, where t itself is the singular end, at s. That is exact for every SDE of a field
whose data stands still, as the noise of a point is then an Ornstein-Uhlenbeck process. With sigma = 0 it is the DDIM
step; with the memoryless sigma, kept is the ratio of alpha/beta and the step is DDPM's.

Source: Song et al. 2021, https://arxiv.org/abs/2010.02502, equations 12 and 16 (DDIM)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.noise import Noise
from pathline.paths.bridge import BridgePath
from pathline.paths.predictions import DATA, NOISE
from pathline.sampling.dynamics import FieldDiffusion, FieldFlow, Reading, field_heads, no_gradient, read_along
from pathline.sampling.grids import UNIFORM, Grid
from pathline.sampling.sampler import Sampler, path_grid
from pathline.sampling.sigmas import Sigma, sigma_of
from pathline.solvers.runge_kutta import HEUN, RungeKutta
from pathline.solvers.solver import Draw, Solver, advance, between
from pathline.solvers.stochastic import EulerMaruyama

STIFF = 1.0  # with a decay d of the noise in a step, Euler-Maruyama makes its variance 1 / (1 - d/2) times too large


@dataclass(frozen=True)
class ODESampler(Sampler):
    """Along the flow of a field, by an ODE solver. It draws nothing but its start."""

    solver: RungeKutta = HEUN
    grid: Grid = UNIFORM

    def __post_init__(self) -> None:
        if self.solver.is_stochastic:
            raise ValueError(f"solver must be one for ODEs, got {self.solver}; SDESampler takes SDE solvers")

    @property
    def nodes(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the solver."""
        return self.solver.nodes

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Noise | None = None) -> Iterator[Tensor]:
        """The points of the flow at `times`."""
        times = path_grid(times)
        process = FieldFlow(field)
        return advance(process, _guarded(self.solver, process, x, times), x, times, noise)


@dataclass(frozen=True)
class SDESampler(Sampler):
    """Along an SDE with any diffusion `sigma`, a number, a function of time or a Sigma; the marginals are the same.

    Where a step is too long for sigma it is lowered in that step, which those marginals allow. A guided field has other
    samples for each sigma; give it steps enough (or a sigma that falls towards data, `BetaSigma`) where that matters.

    Raises:
        ValueError: If sigma is negative.
    """

    sigma: float | Callable[[Tensor], Tensor] | Sigma
    solver: Solver = field(default_factory=EulerMaruyama)
    grid: Grid = UNIFORM

    def __post_init__(self) -> None:
        sigma_of(self.sigma)
        if not self.solver.is_stochastic:
            raise ValueError(f"solver must be one for SDEs, got {self.solver}; ODESampler takes ODE solvers")

    @property
    def nodes(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the solver."""
        return self.solver.nodes

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Noise | None = None) -> Iterator[Tensor]:
        """The points of one path of the SDE at `times`; downwards it is the time reversal."""
        times = path_grid(times)
        process = FieldDiffusion(field, sigma_of(self.sigma), is_backward=bool(times[-1] < times[0]))
        return advance(process, _guarded(self.solver, process, x, times), x, times, noise)


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
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 (keep all noise) and 1 (ancestral), got {self.eta}")

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Noise | None = None) -> Iterator[Tensor]:
        """The points at `times`."""
        times = path_grid(times)
        c = field.path.schedule.at(times)
        noisy, clean = torch.stack((c.alpha[:-1] * c.beta[1:], c.alpha[1:] * c.beta[:-1])).sort(0).values
        ratio = noisy / clean  # of alpha/beta, at the noisier time over the cleaner
        kept = (1 - self.eta**2 * (1 - ratio**2)).clamp(min=0).sqrt()  # rounding can leave -1e-17
        return advance(FieldFlow(field), _Renewal(field, x, times, kept), x, times, noise)


def default_sampler() -> Sampler:
    """The best general method: what `sample` and the command line use unless told otherwise."""
    return ODESampler(HEUN)


class _Parts(NamedTuple):
    """How the data and the noise of a point are read from a field at one time, from one call of it."""

    alpha: float
    beta: float
    data: Reading
    noise: Reading

    @property
    def is_singular(self) -> bool:
        """Whether the point does not settle both."""
        return self.data.is_singular or self.noise.is_singular


def _parts(field: Field, x: Tensor, times: Tensor) -> dict[float, _Parts]:
    """The parts at each of the times."""
    schedule = field.path.schedule
    data, noise = (read_along(field, x, times, {kind: 1.0}) for kind in (DATA, NOISE))
    rows = zip(schedule.alpha(times).tolist(), schedule.beta(times).tolist(), data, noise, strict=True)
    return {t: _Parts(*row) for t, row in zip(times.tolist(), rows, strict=True)}


class _Renewal(Solver):
    """The renewal step of this module, along a grid, with the share of the noise that each step keeps."""

    nodes = (0.0,)
    is_stochastic = True

    def __init__(self, field: Field, x: Tensor, times: Tensor, kept: Tensor) -> None:
        no_gradient(times)
        if not field.path.is_gaussian and (field.path != BridgePath() or bool((kept < 1).any())):
            raise ValueError(
                f"a renewal of noise needs a Gaussian path, and this is {field.path}: there is none in what it begins "
                "at; use ODESampler, with a velocity head, or SDESampler with times where its score is finite"
            )
        self.field = field
        self.parts = _parts(field, x, times)
        self.kept = dict(zip(times.tolist(), kept.tolist(), strict=False))

    def check(self, process: Any, times: Tensor) -> None:
        """Either way will do."""

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The point at s, of its data and its renewed noise."""
        a, b = self.parts[float(t)], self.parts[float(s)]
        kept = self.kept[float(t)]

        def renewed(part: Tensor) -> Tensor:
            return part if kept == 1 or b.beta == 0 else kept * part + (1 - kept**2) ** 0.5 * noise(x)

        if not a.is_singular:
            values = self.field.values(x, a.data.t)
            return b.alpha * a.data(x, values) + b.beta * renewed(a.noise(x, values))
        if (b.data.is_singular or not b.beta) if a.alpha < a.beta else (b.noise.is_singular or not b.alpha):
            raise ValueError(
                f"data and noise cannot be told apart between t = {float(t):g} and {float(s):g} from the "
                f"{field_heads(self.field)} of this field on {self.field.path}; take more steps"
            )
        if a.alpha < a.beta:  # pure noise, which is known: the data is read at s
            part = b.beta * renewed(x / a.beta)
            return b.alpha * b.data(part, self.field.values(part, b.data.t)) + part
        part = b.alpha / a.alpha * x  # pure data, which is known: the noise is fresh, or read at s
        return part + b.beta * (noise(x) if kept == 0 else b.noise(part, self.field.values(part, b.noise.t)))


@dataclass(frozen=True)
class _Guarded(Solver):
    """A solver, and the renewal that takes its place in the steps that begin at some times."""

    solver: Solver
    renewal: _Renewal
    renewed: frozenset[float]

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
        """The solver's step, or a renewal."""
        solver = self.renewal if float(t) in self.renewed else self.solver
        return solver.step(process, x, t, s, noise)


def _guarded(solver: Solver, process: FieldFlow, x: Tensor, times: Tensor) -> Solver:
    """The solver, with a renewal wherever its own step would read what is singular, or be too long for its SDE.

    A step is too long if the noise decays by more than STIFF in it. Where noise dominates it is renewed; nearer to
    data, which does not stand still, sigma is lowered until the step is short enough: the marginals are the same.
    """
    decay = torch.zeros(len(times) - 1)
    nodes = solver.nodes
    if isinstance(process, FieldDiffusion):
        nodes = tuple(sorted({*nodes, 1.0}))
        decay = process.decay(times)
    stages = torch.stack([between(times[:-1], times[1:], c) for c in nodes])
    replaced = process.prepare(stages.flatten(), x).reshape(stages.shape).any(0)
    too_long = decay > STIFF
    if isinstance(process, FieldDiffusion) and too_long.any():
        c = process.field.path.schedule.at(times)
        share = (c.alpha**2 / (c.alpha**2 + c.beta**2)).unfold(0, 2, 1).amax(1)  # of data of unit scale in the point
        replaced |= too_long & (share < decay.clamp(max=1) / 2)
        factor = torch.where(too_long & ~replaced, STIFF / decay, 1.0)
        process.lower(times, torch.cat((factor[:1], torch.minimum(factor[:-1], factor[1:]), factor[-1:])))
        process.prepare(stages.flatten(), x)
    if not replaced.any():
        return solver
    renewal = _Renewal(process.field, x, times, (-decay).exp())
    return _Guarded(solver, renewal, frozenset(times[:-1][replaced].tolist()))
