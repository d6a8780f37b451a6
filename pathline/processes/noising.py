"""The noising of data as a process, and the reversal of any process in time.

    noising    dX = -alpha'/alpha X ds + sigma dW,   sigma^2 = 2 (beta^2 alpha'/alpha - beta beta')

on a clock of its own, s = 1 - t, as it runs from data to noise: X_s given X_0 = data is the point of the Gaussian path
at t = 1 - s. With the variance-preserving schedule it is the forward process of DDPM.

    reversal   dY = (sigma^2 score(Y, end - r) - drift(Y, end - r)) dr + sigma dW,   Y_r ~ X_(end - r)

Source: Song et al. 2021, https://arxiv.org/abs/2011.13456, equations 5 and 6; Anderson 1982,
https://doi.org/10.1016/0304-4149(82)90051-5
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pathline.paths.schedules import Coefficients, Schedule
from pathline.processes.processes import FieldFunction, Moments
from pathline.solvers.solver import diffusion_at
from pathline.tensors import Time, meet, time_of


@dataclass(frozen=True)
class Noising:
    """Data that turns into noise along a schedule, from s = 0 (data) to s = 1 (noise).

    Near an end where nothing is left of the data, or where noise appears infinitely fast, its drift or its diffusion
    is infinite: begin and end inside.
    """

    schedule: Schedule

    def drift(self, x: Tensor, s: Tensor) -> Tensor:
        """-alpha'/alpha x."""
        c = self._at(x, s)
        return -c.alpha_dot / c.alpha * x

    def diffusion(self, x: Tensor, s: Tensor) -> Tensor:
        """sqrt(2 (beta^2 alpha'/alpha - beta beta'))."""
        c = self._at(x, s)
        half = meet(self.schedule.variance_slope(1 - time_of(x, s)), x).to(x.dtype) / 2
        return (2 * (c.beta**2 * c.alpha_dot / c.alpha - half)).sqrt()

    def moments(self, x: Tensor, time: Time) -> Moments:
        """The law at s = time of what was `x` at s = 0: N(alpha x, beta^2), less what noise there was at first."""
        now, before = (self._at(x, s) for s in (time, 0.0))
        kept = now.alpha / before.alpha
        return Moments(kept * x, (now.beta**2 - (kept * before.beta) ** 2).expand_as(x))

    def _at(self, x: Tensor, s: Time) -> Coefficients:
        return self.schedule.at(1 - time_of(x, s), x)


@dataclass(frozen=True)
class TimeReversal:
    """A process run backwards, from its law at `end` to its law at 0.

    Args:
        process: Any with a drift and a diffusion that depends on time only.
        score: The gradient of the log-density of the process at a time of its own clock.
        end: When, on that clock, the reversal begins.
    """

    process: Any
    score: FieldFunction
    end: float = 1.0

    def drift(self, x: Tensor, r: Tensor) -> Tensor:
        """sigma^2 score - drift, at the time end - r."""
        s = self.end - time_of(x, r)
        return diffusion_at(self.process, x, s) ** 2 * self.score(x, s) - self.process.drift(x, s)  # type: ignore[no-any-return]

    def diffusion(self, x: Tensor, r: Tensor) -> Any:
        """That of the process at the time end - r."""
        return self.process.diffusion(x, self.end - time_of(x, r))
