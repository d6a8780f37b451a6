"""Laws of bridges between two sets of samples: 1, 5, 6, 7 and 11."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pathline.data.distributions import GaussianMixture
from pathline.fields.bridge import MixtureBridgeField
from pathline.noise import Noise
from pathline.paths.bridge import BridgePath
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY, Prediction
from pathline.sampling.sample import sample
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import ODESampler, SDESampler
from pathline.solvers.stochastic import StochasticHeun
from pathline.verify.parts import mixture, points, spread_times
from pathline.verify.residuals import continuity_residual, fokker_planck_residual
from pathline.verify.sampling import COUNT, mode_figures
from pathline.verify.table import Figure, law, worst_of

SIGMAS = (0.0, 0.5, 1.0)


def source() -> GaussianMixture:
    """Where the bridges of these laws begin: two modes, neither round."""
    means = torch.tensor([[-1.0, -1.0], [1.5, 0.5]], dtype=torch.float64)
    return GaussianMixture(means, torch.tensor([[0.2, 0.5], [0.4, 0.1]], dtype=torch.float64), torch.tensor([0.4, 0.6]))


def bridge(sigma: float, prediction: Any = None) -> MixtureBridgeField:
    """The exact field of a bridge to the three modes."""
    return MixtureBridgeField(source(), mixture(), BridgePath(sigma), prediction)


def _each_sigma() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [(f"sigma={sigma:g}", (sigma,)) for sigma in SIGMAS]


@law(1, _each_sigma)
def a_bridge_is_read_from_its_heads(sigma: float) -> Iterator[Figure]:
    """Velocity, data and noise follow from the score head and any other, or from any other alone where sigma is 0."""
    x, t = points(200, seed=61), spread_times(200)
    error = 0.0
    for head in (VELOCITY, DATA, NOISE):
        field = bridge(sigma, (head, SCORE) if sigma else head)
        for kind in (VELOCITY, DATA, NOISE):
            path_reading = super(MixtureBridgeField, field).read(x, t, kind)
            true = field.read(x, t, kind)
            error = worst_of(error, float(((path_reading - true).norm(dim=1) / (1 + true.norm(dim=1))).max()))
    yield Figure("error", error, 1e-12)


@law(5, _each_sigma)
def a_bridge_moves_at_its_velocity(sigma: float) -> Iterator[Figure]:
    """The velocity target is d/dt of the bridge's point; the score is the gradient of its conditional log-density."""
    path, t = BridgePath(sigma), spread_times(200)
    noise, data = points(200, seed=62), points(200, seed=63)
    z = points(200, seed=64)
    point = path.point(noise, data, t, lambda x: z)
    moved: Tensor = torch.func.jvp(lambda s: path.point(noise, data, s, lambda x: z).x, (t,), (torch.ones_like(t),))[1]
    velocity = point.target(VELOCITY)
    yield Figure("error of the velocity", float((moved - velocity).norm() / velocity.norm()), 1e-6)
    if sigma:
        x, s = point.x.clone().requires_grad_(), t[:, None]
        squared = (x - (1 - s) * noise - s * data) ** 2
        (slope,) = torch.autograd.grad((-squared / (2 * sigma**2 * s * (1 - s))).sum(), x)
        yield Figure("error of the score", float((point.target(SCORE) - slope).norm() / slope.norm()), 1e-6)


@law(6, _each_sigma, seconds=0.5)
def a_bridge_marginal_is_a_posterior_mean(sigma: float) -> Iterator[Figure]:
    """Marginal kinds of a bridge are conditional ones, averaged over what both ends and its noise may have been."""
    field, count = bridge(sigma), 50_000
    noise, data = source().sample(count, seed=65), mixture().sample(count, seed=66)
    path, width = BridgePath(sigma), 0.15
    largest = 0.0
    for t in (0.2, 0.5, 0.8):
        point = path.point(noise, data, t, Noise(67))
        for x in point.x[:3][:, None]:
            squared = ((point.x - x) ** 2).sum(1)
            near = squared < (4 * width) ** 2  # what passes near x, all of whose errors have a mean of nothing
            weight = torch.exp(-squared[near] / (2 * width**2))[:, None]
            for kind in (VELOCITY, DATA, NOISE, *([SCORE] if sigma else [])):
                wrong = weight * (point.target(kind)[near] - field.read(point.x[near], t, kind))
                largest = worst_of(largest, float((wrong.sum(0) / (wrong**2).sum(0).sqrt()).abs().max()))
    yield Figure("largest z of 72", largest, 5.5)
    x, times = 2 * points(300, seed=68), spread_times(300)
    free = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(field.log_prob(free, times).sum(), free)
    error = float((slope - field.read(x, times, SCORE)).abs().max() / slope.abs().max())
    yield Figure("error of the score", error, 1e-10)
    ends = (field.log_prob(x, 0.0) - source().log_prob(x), field.log_prob(x, 1.0) - mixture().log_prob(x))
    yield Figure("error of p_0 and p_1", float(torch.stack(ends).abs().max()), 1e-10)


@law(7, _each_sigma, seconds=0.3)
def a_bridge_density_follows_its_equation(sigma: float) -> Iterator[Figure]:
    """Continuity and Fokker-Planck in log form, with the drift that the samplers use, for several sigma_t."""
    exact = bridge(sigma)
    x, t = points(50, seed=69).repeat(3, 1), torch.tensor((0.1, 0.5, 0.9)).double().repeat_interleave(50)
    found = [continuity_residual(exact, x, t, exact.log_prob)]
    for of_sde in (0.5, 1.0) if sigma else ():
        for is_backward in (False, True):
            found.append(fokker_planck_residual(exact, x, t, of_sde, exact.log_prob, is_backward=is_backward))
    yield Figure("residual / the sum of the terms' sizes", worst_of(*(float(r.relative.max()) for r in found)), 1e-10)


def _samplers() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [
        ("straight ode", (0.0, VELOCITY, ODESampler(), 80)),
        ("brownian ode", (1.0, (VELOCITY, SCORE), ODESampler(), 80)),
        ("brownian sde", (1.0, (VELOCITY, SCORE), SDESampler(1.0, StochasticHeun()), 150)),
    ]


@law(11, _samplers, seconds=5.0)
def a_bridge_ends_at_its_data(
    sigma: float, prediction: Prediction | tuple[Prediction, ...], sampler: Sampler, steps: int
) -> Iterator[Figure]:
    """From samples of its source, a bridge's ODE and SDE reach samples of its data."""
    start = source().sample(COUNT, seed=70)
    yield from mode_figures(sample(bridge(sigma, prediction), (COUNT, 2), sampler, steps=steps, seed=71, start=start))
