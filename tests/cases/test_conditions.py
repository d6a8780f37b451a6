"""Conditions come back as they were written: labels of any type, through library, files, commands and FlowMatcher.

Before: labels 1..3 with classes=3 trained the null class with class 3; `sample --class 2 --out c.npz` wrote its index,
1, which `likelihood` and `edit` read as class 1; `--guidance 0` claimed a class; whole numbers of pandas were numbers.
"""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import pathline as pl
from pathline.cli.main import main
from pathline.conditions import by_kind
from pathline.data.codec import Codec
from pathline.data.files import FileSource
from pathline.training import checkpoint
from pathline.training.loop import adamw

PATH = pl.GaussianPath(pl.LinearSchedule())
INDEX = np.array([0, 1, 2, 1, 0, 2])
X = torch.linspace(-1, 1, 12).reshape(6, 2)


def network(**sizes):
    """An MLP that says something of its conditions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = pl.MLP(2, 8, 1, **sizes)
        nn.init.normal_(made.last.weight)
    return made


def field(**sizes):
    return pl.NetworkField(network(**sizes), PATH)


# ---- labels that the library is given

SAME = {
    "uint8": INDEX.astype(np.uint8),  # before: IndexError of torch, or a mask
    "uint8-tensor": torch.from_numpy(INDEX.astype(np.uint8)),
    "int16": INDEX.astype(np.int16),
    "list": INDEX.tolist(),
    "column": INDEX[:, None],  # before: a velocity of the shape (6, 6, 2), or an error of shapes
    "objects": INDEX.astype(object),  # before: a raw TypeError
    "series": pd.Series(INDEX),
    "Int64": pd.Series(INDEX, dtype="Int64"),
    "category": pd.Series(INDEX).astype("category"),
    "frame": pd.DataFrame({"y": INDEX}),
    "by-kind": {"class": INDEX},
}


def first_loss(y, **sizes):
    return float(next(iter(pl.train(pl.MatchingLoss(field(**sizes), drop=0.1), X, y, steps=1, batch_size=6))).loss)


@pytest.mark.parametrize("y", SAME.values(), ids=SAME)
def test_labels_of_any_type_are_the_same_classes(y):
    own, truth = field(classes=3), torch.from_numpy(INDEX)
    assert torch.equal(own.given(y).velocity(X, 0.5), own.given(truth).velocity(X, 0.5))
    assert first_loss(y, classes=3) == first_loss(truth, classes=3)


@pytest.mark.parametrize("y", [INDEX > 0, pd.Series(INDEX > 0, dtype="boolean"), torch.from_numpy(INDEX > 0)])
def test_booleans_are_the_classes_0_and_1(y):
    truth = torch.from_numpy(INDEX > 0).long()
    assert torch.equal(
        field(classes=2).given(y)(X, torch.tensor(0.5)), field(classes=2).given(truth)(X, torch.tensor(0.5))
    )
    assert first_loss(y, classes=2) == first_loss(truth, classes=2)


REFUSED = {
    "from-1": (INDEX + 1, "from 0 to 2, got 3"),  # before: class 3 was trained as the null class without a word
    "the-null": (np.full(6, 3), "from 0 to 2, got 3"),
    "negative": (INDEX - 2, "from 0 to 2, got -2"),
    "gapped": (np.array([7, 30, -2, 7, 7, 7]), "from 0 to 2, got -2"),
    "beyond-int64": (np.full(6, 2**63, np.uint64), "got 9223372036854775808"),
    "words": (np.array(list("abcabc")), "whole numbers, got <U1 such as"),
    "floats": (INDEX * 1.0, "whole numbers, got float64"),
    "category-of-words": (pd.Series(list("abcabc")).astype("category"), "whole numbers, got object"),
    "Float64": (pd.Series(INDEX * 1.0, dtype="Float64"), "whole numbers, got float64"),
    "missing": (pd.Series([0, 1, None, 0, 1, 2], dtype="Int64"), "got nan in row 2"),
    "two-columns": (np.stack((INDEX, INDEX), 1), r"of shape \(n,\), got shape \(6, 2\)"),
}


@pytest.mark.parametrize(("y", "said"), REFUSED.values(), ids=REFUSED)
def test_labels_that_are_no_indices_are_refused(y, said):
    own = field(classes=3)
    loss = pl.MatchingLoss(own)
    for ask in (lambda: own.given(y), lambda: pl.train(loss, X, y, steps=1), lambda: loss(X, y)):
        with pytest.raises(ValueError, match=said):
            ask()
    with pytest.raises(ValueError, match=said):
        pl.Samples(X, y, tuple("abc"), None, "", "", "")


def test_no_class_is_still_the_null_class():
    own = field(classes=3)
    free = own.given(None).velocity(X, 0.5)
    assert torch.equal(free, own.given({}).velocity(X, 0.5)) and torch.allclose(free, own.velocity(X, 0.5), atol=1e-6)
    for y in (torch.tensor([3]), {"class": torch.tensor([3])}):  # as labels are dropped in training
        assert torch.equal(own.bound(y).velocity(X, 0.5), free)


def test_a_bare_value_becomes_a_mapping_where_there_is_one_kind():
    assert by_kind(3, ("class",)) == by_kind({"class": 3, "text": None}, ("class", "text")) == {"class": 3}
    assert by_kind(None, ("class", "text")) == by_kind({}, ("class",)) == {}
    for y, kinds in ((3, ("class", "text")), ({"clas": 3}, ("class",)), (3, ())):
        with pytest.raises(ValueError, match="y must be"):
            by_kind(y, kinds)


def test_a_network_of_ones_own_is_given_its_conditions_as_they_are():
    heard = []

    class Own(nn.Module):
        def forward(self, x, t, y=None):
            heard.append(y)
            return x

    pl.NetworkField(Own(), PATH).given(torch.full((6,), 7)).velocity(X, 0.5)
    assert torch.equal(heard[0], torch.full((6,), 7))


def test_a_bare_network_takes_what_a_mapping_says():
    made, t = network(classes=3), torch.full((6,), 0.5)
    y = torch.from_numpy(INDEX)
    assert torch.equal(made(X, t, y), made(X, t, {"class": y}))


# ---- FlowMatcher

TABLE = np.random.default_rng(0).normal(size=(60, 2)) + 8.0 * (np.arange(60) % 3)[:, None]
WHICH = np.arange(60) % 3
FITTED = {
    "uint8": (WHICH.astype(np.uint8), [0, 1, 2]),
    "column": (WHICH[:, None] + 1, [1, 2, 3]),
    "negative": (np.array([-2, 7, 30])[WHICH], [-2, 7, 30]),
    "bool": (WHICH > 0, [False, True]),
    "words": (np.array(["cat", "dog", "bird"])[WHICH], ["bird", "cat", "dog"]),
    "Int64": (pd.Series(WHICH + 1, dtype="Int64"), [1, 2, 3]),  # before: numbers
    "boolean": (pd.Series(WHICH > 0, dtype="boolean"), [False, True]),  # before: numbers
    "category": (pd.Series(WHICH * 1.5).astype("category"), [0, 1.5, 3]),  # before: numbers
    "frame": (pd.DataFrame({"y": pd.Series(WHICH, dtype="Int64")}), [0, 1, 2]),
}


@pytest.mark.parametrize(("y", "names"), FITTED.values(), ids=FITTED)
def test_a_flow_matcher_takes_labels_for_the_same_classes(y, names):
    model = pl.FlowMatcher(width=8, depth=1, max_steps=0, solver_steps=2, random_state=0).fit(TABLE, y)
    assert model.classes_.tolist() == names
    x, drawn = model.sample(40)  # before: the rows alone
    assert x.shape == (40, 2) and set(drawn.tolist()) == set(names) and drawn.dtype == model.classes_.dtype
    assert np.array_equal(model.sample(40, drawn), x)  # they are those that the rows were drawn under
    assert np.array_equal(model.score_samples(TABLE, y), model.score_samples(TABLE, np.asarray(y)))


def test_samples_of_a_flow_matcher_without_classes_are_rows_alone():
    settings = {"width": 8, "depth": 1, "max_steps": 0, "solver_steps": 2, "random_state": 0}
    assert pl.FlowMatcher(**settings).fit(TABLE).sample(5).shape == (5, 2)
    numbers = pd.Series(TABLE[:, 0], dtype="Float64")
    assert pl.FlowMatcher(**settings).fit(TABLE, numbers).sample(5).shape == (5, 2)


# ---- files and commands

LABELS = {
    "from-1": [1, 2, 3],
    "negative-gapped": [-2, 7, 30],
    "from-0": [0, 1, 2],
    "bool": [False, True],
    "uint8": np.array([3, 200, 7], np.uint8),
    "words": ["cat", "a dog, or two", "[red]bird"],
    "digits-as-words": ["01", "1", "2"],
}


def a_run(folder: Path, data: Path, **settings) -> pl.Run:
    """A run of a model that was not trained, but says something of its conditions."""
    config = pl.Config(data=str(data), network="mlp", width=8, depth=1, **settings)
    training, _ = config.load().split(config.held_out, config.seed)
    run = pl.Run.create(folder, config, training)
    made = run.new_field()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn.init.normal_(made.network.last.weight, std=0.1)
    checkpoint.save(folder, 0, made, pl.EMA(made), adamw(config.loss(made), 1e-3))
    return run


def an_array(folder: Path, labels, count=40) -> Path:
    y = np.array(labels)[np.arange(count) % len(labels)]
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(count, 2)), y=y)
    return folder / "data.npz"


def done(*words):
    assert main([*map(str, words)]) == 0


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def is_like(y, labels) -> bool:
    """Whether values are of the user's own kind."""
    return y.dtype.kind.replace("u", "i") == np.array(labels).dtype.kind.replace("u", "i")


