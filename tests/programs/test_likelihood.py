"""`pathline likelihood`: its numbers against the library's, what it leaves behind, and what it tells."""

import contextlib
import csv
import io
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.cli import likelihood, scored
from pathline.cli.main import main
from pathline.metrics.ranking import area_under_curve
from pathline.plots.likelihoods import log_densities, ranked_images, ranked_points, ranked_rows

FILES = {"{}.csv", "{}-training.csv", "{}.json", "{}-histogram.png", "{}-ranking.png"}


def pathline(*arguments) -> tuple[int, str, str]:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def done(run, tmp_path, *flags) -> tuple[str, dict, list[dict]]:
    """What a command that succeeds says, its summary and its rows."""
    place = tmp_path / "found.csv"
    code, out, err = pathline("likelihood", run, "--out", place, *flags)
    assert code == 0, err
    with place.open() as file:
        return out, json.loads(place.with_suffix(".json").read_text()), list(csv.DictReader(file))


def column(rows, name="nats"):
    return np.array([float(row[name]) for row in rows])


def held_out(run, count):
    """Held-out samples by hand."""
    config = run.config
    return config.load().split(config.held_out, config.seed)[1].some(count)


# ---- the numbers


def test_vectors_are_scored_as_by_the_library_in_the_units_of_the_data(moons, tmp_path):
    out, summary, rows = done(moons, tmp_path, "--count", 40, "--steps", 6)
    run = pl.Run.open(moons)
    x, y = held_out(run, 40)
    with torch.no_grad():
        nats = pl.log_prob(run.field().given(y), run.normalisation.into(x), steps=6).double()
    nats = nats.numpy() - 2 * math.log(run.normalisation.scale)
    assert np.allclose(column(rows), nats, atol=2e-5)
    assert [row["class"] for row in rows] == [run.classes[k] for k in y["class"]]
    samples = run.config.load()
    assert torch.equal(samples.x[column(rows, "index").astype(int)], x)
    assert np.allclose(column(rows, "bits_per_dim"), -nats / (2 * math.log(2)), atol=1e-4)
    assert not column(rows, "standard_error").any()
    reach = 2.0227 * nats.std(ddof=1) / math.sqrt(40)  # of Student's t, with 39 degrees of freedom
    mean = summary["given"]["nats"]
    assert [mean[name] for name in ("value", "low", "high")] == pytest.approx(
        [nats.mean(), nats.mean() - reach, nats.mean() + reach], abs=1e-3
    )
    assert f"{mean['value']:.2f}  {mean['low']:.2f} to {mean['high']:.2f}" in out and "bits/dim" not in out
    assert "divergence: exact" in out and "as densities" in out


def test_pictures_have_bits_of_whole_numbers(digits, tmp_path):
    flags = ("--count", 12, "--steps", 2, "--divergence", "hutchinson:3", "--seed", 4)
    out, summary, rows = done(digits, tmp_path, *flags)
    run = pl.Run.open(digits)
    x, y = held_out(run, 12)
    options = {"steps": 2, "divergence": pl.Hutchinson(3)}
    with torch.no_grad():
        bits = pl.bits_per_dim(run.field().given(y), x, run.normalisation, 1.0, 4, **options)
    assert np.allclose(column(rows, "bits_per_dim"), bits.numpy(), atol=1e-5)
    assert np.allclose(column(rows), -bits.numpy() * 64 * math.log(2), atol=1e-3)  # bins of 1
    assert (column(rows, "standard_error") > 0).all()
    assert "bits/dim" in out and "noise over bins of 1" in out and "hutchinson:3" in out
    assert summary["bin"] == 1 and summary["training"]["samples"] == 12
    again = done(digits, tmp_path, *flags, "--batch-size", 5)[2]  # no batch changes what is drawn for a sample
    assert np.allclose(column(again), column(rows), atol=1e-3)
    assert done(digits, tmp_path, *flags[:-1], 5)[2][0]["nats"] != rows[0]["nats"]


def test_training_samples_are_of_the_training_part(moons, tmp_path):
    _, summary, rows = done(moons, tmp_path, "--count", 30, "--steps", 2)
    with (tmp_path / "found-training.csv").open() as file:
        training = list(csv.DictReader(file))
    run = pl.Run.open(moons)
    samples = run.config.load()
    part = {tuple(point) for point in samples.split(0.2, run.config.seed)[0].x.tolist()}
    assert {tuple(samples.x[int(row["index"])].tolist()) for row in training} <= part
    assert not {row["index"] for row in training} & {row["index"] for row in rows}
    more = column(training).mean() - column(rows).mean()
    assert summary["training_less_given"]["value"] == pytest.approx(more, abs=1e-5)
    pairs = (column(rows)[:, None] < column(training)).mean()
    assert summary["auroc"]["value"] == pytest.approx(pairs)


