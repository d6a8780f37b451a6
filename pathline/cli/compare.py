"""`pathline compare`: the error of every deterministic sampler on a run's own model, by calls of the network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table
from rich.text import Text

from pathline.cli import tuned
from pathline.cli.conditions import bound
from pathline.cli.flags import parsed
from pathline.cli.outputs import Outputs
from pathline.cli.progress import counting, waiting
from pathline.cli.samplers import sampler_of
from pathline.cli.terminal import Terminal, say, warn
from pathline.cli.tuned import Errors
from pathline.noise import Noise
from pathline.plots.axes import label, save
from pathline.plots.errors import error_by_evaluations
from pathline.runs import Run
from pathline.sampling.fit import converged, errors, solved
from pathline.sampling.fitted import FittedSampler
from pathline.sampling.sample import start_of
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import default_sampler
from pathline.training.checkpoint import Checkpoint

GENERAL, FITTED = "best general", "fitted"
OF_VELOCITY = ("adams-bashforth:2", "euler", "midpoint", "heun", "rk4")
OF_NOISE = ("dpm:2", "dpm:3", "deis:2", "unipc:2")  # or of data: a bridge has no such thing

Rows = dict[str, dict[int, Errors]]  # by the name of a sampler, and the calls of the network


@dataclass(frozen=True)
class Arguments:
    """Compare samplers on a trained model: how far from the ends of its own trajectories each comes.

    Shown as a table, and kept in RUN/samples/ as compare.png and compare.json.
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    evaluations: str = "5,10,20,40"
    """Calls of the network a sample, separated by commas; those of solvers fitted to this run are added."""
    count: int = 256
    """Trajectories."""
    guidance: float | None = None
    """Guidance scale; 1 unless given."""
    seed: int = 0
    """Of the trajectories."""
    out: Path | None = None
    """Another place for the picture, a .png; the .json goes beside it."""
    overwrite: bool = False
    """Replace a file at --out that pathline compare of this run did not write, or that has changed since. The run's own
    files and the data that it was trained on are never replaced."""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parsed(Arguments, "pathline compare", argv)
    if arguments.count < 1:
        raise ValueError(f"--count must be at least 1, got {arguments.count}")
    columns = evaluations_from(arguments.evaluations)
    run = Run.open(arguments.run)
    default = run.samples_folder / "compare.png"
    out = arguments.out or default
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, got {out}")
    outputs = Outputs(run, "compare", [out, out.with_suffix(".json")], default, arguments.overwrite)
    try:
        return _compare(run, arguments, columns, outputs)
    except KeyboardInterrupt:
        warn("compare", "interrupted; nothing was written")
        return 130


def evaluations_from(text: str) -> list[int]:
    """Numbers of evaluations from `5,10,20`, in order.

    Raises:
        ValueError: If one is not a whole number of at least 1.
    """
    words = text.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"--evaluations must be whole numbers, at least 1, with commas between, got {text!r}")
    return sorted({int(word) for word in words})


def _compare(run: Run, arguments: Arguments, columns: list[int], outputs: Outputs) -> int:
    found, w = run.checkpoint(), 1.0 if arguments.guidance is None else arguments.guidance
    field, _ = bound(run, run.field_at(found), arguments.count, arguments.guidance)
    start = run.start(arguments.count, arguments.seed)
    start = start_of(field, (arguments.count, *run.shape), Noise(arguments.seed)) if start is None else start
    fitted = dict(_fitted(run, found, w))
    columns = sorted({*columns, *fitted})
    named = OF_VELOCITY if run.config.is_bridge else (*OF_VELOCITY[:1], *OF_NOISE, *OF_VELOCITY[1:])
    samplers = {GENERAL: default_sampler()} | {name: sampler_of(name, None) for name in named}
    cells: list[tuple[str, Sampler, int]] = [(FITTED, fitted[n], n) for n in fitted]
    cells += [(name, s, n) for name, s in samplers.items() for n in columns if n >= len(s.nodes)]
    rows: Rows = {name: {} for name in (GENERAL, FITTED, *named)}
    console = Terminal(stderr=True)
    with waiting(console, f"solving {arguments.count} trajectories with care"):
        end, change = converged(field, start)
    with counting(console, sum(n for *_, n in cells), "calls") as show:
        done = 0
        for name, sampler, n in cells:
            show(done, f"{name}, {n} calls")
            rows[name][n] = Errors.of(errors(solved(field, start, sampler, n), end))
            done += n
        show(done, "")
    rows = {name: row for name, row in rows.items() if row}
    about = f"{run.folder.name} at step {found.step}" + ("" if w == 1 else f", guidance {w:g}")
    values = {
        "run": run.folder.name,
        "step": found.step,
        "guidance": w,
        "seed": arguments.seed,
        "trajectories": arguments.count,
        "error_of_reference": change,
        "errors": {name: {str(n): asdict(cell) for n, cell in row.items()} for name, row in rows.items()},
    }
    _write(rows, about, values, outputs)
    _tell(rows, columns, about, change, outputs.paths[0])
    return 0


def _fitted(run: Run, found: Checkpoint, w: float) -> Iterator[tuple[int, FittedSampler]]:
    """The solvers that were fitted to these very weights, with this guidance, by their evaluations."""
    for path in tuned.all_of(run):
        known = tuned.load(path)
        if known.fits(found) and known.guidance == w:
            yield known.evaluations, known.sampler


def _write(rows: Rows, about: str, values: dict[str, Any], outputs: Outputs) -> None:
    lines = {name: (list(row), [cell.median for cell in row.values()]) for name, row in rows.items()}
    ax = error_by_evaluations(lines, [name for name in (GENERAL, FITTED) if name in rows])
    with outputs.opened() as parts:
        picture, numbers = (parts[path] for path in outputs.paths)
        save(label(ax, title=about, x="calls of the network", y="median error"), picture)
        numbers.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _tell(rows: Rows, columns: list[int], about: str, change: float, out: Path) -> None:
    table = Table("calls", box=None, padding=(0, 2, 0, 0))
    for n in columns:
        table.add_column(str(n), justify="right", no_wrap=True)
    for name, row in rows.items():
        cells = []
        for n in columns:
            lowest = min((other[n].median for other in rows.values() if n in other), key=_with_nan_last, default=0.0)
            text = f"{_thousandths(row[n].rms)} / {_thousandths(row[n].median)}" if n in row else ""
            cells.append(Text(f"*{text}", "bold") if n in row and row[n].median == lowest else Text(text))
        table.add_row(name, *cells)
    say(f"{about}: RMSE / median error in thousandths, by calls of the network")
    Terminal().print(table)
    say(f"* the lowest median of its column; the ends that errors are measured to are known to {change:.1g}")
    say(f"picture: {out}", f"numbers: {out.with_suffix('.json')}")


def _thousandths(error: float) -> str:
    return f"{1e3 * error:.2g}" if error < 0.1 else f"{1e3 * error:.0f}"


def _with_nan_last(error: float) -> float:
    return math.inf if math.isnan(error) else error
