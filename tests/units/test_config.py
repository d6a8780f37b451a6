"""Settings: from presets, files and plain values, checked one by one."""

import json
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.config import config_from, config_from_toml, presets, source_of
from pathline.data.digits import DigitsSource
from pathline.data.distributions import Distribution
from pathline.runs import encoder_for
from pathline.specs import catalogue

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("name", presets())
def test_a_preset_builds_all_its_parts(name, tmp_path):
    config = pl.load_config(name)
    if not config.data:  # for a file of one's own
        torch.manual_seed(0)
        shape = (50, 3) if config.network == "mlp" else (50, 1, 8, 8)
        np.save(tmp_path / "own.npy", torch.randn(shape).numpy())
        config = replace(config, data=str(_captioned(tmp_path) if config.uses_text else tmp_path / "own.npy"))
    training, _ = config.load().split(config.held_out, config.seed)
    begin = config.load_start(training.shape, training.units)
    encoder = encoder_for(config, training)
    form = None if encoder is None else encoder.form
    loss = config.loss(config.field(training.shape, len(training.classes), text=form), begin)
    assert loss.drop == (config.drop if training.conditions else 0.0)
    assert loss.field.path == (pl.BridgePath() if config.is_bridge else pl.GaussianPath(pl.LinearSchedule()))


def _captioned(folder):
    """A folder of pictures, each with a caption of a pair of things."""
    with (folder / "metadata.jsonl").open("w") as lines:
        for i in range(50):
            Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
            lines.write(
                json.dumps({"file_name": f"{i}.png", "text": f"{'abcde'[i % 5]} with {'vwxyz'[i // 5 % 5]}"}) + "\n"
            )
    (folder / "own.npy").unlink()
    return folder


def test_a_bridge_begins_at_its_own_samples_in_the_units_of_the_data():
    config = pl.Config(data="toy:checkerboard,400", start="toy:rings:1,300", network="mlp", bridge=0.5)
    training, _ = config.load().split(0.2)
    begin = config.load_start((2,), training.units)
    assert torch.allclose(training.units.back(begin), pl.Rings(1).sample(300, 0), atol=1e-6)
    with pytest.raises(ValueError, match=r"start must have samples of the data's shape, \(1, 8, 8\), got \(2,\)"):
        config.load_start((1, 8, 8), training.units)
    assert pl.Config().load_start((1, 8, 8), training.units) is None
    with pytest.raises(ValueError, match="bridge must be 0 or more, and start name its samples"):
        pl.Config(bridge=0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction": "velocity"}, "infinite at an end of BridgePath"),
        ({"prediction": "velocity,score"}, "use weight balanced"),
        ({"prediction": "edm:0.5"}, "a bridge has no edm"),
        ({"prediction": "data"}, "it needs a score head"),
        ({"prediction": "data,score", "weight": "balanced"}, "must have a velocity head"),
        ({"prediction": "velocity,score", "weight": "error-as:velocity"}, "velocity cannot be read from score alone"),
    ],
)
def test_a_bridge_refuses_heads_that_it_cannot_be_read_from(change, said):
    config = replace(pl.Config(start="rings", bridge=0.5, network="mlp", data="moons"), **change)
    with pytest.raises(ValueError, match=said):
        config.loss(config.field((2,), 0), torch.zeros(3, 2))


def test_edm_wraps_the_network():
    field = pl.Config(network="mlp", prediction="edm:0.7", schedule="variance-exploding").field((2,), 3)
    assert isinstance(field.network, pl.Preconditioned) and field.network.sigma_data == 0.7
    assert field.prediction == pl.EDMPrediction(0.7) and int(field.null["class"]) == 3


def test_every_toy_has_a_preset():
    toys = set(catalogue(Distribution)) - {"gaussian-mixture", "normal"}  # these are no toys: they need tensors
    assert toys | {"digits", "images", "vectors", "circles-to-checkerboard", "shapes", "icons"} == set(presets())
    assert all(source_of(pl.load_config(name).data) == pl.ToySource(name) for name in toys)


