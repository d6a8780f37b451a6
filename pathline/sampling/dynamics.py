"""A field as a process: its flow, and the SDE of any sigma_t with the same marginals.

    forwards    dX = (velocity + sigma^2/2 score) dt + sigma dW
    backwards   dX = (velocity - sigma^2/2 score) dt + sigma dW,   dt < 0

Velocity and score come from one call of the field. Both are maps of x and its heads, so the drift is one map too,

    drift = m_t x + sum_heads n_t prediction

whose coefficients are read for a whole grid at once, in float64 on the host. At data, sigma^2 score is finite if sigma
vanishes like beta: the product is formed before the limit is taken.

Two heads, of velocity and score, disagree where networks were trained. The flow is that of the velocity head alone: all
that follows it, an ODE, reads data and noise `of=VELOCITY`, from the heads of the velocity. The SDE is that of both.
Their expected noises differ by

    gap = noise(of velocity) - noise(of score) = beta (score head - score read from the velocity head)

which is what an SDE's step adds to one that reads a single head.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, theorem 17; Anderson 1982,
https://doi.org/10.1016/0304-4149(82)90051-5, for the reversal
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from pathline.fields.field import Field
from pathline.paths.predictions import LARGE, SCORE, VELOCITY, Prediction, inside
from pathline.paths.schedules import Coefficients
from pathline.processes.processes import Langevin
from pathline.sampling.sigmas import Sigma, sigma_of
from pathline.tensors import Time, exact, meet, time_of

NEARBY = 1e-4  # of an end: elsewhere a map is steep because its units are large, and not for want of digits
COARSE = 1e-3  # what rounding may move a point of unit size by in one reading

Scale: TypeAlias = Any  # a float, or a tensor where a gradient with respect to time is wanted


class Reading(NamedTuple):
    """A sum of kinds at one time, as a map m x + sum_heads n prediction."""

    t: Tensor
    m: Scale
    n: tuple[Scale, ...]
    is_singular: bool

    def __call__(self, x: Tensor, values: tuple[Tensor, ...]) -> Tensor:
        """The map's value, given those of the heads."""
        if len(values) == 1 and _is(self.m, 0) and _is(self.n[0], 1):  # a velocity head's velocity, most often
            return values[0]
        found: Any = 0 if _is(self.m, 0) else self.m * x
        for n, value in zip(self.n, values, strict=True):
            if not _is(n, 0):
                term = value if _is(n, 1) else n * value
                found = term if _is(found, 0) else found + term
        return torch.zeros_like(x) if _is(found, 0) else found

    def is_coarse(self, x: Tensor, t: float, span: float) -> bool:
        """Whether rounding alone would move what is read at t, near an end, and used over this span.

        So it is for a map like (data - x) / beta within 1e-9 of data: float32 does not hold the difference.
        """
        if min(t, 1 - t) > NEARBY:
            return False
        largest = max(abs(float(scale)) for scale in (self.m, *self.n))
        return largest * span * torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps > COARSE


def _is(scale: Scale, number: float) -> bool:
    return not isinstance(scale, Tensor) and scale == number


class Term(NamedTuple):
    """A kind with a factor, read from its own heads; or `of` another kind, from the heads of that one alone."""

    kind: Prediction
    factor: Tensor | float = 1.0
    of: Prediction | None = None


def read_along(field: Field, x: Tensor, times: Tensor, *terms: Term) -> list[Reading]:
    """How to read a sum of kinds at each of the `times` (float64, on the host).

    A reading is singular where a coefficient has no finite value, or where a head's own target is infinite.
    """
    m, n, singular = _columns(field, times, terms)
    moments = times.to(x.device, torch.promote_types(x.dtype, torch.float32)).unbind()
    columns = [list(column.unbind()) if column.requires_grad else column.tolist() for column in (m, *n)]
    return [
        Reading(t, scales[0], scales[1:], bad)
        for t, bad, scales in zip(moments, singular.tolist(), zip(*columns, strict=True), strict=True)
    ]


def read_each(field: Field, x: Tensor, times: Tensor, *terms: Term) -> Reading:
    """How to read the same where each point has a time of its own: only the first singular one, if there is one."""
    m, n, singular = _columns(field, times, terms)
    t = times[singular][0] if singular.any() else times.to(x.device, torch.promote_types(x.dtype, torch.float32))
    return Reading(t, _each(m, x), tuple(_each(column, x) for column in n), bool(singular.any()))


