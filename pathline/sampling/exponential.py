"""Exponential steps: exact for the SDE of data that is one normal cloud, however large sigma and long the step.

Around a cloud N(centre, spread) a point is x = alpha centre + sqrt(v) u with v = alpha^2 spread + beta^2, and every SDE
with the marginals of the path makes an Ornstein-Uhlenbeck process of u:

    x_s = alpha_s centre + sqrt(v_s) (kept u + sqrt(1 - kept^2) fresh),   kept = exp(-integral of sigma^2 / (2 v))

The expected data follows its own score, data = centre + spread pull with pull = (alpha/beta) noise, so two steps of a
sample tell its spread, and what is left of the change moves the centre, in the clock of the linear path alpha/(alpha +
beta), whatever the schedule:

    spread = <change of data, change of pull> / |change of pull|^2,   centre += 1/2 (next span / last span) change

Order 1 takes all spread for 0 and every centre for still: the renewal step of DDIM and DDPM.

Two heads, of velocity and score, disagree by a gap (`sampling.dynamics`). Data and noise above are then between what
either says, data = (beta data_velocity + alpha data_score) / (alpha + beta), as neither tells it well at both ends, and

    x_s += ((alpha beta_s - alpha_s beta) + (1 - kept) sqrt(v v_s)) gap / (alpha + beta)

so that the drift is velocity head + sigma^2/2 score head. A step to pure data is the mean of that drift,

    x_1 = alpha_1 data_velocity + min(h sigma^2/2, sqrt(v v_1)) score,   which is x + h drift on the linear path

where the minimum keeps a long step from going beyond the centre that the score points to.

Source: the centre's line is that of Lu et al. 2022, https://arxiv.org/abs/2211.01095, algorithm 2, with noise as in
Xue et al. 2023, https://arxiv.org/abs/2305.14267; the exact step around a normal, and the spread measured, are our own
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.sampling.dynamics import FieldDiffusion
from pathline.sampling.grids import UNIFORM, Grid
from pathline.sampling.renewal import Parts, Renewal, gaussian_only, renewed
from pathline.sampling.sampler import Sampler, path_grid
from pathline.sampling.sigmas import Sigma, sigma_of
from pathline.solvers.solver import Draw, Running, Solver, Source, advance
from pathline.tensors import is_eager, meet

# the largest spread that is believed, of data of unit size: beyond it float32 loses the centre, and little is renewed
WIDEST = 100.0


@dataclass(frozen=True)
class ExponentialSDE(Sampler):
    """Along an SDE with any diffusion `sigma`, a number, a function of time or a Sigma, in steps that it cannot outrun.

    One call of the field a step. Order 2 follows data that moves with the point, so its marginals hold in few steps
    and for any sigma, nearly so where the spread of data differs by its direction; order 1 takes data for still:
    without noise it is DDIM, with the memoryless sigma DDPM.

    Raises:
        ValueError: If sigma is negative, or the order is neither 1 nor 2.
    """

    sigma: float | Callable[[Tensor], Tensor] | Sigma
    order: int = 2
    grid: Grid = UNIFORM
    nodes = (0.0,)

    def __post_init__(self) -> None:
        sigma_of(self.sigma)
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 (still data) or 2 (data that moves with the point), got {self.order}")

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Running:
        """The points of one path of the SDE at `times`; downwards it is the time reversal.

        Raises:
            ValueError: If the path is a bridge, which has no noise to renew, unless sigma is 0.
        """
        times = path_grid(times)
        process = FieldDiffusion(field, sigma_of(self.sigma), is_backward=bool(times[-1] < times[0]))
        if not field.path.is_gaussian and any(process.diffusion(x, t) for t in times):
            gaussian_only(field)
        return advance(process, Exponential(process, x, times, self.order), x, times, noise)


class _Seen(NamedTuple):
    """What a step read of its points: their expected data, and what pulls it; `clock` is alpha / (alpha + beta)."""

    clock: float
    data: Tensor
    pull: Tensor


class Exponential(Solver):
    """The steps along a grid. It remembers what its last step read, so each walk has its own.

    Attributes:
        decays: For each step nearer to data than to noise, its times and how often over it renews the spread of the
            points: the median of their integrals of sigma^2 / (2 v), NaN where no point tells of a spread.
    """

    nodes = (0.0,)
    is_stochastic = True

    def __init__(self, process: FieldDiffusion, x: Tensor, times: Tensor, order: int = 2) -> None:
        decay = process.decay(times)
        self.renewal = Renewal(process.field, x, times, (-decay.of_still_data).exp())
        self.order = order if process.field.path.is_gaussian else 1
        self.decays: list[tuple[float, float, Tensor]] = []
        rows = (part.to(x.device, torch.promote_types(x.dtype, torch.float32)).unbind() for part in decay)
        self._rows = dict(zip(times[:-1].tolist(), zip(*rows, strict=True), strict=True))
        self._random = frozenset(times[:-1][decay.half.any(1)].tolist())
        self._last: _Seen | None = None
        self.scale = process.field.path.scale or 1.0

    def check(self, process: Any, times: Tensor) -> None:
        """Either way will do."""

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The point at s; the first step, and one from an end that settles nothing, takes data for still."""
        start, stop = float(t), float(s)
        a, b = self.renewal.parts[start], self.renewal.parts[stop]
        if self.order == 1 or a.is_singular or a.beta == 0:
            self._last = None
            return self.renewal.step(process, x, t, s, noise)
        values = self.renewal.field.values(x, a.data.t)
        data, old, gap = a.read(x, values)
        now, last = _seen(a, data, old, gap), self._last
        self._last = now
        is_mean = gap is not None and b.beta == 0 and start in self._random
        if last is None and not is_mean:
            return renewed(b, self.renewal.kept[start], data, old, noise, gap)

        slope = torch.ones(len(x)).to(x) if last is None else _slope(now.data - last.data, now.pull - last.pull)
        # between modes data goes against its pull: the drift there leads away, and has no centre to be kept from
        spread = _spread(slope.abs() if is_mean else slope, WIDEST * self.scale**2)
        half, alpha_squared, beta_squared = self._rows[start]
        decay = (half / (alpha_squared * spread[:, None] + beta_squared)).sum(1)
        if a.alpha > a.beta and last is not None and is_eager(decay):
            known = decay.detach().masked_fill(spread <= 0, math.nan)  # data that went against its pull tells of none
            self.decays.append((start, stop, known.nanmedian()))
        spread, decay = meet(spread, x).to(x.dtype), meet(decay, x).to(x.dtype)
        wide, width = ((scale.alpha**2 * spread + scale.beta**2).sqrt() for scale in (a, b))
        if last is None or is_mean:
            assert gap is not None  # is_mean
            pull = (wide * width).clamp(max=float((s - t).abs()) * float(process.diffusion(x, t)) ** 2 / 2)
            return b.alpha * data + pull * (gap - old) / a.beta
        centre, before = now.data - spread * now.pull, last.data - spread * last.pull
        span = (b.alpha / (b.alpha + b.beta) - now.clock) / (now.clock - last.clock)
        centre = torch.lerp(before, centre, 1 + span / 2)
        part = (-decay).exp() * (x - a.alpha * centre) / wide
        if start in self._random:
            part = part + (-torch.expm1(-2 * decay)).sqrt() * noise(x)
        if gap is None:
            return b.alpha * centre + width * part
        moved = a.alpha * b.beta - b.alpha * a.beta - torch.expm1(-decay) * wide * width
        return b.alpha * centre + width * part + moved / (a.alpha + a.beta) * gap


def _seen(a: Parts, data: Tensor, noise: Tensor, gap: Tensor | None) -> _Seen:
    """What is remembered of a point: data and noise of the flow, or between those that its two heads tell."""
    total = a.alpha + a.beta
    if gap is not None:
        data, noise = data + a.beta / total * gap, noise - a.alpha / total * gap
    return _Seen(a.alpha / total, data, a.alpha / a.beta * noise)


def _slope(data: Tensor, pull: Tensor) -> Tensor:
    """How far data moves with what pulls it, of shape `(batch,)`; NaN where nothing pulls."""
    real = torch.promote_types(data.dtype, torch.float32)
    data, pull = data.flatten(1).to(real), pull.flatten(1).to(real)
    return (data * pull).sum(1) / (pull * pull).sum(1)


def _spread(slope: Tensor, widest: float) -> Tensor:
    """The spread that is believed: not negative, and 0 where nothing pulls."""
    return slope.nan_to_num(0.0, widest, 0.0).clamp(0, widest)
