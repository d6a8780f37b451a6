"""Samples in batches that fit memory, to files and folders that every command reads back, and from Python.

Before: all samples were made at once (10,000,000 of 4 columns took 15 GB), `--out FOLDER/` was refused, there was no
`pl.load`, and classes came in equal shares only.
"""

import csv
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline import model as model_module
from pathline.cli import sample as sample_command
from pathline.cli import written
from pathline.cli.main import main
from pathline.data.named import source_of
from pathline.runs import encoder_for
from pathline.training import checkpoint
from pathline.training.loop import adamw

FEW = ("--steps", 2)


def untrained(folder: Path, config: pl.Config) -> Path:
    """A run of a model that was not trained, but whose last layer is not 0, so that conditions matter."""
    training, held_out = config.load().split(config.held_out, config.seed)
    run = pl.Run.create(folder, config, training, encoder=encoder_for(config, training), held_out=held_out)
    field = run.new_field()
    generator = torch.Generator().manual_seed(0)
    for value in field.parameters():
        value.data += 0.1 * torch.randn(value.shape, generator=generator)
    checkpoint.save(folder, 0, field, pl.EMA(field), adamw(config.loss(field), 1e-3))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def table(folder) -> Path:
    """A run on a table with a class of whole numbers from 7 on: three in four samples are of the first."""
    rows = "".join(f"{i}.5,{i * i % 11},{7 if i % 4 else 9}\n" for i in range(80))
    (folder / "table.csv").write_text("height,weight,kind\n" + rows)
    return untrained(
        folder / "table",
        pl.Config(data=str(folder / "table.csv"), label="kind", network="mlp", width=8, depth=1),
    )


@pytest.fixture(scope="module")
def numbered(folder) -> Path:
    """A run conditioned on two numbers."""
    rows = "".join(f"{i}.5,{i * i % 11},{20 + i % 5},{100 + i % 9}\n" for i in range(80))
    (folder / "doses.csv").write_text("height,weight,age,dose\n" + rows)
    return untrained(
        folder / "numbered",
        pl.Config(data=str(folder / "doses.csv"), numbers="age,dose", network="mlp", width=8, depth=1),
    )


@pytest.fixture(scope="module")
def told(folder) -> Path:
    """A run conditioned on captions of different lengths."""
    captions = np.array(["a cat", "a very long dog asleep", "no bird"] * 20)
    np.savez(folder / "told.npz", x=np.random.default_rng(0).normal(size=(60, 3)), y=captions)
    return untrained(
        folder / "told",
        pl.Config(data=str(folder / "told.npz"), text="words", network="mlp", width=8, depth=1),
    )


