"""What commands write where their user says: nothing of anybody is lost, and a disk that is full says so.

Before: `sample --out FILE` replaced any file, the training data of the run too; a full disk left a file of 0 bytes.
"""

import json
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import pathline as pl
from pathline.cli import sample as sample_command
from pathline.cli.main import main
from pathline.training import checkpoint
from pathline.training.loop import adamw

ROWS = "height,weight,kind\n" + "".join(f"{150 + i % 9}.5,{60 + i % 7}.25,{'ab'[i % 2]}\n" for i in range(40))
COMMANDS = {  # each with the first file that --out names, and one that goes beside it
    "sample": ("x.npz", "x.npz"),
    "edit": ("x.png", "x.png"),
    "likelihood": ("x.csv", "x.json"),
    "compare": ("x.png", "x.json"),
    "verify": ("x.png", "x.json"),
}
FLAGS = {
    "sample": "--count 4 --steps 2",
    "edit": "--count 4 --steps 2",
    "likelihood": "--count 4 --steps 2",
    "compare": "--count 4 --evaluations 5",
    "verify": "--quick",
}


def untrained(folder: Path, config: pl.Config) -> Path:
    """A run of a model that was not trained."""
    training, _ = config.load().split(config.held_out, config.seed)
    run = pl.Run.create(folder, config, training)
    field = run.new_field()
    checkpoint.save(folder, 0, field, pl.EMA(field), adamw(config.loss(field), 1e-3))
    return folder


def vectors(folder: Path) -> Path:
    """One on a table of two columns and a class; `folder` holds the table, data.csv, too."""
    (folder / "data.csv").write_text(ROWS)
    config = pl.Config(data=str(folder / "data.csv"), label="kind", network="mlp", width=8, depth=1)
    return untrained(folder / "run", config)


@pytest.fixture
def run(tmp_path) -> Path:
    return vectors(tmp_path)


def done(*words) -> int:
    return main([*map(str, words)])


def asked(command, run, *words) -> int:
    return done(command, run, *FLAGS[command].split(), *words)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_of_others_is_refused_before_the_work(command, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pl.Run, "checkpoint", lambda *_: pytest.fail("the work began"))
    first, mine = (tmp_path / name for name in COMMANDS[command])
    mine.write_text("my thesis")
    assert asked(command, run, "--out", first) == 2
    said = capsys.readouterr().err
    assert str(mine) in said and "did not write it" in said and "--overwrite" in said
    assert mine.read_text() == "my thesis"


@pytest.mark.parametrize(
    "way", ["its own path", "a link to it", "a second name of it", "a path with ..", "what --prompts reads"]
)
def test_what_a_command_reads_is_never_replaced(way, run, tmp_path, capsys):
    data, out, flags = tmp_path / "data.csv", tmp_path / "data.csv", []
    if way == "a link to it":
        (out := tmp_path / "link.csv").symlink_to(data)
    elif way == "a second name of it":
        (out := tmp_path / "second.csv").hardlink_to(data)
    elif way == "a path with ..":
        out = tmp_path / "run" / ".." / "data.csv"
    elif way == "what --prompts reads":
        (out := tmp_path / "words.csv").write_text(ROWS)
        flags = ["--prompts", out]
    assert asked("sample", run, "--out", out, "--overwrite", *flags) == 2
    said = capsys.readouterr().err
    assert str(out) in said and "never replaced" in said
    assert data.read_text() == ROWS and out.read_text() == ROWS


@pytest.mark.parametrize(
    ("command", "name"), [("compare", "config.png"), ("verify", "text.png"), ("sample", "README.md")]
)
def test_the_run_itself_is_never_replaced(command, name, run, capsys):
    # before: compare --out RUN/config.png wrote its numbers over RUN/config.json, and the run was lost
    before = (run / "config.json").read_bytes()
    assert asked(command, run, "--out", run / name, "--overwrite") == 2
    assert (run / "config.json").read_bytes() == before and not (run / "text.json").exists()


def test_nothing_is_added_to_a_folder_that_is_the_data(tmp_path, capsys):
    folder = tmp_path / "flat"
    folder.mkdir()
    from PIL import Image

    for i in range(8):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(folder / f"{i}.png")
    run = untrained(tmp_path / "run", pl.Config(data=str(folder), width=8, depth=1))
    assert done("sample", run, "--count", 1, "--steps", 1, "--out", folder / "new.png") == 2
    assert "lies in the data" in capsys.readouterr().err and len([*folder.iterdir()]) == 8


