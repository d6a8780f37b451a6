"""Laws of steps that are long for their noise: 22, and 10 for exponential steps and Brownian paths."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pathline.data.distributions import Normal
from pathline.fields.exact import MixtureField
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA
from pathline.paths.schedules import LinearSchedule, Schedule
from pathline.processes.processes import SDE, BrownianMotion
from pathline.sampling.exponential import ExponentialSDE
from pathline.sampling.sample import sample
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import ODESampler, SDESampler
from pathline.solvers.brownian import BrownianPath
from pathline.solvers.runge_kutta import RK4
from pathline.solvers.solver import walk
from pathline.solvers.stochastic import EulerMaruyama, StochasticHeun
from pathline.verify.parts import each_schedule, field, points
from pathline.verify.table import Figure, law, once, worst_of

COUNT = 10_000
WIDTHS = (0.1, 0.3, 1.0, 3.0)
SIGMAS = (0.2, 0.5, 1.0, 2.0, 5.0, 20.0)


def _normal(width: Tensor | float, schedule: Schedule) -> MixtureField:
    variance = torch.as_tensor(width, dtype=torch.float64).reshape(-1) ** 2
    return MixtureField(Normal(torch.zeros_like(variance), variance), GaussianPath(schedule), DATA)


def _ratio(width: float, schedule: Schedule, sampler: Sampler, steps: int) -> tuple[float, bool]:
    """Of the variance of samples of a normal to the true one, and whether there was a warning."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        x = sample(_normal(width, schedule), (COUNT, 1), sampler, steps=steps, seed=61)
    is_warned = any("sigma renews" in str(warning.message) for warning in told)
    return float(x.var() / (width**2 + schedule.ends[1][1] ** 2)), is_warned


def _sde_solvers() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [("euler-maruyama", (EulerMaruyama(),)), ("stochastic-heun", (StochasticHeun(),))]


@law(22, _sde_solvers, seconds=3.0)
def long_steps_are_right_or_warned_of(solver: Any) -> Iterator[Figure]:
    """Where h sigma^2 / (2 sd^2) is large, samples have their variance or there is a warning; below 0.1 there is none.

    From 0.2 it is large: Euler-Maruyama alone would make the variance more than 10 % too large.
    """
    silent = false = 0
    for width, sigma, steps in product(WIDTHS, SIGMAS, (20, 60)):
        stiffness = sigma**2 / (2 * width**2 * steps)
        ratio, is_warned = _ratio(width, LinearSchedule(), SDESampler(sigma, solver), steps)
        silent += stiffness >= 0.2 and abs(ratio - 1) > 0.1 and not is_warned
        false += stiffness < 0.1 and is_warned
    yield Figure("silent", silent, 0)
    yield Figure("false", false, 0)


@law(22, each_schedule, seconds=0.6)
def exponential_steps_are_right(schedule: Schedule) -> Iterator[Figure]:
    """In 20 steps and with any sigma, exponential steps keep the variance of a normal, and have nothing to warn of."""
    ratios, is_warned = [], False
    for width, sigma in product(WIDTHS, (0.0, 0.5, 2.0, 20.0)):
        ratio, told = _ratio(width, schedule, ExponentialSDE(sigma), 20)
        ratios.append(ratio)
        is_warned |= told
    yield Figure("variance ratio, most", worst_of(*ratios), 1.1, 0.9)
    yield Figure("variance ratio, least", -worst_of(*(-ratio for ratio in ratios)), 1.1, 0.9)
    yield Figure("warnings", int(is_warned), 0)


