"""What `pathline likelihood` scores, under which conditions, and what comes of it.

A sample is scored under its own class, numbers or caption, in the units of the data: log p(x | y); whole numbers with
uniform noise over the bin of each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from pathline.conditions import CLASS
from pathline.data.arrays import shape_of
from pathline.data.columns import list_of
from pathline.data.files import ARRAYS, TABLES, FileSource
from pathline.data.images import ImageFolderSource
from pathline.data.named import source_of
from pathline.data.normalisation import Normalisation
from pathline.data.source import Samples, Source
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.likelihood.bits import bits_of, dequantised, in_units, varying
from pathline.likelihood.divergence import Divergence, Exact, Pullback
from pathline.likelihood.log_prob import estimate_log_prob
from pathline.metrics.ranking import Interval
from pathline.noise import Noise
from pathline.runs import LABEL, Run, guided
from pathline.solvers.adaptive import AdaptiveSolver
from pathline.solvers.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Points:
    """Samples to score.

    Attributes:
        name: What they are called.
        x: In the units of the data, of shape `(count, *shape)`.
        y: The conditions that they are scored under, as `Run` takes them; None for the null condition, or none at all.
        places: Where each is in its data set, from 0.
        about: What there is to say of them.
    """

    name: str
    x: Tensor
    y: Any
    places: Tensor
    about: str = ""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Method:
    """How log-densities are found.

    Attributes:
        solver: Of the flow.
        steps: How many of them; an adaptive one lays its own.
        divergence: Exact or estimated.
        bin: The distance of neighbouring values, over which noise is spread; None for a density as it is.
        seed: Of that noise and of the divergence's probes.
    """

    solver: RungeKutta | AdaptiveSolver
    steps: int
    divergence: Divergence
    bin: float | None
    seed: int


@dataclass(frozen=True)
class Scores:
    """Log-densities in nats, in the units of the data, the standard error of each, and its bits per dimension."""

    nats: Tensor
    errors: Tensor
    bits: Tensor

    @classmethod
    def of(cls, run: Run, found: list[tuple[Tensor, Tensor]], bin: float | None) -> Scores:
        """Those that batches of log-densities in the units of the model make."""
        values, errors = (torch.cat(parts).double() for parts in zip(*found, strict=True))
        bits = bits_of(values, run.shape, run.normalisation, bin)
        return cls(in_units(values, run.shape, run.normalisation), errors, bits)


# ---- what is scored


def own(run: Run, count: int, is_free: bool) -> tuple[Points, Points]:
    """At most so many held-out samples of the run, by its own split, and as many that it was trained on.

    Raises:
        ValueError: If its data is not what it was.
    """
    samples = run.config.load()
    if run.digest not in ("", samples.digest) or samples.shape != run.shape:
        raise ValueError(
            f"{run.config.data} has changed since {run.folder} was trained on it, so its held-out samples cannot be "
            "told; restore it, or name others with --data"
        )
    training, held_out = _places(samples).split(run.config.held_out, run.config.seed)
    first = _some(held_out, count)
    found = (
        Points(name, samples.x[rows], None if is_free else run.raw(samples, rows), rows)
        for name, rows in (("held out", first), ("training", _some(training, len(first))))
    )
    held, trained = found
    return held, trained


def others(run: Run, data: str, count: int, is_free: bool) -> Points:
    """At most so many samples of a data set or file, in the order of the run's columns and classes.

    Raises:
        ValueError: If they have another shape than the run's, or classes that it does not know.
    """
    samples, about = _loaded(data, run, is_free)
    samples = samples.ordered(run.columns, f"--data must have the columns that {run.folder} was trained on, and {data}")
    if samples.shape != run.shape:
        raise ValueError(
            f"--data must have samples of shape {run.shape}, as {run.folder} was trained on, got {samples.shape} from "
            f"{data}"
        )
    if samples.digest == run.digest:
        share = 1 - run.config.held_out
        about = f"the model was trained on {share:.0%} of {data}; leave out --data to score the rest of it alone"
    rows = _some(_places(samples), count)
    y = None if not samples.y or is_free else _conditions(run, data, samples, rows)
    if y is None and not is_free and run.kinds:
        named = {"class": "classes", "numbers": "numbers", "text": "captions"}
        what = " and ".join(named[kind] for kind in run.kinds)
        if not run.config.drop:
            raise ValueError(
                f"--data must have the {what} of its samples, as {run.folder} was trained with --drop 0, and {data} "
                f"comes without {what}"
            )
        reason = f": {about}" if about else ""
        about = f"{data} comes without {what}, so all is scored under the null condition{reason}"
    return Points(called(data), samples.x[rows], y, rows, about)


def called(data: str) -> str:
    """A short name of a data set or file."""
    path = Path(data.removeprefix("hf:").partition(",")[0])
    return Path(path.name.removesuffix(".gz")).stem if path.suffix else path.name or data


def _places(samples: Samples) -> Samples:
    """The numbers of samples in place of these, so that a split or choice of them tells which they are."""
    place = torch.arange(len(samples), dtype=torch.float64)[:, None]
    return replace(samples, x=place, columns=(), normalisation=Normalisation(0.0, 1.0), fingerprint=samples.digest)


def _some(places: Samples, count: int) -> Tensor:
    return places.some(count)[0][:, 0].long()


def _loaded(data: str, run: Run, is_free: bool) -> tuple[Samples, str]:
    """The samples, read as those of the run were as far as their kind has it, and why they have no conditions."""
    source, config = source_of(data), run.config
    known = vars(source)
    sizes: dict[str, Any] = {"size": config.size} if "size" in known else {}
    if (config.columns or config.drop_columns) and data.lower().endswith(TABLES):
        sizes["columns"] = list_of(run.columns)
    if len(run.shape) == 3 and data.lower().endswith(ARRAYS) and len(shape_of(Path(data))) in (3, 4):
        sizes["kind"] = "images"  # arrays of other axes are no images, and are refused as what they are
    sizes |= {"skip_bad": config.skip_bad} if "is_forgiving" in known else {}
    is_table = not isinstance(source, FileSource) or data.lower().endswith(TABLES)
    columns = {"label": config.label, "numbers": config.numbers}
    if isinstance(source, FileSource):  # as `sample` names them in a table, where the run's own data has no names
        label = config.label or (LABEL if run.classes else "")
        columns = {"label": label, "numbers": ",".join(map(_quoted, run.numbers))}
    named: dict[str, Any] = {name: column for name, column in columns.items() if name in known and is_table}
    has_captions = "text" in known and (not isinstance(source, FileSource) or data.lower().endswith(".npz"))
    named |= {"text": True} if has_captions and "text" in run.kinds and not is_free else {}
    reason = ""
    if any(named.values()):
        try:
            return _scored(source_of(data, **named, **sizes)).load(), ""
        except ValueError as error:
            reason, first = str(error), error
    try:
        return _scored(source_of(data, **sizes)).load(), reason
    except ValueError:
        if reason:  # with the column of its conditions it was nearer to what is needed
            raise first from None
        raise


def _scored(source: Source) -> Source:
    """The source of samples that are read to be scored, of which each may have a class of its own."""
    return replace(source, may_differ=True) if isinstance(source, FileSource | ImageFolderSource) else source


def _quoted(name: str) -> str:
    """A name among others with commas between them."""
    return '"' + name.replace('"', '""') + '"'


def _conditions(run: Run, data: str, samples: Samples, rows: Tensor) -> dict[str, Any] | None:
    """The conditions of some samples as the run takes them; None if it takes none, or the samples lack a kind.

    Raises:
        ValueError: If the run knows no such class, or they have other numbers.
    """
    if "numbers" in run.kinds and len(samples.numbers) != len(run.numbers):
        raise ValueError(
            f"--data must have the numbers that {run.folder} is conditioned on, {', '.join(run.numbers)}, got "
            f"{', '.join(samples.numbers) or 'classes'} from {data}; score it without them by --unconditional"
        )
    if not run.kinds or not set(run.kinds) <= samples.y.keys():
        return None
    found = run.raw(samples.keeping(run.kinds), rows)
    if found and CLASS in found:
        found[CLASS] = _places_of(run, data, samples)[found[CLASS]]
    return found


def _places_of(run: Run, data: str, samples: Samples) -> Tensor:
    """For each class of the samples its index in the run."""
    places = run.codec.indices(samples.classes)
    if min(places) >= 0:
        return torch.tensor(places)
    unknown = places.index(-1)
    row = int((samples.y[CLASS] == unknown).nonzero()[0])
    raise ValueError(
        f"--data must have the classes that {run.folder} knows, {', '.join(run.classes)}, got "
        f"{samples.classes[unknown]!r} in row {row} of {data}, counted from 0; score it without classes by "
        "--unconditional"
    )


# ---- how it is scored


def field_of(run: Run, network: NetworkField, points: Points, guidance: float | None) -> Field:
    """The run's field under the conditions of some points."""
    if points.y is not None:
        return guided(network, run.conditions(points.y), 1.0 if guidance is None else guidance)
    return network.given(None) if run.kinds else network


