"""Kinds of prediction as rows, and the maps between them, against the formulas of the course."""

import math

import pytest
import torch

import pathline as pl
from pathline.paths.predictions import Interval, error_ratio, interval

pytestmark = pytest.mark.fast

KINDS = (pl.VELOCITY, pl.SCORE, pl.NOISE, pl.DATA, pl.V)


def draw(schedule, t, shape=(4, 3)):
    data, noise = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return pl.GaussianPath(schedule).point(noise, data, t)


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        (pl.VELOCITY, lambda t, z, e: z - e),
        (pl.SCORE, lambda t, z, e: -e / (1 - t)),
        (pl.NOISE, lambda t, z, e: e),
        (pl.DATA, lambda t, z, e: z),
        (pl.V, lambda t, z, e: t * e - (1 - t) * z),
    ],
)
def test_a_target_on_the_straight_line_is_the_formula(kind, formula):
    point = draw(pl.LinearSchedule(), 0.3)
    assert torch.allclose(point.target(kind), formula(0.3, point.data, point.noise), atol=1e-14)


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.CosineSchedule(), pl.SquareRootSchedule()], ids=repr)
def test_what_two_kinds_say_of_a_known_point_agrees(schedule, source, target):
    point = draw(schedule, torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64))
    found = pl.convert(point.target(source), point.x, point.t, schedule, source, target)
    assert torch.allclose(found, point.target(target), rtol=1e-10, atol=1e-10)


def test_velocity_from_score_is_the_formula_of_the_course():
    schedule, t = pl.CosineSchedule(), torch.tensor(0.37, dtype=torch.float64)
    c = schedule.at(t)
    x, score = torch.randn(2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    u = (c.beta**2 * c.alpha_dot / c.alpha - c.beta_dot * c.beta) * score + c.alpha_dot / c.alpha * x
    assert torch.allclose(pl.convert(score, x, t, schedule, pl.SCORE, pl.VELOCITY), u, atol=1e-13)


def test_on_the_circle_the_velocity_is_v_turned_and_scaled():
    point = draw(pl.CosineSchedule(), 0.2)
    assert torch.allclose(point.target(pl.VELOCITY), -math.pi / 2 * point.target(pl.V), atol=1e-14)


@pytest.mark.parametrize("source", KINDS)
def test_a_conversion_and_back_changes_nothing(source):
    schedule, t = pl.VariancePreservingSchedule(), torch.tensor(0.7, dtype=torch.float64)
    x, value = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for target in KINDS:
        there = pl.convert(value, x, t, schedule, source, target)
        assert torch.allclose(pl.convert(there, x, t, schedule, target, source), value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("source", "target", "start", "stop"),
    [
        (pl.VELOCITY, pl.DATA, True, True),
        (pl.VELOCITY, pl.NOISE, True, True),
        (pl.VELOCITY, pl.SCORE, True, False),
        (pl.NOISE, pl.DATA, False, True),
        (pl.NOISE, pl.VELOCITY, False, True),
        (pl.NOISE, pl.SCORE, True, False),
        (pl.DATA, pl.NOISE, True, False),
        (pl.DATA, pl.VELOCITY, True, False),
        (pl.DATA, pl.SCORE, True, False),
        (pl.SCORE, pl.DATA, False, True),
    ],
    ids=str,
)
def test_intervals_on_the_straight_line(source, target, start, stop):
    assert interval(source, target, pl.LinearSchedule()) == Interval(0.0, 1.0, start, stop)


def test_ddpms_start_still_holds_data_so_noise_settles_it():
    assert 0.0 in interval(pl.NOISE, pl.DATA, pl.VariancePreservingSchedule())


@pytest.mark.parametrize(
    ("t", "inside"), [(0.0, True), (0.5, True), (1.0, False), (-0.1, False), (1.1, False), (math.nan, False)]
)
def test_an_interval_holds_its_times(t, inside):
    assert (t in Interval(0.0, 1.0, True, False)) == inside
    assert str(Interval(0.0, 1.0, True, False)) == "[0, 1)"


@pytest.mark.parametrize("t", [1.0, torch.tensor([0.2, 1.0]), -0.1, 1.5, math.nan])
def test_a_singular_conversion_is_refused_by_kind_and_time(t):
    bad = float(t) if isinstance(t, float) else 1.0
    with pytest.raises(ValueError, match=rf"read score from a velocity .*got t = {bad:g}"):
        pl.convert(torch.zeros(2, 2), torch.zeros(2, 2), t, pl.LinearSchedule(), pl.VELOCITY, pl.SCORE)


def test_an_error_of_data_weighs_as_velocity_one_over_the_noise_left():
    t = torch.tensor([0.0, 0.5, 0.9], dtype=torch.float64)
    ratio = error_ratio(pl.DATA, pl.VELOCITY, pl.LinearSchedule(), t)
    assert ratio.tolist() == pytest.approx([1, 2, 10], rel=1e-12)


def test_the_row_of_a_user_kind_is_enough():
    ends = pl.Prediction("sum", lambda c: (torch.ones_like(c.alpha), torch.ones_like(c.beta)))
    point = draw(pl.LinearSchedule(), 0.3)
    assert torch.allclose(point.target(ends), point.data + point.noise)
    found = pl.convert(point.target(ends), point.x, 0.3, pl.LinearSchedule(), ends, pl.VELOCITY)
    assert torch.allclose(found, point.data - point.noise, atol=1e-13)
