"""What a long command shows while it runs: a bar on a terminal, a plain line now and then anywhere else.

A plain line comes with every tenth of the work and after every 30 seconds, so that a log file stays short however long
the work takes. After a few steps a line says how long all of it will take.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from pathline.quoting import shown
from pathline.trainer import Trainer

FIGURES = {"loss": "loss {:.4f}", "samples_per_second": "{:,.0f} samples/s", "memory_mb": "{:,} MB"}
LINES = 10  # plain lines by shares of the work
EVERY = 30.0  # seconds between two plain lines, at most
LEAST = 1.0  # seconds between two plain lines, at least, where the work is none of training
SEEN, MEASURED = 5, 3.0  # units of work and seconds after which the time for all of it is estimated


class Show(Protocol):
    """What a loop calls between two pieces of its work."""

    def __call__(self, done: int, figures: str = "") -> None:
        """Show how much is done in all, and what there is to say of it."""


@contextmanager
def counting(console: Console, total: int, unit: str = "") -> Iterator[Show]:
    """Show how far some work has come.

    Args:
        console: Where to. On a terminal it is a bar, elsewhere plain lines.
        total: How much there is to do.
        unit: What is counted, in the plural, such as "samples".
    """
    with _display(console, total, 0, unit, LEAST) as display:
        yield display.show


@contextmanager
def progress(trainer: Trainer, console: Console) -> Iterator[Show]:
    """Show a training: called with the step, and told of what it logs. It says how long the steps will take."""
    total, skipped = trainer.config.steps, trainer.skipped
    told = ""
    with _display(console, total, trainer.step, "steps", 0.0) as display:
        pace = Pace(total, trainer.step)

        def listen(line: dict[str, Any]) -> None:
            nonlocal skipped, told
            if "loss" not in line:
                return
            told = "  ".join(text.format(line[name]) for name, text in FIGURES.items() if line[name] is not None)
            if line["skipped"] > skipped:
                new, skipped = line["skipped"] - skipped, line["skipped"]
                display.say(f"step {line['step']}: {new} updates left out, as their gradient was not finite")

        def show(done: int, figures: str = "") -> None:
            if (estimate := pace.estimate(done)) is not None:
                display.say(f"about {duration(estimate)} for {total - pace.begun:,} steps, then the pictures")
            display.show(done, figures or told)

        trainer.listeners.append(listen)
        yield show


@contextmanager
def waiting(console: Console, words: str) -> Iterator[None]:
    """Say what goes on where it cannot be counted: beside a wheel on a terminal, as a plain line elsewhere."""
    if console.is_interactive:
        with console.status(Text(shown(words))):
            yield
    else:
        _say(console, words)
        yield


class Pace:
    """How fast some work goes.

    Args:
        total: How much there is to do in all.
        begun: How much of it was done before.
        clock: What tells the time in seconds.
    """

    def __init__(self, total: int, begun: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.begun, self._clock = total, begun, clock
        self._since: tuple[int, float] | None = None  # the first unit of work may take far longer than others
        self._is_told = False

    def estimate(self, done: int) -> float | None:
        """Seconds that all of the work will take, once, as soon as enough was seen of it; else None."""
        now = self._clock()
        if self._since is None:
            self._since = done, now
        first, began = self._since
        seen, took = done - first, now - began
        is_known = seen >= SEEN and (took >= MEASURED or (done - self.begun) * LINES >= self.total - self.begun)
        if self._is_told or not is_known:
            return None
        self._is_told = True
        return took / seen * (self.total - self.begun)

    def left(self, done: int) -> float | None:
        """Seconds that the rest of the work will take; None as long as that cannot be told."""
        now = self._clock()
        if self._since is None:
            self._since = done, now
        seen, took = done - self._since[0], now - self._since[1]
        return took / seen * (self.total - done) if seen >= SEEN or (took >= MEASURED and seen) else None


class Lines:
    """When a plain line is due: with every tenth of the work, and when none came for 30 seconds.

    Args:
        total: How much there is to do in all.
        begun: How much of it was done before.
        least: Seconds between two lines by shares of the work, at least.
        clock: What tells the time in seconds.
    """

    def __init__(
        self, total: int, begun: int = 0, least: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total, self._least, self._clock = max(total, 1), least, clock
        self._share, self._last = begun * LINES // self._total, clock()

    def is_due(self, done: int) -> bool:
        """Whether a line is due now that so much is done; it counts as printed then."""
        share, now = done * LINES // self._total, self._clock()
        is_due = (share > self._share and now - self._last >= self._least) or now - self._last >= EVERY
        if is_due:
            self._share, self._last = share, now
        return is_due


def duration(seconds: float) -> str:
    """A time in words, to two digits or so: `40 s`, `9 min`, `1 h 20 min`."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"


class _Display(ABC):
    """Where the progress of some work is shown."""

    @abstractmethod
    def show(self, done: int, figures: str = "") -> None:
        """Show how much is done in all, and what there is to say of it."""

    @abstractmethod
    def say(self, words: str) -> None:
        """Print a line of its own."""


@contextmanager
def _display(console: Console, total: int, done: int, unit: str, least: float) -> Iterator[_Display]:
    if not console.is_interactive:
        yield _Plain(console, total, done, unit, least)
        return
    with Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    ) as bar:
        yield _Bar(bar, total, done)


class _Bar(_Display):
    def __init__(self, bar: Progress, total: int, done: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total, completed=done, figures="")

    def show(self, done: int, figures: str = "") -> None:
        self._bar.update(self._task, completed=done, figures=shown(figures))

    def say(self, words: str) -> None:
        _say(self._bar.console, words)


class _Plain(_Display):
    def __init__(self, console: Console, total: int, done: int, unit: str, least: float) -> None:
        self._console, self._total, self._unit = console, total, unit
        self._pace, self._lines = Pace(total, done), Lines(total, done, least)

    def show(self, done: int, figures: str = "") -> None:
        left = self._pace.left(done)
        if self._lines.is_due(done):
            of = f"{done:,} of {self._total:,} {self._unit}".rstrip()
            rest = f"about {duration(left)} left" if left is not None and done < self._total else ""
            _say(self._console, ", ".join(filter(None, (of, figures.replace("  ", ", "), rest))))

    def say(self, words: str) -> None:
        _say(self._console, words)


def _say(console: Console, words: str) -> None:
    console.print(Text(shown(words)), soft_wrap=True)
