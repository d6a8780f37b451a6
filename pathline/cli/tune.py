"""`pathline tune`: a solver fitted to a run's model, which brings samples nearer in as many calls of the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from rich.table import Table
from torch import Tensor

from pathline.cli import tuned
from pathline.cli.conditions import bound
from pathline.cli.flags import parsed
from pathline.cli.progress import counting, waiting
from pathline.cli.terminal import Terminal, say, warn
from pathline.cli.tuned import FAR, Errors, Tuned
from pathline.fields.field import Field
from pathline.noise import Noise
from pathline.quoting import command
from pathline.runs import Run
from pathline.sampling.fit import converged, errors, fit, solved
from pathline.sampling.fitted import FittedSampler
from pathline.sampling.sample import start_of
from pathline.sampling.samplers import default_sampler


@dataclass(frozen=True)
class Arguments:
    """Fit a solver to a trained model, for samples in few calls of the network.

    It is kept in RUN/tuned/ if it beats the best general method on trajectories of another seed, and then
    pathline sample RUN --evaluations N uses it.
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    evaluations: int = 8
    """Calls of the network that a sample may take."""
    guidance: float | None = None
    """Guidance scale of the samples that it is for; 1 unless given."""
    count: int = 256
    """Trajectories that it is fitted to, and as many that it is judged by."""
    steps: int = 300
    """Steps of the optimizer."""
    seed: int = 0
    """Of the trajectories; those that judge have the next."""


class Trajectories(NamedTuple):
    """Where they begin and end, and how far the ends may be off in the median."""

    start: Tensor
    end: Tensor
    change: float


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parsed(Arguments, "pathline tune", argv)
    for name, least in (("evaluations", 2), ("count", 1), ("steps", 1)):  # one call of the network leaves no choice
        if getattr(arguments, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(arguments, name)}")
    run = Run.open(arguments.run)
    if run.config.is_bridge:
        raise ValueError(
            f"tune needs a model that begins at noise, and {run.folder} is a bridge from {run.config.start}; "
            "sample it with more --evaluations"
        )
    try:
        return _tune(run, arguments)
    except KeyboardInterrupt:
        warn("tune", f"interrupted; {run.folder} is as it was, nothing was stored")
        return 130


def _tune(run: Run, arguments: Arguments) -> int:
    n, w = arguments.evaluations, arguments.guidance
    found = run.checkpoint()
    field, _ = bound(run, run.field_at(found), arguments.count, w)
    seeds = [arguments.seed, (arguments.seed + 1) % 2**64]
    starts = [start_of(field, (arguments.count, *run.shape), Noise(seed)) for seed in seeds]
    next(fit(field.take(slice(0, 1)), starts[0][:1], starts[0][:1], n))  # refuses now what it would refuse later
    console = Terminal(stderr=True)
    with waiting(console, f"solving 2 x {arguments.count} trajectories with care"):
        own, other = (Trajectories(start, *converged(field, start)) for start in starts)
    sampler = _fitted(field, own, arguments, console)
    fitted, general = (
        Errors.of(errors(solved(field, other.start, each, n), other.end)) for each in (sampler, default_sampler())
    )
    about = {"trajectories": arguments.count, "steps": arguments.steps, "seeds": seeds, "error_of_ends": other.change}
    known = Tuned(sampler, n, 1.0 if w is None else w, found.step, found.digest, fitted, general, about)
    path = tuned.store(run, known) if fitted.median < general.median else None
    _tell(run, known, path)
    return 0


def _fitted(field: Field, own: Trajectories, arguments: Arguments, console: Terminal) -> FittedSampler:
    with counting(console, arguments.steps, "steps") as show:
        for step in fit(field, own.start, own.end, arguments.evaluations, steps=arguments.steps):
            show(step.step, f"median error {step.median:.3g}")
    return step.sampler


def _tell(run: Run, known: Tuned, path: Path | None) -> None:
    about, n = known.about, known.evaluations
    scale = f"{known.guidance:.12g}" if known.guidance != 1 else None
    say(
        f"{n} calls of the network, on {about['trajectories']} trajectories of seed {about['seeds'][1]}, which it was "
        f"not fitted to; their ends are known to {about['error_of_ends']:.1g}"
    )
    table = Table("", "median error", "RMSE", f"above {FAR:g}", box=None, padding=(0, 2, 0, 0))
    for name, found in (("best general method", known.general), ("fitted to this model", known.fitted)):
        table.add_row(name, f"{found.median:.3g}", f"{found.rms:.3g}", f"{found.far:.1%}")
    Terminal().print(table)
    if path is None:
        kept = tuned.path_of(run, n, known.guidance)
        stays = f"; what was stored before stays in {kept}" if kept.exists() else ""
        say(f"not stored: the fitted solver is not nearer than the best general method here{stays}")
        more = command("tune", run.folder, evaluations=n, guidance=scale, count=2 * about["trajectories"])
        say(f"try next: {more}")
    else:
        say(f"the median error is {known.general.median / known.fitted.median:.1f} times lower; stored in {path}")
        say(f"try next: {command('sample', run.folder, evaluations=n, guidance=scale)}")
