"""Schedules of models from elsewhere: a table of discrete steps, EDM's unscaled data, and data that comes in evenly.

A model with N steps was trained at k = 0 .. N - 1 only, step k holding alpha_k^2 = alphas_cumprod[k] of data,

    step k is at t = 1 - (k + 1) / N,   pure data (alpha = 1) at t = 1

Between them 1 - alpha follows a cubic that is monotone wherever the table is, with a continuous slope, and
beta^2 = (1 - alpha)(1 + alpha) has no cancellation near data.

Source: Fritsch & Carlson 1980, https://doi.org/10.1137/0717021 (monotone cubic interpolation)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from pathline.paths.schedules import Schedule
from pathline.tensors import exact, wide

SNAP = 2.0  # roundings of t, times the number of steps: a time that near a step is the step


@dataclass(frozen=True, init=False, repr=False)
class DiscreteSchedule(Schedule):
    """The schedule of a model with discrete steps, with alpha^2 + beta^2 = 1.

    At the steps it is the table; between them, an interpolation. A table that ends above 0 leaves some data at noise;
    one that ends at 0 (zero terminal SNR) does not.

    Raises:
        ValueError: Unless alphas_cumprod are at least two numbers below 1 that fall strictly, none below 0.
    """

    alphas_cumprod: tuple[float, ...]

    def __init__(self, alphas_cumprod: Sequence[float] | Tensor) -> None:
        bars = exact(alphas_cumprod).detach().to("cpu", torch.float64)
        if bars.ndim != 1 or len(bars) < 2 or not (bars < 1).all() or not (bars >= 0).all() or (bars.diff() >= 0).any():
            shown = f"{bars.flatten()[0]:g} ... {bars.flatten()[-1]:g}" if bars.numel() else "none"
            raise ValueError(
                "alphas_cumprod must be a row of at least two numbers that fall strictly from below 1 (step 0) to 0 or "
                f"above, got shape {tuple(bars.shape)}, {shown}; pass scheduler.alphas_cumprod, or its flip(0)"
            )
        object.__setattr__(self, "alphas_cumprod", tuple(bars.tolist()))
        lost = torch.cat((bars.new_zeros(1), (1 - bars) / (1 + bars.sqrt()))).numpy()  # 1 - alpha, from data on
        k = np.arange(len(lost))
        slope = PchipInterpolator(k, lost).derivative()(k)
        rise = np.diff(lost, append=lost[-1])
        ends, inner = [0, -1], rise[[0, -2]]
        slope[ends] = np.where(slope[ends] > 0, slope[ends], inner)  # with alpha' = 0 at data, beta' would be 0 / 0
        after = np.append(slope[1:], slope[-1])
        rows = (lost, slope, 3 * rise - 2 * slope - after, slope + after - 2 * rise)
        table = torch.from_numpy(np.stack(rows))
        table[2:, -1] = 0  # beyond the last step there is no cubic
        object.__setattr__(self, "_table", table)

    def __repr__(self) -> str:
        return f"DiscreteSchedule({self.steps} steps, alpha from {self.ends[0][0]:.3g})"

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.alphas_cumprod)

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """What the last step leaves of data, and pure data."""
        last = self.alphas_cumprod[-1]
        return (math.sqrt(last), math.sqrt(1 - last)), (1.0, 0.0)

    def timestep(self, t: Tensor) -> Tensor:
        """The step at a time: a whole number at the steps, to the last bit, and a fraction between; -1 at pure data."""
        k = self.steps * (1 - t) - 1
        near = k.detach().round() - k.detach()
        return k + torch.where(near.abs() <= SNAP * self.steps * torch.finfo(k.dtype).eps, near, torch.zeros_like(k))

    def time_of_step(self, k: Tensor | float) -> Tensor:
        """The time of a step, in float64."""
        return 1 - (torch.as_tensor(k, dtype=torch.float64) + 1) / self.steps

    def alpha(self, t: Tensor) -> Tensor:
        """The square root of the cumulative product."""
        return _like(1 - self._lost(t)[0], t)

    def beta(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2), without the cancellation near data."""
        lost, _ = self._lost(t)
        return _like((lost * (2 - lost)).sqrt(), t)

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha', -alpha alpha' / beta), the second infinite at data."""
        lost, alpha_dot = self._lost(t)
        return _like(alpha_dot, t), _like(-(1 - lost) * alpha_dot / (lost * (2 - lost)).sqrt(), t)

    def variance_slope(self, t: Tensor) -> Tensor:
        """-2 alpha alpha'."""
        lost, alpha_dot = self._lost(t)
        return _like(-2 * (1 - lost) * alpha_dot, t)

    def _lost(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 - alpha, and the slope of alpha in t, in float64."""
        k = self.steps * (1 - wide(t))
        cell = k.detach().floor().long().clamp(0, self.steps)
        a, b, c, d = self._table.to(k.device)[:, cell]  # type: ignore[attr-defined]
        s = k - cell
        return a + s * (b + s * (c + s * d)), self.steps * (b + s * (2 * c + s * (3 * d)))


def _like(value: Tensor, t: Tensor) -> Tensor:
    return value.to(t.dtype).to(t.device)


@dataclass(frozen=True)
class EDMSchedule(Schedule):
    """Unscaled data under noise that falls evenly: alpha = 1, beta = sigma_max (1 - t).

    A step in t is a step in the noise level, so that a solver's steps here are those of EDM's own samplers.

    Source: Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1

    Raises:
        ValueError: Unless sigma_max is positive.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_max < math.inf:
            raise ValueError(f"sigma_max must be positive and finite, got {self.sigma_max}; it is the noise at t = 0")

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(1, sigma_max) and (1, 0)."""
        return (1.0, self.sigma_max), (1.0, 0.0)

    def alpha(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def beta(self, t: Tensor) -> Tensor:
        """sigma_max (1 - t)."""
        return self.sigma_max * (1 - t)

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """0 and -sigma_max."""
        return torch.zeros_like(t), torch.full_like(t, -self.sigma_max)


@dataclass(frozen=True)
class StraightVariancePreservingSchedule(Schedule):
    """Data that comes in evenly, with alpha^2 + beta^2 = 1: alpha = t, beta = sqrt(1 - t^2)."""

    def alpha(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def beta(self, t: Tensor) -> Tensor:
        """sqrt(1 - t^2), without the cancellation near data."""
        return ((1 - t) * (1 + t)).sqrt()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 and -t / beta, infinite at data."""
        return torch.ones_like(t), -t / self.beta(t)

    def variance_slope(self, t: Tensor) -> Tensor:
        """-2 t."""
        return -2 * t
