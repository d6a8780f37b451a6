"""Tables: what is read at once and what is read cell by cell are the same, and memory does not grow with the file."""

import gzip
import random

import numpy as np
import pytest

import pathline as pl
from pathline.data import tables
from pathline.data.columns import Roles

pytestmark = pytest.mark.fast

PLAIN = ["1", "2.5", "-3e4", "+5", ".5", "5.", "0.1", "1e-320", "1234567890123456789012345", "1e+5", "-0"]
ODD = [
    "", " ", "  ", " 7", "8 ", "\t3", "nan", "inf", "infinity", "1e400", "1_000", "0x10", "1e", "--1", "+", "-", "1 2",
    "1e5e5", "1d5", "True", "\uff11\uff12", "é", "1\0", "\x0b6", "\x1c6", '"4"', '"a""b"', '"x\ny"', '"', "1,2", "1\r",
    "\xa01",
]  # fmt: skip
CLASSES = ["a", "b", "é", "a ", "10", "1 2", '"a,b"', "", "x_y", "10"]


def random_table(rng):
    """A table's bytes, and what is to be read of it."""
    mark, end = rng.choice([",", ",", ";", "\t"]), rng.choice(["\n", "\n", "\n", "\r\n", "\r"])
    width, odd = rng.randint(1, 4), rng.choice([0, 0, 0.02, 0.3])
    of_label, is_headed = rng.choice([None, 0, width - 1]), rng.random() < 0.7
    names = [f"n{i}" for i in range(width)]
    rows = [mark.join(names)] if is_headed else []
    for _ in range(rng.randint(0, 30)):
        cells = [rng.choice(ODD if rng.random() < odd else PLAIN) for _ in range(width)]
        if of_label is not None:
            cells[of_label] = rng.choice(CLASSES if odd else CLASSES[:6])
        rows.append(mark.join(cells[: rng.choice([width] * 50 + [1])] if odd else cells))
        if rng.random() < odd / 5:
            rows.append(rng.choice(["", " ", mark]))
    data = (rng.choice(["", "", "\ufeff"]) + end.join(rows) + rng.choice(["", end])).encode()
    if odd and data and rng.random() < 0.1:
        data = data.replace(rng.choice(data).to_bytes(), rng.randrange(256).to_bytes(), 1)
    label = "" if of_label is None else names[of_label] if is_headed else str(of_label + 1)
    if width < 2 or rng.random() < 0.7:
        return data, label, ""
    of_numbers = 1 if of_label == 0 else 0
    return data, label, names[of_numbers] if is_headed else str(of_numbers + 1)


def told(path, label, numbers):
    """What is read of a table, or what is said of it."""
    try:
        *blocks, about = tables.read_csv(path, Roles(label, numbers))
    except ValueError as error:
        return str(error)
    x = np.concatenate([block.x for block in blocks]).tolist()
    y = {kind: np.concatenate([block.y[kind] for block in blocks]).tolist() for kind in blocks[0].y}
    assert list(y) == ["class"] * bool(label) + ["numbers"] * bool(numbers)
    names = [about.classes[about.relabel[k]] for k in y.get("class", [])]
    return about.title, about.columns, about.numbers, about.classes, repr(x), names, repr(y.get("numbers"))


@pytest.mark.parametrize("seed", range(3))
def test_a_chunk_read_at_once_is_what_its_cells_are(tmp_path, monkeypatch, seed):
    rng, path, at_once, used = random.Random(seed), tmp_path / "my.csv", tables._at_once, [0, 0]

    def counted(*given):
        found = at_once(*given)
        used[found is not None] += 1
        return found

    for _ in range(150):
        data, label, numbers = random_table(rng)
        path.write_bytes(data)
        monkeypatch.setattr(tables, "CHUNK", rng.choice([16, 64, 256]))
        monkeypatch.setattr(tables, "_at_once", counted)
        found = told(path, label, numbers)
        monkeypatch.setattr(tables, "_at_once", lambda *_: None)
        assert told(path, label, numbers) == found, data
    assert min(used) > 50


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("of_label", [0, 1, 2])
def test_rows_beyond_the_first_chunk_are_read(tmp_path, monkeypatch, mark, of_label):
    monkeypatch.setattr(tables, "CHUNK", 100)
    x = np.random.default_rng(0).normal(size=(200, 2))
    words = [("été", "b c", "a")[k % 3] for k in range(200)]
    lines = [["x", "y"], *([repr(a), repr(b)] for a, b in x.tolist())]
    for line, word in zip(lines, ["kind", *words], strict=True):
        line.insert(of_label, word)
    path = tmp_path / "my.csv"
    path.write_text("\n".join(map(mark.join, lines)), encoding="utf-8")
    samples = pl.FileSource(str(path), "kind").load()
    assert samples.x.tolist() == x.tolist() and samples.columns == ("x", "y")
    assert [samples.classes[k] for k in samples.y["class"]] == words