@pytest.mark.parametrize(
    "command", ["sample", *(pytest.param(name, marks=pytest.mark.slow) for name in ("compare", "likelihood"))]
)
def test_files_of_the_same_command_are_replaced_until_they_change(command, run, tmp_path, capsys):
    first, second = (tmp_path / name for name in COMMANDS[command])
    for _ in range(2):
        assert asked(command, run, "--out", first) == 0
    second.write_bytes(second.read_bytes() + b" ")
    assert asked(command, run, "--out", first) == 2
    said = capsys.readouterr().err
    assert f"{second} has changed since" in said and "--overwrite" in said
    assert second.read_bytes().endswith(b" ")
    assert asked(command, run, "--out", first, "--overwrite") == 0
    assert not second.read_bytes().endswith(b" ") and asked(command, run, "--out", first) == 0


@pytest.mark.slow
def test_a_file_of_another_run_or_command_is_refused(run, tmp_path, capsys):
    other = vectors(tmp_path / "other" if (tmp_path / "other").mkdir() is None else tmp_path)
    out = tmp_path / "x.npz"
    assert asked("sample", run, "--out", out) == 0
    assert asked("sample", other, "--out", out) == 2
    assert asked("edit", run, "--out", out) == 2
    assert asked("sample", run, "--out", out) == 0


def test_data_that_was_named_from_elsewhere_is_known_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/data.csv").write_text(ROWS)
    config = pl.Config(data="mine/data.csv", label="kind", network="mlp", width=8, depth=1)
    run = untrained(tmp_path / "run", config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert asked("sample", run, "--out", tmp_path / "mine" / "data.csv", "--overwrite") == 2
    assert "may be the data" in capsys.readouterr().err and (tmp_path / "mine" / "data.csv").read_text() == ROWS


def test_more_than_the_disk_has_room_for_is_refused_before_the_work(run, tmp_path, capsys):
    assert done("sample", run, "--count", 10**15, "--out", tmp_path / "x.npz") == 2
    assert "GB are free" in capsys.readouterr().err


def test_a_signal_to_end_leaves_no_litter(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_command, "written", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        asked("sample", run, "--out", tmp_path / "x.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "data.csv"}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_default_outputs_are_replaced_whatever_they_hold(run):
    (run / "samples" / "sample.png").write_text("anything")
    assert asked("sample", run) == 0 and asked("sample", run) == 0
    assert (run / "samples" / "sample.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_run_and_its_outputs_may_be_moved_together(run, tmp_path):
    assert asked("sample", run, "--out", run.parent / "x.npz") == 0
    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    assert asked("sample", moved / "run", "--out", moved / "x.npz") == 0


@contextmanager
def files_up_to(size: int):
    """As on a disk that is full: no file may be larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["x.npz", "x.csv", pytest.param("x.png", marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_full_disk_leaves_what_was_there_and_no_litter(name, is_there, run, tmp_path, capsys):
    out = tmp_path / "new" / "folder" / name
    if is_there:
        assert done("sample", run, "--count", 3, "--steps", 1, "--out", out) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with files_up_to(3000):
        assert done("sample", run, "--count", 2000, "--steps", 1, "--out", out) == 2
    said = capsys.readouterr().err
    assert f"cannot write {out}" in said and "make room" in said
    assert ("is as it was" if is_there else "nothing was written") in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert is_there or not (tmp_path / "new").exists()


def test_an_interrupt_leaves_what_was_there_and_no_litter(run, tmp_path, monkeypatch):
    out = tmp_path / "x.npz"
    assert asked("sample", run, "--out", out) == 0
    before = out.read_bytes()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_command, "written", interrupted)
    assert asked("sample", run, "--out", out) == 130
    assert out.read_bytes() == before and {path.name for path in tmp_path.iterdir()} == {"run", "data.csv", "x.npz"}


@pytest.mark.slow
def test_a_link_stays_and_what_it_leads_to_is_replaced(run, tmp_path):
    assert asked("sample", run, "--out", tmp_path / "x.npz") == 0
    (tmp_path / "link.npz").symlink_to(tmp_path / "x.npz")
    (tmp_path / "x.npz").chmod(0o640)
    assert done("sample", run, "--count", 9, "--steps", 1, "--out", tmp_path / "link.npz") == 0
    assert (tmp_path / "link.npz").is_symlink() and len(np.load(tmp_path / "x.npz")["x"]) == 9
    assert (tmp_path / "x.npz").stat().st_mode & 0o777 == 0o640


def test_a_record_that_was_cut_short_vouches_for_nothing(run, tmp_path, capsys):
    out = tmp_path / "x.npz"
    assert asked("sample", run, "--out", out) == 0
    record = run / "outputs.jsonl"
    assert json.loads(record.read_text())["path"] == "../x.npz"
    record.write_text(record.read_text()[:20])
    assert asked("sample", run, "--out", out) == 2 and "did not write it" in capsys.readouterr().err
