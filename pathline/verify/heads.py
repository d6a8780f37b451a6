"""Law 30: of two heads that disagree, a flow follows one, and an SDE both.

Around one normal both heads are linear in x, so with errors that are constant or proportional to x

    drift = a_t x + b_t,   d mean/dt = a mean + b,   d variance/dt = 2 a variance + sigma^2

are the moments of the SDE of both heads, whatever the errors are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pathline.data.distributions import Normal
from pathline.fields.exact import MixtureField
from pathline.fields.field import Field
from pathline.likelihood.log_prob import log_prob
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import SCORE, VELOCITY, Prediction
from pathline.paths.schedules import LinearSchedule
from pathline.sampling.adaptive import AdaptiveSampler
from pathline.sampling.churn import ChurnSampler
from pathline.sampling.exponential import ExponentialSDE
from pathline.sampling.multistep import GeneralSampler, Multistep
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import DDIM, ODESampler, SDESampler
from pathline.verify.parts import points
from pathline.verify.table import Figure, law, worst_of

COUNT, STEPS, START = 10_000, 120, 0.1
MEAN, VARIANCE = 0.7, 0.25
ORDERS = ((VELOCITY, SCORE), (SCORE, VELOCITY))


class Disagreeing(Field):
    """The exact heads of N(0.7, 0.25) in one dimension, each with an error: a constant, and a multiple of itself."""

    def __init__(self, prediction: Any = (VELOCITY, SCORE)) -> None:
        super().__init__()
        self.path = GaussianPath(LinearSchedule())
        self.prediction = prediction
        self.exact = MixtureField(Normal(torch.tensor([MEAN]).double(), torch.tensor([VARIANCE]).double()), self.path)

    def head(self, kind: Prediction, x: Tensor, t: Any) -> Tensor:
        """The value of one head."""
        value: Tensor = self.exact.read(x, t, kind)
        return value + 0.4 if kind == VELOCITY else 1.2 * value - 0.8

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The values of the heads."""
        values = tuple(self.head(kind, x, t) for kind in self.heads)
        return values if isinstance(self.prediction, tuple) else values[0]


def moments(field: Disagreeing, squared: Callable[[Tensor], Tensor], count: int = 3000) -> tuple[float, float]:
    """The mean and the variance at t = 1 of the SDE of both heads from p_0.1, without noise in its last step."""
    h = (1 - START) / count
    t = START + (torch.arange(count, dtype=torch.float64) + 0.5) * h
    sigma = squared(t)
    low, high = (
        field.head(VELOCITY, x, t) + sigma[:, None] / 2 * field.head(SCORE, x, t)
        for x in (torch.zeros(count, 1, dtype=torch.float64), torch.ones(count, 1, dtype=torch.float64))
    )
    noise = torch.where(t < 1 - (1 - START) / STEPS, sigma, 0.0)
    mean, variance = START * MEAN, START**2 * VARIANCE + (1 - START) ** 2
    for a, b, s in zip((high - low)[:, 0].tolist(), low[:, 0].tolist(), noise.tolist(), strict=True):
        mean += h * (a * (mean + h / 2 * (a * mean + b)) + b)  # the midpoint rule: far nearer than samples are
        variance += h * (2 * a * (variance + h / 2 * (2 * a * variance + s)) + s)
    return mean, variance


def _flows() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [
        ("heun", (ODESampler(),)),
        ("ddim", (DDIM(),)),
        ("adams", (GeneralSampler(),)),
        ("dpm", (Multistep.dpm(),)),
        ("deis", (Multistep.deis(),)),
        ("exponential", (ExponentialSDE(0.0),)),
        ("adaptive", (AdaptiveSampler(),)),
    ]


@law(30, _flows, seconds=0.1)
def a_flow_follows_the_velocity_head(sampler: Sampler) -> Iterator[Figure]:
    """What draws nothing goes as with the velocity head alone, up and down, and so does the log-density."""
    alone, x = Disagreeing(VELOCITY), points(50, 1)
    times = sampler.times(alone, 12)
    worst = 0.0
    for heads in ORDERS:
        for way in (times, times.flip(0)):
            *_, single = sampler.walk(alone, x, way)
            *_, double = sampler.walk(Disagreeing(heads), x, way)
            worst = worst_of(worst, float((single - double).abs().max()))
        apart = log_prob(alone, x, steps=12) - log_prob(Disagreeing(heads), x, steps=12)
        worst = worst_of(worst, float(apart.abs().max()))
    yield Figure("difference", worst, 1e-12)


def _level(t: Tensor) -> Tensor:
    return torch.where((1 - t) / t >= 0.05, 2 * 0.75 / (1 - START) * (1 - t) ** 2, 0.0)


def _diffusions() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [
        ("euler-maruyama", (SDESampler(1.0), torch.ones_like)),
        ("euler-maruyama sigma=3", (SDESampler(3.0), lambda t: 9 * torch.ones_like(t))),
        ("exponential", (ExponentialSDE(1.0), torch.ones_like)),
        ("ddim", (DDIM(1.0), lambda t: 2 * (1 - t) / t)),
        ("ddim eta=0.5", (DDIM(0.5), lambda t: 0.25 * 2 * (1 - t) / t)),
        ("churn", (ChurnSampler(churn=0.75), _level)),
    ]


@law(30, _diffusions, seconds=0.5)
def an_sde_follows_both_heads(sampler: Sampler, squared: Callable[[Tensor], Tensor]) -> Iterator[Figure]:
    """Samples have the moments of the SDE with drift velocity head + sigma^2/2 score head, whatever their order.

    The errors of the heads move the mean by 0.1 to 0.3 from what either would make alone.
    """
    times = torch.linspace(START, 1, STEPS + 1, dtype=torch.float64)
    start = START * MEAN + math.sqrt(START**2 * VARIANCE + (1 - START) ** 2) * points(COUNT, 1, seed=91)
    mean, variance = moments(Disagreeing(), squared)
    ends = []
    for heads in ORDERS:
        *_, end = sampler.walk(Disagreeing(heads), start, times, Noise(92))
        ends.append(end)
    yield Figure("difference of the orders", float((ends[0] - ends[1]).abs().max()), 1e-9)
    # five standard errors, and the bias of 120 steps
    yield Figure("error of the mean", abs(float(ends[0].mean()) - mean), 5 * math.sqrt(variance / COUNT) + 0.008)
    yield Figure("variance ratio", float(ends[0].var()) / variance, 1.15, 1 / 1.15)
