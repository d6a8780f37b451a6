"""A table says all that is wrong with its columns at once, and how to go on without them."""

import datetime

import pytest

import pathline as pl
from pathline.cli.main import main
from pathline.data.columns import list_of, names_in

pyarrow = pytest.importorskip("pyarrow")

DATES = [f"2024-01-{k:02d}" for k in range(1, 11)]
MEMBER = ["yes", "no"] * 5
AGE = [str(20 + k) for k in range(10)]
AGE[2] = AGE[6] = ""
HEIGHT = [f"{1.5 + k / 100:.2f}" for k in range(10)]
WEIGHT = [str(50 + 3 * k) for k in range(10)]
HEADER = "date,member,age,height,weight"


def command(*arguments):
    """The exit code of a command: what is wrong with a flag may end it as the parser does."""
    try:
        return main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code


@pytest.fixture(params=["csv", "csv.gz", "parquet"])
def table(request, tmp_path):
    path = tmp_path / f"my.{request.param}"
    rows = list(zip(DATES, MEMBER, AGE, HEIGHT, WEIGHT, strict=True))
    text = "\n".join([HEADER, *map(",".join, rows)])
    if request.param == "csv":
        path.write_text(text)
    elif request.param == "csv.gz":
        path.write_bytes(__import__("gzip").compress(text.encode()))
    else:
        from pyarrow import parquet

        columns = {
            "date": [datetime.date.fromisoformat(date) for date in DATES],
            "member": MEMBER,
            "age": [int(age) if age else None for age in AGE],
            "height": list(map(float, HEIGHT)),
            "weight": list(map(int, WEIGHT)),
        }
        parquet.write_table(pyarrow.table(columns), path, row_group_size=4)
    return path


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def train(table, *more):
    tiny = "--width 8 --depth 1 --batch-size 4 --steps 2 --device cpu".split()
    return command("train", "vectors", "--data", table, "--out", table.parent / "run", *tiny, *more)


# before: "line 2, column 'date': needs a number, got '2024-01-01' (and 21 more like it)", and the next after that
def test_all_columns_are_told_at_once_with_the_flags_that_leave_them_out(table, capsys):
    assert train(table) == 2
    raw = capsys.readouterr().err
    assert len(raw.splitlines()) == 5  # one for each column, the way out, and what all of it is of
    told = " ".join(raw.split())
    place = (lambda row: f"row {row}") if table.suffix == ".parquet" else (lambda row: f"line {row + 1}")
    for column, row, value, kind in (
        ("date", 1, "'2024-01-01'", ", a date or time (and 9 more like it)"),
        ("member", 1, "'yes'", ", a yes or no (and 9 more like it)"),
        ("age", 3, "an empty cell", " (and 1 more like it)"),
    ):
        line = told.partition(f"{place(row)}, column '{column}': ")[2].partition(" row ")[0].partition(" line ")[0]
        assert value in line and kind in line
    assert "has 3 columns that are not all numbers" in told
    assert "--drop-columns date,member,age" in told and "--columns height,weight" in told
    assert not (table.parent / "run").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ("--drop-columns", "date,member,age"),
        ("--drop", "date,member,age"),
        ("--drop", "date", "--drop", "0.1", "--drop-columns", "member,age"),
        ("--columns", "weight,height"),
    ],
    ids=" ".join,
)
def test_the_flags_that_are_told_lead_on(table, capsys, monkeypatch, flags):
    monkeypatch.setattr("pathline.cli.train.draw_all", lambda run, training: None)
    assert train(table, *flags) == 0
    run = pl.Run.open(table.parent / "run")
    assert run.columns == ("height", "weight") and run.config.drop == 0.1
    samples = run.config.load()
    assert samples.x[:, 0].tolist() == list(map(float, HEIGHT))
    assert samples.x[:, 1].tolist() == list(map(float, WEIGHT))
    assert "3 columns not used" in samples.title


def test_a_label_and_numbers_stand_beside_the_columns(table):
    found = pl.FileSource(str(table), label="member", numbers="weight", columns="height").load()
    assert found.columns == ("height",) and found.classes == ("no", "yes") and found.numbers == ("weight",)
    assert found.y["numbers"][:, 0].tolist() == list(map(float, WEIGHT))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--columns", "hight"], "has no column 'hight' for --columns; did you mean 'height'"),
        (["--drop-columns", "dates"], "has no column 'dates' for --drop-columns; did you mean 'date'"),
        (["--drop", "date", "--label", "date"], "--drop-columns must name columns that nothing else does, got 'date'"),
        (["--drop", "date,member,age,height,weight"], "must have a column of numbers"),
        (["--drop", "date"], "has 2 columns that are not all numbers"),
    ],
)
def test_flags_that_name_no_columns_or_leave_none_are_refused(table, capsys, flags, words):
    assert train(table, *flags) == 2
    assert words in said(capsys)


def test_a_share_is_still_a_share(tmp_path):
    from pathline.cli.train import _with_dropped_columns

    for words in (["--drop", "0.1"], ["--drop=0"], ["--drop", "1e-1"], ["--drop-each", "class=0.1"], ["--drop"]):
        assert _with_dropped_columns(words) == words


def test_columns_are_of_tables_alone(tmp_path, capsys):
    assert command("train", "moons", "--columns", "a") == 2
    assert "columns names columns of a .csv or .parquet" in said(capsys)


def test_names_with_commas_and_blanks_go_through_a_list(tmp_path):
    names = ("a, b", 'c "d"', "e")
    assert names_in(list_of(names)) == names
    (tmp_path / "my.csv").write_text('"a, b","c d",e,f\nx,y,1,2\nz,w,3,4\n')
    with pytest.raises(ValueError, match="""--drop-columns '"a, b",c d'"""):
        pl.FileSource(str(tmp_path / "my.csv")).load()
    assert pl.FileSource(str(tmp_path / "my.csv"), drop_columns='"a, b",c d').load().columns == ("e", "f")


def test_a_column_without_a_header_is_left_out_by_its_number(tmp_path):
    (tmp_path / "my.csv").write_text("2024-01-01,1,2\n2024-01-02,3,4\n")
    assert pl.FileSource(str(tmp_path / "my.csv"), drop_columns="1").load().x.tolist() == [[1, 2], [3, 4]]
    assert pl.FileSource(str(tmp_path / "my.csv"), columns="2,3").load().x.tolist() == [[1, 2], [3, 4]]


def test_many_rows_are_read_past_columns_that_are_not_used(tmp_path):
    rows = [f"{k},2024-01-01,{k / 7},a {k}" for k in range(2000)]
    rows[1500] = "1500,,214.25,"  # empty cells where nobody looks
    (tmp_path / "my.csv").write_text("\n".join(["id,date,x,name", *rows]))
    found = pl.FileSource(str(tmp_path / "my.csv"), columns="x").load()
    assert found.x[:, 0].tolist() == [214.25 if k == 1500 else float(f"{k / 7}") for k in range(2000)]


def test_rows_of_other_lengths_stand_beside_the_columns(tmp_path):
    (tmp_path / "my.csv").write_text("a,b,c\n1,yes,3\n4,no\n5,no,7\n8,no,\n")
    with pytest.raises(
        ValueError, match=r"(?s)line 3: needs 3 cells.*column 'b': .*'yes'.*line 5, column 'c': .*empty"
    ):
        pl.FileSource(str(tmp_path / "my.csv")).load()
