"""Captions are read in the conventions that people have them in, or it is said what is wrong, by file and row."""

import json
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from pathline.cli.main import main
from pathline.data import metadata
from pathline.data.images import ImageFolderSource

pyarrow = pytest.importorskip("pyarrow")

NAMES = ["1.png", "2.png", "x/3.png"]
CAPTIONS = ["a cat, asleep", "", "zwei Hünde"]
AGES = [1, 2.5, 3]


def pictures(folder, names=NAMES):
    for k, name in enumerate(names, 1):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), 10 * k, np.uint8)).save(folder / name)


def table(folder, kind, key="text", name="metadata"):
    rows = [{"file_name": n, key: c, "age": a} for n, c, a in zip(NAMES, CAPTIONS, AGES, strict=True)]
    path = folder / f"{name}.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif kind == "csv":
        lines = [f'{row["file_name"]},"{row[key]}",{row["age"]}' for row in rows]
        path.write_text("\ufeff" + "\r\n".join([f"file_name,{key},age", *lines]), encoding="utf-8")
    else:
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def beside(folder, names=NAMES):
    for name, caption in zip(names, CAPTIONS, strict=True):
        (folder / name).with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")


def read(folder, **options):
    return ImageFolderSource(str(folder), **options).load()


def shown(samples):
    """The caption of each picture, by its level."""
    return {int(x.max()) // 10: samples.captions[k] for x, k in zip(samples.x, samples.conditions["text"], strict=True)}


# before, only metadata.jsonl with the key text: others were passed over, and "has no metadata.jsonl" was said
@pytest.mark.parametrize("key", ["text", "caption"])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_captions_and_numbers_are_read_from_metadata_of_each_kind(tmp_path, kind, key):
    pictures(tmp_path)
    table(tmp_path, kind, key)
    assert shown(read(tmp_path, text=True)) == dict(enumerate(CAPTIONS, 1))
    samples = read(tmp_path, text=True, numbers="age")
    assert sorted(samples.conditions["numbers"][:, 0].tolist()) == AGES
    assert "captions are not used (--text words" in read(tmp_path).title


def test_captions_are_read_from_a_text_beside_each_image(tmp_path):
    names = ["cat/1.png", "cat/2.png", "dog/3.png"]
    pictures(tmp_path, names)
    beside(tmp_path, names)
    (tmp_path / "notes.txt").write_text("of no image")
    samples = read(tmp_path, text=True)
    assert shown(samples) == dict(enumerate(CAPTIONS, 1))
    assert [samples.classes[k] for k in samples.conditions["class"]] == ["cat", "cat", "dog"]
    plain = read(tmp_path)
    assert list(plain.conditions) == ["class"] and "captions are not used (--text words" in plain.title


def test_texts_stand_beside_metadata_without_captions(tmp_path):
    pictures(tmp_path)
    table(tmp_path, "csv", key="breed")
    beside(tmp_path)
    samples = read(tmp_path, text=True, numbers="age")
    assert shown(samples) == dict(enumerate(CAPTIONS, 1)) and sorted(samples.conditions) == ["numbers", "text"]


def refused(folder, **options):
    with pytest.raises(ValueError) as error:
        read(folder, **options)
    return str(error.value)


def test_several_conventions_are_named(tmp_path):
    pictures(tmp_path)
    table(tmp_path, "csv")
    beside(tmp_path)
    told = refused(tmp_path, text=True)
    assert "got 'text' in" in told and "metadata.csv and 3 .txt files beside images, such as 1.txt" in told
    table(tmp_path, "jsonl")
    assert "one file of metadata, got metadata.jsonl and metadata.csv; keep one" in refused(tmp_path, text=True)


def test_what_is_missing_or_wrong_is_named_by_file_and_row(tmp_path):
    names = ["1.png", "2.png", "3.png"]
    pictures(tmp_path, names)
    beside(tmp_path, names)
    (tmp_path / "2.txt").unlink()
    (tmp_path / "3.txt").write_bytes(b"\xff\xfe\xfa")
    told = refused(tmp_path, text=True)
    assert "2.png has no caption: no 2.txt is beside it" in told
    assert "3.png has 3.txt beside it, which is not text in UTF-8" in told and "--skip-bad" in told
    with pytest.warns(UserWarning, match=r"2.png has no caption"):
        assert len(read(tmp_path, text=True, is_forgiving=True)) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file_name,text\n1.png,a\n2.png,b\n", "x/3.png is not named in metadata.csv"),
        ("file_name,text\n1.png,a\n2.png,b\n4.png,c\n", "metadata.csv, line 4 names '4.png', which is not there"),
        ("file_name,text\n1.png,a\n2.png\nx/3.png,c\n", "metadata.csv, line 3 needs 2 cells, got 1"),
        ('file_name,text\n1.png,"a\nb"\n,b\nx/3.png,c\n', 'metadata.csv, line 4 needs a "file_name", got'),
        ("name,text\n1.png,a\n", "must have a column 'file_name' that names each image, got 'name', 'text'"),
        ("file_name,words\n1.png,a\n2.png,b\nx/3.png,c\n", "no line of"),
        ("", "must have a column 'file_name' that names each image, got none"),
    ],
)
def test_metadata_in_csv_that_is_wrong_is_told_by_its_line(tmp_path, content, said):
    pictures(tmp_path)
    (tmp_path / "metadata.csv").write_text(content)
    assert said in refused(tmp_path, text=True)


def test_a_row_of_parquet_without_a_caption_is_named(tmp_path):
    from pyarrow import parquet

    pictures(tmp_path)
    rows = [{"file_name": name, "text": text} for name, text in zip(NAMES, ["a", None, "b"], strict=True)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    assert "metadata.parquet, row 2: 2.png needs a caption in 'text'" in refused(tmp_path, text=True)


def test_each_file_is_gone_through_once(tmp_path):
    pictures(tmp_path)
    table(tmp_path, "csv", key="breed")
    beside(tmp_path)
    with (
        patch("pathline.data.metadata._of_csv", side_effect=metadata._of_csv) as rows,
        patch("pathline.data.images.text_of", side_effect=metadata.text_of) as texts,
    ):
        read(tmp_path, text=True)
    assert rows.call_count == 1 and texts.call_count == 3


@pytest.mark.slow
def test_the_command_trains_on_captions_of_a_csv(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pathline.cli.train.draw_all", lambda run, training: None)
    monkeypatch.setattr("pathline.cli.train.write_card", lambda *_: None)
    names = [f"{k}.png" for k in range(12)]
    data = tmp_path / "data"
    data.mkdir()
    pictures(data, names)
    rows = [f"{name},shade {k % 3}" for k, name in enumerate(names)]
    (data / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    tiny = "--text words --depth 1 --width 8 --batch-size 4 --steps 2 --device cpu".split()
    assert main(["train", "images", "--data", str(data), "--out", str(tmp_path / "run"), *tiny]) == 0
    assert "with 3 different captions" in " ".join(capsys.readouterr().out.split())
