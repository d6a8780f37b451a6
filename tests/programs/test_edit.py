"""`pathline edit`: what it makes is what the library makes, under the conditions that its flags name."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.cli.edit import main
from pathline.sampling.editing import edit
from pathline.sampling.inversion import invert, round_trip_sampler


def made(run: Path, tmp_path: Path, *flags) -> dict[str, np.ndarray]:
    """What an .npz holds that the command writes."""
    out = tmp_path / "made.npz"
    assert main([str(run), "--overwrite", "--out", str(out), *map(str, flags)]) == 0
    with np.load(out) as arrays:
        return dict(arrays)


def held_out(folder: Path, count: int):
    """A run, and held-out samples of it in its units, with their classes."""
    run = pl.Run.open(folder)
    x, y = run.config.load().split(run.config.held_out, run.config.seed)[1].some(count)
    return run, run.normalisation.into(x).float(), y["class"]


def back(run, x):
    return run.normalisation.back(x).numpy()


def test_held_out_samples_are_edited_under_their_own_class(digits, tmp_path, capsys):
    run, x, y = held_out(digits, 6)
    found = made(digits, tmp_path, "--count", 6, "--strength", 0.4, "--steps", 8, "--seed", 3)
    truth = edit(pl.guided(run.field(), y), x, 0.4, None, 8, 3)
    assert np.allclose(found["x"], back(run, truth), atol=1e-4) and (found["y"] == y.numpy()).all()
    far = float((truth - x).square().mean().sqrt())
    assert (
        f"{far:.3g} away" in (said := capsys.readouterr().out) and "6 samples, held out, edited at strength 0.4" in said
    )


def test_nothing_changes_without_noise_and_nothing_is_kept_of_all(digits, tmp_path):
    run, x, _ = held_out(digits, 4)
    same = made(digits, tmp_path, "--count", 4, "--strength", 0)
    assert np.allclose(same["x"], back(run, x), atol=1e-4)
    fresh = made(digits, tmp_path, "--count", 4, "--strength", 1, "--steps", 5, "--class", 3, "--seed", 2)
    truth = pl.sample(run.field().given(3), (4, 1, 8, 8), steps=5, seed=2)
    assert np.allclose(fresh["x"], back(run, truth), atol=1e-4) and (fresh["y"] == 3).all()


def test_another_class_with_guidance_and_another_sampler(moons, tmp_path):
    run, x, y = held_out(moons, 9)
    flags = ("--count", 9, "--class", 1, "--guidance", 2, "--sampler", "euler-maruyama", "--sigma", "0.5", "--steps", 9)
    found = made(moons, tmp_path, *flags)
    truth = edit(pl.guided(run.field(), torch.ones_like(y), 2.0), x, 0.5, pl.SDESampler(0.5), 9, 0)
    assert np.allclose(found["x"], back(run, truth), atol=1e-4) and (found["y"] == "lower").all()


def test_an_edit_by_inversion_goes_back_under_the_own_class(digits, tmp_path):
    run, x, y = held_out(digits, 3)
    found = made(digits, tmp_path, "--count", 3, "--invert", "--class", 7, "--steps", 6)
    noise = invert(run.field().given(y), x, round_trip_sampler(), 6)
    truth = pl.sample(run.field().given(7), (3, 1, 8, 8), round_trip_sampler(), 6, start=noise)
    assert np.allclose(found["x"], back(run, truth), atol=1e-3)


def test_no_condition_is_the_null_one(moons, tmp_path):
    run, x, _ = held_out(moons, 5)
    found = made(moons, tmp_path, "--count", 5, "--unconditional", "--steps", 6)
    assert np.allclose(found["x"], back(run, edit(run.field().given(None), x, 0.5, None, 6, 0)), atol=1e-4)
    assert set(found) == {"x"}


def test_a_file_is_edited_in_the_units_of_the_data(flowers, bare, tmp_path, capsys):
    path = tmp_path / "more.csv"
    path.write_text("price $,kind,petal\n1000003,aster,2.5\n1000004,rose,3.5\n")
    found = made(flowers, tmp_path, "--data", path, "--strength", 0)
    assert np.allclose(found["x"], [[2.5, 1000003], [3.5, 1000004]]) and found["y"].tolist() == ["aster", "rose"]
    path.write_text("price $,petal\n1000003,2.5\n")
    assert np.allclose(made(flowers, tmp_path, "--data", path, "--strength", 0)["x"], [[2.5, 1000003]])
    assert "more comes without conditions, and is edited under none" in capsys.readouterr().err
    assert made(flowers, tmp_path, "--data", path, "--class", "rose", "--steps", 3)["y"].tolist() == ["rose"]
    points = tmp_path / "points.npz"
    np.savez(points, x=np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert np.allclose(made(bare, tmp_path, "--data", points, "--strength", 0)["x"], [[1, 2], [3, 4]])


def test_a_picture_is_edited_between_black_and_white(digits, tmp_path):
    picture = tmp_path / "mine.png"
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(levels).save(picture)
    found = made(digits, tmp_path, "--data", picture, "--strength", 0, "--class", 2)
    assert np.allclose(found["x"], levels[None, None] / 255 * 16, atol=1e-4) and found["y"].tolist() == [2]


@pytest.mark.parametrize("count", [3, 13])
def test_pictures_stand_above_their_edits(digits, tmp_path, count):
    out = tmp_path / "deeper" / "edit.png"
    assert main([str(digits), "--count", str(count), "--strength", "0", "--steps", "2", "--out", str(out)]) == 0
    with Image.open(out) as image:
        assert len(set(image.convert("L").tobytes())) > 10


def test_points_stand_beside_their_edits(moons):
    assert main([str(moons), "--steps", "2"]) == 0
    with Image.open(moons / "samples" / "edit.png") as image:
        assert image.width > image.height


@pytest.fixture
def undropped(moons, tmp_path) -> Path:
    """A run whose null class was never trained, as its settings have it."""
    run = tmp_path / "undropped"
    shutil.copytree(moons, run)
    settings = (run / "config.json").read_text()
    (run / "config.json").write_text(settings.replace('"drop": 0.1', '"drop": 0.0'))
    assert pl.Run.open(run).config.drop == 0
    return run


REFUSED = [
    ("digits", "--strength 1.2", "--strength must be from 0, the samples themselves, to 1, fresh ones, got 1.2"),
    ("digits", "--strength -0.1", "--strength must be from 0, .* got -0.1"),
    ("digits", "--strength nan", "--strength must be a number, got 'nan'"),
    ("digits", "--strength 0.3 --invert", "got 0.3, and --invert goes all the way back without; leave out one"),
    ("digits", "--count 0", "--count must be at least 1, got 0"),
    ("digits", "--steps 0", "--steps must be at least 1, got 0"),
    ("digits", "--steps 5 --sampler dopri5", "--steps is for samplers of steps that are settled beforehand, got 5"),
    ("digits", "--invert --sampler ddim:1", r"sampler must draw nothing for .* DDIM\(eta=1"),
    ("digits", "--invert --sampler churn", "times must increase for churn"),
    ("digits", "--class 11", "--class must be one of"),
    ("digits", "--prompt rose", "--prompt needs a model with text"),
    ("digits", "--class 3 --unconditional", "--unconditional goes without --class.* leave out one"),
    ("digits", "--guidance 2 --unconditional", "--unconditional goes without --class.* leave out one"),
    (
        "digits",
        "--data {here}/wrong.npz",
        r"--data must have samples of shape \(1, 8, 8\).* got \(2,\) from .*wrong.npz",
    ),
    (
        "digits",
        "--data {here}/wrong.png",
        r"--data must have samples of shape \(1, 8, 8\).* a picture of shape \(1, 2, 3",
    ),
    ("digits", "--data {here}/broken.png", "broken.png is "),
    ("digits", "--data {here}/fine.png --guidance 2", "--guidance leads to a condition, and fine comes without"),
    ("moons", "--data {here}/wrong.png", r"--data must have samples of shape \(2,\).* a picture"),
    ("digits", "--data nothing", "unknown data 'nothing'"),
    ("digits", "--out edit.gif", "--out must end in .png or .npz, got edit.gif"),
    ("bare", "--data {here}/wrong.npz --class 1", "--class needs a model with classes"),
    ("bare", "--data {here}/wrong.npz --guidance 2", "--guidance needs a model with classes, numbers or text"),
    ("bridge", "", "edit needs a model that begins at noise, and .* is a bridge from"),
    ("undropped", "--guidance 2", "--guidance needs a model trained with labels dropped"),
    ("undropped", "--guidance 0", "--guidance needs a model trained with labels dropped"),
    ("undropped", "--unconditional", "--class, --numbers or --prompt must be given, as .* was trained with --drop 0"),
]


@pytest.mark.parametrize(("run", "flags", "message"), REFUSED, ids=lambda part: str(part)[:40])
def test_what_cannot_be_edited_is_refused(request, tmp_path, run, flags, message):
    np.savez(tmp_path / "wrong.npz", x=np.zeros((3, 2)))
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "wrong.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "fine.png")
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    with pytest.raises(ValueError, match=message):
        main([str(request.getfixturevalue(run)), *flags.format(here=tmp_path).split()])