@pytest.mark.parametrize(
    ("data", "label", "source"),
    [
        ("digits", "", DigitsSource()),
        ("rings:2", "", pl.ToySource("rings:2")),
        ("toy:rings,100,3", "", pl.ToySource("rings", 100, 3)),
        ("a/b.csv", "kind", pl.FileSource("a/b.csv", "kind")),
        ("my.NPZ", "", pl.FileSource("my.NPZ")),
        ("file:my.npy", "", pl.FileSource("my.npy")),
        ("a/train-images-idx3-ubyte.gz", "", pl.IDXSource("a/train-images-idx3-ubyte.gz")),
        ("my.idx", "", pl.IDXSource("my.idx")),
        ("hf:a/b", "", pl.HuggingFaceSource("a/b")),
        ("hf:12,test,3", "kind", pl.HuggingFaceSource("12", "test", "3", label="kind")),
    ],
)
def test_data_is_named_or_a_file(data, label, source):
    assert source_of(data, label) == source


def test_plain_values_go_through_json(tmp_path):
    config = pl.Config(steps=7, schedule="polynomial:2")
    assert config_from(json.loads(json.dumps(config.to_dict())), tmp_path) == config


def test_a_file_begins_from_its_preset(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('preset = "moons"\nsteps = 5\nema = 0\n')
    config = pl.load_config(str(path))
    assert config.to_dict() == pl.load_config("moons").to_dict() | {"steps": 5, "ema": 0.0}
    assert type(config.ema) is float


@pytest.mark.parametrize("value", ["true", "3.0", "'3'", "[3]"])
def test_a_value_of_another_type_is_refused(tmp_path, value):
    path = tmp_path / "a.toml"
    path.write_text(f"steps = {value}")
    with pytest.raises(ValueError, match=r"a\.toml: steps must be of type int"):
        config_from_toml(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, 0) for name in ("steps", "batch_size", "width", "depth", "log_every", "evaluate_every", "checkpoint_every")]
    + [(name, value) for name in ("drop", "ema", "warmup") for value in (-0.1, 1.0, float("nan"))]
    + [("held_out", 0.0), ("held_out", 1.0), ("learning_rate", 0.0), ("clip", -1.0), ("clip", float("nan"))]
    + [("seed", -1), ("seed", 2**63), ("guidance", float("nan")), ("weight_decay", -1.0)],
)
def test_a_value_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        pl.Config(**{name: value})


def test_the_same_seed_is_the_same_weights_and_torch_is_left_alone():
    config = pl.Config(network="mlp", width=8, seed=3)
    before = torch.get_rng_state()
    first, again = config.field((2,), 3).state_dict(), config.field((2,), 3).state_dict()
    other = pl.Config(network="mlp", width=8, seed=4).field((2,), 3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_two_predictions_are_two_heads():
    field = pl.Config(network="mlp", width=8, prediction="velocity, score").field((2,), 0)
    assert field.prediction == (pl.VELOCITY, pl.SCORE) and field.network.last.out_features == 4


def test_labels_are_dropped_only_where_there_are_some():
    config = pl.Config(network="mlp", width=8, drop=0.3)
    assert config.loss(config.field((2,), 0)).drop == 0 and config.loss(config.field((2,), 3)).drop == 0.3


def test_every_field_is_explained():
    import ast
    import inspect

    body = ast.parse(inspect.getsource(pl.Config)).body[0].body
    explained = {
        node.target.id
        for node, after in pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr)
    }
    assert explained == {field.name for field in fields(pl.Config)}


@pytest.mark.parametrize("prediction", ["velocity,velocity", "edm:0.5,edm:1"])
def test_a_head_is_named_once(prediction):
    with pytest.raises(ValueError, match="must name different heads, and edm once at most"):
        pl.Config(network="mlp", prediction=prediction).field((2,), 0)


def test_a_bridge_has_no_schedule():
    with pytest.raises(ValueError, match="schedule must be left out for a bridge"):
        pl.Config(start="rings", schedule="cosine")