def pictures(folder: Path, mode: str = "L") -> Path:
    """A folder of images of 8 bits or 16, in two folders of classes."""
    generator = np.random.default_rng(0)
    for i in range(24):
        place = folder / ("cat" if i % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        if mode == "I;16":
            levels = generator.integers(0, 65536, (8, 8)).astype(np.uint16)
        else:
            levels = generator.integers(0, 256, (8, 8) if mode == "L" else (8, 8, 3)).astype(np.uint8)
        Image.fromarray(levels).save(place / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def images(folder) -> Path:
    """A run on coloured images in two classes."""
    data = pictures(folder / "pictures", "RGB")
    return untrained(folder / "images", pl.Config(data=str(data), width=8, depth=1))


def sampled(run, out, *words) -> int:
    return main(["sample", *map(str, (run, "--out", out, *words))])


def arrays(run, out, *words) -> dict[str, np.ndarray]:
    assert sampled(run, out, *FEW, *words) == 0
    with np.load(out) as found:
        return dict(found)


# ---- batches


@pytest.mark.parametrize(
    "way",
    [
        "--sigma 1",
        *(
            pytest.param(way, marks=pytest.mark.slow)
            for way in ("--sampler dpm:2", "--sampler dopri5:1e-3", "--grid curvature")
        ),
    ],
)
def test_samples_do_not_depend_on_the_size_of_a_batch(way, table, tmp_path):
    words = ["--count", 23, "--seed", 5, *way.split()]
    words += [] if "dopri5" in way else FEW
    found = []
    for size in (1, 7, 23, 1000):
        assert sampled(table, tmp_path / "x.npz", *words, "--batch-size", size) == 0
        found.append(dict(np.load(tmp_path / "x.npz")))
    for other in found[1:]:
        assert np.allclose(other["x"], found[0]["x"], rtol=1e-5, atol=1e-4) and (other["y"] == found[0]["y"]).all()


@pytest.mark.slow
def test_few_batches_are_in_memory_at_a_time(table, tmp_path, monkeypatch):
    # before: all samples, their noise and what the network makes of them at once
    alive, most, sizes, real = [], [], [], model_module.batches

    def batches(*arguments, **keywords):
        for batch in real(*arguments, **keywords):
            alive.append(weakref.ref(batch.x))
            sizes.append(len(batch.x))
            most.append(sum(ref() is not None for ref in alive))
            yield batch
            del batch

    monkeypatch.setattr(sample_command, "batches", batches)
    for name in ("x.npz", "x.csv"):
        assert sampled(table, tmp_path / name, *FEW, "--count", 40_000) == 0
    assert max(sizes) <= 1 << 14 and sum(sizes) == 80_000 and max(most) <= 3


@pytest.mark.parametrize(("width", "side", "most"), [(64, 32, 200), (128, 256, 4)])
def test_a_batch_of_images_is_as_large_as_a_gigabyte_takes(width, side, most, table):
    run = pl.Run.open(table)
    config = pl.Config(data="digits", width=width)
    found = model_module.at_once(pl.Run(run.folder, config, (3, side, side), (), pl.Normalisation(0.0, 1.0)))
    assert most / 4 <= found <= most


def test_a_default_count_is_one_batch(images, table):
    assert min(model_module.at_once(pl.Run.open(run)) for run in (images, table)) >= 100


def test_it_is_told_how_far_it_is(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pathline.cli.progress.LEAST", 0.0)
    assert sampled(table, tmp_path / "x.npz", *FEW, "--count", 50, "--batch-size", 10) == 0
    assert "20 of 50 samples" in capsys.readouterr().err


def test_an_interrupt_in_mid_stream_leaves_what_was_there(table, tmp_path, monkeypatch):
    before, real = arrays(table, tmp_path / "x.npz"), model_module.batches

    def batches(*arguments, **keywords):
        yield next(real(*arguments, **keywords))
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_command, "batches", batches)
    assert sampled(table, tmp_path / "x.npz", *FEW, "--batch-size", 10) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert (np.load(tmp_path / "x.npz")["x"] == before["x"]).all()


def test_too_many_images_for_one_picture_are_refused_before_the_work(images, tmp_path, capsys):
    # before: matplotlib's words on 65,536 pixels, after all the work
    assert sampled(images, tmp_path / "x.png", "--count", 100_000) == 2
    assert "FOLDER/" in capsys.readouterr().err


def test_a_batch_of_none_is_refused(table, tmp_path, capsys):
    assert sampled(table, tmp_path / "x.npz", "--batch-size", 0) == 2
    assert "--batch-size must be at least 1" in capsys.readouterr().err


# ---- files


def test_an_npz_is_one_that_numpy_saves_and_pathline_reads(table, tmp_path):
    out = tmp_path / "x.npz"
    found = arrays(table, out, "--count", 9, "--batch-size", 4)
    assert found["x"].shape == (9, 2) and found["x"].dtype == np.float64
    assert found["y"].tolist() == [7, 9] * 4 + [7] and found["y"].dtype == np.int64
    samples = source_of(str(out)).load()
    assert (samples.x[:].numpy() == found["x"]).all() and samples.classes == ("7", "9")
    np.savez(tmp_path / "same.npz", **found)
    assert out.stat().st_size == (tmp_path / "same.npz").stat().st_size


@pytest.mark.slow
def test_words_of_all_lengths_are_in_one_array(told, tmp_path):
    (tmp_path / "prompts.txt").write_text("cat\nvery long dog asleep\n")
    out = tmp_path / "x.npz"
    found = arrays(told, out, "--count", 5, "--batch-size", 1, "--prompts", tmp_path / "prompts.txt")
    assert found["y"].tolist() == ["cat", "very long dog asleep", "cat", "very long dog asleep", "cat"]
    assert found["y"].dtype.kind == "U"


def test_words_of_all_lengths_are_in_one_array_over_many_pieces(told, tmp_path, monkeypatch):
    monkeypatch.setattr(written, "CHUNK", 2)
    test_words_of_all_lengths_are_in_one_array(told, tmp_path)


@pytest.mark.slow
def test_a_table_is_the_same_in_any_batches(numbered, tmp_path):
    texts = []
    for size in (3, 100):
        assert sampled(numbered, tmp_path / "x.csv", *FEW, "--count", 10, "--batch-size", size) == 0
        texts.append((tmp_path / "x.csv").read_text())
    rows = [list(csv.reader(text.splitlines())) for text in texts]
    assert rows[0][0] == rows[1][0] == ["height", "weight", "age", "dose"] and len(rows[0]) == 11
    assert np.allclose(*(np.array(each[1:], float) for each in rows), rtol=1e-5)


# ---- folders


@pytest.mark.parametrize("mode", [*(pytest.param(m, marks=pytest.mark.slow) for m in ("L", "RGB")), "I;16"])
def test_single_images_are_read_back_with_their_classes(mode, tmp_path, capsys):
    run = untrained(tmp_path / "run", pl.Config(data=str(pictures(tmp_path / "data", mode)), width=8, depth=1))
    out = tmp_path / "made"
    words = ("--count", 7, "--seed", 1, "--batch-size", 3)
    assert sampled(run, f"{out}/", *FEW, *words) == 0
    found = arrays(run, tmp_path / "x.npz", *words)
    samples = source_of(str(out)).load()
    assert [path.name for path in sorted(out.glob("*.png"))] == [f"{i:06}.png" for i in range(7)]
    most = 65535 if np.max(pl.Run.open(run).normalisation.ends) > 255 else 255
    assert (samples.x[:].numpy() == np.clip(np.rint(found["x"]), 0, most)).all()
    assert [samples.classes[k] for k in samples.y["class"].tolist()] == found["y"].tolist()
    assert main(["likelihood", str(run), "--data", str(out), "--steps", "2", "--count", "2"]) == 0
    assert "without" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_folder_of_samples_is_replaced_until_it_changes(images, tmp_path, capsys):
    out = tmp_path / "made"
    out.mkdir()
    for count in (3, 2):  # an existing folder needs no slash
        assert sampled(images, out, *FEW, "--count", count) == 0
    assert {path.name for path in out.iterdir()} == {"000000.png", "000001.png", "metadata.jsonl"}
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(out / "000001.png")
    before = (out / "000001.png").read_bytes()
    assert sampled(images, out, *FEW) == 2 and "has changed since" in capsys.readouterr().err
    assert (out / "000001.png").read_bytes() == before
    assert sampled(images, out, *FEW, "--count", 1, "--overwrite") == 0
    (out / "thesis.tex").write_text("mine")
    assert sampled(images, out, *FEW, "--overwrite") == 2 and "thesis.tex" in capsys.readouterr().err
    assert (out / "thesis.tex").read_text() == "mine" and len([*tmp_path.iterdir()]) == 1


def test_single_images_of_vectors_are_refused_with_the_way_out(table, tmp_path, capsys):
    assert sampled(table, f"{tmp_path / 'new'}/") == 2
    said = capsys.readouterr().err
    assert "folder" in said and ".npz" in said and not (tmp_path / "new").exists()


def test_an_interrupted_folder_is_as_it_was(images, tmp_path, monkeypatch):
    real = written._save_image

    def save(levels, path):
        if path.stem == "000002":
            raise KeyboardInterrupt
        real(levels, path)

    monkeypatch.setattr(written, "_save_image", save)
    assert sampled(images, f"{tmp_path / 'made'}/", *FEW) == 130 and not [*tmp_path.iterdir()]


# ---- from Python


def test_a_model_samples_as_the_command_does(table, tmp_path):
    model = pl.load(table)
    assert isinstance(model.field, pl.NetworkField) and not model.field.training
    assert model.config == pl.Run.open(table).config
    found = arrays(table, tmp_path / "x.npz", "--count", 5, "--seed", 3)["x"]
    assert (model.sample(5, seed=3, steps=2).numpy() == found).all()
    assert np.allclose(model.sample(5, seed=3, steps=2, batch_size=2), found, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("y", [9, "9", np.int64(9), 9.0, [9, 9, 9], np.array([9, 9, 9]), {"class": 9}, torch.tensor(9)])
def test_a_class_is_given_as_the_user_writes_it(y, table, tmp_path):
    found = arrays(table, tmp_path / "x.npz", "--count", 3, "--class", 9)["x"]
    assert (pl.load(table).sample(3, y, seed=0, steps=2).numpy() == found).all()


def test_an_index_is_taken_where_the_command_takes_it(table, tmp_path):
    found = arrays(table, tmp_path / "x.npz", "--count", 3, "--class", 1)["x"]
    assert (pl.load(table).sample(3, 1, seed=0, steps=2).numpy() == found).all()


@pytest.mark.parametrize("y", [(22, 104), [[22, 104]] * 3, torch.tensor([22.0, 104.0]), {"numbers": (22, 104)}])
def test_numbers_are_given_in_their_units(y, numbered, tmp_path):
    found = arrays(numbered, tmp_path / "x.npz", "--count", 3, "--numbers", "22,104")["x"]
    assert (pl.load(numbered).sample(3, y, seed=0, steps=2).numpy() == found).all()


def test_a_prompt_is_given_in_words(told, tmp_path):
    found = arrays(told, tmp_path / "x.npz", "--count", 3, "--prompt", "a cat", "--guidance", 2)["x"]
    model = pl.load(str(told))
    for prompt in ("a cat", ["a cat"] * 3):
        assert (model.sample(3, prompt=prompt, seed=0, steps=2, guidance=2.0).numpy() == found).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"y": 8}, "7, 9"),
        ({"y": [7, 9]}, "3 samples"),
        ({"prompt": "a cat"}, "without any"),
        ({"y": {"numbers": 3}}, "y must be"),
        ({"guidance": float("nan")}, "finite"),
        ({"count": 0}, "count"),
        ({"count": 2.5}, "count"),
        ({"batch_size": -1}, "batch_size"),
    ],
)
def test_what_a_model_cannot_take_is_refused(given, said, table):
    with pytest.raises(ValueError, match=said):
        pl.load(table).sample(**{"count": 3, "steps": 1, **given})


