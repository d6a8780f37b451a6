"""Predictor and corrector: after each step of a sampler, Langevin steps at the time that it reached.

    x += step score(x, s) + sqrt(2 step) normal,   step = 2 (ratio beta_s)^2

Langevin dynamics keeps the density of its score, so a corrector leaves the marginals as they are, and pulls points that
a long step left astray back to them. The step has a given ratio of signal |step score| to noise |sqrt(2 step) normal|,
with the norms that score and normal have where data stands still, sqrt(d)/beta and sqrt(d). Norms of the points
themselves would tie the samples of a batch together if they were averaged, and bend the density if they were not.

Source: Song et al. 2021, https://arxiv.org/abs/2011.13456, algorithms 2 to 5
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.noise import Noise, fresh_seed
from pathline.paths.predictions import SCORE
from pathline.sampling.adaptive import AdaptiveSampler
from pathline.sampling.churn import ChurnSampler
from pathline.sampling.dynamics import Reading, Term, no_gradient, read_along
from pathline.sampling.exponential import ExponentialSDE
from pathline.sampling.grids import UNIFORM, Grid
from pathline.sampling.renewal import gaussian_only
from pathline.sampling.sampler import Sampler, path_grid
from pathline.sampling.samplers import DDIM, ODESampler, SDESampler
from pathline.solvers.brownian import BrownianPath
from pathline.solvers.solver import Source

CORRECTOR_STREAM = 1 << 18  # apart from what the predictor draws
STEPPED = ODESampler | SDESampler | ExponentialSDE | DDIM | ChurnSampler  # their walks go on from what is sent to them


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """Any sampler, and `corrections` Langevin steps after each of its steps, where the score is finite.

    Samplers that step by a solver go on from the corrected points. Any other takes one step at a time: a multistep
    method, which remembers earlier values, begins anew with each.

    Attributes:
        sampler: The predictor.
        corrections: Calls of the field after each of its steps.
        ratio: Of signal to noise, which sets the corrector's step.
        length: A fixed step in its place.

    Raises:
        ValueError: If there are no corrections, or the ratio or the length is not positive.
    """

    sampler: Sampler = field(default_factory=DDIM)
    corrections: int = 1
    ratio: float = 0.16
    length: float | None = None
    grid: Grid = UNIFORM

    def __post_init__(self) -> None:
        if self.corrections < 1:
            raise ValueError(f"corrections must be at least 1, got {self.corrections}; the sampler alone has none")
        for name, value in (("ratio", self.ratio), ("length", self.length)):
            if (value is None and name == "ratio") or (value is not None and not 0 < value < math.inf):
                raise ValueError(f"{name} must be positive and finite, got {value}")

    @property
    def nodes(self) -> tuple[float, ...]:  # type: ignore[override]
        """Those of the sampler, and the end of its step for each correction."""
        return (*self.sampler.nodes, *(1.0,) * self.corrections)

    def times(self, field: Field, steps: int | None = None, evaluations: int | None = None) -> Tensor:
        """Its grid from noise to data with this many steps, or at most this many calls of the field.

        Raises:
            ValueError: Unless exactly one is given, and settles the grid: no evaluations where the sampler is adaptive.
        """
        if evaluations is not None and isinstance(self.sampler, AdaptiveSampler):
            self.sampler.times(field, evaluations=evaluations)
        return super().times(field, steps, evaluations)

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Iterator[Tensor]:
        """The corrected points at `times`.

        Raises:
            ValueError: If the path is a bridge.
        """
        times = path_grid(times)
        no_gradient(times)
        gaussian_only(field)
        readings = read_along(field, x, times, Term(SCORE))
        lengths = 2 * (self.ratio * field.path.schedule.beta(times)) ** 2
        if self.length is not None:
            lengths = torch.full_like(lengths, self.length)
        return self._walk(field, x, times, list(zip(readings, lengths.tolist(), strict=True)), noise)

    def _walk(
        self, field: Field, x: Tensor, times: Tensor, corrector: list[tuple[Reading, float]], noise: Source | None
    ) -> Iterator[Tensor]:
        yield x
        noise = noise or Noise(fresh_seed())
        own = noise.noise if isinstance(noise, BrownianPath) else noise
        own = own.of(own.stream + CORRECTOR_STREAM)
        running = None
        if isinstance(self.sampler, STEPPED):
            running = self.sampler.walk(field, x, times, noise)
            next(running)
        for k, step in enumerate(pairwise(times.unbind())):
            if running:
                x = running.send(x)
            else:
                later = noise if isinstance(noise, BrownianPath) else noise.after(k)
                *_, x = self.sampler.walk(field, x, torch.stack(step), later)  # type: ignore[arg-type]
            score, length = corrector[k + 1]
            if not score.is_singular and length:
                for draw in range(k * self.corrections, (k + 1) * self.corrections):
                    drift = score(x, field.values(x, score.t))
                    x = x + length * drift + (2 * length) ** 0.5 * own.like(x, draw)
            yield x
        if running:
            next(running, None)  # which may have a warning to give
