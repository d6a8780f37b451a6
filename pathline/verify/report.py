"""What can be known of a trained model, against the exact marginal field of its own training set.

    conditional loss = |model - exact field|^2 + floor          (verify.floors)
    heart            = (held-out loss - training loss) / (held-out loss - floor)

The exact field of n points is what a network becomes that knows them by heart, so it is the truth early on, where all
models of the data agree, and a warning near data: what comes too near to it there has memorised. `heart` tells how far
that went, 0 to 1. The other figures need no truth: the score's own equation, whether it is a gradient, its slope
E[s . target] / E|s|^2, which is 1 for a posterior mean, and whether samples of different sigma_t agree.

Every bound was set between models that are known: see BOUNDS.

Source: Bertrand et al. 2025, https://arxiv.org/abs/2506.03719, for models held against
the closed form
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.conditions import CLASS
from pathline.fields.empirical import EmpiricalField
from pathline.fields.field import Field
from pathline.fields.modes import evaluating
from pathline.likelihood.divergence import Divergence, Exact, Hutchinson
from pathline.metrics.distances import nearest_distance
from pathline.noise import Noise
from pathline.paths.path import GaussianPath, PathPoint
from pathline.paths.predictions import NOISE, SCORE, VELOCITY, Prediction, blend
from pathline.runs import Run
from pathline.sampling.exponential import ExponentialSDE
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import SDESampler
from pathline.sampling.sigmas import Sigma, sigma_of
from pathline.tensors import mean_per_sample, time_of
from pathline.verify.floors import Gap, average, marginalisation_gap
from pathline.verify.marginals import SIGMAS, Apart, ratio_of_means, same_marginals
from pathline.verify.residuals import Residual, asymmetry, fokker_planck_residual

BINS = 10
MIDDLES = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
EXACT_UP_TO = 128  # numbers of a point whose divergence and Jacobian are taken whole
AT_ONCE = 8  # points whose second derivatives are held in memory together
POINT_STREAM = 36


@dataclass(frozen=True)
class Effort:
    """How much is looked at: draws for each time, points whose derivatives are taken, samples of each sigma, steps."""

    draws: int = 1000
    points: int = 16
    samples: int = 400
    steps: int = 100


QUICK = Effort(250, 4, 100, 40)


@dataclass(frozen=True)
class Subject:
    """A model, and the data that it is held against, in the units of the model.

    Attributes:
        field: The model, without a condition.
        training: Of shape `(samples, *shape)`.
        held_out: The same.
        y: What each training sample is conditioned on, if anything, by its kind: trees of tensors or rows.
        held_out_y: The same of the held-out ones.
        is_of_classes: Whether those are class indices, so that the exact field of each class is known.
        start: Where samples of a bridge begin, and its points.
        held_out_start: Where the path to each held-out sample begins, for a bridge between pairs.
    """

    field: Field
    training: Tensor
    held_out: Tensor
    y: Any = None
    held_out_y: Any = None
    is_of_classes: bool = False
    start: Tensor | None = None
    held_out_start: Tensor | None = None

    @property
    def truth(self) -> EmpiricalField | None:
        """The exact field of the training set, where there is one."""
        return self._field_of(self.training, self.y)

    @property
    def fresh(self) -> EmpiricalField | None:
        """That of the held-out samples."""
        return self._field_of(self.held_out, self.held_out_y)

    def _field_of(self, x: Tensor, y: Any) -> EmpiricalField | None:
        if not isinstance(self.field.path, GaussianPath) or (y is not None and not self.is_of_classes):
            return None
        return EmpiricalField(x, self.field.path, y=y)

    def given(self, y: Any) -> Field:
        """The model under conditions."""
        return self.field if y is None else self.field.given(y)

    def given_held_out(self, rows: Tensor) -> Field:
        """The model under the conditions of some held-out samples."""
        return self.given(None if self.held_out_y is None else tree_map(lambda leaf: leaf[rows], self.held_out_y))

    def points(self, count: int, t: float, seed: int) -> tuple[Tensor, Field]:
        """Points of paths to held-out samples, and the model under their conditions."""
        noise = Noise(seed, stream=POINT_STREAM)
        rows = noise.permutation(len(self.held_out))[:count]
        data = self.held_out[rows]
        if self.held_out_start is not None:
            begin = self.held_out_start[rows]
        else:
            begin = noise.like(data) if self.start is None else self.start[noise.rows(len(data), len(self.start))]
        x = self.field.path.point(begin, data, t, noise.after(1).like).x
        return x, self.given_held_out(rows)


def subject_of(run: Run) -> tuple[Subject, list[str], int]:
    """A run's model with its own data, what there is to say of it, and the step of the model.

    Raises:
        ValueError: If the data is not what the run was trained on.
    """
    notes, samples = [], run.config.load()
    if samples.shape != run.shape or run.digest not in ("", samples.digest):
        raise ValueError(
            f"{run.config.data} has changed since {run.folder} was trained on it, and nothing can be said of a model "
            "against other data; restore it"
        )
    if not run.digest:
        notes.append(f"whether {run.config.data} is what it was cannot be told: this run kept no digest of it")
    if run.config.augmentation != "none":
        notes.append(f"the exact field is that of the data without its augmentation, {run.config.augmentation}")
    if run.config.coupling != "independent":
        notes.append(f"losses are those of independent pairs, not of {run.config.coupling} that it was trained on")
    training, held_out = samples.split(run.config.held_out, run.config.seed)
    found = run.checkpoint()
    model = run.field_at(found)
    x, fresh = (run.normalisation.into(part.x[:]) for part in (training, held_out))
    y, fresh_y = (run.conditions_of(part) for part in (training, held_out))
    is_of_classes = run.kinds == (CLASS,)
    subject = Subject(model, x, fresh, y, fresh_y, is_of_classes, run.source(), run.held_out_source())
    if run.kinds and not is_of_classes:
        notes.append(f"the exact field under {' and '.join(run.kinds)} is not known: hardly two samples have the same")
    if run.config.is_bridge:
        notes.append("the exact field of a bridge between two data sets is not known here, and no floor of its loss")
    if y is not None and fresh_y is not None and is_of_classes:
        known = torch.isin(fresh_y[CLASS], y[CLASS])
        begin = subject.held_out_start
        subject = replace(
            subject,
            held_out=fresh[known],
            held_out_y={CLASS: fresh_y[CLASS][known]},
            held_out_start=None if begin is None else begin[known],
        )
    return subject, notes, found.step


# ---- what is found


@dataclass(frozen=True)
class Finding:
    """One figure of a model.

    Attributes:
        name: What it is.
        value: The figure.
        error: Its standard error; NaN where it is not known.
        means: What it means, and when to worry.
        verdict: "fine", "look" or "worry"; empty where it is told for comparison only.
    """

    name: str
    value: float
    error: float
    means: str
    verdict: str = ""


@dataclass
class Part:
    """Some figures that belong together, and the curves behind them: lists by their names."""

    findings: list[Finding] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


# (look, worry): a figure below the first is fine. Set between models that are known, whose figures were, in the order
# of: digits after 1300, 300 and 80 steps; 1300 steps on 127 of them; and exact fields of a mixture, spoiled as it says.
BOUNDS = {
    "heart": (0.25, 0.5),  # 0.08, 0.01, 0.00; 0.93; the data set's own field 1.00
    "velocity": (0.2, 0.4),  # 0.11, 0.15, 0.28; 0.12; times 0.8 0.23, none 1.00
    "slope": (0.05, 0.15),  # 0.03, 0.02, 0.21; 0.85; the score times 0.7 0.32, the data set's own field 0.88
    "fokker-planck": (0.25, 0.5),  # 0.13, 0.24, 0.36; 0.17; exact 3e-16, the score turned by half of it 0.34, none 1.00
    "asymmetry": (0.15, 0.3),  # 0.05, 0.05, 0.07; 0.08; exact 1e-16, the score turned by half of it 0.43
    "heads": (0.1, 0.3),  # exact 1e-16, the score times 0.7 0.43, its sign lost 2.00
    "sigma": (0.01, 0.03),  # 0.00 for all; the score's sign lost 0.28
    "variance": (0.05, 0.15),  # 0.01, 0.00, 0.02; 0.02; velocity times 0.8 0.08, none 0.57
    "copies": (0.15, 0.35),  # the ratio 1.04, 1.20, 1.59; 0.26; exact 0.92, the data set's own field 0.09
}


def judged(name: str, value: float) -> str:
    """The verdict on a figure by its bounds; what is not a number is cause to worry."""
    look, worry = BOUNDS[name]
    return "fine" if value < look else "look" if value < worry else "worry"


def examined(subject: Subject, effort: Effort, seed: int = 0) -> Iterator[tuple[str, Callable[[], Part]]]:
    """The parts of a report, each with its name, to be found when called."""
    yield "the loss and its floor", lambda: losses(subject, effort, seed)
    yield "the field against the exact one", lambda: gaps(subject, effort, seed)
    yield "the slope of the score", lambda: slope(subject, effort, seed)
    yield "the score's own equation", lambda: equations(subject, effort, seed)
    yield "samples of different sigma", lambda: samples(subject, effort, seed)


def losses(subject: Subject, effort: Effort, seed: int) -> Part:
    """Training and held-out loss by t, over the floor of the training set."""
    truth, fresh = subject.truth, subject.fresh
    if truth is None or fresh is None:
        return Part(notes=["the loss floor is not known, so neither is how much is known by heart"])
    exact, path, is_by_class = truth, subject.field.path, subject.is_of_classes
    kind = next((h for h in subject.field.heads if path.is_bounded(h, torch.tensor([0.0, 1.0])).all()), NOISE)

    def of_both(point: PathPoint, y: Tensor | None) -> tuple[Tensor, ...]:
        target = point.target(kind)
        guess = subject.given(y).read(point.x, point.t, kind)
        least = (exact if y is None else exact.given(y)).read(point.x, point.t, kind)
        loss, floor = (mean_per_sample((each - target).double() ** 2) for each in (guess, least))
        return loss, floor, loss - floor

    def times(k: int, u: Tensor) -> Tensor:
        return (k + u) / BINS

    with evaluating(subject.field):
        (loss, floor, above), (_, _, error) = average(exact, BINS, times, of_both, effort.draws, seed, is_by_class)
        (new, _, _), (new_error, _, _) = average(fresh, BINS, times, of_both, effort.draws, seed + 1, is_by_class)
    means = [float(each.mean()) for each in (loss, new, floor, above)]
    errors = [float((each**2).sum().sqrt()) / BINS for each in (error, new_error)]
    reach = means[1] - means[2]
    heart = 1 - means[3] / reach
    sure = math.hypot(errors[0] / reach, means[3] / reach**2 * errors[1])
    is_known = (
        sure < BOUNDS["heart"][0]
    )  # in few dimensions even exact fields are hardly above the floor of many points
    words = f"{kind.name} loss"
    return Part(
        [
            Finding(f"training {words}", means[0], errors[0], "the mean over t, on what it was trained on"),
            Finding(f"held-out {words}", means[1], errors[1], "the same on what it has never seen"),
            Finding("floor of the training set", means[2], 0.0, "of a model that knows every sample by heart"),
            Finding(
                "known by heart",
                heart,
                sure,
                "how far the training loss went from the held-out loss to the floor: 0 not at all, 1 all the way"
                + ("" if is_known else "; the two are too near to tell"),
                judged("heart", heart - 2 * sure) if is_known else "",
            ),
        ],
        {"loss": {"training": loss.tolist(), "held out": new.tolist(), "floor": floor.tolist()}, "kind": kind.name},
    )


def gaps(subject: Subject, effort: Effort, seed: int) -> Part:
    """The error of velocity and score by t, against the exact field, at points of training and held-out data."""
    truth, fresh = subject.truth, subject.fresh
    if truth is None or fresh is None:
        return Part(notes=["the exact field is not known, so neither is the error of velocity and score"])
    curves: dict[str, dict[str, list[float]]] = {}
    draws = effort.draws // 2
    with evaluating(subject.field):
        found: dict[tuple[str, str], Gap] = {
            (kind.name, where): marginalisation_gap(
                subject.field, truth, MIDDLES, kind, draws, seed, subject.is_of_classes, source
            )
            for kind in (VELOCITY, SCORE)
            for where, source in (("training points", truth), ("held-out points", fresh))
        }
    for (kind_name, where), gap in found.items():
        curves.setdefault(kind_name, {})[where] = gap.relative.tolist()
    findings = []
    for kind in (VELOCITY, SCORE):
        gap = found[kind.name, "training points"]
        early = gap.relative[: BINS // 2]
        errors = gap.standard_error[: BINS // 2] / (2 * gap.value[: BINS // 2]) * early
        value, error = float(early.mean()), float((errors**2).sum().sqrt()) / (BINS // 2)
        findings.append(
            Finding(
                f"error of the {kind.name}, early",
                value,
                error,
                "t < 0.5, over the size of the exact field, to which any good model is near there",
                judged("velocity", value) if kind == VELOCITY else "",
            )
        )
    late = float(found[VELOCITY.name, "training points"].relative[BINS // 2 :].mean())
    far = float(found[VELOCITY.name, "held-out points"].relative[BINS // 2 :].mean())
    words = "t > 0.5, where the exact field knows its samples by heart: a low one with high held-out loss is memory"
    findings.append(Finding("error of the velocity, late", late, math.nan, words))
    findings.append(Finding("the same at held-out points", far, math.nan, "where the exact field itself is wrong"))
    return Part(findings, curves)


def slope(subject: Subject, effort: Effort, seed: int) -> Part:
    """E[s . target] / E|s|^2 by t on held-out data, 1 for its own score; and how far two heads differ."""
    fresh, model = subject.fresh, subject.field
    if fresh is None:
        return Part(notes=["the slope of the score is found for models from noise, by class or without conditions"])
    others = [head for head in model.heads if head != SCORE] if SCORE in model.heads else []

    def measure(point: PathPoint, y: Tensor | None) -> tuple[Tensor, ...]:
        own, x = subject.given(y), point.x
        s, t = own.read(x, point.t, SCORE), time_of(x, point.t)
        a, b = (mean_per_sample((s * each).double()) for each in (point.target(SCORE), s))
        found = [a, b, a * a, a * b, b * b]
        for other in others[:1]:
            mix, values = model.path.mix((other,), SCORE, t), own.values(x, t)
            read = blend(mix.m, x, zip(mix.n, [values[model.heads.index(other)]], strict=True))
            found.append(mean_per_sample((read - s).double() ** 2))
        return tuple(found)

    with evaluating(model):
        (a, b, aa, ab, bb, *rest), _ = average(
            fresh, BINS, lambda k, u: MIDDLES[k].expand_as(u), measure, effort.draws, seed, subject.is_of_classes
        )
    value = a / b
    error = ((aa - 2 * value * ab + value**2 * bb) / effort.draws).clamp(min=0).sqrt() / b
    worst = int((value - 1).abs().argmax())
    off = float(((value - 1).abs() - 2 * error).clamp(min=0).max())
    part = Part(
        [
            Finding(
                "slope of the score",
                float(value[worst]),
                float(error[worst]),
                "how far held-out data pulls, over what the score says: 1 is right, below it is too sure, above too "
                f"weak; worst at t = {float(MIDDLES[worst]):g}",
                judged("slope", off),
            )
        ],
        {"slope": value.tolist(), "slope_error": error.tolist()},
    )
    if rest:
        between = (rest[0] / b).sqrt()
        part.curves["heads"] = between.tolist()
        part.findings.append(
            Finding(
                f"score head against the {others[0].name} head",
                float(between.mean()),
                math.nan,
                "how far the score head is from the score read from the other head; both should say the same",
                judged("heads", float(between.mean())),
            )
        )
    else:
        part.notes.append("velocity and score are read from one head, so they cannot contradict each other")
    return part


def equations(subject: Subject, effort: Effort, seed: int) -> Part:
    """The Fokker-Planck residual of the score and the asymmetry of its Jacobian, by t, near held-out data."""
    interval = _interval(subject.field, SCORE)
    if interval is None:
        return Part(notes=["this path has no score, so its equation cannot be asked, nor any sigma be sampled"])
    size = subject.training[0].numel()
    divergence: Divergence = Exact() if size <= EXACT_UP_TO else Hutchinson(4)
    probes = None if size <= EXACT_UP_TO else 4
    curves: dict[str, list[float]] = {"fokker-planck": [], "asymmetry": []}
    for k, t in enumerate(TIMES):
        x, own = subject.points(effort.points, t, seed + k)
        pieces = [slice(first, first + AT_ONCE) for first in range(0, len(x), AT_ONCE)]
        residuals = [
            fokker_planck_residual(own.take(piece), x[piece], t, divergence=divergence, seed=seed) for piece in pieces
        ]
        turns = [asymmetry(own.take(piece), x[piece], t, SCORE, probes, seed) for piece in pieces]
        curves["fokker-planck"].append(_joined(residuals).overall)
        curves["asymmetry"].append(_joined(turns).overall)
    words = {
        "fokker-planck": "d/dt s + grad(div u + u . s) over the sizes of its terms: 0 if the score moves as the "
        "velocity says, 1 if it does not at all",
        "asymmetry": "|J - J^T| / 2|J| of the score: 0 for the gradient of a log-density, 0.71 for random numbers",
    }
    names = {"fokker-planck": "Fokker-Planck residual", "asymmetry": "asymmetry of the score"}
    found = []
    for name, values in curves.items():
        worst = max(range(len(TIMES)), key=lambda k: values[k] if values[k] == values[k] else math.inf)
        mean = sum(values) / len(values)
        found.append(
            Finding(
                names[name],
                mean,
                math.nan,
                f"{words[name]}; worst {values[worst]:.2g} at t = {TIMES[worst]:g}",
                judged(name, mean),
            )
        )
    return Part(found, {**curves, "times": list(TIMES)})


def samples(subject: Subject, effort: Effort, seed: int) -> Part:
    """How far samples of different sigma_t drift apart, and how near they come to training samples."""
    model, path = subject.field, subject.field.path
    count = min(effort.samples, len(subject.held_out)) if subject.held_out_y is not None else effort.samples
    rows = Noise(seed, stream=POINT_STREAM).permutation(len(subject.held_out))[:count]
    own = subject.given_held_out(rows)
    start = None
    if subject.start is not None:
        start = subject.start[Noise(seed, stream=POINT_STREAM).rows(count, len(subject.start))]
    sigmas: tuple[Sigma, ...] = SIGMAS if path.is_gaussian else tuple(map(sigma_of, (0.0, 0.5, 1.0)))
    is_one = SCORE not in model.heads or len(model.heads) == 1
    sampler: Callable[[Sigma], Sampler] = ExponentialSDE if path.is_gaussian and is_one else SDESampler
    part = Part()
    if _interval(model, SCORE) is None:
        sigmas = (sigmas[0], sigmas[0])
    sets: list[Apart] = []
    for each in same_marginals(own, (count, *subject.training.shape[1:]), sigmas, effort.steps, seed, sampler, start):
        sets.append(each)
        if len(set(sigmas)) == 1:
            break
    if len(sets) > 1:
        farthest = max(sets[1:], key=lambda each: each.share)
        widest = max(sets[1:], key=lambda each: abs(each.variance_ratio - 1))
        off = abs(widest.variance_ratio - 1) - 2 * widest.ratio_error
        part.findings += [
            Finding(
                "drift between sigmas",
                farthest.share,
                farthest.error,
                f"the share of distances that sigma makes among samples; 0 by theory; farthest is {_called(farthest)}",
                judged("sigma", farthest.share - 2 * farthest.error),
            ),
            Finding(
                "variance ratio",
                widest.variance_ratio,
                widest.ratio_error,
                f"the variance of samples over that of the flow's; 1 by theory; farthest is {_called(widest)}",
                judged("variance", off),
            ),
        ]
        part.curves["sigmas"] = [
            {"sigma": _called(each), **{k: v for k, v in each._asdict().items() if k not in ("sigma", "samples")}}
            for each in sets
        ]
    mine, real = (nearest_distance(x, subject.training) for x in (sets[0].samples, subject.held_out))
    ratio, error = ratio_of_means(mine, real)
    part.findings.append(
        Finding(
            "memorisation ratio",
            ratio,
            error,
            "the distance to the nearest training sample, over held-out data's: 0 copies, 1 as new as real data, above "
            "unlike it",
            judged("copies", abs(ratio - 1)),
        )
    )
    part.curves["nearest"] = {"samples": mine.tolist(), "held out": real.tolist()}
    return part


def _interval(model: Field, kind: Prediction) -> Any:
    """The times at which a kind can be read, or None if never."""
    try:
        found = model.interval(kind)
    except ValueError:
        return None
    return found if all(t in found for t in TIMES) else None


def _joined(found: list[Residual]) -> Residual:
    return Residual(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _called(found: Apart) -> str:
    words = [f"{value:g}" for value in vars(found.sigma).values()]
    name = type(found.sigma).__name__.removesuffix("Sigma").lower()
    return ":".join(words if name == "constant" else [name, *words])
