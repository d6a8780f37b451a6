"""Noise schedules: how much data and how much noise a point holds at time t.

    x_t = alpha_t data + beta_t noise,   t from 0 (noise) to 1 (data)

alpha rises and beta falls. Slopes are given in closed form: autodiff of a schedule costs more than a small network.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, section 3
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pathline.tensors import meet


class Coefficients(NamedTuple):
    """The scales of data and noise at a time, and their slopes."""

    alpha: Tensor
    beta: Tensor
    alpha_dot: Tensor
    beta_dot: Tensor


class Schedule(ABC):
    """The pair (alpha, beta) as differentiable functions of t in [0, 1]."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The scale of the data, with the shape of t."""

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """The scale of the noise, with the shape of t."""

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes (alpha', beta'), by forward-mode autodiff unless a schedule gives them in closed form."""
        return _slope(self.alpha, t), _slope(self.beta, t)

    def variance_slope(self, t: Tensor) -> Tensor:
        """The slope of beta^2. It is finite at data even where beta itself falls infinitely fast."""
        return 2 * self.beta(t) * self.slopes(t)[1]

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(alpha, beta) at noise and at data: (0, 1) and (1, 0), unless the schedule declares others."""
        return (0.0, 1.0), (1.0, 0.0)

    def at(self, t: Tensor, x: Tensor | None = None) -> Coefficients:
        """All four at a time of shape `()` or `(batch,)`, shaped to multiply `x` if it is given."""
        row = Coefficients(self.alpha(t), self.beta(t), *self.slopes(t))
        return row if x is None else Coefficients(*(meet(value, x).to(x.dtype) for value in row))


