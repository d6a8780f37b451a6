"""`pathline train`: a preset, a TOML file or an interrupted run, to a run folder with a model and its pictures."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from pathline.cli import board, legs
from pathline.cli.board import Board
from pathline.cli.card import write_card
from pathline.cli.flags import parsed
from pathline.cli.interruption import Interruption
from pathline.cli.pictures import check_schedule, draw_all, draw_preview, drawn_as, sample_preview
from pathline.cli.progress import progress
from pathline.cli.several import parsed_once, said_once
from pathline.cli.terminal import Terminal, warn
from pathline.config import Config, load_config, presets
from pathline.data.classes import number
from pathline.data.files import SUFFIXES
from pathline.data.source import Samples
from pathline.fields.modes import evaluating
from pathline.quoting import command
from pathline.runs import Run, encoder_for
from pathline.trainer import Trainer
from pathline.training import checkpoint
from pathline.training.checkpoint import Checkpoint
from pathline.training.distributed import Group, is_one_of_several, joined
from pathline.training.validation import Stopped


@dataclass(frozen=True)
class Arguments:
    """Train a model. Leaves a run folder with the model, its settings, metrics, pictures and a model card."""

    config: Annotated[Config, tyro.conf.OmitArgPrefixes]
    out: Path | None = None
    """The run folder; unless given runs/PRESET, or runs/NAME for --data NAME.csv (or another file or folder)."""
    overwrite: bool = False
    """Replace the run in that folder."""
    resume: Path | None = None
    """Go on with the run in this folder. Other --steps, --learning-rate, --ema and the like begin a new leg, which is
    recorded; what the model is cannot change."""


def main(argv: list[str]) -> int:
    """Run the command."""
    with said_once(), ExitStack() as stack:
        preset = argv.pop(0) if argv and not argv[0].startswith("-") else None
        if preset is None and not {"-h", "--help", "--resume"} & {word.partition("=")[0] for word in argv}:
            raise ValueError(
                f"name a preset ({', '.join(presets())}) or a file ending in .toml, or go on with --resume RUN"
            )
        base = load_config(preset) if preset else Config()
        arguments = _parsed(argv, preset, base)
        run, wanted = (None, None) if arguments.resume is None else _resumed(argv, arguments.resume, preset)
        config = wanted or arguments.config
        if config.tensorboard:
            board.check()
        group = stack.enter_context(joined(config.shard, config.device))
        console = Terminal(quiet=not group.is_first)
        if run is None or wanted is None:
            run, split = _new(arguments, preset or "", base, group, stack)
            return _train(run, split, console, group, is_new=True)
        if group.is_first:
            stack.enter_context(run.locked())
            known = Run.open(run.folder)
            if (known.config, known.legs) != (run.config, run.legs):
                raise ValueError(f"{run.folder} was changed by another process just now; look at it, and try again")
        return _go_on(run, wanted, console, group)


def _parsed(argv: list[str], preset: str | None, base: Config) -> Arguments:
    with parsed_once():
        words = _with_dropped_columns(argv)
        return parsed(Arguments, f"pathline train {preset or 'PRESET|FILE.toml'}", words, Arguments(base))


def _with_dropped_columns(argv: list[str]) -> list[str]:
    """The same words, with --drop-columns for a --drop that names columns; of a number it is a share of conditions."""
    found, columns, words = list[str](), list[str](), iter(argv)
    for word in words:
        name, is_joined, value = word.partition("=")
        rest = [value] if is_joined else [next(words, "")] if name in ("--drop", "--drop-columns") else []
        is_of_columns = name == "--drop-columns" or (name == "--drop" and number(rest[0]) is None)
        if is_of_columns and rest[0] and not rest[0].startswith("--"):
            columns += rest
        else:
            found += [word] if is_joined else [word, *filter(None, rest)]
    return [*found, f"--drop-columns={','.join(columns)}"] if columns else found


def _new(
    arguments: Arguments, preset: str, base: Config, group: Group, stack: ExitStack
) -> tuple[Run, tuple[Samples, Samples]]:
    """A new run, and what it is trained and validated on. Its folder is made by the first process."""
    config = arguments.config.resolved()
    group.check(config.batch_size, config.accumulate)
    name = _name_of(config.data) if config.data != base.data else ""
    out = arguments.out or Path("runs") / (name or Path(preset).stem)
    if group.is_first:
        Run.check_place(out, arguments.overwrite)
    samples = _read(config, group)
    split = samples.split(config.held_out, config.seed)
    begin = config.load_start(samples.shape, split[0].units, len(samples), samples.columns)
    begin_held_out = None
    if begin is not None and config.paired:
        held = samples.held_out(config.held_out, config.seed)
        begin, begin_held_out = begin[~held], begin[held]
    encoder = group.in_turn(lambda: encoder_for(config, split[0]))
    form = None if encoder is None else encoder.form
    field = config.field(samples.shape, len(samples.classes), len(samples.numbers), form)
    config.loss(field, begin)  # refuses wrong names
    if not config.is_bridge:
        check_schedule(field, samples.shape, config.schedule)
    if group.is_first:
        run = Run.create(out, config, split[0], arguments.overwrite, begin, encoder, split[1], begin_held_out)
        stack.enter_context(run.locked())
        if Run.open(out).config != config:
            raise ValueError(f"{out} was replaced by another process just now; name another folder with --out")
    group.wait()
    if not out.exists():
        raise ValueError(f"{out} is not there, though the first process made it; name a folder that all machines share")
    run = Run.open(out)
    if run.digest != split[0].digest:
        raise ValueError(f"{config.data} is not the same here as where the first process reads it; copy it from there")
    return run, split


def _read(config: Config, group: Group) -> Samples:
    """The data. A large file takes its time when it is read first, which is shown."""
    with Terminal(quiet=not group.is_first).waiting(f"reading {config.data}"):
        return group.in_turn(config.load)


def _name_of(data: str) -> str:
    """What a run on data of one's own is called: as its file or folder; nothing for a data set of a known name."""
    path = Path(data.removeprefix("hf:").partition(",")[0])
    is_own = data.startswith("hf:") or path.suffix.lower() in SUFFIXES or path.exists()
    return (path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem) if is_own else ""


