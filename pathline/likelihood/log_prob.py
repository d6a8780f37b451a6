"""The log-density of points under a field: follow its flow to noise, and count how much space it stretches on the way.

    dx = u_t(x) dt,   log p_1(x_1) = log p_0(x_0) - integral of div u_t(x_t) dt

The divergence changes nothing in x, so it is found only at the stages of a step that its integral has weight on. Where
an end of the path is singular for the field, one long step goes over it, in the coordinates where the flow is

    at data   d(x/alpha) = noise dr,  r = beta/alpha       at noise   d(x/beta) = data dr,  r = alpha/beta

by the midpoint rule in r, its log|det| to first order: (r / s)^4 d / 2 is left out, s being the finest scale of data.

Source: Chen et al. 2018, https://arxiv.org/abs/1806.07366, theorem 1
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pathline import arguments
from pathline.arguments import instance, points, whole
from pathline.fields.field import Field, checked_field
from pathline.fields.modes import evaluating, math_attention
from pathline.likelihood.divergence import Divergence, Exact, Pullback
from pathline.likelihood.gradients import Backpropagation, Gradient
from pathline.noise import Noise, fresh_seed
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE, VELOCITY
from pathline.sampling.adaptive import point_size
from pathline.sampling.dynamics import FieldFlow, Term, read_along
from pathline.sampling.ends import inside
from pathline.sampling.grids import bisected, spread_out
from pathline.sampling.sample import in_batches, start_of
from pathline.sampling.sampler import path_grid
from pathline.sampling.scale import warn_of_scale
from pathline.solvers.adaptive import AdaptiveSolver
from pathline.solvers.runge_kutta import GAUSS, RungeKutta
from pathline.solvers.solver import between, step_ends
from pathline.tensors import Time, exact, is_transformed, meet, sum_per_sample, unrounded

PROBE_STREAM = 15
NEAR = 1e-3  # the ratio r, just inside an end that is singular
PURE = 1e-4  # share of data at the start of a path up to which nothing need be said


def log_prob(
    field: Field,
    x: Tensor,
    *,
    solver: RungeKutta | AdaptiveSolver = GAUSS,
    steps: int = 100,
    divergence: Divergence = Exact(),  # noqa: B008 - it is frozen
    seed: int | None = None,
    start: Time = 0.0,
    stop: Time = 1.0,
) -> Tensor:
    """Log-density of points under the flow of a field, in nats, of shape `(batch,)`.

    The flow is that of the velocity head where there is one, which ODE samplers follow too; another head, of the score
    say, has no part in it. What an SDE makes of two heads that disagree has another density (see `elbo`).

    The field is in eval mode meanwhile. In grad mode the result has gradients with respect to `x`, the field's
    parameters, `start` and `stop`; without it memory does not grow with the steps, and where it runs out, the same is
    found in smaller batches. A mean over samples is not biased by a divergence that is estimated; its exponential is.

    Steps are laid for data of about unit size, or of the scale that the path knows. Where x is far from it, and steps
    are too long, a warning says so.

    Args:
        field: Whose flow, under its condition if it has one.
        x: Points of shape `(batch, *shape)`, in the field's own units.
        solver: The method of a step, or an adaptive one, whose tolerance is then of x and its log-density alike.
        steps: How many, of a solver that does not lay its own.
        divergence: How it is found: `Exact()`, `Hutchinson(probes)` or `HutchPlusPlus(sketch, probes)`.
        seed: Of the probes: those of sample i depend on (seed, i) only. A fresh one where left out.
        start: When points are standard normal.
        stop: The time of x: the log-density is that of p_stop.

    Raises:
        ValueError: If the field's path does not begin at noise, or an argument does not fit.

    Source: Chen et al. 2018, https://arxiv.org/abs/1806.07366, theorem 1
    """
    return _estimates(field, x, solver, steps, divergence, seed, start, stop).mean(0)


def estimate_log_prob(
    field: Field,
    x: Tensor,
    *,
    solver: RungeKutta | AdaptiveSolver = GAUSS,
    steps: int = 100,
    divergence: Divergence = Exact(),  # noqa: B008 - it is frozen
    seed: int | None = None,
    start: Time = 0.0,
    stop: Time = 1.0,
) -> tuple[Tensor, Tensor]:
    """The log-density as of `log_prob`, and its standard error for each sample: 0 where the divergence is exact.

    With k estimates (probes) an interval is that of Student's t distribution with k - 1 degrees of freedom. The error
    is that of the divergence alone, not of the solver's steps.

    Raises:
        ValueError: As `log_prob`; or if the divergence is a single estimate, which tells no error.
    """
    instance("divergence", divergence, Divergence, "Exact(), Hutchinson(probes) and HutchPlusPlus() are")
    count = divergence.estimates
    if count < 2 and not isinstance(divergence, Exact):
        raise ValueError(f"divergence must make at least 2 estimates for a standard error, got {divergence}")
    found = _estimates(field, x, solver, steps, divergence, seed, start, stop)
    error = found.std(0) / math.sqrt(count) if count > 1 and len(x) else torch.zeros_like(found[0])
    return found.mean(0), error


def sample_with_log_prob(
    field: Field,
    shape: tuple[int, ...],
    *,
    solver: RungeKutta | AdaptiveSolver = GAUSS,
    steps: int = 100,
    divergence: Divergence = Exact(),  # noqa: B008 - it is frozen
    seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Samples of `shape` (count, *point), and their log-density in nats, `(count,)`, from one pass along the flow.

    Sample i depends on (seed, i) only. The field is in eval mode meanwhile, and no gradient is kept.

    Raises:
        ValueError: As `log_prob`.
    """
    checked_field(field)
    shape = arguments.shape("shape", shape)
    instance("divergence", divergence, Divergence, "Exact(), Hutchinson(probes) and HutchPlusPlus() are")
    noise = Noise(fresh_seed() if seed is None else seed)
    times = even(field, 0.0, 1.0, steps)
    x = start_of(field, shape, noise)

    def run(part: Field, rows: slice) -> tuple[Tensor, Tensor]:
        return carry(part, x[rows], times, solver, divergence, probes(divergence, x[rows], noise.at(rows.start)))

    with torch.no_grad():
        before = log_start(field, x, times[0])
        found = [*in_batches(field, len(x), run)]
    made = torch.cat([end for end, _ in found])
    if isinstance(solver, RungeKutta):
        warn_of_scale(field, made, times, "samples", stacklevel=3)
    return made, before - torch.cat([change for _, change in found], 1).mean(0)