def test_one_condition_guidance_and_none(moons, tmp_path):
    run = pl.Run.open(moons)
    x, y = held_out(run, 10)
    x, few = run.normalisation.into(x), ("--count", 10, "--steps", 3)
    shift = 2 * math.log(run.normalisation.scale)
    with torch.no_grad():
        free = pl.log_prob(run.field().given(None), x, steps=3)
        guided = pl.log_prob(pl.guided(run.field(), y, 1.5), x, steps=3)
    out, summary, rows = done(moons, tmp_path, *few, "--unconditional")
    assert np.allclose(column(rows), free.numpy() - shift, atol=2e-5) and rows[0]["class"] == ""
    assert "under the null condition" in out and summary["is_unconditional"]
    out, _, rows = done(moons, tmp_path, *few, "--guidance", 1.5)
    assert np.allclose(column(rows), guided.numpy() - shift, atol=2e-5) and "guidance 1.5" in out


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (("--solver", "rk4", "--steps", 4), {"solver": pl.RK4, "steps": 4}),
        (("--solver", "dopri5:1e-4"), {"solver": pl.Dopri5(1e-4, 1e-4)}),
        (("--divergence", "hutch-plus-plus:1,4", "--steps", 3), {"divergence": pl.HutchPlusPlus(1, 4), "steps": 3}),
    ],
    ids=str,
)
def test_flags_choose_the_solver_and_the_divergence(moons, tmp_path, flags, options):
    _, summary, rows = done(moons, tmp_path, "--count", 6, *flags)
    run = pl.Run.open(moons)
    x, y = held_out(run, 6)
    with torch.no_grad():
        nats = pl.log_prob(run.field().given(y), run.normalisation.into(x), seed=0, **options)
    assert np.allclose(column(rows), nats.numpy() - 2 * math.log(run.normalisation.scale), atol=2e-4)
    assert (summary["steps"] is None) == ("--steps" not in flags)


# ---- other data


def test_rows_of_a_table_are_read_by_the_names_of_its_columns(flowers, tmp_path):
    path = tmp_path / "more.csv"
    path.write_text("price $,extra,kind,petal\n1000003,9,aster,2.5\n1000004,9,rose,3.5\n1000006,9,aster,1.5\n")
    out, summary, rows = done(flowers, tmp_path, "--data", path, "--steps", 3, "--bin", 0)
    run = pl.Run.open(flowers)
    x = run.normalisation.into(torch.tensor([[2.5, 1000003], [3.5, 1000004], [1.5, 1000006]], dtype=torch.float64))
    with torch.no_grad():
        nats = pl.log_prob(run.field().given(torch.tensor([0, 1, 0])), x, steps=3)
    shift = sum(map(math.log, run.normalisation.scale))
    assert np.allclose(column(rows), nats.numpy() - shift, atol=2e-4)
    assert [row["class"] for row in rows] == ["aster", "rose", "aster"]
    assert summary["training"]["samples"] == 3 and "more, 3 samples" in out and "AUROC" in out


def test_data_without_conditions_is_scored_without_and_that_is_said(flowers, tmp_path):
    path = tmp_path / "bare.csv"
    path.write_text("petal,price $\n2.5,1000003\n3.5,1000004\n")
    out, summary, _ = done(flowers, tmp_path, "--data", path, "--steps", 2)
    assert "comes without classes" in out and "null condition" in out and summary["is_unconditional"]


def test_classes_of_our_own_samples_are_indices(moons, tmp_path):
    assert pathline("sample", moons, "--count", 6, "--steps", 2, "--out", tmp_path / "x.npz")[0] == 0
    rows = done(moons, tmp_path, "--data", tmp_path / "x.npz", "--steps", 2)[2]
    assert [row["class"] for row in rows] == ["upper", "lower"] * 3


def test_without_the_training_data_others_are_scored_alone(flowers, tmp_path):
    run = shutil.copytree(flowers, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "gone.csv")}))
    (tmp_path / "few.csv").write_text("petal,kind,price $\n1.5,rose,1000003\n2.5,rose,1000004\n")
    code, out, err = pathline("likelihood", run, "--data", tmp_path / "few.csv", "--steps", 2)
    assert code == 0 and "no training samples to compare with" in err and "gone.csv" in err and "AUROC" not in out
    files = {path.name for path in (run / "likelihood").iterdir()}
    assert files == {name.format("few") for name in FILES} - {"few-training.csv"}


# ---- what is left behind


