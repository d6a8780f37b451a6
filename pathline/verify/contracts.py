"""Laws of any field, whoever wrote it: 1, 3, 6, 7 and 19.

A field is one function of point and time, with its derivatives, and its score and velocity belong together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pathline.fields.empirical import EmpiricalField
from pathline.fields.exact import MixtureField
from pathline.fields.field import Field
from pathline.fields.guidance import ClassifierFree
from pathline.fields.modes import evaluating
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY, Prediction, convert
from pathline.paths.schedules import CosineSchedule, LinearSchedule
from pathline.tensors import sum_per_sample
from pathline.verify.parts import field, mixture, points, spread_times
from pathline.verify.residuals import asymmetry, fokker_planck_residual
from pathline.verify.table import Figure, law, worst_of


def _some_fields() -> Iterable[tuple[str, tuple[Any, ...]]]:
    exact = field()
    data = EmpiricalField(mixture().sample(20, seed=15), GaussianPath(LinearSchedule()), bandwidth=0.5)
    return [
        ("velocity", (exact, (2,))),
        ("data", (field(CosineSchedule(), DATA), (2,))),
        ("velocity+score", (field(head=(VELOCITY, SCORE)), (2,))),
        ("data set", (data, (2,))),
        ("guided", (ClassifierFree(data, exact, 0.5), (2,))),
    ]


def precision_of(field: Field) -> torch.dtype:
    """The dtype of a field's own numbers, double precision if it has none."""
    own = (p for p in itertools.chain(field.parameters(), field.buffers()) if p.is_floating_point())
    return next((p.dtype for p in own), torch.float64)


def _on_path(field: Field, shape: tuple[int, ...], count: int = 6) -> tuple[Tensor, Tensor]:
    """Points that a field may meet, were its data normal, and their times."""
    dtype = precision_of(field)
    noise, data, z = (points(count, math.prod(shape), seed).reshape(count, *shape) for seed in (16, 17, 18))
    t = spread_times(count, 0.1, 0.9)
    return field.path.point(noise, data, t, lambda x: z).x.to(dtype), t.to(torch.promote_types(dtype, torch.float32))


def _rounding(x: Tensor) -> float:
    """What may be left of numbers that ought to be equal, over their size."""
    return 1e4 * torch.finfo(x.dtype).eps


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / (1 + b.abs().max()))


@law(3, _some_fields)
def a_field_takes_one_time_or_one_each(field: Field, shape: tuple[int, ...]) -> Iterator[Figure]:
    """A field gives the same at a time of shape () and at the same time in shape (batch,), also where batch = size."""
    with torch.no_grad(), evaluating(field):
        worst = 0.0
        for count in (1, 6, math.prod(shape)):
            x, t = _on_path(field, shape, count)
            for one in t[:2]:
                for a, b in zip(field.values(x, one), field.values(x, one.expand(count)), strict=True):
                    worst = worst_of(worst, _apart(a, b))
    yield Figure("difference", worst, _rounding(x))


@law(19, _some_fields)
def a_value_of_a_field_is_its_own(field: Field, shape: tuple[int, ...]) -> Iterator[Figure]:
    """A field in eval mode gives a point the same value each time, alone or among others, and leaves the point be."""
    x, t = _on_path(field, shape)
    kept = x.clone()
    with torch.no_grad(), evaluating(field):
        first, again = field.values(x, t), field.values(x, t)
        alone = [field.values(x[i : i + 1], t[i : i + 1]) for i in range(len(x))]
    for k, value in enumerate(first):
        yield Figure(f"second time less first, {field.heads[k].name}", _apart(again[k], value), 0)
        single = torch.cat([values[k] for values in alone])
        yield Figure(f"alone less in a batch, {field.heads[k].name}", _apart(single, value), _rounding(x))
    yield Figure("points changed", int((x != kept).sum()), 0)