def carry(
    field: Field,
    x: Tensor,
    times: Tensor,
    solver: RungeKutta | AdaptiveSolver,
    divergence: Divergence,
    vectors: Tensor,
    gradient: Gradient = Backpropagation(),  # noqa: B008 - it is frozen
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The points at the last of the times, and log|det| of the way there, of shape `(estimates, batch)`.

    The field is in eval mode meanwhile: a flow is one and the same all the way.

    Args:
        field: Whose flow.
        x: Points at the first of the times.
        times: A grid, up or down.
        solver: The method.
        divergence: How the divergence is found.
        vectors: What was drawn for that, by `probes`.
        gradient: How a gradient is found, if one is wanted.
        shift: A number from 0 to 1 for each sample, on the host, to give it a grid of its own as `shifted` does.
    """
    if torch.is_inference_mode_enabled():  # it would make every derivative 0
        with torch.inference_mode(False), torch.no_grad():
            return carry(field, x.clone(), times.clone(), solver, divergence, vectors.clone(), gradient, shift)
    if not isinstance(solver, RungeKutta | AdaptiveSolver):
        raise ValueError(f"solver must be one for ODEs, in fixed steps or adaptive, got {solver}")
    times = path_grid(times)
    inner = inside(field, x, times, NEAR)
    is_kept = torch.is_grad_enabled() and any(p.requires_grad for p in (x, times, *field.parameters()))
    reader = _Reader(field, divergence, vectors, is_kept)
    with reader.still():
        x, first = reader.crossed(x, times[0], inner[0])
        x, change = (gradient if is_kept else Backpropagation()).solved(
            reader, x, inner if shift is None else shifted(inner, shift), solver
        )
        x, last = reader.crossed(x, inner[-1], times[-1])
    return x, first + change + last


def shifted(times: Tensor, shift: Tensor) -> Tensor:
    """A grid for each sample, of shape `(times, batch)`: the same two ends, and even steps between shifted ones.

    With a shift that is uniform, every time between is met as often as any other: what is fitted to a solve cannot
    learn where the solver looks.
    """
    inner = (torch.arange(len(times) - 2)[:, None] + shift) / max(len(times) - 2, 1)
    return torch.cat(
        [
            part.expand(-1, len(shift))
            for part in (times[:1, None], torch.lerp(times[0], times[-1], inner), times[-1:, None])
        ]
    )


def probes(divergence: Divergence, x: Tensor, noise: Noise) -> Tensor:
    """The vectors of a divergence, fixed for a whole solve."""
    return divergence.vectors(x, noise.of(PROBE_STREAM))


@dataclass(frozen=True)
class _Reader:
    """A field's flow, with its divergence."""

    field: Field
    divergence: Divergence
    vectors: Tensor
    is_kept: bool

    def take(self, rows: Tensor) -> _Reader:
        """That of some samples."""
        return replace(self, field=self.field.take(rows), vectors=self.vectors[:, rows])

    def read(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """The function at `x`, and its divergence of shape `(estimates, batch)`."""
        if is_transformed():
            linear: Any = torch.func.vjp(function, x)
            value, back = linear
            return value, self.divergence.of(Pullback(lambda v: back(v)[0]), x, self.vectors, True)
        with torch.enable_grad():
            x = x if self.is_kept and x.requires_grad else x.detach().requires_grad_()
            value = function(x)
            with unrounded(x):  # what a network rounded is derived as it was; nothing more is
                found = self.divergence.of(value, x, self.vectors, self.is_kept)
        return (value, found) if self.is_kept else (value.detach(), found)

    def nothing(self, x: Tensor) -> Tensor:
        """A change of 0."""
        return x.new_zeros(self.divergence.estimates, len(x))

    @contextmanager
    def still(self) -> Iterator[None]:
        """The field as a function of x and t alone, that can be derived twice."""
        with evaluating(self.field), math_attention():
            yield

    def kept(self, is_kept: bool) -> _Reader:
        """The same where gradients are wanted, or are not."""
        return replace(self, is_kept=is_kept)

    def flow(self, x: Tensor, times: Tensor, solver: RungeKutta) -> FieldFlow:
        """The flow alone, read at all times that steps of the solver will need."""
        flow = FieldFlow(self.field)
        if times.ndim == 1:
            flow.prepare(torch.cat([between(times[:-1], times[1:], c) for c in {*solver.nodes}]), x)
        return flow

    def walk(self, x: Tensor, times: Tensor, solver: RungeKutta | AdaptiveSolver) -> Iterator[tuple[Tensor, Tensor]]:
        """The points and the integral of the divergence after each step; at the last of the times, if adaptive."""
        change = self.nothing(x)
        if isinstance(solver, AdaptiveSolver):
            size = x[0].numel()
            *_, end = solver.walk(_Augmented(self, x.shape[1:]), torch.cat((x.flatten(1), change.T), 1), times[[0, -1]])
            yield end[:, :size].reshape(x.shape), end[:, size:].T
            return
        flow = self.flow(x, times, solver)
        for t, s in pairwise(times.unbind()):

            def slope(x: Tensor, time: Tensor, weight: float, span: Tensor = s - t) -> Tensor:
                nonlocal change
                if not weight:
                    return flow.drift(x, time)
                value, found = self.read(lambda x: flow.drift(x, time), x)
                change = change + weight * _like(span, x) * found
                return value

            x = solver.stepped(slope, x, t, s) if not t.ndim else self.stepped(solver, slope, x, t, s)
            yield x, change

    def stepped(
        self, solver: RungeKutta, slope: Callable[[Tensor, Tensor, float], Tensor], x: Tensor, t: Tensor, s: Tensor
    ) -> Tensor:
        """A step from and to times of each sample, as one from 0 to 1 of dx = (s - t) u d((time - t) / (s - t))."""
        span = meet(_like(s - t, x), x)
        return solver.stepped(
            lambda x, c, weight: span * slope(x, between(t, s, float(c)), weight), x, *step_ends(0.0, 1.0)
        )

    def crossed(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """The point at s, over a singular end from or to a time just inside it, and log|det| of the step, if any."""
        if t == s:
            return x, self.nothing(x)
        schedule, is_data = self.field.path.schedule, bool(max(t, s) > 0.5)

        def scale_and_ratio(time: Tensor) -> tuple[Tensor, Tensor]:
            alpha, beta = schedule.alpha(time), schedule.beta(time)
            return (alpha, beta / alpha) if is_data else (beta, alpha / beta)

        (w, r), (w_s, r_s) = scale_and_ratio(t), scale_and_ratio(s)
        middle = bisected(lambda time: (scale_and_ratio(time)[1] < (r + r_s) / 2) != is_data, torch.ones_like(t))[1]
        (reading,) = read_along(self.field, x, middle[None], Term(NOISE if is_data else DATA, of=VELOCITY))
        inner, step = float(scale_and_ratio(middle)[0]), float(r_s - r)
        value, found = self.read(lambda x: reading(x, self.field.values(x, reading.t)), inner / float(w) * x)
        end = float(w_s) * (x / float(w) + step * value)
        return end, x[0].numel() * math.log(w_s / w) + step * inner * found


@dataclass(frozen=True)
class _Augmented:
    """A flow and its divergence as one process, for a solver that minds the errors of both."""

    reader: _Reader
    shape: torch.Size

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity, flat, and the divergence behind it."""
        points = x[:, : self.shape.numel()].reshape(-1, *self.shape)
        value, found = self.reader.read(lambda x: FieldFlow(self.reader.field).drift(x, t), points)
        return torch.cat((value.flatten(1), found.T), 1)

    def size(self, x: Tensor, t: Tensor) -> Tensor:
        """That of the points, and 1 of the log-densities."""
        width = self.shape.numel()
        of_points = torch.as_tensor(point_size(self.reader.field, x[:, :width], t), dtype=x.dtype, device=x.device)
        return torch.cat((of_points.expand(len(x), width), x.new_ones(len(x), x.shape[1] - width)), 1)

    def take(self, rows: Tensor) -> _Augmented:
        """The same for some samples."""
        return replace(self, reader=self.reader.take(rows))


def log_start(field: Field, x: Tensor, t: Tensor) -> Tensor:
    """The log-density of noise at the start t of a path, of shape `(batch,)`.

    Where data is left in it, it is taken for a normal of the variance that data of its scale gives it.
    """
    if not isinstance(field.path, GaussianPath):
        raise ValueError(f"field must be on a path from noise, whose density is known, got {field.path}")
    unit = field.path.unit
    alpha, beta = unit.alpha(t), unit.beta(t)
    scale = (alpha**2 + beta**2).sqrt()
    share = float((alpha / scale).detach())
    if share > PURE:
        left = float(field.path.schedule.alpha(t).detach())
        warnings.warn(
            f"{field.path} begins at t = {float(t.detach()):g} with {left:.3g} data in it, which "
            f"log_prob takes for noise: it is off by about {share:.2g} nats for each unit that the mean of the data is "
            f"from 0, and by {share**2 * x[0].numel() / 2:.2g} or less for its shape",
            stacklevel=4,
        )
    scale = _like(scale, x)
    return -sum_per_sample((x / scale) ** 2) / 2 - x[0].numel() * (scale.log() + math.log(2 * math.pi) / 2)


def _estimates(
    field: Field,
    x: Tensor,
    solver: RungeKutta | AdaptiveSolver,
    steps: int,
    divergence: Divergence,
    seed: int | None,
    start: Time,
    stop: Time,
) -> Tensor:
    """The log-density by each of the estimates of the divergence, of shape `(estimates, batch)`."""
    checked_field(field)
    x = points("x", x, may_be_empty=True)
    instance("divergence", divergence, Divergence, "Exact(), Hutchinson(probes) and HutchPlusPlus() are")
    times = even(field, stop, start, steps)
    if seed is None:
        seed = 0 if isinstance(divergence, Exact) else fresh_seed()
    noise = Noise(seed)
    if not len(x):
        return x.new_zeros(divergence.estimates, 0)

    def run(part: Field, rows: slice) -> Tensor:
        vectors = probes(divergence, x[rows], noise.at(rows.start))
        end, change = carry(part, x[rows], times, solver, divergence, vectors)
        return log_start(part, end, times[-1]) + change

    if isinstance(solver, RungeKutta) and float(times[0].detach()) == 1:
        warn_of_scale(field, x, times, "points", stacklevel=4)
    return torch.cat([*in_batches(field, len(x), run)], 1)


def even(field: Field, start: Time, stop: Time, steps: int) -> Tensor:
    """Evenly from start to stop, on the host in float64; as `spread_out` says where the scale of the data is known."""
    steps = whole("steps", steps, 1)
    first, last = (exact(t, "start and stop").to("cpu", torch.float64) for t in (start, stop))
    return spread_out(field.path, first, last, steps)


def _like(scale: Tensor, x: Tensor) -> Tensor:
    """A number on the host, fit to multiply `x`."""
    return scale.to(x.device, x.dtype)
