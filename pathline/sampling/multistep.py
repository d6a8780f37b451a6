"""Linear multistep methods, written once for every Gaussian schedule and every prediction.

Let q = p data + r noise, with p and r the same at all times. Along the flow of a field

    d(x / w) = q dc,   w = p beta - r alpha,   c' = (alpha' beta - alpha beta') / w^2

    q               w               c
    data            beta            alpha / beta
    noise           -alpha          -beta / alpha
    data - noise    alpha + beta    alpha / (alpha + beta)

so that the point moves along a straight line, exactly, while q stands still. A method of order k puts in the place of q
the polynomial through its last k values, in some clock y(t),

    x_s = w_s (x_t / w_t + sum_j b_j q_j),   b_j = integral of l_j(y) dc from t to s

and if it corrects, it takes the step again once q at s is known, with that value too. One call of the field a step.

Source: Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", section III.5 (variable steps);
Lu et al. 2022, https://arxiv.org/abs/2211.01095 (data); Zhang & Chen 2023, https://arxiv.org/abs/2204.13902 (noise);
Zhao et al. 2023, https://arxiv.org/abs/2302.04867 (correction)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from pathline.fields.field import Field
from pathline.paths.predictions import DATA, NOISE, VELOCITY, Prediction
from pathline.paths.schedules import Coefficients
from pathline.sampling.dynamics import Reading, Term, no_gradient, read_along
from pathline.sampling.grids import UNIFORM, Grid, PowerGrid
from pathline.sampling.renewal import Renewal
from pathline.sampling.sampler import Sampler, path_grid
from pathline.solvers.solver import Source

NODES, WEIGHTS = (torch.from_numpy(row) for row in leggauss(32))
FAINT = 1e-3  # with less of w than this share of the next, x holds too little of its past to be kept: it is renewed
REACH = 1.5  # in a long step as many values are used as weigh, but for the one at its start, REACH^(their number - 1)


class Mix(NamedTuple):
    """q = p data + r noise."""

    p: float
    r: float

    @property
    def prediction(self) -> Prediction:
        """It, as a kind that can be read from a field: from a head of its own, if there is one."""
        if self in (MIXES[DATA], MIXES[NOISE]):
            return DATA if self.p else NOISE
        return Prediction("mix", lambda c: (torch.full_like(c.alpha, self.p), torch.full_like(c.beta, self.r)))


MIXES = {VELOCITY: Mix(1, -1), DATA: Mix(1, 0), NOISE: Mix(0, 1)}


def mixed(field: Field, kind: Prediction) -> Term:
    """How the q of a kind is read, data being divided by its scale where the path knows it."""
    p, r = MIXES[kind]
    scale = field.path.scale or 1.0
    if scale == 1 or not p:
        return Term(Mix(p, r).prediction, of=VELOCITY)
    return Term(Mix(p / scale, r).prediction, of=VELOCITY) if r else Term(DATA, p / scale, of=VELOCITY)


class Step(NamedTuple):
    """How a point is taken from one time to the next: keep x + sum_j weights_j q_j, the latest value first.

    Without weights it is renewed: the field has no finite q there, or w vanishes and x tells nothing of its past.
    """

    keep: Any = 0.0  # numbers, or tensors where a gradient with respect to the grid is wanted
    predict: Sequence[Any] = ()
    correct: Sequence[Any] = ()


@dataclass(frozen=True)
class Multistep(Sampler):
    """A linear multistep method.

    Args:
        kind: What is interpolated: DATA, NOISE, or VELOCITY for data - noise, the velocity of the linear path, which
            every Gaussian path is in other coordinates.
        order: The number of values that a step extrapolates from. Corrected methods are of one order more.
        is_corrected: Whether a step is taken again with the value found at its end.
        is_logarithmic: Whether polynomials are in log(alpha / beta), else in alpha / (alpha + beta).
        grid: Where it stops.

    Raises:
        ValueError: If the order is not from 1 to 4, or there is no such method for the kind.
    """

    kind: Prediction = VELOCITY
    order: int = 2
    is_corrected: bool = False
    is_logarithmic: bool = False
    grid: Grid = UNIFORM
    nodes = (0.0,)

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"order must be 1, 2, 3 or 4, got {self.order}")
        if self.kind not in MIXES:
            raise ValueError(f"kind must be VELOCITY, DATA or NOISE, which are mixes without time, got {self.kind}")

    @classmethod
    def adams_bashforth(cls, order: int = 2) -> Multistep:
        """Of the velocity, in time: on the linear path the textbook's, on any other the same in its coordinates."""
        return cls(VELOCITY, order)

    @classmethod
    def adams_moulton(cls, order: int = 3) -> Multistep:
        """Adams and Bashforth's prediction, corrected by Adams and Moulton's formula with one value more."""
        return cls(VELOCITY, order, is_corrected=True)

    @classmethod
    def dpm(cls, order: int = 2) -> Multistep:
        """DPM-Solver++: data in log-SNR; 2M and 3M for orders 2 and 3, with polynomials that are integrated exactly."""
        return cls(DATA, order, is_logarithmic=True)

    @classmethod
    def deis(cls, order: int = 2) -> Multistep:
        """The exponential integrator of the noise in log-SNR; its last step, to pure data, is in the share of data."""
        return cls(NOISE, order, is_logarithmic=True)

    @classmethod
    def unipc(cls, order: int = 2) -> Multistep:
        """DPM-Solver++, corrected."""
        return cls(DATA, order, is_corrected=True, is_logarithmic=True)

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Iterator[Tensor]:
        """The points of the flow at `times`; it draws nothing.

        Raises:
            ValueError: If the path does not begin at noise, and this is not a method for the velocity.
        """
        times = path_grid(times)
        no_gradient(times)
        if not field.path.is_gaussian and self.kind != VELOCITY:
            raise ValueError(f"kind must be VELOCITY on {field.path}, which has no noise to speak of, got {self.kind}")
        term = mixed(field, self.kind) if field.path.is_gaussian else Term(VELOCITY, of=VELOCITY)
        readings = read_along(field, x, times[:-1], term)
        c = field.path.unit.at(times)
        spans = times.diff().abs().tolist()
        is_readable = tuple(
            not (reading.is_singular or reading.is_coarse(x, t, span))
            for reading, t, span in zip(readings, times[:-1].tolist(), spans, strict=True)
        )
        steps = _steps(self, tuple(c.alpha.tolist()), tuple(c.beta.tolist()), is_readable)
        return self._walk(field, x, times, readings, steps)

    def _walk(
        self, field: Field, x: Tensor, times: Tensor, readings: list[Reading], steps: Sequence[Step]
    ) -> Iterator[Tensor]:
        before, last = x, Step()
        values: list[Tensor] = []  # of q, the latest first
        renewal = None
        yield x
        for k, (reading, step) in enumerate(zip(readings, steps, strict=True)):
            if step.predict:
                values = [reading(x, field.values(x, reading.t)), *values[: self.order]]
                if last.correct:
                    x = combined(last.keep, before, last.correct, values)
            if k:
                yield x
            before, last = x, step
            if step.predict:
                x = combined(step.keep, x, step.predict, values)
            else:
                renewal = renewal or Renewal(field, x, times, torch.ones(len(times) - 1))
                x, values = renewal.step(None, x, times[k], times[k + 1], torch.zeros_like), []
        yield x

    def plan(self, c: Coefficients, is_readable: Sequence[bool]) -> list[Step]:
        """Every step of a grid, from the coefficients of the path at its times, in float64."""
        mix = MIXES[self.kind]
        w, size = mix.p * c.beta - mix.r * c.alpha, c.alpha + c.beta
        logit, share = c.alpha.log() - c.beta.log(), c.alpha / size
        clock = logit if self.is_logarithmic else share
        is_faint = (w / size)[:-1].abs() < FAINT * (w / size)[1:].abs()
        steps: list[Step] = []
        known: list[int] = []  # the times whose values a step may use, the latest first

        def weights(t: int, s: int, nodes: list[int]) -> list[Tensor]:
            """Of the values at as many nodes as are near enough for the step; none if it cannot be corrected."""
            y, is_logarithmic = clock, self.is_logarithmic
            if self.kind == NOISE and not logit[s].isfinite():  # log-SNR never ends, but the noise at data is finite
                y, is_logarithmic = share, False
            usable = [node for node in nodes if y[node].isfinite() and y[s].isfinite()] or nodes[:1]
            whole = (c.alpha[s] * c.beta[t] - c.alpha[t] * c.beta[s]) / w[t]  # w_s (c_s - c_t), without quadrature
            while True:
                if w[s] == 0:  # only data is left, or only noise: x_s is what q is there
                    b = _lagrange(y[usable], y[s, None])[:, 0]
                else:
                    b = self._integrals(logit[t], logit[s], y[usable], is_logarithmic)
                b = b * (whole / b.sum())
                others = sum(float(weight.detach().abs()) for node, weight in zip(usable, b, strict=True) if node != t)
                if others <= REACH ** (len(usable) - 1) * size[s]:
                    break
                usable.pop()
                if t not in usable:
                    return []
            found = dict(zip(usable, b, strict=True))
            return [found.get(node, torch.zeros_like(whole)) for node in nodes]

        for k, readable in enumerate(is_readable):
            if not readable or is_faint[k]:
                steps.append(Step())
                known = []
                continue
            known = [k, *known[: self.order]]
            if self.is_corrected and len(known) > 1 and clock[k].isfinite():
                steps[-1] = steps[-1]._replace(correct=weights(k - 1, k, known))
            steps.append(Step(w[k + 1] / w[k], weights(k, k + 1, known[: self.order])))
        return steps

    def _integrals(self, t: Tensor, s: Tensor, nodes: Tensor, is_logarithmic: bool) -> Tensor:
        """The integrals of l_j dc between two values of log(alpha / beta), with nodes in that or in share of data."""
        mix = MIXES[self.kind]
        if self.kind != VELOCITY and t.isfinite() and s.isfinite():
            logit = (t + s) / 2 + (s - t) / 2 * NODES
            share, rest = logit.sigmoid(), (-logit).sigmoid()
            measure = (s - t) / 2 * WEIGHTS * share * rest
        else:
            a, b = t.sigmoid(), s.sigmoid()  # which are 0 and 1 where they are infinite
            share = (a + b) / 2 + (b - a) / 2 * NODES
            rest, logit, measure = 1 - share, share.logit(), (b - a) / 2 * WEIGHTS
        measure = measure / (mix.p * rest - mix.r * share) ** 2  # dc, by d share = share rest d logit
        return _lagrange(nodes, logit if is_logarithmic else share) @ measure


