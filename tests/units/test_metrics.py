"""Metrics against distances that can be worked out by hand."""

import math

import pytest
import torch

import pathline as pl
from pathline.metrics.distances import nearest_distance
from pathline.noise import Noise

pytestmark = pytest.mark.fast


def test_the_energy_distance_of_a_few_points_is_the_sum_by_hand():
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
    # between: (1 + 5 + 1 + 3) / 4; within: 2 and 4
    assert float(pl.energy_distance(x, y)) == pytest.approx(2 * 2.5 - 2 - 4)


def test_two_normals_apart_have_the_energy_distance_of_the_formula():
    def folded(m, s):  # E|N(m, s^2)|
        return s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))

    n = 2000
    x, y = Noise(0).normal((n, 1)), 1.5 + Noise(1).normal((n, 1))
    truth = 2 * folded(1.5, math.sqrt(2)) - 2 * folded(0, math.sqrt(2))
    assert float(pl.energy_distance(x, y)) == pytest.approx(truth, abs=5 * 2 / math.sqrt(n))


def test_samples_of_one_distribution_are_at_zero_on_average():
    found = [float(pl.energy_distance(Noise(k).normal((50, 2)), Noise(k + 99).normal((50, 2)))) for k in range(40)]
    mean = sum(found) / 40
    error = (sum((value - mean) ** 2 for value in found) / 39 / 40) ** 0.5
    assert abs(mean) < 5 * error and min(found) < 0


def test_images_are_compared_as_vectors():
    x, y = Noise(0).normal((5, 1, 2, 2)), Noise(1).normal((6, 1, 2, 2))
    assert torch.equal(pl.energy_distance(x, y), pl.energy_distance(x.flatten(1), y.flatten(1)))


@pytest.mark.parametrize(("x", "y"), [((1, 2), (3, 2)), ((3, 2), (3, 3)), ((3, 2), (1, 2))])
def test_too_few_points_or_unlike_ones_are_refused(x, y):
    with pytest.raises(ValueError, match="at least two points each, of one size"):
        pl.energy_distance(torch.zeros(x), torch.zeros(y))


def test_the_nearest_is_the_nearest():
    reference = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    assert nearest_distance(torch.tensor([[3.0, 4.0], [10.0, 1.0]]), reference).tolist() == pytest.approx([5, 1])


def test_copies_have_a_ratio_of_0_and_real_data_of_1():
    training, held_out, new = Noise(0).normal((400, 2)), Noise(1).normal((400, 2)), Noise(2).normal((400, 2))
    assert float(pl.memorisation_ratio(training[:100], training, held_out)) == pytest.approx(0, abs=1e-5)
    assert float(pl.memorisation_ratio(new, training, held_out)) == pytest.approx(1, abs=0.3)
