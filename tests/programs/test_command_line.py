"""The command line as a user meets it: runs, what they leave behind, and what is said of bad input."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.cli.main import COMMANDS, main
from pathline.data.digits import DigitsSource
from pathline.training import checkpoint
from pathline.training.loop import adamw

TINY = ("--steps", "6", "--batch-size", "16", "--width", "8", "--depth", "1", "--checkpoint-every", "3")
FILES = {"model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}


class Result(NamedTuple):
    code: int
    out: str
    err: str


def pathline(*arguments) -> Result:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code or 0
    return Result(int(code), out.getvalue(), err.getvalue())


def done(*arguments) -> Result:
    """Run the command line, which must succeed."""
    result = pathline(*arguments)
    assert result.code == 0, result.err
    return result


def in_a_process(*arguments) -> Result:
    """Run the command line as a user does."""
    environment = os.environ | {"COLUMNS": "200"}
    command = [sys.executable, "-m", "pathline", *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    return Result(found.returncode, found.stdout, found.stderr)


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder, by the hash of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    done("train", "digits", *TINY, "--out", run)
    return run


@pytest.fixture(scope="module")
def moons(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "moons"
    done("train", "moons", "--steps", 4, "--width", 8, "--depth", 1, "--batch-size", 32, "--out", run)
    return run


def unclassed(folder: Path, dimension: int = 2) -> Path:
    """A run of a model without classes, by the library: no data set here has none."""
    config = pl.Config(data="moons", network="mlp", width=8, depth=1)
    samples = pl.Samples(torch.zeros(1, dimension), None, (), pl.Normalisation(3.0, 2.0), "points", "none", "here")
    run = pl.Run.create(folder, config, samples)
    field = config.field(samples.shape, 0)
    loss = config.loss(field)
    checkpoint.save(folder, 0, field, pl.EMA(field), adamw(loss, 1e-3))
    assert run.field().null is None
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    return unclassed(tmp_path_factory.mktemp("runs") / "bare")


def sampled(run, folder, *flags):
    done("sample", run, *flags, "--out", folder / "x.npz")
    with np.load(folder / "x.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


# ---- what a run leaves behind


def test_a_run_folder_holds_what_the_contract_says(digits):
    assert {path.name for path in digits.iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoints", "samples", "README.md",
    }  # fmt: skip
    steps = ["step-00000000", "step-00000003", "step-00000006"]
    assert sorted(path.name for path in (digits / "checkpoints").iterdir()) == steps
    for step in steps:
        assert {path.name for path in (digits / "checkpoints" / step).iterdir()} == FILES
    assert {path.name for path in (digits / "samples").iterdir()} >= {"grid.png", "noise-to-data.gif", "loss.png"}


def test_the_config_holds_the_flags_and_the_presets_other_fields(digits):
    config = json.loads((digits / "config.json").read_text())
    about = config.pop("samples")
    given = {"steps": 6, "batch_size": 16, "width": 8, "depth": 1, "checkpoint_every": 3}
    assert config == pl.load_config("digits").to_dict() | given
    assert about["shape"] == [1, 8, 8] and about["classes"] == list("0123456789")


def test_metrics_are_a_line_for_each_logged_step(digits):
    lines = [json.loads(line) for line in (digits / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 6]
    (held,) = [line for line in lines if "held_out_loss" in line]
    assert held["step"] == 6 and len(held["held_out_loss_by_t"]) == 10
    assert held["held_out_loss"] == pytest.approx(np.mean(held["held_out_loss_by_t"]), abs=1e-4)
    assert all(line["samples_per_second"] > 0 and line["gradient_norm"] > 0 for line in lines if "loss" in line)


def test_the_checkpoint_before_the_first_step_is_the_untrained_model(digits):
    run = pl.Run.open(digits)
    untrained = run.config.field(run.shape, 10).state_dict()
    assert all(torch.equal(run.checkpoint(0).model[name], value) for name, value in untrained.items())
    trained = run.checkpoint()
    assert trained.step == 6
    assert not all(torch.equal(trained.model[name], value) for name, value in untrained.items())
    assert any("rng" in name for name in trained.optimizer)


@pytest.mark.parametrize("name", ["digits", "moons"])
def test_the_pictures_are_pictures_and_the_animation_moves(name, request):
    samples = request.getfixturevalue(name) / "samples"
    for picture in ("grid.png", "loss.png"):
        with Image.open(samples / picture) as image:
            assert len(set(np.asarray(image.convert("L")).flatten().tolist())) > 10
    with Image.open(samples / "noise-to-data.gif") as film:
        assert film.n_frames > 10 and film.info["loop"] == 0
        first = np.asarray(film.convert("L")).astype(int)
        film.seek(film.n_frames - 1)
        assert np.abs(np.asarray(film.convert("L")).astype(int) - first).mean() > 1


def test_the_card_names_data_licence_settings_and_figures(digits):
    card = (digits / "README.md").read_text()
    samples = DigitsSource().load()
    held = [json.loads(line) for line in (digits / "metrics.jsonl").read_text().splitlines()][-1]["held_out_loss"]
    for words in (
        samples.title, "CC BY 4.0", samples.source, "samples/grid.png", f"{held:.4f}", "energy distance",
        "| steps | 6 |", "| width | 8 |", "| schedule | linear |", "1,438 samples to train on, 359 held out",
    ):  # fmt: skip
        assert words in card
    size = sum(p.numel() for p in pl.Run.open(digits).field().parameters())
    assert f"| {size:,}, averaged over training |" in card


def test_the_same_command_trains_the_same_weights(digits, tmp_path):
    done("train", "digits", *TINY, "--out", tmp_path / "again")
    for name in ("model", "ema", "optimizer"):
        path = Path("checkpoints", "step-00000006", f"{name}.safetensors")
        assert (digits / path).read_bytes() == (tmp_path / "again" / path).read_bytes()


# ---- sampling


@pytest.mark.parametrize("name", ["digits", "moons", "bare"])
def test_an_npz_holds_points_in_the_units_of_the_data_and_their_classes(name, request, tmp_path):
    folder = request.getfixturevalue(name)
    found, run = sampled(folder, tmp_path, "--count", 13, "--steps", 3, "--seed", 5), pl.Run.open(folder)
    y = torch.arange(13) % max(len(run.classes), 1)
    assert set(found) == ({"x", "y"} if run.classes else {"x"})
    field = pl.guided(run.field(), y) if run.classes else run.field()
    truth = run.normalisation.back(pl.sample(field, (13, *run.shape), steps=3, seed=5))
    assert found["x"].dtype == np.float32
    assert np.array_equal(found["x"], truth.numpy())
    if run.classes:
        assert np.array_equal(found["y"], y.numpy())


def test_digits_are_floats_from_0_to_16_and_not_clipped(digits, tmp_path):
    # six steps leave noise: about N(8, (8 s)^2), so some lie outside on both sides
    x = sampled(digits, tmp_path, "--count", 20, "--steps", 3)["x"]
    assert x.shape == (20, 1, 8, 8)
    assert x.min() < 0 and x.max() > 16 and 4 < x.mean() < 12
    assert not np.array_equal(x, x.round())


@pytest.mark.parametrize(
    ("flags", "sampler", "steps"),
    [
        ((), pl.ODESampler(pl.HEUN), 50),
        (("--steps", 4), pl.ODESampler(pl.HEUN), 4),
        (("--evaluations", 9), pl.ODESampler(pl.HEUN), 4),
        (("--evaluations", 9, "--sampler", "rk4"), pl.ODESampler(pl.RK4), 2),
        (("--sampler", "euler", "--steps", 4), pl.ODESampler(pl.EULER), 4),
        (("--sampler", "midpoint", "--steps", 4), pl.ODESampler(pl.MIDPOINT), 4),
        (("--sampler", "ddim", "--steps", 4), pl.DDIM(), 4),
        (("--sampler", "ddim:0.5", "--steps", 4), pl.DDIM(0.5), 4),
        (("--sigma", "0.5", "--steps", 4), pl.SDESampler(0.5), 4),
        (("--sigma", "beta:1.5", "--steps", 4), pl.SDESampler(pl.BetaSigma(1.5)), 4),
        (("--sigma", "memoryless", "--steps", 4), pl.SDESampler(pl.MemorylessSigma()), 4),
        (
            ("--sigma", "beta:1.5", "--sampler", "stochastic-heun", "--steps", 4),
            pl.SDESampler(pl.BetaSigma(1.5), pl.StochasticHeun()),
            4,
        ),
        (("--sigma", "1e-1", "--sampler", "euler-maruyama", "--steps", 4), pl.SDESampler(0.1), 4),
    ],
    ids=str,
)
def test_flags_choose_the_sampler(moons, tmp_path, flags, sampler, steps):
    run = pl.Run.open(moons)
    found = sampled(moons, tmp_path, "--count", 6, *flags)["x"]
    field = pl.guided(run.field(), torch.arange(6) % 2)
    truth = run.normalisation.back(pl.sample(field, (6, 2), sampler, steps, seed=0))
    assert np.array_equal(found, truth.numpy())


@pytest.mark.parametrize("w", [0.0, 0.5, 3.0])
def test_guidance_is_its_scale(digits, tmp_path, w):
    run, y = pl.Run.open(digits), torch.arange(5)
    found = sampled(digits, tmp_path, "--count", 5, "--steps", 3, "--guidance", w)["x"]
    field = pl.ClassifierFree(run.field().given(y), run.field().given(None), w)
    truth = run.normalisation.back(pl.sample(field, (5, 1, 8, 8), steps=3, seed=0))
    assert np.allclose(found, truth.numpy(), atol=1e-4)


@pytest.mark.parametrize(("name", "label", "index"), [("digits", "3", 3), ("moons", "lower", 1), ("moons", "0", 0)])
def test_a_class_is_that_of_all(name, label, index, request, tmp_path):
    run = request.getfixturevalue(name)
    assert sampled(run, tmp_path, "--count", 4, "--steps", 1, "--class", label)["y"].tolist() == [index] * 4


@pytest.mark.parametrize("flags", [(), ("--sigma", "0.5"), ("--sampler", "ddim:1")], ids=str)
def test_the_same_seed_is_the_same_samples_however_many(digits, tmp_path, flags):
    few, many = (sampled(digits, tmp_path, "--count", n, "--steps", 4, "--seed", 7, *flags)["x"] for n in (3, 12))
    assert np.allclose(few, many[:3], atol=1e-3)
    other = sampled(digits, tmp_path, "--count", 3, "--steps", 4, "--seed", 8, *flags)["x"]
    assert np.abs(few - other).mean() > 1


@pytest.mark.parametrize("name", ["digits", "moons", "bare"])
@pytest.mark.parametrize("count", [1, 11])
def test_a_picture_is_written_and_named(name, count, request, tmp_path):
    out = tmp_path / "new" / "picture.png"
    result = done("sample", request.getfixturevalue(name), "--count", count, "--steps", 1, "--out", out)
    assert str(out) in result.out and f"{count} samples" in result.out
    with Image.open(out) as image:
        assert image.format == "PNG" and len(np.unique(np.asarray(image))) > 10


def test_without_out_the_picture_is_in_the_run(bare):
    result = done("sample", bare, "--count", 3, "--evaluations", 5)
    assert "2 steps, at most 4 calls of the network" in result.out
    assert (bare / "samples" / "sample.png").is_file()


def test_points_on_a_line_are_drawn_too(tmp_path):
    result = done("sample", unclassed(tmp_path / "line", dimension=1), "--steps", 1, "--out", tmp_path / "line.png")
    assert (tmp_path / "line.png").is_file(), result.err


# ---- settings from a file, going on


def test_a_file_sets_what_a_flag_may_set_again(tmp_path):
    toml = tmp_path / "my.toml"
    toml.write_text('preset = "moons"\nschedule = "polynomial:2"\nsteps = 3\nwidth = 8\ndepth = 1\nlearning_rate = 1\n')
    done("train", toml, "--batch-size", 8, "--steps", 2, "--out", tmp_path / "run")
    run = pl.Run.open(tmp_path / "run")
    assert (run.config.data, run.config.steps, run.config.batch_size, run.config.width) == ("moons", 2, 8, 8)
    assert run.config.learning_rate == 1.0
    assert run.field().path.schedule == pl.PolynomialSchedule(2)


def killed(run: Path, folder: Path, step: int) -> Path:
    """A copy of a run as it is when its process dies after the checkpoint of a step."""
    shutil.copytree(run, folder)
    for later in checkpoint.steps_of(folder):
        if later > step:
            shutil.rmtree(folder / "checkpoints" / f"step-{later:08d}")
    (folder / "README.md").unlink()
    return folder


@pytest.mark.parametrize("step", [0, 3])
def test_a_resumed_run_ends_as_one_that_never_stopped(digits, tmp_path, step):
    again = killed(digits, tmp_path / "again", step)
    done("train", "--resume", again)
    for name in ("model", "ema", "optimizer"):
        path = Path("checkpoints", "step-00000006", f"{name}.safetensors")
        assert (digits / path).read_bytes() == (again / path).read_bytes()
    assert (again / "README.md").is_file()


def test_a_run_is_resumed_where_its_last_line_was_cut_short(digits, tmp_path):
    again = killed(digits, tmp_path / "again", 3)
    with (again / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    done("train", "--resume", again)
    assert (again / "README.md").is_file()


@pytest.mark.parametrize("part", ["optimizer", "average"])
def test_an_interrupted_run_goes_on_as_one_that_never_stopped(digits, tmp_path, monkeypatch, part):
    run, calls = tmp_path / "run", []
    owner, name = (torch.optim.AdamW, "step") if part == "optimizer" else (pl.EMA, "update")
    real = getattr(owner, name)

    def interrupted(self, *arguments, **keywords):
        found = real(self, *arguments, **keywords)
        calls.append(part)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(owner, name, interrupted)
    result = pathline("train", "digits", *TINY, "--out", run)
    monkeypatch.undo()
    assert result.code == 130 and f"pathline train --resume {run}" in result.err and "Traceback" not in result.err
    done("train", "--resume", run)
    path = Path("checkpoints", "step-00000006", "model.safetensors")
    assert (digits / path).read_bytes() == (run / path).read_bytes()


def test_resuming_a_finished_run_changes_nothing(digits):
    before = hashes(digits)
    assert "is finished: 6 steps" in done("train", "--resume", digits).out.replace("\n", " ")
    assert hashes(digits) == before


def test_an_existing_run_is_left_alone_unless_told(moons, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(moons, run)
    (run / "note.txt").write_text("mine")
    before = hashes(run)
    arguments = ("train", "moons", "--steps", 2, "--width", 8, "--depth", 1, "--out", run)
    result = pathline(*arguments)
    assert result.code == 2 and "--overwrite" in result.err and "--resume" in result.err
    assert hashes(run) == before
    done(*arguments, "--overwrite")
    assert pl.Run.open(run).config.steps == 2 and checkpoint.steps_of(run) == [0, 2]
    assert (run / "note.txt").read_text() == "mine"


def test_a_folder_that_is_no_run_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    result = pathline("train", "moons", "--out", tmp_path, "--overwrite")
    assert result.code == 2 and "no run folder" in result.err
    assert hashes(tmp_path).keys() == {"thesis.tex"}


# ---- telling


def test_info_tells_what_a_run_holds(digits):
    out = done("info", digits).out
    size = sum(p.numel() for p in pl.Run.open(digits).field().parameters())
    for words in ("(1, 8, 8)", "10 classes", f"{size:,}", "checkpoint 0", "checkpoint 6", "whole", "batch_size", "16"):
        assert words in out


def test_help_names_every_command():
    for flags in (("--help",), ("-h",), ("help",), ()):
        out = done(*flags).out
        assert all(f"  {name}" in out for name in COMMANDS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", ["--steps", "--seed", "--batch-size", "--out", "--resume", "--overwrite"]),
        ("sample", ["--count", "--class", "--steps", "--evaluations", "--sampler", "--sigma", "--guidance", "--out"]),
        ("info", ["run folder"]),
    ],
)
def test_help_of_a_command_names_its_flags(command, words):
    out = done(command, "--help").out
    assert all(word in out for word in words)


def test_the_program_itself_answers(digits, tmp_path):
    from importlib.metadata import version

    assert in_a_process("--version") == Result(0, version("pathline") + "\n", "")
    result = in_a_process("sample", digits, "--count", "2", "--steps", "1", "--out", tmp_path / "x.npz")
    assert result.code == 0 and result.err == "" and (tmp_path / "x.npz").is_file()
    result = in_a_process("sample", tmp_path / "nothing")
    assert result.code == 2 and result.out == "" and "Traceback" not in result.err
    assert len(result.err.splitlines()) == 1 and "no run folder" in result.err


# ---- bad input


BAD = {
    "unknown command": ("trian digits", ["unknown command 'trian'", "did you mean 'train'"]),
    "unknown preset": ("train digit --out {new}", ["unknown preset 'digit'", "did you mean 'digits'"]),
    "no preset": ("train --steps 3", ["digits", ".toml", "--resume"]),
    "unknown flag": ("train digits --step 3 --out {new}", ["--step", "--steps"]),
    "unknown flag of sample": ("sample {digits} --cout 3", ["--cout", "--count"]),
    "flag of the wrong type": ("train digits --steps many --out {new}", ["--steps", "many"]),
    "no such file": ("train {tmp}/nothing.toml", ["no file", "nothing.toml"]),
    "not TOML": ("train {broken} --out {new}", ["broken.toml is not TOML", "line 1"]),
    "file with an unknown field": ("train {field} --out {new}", ["field.toml", "'stepz'", "did you mean 'steps'"]),
    "file with a wrong type": ("train {type} --out {new}", ["type.toml", "steps", "int", "'10'"]),
    "file with a wrong value": ("train {value} --out {new}", ["value.toml", "steps must be at least 1", "0"]),
    "file with a preset of a wrong type": ("train {preset} --out {new}", ["preset.toml", "preset", "3"]),
    "file that begins from itself": ("train {itself} --out {new}", ["itself.toml", "preset"]),
    "steps of nothing": ("train digits --steps 0 --out {new}", ["steps must be at least 1", "0"]),
    "negative seed": ("train digits --seed -1 --out {new}", ["seed", "-1"]),
    "held out share": ("train digits --held-out 1.5 --out {new}", ["held_out", "1.5"]),
    "learning rate": ("train digits --learning-rate 0 --out {new}", ["learning_rate must be positive", "0"]),
    "weight decay": ("train moons --steps 1 --weight-decay -1 --out {new}", ["weight", "-1"]),
    "guidance": ("train moons --steps 1 --guidance nan --out {new}", ["guidance", "nan"]),
    "unknown data": ("train digits --data digit --out {new}", ["unknown source 'digit'", "did you mean 'digits'"]),
    "unknown schedule": ("train digits --schedule cosin --out {new}", ["'cosin'", "did you mean 'cosine'"]),
    "unknown prediction": ("train digits --prediction nose --out {new}", ["'nose'", "did you mean 'noise'"]),
    "unknown network": ("train digits --network unett --out {new}", ["'unett'", "did you mean 'unet'"]),
    "network for other data": ("train digits --network mlp --out {new}", ["'mlp' is for vectors", "'unet'"]),
    "width": ("train digits --width 12 --out {new}", ["width a multiple of 8", "12"]),
    "depth": ("train digits --steps 1 --width 8 --depth 5 --out {new}", ["depth", "5", "(1, 8, 8)"]),
    "folder below a file": ("train moons --steps 1 --out {file}/run", ["cannot write", "plain.txt", "--out"]),
    "folder that is a file": ("train moons --steps 1 --out {file}", ["plain.txt", "--out"]),
    "resume of nothing": ("train --resume {tmp}/nothing", ["nothing", "no run folder"]),
    "resume with settings": ("train --resume {digits} --steps 9", ["--resume", "leave out"]),
    "missing run": ("sample {tmp}/nothing", ["nothing", "no run folder", "pathline train"]),
    "missing run of info": ("info {tmp}/nothing", ["nothing", "no run folder"]),
    "no run at all": ("sample", ["equired", "The run folder"]),
    "class out of range": ("sample {digits} --class 10", ["--class", "0 to 9", "'10'"]),
    "negative class": ("sample {digits} --class=-1", ["--class", "0 to 9", "'-1'"]),
    "class that is no digit": ("sample {digits} --class ²", ["--class", "0 to 9", "'²'"]),
    "unknown class": ("sample {moons} --class middle", ["--class", "upper, lower", "'middle'"]),
    "class without classes": ("sample {bare} --class 1", ["--class needs a model with classes", "bare"]),
    "guidance without classes": ("sample {bare} --guidance 2", ["--guidance needs a model with classes", "bare"]),
    "guidance that is no number": ("sample {digits} --guidance nan", ["w must be finite", "nan"]),
    "negative sigma": ("sample {digits} --sigma=-0.5", ["sigma must be a finite number, 0 or more", "-0.5"]),
    "negative sigma of beta": ("sample {digits} --sigma beta:-1", ["0 or more", "-1"]),
    "infinite sigma": ("sample {digits} --sigma inf", ["finite", "inf"]),
    "unknown sigma": ("sample {digits} --sigma bta:1", ["unknown sigma 'bta'", "did you mean 'beta'"]),
    "sigma of a function": ("sample {moons} --steps 1 --sigma function:1", ["sigma", "function"]),
    "sigma of a constant": ("sample {moons} --steps 1 --sigma constant", ["constant", "takes"]),
    "sigma with an ODE solver": ("sample {digits} --sigma 0.5 --sampler heun", ["--sigma is for SDE", "heun"]),
    "sigma with ddim": ("sample {digits} --sigma 0.5 --sampler ddim", ["--sigma is for SDE", "ddim"]),
    "SDE solver without sigma": ("sample {digits} --sampler euler-maruyama", ["euler-maruyama", "--sigma"]),
    "unknown sampler": ("sample {digits} --sampler huen", ["unknown sampler 'huen'", "did you mean 'heun'"]),
    "unknown sampler near none": ("sample {digits} --sampler xyz", ["unknown sampler 'xyz'", "heun", "ddim"]),
    "eta": ("sample {digits} --sampler ddim:2", ["eta must be between 0", "2"]),
    "no steps": ("sample {digits} --steps 0", ["steps must be at least 1", "0"]),
    "no evaluations": ("sample {digits} --evaluations 1", ["evaluations must be at least 2", "1"]),
    "steps and evaluations": ("sample {digits} --steps 3 --evaluations 3", ["either steps or evaluations"]),
    "no samples": ("sample {digits} --count 0", ["--count must be at least 1", "0"]),
    "negative seed of sample": ("sample {digits} --seed=-1", ["seed", "-1"]),
    "too large a seed": ("sample {digits} --seed 99999999999999999999", ["seed", "2**64"]),
    "wrong suffix": ("sample {digits} --out {tmp}/x.jpg", ["--out must end in .png or .npz", "x.jpg"]),
    "out below a file": ("sample {moons} --steps 1 --out {file}/x.png", ["plain.txt"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_by_one_clear_sentence(case, request, tmp_path):
    line, words = BAD[case]
    texts = {
        "broken": "steps = = 3",
        "field": "stepz = 3",
        "type": "steps = '10'",
        "value": "steps = 0",
        "preset": "preset = 3",
        "itself": f"preset = '{tmp_path}/itself.toml'",
    }
    places = {"tmp": tmp_path, "new": tmp_path / "new", "file": tmp_path / "plain.txt"}
    places["file"].write_text("a regular file")
    for name, text in texts.items():
        places[name] = tmp_path / f"{name}.toml"
        places[name].write_text(text)
    for name in ("digits", "moons", "bare"):
        if "{" + name + "}" in line:
            places[name] = request.getfixturevalue(name)
    result = pathline(*line.format(**places).split())
    assert result.code == 2
    told = " ".join(result.err.replace("│", " ").split())
    for word in words:
        assert word in told
    assert "Traceback" not in result.err and result.out == ""
    assert not (tmp_path / "new").exists()  # a second try is not told that the run exists
    assert places["file"].read_text() == "a regular file"


def damaged(run: Path, folder: Path, name: str, change) -> Path:
    shutil.copytree(run, folder)
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    return folder


def flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize("command", ["sample {run}", "info {run}", "train --resume {run}"])
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "checkpoints/step-00000006/model.safetensors",
            flipped,
            ["step-00000006/model.safetensors is damaged", "step 3"],
        ),
        ("checkpoints/step-00000006/ema.safetensors", lambda b: b[:-1], ["step-00000006/ema.safetensors is damaged"]),
        ("checkpoints/step-00000006/manifest.json", lambda b: b"", ["step-00000006/manifest.json is damaged"]),
        ("config.json", lambda b: b[:-9], ["config.json is damaged"]),
        ("config.json", lambda b: b"[]", ["config.json is damaged"]),
        ("config.json", lambda b: b.replace(b'"steps": 6', b'"steps": "x"'), ["config.json", "steps", "'x'"]),
        ("config.json", lambda b: b.replace(b'"steps": 6', b'"stepz": 6'), ["config.json", "'stepz'", "'steps'"]),
        ("config.json", lambda b: b.replace(b'"width": 8', b'"width": 0'), ["config.json", "width", "0"]),
        ("config.json", lambda b: b.replace(b'"shape"', b'"shap"'), ["config.json is damaged", "shape"]),
        (
            "config.json",
            lambda b: b.replace(b'"width": 8', b'"width": 16'),
            ["step-00000006 holds another model", "config.json"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_run_is_named_with_its_file(digits, tmp_path, command, name, change, words):
    run = damaged(digits, tmp_path / "run", name, change)
    (run / "README.md").unlink()  # so that resuming it has something to do
    result = pathline(*command.format(run=run).split())
    assert result.code == 2 and "Traceback" not in result.err and len(result.err.splitlines()) == 1
    for word in words:
        assert word in result.err


def test_damaged_metrics_are_named_with_their_line(digits, tmp_path):
    run = damaged(digits, tmp_path / "run", "metrics.jsonl", lambda b: b'{"st\n' + b)
    result = pathline("info", run)
    assert result.code == 2 and "metrics.jsonl" in result.err and "line 1" in result.err


def test_a_traceback_is_shown_to_who_asks(monkeypatch, tmp_path):
    monkeypatch.setenv("PATHLINE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no run folder"):
        main(["sample", str(tmp_path / "nothing")])
