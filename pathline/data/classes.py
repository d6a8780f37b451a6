"""Classes that are numbered as they are met, for what is read in pieces, and put in order at the end."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

MOST = 1 << 16  # classes: a table of a learned vector for each must fit a model
LONGEST = 1000  # letters of a name


class Classes:
    """The names of classes.

    Args:
        where: What holds them, as an error begins.
        otherwise: What an error suggests for numbers that are no classes.
    """

    def __init__(self, where: str, otherwise: str = "") -> None:
        self.where, self.otherwise = where, otherwise
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
        if len(met) > MOST:
            self._check_numbers()
            raise ValueError(
                f"{self.where} must be classes, got more than {MOST:,} different ones in {self.count:,} samples; leave "
                "it out"
            )
        return np.array(found, np.int32)

    def finish(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The names in their order, by size if they are numbers, else by letters; and for each one met its place.

        Raises:
            ValueError: If they are fractions, or all different: these are no classes.
        """
        is_number = self._check_numbers()
        if len(self.met) == self.count > 2:
            raise ValueError(
                f"{self.where} must be classes, got a different one for each of the {self.count} samples; leave it out"
            )
        long = next((name for name in self.met if len(name) > LONGEST), None)
        if long is not None:
            raise ValueError(
                f"{self.where} must be names of up to {LONGEST:,} letters, got one of {len(long):,}, {long[:20]!r}..."
            )
        if any("\ud800" <= letter <= "\udfff" for name in self.met for letter in name):
            raise ValueError(f"{self.where} must be names in letters, got half a pair of surrogates")
        order = sorted(self.met, key=lambda name: (float(name) if is_number else 0.0, name))
        place = {name: k for k, name in enumerate(order)}
        return tuple(order), tuple(place[name] for name in self.met)

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
