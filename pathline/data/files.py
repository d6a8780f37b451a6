"""Data sets from files: arrays of NumPy, and tables of numbers with a class in one column.

    .npy   an array x of shape (samples, ...)
    .npz   arrays x and, if there are classes, y of shape (samples,)
    .csv   a row each sample, a column each entry of its vector, one of them the class if it is named

What is wrong in a file is told by its row and column, all of it before anything is trained. Nothing is unpickled: that
would run whatever the file says.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathline.data.source import Samples, Source
from pathline.specs import did_you_mean

SUFFIXES = (".csv", ".npy", ".npz")
LOOK, WIDE = 10, 10_000  # the lines, and the letters of each, that settle what separates the cells


@dataclass(frozen=True)
class FileSource(Source):
    """Samples from a .npy, .npz or .csv file, normalised by what is learned from those that are trained on.

    Attributes:
        path: Of the file.
        label: The column of a .csv that holds the class; its columns are called 1, 2, ... if the file has no header.
        numbers: The columns of a .csv that hold numbers to condition on, with commas between their names.
    """

    path: str
    label: str = ""
    numbers: str = ""

    def load(self) -> Samples:
        """All of it; numbers keep their precision, and whole numbers become floats.

        Raises:
            ValueError: If there is no such file, or it cannot be read as numbers: row and column are named.
        """
        path = Path(self.path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"a data file must end in {', '.join(SUFFIXES)}, got {path}")
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        if self.label and suffix != ".csv":
            raise ValueError(f"label names a column of a .csv, got {self.label!r} for {path}; an .npz has classes in y")
        if self.numbers and suffix != ".csv":
            raise ValueError(
                f"numbers names columns of a .csv, got {self.numbers!r} for {path}; an .npz has numbers in y"
            )
        if self.label and self.numbers:
            raise ValueError(
                f"either label or numbers is what samples are conditioned on, got {self.label!r} and {self.numbers!r}; "
                "leave out one of them"
            )
        if suffix == ".csv":
            return _from_table(path, self.label, self.numbers)
        arrays = _arrays(path)
        x = _numbers(path, arrays["x"])
        if "y" not in arrays:
            return _samples(path, x, None)
        y = arrays["y"]
        if y.dtype.kind in "buif" and (y.ndim == 2 or (y.dtype.kind == "f" and (y != np.round(y)).any())):
            if len(y) != len(x) or not y.size or y.ndim > 2:
                raise ValueError(f"{path}: y must have a row for each of the {len(x)} samples of x, got {y.shape}")
            wrong = np.argwhere(~np.isfinite(y))
            if len(wrong):
                raise ValueError(f"{path}: y{wrong[0].tolist()} must be a finite number, got {y[tuple(wrong[0])]}")
            y = y.reshape(len(y), -1).astype(np.float64)
            names = tuple(f"y{i + 1}" for i in range(y.shape[1])) if y.shape[1] > 1 else ("y",)
            return _samples(path, x, torch.from_numpy(y), numbers=names)
        return _samples(path, x, *_classes(_words(path, y, len(x)), f"{path}: y"))


def _samples(
    path: Path,
    x: Tensor,
    y: Tensor | None,
    classes: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    numbers: tuple[str, ...] = (),
) -> Samples:
    of_what = f"{x.shape[1]} numbers" if x.ndim == 2 else f"shape {tuple(x.shape[1:])}"
    return Samples(
        x=x,
        y=y,
        classes=classes,
        normalisation=None,
        title=f"{path.name}: {len(x):,} samples of {of_what}" + (f" in {len(classes)} classes" if classes else ""),
        licence="not stated",
        source=path.name,
        columns=columns,
        numbers=numbers,
    )


# ---- arrays


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The array of a .npy as x, or those of a .npz."""
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            arrays = {"x": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as arrays of numbers: it is damaged, or holds objects, which are not read, as that "
            "could run what the file says; save plain numbers, with numpy.save or numpy.savez"
        ) from error
    if "x" not in arrays or not set(arrays) <= {"x", "y"}:
        raise ValueError(
            f"{path} must hold an array x, and y if there are classes, got {', '.join(arrays) or 'none'}; "
            "save it with numpy.savez(path, x=..., y=...)"
        )
    return arrays


def _numbers(path: Path, x: NDArray[Any]) -> Tensor:
    """The samples, in the smallest type of at least float32 that holds them."""
    if x.dtype.kind not in "buif":
        raise ValueError(f"{path}: x must hold real numbers, got the type {x.dtype}")
    if x.ndim < 2 or not x.size:
        hint = "; for samples of one number each, save x[:, None]" if x.ndim == 1 and x.size else ""
        raise ValueError(f"{path}: x must have shape (samples, ...) with at least one sample, got {x.shape}{hint}")
    wrong = ~np.isfinite(x)
    if wrong.any():
        place = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"{path}: x{place} must be a finite number, got {x[tuple(place)]}{_more(int(wrong.sum()))}; remove these "
            "samples, or fill in what is missing"
        )
    return torch.from_numpy(x.astype(np.float32 if np.can_cast(x.dtype, np.float32) else np.float64))