def prepared(run: Run, points: Points, method: Method) -> Tensor:
    """Points as the model sees them, with noise over the bin of each number.

    Raises:
        ValueError: If a number is no multiple of the bin.
    """
    if method.bin is None:
        return varying(run.normalisation.into(points.x), run.normalisation, points.x, run.columns)
    off = ((points.x / method.bin).round() * method.bin - points.x).abs() > 1e-3 * method.bin
    if off.any():
        i = int(off.flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"--bin must be the distance of neighbouring values, got {method.bin:g}, and {points.x[i][off[i]][0]:.6g} "
            f"in row {int(points.places[i])} of {points.name}, counted from 0, is no multiple of it; --bin 0 takes the "
            "data as numbers without neighbours"
        )
    return varying(
        run.normalisation.into(dequantised(points.x, method.bin, method.seed)), run.normalisation, points.x, run.columns
    )


def scored(field: Field, x: Tensor, method: Method, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Log-densities and their standard errors in the units of the model, batch by batch; no batch changes another."""
    for first in range(0, len(x), batch_size):
        rows = slice(first, min(first + batch_size, len(x)))
        divergence = method.divergence
        if not isinstance(divergence, Exact):
            divergence = Later(divergence, first)
        with torch.no_grad():
            yield estimate_log_prob(
                field.take(rows),
                x[rows],
                solver=method.solver,
                steps=method.steps,
                divergence=divergence,
                seed=method.seed,
            )


@dataclass(frozen=True)
class Later(Divergence):
    """A divergence whose probes are those of a batch that begins `first` samples later."""

    divergence: Divergence
    first: int

    @property
    def estimates(self) -> int:  # type: ignore[override]
        """As many."""
        return self.divergence.estimates

    def vectors(self, x: Tensor, noise: Noise) -> Tensor:
        """The probes."""
        return self.divergence.vectors(x, noise.at(self.first))

    def of(self, value: Tensor | Pullback, x: Tensor, vectors: Tensor, is_kept: bool) -> Tensor:
        """The same."""
        return self.divergence.of(value, x, vectors, is_kept)


# ---- what comes of it


def mean_of(values: Tensor) -> Interval:
    """The mean of those that are finite, with its 95% interval by Student's t distribution; of one, without an end."""
    values = values[values.isfinite()]
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    value = float(values.mean())
    if len(values) == 1:
        return Interval(value, -math.inf, math.inf)
    reach = stats.t.ppf(0.975, len(values) - 1) * float(values.std()) / math.sqrt(len(values))
    return Interval(value, value - reach, value + reach)


def difference_of(first: Tensor, second: Tensor) -> Interval:
    """The mean of the first less that of the second, with its 95% interval: Welch 1947."""
    ends = [values[values.isfinite()].numpy() for values in (first, second)]
    if not all(map(len, ends)):
        return Interval(math.nan, math.nan, math.nan)
    value = float(ends[0].mean() - ends[1].mean())
    if min(map(len, ends)) == 1:
        return Interval(value, -math.inf, math.inf)
    found = stats.ttest_ind(*ends, equal_var=False).confidence_interval(0.95)
    return Interval(value, float(found.low), float(found.high))