def _each(column: Tensor, x: Tensor) -> Scale:
    """A number for each point, shaped to multiply it, or one float where that is 0 or 1 for all."""
    if not column.requires_grad:
        for number in (0, 1):
            if (column == number).all():
                return number
    return meet(column.to(x.device, torch.promote_types(x.dtype, torch.float32)), x).to(x.dtype)


def sources(field: Field, kind: Prediction) -> tuple[int, ...]:
    """Which of the heads a kind is read from."""
    mix = field.path.mix(field.heads, kind, torch.full((1,), 0.5, dtype=torch.float64))
    return tuple(k for k, n in enumerate(mix.n) if n is not None)


def is_two_headed(field: Field) -> bool:
    """Whether velocity and score come from different heads of a path from noise, so that they may disagree."""
    return field.path.is_gaussian and len(field.heads) > 1 and sources(field, VELOCITY) != sources(field, SCORE)


def _columns(field: Field, times: Tensor, terms: tuple[Term, ...]) -> tuple[Tensor, list[Tensor], Tensor]:
    """The factors m and n at each of the times, and where they are singular."""
    path = field.path
    m = torch.zeros_like(times)
    n = [torch.zeros_like(times) for _ in field.heads]
    for kind, factor, of in terms:
        asked = tuple(range(len(field.heads))) if of is None else sources(field, of)
        mix = path.mix(tuple(field.heads[k] for k in asked), kind, times)
        m = m if mix.m is None else m + factor * mix.m
        for k, scale in zip(asked, mix.n, strict=True):
            n[k] = n[k] if scale is None else n[k] + factor * scale
    singular = (times < 0) | (times > 1)
    largest = torch.full_like(times, torch.finfo(times.dtype).max).masked_fill((times == 0) | (times == 1), LARGE)
    for scale in (m, *n):
        singular |= ~(scale.abs() <= largest)  # NaN too
    for kind, scale in zip(field.heads, n, strict=True):
        singular |= (scale != 0) & ~field.interval(kind).covers(times)
        if path.is_gaussian:  # a bridge's velocity and score have finite means at its ends, though their targets do not
            singular |= (scale != 0) & ~path.is_bounded(kind, times)
    return m, n, singular


