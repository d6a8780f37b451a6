"""Data sets: their units, their split, and what the two that are built in hold."""

import pytest
import torch

import pathline as pl
from pathline.data.digits import DigitsSource
from pathline.data.toys import MoonsSource

pytestmark = pytest.mark.fast


def samples(n=100, classes=4):
    return pl.Samples(
        x=torch.arange(float(n))[:, None],
        y=torch.arange(n) % classes,
        classes=tuple("abcd"[:classes]),
        normalisation=pl.Normalisation(0.0, 1.0),
        title="counts",
        licence="none",
        source="here",
    )


def test_normalisation_goes_there_and_back():
    raw = torch.tensor([0.0, 8.0, 16.0])
    digits = pl.Normalisation(8.0, 8.0)
    assert digits.into(raw).tolist() == [-1, 0, 1]
    assert torch.equal(digits.back(digits.into(raw)), raw)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.04])
def test_a_split_holds_out_the_same_share_of_each_class_and_loses_nothing(share):
    whole = samples()
    train, held = whole.split(share)
    assert torch.equal(torch.cat((train.x, held.x)).sort(0).values, whole.x)
    assert torch.bincount(held.y, minlength=4).tolist() == [round(25 * share)] * 4
    for part in (train, held):
        assert torch.equal(part.x[:, 0].long() % 4, part.y)


def test_a_split_depends_on_the_seed_alone():
    assert torch.equal(samples().split(0.2, 1)[1].x, samples().split(0.2, 1)[1].x)
    assert not torch.equal(samples().split(0.2, 1)[1].x, samples().split(0.2, 2)[1].x)


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_split_with_an_empty_side_is_refused(share):
    with pytest.raises(ValueError, match="held_out must leave samples on both sides"):
        samples().split(share)


def test_data_without_classes_is_split_too():
    whole = samples()
    bare = pl.Samples(whole.x, None, (), whole.normalisation, "", "", "")
    train, held = bare.split(0.3)
    assert (len(train.x), len(held.x)) == (70, 30) and held.y is None


def test_the_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    digits, truth = DigitsSource().load(), load_digits()
    assert torch.equal(digits.x[:, 0].double(), torch.from_numpy(truth.images))
    assert torch.equal(digits.y, torch.from_numpy(truth.target))
    assert digits.is_image and digits.shape == (1, 8, 8)
    inside = digits.normalisation.into(digits.x)
    assert (float(inside.min()), float(inside.max())) == (-1, 1)
    assert digits.licence == "CC BY 4.0" and "10.24432/C50P49" in digits.source


def test_moons_lie_on_two_half_circles():
    moons = MoonsSource(count=400, noise=0.0).load()
    upper, lower = moons.x[moons.y == 0], moons.x[moons.y == 1]
    assert torch.allclose(upper.norm(dim=1), torch.ones(200), atol=1e-6) and (upper[:, 1] > -1e-6).all()
    centre = torch.tensor([1.0, 0.5])
    assert torch.allclose((lower - centre).norm(dim=1), torch.ones(200), atol=1e-6) and (lower[:, 1] < 0.5 + 1e-6).all()
    inside = moons.normalisation.into(moons.x)
    assert abs(float(inside.mean())) < 1e-5 and float(inside.std()) == pytest.approx(1, abs=1e-5)
    assert not moons.is_image


def test_moons_are_the_same_for_the_same_seed():
    assert torch.equal(MoonsSource(50).load().x, MoonsSource(50).load().x)
    assert not torch.equal(MoonsSource(50).load().x, MoonsSource(50, seed=1).load().x)
