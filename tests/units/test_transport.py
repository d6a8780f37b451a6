"""How far points are moved and how straight: ways whose length is known."""

import math

import pytest
import torch

import pathline as pl
from pathline.noise import Noise

pytestmark = pytest.mark.fast


def test_the_cost_is_the_mean_square_of_the_distances():
    noise = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    data = torch.tensor([[3.0, 4.0], [1.0, 2.0]])
    assert float(pl.transport_cost(noise, data)) == (25 + 1) / 2
    assert float(pl.transport_cost(noise.reshape(2, 1, 1, 2), data.reshape(2, 1, 1, 2))) == 13  # images as vectors


def test_between_two_normals_unpaired_it_is_both_variances_and_the_distance():
    n, d = 20_000, 3
    noise, data = Noise(1).normal((n, d)), 2 + 0.5 * Noise(2).normal((n, d))
    variance = 1 + 0.25
    true = d * (variance + 4)
    error = math.sqrt(d * (2 * variance**2 + 16 * variance) / n)  # of the mean of N(2, 5/4)^2, d of them
    assert abs(float(pl.transport_cost(noise, data)) - true) < 5 * error


def test_transport_between_two_normals_on_a_line_is_near_wasserstein():
    # W_2^2 = (m - n)^2 + (s - r)^2, and what the means of a finite batch are off by
    n = 400
    noise, data = Noise(1).normal((n, 1), dtype=torch.float64), 3 + 0.5 * Noise(2).normal((n, 1), dtype=torch.float64)
    cost = float(pl.transport_cost(pl.OptimalTransportCoupling()(noise, data), data))
    assert cost == pytest.approx(float(pl.transport_cost(noise.sort(0).values, data.sort(0).values)), rel=1e-12)
    assert abs(cost - (9 + 0.25)) < 5 * 2 * 3 * math.sqrt(1.25 / n)


def test_a_straight_line_at_constant_speed_is_1():
    a, b = Noise(1).normal((2, 50, 3))
    times = torch.tensor([0.0, 0.1, 0.15, 0.6, 1.0])  # however uneven the times
    states = a + times[:, None, None] * (b - a)
    assert float(pl.path_straightness(states, times)) == pytest.approx(1, rel=1e-6)
    assert float(pl.path_straightness(states.flip(0), times.flip(0))) == pytest.approx(1, rel=1e-6)
    assert float(pl.path_straightness(states.reshape(5, 50, 1, 3, 1), 7 * times)) == pytest.approx(1, rel=1e-6)


def test_half_a_circle_at_constant_speed_is_4_over_pi_squared():
    times = torch.linspace(0, 1, 1001, dtype=torch.float64)
    angle = math.pi * times
    states = torch.stack((angle.cos(), angle.sin()), 1)[:, None] * torch.tensor([1.0, 2.0, 5.0])[None, :, None]
    assert float(pl.path_straightness(states, times)) == pytest.approx(4 / math.pi**2, rel=1e-5)
    chord = 2 * math.sin(math.pi / 8)  # of a quarter of it: four steps, each a straight line
    coarse = pl.path_straightness(states[::250], times[::250])
    assert float(coarse) == pytest.approx(4 / (16 * chord**2), rel=1e-10)


def test_a_straight_line_at_uneven_speed_is_less():
    times = torch.linspace(0, 1, 1001, dtype=torch.float64)
    states = (times**2)[:, None, None]  # the integral of (2 t)^2 is 4/3
    assert float(pl.path_straightness(states, times)) == pytest.approx(3 / 4, rel=1e-5)


def test_there_and_back_is_0():
    times = torch.linspace(0, 1, 3)
    assert float(pl.path_straightness(torch.tensor([0.0, 1.0, 0.0])[:, None, None], times)) == 0


def test_a_field_that_moves_and_scales_is_as_straight_as_its_integral():
    # from N(0, 1) to N(m, s^2) on the straight line the flow is x_t = t m + r_t x_0, r_t^2 = (1 - t)^2 + t^2 s^2
    m, s = 2.0, 0.5
    field = pl.MixtureField(pl.Normal(torch.tensor([m]).double(), s**2), pl.GaussianPath(pl.LinearSchedule()))
    x = torch.linspace(0.5 / 4000, 1 - 0.5 / 4000, 4000, dtype=torch.float64)
    x = torch.special.ndtri(x)[:, None]  # quantiles stand for the normal
    times = torch.linspace(0, 1, 401, dtype=torch.float64)
    with torch.no_grad():
        states = torch.stack(list(pl.ODESampler().walk(field, x, times)))
    r = ((1 - times) ** 2 + times**2 * s**2).sqrt()
    squared = float((x**2).mean())  # 1, but for the quantiles
    energy = m**2 + squared * float((r.diff() ** 2 / times.diff()).sum())
    true = (m**2 + squared * (s - 1) ** 2) / energy
    assert float(pl.path_straightness(states, times)) == pytest.approx(true, rel=1e-4)


@pytest.mark.parametrize(("states", "times"), [(3, 2), (1, 1), (2, 3)])
def test_as_many_states_as_times_are_needed(states, times):
    with pytest.raises(ValueError, match=f"at least two times, got {states} for {times}"):
        pl.path_straightness(torch.zeros(states, 4, 2), torch.linspace(0, 1, times))
