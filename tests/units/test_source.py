"""Data sets: their units, their split, and what the two that are built in hold."""

import hashlib
import itertools
import json
from dataclasses import replace

import pytest
import torch

import pathline as pl
from pathline.conditions import KINDS
from pathline.data.digits import DigitsSource
from pathline.data.rows import BLOCK
from pathline.data.source import SPLIT_STREAM
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
    assert torch.bincount(held.y["class"], minlength=4).tolist() == [round(25 * share)] * 4
    for part in (train, held):
        assert torch.equal(part.x[:, 0].long() % 4, part.y["class"])


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
    assert (len(train.x), len(held.x)) == (70, 30) and not held.y


def test_the_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    digits, truth = DigitsSource().load(), load_digits()
    assert torch.equal(digits.x[:, 0].double(), torch.from_numpy(truth.images))
    assert torch.equal(digits.y["class"], torch.from_numpy(truth.target))
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


def test_a_column_that_never_changes_comes_back_exactly():
    raw = torch.tensor([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]]).double()
    units = pl.Normalisation.of(raw)
    assert units.scale == (0, pytest.approx(8**0.5 / 3**0.5)) and units.constants == {0: float(raw[0, 0])}
    assert torch.equal(units.into(raw)[:, 0], torch.zeros(3))
    assert torch.equal(units.back(torch.randn(3, 2))[:, 0], raw[:, 0])


