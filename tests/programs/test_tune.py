"""Solvers fitted to a run, and samplers compared on it: what is kept, when it is used, and what is told."""

import contextlib
import io
import itertools
import json
import shutil

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

import pathline as pl
from pathline.cli import compare, tune
from pathline.cli.main import main
from pathline.plots.errors import error_by_evaluations
from pathline.sampling.fit import FitStep, converged, errors, solved
from pathline.sampling.fitted import FittedSampler, fitted_from
from pathline.sampling.multistep import GeneralSampler
from pathline.training import checkpoint
from pathline.training.loop import adamw

CALLS, COUNT = 3, 16
EULER = FittedSampler((0.0, 0.3, 0.6, 1.0), ((0.3,), (0.3, 0.3), (0.3, 0.3, 0.4)))


def pathline(*arguments) -> tuple[int, str, str]:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def fit_of(run, *flags):
    return pathline("tune", run, "--evaluations", CALLS, "--count", COUNT, "--steps", 12, *flags)


def sampled(run, folder, *flags):
    code, out, err = pathline("sample", run, "--count", 8, *flags, "--out", folder / "x.npz")
    assert code == 0, err
    with np.load(folder / "x.npz") as file:
        return file["x"], out, err


def with_other_weights(run, step, factor):
    """The run with another last checkpoint."""
    field = pl.Run.open(run).field()
    with torch.no_grad():
        for p in field.parameters():
            p.mul_(factor)
    checkpoint.save(run, step, field, pl.EMA(field), adamw(pl.Run.open(run).config.loss(field), 1e-3))
    return run


@pytest.fixture(scope="module")
def bent(tmp_path_factory, moons):
    """A run whose paths bend, as those of a network with large weights do."""
    return with_other_weights(shutil.copytree(moons, tmp_path_factory.mktemp("bent") / "run"), 6, 2.5)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, bent):
    """A run with a fitted solver, and what was said of it."""
    run = shutil.copytree(bent, tmp_path_factory.mktemp("tuned") / "run")
    code, out, err = fit_of(run)
    assert code == 0, err
    return run, out


def solver_of(run):
    return fitted_from(json.loads((run / "tuned" / f"evaluations-{CALLS}.json").read_text()))


def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def test_a_fitted_solver_is_judged_on_other_trajectories(tuned):
    run, out = tuned
    values = json.loads((run / "tuned" / f"evaluations-{CALLS}.json").read_text())
    opened = pl.Run.open(run)
    field = pl.guided(opened.field(), torch.arange(COUNT) % 2)
    start = pl.Noise(1).normal((COUNT, 2))
    end, _ = converged(field, start)
    for name, sampler in (("fitted", solver_of(run)), ("general", GeneralSampler())):
        found = errors(solved(field, start, sampler, CALLS), end)
        assert values[name]["median"] == pytest.approx(float(found.median()), rel=1e-6)
        assert values[name]["rms"] == pytest.approx(float(found.square().mean().sqrt()), rel=1e-6)
        assert values[name]["far"] == float((found > 0.1).double().mean())
        assert f"{values[name]['median']:.3g}" in out
    assert values["fitted"]["median"] < values["general"]["median"]
    assert (values["step"], values["evaluations"], values["guidance"]) == (6, CALLS, 1.0)
    assert f"pathline sample {run} --evaluations {CALLS}\n" in out


def test_it_is_used_and_that_is_said(tuned, tmp_path):
    run, opened = tuned[0], pl.Run.open(tuned[0])
    x, out, err = sampled(run, tmp_path, "--evaluations", CALLS)
    assert f"by the solver fitted to this model, {CALLS} steps, {CALLS} calls of the network" in out and not err
    field = pl.guided(opened.field(), torch.arange(8) % 2)
    assert np.array_equal(x, opened.normalisation.back(pl.sample(field, (8, 2), solver_of(run), CALLS, 0)).numpy())


@pytest.mark.parametrize(
    "flags",
    [
        ("--steps", CALLS),
        ("--evaluations", CALLS + 1),
        ("--evaluations", CALLS, "--guidance", 2),
        ("--evaluations", CALLS, "--sampler", "general"),
        ("--evaluations", CALLS, "--grid", "uniform"),
        ("--evaluations", CALLS, "--sigma", "beta"),
    ],
    ids=str,
)
def test_it_is_used_for_nothing_else(tuned, tmp_path, flags):
    _, out, err = sampled(tuned[0], tmp_path, *flags)
    assert "fitted" not in out and not err


def test_it_is_not_used_for_other_weights(tuned, bent, tmp_path):
    run = with_other_weights(copied(tuned[0], tmp_path), 9, 0.8)
    x, out, err = sampled(run, tmp_path, "--evaluations", CALLS)
    assert "by the best general method" in out and len(err.splitlines()) == 1
    assert "was fitted to step 6, and the run is at step 9" in err
    assert f"pathline tune {run} --evaluations {CALLS}" in err
    shutil.rmtree(run / "tuned")
    assert np.array_equal(x, sampled(run, tmp_path, "--evaluations", CALLS)[0])


def test_info_tells_of_it(tuned, tmp_path):
    assert "solver of 3 calls" in pathline("info", tuned[0])[1]
    out = pathline("info", with_other_weights(copied(tuned[0], tmp_path), 9, 0.8))[1]
    assert "not used" in " ".join(out.replace("│", " ").split())


