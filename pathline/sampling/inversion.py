"""Inversion: from data back to the noise whose flow leads there, and between two noises.

    inverse      noise = psi^-1(x),   psi the flow of the field from t = 0 to t = 1, d/dt psi_t = u_t(psi_t)
    correction   noise += psi^-1(x) - psi^-1(psi(noise)),   both as the sampler finds them
    arc          slerp(a, b, s) = |.|_s (sin((1-s) angle) a/|a| + sin(s angle) b/|b|) / sin(angle),
                 |.|_s = (1-s) |a| + s |b|

A flow draws nothing, so a point and its noise settle each other. In d dimensions noise has a norm near sqrt(d); half
way along a straight line between two noises it is sqrt(d/2), where no model was trained, and on an arc it stays.

Source: Song et al. 2021, https://arxiv.org/abs/2010.02502, sections 5.3 and 5.4; White 2016,
https://arxiv.org/abs/1609.04468 (the arc). The correction is the usual one of a defect
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

from pathline.arguments import points, whole
from pathline.fields.field import Field, checked_field
from pathline.fields.modes import evaluating
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.sampling.finite import checked_samples
from pathline.sampling.grids import CosineGrid
from pathline.sampling.sample import in_batches, sample
from pathline.sampling.sampler import Sampler, checked_sampler
from pathline.sampling.samplers import ODESampler
from pathline.solvers.runge_kutta import RK4
from pathline.tensors import Time, meet, time_of

STEPS = 100
OPPOSITE = 1e-5  # directions whose sum is shorter have any arc between them: rounding would choose it


def round_trip_sampler() -> Sampler:
    """RK4 on a grid that is finer at both ends, where a flow turns most: what goes up and down the nearest."""
    return ODESampler(RK4, CosineGrid())


def invert(
    field: Field, x: Tensor, sampler: Sampler | None = None, steps: int = STEPS, *, corrections: int = 0
) -> Tensor:
    """The noise whose flow leads to `x`, of its shape and in the field's own units; for a bridge, its source.

    `sample(field, x.shape, sampler, steps, start=noise)` leads back to x, as nearly as the sampler goes the same way up
    and down. A correction mends the difference by another walk each way: where it is small, a percent of x, say, each
    takes off most of what is left; where steps are so long that it is large, they make it larger. The field is in eval
    mode meanwhile, and no gradient is kept. The flow is that of the velocity head where the field has one.

    Args:
        field: Whose flow, under its condition if it has one.
        x: Points of shape `(batch, *shape)`.
        sampler: `round_trip_sampler()` unless another is given, which must draw nothing and walk downwards.
        steps: Of the sampler.
        corrections: How many.

    Raises:
        ValueError: If the sampler draws noise, or does not walk down; or an argument does not fit.
    """
    checked_field(field)
    x = points("x", x)
    corrections = whole("corrections", corrections)
    sampler = round_trip_sampler() if sampler is None else checked_sampler(sampler)
    up = sampler.times(field, steps)
    down, none = up.flip(0), _Undrawn(0, sampler=sampler)
    first = noise = walked(field, x, sampler, down, none)
    for _ in range(corrections):
        noise = noise + (first - walked(field, walked(field, noise, sampler, up, none), sampler, down, none))
    return noise


def interpolate(
    field: Field,
    a: Tensor,
    b: Tensor,
    count: int,
    sampler: Sampler | None = None,
    steps: int = STEPS,
    *,
    corrections: int = 0,
) -> Tensor:
    """From each point of `a` to that of `b` through points that the field makes, of shape `(count, batch, *shape)`.

    Both are inverted, their noises joined by arcs, and `count` even places on each, the ends among them, brought back.
    The ends are a and b up to the error of a round trip.

    Args:
        field: Whose flow, under its condition if it has one.
        a: Where to begin, of shape `(batch, *shape)`.
        b: Where to end, of the same shape.
        count: Of the points on each way, the two ends included.
        sampler: As of `invert`.
        steps: Of the sampler.
        corrections: As of `invert`.

    Raises:
        ValueError: As `invert` and `slerp`; if the path does not begin at noise, or count is less than 2.
    """
    from_noise(field, "interpolate")
    a, b = points("a", a), points("b", b)
    if a.shape != b.shape:
        raise ValueError(f"b must have the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")
    if whole("count", count) < 2:
        raise ValueError(f"count must be at least 2, for both ends, got {count}")
    sampler = round_trip_sampler() if sampler is None else checked_sampler(sampler)
    first, last = (invert(field, x, sampler, steps, corrections=corrections) for x in (a, b))
    noise = torch.cat([slerp(first, last, share) for share in torch.linspace(0, 1, count, dtype=torch.float64)])
    x = sample(field.repeat(count), tuple(noise.shape), sampler, steps, seed=0, start=noise)
    return x.reshape(count, *a.shape)


def slerp(a: Tensor, b: Tensor, share: Time) -> Tensor:
    """The points a share of the way from `a` to `b`, of shape `(batch, *shape)`: on arcs over all their dimensions.

    Directions turn at an even speed, and norms go evenly from one to the other. One share, or one for each sample.

    Raises:
        ValueError: If the shapes differ, or two points are opposite, or one is 0: no arc is the shortest.
    """
    a, b = points("a", a), points("b", b)
    if a.shape != b.shape:
        raise ValueError(f"b must have the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")
    s = meet(time_of(a, share), a).to(a.dtype)
    first, last = _norm(a), _norm(b)
    u, v = a / first, b / last
    apart, together = _norm(u - v), _norm(u + v)
    wrong = ~(together > OPPOSITE).flatten()  # NaN too, of a norm that is 0
    if wrong.any():
        raise ValueError(
            f"a and b must be neither opposite nor 0 for an arc between them, and sample {int(wrong.nonzero()[0])} is; "
            "torch.lerp(a, b, share) goes straight"
        )
    turn = 2 * torch.atan2(apart, together) / torch.pi  # the angle, in half turns

    def weight(share: Tensor) -> Tensor:
        return share * torch.sinc(share * turn) / torch.sinc(turn)  # which sin(share angle)/sin(angle) is, at 0 too

    return torch.lerp(first, last, s) * (weight(1 - s) * u + weight(s) * v)


def walked(field: Field, x: Tensor, sampler: Sampler, times: Tensor, noise: Noise) -> Tensor:
    """Where a walk along `times` ends: of all samples at once, or in smaller batches where memory runs out."""

    def end_of(part: Field, rows: slice) -> Tensor:
        for end in sampler.walk(part, x[rows], times, noise.at(rows.start)):  # noqa: B007 - the others are freed
            pass
        return end

    with torch.no_grad(), evaluating(field):
        made = torch.cat([*in_batches(field, len(x), end_of)])
        checked_samples(made, field, x, sampler, times, noise)
    return made


def from_noise(field: Field, what: str) -> GaussianPath:
    """The path of a field, if it begins at noise.

    Raises:
        ValueError: If it does not, or is no field.
    """
    checked_field(field)
    if not isinstance(field.path, GaussianPath):
        raise ValueError(
            f"{what} needs a path that begins at noise, and this is {field.path}, whose start is samples of its own"
        )
    return field.path


@dataclass(frozen=True)
class _Undrawn(Noise):
    """Noise that is not to be drawn: a sampler that does so has no inverse."""

    sampler: Any = None

    def _drawn(self, shape: Sequence[int], *_: Any) -> NoReturn:
        raise ValueError(
            f"sampler must draw nothing for a point and its noise to settle each other, and {self.sampler} does; use "
            "ODESampler, a multistep method, DDIM(0) or AdaptiveSampler"
        )


def _norm(x: Tensor) -> Tensor:
    """The norm of each sample, shaped to multiply it."""
    return meet(torch.linalg.vector_norm(x.flatten(1), dim=1), x)
