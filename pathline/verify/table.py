"""A law is a function of parts whose figures must stay within their bounds, and the parts that it is held to.

Every statistical bound is a number of standard errors whose false-alarm rate is at most 1e-5 over all cases of a law.
Laws of one number say the same thing of different parts.
"""

from __future__ import annotations

import importlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

FALSE_ALARMS = 1e-5  # how often a law may fail by chance, were its seeds not fixed
QUICK, FULL = 1.2, 8.0  # seconds of one core for the cases of each law, at a glance and to be sure

TOPICS = (
    "paths",
    "fields",
    "contracts",
    "bridges",
    "empirical",
    "solvers",
    "multistep",
    "processes",
    "sampling",
    "stiffness",
    "heads",
    "likelihood",
    "cnf",
    "bounds",
    "training",
    "resuming",
    "conditions",
    "precision",
)


TITLES = {
    1: "conversions are exact",
    2: "ends are limits or refused",
    3: "one time or one each",
    4: "schedules are sound",
    5: "paths move at their velocity",
    6: "marginals are posterior means",
    7: "densities obey their equation",
    8: "both losses have one gradient",
    9: "ODE solvers have their order",
    10: "SDE solvers have their order",
    11: "every sigma, same marginals",
    12: "processes have their moments",
    13: "DDPM, DDIM and Euler agree",
    14: "log-densities are true",
    15: "divergences are unbiased",
    16: "guidance is its closed form",
    17: "labels stay with their data",
    18: "sampling changes no weights",
    19: "samples depend on seed, index",
    20: "training resumes to the bit",
    21: "processes train as one",
    22: "long steps: right or warned of",
    28: "conditions round-trip",
    29: "precision follows the input",
    30: "two heads: one flow, one SDE",
}


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

    @property
    def bound(self) -> str:
        """Where it must lie, in signs."""
        if self.least == 0:
            return f"<= {self.most:.3g}"
        return f">= {self.least:.3g}" if self.most == math.inf else f"in [{self.least:.5g}, {self.most:.5g}]"

    @property
    def strain(self) -> float:
        """How near its bound it lies: 0 far from it, or in the middle of two; 1 at a bound, and infinite beyond.

        A count, or what only must be large enough, strains nothing where it holds.
        """
        if not self.holds:
            return math.inf
        value, least, most = float(self.value), float(self.least), float(self.most)
        if most == math.inf or (value.is_integer() and most.is_integer()):
            return 0.0
        if least == 0:
            return value / most
        if least > 0:  # a ratio, or an order
            value, least, most = math.log(value), math.log(least), math.log(most)
        return abs(2 * value - least - most) / (most - least)

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} ({self.bound})"


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
        seconds: About what a case takes, on one core.
        is_whole: Whether all cases belong together, however long they take.
    """

    number: int
    name: str
    statement: str
    check: Check
    cases: Callable[[], Iterable[tuple[str, tuple[Any, ...]]]]
    seconds: float
    is_whole: bool

    def figures(self, case: str | None = None) -> Iterator[tuple[str, Figure]]:
        """Every figure of the law, or of one of its cases."""
        for name, parts in self.cases():
            if case in (None, name):
                for figure in self.check(*parts):
                    yield name, figure

    def chosen(self, seconds: float = math.inf) -> list[str]:
        """The cases that fit into this time, by name: at each turn one whose parts have been met least.

        A case is named after its parts. From FULL on, there is time for one case of every law at least.
        """
        is_full = seconds >= FULL
        count = math.inf if self.is_whole and is_full else max(seconds / self.seconds, is_full)
        left = {name: list(enumerate(re.split(r"->|[ :]", name))) for name, _ in self.cases()}
        met, found = Counter[tuple[int, str]](), list[str]()
        while left and len(found) + 1 <= count:
            found.append(min(left, key=lambda name: sum(met[part] for part in left[name])))
            met.update(left.pop(found[-1]))
        return found


_LAWS: list[Law] = []


def law(
    number: int,
    cases: Callable[[], Iterable[tuple[str, tuple[Any, ...]]]],
    seconds: float = 0.2,
    is_whole: bool = False,
) -> Callable[[Check], Check]:
    """Enter a function in the table; its docstring is the statement."""

    def enter(check: Check) -> Check:
        statement = " ".join((check.__doc__ or "").split())
        _LAWS.append(Law(number, check.__name__, statement, check, cases, seconds, is_whole))
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
