"""The loss floor: what is left of the matching loss when the field is perfect.

    E |prediction - target|^2 = E |prediction - E[target | x_t]|^2 + E Var(target | x_t)
         (conditional loss)            (marginal loss)                   (floor)

The floor depends on the data, the path and the kind of prediction, never on the network: gradients of both losses are
the same, and no model of the *distribution* gets below it. Measured for a training set, it is what a model reaches
that knows every training sample by heart. Near data (t > 0.6, say) a point betrays which sample it came from, and that
floor drops to nearly nothing, while a model that generalises keeps a loss well above it: a training loss that touches
the floor of its training set there has memorised it, and its held-out loss shows it by turning up.

The marginal loss is what the marginalisation trick says that training makes small without ever seeing it; against an
exact field it can be seen: `marginalisation_gap`.

Source: Lipman et al. 2023, https://arxiv.org/abs/2210.02747, theorem 2; Bertrand et al. 2025,
https://arxiv.org/abs/2506.03719, for the closed form on a training set
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pathline.fields.empirical import EmpiricalField
from pathline.fields.exact import MixtureField
from pathline.fields.field import Field
from pathline.noise import Noise
from pathline.paths.path import PathPoint
from pathline.paths.predictions import DATA, VELOCITY, Prediction
from pathline.tensors import exact, mean_per_sample, wide

FLOOR_STREAM = 32
NODES, REACH = 161, 8.0  # of the trapezoidal rule along each axis, and how many standard deviations it spans
DRAWS, CHUNK = 200_000, 1 << 13  # draws, unless told otherwise, and how many at once


class Floor(NamedTuple):
    """The floor at some times, as the mean over the numbers of a point, and how sure it is (0: an integral)."""

    value: Tensor
    standard_error: Tensor


def loss_floor(
    field: MixtureField | EmpiricalField,
    t: Tensor,
    prediction: Prediction = VELOCITY,
    draws: int | None = None,
    seed: int = 0,
) -> Floor:
    """The least that the matching loss of a prediction can be at each of the times.

    For a mixture in one or two dimensions it is a numerical integral, unless draws are asked for; else an average over
    draws of the path's points, each against the exact posterior mean.

    Args:
        field: The exact field of what the data comes from; of the training set itself, an `EmpiricalField`.
        t: Times, of shape `(times,)`.
        prediction: What the loss is of.
        draws: Points for each time; 200,000 unless given.
        seed: Of the draws.

    Raises:
        ValueError: If a time is at an end where the target does not follow from the point and the data.
    """
    if not isinstance(field, MixtureField | EmpiricalField):
        raise ValueError(f"field must be exact, a MixtureField or an EmpiricalField, got {type(field).__name__}")
    if draws is not None and draws < 2:
        raise ValueError(f"draws must be at least 2, for a mean and its standard error, got {draws}")
    t = wide(exact(t)).reshape(-1)
    _, (factor,), singular = field.path.mix((DATA,), prediction, t)
    assert factor is not None  # it is that of the only head
    if singular.any() or not field.path.is_bounded(prediction, t).all():
        raise ValueError(
            f"t must lie inside the path, where a {prediction.name} follows from point and data, got {t.tolist()}"
        )
    if draws is None and isinstance(field, MixtureField) and field.mixture.dimension <= 2:
        value = factor**2 * torch.stack([_integral(field, time) for time in t])
        return Floor(value, torch.zeros_like(value))
    return _average(field, len(t), lambda k, u: t[k].expand_as(u), prediction, draws or DRAWS, seed)


def loss_floor_by_time(
    field: MixtureField | EmpiricalField,
    prediction: Prediction = VELOCITY,
    bins: int = 10,
    draws: int = DRAWS,
    seed: int = 0,
    is_conditional: bool = False,
) -> Floor:
    """The floor in each of `bins` even stretches of t: what `loss_by_time` of a model can be held against.

    Args:
        field: As in `loss_floor`.
        prediction: What the loss is of.
        bins: How many stretches.
        draws: Points in each.
        seed: Of the draws.
        is_conditional: Whether the model knows the label of the data, so that only its class can be meant.
    """
    return _average(field, bins, lambda k, u: (k + u) / bins, prediction, draws, seed, is_conditional)


class Gap(NamedTuple):
    """The marginal loss at some times, as the mean over the numbers of a point, how sure it is, and what it is part of.

    Attributes:
        value: E |field - truth|^2, of shape `(times,)`.
        standard_error: Of it.
        size: E |truth|^2.
    """

    value: Tensor
    standard_error: Tensor
    size: Tensor

    @property
    def relative(self) -> Tensor:
        """The root of the value over that of the size."""
        return (self.value / self.size).sqrt()


def marginalisation_gap(
    field: Field,
    truth: MixtureField | EmpiricalField,
    t: Tensor,
    prediction: Prediction = VELOCITY,
    draws: int = 2000,
    seed: int = 0,
    is_conditional: bool = False,
    source: MixtureField | EmpiricalField | None = None,
) -> Gap:
    """How far a field is from E[target | x_t], which the marginalisation trick says that its training aims at.

    It is the conditional loss less the floor, found without their noise.

    Args:
        field: What is examined; its root, where it is to be asked under conditions.
        truth: The exact field of what its data comes from; of the training set itself, an `EmpiricalField`.
        t: Times, of shape `(times,)`.
        prediction: What is compared.
        draws: Points for each time.
        seed: Of the draws.
        is_conditional: Whether each point is looked at under the label of the data that it came from.
        source: Of whose data the points are; the truth's own unless given.

    Raises:
        ValueError: If the field cannot be read at one of the times, or labels are wanted that are not there.
    """
    t = wide(exact(t)).reshape(-1)
    dtype = next((p.dtype for p in field.parameters() if p.is_floating_point()), None)

    def measure(point: PathPoint, y: Tensor | None) -> tuple[Tensor, ...]:
        x, time = point.x, point.t
        exact, own = (f if y is None else f.given(y) for f in (truth, field))
        true = exact.read(x, time, prediction)
        guess = own.read(x.to(dtype or x.dtype), time, prediction)
        return mean_per_sample((guess - true).double() ** 2), mean_per_sample(true.double() ** 2)

    (value, size), (error, _) = average(
        source or truth, len(t), lambda k, u: t[k].expand_as(u), measure, draws, seed, is_conditional
    )
    return Gap(value, error, size)


def _integral(field: MixtureField, t: Tensor) -> Tensor:
    """E Var(data | x_t), by the trapezoidal rule around each component of p_t."""
    mixture, d = field.mixture, field.mixture.dimension
    line = torch.linspace(-REACH, REACH, NODES, dtype=torch.float64)
    xi = torch.cartesian_prod(*[line] * d).reshape(-1, d)
    weight = torch.exp(-(xi**2).sum(1) / 2)
    weight = weight / weight.sum()
    alpha, beta = field.path.schedule.alpha(t), field.path.schedule.beta(t)
    total = torch.zeros((), dtype=torch.float64)
    for k, share in enumerate(mixture.weights.double()):
        spread = (alpha**2 * mixture.variances[k].double() + beta**2).sqrt() * xi
        axes = torch.eye(d, dtype=torch.float64) if mixture.axes is None else mixture.axes[k].double()
        x = alpha * mixture.means[k].double() + spread @ axes.T
        total = total + share * (weight * field.posterior_variance(x, t)).sum()
    return total / d


def average(
    source: MixtureField | EmpiricalField,
    cells: int,
    times: Callable[[int, Tensor], Tensor],
    measure: Callable[[PathPoint, Tensor | None], tuple[Tensor, ...]],
    draws: int,
    seed: int,
    is_conditional: bool = False,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The means of what is measured at points of the path to the source's data, and their standard errors.

    Args:
        source: Of whose data the points are.
        cells: How many cells of times.
        times: From a cell and uniform numbers to times in it.
        measure: From points, and the labels of the data that they came from, to numbers of shape `(batch,)`.
        draws: Points in each cell.
        seed: Of the points.
        is_conditional: Whether `measure` is given the labels.

    Returns:
        For each number that is measured, the means, of shape `(cells,)`; and the errors of each.
    """
    values, errors = [], []
    for k in range(cells):
        found = []
        for first in range(0, draws, CHUNK):
            noise = Noise(seed, first, FLOOR_STREAM + k)
            count = min(CHUNK, draws - first)
            t = times(k, noise.uniform((count, 1), 0, torch.float64)[:, 0])
            data, y = _data(source, count, noise, is_conditional)
            point = source.path.point(noise.like(data, 2), data, t)
            with torch.no_grad():
                found.append(torch.stack(measure(point, y), 1))
        each = torch.cat(found)
        values.append(each.mean(0))
        errors.append(each.std(0) / math.sqrt(draws))
    return torch.stack(values, 1).unbind(), torch.stack(errors, 1).unbind()