def _slope(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    slope: Tensor = torch.func.jvp(function, (t.clone(),), (torch.ones_like(t),))[1]  # an expanded t shares memory
    return slope


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """Straight lines from noise to data: alpha = t, beta = 1 - (1 - sigma_min) t.

    Its velocity target is data - noise, where no noise is left on the data: sigma_min = 0.

    Source: Lipman et al. 2023, https://arxiv.org/abs/2210.02747, equation 20 (conditional optimal transport)

    Raises:
        ValueError: Unless 0 <= sigma_min < 1.
    """

    sigma_min: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < 1:
            raise ValueError(f"sigma_min must be from 0 to below 1, got {self.sigma_min}; it is the noise left on data")

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(0, 1) and (1, sigma_min)."""
        return (0.0, 1.0), (1.0, self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def beta(self, t: Tensor) -> Tensor:
        """1 - t, and what is left at data."""
        return 1 - t + self.sigma_min * t if self.sigma_min else 1 - t

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 and sigma_min - 1."""
        return torch.ones_like(t), torch.full_like(t, self.sigma_min - 1)


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """A quarter of a circle, so that alpha^2 + beta^2 = 1: alpha = sin(pi t / 2), beta = cos(pi t / 2).

    Source: Albergo & Vanden-Eijnden 2023, https://arxiv.org/abs/2209.15571, section 2.2 (trigonometric interpolant)
    """

    def alpha(self, t: Tensor) -> Tensor:
        """sin(pi t / 2)."""
        return (math.pi / 2 * t).sin()

    def beta(self, t: Tensor) -> Tensor:
        """cos(pi t / 2), as a sine of what is left: exact near data, and 0 at it."""
        return (math.pi / 2 * (1 - t)).sin()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(pi / 2) (beta, -alpha)."""
        return math.pi / 2 * self.beta(t), -math.pi / 2 * self.alpha(t)


@dataclass(frozen=True)
class PolynomialSchedule(Schedule):
    """A straight line at an uneven speed: alpha = t^power, beta = 1 - t^power.

    Raises:
        ValueError: If the power is not positive.
    """

    power: float

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"power must be positive, got {self.power}")

    def alpha(self, t: Tensor) -> Tensor:
        """t^power."""
        return t**self.power

    def beta(self, t: Tensor) -> Tensor:
        """1 - t^power, without the cancellation near data."""
        return -torch.expm1(self.power * t.log())

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Power t^(power - 1), and its opposite."""
        slope = self.power * t ** (self.power - 1)
        return slope, -slope


@dataclass(frozen=True)
class SquareRootSchedule(Schedule):
    """Brownian motion seen backwards from data: alpha = t, beta = sqrt(1 - t)."""

    def alpha(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def beta(self, t: Tensor) -> Tensor:
        """sqrt(1 - t)."""
        return (1 - t).sqrt()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 and -1 / (2 beta), infinite at data."""
        return torch.ones_like(t), -0.5 * (1 - t).rsqrt()

    def variance_slope(self, t: Tensor) -> Tensor:
        """-1."""
        return -torch.ones_like(t)


@dataclass(frozen=True)
class _Rates(Schedule):
    """A rate of noising that falls linearly from `fast` at noise to `slow` at data.

    With r = 1 - t, log alpha = -(fast - slow) r^2 / 4 - slow r / 2.
    """

    slow: float = 0.1
    fast: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.slow <= self.fast:
            raise ValueError(f"rates must satisfy 0 < slow <= fast, got slow={self.slow}, fast={self.fast}")

    def alpha(self, t: Tensor) -> Tensor:
        """The square root of what the noise leaves."""
        return self.log_alpha(t).exp()

    def log_alpha(self, t: Tensor) -> Tensor:
        """Minus half the integral of the rate from t to data."""
        r = 1 - t
        return -(self.fast - self.slow) / 4 * r**2 - self.slow / 2 * r

    def rate(self, t: Tensor) -> Tensor:
        """Twice the slope of log alpha."""
        return self.slow + (self.fast - self.slow) * (1 - t)

    @property
    def start(self) -> float:
        """Alpha at noise."""
        return math.exp(-(self.fast + self.slow) / 4)


@dataclass(frozen=True)
class VariancePreservingSchedule(_Rates):
    """DDPM's schedule in continuous time, with alpha^2 + beta^2 = 1.

    It does not reach pure noise: alpha at 0 is 0.00657 with the rates of DDPM.

    Source: Song et al. 2021, https://arxiv.org/abs/2011.13456, equation 33
    """

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """A little data is left at noise."""
        return (self.start, math.sqrt(1 - self.start**2)), (1.0, 0.0)

    def beta(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2), without the cancellation near data."""
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(rate alpha / 2, -rate alpha^2 / (2 beta)), the second infinite at data."""
        alpha_dot = self.rate(t) / 2 * self.alpha(t)
        return alpha_dot, -alpha_dot * self.alpha(t) / self.beta(t)

    def variance_slope(self, t: Tensor) -> Tensor:
        """-rate alpha^2."""
        return -self.rate(t) * self.alpha(t) ** 2


@dataclass(frozen=True)
class SubVariancePreservingSchedule(_Rates):
    """Less noise than the variance-preserving schedule for the same alpha: beta = 1 - alpha^2.

    It does not reach pure noise either.

    Source: Song et al. 2021, https://arxiv.org/abs/2011.13456, equation 29
    """

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """A little data is left at noise."""
        return (self.start, 1 - self.start**2), (1.0, 0.0)

    def beta(self, t: Tensor) -> Tensor:
        """1 - alpha^2, without the cancellation near data."""
        return -torch.expm1(2 * self.log_alpha(t))

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(rate alpha / 2, -rate alpha^2)."""
        alpha = self.alpha(t)
        return self.rate(t) / 2 * alpha, -self.rate(t) * alpha**2


@dataclass(frozen=True)
class VarianceExplodingSchedule(Schedule):
    """Data under ever more noise, in even steps of its logarithm: alpha = 1, beta = high (low / high)^t.

    It begins at a normal of standard deviation `high`, which drowns data of about unit size around 0 and no other, and
    ends at data with noise of `low` left on it.

    Source: Song et al. 2021, https://arxiv.org/abs/2011.13456, equation 30; the range of Karras et al. 2022,
    https://arxiv.org/abs/2206.00364

    Raises:
        ValueError: Unless 0 < low < high.
    """

    low: float = 0.002
    high: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"noise must satisfy 0 < low < high, got low={self.low}, high={self.high}")

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(1, high) and (1, low)."""
        return (1.0, self.high), (1.0, self.low)

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def beta(self, t: Tensor) -> Tensor:
        """High (low / high)^t."""
        return self.high * (self._log_ratio * t).exp()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """0, and log(low / high) beta."""
        return torch.zeros_like(t), self._log_ratio * self.beta(t)

    @property
    def _log_ratio(self) -> float:
        return math.log(self.low / self.high)


@dataclass(frozen=True)
class _OfUnit(Schedule):
    """The schedule that data of unit size is on where data of another scale is on `schedule`: (scale alpha, beta)."""

    schedule: Schedule
    scale: float

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Those of the schedule, with alpha multiplied."""
        (a, b), (c, d) = self.schedule.ends
        return (self.scale * a, b), (self.scale * c, d)

    def alpha(self, t: Tensor) -> Tensor:
        """Scale alpha."""
        return self.scale * self.schedule.alpha(t)

    def beta(self, t: Tensor) -> Tensor:
        """Beta."""
        return self.schedule.beta(t)

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes (scale alpha', beta'), each of the shape of t."""
        alpha_dot, beta_dot = self.schedule.slopes(t)
        return self.scale * alpha_dot, beta_dot

    def variance_slope(self, t: Tensor) -> Tensor:
        """The slope of beta^2, which the scale of the data does not change."""
        return self.schedule.variance_slope(t)


def of_unit(schedule: Schedule, scale: float) -> Schedule:
    """The schedule (scale alpha, beta): x = alpha data + beta noise is scale alpha (data / scale) + beta noise."""
    return schedule if scale == 1 else _OfUnit(schedule, scale)


@dataclass(frozen=True)
class FunctionSchedule(Schedule):
    """Any two differentiable functions of time; slopes by autodiff.

    Raises:
        ValueError: If a function does not return a tensor of the shape of t, or if alpha falls or beta rises.
    """

    alpha_of: Callable[[Tensor], Tensor]
    beta_of: Callable[[Tensor], Tensor]

    def __init__(self, alpha: Callable[[Tensor], Tensor], beta: Callable[[Tensor], Tensor]) -> None:
        object.__setattr__(self, "alpha_of", alpha)
        object.__setattr__(self, "beta_of", beta)
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        for name, values, sign in (("alpha", alpha(t), 1), ("beta", beta(t), -1)):
            if not isinstance(values, Tensor) or values.shape != t.shape:
                shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
                raise ValueError(f"{name} must return a tensor of the shape of t, {tuple(t.shape)}, got {shape}")
            if not values.isfinite().all() or (values < -1e-12).any() or (sign * values.diff() < -1e-12).any():
                way = "rise" if sign > 0 else "fall"
                raise ValueError(f"{name} must be finite, not negative, and {way} from t = 0 (noise) to t = 1 (data)")

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """What the functions are there."""
        t = torch.tensor([0.0, 1.0], dtype=torch.float64)
        (a, c), (b, e) = self.alpha_of(t).tolist(), self.beta_of(t).tolist()
        return (a, b), (c, e)

    def alpha(self, t: Tensor) -> Tensor:
        """The first function."""
        return self.alpha_of(t)

    def beta(self, t: Tensor) -> Tensor:
        """The second function."""
        return self.beta_of(t)
