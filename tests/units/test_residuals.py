"""Residuals of equations, the marginalisation gap and the drift between sigmas, where each is known."""

import math

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.likelihood.divergence import Hutchinson
from pathline.verify import (
    asymmetry,
    continuity_residual,
    fokker_planck_residual,
    loss_floor,
    marginalisation_gap,
    same_marginals,
)
from pathline.verify.bridges import bridge
from pathline.verify.parts import field, mixture, points, spread_times

pytestmark = pytest.mark.fast

X = 1.5 * points(40, seed=3)
TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)


class Changed(pl.Field):
    """The exact velocity and score of the three modes, each changed by a function."""

    def __init__(self, of_velocity=lambda u, x: u, of_score=lambda s, x: s):
        super().__init__()
        self.exact, self.path, self.prediction = field(), field().path, (pl.VELOCITY, pl.SCORE)
        self.of_velocity, self.of_score = of_velocity, of_score

    def forward(self, x, t):
        u, s = self.exact.read(x, t, *self.prediction)
        return self.of_velocity(u, x), self.of_score(s, x)


@pytest.mark.parametrize("sigma", [0.0, 1.0, pl.BetaSigma(2.0)], ids=repr)
@pytest.mark.parametrize("is_backward", [False, True])
@pytest.mark.parametrize("has_density", [False, True])
def test_exact_fields_obey_their_equations(sigma, is_backward, has_density):
    exact, t = field(pl.CosineSchedule(), pl.NOISE), spread_times(40)
    density = exact.log_prob if has_density else None
    found = fokker_planck_residual(exact, X, t, sigma, density, is_backward=is_backward)
    assert found.relative.max() < 1e-10
    assert found.value.shape == ((40,) if has_density else X.shape)
    assert torch.equal(found.error, torch.zeros_like(found.error))


def test_so_do_bridges_data_sets_and_images():
    between = bridge(0.5)
    assert continuity_residual(between, X, 0.4).relative.max() < 1e-10
    data = pl.EmpiricalField(points(30, 4, seed=5).reshape(30, 1, 2, 2), pl.GaussianPath(pl.LinearSchedule()), 0.1)
    x = points(6, 4, seed=6).reshape(6, 1, 2, 2)
    assert fokker_planck_residual(data, x, 0.3, 1.0).relative.max() < 1e-10
    assert asymmetry(data, x, 0.3).relative.max() < 1e-10


def test_the_residual_of_a_density_that_stands_still_is_all_there_is():
    # u = 0 and s = -x: d/dt log p is all that is left, and of N(0, v_t) that is (|x|^2 / v - 2) v' / 2v
    class Still(pl.Field):
        path, prediction = pl.GaussianPath(pl.LinearSchedule()), (pl.VELOCITY, pl.SCORE)

        def forward(self, x, t):
            return 0 * x, -x

    def log_prob(x, t):
        v = 1 + t
        return -(x**2).sum(1) / (2 * v) - torch.log(2 * math.pi * v)

    found = continuity_residual(Still(), X, 0.5, log_prob)
    assert torch.allclose(found.value, ((X**2).sum(1) / 1.5 - 2) / 3)
    assert torch.allclose(found.relative, torch.ones(40, dtype=torch.float64))


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_a_wrong_score_is_called_out(sigma):
    wrong = Changed(of_score=lambda s, x: -s)
    assert fokker_planck_residual(wrong, X, 0.5, sigma).overall > 0.1
    against = fokker_planck_residual(wrong, X, 0.5, sigma, field().log_prob)
    # without noise the score is not in the equation of the density, with it the drift is off by sigma^2 s
    assert against.overall < 1e-12 if sigma == 0 else against.overall > 0.1


def test_a_wrong_velocity_has_the_residual_that_it_was_given():
    # c more velocity leaves a residual of c . s in the density, and of grad (c . s) in the score
    c = torch.tensor([0.3, -0.2], dtype=torch.float64)
    wrong, x = Changed(of_velocity=lambda u, x: u + c), X.clone().requires_grad_()
    along = (field().score(x, 0.5) * c).sum(1)
    assert torch.allclose(continuity_residual(wrong, X, 0.5, field().log_prob).value, along.detach())
    (slope,) = torch.autograd.grad(along.sum(), x)
    assert torch.allclose(continuity_residual(wrong, X, 0.5).value, slope)


def test_probes_are_without_bias_and_tell_their_error():
    wrong = Changed(of_velocity=lambda u, x: u + 0.5 * x.roll(1, 1) ** 2)
    x = X.repeat(25, 1)
    exact = continuity_residual(wrong, X, 0.5)
    found = continuity_residual(wrong, x, 0.5, divergence=Hutchinson(4))
    z = (found.value - exact.value.repeat(25, 1)).norm(dim=1) / found.error
    assert (z**2).median() < 3 and found.error.min() >= 0
    assert found.overall == pytest.approx(exact.overall, rel=0.05)
    plain = float(((found.value**2).sum(1).mean() / (found.size**2).mean()).sqrt())
    assert plain > found.overall  # what probes put in is taken out again


