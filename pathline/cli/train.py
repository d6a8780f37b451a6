"""`pathline train`: a preset, a TOML file or an interrupted run, to a run folder with a model and its pictures."""

from __future__ import annotations

import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pathline.cli.card import write_card
from pathline.cli.pictures import draw_all
from pathline.config import Config, load_config, presets
from pathline.data.files import SUFFIXES
from pathline.data.source import Samples
from pathline.runs import Run
from pathline.training import checkpoint
from pathline.training.ema import EMA
from pathline.training.loop import TrainStep, adamw, train, warmup_cosine
from pathline.training.loss import MatchingLoss
from pathline.training.validation import loss_by_time


@dataclass(frozen=True)
class Arguments:
    """Train a model. Leaves a run folder with the model, its settings, metrics, pictures and a model card."""

    config: Annotated[Config, tyro.conf.OmitArgPrefixes]
    out: Path | None = None
    """The run folder; unless given runs/PRESET, or runs/NAME for --data NAME.csv (or .npy, .npz)."""
    overwrite: bool = False
    """Replace the run in that folder."""
    resume: Path | None = None
    """Go on with the run in this folder, as it was configured."""


def main(argv: list[str]) -> int:
    """Run the command."""
    preset = argv.pop(0) if argv and not argv[0].startswith("-") else None
    if preset is None and not {"-h", "--help", "--resume"} & {word.partition("=")[0] for word in argv}:
        raise ValueError(
            f"name a preset ({', '.join(presets())}) or a file ending in .toml, or go on with --resume RUN"
        )
    base = load_config(preset) if preset else Config()
    arguments = tyro.cli(
        Arguments,
        prog=f"pathline train {preset or 'PRESET|FILE.toml'}",
        args=argv,
        default=Arguments(base),
    )
    console = Console(stderr=False)
    if arguments.resume is not None:
        return _resume(arguments, base, console)
    config = arguments.config
    samples = config.load()
    split = samples.split(config.held_out, config.seed)
    begin = config.load_start(samples.shape, split[0].units)
    field = config.field(samples.shape, len(samples.classes), len(samples.numbers))
    config.loss(field, begin)  # a wrong name is said here
    has_file = config.data != base.data and Path(config.data).suffix.lower() in SUFFIXES
    out = arguments.out or Path("runs") / Path(config.data if has_file else preset or "").stem
    return _train(Run.create(out, config, split[0], arguments.overwrite, begin), split, console, start=None)


def _resume(arguments: Arguments, base: Config, console: Console) -> int:
    if arguments.config != base or arguments.out is not None or arguments.overwrite:
        raise ValueError("--resume goes on with the settings of the run; leave out every other flag")
    assert arguments.resume is not None
    run = Run.open(arguments.resume)
    start = run.checkpoint().step
    if start >= run.config.steps and (run.folder / "README.md").exists():
        console.print(f"{run.folder} is finished: {start} steps. Sample it with: pathline sample {run.folder}")
        return 0
    samples = run.config.load()
    if (samples.shape, samples.classes, samples.columns) != (run.shape, run.classes, run.columns):
        raise ValueError(
            f"{run.config.data} is not what {run.folder} was trained on: its shape, classes or columns differ; restore "
            "it, or train a new run"
        )
    split = samples.split(run.config.held_out, run.config.seed)
    if run.digest not in ("", split[0].digest):
        raise ValueError(
            f"{run.config.data} has changed since {run.folder} was trained on it; restore it, or train a new run"
        )
    return _train(run, split, console, start)


