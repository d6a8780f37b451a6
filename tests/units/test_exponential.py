"""Exponential steps: the known samplers that they hold, and a normal that they follow in one step of any length."""

import warnings

import pytest
import torch

import pathline as pl
from pathline.noise import Noise
from pathline.verify.parts import field as modes

pytestmark = pytest.mark.fast

TIMES = torch.linspace(0, 1, 11, dtype=torch.float64)
X = Noise(0).normal((2000, 1), dtype=torch.float64)


def field(width=0.5, head=pl.VELOCITY, schedule=None):
    normal = pl.Normal(torch.tensor([1.5], dtype=torch.float64), width**2)
    return pl.MixtureField(normal, pl.GaussianPath(schedule or pl.LinearSchedule()), head)


def ends(sampler, field=None, x=X, times=TIMES):
    return list(sampler.walk(field or globals()["field"](), x, times, Noise(1)))


@pytest.mark.parametrize(("sigma", "eta"), [(0.0, 0.0), (pl.MemorylessSigma(), 1.0)])
@pytest.mark.parametrize("times", [TIMES, TIMES.flip(0)], ids=["up", "down"])
def test_order_one_is_ddim_without_noise_and_ddpm_with_the_memoryless(sigma, eta, times):
    for a, b in zip(ends(pl.ExponentialSDE(sigma, 1), times=times), ends(pl.DDIM(eta), times=times), strict=True):
        assert torch.allclose(a, b, atol=1e-2 if eta else 1e-12)  # their integrals of sigma differ next to the ends
    inside = torch.linspace(0.2, 0.8, 11, dtype=torch.float64)
    for a, b in zip(ends(pl.ExponentialSDE(sigma, 1), times=inside), ends(pl.DDIM(eta), times=inside), strict=True):
        assert torch.allclose(a, b, atol=1e-8)


def test_a_normal_has_its_spread_after_three_steps_of_any_sigma():
    for width in (0.1, 1.0, 3.0):
        for sigma in (0.0, 1.0, 50.0):
            start = pl.ExponentialSDE(sigma).walk(field(width), X, torch.tensor([0.0, 0.05, 0.1, 0.9]), Noise(1))
            *_, end = start
            true = (0.9 * width) ** 2 + 0.01
            assert float(end.var() / true) == pytest.approx(1, abs=0.12), (width, sigma)


@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.DATA, pl.SCORE, pl.V], ids=repr)
@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.SquareRootSchedule(), pl.CosineSchedule()], ids=repr)
def test_down_from_data_it_ends_at_noise(head, schedule):
    data = 1.5 + 0.5 * X
    *_, end = pl.ExponentialSDE(1.0).walk(field(0.5, head, schedule), data, TIMES.flip(0), Noise(1))
    assert abs(float(end.mean())) < 0.12 and float(end.std()) == pytest.approx(1, abs=0.08)


def test_a_sample_is_its_own():
    whole = ends(pl.ExponentialSDE(2.0))[-1]
    *_, part = pl.ExponentialSDE(2.0).walk(field(), X[300:310], TIMES, Noise(1, first=300))
    assert torch.allclose(part, whole[300:310], atol=1e-12)


def test_each_walk_begins_anew():
    sampler = pl.ExponentialSDE(1.0)
    assert all(torch.equal(a, b) for a, b in zip(ends(sampler), ends(sampler), strict=True))


def test_points_that_stand_still_have_no_spread():
    still = pl.MixtureField(pl.Normal(torch.zeros(1), torch.tensor([1e-12])), pl.GaussianPath(pl.LinearSchedule()))
    *_, end = pl.ExponentialSDE(1.0).walk(still, X.float(), TIMES, Noise(1))
    assert end.isfinite().all() and float(end.abs().max()) < 1e-2  # float32 sees a spread of 1e-6


@pytest.mark.parametrize("order", [0, 3, -1])
def test_an_order_that_there_is_not_is_refused(order):
    with pytest.raises(ValueError, match=f"order must be 1 .* or 2 .*got {order}"):
        pl.ExponentialSDE(1.0, order)


@pytest.mark.parametrize("width", [0.0, 0.5])
def test_a_bridge_is_refused_where_there_is_noise(width):
    bridge = pl.MixtureBridgeField(field().mixture, field().mixture, pl.BridgePath(width))
    for sigma in (1.0, lambda t: t):
        with pytest.raises(ValueError, match="needs a Gaussian path"):
            pl.ExponentialSDE(sigma).walk(bridge, X, TIMES)


def test_a_warning_says_where_and_how_many_steps():
    with pytest.warns(UserWarning, match=r"sigma renews the spread .* between t = 0\.\d+ and .*; take \d+ steps"):
        ends(pl.SDESampler(5.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ends(pl.SDESampler(0.5))
        ends(pl.SDESampler(pl.BetaSigma(1.0)))
        ends(pl.ExponentialSDE(5.0))


@pytest.mark.parametrize(
    ("schedule", "sigma", "steps"),
    [(pl.LinearSchedule(), 0.1, 3), (pl.PolynomialSchedule(3), 0.2, 5), (pl.PolynomialSchedule(3), 0.5, 20)],
    ids=repr,
)
@pytest.mark.parametrize("count", [1, 4, 200])
def test_points_between_modes_are_not_taken_for_data_without_spread(schedule, sigma, steps, count):
    exact = modes(schedule, pl.DATA)  # its narrowest standard deviation is 0.3: h sigma^2 / (2 0.3^2) < 0.07
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(6):
            pl.sample(exact, (count, 2), pl.SDESampler(sigma), steps=steps, seed=seed)