def _average(
    field: MixtureField | EmpiricalField,
    cells: int,
    times: Callable[[int, Tensor], Tensor],
    prediction: Prediction,
    draws: int,
    seed: int,
    is_conditional: bool = False,
) -> Floor:
    """The mean of |target - E[target | x_t]|^2 over draws, for each of several cells of times."""

    def measure(point: PathPoint, y: Tensor | None) -> tuple[Tensor, ...]:
        guess = (field if y is None else field.given(y)).read(point.x, point.t, prediction)
        return (mean_per_sample((point.target(prediction) - guess).double() ** 2),)

    (value,), (error,) = average(field, cells, times, measure, draws, seed, is_conditional)
    return Floor(value, error)


def _data(
    field: MixtureField | EmpiricalField, count: int, noise: Noise, is_conditional: bool
) -> tuple[Tensor, Tensor | None]:
    """Random samples of the data, and their labels where they are wanted."""
    if isinstance(field, MixtureField):
        if is_conditional:
            raise ValueError("is_conditional needs data with labels, EmpiricalField(..., y=labels), got a MixtureField")
        seed = int(noise.words((1, 1), 1)[0, 0])
        return field.mixture.sample(count, seed), None
    row = noise.rows(count, len(field.rows), 1)
    data = field.samples(row)
    if field.bandwidth:
        data = data + field.bandwidth * noise.like(data, 3)
    if not is_conditional:
        return data, None
    if field.y is None:
        raise ValueError("is_conditional needs labels: EmpiricalField(..., y=labels)")
    return data, field.y[row]
