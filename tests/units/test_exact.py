"""The exact field towards a mixture: against the closed form of one normal, and against autodiff and Monte Carlo."""

import math

import pytest
import torch

import pathline as pl

pytestmark = pytest.mark.fast

S = 0.5


def one_normal(schedule, prediction=pl.VELOCITY):
    return pl.MixtureField(pl.Normal(torch.zeros(2, dtype=torch.float64), S**2), pl.GaussianPath(schedule), prediction)


def mixture():
    means = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    covariances = torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.1, 0.0], [0.0, 0.4]]], dtype=torch.float64)
    return pl.GaussianMixture(means, covariances, torch.tensor([0.3, 0.7]))


X = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.CosineSchedule()], ids=repr)
def test_towards_one_normal_every_kind_is_linear_in_x(schedule, t):
    time = torch.tensor(t, dtype=torch.float64)
    a, b, a_dot, b_dot = (float(value) for value in schedule.at(time))
    variance = a**2 * S**2 + b**2
    field = one_normal(schedule)
    assert torch.allclose(field.score(X, t), -X / variance, atol=1e-12)
    assert torch.allclose(field.data(X, t), a * S**2 / variance * X, atol=1e-12)
    assert torch.allclose(field.noise(X, t), b / variance * X, atol=1e-12)
    assert torch.allclose(field.velocity(X, t), (a_dot * a * S**2 + b_dot * b) / variance * X, atol=1e-12)
    assert torch.allclose(field.read(X, t, pl.V), (a * b - b * a * S**2) / variance * X, atol=1e-12)


@pytest.mark.parametrize("t", [0.0, 0.4, 0.9, 1.0])
def test_the_score_is_the_gradient_of_the_log_density(t):
    field = pl.MixtureField(mixture(), pl.GaussianPath(pl.LinearSchedule()))
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(field.log_prob(x, t).sum(), x)
    assert torch.allclose(field.score(X, t), gradient, atol=1e-10)


def test_the_density_at_the_ends_is_noise_and_data():
    field = pl.MixtureField(mixture(), pl.GaussianPath(pl.CosineSchedule()))
    normal = -0.5 * (X**2).sum(1) - math.log(2 * math.pi)
    assert torch.allclose(field.log_prob(X, 0.0), normal, atol=1e-12)
    assert torch.allclose(field.log_prob(X, 1.0), mixture().log_prob(X), atol=1e-10)


def test_each_kind_is_the_posterior_mean_of_its_target():
    t, n, point = 0.5, 200_000, torch.tensor([[0.4, 0.3]], dtype=torch.float64)
    field = pl.MixtureField(mixture(), pl.GaussianPath(pl.LinearSchedule()))
    data = mixture().sample(n, seed=0)
    log_likelihood = -((point - t * data) ** 2).sum(1) / (2 * (1 - t) ** 2)
    weight = log_likelihood.softmax(0)[:, None]
    noise = (point - t * data) / (1 - t)
    for kind, target in ((pl.DATA, data), (pl.NOISE, noise), (pl.VELOCITY, data - noise)):
        mean = (weight * target).sum(0)
        error = ((weight**2) * (target - mean) ** 2).sum(0).sqrt()
        assert ((field.read(point, t, kind)[0] - mean).abs() < 5 * error).all(), kind


def test_points_of_any_shape_are_flattened():
    field = one_normal(pl.LinearSchedule())
    assert torch.equal(field.score(X.reshape(6, 1, 2, 1), 0.5), field.score(X, 0.5).reshape(6, 1, 2, 1))


def test_each_sample_is_read_at_its_own_time():
    field = pl.MixtureField(mixture(), pl.GaussianPath(pl.LinearSchedule()))
    t = torch.tensor([0.1, 0.9], dtype=torch.float64)  # as many times as features
    both = field.velocity(X[:2], t)
    assert torch.allclose(both, torch.cat([field.velocity(X[i : i + 1], float(t[i])) for i in range(2)]), atol=1e-13)


@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, (pl.VELOCITY, pl.SCORE), (pl.DATA,)], ids=str)
def test_forward_gives_the_heads(head):
    field = one_normal(pl.LinearSchedule(), head)
    found = field(X, torch.tensor(0.3, dtype=torch.float64))
    if isinstance(head, tuple):
        assert len(found) == len(head)
        assert all(torch.equal(value, field.read(X, 0.3, kind)) for value, kind in zip(found, head, strict=True))
    else:
        assert torch.equal(found, field.read(X, 0.3, head))


def test_points_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match="vectors of 2"):
        one_normal(pl.LinearSchedule()).velocity(torch.zeros(2, 3, dtype=torch.float64), 0.5)
