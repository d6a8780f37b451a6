"""The loss floor, where it is an integral that is known."""

import math

import pytest
import torch
from scipy import integrate

import pathline as pl
from pathline.verify import loss_floor, loss_floor_by_time
from pathline.verify.parts import points

pytestmark = pytest.mark.fast

PATH = pl.GaussianPath(pl.CosineSchedule())
S = 0.6
T = torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64)


def normal(dimension=1):
    return pl.Normal(torch.full((dimension,), 0.7, dtype=torch.float64), torch.tensor(S**2, dtype=torch.float64))


def of_normal(kind, schedule, t):
    """Var(kind | x_t) for data N(m, S^2), from Var(data | x_t) = S^2 beta^2 / (alpha^2 S^2 + beta^2)."""
    c = schedule.at(t)
    data = S**2 * c.beta**2 / (c.alpha**2 * S**2 + c.beta**2)
    slope = {  # d kind / d data at a fixed point
        pl.DATA: torch.ones_like(t),
        pl.NOISE: c.alpha / c.beta,
        pl.SCORE: c.alpha / c.beta**2,
        pl.VELOCITY: c.alpha_dot - c.beta_dot * c.alpha / c.beta,
        pl.V: c.beta + c.alpha**2 / c.beta,
    }[kind]
    return slope**2 * data


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize("kind", [pl.DATA, pl.NOISE, pl.SCORE, pl.VELOCITY, pl.V], ids=repr)
@pytest.mark.parametrize(
    "schedule", [pl.CosineSchedule(), pl.LinearSchedule(0.1), pl.VariancePreservingSchedule()], ids=repr
)
def test_of_a_normal_it_is_the_closed_form(schedule, kind, dimension):
    floor = loss_floor(pl.MixtureField(normal(dimension), pl.GaussianPath(schedule)), T, kind)
    assert torch.allclose(floor.value, of_normal(kind, schedule, T), rtol=1e-9)
    assert torch.equal(floor.standard_error, torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize(("dimension", "draws"), [(1, 20_000), (5, None)])
def test_draws_find_it_too_and_say_how_surely(dimension, draws):
    floor = loss_floor(pl.MixtureField(normal(dimension), PATH), T, draws=draws)
    true, n = of_normal(pl.VELOCITY, PATH.schedule, T), draws or 200_000
    assert ((floor.value - true).abs() < 4.9 * floor.standard_error).all()
    # each draw is the mean of squares of `dimension` normals
    assert torch.allclose(floor.standard_error, true * math.sqrt(2 / dimension / n), rtol=0.1)


def test_between_two_points_it_is_an_integral():
    # data -a or a: E[data | x] = a tanh(alpha a x / beta^2), and what is left is a^2 (1 - tanh^2)
    a, data = 1.3, torch.tensor([[-1.3], [1.3]], dtype=torch.float64)
    field = pl.EmpiricalField(data, PATH)
    floor = loss_floor(field, T, pl.DATA, draws=40_000)
    for value, error, t in zip(floor.value.tolist(), floor.standard_error.tolist(), T.tolist(), strict=True):
        alpha, beta = math.sin(math.pi / 2 * t), math.cos(math.pi / 2 * t)

        def left(z, alpha=alpha, beta=beta):
            x = alpha * a + beta * z
            return a**2 * (1 - math.tanh(alpha * a * x / beta**2) ** 2) * math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)

        assert abs(value - integrate.quad(left, -10, 10, points=[0])[0]) < 4.9 * error


def test_at_pure_noise_it_is_the_variance_of_the_data():
    mixture = pl.GaussianMixture(torch.tensor([[-1.0], [2.0]]).double(), torch.tensor([0.1, 0.3]))
    variance = 0.2 + 1.5**2  # within and between, half of each
    zero = torch.zeros(1)
    assert float(loss_floor(pl.MixtureField(mixture, PATH), zero, pl.DATA).value) == pytest.approx(variance, rel=1e-6)
    line = pl.GaussianPath(pl.LinearSchedule())
    velocity = loss_floor(pl.MixtureField(mixture, line), zero, pl.VELOCITY)  # data - noise, the noise being known
    assert float(velocity.value) == pytest.approx(variance, rel=1e-6)


def test_it_is_what_the_exact_field_loses():
    line = pl.GaussianPath(pl.LinearSchedule())
    exact = pl.MixtureField(normal(), line)
    lost = pl.loss_by_time(pl.MatchingLoss(exact), normal().sample(20_000, seed=1), bins=4)
    floor = loss_floor_by_time(exact, bins=4, draws=40_000)
    error = (floor.standard_error**2 * (1 + 2)).sqrt()  # half as many points were lost on as were drawn
    assert ((lost - floor.value).abs() < 5 * error).all()


