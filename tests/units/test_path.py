"""The Gaussian path between one noise and one data point, and its conditional fields."""

import pytest
import torch

import pathline as pl

pytestmark = pytest.mark.fast


def ends(shape=(5, 2), seed=0):
    return torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_ends_of_the_path_are_noise_and_data():
    noise, data = ends()
    path = pl.GaussianPath(pl.CosineSchedule())
    assert torch.equal(path.point(noise, data, 0.0).x, noise)
    assert torch.allclose(path.point(noise, data, 1.0).x, data, atol=1e-15)


def test_half_way_on_the_straight_line_is_the_midpoint():
    noise, data = ends()
    assert torch.allclose(pl.GaussianPath(pl.LinearSchedule()).point(noise, data, 0.5).x, (noise + data) / 2)


def test_conditional_fields_follow_the_course():
    noise, data = ends()
    t = torch.tensor(0.4, dtype=torch.float64)
    path = pl.GaussianPath(pl.CosineSchedule())
    c, x = path.schedule.at(t), path.point(noise, data, t).x
    velocity = (c.alpha_dot - c.beta_dot / c.beta * c.alpha) * data + c.beta_dot / c.beta * x
    assert torch.allclose(path.conditional(pl.VELOCITY, x, data, t), velocity, atol=1e-13)
    assert torch.allclose(path.conditional(pl.SCORE, x, data, t), -(x - c.alpha * data) / c.beta**2, atol=1e-13)


def test_the_conditional_score_is_the_gradient_of_the_normal_log_density():
    noise, data = ends()
    path = pl.GaussianPath(pl.LinearSchedule())
    x = path.point(noise, data, 0.6).x.requires_grad_()
    log_density = torch.distributions.Normal(0.6 * data, 1 - 0.6).log_prob(x).sum()
    (gradient,) = torch.autograd.grad(log_density, x)
    assert torch.allclose(path.conditional(pl.SCORE, x, data, 0.6), gradient, atol=1e-12)


def test_the_conditional_velocity_is_the_slope_of_the_point():
    noise, data = ends()
    path, h = pl.GaussianPath(pl.PolynomialSchedule(2)), 1e-6
    slope = (path.point(noise, data, 0.5 + h).x - path.point(noise, data, 0.5 - h).x) / (2 * h)
    point = path.point(noise, data, 0.5)
    assert torch.allclose(path.conditional(pl.VELOCITY, point.x, data, 0.5), slope, atol=1e-8)


def test_the_conditional_score_at_data_is_refused():
    _, data = ends()
    with pytest.raises(ValueError, match=r"score.*t = 1"):
        pl.GaussianPath(pl.LinearSchedule()).conditional(pl.SCORE, data, data, 1.0)


def test_noise_and_data_must_be_alike():
    with pytest.raises(ValueError, match=r"noise must have the shape of data, \(2, 3\), got \(2, 1\)"):
        pl.GaussianPath(pl.LinearSchedule()).point(torch.zeros(2, 1), torch.zeros(2, 3), 0.5)


def test_paths_are_equal_when_their_schedules_are():
    assert pl.GaussianPath(pl.PolynomialSchedule(2)) == pl.GaussianPath(pl.PolynomialSchedule(2))
    assert pl.GaussianPath(pl.PolynomialSchedule(2)) != pl.GaussianPath(pl.PolynomialSchedule(3))


def test_independent_noise_is_left_as_it_is():
    noise, data = ends()
    assert pl.IndependentCoupling()(noise, data) is noise
