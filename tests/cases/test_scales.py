"""Scales of data: channels of different units, values far outside, constants, levels of 16 bits."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.cli.main import main
from pathline.cli.pictures import value_range
from pathline.data.digits import DigitsSource
from pathline.data.pictures import picture_of
from pathline.likelihood.bits import in_units
from pathline.plots.images import drawable, rule_of

DRAW = np.random.default_rng(0)
TINY = "--steps 6 --batch-size 16 --width 8 --depth 1".split()


def normal(*shape, mean=0.0, std=1.0):
    return mean + std * DRAW.normal(size=shape)


def with_one(x, value):
    x.reshape(-1)[7] = value
    return x


# ---- shift and scale of each channel

UNITS = {  # the data, (n, C, ...); shift and scale of its channels
    # got before: 140 and 140 for both
    "humidity beside temperature": (
        np.stack([normal(200, 8, 8, mean=280, std=5), normal(200, 8, 8, mean=0.010, std=0.002)], 1),
        [(280, 5), (0.010, 0.002)],
    ),
    "a series of three sensors": (
        np.stack([normal(200, 64, mean=m, std=s) for m, s in [(1e6, 2.0), (0, 1e-6), (-3, 30)]], 1),
        [(1e6, 2.0), (0, 1e-6), (-3, 30)],
    ),
    # got before: 5000 and 5000
    "one pixel of 1e4": (with_one(normal(200, 1, 8, 8), 1e4), [(0, 1)]),
    "one pixel of -1e30": (with_one(normal(200, 1, 8, 8), -1e30), [(0, 1)]),
    "one cell of a table": (with_one(normal(2000, 1), 1e4), [(0, 1)]),
    "half a percent far away": (np.concatenate([normal(995, 1, 4, 4), normal(5, 1, 4, 4, mean=500)]), [(0, 1)]),
    # what is not far outside is not left out
    "pictures that are mostly black": (
        (DRAW.random((500, 1, 8, 8)) < 0.005).astype(float),
        [(0.005, math.sqrt(0.005 * 0.995))],
    ),
    "a heavy tail": (DRAW.laplace(size=(2000, 1, 8, 8)), [(0, math.sqrt(2))]),
}


@pytest.mark.parametrize(("x", "channels"), UNITS.values(), ids=UNITS)
def test_each_channel_has_its_own_scale_and_no_single_value_sets_it(x, channels):
    units = pl.Normalisation.of(torch.from_numpy(x))
    of_channel = x[:, 0].size
    for k, (mean, std) in enumerate(channels):
        assert units.shift[k] == pytest.approx(mean, abs=6 * std / math.sqrt(of_channel))
        assert units.scale[k] == pytest.approx(std, rel=0.1)
    again = units.back(units.into(torch.from_numpy(x)))
    assert (again - x).abs().max() <= 1e-6 * np.abs(x).max()


def test_values_far_outside_are_told():  # nothing was said before
    (note,) = pl.Normalisation.of(torch.from_numpy(with_one(normal(200, 2, 8, 8), 1e4))).notes
    assert "1 of the 12,800 values of channel 1 lie far outside" in note and "1e+04" in note
    missing = normal(1000, 1, 4, 4, mean=280, std=5)
    missing[:50] = -9999.0
    (note,) = pl.Normalisation.of(torch.from_numpy(missing)).notes
    assert "few values set its scale" in note
    rare = np.zeros((1000, 2))
    rare[:, 0], rare[:3, 1] = normal(1000), 1.0
    (note,) = pl.Normalisation.of(torch.from_numpy(rare), ("a", "flag")).notes
    assert "only 3 of the 1,000 values of column 'flag' differ from 0" in note
    assert not pl.Normalisation.of(torch.from_numpy(normal(500, 3, 4, 4))).notes


def test_units_of_many_blocks_are_those_of_one(monkeypatch):
    x = torch.from_numpy(with_one(normal(300, 2, 4, 4), 1e4))
    whole = pl.Normalisation.of(x)
    monkeypatch.setattr("pathline.data.rows.BLOCK", 8 * 32 * 7)
    pieces = pl.Normalisation.of(pl.Rows(x))
    assert pieces.shift == pytest.approx(whole.shift, abs=1e-15) and pieces.scale == pytest.approx(whole.scale)
    assert pieces.ends == whole.ends and pieces.notes == whole.notes


def test_a_run_made_before_opens(tmp_path):
    run = pl.Run.create(tmp_path / "run", pl.Config(data="digits"), DigitsSource().load())
    path = run.folder / "config.json"
    old = path.read_text()
    cut = old[: old.index('"low"')].rstrip().rstrip(",") + "\n    }" + old[old.index("}", old.index('"low"')) + 1 :]
    path.write_text(cut)
    assert pl.Run.open(run.folder).normalisation == pl.Normalisation(8.0, 8.0)


# ---- constants


def test_a_constant_is_left_out_of_a_density():  # got before: the model's own spike at the constant, of any height
    class Wide(pl.Field):
        """The exact field of (normal, 0): its columns are independent."""

        def __init__(self):
            super().__init__()
            self.path, self.prediction = pl.GaussianPath(pl.LinearSchedule()), pl.DATA

        def forward(self, x, t):
            c = self.path.schedule.at(t, x)
            return x * torch.tensor([1.0, 0.0]) * c.alpha / (c.alpha**2 + c.beta**2)

    units = pl.Normalisation((1.0, 5.0), (3.0, 0.0))
    x = torch.from_numpy(np.stack([normal(20, mean=1, std=3), np.full(20, 5.0)], 1))
    nats = -pl.bits_per_dim(Wide(), x, units, bin=None, steps=50) * math.log(2)
    truth = torch.distributions.Normal(1.0, 3.0).log_prob(x[:, 0])
    torch.testing.assert_close(nats.double(), truth, atol=1e-4, rtol=0)
    assert float(in_units(torch.zeros(1), (2,), units)) == pytest.approx(-math.log(3))
    with pytest.raises(ValueError, match=r"x\[:, 1\] must be 5, .* got 6 in row 2"):
        pl.bits_per_dim(Wide(), x + torch.eye(20)[:, [1, 2]], units, bin=None, steps=2)


def test_flow_matcher_samples_a_constant_as_it_is(value=0.1):  # refused before
    x = np.column_stack([normal(60), np.full(60, value), normal(60)])
    model = pl.FlowMatcher(max_steps=0, random_state=0).fit(x)
    made = model.sample(40)
    assert made.shape == (40, 3) and (made[:, 1] == value).all() and np.ptp(made[:, 0]) > 1
    without = pl.FlowMatcher(max_steps=0, random_state=0).fit(x[:, ::2])
    assert model.score_samples(x) == pytest.approx(without.score_samples(x[:, ::2]))
    x[3, 1] += abs(value)
    assert np.isneginf(model.score_samples(x)[3])


# ---- levels


def saved(x, suffix):
    file = io.BytesIO()
    Image.fromarray(x).save(file, suffix)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_a_grey_picture_of_16_bits_keeps_its_levels(suffix):  # got before: 0 to 255
    x = DRAW.integers(0, 1 << 16, (6, 5), dtype="uint16")
    found = picture_of(saved(x, suffix))
    assert found.dtype == np.uint16 and np.array_equal(found, x[None])
    flat = np.full((40, 40), 40_001, "uint16")
    assert (picture_of(saved(flat, suffix), 8) == 40_001).all()


def test_a_folder_of_16_bits_has_its_levels(tmp_path):
    x = DRAW.integers(0, 1 << 16, (8, 6, 5), dtype="uint16")
    x[0, 0, :2] = 0, 65535
    for k, each in enumerate(x):
        (tmp_path / f"{k}.png").write_bytes(saved(each, "PNG"))
    samples = pl.ImageFolderSource(str(tmp_path)).load()
    assert np.array_equal(samples.x[:, 0], x) and samples.units == pl.Normalisation(32767.5, 32767.5)
    (tmp_path / "8.png").write_bytes(saved(np.full((6, 5), 3, "uint8"), "PNG"))
    assert (pl.ImageFolderSource(str(tmp_path)).load().x[8] == 3 * 257).all()


RANGES = {  # integers of an array: what is brought to -1 and 1; None: each channel to mean 0 and standard deviation 1
    "8 bits": ("uint8", 256, (0, 255)),
    "16 bits": ("uint16", 65536, (0, 65535)),
    "12 bits of 16": ("uint16", 4096, None),
    "digits saved as bytes": ("uint8", 17, None),
    "whole numbers": ("int64", 256, None),
}


@pytest.mark.parametrize(("dtype", "levels", "ends"), RANGES.values(), ids=RANGES)
def test_integer_pictures_have_the_range_of_their_type(tmp_path, dtype, levels, ends):
    np.save(tmp_path / "x.npy", DRAW.integers(0, levels, (50, 1, 8, 8)).astype(dtype))
    units = pl.FileSource(str(tmp_path / "x.npy")).load().units
    if ends is None:
        assert units.scale == (pytest.approx(levels / math.sqrt(12), rel=0.05),)
    else:
        assert units == pl.Normalisation(ends[1] / 2, ends[1] / 2)


@pytest.mark.parametrize("axis", [1, -1])
def test_an_alpha_that_never_changes_is_kept_as_it_is(tmp_path, axis):
    x = DRAW.integers(0, 256, (20, 4, 8, 8)).astype("uint8")
    x[:, 3] = 255
    np.savez(tmp_path / "x.npz", x=np.moveaxis(x, 1, axis))
    units = pl.FileSource(str(tmp_path / "x.npz"), kind="auto").load().units
    assert units == pl.Normalisation((127.5, 127.5, 127.5, 255.0), (127.5, 127.5, 127.5, 0.0))
    assert (units.back(torch.randn(9, 4, 8, 8))[:, 3] == 255).all()


def test_digits_and_pictures_of_8_bits_are_normalised_as_ever():
    assert DigitsSource().load().units == pl.Normalisation(8.0, 8.0)
    assert pl.ShapesSource().load().units == pl.Normalisation(127.5, 127.5)


# ---- from file to samples


def made_by(tmp_path, capsys, data, *flags):
    run, out = tmp_path / "run", tmp_path / f"made{'.csv' if data.suffix == '.csv' else '.npz'}"
    assert main(["train", *flags, "--data", str(data), *TINY, "--out", str(run)]) == 0
    said = "".join(capsys.readouterr())
    assert main(["sample", str(run), "--count", "64", "--steps", "8", "--out", str(out)]) == 0
    return run, out, said


def test_channels_come_back_in_their_own_units(tmp_path, capsys):  # got before: 4 +- 15 for the humidity
    x = np.stack([normal(80, 8, 8, mean=280, std=5), normal(80, 8, 8, mean=0.010, std=0.002)], 1)
    np.savez(tmp_path / "air.npz", x=with_one(x.astype("float32"), 1e4))
    run, out, said = made_by(tmp_path, capsys, tmp_path / "air.npz", "images")
    made = np.load(out)["x"]
    assert made.mean((0, 2, 3)) == pytest.approx([280, 0.010], rel=0.1)
    assert made.std((0, 2, 3)) == pytest.approx([5, 0.002], rel=0.3)
    assert "channel 2 0.01" in said and "lie far outside the others" in said
    assert "channel 2 0.01" in (run / "README.md").read_text()


@pytest.mark.slow
def test_a_constant_column_is_sampled_and_left_out_of_the_likelihood(tmp_path, capsys):  # got before: 4.88 to 5.03
    rows = "".join(f"{a:.6f},5,{c:.6f}\n" for a, c in normal(80, 2))
    (tmp_path / "flat.csv").write_text("a,b,c\n" + rows)
    run, out, said = made_by(tmp_path, capsys, tmp_path / "flat.csv", "vectors")
    assert "always the same, and so in samples: 'b' = 5" in said
    assert all(line.split(",")[1] == "5.0" for line in out.read_text().splitlines()[1:])
    assert main(["likelihood", str(run), "--count", "5", "--steps", "4"]) == 0
    assert "left out, as they never change and have no density: 'b' = 5" in capsys.readouterr().out
    (tmp_path / "other.csv").write_text("a,b,c\n0,5,0\n0,6,0\n")
    assert main(["likelihood", str(run), "--data", str(tmp_path / "other.csv"), "--steps", "4"]) == 2
    assert "'b' must be 5" in capsys.readouterr().err


# ---- pictures


@pytest.mark.parametrize(
    ("channels", "has_alpha", "shape", "said"),
    [
        (1, False, (1, 4, 5), ""),
        (2, False, (1, 4, 11), "2 channels side by side"),  # refused before
        (3, False, (3, 4, 5), ""),
        (4, False, (1, 4, 23), "4 channels side by side"),
        (4, True, (3, 4, 5), "alpha over white"),
        (31, False, (3, 4, 5), "channels 1, 16 and 31 of 31 as red, green and blue"),
    ],
)
def test_images_of_any_channels_are_drawn_by_a_rule_that_is_said(channels, has_alpha, shape, said):
    x = DRAW.random((6, channels, 4, 5))
    drawn = drawable(x, has_alpha=has_alpha)
    assert drawn.shape == (6, *shape) and rule_of(channels, has_alpha) == said
    assert np.array_equal(drawn[:, 0, :, :5], x[:, 0]) or has_alpha
    ax = pl.plots.image_grid(x, 3, has_alpha=has_alpha)
    assert ax.get_title() == said
    assert np.asarray(ax.images[0].get_array()).max() <= 1
    if has_alpha:
        assert drawn == pytest.approx(x[:, :3] * x[:, 3:] + 1 - x[:, 3:])


def test_high_values_are_white_unless_the_data_is_ink():  # before, all grey pictures were drawn inverted
    x = np.array([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    assert np.array_equal(drawable(x), x) and np.array_equal(drawable(x, is_ink=True), 1 - x)
    assert pl.plots.image_grid(x, 1).images[0].get_cmap().name == "gray"
    assert DigitsSource().load().is_ink and not pl.ShapesSource().load().is_ink


@pytest.mark.parametrize(
    ("low", "high", "black"),
    [((0, 0, 0), (1, 0.5, 0.9), [0] * 3), ((0, 0, 250), (1, 0.01, 300), [0, 0, 250])],
    ids=["colours", "fields"],
)
def test_three_channels_share_their_range_where_they_are_colours(low, high, black):
    found = value_range(pl.Normalisation((0.0,) * 3, (1.0,) * 3, tuple(low), tuple(high)))
    assert np.broadcast_to(found[0].ravel(), 3).tolist() == black


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "dtype"), [(2, "float32"), (4, "uint8"), (7, "float64")])
def test_a_run_on_images_of_any_channels_is_drawn(tmp_path, capsys, channels, dtype):  # failed after the training
    x = (255 * DRAW.random((60, channels, 8, 8))).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    run, _, said = made_by(tmp_path, capsys, tmp_path / "x.npy", "images", "--preview-every", "3")
    assert f"pictures: {rule_of(channels, dtype == 'uint8')}" in said
    names = {path.name for path in (run / "samples").iterdir()}
    assert {"grid.png", "noise-to-data.gif", "loss.png", "preview-00000003.png"} <= names
    assert main(["edit", str(run), "--count", "3", "--steps", "4"]) == 0
    assert main(["sample", str(run), "--count", "3", "--steps", "4"]) == 0
    assert {"edit.png", "sample.png"} <= {path.name for path in (run / "samples").iterdir()}
