"""`pathline info`: what a run folder holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.table import Table

from pathline.cli import tuned
from pathline.cli.flags import parsed
from pathline.cli.terminal import Terminal
from pathline.cli.tuned import Tuned
from pathline.runs import Run
from pathline.training import checkpoint
from pathline.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Arguments:
    """Show what a run folder holds, and check its checkpoints byte by byte: exit code 1 if anything is damaged."""

    run: tyro.conf.Positional[Path]
    """The run folder."""


def main(argv: list[str]) -> int:
    """Run the command."""
    run = Run.open(parsed(Arguments, "pathline info", argv).run)
    table = Table(title=str(run.folder), show_header=False, title_justify="left")
    table.add_row("samples", f"shape {run.shape}, {len(run.classes)} classes" if run.classes else f"shape {run.shape}")
    if run.columns:
        table.add_row("columns", ", ".join(run.columns))
    if run.numbers:
        kept = run.kept()["numbers"]
        low, high = kept.amin(0).tolist(), kept.amax(0).tolist()
        ranges = (f"{name} {a:.6g} to {b:.6g}" for name, a, b in zip(run.numbers, low, high, strict=True))
        table.add_row("conditioned on", ", ".join(ranges))
    if "text" in run.kinds:
        table.add_row("captions", _read_by(run))
    for leg in run.legs:
        table.add_row("leg", str(leg))
    field = run.new_field()
    table.add_row("weights", f"{sum(p.numel() for p in field.parameters()):,}")
    is_whole, newest = True, None
    for step in reversed(checkpoint.steps_of(run.folder)):
        try:
            found = checkpoint.load(run.folder, step)
            run.check(found)
        except ValueError as error:
            is_whole = False
            table.add_row(f"checkpoint {step}", str(error))
        else:
            checkpoint.load_weights(field, found.model | found.ema, found.folder)
            table.add_row(f"checkpoint {step}", f"whole, {len(found.model)} tensors")
            newest = newest or found
    for path in tuned.all_of(run):
        try:
            known = tuned.load(path)
        except ValueError as error:
            is_whole = False
            table.add_row("fitted solver", str(error))
        else:
            table.add_row(f"solver of {known.evaluations} calls", _told(known, newest))
    for line in run.metrics()[-2:]:
        for key, value in line.items():
            if key != "held_out_loss_by_t":
                table.add_row(key, f"{value:.6g}" if isinstance(value, float) else str(value))
    for key, value in run.config.to_dict().items():
        table.add_row(key, str(value))
    Terminal().print(table)
    return 0 if is_whole else 1


def _read_by(run: Run) -> str:
    """What captions are read by, and how long they may be."""
    form = run.encoder.form
    words = f"{form.words:,} words" if form.words else f"vectors of {form.features} numbers"
    return f"read by {run.config.text}: {words}, up to {form.length} in a caption, sha256 {run.encoder.digest[:12]}"


def _told(known: Tuned, newest: Checkpoint | None) -> str:
    guidance = f" with guidance {known.guidance:g}" if known.guidance != 1 else ""
    is_used = newest is not None and known.fits(newest)
    return (
        f"fitted to step {known.step}{guidance}{'' if is_used else ', of other weights than there are now: not used'}; "
        f"median error {known.fitted.median:.3g}, of the best general method {known.general.median:.3g}"
    )