def test_a_fault_far_below_is_told_by_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "CHUNK", 100)
    lines = [f"{k},{-k}" for k in range(1000)]
    lines[700] = '"700\n","-700"'  # a cell of two lines
    lines[800] = "800,x"
    lines[850] = "\n \n" * 99 + "850,1\n"  # 298 lines more, of which one is a row
    lines[900] = "900,,"
    path = tmp_path / "my.csv"
    path.write_text("\n".join(["a,b", *lines]))
    said = r"(?s)line 1102: needs 2 cells.*line 803, column 'b': needs a number, got 'x'"
    with pytest.raises(ValueError, match=said):
        pl.FileSource(str(path)).load()
    lines[800] = "800,0"
    path.write_text("\n".join(["a,b", *lines]))
    with pytest.raises(ValueError, match=r"line 1102: needs 2 cells"):
        pl.FileSource(str(path)).load()


def test_a_packed_table_is_read_as_it_is(tmp_path):
    path = tmp_path / "my.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n3,4\n"))
    assert pl.FileSource(str(path)).load().x.tolist() == [[1, 2], [3, 4]]
    path.write_bytes(gzip.compress(b"a,b\n1,2\n3,4\n")[:-9])
    with pytest.raises(ValueError, match=r"my\.csv\.gz is damaged"):
        pl.FileSource(str(path)).load()


@pytest.mark.parametrize(
    ("piece", "said"),
    [
        (b"x", "line 2 is no row of a table: it is longer"),
        (b'"a\n",', "is no row of a table: it is longer"),
        (b"1,", "line 2 is no row of a table: it is longer"),
    ],
    ids=["no line", "no row", "no end of cells"],
)
def test_a_row_without_an_end_is_refused(tmp_path, monkeypatch, piece, said):
    monkeypatch.setattr(tables, "CHUNK", 1000)
    monkeypatch.setattr(tables, "LONGEST", 5000)
    path = tmp_path / "my.csv"
    path.write_bytes(b"a,b\n" + piece * 6000)
    with pytest.raises(ValueError, match=said):
        pl.FileSource(str(path)).load()


@pytest.mark.parametrize(("count", "said"), [(65_537, "more than 65,536 different ones"), (65_536, "")])
def test_so_many_classes_are_too_many(tmp_path, count, said):
    path = tmp_path / "my.csv"
    path.write_text("x,kind\n0,c0\n" + "".join(f"1,c{k}\n" for k in range(count)))
    if not said:
        assert len(pl.FileSource(str(path), "kind").load().classes) == count
        return
    with pytest.raises(ValueError, match=said):
        pl.FileSource(str(path), "kind").load()


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ("ag", "no column 'ag' for the numbers; did you mean 'age'"),
        ("age,age", "different columns, got 'age' twice"),
        ("x,age,kind", "beside the numbers"),
        ("kind", "line 2, column 'kind': needs a number, got 'a'"),
        (
            "age",
            r"got 'a' \(and 1 more like it\); correct it, remove .* \(--drop-columns kind\), .*--columns x$",
        ),  # with no word of --label
    ],
)
def test_columns_that_are_no_numbers_are_refused(tmp_path, numbers, said):
    path = tmp_path / "my.csv"
    path.write_text("x,age,kind\n1,2,a\n3,4,b\n")
    with pytest.raises(ValueError, match=said):
        pl.FileSource(str(path), numbers=numbers).load()


# ---- Parquet

pyarrow = pytest.importorskip("pyarrow")


