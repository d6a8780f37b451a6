"""Folders of images, in the layouts that Hugging Face's imagefolder reads.

    FOLDER/cat/1.png  FOLDER/dog/2.png       a class for each folder, and those inside it
    FOLDER/1.png      FOLDER/2.png           no classes
    FOLDER/metadata.jsonl                    a line for each image:
                                             {"file_name": "1.png", "label": "cat", "text": "a cat asleep"}
    FOLDER/train/...  FOLDER/test/...        one of these, for each part: the one called train is read

Hidden files (of them `._1.png`, which macOS writes), texts, tables and names in capitals without a suffix (LICENSE) are
passed over; whatever else is no image is bad. Every bad file is told of, before anything is trained.
"""

from __future__ import annotations

import hashlib
import json
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
from pathline.data.classes import EXACT, ROUNDED, Condition, check_numbers, refuse_unique
from pathline.data.credits import credit_of
from pathline.data.normalisation import Levels
from pathline.data.pictures import Entry, blocks_of, in_order, of_bad, of_depth, settle, units_of
from pathline.specs import did_you_mean

METADATA = "metadata.jsonl"
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
UNTOLD = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # of a name that is no text, or would break a line
NO_IMAGES = {".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".db", ".ini"}


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
        label: The key in metadata.jsonl that holds the class; unless given, label where there is one, and neither
            numbers nor captions are asked for.
        numbers: The keys in metadata.jsonl that hold numbers to condition on, with commas between them.
        text: The key in metadata.jsonl that holds the caption, or True for the one called text; captions are not used
            unless given. An empty one means no text, and an image without that key is bad.
    """

    path: str
    size: int | str = 0
    is_forgiving: bool = False
    label: str = ""
    numbers: str = ""
    text: str | bool = False

    def identity(self) -> Mapping[str, Any]:
        """The folder, the options, and a hash of the names and states of all files."""
        found = hashlib.sha256()
        for name, state in self._files():
            found.update(f"{name}\0{state}\0".encode(errors="surrogateescape"))
        options = {"size": self.size, "forgiving": self.is_forgiving, "label": self.label, "numbers": self.numbers}
        options |= {"text": key_of(self.text)}
        return {"path": str(Path(self.path).resolve()), "files": found.hexdigest(), **options}

    def read(self) -> Iterator[Block | About]:
        """All images, checked.

        Raises:
            ValueError: If there is none, one is bad, two have different sizes, or metadata.jsonl is wrong in a line.
        """
        names = [name for name, _ in self._files()]
        odd = next(filter(UNTOLD.search, names), None)
        if odd is not None:
            raise ValueError(f"the names of files in {self.path} must be letters, got {odd!r}; rename it")
        tops = {name.partition("/")[0] for name in names if "/" in name}
        part = "train/" if "train" in tops and {top.lower() for top in tops} <= PARTS else ""
        metadata = next((name for name in (part + METADATA, METADATA) if name in names), "")
        wanted = [name for name in names if name.startswith(part) and _may_be_image(name)]
        bad: list[str] = []
        if metadata:
            rows, numbers = self._by_line(metadata, wanted, part, bad)
        elif self.label or self.numbers or self.text:
            raise ValueError(
                f"label, numbers and text name keys of {METADATA}, got "
                f"{self.label or self.numbers or key_of(self.text)!r} for {self.path}, which has no {METADATA}; there, "
                "the folders are the classes"
            )
        else:
            rows, numbers = self._by_folder(wanted, part, bad), ()
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

    def _by_line(
        self, metadata: str, wanted: list[str], part: str, bad: list[str]
    ) -> tuple[list[_Row], tuple[str, ...]]:
        """Each image that metadata.jsonl names with its conditions, and the names of the numbers."""
        found = list(_lines(Path(self.path), metadata, set(wanted), part, bad))
        keys = {key: None for _, _, row in found for key in row if key not in ("file_name", "text")}
        numbers = tuple(name.strip() for name in self.numbers.split(",") if name.strip())
        check_numbers(numbers, self.label)
        for key in (self.label, *numbers):
            if key and key not in keys and found:
                raise ValueError(f"no line of {self.path}/{metadata} has the key {key!r}{did_you_mean(key, keys)}")
        text = key_of(self.text)
        if text and found and not any(text in row for _, _, row in found):
            raise ValueError(
                f"no line of {self.path}/{metadata} has the key {text!r}, which holds the caption of its image; add "
                "them, or leave out text"
            )
        label = self.label or ("label" if "label" in keys and not (numbers or text) else "")
        rows: list[_Row] = []
        for where, name, row in found:
            y: dict[str, Condition] = {}
            try:
                y |= {"class": _class(row, label)} if label else {}
                y |= {"numbers": tuple(_number(row, key) for key in numbers)} if numbers else {}
                y |= {"text": caption_of(row.get(text), text)} if text else {}
            except (ValueError, OverflowError) as error:
                bad.append(f"{where}: {name} {error}")
            else:
                rows.append(_Row(name, y, "text" in row))
        named = {name for _, name, _ in found}
        bad += [f"{name} is not named in {metadata}" for name in wanted if name not in named]
        return rows, numbers


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


def _lines(
    root: Path, metadata: str, names: set[str], part: str, bad: list[str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The lines of metadata.jsonl that name an image of this part: where they are, the image, and all that they say."""
    told: set[str] = set()
    for number, line in enumerate((root / metadata).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{metadata}, line {number}"
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            bad.append(f"{where} is not JSON: {error}")
            continue
        given = row.get("file_name") if isinstance(row, dict) else None
        if not isinstance(given, str):
            bad.append(f'{where} needs a "file_name", got {line.decode().strip()[:60]}')
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(metadata), given))
        if given.startswith("/") or ".." in given.split("/"):
            bad.append(f"{where} must name a file inside the folder, got {given!r}")
        elif not name.startswith(part):
            continue
        elif name not in names or name in told:
            bad.append(
                f"{where} names {given!r}, " + ("which is not there" if name not in names else "as one before it")
            )
        else:
            told.add(name)
            yield where, name, row


def _class(row: dict[str, Any], label: str) -> str:
    value = row.get(label)
    if not isinstance(value, str | int) or value == "":
        raise ValueError(f"needs a class in {label!r}, a word or a whole number, got {value!r}")
    return str(value)


def _number(row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"needs a finite number in {key!r}, got {value!r}")
    if isinstance(value, int) and abs(value) >= EXACT:
        raise ValueError(f"needs {ROUNDED} in {key!r}, got {value}")
    return float(value)
