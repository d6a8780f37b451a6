"""Equations of motion, each with its exact moments where they are known.

    ODE                  dx = u(x, t) dt                       flow d/dt psi_t = u(psi_t, t)
    SDE                  dX = u(X, t) dt + sigma(X, t) dW
    linear ODE           dx = -theta x dt                      x_t = exp(-theta t) x_0
    Brownian motion      dX = sigma dW                         N(x_0, sigma^2 t)
    Ornstein-Uhlenbeck   dX = -theta X dt + sigma dW           N(k x_0, sigma^2 (1 - k^2) / (2 theta)), k = e^(-theta t)
    Langevin             dX = sigma^2/2 score(X) dt + sigma dW keeps the density of that score

Ornstein-Uhlenbeck is the Langevin process of a normal density, that of variance sigma^2 / (2 theta).

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, section 2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import torch
from torch import Tensor

from pathline.arguments import described, function, number
from pathline.tensors import Time, meet, time_of

FieldFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Moments:
    """Mean, of the shape of the start, and variance of each coordinate."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class ODE:
    """dx = velocity(x, t) dt, for any function of points and a time.

    Raises:
        ValueError: If the velocity is no function.
    """

    velocity: FieldFunction

    def __post_init__(self) -> None:
        function("velocity", self.velocity, "(x, t)")

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity."""
        return self.velocity(x, time_of(x, t))


@dataclass(frozen=True)
class SDE:
    """dX = drift_of(X, t) dt + sigma(X, t) dW, of two functions.

    Args:
        drift: Of points of shape `(batch, *shape)` and a time: a tensor of their shape.
        diffusion: A number, or a function that returns one or a tensor: of shape `()`, `(batch,)` (one number for each
            sample, also where a point has as many numbers as the batch has samples) or that of the points (one for each
            of their numbers).

    Raises:
        ValueError: If an argument is something else, or the diffusion is a negative number. Solvers refuse what a
            function returns in another shape.
    """

    drift_of: FieldFunction
    diffusion_of: Callable[[Tensor, Tensor], Tensor | float] | float

    def __init__(self, drift: FieldFunction, diffusion: Callable[[Tensor, Tensor], Tensor | float] | float) -> None:
        function("drift", drift, "(x, t)")
        if not callable(diffusion):
            _not_negative("diffusion", diffusion)
        object.__setattr__(self, "drift_of", drift)
        object.__setattr__(self, "diffusion_of", diffusion)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """The drift."""
        return self.drift_of(x, time_of(x, t))

    def diffusion(self, x: Tensor, t: Tensor) -> Tensor | float:
        """What multiplies the noise."""
        return self.diffusion_of(x, time_of(x, t)) if callable(self.diffusion_of) else self.diffusion_of


@dataclass(frozen=True)
class LinearODE:
    """dx = -theta x dt: exponential decay, the first example of the course."""

    theta: float = 1.0

    def __post_init__(self) -> None:
        number("theta", self.theta)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """-theta x."""
        return -self.theta * x

    def flow(self, x: Tensor, time: Time) -> Tensor:
        """Where the flow takes `x` in a time of shape `()` or `(batch,)`: exp(-theta time) x, in the precision of x."""
        return x * _each((-self.theta * time_of(x, time)).exp(), x)


@dataclass(frozen=True)
class BrownianMotion:
    """dX = sigma dW."""

    sigma: float = 1.0

    def __post_init__(self) -> None:
        _not_negative("sigma", self.sigma)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """Nothing."""
        return torch.zeros_like(x)

    def diffusion(self, x: Tensor, t: Tensor) -> float:
        """Sigma."""
        return self.sigma

    def moments(self, x: Tensor, time: Time) -> Moments:
        """The law after a time, of shape `()` or `(batch,)`, of a process that began at `x`: N(x, sigma^2 time)."""
        return Moments(x, _each(self.sigma**2 * time_of(x, time), x).expand_as(x))


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """dX = -theta X dt + sigma dW, drawn to 0: it settles at N(0, sigma^2 / (2 theta)).

    Raises:
        ValueError: If theta is not positive or sigma is negative.
    """

    theta: float = 1.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        _not_negative("sigma", self.sigma)
        if not self.theta > 0:
            raise ValueError(f"theta must be positive, got {self.theta}; BrownianMotion(sigma) has none")

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """-theta x."""
        return -self.theta * x

    def diffusion(self, x: Tensor, t: Tensor) -> float:
        """Sigma."""
        return self.sigma

    def moments(self, x: Tensor, time: Time) -> Moments:
        """The law after a time, of shape `()` or `(batch,)`, of a process that began at `x`."""
        t = time_of(x, time)
        spread = -(self.sigma**2) * torch.expm1(-2 * self.theta * t) / (2 * self.theta)
        return Moments(x * _each((-self.theta * t).exp(), x), _each(spread, x).expand_as(x))


@dataclass(frozen=True)
class Langevin:
    """dX = sigma^2/2 score(X, t) dt + sigma dW, which leaves the score's density as it is.

    From elsewhere it converges to that density, but crosses between far modes only in a time exponential in
    their distance.

    Raises:
        ValueError: If sigma is negative.
    """

    score: FieldFunction
    sigma: float = 1.0

    def __post_init__(self) -> None:
        _not_negative("sigma", self.sigma)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """sigma^2/2 score."""
        return self.sigma**2 / 2 * self.score(x, time_of(x, t))

    def diffusion(self, x: Tensor, t: Tensor) -> float:
        """Sigma."""
        return self.sigma


def _each(factor: Tensor, x: Tensor) -> Tensor:
    """A function of time, fit to multiply points."""
    return meet(factor, x).to(x.dtype)


def _not_negative(name: str, value: Any) -> None:
    if not isinstance(value, Real | Tensor):
        raise ValueError(f"{name} must be a number, got {described(value)}")
    if not (torch.as_tensor(value) >= 0).all():
        raise ValueError(f"{name} must be 0 or more, got {value}; it scales the noise, whose sign means nothing")