def _resumed(argv: list[str], folder: Path, preset: str | None) -> tuple[Run, Config]:
    """The run to go on with, and the settings that are wanted from here on: its own, but for the flags that are given.

    Raises:
        ValueError: If a flag is of what cannot change.
    """
    run = Run.open(folder)
    arguments = _parsed(argv, None, run.config)
    others = (preset, "--out" if arguments.out else "", "--overwrite" if arguments.overwrite else "")
    if word := next(filter(None, others), ""):
        raise ValueError(f"--resume goes on with the run in {folder}, and in its folder; leave out {word}")
    wanted = arguments.config
    wanted = wanted if wanted.precision == run.config.precision else wanted.resolved()
    legs.check(run, wanted)
    is_told = wanted.shard != run.config.shard
    return run, replace(wanted, shard=wanted.shard and (is_one_of_several() or is_told))


def _go_on(run: Run, wanted: Config, console: Terminal, group: Group) -> int:
    is_finished = (run.folder / "README.md").exists()
    is_new = not is_finished and not checkpoint.steps_of(run.folder)  # it was killed before the first was there
    step = 0 if is_new else _newest(run, group).step
    if is_new:
        console.say(f"{run.folder} has no checkpoint yet: training begins at step 0")
    elif is_finished and step >= run.config.steps and not legs.changed(run, wanted):
        console.say(
            f"{run.folder} is finished: {run.config.steps} steps. Sample it with: {command('sample', run.folder)}; go "
            f"on with: {command('train', resume=run.folder, steps=2 * step)}"
        )
        return 0
    legs.check_steps(run, step, wanted)
    samples = _read(wanted, group)
    if (samples.shape, samples.classes, samples.columns, samples.numbers) != (
        run.shape,
        run.classes,
        run.columns,
        run.numbers,
    ):
        raise ValueError(
            f"{wanted.data} is not what {run.folder} was trained on: its shape, classes, columns or numbers differ; "
            "restore it, or train a new run"
        )
    if run.digest not in ("", samples.digest):
        raise ValueError(
            f"{wanted.data} has changed since {run.folder} was trained on it; restore it, or train a new run"
        )
    known = len(run.legs)
    run = legs.begun(run, step, wanted, group.is_first)
    group.wait()
    if len(run.legs) > known:
        console.say(legs.told(run, step))
    return _train(run, samples.split(wanted.held_out, wanted.seed), console, group, is_new)