def round_trip(tmp_path, labels, source):
    labels = labels.tolist() if isinstance(labels, np.ndarray) else labels
    data, run = an_array(tmp_path, labels), tmp_path / "run"
    known = a_run(run, data)
    assert known.codec.values.tolist() == sorted(labels)
    for value in labels[1:2]:
        made, scores, edited = tmp_path / f"made.{source}", tmp_path / "scores.csv", tmp_path / "edited.npz"
        flags = ("--overwrite", "--out")
        done("sample", run, "--class", value, "--count", 4, "--steps", 2, *flags, made)
        if source == "npz":
            with np.load(made, allow_pickle=False) as file:
                assert file["y"].tolist() == [value] * 4 and is_like(file["y"], labels)  # before: its index
        done("likelihood", run, "--data", made, "--steps", 2, *flags, scores)
        assert [row["class"] for row in table_of(scores)] == [str(value)] * 4
        done("edit", run, "--data", made, "--steps", 4, *flags, edited)
        with np.load(edited, allow_pickle=False) as file:
            assert file["y"].tolist() == [value] * 4 and is_like(file["y"], labels)
        again = FileSource(str(made), label="class" if source == "csv" else "").load()  # as `train --data` reads it
        assert known.codec.indices(again.classes) == [sorted(labels).index(value)]


