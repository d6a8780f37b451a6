"""`pathline verify`: the laws that hold this library together, checked here and now; with a run, its own model."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pathline.cli.flags import parsed
from pathline.cli.progress import counting
from pathline.cli.terminal import Terminal
from pathline.verify.checked import Outcome, Row, checked, rows
from pathline.verify.table import FALSE_ALARMS, FULL, QUICK, Figure, Law, laws

WIDE = 1000  # columns, where there is no terminal to ask
COLOURS = {"holds": "green", "FAILS": "bold red", "begun": "yellow"}


@dataclass(frozen=True)
class Arguments:
    """Check the laws that hold pathline together, on fields whose truth is known; or look at the model of a run.

    A row a law: whether it holds, what it was held to, and the figure that came nearest to its bound.
    """

    run: tyro.conf.Positional[Path | None] = None
    """A run folder, whose model is looked at instead."""
    quick: bool = False
    """Only what answers soon, in half a minute; of a run, less of it in a quarter of the time."""
    all: bool = False
    """Every case of every law, in an hour or so."""
    law: str = ""
    """Only the laws of these numbers, separated by commas, with every figure."""
    verbose: bool = False
    """Show every figure."""
    json: bool = False
    """Print JSON and nothing else."""
    workers: int | None = None
    """Processes to check laws in, each on one core; as many as there are cores, up to 4, unless given. Figures are the
    same for any number."""
    seed: int | None = None
    """Of what is drawn to look at a run; 0 unless given."""
    out: Path | None = None
    """Another place for the picture of a run, a .png; the .json goes beside it."""
    overwrite: bool = False
    """Replace a file at --out that pathline verify of this run did not write, or that has changed since. The run's own
    files and the data that it was trained on are never replaced."""


def main(argv: list[str]) -> int:
    """Run the command: 0 if every law holds, 1 if one fails, 130 if interrupted."""
    arguments = parsed(Arguments, "pathline verify", argv, is_paired=False)
    if arguments.run:
        if arguments.law or arguments.all or arguments.verbose or arguments.workers is not None:
            raise ValueError(
                f"--law, --all, --verbose and --workers are of the laws, not of a run; leave out {arguments.run}"
            )
        from pathline.cli.report import verify_run

        return verify_run(
            arguments.run, arguments.quick, arguments.json, arguments.seed or 0, arguments.out, arguments.overwrite
        )
    for flag, value in (
        ("--out", arguments.out),
        ("--seed", arguments.seed),
        ("--overwrite", arguments.overwrite or None),
    ):
        if value is not None:
            raise ValueError(
                f"{flag} is of a run that is looked at, and the laws leave no file; name the run, as in "
                f"pathline verify runs/digits, or leave {flag} out"
            )
    if arguments.quick and arguments.all:
        raise ValueError("--quick and --all are not for one call; leave out one of them")
    most = min(4, os.cpu_count() or 1) if arguments.workers is None else arguments.workers
    if most < 1:
        raise ValueError(f"--workers must be at least 1, got {most}")
    seconds = QUICK if arguments.quick else math.inf if arguments.all else FULL
    cases = [(law, case) for law in _asked(arguments.law) for case in law.chosen(seconds)]
    if not cases:
        raise ValueError(f"--quick has no time for a case of law {arguments.law}; leave it out")
    workers = min(most, len(cases))
    begin, found, is_interrupted = time.monotonic(), list[Outcome](), False
    try:
        with counting(Terminal(stderr=True, quiet=arguments.json), len(cases), "cases") as show:
            for outcome in checked(cases, workers):
                found.append(outcome)
                show(len(found), outcome.law.name.replace("_", " "))
            show(len(found), "")
    except KeyboardInterrupt:
        is_interrupted = True
    table, took = rows(cases, found), time.monotonic() - begin
    if arguments.json:
        values = {**_values(table), "seconds": took, "workers": workers, "is_interrupted": is_interrupted}
        print(json.dumps(values, indent=1, allow_nan=False))
    else:
        if arguments.verbose or arguments.law:
            _tell_each(table)
        _tell(table)
        if is_interrupted:
            print(f"interrupted: {len(found)} of {len(cases)} cases were checked", file=sys.stderr)
        _sum_up(table, took, workers)
    return 130 if is_interrupted else int(not all(row.holds for row in table))


def _asked(numbers: str) -> list[Law]:
    """The laws of these numbers, or all of them."""
    known = sorted({law.number for law in laws()})
    words = [word.strip() for word in numbers.split(",")] if numbers else list(map(str, known))
    if not set(words) <= set(map(str, known)):
        raise ValueError(f"--law must be numbers from {known[0]} to {known[-1]}, with commas between, got {numbers!r}")
    return [law for law in laws() if str(law.number) in words]


def _tell(table: Sequence[Row]) -> None:
    """A row a law, and below them what fails, and how."""
    shown = _Columns("", "", "law", "held to", "nearest to its bound", "", "")
    for row in table:
        worst = row.worst.worst
        figures = ("raised", "", "") if row.worst.error or not worst else _words(worst)
        shown.add(row.verdict, f"{row.number:2}", row.title, row.parts, *figures)
    shown.print()
    for outcome in (outcome for row in table for outcome in row.outcomes if not outcome.holds):
        print(f"\nFAILS {outcome}\n  {outcome.law.statement}")
        for figure in outcome.figures:
            if not figure.holds:
                print(f"  {figure}")
        if outcome.error:
            print(f"  {outcome.error}")


def _tell_each(table: Sequence[Row]) -> None:
    """Every figure, below the statement of its law."""
    for row in table:
        for law in dict.fromkeys(outcome.law for outcome in row.outcomes):
            print(f"law {row.number}, {law.name}\n{law.statement}")
            shown = _Columns("", "case", "figure", "", "")
            for outcome in (outcome for outcome in row.outcomes if outcome.law is law):
                for figure in outcome.figures:
                    shown.add("holds" if figure.holds else "FAILS", outcome.case, *_words(figure))
                if outcome.error:
                    shown.add("FAILS", outcome.case, outcome.error, "", "")
            shown.print()
            print()


def _sum_up(table: Sequence[Row], took: float, workers: int) -> None:
    outcomes = [outcome for row in table for outcome in row.outcomes]
    figures = sum(len(outcome.figures) for outcome in outcomes)
    if failed := sum(not row.holds for row in table):
        verdict = f"{failed} of {len(table)} laws FAIL"
    elif any(row.verdict == "begun" for row in table):
        verdict = "no law fails so far"
    else:
        verdict = f"all {len(table)} laws hold" if len(table) > 1 else "the law holds"
    cores = "1 core" if workers == 1 else f"{workers} cores"
    print(f"\n{verdict}: {figures:,} figures of {len(outcomes):,} cases, in {took:.0f} s on {cores}")
    print(f"by chance alone, with other seeds, at most {100 * _false_alarms(table):.2g} % of such runs would fail")


def _false_alarms(table: Sequence[Row]) -> float:
    """The share of seeds for which a check fails by chance, at most."""
    return FALSE_ALARMS * len({outcome.law.name for row in table for outcome in row.outcomes})


def _words(figure: Figure) -> tuple[str, str, str]:
    return figure.name, f"{figure.value:.3g}", figure.bound


class _Columns:
    """A table of plain words: a line a row where there is room for it, and two in a terminal that is too narrow."""

    def __init__(self, *names: str) -> None:
        self._names, self._rows = names, list[tuple[str, ...]]()

    def add(self, *words: str) -> None:
        self._rows.append(words)

    def print(self) -> None:
        console = Console() if sys.stdout.isatty() else Console(width=WIDE)
        table = self._one_line()
        if len(self._names) == 7 and Console(width=WIDE).measure(table).maximum > console.width:
            table = self._two_lines()
        console.print(table, highlight=False)

    def _one_line(self) -> Table:
        table = Table(*self._names, box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.columns[-2].justify = "right"
        for verdict, *words in self._rows:
            table.add_row(Text(verdict, COLOURS[verdict]), *map(Text, words))
        return table

    def _two_lines(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for verdict, number, law, held_to, figure, value, bound in self._rows:
            table.add_row(Text(verdict, COLOURS[verdict]), number, Text(law), Text(held_to))
            table.add_row("", "", Text(figure, "dim"), Text(f"{value} {bound}", "dim"))
        return table


def _values(table: Sequence[Row]) -> dict[str, Any]:
    """All of it, for machines; a number that is not finite is null."""
    return {
        "versions": {"pathline": version("pathline"), "torch": torch.__version__},
        "threads": 1,
        "holds": all(row.holds for row in table),
        "false_alarms": _false_alarms(table),
        "laws": [
            {
                "law": row.number,
                "title": row.title,
                "verdict": row.verdict,
                "held_to": row.parts,
                "worst": {"name": row.worst.law.name, "case": row.worst.case},
            }
            for row in table
        ],
        "cases": [
            {
                "law": row.number,
                "name": outcome.law.name,
                "statement": outcome.law.statement,
                "case": outcome.case,
                "holds": outcome.holds,
                "seconds": _finite(outcome.seconds),
                "error": outcome.error or None,
                "figures": [
                    {
                        "figure": figure.name,
                        "value": _finite(figure.value),
                        "least": _finite(figure.least),
                        "most": _finite(figure.most),
                        "holds": figure.holds,
                    }
                    for figure in outcome.figures
                ],
            }
            for row in table
            for outcome in row.outcomes
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
