"""Data sets: their units, their split, and what the two that are built in hold."""

import pytest
import torch

import pathline as pl
from pathline.data.digits import DigitsSource
from pathline.data.source import BLOCK, SPLIT_STREAM
from pathline.noise import Noise

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


# ---- units


def table(x):
    x = torch.as_tensor(x, dtype=torch.float64)
    return pl.Samples(x, None, (), None, "a table", "none", "here", ("a", "b"))


def test_columns_of_a_table_get_mean_0_and_standard_deviation_1():
    raw = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([1, 1e-6, 1e6]) + 7
    units = pl.Normalisation.of(raw)
    inside = units.into(raw)
    assert inside.dtype == torch.float32
    assert torch.allclose(inside.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(inside.std(0, correction=0), torch.ones(3), atol=1e-5)
    assert ((units.back(inside) - raw).abs() < 1e-6 * raw.std(0)).all()


def test_a_column_of_years_survives_float32():
    seconds = 1.7e9 + torch.arange(100).double()[:, None]  # float32 holds every 128th of these
    units = pl.Normalisation.of(seconds)
    assert (units.back(units.into(seconds)) - seconds).abs().max() < 1e-3


@pytest.mark.parametrize(("size", "said"), [(1e-320, "0 to 9.99989e-321"), (1e300, "0 to 1e[+]300")])
def test_a_column_whose_squares_are_beyond_float64_is_named(size, said):
    raw = torch.tensor([[0, 1, 0], [0, 2, size], [0, 3, 0]], dtype=torch.float64)
    with pytest.raises(ValueError, match=f"column 3 must hold .* got {said}; rescale it"):
        pl.Normalisation.of(raw)
    with pytest.raises(ValueError, match="column 'b' must hold"):
        table(raw[:, 1:]).units  # noqa: B018


def test_a_column_that_never_changes_is_only_shifted():
    units = pl.Normalisation.of(torch.tensor([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]]).double())
    assert (
        units.scale[0] == 1
        and units.shift[0] == pytest.approx(0.1)
        and units.scale[1] == pytest.approx(8**0.5 / 3**0.5)
    )


def test_pictures_are_brought_between_minus_1_and_1_by_one_scale():
    raw = torch.arange(2 * 3 * 4 * 4.0).reshape(2, 3, 4, 4)
    units = pl.Normalisation.of(raw)
    assert (units.shift, units.scale) == (47.5, 47.5)
    assert (float(units.into(raw).min()), float(units.into(raw).max())) == (-1, 1)
    assert pl.Normalisation.of(torch.full((2, 1, 4, 4), 3.0)) == pl.Normalisation(3.0, 1.0)


def test_a_normalisation_is_learned_from_what_is_trained_on():
    training, held = table(torch.arange(40.0).reshape(20, 2) ** 2).split(0.25)
    assert training.normalisation == held.normalisation == pl.Normalisation.of(training.x)
    assert training.normalisation != pl.Normalisation.of(torch.cat((training.x, held.x)))
    given = samples().split(0.2)[0]
    assert given.normalisation == pl.Normalisation(0.0, 1.0)


@pytest.mark.parametrize(
    ("shift", "scale"),
    [(0.0, 0.0), (float("nan"), 1.0), ((0.0, 1.0), (1.0, -1.0)), ((0.0,), (1.0, 1.0)), (0.0, (1.0,))],
)
def test_what_is_no_normalisation_is_refused(shift, scale):
    with pytest.raises(ValueError, match="scale positive"):
        pl.Normalisation(shift, scale)


@pytest.mark.parametrize("y", [torch.arange(20), torch.arange(20) // 2, torch.tensor([0] * 19 + [1])])
def test_classes_of_one_or_two_samples_are_split_too(y):
    whole = pl.Samples(torch.arange(20.0)[:, None], y, tuple(map(str, range(20))), None, "", "", "")
    training, held = whole.split(0.2)
    assert len(held.x) == 4 and torch.equal(torch.cat((training.x, held.x)).sort(0).values, whole.x)


def test_a_split_takes_the_first_of_each_class_in_a_random_order(monkeypatch):
    y = torch.randint(40, (5000,), generator=torch.Generator().manual_seed(0))
    whole = pl.Samples(torch.arange(5000.0)[:, None], y, tuple(map(str, range(40))), None, "", "", "")
    order = Noise(3, stream=SPLIT_STREAM).permutation(5000).tolist()
    wanted = set()
    for label in range(40):
        mine = [k for k in order if y[k] == label]
        wanted |= set(mine[: round(0.2 * len(mine))])
    for size in (BLOCK, 8 * 700):  # all at once, and block by block
        monkeypatch.setattr("pathline.data.source.BLOCK", size)
        assert set(whole.split(0.2, 3)[1].x[:, 0].long().tolist()) == wanted


@pytest.mark.fast
def test_some_of_the_samples_are_of_all_classes_though_these_come_one_after_another():
    y = torch.arange(10).repeat_interleave(200)
    samples = pl.Samples(torch.randn(2000, 1) + y[:, None], y, tuple("0123456789"), None, "", "", "")
    x, found = samples.some(500)
    assert x.shape == (500, 1) and torch.equal(found.bincount(), torch.full((10,), 50))
    assert len(set(x[:, 0].tolist())) == 500  # none is drawn twice
    assert all(torch.equal(a, b) for a, b in zip(samples.some(2000), (samples.x, y), strict=True))


@pytest.mark.fast
def test_rows_are_changed_by_one_thing_after_another():
    rows = pl.Rows(torch.arange(6.0)[:, None], torch.tensor([4, 1]), lambda x: x + 1).then(lambda x: 10 * x)
    assert torch.equal(rows[:], torch.tensor([[50.0], [20.0]])) and torch.equal(rows.take(slice(1, 2))[:], rows[1:])
