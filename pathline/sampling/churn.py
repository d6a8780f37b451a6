"""Churn: before each step of an ODE solver, back to a noisier time by fresh noise.

In terms of the noise level beta/alpha, a step from t first goes to the time t^ < t whose level is 1 + gamma times as
high, where the point

    x^ = alpha^/alpha x + swell sqrt(beta^^2 - (alpha^/alpha)^2 beta^2) fresh

has the law of that time, and then solves the flow from there. What fresh noise brings, old errors lose.

With two heads, of velocity and score, the way from t^ back to t is that of the flow which the score head tells of, and
the rest, from t to s, that of the velocity head. In one step they are one drift,

    (1 - share) velocity + share velocity(of score),   share = (t - t^) / (s - t^)

so that for small steps it is velocity head + sigma^2/2 score head, sigma^2 being the variance of the noise that churn
adds in unit time.

Source: Karras et al. 2022, https://arxiv.org/abs/2206.00364, algorithm 2, for any path from noise
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.paths.predictions import SCORE, VELOCITY
from pathline.paths.schedules import Schedule
from pathline.sampling.dynamics import FieldFlow, Term, is_two_headed, no_gradient
from pathline.sampling.grids import UNIFORM, Grid, bisected
from pathline.sampling.renewal import gaussian_only
from pathline.sampling.sampler import Sampler, path_grid
from pathline.sampling.samplers import guarded
from pathline.solvers.runge_kutta import EULER, HEUN, RungeKutta
from pathline.solvers.solver import Draw, Running, Solver, Source, advance, between

MOST = math.sqrt(2) - 1  # gamma at most: the variance of the noise is then doubled


@dataclass(frozen=True)
class ChurnSampler(Sampler):
    """The sampler of EDM, upwards only: an ODE solver with fresh noise before each step.

    Attributes:
        solver: Of the flow.
        churn: How much noise all steps add together: gamma = churn / steps, at most sqrt(2) - 1.
        low: The noise level, beta/alpha, below which none is added.
        high: The level above which none is added.
        swell: By how much the fresh noise is larger than it should be, to make up for fields that blur.

    Raises:
        ValueError: If the solver is one for SDEs, churn or low is negative, high not above low, or swell not positive.
    """

    solver: RungeKutta = HEUN
    churn: float = 40.0
    low: float = 0.05
    high: float = 50.0
    swell: float = 1.0
    grid: Grid = UNIFORM

    def __post_init__(self) -> None:
        if getattr(self.solver, "is_stochastic", True):
            raise ValueError(f"solver must be one for ODEs, not adaptive, got {self.solver}; churn brings the noise")
        if not (self.churn >= 0 and 0 <= self.low < self.high and 0 < self.swell < math.inf):
            raise ValueError(
                "churn must be 0 or more, low from 0 to below high, and swell positive and finite, got "
                f"churn={self.churn}, low={self.low}, high={self.high}, swell={self.swell}"
            )

    @property
    def nodes(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the solver."""
        return self.solver.nodes

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Running:
        """The points at `times`.

        Raises:
            ValueError: If times decrease, or the path is a bridge.
        """
        times = path_grid(times)
        no_gradient(times)
        gaussian_only(field)
        if times[-1] < times[0]:
            raise ValueError(
                f"times must increase for churn, got {times[0]:g} to {times[-1]:g}: it goes back towards noise by "
                "itself; ODESampler and SDESampler go down"
            )
        schedule, starts = field.path.schedule, times[:-1]
        level = schedule.beta(starts) / schedule.alpha(starts)
        gamma = min(self.churn / len(starts), MOST) * ((level >= self.low) & (level <= self.high))
        is_churned = gamma > 0
        earlier = torch.where(is_churned, time_of_level(schedule, level * (1 + gamma), starts), starts)
        share = (starts - earlier) / (times[1:] - earlier)
        processes, solvers = self._solved(field, x, earlier, times[1:], share)
        ratio = schedule.alpha(earlier) / schedule.alpha(starts)
        fresh = (schedule.beta(earlier) ** 2 - (ratio * schedule.beta(starts)) ** 2).clamp(min=0).sqrt()
        fresh = torch.where(is_churned, self.swell * fresh, 0.0)  # 0/0 at pure noise
        rows = zip(earlier.unbind(), ratio.tolist(), fresh.tolist(), processes, solvers, strict=True)
        steps = dict(zip(starts.tolist(), map(_Row._make, rows), strict=True))
        return advance(processes[0], _Churned(self.nodes, steps), x, times, noise)

    def _solved(
        self, field: Field, x: Tensor, starts: Tensor, stops: Tensor, share: Tensor
    ) -> tuple[list[FieldFlow], list[Solver]]:
        """What each step solves, and by which method: one flow, unless two heads disagree about what churn undoes."""
        flow = FieldFlow(field)
        solver = guarded(self.solver, flow, x, starts, stops)
        flows, solvers = [flow] * len(starts), [solver] * len(starts)
        if is_two_headed(field):
            for k in share.nonzero().flatten().tolist():
                flows[k] = _Undone(field, float(share[k]))
                stages = torch.stack([between(starts[k], stops[k], c) for c in self.nodes])
                # where the score cannot be read at the end of a step, the drift at its start must do
                solvers[k] = EULER if flows[k].prepare(stages, x).any() else self.solver
        return flows, solvers


class _Undone(FieldFlow):
    """The flow of a field's velocity head, and a share of that which its score head tells of."""

    def __init__(self, field: Field, share: float) -> None:
        super().__init__(field)
        self.share = share

    def terms(self, times: Tensor) -> tuple[Term, ...]:
        """A mean of the two velocities."""
        return Term(VELOCITY, 1 - self.share), Term(VELOCITY, self.share, of=SCORE)


def time_of_level(schedule: Schedule, level: Tensor, latest: Tensor) -> Tensor:
    """The times up to `latest` at which beta/alpha has fallen to a level, or 0 where it is never as high."""
    early, late = bisected(lambda t: schedule.beta(t) > level * schedule.alpha(t), latest)
    return torch.where(early > 0, late, 0.0)


class _Row(NamedTuple):
    """A step: the earlier time that it begins at, the scales of point and fresh noise there, and how it goes on."""

    earlier: Tensor
    ratio: float
    fresh: float
    process: FieldFlow
    solver: Solver


class _Churned(Solver):
    """A solver's steps, each from an earlier time with fresh noise."""

    is_stochastic = True

    def __init__(self, nodes: tuple[float, ...], rows: dict[float, _Row]) -> None:
        self.nodes, self.rows = nodes, rows

    def check(self, process: FieldFlow, times: Tensor) -> None:
        """Checked by the sampler."""

    def step(self, process: FieldFlow, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The point at s, by way of the earlier time."""
        earlier, ratio, fresh, own, solver = self.rows[float(t)]
        if fresh:
            x = ratio * x + fresh * noise(x)
        return solver.step(own, x, earlier, s, noise)