def test_each_channel_of_pictures_gets_mean_0_and_standard_deviation_1():
    raw = (
        torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1, 1e-6, 1e3])[:, None, None]
    )
    units = pl.Normalisation.of(raw + 7)
    inside = units.into(raw + 7)
    assert torch.allclose(inside.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(inside.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    assert pl.Normalisation.of(torch.full((2, 1, 4, 4), 3.0)) == pl.Normalisation((3.0,), (0.0,))


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
        monkeypatch.setattr("pathline.data.rows.BLOCK", size)
        assert set(whole.split(0.2, 3)[1].x[:, 0].long().tolist()) == wanted


@pytest.mark.fast
def test_some_of_the_samples_are_of_all_classes_though_these_come_one_after_another():
    y = torch.arange(10).repeat_interleave(200)
    samples = pl.Samples(torch.randn(2000, 1) + y[:, None], y, tuple("0123456789"), None, "", "", "")
    x, found = samples.some(500)
    assert x.shape == (500, 1) and torch.equal(found["class"].bincount(), torch.full((10,), 50))
    assert len(set(x[:, 0].tolist())) == 500  # none is drawn twice
    whole, every = samples.some(2000)
    assert torch.equal(whole, samples.x) and torch.equal(every["class"], y)


@pytest.mark.fast
def test_rows_are_changed_by_one_thing_after_another():
    rows = pl.Rows(torch.arange(6.0)[:, None], torch.tensor([4, 1]), lambda x: x + 1).then(lambda x: 10 * x)
    assert torch.equal(rows[:], torch.tensor([[50.0], [20.0]])) and torch.equal(rows.take(slice(1, 2))[:], rows[1:])


# ---- several conditions at once

TREES = [kinds for count in range(4) for kinds in itertools.combinations(KINDS, count)]


def described(kinds=KINDS, count=200, **more):
    """Sample i is of class i mod 4, has the numbers (i, -i) and the caption i mod 7."""
    i = torch.arange(count)
    of = {"class": i % 4, "numbers": torch.stack((i, -i), 1).double(), "text": i % 7}
    names = {"classes": tuple("abcd"), "numbers": ("up", "down"), "captions": tuple(f"text {k}" for k in range(7))}
    named = {name: each for kind, (name, each) in zip(KINDS, names.items(), strict=True) if kind in kinds}
    y = {kind: of[kind] for kind in reversed(KINDS) if kind in kinds}
    given = {"classes": (), "normalisation": None, "title": "", "licence": "", "source": ""} | named | more
    return pl.Samples(i[:, None].double(), y, **given)


def agrees(x, y, kinds=KINDS):
    """Whether each sample has its own conditions."""
    truth = described(kinds).take(x[:, 0].long()).y
    return list(y) == list(kinds) and all(torch.equal(y[kind], truth[kind]) for kind in kinds)


@pytest.mark.parametrize("kinds", TREES)
def test_conditions_are_by_kind_however_they_are_given(kinds):
    samples = described(kinds)
    if len(kinds) < 2:
        bare = replace(samples, y=samples.y[kinds[0]] if kinds else None)
        assert agrees(bare.x, bare.y, kinds)
    assert list(samples.conditions) == list(kinds) and agrees(samples.x, samples.y, kinds)
    assert samples.units_of_numbers == (
        pl.Normalisation.of(samples.conditions["numbers"]) if "numbers" in kinds else None
    )


@pytest.mark.parametrize("kinds", TREES)
def test_samples_keep_their_own_conditions_wherever_they_go(kinds):
    samples, index = described(kinds), torch.tensor([7, 3, 190, 3])
    for part in (samples.take(index), samples.take(index.int()), samples.take(slice(20, 90)), *samples.split(0.3)):
        assert agrees(part.x, part.y, kinds)
        assert (part.classes, part.captions, part.numbers) == (samples.classes, samples.captions, samples.numbers)
    assert agrees(*samples.some(50), kinds) and agrees(*samples.some(500), kinds)


@pytest.mark.parametrize("kept", TREES)
@pytest.mark.parametrize("kinds", TREES)
def test_kinds_that_are_not_kept_are_as_if_they_had_not_been(kinds, kept):
    whole, truth = described(kinds).keeping(kept), described([kind for kind in kinds if kind in kept])
    assert list(whole.conditions) == list(truth.conditions) and whole.digest == truth.digest
    assert agrees(whole.x, whole.y, list(truth.conditions))
    assert (whole.classes, whole.captions, whole.numbers) == (truth.classes, truth.captions, truth.numbers)


def test_units_of_numbers_that_are_not_kept_are_gone():
    training = described().split(0.2)[0]
    assert training.keeping(("class", "numbers")).units_of_numbers == training.units_of_numbers is not None
    assert training.keeping(("class", "text")).normalisation_of_numbers is None


def test_a_kind_that_is_unknown_is_refused():
    with pytest.raises(ValueError, match="must be one of class, numbers, text, got 'clas'"):
        described().keeping(["clas"])


@pytest.mark.parametrize(
    ("y", "names", "said"),
    [
        ({"class": 0}, {"classes": "ab", "captions": "c"}, "all that is named .*, class, text, got class"),
        ({"class": 0, "text": 0}, {"classes": "ab"}, "a dictionary of class, .* got class, text"),
        (torch.zeros(3), {"classes": "ab", "numbers": "c"}, "a dictionary of class, numbers, .* got Tensor"),
        (torch.zeros(3), {"classes": "ab"}, "class indices, whole numbers, got torch.float32"),
        (torch.tensor([1, 2, 1]), {"classes": "ab"}, "class indices from 0 to 1, got 2"),
    ],
)
def test_conditions_that_are_not_those_named_are_refused(y, names, said):
    y = {kind: torch.zeros(3) for kind in y} if isinstance(y, dict) else y
    names = {"classes": (), **{name: tuple(each) for name, each in names.items()}}
    with pytest.raises(ValueError, match=said):
        pl.Samples(torch.zeros(3, 1), y, normalisation=None, title="", licence="", source="", **names)


def hashed(samples, *more):
    return hashlib.sha256(b"".join([samples.x.numpy().tobytes(), *more])).hexdigest()


def test_a_digest_is_that_of_the_bytes_and_of_all_captions():
    """As it was before there were captions, as runs keep it."""
    for kind in ("class", "numbers"):
        one = described((kind,))
        assert one.digest == hashed(one, one.y[kind].numpy().tobytes())
    assert described(()).digest == hashed(described(()))
    text = described(("text",))
    assert text.digest == hashed(text, text.y["text"].numpy().tobytes(), json.dumps(text.captions).encode())
    digests = [described(kinds).digest for kinds in TREES] + [described(captions=tuple("abcdefg")).digest]
    assert len(set(digests)) == len(digests)


# ---- samples that are never trained on


def unseen(count=200):
    """Class 1 loses all but two of its samples, and class 3 none."""
    i = torch.arange(count)
    return (i % 4 == 1) & (i > 8) | (i % 11 == 0) & (i % 4 != 3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("kinds", [("class",), ("text",), KINDS])
def test_the_unseen_are_all_held_out_beside_the_share_of_the_others(kinds, share):
    mask, whole = unseen(), described(kinds, unseen=unseen())
    training, held = whole.split(share)
    assert torch.equal(torch.cat((training.x, held.x)).sort(0).values, whole.x)
    for part in (training, held):
        assert agrees(part.x, part.y, kinds) and torch.equal(part.unseen, mask[part.x[:, 0].long()])
    assert not training.unseen.any() and int(held.unseen.sum()) == int(mask.sum())
    others = held.x[~held.unseen][:, 0].long()
    quota = [round(share * int(((torch.arange(200) % 4 == k) & ~mask).sum())) for k in range(4)]
    if "class" in kinds:
        assert torch.bincount(others % 4, minlength=4).tolist() == quota
    else:
        assert len(others) == round(share * int((~mask).sum()))


def test_a_split_where_none_is_unseen_is_that_without():
    for kinds in (("class",), ("text",)):
        one, other = described(kinds).split(0.2), described(kinds, unseen=torch.zeros(200, dtype=torch.bool)).split(0.2)
        assert all(torch.equal(a.x, b.x) for a, b in zip(one, other, strict=True))


def test_unseen_samples_that_leave_none_to_train_on_are_refused():
    with pytest.raises(ValueError, match=r"got 0\.1 of 200 samples, of which 200 are never trained on"):
        described(unseen=torch.ones(200, dtype=torch.bool)).split(0.1)
    for mask in (torch.zeros(199, dtype=torch.bool), torch.zeros(200)):
        with pytest.raises(ValueError, match=r"unseen must be booleans of shape \(200,\), got"):
            described(unseen=mask)


# ---- rows that are made as they are asked for


class Squares:
    """Row i is (i, i squared), made anew each time."""

    shape, ndim = (1000, 2), 2

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        i = torch.arange(1000)[index].double()
        return torch.stack((i, i.square()), 1)


def test_rows_may_be_made_as_they_are_asked_for():
    truth = Squares()[:]
    rows = pl.Rows(Squares())
    assert rows.shape == truth.shape and torch.equal(rows[:], truth)
    i = torch.arange(1000)
    made = pl.Samples(rows, i % 7, (), None, "", "", "", captions=tuple("abcdefg"), unseen=i % 7 == 3)
    kept = pl.Samples(truth, i % 7, (), None, "", "", "", captions=tuple("abcdefg"), unseen=i % 7 == 3)
    assert made.digest == kept.digest and made.units == kept.units
    for one, other in zip(made.split(0.3), kept.split(0.3), strict=True):
        assert (
            torch.equal(one.x[:], other.x) and torch.equal(one.y["text"], other.y["text"]) and one.units == other.units
        )
    assert torch.equal(made.some(30)[0], kept.some(30)[0])


def test_rows_of_a_table_may_be_chosen_often():
    table, y = torch.randn(5, 3), torch.tensor([4, 4, 0, 1, 4, 2, 0])
    rows = pl.Rows(table, y)
    assert rows.shape == (7, 3) and torch.equal(rows[:], table[y])
    assert torch.equal(rows.take(torch.tensor([6, 0, 0]))[:], table[[0, 4, 4]])