class FieldFlow:
    """The flow of a field: dx = velocity dt."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self._readings: dict[float, Reading] = {}

    def terms(self, times: Tensor) -> tuple[Term, ...]:
        """What the drift is a sum of."""
        return (Term(VELOCITY),)

    def prepare(self, times: Tensor, x: Tensor, spans: Tensor | float = 0.0) -> Tensor:
        """Read all that a walk along these times will need.

        Returns where it is singular, or too coarse in the precision of `x` for steps as long as `spans`.
        """
        readings = read_along(self.field, x, times, *self.terms(times))
        self._readings.update(zip(times.tolist(), readings, strict=True))
        each = torch.as_tensor(spans).detach().expand(len(times)).tolist()
        rows = zip(readings, times.tolist(), each, strict=True)
        return torch.tensor([reading.is_singular or reading.is_coarse(x, t, span) for reading, t, span in rows])

    def reading(self, x: Tensor, t: Tensor) -> Reading:
        """How the drift is read at t: as prepared, or read now."""
        found = self._readings.get(float(t.detach()))
        if found is None:
            times = t.to("cpu", torch.float64)[None]
            (found,) = read_along(self.field, x, times, *self.terms(times))
        return found

    def drift(self, x: Tensor, t: Time) -> Tensor:
        """The drift at `x`, from one call of the field, at a time of shape `()` or `(batch,)`.

        Raises:
            ValueError: If it has no finite value at t.
        """
        t = exact(t)
        if t.ndim:
            times = t.to("cpu", torch.float64)
            reading = read_each(self.field, x, times, *self.terms(times))
        else:
            reading = self.reading(x, t)
        if reading.is_singular:
            raise ValueError(
                f"the drift cannot be read at t = {float(reading.t):g} from the {field_heads(self.field)} of this "
                f"field on {self.field.path}; begin or end inside, or sample with a Sampler, which steps over this end"
            )
        return reading(x, self.field.values(x, reading.t))


class Decay(NamedTuple):
    """The integral of sigma^2 / (2 v) over each step, v = alpha^2 spread + beta^2, as a sum over nodes within it.

    Each of shape `(steps, nodes)`: sigma^2/2 with the weight of its node, alpha^2 and beta^2.
    """

    half: Tensor
    alpha_squared: Tensor
    beta_squared: Tensor

    @property
    def of_still_data(self) -> Tensor:
        """Of shape `(steps,)`, for a spread of 0: how far the noise of a point is renewed whose data stands still."""
        return (self.half / self.beta_squared).sum(1)


class FieldDiffusion(FieldFlow):
    """The SDE of a field with diffusion sigma, whose marginals are those of the flow."""

    def __init__(self, field: Field, sigma: Sigma, is_backward: bool = False) -> None:
        super().__init__(field)
        self._sigmas: dict[float, float] = {}
        self.sigma = sigma
        self.is_backward = is_backward

    def terms(self, times: Tensor) -> tuple[Term, ...]:
        """The velocity, and sigma^2/2 of the score."""
        no_gradient(times)
        squared = self._squared(times)
        half = -squared / 2 if self.is_backward else squared / 2
        return (Term(VELOCITY), Term(SCORE, half)) if squared.any() else (Term(VELOCITY),)

    def decay(self, times: Tensor) -> Decay:
        """How far each step of a grid renews the noise of a point.

        Infinitely next to an infinite sigma, and on the way back from data, where a point holds no noise to keep; not
        at all on a path without noise that an SDE would renew.
        """
        schedule = self.field.path.schedule
        nodes, weights = (torch.from_numpy(row) for row in leggauss(8))
        inner = times[:-1, None] + (nodes + 1) / 2 * times.diff()[:, None]
        c = schedule.at(inner)
        squared = self.sigma.squared(inner.flatten(), Coefficients(*(row.flatten() for row in c))).reshape(inner.shape)
        half = squared / 2 * (weights / 2) * times.diff().abs()[:, None]
        wild = self.sigma.squared(times, inside(schedule, times)) > LARGE
        from_data = (schedule.beta(times[:-1]) == 0) & half.any(1)
        half[wild[:-1] | wild[1:] | from_data] = torch.inf
        return Decay(half if self.field.path.is_gaussian else torch.zeros_like(half), c.alpha**2, c.beta**2)

    def prepare(self, times: Tensor, x: Tensor, spans: Tensor | float = 0.0) -> Tensor:
        """Read all that a walk along these times will need.

        Returns where it is singular, or too coarse in the precision of `x` for steps as long as `spans`.
        """
        self._sigmas = dict(zip(times.tolist(), self._squared(times).sqrt().tolist(), strict=True))
        return super().prepare(times, x, spans)

    def diffusion(self, x: Tensor, t: Time) -> Any:
        """sigma_t: a number, or of shape `(batch,)` where t is."""
        t = exact(t)
        if not t.ndim and float(t) in self._sigmas:
            return self._sigmas[float(t)]
        sigma = self._squared(t.reshape(-1).to("cpu", torch.float64)).sqrt()
        return sigma.to(x.device, x.dtype) if t.ndim else float(sigma)

    def _squared(self, times: Tensor) -> Tensor:
        return self.sigma.squared(times, inside(self.field.path.schedule, times))


def no_gradient(times: Tensor) -> None:
    """Refuse to lose a gradient: renewals and diffusions are read as plain numbers."""
    if times.requires_grad:
        raise ValueError(
            "times must not require a gradient for an SDE, DDIM, or a field that is singular at an end; an ODESampler "
            "on a field that is not has one"
        )


def flow_of(field: Field) -> FieldFlow:
    """The ODE of a field, for `walk` and the ODE solvers."""
    return FieldFlow(field)


def diffusion_of(
    field: Field, sigma: float | Callable[[Tensor], Tensor] | Sigma, is_backward: bool = False
) -> FieldDiffusion:
    """The SDE of a field with any sigma_t, for `walk` and the SDE solvers; `is_backward` is its reversal in time."""
    return FieldDiffusion(field, sigma_of(sigma), is_backward)


def langevin_of(field: Field, t: float, sigma: float = 1.0) -> Langevin:
    """Langevin dynamics at a frozen time of the path: it keeps p_t."""
    return Langevin(lambda x, _: field.score(x, time_of(x, t)), sigma)


def field_heads(field: Field) -> str:
    """The names of a field's heads, for a message."""
    return " and ".join(head.name for head in field.heads) + (" heads" if len(field.heads) > 1 else " prediction")
