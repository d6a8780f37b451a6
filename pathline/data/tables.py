"""Tables in blocks, whatever their size: rows of cells, of which some columns are numbers and one may be a class.

A chunk of a .csv that holds plain numbers, beside the class, is read by NumPy all at once. What that cannot read is
read cell by cell, to the same numbers, and what is wrong in it is told by its line and column. Numbers are rounded to
float64, whatever their digits: of a whole one beyond 2**53, subtract an offset first.

The first row holds the names of columns if one of its cells, the class aside, is no number; or if it counts them, from
0, as pandas does where it is given no names, or from 1. Other numbers in it, such as years, are a sample.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import math
import zlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pathline.data.arrays import SMALL, refuse_bomb
from pathline.data.cache import About, Block
from pathline.data.classes import MOST, Classes, number
from pathline.data.columns import Columns, Roles

CHUNK = 1 << 20  # bytes that are read at once: what is made of them stays near a core
LONGEST = 1 << 22  # bytes of a line, or of the lines of a row
BLANKS = np.array([chr(byte).isspace() for byte in range(256)])
LOOK, WIDE = 10, 10_000  # the lines, and the letters of each, that settle what separates the cells


def read_csv(path: Path, roles: Roles) -> Iterator[Block | About]:
    """The rows of a .csv, which may be packed as .csv.gz.

    Args:
        path: Of the file.
        roles: What the user says of its columns.

    Raises:
        ValueError: If a cell is no finite number, a row too short or too long, or the text is no table.
    """
    lines = _Lines(path)
    columns: Columns | None = None
    known: dict[bytes, int] = {}
    while chunk := lines.next():
        if not chunk.strip(b" \r\n"):  # lines beyond count that say nothing
            lines.line += len(chunk.replace(b"\r\n", b"\n").translate(None, b" "))
            continue
        if columns is None:
            lines.mark = _delimiter(lines.text(chunk))
            rows = lines.rows(chunk)
            line, first = next(rows, (0, []))
            if not first:
                continue
            columns, is_header = _columns(path, line, first, roles)
            yield from _cell_by_cell(rows if is_header else chain([(line, first)], rows), columns)
            continue
        found = _at_once(chunk, lines.mark, columns, known)
        if found is None:
            yield from _cell_by_cell(lines.rows(chunk), columns)
        else:
            lines.line += len(found.x)
            yield found
    if columns is None:
        raise ValueError(f"{path} is empty; it needs a row each sample")
    if not columns.count and not columns.is_wrong:
        raise ValueError(f"{path} has no rows below its header in line {line}; it needs a row each sample")
    yield columns.finish()


# ---- lines


class _Lines:
    """The lines of a file, and how many of them were read; no more than some megabytes of them are in memory."""

    def __init__(self, path: Path) -> None:
        self.path, self.line, self.mark = path, 0, ","
        self._open = 0  # letters of the row that is read
        self._is_whole = False  # whether the last line that was read is the last of its chunk
        self._chunks = self._whole_lines()

    def next(self) -> bytes:
        """Some more lines; nothing at the end."""
        return next(self._chunks, b"")

    def text(self, chunk: bytes) -> str:
        """A chunk in letters.

        Raises:
            ValueError: If it is not in UTF-8.
        """
        try:
            return chunk.decode()
        except UnicodeDecodeError as error:
            line = self.line + chunk.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{self.path}, line {line} is not text in UTF-8; save the file as CSV in UTF-8") from None

    def rows(self, chunk: bytes) -> Iterator[tuple[int, list[str]]]:
        """The cells of each row of a chunk, and the line it ends in; blank lines are left out.

        Where the last row goes on in the chunks below, all rows of those are read too.
        """
        reader = csv.reader(self._texts(chunk), delimiter=self.mark)
        try:
            for row in reader:
                self._open = 0
                cells = [cell.strip() for cell in row]
                if cells not in ([], [""]):
                    yield self.line, cells
                if self._is_whole:
                    return
        except csv.Error as error:
            raise ValueError(f"{self.path}, line {self.line} is no row of a table: {error}") from None

    def _texts(self, chunk: bytes) -> Iterator[str]:
        while chunk:
            text = self.text(chunk)
            stream = io.StringIO(text, newline="")
            for line in stream:
                self.line += 1
                self._open += len(line)
                if self._open > LONGEST:
                    raise self._too_long()
                self._is_whole = stream.tell() == len(text)
                yield line
            chunk = self.next()

    def _whole_lines(self) -> Iterator[bytes]:
        rest = b""
        for piece in _pieces(self.path):
            rest += piece
            end = max(rest.rfind(b"\n"), rest.rfind(b"\r", 0, len(rest) - 1)) + 1
            if end:
                yield rest[:end]
                rest = rest[end:]
            if len(rest) > LONGEST:
                self.line += 1
                raise self._too_long()
        if rest:
            yield rest

    def _too_long(self) -> ValueError:
        return ValueError(f"{self.path}, line {self.line} is no row of a table: it is longer than {LONGEST:,} letters")


def _pieces(path: Path) -> Iterator[bytes]:
    """What a file holds, unpacked, without the mark that some programs begin it with."""
    if path.suffix.lower() == ".gz":
        for _ in islice(_unpacked(path), 1 + SMALL // CHUNK):
            pass  # a bomb is refused before anything is made of it
        pieces = _unpacked(path)
    else:
        pieces = _read(path)
    yield next(pieces, b"").removeprefix(codecs.BOM_UTF8)
    yield from pieces


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _unpacked(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as file:
        size = 0
        try:
            while piece := file.read(CHUNK):
                size += len(piece)
                refuse_bomb(str(path), raw.tell(), size, "if it is whole, unpack it")
                yield piece
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged: {error}; pack it again with gzip") from None


def _delimiter(text: str) -> str:
    """The one of comma, semicolon and tab that makes the most cells in whichever of the first lines has fewest."""
    look = text[: 2 * LOOK * WIDE].splitlines()
    look = look[:-1] if len(look) > 1 and len(text) > 2 * LOOK * WIDE else look  # the last of them may be cut
    lines = [line[:WIDE] for line in look[: 2 * LOOK] if line.strip()][:LOOK]
    return max(",;\t", key=lambda mark: min((len(row) for row in csv.reader(lines, delimiter=mark)), default=0))


def _columns(path: Path, line: int, first: list[str], roles: Roles) -> tuple[Columns, bool]:
    """The columns, and whether the first row is their names: of numbers, the class aside, only 0, 1, ... or 1, ..."""
    counts = len(first) > 1 and any(first == [str(i + k) for i in range(len(first))] for k in (0, 1))
    if not counts and roles.are_numbers(first):
        return Columns(path, [str(i) for i in range(1, len(first) + 1)], roles), False
    met = set()
    for i, name in enumerate(first, 1):
        if not name:
            raise ValueError(
                f"{path}, line {line}: column {i} has no name; name it, or remove it (pandas leaves out a column of "
                "row numbers with to_csv(path, index=False))"
            )
        if name in met:
            raise ValueError(f"{path}, line {line}: two columns are called {name!r}; rename one of them")
        met.add(name)
    return Columns(path, first, roles), True


# ---- cells


def _at_once(chunk: bytes, mark: str, columns: Columns, known: dict[bytes, int]) -> Block | None:
    """The rows of a chunk of plain numbers; None if it holds anything else.

    Args:
        chunk: Whole lines.
        mark: What separates cells.
        columns: Of the table.
        known: The classes by how they are written.
    """
    if b"\r" in chunk:
        chunk = chunk.replace(b"\r\n", b"\n")
    if b'"' in chunk or b"\r" in chunk or b"\0" in chunk:
        return None
    chunk = chunk if chunk.endswith(b"\n") else chunk + b"\n"
    text = np.frombuffer(chunk, np.uint8).copy()
    found = np.flatnonzero((text == ord(mark)) | (text == ord("\n")))
    rows, width = chunk.count(b"\n"), len(columns.names)
    if found.size != rows * width:
        return None
    stops = found.reshape(rows, width)
    if (text[stops[:, -1]] != ord("\n")).any():
        return None
    words: list[bytes] = []
    for i in [*columns.unread, *([] if columns.of_label is None else [columns.of_label])]:  # 0 for all, behind blanks
        starts, ends = (stops[:, i - 1] if i else np.append(-1, stops[:-1, -1])) + 1, stops[:, i]
        if (starts >= ends).any():
            return None
        if i == columns.of_label:
            words = [chunk[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        inside = np.zeros(len(text), np.int8)
        inside[starts], inside[ends] = 1, -1
        text[np.cumsum(inside, dtype=np.int8).view(bool)] = ord(" ")
        text[ends - 1] = ord("0")
    if (mark != "," and (text == ord(",")).any()) or BLANKS[text[found - 1]].any():  # NumPy takes ", ," for -1
        return None
    text[found] = ord(",")  # NumPy takes a tab for any blanks
    try:  # another 0 at the end, as there only a warning would tell what follows a number
        cells = np.fromstring(text.tobytes() + b"0", np.float64, stops.size + 1, sep=",")
    except (ValueError, DeprecationWarning):
        return None
    if cells.size != stops.size + 1 or not np.isfinite(cells).all():
        return None
    labels = None
    if columns.of_label is not None:
        labels = _labels(words, columns.classes, known)
        if labels is None:
            return None
    return columns.block(cells[:-1].reshape(rows, width), labels)


def _labels(words: list[bytes], classes: Classes, known: dict[bytes, int]) -> NDArray[np.int32] | None:
    """The classes of some rows; None if one is no text, or blank."""
    if len(known) > 4 * MOST:  # a class may be written with more blanks each time
        known.clear()
    new = [word for word in dict.fromkeys(words) if word not in known]
    try:
        names = [word.decode().strip() for word in new]
    except UnicodeDecodeError:
        return None
    if not all(names):
        return None
    known.update(zip(new, classes.add(names, len(words)).tolist(), strict=True))
    return np.fromiter(map(known.__getitem__, words), np.int32, len(words))


def _cell_by_cell(rows: Iterable[tuple[int, list[str]]], columns: Columns) -> Iterator[Block]:
    """Rows that are read one after another; what is wrong in them is remembered."""
    values, labels = array("d"), []
    k, width = columns.of_label, len(columns.names)
    needed = columns.used - {k}
    is_part = len(needed) < width
    for line, cells in rows:
        if len(cells) != width:
            columns.complain_of_row(f"line {line}", len(cells))
            continue
        row = _floats([cell if i in needed else "0" for i, cell in enumerate(cells)] if is_part else cells)
        if row is not None and (k is None or cells[k]):
            values.extend(row)
            if k is not None:
                labels.append(cells[k])
            continue
        for i in sorted(columns.used):
            cell = cells[i]
            value = number(cell)
            if not cell or (i != k and (value is None or not math.isfinite(value))):
                columns.complain_of(f"line {line}", i, cell)
    if values:
        of_class = None if k is None else columns.classes.add(labels, len(labels))
        yield columns.block(np.array(values).reshape(-1, width), of_class)


def _floats(cells: list[str]) -> list[float] | None:
    """The numbers in cells; None if one holds anything else."""
    try:
        row = list(map(float, cells))
    except ValueError:
        return None
    return None if any("_" in cell for cell in cells) or not all(map(math.isfinite, row)) else row
