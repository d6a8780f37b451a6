"""Paths of points from one end to another, and the Gaussian path: data that blurs into noise as time runs backwards.

    x_t = alpha_t data + beta_t noise,   p_t(x | data) = N(alpha_t data, beta_t^2 I)

Its conditional fields follow from the rows of `predictions`: knowing x and data settles the noise,

    velocity(x | data) = (alpha' - beta'/beta alpha) data + beta'/beta x,   score(x | data) = -(x - alpha data) / beta^2

A field may have several heads, and two trained networks never agree. Which head a kind is read from is settled here,
whatever the order of the heads:

    a kind that is a head     its own head
    score                     the noise head where there is one, as score = -noise/beta
    any other kind            the velocity head where there is one, else the head that follows it in `ranked`

What follows the flow of a field, an ODE, asks for the heads of the velocity alone; see `sampling.dynamics`.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, section 3.1
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from torch import Tensor

from pathline.arguments import instance
from pathline.paths.predictions import (
    DATA,
    NOISE,
    SCORE,
    VELOCITY,
    Interval,
    Prediction,
    convert,
    interval,
    mix,
    refusal,
)
from pathline.paths.schedules import Coefficients, Schedule, of_unit
from pathline.solvers.solver import Draw
from pathline.tensors import Time, time_of

Heads: TypeAlias = tuple[Prediction, ...]  # the kinds that a field's network makes, from one call


FAR = 8.0  # data of a scale within this factor of 1 is sampled on the grids that are made for unit size


class HeadMix(NamedTuple):
    """A map m x + sum_heads n head, and where it has no finite value; None stands for a factor of nothing."""

    m: Tensor | None
    n: tuple[Tensor | None, ...]
    singular: Tensor


class PathPoint(ABC):
    """A point of a path both of whose ends are known: what training draws."""

    x: Tensor
    t: Tensor
    data: Tensor
    noise: Tensor

    @abstractmethod
    def target(self, prediction: Prediction) -> Tensor:
        """What a prediction of this kind ought to be here.

        Raises:
            ValueError: If the path has no such kind.
        """


class Path(ABC):
    """A law of points between noise, or another set of samples, at t = 0 and data at t = 1.

    Attributes:
        schedule: How much of either end a point holds.
        is_gaussian: Whether it begins at a normal, so that its noise can be renewed.
        scale: The standard deviation of the data where it is known not to be near 1, or None.
    """

    schedule: Schedule
    is_gaussian: bool
    scale: float | None = None

    @property
    def unit(self) -> Schedule:
        """The schedule that data / scale is on, (scale alpha, beta): where grids and solvers see data of unit size."""
        return of_unit(self.schedule, self.scale or 1.0)

    @abstractmethod
    def point(self, noise: Tensor, data: Tensor, t: Time, draw: Draw | None = None) -> PathPoint:
        """The point between `noise` and `data`, both of shape `(batch, *shape)`, at `t` of shape `()` or `(batch,)`.

        Args:
            noise: The end at t = 0.
            data: The end at t = 1.
            t: When.
            draw: Where a path that is random between its ends draws from.

        Raises:
            ValueError: If noise and data differ in shape, or t does not meet them.
        """

    @abstractmethod
    def mix(self, heads: Heads, kind: Prediction, t: Tensor) -> HeadMix:
        """How to read a kind from the point and the heads, at each of the times.

        Raises:
            ValueError: If these heads never settle it.
        """

    @abstractmethod
    def interval(self, heads: Heads, kind: Prediction) -> Interval:
        """The times at which a kind can be read from the heads."""

    @abstractmethod
    def refusal(self, heads: Heads, kind: Prediction, t: Tensor) -> str:
        """Why a kind cannot be read from the heads at t."""

    @abstractmethod
    def is_bounded(self, kind: Prediction, t: Tensor) -> Tensor:
        """At which times the target of a kind is finite."""

    @abstractmethod
    def target_variance(self, kind: Prediction, t: Tensor) -> Tensor:
        """The variance of a kind's target, were both ends independent and of unit variance; infinite where it is."""


def ends_of(noise: Tensor, data: Tensor, t: Time) -> Tensor:
    """The time of a point between two ends, which must fit each other."""
    if noise.shape != data.shape:
        raise ValueError(f"noise must have the shape of data, {tuple(data.shape)}, got {tuple(noise.shape)}")
    if not data.is_floating_point():
        raise ValueError(f"data must hold floating-point numbers, got {data.dtype}; pass data.float()")
    return time_of(data, t)