@pytest.mark.parametrize("name", ["digits", "moons", "flowers"])
def test_the_pictures_are_pictures(name, request, tmp_path):
    run = shutil.copytree(request.getfixturevalue(name), tmp_path / "run")
    assert pathline("likelihood", run, "--count", 8, "--steps", 2)[0] == 0
    assert {path.name for path in (run / "likelihood").iterdir()} == {name.format("held-out") for name in FILES}
    for end in ("histogram", "ranking"):
        with Image.open(run / "likelihood" / f"held-out-{end}.png") as picture:
            pixels = np.asarray(picture.convert("L"))
        assert len(np.unique(pixels)) > 10
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == 255).all()  # nothing is cut off


def test_an_interruption_keeps_the_rows_that_are_done(moons, tmp_path, monkeypatch):
    estimate, calls = scored.estimate_log_prob, []

    def until_the_third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return estimate(*arguments, **options)

    monkeypatch.setattr(scored, "estimate_log_prob", until_the_third)
    flags = ("--count", 10, "--steps", 2, "--batch-size", 4, "--out", tmp_path / "a.csv")
    code, out, err = pathline("likelihood", moons, *flags)
    assert code == 130 and not out and "rows of 8 of 10 samples are in" in err
    assert [path.name for path in tmp_path.iterdir()] == ["a-part.csv"]
    assert len((tmp_path / "a-part.csv").read_text().splitlines()) == 9
    calls[:] = [1, 1]
    code, _, err = pathline("likelihood", moons, *flags[:-1], tmp_path / "b.csv")
    assert code == 130 and "nothing was written" in err and not (tmp_path / "b-part.csv").exists()


def test_what_is_not_finite_is_left_out_and_told(moons, tmp_path, monkeypatch):
    estimate = scored.estimate_log_prob

    def with_a_hole(*arguments, **options):
        values, errors = estimate(*arguments, **options)
        values[0] = math.nan
        return values, errors

    monkeypatch.setattr(scored, "estimate_log_prob", with_a_hole)
    code, out, err = pathline("likelihood", moons, "--count", 6, "--steps", 2, "--out", tmp_path / "a.csv")
    assert code == 0 and "1 of 6 log-densities of held out are not finite" in err and "nan" not in out
    assert json.loads((tmp_path / "a.json").read_text())["given"]["not_finite"] == 1


def test_a_run_that_is_replaced_loses_what_was_found_of_it(moons, tmp_path):
    run = shutil.copytree(moons, tmp_path / "run")
    assert pathline("likelihood", run, "--count", 4, "--steps", 2)[0] == 0
    opened = pl.Run.open(run)
    pl.Run.create(run, opened.config, opened.config.load(), has_consent=True)
    assert not (run / "likelihood").exists()


# ---- what is refused

REFUSED = {
    "a bridge": ("{bridge}", ("begins at noise", "bridge from rings", "train one without --start")),
    "no samples": ("{moons} --count 0", ("--count must be at least 1", "0")),
    "no batch": ("{moons} --batch-size 0", ("--batch-size must be at least 1", "0")),
    "no steps": ("{moons} --steps 0", ("--steps must be at least 1", "0")),
    "a negative bin": ("{moons} --bin -1", ("--bin must be a positive number", "-1")),
    "an unknown solver": ("{moons} --solver gaus", ("unknown solver 'gaus'", "did you mean 'gauss'")),
    "steps of a solver": ("{moons} --solver rk4:5", ("--solver rk4 takes nothing after", "'5'", "--steps")),
    "steps of an adaptive one": ("{moons} --solver dopri5 --steps 5", ("fixed steps", "5", "dopri5")),
    "an unknown divergence": ("{moons} --divergence hutch", ("unknown divergence 'hutch'", "hutchinson")),
    "one probe": ("{moons} --divergence hutchinson:1", ("at least 2 probes", "hutchinson:1")),
    "half a probe": ("{moons} --divergence hutchinson:2.5", ("whole numbers", "hutchinson:2.5")),
    "another suffix": ("{moons} --out {here}/a.png", ("--out must end in .csv", "a.png")),
    "data of another shape": ("{moons} --data digits", ("shape (2,)", "(1, 8, 8)", "digits")),
    "unknown data": ("{moons} --data moon", ("unknown data 'moon'", "'moons'")),
    "unknown classes": ("{moons} --data checkerboard", ("upper, lower", "'0'", "row 0", "--unconditional")),
    "values between bins": ("{moons} --bin 0.5", ("--bin", "0.5", "row", "held out", "--bin 0 ")),
    "guidance without classes": ("{bare} --guidance 2", ("--guidance needs a model with classes", "bare")),
    "no condition to leave out": ("{bare} --unconditional", ("--unconditional needs a model with classes", "bare")),
    "guidance by nothing": ("{moons} --unconditional --guidance 2", ("--guidance", "--unconditional", "leave out")),
    "guidance of NaN": ("{moons} --guidance nan", ("--guidance must be a number", "nan")),
    "changed data": ("{bare}", ("moons has changed", "--data")),
    "a hole in the data": ("{flowers} --data {here}/hole.csv", ("hole.csv", "line 3", "'petal'", "nan")),
    "a column too few": ("{flowers} --data {here}/few.csv", ("few.csv", "no 'price $'", "petal")),
    "no run": ("{here}/nothing", ("no run folder",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_answered_by_one_clear_sentence(case, request, tmp_path):
    (tmp_path / "hole.csv").write_text("petal,kind,price $\n1.5,rose,3\nnan,rose,4\n")
    (tmp_path / "few.csv").write_text("petal,kind\n1.5,rose\n2.5,rose\n")
    given, said = REFUSED[case]
    names = ("digits", "moons", "flowers", "bare", "bridge")
    places = {name: request.getfixturevalue(name) for name in names if f"{{{name}}}" in given}
    code, out, err = pathline("likelihood", *given.format(here=tmp_path, **places).split())
    assert code == 2 and not out and len(err.splitlines()) == 1
    for words in said:
        assert words in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.csv", "hole.csv"]


def test_a_model_that_needs_its_classes_says_so(moons, tmp_path):
    run = shutil.copytree(moons, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"drop": 0.0}))
    code, _, err = pathline("likelihood", run, "--unconditional")
    assert code == 2 and "--drop 0" in err
    for name in ("likelihood", "sample"):
        code, _, err = pathline(name, run, "--guidance", "0")
        assert code == 2 and "--guidance needs a model trained with labels dropped" in err
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 2)))
    code, _, err = pathline("likelihood", run, "--data", tmp_path / "x.npz")
    assert code == 2 and "without classes" in err and "--drop 0" in err