@lru_cache(maxsize=64)  # many batches are walked along one grid
def _steps(
    method: Multistep, alpha: tuple[float, ...], beta: tuple[float, ...], is_readable: tuple[bool, ...]
) -> tuple[Step, ...]:
    """The plan of a method in plain numbers."""
    a, b = (torch.tensor(row, dtype=torch.float64) for row in (alpha, beta))
    plan = method.plan(Coefficients(a, b, torch.zeros_like(a), torch.zeros_like(b)), is_readable)
    return tuple(Step(*(torch.as_tensor(part).tolist() for part in step)) for step in plan)


def _lagrange(nodes: Tensor, y: Tensor) -> Tensor:
    """The polynomials that are 1 at one node and 0 at the others, at the places y: of shape `(nodes, len(y))`."""
    rows = []
    for j, node in enumerate(nodes):
        others = torch.cat((nodes[:j], nodes[j + 1 :]))
        rows.append(((y - others[:, None]) / (node - others)[:, None]).prod(0))
    return torch.stack(rows)


def combined(keep: float, x: Tensor, weights: Sequence[float], values: list[Tensor]) -> Tensor:
    """Keep x + sum_j weights_j values_j."""
    x = x * keep
    for weight, value in zip(weights, values, strict=False):  # a step of less than the full order uses fewer
        if weight:
            x.add_(value, alpha=weight)
    return x


@dataclass(frozen=True)
class GeneralSampler(Sampler):
    """The best general method: Adams and Moulton's, of the order that suits the number of steps.

    Of order 3 (2 values and a correction) below 15 steps, 4 below 30 and 5 from there, on a grid that is finer at data.
    Chosen by error per call on two exact fields and a trained one, `benchmarks/solvers.py`.
    """

    grid: Grid = PowerGrid(1.6)  # noqa: RUF009 - it is frozen
    nodes = (0.0,)

    def settled(self, steps: int) -> Multistep:
        """The method for so many steps."""
        return Multistep(VELOCITY, 2 if steps < 15 else 3 if steps < 30 else 4, is_corrected=True, grid=self.grid)

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Iterator[Tensor]:
        """The points of the flow at `times`; it draws nothing."""
        times = path_grid(times)
        return self.settled(len(times) - 1).walk(field, x, times, noise)