def _train(run: Run, split: tuple[Samples, Samples], console: Terminal, group: Group, is_new: bool) -> int:
    config, (training, held_out) = run.config, split
    trainer = Trainer(run, training, held_out, group)
    if group.is_first and is_new:
        for units in filter(None, (run.normalisation, run.normalisation_of_numbers)):
            for note in units.notes:
                warn("train", note)
    if is_new:
        trainer.begin()
    else:
        for note in trainer.restore(_newest(run, group)):
            console.say(note)
    console.say(training.title)
    console.say(f"{len(training):,} samples to train on, {len(held_out):,} held out")
    console.say(run.normalised)
    if rule := drawn_as(run):
        console.say(f"pictures: {rule}")
    console.say(f"{config.network} of {trainer.size:,} weights, {config.steps:,} steps of {config.batch_size} samples")
    with ExitStack() as stack:
        is_interrupted = stack.enter_context(Interruption())
        show = stack.enter_context(progress(trainer, console))
        previews = stack.enter_context(Previews(trainer))
        for step in trainer.steps(lambda: bool(is_interrupted)):
            show(step.step)
            previews(step.step, lambda: bool(is_interrupted))
    if trainer.step < config.steps or (is_interrupted and group.size == 1):
        if group.is_first:
            again = command("train", resume=run.folder)
            print(f"interrupted at step {trainer.step}; go on with: {again}", file=sys.stderr)
        return 128 + (is_interrupted.number or signal.SIGTERM)
    if group.is_first:
        console.say("trained; drawing samples")
        draw_all(run, training)
        write_card(run, training, held_out)
        console.say(*_goodbye(run))
    group.wait()
    return 0


def _newest(run: Run, group: Group) -> Checkpoint:
    """The checkpoint that the first process goes on from: on another machine the folder may lag behind."""
    found = run.checkpoint() if group.is_first else None
    step = group.of_first(found.step if found else 0)
    return found or run.checkpoint(step)


class Previews:
    """What is shown of the samples while training goes on, as pictures and for TensorBoard."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        is_mine = trainer.group.is_first
        self.every = trainer.config.preview_every
        self.board = Board(trainer.run.folder, trainer.step) if trainer.config.tensorboard and is_mine else None
        if self.board is not None:
            trainer.listeners.append(self.board)

    def __enter__(self) -> Previews:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            self.board.close()

    def __call__(self, step: int, is_asked_to_stop: Callable[[], bool] = lambda: False) -> None:
        """Draw samples of the averaged weights, if it is time to, unless asked to stop before they are there.

        A network that is shared out needs all processes, and stops for none.
        """
        trainer = self.trainer
        if not self.every or step % self.every or not (trainer.group.is_first or trainer.group.is_sharded):
            return
        is_free = not trainer.group.is_sharded
        try:
            with trainer.ema.applied(), evaluating(trainer.loss):
                x = sample_preview(trainer.run, trainer.field, lambda: is_free and is_asked_to_stop())
        except Stopped:
            return
        if trainer.group.is_first:
            picture = draw_preview(trainer.run, x, trainer.run.samples_folder / f"preview-{step:08d}.png")
            if self.board is not None:
                self.board.show(picture, step)


def _another_way(run: Run) -> dict[str, object]:
    """Flags that sample the run in another way than by default."""
    if not run.config.is_bridge:
        return {"sigma": "beta:1.5", "steps": 100}
    if "score" in run.config.prediction.split(","):
        return {"sigma": f"{run.config.bridge:g}", "steps": 200}
    return {"sampler": "rk4"}


def _conditioned(run: Run) -> dict[str, object]:
    """Flags that sample the run under a condition, as far as it takes any."""
    w = f"{max(2.0, run.config.guidance) if 'text' in run.kinds else 2.0:g}" if run.config.drop else None
    if "text" in run.kinds:
        captions = map(str, run.kept()["text"])
        prompt = next((each for each in captions if run.encoder.encode([each]).mask.any()), "")
        return {"prompt": prompt, "guidance": w}
    if run.numbers:
        return {"numbers": ",".join(f"{v:.4g}" for v in run.kept()["numbers"].median(0).values.tolist())}
    return {"class_": run.classes[min(3, len(run.classes) - 1)], "guidance": w} if run.classes else {}


def _goodbye(run: Run) -> list[str]:
    """Where things are, and what to do with them, a line each."""
    folder = run.folder
    return [
        "",
        f"pictures:    {folder}/samples/grid.png",
        f"             {folder}/samples/noise-to-data.gif",
        f"             {folder}/samples/loss.png",
        f"model card:  {folder}/README.md",
        "",
        f"try next:    {command('sample', folder, **_conditioned(run))}",
        f"             {command('sample', folder, **_another_way(run), out='another.png')}",
        f"             {command('compare' if run.config.is_bridge else 'tune', folder)}",
        f"             {command('info', folder)}",
    ]