# ---- the parts


def test_the_area_under_the_curve_is_that_of_all_pairs_and_its_interval_covers():
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 9, 40), rng.integers(2, 12, 30)
    pairs = (low[:, None] < high).mean() + (low[:, None] == high).mean() / 2
    assert area_under_curve(low, high).value == pytest.approx(pairs)
    apart = area_under_curve(np.arange(20), np.arange(20) + 50)
    assert apart.value == apart.high == 1 and 0.8 < apart.low < 0.95
    hits, truth = 0, 0.5 * (1 + math.erf(1.0 / math.sqrt(2) / math.sqrt(2)))  # P(a < b + 1) of two standard normals
    for _ in range(400):
        found = area_under_curve(rng.normal(size=25), rng.normal(1, size=25))
        hits += found.low < truth < found.high
    assert hits > 400 * 0.95 - 4.42 * math.sqrt(400 * 0.95 * 0.05)
    with pytest.raises(ValueError, match="none NaN"):
        area_under_curve([math.nan], [1.0])


def test_a_histogram_counts_shares_and_what_lies_far_off():
    rng = np.random.default_rng(0)
    ax = log_densities({"given": np.append(rng.normal(size=500), [-1e4]), "training": rng.normal(size=300)})
    first, second = (patch.get_data().values for patch in ax.patches)
    assert first.sum() == pytest.approx(500 / 501) and second.sum() == pytest.approx(1)
    assert any("1 of given" in text.get_text() for text in ax.texts) and ax.get_xlim()[0] > -10
    assert log_densities({"one": [3.0]}).patches
    with pytest.raises(ValueError, match="at least one value each"):
        log_densities({"none": []})


def test_the_least_likely_are_shown_first():
    values = np.array([0.0, -3.0, 1.0, -9.0])
    axes = ranked_images(np.zeros((4, 1, 8, 8)), values, columns=2, rows=1)
    assert [[text.get_text() for text in ax.texts] for ax in axes] == [["-9.00", "-3.00"], ["1.00", "0.00"]]
    assert len(ranked_images(np.zeros((1, 3, 8, 8)), [2.0])) == 1
    points = np.arange(8.0).reshape(4, 2)
    rings = ranked_points(points, values, least=1).collections[-1]
    assert rings.get_offsets().tolist() == [points[3].tolist()]
    assert ranked_points(points[:, :1], values).get_ylabel() == "log-density, nats"
    away = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0], [3, 0, 0.5]])
    ax = ranked_rows(away * 10, away, values, ["a", "b", "c"], ["p", "q", "r", "s"], rows=2, most=2)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
    assert [label.get_text().split() for label in ax.get_yticklabels()] == [["s", "-9"], ["q", "-3"]]


def test_half_the_steps_tell_how_far_off_the_steps_are(moons, tmp_path):
    _, coarse, _ = done(moons, tmp_path, "--count", 8, "--steps", 2)
    _, fine, _ = done(moons, tmp_path, "--count", 8, "--steps", 16)
    assert 0 < fine["change_by_half_the_steps"] < coarse["change_by_half_the_steps"]
    assert likelihood.CHECKED == 8
