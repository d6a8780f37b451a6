"""The diffusion coefficient sigma_t of a sampling SDE: any choice has the same marginals.

Each gives sigma^2 from the coefficients of the path, so that one tied to beta vanishes with it, exactly.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, theorem 17
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pathline.arguments import number
from pathline.paths.schedules import Coefficients

LARGEST = 1e150  # whose square is still finite


class Sigma(ABC):
    """A diffusion coefficient as a function of time."""

    @abstractmethod
    def squared(self, t: Tensor, c: Coefficients) -> Tensor:
        """sigma^2 at times of shape `(n,)`, given the path's coefficients there."""


@dataclass(frozen=True)
class ConstantSigma(Sigma):
    """The same at all times.

    Raises:
        ValueError: If it is negative or not finite.
    """

    sigma: float

    def __post_init__(self) -> None:
        _check(self.sigma)

    def squared(self, t: Tensor, c: Coefficients) -> Tensor:
        """sigma^2."""
        return torch.full_like(t, self.sigma**2)


@dataclass(frozen=True)
class BetaSigma(Sigma):
    """Proportional to the noise that is left: sigma_t = scale beta_t.

    Raises:
        ValueError: If the scale is negative or not finite.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check(self.scale)

    def squared(self, t: Tensor, c: Coefficients) -> Tensor:
        """scale^2 beta^2."""
        return (self.scale * c.beta) ** 2


@dataclass(frozen=True)
class MemorylessSigma(Sigma):
    """The choice of DDPM: sigma^2 = 2 (beta^2 alpha'/alpha - beta beta'). The end of a path then forgets its start.

    Source: Domingo-Enrich et al. 2024, https://arxiv.org/abs/2409.08861, section 4
    """

    def squared(self, t: Tensor, c: Coefficients) -> Tensor:
        """2 (beta^2 alpha'/alpha - beta beta')."""
        return 2 * c.beta * (c.beta * c.alpha_dot / c.alpha - c.beta_dot)


@dataclass(frozen=True)
class FunctionSigma(Sigma):
    """Any function of time, from a tensor to one of its shape."""

    function: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(
                f"sigma must be a number, a Sigma or a function of time, not the function {self.function!r}"
            )

    def squared(self, t: Tensor, c: Coefficients) -> Tensor:
        """The square of the function's value.

        Raises:
            ValueError: If a value is negative, NaN, or not one for each time.
        """
        try:
            value = torch.as_tensor(self.function(t), dtype=t.dtype)
        except (RuntimeError, TypeError, ValueError):  # one with an `if`, or of `math`, takes one time at a time
            value = torch.stack([torch.as_tensor(self.function(time), dtype=t.dtype) for time in t])
        if value.ndim and value.shape != t.shape:
            raise ValueError(f"sigma must return one value for each time, {tuple(t.shape)}, got {tuple(value.shape)}")
        value = value.expand_as(t)
        if not (value >= 0).all():
            at = (~(value >= 0)).nonzero()[0, 0]
            raise ValueError(f"sigma must be 0 or more at every time, got {value[at]:g} at t = {t[at]:g}")
        large = value.isfinite() & ~(value <= LARGEST)
        if large.any():
            raise ValueError(
                f"sigma must be at most {LARGEST:g} where it is finite, got {value[large][0]:g} at t = "
                f"{t[large][0]:g}; its square overflows"
            )
        return value**2


def sigma_of(sigma: float | Callable[[Tensor], Tensor] | Sigma) -> Sigma:
    """A number, or a function of time, as a Sigma."""
    if isinstance(sigma, Sigma):
        return sigma
    return FunctionSigma(sigma) if callable(sigma) else ConstantSigma(number("sigma", sigma))


def _check(sigma: float) -> None:
    if not (sigma >= 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma must be a finite number, 0 or more, got {sigma}; it scales the noise of the SDE")
    if sigma > LARGEST:
        raise ValueError(f"sigma must be at most {LARGEST:g}, got {sigma}; its square is not finite")
