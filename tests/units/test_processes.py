"""Processes and their exact moments."""

import math

import pytest
import torch

import pathline as pl
from pathline.noise import Noise

pytestmark = pytest.mark.fast

X = torch.tensor([[2.0, -1.0]], dtype=torch.float64)


def simulated(process, time, n=20_000, steps=50):
    x = X.expand(n, 2).clone()
    *_, end = pl.walk(process, pl.StochasticHeun(), x, torch.linspace(0, time, steps + 1), Noise(1))
    return end


@pytest.mark.parametrize(("process", "time"), [(pl.BrownianMotion(1.5), 2.0), (pl.OrnsteinUhlenbeck(0.7, 1.2), 1.5)])
def test_a_walk_has_the_moments_of_its_process(process, time):
    end, moments = simulated(process, time), process.moments(X, time)
    root = math.sqrt(len(end))
    assert ((end.mean(0) - moments.mean[0]).abs() * root < 5 * moments.variance[0].sqrt() + 0.05).all()
    assert ((end.var(0) / moments.variance[0] - 1).abs() < 5 * math.sqrt(2) / root + 1e-3).all()


def test_brownian_variance_grows_with_time():
    moments = pl.BrownianMotion(3.0).moments(X, 2.0)
    assert torch.equal(moments.mean, X) and torch.equal(moments.variance, torch.full_like(X, 18.0))


def test_ornstein_uhlenbeck_forgets_its_start_and_settles():
    process = pl.OrnsteinUhlenbeck(theta=2.0, sigma=3.0)
    late = process.moments(X, 50.0)
    assert torch.allclose(late.mean, torch.zeros_like(X)) and torch.allclose(late.variance, torch.full_like(X, 9 / 4))
    soon = process.moments(X, 1e-9)  # as Brownian motion
    assert torch.allclose(soon.variance, torch.full_like(X, 9e-9), rtol=1e-6)
    assert torch.allclose(process.moments(X, 0.5).mean, X * math.exp(-1))


def test_ornstein_uhlenbeck_is_langevin_of_a_normal():
    process = pl.OrnsteinUhlenbeck(0.7, 1.2)
    variance = 1.2**2 / (2 * 0.7)
    langevin = pl.Langevin(lambda x, t: -x / variance, 1.2)
    t = torch.tensor(0.3)
    assert torch.allclose(langevin.drift(X, t), process.drift(X, t))
    assert langevin.diffusion(X, t) == process.diffusion(X, t)


def test_linear_decay_is_exponential():
    assert torch.allclose(pl.LinearODE(0.5).flow(X, 2.0), X * math.exp(-1))
    *_, end = pl.walk(pl.LinearODE(0.5), pl.RK4, X, torch.linspace(0, 2, 41))
    assert torch.allclose(end, pl.LinearODE(0.5).flow(X, 2.0), atol=1e-7)


def test_functions_get_a_time_that_meets_the_points():
    sde = pl.SDE(lambda x, t: t * x, lambda x, t: t**2)
    assert torch.equal(sde.drift(X, torch.tensor(3.0)), 3 * X)
    assert float(sde.diffusion(X, torch.tensor(3.0))) == 9
    assert pl.SDE(lambda x, t: x, 0.5).diffusion(X, torch.tensor(3.0)) == 0.5
    assert not hasattr(pl.ODE(lambda x, t: x), "diffusion")


@pytest.mark.parametrize(
    "make",
    [
        lambda s: pl.BrownianMotion(s),
        lambda s: pl.OrnsteinUhlenbeck(1.0, s),
        lambda s: pl.Langevin(lambda x, t: x, s),
        lambda s: pl.SDE(lambda x, t: x, s),
    ],
)
@pytest.mark.parametrize("sigma", [-0.1, float("nan")])
def test_a_negative_diffusion_is_refused(make, sigma):
    with pytest.raises(ValueError, match=f"must be 0 or more, got {sigma}"):
        make(sigma)


@pytest.mark.parametrize("theta", [0.0, -1.0])
def test_ornstein_uhlenbeck_without_a_pull_is_refused(theta):
    with pytest.raises(ValueError, match="theta must be positive"):
        pl.OrnsteinUhlenbeck(theta)
