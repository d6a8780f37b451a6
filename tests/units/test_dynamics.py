"""A field as a process: velocity plus sigma^2/2 of the score, read for a grid at once."""

import pytest
import torch

import pathline as pl
from pathline.noise import Noise
from pathline.sampling.sigmas import ConstantSigma, FunctionSigma, sigma_of

pytestmark = pytest.mark.fast

TIMES = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
X = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def field(head=pl.VELOCITY, schedule=None):
    mixture = pl.GaussianMixture(torch.tensor([[2.0, 0.0], [-1.0, 1.0]]).double(), torch.tensor([0.3, 0.2]))
    return pl.MixtureField(mixture, pl.GaussianPath(schedule or pl.CosineSchedule()), head)


@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.DATA, (pl.VELOCITY, pl.SCORE)], ids=str)
def test_the_drift_of_the_flow_is_the_velocity(head):
    for t in TIMES:
        assert torch.allclose(pl.flow_of(field(head)).drift(X, t), field().velocity(X, t), atol=1e-11)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.DATA, (pl.VELOCITY, pl.SCORE)], ids=str)
def test_the_drift_of_the_sde_adds_half_sigma_squared_of_the_score(head, sign):
    process = pl.diffusion_of(field(head), 0.7, is_backward=sign < 0)
    for t in TIMES:
        expected = field().velocity(X, t) + sign * 0.7**2 / 2 * field().score(X, t)
        assert torch.allclose(process.drift(X, t), expected, atol=1e-11)
        assert process.diffusion(X, t) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("sigma", "truth"),
    [
        (0.5, lambda t, c: 0.5 + 0 * t),
        (pl.BetaSigma(1.5), lambda t, c: 1.5 * c.beta),
        (lambda t: t**2, lambda t, c: t**2),
        (lambda t: 0.3, lambda t, c: 0.3 + 0 * t),
        (pl.MemorylessSigma(), lambda t, c: (2 * (c.beta**2 * c.alpha_dot / c.alpha - c.beta * c.beta_dot)).sqrt()),
    ],
)
def test_a_sigma_is_its_formula(sigma, truth):
    process, c = pl.diffusion_of(field(), sigma), pl.CosineSchedule().at(TIMES)
    found = [process.diffusion(X, t) for t in TIMES]
    assert found == pytest.approx(truth(TIMES, c).tolist(), rel=1e-12)


def test_a_sigma_tied_to_beta_vanishes_at_data_and_its_drift_stays_finite():
    # sigma^2/2 score = -scale^2/2 beta noise: at data nothing but the velocity is left
    exact, one = field(schedule=pl.LinearSchedule()), torch.tensor(1.0, dtype=torch.float64)
    process = pl.diffusion_of(exact, pl.BetaSigma(2.0))
    assert process.diffusion(X, one) == pytest.approx(0, abs=1e-30)
    assert torch.allclose(process.drift(X, one), exact.velocity(X, 1.0), atol=1e-11)


def test_the_drift_where_the_score_is_infinite_is_refused():
    with pytest.raises(ValueError, match=r"drift cannot be read at t = 1 from the velocity prediction"):
        pl.diffusion_of(field(), 0.5).drift(X, torch.tensor(1.0))


def test_a_flow_serves_points_of_any_dtype():
    network = pl.MLP(2, 8, 1)
    flow = pl.flow_of(pl.NetworkField(network, pl.GaussianPath(pl.LinearSchedule())))
    single = flow.drift(X.float(), torch.tensor(0.5))
    double = pl.flow_of(flow.field.double()).drift(X, torch.tensor(0.5))
    assert torch.allclose(single.double(), double, atol=1e-6)
    assert torch.allclose(flow.drift(X, torch.tensor(0.5)), double, atol=1e-12)


@pytest.mark.parametrize("solver", [pl.EulerMaruyama(), pl.StochasticHeun()], ids=repr)
def test_the_reversal_of_a_field_walks_down(solver):
    times = torch.linspace(0.6, 0.1, 8, dtype=torch.float64)
    states = list(pl.walk(pl.diffusion_of(field(), 0.5, is_backward=True), solver, X, times, Noise(0)))
    expected = list(pl.SDESampler(0.5, solver).walk(field(), X, times, Noise(0)))
    for a, b in zip(states, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_langevin_at_a_frozen_time_follows_that_score():
    process = pl.langevin_of(field(), 0.4, sigma=1.2)
    assert torch.allclose(process.drift(X, torch.tensor(17.0)), 0.72 * field().score(X, 0.4))
    assert process.diffusion(X, torch.tensor(17.0)) == 1.2


@pytest.mark.parametrize("make", [ConstantSigma, pl.BetaSigma, pl.SDESampler, sigma_of])
@pytest.mark.parametrize("sigma", [-0.5, float("nan"), float("inf")])
def test_a_negative_or_infinite_sigma_is_refused(make, sigma):
    with pytest.raises(ValueError, match=f"sigma must be a finite number, 0 or more, got {sigma}"):
        make(sigma)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda t: t - 0.5, "0 or more at every time, got -0.4 at t = 0.1"),
        (lambda t: t * float("nan"), "0 or more at every time, got nan"),
        (lambda t: torch.ones(2), "one value for each time"),
    ],
)
def test_a_function_that_is_no_sigma_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        FunctionSigma(function).squared(TIMES, pl.LinearSchedule().at(TIMES))
