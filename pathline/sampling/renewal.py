"""The renewal step: a point taken apart into data and noise, and put together again elsewhere with some fresh noise.

    x_s = alpha_s data + beta_s (kept noise + sqrt(1 - kept^2) fresh),   kept = exp(-integral of sigma^2 / (2 beta^2))

with data and noise read at t, or, where t itself is the singular end, at s. That is exact for every SDE of a field
whose data stands still, as the noise of a point is then an Ornstein-Uhlenbeck process. With sigma = 0 it is the DDIM
step; with the memoryless sigma, kept is the ratio of alpha/beta and the step is DDPM's.

Data and noise are those of the flow, from the velocity head where there is one. What sigma renews is the noise of the
score head, which differs from that by the gap (`sampling.dynamics`): x_s gets beta_s (1 - kept) gap in addition, and
the drift is velocity head + sigma^2/2 score head for small steps.

Source: Song et al. 2021, https://arxiv.org/abs/2010.02502, equations 12 and 16 (DDIM)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from pathline.fields.field import Field
from pathline.paths.bridge import BridgePath
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY
from pathline.sampling.dynamics import Reading, Term, field_heads, is_two_headed, no_gradient, read_along
from pathline.solvers.solver import Draw, Solver


class Parts(NamedTuple):
    """How the data and the noise of a point are read from a field at one time, from one call of it."""

    alpha: float
    beta: float
    data: Reading
    noise: Reading
    gap: Reading | None = None
    is_coarse: bool = False

    @property
    def is_singular(self) -> bool:
        """Whether the point does not settle both, or only to within too coarse a rounding."""
        return self.data.is_singular or self.noise.is_singular or self.is_coarse

    def read(self, x: Tensor, values: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Data and noise of the flow, and the gap where two heads tell of one."""
        gap = None if self.gap is None or self.gap.is_singular else self.gap(x, values)
        return self.data(x, values), self.noise(x, values), gap


class Renewal(Solver):
    """The steps along `times`, each with the share of the noise that it keeps."""

    nodes = (0.0,)
    is_stochastic = True

    def __init__(self, field: Field, x: Tensor, times: Tensor, kept: Tensor) -> None:
        no_gradient(times)
        if field.path != BridgePath() or bool((kept < 1).any()):
            gaussian_only(field)
        self.field = field
        self.kept = dict(zip(times.tolist(), kept.tolist(), strict=False))
        data, noise = (read_along(field, x, times, Term(kind, of=VELOCITY)) for kind in (DATA, NOISE))
        gaps: list[Reading] | list[None] = [None] * len(times)
        if bool((kept < 1).any()) and is_two_headed(field):
            gaps = read_along(field, x, times, Term(NOISE, of=VELOCITY), Term(NOISE, -1.0, of=SCORE))
        scales = (field.path.schedule.alpha(times).tolist(), field.path.schedule.beta(times).tolist())
        spans = times.diff().abs().tolist()
        coarse = [
            any(reading.is_coarse(x, t, span) for reading in pair)
            for *pair, t, span in zip(data, noise, times.tolist(), (*spans, spans[-1]), strict=True)
        ]
        rows = zip(times.tolist(), *scales, data, noise, gaps, coarse, strict=True)
        self.parts = {t: Parts(*row) for t, *row in rows}

    def check(self, process: Any, times: Tensor) -> None:
        """Either way will do."""

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The point at s, of its data and its renewed noise."""
        a, b = self.parts[float(t)], self.parts[float(s)]
        kept = self.kept[float(t)]
        if not a.is_singular:
            values = self.field.values(x, a.data.t)
            data, old, gap = a.read(x, values)
            return renewed(b, kept, data, old, noise, gap)
        if (b.data.is_singular or not b.beta) if a.alpha < a.beta else (b.noise.is_singular or not b.alpha):
            raise ValueError(
                f"data and noise cannot be told apart between t = {float(t):g} and {float(s):g} from the "
                f"{field_heads(self.field)} of this field on {self.field.path}; take more steps"
            )
        if a.alpha < a.beta:  # pure noise, which is known: the data is read at s
            part = renewed(b, kept, None, x / a.beta, noise)
            return b.alpha * b.data(part, self.field.values(part, b.data.t)) + part
        part = b.alpha / a.alpha * x  # pure data, which is known: the noise is fresh, or read at s
        if kept == 0:
            return part + b.beta * noise(x)
        return part + renewed(b, kept, None, b.noise(part, self.field.values(part, b.noise.t)), noise)


def renewed(to: Parts, kept: float, data: Tensor | None, old: Tensor, noise: Draw, gap: Tensor | None = None) -> Tensor:
    """The point of this data, or of none, and of noise of which this share is kept."""
    part = old if kept == 1 or to.beta == 0 else kept * old + (1 - kept**2) ** 0.5 * noise(old)
    if gap is not None:
        part = part + (1 - kept) * gap
    return to.beta * part if data is None else to.alpha * data + to.beta * part


def gaussian_only(field: Field) -> None:
    """Refuse a path without noise to renew.

    Raises:
        ValueError: If it is a bridge.
    """
    if not field.path.is_gaussian:
        raise ValueError(
            f"a renewal of noise needs a Gaussian path, and this is {field.path}: there is none in what it begins "
            "at; use ODESampler, with a velocity head, or SDESampler with times where its score is finite"
        )
