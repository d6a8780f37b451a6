"""A law is a function of parts whose figures must stay within their bounds, and the parts that it is held to.

Every statistical bound is a number of standard errors whose false-alarm rate is at most 1e-5 over the whole law.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

TOPICS = (
    *(
        "paths",
        "fields",
        "bridges",
        "empirical",
        "solvers",
        "multistep",
        "processes",
        "sampling",
        "stiffness",
        "likelihood",
        "cnf",
        "bounds",
        "training",
        "resuming",
    ),
)


@dataclass(frozen=True)
class Figure:
    """What was measured, and where it must lie: between `least` and `most`."""

    name: str
    value: float
    most: float
    least: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it lies there; NaN does not."""
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        bound = f"<= {self.most:.3g}" if self.least == 0 else f"in [{self.least:.5g}, {self.most:.5g}]"
        return f"{self.name} {self.value:.4g} ({bound})"


def worst_of(*values: float) -> float:
    """The largest, or NaN if there is one: `max` would pass over it."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)


Check: TypeAlias = Callable[..., Iterable[Figure]]


@dataclass(frozen=True)
class Law:
    """A law and its cases, each a name and the parts that it is held to.

    Attributes:
        number: In the list of laws.
        name: Of the function.
        statement: What holds.
        check: From the parts to the figures.
        cases: Names and parts; `None` names the whole law.
        is_slow: Whether one case takes seconds.
    """

    number: int
    name: str
    statement: str
    check: Check
    cases: Callable[[], Iterable[tuple[str, tuple[Any, ...]]]]
    is_slow: bool = False

    def figures(self, case: str | None = None) -> Iterator[tuple[str, Figure]]:
        """Every figure of the law, or of one of its cases."""
        for name, parts in self.cases():
            if case in (None, name):
                for figure in self.check(*parts):
                    yield name, figure


_LAWS: list[Law] = []


def law(
    number: int, cases: Callable[[], Iterable[tuple[str, tuple[Any, ...]]]], is_slow: bool = False
) -> Callable[[Check], Check]:
    """Enter a function in the table; its docstring is the statement."""

    def enter(check: Check) -> Check:
        statement = " ".join((check.__doc__ or "").split())
        _LAWS.append(Law(number, check.__name__, statement, check, cases, is_slow))
        return check

    return enter


def once() -> Iterable[tuple[str, tuple[Any, ...]]]:
    """The case of a law that has no parts to choose."""
    return [("", ())]


def laws() -> list[Law]:
    """All laws, by number."""
    for topic in TOPICS:
        importlib.import_module(f"pathline.verify.{topic}")
    return sorted(_LAWS, key=lambda entry: entry.number)
