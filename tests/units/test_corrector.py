"""Predictor and corrector: Langevin steps that keep the density, and bring back what a sampler left astray."""

import warnings

import pytest
import torch

import pathline as pl
from pathline.noise import Noise

pytestmark = pytest.mark.fast

TIMES = torch.linspace(0, 1, 41, dtype=torch.float64)
X = Noise(0).normal((4000, 1), dtype=torch.float64)


def field(head=pl.VELOCITY, schedule=None):
    normal = pl.Normal(torch.tensor([1.5], dtype=torch.float64), 0.25)
    return pl.MixtureField(normal, pl.GaussianPath(schedule or pl.LinearSchedule()), head)


@pytest.mark.parametrize(
    "sampler", [pl.DDIM(1.0), pl.SDESampler(1.0), pl.ODESampler(), pl.ChurnSampler(churn=2.0)], ids=repr
)
def test_corrections_of_no_length_leave_the_sampler_as_it_is(sampler):
    corrected = pl.PredictorCorrector(sampler, length=1e-300)
    inside = TIMES[5:20]
    for a, b in zip(
        corrected.walk(field(), X, inside, Noise(1)), sampler.walk(field(), X, inside, Noise(1)), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("times", [TIMES, TIMES.flip(0)], ids=["up", "down"])
@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.DATA, pl.SCORE], ids=repr)
def test_it_ends_where_it_should(head, times):
    start, mean, std = (X, 1.5, 0.5) if times[0] == 0 else (1.5 + 0.5 * X, 0, 1)
    *_, end = pl.PredictorCorrector(pl.ODESampler(), 2).walk(field(head), start, times, Noise(1))
    assert float(end.mean()) == pytest.approx(mean, abs=0.06) and float(end.std()) == pytest.approx(std, abs=0.04)


def test_many_corrections_bring_back_what_began_wrong():
    times = torch.tensor([0.5, 0.51], dtype=torch.float64)
    *_, end = pl.PredictorCorrector(pl.DDIM(), 600, 0.1).walk(field(), 3 * X - 4, times, Noise(1))
    assert float(end.mean()) == pytest.approx(0.51 * 1.5, abs=0.06)
    assert float(end.var() / (0.51**2 * 0.25 + 0.49**2)) == pytest.approx(1, abs=0.12)


def test_a_sample_is_its_own():
    sampler = pl.PredictorCorrector(pl.SDESampler(1.0))
    *_, whole = sampler.walk(field(), X, TIMES, Noise(1))
    *_, part = sampler.walk(field(), X[300:310], TIMES, Noise(1, first=300))
    assert torch.allclose(part, whole[300:310], atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"corrections": 0}, "corrections must be at least 1, got 0"),
        ({"ratio": 0.0}, "ratio must be positive and finite, got 0.0"),
        ({"length": -1.0}, "length must be positive and finite, got -1.0"),
    ],
)
def test_what_is_no_correction_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        pl.PredictorCorrector(**wrong)


def test_no_number_of_evaluations_settles_an_adaptive_predictor():
    corrected = pl.PredictorCorrector(pl.AdaptiveSampler())
    assert len(corrected.times(field(), steps=4)) == 5
    with pytest.raises(ValueError, match="evaluations must not be given for AdaptiveSampler"):
        corrected.times(field(), evaluations=30)


@pytest.mark.parametrize("arguments", [{"ratio": float("inf")}, {"ratio": None}, {"length": float("inf")}], ids=str)
def test_a_step_without_a_length_is_refused(arguments):
    with pytest.raises(ValueError, match=r"(ratio|length) must be positive and finite, got"):
        pl.PredictorCorrector(**arguments)


@pytest.mark.parametrize(
    "sampler", [pl.SDESampler(2.0), pl.ExponentialSDE(2.0)], ids=lambda sampler: type(sampler).__name__
)
def test_an_sde_goes_on_from_corrected_points_in_long_steps(sampler):
    """Begun anew with each step it takes data for still: a variance ratio of 0.46."""
    normal = pl.Normal(torch.zeros(1, dtype=torch.float64), torch.tensor([0.3**2], dtype=torch.float64))
    exact = pl.MixtureField(normal, pl.GaussianPath(pl.LinearSchedule()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = pl.sample(exact, (20_000, 1), pl.PredictorCorrector(sampler), steps=20, seed=0)
    assert float(x.var() / 0.3**2) == pytest.approx(1, abs=0.1)
