"""Data sets of Hugging Face, from folders that it writes: what is read is what was written. Nothing is downloaded."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.data.named import source_of

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 256, (6, 5, 4), dtype="uint8")


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """The package, kept from the network and from the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        package = pytest.importorskip("datasets")
        package.disable_progress_bars()
        patch.setattr(package.config, "HF_HUB_OFFLINE", True)
        yield package


def file_of(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def write(datasets, tmp_path):
    """What writes a folder of Parquet, a column for each argument, and gives its name."""

    def make(split="train", **columns) -> str:
        features = {}
        for name, values in columns.items():
            if isinstance(values, tuple):  # values, and what they are
                columns[name], features[name] = values
            elif isinstance(values[0], bytes):
                columns[name], features[name] = [{"bytes": each, "path": None} for each in values], datasets.Image()
            else:
                kind = {int: "int64", float: "float64", str: "string", bool: "bool"}[type(values[0])]
                features[name] = datasets.Value(kind)
        found = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        found.to_parquet(str(tmp_path / "set" / f"{split}.parquet"))
        return f"hf:{tmp_path / 'set'}"

    return make


def refused(name: str, *options, **more) -> str:
    with pytest.raises(ValueError) as error:
        source_of(name, *options, **more).load()
    return str(error.value)


def test_images_and_their_classes_are_read_in_the_order_of_the_set(datasets, write):
    kinds = datasets.ClassLabel(names=["wolf", "ant", "bee"])
    name = write(image=[file_of(x) for x in X], label=([2, 0, 2, 0, 0, 2], kinds), note=list("abcdef"))
    samples = source_of(name).load()
    assert np.array_equal(samples.x[:], X[:, None]) and samples.normalisation == pl.Normalisation(127.5, 127.5)
    assert samples.classes == ("wolf", "bee") and samples.y["class"].tolist() == [1, 0, 1, 0, 0, 1]
    assert "6 images of 4 x 5 pixels in 2 classes; note not used" in samples.title
    assert source_of(name, size=4).load().shape == (1, 4, 4)
    write("test", image=[file_of(x) for x in X[:2]], label=([1, 1], kinds))
    assert len(source_of(f"{name},test").load()) == 2 and len(source_of(name).load()) == 6
    assert "Bad split: tests" in refused(f"{name},tests")


def test_one_coloured_image_makes_all_of_three_channels(write):
    coloured = np.stack([X[0], X[1], X[2]], -1)
    samples = source_of(write(image=[file_of(X[0]), file_of(coloured)])).load()
    assert np.array_equal(samples.x[:], [np.stack([X[0]] * 3), coloured.transpose(2, 0, 1)]) and not samples.y


def test_numbers_are_vectors_and_one_column_their_condition(write):
    name = write(a=[1.5, 2.5, 3.5], b=[1, 2, 1], kind=["u", "v", "u"], is_old=[True, False, True])
    samples = source_of(name).load()
    assert samples.x.tolist() == [[1.5, 1], [2.5, 2], [3.5, 1]] and samples.columns == ("a", "b")
    assert not samples.y and samples.normalisation is None and "kind, is_old not used" in samples.title
    samples = source_of(name, "kind").load()
    assert samples.classes == ("u", "v") and samples.y["class"].tolist() == [0, 1, 0]
    samples = source_of(name, "b").load()
    assert samples.x.tolist() == [[1.5], [2.5], [3.5]] and samples.classes == ("1", "2")
    samples = source_of(name, "", "b").load()
    assert samples.y["numbers"].tolist() == [[1], [2], [1]] and samples.numbers == ("b",) and samples.columns == ("a",)


def test_bad_rows_are_all_named_or_left_out(datasets, write):
    bomb = file_of(X[0])
    bomb = bomb.replace(b"IHDR\0\0\0\x04\0\0\0\x05", b"IHDR\0\0\xff\xff\0\0\xff\xff")
    kinds = datasets.ClassLabel(names=["p", "q"])
    name = write(image=[file_of(X[0]), b"hello", file_of(X[1]), b"", bomb], label=([0, 1, -1, 1, 0], kinds))
    told = refused(name)
    assert "4 of 5 rows" in told and "row 2 is no image" in told and "row 4 is empty" in told
    assert "row 3 needs a class in column 'label'" in told and "row 5 " in told
    for _ in range(2):  # the second time, from the cache
        with pytest.warns(UserWarning, match="set: 4 of 5 rows cannot be used, and are left out:\n  row 2"):
            samples = source_of(name, skip_bad=True).load()
    assert samples.title.startswith("set, train: 1 images") and samples.title.endswith("; 4 bad ones left out")
    assert len(samples) == 1 and samples.classes == ("p",)
    told = refused(write(a=[1.0, None, float("nan"), float("inf")]))
    assert all(f"row {k} needs a finite number in column 'a'" in told for k in (2, 3, 4)) and "row 1" not in told


def test_a_column_that_is_missing_or_one_of_several_is_named(datasets, write):
    name = write(a=[1.0, 2.0], kind=["u", "v"])
    assert "has no column 'knd'; did you mean 'kind'?" in refused(name, "knd")
    assert "must have one column of images, or columns of numbers" in refused(name, "kind", "a")
    assert "numbers must name other columns than label, got 'a' for both" in refused(name, "a", "a")
    assert "numbers must name different columns, got 'a' twice" in refused(name, "", "a, a")
    assert "has no column 'text'" in refused(name, text=True)
    assert "row 1 needs a caption in 'a', words or \"\" for none, got 1.0" in refused(name, text="a")
    assert "must have one column of images, or columns of numbers, got kind (word)" in refused(write(kind=["u", "v"]))
    kinds = datasets.ClassLabel(names=["p", "q"])
    assert "label must name one of the columns of classes: c, d" in refused(
        write(a=[1.0], c=([0], kinds), d=([1], kinds))
    )


@pytest.mark.parametrize("is_image", [True, False])
def test_a_row_may_have_a_class_numbers_and_a_caption(datasets, write, is_image):
    kinds = datasets.ClassLabel(names=["wolf", "ant", "bee"])
    labels, ages, words = [2, 0, 2, 0, 0, 2], [1.5, 2, 3, 4, 5, 6], ["a bee", "", "a bee ", "one wolf", "", "many bees"]
    x = {"image": [file_of(each) for each in X]} if is_image else {"a": [float(each.sum()) for each in X]}
    name = write(**x, label=(labels, kinds), age=ages, text=words)
    samples = source_of(name, "label", "age", text=True).load()
    assert np.array_equal(samples.x[:], X[:, None] if is_image else X.sum((1, 2))[:, None])
    assert list(samples.y) == ["class", "numbers", "text"]
    assert [samples.classes[k] for k in samples.y["class"]] == [kinds.names[k] for k in labels]
    assert samples.y["numbers"].tolist() == [[age] for age in ages] and samples.numbers == ("age",)
    assert [samples.captions[k] for k in samples.y["text"]] == [each.strip() for each in words]
    assert "in 2 classes with 4 different captions, 2 of the samples with an empty one" in samples.title
    alone = source_of(name, text="text").load()  # a class that nobody asked for is left alone
    assert torch.equal(alone.y["text"], samples.y["text"]) and alone.classes == () and "label" in alone.title
    assert list(source_of(name).load().conditions) == ["class"]


def test_a_row_without_a_caption_is_bad(write):
    name = write(image=[file_of(x) for x in X[:3]], text=["one", None, ""])
    assert "1 of 3 rows" in (said := refused(name, text=True)) and "row 2 needs a caption in 'text'" in said
    with pytest.warns(UserWarning, match="row 2"):
        samples = source_of(name, skip_bad=True, text=True).load()
    assert samples.captions == ("one", "") and samples.y["text"].tolist() == [0, 1]
    assert "text not used" in source_of(name).load().title


def test_labels_all_different_and_numbers_too_large_are_refused(datasets, write):
    name = write(a=[1.0, 2.0, 3.0], word=list("uvw"), id=[1, 2, 3])
    assert "column 'word' must be classes, got a different one for each of the 3 samples; leave" in refused(
        name, "word"
    )
    assert "column 'id' must be classes" in refused(name, "id") and "--numbers id" in refused(name, "id")
    name = write(a=[1.0, 2.0, 3.0], id=[1, 2, 2**53 + 1])
    assert "row 3 needs a whole number below 2**53" in refused(name, "", "id")


def test_what_cannot_be_reached_is_said(datasets, tmp_path, monkeypatch):
    assert "cannot read 'nobody/nothing' of Hugging Face: Couldn't reach" in refused("hf:nobody/nothing")
    assert "check its name" in refused(f"hf:{tmp_path / 'nothing'}")
    assert "unknown data 'hf:'" in refused("hf:")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert 'pip install "pathline[data]"' in refused("hf:some/thing")


def test_a_changed_folder_is_read_again(write):
    name = write(a=[1.0, 2.0])
    assert source_of(name).load().x.tolist() == [[1], [2]]
    write(a=[1.0, 2.0, 3.0])
    assert source_of(name).load().x.tolist() == [[1], [2], [3]]