@pytest.mark.parametrize("kind", [pl.VELOCITY, pl.DATA], ids=repr)
def test_by_time_it_is_the_average_over_each_stretch(kind):
    line = pl.GaussianPath(pl.LinearSchedule())
    found = loss_floor_by_time(pl.MixtureField(normal(), line), kind, bins=4, draws=20_000)
    for k in range(4):
        true = integrate.quad(
            lambda t: float(of_normal(kind, line.schedule, torch.tensor(t, dtype=torch.float64))), k / 4, (k + 1) / 4
        )
        assert abs(float(found.value[k]) - 4 * true[0]) < 5 * float(found.standard_error[k])


def labelled(count=60):
    mixture = pl.GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.tensor([0.2, 0.3]))
    data, y = mixture.sample_with_component(count, seed=2)
    return data, y


def test_who_knows_the_class_can_lose_less():
    data, y = labelled()
    line = pl.GaussianPath(pl.LinearSchedule())
    field = pl.EmpiricalField(data, line, y=y)
    free = loss_floor_by_time(field, bins=4, draws=4000)
    told = loss_floor_by_time(field, bins=4, draws=4000, is_conditional=True)
    error = (free.standard_error**2 + told.standard_error**2).sqrt()
    assert (told.value[:2] < free.value[:2] - 5 * error[:2]).all()
    # it is the average of the floors of each class alone
    each = [loss_floor_by_time(field.of_class(k), bins=4, draws=4000) for k in (0, 1)]
    share = [float((y == k).double().mean()) for k in (0, 1)]
    mean = sum(s * floor.value for s, floor in zip(share, each, strict=True))
    error = (told.standard_error**2 + sum((s * f.standard_error) ** 2 for s, f in zip(share, each, strict=True))).sqrt()
    assert ((told.value - mean).abs() < 5 * error).all()


def test_a_training_set_has_a_lower_floor_than_what_it_comes_from():
    line = pl.GaussianPath(pl.LinearSchedule())
    mixture = pl.GaussianMixture(torch.tensor([[-1.0, 0.0], [1.0, 0.5]]), torch.tensor([0.2, 0.3]))
    few, true = pl.EmpiricalField(mixture.sample(50, seed=2), line), pl.MixtureField(mixture, line)
    t = torch.tensor([0.97])
    assert float(loss_floor(few, t, draws=4000).value) < 0.3 * float(loss_floor(true, t).value)


def test_floors_depend_on_their_seed_only():
    field = pl.EmpiricalField(labelled()[0], PATH)
    first, again, other = (loss_floor(field, T, draws=500, seed=seed).value for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda data, y: loss_floor(pl.MixtureField(normal(), PATH), torch.tensor([0.5, 1.0]), pl.SCORE), "score"),
        (lambda data, y: loss_floor(pl.MixtureField(normal(), PATH), torch.ones(1)), "must lie inside the path"),
        (lambda data, y: loss_floor(pl.EmpiricalField(data, PATH), torch.ones(1), pl.DATA), "t must be below 1"),
        (lambda data, y: loss_floor_by_time(pl.EmpiricalField(data, PATH), is_conditional=True), "needs labels"),
        (lambda data, y: loss_floor_by_time(pl.MixtureField(normal(), PATH), is_conditional=True), "data with labels"),
    ],
)
def test_a_floor_that_is_not_known_is_refused(attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt(*labelled())


def test_a_bandwidth_is_part_of_the_data():
    data = points(8, 2, seed=5)
    blurred = pl.EmpiricalField(data, pl.GaussianPath(pl.LinearSchedule()), bandwidth=0.5)
    mixture = pl.GaussianMixture(data, torch.full((8,), 0.25, dtype=torch.float64))
    t = torch.tensor([0.5, 0.9])
    drawn = loss_floor(blurred, t, draws=60_000)
    exact = loss_floor(pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule())), t)
    assert ((drawn.value - exact.value).abs() < 5 * drawn.standard_error).all()


def test_only_exact_fields_have_a_floor_and_draws_are_enough():
    path = pl.GaussianPath(pl.LinearSchedule())
    with pytest.raises(ValueError, match=r"field must be exact.*NetworkField"):
        loss_floor(pl.NetworkField(pl.MLP(2, 8), path), torch.tensor([0.5]))
    with pytest.raises(ValueError, match="draws must be at least 2"):
        loss_floor(pl.EmpiricalField(torch.randn(5, 2), path), torch.tensor([0.5]), draws=0)
