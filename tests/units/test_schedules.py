"""Schedules: their formulas, their slopes, their ends, and how a time meets a batch."""

import math

import pytest
import torch
from scipy import integrate

import pathline as pl

pytestmark = pytest.mark.fast

SCHEDULES = [
    pl.LinearSchedule(),
    pl.CosineSchedule(),
    pl.PolynomialSchedule(3),
    pl.PolynomialSchedule(0.5),
    pl.SquareRootSchedule(),
    pl.VariancePreservingSchedule(),
    pl.FunctionSchedule(lambda t: t**2, lambda t: 1 - t**2),
    pl.LinearSchedule(0.1),
    pl.SubVariancePreservingSchedule(),
    pl.VarianceExplodingSchedule(),
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:30])


@pytest.mark.parametrize(
    ("schedule", "alpha", "beta"),
    [
        (pl.LinearSchedule(), lambda t: t, lambda t: 1 - t),
        (pl.CosineSchedule(), lambda t: math.sin(math.pi * t / 2), lambda t: math.cos(math.pi * t / 2)),
        (pl.PolynomialSchedule(3), lambda t: t**3, lambda t: 1 - t**3),
        (pl.SquareRootSchedule(), lambda t: t, lambda t: math.sqrt(1 - t)),
        (pl.LinearSchedule(0.1), lambda t: t, lambda t: 1 - 0.9 * t),
        (pl.VarianceExplodingSchedule(0.01, 50), lambda t: 1.0, lambda t: 0.01**t * 50 ** (1 - t)),
    ],
    ids=["linear", "cosine", "polynomial", "square-root", "linear with noise left", "variance-exploding"],
)
def test_a_schedule_follows_its_formula(schedule, alpha, beta):
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert schedule.alpha(t).tolist() == pytest.approx([alpha(float(time)) for time in t], abs=1e-15)
    assert schedule.beta(t).tolist() == pytest.approx([beta(float(time)) for time in t], rel=1e-14, abs=1e-15)


@pytest.mark.parametrize(("slow", "fast"), [(0.1, 20.0), (0.5, 3.0)])
def test_variance_preserving_integrates_a_rate_that_falls_towards_data(slow, fast):
    schedule = pl.VariancePreservingSchedule(slow, fast)
    for t in (0.0, 0.3, 0.9, 1.0):
        total = integrate.quad(lambda s: slow + (fast - slow) * (1 - s), t, 1)[0]
        time = torch.tensor(t, dtype=torch.float64)
        assert float(schedule.alpha(time)) == pytest.approx(math.exp(-total / 2), rel=1e-12)
        assert float(schedule.beta(time)) == pytest.approx(math.sqrt(1 - math.exp(-total)), rel=1e-12)


@pytest.mark.parametrize(("slow", "fast"), [(0.1, 20.0), (0.5, 3.0)])
def test_sub_variance_preserving_has_the_same_data_and_the_square_of_the_noise(slow, fast):
    schedule, preserving = pl.SubVariancePreservingSchedule(slow, fast), pl.VariancePreservingSchedule(slow, fast)
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    assert torch.equal(schedule.alpha(t), preserving.alpha(t))
    assert torch.allclose(schedule.beta(t), preserving.beta(t) ** 2, rtol=1e-12)
    assert torch.allclose(schedule.beta(t), 1 - schedule.alpha(t) ** 2, atol=1e-15)


@every_schedule
def test_a_schedule_is_at_its_ends_what_it_declares(schedule):
    c = schedule.at(torch.tensor([0.0, 1.0], dtype=torch.float64))
    found = tuple(zip(c.alpha.tolist(), c.beta.tolist(), strict=True))
    for declared, there in zip(schedule.ends, found, strict=True):
        assert declared == pytest.approx(there, rel=1e-12, abs=1e-15)


def test_ends_that_are_not_pure_are_declared():
    left = math.exp(-(20 + 0.1) / 4)  # of the data, at noise
    assert pl.LinearSchedule(0.1).ends == ((0, 1), (1, 0.1))
    assert pl.VarianceExplodingSchedule().ends == ((1, 80), (1, 0.002))
    assert pl.SubVariancePreservingSchedule().ends[0] == pytest.approx((left, 1 - left**2), rel=1e-12)
    assert pl.VariancePreservingSchedule().ends[0] == pytest.approx((left, math.sqrt(1 - left**2)), rel=1e-12)


def test_exploding_noise_falls_by_even_factors():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    ratio = pl.VarianceExplodingSchedule(0.02, 20).beta(t).log().diff()
    assert torch.allclose(ratio, torch.full_like(ratio, math.log(1e-3) / 10), rtol=1e-10)


