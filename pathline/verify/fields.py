"""Laws of exact fields and of guidance: 6, 7 and 16."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.integrate import solve_ivp

from pathline.data.distributions import Normal
from pathline.fields.exact import MixtureField
from pathline.fields.field import Field
from pathline.fields.guidance import ClassifierFree
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY
from pathline.paths.schedules import LinearSchedule, Schedule
from pathline.sampling.sample import sample
from pathline.sampling.samplers import ODESampler, SDESampler
from pathline.sampling.sigmas import BetaSigma, MemorylessSigma, Sigma, sigma_of
from pathline.solvers.runge_kutta import RK4
from pathline.verify.parts import each_head_and_schedule, each_schedule, field, mixture, points, spread_times
from pathline.verify.residuals import continuity_residual, fokker_planck_residual
from pathline.verify.table import Figure, law, once, worst_of


@law(6, each_schedule, seconds=0.3)
def marginal_is_a_posterior_mean(schedule: Schedule) -> Iterator[Figure]:
    """Marginal data, noise, velocity and score are the conditional ones, averaged over the posterior of the data."""
    exact, count = field(schedule), 200_000
    data = mixture().sample(count, seed=11)
    largest = 0.0
    for t in (0.2, 0.5, 0.8):
        c = schedule.at(torch.tensor(t, dtype=torch.float64))
        for x in (c.alpha * data[:4] + c.beta * points(4, seed=12))[:, None]:
            log_weight = -((x - c.alpha * data) ** 2).sum(1) / (2 * c.beta**2)
            weight = torch.softmax(log_weight, 0)[:, None]
            noise = (x - c.alpha * data) / c.beta
            conditional = {
                DATA: data,
                NOISE: noise,
                SCORE: -noise / c.beta,
                VELOCITY: c.alpha_dot * data + c.beta_dot * noise,
            }
            for kind, value in conditional.items():
                mean = (weight * value).sum(0)
                error = ((weight * (value - mean)) ** 2).sum(0).sqrt()
                largest = worst_of(largest, float(((exact.read(x, t, kind)[0] - mean) / error).abs().max()))
    yield Figure("largest z of 96", largest, 5.73)


@law(6, each_schedule)
def score_is_the_gradient_of_log_p(schedule: Schedule) -> Iterator[Figure]:
    """The score is the gradient of log p_t, at the ends too, and p_1 is the data under the noise that is left."""
    exact, x, t = field(schedule), 2 * points(300), spread_times(300)
    error = 0.0
    for time in (t, torch.zeros_like(t), torch.ones_like(t)):
        free = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(exact.log_prob(free, time).sum(), free)
        error = worst_of(error, float((slope - exact.score(x, time)).abs().max() / slope.abs().max()))
    yield Figure("error of the score", error, 1e-10)
    there = mixture(schedule.ends[1][1]).log_prob(x)
    yield Figure("error of p_1", float((exact.log_prob(x, 1.0) - there).abs().max()), 1e-10)


def sigmas() -> dict[str, Sigma]:
    """The diffusions of law 11."""
    return {
        "0": sigma_of(0.0),
        "0.5": sigma_of(0.5),
        "1": sigma_of(1.0),
        "2": sigma_of(2.0),
        "2(1-t)": sigma_of(lambda t: 2 * (1 - t)),
        "sqrt(t(1-t))": sigma_of(lambda t: (t * (1 - t)).sqrt()),
        "beta": BetaSigma(1.0),
        "memoryless": MemorylessSigma(),
    }


@law(7, each_head_and_schedule, seconds=2.5)
def density_follows_its_equation(head: Any, schedule: Schedule) -> Iterator[Figure]:
    """Continuity and Fokker-Planck in log form, for every sigma_t, with the drift that the samplers use."""
    exact = field(schedule, head)
    x, t = 1.5 * points(50, seed=13).repeat(3, 1), torch.tensor((0.1, 0.5, 0.9)).double().repeat_interleave(50)
    found = [continuity_residual(exact, x, t, exact.log_prob)]
    for sigma in sigmas().values():
        for is_backward in (False, True):
            found.append(fokker_planck_residual(exact, x, t, sigma, exact.log_prob, is_backward=is_backward))
    yield Figure("residual / the sum of the terms' sizes", worst_of(*(float(r.relative.max()) for r in found)), 1e-10)


def _guided_cases() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [(f"w={w:g} sigma={name}", (w, sigmas()[name])) for w in (0.0, 1.0, 3.0) for name in ("0", "1", "beta")]


Guided: TypeAlias = Callable[[Field, Field, Any], Field]  # of the conditional field, the unconditional one, and w


@law(16, _guided_cases, seconds=4.0)
def guided_gaussian_is_its_closed_form(
    w: float, sigma: Sigma, guided: Guided = ClassifierFree, steps: int = 500
) -> Iterator[Figure]:
    """On jointly normal data and condition, guided samples have the mean and variance of their linear equation."""
    # y = z + N(0, 0.5^2), z ~ N(0.5, 1), so that z given y = 1.5 is normal too
    prior_mean, prior, noise, y = 0.5, 1.0, 0.25, 1.5
    mean, variance = prior_mean + prior / (prior + noise) * (y - prior_mean), prior * noise / (prior + noise)
    free, given = (_normal(m, v) for m, v in ((prior_mean, prior), (mean, variance)))
    sampler = (
        ODESampler(RK4)
        if not sigma.squared(torch.ones(1), LinearSchedule().at(torch.zeros(1))).any()
        else (SDESampler(sigma))
    )
    x = sample(guided(given, free, w), (40_000, 1), sampler, steps=steps, seed=14)

    def slope(t: float, state: np.ndarray[Any, Any]) -> list[float]:
        # for N(m, v): u = b' a-part + slope x, written out from p_t = N(t m, t^2 v + (1 - t)^2)
        gain = shift = 0.0
        squared = float(sigma.squared(torch.tensor([t]), LinearSchedule().at(torch.tensor([t])))[0])
        for m, v, share in ((prior_mean, prior, 1 - w), (mean, variance, w)):
            spread = t**2 * v + (1 - t) ** 2
            u, s = (t * v - (1 - t)) / spread, -1 / spread
            gain += share * (u + squared / 2 * s)
            shift += share * (m - (u + squared / 2 * s) * t * m)
        return [gain * state[0] + shift, 2 * gain * state[1] + squared]

    true = solve_ivp(slope, (0, 1), [0.0, 1.0], rtol=1e-10, atol=1e-12).y[:, -1]
    yield Figure("mean, in standard deviations", float((x.mean() - true[0]).abs() / true[1] ** 0.5), 0.03)
    yield Figure("variance ratio", float(x.var() / true[1]), 1.03, 0.97)


def _normal(mean: float, variance: float) -> MixtureField:
    normal = Normal(torch.tensor([mean], dtype=torch.float64), torch.tensor([variance], dtype=torch.float64))
    return MixtureField(normal, GaussianPath(LinearSchedule(), scale=1.0))  # of all data; guided ones lie closer


@law(16, once)
def guidance_of_zero_and_one_is_none(guided: Guided = ClassifierFree) -> Iterator[Figure]:
    """W = 0 and w = 1 are the two fields themselves; between, every kind is mixed alike."""
    free, given = _normal(0.5, 1.0), _normal(1.3, 0.2)
    x, t = points(100, 1), torch.tensor(0.6, dtype=torch.float64)
    worst = 0.0
    for kind in (VELOCITY, SCORE, DATA, NOISE):
        a, b = free.read(x, t, kind), given.read(x, t, kind)
        for w in (0.0, 1.0, 2.5):
            for scale in (w, torch.full((100,), w, dtype=torch.float64)):
                mixed = guided(given, free, scale).read(x, t, kind)
                worst = worst_of(worst, float((mixed - ((1 - w) * a + w * b)).abs().max()))
    yield Figure("error", worst, 1e-12)
