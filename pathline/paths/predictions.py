"""Kinds of prediction. Each is a row: a known mix of data and noise.

    prediction = (a data + b noise) / scale        x = alpha data + beta noise

Two rows of a point, x and any prediction p, settle data and noise; so every other prediction q is a map of them,

    q = m x + n p,   m = (q ^ p) / (x ^ p),   n = (x ^ q) / (x ^ p),   (a, b) ^ (c, e) = a e - b c

Where x ^ p vanishes the pair says too little, unless the limit exists. Limits at the ends of a path are read just
inside: 1e-40 from an end is so near that the map is its limit to rounding, or so large that it has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pathline.paths.schedules import Coefficients, Schedule
from pathline.tensors import Time, meet, time_of, wide

INSIDE = 1e-40  # how far inside an end its limit is read
LARGE = 1e12  # a map's coefficient beyond this, there, grows without bound: 1e-40 to the power -1/2 is 1e20


def _one(c: Coefficients) -> Tensor:
    return torch.ones_like(c.alpha)


@dataclass(frozen=True)
class Prediction:
    """What a network predicts, as a row (a, b) and a scale that may vanish at an end. Its name is what it is."""

    name: str
    row: Callable[[Coefficients], tuple[Tensor, Tensor]] = field(compare=False)
    scale: Callable[[Coefficients], Tensor] = field(default=_one, compare=False)

    def target(self, c: Coefficients, data: Tensor, noise: Tensor) -> Tensor:
        """The true value for this data and this noise: what a network of this kind regresses on."""
        a, b = self.row(c)
        return (a * data + b * noise) / self.scale(c)

    def is_bounded(self, c: Coefficients) -> Tensor:
        """Where the target is finite. Where it is not, no network has learned it."""
        a, b = self.row(c)
        return a.isfinite() & b.isfinite() & (self.scale(c) != 0)

    def __repr__(self) -> str:
        return self.name.upper()

    def __reduce__(self) -> Any:
        return self.name.upper()  # pickled and copied as the constant that it is


VELOCITY = Prediction("velocity", lambda c: (c.alpha_dot, c.beta_dot))
SCORE = Prediction("score", lambda c: (torch.zeros_like(c.alpha), -torch.ones_like(c.beta)), lambda c: c.beta)
NOISE = Prediction("noise", lambda c: (torch.zeros_like(c.alpha), torch.ones_like(c.beta)))
DATA = Prediction("data", lambda c: (torch.ones_like(c.alpha), torch.zeros_like(c.beta)))
V = Prediction("v", lambda c: (-c.beta, c.alpha))


@dataclass(frozen=True, init=False, repr=False)
class EDMPrediction(Prediction):
    """What a network predicts under EDM's preconditioning, for data of standard deviation `sigma_data`.

    Denoised data is c_skip x + c_out prediction, with coefficients that keep the prediction's target at unit size at
    all times and add the least of its error to the data. As a row, and for any schedule,

        prediction = (beta / sigma_data data - alpha sigma_data noise) / sqrt(beta^2 + alpha^2 sigma_data^2)

    which is -v where sigma_data is 1 and alpha^2 + beta^2 is.

    Raises:
        ValueError: If sigma_data is not positive.

    Source: Karras et al. 2022, https://arxiv.org/abs/2206.00364, equation 7 and appendix B.6
    """

    sigma_data: float = 0.5

    def __init__(self, sigma_data: float = 0.5) -> None:
        if not 0 < sigma_data < math.inf:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}; it is the data's standard deviation")
        super().__init__(
            f"edm:{sigma_data:g}",
            lambda c: (c.beta / sigma_data, -c.alpha * sigma_data),
            lambda c: (c.beta**2 + (c.alpha * sigma_data) ** 2).sqrt(),
        )
        object.__setattr__(self, "sigma_data", sigma_data)

    def __repr__(self) -> str:
        return f"EDMPrediction({self.sigma_data:g})"

    def __reduce__(self) -> Any:
        return EDMPrediction, (self.sigma_data,)


class Mix(NamedTuple):
    """A map q = m x + n p, and where it has no finite value; each of the shape of t, in float64."""

    m: Tensor
    n: Tensor
    singular: Tensor


def inside(schedule: Schedule, t: Tensor) -> Coefficients:
    """The coefficients at t, or just inside an end where alpha or beta vanishes."""
    t = wide(t)
    t = torch.where((t == 0) & (schedule.alpha(torch.zeros_like(t)) == 0), t + INSIDE, t)
    c = schedule.at(t)
    gone = c.beta == 0
    steep = gone & c.beta_dot.isinf()
    beta_dot = torch.where(steep, schedule.variance_slope(t) / (2 * INSIDE), c.beta_dot)
    return Coefficients(c.alpha, torch.where(gone, c.beta + INSIDE, c.beta), c.alpha_dot, beta_dot)


def mix(source: Prediction, target: Prediction, schedule: Schedule, t: Tensor) -> Mix:
    """How to read `target` from a prediction of the kind `source` and the point, at each of the times t."""
    t = wide(t)
    outside = ~((t >= 0) & (t <= 1))
    if source == target:
        return Mix(torch.zeros_like(t), torch.ones_like(t), outside)
    c = inside(schedule, t.clamp(0, 1))
    x, p, q = (c.alpha, c.beta), source.row(c), target.row(c)
    m = _wedge(q, p) / _wedge(x, p) / target.scale(c)
    n = _wedge(x, q) / _wedge(x, p) * source.scale(c) / target.scale(c)
    at_end = (t == 0) | (t == 1)
    large = at_end & ((m.abs() > LARGE) | (n.abs() > LARGE))
    return Mix(m, n, outside | large | ~(m.isfinite() & n.isfinite()))


def _wedge(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    return p[0] * q[1] - p[1] * q[0]


def convert(value: Tensor, x: Tensor, t: Time, schedule: Schedule, source: Prediction, target: Prediction) -> Tensor:
    """The prediction of the kind `target` that says the same of `x` as `value`, one of the kind `source`.

    Args:
        value: The prediction, of the shape of `x`.
        x: Points of shape `(batch, *shape)`.
        t: Their time, of shape `()` or `(batch,)`.
        schedule: Of the path that the points are on.
        source: The kind that `value` is.
        target: The kind that is wanted.

    Raises:
        ValueError: If the map has no finite value at a time: the prediction does not settle what is wanted.
    """
    t = time_of(x, t)
    m, n, singular = mix(source, target, schedule, t)
    if singular.any():
        raise ValueError(refusal(source, target, schedule, t[singular] if t.ndim else t))
    return blend(m, x, [(n, value)])


def blend(m: Tensor | None, x: Tensor, terms: Iterable[tuple[Tensor | None, Tensor]]) -> Tensor:
    """M x + sum n value, with coefficients of shape `()` or `(batch,)`, in the dtype and on the device of `x`."""
    real = torch.promote_types(x.dtype, torch.float32)
    factors = [(n, value) for n, value in ((m, x), *terms) if n is not None]
    return sum((meet(n.to(x.device, real), x) * value for n, value in factors), torch.zeros((), dtype=real)).to(x.dtype)


def error_ratio(source: Prediction, target: Prediction, schedule: Schedule, t: Tensor) -> Tensor:
    """How much an error of `source` weighs when it is read as `target`: |d target / d source|, of the shape of t."""
    return mix(source, target, schedule, t).n.abs()


@dataclass(frozen=True)
class Interval:
    """The times in [start, stop] at which something is defined, its ends counted or not."""

    start: float
    stop: float
    has_start: bool = True
    has_stop: bool = True

    def __contains__(self, t: float) -> bool:
        """Whether it is defined at t."""
        return bool(self.covers(torch.tensor(t, dtype=torch.float64)))

    def covers(self, t: Tensor) -> Tensor:
        """At which of the times it is defined."""
        after = t >= self.start if self.has_start else t > self.start
        before = t <= self.stop if self.has_stop else t < self.stop
        return after & before

    def __and__(self, other: Interval) -> Interval:
        """The times in both: what lies within two intervals whose ends are those of a path."""
        return Interval(
            max(self.start, other.start),
            min(self.stop, other.stop),
            self.has_start and other.has_start,
            self.has_stop and other.has_stop,
        )

    def __str__(self) -> str:
        return f"{'[' if self.has_start else '('}{self.start:g}, {self.stop:g}{']' if self.has_stop else ')'}"


def interval(source: Prediction, target: Prediction, schedule: Schedule) -> Interval:
    """The times at which `target` can be read from `source`."""
    singular = mix(source, target, schedule, torch.tensor([0.0, 1.0])).singular
    return Interval(0.0, 1.0, not singular[0], not singular[1])


def refusal(source: Prediction, target: Prediction, schedule: Schedule, t: Tensor) -> str:
    """Why a reading is refused, and what to do."""
    return (
        f"t must lie in {interval(source, target, schedule)} to read {target.name} from a {source.name} prediction "
        f"on {schedule}, got t = {t.flatten()[0]:.10g}; at that end the pair (x, {source.name}) does not settle it"
    )
