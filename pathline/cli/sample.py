"""`pathline sample`: samples of a trained model, as a picture or as numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pathline.asked import Asked
from pathline.cli import tuned
from pathline.cli.conditions import prompts_from, wished
from pathline.cli.flags import parsed
from pathline.cli.outputs import Outputs
from pathline.cli.progress import counting
from pathline.cli.samplers import check_grid, on_grid, sampler_of, words_of
from pathline.cli.terminal import Terminal, say, warn
from pathline.cli.written import OF_FILES, check, written
from pathline.fields.network import NetworkField
from pathline.model import Batch, batches
from pathline.noise import Noise
from pathline.quoting import command
from pathline.runs import Run
from pathline.sampling.adaptive import AdaptiveSampler
from pathline.sampling.sample import start_of
from pathline.sampling.sampler import STEPS, Sampler
from pathline.solvers.adaptive import EvaluationsError
from pathline.training.checkpoint import Checkpoint

MEASURED = 64  # points that the curvature of a model's paths is measured on


@dataclass(frozen=True)
class Arguments:
    """Make samples with a trained model."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    count: int = 100
    """How many."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """The class of all of them, by name or index; each class in turn unless given."""
    numbers: str | None = None
    """The numbers of all of them, in the units of the data, separated by commas; those of training samples unless
    given."""
    steps: int | None = None
    """Steps of the sampler; 50 unless --evaluations is given."""
    evaluations: int | None = None
    """Calls of the network at most, instead of --steps. A solver that pathline tune fitted to so many is used."""
    sampler: str | None = None
    """The best general method unless given.
    With one call of the network a step: euler, ddim:ETA, adams-bashforth, adams-moulton, dpm, deis, unipc (:ORDER).
    With more: midpoint, heun, ralston, rk4, dormand-prince, tsitouras.
    In steps of each sample's own: dopri5:TOLERANCE, tsit5:TOLERANCE.
    With noise: churn:AMOUNT, predictor-corrector:CORRECTIONS.
    With noise of a --sigma: euler-maruyama, stochastic-heun, exponential-sde:ORDER."""
    sigma: str | None = None
    """Diffusion of an SDE: a number, beta:SCALE for proportional to the noise left, or memoryless."""
    grid: str | None = None
    """Where it stops: uniform, cosine, shifted:SHIFT, power:POWER, log-snr, karras:RHO, or curvature.
    The last is measured on this model. As suits the sampler unless given."""
    prompt: str | None = None
    """What all of them are to show, in the words of the captions; an empty one stands for no condition. Captions of
    training samples unless given."""
    prompts: Path | None = None
    """A file with a prompt in each line, which the samples have in turn."""
    negative: str | None = None
    """A prompt that guidance leads away from, in place of no condition."""
    guidance: float | None = None
    """Guidance scale: 0 ignores all conditions, 1 is the model itself, more exaggerates them."""
    class_shares: Literal["equal", "data"] = "equal"
    """How often classes come without --class: equal, each in turn; data, drawn with the shares that they have in the
    training data."""
    seed: int = 0
    """Sample i depends on the seed and i only."""
    batch_size: int | None = None
    """Samples at once; as many as fit a gigabyte of memory unless given. Sample i does not depend on it, but for what a
    network rounds (1e-5)."""
    out: str | None = None
    """A .png; an .npz with x in the units of the data, and y; a .csv of vectors, with the names of its columns, and
    their class or numbers; or FOLDER/ for single images, with their conditions in metadata.jsonl.
    RUN/samples/sample.png unless given."""
    overwrite: bool = False
    """Replace a file or folder at --out that pathline sample of this run did not write, or that has changed since. The
    run's own files and the data that it was trained on are never replaced."""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parsed(Arguments, "pathline sample", argv)
    for name in ("count", "batch_size"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    run = Run.open(arguments.run)
    outputs, suffix = _outputs(run, arguments)
    sampler = sampler_of(arguments.sampler, arguments.sigma)
    if arguments.grid is not None:
        check_grid(sampler, arguments.grid)
    found = run.checkpoint()
    network = run.field_at(found)
    wish = _wish(run, arguments)
    way = _way(run, found, network, sampler, wish, arguments)
    (out,) = outputs.paths
    with outputs.opened() as parts:
        more = written(wish, _shown(way.made(wish, network), way), arguments.count, parts[out], suffix)
    say(f"{arguments.count} samples by {way.words()}: {out}{more}")
    return 0


def _outputs(run: Run, arguments: Arguments) -> tuple[Outputs, str]:
    """What is to be written, and its suffix: none of a folder.

    Raises:
        ValueError: If it cannot be, or must not.
    """
    default = run.samples_folder / "sample.png"
    out = Path(arguments.out or default)
    is_folder = str(arguments.out).endswith(("/", os.sep)) or (out.is_dir() and out.suffix.lower() not in OF_FILES)
    suffix = "" if is_folder else out.suffix.lower() or "."
    check(run, arguments.count, out, suffix)
    read = [] if arguments.prompts is None else [str(arguments.prompts)]
    return Outputs(run, "sample", [out], default, arguments.overwrite, read, is_folder), suffix


def _wish(run: Run, arguments: Arguments) -> Asked:
    """What samples are to be, as the flags say it."""
    return wished(
        run,
        arguments.guidance,
        arguments.label,
        arguments.numbers,
        prompts_from(arguments.prompt, arguments.prompts),
        arguments.negative,
        seed_of_classes=_seed_of_classes(arguments),
    )


def _seed_of_classes(arguments: Arguments) -> int | None:
    """The seed that classes are drawn with; None where they are not."""
    if arguments.class_shares == "data" and arguments.label is not None:
        raise ValueError(
            f"--class-shares is for samples without --class, got {arguments.label!r}; leave out one of them"
        )
    return arguments.seed if arguments.class_shares == "data" else None


def _settled(
    run: Run, found: Checkpoint, network: NetworkField, sampler: Sampler, wish: Asked, arguments: Arguments
) -> Sampler:
    """The sampler on its grid, or one that was fitted to the model if the flags leave the choice."""
    if arguments.grid is not None:
        start = run.start(MEASURED, arguments.seed)
        field = wish.field(network, range(MEASURED))  # always as many: sample i does not depend on their count
        start = start_of(field, (MEASURED, *run.shape), Noise(arguments.seed)) if start is None else start
        return on_grid(sampler, arguments.grid, field, start)
    is_open = arguments.sampler is None and arguments.sigma is None and arguments.steps is None
    if not is_open or arguments.evaluations is None:
        return sampler
    path = tuned.path_of(run, arguments.evaluations, arguments.guidance)
    if not path.exists():
        return sampler
    known = tuned.load(path)
    if known.fits(found):
        return known.sampler
    again = command("tune", run.folder, evaluations=arguments.evaluations, guidance=arguments.guidance)
    warn(
        "sample",
        f"{path} was fitted to step {known.step}, and the run is at step {found.step} of other "
        f"weights: it is not used; fit again with: {again}",
    )
    return sampler


@dataclass
class Way:
    """How samples are made, and what they took so far.

    Attributes:
        sampler: The way from noise to data.
        arguments: The flags.
        steps: Of a sampler that does not lay its own; else None.
        calls: Calls of the network by all samples so far, and by the one that took the most, if each has its own.
    """

    sampler: Sampler
    arguments: Arguments
    steps: int | None
    calls: tuple[int, int] = (0, 0)

    def made(self, wish: Asked, network: NetworkField) -> Iterator[Batch]:
        """The samples, a batch at a time.

        Raises:
            ValueError: If the evaluations do not suffice for a sample.
        """
        asked = self.arguments
        steps = None if asked.evaluations is not None else asked.steps
        try:
            for batch in batches(
                wish,
                network,
                asked.count,
                self.sampler,
                steps,
                asked.evaluations,
                asked.seed,
                asked.batch_size,
            ):
                if batch.calls is not None:
                    total, most = self.calls
                    self.calls = total + int(batch.calls.sum()), max(most, int(batch.calls.max()))
                yield batch
        except EvaluationsError as error:
            words = words_of(self.sampler)
            raise ValueError(
                f"--evaluations must suffice for {words}, got {error.evaluations} of {asked.evaluations} that bring "
                f"sample {error.sample} to t = {error.t:.3g}; allow more, or a coarser tolerance: "
                f"--sampler {words.partition(' ')[0]}:1e-3"
            ) from None

    def words(self) -> str:
        """By what samples were made, and in how many calls."""
        total, highest = self.calls
        if self.steps is None:
            mean = total / self.arguments.count
            return f"{words_of(self.sampler)}, {mean:.0f} calls of the network a sample, and {highest} at most"
        most, calls = "" if len(self.sampler.nodes) == 1 else "at most ", self.steps * len(self.sampler.nodes)
        return f"{words_of(self.sampler, self.steps)}, {self.steps} steps, {most}{calls} calls of the network"


def _way(
    run: Run, found: Checkpoint, network: NetworkField, sampler: Sampler, wish: Asked, arguments: Arguments
) -> Way:
    """How samples are to be made; it is settled once, for all batches.

    Raises:
        ValueError: If steps are given to a sampler that lays its own, or a number does not suffice.
    """
    most = arguments.evaluations
    if isinstance(sampler, AdaptiveSampler):
        if arguments.steps is not None:
            raise ValueError(
                f"--steps is for samplers of steps that are settled beforehand, got {arguments.steps}; "
                f"{words_of(sampler)} takes as many as its tolerance needs, and --evaluations caps them"
            )
        if most is not None:
            sampler = replace(sampler, solver=replace(sampler.solver, evaluations=most))
        return Way(sampler, arguments, None)
    settled = _settled(run, found, network, sampler, wish, arguments)
    steps = STEPS if arguments.steps is None and most is None else arguments.steps
    times = settled.times(wish.field(network, range(1)), steps, most)
    return Way(settled, arguments, len(times) - 1)


def _shown(made: Iterator[Batch], way: Way) -> Iterator[Batch]:
    """The same batches, with how far they are where there are several."""
    count, first = way.arguments.count, next(made)
    yield first
    if len(first.rows) == count:
        return
    with counting(Terminal(stderr=True), count, "samples") as show:
        show(first.rows.stop)
        for batch in made:
            yield batch
            show(batch.rows.stop)
