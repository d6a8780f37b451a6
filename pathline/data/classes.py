"""Classes that are numbered as they are met, for what is read in pieces, and put in order at the end.

So are captions, which stay in the order in which they were met.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Condition: TypeAlias = str | tuple[float, ...]  # of one sample: the name of its class, its caption, or its numbers

MOST = 1 << 16  # classes: a table of a learned vector for each must fit a model
LONGEST = 1000  # letters of a name
EXACT = 1 << 53  # float64 holds all whole numbers below, and every second one beyond
ROUNDED = "a whole number below 2**53, as float64 rounds larger ones (subtract an offset first)"
INT, FLOAT, BOOL, STR = TYPES = ("int", "float", "bool", "str")  # what the values of classes are
TYPE_OF = {"i": INT, "u": INT, "f": FLOAT, "b": BOOL, "S": STR, "U": STR}  # by the kind of an array's type


class Classes:
    """The names of classes.

    Args:
        where: What holds them, as an error begins.
        otherwise: What an error suggests for numbers that are no classes.
        may_differ: Whether each sample may have a class of its own, as few samples may that are read to be scored.
    """

    def __init__(self, where: str, otherwise: str = "", may_differ: bool = False) -> None:
        self.where, self.otherwise, self.may_differ = where, otherwise, may_differ
        self.met: dict[str, int] = {}
        self.count = 0

    def add(self, names: Iterable[str], count: int) -> NDArray[np.int32]:
        """The number of each name, in the order in which names were met; so many samples have them.

        Raises:
            ValueError: If there are too many names, or one is too long.
        """
        met = self.met
        found = [met.setdefault(name, len(met)) for name in names]
        self.count += count
        self._check_count()
        return np.array(found, np.int32)

    def finish(self, declared: Sequence[str] = ()) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The names in their order, and for each one met its place.

        Args:
            declared: All names in the order they were given; else it is by size if they are numbers, or by letters.

        Raises:
            ValueError: If they are fractions, too many, or all different: these are no classes.
        """
        is_number = not declared and self._check_numbers()
        way_out = f"{self.otherwise}or leave it out" if self.otherwise and is_number else "leave it out"
        if not self.may_differ:
            refuse_unique(self.where, len(self.met), self.count, way_out)
        self._check_count()
        long = next((name for name in self.met if len(name) > LONGEST), None)
        if long is not None:
            raise ValueError(
                f"{self.where} must be names of up to {LONGEST:,} letters, got one of {len(long):,}, {long[:20]!r}..."
            )
        if any("\ud800" <= letter <= "\udfff" for name in self.met for letter in name):
            raise ValueError(f"{self.where} must be names in letters, got half a pair of surrogates")
        order = [name for name in declared if name in self.met]
        order = order or sorted(self.met, key=lambda name: (float(name) if is_number else 0.0, name))
        place = {name: k for k, name in enumerate(order)}
        return tuple(order), tuple(place[name] for name in self.met)

    def _check_count(self) -> None:
        if len(self.met) > MOST:
            self._check_numbers()
            raise ValueError(
                f"{self.where} must be classes, got more than {MOST:,} different ones in {self.count:,} samples; leave "
                "it out"
            )

    def _check_numbers(self) -> bool:
        """Whether all names are numbers, and then whole ones."""
        if not all(number(name) is not None for name in self.met):
            return False
        odd = [name for name in self.met if not float(name).is_integer()]
        if odd:
            raise ValueError(
                f"{self.where} must be classes, got numbers such as {min(odd)}; round them into a few classes, "
                f"{self.otherwise}or leave them out"
            )
        return True


def numbered(y: Mapping[str, Condition], met: Mapping[str, dict[str, int]]) -> dict[str, int | tuple[float, ...]]:
    """Conditions of a sample by their kind, words by their number among those of that kind that were met."""
    return {kind: met[kind].setdefault(v, len(met[kind])) if isinstance(v, str) else v for kind, v in y.items()}


def stacked(rows: Sequence[Mapping[str, int | tuple[float, ...]]]) -> dict[str, NDArray[Any]]:
    """Conditions of samples that have the same kinds, one at least, by these."""
    return {kind: np.array([row[kind] for row in rows]) for kind in rows[0]}


def check_numbers(numbers: Sequence[str], label: str) -> None:
    """Refuses numbers of which one is named twice, or is the class.

    Raises:
        ValueError: If one is.
    """
    for i, name in enumerate(numbers):
        if name in numbers[:i]:
            raise ValueError(f"numbers must name different columns, got {name!r} twice")
        if name == label:
            raise ValueError(
                f"numbers must name other columns than label, got {name!r} for both; leave out one of them"
            )


def refuse_unique(where: str, classes: int, count: int, way_out: str) -> None:
    """Refuses so many classes of so many samples that each has its own: nothing can be learned of one.

    Raises:
        ValueError: If they are so many.
    """
    if classes == count > 2:
        raise ValueError(f"{where} must be classes, got a different one for each of the {count} samples; {way_out}")


def number(cell: str) -> float | None:
    """What a cell says; None if it is no number."""
    try:
        return None if "_" in cell else float(cell)  # Python reads 1_000 as a number; no table means it so
    except ValueError:
        return None


def name_of(value: object) -> str:
    """A class as a word: 3.0 is 3."""
    whole = isinstance(value, float) and math.isfinite(value) and value == round(value)
    return f"{value:.0f}" if whole else str(value)


def more(count: int) -> str:
    """What an error ends with that names the first of many."""
    return f" (and {count - 1:,} more like it)" if count > 1 else ""
