"""Laws of processes: 12."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from pathline.data.distributions import Normal
from pathline.noise import Noise
from pathline.paths.schedules import Schedule
from pathline.processes.noising import Noising, TimeReversal
from pathline.processes.processes import BrownianMotion, Langevin, OrnsteinUhlenbeck
from pathline.sampling.dynamics import diffusion_of, langevin_of
from pathline.sampling.sigmas import MemorylessSigma
from pathline.solvers.solver import walk
from pathline.solvers.stochastic import EulerMaruyama
from pathline.verify.parts import each_schedule, field, mixture, points
from pathline.verify.sampling import mode_figures
from pathline.verify.table import Figure, law, once, worst_of

COUNT = 40_000


@law(12, once, seconds=2.0)
def brownian_and_ou_have_their_moments() -> Iterator[Figure]:
    """Brownian motion and Ornstein-Uhlenbeck have their mean and variance at all times; Euler has its own limit."""
    x = torch.full((COUNT, 1), 1.5, dtype=torch.float64)
    times = torch.linspace(0, 3, 1201, dtype=torch.float64)
    worst = 0.0
    for process in (BrownianMotion(0.7), OrnsteinUhlenbeck(1.2, 0.9)):
        for k, state in enumerate(walk(process, EulerMaruyama(), x, times, Noise(31))):
            if k in (200, 600, 1200):
                law_of = process.moments(x[:1], float(times[k]))
                mean, variance = float(law_of.mean), float(law_of.variance)
                z_mean = (float(state.mean()) - mean) / math.sqrt(variance / COUNT)
                z_variance = (float(state.var()) / variance - 1) / math.sqrt(2 / COUNT)
                worst = worst_of(worst, abs(z_mean), abs(z_variance))
    yield Figure("largest z of 12", worst, 5.1)
    theta, sigma, h = 1.0, 1.0, 0.5
    coarse = torch.arange(41, dtype=torch.float64) * h
    *_, end = walk(OrnsteinUhlenbeck(theta, sigma), EulerMaruyama(), x, coarse, Noise(32))
    limit = sigma**2 / (2 * theta - theta**2 * h)
    yield Figure("z of Euler's limit", abs(float(end.var()) / limit - 1) / math.sqrt(2 / COUNT), 4.42)


@law(12, each_schedule)
def noising_and_its_reversal_are_one_path(schedule: Schedule) -> Iterator[Figure]:
    """Noising has the moments of the path, and its reversal is the path's SDE with the memoryless sigma."""
    noising, exact = Noising(schedule), field(schedule)
    reversal = TimeReversal(noising, lambda x, s: exact.score(x, 1 - s))
    forwards = diffusion_of(exact, MemorylessSigma())
    x, error, by_differences, h = points(100, seed=38), 0.0, 0.0, 1e-5
    for t in (0.1, 0.4, 0.8):
        time, s = torch.tensor(t, dtype=torch.float64), torch.tensor(1 - t, dtype=torch.float64)
        drift = forwards.drift(x, time)
        error = worst_of(error, float((reversal.drift(x, time) - drift).norm() / drift.norm()))
        error = worst_of(error, abs(float(reversal.diffusion(x, time)) / float(forwards.diffusion(x, time)) - 1))
        # the mean moves with the drift, the variance by 2 drift' variance + sigma^2
        before, now, after = (noising.moments(x, float(s) + step) for step in (-h, 0.0, h))
        squared = noising.diffusion(x, s) ** 2
        rates = (noising.drift(now.mean, s), 2 * noising.drift(now.variance, s) + squared)
        slopes = ((after.mean - before.mean) / (2 * h), (after.variance - before.variance) / (2 * h))
        for slope, rate in zip(slopes, rates, strict=True):
            by_differences = worst_of(by_differences, float((slope - rate).norm() / slope.norm().clamp(min=1)))
    begin = noising.moments(x, 0.0)
    still = torch.stack(((begin.mean - x).abs().max(), begin.variance.abs().max()))
    yield Figure("moments that are not those of the start", float(still.max()), 1e-12)
    yield Figure("error of the reversal", error, 1e-10)
    yield Figure("error of the moments' slopes", by_differences, 1e-6)


@law(12, once, seconds=8.0)
def langevin_keeps_its_density() -> Iterator[Figure]:
    """Langevin dynamics keeps p from p, also at a frozen time of a path."""
    x = mixture().sample(20_000, seed=33)
    times = torch.linspace(0, 2, 401, dtype=torch.float64)
    exact = field()
    frozen = langevin_of(exact, 1.0, sigma=0.6)
    *_, end = walk(frozen, EulerMaruyama(), x, times, Noise(34))
    yield from mode_figures(end)
    half = torch.tensor(0.5, dtype=torch.float64)
    point = exact.path.point(points(20_000, seed=35), x, half)
    *_, end = walk(langevin_of(exact, 0.5, sigma=1.0), EulerMaruyama(), point.x, times, Noise(36))
    ratio = end.var(0) / point.x.var(0)
    yield Figure("variance ratio at t = 0.5", float(ratio.mean()), 1.05, 0.95)
    yield Figure(
        "energy of the score",
        float((exact.score(end, half) ** 2).mean() / (exact.score(point.x, half) ** 2).mean()),
        1.05,
        0.95,
    )


@law(12, once, seconds=3.0)
def langevin_converges_on_a_normal() -> Iterator[Figure]:
    """From any start, Langevin dynamics reaches a normal density; Ornstein-Uhlenbeck is its Langevin process."""
    theta, sigma = 0.8, 1.1
    normal = Normal(torch.zeros(1, dtype=torch.float64), torch.tensor([sigma**2 / (2 * theta)], dtype=torch.float64))
    x = torch.linspace(-4, 4, 50, dtype=torch.float64)[:, None]

    def score(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        free = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(normal.log_prob(free).sum(), free)[0]

    langevin, ou = Langevin(score, sigma), OrnsteinUhlenbeck(theta, sigma)
    t = torch.tensor(0.0)
    yield Figure("drift of OU less that of Langevin", float((langevin.drift(x, t) - ou.drift(x, t)).abs().max()), 1e-12)
    far = torch.full((COUNT, 1), 6.0, dtype=torch.float64)
    times = torch.linspace(0, 12, 1201, dtype=torch.float64)
    *_, end = walk(langevin, EulerMaruyama(), far, times, Noise(37))
    limit = sigma**2 / (2 * theta - theta**2 * 0.01)
    yield Figure("z of the mean", abs(float(end.mean()) - 6 * math.exp(-theta * 12)) / math.sqrt(limit / COUNT), 4.6)
    yield Figure("z of the variance", abs(float(end.var()) / limit - 1) / math.sqrt(2 / COUNT), 4.6)