def _train(run: Run, split: tuple[Samples, Samples], console: Console, start: int | None) -> int:
    config = run.config
    training, held_out = split
    loss = config.loss(config.field(run.shape, len(run.classes), len(run.numbers)), run.source())
    ema, optimizer = EMA(loss.field, config.ema), adamw(loss, config.learning_rate, config.weight_decay)
    if start is None:
        checkpoint.save(run.folder, 0, loss.field, ema, optimizer)
    else:
        checkpoint.restore(run.checkpoint(start), loss.field, ema, optimizer)
        run.forget_after(start)
    done = start or 0
    size = sum(p.numel() for p in loss.parameters())
    console.print(f"{config.data}: {len(training.x):,} samples to train on, {len(held_out.x):,} held out")
    console.print(f"{config.network} of {size:,} weights, {config.steps:,} steps of {config.batch_size} samples")
    steps = train(
        loss,
        run.normalisation.into(training.x),
        training.conditions,
        steps=config.steps,
        batch_size=config.batch_size,
        optimizer=optimizer,
        lr_schedule=warmup_cosine(config.warmup),
        ema=ema,
        clip=config.clip,
        start=done,
    )
    earlier = max((line["seconds"] for line in run.metrics() if "seconds" in line), default=0.0)
    began = time.monotonic() - earlier
    with _signals() as received, _progress(config.steps, done, console) as advance:
        for step in steps:
            done = step.step
            advance(step)
            _log(run, step, config, began)
            if done % config.evaluate_every == 0 or done == config.steps:
                _validate(run, done, loss, ema, held_out)
            if done % config.checkpoint_every == 0 or done == config.steps or received:
                checkpoint.save(run.folder, done, loss.field, ema, optimizer)
            if received:
                break
    if received and done < config.steps:
        print(f"interrupted at step {done}; go on with: pathline train --resume {run.folder}", file=sys.stderr)
        return 128 + received[0]
    seconds = time.monotonic() - began
    console.print(f"trained in {seconds:.0f} s; drawing samples")
    draw_all(run, training)
    write_card(run, training, held_out, seconds)
    console.print(_goodbye(run), highlight=False, soft_wrap=True)
    return 0


def _log(run: Run, step: TrainStep, config: Config, began: float) -> None:
    if step.step % config.log_every and step.step != config.steps and step.step != 1:
        return
    if not math.isfinite(float(step.loss)):
        raise ValueError(
            f"the loss is {float(step.loss)} at step {step.step}: the data may be wild, or --learning-rate "
            f"{config.learning_rate:g} too high; checkpoints made before are kept in {run.folder}"
        )
    seconds = time.monotonic() - began
    rate = step.step * config.batch_size / seconds
    run.log(
        step=step.step,
        loss=float(step.loss),
        gradient_norm=float(step.gradient_norm),
        seconds=round(seconds, 2),
        samples_per_second=round(rate, 1),
    )


def _validate(run: Run, step: int, loss: MatchingLoss, ema: EMA, held_out: Samples) -> None:
    with ema.applied():
        by_time = loss_by_time(loss, run.normalisation.into(held_out.x), held_out.conditions)
    run.log(step=step, held_out_loss=float(by_time.mean()), held_out_loss_by_t=[round(v, 5) for v in by_time.tolist()])


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The interruptions that came in, for the loop to see between two steps; a second one is not waited for."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        received.append(number)
        for interruption, handler in before.items():
            signal.signal(interruption, handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(steps: int, done: int, console: Console) -> Iterator[Callable[[TrainStep], None]]:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task("", total=steps, completed=done, loss=float("nan"))
        shown = 0.0

        def advance(step: TrainStep) -> None:
            nonlocal shown
            if time.monotonic() - shown > 0.25 or step.step == steps:
                shown = time.monotonic()
                bar.update(task, completed=step.step, loss=float(step.loss))

        yield advance


def _another_way(run: Run) -> str:
    if not run.config.is_bridge:
        return "--sigma beta:1.5 --steps 100"
    has_score = "score" in run.config.prediction.split(",")
    return f"--sigma {run.config.bridge:g} --steps 200" if has_score else "--sampler rk4"


def _goodbye(run: Run) -> str:
    folder = run.folder
    first = f" --class {shlex.quote(run.classes[min(3, len(run.classes) - 1)])} --guidance 2" if run.classes else ""
    return (
        f"\npictures:    {folder}/samples/grid.png\n"
        f"             {folder}/samples/noise-to-data.gif\n"
        f"             {folder}/samples/loss.png\n"
        f"model card:  {folder}/README.md\n"
        f"\ntry next:    pathline sample {folder}{first}\n"
        f"             pathline sample {folder} {_another_way(run)} --out another.png\n"
        f"             pathline info {folder}"
    )
