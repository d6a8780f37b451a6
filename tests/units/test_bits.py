"""Bits per dimension: of data whose exact code length is known, in any units."""

import math

import pytest
import torch

import pathline as pl
from pathline.likelihood.bits import bits_of, dequantised, in_units
from pathline.noise import Noise

pytestmark = pytest.mark.fast
LOG_2 = math.log(2)


class Still(pl.Field):
    """A flow that moves nothing: p_1 is the standard normal that it begins at."""

    def __init__(self):
        super().__init__()
        self.path = pl.GaussianPath(pl.LinearSchedule())
        self.prediction = pl.VELOCITY

    def forward(self, x, t):
        return torch.zeros_like(x)


def normal(*shape, seed=1):
    return Noise(seed).normal(shape, dtype=torch.float64)


def code_length(x, bin):
    """The bits of each number of a standard normal that is rounded down to multiples of a bin, by its probability."""
    law = torch.distributions.Normal(0.0, 1.0)
    return -(law.cdf(x + bin) - law.cdf(x)).log() / LOG_2


@pytest.mark.parametrize("bin", [0.01, 0.05, 0.1])
def test_bits_of_a_rounded_normal_are_its_code_length(bin):
    x = (normal(1000, 1, 8, 8) / bin).floor() * bin
    found = pl.bits_per_dim(Still(), x, bin=bin, steps=1).mean()
    assert float(found) == pytest.approx(float(code_length(x, bin).mean()), abs=1e-3)


def test_what_the_noise_costs_is_known():
    bin = 0.5  # wide enough to tell: KL of the flat bins from the normal, E x^2 bin^2 / 24 nats or so
    x = (normal(20_000, 4) / bin).floor() * bin
    found = pl.bits_per_dim(Still(), x, bin=bin, steps=1, seed=3)
    expected = ((x**2 + x * bin + bin**2 / 3) / 2 + math.log(2 * math.pi) / 2 - math.log(bin)) / LOG_2
    difference = found - expected.mean(1)
    assert abs(float(difference.mean() / difference.std())) * 20_000**0.5 < 4.5
    assert float(expected.mean() - code_length(x, bin).mean()) > 5e-3  # a code pays for the noise


def test_the_unit_of_the_data_changes_nothing():
    bin, units = 0.05, pl.Normalisation(8.0, 8.0)
    x = (normal(50, 6) / bin).floor() * bin
    plain = pl.bits_per_dim(Still(), x, bin=bin, steps=1)
    there = pl.bits_per_dim(Still(), 8 * x + 8, units, bin=8 * bin, steps=1)
    torch.testing.assert_close(there, plain, rtol=1e-6, atol=1e-6)  # a normalisation is in float32


def test_each_column_has_its_scale():
    units = pl.Normalisation((1.0, -2.0, 0.0), (0.5, 4.0, 10.0))
    z = normal(20, 3)
    x = units.back(z)
    shift, scale = torch.tensor([[1.0, -2.0, 0.0], [0.5, 4.0, 10.0]], dtype=torch.float64)
    true = torch.distributions.Normal(shift, scale).log_prob(x.double()).sum(1)
    found = in_units(pl.log_prob(Still(), z, steps=1), x.shape[1:], units)
    torch.testing.assert_close(found, true, rtol=1e-6, atol=1e-6)
    assert found.shape == (20,)
    bits = pl.bits_per_dim(Still(), x, units, bin=None, steps=1)
    torch.testing.assert_close(bits.double(), -true / (3 * LOG_2), rtol=1e-5, atol=1e-5)
    assert torch.equal(bits_of(true, (3,), pl.Normalisation(0.0, 1.0), None), -true / (3 * LOG_2))


def test_data_without_bins_gets_no_noise():
    x = normal(10, 2)
    first, second = (pl.bits_per_dim(Still(), x, bin=None, steps=1, seed=seed) for seed in (0, 1))
    assert torch.equal(first, second)


def test_noise_of_a_sample_depends_on_the_seed_and_its_place():
    x = torch.arange(12.0).reshape(4, 3)
    assert torch.equal(dequantised(x, seed=1)[:2], dequantised(x[:2], seed=1))
    assert not torch.equal(dequantised(x, seed=1), dequantised(x, seed=2))
    assert torch.equal(dequantised(x, seed=1).floor(), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bfloat16, torch.float64])
def test_numbers_of_any_type_become_real_ones(dtype):
    made = dequantised(torch.arange(17).to(dtype)[:, None])
    assert made.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_levels_of_a_picture_are_multiples_of_a_255th():
    levels = torch.arange(256.0)[:, None] / 255
    made = dequantised(levels, bin=1 / 255)
    assert ((made >= levels) & (made <= levels + 1 / 255 + 1e-6)).all()


@pytest.mark.parametrize(
    ("x", "bin", "words"),
    [
        ([[1.0, 2.5]], 1.0, "x must hold multiples of bin = 1, got 2.5; .* None for data that has none"),
        ([[0.5, 0.75]], 0.5, r"x must hold multiples of bin = 0\.5, got 0\.75"),
        ([[1.0]], 0.0, "bin must be a positive number, got 0"),
        ([[1.0]], -1.0, "bin must be a positive number, got -1"),
        ([[1.0]], math.inf, "bin must be a positive number, got inf"),
        ([[1.0]], math.nan, "bin must be a positive number, got nan"),
    ],
)
def test_refusals_name_the_argument(x, bin, words):
    with pytest.raises(ValueError, match=words):
        pl.bits_per_dim(Still(), torch.tensor(x), bin=bin, steps=1)


def test_numbers_that_are_none_are_no_multiples():
    with pytest.raises(ValueError, match="x must hold multiples of bin = 1, got nan"):
        pl.bits_per_dim(Still(), torch.tensor([[math.nan]]), steps=1)
