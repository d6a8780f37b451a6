"""Laws of the discrete-step bound: 14, for it is what it says, on every path, and nears the density with more steps."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pathline.data.distributions import Normal
from pathline.fields.exact import MixtureField
from pathline.likelihood.bound import FINEST, elbo, information_grid
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE, VELOCITY
from pathline.paths.schedules import LinearSchedule, Schedule
from pathline.sampling.grids import bisected, share_of
from pathline.verify.parts import each_schedule, field, heads, mixture
from pathline.verify.table import Figure, law, once, worst_of

MEAN, VARIANCE = torch.tensor([[0.5, -1.0], [0.1, 2.0]], dtype=torch.float64)


def closed_form(schedule: Schedule, times: Tensor, x: Tensor) -> Tensor:
    """The bound of each point of a chain towards N(MEAN, VARIANCE), by the sum itself.

    With p = alpha^2 / beta^2, the guess of the data errs by (x - mean) / (1 + p v) - sqrt(p) v / (1 + p v) noise.
    """
    alpha, beta = schedule.alpha(times), schedule.beta(times)
    total = torch.zeros(len(x), dtype=x.dtype)
    for k in range(len(times)):
        p = (alpha[k] / beta[k]) ** 2
        squared = (((x - MEAN) ** 2 + p * VARIANCE**2) / (1 + p * VARIANCE) ** 2).sum(1)
        if k == len(times) - 1:
            total += p / 2 * squared + math.log(2 * math.pi / p)
        else:
            total += ((alpha[k + 1] / beta[k + 1]) ** 2 - p) / 2 * squared
    begin = torch.distributions.Normal(alpha[0] * x, beta[0])
    start = torch.distributions.Normal(torch.zeros_like(x), (alpha[0] ** 2 + beta[0] ** 2).sqrt())
    return -total - torch.distributions.kl_divergence(begin, start).sum(1)


def _at_ratios(schedule: Schedule, *ratios: float) -> Tensor:
    """The times of these values of alpha / beta."""
    ratio = torch.tensor(ratios, dtype=torch.float64)
    return bisected(lambda t: share_of(schedule, t) < ratio / (1 + ratio), torch.ones_like(ratio))[1]


@law(14, each_schedule)
def bound_has_its_closed_form(schedule: Schedule) -> Iterator[Figure]:
    """On a normal the bound is its closed form: of a whole chain, of one that begins late, and with steps drawn."""
    normal = Normal(MEAN, VARIANCE)
    x = normal.sample(100, seed=141)
    for k, head in enumerate((VELOCITY, NOISE)):
        exact = MixtureField(normal, GaussianPath(schedule), head)
        for name, times, draws in (
            ("whole", information_grid(exact, 4), 250),
            ("late", _at_ratios(schedule, 1.0, 3.0, 8.0), 250),
            ("drawn", torch.linspace(0.05, 0.95, 60, dtype=torch.float64), 40),
        ):
            value, error = elbo(exact, x, steps=times, draws=draws, seed=142 + k)
            z = (value - closed_form(schedule, times, x)).sum() / (error**2).sum().sqrt()
            yield Figure(f"z of the {name} chain, {head.name} head", float(z.abs()), 5.3)


@law(14, each_schedule)
def bound_is_the_same_on_every_path(schedule: Schedule) -> Iterator[Figure]:
    """With the same signal-to-noise ratios, every head on every schedule has the same bound, to rounding."""
    x, ratios = mixture().sample(20, seed=143), (0.02, 0.5, 1.0, 2.0, 5.0, 8.0)
    plain = elbo(field(head=DATA), x, steps=_at_ratios(LinearSchedule(), *ratios), draws=40, seed=144)
    worst = 0.0
    for head in heads().values():
        found = elbo(field(schedule, head), x, steps=_at_ratios(schedule, *ratios), draws=40, seed=144)
        for a, b in zip(plain, found, strict=True):
            worst = worst_of(worst, float((a - b).abs().max()))
    yield Figure("difference", worst, 1e-9)


@law(14, once, seconds=0.8)
def bound_tells_its_error() -> Iterator[Figure]:
    """An interval of 1.96 standard errors covers the true bound in 95 of 100 cases, with drawn steps or all of them."""
    normal, schedule = Normal(MEAN, VARIANCE), LinearSchedule()
    exact, x = MixtureField(normal, GaussianPath(schedule), DATA), normal.sample(4000, seed=145)
    for steps in (4, 1000):
        times = information_grid(exact, steps)
        value, error = elbo(exact, x, steps=times, draws=256, seed=146)
        covered = (value - closed_form(schedule, times, x)).abs() <= 1.96 * error
        yield Figure(f"coverage, {steps} steps", float(covered.double().mean()), 0.97, 0.92)


@law(14, once, seconds=2.0)
def bound_nears_the_density() -> Iterator[Figure]:
    """On the exact mixture the mean bound is below the mean log-density, by half as much with twice the steps."""
    exact, x = field(head=DATA), mixture().sample(4000, seed=147)
    gaps, errors = [], []
    for steps, draws in ((64, 256), (256, 256), (100_000, 128)):
        value, error = elbo(exact, x, steps=steps, draws=draws, seed=148 + steps)
        gaps.append(float((mixture().log_prob(x) - value).mean()))
        errors.append(float((error**2).sum().sqrt()) / len(x))
    yield Figure("order in the steps", math.log2(gaps[0] / gaps[1]) / 2 if min(gaps[:2]) > 0 else math.nan, 1.2, 0.9)
    predicted = math.log1p(FINEST**-2) ** 2 * x.shape[1] / (4 * 256)
    yield Figure("gap of 256 steps over L^2 d / (4 steps)", gaps[1] / predicted, 1.25, 0.8)
    yield Figure("gap of 100,000 steps, in standard errors", gaps[2] / errors[2], 4.6, -4.6)
