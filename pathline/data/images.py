"""Folders of images, in the layouts that Hugging Face's imagefolder reads.

    FOLDER/cat/1.png  FOLDER/dog/2.png       a class for each folder, and those inside it
    FOLDER/1.png      FOLDER/2.png           no classes
    FOLDER/metadata.jsonl                    a line for each image:
                                             {"file_name": "1.png", "label": "cat", "text": "a cat asleep"}
    FOLDER/metadata.csv, .parquet            the same in columns: file_name, label, text
    FOLDER/1.txt                             the caption of 1.png, beside classes from folders, or from metadata
    FOLDER/train/...  FOLDER/test/...        one of these, for each part: the one called train is read

Hidden files (of them `._1.png`, which macOS writes), texts, tables and names in capitals without a suffix (LICENSE) are
passed over; whatever else is no image is bad. Every bad file is told of, before anything is trained.
"""

from __future__ import annotations

import hashlib
import math
import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pathline.data.cache import About, Block, CachedSource, state_of
from pathline.data.captions import caption_of, key_of, told, without_text
from pathline.data.classes import EXACT, ROUNDED, Condition, check_numbers, number, refuse_unique
from pathline.data.credits import credit_of
from pathline.data.metadata import KINDS, OF_CAPTIONS, lines, metadata_in, text_of, texts_beside
from pathline.data.normalisation import Levels
from pathline.data.pictures import Entry, blocks_of, in_order, of_bad, of_depth, settle, units_of
from pathline.specs import did_you_mean

