"""What `pathline likelihood` keeps and tells of the log-densities that it found: rows, a summary, pictures, words."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from rich.table import Table
from torch import Tensor

from pathline.cli.outputs import Outputs
from pathline.cli.pictures import look_of, shares_of
from pathline.cli.scored import Method, Points, Scores, difference_of, mean_of
from pathline.cli.terminal import Terminal, say, warn
from pathline.likelihood.divergence import Exact
from pathline.metrics.ranking import Interval, area_under_curve
from pathline.plots.axes import label, save
from pathline.plots.likelihoods import log_densities, ranked_images, ranked_points, ranked_rows
from pathline.quoting import drawn
from pathline.runs import Run
from pathline.solvers.adaptive import AdaptiveSolver

COLUMNS = ("index", "nats", "standard_error", "bits_per_dim")
COARSE = 0.5  # nats that half the steps may change a log-density by, without a warning
FINER = "take more --steps, or --solver dopri5:1e-5"


@dataclass(frozen=True)
class Found:
    """Samples and their scores, as far as these are there."""

    points: Points
    scores: Scores


def summed_up(method: Method, found: Sequence[Found], **about: Any) -> dict[str, Any]:
    """All that is known, as plain values, and what else there is about it."""
    first = found[0].scores
    summary = about | {
        "is_unconditional": found[0].points.y is None,
        "steps": None if isinstance(method.solver, AdaptiveSolver) else method.steps,
        "bin": method.bin,
        "seed": method.seed,
        "mean_standard_error": float(first.errors.nanmean()),
    }
    for name, each in zip(("given", "training"), found, strict=False):
        summary[name] = {
            "samples": len(each.points),
            "not_finite": int((~each.scores.nats.isfinite()).sum()),
            "nats": _plain(mean_of(each.scores.nats)),
            "bits_per_dim": _plain(mean_of(each.scores.bits)),
        }
    for each in found[1:]:
        summary["training_less_given"] = _plain(difference_of(each.scores.nats, first.nats))
        summary["auroc"] = _plain(area_under_curve(_ranked(first.nats), _ranked(each.scores.nats)))
    return summary


def _ranked(nats: Tensor) -> Any:
    """Log-densities in which what could not be found is the least."""
    return nats.nan_to_num(-math.inf, math.inf, -math.inf).numpy()


def _plain(found: Interval) -> dict[str, float | None]:
    """Numbers for JSON, which has none for infinity."""
    return {name: value if math.isfinite(value) else None for name, value in found._asdict().items()}


# ---- what is left of it


def keep(run: Run, found: Sequence[Found], outputs: Outputs) -> str:
    """Write the rows that there are, and say which."""
    if not found:
        return ""
    scores, points = found[0].scores, found[0].points
    path = beside(outputs.paths[0])["-part.csv"]
    with outputs.opened() as parts:
        _put(parts[path], _rows(run, found[0]))
    return f"the rows of {len(scores.nats)} of {len(points)} samples are in {path}"


def _rows(run: Run, found: Found) -> str:
    """A row a sample."""
    points, scores = found.points, found.scores
    by_kind = points.y or {}
    names = [name for kind in by_kind for name in (run.numbers if kind == "numbers" else (kind,))] or ["class"]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *names])
    numbers = torch.stack((scores.nats, scores.errors, scores.bits), 1).tolist()
    for i, row in enumerate(numbers):
        ends = [end for kind, y in by_kind.items() for end in _cells(run, kind, y[i])] or [""]
        table.writerow([int(points.places[i]), *(f"{value:.9g}" for value in row), *ends])
    return text.getvalue()


def _cells(run: Run, kind: str, value: Any) -> list[Any]:
    """The condition of one sample, as it stands in a table."""
    if kind == "class":
        return [run.classes[int(value)]]
    return list(value.tolist()) if kind == "numbers" else [str(value)]


def beside(out: Path) -> dict[str, Path]:
    """The files that go beside the rows; the part is what there is of them where the command is interrupted."""
    ends = ("-training.csv", ".json", "-histogram.png", "-ranking.png", "-part.csv")
    return {end: out.with_name(out.stem + end) for end in ends}


def write(run: Run, found: Sequence[Found], summary: Mapping[str, Any], outputs: Outputs) -> None:
    """Write all files: the rows, and the others beside them."""
    out = outputs.paths[0]
    files = beside(out)
    with outputs.opened() as parts:
        _put(parts[out], _rows(run, found[0]))
        for each in found[1:]:
            _put(parts[files["-training.csv"]], _rows(run, each))
        _put(parts[files[".json"]], json.dumps(summary, indent=1) + "\n")
        save(_histogram(found), parts[files["-histogram.png"]])
        save(_ranking(run, found[0]), parts[files["-ranking.png"]])


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")


def _histogram(found: Sequence[Found]) -> Axes:
    """The log-densities of all samples, as far as they are finite."""
    sets = {drawn(each.points.name): each.scores.nats[each.scores.nats.isfinite()].numpy() for each in found}
    return log_densities({name: nats for name, nats in sets.items() if len(nats)})


def _ranking(run: Run, found: Found) -> Axes:
    """The least likely samples: pictures, points, or rows of a table."""
    kept = found.scores.nats.isfinite()
    x, nats, places = found.points.x[kept], found.scores.nats[kept].numpy(), found.points.places[kept].tolist()
    if len(run.shape) == 3:
        classes = (found.points.y or {}).get("class")
        names = [] if classes is None else [drawn(run.classes[k]) for k in classes[kept].tolist()]
        return ranked_images(shares_of(run, x), nats, names, **look_of(run))[0]
    columns = [drawn(name) for name in run.columns or (str(i + 1) for i in range(run.shape[0]))]
    if len(columns) > 2:
        names = [f"row {i}" for i in places]
        return ranked_rows(x.numpy(), run.normalisation.into(x).numpy(), nats, columns, names)
    ax = ranked_points(x.numpy(), nats)
    if run.columns:
        ax.set_aspect("auto")
        label(ax, x=columns[0], y=columns[1] if len(columns) > 1 else "")
    return ax


# ---- what is told


def tell(run: Run, method: Method, found: Sequence[Found], summary: Mapping[str, Any], out: Path) -> None:
    """Print what came of it."""
    given, has_bits = found[0].points, method.bin is not None or len(run.shape) == 3
    conditions = ""
    if run.kinds:
        of_each = " and ".join(run.kinds).replace("text", "caption")
        conditions = ", under the null condition" if given.y is None else f", each under its own {of_each}"
    guidance = "" if summary["guidance"] == 1 else f", guidance {summary['guidance']:g}"
    say(f"{run.folder.name} at step {summary['step']}{guidance}: {given.name}, {len(given)} samples{conditions}")
    if given.about:
        say(f"note: {given.about}")
    table = Table("log-density", "nats", "95% interval", box=None, padding=(0, 2, 0, 0))
    for header in ("bits/dim", "95% interval") * has_bits:
        table.add_column(header)
    for each, name in zip(found, ("given", "training"), strict=False):
        words = _words(summary[name]["nats"], ".2f")
        words += _words(summary[name]["bits_per_dim"], ".3f") if has_bits else []
        table.add_row(each.points.name, *words)
        if missing := summary[name]["not_finite"]:
            warn(
                "likelihood",
                f"{missing} of {len(each.points)} log-densities of {each.points.name} are not "
                f"finite, and left out of the means; {FINER}",
            )
    Terminal().print(table)
    if len(found) > 1:
        say(*_compared(given.name, summary))
    say(*_how(run, method, summary))
    say(f"rows: {out}", f"summary and pictures: {out.with_name(out.stem)}.json, -histogram.png, -ranking.png")


def _words(figure: Mapping[str, float | None], digits: str) -> list[str]:
    value, low, high = (None if figure[name] is None else f"{figure[name]:{digits}}" for name in Interval._fields)
    return [value or "not finite", "none for one sample" if low is None else f"{low} to {high}"]


def _compared(name: str, summary: Mapping[str, Any]) -> list[str]:
    """Whether training samples are more likely, and what that says."""
    more, area = summary["training_less_given"], summary["auroc"]
    other = "a held-out one" if summary["data"] is None else f"one of {name}"
    said = (
        f"AUROC {area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f}): how often a training sample is more "
        f"likely than {other}; 0.5 where nothing tells them apart"
    )
    if more["low"] is None:
        return [said]
    by = f"training less {name}: {more['value']:+.2f} nats ({more['low']:+.2f} to {more['high']:+.2f})"
    if summary["data"] is not None:
        return [by, said]
    verdict = (
        "the model knows them in part by heart: train it on more data, or for fewer steps"
        if more["low"] > 0
        else "no sign that the model knows them by heart"
    )
    return [f"{by}: {verdict}", said]


def _how(run: Run, method: Method, summary: Mapping[str, Any]) -> list[str]:
    """How log-densities were found, and what error each has beside the interval's."""
    error, change = summary["mean_standard_error"], summary["change_by_half_the_steps"]
    own = "" if isinstance(method.divergence, Exact) else f", with a standard error of {error:.2g} nats a sample"
    steps = "" if summary["steps"] is None else f", {summary['steps']} steps"
    halved = "" if change is None else f"; half the steps change a log-density by {change:.2g} nats at most"
    if change is not None and change > COARSE:
        warn(
            "likelihood",
            f"half the steps change a log-density by {change:.2g} nats, so these figures may be wrong by as much: "
            f"the {summary['steps']} steps are too coarse for this model; {FINER}",
        )
    unit = "in the units of the data"
    bins = f"as densities {unit}" if method.bin is None else f"{unit}, with uniform noise over bins of {method.bin:g}"
    constants = run.normalisation.constants
    what = "channel" if len(run.shape) > 1 else "column"
    named = ", ".join(
        f"{repr(run.columns[k]) if run.columns else f'{what} {k + 1}'} = {v:g}" for k, v in constants.items()
    )
    left_out = [f"left out, as they never change and have no density: {named}"] if constants else []
    return [f"by {summary['solver']}{steps}{halved}", f"divergence: {summary['divergence']}{own}", bins, *left_out]