@law(10, lambda: [(str(order), (order,)) for order in (1, 2)], seconds=1.5)
def exponential_steps_have_their_order(order: int) -> Iterator[Figure]:
    """Without noise the error falls with the step to the power of the order; with it, the bias of the variance is less.

    Where the spread of data differs by its direction, noise leaves order 2 with a bias of order 1, but a small one.
    """
    exact, x = field(head=DATA), points(100)
    span = 0.05, 0.95
    *_, true = ODESampler(RK4).walk(exact, x, torch.linspace(*span, 801, dtype=torch.float64))
    errors = []
    for steps in (160, 320):
        *_, end = ExponentialSDE(0.0, order).walk(exact, x, torch.linspace(*span, steps + 1, dtype=torch.float64))
        errors.append(float((end - true).norm()))
    yield Figure("order without noise", math.log2(errors[0] / errors[1]), order + 0.1, order - 0.1)
    width = torch.tensor([0.3, 1.0], dtype=torch.float64)
    start = (0.01 * width**2 + 0.81).sqrt() * points(COUNT, seed=62)
    times = torch.linspace(0.1, 0.9, 33, dtype=torch.float64)
    *_, end = ExponentialSDE(1.0, order).walk(_normal(width, LinearSchedule()), start, times, Noise(63))
    bias = end.var(0) / (0.81 * width**2 + 0.01) - 1
    noise = 4.6 * math.sqrt(2 / COUNT)
    yield Figure("bias of the variance in 32 steps", float(bias.abs().max()), (0.24 if order == 1 else 0.025) + noise)


@law(10, once, seconds=0.3)
def a_brownian_path_is_the_same_under_refinement() -> Iterator[Figure]:
    """W_0 = 0, increments are independent and normal, those of a long step are the sums of those of short ones."""
    count, path = 20_000, BrownianPath(Noise(64), stop=2.0)
    x = torch.zeros(count, 1, dtype=torch.float64)
    fine = torch.linspace(0, 2, 25, dtype=torch.float64) ** 1.3
    fine = fine / fine[-1] * 2
    states = torch.cat(list(walk(BrownianMotion(), EulerMaruyama(), x, fine, path)), 1)
    coarse = torch.cat(list(walk(BrownianMotion(), EulerMaruyama(), x, fine[::3], path)), 1)
    yield Figure("start", float(path(x, 0.0).abs().max()), 0)
    yield Figure("difference under refinement", float((states[:, ::3] - coarse).abs().max()), 1e-12)
    part = path.at(70)(x[70:80], float(fine[5]))
    yield Figure("difference in part of a batch", float((part - path(x, float(fine[5]))[70:80]).abs().max()), 0)
    z = states.diff(dim=1) / fine.diff().sqrt()
    covariance = (z.T @ z / count - torch.eye(24)) * count**0.5
    covariance.diagonal().div_(2**0.5)
    figures = torch.cat((z.mean(0) * count**0.5, covariance.triu().flatten()))
    yield Figure("largest z of 324", float(figures.abs().max()), 5.6)


@law(10, once, seconds=2.0)
def the_strong_order_shows_along_a_brownian_path() -> Iterator[Figure]:
    """Euler-Maruyama along one Brownian path: strong order 1/2 with noise that depends on the point, 1 without."""
    x, path = torch.ones(2000, 1, dtype=torch.float64), BrownianPath(Noise(65), depth=11)
    additive = SDE(lambda x, t: -x * (1 + t), lambda x, t: 0.8 * (1 + t))
    multiplicative = SDE(lambda x, t: 0.5 * x, lambda x, t: 0.8 * x)
    for name, process, order in (("additive", additive, 1.0), ("multiplicative", multiplicative, 0.5)):
        ends = []
        for steps in (16, 64, 2048):
            *_, end = walk(process, EulerMaruyama(), x, torch.linspace(0, 1, steps + 1, dtype=torch.float64), path)
            ends.append(end)
        true = ends[-1] if name == "additive" else x * (0.5 - 0.8**2 / 2 + 0.8 * path(x, 1.0)).exp()
        errors = [float((end - true).pow(2).mean().sqrt()) for end in ends[:2]]
        yield Figure(f"order, {name}", math.log2(errors[0] / errors[1]) / 2, order + 0.1, order - 0.1)
