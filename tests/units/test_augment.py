"""What is done to the data before it is learned: noise over the bins of whole numbers."""

import pytest
import torch

import pathline as pl
from pathline.noise import Noise
from pathline.specs import build, spec_of

pytestmark = pytest.mark.fast


def test_noise_is_uniform_over_the_bin():
    data = torch.full((20_000, 3), -0.5)
    made = pl.DequantiseAugmentation(0.25)(data, Noise(1)).double()
    assert ((made > -0.5) & (made < -0.25)).all()
    assert float((made.mean() + 0.375) / (0.25 / 12**0.5 / 60_000**0.5)) == pytest.approx(0, abs=4.5)
    assert float(made.var() * 12 / 0.25**2) == pytest.approx(1, abs=4.5 * 0.9 / 60_000**0.5)


def test_whole_numbers_come_back_by_rounding_down():
    levels = torch.arange(17.0).expand(500, 17)
    units = pl.Normalisation(8.0, 8.0)
    made = units.back(pl.DequantiseAugmentation(1 / 8)(units.into(levels), Noise(2)))
    torch.testing.assert_close(made.floor(), levels)


def test_noise_depends_on_the_place_in_the_stream():
    augment, data = pl.DequantiseAugmentation(1.0), torch.zeros(8, 1, 2, 2)
    whole = augment(data, Noise(3))
    torch.testing.assert_close(augment(data[5:], Noise(3).at(5)), whole[5:], rtol=0, atol=0)
    assert not torch.equal(augment(data, Noise(3).at(8)), whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_type_is_that_of_the_data(dtype):
    assert pl.DequantiseAugmentation(0.1)(torch.zeros(2, 2, dtype=dtype), Noise(0)).dtype == dtype


def test_it_has_a_name():
    made = build(pl.Augmentation, "dequantise:0.125")
    assert made == pl.DequantiseAugmentation(0.125)
    assert build(pl.Augmentation, spec_of(pl.Augmentation, made)) == made
    assert pl.Config(augmentation="dequantise:0.125").field((1, 8, 8), 10)


@pytest.mark.parametrize("bin", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bin_that_is_none_is_refused(bin):
    with pytest.raises(ValueError, match=r"bin must be positive, got .* 0.125 for digits"):
        pl.DequantiseAugmentation(bin)
