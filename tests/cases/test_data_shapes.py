"""Arrays are seen for what they are: by their shape, or by the user's word where it leaves that open."""

import re
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

import pathline as pl
from pathline.cli.main import main
from pathline.data.layouts import layout_of
from pathline.data.pictures import picture_of, sides_of

TINY = "--steps 2 --batch-size 4 --width 8 --depth 1 --device cpu".split()


def command(*arguments):
    """The exit code of a command: what is wrong with a flag may end it as the parser does."""
    try:
        return main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code


def pictures(*shape):
    return np.random.default_rng(0).normal(size=(20, *shape)).astype(np.float32)


# ---- what a shape says


@pytest.mark.parametrize(
    ("shape", "kind", "axes", "handed_on"),
    [
        ((9, 5), "vectors", "(n, C)", (5,)),
        ((9, 3, 32, 48), "images", "(n, C, H, W)", (3, 32, 48)),
        ((9, 1, 4, 4), "images", "(n, C, H, W)", (1, 4, 4)),
        ((9, 32, 48, 3), "images", "(n, H, W, C)", (3, 32, 48)),
        ((9, 28, 28, 1), "images", "(n, H, W, C)", (1, 28, 28)),
        ((9, 5, 6, 4), "images", "(n, H, W, C)", (4, 5, 6)),
        ((9, 8, 16, 16), "images", "(n, C, H, W)", (8, 16, 16)),
        ((9, 2, 64), "series", "(n, C, L)", (2, 64)),
        ((9, 12, 500), "series", "(n, C, L)", (12, 500)),
        ((9, 100, 3), "points", "(n, N, C)", (100, 3)),
        ((9, 1, 16, 32, 32), "volumes", "(n, C, D, H, W)", (1, 16, 32, 32)),
        ((9, 10, 3, 32, 32), "video", "(n, T, C, H, W)", (10, 3, 32, 32)),
    ],
    ids=str,
)
def test_a_shape_says_what_it_is_of(shape, kind, axes, handed_on):
    found = layout_of("x", shape)
    assert (found.kind, found.axes, found.shape) == (kind, axes, handed_on)


@pytest.mark.parametrize(
    ("shape", "kind", "handed_on"),
    [
        ((9, 3, 32, 3), "images", (3, 32, 3)),
        ((9, 32, 48, 3), "images", (3, 32, 48)),
        ((9, 28, 28), "images", (1, 28, 28)),
        ((9, 28, 28), "series", (28, 28)),
        ((9, 28, 28), "points", (28, 28)),
        ((9, 3, 3, 8, 8), "video", (3, 3, 8, 8)),
        ((9, 3, 3, 8, 8), "volumes", (3, 3, 8, 8)),
    ],
    ids=str,
)
def test_the_user_says_what_a_shape_leaves_open(shape, kind, handed_on):
    assert layout_of("x", shape, kind).shape == handed_on


OPEN = {
    (
        9,
        3,
        32,
        3,
    ): r"shape \(3, 32, 3\), which may be images \(n, C, H, W\) or \(n, H, W, C\).*--kind images",
    (9, 28, 28): r"may be series \(n, C, L\) or points \(n, N, C\) or images; .*--kind series\|points\|images",
    (9, 3, 3, 8, 8): r"may be volumes \(n, C, D, H, W\) or video \(n, T, C, H, W\); .*--kind volumes\|video",
    (9, 8, 8, 8, 3): r"--kind volumes\|video",
    (9, 2, 2, 2, 2, 2): r"must have the axes of vectors \(n, C\), images .*reshape",
}


@pytest.mark.parametrize("shape", OPEN, ids=str)
def test_what_a_shape_leaves_open_is_refused(shape):
    with pytest.raises(ValueError, match=OPEN[shape]):
        layout_of("x", shape)


def test_a_kind_of_other_axes_is_refused():
    with pytest.raises(ValueError, match=r"x must have the axes \(n, C, L\) for --kind series, got \(n, 3, 8, 8\)"):
        layout_of("x", (9, 3, 8, 8), "series")
    with pytest.raises(ValueError, match=r"\(n, H, W, C\) or \(n, H, W\) for --kind images, got \(n, 5\)"):
        layout_of("x", (9, 5), "images")
    with pytest.raises(ValueError, match="unknown kind 'image'; did you mean 'images'"):
        layout_of("x", (9, 5), "image")


# ---- the command


# before: "depth must let sides of an image be halved", or 32 channels of 32 x 3
@pytest.mark.parametrize("save", [np.save, lambda path, x: np.savez(path, x=x)], ids=["npy", "npz"])
def test_channels_that_lie_last_are_brought_to_the_front_and_this_is_said(tmp_path, capsys, monkeypatch, save):
    monkeypatch.setattr("pathline.cli.train.draw_all", lambda run, training: None)
    x, name = pictures(8, 12, 3), "x.npy" if save is np.save else "x.npz"
    save(tmp_path / name, x)
    assert command("train", "images", "--data", tmp_path / name, "--out", tmp_path / "run", *TINY) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("taken for images (n, H, W, C), and transposed to (n, C, H, W)") == 1
    run = pl.Run.open(tmp_path / "run")
    assert run.shape == (3, 8, 12) and run.config.kind == "auto"
    assert np.array_equal(run.config.load().x.numpy(), x.transpose(0, 3, 1, 2))
    assert command("train", "--resume", tmp_path / "run") == 0