SLOW = [pytest.param(labels, id=name, marks=pytest.mark.slow) for name, labels in LABELS.items() if name != "from-1"]


@pytest.mark.parametrize("source", ["npz", pytest.param("csv", marks=pytest.mark.slow)])
@pytest.mark.parametrize("labels", [pytest.param(LABELS["from-1"], id="from-1"), *SLOW])
def test_labels_round_trip_through_the_commands(tmp_path, labels, source):
    round_trip(tmp_path, labels, source)


def test_samples_of_a_class_each_are_read_back(tmp_path):
    run = a_run(tmp_path / "run", an_array(tmp_path, [1, 2, 3])).folder
    done("sample", run, "--count", 3, "--steps", 2, "--out", tmp_path / "made.npz")
    done("likelihood", run, "--data", tmp_path / "made.npz", "--steps", 2, "--out", tmp_path / "s.csv")
    assert [row["class"] for row in table_of(tmp_path / "s.csv")] == ["1", "2", "3"]  # before: no classes, all differ
    with pytest.raises(ValueError, match="a different one for each of the 3 samples"):
        FileSource(str(tmp_path / "made.npz")).load()  # of which nothing can be learned


@pytest.mark.parametrize("source", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pd.Series([1, 2, 3], dtype="uint8"), [1, 2, 3]),
        (pd.Series([-2, 7, 30], dtype="Int64"), [-2, 7, 30]),
        (pd.Series([True, False, True], dtype="boolean"), [False, True]),
        (pd.Series(["u", "v", "u"]).astype("category"), ["u", "v"]),
        (pd.Series([7, 30, 7]).astype("category"), [7, 30]),
    ],
    ids=["uint8", "Int64", "boolean", "category", "category-of-ints"],
)
def test_columns_of_pandas_are_classes_of_their_own_type(tmp_path, column, values, source):
    frame = pd.DataFrame({"x": [0.5, 1.5, 2.5] * 4, "kind": pd.concat([column] * 4, ignore_index=True)})
    frame["kind"] = frame["kind"].astype(column.dtype)
    path = tmp_path / f"data.{source}"
    frame.to_csv(path, index=False) if source == "csv" else frame.to_parquet(path)
    samples = FileSource(str(path), label="kind").load()
    codec = Codec(samples.classes, samples.class_type)
    assert codec.values.tolist() == values and is_like(codec.values, values)
    assert codec.written(samples.y)["class"].tolist() == frame["kind"].tolist()


