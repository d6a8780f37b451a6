"""What a long command shows while it runs: a bar with its figures, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pathline.trainer import Trainer

FIGURES = {"loss": "loss {:.4f}", "samples_per_second": "{:,.0f} samples/s", "memory_mb": "{:,} MB"}


@contextmanager
def progress(trainer: Trainer, console: Console) -> Iterator[Callable[[int], None]]:
    """A bar for a trainer: called with the step, and told of what it logs."""
    with _bar(console) as bar:
        task = bar.add_task("", total=trainer.config.steps, completed=trainer.step, figures="")
        skipped = trainer.skipped

        def listen(line: dict[str, Any]) -> None:
            nonlocal skipped
            if "loss" not in line:
                return
            shown = (text.format(line[name]) for name, text in FIGURES.items() if line[name] is not None)
            bar.update(task, figures="  ".join(shown))
            if line["skipped"] > skipped:
                new, skipped = line["skipped"] - skipped, line["skipped"]
                bar.console.print(f"step {line['step']}: {new} updates left out, as their gradient was not finite")

        trainer.listeners.append(listen)
        yield lambda step: bar.update(task, completed=step)


@contextmanager
def counting(console: Console, total: int, figures: str = "") -> Iterator[Callable[[int, str], None]]:
    """A bar that is called with how much is done, and what there is to say of it."""
    with _bar(console) as bar:
        task = bar.add_task("", total=total, figures=figures)
        yield lambda done, figures: bar.update(task, completed=done, figures=figures)


def _bar(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )
