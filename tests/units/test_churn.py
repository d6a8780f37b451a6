"""Churn: back to a noisier time and on from there."""

import pytest
import torch

import pathline as pl
from pathline.noise import Noise
from pathline.sampling.churn import time_of_level

pytestmark = pytest.mark.fast

TIMES = torch.linspace(0, 1, 21, dtype=torch.float64)
X = Noise(0).normal((4000, 1), dtype=torch.float64)


def field(head=pl.VELOCITY, schedule=None):
    normal = pl.Normal(torch.tensor([1.5], dtype=torch.float64), 0.25)
    return pl.MixtureField(normal, pl.GaussianPath(schedule or pl.LinearSchedule()), head)


def test_without_churn_it_is_its_solver():
    for sampler in (pl.ChurnSampler(churn=0), pl.ChurnSampler(low=1e3, high=1e4)):
        for a, b in zip(sampler.walk(field(), X, TIMES), pl.ODESampler(pl.HEUN).walk(field(), X, TIMES), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.DATA, pl.SCORE], ids=repr)
@pytest.mark.parametrize(
    "schedule", [pl.LinearSchedule(), pl.CosineSchedule(), pl.VariancePreservingSchedule()], ids=repr
)
def test_it_ends_at_the_data(head, schedule):
    *_, end = pl.ChurnSampler(low=0.1).walk(field(head, schedule), X, torch.linspace(0, 1, 101).double(), Noise(1))
    assert float(end.mean()) == pytest.approx(1.5, abs=0.05) and float(end.std()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.VarianceExplodingSchedule()], ids=repr)
def test_the_time_of_a_level_has_it(schedule):
    latest = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    level = 1.3 * schedule.beta(latest) / schedule.alpha(latest)
    earlier = time_of_level(schedule, level, latest)
    assert torch.allclose(schedule.beta(earlier) / schedule.alpha(earlier), level, rtol=1e-12)
    assert torch.equal(time_of_level(pl.VarianceExplodingSchedule(), level + 1e9, latest), torch.zeros(3).double())


def test_a_sample_is_its_own():
    *_, whole = pl.ChurnSampler().walk(field(), X, TIMES, Noise(1))
    *_, part = pl.ChurnSampler().walk(field(), X[300:310], TIMES, Noise(1, first=300))
    assert torch.allclose(part, whole[300:310], atol=1e-12)


@pytest.mark.parametrize("wrong", [{"churn": -1}, {"low": 60}, {"swell": 0}, {"low": -1}])
def test_what_is_no_churn_is_refused(wrong):
    with pytest.raises(ValueError, match="churn must be 0 or more, low from 0 to below high"):
        pl.ChurnSampler(**wrong)


def test_downwards_and_sde_solvers_are_refused():
    with pytest.raises(ValueError, match="times must increase for churn, got 1 to 0"):
        pl.ChurnSampler().walk(field(), X, TIMES.flip(0))
    with pytest.raises(ValueError, match="solver must be one for ODEs"):
        pl.ChurnSampler(pl.EulerMaruyama())


def test_noise_that_swells_without_end_is_refused():
    with pytest.raises(ValueError, match=r"swell positive and finite, got .*swell=inf"):
        pl.ChurnSampler(swell=float("inf"))
