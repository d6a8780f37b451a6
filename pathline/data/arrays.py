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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pathline.conditions import KINDS
from pathline.data.cache import IN_MEMORY, About, Block, InFile, cache_folder, free_bytes
from pathline.data.captions import caption_of, told, without_text
from pathline.data.classes import EXACT, ROUNDED, TYPE_OF, Classes, more, name_of
from pathline.data.layouts import Layout
from pathline.data.mapped import Mapped
from pathline.data.normalisation import Levels
from pathline.data.rows import BLOCK

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

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def bytes(self) -> int:
        """The size of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row(self) -> int:
        """The size of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def shape_of(path: Path) -> tuple[int, ...]:
    """The shape of the samples in a .npy or an .npz, from what the file says of itself: they are not read.

    Raises:
        ValueError: If it says nothing that can be read.
    """
    if _is_zip(path):
        with _damaged(path), zipfile.ZipFile(path) as archive:
            return _headers(path, archive)["x"].shape
    with _damaged(path), path.open("rb") as file:
        header = _header(file)
    _check_x(path, header)
    return header.shape


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def read_arrays(
    path: Path, has_captions: bool = False, layout: Layout | None = None, may_differ: bool = False
) -> Iterator[Block | InFile | About]:
    """The samples of a .npy, or those of an .npz with their conditions.

    Args:
        path: Of the file.
        layout: How the samples lie; they are handed on as they are unless given.
        has_captions: Whether words in y are captions; they are names of classes unless told so, and those that stand
            beside other conditions are not used.
        may_differ: Whether each sample may have a class of its own.

    Raises:
        ValueError: If it is damaged, holds what are no finite numbers, or declares more than it can hold.
    """
    return _read_npz(path, has_captions, layout, may_differ) if _is_zip(path) else _read_npy(path, layout)


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


def _read_npy(path: Path, layout: Layout | None) -> Iterator[Block | InFile | About]:
    with _damaged(path), path.open("rb") as file:
        header = _header(file)
    _check_x(path, header)
    if path.stat().st_size < header.length + header.bytes:
        raise _unreadable(path)
    x = Mapped(path, header.dtype, header.shape, header.length, "F" if header.is_fortran else "C")
    if not header.is_fortran and not (layout and layout.is_moved):  # in that order a row lies in many places
        yield InFile(str(path.resolve()), header.dtype.str, header.length)
    finite, levels = _Finite(path, "x"), Levels()
    for first in range(0, len(x), _rows(header)):
        block = _laid_out(finite.checked(x.raw(slice(first, first + _rows(header)))), layout)
        levels.add(block)
        yield Block(block)
    finite.finish()
    units = levels.normalisation()
    yield About(_title(path, header.shape, layout), source=path.name, normalisation=units)


def _read_npz(
    path: Path, has_captions: bool, layout: Layout | None, may_differ: bool
) -> Iterator[Block | InFile | About]:
    with _damaged(path), zipfile.ZipFile(path) as archive:
        headers, members = _headers(path, archive), _members(archive)
        reader = _Conditions(path, len(headers["x"]), has_captions, may_differ)
        if "y" in members:
            reader.read(archive, members["y"], headers["y"])
        if has_captions and "text" not in reader.y:
            got = f"the type {headers['y'].dtype} in shape {headers['y'].shape}" if "y" in members else "no y"
            raise _Refused(
                f"{path}: y must hold captions for --text, an array of words or a field text, got {got}; save "
                "y=np.array(captions), or leave out --text"
            )
        lies = members["x"].compress_type == zipfile.ZIP_STORED and not headers["x"].is_fortran
        if lies and not (layout and layout.is_moved):
            offset = _offset(path, members["x"]) + headers["x"].length
            yield InFile(str(path.resolve()), headers["x"].dtype.str, offset)
        finite, levels, first = _Finite(path, "x"), Levels(), 0
        for block in _blocks(archive, members["x"], headers["x"]):
            rows = slice(first, first + len(block))
            laid_out = _laid_out(finite.checked(block), layout)
            levels.add(laid_out)
            yield Block(laid_out, {kind: part[rows] for kind, part in reader.y.items()})
            first += len(block)
        finite.finish()
        shape = headers["x"].shape
        yield replace(reader.about(shape, layout), normalisation=levels.normalisation())


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def _headers(path: Path, archive: zipfile.ZipFile) -> dict[str, Header]:
    members = _members(archive)
    if "x" not in members or not set(members) <= {"x", "y"}:
        got = ", ".join(sorted(members)[:9]) or "none"
        raise _Refused(
            f"{path} must hold an array x, and y if there are classes, numbers or captions, got {got}; save it "
            "with numpy.savez(path, x=..., y=...)"
        )
    headers = {name: _member_header(path, archive, info) for name, info in members.items()}
    _check_x(path, headers["x"])
    return headers


def _laid_out(block: NDArray[Any], layout: Layout | None) -> NDArray[Any]:
    return block if layout is None else layout.handed_on(block)


def _title(path: Path, shape: tuple[int, ...], layout: Layout | None) -> str:
    of_what = f"{shape[1]} numbers" if len(shape) == 2 else f"shape {shape[1:]}"
    words = f", {layout.words}" if layout and layout.words else ""
    return f"{path.name}: {shape[0]:,} samples of {of_what}{words}"


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