class Still(pl.Field):
    """Moves nothing, so that samples are where they begin."""

    def __init__(self, schedule):
        super().__init__()
        self.path, self.prediction = pl.GaussianPath(schedule), pl.VELOCITY

    def forward(self, x, t):
        return torch.zeros_like(x)


@pytest.mark.parametrize(
    ("schedule", "scale"),
    [
        (pl.LinearSchedule(), 1.0),
        (pl.LinearSchedule(0.1), 1.0),
        (pl.VarianceExplodingSchedule(0.01, 50.0), math.sqrt(1 + 50.0**2)),
        (pl.SubVariancePreservingSchedule(0.5, 3.0), math.hypot(math.exp(-3.5 / 4), 1 - math.exp(-3.5 / 2))),
    ],
    ids=repr,
)
def test_samples_begin_as_wide_as_points_of_unit_data_are_there(schedule, scale):
    pure = pl.sample(Still(pl.CosineSchedule()), (5, 2), pl.ODESampler(), steps=2, seed=1)
    begun = pl.sample(Still(schedule), (5, 2), pl.ODESampler(), steps=2, seed=1)
    assert torch.allclose(begun, scale * pure, rtol=1e-6)


def test_exploding_noise_ends_at_the_data_and_the_noise_left_on_it():
    schedule, n = pl.VarianceExplodingSchedule(0.2, 30.0), 20_000
    field = pl.MixtureField(pl.Normal(torch.zeros(1).double(), 0.25), pl.GaussianPath(schedule))
    for sampler in (pl.ODESampler(), pl.DDIM(1.0)):
        x = pl.sample(field, (n, 1), sampler, steps=200, seed=1)
        variance = 0.25 + 0.2**2
        assert abs(float(x.mean())) < 5 * math.sqrt(variance / n)
        assert abs(float(x.var()) / variance - 1) < 5 * math.sqrt(2 / n) + 0.02  # and the steps' own error


def test_the_flow_from_exploded_noise_is_off_by_what_noise_hides_of_the_mean():
    # the start is N(0, 1 + high^2), not N(3, 1 + high^2), and the flow keeps the distance in standard deviations
    high, low = 30.0, 0.2
    normal = pl.Normal(torch.full((1,), 3.0).double(), 1.0)
    field = pl.MixtureField(normal, pl.GaussianPath(pl.VarianceExplodingSchedule(low, high)))
    start = torch.zeros(1, 1, dtype=torch.float64)
    end = pl.sample(field, (1, 1), pl.ODESampler(pl.RK4), steps=200, start=start)
    assert float(end) == pytest.approx(3 - 3 * math.sqrt((1 + low**2) / (1 + high**2)), rel=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES[:5], ids=repr)
def test_the_ends_are_pure_noise_and_pure_data(schedule):
    ends = schedule.at(torch.tensor([0.0, 1.0]))
    assert ends.alpha.tolist() == [0, 1] and ends.beta.tolist() == [1, 0]


@every_schedule
def test_slopes_are_those_of_the_curves(schedule):
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    h = 1e-6
    c = schedule.at(t)
    for function, slope in ((schedule.alpha, c.alpha_dot), (schedule.beta, c.beta_dot)):
        assert torch.allclose(slope, (function(t + h) - function(t - h)) / (2 * h), rtol=1e-7, atol=1e-7)
    squared = (schedule.beta(t + h) ** 2 - schedule.beta(t - h) ** 2) / (2 * h)
    assert torch.allclose(schedule.variance_slope(t), squared, rtol=1e-7, atol=1e-7)


def test_the_variance_falls_at_a_finite_rate_where_beta_does_not():
    one = torch.tensor(1.0, dtype=torch.float64)
    assert pl.SquareRootSchedule().slopes(one)[1] == -math.inf
    assert float(pl.SquareRootSchedule().variance_slope(one)) == -1
    vp = pl.VariancePreservingSchedule(0.1, 20.0)
    assert float(vp.slopes(one)[1]) == -math.inf
    assert float(vp.variance_slope(one)) == pytest.approx(-0.1)


