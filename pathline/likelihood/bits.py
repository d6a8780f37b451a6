"""Bits per dimension: what a code for data would take for each of its numbers, made from a model's density.

    bits = -(log p(z) - log|dx/dz| + d log bin) / (d log 2),   x in the units of the data, z = (x - shift) / scale

Whole numbers (pixels, counts) have no density. Uniform noise on the bin of each gives them one, and the average of its
logarithm over that noise is a lower bound on the log-probability of the number: the bits are those of a real code.

A column or channel that never changes in the data has no density. It is left out: the density is that of the others,
and d counts these.

Source: Theis et al. 2016, https://arxiv.org/abs/1511.01844, section 3.1 (dequantisation)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pathline.arguments import number
from pathline.data.normalisation import Normalisation
from pathline.fields.field import Field
from pathline.fields.pinned import PinnedField
from pathline.likelihood.log_prob import log_prob
from pathline.noise import Noise
from pathline.tensors import exact

DEQUANTISE_STREAM = 17


def bits_per_dim(
    field: Field,
    x: Tensor,
    normalisation: Normalisation | None = None,
    bin: float | None = 1.0,
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """Bits per dimension of data in its own units, of shape `(batch,)`.

    Args:
        field: The model, under its condition if it has one.
        x: Data of shape `(batch, *shape)`, whole multiples of `bin`, from 0: 0 to 255, say, or 0 to 1 in bins of 1/255.
        normalisation: Between its units and the model's; they are the same unless it is given.
        bin: The distance of neighbouring values, over which noise is spread; None for data that is no multiple of any.
            Its bits are then those of a density, and depend on the unit of the data.
        seed: Of that noise, and of a divergence's probes: those of sample i depend on (seed, i) only.
        options: As `log_prob` takes them: solver, steps, divergence.

    Raises:
        ValueError: If the data is no multiple of `bin`, or that is not positive.

    Source: Theis et al. 2016, https://arxiv.org/abs/1511.01844, section 3.1
    """
    x = exact(x, "x")
    units = normalisation or Normalisation(0.0, 1.0)
    z = varying(units.into(x if bin is None else dequantised(x, bin, seed)), units, x)
    return bits_of(log_prob(varying_field(field, units), z, seed=seed, **options), x.shape[1:], units, bin)


def bits_of(nats: Tensor, shape: tuple[int, ...], normalisation: Normalisation, bin: float | None = 1.0) -> Tensor:
    """Bits per dimension of points with this log-density in the units of the model, each of a shape.

    Args:
        nats: Of shape `(batch,)`; without the columns that never change.
        shape: Of one point, with them.
        normalisation: Between the units of the data and the model's.
        bin: As in `bits_per_dim`.
    """
    size = math.prod(shape) * (shape[0] - len(normalisation.constants)) // shape[0]
    nats = in_units(nats, shape, normalisation)
    return -(nats + (0.0 if bin is None else size * math.log(bin))) / (size * math.log(2))


def in_units(nats: Tensor, shape: tuple[int, ...], normalisation: Normalisation) -> Tensor:
    """The log-density in the units of the data, from that in the units of the model: less the log of its scales."""
    scale = torch.as_tensor(normalisation.scale, dtype=torch.float64)
    logs = scale.where(scale > 0, 1.0).log().reshape(-1, *[1] * (len(shape) - 1))
    return nats - float(logs.expand(shape).sum())


def varying(z: Tensor, units: Normalisation, x: Tensor, names: Sequence[str] = ()) -> Tensor:
    """Points in the units of the model, without the columns or channels that never change in its data.

    Args:
        z: The points, of shape `(batch, d)` or `(batch, C, ...)`.
        units: Between the units of the data and the model's.
        x: The same points in the units of the data.
        names: Of the columns, for the message.

    Raises:
        ValueError: If one of those columns is another number in `x`: the model gives it the density 0.
    """
    for k, value in units.constants.items():
        off = (x[:, k] - value).abs().reshape(len(x), -1).amax(1) > 1e-6 * abs(value)
        if off.any():
            i = int(off.int().argmax())
            name = repr(names[k]) if names else f"x[:, {k}]"
            raise ValueError(
                f"{name} must be {value:g}, as in all the data that the model was trained on, got "
                f"{float(x[i, k].flatten()[0]):g} in row {i}; a model gives such a row the density 0, leave it out"
            )
    kept = [k for k in range(z.shape[1]) if k not in units.constants]
    return z[:, kept] if units.constants else z


def varying_field(field: Field, units: Normalisation) -> Field:
    """The field of the columns or channels that change; the others are held at 0."""
    if not units.constants or not isinstance(units.shift, tuple):
        return field
    return PinnedField(field, len(units.shift), units.constants)


def dequantised(x: Tensor, bin: float = 1.0, seed: int = 0) -> Tensor:
    """Data with uniform noise on [0, bin) added to each number, at least in float32.

    Raises:
        ValueError: If a number is no multiple of `bin`, to a thousandth of it, or that is not positive.
    """
    if not 0 < number("bin", bin) < math.inf:
        raise ValueError(f"bin must be a positive number, got {bin}")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    off = ~(((x / bin).round() * bin - x).abs() <= 1e-3 * bin)  # NaN too
    if off.any():
        raise ValueError(
            f"x must hold multiples of bin = {bin:g}, got {float(x[off][0]):.6g}; give the distance of neighbouring "
            "values, or None for data that has none"
        )
    noise = Noise(seed, stream=DEQUANTISE_STREAM).uniform(x.shape, dtype=x.dtype, device=x.device)
    return x + bin * noise
