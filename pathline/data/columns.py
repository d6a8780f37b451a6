"""Which columns of a table are what, and all that is wrong in them: told at once, a line for each column."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathline.data.cache import About, Block
from pathline.data.classes import Classes, check_numbers, more, number
from pathline.quoting import quoted
from pathline.specs import did_you_mean

TRUTHS = {"yes", "no", "y", "n", "true", "false", "t", "f"}
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}.*)?")
SHOWN = 20  # columns in a message


def names_in(text: str) -> tuple[str, ...]:
    """The names of columns in a list with commas between them; one that has a comma itself stands in double quotes."""
    return tuple(next(csv.reader([text], skipinitialspace=True), [])) if text else ()


def list_of(names: Sequence[str]) -> str:
    """The names of columns in one line, as `names_in` reads them."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


@dataclass
class Trouble:
    """What is wrong with a column: the first of it, and how many cells there are of each kind."""

    first: str
    kinds: dict[str, int]

    @property
    def count(self) -> int:
        """The cells that are wrong."""
        return sum(self.kinds.values())

    def __str__(self) -> str:
        others = f"; {', '.join(f'{count:,} {kind}' for kind, count in self.kinds.items())}" * (len(self.kinds) > 1)
        return f"{self.first}{more(self.count)}{others}"


@dataclass(frozen=True)
class Roles:
    """What the user says of the columns of a table, by their names; lists have commas between them.

    Attributes:
        label: The column that holds the class.
        numbers: Those that hold numbers to condition on.
        columns: Those that are entries of a sample; all others unless given.
        dropped: Those that are not looked at.
        may_differ: Whether each sample may have a class of its own.
    """

    label: str = ""
    numbers: str = ""
    columns: str = ""
    dropped: str = ""
    may_differ: bool = False

    def are_numbers(self, first: Sequence[str]) -> bool:
        """Whether the first row of a table without names holds numbers, wherever they are needed."""
        places = [str(i) for i in range(1, len(first) + 1)]
        listed = names_in(self.columns)
        is_by_place = bool(listed) and set(listed) <= set(places)
        needed = {*listed, *names_in(self.numbers)} if is_by_place else set(places)
        needed -= {self.label, *names_in(self.dropped)}
        return all(number(cell) is not None for place, cell in zip(places, first, strict=True) if place in needed)