@law(7, _some_fields)
def a_field_keeps_its_derivatives(field: Field, shape: tuple[int, ...]) -> Iterator[Figure]:
    """The derivatives of a field in x and in t are those of its values, and it keeps none where none is wanted."""
    x, t = _on_path(field, shape)
    way = points(len(x), math.prod(shape), seed=19).reshape(x.shape).to(x.dtype)
    h = torch.finfo(x.dtype).eps ** (1 / 3)
    for k, head in enumerate(field.heads):

        def total(x: Tensor, t: Tensor, k: int = k) -> Tensor:
            return sum_per_sample(field.values(x, t)[k] * way)

        free, time = x.clone().requires_grad_(), t.clone().requires_grad_()
        with evaluating(field), torch.enable_grad():
            value = total(free, time)
            slopes = torch.autograd.grad(value.sum(), (free, time), allow_unused=True) if value.requires_grad else ()
        with evaluating(field), torch.no_grad():
            in_x = (total(x + h * way, t) - total(x - h * way, t)) / (2 * h)
            in_t = (total(x, t + h) - total(x, t - h)) / (2 * h)
            kept = in_x.requires_grad or in_t.requires_grad
        of_x, of_t = slopes or (None, None)
        along = torch.zeros_like(in_x) if of_x is None else sum_per_sample(of_x * way)
        yield Figure(f"error of d/dx, {head.name}", _apart(along, in_x), min(1e5 * h**2, 0.05))
        late = torch.zeros_like(in_t) if of_t is None else of_t
        yield Figure(f"error of d/dt, {head.name}", _apart(late, in_t), min(1e5 * h**2, 0.05))
        yield Figure(f"gradients kept without need, {head.name}", int(kept), 0)


@law(1, lambda: [case for case in _some_fields() if "+" in case[0]])
def heads_of_a_field_say_the_same(
    field: Field, shape: tuple[int, ...], tolerance: float | None = None
) -> Iterator[Figure]:
    """On a Gaussian path, what one head of a field says of another is what that says itself."""
    x, t = _on_path(field, shape)
    with torch.no_grad(), evaluating(field):
        values = field.values(x, t)
    for (a, source), (b, target) in itertools.permutations(zip(values, field.heads, strict=True), 2):
        found = convert(a, x, t, field.path.schedule, source, target)
        yield Figure(f"error of {target.name} from {source.name}", _apart(found, b), tolerance or _rounding(x))


@law(6, _some_fields)
def a_score_is_a_gradient(field: Field, shape: tuple[int, ...], tolerance: float | None = None) -> Iterator[Figure]:
    """The Jacobian of a field's score is symmetric: a score is the gradient of log p_t."""
    x, t = _on_path(field, shape)
    yield Figure("asymmetry", asymmetry(field, x, t).overall, tolerance or _rounding(x))


@law(7, lambda: [case for case in _some_fields() if case[0] != "guided"])  # which has no density of its own
def a_score_follows_its_own_equation(
    field: Field, shape: tuple[int, ...], tolerance: float | None = None
) -> Iterator[Figure]:
    """Velocity and score of a field obey continuity and Fokker-Planck, d/dt s + grad(div f + f . s - ...) = 0."""
    x, t = _on_path(field, shape)
    for sigma in (0.0, 1.0):
        residual = fokker_planck_residual(field, x, t, sigma).overall
        yield Figure(f"residual, sigma = {sigma:g}", residual, tolerance or _rounding(x))


class _Read(Field):
    """A field of which only one prediction shows, as of a network."""

    def __init__(self, other: Field, prediction: Prediction) -> None:
        super().__init__()
        self.other, self.path, self.prediction = other, other.path, prediction

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.other.read_as(x, t, self.prediction)


def _known_fields() -> Iterable[tuple[str, tuple[Any, ...]]]:
    exact = field(CosineSchedule())
    return [(kind.name, (_Read(exact, kind), exact)) for kind in (VELOCITY, SCORE, DATA, NOISE)]


@law(6, _known_fields)
def a_field_is_the_one_of_its_data(
    field: Field, truth: MixtureField | EmpiricalField, tolerance: float | None = None
) -> Iterator[Figure]:
    """Velocity, score, data and noise of a field are the exact ones of the distribution that it is said to lead to."""
    if isinstance(truth, MixtureField):
        data = truth.mixture.sample(64, seed=10)
    else:
        data = truth.samples(torch.arange(64) % len(truth.rows)).double()
    noise = points(len(data), data[0].numel(), seed=20).reshape(data.shape)
    for t in (0.1, 0.5, 0.9):
        x = truth.path.point(noise, data, t).x.to(precision_of(field))
        for kind in (VELOCITY, SCORE, DATA, NOISE):
            if t in field.interval(kind):
                with torch.no_grad(), evaluating(field):
                    found, true = field.read(x, t, kind), truth.read(x, t, kind)
                error = float((found - true).norm() / true.norm())
                yield Figure(f"error of {kind.name} at t = {t:g}", error, tolerance or _rounding(x))
