"""Arrays of NumPy in blocks, whatever their size: a .npy is looked at where it lies, an .npz is unpacked bit by bit.

Nothing is unpickled, as that would run whatever the file says; and a file that declares much more than it holds is
refused before it is unpacked.
"""

from __future__ import annotations

import errno
import io
import math
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pathline.data.cache import IN_MEMORY, About, Block, InFile, cache_folder, free_bytes
from pathline.data.classes import EXACT, ROUNDED, Classes, more, name_of
from pathline.data.mapped import Mapped
from pathline.data.source import BLOCK

DENSE, SMALL = 500, 1 << 26  # unpacked bytes to a packed one, beyond so many bytes: only a bomb, or blank, has more
LONGEST = 10_000  # bytes of a header: NumPy reads no longer ones, but has them in memory first
LOCAL = struct.Struct("<26xHH")  # of a zip's header before a member: the lengths of its name and of what is extra


@dataclass(frozen=True)
class Header:
    """What an array says of itself: its numbers' type, its shape, whether the first index runs fastest, its length."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool
    length: int

    @property
    def bytes(self) -> int:
        """The size of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row(self) -> int:
        """The size of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def read_arrays(path: Path) -> Iterator[Block | InFile | About]:
    """The samples of a .npy, or those of an .npz with their classes or numbers.

    Raises:
        ValueError: If it is damaged, holds what are no finite numbers, or declares more than it can hold.
    """
    with path.open("rb") as file:
        start = file.read(4)
    return _read_npz(path) if start[:2] == b"PK" else _read_npy(path)


def refuse_bomb(what: str, packed: int, unpacked: int, instead: str) -> None:
    """Refuses so many bytes that they cannot be what was packed.

    Raises:
        ValueError: If they are so many.
    """
    if unpacked > SMALL and unpacked > DENSE * packed:
        raise ValueError(
            f"{what} unpacks to {unpacked:,} bytes or more from {packed:,}, as only a decompression bomb does, or what "
            f"is blank; {instead}"
        )


def refuse_large(what: str, size: int) -> None:
    """Refuses what does not fit the disk.

    Raises:
        ValueError: If it does not.
    """
    if size > free_bytes():
        raise ValueError(
            f"{what} needs {size:,} bytes in {cache_folder()}, and {free_bytes():,} are free; name a folder with more "
            "room in PATHLINE_CACHE"
        )


def _read_npy(path: Path) -> Iterator[Block | InFile | About]:
    with _damaged(path), path.open("rb") as file:
        header = _header(file)
    _check_x(path, header)
    if path.stat().st_size < header.length + header.bytes:
        raise _unreadable(path)
    x = Mapped(path, header.dtype, header.shape, header.length, "F" if header.is_fortran else "C")
    if not header.is_fortran:  # in that order a row lies in many places
        yield InFile(str(path.resolve()), header.dtype.str, header.length)
    finite = _Finite(path, "x")
    for first in range(0, len(x), _rows(header)):
        yield Block(finite.checked(x.raw(slice(first, first + _rows(header)))))
    finite.finish()
    yield _about(path, header.shape)


def _read_npz(path: Path) -> Iterator[Block | InFile | About]:
    with _damaged(path), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if "x" not in members or not set(members) <= {"x", "y"}:
            got = ", ".join(sorted(members)[:9]) or "none"
            raise _Refused(
                f"{path} must hold an array x, and y if there are classes or numbers, got {got}; save it with "
                "numpy.savez(path, x=..., y=...)"
            )
        headers = {name: _member_header(path, archive, info) for name, info in members.items()}
        _check_x(path, headers["x"])
        classes = Classes(f"{path}: y", "save y[:, None] to condition on them as numbers, ")
        y: NDArray[Any] | None = None
        numbers: tuple[str, ...] = ()
        if "y" in members:
            y, numbers = _conditions(path, archive, members["y"], headers, classes)
        if members["x"].compress_type == zipfile.ZIP_STORED and not headers["x"].is_fortran:
            offset = _offset(path, members["x"]) + headers["x"].length
            yield InFile(str(path.resolve()), headers["x"].dtype.str, offset)
        finite, first = _Finite(path, "x"), 0
        for block in _blocks(archive, members["x"], headers["x"]):
            kind = "numbers" if numbers else "class"
            yield Block(finite.checked(block), {} if y is None else {kind: y[first : first + len(block)]})
            first += len(block)
        finite.finish()
        with _as_refused():
            names, relabel = classes.finish() if y is not None and not numbers else ((), ())
        yield _about(path, headers["x"].shape, names, numbers, relabel)


def _about(
    path: Path,
    shape: tuple[int, ...],
    classes: tuple[str, ...] = (),
    numbers: tuple[str, ...] = (),
    relabel: tuple[int, ...] = (),
) -> About:
    of_what = f"{shape[1]} numbers" if len(shape) == 2 else f"shape {shape[1:]}"
    title = f"{path.name}: {shape[0]:,} samples of {of_what}" + (f" in {len(classes)} classes" if classes else "")
    return About(title, source=path.name, classes=classes, numbers=numbers, relabel=relabel)


# ---- what arrays say of themselves


class _Refused(ValueError):
    """What is wrong is told already."""


def _unreadable(path: Path) -> ValueError:
    return _Refused(
        f"{path} cannot be read as arrays of numbers: it is damaged, or holds objects, which are not read, as that "
        "could run what the file says; save plain numbers, with numpy.save or numpy.savez"
    )


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except _Refused:
        raise
    except Exception as error:  # on damaged files, the readers of NumPy and of zips raise almost anything
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is for places before the start
            raise
        raise _unreadable(path) from error


def _header(file: IO[bytes]) -> Header:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError
    of_length = struct.Struct("<H" if version == (1, 0) else "<I")
    start = file.read(of_length.size)
    (length,) = of_length.unpack(start)
    if length > LONGEST:
        raise ValueError
    text = io.BytesIO(start + file.read(length))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that Python 2 wrote
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(text)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError
    whole = npy.MAGIC_LEN + of_length.size + length
    return Header(dtype, tuple(map(int, shape)), is_fortran and len(shape) > 1, whole)


def _member_header(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Header:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
        raise ValueError
    with archive.open(info) as file:
        header = _header(file)
    if header.length + header.bytes != info.file_size:
        raise ValueError
    name = f"{path}: {info.filename.removesuffix('.npy')}"
    if info.compress_type == zipfile.ZIP_DEFLATED:
        instead = "if it is whole, save it with numpy.savez, which does not pack it"
        with _as_refused():
            refuse_bomb(name, info.compress_size, info.file_size, instead)
            refuse_large(name, info.file_size)
    elif info.compress_size != info.file_size:
        raise ValueError
    return header


@contextmanager
def _as_refused() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise _Refused(str(error)) from error


def _offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a member that is not packed begins."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name, extra = LOCAL.unpack(file.read(LOCAL.size))
    return int(info.header_offset + LOCAL.size + name + extra)


def _check_x(path: Path, header: Header) -> None:
    shape = header.shape
    if header.dtype.kind not in "buif":
        raise _Refused(f"{path}: x must hold real numbers, got the type {header.dtype}")
    if len(shape) < 2 or not math.prod(shape):
        hint = "; for samples of one number each, save x[:, None]" if len(shape) == 1 and shape[0] else ""
        raise _Refused(f"{path}: x must have shape (samples, ...) with at least one sample, got {shape}{hint}")


# ---- what they hold


def _rows(header: Header) -> int:
    return max(1, BLOCK // max(1, header.row))


def _blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: Header) -> Iterator[NDArray[Any]]:
    """The rows of an array in a zip."""
    with archive.open(info) as file:
        file.read(header.length)
        many = _rows(header)
        if header.is_fortran:
            if header.bytes > IN_MEMORY:
                raise _Refused(
                    f"{archive.filename}: {info.filename.removesuffix('.npy')} lies in Fortran's order, in which a "
                    "large one cannot be unpacked; save it with numpy.ascontiguousarray"
                )
            many = header.shape[0]
        for first in range(0, header.shape[0], many):
            shape = (min(many, header.shape[0] - first), *header.shape[1:])
            data = _exactly(file, math.prod(shape) * header.dtype.itemsize)
            yield np.ndarray(shape, header.dtype, data, order="F" if header.is_fortran else "C")
        if file.read(1):  # this also reads to the end, where what was read is compared with its checksum
            raise ValueError


def _exactly(file: IO[bytes], size: int) -> bytes:
    pieces = []
    while size and (piece := file.read(min(size, BLOCK))):
        pieces.append(piece)
        size -= len(piece)
    if size:
        raise EOFError
    return b"".join(pieces)


class _Finite:
    """Looks for what are no finite numbers, or would be rounded: names the first, and counts the others."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.rows, self.count, self.first = 0, 0, ""

    def checked(self, block: NDArray[Any]) -> NDArray[Any]:
        """The same numbers, in a type that is not wider than float64."""
        block = block.astype(np.float64) if block.dtype.itemsize > 8 else block
        is_float = block.dtype.kind == "f"
        wrong = ~np.isfinite(block) if is_float else np.zeros(0, bool)
        if (
            not is_float
            and block.dtype.itemsize == 8
            and block.size
            and max(-int(block.min()), int(block.max())) >= EXACT
        ):
            wrong = np.abs(block.astype(np.float64)) >= EXACT  # what is beyond has not been rounded below
        if wrong.any():
            place = np.argwhere(wrong)[0].tolist()
            if not self.count:
                shown = [self.rows + place[0], *place[1:]]
                need = "a finite number" if is_float else ROUNDED
                self.first = f"{self.name}{shown} must be {need}, got {block[tuple(place)]}"
            self.count += int(wrong.sum())
        self.rows += len(block)
        return block

    def finish(self) -> None:
        """Raises if there was one."""
        if self.count:
            raise _Refused(
                f"{self.path}: {self.first}{more(self.count)}; remove these samples, or fill in what is missing"
            )