def test_a_column_of_whole_numbers_in_an_npz_is_classes(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((6, 2)), y=np.array([[3], [1], [2]] * 2))  # before: numbers
    samples = FileSource(str(tmp_path / "data.npz")).load()
    assert samples.classes == ("1", "2", "3") and samples.y["class"].tolist() == [2, 0, 1] * 2


def test_guidance_of_0_claims_no_class(tmp_path, capsys):
    data, run = an_array(tmp_path, [1, 2, 3]), tmp_path / "run"
    a_run(run, data)
    ask = ("--count", 4, "--guidance", 0, "--steps", 2, "--out")
    done("sample", run, "--class", 2, *ask, tmp_path / "made.npz")
    done("edit", run, "--data", data, *ask, tmp_path / "edited.npz")
    for name in ("made", "edited"):
        with np.load(tmp_path / f"{name}.npz") as file:
            assert file.files == ["x"]  # before: y too
    done("sample", run, *ask, tmp_path / "made.csv")
    assert list(table_of(tmp_path / "made.csv")[0]) == ["1", "2"]
    capsys.readouterr()
    done("likelihood", run, "--data", data, "--count", 4, "--guidance", 0, "--steps", 2, "--out", tmp_path / "s.csv")
    assert "under the null condition" in capsys.readouterr().out  # before: each under its own class
    assert {row["class"] for row in table_of(tmp_path / "s.csv")} == {""}


# ---- names, indices, and older files


@pytest.mark.parametrize(
    ("classes", "class_type", "name", "index"),
    [
        (("1", "2", "3"), "int", "2", 1),  # a name comes first
        (("1", "2", "3"), "int", "3", 2),
        (("-2", "7", "30"), "int", "0", 0),  # an index where none is a name
        (("-2", "7", "30"), "int", "7", 1),
        (("1", "2", "3"), "int", "2.0", 1),
        (("cat", "dog"), "str", "1", 1),
        (("False", "True"), "bool", "True", 1),
        (("1", "2", "3"), "int", "0", None),  # an index of 1, or a class that is not there: not told
        (("0", "2", "5"), "int", "1", None),
        (("01", "1"), "str", "1.0", None),
        (("cat", "dog"), "str", "2", None),
    ],
)
def test_a_class_is_told_by_name_first(classes, class_type, name, index):
    codec = Codec(classes, class_type)
    if index is not None:
        assert codec.index(name) == index
        return
    with pytest.raises(ValueError, match=r"must be one of .*, got"):
        codec.index(name)


def test_older_files_are_read_by_index_where_that_is_no_name(tmp_path):
    words = Codec(("cat", "dog"), "str")
    assert words.indices(("0", "1")) == [0, 1] and words.indices(("dog",)) == [1]
    assert Codec(("1", "2", "3"), "int").indices(("0", "1", "2")) == [-1, 0, 1]  # 0 is refused, not taken for 1
    run = a_run(tmp_path / "run", an_array(tmp_path, ["cat", "dog"]))
    np.savez(tmp_path / "old.npz", x=np.zeros((4, 2)), y=np.array([0, 1, 1, 0]))
    done("likelihood", run.folder, "--data", tmp_path / "old.npz", "--steps", 2, "--out", tmp_path / "s.csv")
    assert [row["class"] for row in table_of(tmp_path / "s.csv")] == ["cat", "dog", "dog", "cat"]


def test_older_runs_still_open(tmp_path):
    run = a_run(tmp_path / "run", an_array(tmp_path, [-2, 7, 30]))
    assert run.class_shares == pytest.approx((1 / 3,) * 3, abs=0.05)
    path = tmp_path / "run" / "config.json"
    about = json.loads(path.read_text())
    for key in ("class_type", "class_shares"):
        del about["samples"][key]
    path.write_text(json.dumps(about))
    old = pl.Run.open(tmp_path / "run")
    assert old == replace(run, class_type="", class_shares=()) and old.codec.values.tolist() == [-2, 7, 30]
    with pytest.raises(ValueError, match="shares of the classes are not known"):
        old.codec.drawn(3, 0)


def test_classes_drawn_by_their_shares_have_them():
    codec = Codec(("a", "b", "c"), "str", (0.7, 0.1, 0.2))
    drawn = codec.drawn(20_000, 5)
    counts = torch.bincount(drawn, minlength=3).double()
    shares = torch.tensor(codec.shares, dtype=torch.float64)
    z = (counts / 20_000 - shares).abs() / (shares * (1 - shares) / 20_000).sqrt()
    assert float(z.max()) < 4.9 and torch.equal(drawn[:50], codec.drawn(50, 5))