def test_the_asymmetry_is_the_turn_that_was_put_in():
    # s = A x with A = [[a, b], [-b, c]]: |A - A^T| / 2 = sqrt(2) |b|
    class Linear(pl.Field):
        path, prediction = pl.GaussianPath(pl.LinearSchedule()), pl.SCORE
        matrix = torch.tensor([[-1.0, 0.4], [-0.4, -2.0]], dtype=torch.float64)

        def forward(self, x, t):
            return x @ self.matrix.T

    found = asymmetry(Linear(), X, 0.5)
    assert torch.allclose(found.value, torch.full((40,), 0.4 * 2**0.5, dtype=torch.float64))
    assert torch.allclose(found.size, Linear.matrix.norm().expand(40))
    by_probes = asymmetry(Linear(), X.repeat(100, 1), 0.5, probes=4)
    assert by_probes.overall == pytest.approx(found.overall, rel=0.03)
    assert asymmetry(field(), X, 0.5).relative.max() < 1e-12
    turned = Changed(of_score=lambda s, x: s + 0.5 * s @ TURN)
    assert asymmetry(turned, X, 0.5).overall > 0.3
    with pytest.raises(ValueError, match="probes must be at least 1"):
        asymmetry(field(), X, 0.5, probes=0)


def test_a_network_is_asked_in_its_mode_and_dtype():
    torch.manual_seed(0)
    network = pl.NetworkField(pl.UNet(1, 8, 1, 3), pl.GaussianPath(pl.LinearSchedule()))
    nn.init.normal_(network.network.last[-1].weight, std=0.3)
    x = points(4, 16).float().reshape(4, 1, 4, 4)
    found = continuity_residual(network.train().given(torch.tensor([0, 1, 2, 0])), x, 0.5)
    assert found.value.dtype == torch.float32 and 0.01 < found.overall <= 1
    assert all(part.training for part in network.modules())
    # the derivative with respect to time, by differences
    network, x, step = network.eval().double(), x.double(), 1e-6
    with torch.no_grad():
        near = [network.given(0).score(x, 0.5 + sign * step) for sign in (1, -1)]
    still = Still(network.given(0))
    slope = continuity_residual(still, x, 0.5).value
    assert (slope - (near[0] - near[1]) / (2 * step)).norm() / slope.norm() < 1e-6


class Still(pl.Field):
    """The score of a field, and no velocity: its residual is d/dt s."""

    def __init__(self, other):
        super().__init__()
        self.other, self.path, self.prediction = other, other.path, (pl.VELOCITY, pl.SCORE)

    def forward(self, x, t):
        return 0 * x, self.other.score(x, t)


def test_the_gap_is_what_the_loss_is_above_its_floor():
    exact, t = field(), torch.tensor([0.2, 0.6])
    near = Changed(of_velocity=lambda u, x: u + 0.3)
    gap = marginalisation_gap(near, exact, t)
    assert torch.allclose(gap.value, torch.full((2,), 0.09, dtype=torch.float64)) and gap.standard_error.max() < 1e-12
    assert marginalisation_gap(exact, exact, t, pl.SCORE).value.max() == 0
    data = exact.mixture.sample(20_000, seed=7)
    point = exact.path.point(points(20_000, seed=8), data, t[1])
    with torch.no_grad():
        each = ((near.velocity(point.x, t[1]) - point.target(pl.VELOCITY)) ** 2).mean(1)
    z = (each.mean() - (loss_floor(exact, t).value + gap.value)[1]) / (each.std() / len(each) ** 0.5)
    assert abs(z) < 4.4


def test_a_class_is_compared_with_its_own_exact_field():
    data, y = mixture().sample(60, seed=9), torch.arange(60) % 3
    truth = pl.EmpiricalField(data, pl.GaussianPath(pl.LinearSchedule()), y=y)
    t = torch.tensor([0.5])
    assert marginalisation_gap(truth, truth, t, is_conditional=True, draws=200).value.max() == 0
    other = pl.EmpiricalField(data, truth.path, y=(y + 1) % 3)
    assert marginalisation_gap(other, truth, t, is_conditional=True, draws=200).relative.min() > 0.3
    fresh = pl.EmpiricalField(mixture().sample(60, seed=10), truth.path, y=y)
    assert marginalisation_gap(truth, truth, t, is_conditional=True, draws=200, source=fresh).value.max() == 0


def test_samples_of_every_sigma_agree_on_an_exact_field():
    flow, *others = same_marginals(field(), (600, 2), (0.0, 0.5, pl.BetaSigma(1.0)), steps=60, seed=1)
    assert flow.share == 0 and flow.samples.shape == (600, 2)
    for each in others:
        assert abs(each.share) < 4.4 * each.error and each.p_value > 1e-3
        assert abs(each.variance_ratio - 1) < 4.4 * each.ratio_error + 0.05  # as much is Euler-Maruyama's own


def test_samples_of_a_wrong_score_drift_apart():
    _, found = same_marginals(Changed(of_score=lambda s, x: -s), (400, 2), (0.0, 1.0), steps=40)
    assert found.share > 0.02 and found.share > 10 * found.error and found.variance_ratio > 1.5
    with pytest.raises(ValueError, match="at least two"):
        next(same_marginals(field(), (10, 2), (0.0,)))


def test_the_error_of_a_drift_is_what_chance_makes_of_it():
    from pathline.sampling.sigmas import sigma_of
    from pathline.verify.marginals import apart

    y = torch.arange(150) % 3  # stratified, as samples of classes are
    z = []
    for k in range(60):
        x = 3 * torch.nn.functional.one_hot(y).double() + points(300, 3, seed=k).reshape(2, 150, 3)
        found = apart(*x, sigma_of(1.0), seed=k)
        z.append(found.share / found.error)
    z = torch.tensor(z)
    assert abs(z.mean()) < 4.4 / 60**0.5 and 0.5 < z.std() < 1.6
