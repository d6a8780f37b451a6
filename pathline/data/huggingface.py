"""Data sets of Hugging Face, by name or from a folder of Parquet files: read once, a row at a time, and kept.

    hf:ylecun/mnist    hf:uoft-cs/cifar10,test    hf:glue,train,mrpc    hf:path/to/folder

If a column holds images, these are the samples; else the columns of numbers are, as vectors. A column of classes is
the condition, or those that are named: of a class, numbers, a caption. No code of a data set is run. What a name stands
for may change: what was read is kept until its folder in the cache is removed. Needs the extra `data`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pathline.data.cache import About, Block, CachedSource, files_of
from pathline.data.captions import caption_of, key_of, told, without_text
from pathline.data.classes import EXACT, ROUNDED, Classes, Condition, check_numbers, numbered, stacked
from pathline.data.normalisation import Levels
from pathline.data.pictures import Entry, blocks_of, is_handwriting, of_bad, of_depth, settle, units_of
from pathline.specs import did_you_mean

ROWS = 4096  # in a block


@dataclass(frozen=True)
class HuggingFaceSource(CachedSource):
    """Images or rows of numbers from a data set of Hugging Face.

    Attributes:
        name: On the hub, or of a folder.
        split: The part that is read.
        subset: The one of several data sets under one name, which Hugging Face calls its configuration.
        size: Of the sides of images, N or HEIGHTxWIDTH: they are resized until both are filled, and what is beyond is
            cut; as they are, unless given.
        is_forgiving: Whether bad rows are left out, with a warning that names them.
        label: The column that holds the class; unless given, label, or the one column whose type is that of classes,
            where neither numbers nor captions are asked for.
        numbers: The columns that hold numbers to condition on, with commas between them.
        text: The column that holds captions, or True for the one called text, else caption; they are not used unless
            given. An empty one means no text, and a row with none is bad.
    """

    name: str
    split: str = "train"
    subset: str = ""
    size: int | str = 0
    is_forgiving: bool = False
    label: str = ""
    numbers: str = ""
    text: str | bool = False

    def identity(self) -> Mapping[str, Any]:
        """The name and the options, and the files of a folder."""
        folder = Path(self.name)
        files = files_of(sorted(path for path in folder.rglob("*") if path.is_file())) if folder.is_dir() else []
        return {**vars(self), "text": key_of(self.text), "files": files}

    def read(self) -> Iterator[Block | About]:
        """All rows, checked.

        Raises:
            ValueError: If it cannot be reached, has no such column, or a row is bad.
        """
        rows, features, licence = self._open()
        numbers = tuple(name.strip() for name in self.numbers.split(",") if name.strip())
        text = key_of(self.text)
        if self.text is True and text not in features and "caption" in features:
            text = "caption"
        for name in filter(None, (self.label, *numbers, text)):
            if name not in features:
                raise ValueError(f"{self.name} has no column {name!r}{did_you_mean(name, features)}")
        check_numbers(numbers, self.label)
        label = self.label or ("" if numbers or text else _label(features))
        images = [name for name in features if _kind(features[name]) == "image"]
        vector = tuple(
            name
            for name in features
            if not images and _kind(features[name]) == "number" and name not in (label, *numbers)
        )
        if len(images) > 1 or not (images or vector):
            raise ValueError(
                f"{self.name} must have one column of images, or columns of numbers, got "
                f"{', '.join(f'{name} ({_kind(feature)})' for name, feature in features.items())}"
            )
        declared = tuple(getattr(features.get(label), "names", ()))
        bad: list[str] = []
        classes = Classes(f"{self.name}, column {label!r}", f"condition on them with --numbers {label}, ")
        conditioned = _conditioned(rows, label, declared, numbers, text, bad)
        known: dict[str, dict[str, int]] = {"class": classes.met, "text": {}}
        if images:
            entries = (Entry(where, _content(row[images[0]]), y) for where, row, y in conditioned)
            blocks = blocks_of(entries, self.size, known, bad)
        else:
            blocks = _vectors(conditioned, vector, known, bad)
        count, empty, shape, levels = 0, 0, tuple[int, ...](), Levels()
        for block in blocks:
            count, shape = count + len(block.x), block.x.shape[1:]
            levels.add(block.x)
            empty += without_text(block.y, known["text"])
            yield block
        left_out = settle(bad, count, "rows", f"{self.name}, {self.split}", self.is_forgiving)
        classes.count = count
        names, relabel = classes.finish(declared) if label else ((), ())
        what = (
            f"images of {shape[-1]} x {shape[1]} pixels{of_depth(levels)}"
            if images
            else f"samples of {len(vector)} numbers"
        )
        of_classes = f" in {len(names):,} classes" if names else ""
        captions = tuple(known["text"])
        of_text = told(len(captions), empty) if text else ""
        unused = [name for name in features if name not in (*images, *vector, label, *numbers, text)]
        not_read = f"; {', '.join(unused)} not used" if unused else ""
        is_folder = Path(self.name).is_dir()
        name = Path(self.name).resolve().name if is_folder else self.name  # a path is no one else's business
        yield About(
            title=f"{name}, {self.split}: {count:,} {what}{of_classes}{of_text}{not_read}{of_bad(bad)}",
            licence=licence or "not stated",
            source=name if is_folder else f"https://huggingface.co/datasets/{name}",
            classes=names,
            columns=vector,
            numbers=numbers,
            normalisation=units_of(levels) if images else None,
            is_ink=is_handwriting(self.name),
            relabel=relabel,
            captions=captions,
            left_out=left_out,
        )

    def _open(self) -> tuple[Iterator[dict[str, Any]], dict[str, Any], str]:
        """Its rows, the type of each column, and its licence."""
        try:
            import datasets
        except ImportError:
            raise ValueError('data sets of Hugging Face need a package: pip install "pathline[data]"') from None
        try:
            found = datasets.load_dataset(self.name, self.subset or None, split=self.split, streaming=True)
            features = found.features or datasets.Dataset.from_list(list(found.take(1))).features
        except Exception as error:  # it has no error of its own for all that can go wrong on the way
            raise ValueError(
                f"cannot read {self.name!r} of Hugging Face: {' '.join(str(error).split())}; check its name, its part "
                f"{self.split!r} (hf:NAME,PART) and the connection, or name a folder of Parquet files"
            ) from error
        for name, feature in features.items():
            if _kind(feature) == "image":
                found = found.cast_column(name, datasets.Image(decode=False))  # it is decoded here, with a limit
        return _rows(found, self.name), dict(features), found.info.license or ""


def _rows(found: Any, name: str) -> Iterator[dict[str, Any]]:
    try:
        yield from found
    except Exception as error:
        raise ValueError(f"{name!r} of Hugging Face broke off: {' '.join(str(error).split())}") from error


def _kind(feature: Any) -> str:
    name = type(feature).__name__
    if name == "Value":
        dtype = str(feature.dtype)
        return "number" if dtype.startswith(("int", "uint", "float")) else "word" if "string" in dtype else dtype
    return {"Image": "image", "ClassLabel": "class"}.get(name, name)


def _label(features: dict[str, Any]) -> str:
    """The column of classes that is meant where none is named: the one of that type, or else one called label."""
    found = [name for name, feature in features.items() if _kind(feature) == "class"]
    if "label" in found or (not found and _kind(features.get("label")) in ("number", "word")):
        return "label"
    if len(found) > 1:
        raise ValueError(f"label must name one of the columns of classes: {', '.join(found)}")
    return found[0] if found else ""


def _conditioned(
    rows: Iterator[dict[str, Any]],
    label: str,
    declared: tuple[str, ...],
    numbers: tuple[str, ...],
    text: str,
    bad: list[str],
) -> Iterator[tuple[str, dict[str, Any], dict[str, Condition]]]:
    """Each row with its place and its conditions."""
    for number, row in enumerate(rows, start=1):
        where = f"row {number}"
        y: dict[str, Condition] = {}
        if label:
            value = row[label]
            if declared and isinstance(value, int):
                value = declared[value] if 0 <= value < len(declared) else None
            if not isinstance(value, str | int) or value == "":
                bad.append(f"{where} needs a class in column {label!r}, a word or a whole number, got {row[label]!r}")
                continue
            y["class"] = str(value)
        if numbers:
            found = _finite(row, numbers, where, bad)
            if found is None:
                continue
            y["numbers"] = found
        if text:
            try:
                y["text"] = caption_of(row[text], text)
            except ValueError as error:
                bad.append(f"{where} {error}")
                continue
        yield where, row, y


def _finite(row: dict[str, Any], columns: tuple[str, ...], where: str, bad: list[str]) -> tuple[float, ...] | None:
    """The numbers of a row; None if one is wrong."""
    for name in columns:
        value = row[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            bad.append(f"{where} needs a finite number in column {name!r}, got {value!r}")
            return None
        if isinstance(value, int) and abs(value) >= EXACT:
            bad.append(f"{where} needs {ROUNDED} in column {name!r}, got {value}")
            return None
    return tuple(float(row[name]) for name in columns)


def _content(image: Any) -> bytes | Path:
    """What the file of an image holds, or where it is."""
    if image is None:
        return b""
    if image["bytes"] is not None:
        return bytes(image["bytes"])
    if Path(image["path"]).is_file():
        return Path(image["path"])
    import fsspec

    with fsspec.open(image["path"], "rb") as file:  # an address on the hub, or inside an archive
        return bytes(file.read())


def _vectors(
    rows: Iterator[tuple[str, dict[str, Any], dict[str, Condition]]],
    columns: tuple[str, ...],
    known: Mapping[str, dict[str, int]],
    bad: list[str],
) -> Iterator[Block]:
    held: list[tuple[tuple[float, ...], Any]] = []
    for where, row, y in rows:
        x = _finite(row, columns, where, bad)
        if x is not None:
            held.append((x, numbered(y, known)))
        if len(held) == ROWS:
            yield _block(held)
            held = []
    if held:
        yield _block(held)


def _block(held: list[tuple[tuple[float, ...], Any]]) -> Block:
    return Block(np.array([x for x, _ in held]), stacked([y for _, y in held]))
