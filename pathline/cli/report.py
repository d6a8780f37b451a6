"""`pathline verify RUN`: what can be known of a trained model, as a table, a page of pictures and a file of numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from rich.table import Table
from rich.text import Text

from pathline.cli.outputs import Outputs
from pathline.cli.progress import counting
from pathline.cli.terminal import Terminal, say, warn
from pathline.plots.axes import label, panels, save
from pathline.plots.loss import loss_over_floor
from pathline.plots.verdicts import apart, by_time, nearest, verdicts, words
from pathline.runs import Run
from pathline.verify.report import BOUNDS, MIDDLES, QUICK, Effort, Finding, Part, examined, subject_of

EXACT_FIELD = (
    "Relative to the exact field of the training set. Early it should be small; near data, small at training points "
    "and large at others is memory."
)
PANELS = {  # by the name of a curve: its title, and what to see in it
    "loss": (
        "loss over its floor",
        "Worry where the training loss falls to the floor near data and the held-out loss rises: that is memory.",
    ),
    "velocity": ("error of the velocity", EXACT_FIELD),
    "score": ("error of the score", EXACT_FIELD),
    "slope": (
        "slope of the score",
        "What held-out data says of the size of the score. Below 1 it pulls too surely, above 1 too weakly.",
    ),
    "heads": (
        "score head against the other head",
        "Both should say the same: samples of different sigma drift apart where they do not.",
    ),
    "fokker-planck": (
        "residual of the score's equation",
        "0 if the score moves in time as its velocity says, 1 if it does not at all.",
    ),
    "asymmetry": (
        "asymmetry of the score's Jacobian",
        "0 if the score is the gradient of some density; 0.71 for random numbers.",
    ),
    "sigmas": (
        "drift between sigmas",
        "By theory samples have one law whatever sigma is; a bar to the right says how far they have not.",
    ),
    "nearest": (
        "how new samples are",
        "Both should lie alike. Samples far to the left are copies, far to the right unlike the data.",
    ),
}
WIDE = 160  # columns, where there is no terminal to ask
COLOURS = {"fine": "green", "look": "yellow", "worry": "bold red", "": ""}


def verify_run(
    folder: Path, is_quick: bool, is_json: bool, seed: int, out: Path | None, has_consent: bool = False
) -> int:
    """Examine the model of a run, tell what is found, and leave report.png and report.json in RUN/verify.

    Args:
        folder: The run folder.
        is_quick: Whether less is looked at, in a quarter of the time.
        is_json: Whether the numbers are printed instead of the table.
        seed: Of all that is drawn.
        out: Another place for the picture, a .png; the .json goes beside it.
        has_consent: Whether files of others that are there may be replaced.

    Returns:
        The exit code: 0, or 130 if it was interrupted. A verdict is no error.

    Raises:
        ValueError: If the run cannot be read, or its data has changed.
    """
    run = Run.open(folder)
    default = run.folder / "verify" / "report.png"
    out = out or default
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, got {out}")
    outputs = Outputs(run, "verify", [out, out.with_suffix(".json")], default, has_consent)
    try:
        return _verify(run, QUICK if is_quick else Effort(), is_json, seed, outputs)
    except KeyboardInterrupt:
        warn("verify", "interrupted; nothing was written")
        return 130


def _verify(run: Run, effort: Effort, is_json: bool, seed: int, outputs: Outputs) -> int:
    console = Terminal(stderr=True, quiet=is_json)
    with console.waiting("reading the data"):
        subject, notes, step = subject_of(run)
    parts, whole = [*examined(subject, effort, seed)], Part(notes=notes)
    with counting(console, len(parts), "parts") as show:
        for done, (name, find) in enumerate(parts):
            show(done, name)
            part = find()
            whole = Part(
                [*whole.findings, *part.findings], {**whole.curves, **part.curves}, [*whole.notes, *part.notes]
            )
        show(len(parts), "")
    about = f"{run.folder.name} at step {step}"
    values = {
        "run": run.folder.name,
        "step": step,
        "seed": seed,
        "training_samples": len(subject.training),
        "held_out_samples": len(subject.held_out),
        "findings": [vars(each) for each in whole.findings],
        "curves": whole.curves,
        "cannot_be_told": whole.notes,
    }
    text = json.dumps(_plain(values), indent=1) + "\n"
    with outputs.opened() as partial:
        picture, numbers = (partial[path] for path in outputs.paths)
        save(_page(whole, about), picture)
        numbers.write_text(text, encoding="utf-8")
    if is_json:
        print(text, end="")
    else:
        _tell(whole, about, outputs.paths[0])
    return 0


def _tell(found: Part, about: str, out: Path) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("what it means")
    for each in found.findings:
        verdict = Text(each.verdict, COLOURS[each.verdict])
        table.add_row(each.name, _value(each), verdict, each.means)
    say(about)
    Terminal(width=None if Terminal().is_terminal else WIDE).print(table)
    for note in found.notes:
        say(f"note: {note}")
    say(f"picture: {out}", f"numbers: {out.with_suffix('.json')}")


def _value(found: Finding) -> str:
    """A figure with the half width of its 95% interval, where that is known."""
    if not found.error > 0:
        return f"{found.value:.3g}"
    digits = max(0, min(6, 1 - math.floor(math.log10(2 * found.error))))
    return f"{found.value:.{digits}f} ± {2 * found.error:.{digits}f}"


def _page(found: Part, about: str) -> Axes:
    """One page: a panel for each curve that there is, and the verdicts."""
    curves, t = found.curves, MIDDLES.tolist()

    def draw(name: str, ax: Axes) -> Axes:
        values = curves[name]
        if name == "loss":
            return loss_over_floor(values["floor"], values["training"], values["held out"], ax)
        if name == "slope":
            return by_time(t, {name: values}, ax, 1.0, curves["slope_error"], BOUNDS[name])
        if name == "sigmas":
            return apart([each["sigma"] for each in values], [each["share"] for each in values], ax)
        if name == "nearest":
            return nearest(values["samples"], values["held out"], ax)
        if name in BOUNDS and not isinstance(values, dict):
            return by_time(t if len(values) == len(t) else curves["times"], {name: values}, ax, bounds=BOUNDS[name])
        return by_time(t, values, ax)

    shown = [name for name in PANELS if name in curves]
    columns = min(3, len(shown) + 1)
    axes = panels(columns, -(-(len(shown) + 1) // columns), width=4.6, height=3.7)
    for ax, name in zip(axes, shown, strict=False):
        title, text = PANELS[name]
        words(label(draw(name, ax), title), text)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    judged = [(each.name, _value(each), each.verdict) for each in found.findings if each.verdict]
    label(verdicts(judged, axes[len(shown)]), about)
    return axes[0]


def _plain(value: Any) -> Any:
    """The same for JSON, which has no NaN."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
