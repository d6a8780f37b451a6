"""`pathline likelihood`: how likely held-out samples are under a trained model, and which are the least."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import tyro
from torch import Tensor

from pathline.asked import check_guidance
from pathline.cli.flags import parsed
from pathline.cli.outputs import Outputs
from pathline.cli.progress import counting
from pathline.cli.scored import Method, Points, Scores, called, field_of, others, own, prepared, scored
from pathline.cli.terminal import Terminal, warn
from pathline.cli.verdict import FINER, Found, beside, keep, summed_up, tell, write
from pathline.fields.network import NetworkField
from pathline.likelihood.bits import varying_field
from pathline.likelihood.divergence import Divergence, Exact
from pathline.runs import Run
from pathline.solvers.adaptive import AdaptiveSolver
from pathline.solvers.runge_kutta import RungeKutta
from pathline.solvers.solver import Solver
from pathline.specs import build, catalogue, did_you_mean

STEPS = 50  # a log-density is then found to some hundredths of a nat, less than samples differ by far
EXACT_UP_TO, ELSE = (
    256,
    "hutchinson:8",
)  # numbers of a vector; those of pictures each need a larger network's backward pass
AT_ONCE, MOST_AT_ONCE = 1 << 16, 1024  # numbers of the vectors that go backward together, and samples
CHECKED = 8  # samples that are solved in half the steps too


@dataclass(frozen=True)
class Arguments:
    """Find how likely samples are under a trained model: mean nats and bits per dimension, with a 95% interval.

    Held-out samples are held against as many that the model was trained on. Leaves a row a sample in
    RUN/likelihood/NAME.csv, a summary in NAME.json, and pictures: NAME-histogram.png and NAME-ranking.png, the least
    likely samples first. A sample is scored under its own class, numbers or caption.
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    data: str | None = None
    """What is scored: a file or data set, named as in training. The run's own held-out samples unless given."""
    count: int = 256
    """Samples at most, chosen evenly."""
    steps: int | None = None
    """Steps of the solver; 50 unless given."""
    solver: str = "gauss"
    """gauss, or another method of fixed steps: midpoint, heun, rk4, ...; or in steps of each sample's own:
    dopri5:TOLERANCE, tsit5:TOLERANCE."""
    divergence: str | None = None
    """exact, hutchinson:PROBES or hutch-plus-plus:SKETCH,PROBES. Exact for vectors of up to 256 numbers and
    hutchinson:8 for others, unless given."""
    bin: float | None = None
    """The distance of neighbouring values, over which uniform noise is spread; 0 for data without any. 1 where all
    numbers are whole, unless given."""
    unconditional: bool = False
    """Score under the null condition, whatever the class, numbers or caption."""
    guidance: float | None = None
    """Score the model as it is guided with this scale; 1 unless given."""
    seed: int = 0
    """Of that noise and of the divergence's probes: those of sample i depend on the seed and i only."""
    batch_size: int | None = None
    """Samples at once: more are faster, and take more memory. As suits their size unless given."""
    out: Path | None = None
    """Another place for the rows, a .csv; the other files go beside it."""
    overwrite: bool = False
    """Replace a file at --out that pathline likelihood of this run did not write, or that has changed since. The run's
    own files and the data that it was trained on are never replaced."""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parsed(Arguments, "pathline likelihood", argv)
    for name in ("count", "steps", "batch_size"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if arguments.bin is not None and not 0 <= arguments.bin < math.inf:
        raise ValueError(f"--bin must be a positive number, or 0 for data without bins, got {arguments.bin:g}")
    solver = solver_of(arguments.solver)
    if isinstance(solver, AdaptiveSolver) and arguments.steps is not None:
        raise ValueError(
            f"--steps is for solvers of fixed steps, got {arguments.steps}; {arguments.solver} takes as many as its "
            "tolerance needs"
        )
    run = Run.open(arguments.run)
    _check(run, arguments)
    is_small = len(run.shape) == 1 and run.shape[0] <= EXACT_UP_TO
    words = arguments.divergence or ("exact" if is_small else ELSE)
    divergence = divergence_of(words)
    name = "held-out" if arguments.data is None else re.sub(r"[^\w.-]+", "-", called(arguments.data))
    default = run.folder / "likelihood" / f"{name}.csv"
    out = arguments.out or default
    if out.suffix.lower() != ".csv":
        raise ValueError(f"--out must end in .csv, got {out}; the other files go beside it")
    read = [arguments.data] if arguments.data else []
    outputs = Outputs(run, "likelihood", [out, *beside(out).values()], default, arguments.overwrite, read)
    found: list[Found] = []
    try:
        return _likelihood(run, replace(arguments, divergence=words), solver, divergence, outputs, found)
    except KeyboardInterrupt:
        kept = keep(run, found, outputs)
        warn("likelihood", f"interrupted; {kept or 'nothing was written'}")
        return 130


def solver_of(spec: str) -> RungeKutta | AdaptiveSolver:
    """A solver by its name; one number after that of an adaptive one is both its tolerances.

    Raises:
        ValueError: If there is none of that name, or it does not take what comes after.
    """
    name, _, rest = spec.partition(":")
    fixed = {known: made for known, made in catalogue(Solver).items() if isinstance(made, RungeKutta)}
    adaptive = catalogue(AdaptiveSolver)
    if name not in (known := sorted({*fixed, *adaptive})):
        raise ValueError(f"unknown solver {name!r}{did_you_mean(name, known)}")
    if name in fixed:
        if rest:
            raise ValueError(f"--solver {name} takes nothing after its name, got {rest!r}; --steps says how many steps")
        return fixed[name]
    is_one = rest and "," not in rest and "=" not in rest
    return build(AdaptiveSolver, f"{name}:rtol={rest},atol={rest}" if is_one else spec)


def divergence_of(spec: str) -> Divergence:
    """A divergence by its name.

    Raises:
        ValueError: If there is none of that name, or it makes a single estimate, which tells no error.
    """
    found = build(Divergence, spec)
    if not all(isinstance(value, int | None) for value in vars(found).values()):
        raise ValueError(f"--divergence takes whole numbers after the colon, got {spec!r}")
    if found.estimates < 2 and not isinstance(found, Exact):
        raise ValueError(f"--divergence must have at least 2 probes, which tell its error, got {spec!r}")
    return found


def _check(run: Run, arguments: Arguments) -> None:
    """Refuse what a run cannot be asked.

    Raises:
        ValueError: If so.
    """
    if run.config.is_bridge:
        raise ValueError(
            f"likelihood needs a model that begins at noise, whose density is known, and {run.folder} is a bridge from "
            f"{run.config.start}; train one without --start"
        )
    for flag, value in (("--guidance", arguments.guidance), ("--unconditional", arguments.unconditional or None)):
        if value is None:
            continue
        if not run.kinds:
            raise ValueError(
                f"{flag} needs a model with classes, numbers or text, and {run.folder} was trained without any"
            )
    check_guidance(run, arguments.guidance)
    if arguments.unconditional and not run.config.drop:
        raise ValueError(
            f"--unconditional needs a model trained with labels dropped, and {run.folder} was with --drop 0"
        )
    if arguments.guidance is not None and arguments.unconditional:
        raise ValueError("--guidance is by a condition, which --unconditional leaves out; leave out one of them")


# ---- scoring


def _likelihood(
    run: Run,
    arguments: Arguments,
    solver: RungeKutta | AdaptiveSolver,
    divergence: Divergence,
    outputs: Outputs,
    found: list[Found],
) -> int:
    console = Terminal(stderr=True)
    with console.waiting("reading the data"):
        sets = _sets(run, arguments)
    is_whole = all(bool((points.x == points.x.round()).all()) for points in sets)
    bin = arguments.bin if arguments.bin is not None else float(is_whole)
    method = Method(solver, arguments.steps or STEPS, divergence, bin or None, arguments.seed)
    inputs = [prepared(run, points, method) for points in sets]  # refuses what it may before hours of work
    known = run.checkpoint()
    network = run.field_at(known)
    with counting(console, sum(map(len, sets)), "samples") as show:
        for k, (points, x) in enumerate(zip(sets, inputs, strict=True)):
            field = varying_field(field_of(run, network, points, arguments.guidance), run.normalisation)
            batches: list[tuple[Tensor, Tensor]] = []
            for batch in scored(field, x, method, arguments.batch_size or _at_once(run, divergence)):
                batches.append(batch)
                found[k:] = [Found(points, Scores.of(run, batches, method.bin))]
                nats = found[k].scores.nats
                done = sum(map(len, sets[:k])) + len(nats)
                show(done, f"{points.name}: {nats[nats.isfinite()].mean():.5g} nats")
    given = found[0]
    if not given.scores.nats.isfinite().any():
        raise ValueError(f"no log-density of {given.points.name} is finite; {FINER}")
    change = _change(run, network, arguments, method, given, inputs[0])
    summary = summed_up(
        method,
        found,
        run=run.folder.name,
        step=known.step,
        data=arguments.data,
        guidance=1.0 if arguments.guidance is None else arguments.guidance,
        solver=arguments.solver,
        divergence=arguments.divergence,
        change_by_half_the_steps=change,
    )
    write(run, found, summary, outputs)
    tell(run, method, found, summary, outputs.paths[0])
    return 0


def _sets(run: Run, arguments: Arguments) -> list[Points]:
    """What is scored, and as many training samples where their data is still there."""
    is_free = arguments.unconditional or arguments.guidance == 0  # which ignores all conditions
    if arguments.data is None:
        return [*own(run, arguments.count, is_free)]
    given = others(run, arguments.data, arguments.count, is_free)
    try:
        return [given, own(run, len(given), is_free=given.y is None)[1]]
    except (ValueError, OSError) as error:
        warn("likelihood", f"there are no training samples to compare with: {error}")
        return [given]


def _at_once(run: Run, divergence: Divergence) -> int:
    """Samples in a batch, so that its backward passes fit memory."""
    size = math.prod(run.shape)
    ways = divergence.estimates + getattr(divergence, "sketch", 0) if not isinstance(divergence, Exact) else size
    return min(max(AT_ONCE // (size * ways), 1), MOST_AT_ONCE)


def _change(
    run: Run, network: NetworkField, arguments: Arguments, method: Method, given: Found, x: Tensor
) -> float | None:
    """The most that half the steps change a log-density by, of a few samples; None for steps of their own."""
    if isinstance(method.solver, AdaptiveSolver) or method.steps < 2:
        return None
    few = x[:CHECKED]
    field = varying_field(field_of(run, network, given.points, arguments.guidance), run.normalisation)
    field = field.take(slice(0, len(few)))
    coarse = Scores.of(run, [*scored(field, few, replace(method, steps=method.steps // 2), len(few))], method.bin)
    off = (coarse.nats - given.scores.nats[: len(few)]).abs()
    off = off[off.isfinite()]
    return float(off.max()) if len(off) else None