def _words(path: Path, y: NDArray[Any], count: int) -> list[str]:
    """The class of each sample, as a word."""
    if y.shape != (count,):
        raise ValueError(f"{path}: y must have shape ({count},), a class for each sample of x, got {y.shape}")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if y.dtype.kind not in "buifU":
        raise ValueError(f"{path}: y must hold whole numbers or words, got the type {y.dtype}")
    return [f"{v:.0f}" if y.dtype.kind == "f" and math.isfinite(v) and v == round(v) else str(v) for v in y.tolist()]


def _classes(words: Sequence[str], where: str) -> tuple[Tensor, tuple[str, ...]]:
    """Class indices and the names of the classes in their order: by size if they are numbers, else by letters.

    Raises:
        ValueError: If they are fractions, or all different: these are no classes.
    """
    names = set(words)
    if is_number := all(_number(name) is not None for name in names):
        odd = [name for name in names if not float(name).is_integer()]
        if odd:
            raise ValueError(
                f"{where} must be classes, got numbers such as {min(odd)}; round them into a few classes, or leave "
                "them out"
            )
    if len(names) == len(words) > 2:
        raise ValueError(
            f"{where} must be classes, got a different one for each of the {len(words)} samples; leave it out"
        )
    order = sorted(names, key=lambda name: (float(name) if is_number else 0.0, name))
    index = {name: k for k, name in enumerate(order)}
    return torch.tensor([index[word] for word in words]), tuple(order)


# ---- tables


def _from_table(path: Path, label: str, numbers: str) -> Samples:
    rows = list(_rows(path))
    if not rows:
        raise ValueError(f"{path} is empty; it needs a row each sample")
    columns, rows = _header(path, rows, label)
    if label and label not in columns:
        raise ValueError(f"{path} has no column {label!r} for the label{did_you_mean(label, columns)}")
    of_label = columns.index(label) if label else None
    given = next(csv.reader([numbers], skipinitialspace=True), []) if numbers else []
    for name in given:
        if name not in columns:
            raise ValueError(f"{path} has no column {name!r} for the numbers{did_you_mean(name, columns)}")
    of_numbers = [columns.index(name) for name in given]
    kept = [i for i in range(len(columns)) if i != of_label and i not in of_numbers]
    if not kept:
        raise ValueError(f"{path} must have a column of numbers beside the label, got {label or numbers!r} alone")
    complaints = [complaint for row in rows for complaint in _complaints(row, columns, of_label)]
    if complaints:
        hint = "" if label else ", or name the column that holds the class with --label"
        raise ValueError(
            f"{path}, {complaints[0]}{_more(len(complaints))}; correct it, remove the line or the column{hint}"
        )
    x = torch.tensor([[float(cells[i]) for i in kept] for _, cells in rows], dtype=torch.float64)
    names = tuple(columns[i] for i in kept)
    if of_numbers:
        y = torch.tensor([[float(cells[i]) for i in of_numbers] for _, cells in rows], dtype=torch.float64)
        return _samples(path, x, y, (), names, tuple(given))
    if of_label is None:
        return _samples(path, x, None, (), names)
    return _samples(path, x, *_classes([cells[of_label] for _, cells in rows], f"{path}, column {label!r}"), names)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row, and the line it ends in; blank lines are left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
        for row in reader:
            cells = [cell.strip() for cell in row]
            if cells not in ([], [""]):
                yield reader.line_num, cells
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line} is not text in UTF-8; save the file as CSV in UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num} is no row of a table: {error}") from None


def _delimiter(text: str) -> str:
    """The one of comma, semicolon and tab that makes the most cells in whichever of the first lines has fewest."""
    lines = [line[:WIDE] for line in text.splitlines()[: 2 * LOOK] if line.strip()][:LOOK]
    return max(",;\t", key=lambda mark: min((len(row) for row in csv.reader(lines, delimiter=mark)), default=0))


def _header(path: Path, rows: list[tuple[int, list[str]]], label: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the rows below: a first row of numbers, the label aside, is no header."""
    line, first = rows[0]
    if all(_number(cell) is not None for i, cell in enumerate(first, 1) if str(i) != label):
        return [str(i) for i in range(1, len(first) + 1)], rows
    for i, name in enumerate(first, 1):
        if not name:
            raise ValueError(
                f"{path}, line {line}: column {i} has no name; name it, or remove it (pandas leaves out a column of "
                "row numbers with to_csv(path, index=False))"
            )
        if first.index(name) != i - 1:
            raise ValueError(f"{path}, line {line}: two columns are called {name!r}; rename one of them")
    if len(rows) == 1:
        raise ValueError(f"{path} has no rows below its header in line {line}; it needs a row each sample")
    return first, rows[1:]


def _complaints(row: tuple[int, list[str]], columns: list[str], of_label: int | None) -> Iterator[str]:
    """What is wrong in a row."""
    line, cells = row
    if len(cells) != len(columns):
        yield f"line {line}: needs {len(columns)} cells, as many as there are columns, got {len(cells)}"
        return
    for i, cell in enumerate(cells):
        number = _number(cell)
        if not cell or (i != of_label and (number is None or not math.isfinite(number))):
            need = "the name of a class" if i == of_label else "a finite number" if number is not None else "a number"
            yield f"line {line}, column {columns[i]!r}: needs {need}, got {repr(cell) if cell else 'an empty cell'}"


def _number(cell: str) -> float | None:
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a number; no table means it so
    except ValueError:
        return None


def _more(count: int) -> str:
    return f" (and {count - 1:,} more like it)" if count > 1 else ""
