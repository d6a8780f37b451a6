"""`pathline sample`: samples of a trained model, as a picture or as numbers."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor

from pathline.cli import tuned
from pathline.cli.conditions import bound, prompts_from
from pathline.cli.outputs import Outputs
from pathline.cli.pictures import plain, points, value_range
from pathline.cli.samplers import check_grid, on_grid, sampler_of, words_of
from pathline.fields.field import Field
from pathline.fields.modes import evaluating
from pathline.fields.network import NetworkField
from pathline.noise import Noise
from pathline.plots.axes import save
from pathline.plots.images import image_grid
from pathline.runs import Run
from pathline.sampling.adaptive import AdaptiveSampler
from pathline.sampling.grids import UNIFORM
from pathline.sampling.sample import sample, start_of
from pathline.sampling.sampler import STEPS, Sampler
from pathline.solvers.adaptive import EvaluationsError
from pathline.training.checkpoint import Checkpoint

MEASURED = 64  # points that the curvature of a model's paths is measured on
AT_ONCE = 128  # samples that go along together in steps of their own


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
    seed: int = 0
    """Sample i depends on the seed and i only."""
    out: Path | None = None
    """A .png; an .npz with x in the units of the data, and y; or a .csv of vectors, with the names of its columns, and
    their class or numbers. RUN/samples/sample.png unless given."""
    overwrite: bool = False
    """Replace a file at --out that pathline sample of this run did not write, or that has changed since. The run's own
    files and the data that it was trained on are never replaced."""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = tyro.cli(Arguments, prog="pathline sample", args=argv)
    if arguments.count < 1:
        raise ValueError(f"--count must be at least 1, got {arguments.count}")
    run = Run.open(arguments.run)
    default = run.samples_folder / "sample.png"
    out = arguments.out or default
    read = [] if arguments.prompts is None else [str(arguments.prompts)]
    outputs = Outputs(run, "sample", [out], default, arguments.overwrite, read)
    if out.suffix.lower() not in (".png", ".npz", ".csv"):
        raise ValueError(f"--out must end in .png, .npz or .csv, got {out}")
    if out.suffix.lower() == ".csv" and len(run.shape) != 1:
        raise ValueError(f"--out must end in .png or .npz for samples of shape {run.shape}, got {out}")
    sampler = sampler_of(arguments.sampler, arguments.sigma)
    if arguments.grid is not None:
        check_grid(sampler, arguments.grid)
    found = run.checkpoint()
    network = run.field_at(found)
    field, y = _bound(run, network, arguments.count, arguments)
    if isinstance(sampler, AdaptiveSampler):
        x, said = _adaptively(run, field, sampler, arguments)
    else:
        x, said = _in_steps(run, field, _settled(run, found, network, sampler, arguments), arguments)
    with outputs.opened() as parts:
        _write(run, run.normalisation.back(x), y, parts[out])
    print(f"{arguments.count} samples by {said}: {out}")
    return 0


def _bound(run: Run, network: NetworkField, count: int, arguments: Arguments) -> tuple[Field, Any]:
    """The run's field under what the flags say, and that."""
    return bound(
        run,
        network,
        count,
        arguments.guidance,
        arguments.label,
        arguments.numbers,
        prompts_from(arguments.prompt, arguments.prompts),
        arguments.negative,
    )


def _settled(run: Run, found: Checkpoint, network: NetworkField, sampler: Sampler, arguments: Arguments) -> Sampler:
    """The sampler on its grid, or one that was fitted to the model if the flags leave the choice."""
    if arguments.grid is not None:
        start = run.start(MEASURED, arguments.seed)
        field, _ = _bound(run, network, MEASURED, arguments)  # always as many: sample i does not depend on their count
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
    guidance = "" if arguments.guidance is None else f" --guidance {arguments.guidance:g}"
    print(
        f"pathline sample: {path} was fitted to step {known.step}, and the run is at step {found.step} of other "
        f"weights: it is not used; fit again with: pathline tune {run.folder} --evaluations {arguments.evaluations}"
        f"{guidance}",
        file=sys.stderr,
    )
    return sampler