def test_grey_pictures_need_no_axis_of_channels(tmp_path):
    np.save(tmp_path / "x.npy", pictures(8, 12))
    config = pl.Config(data=str(tmp_path / "x.npy"), kind="images")
    assert config.load().shape == (1, 8, 12)


@pytest.mark.parametrize(
    ("shape", "flags", "said"),
    [
        ((2, 64), [], r"taken for series \(n, C, L\), and there is no network for series yet.*reshape\(len\(x\), -1\)"),
        ((50, 3), [], r"taken for points \(n, N, C\), and there is no network for points yet.*preset vectors"),
        ((1, 16, 16, 16), [], r"taken for volumes .* no network for volumes yet.*--kind images\|series"),
        ((6, 3, 16, 16), [], r"taken for video .* no network for video yet"),
        ((28, 28), ["--kind", "series"], r"said to be series .* no network for series yet"),
        ((28, 28), [], r"which may be series .* say which with --kind"),
        ((3, 32, 3), [], r"say which with --kind images"),
        ((5,), [], r"'unet' is for images.* use 'mlp'"),
        ((3, 30, 48), ["--depth", "3"], r"multiples of 4 .* got 30x48 .*--size 28x48 or 32x48, or use --depth 2"),
    ],
    ids=str,
)
def test_what_no_network_is_for_is_refused_before_it_is_read(tmp_path, capsys, shape, flags, said):
    np.save(tmp_path / "x.npy", pictures(*shape))
    with patch("pathline.data.arrays._Finite.checked", side_effect=AssertionError("read")):
        assert command("train", "images", "--data", tmp_path / "x.npy", "--out", tmp_path / "run", *flags) == 2
    assert re.search(said, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "run").exists()


def test_a_config_without_a_kind_is_as_before_and_kinds_are_of_arrays(tmp_path, capsys):
    (tmp_path / "my.toml").write_text('preset = "images"\nsize = 32\n')
    config = pl.load_config(str(tmp_path / "my.toml"))
    assert (config.kind, config.size) == ("auto", 32)
    (tmp_path / "my.csv").write_text("a,b\n1,2\n3,4\n")
    assert command("train", "vectors", "--data", tmp_path / "my.csv", "--kind", "series") == 2
    assert "kind is for arrays" in " ".join(capsys.readouterr().err.split())
    assert command("train", "moons", "--kind", "images") == 2


# ---- height x width


def gradient(width, height):
    """A picture that is red along its width and green along its height."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([red, green, 0 * red], -1).astype(np.uint8))


def test_sides_are_height_and_width():
    assert sides_of("32x48") == (32, 48) and sides_of(32) == sides_of("32") == (32, 32) and sides_of(0) is None
    for odd in ("32x", "x", "32x48x3", "-1", -1, "3.5", "0x8", 10**9):
        with pytest.raises(ValueError, match="size must be"):
            sides_of(odd)


def test_a_picture_that_exif_turns_has_the_sides_that_are_asked_for(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    gradient(40, 30).save(tmp_path / "plain.png")
    gradient(30, 40).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    plain, turned = (picture_of(tmp_path / name, "8x16") for name in ("plain.png", "turned.png"))
    assert plain.shape == turned.shape == (3, 8, 16)
    assert (np.diff(turned[0].mean(0).astype(float)) > 0).all()  # red still runs along the width


def test_images_are_brought_to_height_and_width_by_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pathline.cli.train.draw_all", lambda run, training: None)
    for k in range(6):
        gradient(40 + k, 30).save(tmp_path / f"{k}.png")
    flags = ["--data", tmp_path, "--size", "8x16", "--out", tmp_path / "run"]
    assert command("train", "images", *flags, *TINY) == 0
    run = pl.Run.open(tmp_path / "run")
    assert run.shape == (3, 8, 16) and run.config.size == "8x16"
    assert "16 x 8 pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("30x48", r"multiples of 4 .*--depth 3.* got 30x48 \(height x width\).*--size 28x48 or 32x48"),
        ("31", r"got 31x31 .*--size 28x28 or 32x32, or use --depth 1"),
        ("32by48", r"size must be 0 or more pixels, as N for both sides or as HEIGHTxWIDTH"),
    ],
)
def test_sizes_that_cannot_be_halved_are_refused_before_the_pictures_are_read(tmp_path, capsys, size, said):
    gradient(40, 30).save(tmp_path / "a.png")
    with patch("pathline.data.pictures._levels", side_effect=AssertionError("read")):
        assert command("train", "images", "--data", tmp_path, "--size", size, "--out", tmp_path / "run") == 2
    assert re.search(said, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "run").exists()
