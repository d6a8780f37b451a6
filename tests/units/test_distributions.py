"""Normals and mixtures: densities against scipy, samples against their moments."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import pathline as pl

pytestmark = pytest.mark.fast

MEANS = torch.tensor([[0.0, 1.0], [3.0, -1.0], [-2.0, 0.5]], dtype=torch.float64)
FULL = torch.tensor([[[1.0, 0.6], [0.6, 2.0]], [[0.5, 0.0], [0.0, 0.1]], [[2.0, -1.0], [-1.0, 1.0]]]).double()
WEIGHTS = torch.tensor([1.0, 2.0, 5.0])
X = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


def truth(covariances, weights):
    parts = [
        stats.multivariate_normal(m, c).pdf(X.numpy()) for m, c in zip(MEANS.numpy(), covariances.numpy(), strict=True)
    ]
    return np.log(np.tensordot(weights / weights.sum(), np.stack(parts), 1))


@pytest.mark.parametrize(
    ("covariances", "full"),
    [
        (FULL, FULL),
        (
            torch.tensor([[1.0, 2.0], [0.5, 0.1], [2.0, 1.0]]),
            torch.diag_embed(torch.tensor([[1, 2], [0.5, 0.1], [2, 1]])),
        ),
        (torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.5, 1.0, 2.0])[:, None, None] * torch.eye(2)),
    ],
    ids=["full", "diagonal", "spherical"],
)
def test_the_density_of_a_mixture_is_scipys(covariances, full):
    mixture = pl.GaussianMixture(MEANS, covariances, WEIGHTS)
    assert mixture.log_prob(X).tolist() == pytest.approx(truth(full.double(), WEIGHTS.numpy()).tolist(), abs=1e-6)


def test_the_density_far_away_is_still_a_number():
    normal = pl.Normal(torch.zeros(2, dtype=torch.float64))
    assert float(normal.log_prob(torch.full((1, 2), 1e4, dtype=torch.float64))) == pytest.approx(
        -1e8 - math.log(2 * math.pi), rel=1e-12
    )


def test_weights_left_out_are_equal():
    assert pl.GaussianMixture(MEANS, torch.ones(3)).weights.tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    ("covariance", "full"), [(0.25, 0.25 * np.eye(2)), (torch.tensor([1.0, 4.0]), np.diag([1, 4])), (FULL[0], FULL[0])]
)
def test_the_density_of_a_normal_is_scipys(covariance, full):
    normal = pl.Normal(MEANS[1], covariance)
    expected = stats.multivariate_normal(MEANS[1].numpy(), np.asarray(full)).logpdf(X.numpy())
    assert normal.log_prob(X).tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert normal.dimension == 2


def test_samples_have_the_moments_of_their_components():
    mixture, n = pl.GaussianMixture(MEANS, FULL, WEIGHTS), 40_000
    x, k = mixture.sample_with_component(n, seed=1)
    counts = torch.bincount(k, minlength=3).double()
    assert stats.chisquare(counts.numpy(), (n * WEIGHTS / 8).double().numpy()).pvalue > 1e-4
    for component in range(3):
        mine = x[k == component]
        z = (mine - MEANS[component]) @ torch.linalg.inv(torch.linalg.cholesky(FULL[component])).T
        root = math.sqrt(len(mine))
        assert (z.mean(0).abs() * root < 5).all()
        assert ((z.T @ z / len(mine) - torch.eye(2)).abs() * root < 5 * math.sqrt(2)).all()


def test_sample_i_depends_on_the_seed_and_i_only():
    mixture = pl.GaussianMixture(MEANS, FULL, WEIGHTS)
    assert torch.allclose(mixture.sample(100, seed=3)[:7], mixture.sample(7, seed=3), atol=1e-14)
    assert not torch.allclose(mixture.sample(7, seed=3), mixture.sample(7, seed=4))


def test_components_of_a_ring_are_evenly_on_a_circle():
    ring = pl.GaussianMixture.symmetric(6, radius=2.0, std=0.5)
    assert torch.allclose(ring.means.norm(dim=1), torch.tensor(2.0))
    gaps = (ring.means - ring.means.roll(1, 0)).norm(dim=1)
    assert torch.allclose(gaps, torch.tensor(2.0), atol=1e-6)  # a hexagon's side is its radius
    assert torch.allclose(ring.variances, torch.tensor(0.25))


@pytest.mark.parametrize(
    ("means", "covariances", "weights", "message"),
    [
        (torch.zeros(3), torch.ones(3), None, "means must have shape"),
        (torch.zeros(2, 3), torch.ones(4), None, "covariances must have shape"),
        (torch.zeros(2, 3), -torch.ones(2), None, "positive definite, the least variance is -1"),
        (torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]), None, "positive definite"),
        (torch.zeros(1, 2), torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]), None, "symmetric"),
        (torch.zeros(2, 3), torch.ones(2), torch.tensor([1.0, 0.0]), "weights must be 2 positive numbers"),
        (torch.zeros(2, 3), torch.ones(2), torch.ones(3), "weights must be 2 positive numbers"),
        (torch.zeros(2, 3), torch.tensor([1.0, math.nan]), None, "positive definite"),
    ],
)
def test_what_is_no_mixture_is_refused(means, covariances, weights, message):
    with pytest.raises(ValueError, match=message):
        pl.GaussianMixture(means, covariances, weights)


@pytest.mark.parametrize("x", [torch.zeros(3), torch.zeros(4, 3)])
def test_points_of_another_dimension_are_refused(x):
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 2\)"):
        pl.GaussianMixture(MEANS, FULL).log_prob(x)


def test_a_mean_must_be_a_vector():
    with pytest.raises(ValueError, match=r"mean must have shape \(dimension,\)"):
        pl.Normal(torch.zeros(2, 2))


def test_what_a_component_draws_does_not_depend_on_its_being_chosen():
    mixture = pl.GaussianMixture(torch.tensor([[-3.0], [4.0]]), torch.tensor([0.5, 2.0]), torch.tensor([0.3, 0.7]))
    x, k = mixture.sample_with_component(40_000, seed=5)
    z = (x - mixture.means[k])[:, 0] / mixture.variances[k, 0].sqrt()
    for component in range(2):
        mine = z[k == component].double()
        assert abs(float(mine.mean())) * len(mine) ** 0.5 < 5
        assert abs(float((mine**2).mean()) - 1) * (len(mine) / 2) ** 0.5 < 5