@pytest.mark.parametrize("schedule", SCHEDULES[:4] + SCHEDULES[5:6], ids=repr)
def test_beta_does_not_cancel_near_data(schedule):
    near = torch.tensor(1 - 2.0**-40, dtype=torch.float64)
    one = torch.tensor(1.0, dtype=torch.float64)
    if isinstance(schedule, pl.VariancePreservingSchedule):
        assert float(schedule.beta(near) ** 2) == pytest.approx(
            -(2.0**-40) * float(schedule.variance_slope(one)), rel=1e-6
        )
    else:
        assert float(schedule.beta(near)) == pytest.approx(-(2.0**-40) * float(schedule.slopes(one)[1]), rel=1e-6)


@every_schedule
@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 3), (3, 1, 3, 3)])
def test_each_sample_is_at_its_own_time_even_where_batch_and_features_are_as_many(schedule, shape):
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, *shape, generator=generator)
    t = torch.tensor([0.1, 0.5, 0.8])
    path = pl.GaussianPath(schedule)
    whole = path.point(noise, data, t)
    for i in range(3):
        one = path.point(noise[i : i + 1], data[i : i + 1], float(t[i]))
        assert torch.allclose(whole.x[i], one.x[0], atol=1e-6)
        expected = float(schedule.alpha(t[i])) * data[i] + float(schedule.beta(t[i])) * noise[i]
        assert torch.allclose(whole.x[i], expected, atol=1e-6)
        for kind in (pl.VELOCITY, pl.SCORE, pl.V):
            assert torch.allclose(whole.target(kind)[i], one.target(kind)[0], rtol=1e-5, atol=1e-5)


@every_schedule
def test_one_time_is_the_time_of_all(schedule):
    t, x = torch.tensor(0.3), torch.ones(4, 2)
    one, each = schedule.at(t, x), schedule.at(t.expand(4), x)
    for a, b in zip(one, each, strict=True):
        assert torch.equal((a * x), b * x)


@every_schedule
def test_coefficients_take_the_dtype_of_the_points(schedule):
    c = schedule.at(torch.tensor(0.3), torch.zeros(2, 2, dtype=torch.bfloat16))
    assert {value.dtype for value in c} == {torch.bfloat16}


def test_a_power_of_one_is_the_straight_line():
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    for a, b in zip(pl.PolynomialSchedule(1).at(t), pl.LinearSchedule().at(t), strict=True):
        assert torch.allclose(a, b, atol=1e-15)


@pytest.mark.parametrize("power", [0, -1, float("nan")])
def test_a_power_that_is_not_positive_is_refused(power):
    with pytest.raises(ValueError, match="power must be positive"):
        pl.PolynomialSchedule(power)


@pytest.mark.parametrize("made", [pl.VariancePreservingSchedule, pl.SubVariancePreservingSchedule])
@pytest.mark.parametrize(("slow", "fast"), [(0, 1), (2, 1), (-1, 1), (float("nan"), 1)])
def test_rates_that_do_not_rise_are_refused(made, slow, fast):
    with pytest.raises(ValueError, match="0 < slow <= fast"):
        made(slow, fast)


@pytest.mark.parametrize("sigma_min", [-0.1, 1.0, math.nan])
def test_noise_left_on_the_data_is_less_than_all_of_it(sigma_min):
    with pytest.raises(ValueError, match=f"sigma_min must be from 0 to below 1, got {sigma_min}"):
        pl.LinearSchedule(sigma_min)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2, 1), (1, 1), (-1, 1), (math.nan, 1), (1, math.inf)])
def test_noise_that_does_not_explode_is_refused(low, high):
    with pytest.raises(ValueError, match="0 < low < high"):
        pl.VarianceExplodingSchedule(low, high)


@pytest.mark.parametrize(
    ("alpha", "beta", "message"),
    [
        (lambda t: 1 - t, lambda t: 1 - t, "alpha must be .* rise"),
        (lambda t: t, lambda t: t, "beta must be .* fall"),
        (lambda t: t - 0.5, lambda t: 1 - t, "alpha must be .* not negative"),
        (lambda t: t.log(), lambda t: 1 - t, "alpha must be finite"),
        (lambda t: t, lambda t: torch.ones(()), "beta must return a tensor of the shape of t"),
    ],
)
def test_functions_that_are_no_schedule_are_refused(alpha, beta, message):
    with pytest.raises(ValueError, match=message):
        pl.FunctionSchedule(alpha, beta)


def test_a_function_may_stand_still():
    pl.FunctionSchedule(lambda t: t.clamp(max=0.5) * 2, lambda t: 1 - t)


def test_schedules_are_equal_by_value():
    assert pl.PolynomialSchedule(2) == pl.PolynomialSchedule(2.0) != pl.PolynomialSchedule(3)
    assert pl.LinearSchedule() != pl.CosineSchedule()
