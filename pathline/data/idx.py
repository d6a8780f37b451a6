"""IDX files, as MNIST has them: 0, 0, the type, the dimensions, the size of each in 4 bytes, then all that it holds.

The type must be 8, for numbers from 0 to 255. Images have three dimensions, (images, height, width); their labels, one
for each image, are in a file beside them, `train-labels-idx1-ubyte` for `train-images-idx3-ubyte`.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from pathline.data.cache import About, Block, CachedSource, files_of
from pathline.data.pictures import LEVELS, MOST, is_handwriting
from pathline.data.rows import BLOCK

NAME = re.compile(r"(ubyte|\.idx\d?)(\.gz)?$", re.IGNORECASE)
UBYTE = 8
DENSE, SMALL = 256, 1 << 24  # bytes to one of gzip, beyond so many bytes: images have about 5, a bomb has 1,000


@dataclass(frozen=True)
class IDXSource(CachedSource):
    """Grey images from an IDX file, gzipped or not, as levels from 0 to 255 of shape `(1, height, width)`.

    Attributes:
        path: Of the file of images, or of a folder with one: if there are several, the one with train in its name.
    """

    path: str

    def identity(self) -> Mapping[str, Any]:
        """The files of images and of labels."""
        images, labels = self._files()
        return {"files": files_of([images, *([labels] if labels else [])])}

    def read(self) -> Iterator[Block | About]:
        """All images, and their labels if they have any.

        Raises:
            ValueError: If a file is cut short, too long, of another type, or declares more than it can hold.
        """
        path, path_of_labels = self._files()
        used: set[int] = set()
        with ExitStack() as stack:
            images = stack.enter_context(_opened(path))
            count, height, width = _sizes(images, path, "images")
            labels = None
            if path_of_labels:
                labels = stack.enter_context(_opened(path_of_labels))
                (found,) = _sizes(labels, path_of_labels, "labels")
                if found != count:
                    raise ValueError(f"{path_of_labels} must have a label for each of {count:,} images, got {found:,}")
            many = max(1, BLOCK // (height * width))
            for begin in range(0, count, many):
                some = min(many, count - begin)
                x = np.frombuffer(_read(images, path, some * height * width), np.uint8)
                y = {}
                if labels and path_of_labels:
                    y = {"class": np.frombuffer(_read(labels, path_of_labels, some), np.uint8).astype(np.int64)}
                    used |= set(y["class"].tolist())
                yield Block(x.reshape(some, 1, height, width), y)
            _finish(images, path)
            if labels and path_of_labels:
                _finish(labels, path_of_labels)
        values = sorted(used)
        of_classes = f"in {len(values)} classes" if values else "without classes, as no file of labels is beside it"
        yield About(
            title=f"{path.name}: {count:,} grey images of {width} x {height} pixels, {of_classes}",
            source=path.name,
            classes=tuple(map(str, values)),
            normalisation=LEVELS,
            is_ink=is_handwriting(str(path.resolve())),
            relabel=tuple(values.index(k) if k in used else 0 for k in range(max(values, default=-1) + 1)),
        )

    def _files(self) -> tuple[Path, Path | None]:
        """The file of images, and that of labels if there is one."""
        path = Path(self.path)
        if path.is_dir():
            path = _train_images(path)
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        if "images" not in path.name:
            return path, None
        name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
        beside = [path.with_name(name), path.with_name(f"{name}.gz")]
        return path, next((labels for labels in beside if labels.is_file()), None)


def idx_files(folder: Path) -> list[Path]:
    """Those of images, by their names; one that is gzipped only where it is not unpacked as well."""
    found = {path.name: path for path in sorted(folder.iterdir()) if "images" in path.name and NAME.search(path.name)}
    return [path for name, path in found.items() if name.removesuffix(".gz") == name or name[:-3] not in found]


def _train_images(folder: Path) -> Path:
    found = idx_files(folder)
    of_train = [path for path in found if "train" in path.name] or found
    if len(of_train) == 1:
        return of_train[0]
    names = ", ".join(path.name for path in of_train)
    raise ValueError(f"{folder} must hold one IDX file of images to train on, got {names or 'none'}; name the file")


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _sizes(file: BinaryIO, path: Path, what: str) -> tuple[int, ...]:
    """The size of each dimension, from the header; the file can hold what it declares."""
    dimensions = {"images": 3, "labels": 1}[what]
    magic = _read(file, path, 4)
    if magic[:2] != b"\0\0" or magic[2] != UBYTE or magic[3] != dimensions:
        raise ValueError(
            f"{path} must be an IDX file of {what}, which begins with the bytes 0 0 {UBYTE} {dimensions}, got "
            f"{' '.join(map(str, magic))}"
        )
    sizes = tuple(np.frombuffer(_read(file, path, 4 * dimensions), ">u4").tolist())
    declared, length = math.prod(sizes), path.stat().st_size
    if not declared or math.prod(sizes[1:]) > MOST:
        raise ValueError(f"{path} must hold {what}, each of 1 to {MOST:,} pixels, got the sizes {sizes}")
    if path.suffix.lower() == ".gz":
        if declared > max(SMALL, DENSE * length):
            raise ValueError(
                f"{path} declares {declared:,} bytes in {length:,} of gzip, as a decompression bomb does; if it is "
                "none, unpack it with gunzip"
            )
    elif length != 4 + 4 * dimensions + declared:
        raise ValueError(
            f"{path} must have the {4 + 4 * dimensions + declared:,} bytes that it declares, got {length:,}; it is cut "
            "short or damaged, copy it again"
        )
    return sizes


def _finish(file: BinaryIO, path: Path) -> None:
    """Nothing follows; the sum of a gzip file is checked at its end."""
    if _read(file, path, 1, is_end=True):
        raise ValueError(f"{path} holds more than it declares; it is damaged, copy it again")


def _read(file: BinaryIO, path: Path, length: int, is_end: bool = False) -> bytes:
    try:
        found = file.read(length)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is no whole gzip file: {error}; copy it again") from None
    if len(found) < length and not is_end:
        raise ValueError(f"{path} is cut short; copy it again")
    return found