@dataclass(frozen=True)
class GaussianPoint(PathPoint):
    """A point of a Gaussian path."""

    x: Tensor
    t: Tensor
    data: Tensor
    noise: Tensor
    coefficients: Coefficients

    def target(self, prediction: Prediction) -> Tensor:
        """Its row: a known mix of data and noise."""
        return prediction.target(self.coefficients, self.data, self.noise)


@dataclass(frozen=True)
class GaussianPath(Path):
    """The path of a schedule, from a standard normal to the data.

    With several heads a kind is read from one of them, which the module's docstring names: the order does not matter.

    Args:
        schedule: How much data and noise a point holds at a time.
        scale: The standard deviation of the data, if it is far from 1. It changes nothing in the path: it tells
            samplers and `log_prob` where to stop along it, so that data times 100 is sampled as well as data of unit
            size. A scale of 1 says that data is of unit size, as after a normalisation: steps are those of a path
            without a scale, and samples of another size are the field's fault, of which no warning blames the steps.
            Exact fields measure it. It does not count in comparisons of paths.

    Raises:
        ValueError: If the scale is not positive.
    """

    schedule: Schedule
    scale: float | None = field(default=None, repr=False, compare=False)
    is_gaussian = True

    def __post_init__(self) -> None:
        instance("schedule", self.schedule, Schedule, "LinearSchedule() is one")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number, the data's standard deviation, got {self.scale}")

    def measured(self, scale: float) -> GaussianPath:
        """The path to data whose standard deviation was found to be this.

        A scale that was declared stays, and one within a factor FAR of 1 is taken for 1: grids are made for that.
        """
        is_far = 0 < scale < math.inf and not 1 / FAR <= scale <= FAR
        return replace(self, scale=scale) if self.scale is None and is_far else self

    def point(self, noise: Tensor, data: Tensor, t: Time, draw: Draw | None = None) -> GaussianPoint:
        """Alpha data + beta noise: nothing is drawn."""
        t = ends_of(noise, data, t)
        c = self.schedule.at(t, data)
        return GaussianPoint(c.alpha * data + c.beta * noise, t, data, noise, c)

    def conditional(self, kind: Prediction, x: Tensor, data: Tensor, t: Time) -> Tensor:
        """The conditional field of a kind at `x`, given the data point: `conditional(SCORE, x, data, t)`, say.

        Raises:
            ValueError: At data, where x holds no noise to read.
        """
        return convert(data, x, t, self.schedule, DATA, kind)

    def mix(self, heads: Heads, kind: Prediction, t: Tensor) -> HeadMix:
        """From the head that settles the kind."""
        head = _head(heads, kind)
        m, n, singular = mix(heads[head], kind, self.schedule, t)
        return HeadMix(
            None if heads[head] == kind else m, tuple(n if i == head else None for i in range(len(heads))), singular
        )

    def interval(self, heads: Heads, kind: Prediction) -> Interval:
        """The times at which a kind can be read from its head."""
        return interval(heads[_head(heads, kind)], kind, self.schedule)

    def refusal(self, heads: Heads, kind: Prediction, t: Tensor) -> str:
        """Why it cannot be."""
        return refusal(heads[_head(heads, kind)], kind, self.schedule, t)

    def is_bounded(self, kind: Prediction, t: Tensor) -> Tensor:
        """Where its row is finite."""
        return kind.is_bounded(self.schedule.at(t))

    def target_variance(self, kind: Prediction, t: Tensor) -> Tensor:
        """(a^2 + b^2) / scale^2 of its row."""
        c = self.schedule.at(t)
        a, b = kind.row(c)
        return (a**2 + b**2) / kind.scale(c) ** 2

    @property
    def start_scale(self) -> float:
        """The standard deviation of points at t = 0, were the data of its scale: 1 where only noise is left."""
        alpha, beta = self.unit.ends[0]
        return float((alpha**2 + beta**2) ** 0.5)


def ranked(heads: Heads) -> list[int]:
    """The heads in the order in which the velocity is read from them.

    First the velocity, last those that leave it unknown at an end of the path: data, noise, and the score.
    """
    last = (DATA, NOISE, SCORE)
    ranks = [(head != VELOCITY, 1 + last.index(head) if head in last else 0, head.name) for head in heads]
    return sorted(range(len(heads)), key=ranks.__getitem__)


def _head(heads: Heads, kind: Prediction) -> int:
    """The head that a kind is read from."""
    if kind in heads:
        return heads.index(kind)
    if kind == SCORE and NOISE in heads:
        return heads.index(NOISE)
    return ranked(heads)[0]