def _in_steps(run: Run, field: Field, sampler: Sampler, arguments: Arguments) -> tuple[Tensor, str]:
    """Samples, and by what and in how many calls."""
    is_open = arguments.steps is None and arguments.evaluations is None
    given = STEPS if is_open else arguments.steps
    x = sample(
        field,
        (arguments.count, *run.shape),
        sampler,
        given,
        arguments.seed,
        evaluations=arguments.evaluations,
        start=run.start(arguments.count, arguments.seed),
    )
    steps = len(sampler.times(field, given, arguments.evaluations)) - 1
    most = "" if len(sampler.nodes) == 1 else "at most "
    return x, f"{words_of(sampler, steps)}, {steps} steps, {most}{steps * len(sampler.nodes)} calls of the network"


def _adaptively(run: Run, field: Field, sampler: AdaptiveSampler, arguments: Arguments) -> tuple[Tensor, str]:
    """Samples in steps of their own, and by what and in how many calls.

    Raises:
        ValueError: If steps are given, or the evaluations do not suffice for a sample.
    """
    words, most, count = words_of(sampler), arguments.evaluations, arguments.count
    if arguments.steps is not None:
        raise ValueError(
            f"--steps is for samplers of steps that are settled beforehand, got {arguments.steps}; {words} takes as "
            "many as its tolerance needs, and --evaluations caps them"
        )
    if most is not None:
        sampler = replace(sampler, solver=replace(sampler.solver, evaluations=most))
    start = run.start(count, arguments.seed)
    start = start_of(field, (count, *run.shape), Noise(arguments.seed)) if start is None else start
    times, solved = UNIFORM.times(field, 1), []
    with torch.no_grad(), evaluating(field):
        for first in range(0, count, AT_ONCE):
            part = slice(first, min(first + AT_ONCE, count))
            try:
                solution = sampler.solve(field.take(part), start[part], times)
            except EvaluationsError as error:
                raise ValueError(
                    f"--evaluations must suffice for {words}, got {error.evaluations} of {most} that bring sample "
                    f"{first + error.sample} to t = {error.t:.3g}; allow more, or a coarser tolerance: "
                    f"--sampler {words.partition(' ')[0]}:1e-3"
                ) from None
            solved.append((solution.x, solution.counts.evaluations))
    calls = torch.cat([counts for _, counts in solved])
    said = f"{words}, {calls.double().mean():.0f} calls of the network a sample, and {calls.max()} at most"
    return torch.cat([x for x, _ in solved]), said


def _write(run: Run, raw: Tensor, y: Any, out: Path) -> None:
    if out.suffix.lower() == ".npz":
        arrays = {"x": raw.numpy()} if y is None else {"x": raw.numpy(), "y": run.codec.array(y)}
        with out.open("wb") as file:  # a name would be given a second .npz after an .NPZ
            np.savez(file, **arrays)  # type: ignore[arg-type]
    elif out.suffix.lower() == ".csv":
        _write_table(run, raw, y, out)
    elif len(run.shape) == 3:
        low, high = value_range(run.normalisation)
        texts = {*(y or {}).get("text", ())}
        title = plain(str(*texts)) if len(texts) == 1 else ""
        save(image_grid((raw.numpy() - low) / (high - low), min(10, len(raw)), title=title), out)
    else:
        save(points(run, raw, y), out)


def _write_table(run: Run, raw: Tensor, y: Any, out: Path) -> None:
    """Rows as they were trained on, what they are conditioned on last."""
    header = list(run.columns or (str(i + 1) for i in range(run.shape[0])))
    parts = [raw.numpy().astype(str)]  # as many digits as tell a number from its neighbours
    for kind, value in (y or {}).items():
        if kind == "numbers":
            header += run.numbers
            parts.append(value.numpy().astype(str))
        else:
            header.append((run.config.label or "class") if kind == "class" else "text")
            names = value if kind == "text" else np.array(run.classes)[value.numpy()]
            parts.append(np.asarray(names, dtype=object)[:, None])
    rows = np.concatenate([part.astype(object) for part in parts], 1).tolist()
    with out.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