# ---- shares of classes


def test_classes_have_the_shares_of_the_training_data(table, tmp_path):
    words = ("--count", 4000, "--class-shares", "data", "--seed", 2)
    y = arrays(table, tmp_path / "x.npz", *words)["y"]
    share, training = (y == 7).mean(), 0.75
    assert abs(share - training) < 4.42 * (training * (1 - training) / 4000) ** 0.5  # false alarms 1e-5
    again = arrays(table, tmp_path / "x.npz", "--count", 700, "--class-shares", "data", "--seed", 2, "--batch-size", 90)
    assert (again["y"] == y[:700]).all() and not (y[:700] == y[700:1400]).all()


def test_equal_shares_are_the_default(table, tmp_path):
    for words in ((), ("--class-shares", "equal")):
        assert arrays(table, tmp_path / "x.npz", "--count", 6, *words)["y"].tolist() == [7, 9] * 3


@pytest.mark.parametrize(("words", "said"), [(("--class", 7), "leave out one"), ((), "without any")])
def test_shares_that_cannot_be_are_refused(words, said, table, numbered, tmp_path, capsys):
    run = table if words else numbered
    assert sampled(run, tmp_path / "x.npz", "--class-shares", "data", *words) == 2
    assert said in capsys.readouterr().err


def test_metadata_is_lines_of_what_training_reads(images, tmp_path):
    assert sampled(images, f"{tmp_path / 'made'}/", *FEW, "--count", 2) == 0
    lines = [*map(json.loads, (tmp_path / "made" / "metadata.jsonl").read_text().splitlines())]
    assert lines == [{"file_name": "000000.png", "label": "cat"}, {"file_name": "000001.png", "label": "dog"}]
