"""Grids: where along a path a sampler stops.

A grid is a rule from a number of steps to times, from noise (t = 0) to data (t = 1). Every Gaussian path is the linear
one in other coordinates, x / (alpha + beta) at the time alpha / (alpha + beta), its share of data: rules that speak of
that share, or of log(alpha / beta), put the same points on every schedule. Where the path knows the scale of its data,
alpha stands for scale alpha: points are put where data / scale, of unit size, would have them.

Source: Esser et al. 2024, https://arxiv.org/abs/2403.03206, equation 23 (shift); Karras et al. 2022,
https://arxiv.org/abs/2206.00364, equation 5
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.paths.path import Path
from pathline.paths.schedules import Schedule

HALVINGS = 60  # of the interval in which a time is sought: below the last bit of it
NEAR = 1e-9  # values of log(alpha / beta) that differ by less are the same


class Grid(ABC):
    """A way to lay times from noise to data."""

    @abstractmethod
    def times(self, field: Field, steps: int) -> Tensor:
        """Steps + 1 times from 0 to 1, in float64 on the host, strictly increasing."""


@dataclass(frozen=True)
class UniformGrid(Grid):
    """Even in time."""

    def times(self, field: Field, steps: int) -> Tensor:
        """K / steps; finer where data and noise are of one size, if the path knows that data is not of unit size."""
        first, last = torch.tensor([0.0, 1.0], dtype=torch.float64).unbind()
        return spread_out(field.path, first, last, steps)


UNIFORM = UniformGrid()


@dataclass(frozen=True)
class CosineGrid(Grid):
    """Finer towards both ends: the share of data is (1 - cos(pi u)) / 2."""

    def times(self, field: Field, steps: int) -> Tensor:
        """Even in u."""
        return _between(field, (1 - (math.pi * _even(steps)).cos()) / 2)


@dataclass(frozen=True)
class ShiftedGrid(Grid):
    """An even share of data with all its odds, alpha / beta, divided by `shift`: above 1 finer at noise, below at data.

    Raises:
        ValueError: If the shift is not positive.
    """

    shift: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"shift must be positive, got {self.shift}; 1 is an even grid, 3 is finer at noise")

    def times(self, field: Field, steps: int) -> Tensor:
        """U / (u + shift (1 - u))."""
        u = _even(steps)
        return _between(field, u / (u + self.shift * (1 - u)))


@dataclass(frozen=True)
class PowerGrid(Grid):
    """Finer towards data: the share of noise falls as (1 - u)^power.

    Raises:
        ValueError: If the power is not positive.
    """

    power: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.power < math.inf:
            raise ValueError(f"power must be positive, got {self.power}; 1 is an even grid, 1.5 is finer at data")

    def times(self, field: Field, steps: int) -> Tensor:
        """Even in u."""
        return _between(field, 1 - (1 - _even(steps)) ** self.power)


@dataclass(frozen=True)
class LogSNRGrid(Grid):
    """Even in log(alpha / beta) between two values, as far as the path goes, and the ends of the path.

    Raises:
        ValueError: Unless low is below high.
    """

    low: float = -4.0
    high: float = 4.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}; they are of log(alpha / beta)")

    def times(self, field: Field, steps: int) -> Tensor:
        """The ends, and steps - 1 between.

        Raises:
            ValueError: If no value lies inside the path.
        """
        low, high, count = _reach(self, field, steps, self.low, self.high)
        return _with_ends(field, steps, torch.linspace(low, high, count, dtype=torch.float64))


@dataclass(frozen=True)
class KarrasGrid(Grid):
    """Even in (beta / alpha)^(1/rho) between two values, as far as the path goes, and the ends of the path.

    The larger rho is, the finer at data. On the variance-exploding path it is EDM's own grid.

    Raises:
        ValueError: Unless rho is positive, and 0 < low < high.
    """

    rho: float = 7.0
    low: float = 0.002
    high: float = 80.0

    def __post_init__(self) -> None:
        if not (0 < self.rho < math.inf and 0 < self.low < self.high < math.inf):
            raise ValueError(f"rho must be positive and 0 < low < high, got {self.rho}, {self.low} and {self.high}")

    def times(self, field: Field, steps: int) -> Tensor:
        """The ends, and steps - 1 between.

        Raises:
            ValueError: If no value lies inside the path.
        """
        low, high, count = _reach(self, field, steps, -math.log(self.high), -math.log(self.low))
        noisy, clean = math.exp(-low / self.rho), math.exp(-high / self.rho)
        return _with_ends(field, steps, -self.rho * torch.linspace(noisy, clean, count, dtype=torch.float64).log())


@dataclass(frozen=True)
class QuantileGrid(Grid):
    """The quantiles of any law of the share of data, given at even levels: as many steps where it has as much mass.

    Raises:
        ValueError: Unless they go from 0 to 1 and increase.
    """

    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        q = self.quantiles
        if len(q) < 2 or q[0] != 0 or q[-1] != 1 or any(not a < b for a, b in pairwise(q)):
            raise ValueError(f"quantiles must increase from 0 to 1, got {q[:3]} ... {q[-1:]}")

    def times(self, field: Field, steps: int) -> Tensor:
        """Even in mass, with straight lines between the quantiles."""
        q = torch.tensor(self.quantiles, dtype=torch.float64)
        place = _even(steps) * (len(q) - 1)
        below = place.floor().long().clamp(max=len(q) - 2)
        return _between(field, torch.lerp(q[below], q[below + 1], place - below))


def _even(steps: int) -> Tensor:
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def share_of(schedule: Schedule, t: Tensor) -> Tensor:
    """The share of data in a point, alpha / (alpha + beta)."""
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    return alpha / (alpha + beta)


def _between(field: Field, fraction: Tensor) -> Tensor:
    """The times at which the share of data has gone a fraction of its way from the start of a path to its end."""
    schedule = field.path.unit
    start, stop = share_of(schedule, torch.tensor([0.0, 1.0], dtype=torch.float64))
    return times_at(schedule, start + (stop - start) * fraction)


def _reach(grid: Grid, field: Field, steps: int, low: float, high: float) -> tuple[float, float, int]:
    """From where to where values of log(alpha / beta) go that stay inside the path, and how many they are.

    Raises:
        ValueError: If none does.
    """
    schedule = field.path.unit
    first, last = share_of(schedule, torch.tensor([0.0, 1.0], dtype=torch.float64)).logit().tolist()
    if not (low < last and first < high):
        raise ValueError(
            f"{grid} must lie inside the path: log(alpha / beta) of {schedule} goes from {first:.4g} to {last:.4g}, "
            f"and the grid's from {low:.4g} to {high:.4g}"
        )
    begins, ends = low < first + NEAR, high > last - NEAR  # then the end of the path is one of the values
    return first if begins else low, last if ends else high, steps - 1 + begins + ends


def _with_ends(field: Field, steps: int, logit: Tensor) -> Tensor:
    """The times of these values of log(alpha / beta), and the ends of the path where they are not among them."""
    schedule = field.path.unit
    first = share_of(schedule, torch.zeros(1, dtype=torch.float64)).logit()
    inner = logit[1:] if len(logit) and abs(float(logit[0] - first)) < NEAR else logit
    ends = torch.tensor([-math.inf, math.inf], dtype=torch.float64)
    return times_at(schedule, torch.cat((ends[:1], inner[: steps - 1], ends[1:])).sigmoid())


def times_at(schedule: Schedule, share: Tensor) -> Tensor:
    """The times at which a path has these shares of data, by bisection; its own ends for the first and the last.

    A gradient with respect to the shares is that of the inverse function.
    """
    fixed = share.detach()
    _, high = bisected(lambda t: share_of(schedule, t) < fixed, torch.ones_like(fixed))
    times = torch.cat((torch.zeros_like(high[:1]), high[1:-1], torch.ones_like(high[:1])))
    if not share.requires_grad:
        return times
    c = schedule.at(times)
    slope = (c.alpha_dot * c.beta - c.alpha * c.beta_dot) / (c.alpha + c.beta) ** 2
    return torch.cat((times[:1], times[1:-1] + (share - fixed)[1:-1] / slope[1:-1], times[-1:]))


def spread_out(path: Path, start: Tensor, stop: Tensor, steps: int) -> Tensor:
    """Steps + 1 times from start to stop, even in time; or in this clock where the data has a known scale, not 1.

        log(1 + scale s)  if it is above 1,   -log(1 + (1 - s) / scale)  if it is below,

    s being the way that the share of data has gone. Steps are then as long as what is left of the noise, or as the data
    is large, wherever the two are of one size, and even in their logarithm where one is far above the other.
    """
    way = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    if path.scale is None or path.scale == 1:
        return torch.lerp(start, stop, way)
    schedule, scale = path.schedule, path.scale
    first, last = share_of(schedule, torch.tensor([0.0, 1.0], dtype=torch.float64)).unbind()

    def clock(t: Tensor) -> Tensor:
        s = (share_of(schedule, t) - first) / (last - first)
        return (scale * s).log1p() if scale > 1 else -((1 - s) / scale).log1p()

    c = torch.lerp(clock(start), clock(stop), way[1:-1])
    s = torch.expm1(c) / scale if scale > 1 else 1 - scale * torch.expm1(-c)
    inner = times_at(schedule, torch.cat((first[None], first + (last - first) * s, last[None])))
    return torch.cat((start[None], inner[1:-1], stop[None]))


def bisected(is_before: Callable[[Tensor], Tensor], latest: Tensor) -> tuple[Tensor, Tensor]:
    """The last times from 0 to `latest` that are before something, and the first that are not, next to each other."""
    early, late = torch.zeros_like(latest), latest
    for _ in range(HALVINGS):
        middle = (early + late) / 2
        found = is_before(middle)
        early, late = torch.where(found, middle, early), torch.where(found, late, middle)
    return early, late
