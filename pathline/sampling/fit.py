"""Fitting a solver to a field, on a hundred or two trajectories of it that were solved with care.

The table of `fitted` begins as the best general method and is moved, by gradients through the solver, to bring the
ends of the trajectories near: first its times, with the weights of the method that follow them; then the weights too.
Weights of neighbouring values hardly differ in what they do, so each row is moved along directions of equal length: if
U are the values of a row over all trajectories, and D their differences, which leave the sum of a row as it is,

    b_k -> b_k + D_k m_k,   D_k' U U' D_k = I

The loss is the mean logarithm of the squared errors: it counts the many samples that a solver can bring near, and not
the few that end elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.fields.modes import evaluating
from pathline.paths.predictions import VELOCITY
from pathline.paths.schedules import Coefficients
from pathline.sampling.dynamics import read_along
from pathline.sampling.fitted import FittedSampler
from pathline.sampling.grids import share_of, times_at
from pathline.sampling.multistep import GeneralSampler, Multistep, mixed
from pathline.sampling.sampler import Sampler
from pathline.tensors import mean_per_sample, unrounded

TIMES_RATE, WEIGHTS_RATE = 0.02, 0.1  # of log steps; of a row, in units of the error
FIRST = 0.2  # the share of a fit in which the times alone move


class FitStep(NamedTuple):
    """Where a fit is.

    Attributes:
        step: Of how many.
        steps: That many.
        median: The median error over the trajectories.
        sampler: The best solver so far.
    """

    step: int
    steps: int
    median: float
    sampler: FittedSampler


def errors(x: Tensor, end: Tensor) -> Tensor:
    """The error of each sample: the root of the mean square over its numbers, of shape `(batch,)`."""
    return mean_per_sample((x.double() - end.double()) ** 2).sqrt()


def solved(field: Field, start: Tensor, sampler: Sampler, evaluations: int, batch_size: int = 128) -> Tensor:
    """The ends of trajectories, without a gradient, some at a time."""
    ends = []
    times = sampler.times(field, evaluations=evaluations)
    with torch.no_grad(), evaluating(field):
        for first in range(0, len(start), batch_size):
            part = slice(first, first + batch_size)
            for end in sampler.walk(field.take(part), start[part], times):  # noqa: B007 - the others are freed
                pass
            ends.append(end)
    return torch.cat(ends)


def converged(field: Field, start: Tensor, tolerance: float = 1e-4, most: int = 1024) -> tuple[Tensor, float]:
    """The ends of the field's own trajectories: steps are doubled until the median change is below a tolerance.

    Args:
        field: The field, bound to the conditions of the trajectories.
        start: Noise of shape `(batch, *shape)`.
        tolerance: Of the root of the mean square over the numbers of a sample.
        most: Calls of the field in one go, at most.

    Returns:
        The ends, and the last median change: a bound on their error, where it is below the tolerance.
    """
    evaluations = max(1, min(64, most // 2))
    end = solved(field, start, GeneralSampler(), evaluations)
    while True:
        evaluations *= 2
        before, end = end, solved(field, start, GeneralSampler(), evaluations)
        change = float(errors(before, end).median())
        if change < tolerance or 2 * evaluations > most:
            return end, change


def fit(
    field: Field, start: Tensor, end: Tensor, evaluations: int, *, steps: int = 300, batch_size: int = 128
) -> Iterator[FitStep]:
    """Fit a solver to trajectories; what it yields last has the solver. Judge it on trajectories of other seeds.

    Args:
        field: The field, bound to the conditions of the trajectories.
        start: Where they start, of shape `(batch, *shape)`.
        end: Where they end, as `converged` finds it.
        evaluations: Calls of the field that the solver makes.
        steps: Of the optimizer.
        batch_size: Trajectories that are solved at once; each gradient is of all of them.

    Raises:
        ValueError: If start and end differ in shape, a count is below 1, or the path does not begin at noise.
    """
    if start.shape != end.shape or evaluations < 1 or steps < 1:
        raise ValueError(
            f"start and end must have one shape, and evaluations and steps be at least 1, got {tuple(start.shape)}, "
            f"{tuple(end.shape)}, {evaluations} and {steps}"
        )
    if not field.path.is_gaussian:
        raise ValueError(f"path must begin at noise to fit a solver, got {field.path}")
    table = _Table(field, evaluations)
    best, lowest = table.sampler(), math.inf
    median = float(errors(solved(field, start, best, evaluations, batch_size), end).median())
    floor = (1e-3 * median) ** 2 + torch.finfo(start.dtype).eps ** 2  # errors below it are as good as none
    yield FitStep(0, steps, median, best)
    turn = max(1, round(FIRST * steps))
    for moved, first, last in ([table.log_steps], 0, turn), ([table.log_steps, *table.moves], turn, steps):
        if first:
            table.lay_out(best, field.take(slice(batch_size)), start[:batch_size], median)
        rates = [TIMES_RATE, *[WEIGHTS_RATE] * (len(moved) - 1)]
        optimizer = torch.optim.Adam([{"params": [p]} for p in moved], betas=(0.9, 0.99))
        for step in range(first, last):
            error = table.descend(moved, field, start, end, floor, batch_size)
            loss = float((error + floor).log().mean())
            if loss < lowest:
                lowest, best, median = loss, table.sampler(), float(error.sqrt().median())
            place = step - first
            decay = min(1.0, (place + 1) / 10) * (1 + math.cos(math.pi * place / (last - first))) / 2
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * decay
            optimizer.step()
            yield FitStep(step + 1, steps, median, best)


class _Table:
    """A table that is a function of what a fit moves: the logarithms of its steps, and its rows."""

    def __init__(self, field: Field, evaluations: int) -> None:
        self.schedule = field.path.unit
        self.method = GeneralSampler().settled(evaluations)
        self.shares = share_of(self.schedule, self.method.times(field, evaluations))
        self.log_steps = torch.zeros(evaluations, dtype=torch.float64, requires_grad=True)
        self.moves = [torch.zeros(k, dtype=torch.float64, requires_grad=True) for k in range(1, evaluations)]
        self.rows = [torch.zeros(k + 1, dtype=torch.float64) for k in range(evaluations)]  # beside the method's
        self.directions = [torch.zeros(k + 1, k, dtype=torch.float64) for k in range(1, evaluations)]

    def now(self) -> tuple[Tensor, list[Tensor]]:
        """The shares of data and the rows of weights."""
        first, last = self.shares[:1], self.shares[-1:]
        steps = (self.shares.diff().log() + self.log_steps).softmax(0) * (last - first)
        shares = torch.cat((first, first + steps.cumsum(0)[:-1], last))
        rows = [row + more for row, more in zip(table_of(self.method, shares), self.rows, strict=True)]
        for k, (direction, move) in enumerate(zip(self.directions, self.moves, strict=True), start=1):
            rows[k] = rows[k] + direction @ move
        return shares, rows

    def descend(
        self, moved: list[Tensor], field: Field, start: Tensor, end: Tensor, floor: float, batch_size: int
    ) -> Tensor:
        """Set the gradients of the loss, and return the mean squared error of each trajectory."""
        found = []
        for p in moved:
            p.grad = torch.zeros_like(p)
        with torch.enable_grad(), evaluating(field):
            for first in range(0, len(start), batch_size):
                part = slice(first, first + batch_size)
                error = mean_per_sample((self.walk(field.take(part), start[part])[0] - end[part]).double() ** 2)
                loss = (error + floor).log().sum() / len(start)
                for p, slope in zip(moved, torch.autograd.grad(loss, moved), strict=True):
                    p.grad = slope if p.grad is None else p.grad + slope
                found.append(error.detach())
        return torch.cat(found)

    def walk(self, field: Field, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The ends of trajectories, and the values on the way."""
        shares, rows = self.now()
        times = times_at(self.schedule, shares)
        readings = read_along(field, x, times[:-1], mixed(field, VELOCITY))
        w = (self.schedule.alpha(times) + self.schedule.beta(times)).to(x.dtype)
        start, values = x / w[0].to(x.device), list[Tensor]()
        for reading, row, scale in zip(readings, rows, w[1:].to(x.device), strict=True):
            values.append(reading(x, field.values(x, reading.t)))
            with unrounded(x):
                x = scale * (start + torch.tensordot(row.to(x), torch.stack(values), 1))
        return x, values

    @torch.no_grad()
    def lay_out(self, best: FittedSampler, field: Field, x: Tensor, unit: float) -> None:
        """Go on from the best table, along directions that move a row by `unit`, in the mean over trajectories."""
        self.shares = torch.tensor(best.shares, dtype=torch.float64)
        self.log_steps.zero_()
        method = table_of(self.method, self.shares)
        self.rows = [
            torch.tensor(row, dtype=torch.float64) - own for row, own in zip(best.weights, method, strict=True)
        ]
        with evaluating(field):
            values = torch.stack(self.walk(field, x)[1]).flatten(1).double().cpu()
        for k, direction in enumerate(self.directions, start=1):
            differences = torch.eye(k + 1, dtype=torch.float64).diff(dim=0).T
            moved = differences.T @ values[: k + 1]
            size, axes = torch.linalg.eigh(moved @ moved.T / values.shape[1])
            if size.max() > 0:  # else all values are the same, and it does not matter how they are weighed
                direction.copy_(unit * (differences @ axes) * size.clamp(min=1e-10 * float(size.max())).rsqrt())

    @torch.no_grad()
    def sampler(self) -> FittedSampler:
        """The table as it is."""
        shares, rows = self.now()
        return FittedSampler(tuple(shares.tolist()), tuple(tuple(row.tolist()) for row in rows))


def table_of(method: Multistep, shares: Tensor) -> list[Tensor]:
    """The rows of a multistep method of the velocity at these shares of data."""
    values = torch.eye(len(shares) - 1, dtype=torch.float64)
    ones = torch.ones_like(shares)
    plan = method.plan(Coefficients(shares, 1 - shares, ones, -ones), [True] * len(values))
    rows = []
    before = at = torch.zeros(len(values), dtype=torch.float64)
    for k, step in enumerate(plan):
        if k and plan[k - 1].correct:
            at = before + sum(b * values[k - j] for j, b in enumerate(plan[k - 1].correct))
        before = at
        at = before + sum(b * values[k - j] for j, b in enumerate(step.predict))
        rows.append(at[: k + 1])
    return rows