def _conditions(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, headers: dict[str, Header], classes: Classes
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The condition of each sample, and the names of its numbers if they are not classes."""
    header, count = headers["y"], headers["x"].shape[0]
    kind, shape = header.dtype.kind, header.shape
    is_numbers = len(shape) == 2 and kind in "buif"
    if is_numbers or (kind == "f" and len(shape) == 1 and _has_fractions(archive, info, header)):
        if shape[0] != count or not math.prod(shape):
            raise _Refused(f"{path}: y must have a row for each of the {count} samples of x, got {shape}")
        finite = _Finite(path, "y")
        blocks = [finite.checked(block).astype(np.float64) for block in _blocks(archive, info, header)]
        finite.finish()
        y = np.concatenate(blocks).reshape(count, -1)
        return y, tuple(f"y{i + 1}" for i in range(y.shape[1])) if y.shape[1] > 1 else ("y",)
    if shape != (count,):
        raise _Refused(f"{path}: y must have shape ({count},), a class for each sample of x, got {shape}")
    if kind not in "buifSU":
        raise _Refused(f"{path}: y must hold whole numbers or words, got the type {header.dtype}")
    if header.dtype.itemsize > BLOCK:
        raise ValueError
    return np.concatenate([_of_classes(block, classes) for block in _blocks(archive, info, header)]), ()


def _has_fractions(archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: Header) -> bool:
    return any((block != np.round(block)).any() for block in _blocks(archive, info, header))


def _of_classes(block: NDArray[Any], classes: Classes) -> NDArray[np.int32]:
    met, which = np.unique(block, return_inverse=True)
    names = [name.decode() for name in met.tolist()] if block.dtype.kind == "S" else map(name_of, met.tolist())
    with _as_refused():
        return classes.add(names, len(block))[which.reshape(-1)]
