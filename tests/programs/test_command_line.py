"""The command line as a user meets it: runs, what they leave behind, and what they tell."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.cli.main import COMMANDS, main
from pathline.data.digits import DigitsSource
from pathline.sampling.adaptive import AdaptiveSampler
from pathline.sampling.churn import ChurnSampler
from pathline.sampling.corrector import PredictorCorrector
from pathline.sampling.exponential import ExponentialSDE
from pathline.sampling.grids import CosineGrid, KarrasGrid, PowerGrid, ShiftedGrid
from pathline.sampling.multistep import GeneralSampler, Multistep
from pathline.solvers.adaptive import Dopri5, Tsit5
from pathline.solvers.runge_kutta import RALSTON, TSITOURAS
from pathline.training import checkpoint

DDPM = pl.MemorylessSigma()
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
    found = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    return Result(found.returncode, found.stdout, found.stderr)


def sampled(run, folder, *flags):
    done("sample", run, *flags, "--out", folder / "x.npz")
    with np.load(folder / "x.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


# ---- what a run leaves behind


def test_a_run_folder_holds_what_the_contract_says(digits):
    assert {path.name for path in digits.iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoints", "samples", "README.md", ".lock",
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
    assert config == pl.load_config("digits").resolved().to_dict() | given
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


@pytest.mark.parametrize("name", ["digits", "moons", "flowers"])
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
        "order 5) on a power:1.6 grid, in 30 calls of the network",
        "| steps | 6 |", "| width | 8 |", "| schedule | linear |", "1,438 samples to train on, 359 held out",
    ):  # fmt: skip
        assert words in card
    size = sum(p.numel() for p in pl.Run.open(digits).field().parameters())
    assert f"| {size:,}, averaged over training |" in card


def test_the_same_command_trains_the_same_weights(digits, tiny, tmp_path):
    done("train", "digits", *tiny, "--out", tmp_path / "again")
    for name in ("model", "ema", "optimizer"):
        path = Path("checkpoints", "step-00000006", f"{name}.safetensors")
        assert (digits / path).read_bytes() == (tmp_path / "again" / path).read_bytes()


# ---- sampling


@pytest.mark.parametrize("name", ["digits", "moons", "flowers", "bare"])
def test_an_npz_holds_points_in_the_units_of_the_data_and_their_classes(name, request, tmp_path):
    folder = request.getfixturevalue(name)
    found, run = sampled(folder, tmp_path, "--count", 13, "--steps", 3, "--seed", 5), pl.Run.open(folder)
    y = torch.arange(13) % max(len(run.classes), 1)
    assert set(found) == ({"x", "y"} if run.classes else {"x"})
    field = pl.guided(run.field(), y) if run.classes else run.field()
    truth = run.normalisation.back(pl.sample(field, (13, *run.shape), steps=3, seed=5))
    assert np.array_equal(found["x"], truth.numpy())
    if run.classes:
        assert np.array_equal(found["y"], run.codec.values[y.numpy()])  # in the user's own values


def test_digits_are_floats_from_0_to_16_and_not_clipped(digits, tmp_path):
    # six steps leave noise: about N(8, (8 s)^2), so some lie outside on both sides
    x = sampled(digits, tmp_path, "--count", 20, "--steps", 3)["x"]
    assert x.shape == (20, 1, 8, 8) and x.dtype == np.float32
    assert x.min() < 0 and x.max() > 16 and 4 < x.mean() < 12
    assert not np.array_equal(x, x.round())


@pytest.mark.parametrize(
    ("flags", "sampler", "steps"),
    [
        ((), GeneralSampler(), 50),
        (("--steps", 4), GeneralSampler(), 4),
        (("--evaluations", 9), replace(Multistep.adams_moulton(2), grid=PowerGrid(1.6)), 9),
        (("--evaluations", 9, "--sampler", "heun"), pl.ODESampler(pl.HEUN), 4),
        (("--evaluations", 9, "--sampler", "rk4"), pl.ODESampler(pl.RK4), 2),
        (("--sampler", "ralston", "--steps", 4), pl.ODESampler(RALSTON), 4),
        (("--sampler", "tsitouras", "--steps", 2), pl.ODESampler(TSITOURAS), 2),
        (("--sampler", "adams-bashforth", "--steps", 4), Multistep.adams_bashforth(), 4),
        (("--sampler", "adams-moulton:1", "--steps", 4), Multistep.adams_moulton(1), 4),
        (("--sampler", "dpm:3", "--steps", 4), Multistep.dpm(3), 4),
        (("--sampler", "deis:3", "--steps", 4), Multistep.deis(3), 4),
        (("--sampler", "unipc", "--evaluations", 4), Multistep.unipc(), 4),
        (("--sampler", "churn:20,low=0.1", "--steps", 4), ChurnSampler(churn=20, low=0.1), 4),
        (("--sampler", "predictor-corrector:2", "--evaluations", 6), PredictorCorrector(corrections=2), 2),
        (("--sampler", "exponential-sde:1", "--sigma", "memoryless", "--steps", 4), ExponentialSDE(DDPM, 1), 4),
        (("--grid", "shifted:2", "--steps", 4), GeneralSampler(ShiftedGrid(2)), 4),
        (("--grid", "cosine", "--sampler", "heun", "--steps", 4), pl.ODESampler(grid=CosineGrid()), 4),
        (("--grid", "karras:5", "--sampler", "dpm", "--steps", 4), replace(Multistep.dpm(), grid=KarrasGrid(5)), 4),
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
@pytest.mark.filterwarnings("ignore:sigma renews")
def test_flags_choose_the_sampler(moons, tmp_path, flags, sampler, steps):
    run = pl.Run.open(moons)
    found = sampled(moons, tmp_path, "--count", 6, *flags)["x"]
    field = pl.guided(run.field(), torch.arange(6) % 2)
    truth = run.normalisation.back(pl.sample(field, (6, 2), sampler, steps, seed=0))
    assert np.array_equal(found, truth.numpy())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--steps", 10), "2 samples by the best general method, adams-moulton:2 (order 3) on a power:1.6 grid, 10 s"),
        (("--evaluations", 20), "adams-moulton:3 (order 4) on a power:1.6 grid, 20 steps, 20 calls of the network"),
        (("--steps", 4, "--sampler", "adams-moulton:2"), "by adams-moulton:2 (order 3), 4 steps, 4 calls"),
        (("--steps", 4, "--sampler", "ddim:0.5", "--grid", "log-snr:-3,3"), "by ddim:0.5 on a log-snr:-3,3 grid, 4"),
        (("--steps", 4, "--grid", "curvature"), "by adams-moulton:2 (order 3) on a curvature grid, 4 steps"),
        (("--steps", 4, "--sampler", "churn:low=0.1"), "by churn:low=0.1, 4 steps, at most 8 calls"),
        (
            ("--steps", 4, "--sampler", "exponential-sde", "--sigma", "beta:1.5"),
            "by exponential-sde with sigma beta:1.5",
        ),
        (("--steps", 4, "--sigma", "beta"), "by euler-maruyama with sigma beta, 4 steps, 4 calls"),
    ],
    ids=str,
)
def test_what_is_said_chooses_the_same_sampler_again(moons, flags, said):
    assert said in done("sample", moons, "--count", 2, *flags).out


@pytest.mark.parametrize(("name", "solver"), [("dopri5", Dopri5), ("tsit5", Tsit5)])
def test_steps_of_each_samples_own_are_counted(moons, tmp_path, name, solver):
    out = done("sample", moons, "--count", 150, "--sampler", f"{name}:1e-4", "--out", tmp_path / "x.npz").out
    field = pl.guided(pl.Run.open(moons).field(), torch.arange(150) % 2)
    start = pl.Noise(0).normal((150, 2))
    with torch.no_grad():
        truth = AdaptiveSampler(solver(1e-4, 1e-4)).solve(field, start, torch.linspace(0, 1, 2, dtype=torch.float64))
    calls = truth.counts.evaluations
    assert (
        f"at a tolerance of 0.0001, {calls.double().mean():.0f} calls of the network a sample, and {calls.max()} at"
        in out
    )
    with np.load(tmp_path / "x.npz") as found:
        assert np.allclose(found["x"], pl.Run.open(moons).normalisation.back(truth.x).numpy(), atol=1e-5)
    most = int(calls.max())
    done(
        "sample", moons, "--count", 150, "--sampler", f"{name}:1e-4", "--evaluations", most, "--out", tmp_path / "x.npz"
    )
    result = pathline("sample", moons, "--count", 150, "--sampler", f"{name}:1e-4", "--evaluations", most - 1)
    assert result.code == 2 and "--evaluations must suffice for" in result.err and f"of {most - 1}" in result.err


@pytest.mark.parametrize("w", [0.0, 0.5, 3.0])
def test_guidance_is_its_scale(digits, tmp_path, w):
    run, y = pl.Run.open(digits), torch.arange(5)
    found = sampled(digits, tmp_path, "--count", 5, "--steps", 3, "--guidance", w)["x"]
    field = pl.ClassifierFree(run.field().given(y), run.field().given(None), w)
    truth = run.normalisation.back(pl.sample(field, (5, 1, 8, 8), steps=3, seed=0))
    assert np.allclose(found, truth.numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "label", "value"), [("digits", "3", 3), ("moons", "lower", "lower"), ("moons", "0", "upper")]
)
def test_a_class_is_that_of_all(name, label, value, request, tmp_path):
    run = request.getfixturevalue(name)
    assert sampled(run, tmp_path, "--count", 4, "--steps", 1, "--class", label)["y"].tolist() == [value] * 4


@pytest.mark.filterwarnings("ignore:sigma renews")
@pytest.mark.parametrize(
    "flags",
    [(), ("--sigma", "0.5"), ("--sampler", "ddim:1"), ("--grid", "curvature")],
    ids=str,
)
def test_the_same_seed_is_the_same_samples_however_many(digits, tmp_path, flags):
    few, many = (sampled(digits, tmp_path, "--count", n, "--steps", 4, "--seed", 7, *flags)["x"] for n in (3, 12))
    assert np.allclose(few, many[:3], atol=1e-3)
    other = sampled(digits, tmp_path, "--count", 3, "--steps", 4, "--seed", 8, *flags)["x"]
    assert np.abs(few - other).mean() > 1


@pytest.mark.parametrize("name", ["digits", "moons", "flowers", "bare"])
@pytest.mark.parametrize("count", [1, 11])
def test_a_picture_is_written_and_named(name, count, request, tmp_path):
    out = tmp_path / "new" / "picture.png"
    result = done("sample", request.getfixturevalue(name), "--count", count, "--steps", 1, "--out", out)
    assert str(out) in result.out and f"{count} samples" in result.out
    with Image.open(out) as image:
        assert image.format == "PNG" and len(np.unique(np.asarray(image))) > 10


def test_without_out_the_picture_is_in_the_run(bare):
    result = done("sample", bare, "--count", 3, "--evaluations", 5, "--sampler", "heun")
    assert "3 samples by heun, 2 steps, at most 4 calls of the network" in result.out
    assert (bare / "samples" / "sample.png").is_file()


def test_points_on_a_line_are_drawn_too(tmp_path, unclassed):
    result = done("sample", unclassed(tmp_path / "line", dimension=1), "--steps", 1, "--out", tmp_path / "line.png")
    assert (tmp_path / "line.png").is_file(), result.err


# ---- tables


@pytest.mark.parametrize("flags", [[], ["--sigma", "0.5"], ["--sampler", "rk4"]])
def test_a_bridge_is_sampled_from_its_start(bridge, tmp_path, flags):
    out = tmp_path / "a.npz"
    assert main(["sample", str(bridge), "--steps", "4", "--count", "30", *flags, "--out", str(out)]) == 0
    run = pl.Run.open(bridge)
    with np.load(out) as found:
        begin, moved = run.normalisation.back(run.start(30)).numpy(), found["x"]
    # six steps of training move nothing far: each sample is still near the circle where it began
    radii = np.linalg.norm(begin, axis=1)
    assert np.abs(radii[:, None] - [1, 2, 3]).min(1).max() < 0.5
    assert (
        np.median(np.linalg.norm(moved - begin, axis=1)) < 1.5 < np.median(np.linalg.norm(moved - begin[::-1], axis=1))
    )


def test_a_bridge_of_data_predictions_is_drawn_and_sampled(tiny, tmp_path):
    run = tmp_path / "run"
    assert main(["train", "circles-to-checkerboard", "--prediction", "data", *tiny, "--out", str(run)]) == 0
    assert (run / "README.md").exists()
    assert (
        main(
            ["sample", str(run), "--steps", "3", "--count", "5", "--sampler", "ddim", "--out", str(tmp_path / "a.npz")]
        )
        == 0
    )


def test_a_run_on_samples_that_changed_is_not_resumed(tiny, tmp_path, capsys):
    path, run = tmp_path / "a.npy", tmp_path / "run"
    np.save(path, np.random.default_rng(0).normal(size=(60, 2)))
    assert main(["train", "vectors", "--data", str(path), *tiny, "--out", str(run)]) == 0
    (run / "README.md").unlink()
    np.save(path, np.random.default_rng(1).normal(size=(60, 2)))
    assert main(["train", "--resume", str(run)]) == 2
    assert "has changed" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_the_training(tiny, tmp_path, capsys):
    flags = [*tiny, "--learning-rate", "1e30", "--clip", "1e30", "--out", str(tmp_path / "run"), "--log-every", "1"]
    assert main(["train", "moons", *flags]) == 2
    assert "the held-out loss is inf at step 6" in capsys.readouterr().err
    assert main(["train", "moons", *flags, "--skips", "4", "--overwrite"]) == 2
    assert "not finite in the last 4 steps up to step 5" in capsys.readouterr().err
    assert [step for step in checkpoint.steps_of(tmp_path / "run") if checkpoint.load(tmp_path / "run", step)] == [0, 3]


def test_a_bridge_draws_its_pictures_and_its_card(bridge):
    assert {path.name for path in (bridge / "samples").iterdir()} >= {"grid.png", "noise-to-data.gif", "loss.png"}
    assert "| start | rings |" in (bridge / "README.md").read_text()


def test_a_table_is_trained_on_in_its_own_units_by_column(flowers):
    run = pl.Run.open(flowers)
    training, held = run.config.load().split(0.2)
    assert run.columns == ("petal", "price $") and run.classes == ("aster", "rose") and len(held.x) == 12
    about = json.loads((flowers / "config.json").read_text())["samples"]["normalisation"]
    assert about["shift"] == pytest.approx(training.x.mean(0).tolist(), rel=1e-12)
    assert about["scale"] == pytest.approx(training.x.std(0, correction=0).tolist(), rel=1e-12)
    card = (flowers / "README.md").read_text()
    assert "flowers.csv" in card and "standard deviation 1" in card and "| label | kind |" in card
    assert "petal, price $" in done("info", flowers).out


def test_samples_of_a_table_are_a_table_again(flowers, tmp_path):
    done("sample", flowers, "--count", 9, "--steps", 3, "--out", tmp_path / "made.csv")
    again = pl.FileSource(str(tmp_path / "made.csv"), "kind").load()
    x = sampled(flowers, tmp_path, "--count", 9, "--steps", 3)
    assert again.columns == ("petal", "price $") and again.classes == ("aster", "rose")
    assert x["x"].dtype == np.float64 and np.array_equal(again.x.numpy(), x["x"])
    assert [again.classes[k] for k in again.y["class"]] == x["y"].tolist() == ["aster", "rose"] * 4 + ["aster"]
    assert np.abs(x["x"][:, 1] - 1e6).max() < 1e3  # the prices are 1,000,000 to 1,000,059
    assert sampled(flowers, tmp_path, "--count", 2, "--class", "rose")["y"].tolist() == ["rose", "rose"]


@pytest.mark.parametrize(("name", "header"), [("moons", "1,2,class"), ("bare", "1,2")])
def test_columns_without_names_are_counted(name, header, request, tmp_path):
    run = request.getfixturevalue(name)
    done("sample", run, "--count", 3, "--steps", 1, "--out", tmp_path / "made.csv")
    lines = (tmp_path / "made.csv").read_text().splitlines()
    assert lines[0] == header and len(lines) == 4
    x = sampled(run, tmp_path, "--count", 3, "--steps", 1)["x"]
    assert np.array_equal(np.array([line.split(",")[:2] for line in lines[1:]], dtype=np.float32), x)


@pytest.mark.parametrize(("flags", "folder"), [((), "runs/my-data"), (("--out", "here"), "here")])
def test_a_run_on_a_file_has_the_files_name(flags, folder, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("my-data.npz", x=np.random.default_rng(0).normal(size=(30, 3)))
    done("train", "vectors", "--data", "my-data.npz", *tiny, *flags)
    run = pl.Run.open(Path(folder))
    assert run.shape == (3,) and run.columns == () and run.classes == () and len(run.normalisation.shift) == 3


def test_a_few_rows_are_enough(tiny, tmp_path):
    (tmp_path / "few.csv").write_text("a,b,c\n1,2,x\n1,3,y\n1,5,x\n1,9,z\n")
    done("train", "vectors", "--data", tmp_path / "few.csv", "--label", "c", *tiny, "--out", tmp_path / "run")
    assert pl.Run.open(tmp_path / "run").normalisation.scale[0] == 0  # a column that never changes
    done("sample", tmp_path / "run", "--count", 3, "--steps", 2, "--out", tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as made:
        assert (made["x"][:, 0] == 1).all() and len({*made["x"][:, 1]}) == 3


def test_pictures_from_a_file_are_trained_on(tiny, tmp_path):
    np.save(tmp_path / "grey.npy", np.random.default_rng(0).integers(0, 255, (30, 1, 8, 8)).astype(np.uint8))
    done("train", "digits", "--data", tmp_path / "grey.npy", *tiny, "--out", tmp_path / "run")
    run = pl.Run.open(tmp_path / "run")
    assert run.shape == (1, 8, 8) and 120 < run.normalisation.shift < 130 and 120 < run.normalisation.scale < 130
    done("sample", tmp_path / "run", "--count", 3, "--steps", 2, "--out", tmp_path / "made.png")


def test_a_run_made_before_columns_had_names_is_opened(moons, tmp_path):
    shutil.copytree(moons, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    del values["label"], values["samples"]["columns"]
    path.write_text(json.dumps(values))
    assert pl.Run.open(tmp_path / "run").columns == ()
    assert len(sampled(tmp_path / "run", tmp_path, "--count", 3, "--steps", 1)["x"]) == 3


@pytest.mark.parametrize("name", ["toy:moons,100,1", "moons"])
def test_a_toy_is_data_by_its_name(name, tiny, tmp_path):
    done("train", "rings", "--data", name, *tiny, "--out", tmp_path / "run")
    assert pl.Run.open(tmp_path / "run").classes == ("upper", "lower")


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
def test_an_interrupted_run_goes_on_as_one_that_never_stopped(digits, tiny, tmp_path, monkeypatch, part):
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
    result = pathline("train", "digits", *tiny, "--out", run)
    monkeypatch.undo()
    assert result.code == 130 and f"pathline train --resume {run}" in result.err and "Traceback" not in result.err
    done("train", "--resume", run)
    path = Path("checkpoints", "step-00000006", "model.safetensors")
    assert (digits / path).read_bytes() == (run / path).read_bytes()


def test_resuming_a_finished_run_changes_nothing(digits, contents):
    before = contents(digits)
    assert "is finished: 6 steps" in done("train", "--resume", digits).out.replace("\n", " ")
    assert contents(digits) == before


def test_an_existing_run_is_replaced_when_told(moons, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(moons, run)
    (run / "note.txt").write_text("mine")
    done("train", "moons", "--steps", 2, "--width", 8, "--depth", 1, "--out", run, "--overwrite")
    assert pl.Run.open(run).config.steps == 2 and checkpoint.steps_of(run) == [0, 2]
    assert (run / "note.txt").read_text() == "mine"


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
        ("tune", ["--evaluations", "--guidance", "--count", "--steps", "--seed"]),
        ("compare", ["--evaluations", "--guidance", "--count", "--seed", "--out"]),
        ("likelihood", ["--data", "--count", "--solver", "--divergence", "--bin", "--unconditional", "--out"]),
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


def test_a_traceback_is_shown_to_who_asks(monkeypatch, tmp_path):
    monkeypatch.setenv("PATHLINE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no run folder"):
        main(["sample", str(tmp_path / "nothing")])
