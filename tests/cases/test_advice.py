"""What is advised can be done, and what would fail is refused before the work: each row was said or lost otherwise."""

import json
import shutil

import pytest

from pathline.cli.main import main
from pathline.config import load_config
from pathline.runs import Run
from pathline.trainer import Trainer
from pathline.training import checkpoint

SMALL = {"steps": 3, "width": 8, "depth": 1, "batch_size": 8, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three steps and as many checkpoints, without its pictures."""
    config = load_config("moons")
    config = type(config)(**config.to_dict() | SMALL).resolved()
    training, held_out = config.load().split(config.held_out, config.seed)
    run = Run.create(tmp_path_factory.mktemp("advice") / "run", config, training)
    trainer = Trainer(run, training, held_out)
    trainer.begin()
    for _ in trainer.steps():
        pass
    return run.folder


@pytest.fixture
def run(trained, tmp_path):
    return Run.open(shutil.copytree(trained, tmp_path / "run"))


def spoil(run, *steps):
    for step in steps:
        (checkpoint.folder_of(run.folder, step) / "ema.safetensors").write_bytes(b"no")


def told(capsys, line):
    code, found = main(line.split()), capsys.readouterr()
    assert code == 2 and found.err.count("\n") == 1, found.err
    return found.err


def test_a_damaged_checkpoint_names_a_whole_one(run):  # before: the newest other, damaged or not
    spoil(run, 2, 3)
    with pytest.raises(ValueError, match=r"step-00000003/ema.safetensors is damaged.*to use step 1$"):
        checkpoint.load(run.folder, 3)
    shutil.rmtree(checkpoint.folder_of(run.folder, 3))
    with pytest.warns(UserWarning, match="an earlier checkpoint is used"):
        assert run.checkpoint().step == 1


def test_where_all_are_damaged_none_is_advised(run):
    spoil(run, *checkpoint.steps_of(run.folder))
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match=r"no other whole checkpoint is there: remove .*run"),
    ):
        run.checkpoint()


def test_a_checkpoint_that_training_removes_meanwhile_is_passed_over(run, monkeypatch):  # before: "is missing"
    read, removed = checkpoint._read, []

    def late(folder, step):
        if not removed:
            removed.append(step)
            checkpoint.folder_of(folder, 3).rename(checkpoint.folder_of(folder, 4))
        return read(folder, step)

    monkeypatch.setattr(checkpoint, "_read", late)
    found = checkpoint.steps_of(run.folder)
    assert found[-1] == 3 and removed == []
    with pytest.warns(UserWarning, match="step-00000004"):  # its manifest is of step 3: damaged, and named so
        assert run.checkpoint().step == 2


def test_the_digest_of_weights_is_known_without_their_folder(run):  # before: tune failed after its fit
    found = run.checkpoint()
    files = json.loads((found.folder / "manifest.json").read_text())["files"]
    shutil.rmtree(found.folder)
    assert len(found.digest) == 64 and files


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param(
            "--out {place}/other", "is no run, so that neither --resume nor --overwrite", id="another's folder"
        ),
        pytest.param("--out {place}/other --overwrite", "is no run, so that neither", id="to replace another's folder"),
        pytest.param("--out {place}/file", "is a file; name another folder with --out", id="a file"),
        pytest.param("--out {place}/file/below", "is a file; name another folder with --out", id="below a file"),
        pytest.param("--out {place}/broken --overwrite", "is none that can be read", id="a run with a damaged config"),
    ],
)
def test_a_place_that_cannot_be_had_is_refused_before_the_data_is_read(tmp_path, line, words, capsys, monkeypatch):
    monkeypatch.setattr("pathline.config.Config.load", lambda _: pytest.fail("the data was read"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    assert words in told(capsys, f"train moons {line}".format(place=tmp_path))
    assert (tmp_path / "other" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("verify --out x.png", "--out is of a run that is looked at", id="--out without a run"),
        pytest.param("verify --seed 3", "--seed is of a run that is looked at", id="--seed without a run"),
        pytest.param("verify --overwrite", "--overwrite is of a run", id="--overwrite without a run"),
        pytest.param("verify runs/x --workers 2", "--workers are of the laws", id="--workers with a run"),
        pytest.param("train {place}/empty.toml", "is empty, and names no settings", id="an empty file"),
        pytest.param("train {place}/tables.toml", "width must be of type int, got", id="a table for a number"),
        pytest.param("train {place}/huge.toml", "width must be at most 65,536", id="a huge number"),
        pytest.param("train {place}/nan.toml", "learning_rate must be positive, got nan", id="nan"),
        pytest.param("train {place}/inf.toml", "learning_rate must be finite, got inf", id="inf"),
        pytest.param("train {place}/deep.toml", "is not TOML", id="deep lists"),
        pytest.param("train moons --width 10000000", "--width must be at most 65,536", id="a huge width"),
        pytest.param("train moons --width 65536 --depth 1000", "fits memory", id="a huge network"),
        pytest.param("train moons --depth -1", "--depth must be at least 1", id="a negative depth"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path, line, words, capsys):
    files = {
        "empty": "",
        "tables": "[width]\nof = 3",
        "huge": "width = 1000000000000",
        "nan": "learning_rate = nan",
        "inf": "learning_rate = inf",
        "deep": f"data = {'[' * 5000}{']' * 5000}",
    }
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    monkey = f"{line} --out {tmp_path}/made" if line.startswith("train") else line
    assert words in told(capsys, monkey.format(place=tmp_path))
    assert not (tmp_path / "made").exists()


def test_resources_that_run_out_are_one_sentence(monkeypatch, capsys):
    import pathline.cli.info as info

    for error in (
        MemoryError(),
        RecursionError("too deep"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        monkeypatch.setattr(info, "parsed", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert type(error).__name__ in told(capsys, "info x")
    monkeypatch.setattr(info, "parsed", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["info", "x"])


@pytest.mark.parametrize("schedule", ["polynomial:1e9", "polynomial:1e30"])  # before: after training, "take more steps"
def test_a_schedule_that_cannot_be_drawn_is_refused_before_the_work(schedule, tmp_path, capsys):
    line = f"train moons --schedule {schedule} --steps 2 --out {tmp_path / 'run'}"
    assert f"steps, as for the pictures, got {schedule}: it turns noise into data too suddenly" in told(capsys, line)
    assert not (tmp_path / "run").exists()


def test_a_picture_of_too_many_points_is_refused_before_the_work(run, capsys):  # before: 20,470 hours of work
    said = told(capsys, f"sample {run.folder} --count 1000000000000")
    assert "--count must be at most 10,000,000 for one picture, got 1,000,000,000,000" in said