def test_guidance_has_a_solver_of_its_own(bent, tmp_path):
    run = copied(bent, tmp_path)
    code, out, _ = fit_of(run, "--guidance", 1.5)
    assert code == 0 and f"--evaluations {CALLS} --guidance 1.5" in out
    assert [path.name for path in (run / "tuned").iterdir()] == [f"evaluations-{CALLS}-guidance-1.5.json"]
    assert "fitted" in sampled(run, tmp_path, "--evaluations", CALLS, "--guidance", "1.5")[1]
    assert "fitted" not in sampled(run, tmp_path, "--evaluations", CALLS)[1]


def test_one_that_is_worse_is_not_stored(bent, tmp_path, monkeypatch, contents):
    run = copied(bent, tmp_path)
    before = contents(run)
    monkeypatch.setattr(tune, "fit", lambda *_, **__: iter([FitStep(1, 1, 0.0, EULER)]))
    code, out, _ = fit_of(run)
    assert code == 0 and "not stored: the fitted solver is not nearer than the best general method" in out
    assert contents(run) == before


def test_an_interruption_leaves_nothing(bent, tmp_path, monkeypatch, contents):
    def interrupted(*_, **__):
        yield FitStep(1, 9, 0.0, EULER)
        raise KeyboardInterrupt

    def at_once(*_, **__):
        raise KeyboardInterrupt

    run = copied(bent, tmp_path)
    before = contents(run)
    monkeypatch.setattr(tune, "fit", interrupted)
    code, out, err = fit_of(run)
    assert code == 130 and not out and "interrupted" in err and "nothing was stored" in err
    monkeypatch.setattr(compare, "solved", at_once)
    code, out, err = pathline("compare", run, "--count", 4)
    assert code == 130 and not out and "nothing was written" in err
    assert contents(run) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:200], "JSONDecodeError"),
        (lambda text: "[]", "is damaged"),
        (lambda text: text.replace('"digest"', '"digst"'), "digest"),
        (lambda text: text.replace('"evaluations": 3', '"evaluations": 4'), "3 rows of weights for 4 evaluations"),
        (lambda text: text.replace('"shares": [\n  0.0', '"shares": [\n  0.01'), "must sum"),
    ],
    ids=range(5),
)
def test_a_damaged_one_is_named(tuned, tmp_path, change, said):
    run = copied(tuned[0], tmp_path)
    path = run / "tuned" / f"evaluations-{CALLS}.json"
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    for command in (("sample", run, "--evaluations", CALLS), ("compare", run)):
        code, out, err = pathline(*command)
        assert code == 2 and not out and len(err.splitlines()) == 1
        assert f"{path} is damaged" in err and said in err and "pathline tune" in err
    assert pathline("info", run)[0] == 1
    assert pathline("sample", run, "--evaluations", CALLS + 1)[0] == 0


def test_replacing_a_run_removes_it(tuned, tiny, tmp_path):
    run = copied(tuned[0], tmp_path)
    assert pathline("train", "moons", *tiny, "--out", run, "--overwrite")[0] == 0
    assert not (run / "tuned").exists()


def test_samplers_are_compared_on_the_model_itself(tuned, tmp_path):
    run = copied(tuned[0], tmp_path)
    code, out, _ = pathline("compare", run, "--evaluations", "5,2", "--count", 12, "--seed", 4)
    assert code == 0
    values = json.loads((run / "samples" / "compare.json").read_text())
    field = pl.guided(pl.Run.open(run).field(), torch.arange(12) % 2)
    start = pl.Noise(4).normal((12, 2))
    end, change = converged(field, start)
    assert values["error_of_reference"] == change and values["trajectories"] == 12
    rows = values["errors"]
    assert set(rows["euler"]) == set(rows["best general"]) == {"2", "3", "5"}
    assert set(rows["fitted"]) == {"3"} and set(rows["rk4"]) == {"5"}
    for name, sampler, n in (
        ("heun", pl.ODESampler(), 5),
        ("best general", GeneralSampler(), 2),
        ("fitted", solver_of(run), 3),
    ):
        truth = float(errors(solved(field, start, sampler, n), end).median())
        assert rows[name][str(n)]["median"] == pytest.approx(truth, rel=1e-6)
    marked = {line.split()[0] for line in out.splitlines() if "*" in line and "/" in line}
    assert marked <= {name.split()[0] for name in rows} and marked
    with Image.open(run / "samples" / "compare.png") as image:
        assert image.format == "PNG" and len(np.unique(np.asarray(image))) > 10


def test_a_line_is_drawn_for_each_sampler_and_none_is_named_over_another():
    n = [5, 10, 20]
    lines = {f"sampler {k}": (n, [1e-2 * k**0.01 / m for m in n]) for k in range(1, 9)}
    ax = error_by_evaluations({"best": (n, [0.1, 0.01, 0.001]), "fitted": ([8], [0.002]), **lines}, ("best", "fitted"))
    drawn = [line.get_xydata() for line in ax.lines]
    assert np.array_equal(drawn[0], [[5, 0.1], [10, 0.01], [20, 0.001]]) and np.array_equal(drawn[1], [[8, 0.002]])
    ax.figure.draw_without_rendering()
    boxes = sorted((Text.get_window_extent(text) for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 10
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    with pytest.raises(ValueError, match="errors of best must have shape"):
        error_by_evaluations({"best": (n, [0.1])})
    with pytest.raises(ValueError, match="at least one solver"):
        error_by_evaluations({})


def test_a_bridge_is_compared_too(bridge, tmp_path):
    out = tmp_path / "new" / "a.png"
    assert pathline("compare", bridge, "--evaluations", "4", "--count", 6, "--out", out)[0] == 0
    assert {path.name for path in out.parent.iterdir()} == {"a.png", "a.json"}
