"""A run that goes on under other settings: what may change is a leg of its own, what cannot is named.

Before: --resume refused every setting but those of the machine.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

import pathline as pl
from pathline.cli import card
from pathline.cli import train as train_command
from pathline.cli.main import main
from pathline.training import checkpoint
from pathline.training.batches import Order

FLAGS = "moons --batch-size 16 --width 8 --depth 1 --checkpoint-every 2 --log-every 1 --evaluate-every 4".split()


def trained(*words) -> int:
    with torch.random.fork_rng():
        return main(["train", *map(str, words)])


def without_pictures(patch: pytest.MonkeyPatch) -> None:
    """Leave out the end of a training, which takes the longest here."""
    patch.setattr(train_command, "draw_all", lambda *_: None)
    patch.setattr(train_command, "write_card", lambda run, *_: (run.folder / "README.md").write_text("a card"))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    without_pictures(monkeypatch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of 4 steps."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        assert trained(*FLAGS, "--steps", 4, "--keep", 9, "--out", run) == 0
    return run


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def forget(run: Path, last: int) -> None:
    """The run as after a kill: without checkpoints beyond a step."""
    for step in checkpoint.steps_of(run):
        if step > last:
            shutil.rmtree(checkpoint.folder_of(run, step))


def weights(run: Path, step: int) -> list[bytes]:
    folder = checkpoint.folder_of(run, step)
    return [(folder / f"{name}.safetensors").read_bytes() for name in ("model", "ema", "optimizer")]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"steps": 8}, marks=pytest.mark.slow),
        {"steps": 8, "learning-rate": 1e-4, "ema": 0.5, "batch-size": 24},
        *(
            pytest.param(changed, marks=pytest.mark.slow)
            for changed in (
                {"steps": 7, "weight-decay": 0.1, "clip": 0.5, "lr-schedule": "constant", "warmup": 0.0, "skips": 3},
                {"steps": 8, "batch-size": 5, "precision": "bfloat16", "guidance": 3.0},
            )
        ),
    ],
    ids=" ".join,
)
def test_a_finished_run_goes_on_as_a_leg_that_resumes_to_the_bit(changed, run, capsys):
    flags = [word for name, value in changed.items() for word in (f"--{name}", value)]
    before = pl.Run.open(run).config
    assert trained("--resume", run, *flags) == 0
    end = changed["steps"]
    said, after = " ".join(capsys.readouterr().out.split()), pl.Run.open(run)
    assert "leg 2 from step 4" in said and f"schedule of {end} steps" in said
    assert after.legs[0].step == 4
    for name, value in changed.items():
        key = name.replace("-", "_")
        assert getattr(after.config, key) == value and after.legs[0].changed[key] == (getattr(before, key), value)
    assert [line["step"] for line in after.metrics() if "loss" in line] == [*range(1, end + 1)]
    whole = weights(run, end)
    forget(run, 6)
    assert trained("--resume", run) == 0  # a kill at step 6: nothing is said of the leg, config.json knows it
    assert weights(run, end) == whole and pl.Run.open(run).legs == after.legs


@pytest.mark.slow
def test_the_learning_rate_of_a_leg_is_that_of_its_schedule_over_all_steps(run, monkeypatch):
    seen, real = [], torch.optim.AdamW.step

    def step(self, *arguments, **keywords):
        seen.append(self.param_groups[0]["lr"])
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    assert trained("--resume", run, "--steps", 8, "--learning-rate", 0.01) == 0
    factor = pl.Config().warmup
    expected = [0.01 * train_command.legs.LR_SCHEDULES["cosine"](factor)(k / 8) for k in range(4, 8)]
    assert seen == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_batches_of_another_size_go_on_where_the_earlier_ones_ended(run, monkeypatch):
    places, real = [], Order.rows

    def rows(self, start, count):
        places.append((start, count))
        return real(self, start, count)

    monkeypatch.setattr(Order, "rows", rows)
    assert trained("--resume", run, "--steps", 6, "--batch-size", 10) == 0
    assert trained("--resume", run, "--steps", 8, "--batch-size", 7) == 0
    assert places == [(64, 10), (74, 10), (84, 7), (91, 7)]


@pytest.mark.slow
def test_a_leg_whose_checkpoints_are_lost_begins_where_training_goes_on(run, monkeypatch):
    assert trained("--resume", run, "--steps", 8, "--batch-size", 10) == 0
    forget(run, 2)
    places, real = [], Order.rows
    monkeypatch.setattr(Order, "rows", lambda self, *place: places.append(place) or real(self, *place))
    assert trained("--resume", run) == 0
    whole, all_of_it = weights(run, 8), list(places)
    assert [leg.step for leg in pl.Run.open(run).legs] == [2] and all_of_it[:2] == [(32, 10), (42, 10)]
    forget(run, 4)
    assert trained("--resume", run) == 0
    assert weights(run, 8) == whole and places == [*all_of_it, *all_of_it[2:]]


@pytest.mark.slow
def test_the_model_card_tells_of_a_leg(run, monkeypatch):
    monkeypatch.setattr(train_command, "write_card", card.write_card)
    assert trained("--resume", run, "--steps", 5, "--ema", 0.5) == 0
    assert "| legs | from step 4: steps 4 to 5, ema 0.995 to 0.5 |" in (run / "README.md").read_text()


@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--width", 16, "the weights are of that model"),
        ("--prediction", "noise", "the weights are of that model"),
        ("--schedule", "cosine", "the weights are of that model"),
        ("--data", "rings", "held out"),
        ("--seed", 3, "held out"),
        ("--coupling", "optimal-transport", "what the weights learn"),
        ("--times", "logit-normal", "what the weights learn"),
    ],
)
def test_what_cannot_change_is_named(flag, value, why, run, capsys):
    before = (run / "config.json").read_bytes()
    assert trained("--resume", run, "--steps", 8, flag, value) == 2
    said = capsys.readouterr().err
    assert f"cannot change {flag}" in said and why in said and "train a new run" in said and "--learning-rate" in said
    assert (run / "config.json").read_bytes() == before and checkpoint.steps_of(run)[-1] == 4


def test_a_run_that_another_process_changed_meanwhile_is_left_alone(run, monkeypatch, capsys):
    real = train_command.joined

    def joined(*arguments):
        values = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps(values | {"steps": 99}))
        return real(*arguments)

    monkeypatch.setattr(train_command, "joined", joined)
    assert trained("--resume", run, "--steps", 8) == 2
    assert "another process" in capsys.readouterr().err


def test_a_leg_of_one_being_trained_is_refused(run, capsys):
    with pl.Run.open(run).locked():
        assert trained("--resume", run, "--steps", 8) == 2
    assert "being trained by another process" in capsys.readouterr().err and pl.Run.open(run).legs == ()