def parquet(path, **columns):
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, row_group_size=3)
    return str(path)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ("kind", "other columns than label, got 'kind' for both; leave out one of them"),
        ("age,kind", "other columns than label, got 'kind' for both"),
        ("age,age", "different columns, got 'age' twice"),
        ("x,age", "beside the label and the numbers, got 'kind', 'x', 'age' alone"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_numbers_beside_a_label_are_other_columns(tmp_path, numbers, said, suffix):
    path = tmp_path / f"my.{suffix}"
    if suffix == "csv":
        path.write_text("x,age,kind\n1,2,a\n3,4,b\n")
    else:
        parquet(path, x=[1, 3], age=[2, 4], kind=["a", "b"])
    with pytest.raises(ValueError, match=said):
        pl.FileSource(str(path), "kind", numbers).load()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_may_have_a_class_and_numbers(tmp_path, suffix):
    x, age, dose = np.random.default_rng(0).normal(size=(3, 40))
    kind = ["b", "a", "b", "c"] * 10
    path = tmp_path / f"my.{suffix}"
    if suffix == "csv":
        rows = zip(age.tolist(), kind, x.tolist(), dose.tolist(), strict=True)
        path.write_text("\n".join(["age,kind,x,dose", *(",".join(map(str, row)) for row in rows)]))
    else:
        parquet(path, age=age, kind=kind, x=x, dose=dose)
    samples = pl.FileSource(str(path), "kind", "dose,age").load()
    assert list(samples.y) == ["class", "numbers"] and samples.columns == ("x",) and samples.numbers == ("dose", "age")
    assert np.array_equal(samples.x[:, 0], x) and np.array_equal(samples.y["numbers"], np.stack((dose, age), 1))
    assert [samples.classes[k] for k in samples.y["class"]] == kind
    for part in samples.split(0.3):
        rows = np.searchsorted(np.sort(x), part.x[:, 0])
        for row, k, numbers in zip(np.argsort(x)[rows], *part.y.values(), strict=True):
            assert (samples.classes[k], numbers.tolist()) == (kind[row], [dose[row], age[row]])
    assert np.array_equal(samples.y["class"], pl.FileSource(str(path), "kind").load().y["class"])


def test_a_table_in_parquet_is_its_numbers_and_classes(tmp_path):
    path = parquet(
        tmp_path / "my.parquet",
        a=pyarrow.array([1, 2, 3, 4], pyarrow.int8()),
        b=[0.1, -2, 3e300, 4],
        kind=["b", "a", "b", "c"],
        c=[True, False, True, True],
    )
    samples = pl.FileSource(path, "kind").load()
    assert samples.x.tolist() == [[1, 0.1, 1], [2, -2, 0], [3, 3e300, 1], [4, 4, 1]]
    assert samples.classes == ("a", "b", "c") and samples.y["class"].tolist() == [1, 0, 1, 2]
    assert samples.columns == ("a", "b", "c")
    path = parquet(tmp_path / "my.parquet", a=[1.5, 2.5], b=[3, 4], c=[5.5, 6])
    samples = pl.FileSource(path, numbers="c,a").load()
    assert samples.x.tolist() == [[3], [4]] and samples.y["numbers"].tolist() == [[5.5, 1.5], [6, 2.5]]


@pytest.mark.parametrize(
    ("columns", "label", "said"),
    [
        ({"a": [1.0, 2, 3, None]}, "", "row 4, column 'a': needs a number, got an empty cell"),
        ({"a": [1, 2, 3, 4], "b": [1, 2, np.nan, np.inf]}, "", r"row 3, column 'b': .*got nan \(and 1 more like it\)"),
        (
            {"a": [1, 2, 3], "b": ["x", "y", "x"]},
            "",
            "column 'b': must hold numbers, got the type string, and 'x' here.*--label",
        ),
        ({"a": [1, 2, 3], "b": ["x", None, "x"]}, "b", "row 2, column 'b': needs the name of a class, got an empty"),
        ({"a": [1, 2, 3], "b": ["x", "y", "z"]}, "b", "a different one for each of the 3"),
        ({"a": [1, 2], "b": [[1], [2]]}, "", "column 'b': must hold numbers, got the type list"),
        ({"a": [1, 2]}, "c", "no column 'c'"),
        ({"a": pyarrow.array([], pyarrow.int8())}, "", "has no rows"),
    ],
)
def test_what_is_wrong_in_parquet_is_told_by_row_and_column(tmp_path, columns, label, said):
    with pytest.raises(ValueError, match=said):
        pl.FileSource(parquet(tmp_path / "my.parquet", **columns), label).load()


def test_a_category_that_does_not_occur_is_no_class(tmp_path):
    kind = pyarrow.DictionaryArray.from_arrays(pyarrow.array([3, 0, 3, 3, None, 0]), ["d", "x", "y", "b"])
    path = parquet(tmp_path / "my.parquet", a=[1, 2, 3, 4], kind=kind[:4])
    samples = pl.FileSource(path, "kind").load()
    assert samples.classes == ("b", "d") and samples.y["class"].tolist() == [0, 1, 0, 0]
    path = parquet(tmp_path / "my.parquet", a=list(range(6)), kind=kind)
    with pytest.raises(ValueError, match="row 5, column 'kind': needs the name of a class, got an empty cell"):
        pl.FileSource(path, "kind").load()


def test_whole_numbers_in_parquet_that_would_be_rounded_are_refused(tmp_path):
    path = parquet(tmp_path / "my.parquet", a=[1.5, 2, 3, 4], id=[1, 2**53 - 1, 3, -(2**53) - 1])
    with pytest.raises(ValueError, match=r"row 4, column 'id': needs .*offset first\), got -9007199254740993; correct"):
        pl.FileSource(path).load()


def test_what_is_no_parquet_is_refused(tmp_path):
    path = tmp_path / "my.parquet"
    path.write_bytes(b"PAR1 hello PAR1")
    with pytest.raises(ValueError, match=r"my\.parquet cannot be read as Parquet"):
        pl.FileSource(str(path)).load()


def test_without_pyarrow_its_extra_is_named(tmp_path, monkeypatch):
    path = parquet(tmp_path / "my.parquet", a=[1, 2])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r'pip install "pathline\[data\]"'):
        pl.FileSource(path).load()