CONVENTIONS = 2  # of metadata that are read, so that what was read by fewer is read again
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
UNTOLD = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # of a name that is no text, or would break a line
NO_IMAGES = {".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".db", ".ini"}
NO_IMAGES |= {".parquet"}


@dataclass(frozen=True)
class ImageFolderSource(CachedSource):
    """Images from a folder, as levels of shape `(1, height, width)` if all are grey, else `(3, ...)`.

    Levels are from 0 to 255, or from 0 to 65,535 if there are images of 16 bits; what has 8 of them is widened then.
    Alpha is laid over white, CMYK and palettes become red, green and blue, and EXIF is obeyed.
    Damaged, empty and animated files are bad.

    Attributes:
        path: Of the folder.
        size: Of the sides, N or HEIGHTxWIDTH: images are resized until both are filled, and what is beyond is cut; as
            they are, unless given.
        is_forgiving: Whether bad files are left out, with a warning that names them.
        label: The key in the metadata that holds the class; unless given, label where there is one, and neither
            numbers nor captions are asked for.
        numbers: The keys in the metadata that hold numbers to condition on, with commas between them.
        text: The key in the metadata that holds the caption, or True for the one called text, else caption, else the
            .txt beside each image; captions are not used unless given. An empty one means no text, and an image without
            one is bad.
        may_differ: Whether each image may have a class of its own, as few may that are read to be scored.
    """

    path: str
    size: int | str = 0
    is_forgiving: bool = False
    label: str = ""
    numbers: str = ""
    text: str | bool = False
    may_differ: bool = False

    def identity(self) -> Mapping[str, Any]:
        """The folder, the options, and a hash of the names and states of all files."""
        found = hashlib.sha256()
        for name, state in self._files():
            found.update(f"{name}\0{state}\0".encode(errors="surrogateescape"))
        options = {"size": self.size, "forgiving": self.is_forgiving, "label": self.label, "numbers": self.numbers}
        options |= {"text": key_of(self.text), "conventions": CONVENTIONS}
        options |= {"may_differ": True} if self.may_differ else {}
        return {"path": str(Path(self.path).resolve()), "files": found.hexdigest(), **options}

    def read(self) -> Iterator[Block | About]:
        """All images, checked.

        Raises:
            ValueError: If there is none, one is bad, two have different sizes, or the metadata is wrong in a line or of
                several kinds.
        """
        names = [name for name, _ in self._files()]
        odd = next(filter(UNTOLD.search, names), None)
        if odd is not None:
            raise ValueError(f"the names of files in {self.path} must be letters, got {odd!r}; rename it")
        tops = {name.partition("/")[0] for name in names if "/" in name}
        part = "train/" if "train" in tops and {top.lower() for top in tops} <= PARTS else ""
        metadata = metadata_in(names, self.path, part)
        wanted = [name for name in names if name.startswith(part) and _may_be_image(name)]
        texts, bad = texts_beside(names, wanted), list[str]()
        if metadata:
            rows, numbers = self._by_line(metadata, wanted, part, bad, texts)
        elif self.label or self.numbers or (self.text and not (texts and self.text is True)):
            raise ValueError(
                f"label, numbers and text name keys of {KINDS[0]}, got "
                f"{self.label or self.numbers or key_of(self.text)!r} for {self.path}, which has no metadata "
                f"({', '.join(KINDS)}), where the folders are the classes; a caption may also stand in a .txt beside "
                "each image"
            )
        else:
            rows, numbers = self._captioned(self._by_folder(wanted, part, bad), texts, bad), ()
        known: dict[str, dict[str, int]] = {"class": {}, "text": {}}
        count, empty, shape, levels = 0, 0, (0, 0, 0), Levels()
        for block in blocks_of(
            (Entry(row.name, Path(self.path) / row.name, row.y) for row in rows), self.size, known, bad
        ):
            count, shape = count + len(block.x), block.x.shape[1:]
            levels.add(block.x)
            empty += without_text(block.y, known["text"])
            yield block
        where = f"{self.path}/{part[:-1]}" if part else self.path
        left_out = settle(bad, count, "images", where, self.is_forgiving)
        classes, captions = in_order(known["class"]), tuple(known["text"])
        what, way_out = ("labels", "leave them out") if metadata else ("folders", "put the images into one folder")
        if not self.may_differ:
            refuse_unique(f"{where}: its {what}", len(classes), count, way_out)
        name = Path(self.path).resolve().name  # of all the path, this may be told in a model's card
        credit = credit_of(wanted, name)
        kind = f"{'grey' if shape[0] == 1 else 'coloured'} images of {shape[2]} x {shape[1]} pixels{of_depth(levels)}"
        of_classes = f" in {len(classes):,} classes" if classes else ""
        unused = "; its captions are not used (--text words conditions on them)"
        of_text = told(len(captions), empty) if self.text else unused if any(row.has_caption for row in rows) else ""
        yield About(
            title=f"{name}{part and '/'}{part[:-1]}: {count:,} {kind}{of_classes}{of_text}{of_bad(bad)}",
            licence=credit.licence,
            source=credit.source,
            classes=classes,
            numbers=numbers,
            normalisation=units_of(levels),
            relabel=tuple(map(classes.index, known["class"])),
            captions=captions,
            left_out=left_out,
        )

    def _files(self) -> list[tuple[str, list[int]]]:
        """Names below the folder, and states, of all files that are not hidden, in the names' order."""
        if not Path(self.path).is_dir():
            raise ValueError(f"there is no folder {self.path}")
        return sorted(_walk(self.path, "", set()))

    def _by_folder(self, wanted: list[str], part: str, bad: list[str]) -> list[_Row]:
        """Each image with the folder that it is in, if there are such."""
        tops = {name: name.removeprefix(part).partition("/")[0] for name in wanted if "/" in name.removeprefix(part)}
        if not tops:
            return [_Row(name) for name in wanted]
        bad += [
            f"{name} lies beside the folders of classes, and so has no class" for name in wanted if name not in tops
        ]
        with os.scandir(Path(self.path) / part) as found:
            folders = sorted(each.name for each in found if each.is_dir() and not _is_hidden(each.name))
        full = set(tops.values())
        bad += [f"{part}{name}/ is a folder without an image" for name in folders if name not in full]
        return [_Row(name, {"class": top}) for name, top in tops.items()]

    def _captioned(self, rows: list[_Row], texts: Mapping[str, str], bad: list[str]) -> list[_Row]:
        """The same rows with the captions that stand in a .txt beside each image, if captions are used."""
        found: list[_Row] = []
        for row in rows:
            text = texts.get(row.name)
            if not self.text:
                found.append(row._replace(has_caption=text is not None))
                continue
            try:
                if text is None:
                    raise ValueError(f"has no caption: no {posixpath.splitext(row.name)[0]}.txt is beside it")
                caption = caption_of(" ".join(text_of(Path(self.path) / text).split()), text)
            except ValueError as error:
                bad.append(f"{row.name} {error}")
            else:
                found.append(row._replace(y={**row.y, "text": caption}, has_caption=True))
        return found

    def _by_line(
        self, metadata: str, wanted: list[str], part: str, bad: list[str], texts: Mapping[str, str]
    ) -> tuple[list[_Row], tuple[str, ...]]:
        """Each image that the metadata names with its conditions, and the names of the numbers."""
        found = list(lines(Path(self.path), metadata, set(wanted), part, bad))
        all_keys = {key: None for _, _, row in found for key in row}
        keys = {key: None for key in all_keys if key not in ("file_name", "text")}
        numbers = tuple(name.strip() for name in self.numbers.split(",") if name.strip())
        check_numbers(numbers, self.label)
        for key in (self.label, *numbers):
            if key and key not in keys and found:
                raise ValueError(f"no line of {self.path}/{metadata} has the key {key!r}{did_you_mean(key, keys)}")
        text = key_of(self.text)
        of_captions = next((key for key in OF_CAPTIONS if key in all_keys), "")
        if self.text is True:
            text = of_captions or text
        is_beside = self.text is True and bool(texts)
        if is_beside and of_captions:
            example = next(iter(texts.values()))
            raise ValueError(
                f"captions must stand in one place, got {of_captions!r} in {self.path}/{metadata} and {len(texts):,} "
                f".txt files beside images, such as {example}; remove those, or the key"
            )
        if text and found and text not in all_keys and not is_beside:
            raise ValueError(
                f"no line of {self.path}/{metadata} has the key {text!r}, which holds the caption of its image; add "
                "them, or leave out text"
            )
        of_words = not metadata.endswith((".jsonl", ".parquet"))  # where all that is written are words
        label = self.label or ("label" if "label" in keys and not (numbers or text) else "")
        rows: list[_Row] = []
        for where, name, row in found:
            y: dict[str, Condition] = {}
            try:
                y |= {"class": _class(row, label)} if label else {}
                y |= {"numbers": tuple(_number(row, key, of_words) for key in numbers)} if numbers else {}
                y |= {"text": caption_of(row.get(text), text)} if text and not is_beside else {}
            except (ValueError, OverflowError) as error:
                bad.append(f"{where}: {name} {error}")
            else:
                rows.append(_Row(name, y, any(key in row for key in OF_CAPTIONS)))
        named = {name for _, name, _ in found}
        bad += [f"{name} is not named in {metadata}" for name in wanted if name not in named]
        return self._captioned(rows, texts, bad) if texts and not of_captions else rows, numbers


class _Row(NamedTuple):
    """An image by name, its conditions, and whether it has a caption."""

    name: str
    y: Mapping[str, Condition] = {}
    has_caption: bool = False


def _walk(folder: str, prefix: str, seen: set[str]) -> Iterator[tuple[str, list[int]]]:
    real = os.path.realpath(folder)
    if real in seen:  # a link may lead back
        return
    seen.add(real)
    with os.scandir(folder) as found:
        for each in found:
            if _is_hidden(each.name):
                continue
            if each.is_dir():
                yield from _walk(each.path, f"{prefix}{each.name}/", seen)
            elif each.is_file() or each.is_symlink():  # a link to nothing is a bad file
                yield prefix + each.name, state_of(each.stat(follow_symlinks=each.is_file()))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _may_be_image(name: str) -> bool:
    stem, suffix = posixpath.splitext(posixpath.basename(name))
    return suffix.lower() not in NO_IMAGES and bool(suffix or not stem.isupper())


def _class(row: dict[str, Any], label: str) -> str:
    value = row.get(label)
    if not isinstance(value, str | int) or value == "":
        raise ValueError(f"needs a class in {label!r}, a word or a whole number, got {value!r}")
    return str(value)


def _number(row: dict[str, Any], key: str, of_words: bool) -> float:
    value = row.get(key)
    if of_words and isinstance(value, str):
        value = value if (found := number(value)) is None else found
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"needs a finite number in {key!r}, got {value!r}")
    if isinstance(value, int) and abs(value) >= EXACT:
        raise ValueError(f"needs {ROUNDED} in {key!r}, got {value}")
    return float(value)
