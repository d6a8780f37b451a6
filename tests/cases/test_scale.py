"""Data that is not of unit size: grids and tolerances follow its scale, or a warning says that they do not.

A mixture times c must be sampled as well as the mixture itself, its samples being c times as large.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import pathline as pl
from pathline.noise import Noise
from pathline.sampling.multistep import Multistep
from pathline.sampling.sigmas import BetaSigma

MEANS, VARIANCES = torch.tensor([[-1.2], [0.9]]).double(), torch.tensor([0.04, 0.09]).double()
LINEAR = pl.GaussianPath(pl.LinearSchedule())
ADAPTIVE = pytest.param(1e-6, pl.Dopri5(), marks=pytest.mark.slow)
SCALES = (1e-6, 1e-3, 1e-2, 100.0, 1e3, 1e6)


def mixture(scale: float) -> pl.GaussianMixture:
    return pl.GaussianMixture(scale * MEANS, scale**2 * VARIANCES)


def exact(scale: float, path: pl.GaussianPath = LINEAR) -> pl.MixtureField:
    return pl.MixtureField(mixture(scale), path)


class Unaware(pl.Field):
    """A field that knows nothing of its data but what its path says, as a network does."""

    def __init__(self, scale: float, declared: float | None = None) -> None:
        super().__init__()
        self.truth = exact(scale)
        self.path = pl.GaussianPath(pl.LinearSchedule(), declared)
        self.prediction = pl.VELOCITY

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.truth(x, t)


def sampled(field: pl.Field, scale: float, sampler: Any = None, count: int = 100) -> Tensor:
    start = Noise(1).normal((count, 1), dtype=torch.float64)
    return pl.sample(field, (count, 1), sampler, start=start, seed=0) / scale


# Distance of samples, over the scale, from those of unit-size data: what is allowed, and what it was times 100.
METHODS: dict[str, tuple[Any, float]] = {
    "default": (pl.default_sampler(), 1e-9),  # 0.34
    "dpm": (Multistep.dpm(), 1e-9),
    "heun": (pl.ODESampler(), 0.2),  # on a grid that is not the same
}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", METHODS)
def test_samples_of_scaled_data_are_scaled_samples(name: str, scale: float) -> None:
    sampler, allowed = METHODS[name]
    field = exact(scale)
    if name == "dpm":
        sampler = Multistep(pl.DATA, 2, is_logarithmic=True, grid=pl.default_sampler().grid)
    unit = pl.GaussianPath(pl.LinearSchedule(), mixture(1.0).scale)
    wanted = sampled(exact(1.0, unit), 1.0, sampler)
    found = sampled(field, scale, sampler)
    assert float((found - wanted).abs().quantile(0.95)) <= allowed
    assert float(found.std() / wanted.std()) == pytest.approx(1, abs=0.05)  # 0.38 times 100, 0.04 times 1,000


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_an_sde_keeps_the_spread_of_scaled_data(scale: float) -> None:
    found = pl.sample(exact(scale), (1000, 1), pl.SDESampler(BetaSigma()), steps=100, seed=0) / scale
    assert float(found.std() / mixture(1.0).scale) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(("scale", "solver"), [*((scale, pl.GAUSS) for scale in (1e-6, 1e-2, 1e3)), ADAPTIVE])
def test_log_prob_of_scaled_data(scale: float, solver: Any) -> None:
    x = mixture(scale).sample(20, seed=0)
    found = pl.log_prob(exact(scale), x, solver=solver)
    allowed = 0.15 if scale == 1e-6 else 0.005  # before: 7, 3, 2.4, 0.09, 7.7 and 9 nats
    assert float((found - mixture(scale).log_prob(x)).abs().max()) <= allowed


@pytest.mark.slow
@pytest.mark.parametrize("solver", [pl.Dopri5(), pl.Tsit5()], ids=["dopri5", "tsit5"])
def test_adaptive_tolerances_follow_the_scale(solver: Any) -> None:
    start = Noise(1).normal((10, 1), dtype=torch.float64)
    for made in (exact, Unaware):  # of what knows its scale, and by the samples' own size
        errors = []
        for scale in (1e-6, 1e6):
            wanted = pl.AdaptiveSampler(type(solver)(1e-10, 1e-10)).solve(exact(1.0), start, [0.0, 1.0]).x
            found = pl.AdaptiveSampler(solver).solve(made(scale), start, [0.0, 1.0]).x / scale
            errors.append(float((found - wanted).abs().median()))
        assert max(errors) < 5e-5  # before: 0.8 at 1e-6


@pytest.mark.parametrize("scale", SCALES)
def test_a_field_that_does_not_know_its_scale_warns(scale: float) -> None:
    with pytest.warns(UserWarning, match="spread of the samples is about .* GaussianPath"):
        pl.sample(Unaware(scale), (100, 1), seed=0)
    with pytest.warns(UserWarning, match="spread of the points is about .* GaussianPath"):
        pl.log_prob(Unaware(scale), mixture(scale).sample(20, seed=0), steps=20)


@pytest.mark.parametrize("scale", SCALES)
def test_a_declared_scale_is_as_good_as_a_known_one(scale: float) -> None:
    known = exact(scale, pl.GaussianPath(pl.LinearSchedule(), scale))
    assert torch.equal(sampled(Unaware(scale, scale), 1.0), sampled(known, 1.0))


def test_a_declared_scale_of_one_changes_no_sample_and_blames_no_steps() -> None:
    assert torch.equal(sampled(Unaware(1.0, 1.0), 1.0), sampled(Unaware(1.0), 1.0))
    pl.sample(Unaware(100.0, 1.0), (100, 1), seed=0)  # before: a warning to normalise data, which was normalised


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_data_of_about_unit_size_is_sampled_as_before(scale: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert exact(scale).path.scale is None
        assert pl.ODESampler().times(exact(scale), 4).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
        assert torch.equal(sampled(exact(scale), scale), sampled(Unaware(scale), scale))


def test_what_measures_itself() -> None:
    data = 300 * Noise(2).normal((50, 3))
    assert pl.EmpiricalField(data, LINEAR).path.scale == pytest.approx(float(data.var(0, correction=0).mean().sqrt()))
    assert exact(100.0).path.scale == pytest.approx(100 * math.sqrt(0.065 + 1.05**2))
    assert exact(100.0).path == LINEAR  # it is the same path
    assert pl.MixtureField(pl.Normal([1e6, -1e6], 1.0), LINEAR).path.scale is None  # a mean is no scale
    declared = pl.GaussianPath(pl.LinearSchedule(), 50.0)
    assert exact(100.0, declared).path.scale == 50.0


def test_a_scale_is_positive() -> None:
    with pytest.raises(ValueError, match="scale must be a positive number, the data's standard deviation, got 0"):
        pl.GaussianPath(pl.LinearSchedule(), 0.0)


def test_variance_preserving_paths_know_it_too() -> None:
    path = pl.GaussianPath(pl.VariancePreservingSchedule())
    found = pl.sample(exact(1e-2, path), (1000, 1), seed=0) / 1e-2
    assert float(found.std() / mixture(1.0).scale) == pytest.approx(1, abs=0.05)
