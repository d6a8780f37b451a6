"""The Gaussian path: every data point blurs into noise as time runs backwards.

    x_t = alpha_t data + beta_t noise,   p_t(x | data) = N(alpha_t data, beta_t^2 I)

Its conditional fields follow from the rows of `predictions`: knowing x and data settles the noise,

    velocity(x | data) = (alpha' - beta'/beta alpha) data + beta'/beta x,   score(x | data) = -(x - alpha data) / beta^2

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, section 3.1
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pathline.paths.predictions import DATA, Interval, Mix, Prediction, convert, interval, mix, refusal
from pathline.paths.schedules import Coefficients, Schedule
from pathline.tensors import Time, time_of


@dataclass(frozen=True)
class PathPoint:
    """A point of the path whose data and noise are known: what training draws."""

    x: Tensor
    t: Tensor
    data: Tensor
    noise: Tensor
    coefficients: Coefficients

    def target(self, prediction: Prediction) -> Tensor:
        """What a prediction of this kind ought to be here."""
        return prediction.target(self.coefficients, self.data, self.noise)


@dataclass(frozen=True)
class GaussianPath:
    """The path of a schedule, from a standard normal to the data."""

    schedule: Schedule

    def point(self, noise: Tensor, data: Tensor, t: Time) -> PathPoint:
        """The point between `noise` and `data`, both of shape `(batch, *shape)`, at `t` of shape `()` or `(batch,)`.

        Raises:
            ValueError: If noise and data differ in shape, or t does not meet them.
        """
        if noise.shape != data.shape:
            raise ValueError(f"noise must have the shape of data, {tuple(data.shape)}, got {tuple(noise.shape)}")
        if not data.is_floating_point():
            raise ValueError(f"data must hold floating-point numbers, got {data.dtype}; pass data.float()")
        t = time_of(data, t)
        c = self.schedule.at(t, data)
        return PathPoint(c.alpha * data + c.beta * noise, t, data, noise, c)

    def conditional(self, kind: Prediction, x: Tensor, data: Tensor, t: Time) -> Tensor:
        """The conditional field of a kind at `x`, given the data point: `conditional(SCORE, x, data, t)`, say.

        Raises:
            ValueError: At data, where x holds no noise to read.
        """
        return convert(data, x, t, self.schedule, DATA, kind)

    def mix(self, source: Prediction, target: Prediction, t: Tensor) -> Mix:
        """How to read `target` from `source` and the point, at each of the times."""
        return mix(source, target, self.schedule, t)

    def interval(self, source: Prediction, target: Prediction) -> Interval:
        """The times at which `target` can be read from `source`."""
        return interval(source, target, self.schedule)

    def refusal(self, source: Prediction, target: Prediction, t: Tensor) -> str:
        """Why `target` cannot be read from `source` at t."""
        return refusal(source, target, self.schedule, t)
