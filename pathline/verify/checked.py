"""Laws, checked: cases run in processes of their own, each outcome as it comes, and a row for each number.

A case has one thread and its own seeds, so that its figures are the same however many processes there are.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from pathline.likelihood.divergence import Divergence
from pathline.paths.couplings import Coupling
from pathline.paths.predictions import Prediction
from pathline.paths.schedules import Schedule
from pathline.sampling.sampler import Sampler
from pathline.sampling.sigmas import Sigma
from pathline.solvers.solver import Solver
from pathline.verify.table import TITLES, Figure, Law, laws

FAMILIES: dict[type, str] = {
    Prediction: "prediction",
    Schedule: "schedule",
    Sigma: "sigma",
    Solver: "solver",
    Sampler: "sampler",
    Coupling: "coupling",
    Divergence: "divergence",
}


@dataclass(frozen=True)
class Outcome:
    """What a case of a law came to: its figures, and what was raised instead of more."""

    law: Law
    case: str
    seconds: float = math.nan
    figures: tuple[Figure, ...] = ()
    error: str = ""

    @property
    def holds(self) -> bool:
        """Whether every figure is within its bound, and nothing was raised."""
        return not self.error and all(figure.holds for figure in self.figures)

    @property
    def worst(self) -> Figure | None:
        """The figure nearest to its bound, or the first beyond it; None where there is none."""
        return max(self.figures, key=lambda figure: figure.strain, default=None)

    def __str__(self) -> str:
        return f"law {self.law.number}, {self.law.name}({self.case})"


@dataclass(frozen=True)
class Row:
    """A number in the list of laws: the cases that it was to be held to, and what those came to that are done."""

    number: int
    cases: int
    outcomes: Sequence[Outcome]

    @property
    def title(self) -> str:
        """The law in a few words."""
        return TITLES[self.number]

    @property
    def holds(self) -> bool:
        """Whether every case does."""
        return all(outcome.holds for outcome in self.outcomes)

    @property
    def verdict(self) -> str:
        """In a word; a law that was not checked to its end is only begun."""
        return "FAILS" if not self.holds else "holds" if len(self.outcomes) == self.cases else "begun"

    @property
    def worst(self) -> Outcome:
        """The case that came nearest to a bound, or the first beyond it or that raised."""
        return max(self.outcomes, key=lambda case: math.inf if case.error or not case.worst else case.worst.strain)

    @property
    def parts(self) -> str:
        """What it was held to: how many of each family, or cases where they have none."""
        parts = [part for outcome in self.outcomes for part in _flat(_parts(outcome.law)[outcome.case])]
        met = {name: {repr(part) for part in parts if isinstance(part, family)} for family, name in FAMILIES.items()}
        counts = {name: len(found) for name, found in met.items() if found} or {"case": len(self.outcomes)}
        return ", ".join(f"{count} {name}" + "s" * (count > 1) for name, count in counts.items())


def _flat(parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        yield from _flat(part) if isinstance(part, tuple) else (part,)


def rows(cases: Sequence[tuple[Law, str]], outcomes: Iterable[Outcome]) -> list[Row]:
    """What came of cases by the number of their law, in their order."""
    found = {(outcome.law.name, outcome.case): outcome for outcome in outcomes}
    table = []
    for number in sorted({law.number for law, _ in cases}):
        names = [(law.name, case) for law, case in cases if law.number == number]
        if done := [found[name] for name in names if name in found]:
            table.append(Row(number, len(names), done))
    return table


def checked(cases: Sequence[tuple[Law, str]], workers: int = 1) -> Iterator[Outcome]:
    """What each case comes to, as they are done, those that take long first; one that raises does not stop the rest."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        order = sorted(cases, key=lambda case: -case[0].seconds)
        asked = {pool.submit(_check, law.name, case): (law, case) for law, case in order}
        for done in as_completed(asked):
            try:
                seconds, figures, error = done.result()
                yield Outcome(*asked[done], seconds, figures, error)
            except BrokenProcessPool as ended:
                yield Outcome(*asked[done], error=_one_line(ended))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()


def _begin() -> None:
    """Set up a process: one thread, no word of warnings, and an end at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def _check(name: str, case: str) -> tuple[float, tuple[Figure, ...], str]:
    begin, found, error = time.perf_counter(), list[Figure](), ""
    try:
        torch.manual_seed(0)
        law = next(law for law in laws() if law.name == name)
        found.extend(law.check(*_parts(law)[case]))
    except Exception as raised:
        error = _one_line(raised)
    if not found and not error:
        error = "gave no figure"
    return time.perf_counter() - begin, tuple(found), error


@cache
def _parts(law: Law) -> dict[str, tuple[Any, ...]]:
    return dict(law.cases())


def _one_line(error: BaseException) -> str:
    """What was raised, and where."""
    where = "".join(
        f" (in {at.name}, {Path(at.filename).name}:{at.lineno})"
        for at in traceback.extract_tb(error.__traceback__)[-1:]
    )
    return f"raised {type(error).__name__}: {' '.join(str(error).split())}{where}"