class _Conditions:
    """What y says of each sample: its class, numbers or caption, or several of them, as fields of these names."""

    def __init__(self, path: Path, count: int, has_captions: bool, may_differ: bool) -> None:
        self.path, self.count, self.has_captions = path, count, has_captions
        self.y: dict[str, NDArray[Any]] = {}
        otherwise = "save y.astype(float)[:, None] to condition on them as numbers, "
        self.classes = Classes(f"{path}: y", otherwise, may_differ)
        self.numbers: tuple[str, ...] = ()
        self.captions: dict[str, int] = {}
        self.unused = self.class_type = ""

    def read(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: Header) -> None:
        """All of y."""
        names = header.dtype.names
        if names is None:
            kind = self._kind(archive, info, header)
            self.y[kind] = self._part("y", kind, header.dtype, header.shape, _blocks(archive, info, header))
            return
        if not names or not set(names) <= set(KINDS):
            raise _Refused(f"{self.path}: y must have the fields {', '.join(KINDS)} or some of them, got {names}")
        if header.dtype.itemsize > BLOCK:
            raise ValueError
        if "text" in names and not self.has_captions:
            self.unused = "; its captions are not used (--text words conditions on them)"
        for kind in names:
            if kind != "text" or self.has_captions:
                of_one = header.dtype[kind]
                blocks = (block[kind] for block in _blocks(archive, info, header))
                shape = (*header.shape, *of_one.shape)
                self.y[kind] = self._part(f"y[{kind!r}]", kind, of_one.base, shape, blocks)

    def about(self, shape: tuple[int, ...], layout: Layout | None) -> About:
        """What is known now that all was read."""
        with _as_refused():
            names, relabel = self.classes.finish() if "class" in self.y else ((), ())
        title = _title(self.path, shape, layout) + (f" in {len(names)} classes" if names else "")
        if self.captions:
            title += told(len(self.captions), without_text(self.y, self.captions))
        return About(
            title + self.unused,
            source=self.path.name,
            classes=names,
            numbers=self.numbers,
            relabel=relabel,
            captions=tuple(self.captions),
            class_type=self.class_type,
        )

    def _kind(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: Header) -> str:
        kind, dimensions = header.dtype.kind, len(header.shape)
        if dimensions == 2 and kind in "buif" and (kind == "f" or header.shape[1] > 1):
            return "numbers"  # a column of whole numbers, as tables hold labels, is classes
        if dimensions == 1 and kind == "f" and _has_fractions(archive, info, header):
            return "numbers"
        return "text" if self.has_captions and kind == "U" else "class"

    def _part(
        self, name: str, kind: str, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterator[NDArray[Any]]
    ) -> NDArray[Any]:
        """The conditions of one kind."""
        where = f"{self.path}: {name}"
        if kind == "numbers":
            if dtype.kind not in "buif":
                raise _Refused(f"{where} must be real numbers, got the type {dtype}")
            if len(shape) > 2 or shape[0] != self.count or not math.prod(shape):
                raise _Refused(f"{where} must have a row for each of the {self.count} samples of x, got {shape}")
            finite = _Finite(self.path, name)
            found = np.concatenate([finite.checked(block).astype(np.float64) for block in blocks])
            finite.finish()
            found = found.reshape(self.count, -1)
            self.numbers = tuple(f"y{i + 1}" for i in range(found.shape[1])) if found.shape[1] > 1 else ("y",)
            return found
        what = "caption" if kind == "text" else "class"
        shape = shape[:1] if shape[1:] == (1,) else shape
        if shape != (self.count,):
            raise _Refused(f"{where} must have shape ({self.count},), a {what} for each sample of x, got {shape}")
        if dtype.kind not in ("U" if kind == "text" else "buifSU"):
            need = "captions" if kind == "text" else "whole numbers or words"
            raise _Refused(f"{where} must hold {need}, got the type {dtype}")
        if dtype.itemsize > BLOCK:
            raise ValueError
        if kind == "class":
            self.class_type = TYPE_OF[dtype.kind]
            return np.concatenate([_of_classes(block, self.classes) for block in blocks])
        return np.concatenate([self._of_captions(block, where) for block in blocks])

    def _of_captions(self, block: NDArray[Any], where: str) -> NDArray[np.int64]:
        met, which = np.unique(block, return_inverse=True)
        known = self.captions
        with _as_refused():
            try:
                found = [known.setdefault(caption_of(text, "y"), len(known)) for text in met.tolist()]
            except ValueError as error:
                raise ValueError(f"{where} {error}") from None
        return np.array(found)[which.reshape(-1)]


def _has_fractions(archive: zipfile.ZipFile, info: zipfile.ZipInfo, header: Header) -> bool:
    return any((block != np.round(block)).any() for block in _blocks(archive, info, header))


def _of_classes(block: NDArray[Any], classes: Classes) -> NDArray[np.int32]:
    met, which = np.unique(block, return_inverse=True)
    names = [name.decode() for name in met.tolist()] if block.dtype.kind == "S" else map(name_of, met.tolist())
    with _as_refused():
        return classes.add(names, len(block))[which.reshape(-1)]