class Columns:
    """Which columns of a table are what.

    Args:
        path: Of the table.
        names: Of all its columns.
        roles: What the user says of them.

    Raises:
        ValueError: If there is no such column, one is to be two things, or none is left for the samples.
    """

    def __init__(self, path: Path, names: Sequence[str], roles: Roles) -> None:
        label = roles.label
        self.path, self.names, self.label = path, tuple(names), label
        self.numbers, listed, left_out = map(names_in, (roles.numbers, roles.columns, roles.dropped))
        for name, of_what in (
            *[(label, "the label")] * bool(label),
            *((name, "the numbers") for name in self.numbers),
            *((name, "--columns") for name in listed),
            *((name, "--drop-columns") for name in left_out),
        ):
            if name not in names:
                raise ValueError(f"{path} has no column {name!r} for {of_what}{did_you_mean(name, names)}")
        check_numbers(self.numbers, label)
        twice = next((name for name in left_out if name in (label, *self.numbers, *listed)), None)
        if twice is not None:
            raise ValueError(
                f"--drop-columns must name columns that nothing else does, got {twice!r}; leave it out there"
            )
        self.of_label = self.names.index(label) if label else None
        self.of_numbers = [self.names.index(name) for name in self.numbers]
        self.kept = [
            i
            for i, name in enumerate(names)
            if name not in (label, *self.numbers, *left_out) and (not listed or name in listed)
        ]
        if not self.kept:
            beside = ", ".join(map(repr, filter(None, (label, *self.numbers)))) or "none"
            parts = [*["the label"] * bool(label), *["the numbers"] * bool(self.numbers)]
            what = f" beside {' and '.join(parts)}" if parts else ""
            raise ValueError(f"{path} must have a column of numbers{what}, got {beside} alone")
        self.used = {*self.kept, *self.of_numbers} | ({self.of_label} if self.of_label is not None else set())
        self.unread = [i for i in range(len(names)) if i not in self.used]
        otherwise = f"condition on them with --numbers {label}, "
        self.classes = Classes(f"{path}, column {label!r}", otherwise, roles.may_differ)
        self.count = 0
        self.rows: Trouble | None = None  # that are no rows of this table
        self.troubles: dict[int, Trouble] = {}

    @property
    def is_wrong(self) -> bool:
        """Whether something was complained of."""
        return bool(self.rows or self.troubles)

    def block(self, cells: NDArray[np.float64], labels: NDArray[np.int32] | None) -> Block:
        """What rows of numbers are, the class aside: its column may hold anything."""
        self.count += len(cells)
        y: dict[str, NDArray[Any]] = {} if labels is None else {"class": labels}
        y |= {"numbers": cells[:, self.of_numbers]} if self.numbers else {}
        x = cells if len(self.kept) == len(self.names) else cells[:, self.kept]
        return Block(np.ascontiguousarray(x), y)

    def complain_of_row(self, where: str, cells: int) -> None:
        """Remembers a row that has not a cell for each column."""
        if self.rows is None:
            need = f"needs {len(self.names)} cells, as many as there are columns, got {cells}"
            self.rows = Trouble(f"{where}: {need}", {"rows": 0})
        self.rows.kinds["rows"] += 1

    def complain_of(self, where: str, column: int, cell: str | float | None, told: str = "", count: int = 1) -> None:
        """Remembers that a cell, and those below it up to so many, hold what they should not.

        Args:
            where: Its line or row.
            column: The number of its column, from 0.
            cell: What it holds; None if it is empty.
            told: What is said of it; what it needs, and holds, unless given.
            count: Of cells.
        """
        kind = _kind_of(cell)
        known = self.troubles.get(column)
        if known is None:
            value = number(cell) if isinstance(cell, str) else cell
            of_value = "a number" if value is None else "a finite number"
            need = "the name of a class" if column == self.of_label else of_value
            got = "an empty cell" if kind == "empty" else repr(_short(cell)) if isinstance(cell, str) else cell
            also = {"dates or times": ", a date or time", "yes or no": ", a yes or no"}.get(kind, "")
            told = told or f"needs {need}, got {got}"
            known = self.troubles[column] = Trouble(f"{where}, column {self.names[column]!r}: {told}{also}", {})
        known.kinds[kind] = known.kinds.get(kind, 0) + count

    def check(self) -> None:
        """Refuse the table if something in it is wrong: all columns at once.

        Raises:
            ValueError: If something is.
        """
        if not self.is_wrong:
            return
        wrong = [self.names[i] for i in sorted(self.troubles)]
        hint = "" if self.label or self.numbers else ", or name the column that holds the class with --label"
        found = [*([str(self.rows)] if self.rows else []), *(str(self.troubles[i]) for i in sorted(self.troubles))]
        good = [self.names[i] for i in self.kept if i not in self.troubles]
        out = f"--drop-columns {quoted(list_of(wrong))}" if wrong else ""
        instead = f", or take others alone with --columns {quoted(list_of(good))}" if 0 < len(good) <= SHOWN else ""
        if len(found) == 1 and not wrong:
            raise ValueError(f"{self.path}, {found[0]}; correct it, or remove the line")
        if len(found) == 1:
            raise ValueError(
                f"{self.path}, {found[0]}; correct it, remove the line or the column ({out}){instead}{hint}"
            )
        told = "".join(f"\n  {each}" for each in found[:SHOWN])
        told += f"\n  (and {len(found) - SHOWN:,} columns more)" if len(found) > SHOWN else ""
        what = f"{len(wrong):,} columns that are not all numbers" if len(wrong) > 1 else "several faults"
        way_out = f"leave the columns out with {out}{instead}, or correct them{hint}"
        raise ValueError(f"{self.path} has {what}:{told}\n  {way_out}")

    def finish(self) -> About:
        """What is known of the table.

        Raises:
            ValueError: If something is wrong: in a cell, or of the classes.
        """
        self.check()
        classes, relabel = self.classes.finish() if self.label else ((), ())
        title = f"{self.path.name}: {self.count:,} samples of {len(self.kept)} numbers"
        unread = f"; {len(self.unread):,} columns not used" if len(self.unread) > 1 else "; one column not used"
        return About(
            title=title + (f" in {len(classes)} classes" if classes else "") + (unread if self.unread else ""),
            source=self.path.name,
            classes=classes,
            columns=tuple(self.names[i] for i in self.kept),
            numbers=self.numbers,
            relabel=relabel,
        )


def _kind_of(cell: str | float | None) -> str:
    """What a cell holds that is not what it should be."""
    if cell is None or cell == "":
        return "empty"
    if not isinstance(cell, str) or number(cell) is not None:
        return "not finite" if not math.isfinite(float(cell)) else "rounded"
    word = cell.strip().lower()
    return "yes or no" if word in TRUTHS else "dates or times" if DATE.fullmatch(word) else "words"


def _short(cell: str) -> str:
    return cell if len(cell) <= 50 else cell[:50] + "..."
