"""Laws of schedules, predictions and conditional paths: 1 to 5."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import mpmath
import torch
from torch import Tensor

from pathline.paths.bridge import BridgePath
from pathline.paths.path import GaussianPath, HeadMix, Path, PathPoint
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY, Prediction, blend, convert, mix
from pathline.paths.schedules import (
    Coefficients,
    Schedule,
    SubVariancePreservingSchedule,
    VarianceExplodingSchedule,
    VariancePreservingSchedule,
)
from pathline.processes.processes import ODE, LinearODE
from pathline.solvers.runge_kutta import RK4
from pathline.solvers.solver import walk
from pathline.verify.parts import each_schedule, field, points, predictions, schedules, spread_times
from pathline.verify.table import Figure, law, once, worst_of

EPS = torch.finfo(torch.float64).eps


def _each_pair() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [
        (f"{a}->{b} {name}", (source, target, schedule))
        for (a, source), (b, target) in itertools.product(predictions().items(), repeat=2)
        for name, schedule in schedules().items()
    ]


def kappa(source: Prediction, c: Coefficients) -> Tensor:
    """The condition of the 2 x 2 system that x and a prediction make, each row scaled to length 1."""
    rows = torch.stack([torch.stack((c.alpha, c.beta), -1), torch.stack(source.row(c), -1)], -2)
    condition: Tensor = torch.linalg.cond(rows / rows.norm(dim=-1, keepdim=True))
    return condition


def _conversion_error(source: Prediction, target: Prediction, schedule: Schedule, t: Tensor) -> float:
    data, noise = points(len(t), 3, seed=2), points(len(t), 3, seed=3)
    point = GaussianPath(schedule).point(noise, data, t)
    got = convert(point.target(source), point.x, t, schedule, source, target)
    c = schedule.at(t)
    row = torch.stack(target.row(c)).norm(dim=0) / target.scale(c)
    size = row * (data.norm(dim=1) + noise.norm(dim=1)) * kappa(source, c)
    return float(((got - point.target(target)).norm(dim=1) / (EPS * size)).max())


@law(1, _each_pair)
def conversion_is_exact(source: Prediction, target: Prediction, schedule: Schedule) -> Iterator[Figure]:
    """Converting the true target of one kind gives the true target of any other, to 16 eps kappa."""
    yield Figure("error / (eps kappa)", _conversion_error(source, target, schedule, spread_times(500)), 16)


def _mp_schedules() -> dict[str, Callable[[Any, Any], tuple[Any, Any, Any, Any]]]:
    """(alpha, beta, alpha', beta') of t and r = 1 - t in any precision, written apart from the library."""
    mp = mpmath.mp

    def preserving(t: Any, r: Any) -> tuple[Any, Any, Any, Any]:
        alpha = mp.exp(-(mp.mpf(20) - mp.mpf(0.1)) / 4 * r**2 - mp.mpf(0.1) / 2 * r)
        beta = mp.sqrt(1 - alpha**2)
        alpha_dot = alpha * (mp.mpf(0.1) + (mp.mpf(20) - mp.mpf(0.1)) * r) / 2
        return alpha, beta, alpha_dot, -alpha * alpha_dot / beta

    def sub_preserving(t: Any, r: Any) -> tuple[Any, Any, Any, Any]:
        alpha, beta, alpha_dot, beta_dot = preserving(t, r)
        return alpha, beta**2, alpha_dot, 2 * beta * beta_dot

    def exploding(t: Any, r: Any) -> tuple[Any, Any, Any, Any]:
        low, high = mp.mpf(0.002), mp.mpf(80)
        beta = high**r * low**t
        return mp.mpf(1), beta, mp.mpf(0), beta * mp.log(low / high)

    def cosine(t: Any, r: Any) -> tuple[Any, Any, Any, Any]:
        alpha, beta = (
            (mp.sin(mp.pi / 2 * t), mp.cos(mp.pi / 2 * t)) if t < r else (mp.cos(mp.pi / 2 * r), mp.sin(mp.pi / 2 * r))
        )
        return alpha, beta, mp.pi / 2 * beta, -mp.pi / 2 * alpha

    return {
        "linear": lambda t, r: (t, r, mp.mpf(1), mp.mpf(-1)),
        "linear:0.1": lambda t, r: (t, r + mp.mpf(0.1) * t, mp.mpf(1), mp.mpf(0.1) - 1),
        "cosine": cosine,
        "polynomial": lambda t, r: (t**3, 1 - (1 - r) ** 3 if r < t else 1 - t**3, 3 * t**2, -3 * t**2),
        "square-root": lambda t, r: (t, mp.sqrt(r), mp.mpf(1), -1 / (2 * mp.sqrt(r))),
        "variance-preserving": preserving,
        "sub-variance-preserving": sub_preserving,
        "variance-exploding": exploding,
    }


def _mp_map(source: str, target: str, coefficients: tuple[Any, Any, Any, Any]) -> tuple[Any, Any]:
    """(m, n) of q = m x + n p, by solving for data and noise."""
    a, b, a_dot, b_dot = coefficients
    length = mpmath.sqrt(b**2 + a**2 / 4)  # of EDM's row for data of standard deviation 1/2
    rows = {
        "velocity": (a_dot, b_dot),
        "score": (0, -1 / b),
        "noise": (0, 1),
        "data": (1, 0),
        "v": (-b, a),
        "edm": (2 * b / length, -a / 2 / length),
    }
    (p, q), (c, e) = rows[source], rows[target]
    det = a * q - b * p
    return (c * q - e * p) / det, (a * e - b * c) / det


@law(2, lambda: [(name, (name,)) for name in _mp_schedules()])
def ends_are_limits_or_refused(name: str) -> Iterator[Figure]:
    """At the ends of the path a map is its limit, computed in 200 digits, or it is refused; near them it is exact."""
    schedule, kinds = schedules()[name], predictions()
    wrong, error = 0, 0.0
    with mpmath.workdps(200):
        tiny = mpmath.mpf(10) ** -60
        for (a, source), (b, target) in itertools.product(kinds.items(), repeat=2):
            for end in (0.0, 1.0):
                t, r = (tiny, 1 - tiny) if end == 0 else (1 - tiny, tiny)
                m, n = _mp_map(a, b, _mp_schedules()[name](t, r))
                has_limit = max(abs(m), abs(n)) < 1e12 or a == b
                got = mix(source, target, schedule, torch.tensor(end, dtype=torch.float64))
                wrong += has_limit == bool(got.singular)
                if has_limit and not got.singular:
                    size = max(1.0, abs(float(m)), abs(float(n)))
                    error = worst_of(error, abs(float(got.m) - float(m)) / size, abs(float(got.n) - float(n)) / size)
    yield Figure("ends wrongly refused or read", wrong, 0)
    yield Figure("error of a limit / eps", error / EPS, 16)
    near = torch.tensor([1e-7, 1 - 1e-7], dtype=torch.float64)
    for (_, source), (_, target) in itertools.product(kinds.items(), repeat=2):
        # the point itself is rounded, which nothing can undo: x = alpha data + beta noise, to eps
        error = worst_of(error, _conversion_error(source, target, schedule, near) * EPS)
    yield Figure("error near the ends / (eps kappa)", error / EPS, 16)


@law(3, each_schedule, seconds=0.3)
def one_time_or_one_each(schedule: Schedule, kinds: Iterable[Prediction] | None = None) -> Iterator[Figure]:
    """A time of shape () and the same in shape (batch,) give the same numbers, also where batch equals a size."""
    path, exact = GaussianPath(schedule), field(schedule)
    data, noise = points(2, 2, seed=4), points(2, 2, seed=5)
    pairs = list(itertools.product(kinds or predictions().values(), repeat=2))
    different = 0
    for dtype in (torch.float32, torch.float64):
        for t in (0.25, 0.5, 0.9):
            one = torch.tensor(t, dtype=dtype)
            a, b = (path.point(noise.to(dtype), data.to(dtype), time) for time in (one, one.expand(2)))
            different += not torch.equal(a.x, b.x)
            for kind, other in pairs:
                different += not torch.equal(a.target(kind), b.target(kind))
                value = convert(a.target(kind), a.x, one, schedule, kind, other)
                different += not torch.equal(value, convert(a.target(kind), a.x, one.expand(2), schedule, kind, other))
            different += not torch.equal(exact.velocity(a.x, one), exact.velocity(a.x, one.expand(2)))
        both = torch.tensor([0.25, 0.9], dtype=dtype)  # as many times as a point has numbers
        point = path.point(noise.to(dtype), data.to(dtype), both)
        for i, t in enumerate(both):
            alone = path.point(noise[i : i + 1].to(dtype), data[i : i + 1].to(dtype), t)
            different += not torch.equal(point.x[i], alone.x[0])
            different += not torch.equal(exact.score(point.x, both)[i], exact.score(alone.x, t)[0])
            for kind, other in pairs:
                value = convert(point.target(kind), point.x, both, schedule, kind, other)[i]
                different += not torch.equal(value, convert(alone.target(kind), alone.x, t, schedule, kind, other)[0])
    yield Figure("readings that differ", different, 0)


DECLARED: dict[type, Any] = {  # from the papers' formulas, written apart from the library
    VariancePreservingSchedule: ((math.exp(-5.025), math.sqrt(1 - math.exp(-10.05))), (1, 0)),
    SubVariancePreservingSchedule: ((math.exp(-5.025), 1 - math.exp(-10.05)), (1, 0)),
    VarianceExplodingSchedule: ((1, 80), (1, 0.002)),
}


def _each_declared() -> Iterable[tuple[str, tuple[Any, ...]]]:
    known = {"linear:0.1": ((0, 1), (1, 0.1))}
    return [
        (name, (schedule, known.get(name, DECLARED.get(type(schedule), ((0, 1), (1, 0))))))
        for name, schedule in schedules().items()
    ]


@law(4, _each_declared)
def schedule_is_sound(schedule: Schedule, ends: Any = None) -> Iterator[Figure]:
    """Alpha and beta have the ends that are declared, alpha never falls, beta never rises; slopes equal autodiff."""
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    alpha, beta = schedule.alpha(t), schedule.beta(t)
    found = torch.stack((alpha[[0, -1]], beta[[0, -1]]), 1)
    declared = torch.tensor(ends or schedule.ends, dtype=torch.float64)
    yield Figure("error at the ends", float((found - declared).abs().max()), 1e-6)
    yield Figure("error of the declared ends", float((found - torch.tensor(schedule.ends)).abs().max()), 1e-6)
    yield Figure("falling alpha or rising beta", int((alpha.diff() < 0).sum() + (beta.diff() > 0).sum()), 0)
    yield Figure("alpha/beta standing still", int((alpha[1:] * beta[:-1] <= alpha[:-1] * beta[1:]).sum()), 0)
    inside = spread_times(500, 1e-3, 1 - 1e-3)
    one = torch.ones_like(inside)

    def slope(function: Callable[[Tensor], Tensor]) -> Tensor:
        found: Tensor = torch.func.jvp(function, (inside,), (one,))[1]
        return found

    given = (*schedule.slopes(inside), schedule.variance_slope(inside))
    true = (slope(schedule.alpha), slope(schedule.beta), slope(lambda s: schedule.beta(s) ** 2))
    relative = [torch.where(a == b, 0, (a - b).abs() / b.abs()).max() for a, b in zip(given, true, strict=True)]
    yield Figure("error of a slope", float(torch.stack(relative).max()), 1e-6)


@law(5, each_schedule)
def velocity_and_score_of_a_conditional_path(schedule: Schedule) -> Iterator[Figure]:
    """The velocity target is d/dt of the path's point; the conditional score is the gradient of its log-density."""
    path, t = GaussianPath(schedule), spread_times(200)
    data, noise = points(200, 3, seed=6), points(200, 3, seed=7)
    point = path.point(noise, data, t)
    moved: Tensor = torch.func.jvp(lambda s: path.point(noise, data, s).x, (t,), (torch.ones_like(t),))[1]
    velocity = point.target(VELOCITY)
    yield Figure("error of the velocity", float((moved - velocity).norm() / velocity.norm()), 1e-6)
    c = schedule.at(t, data)
    x = point.x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((-((x - c.alpha * data) ** 2) / (2 * c.beta**2)).sum(), x)
    read = path.conditional(SCORE, point.x, data, t)
    yield Figure("error of the score", float((slope - read).norm() / slope.norm()), 1e-6)
    again = convert(data, point.x, t, schedule, DATA, VELOCITY)
    yield Figure("error of the field", float((again - velocity).norm() / velocity.norm()), 1e-6)


@law(5, each_schedule, seconds=2.0)
def flow_is_a_group(schedule: Schedule) -> Iterator[Figure]:
    """A flow starts at the identity, composes, has an inverse, and log abs det is the integral of its divergence."""
    path, data, x = GaussianPath(schedule), points(20, 3, seed=8), points(20, 3, seed=9)
    process = ODE(lambda x, t: path.conditional(VELOCITY, x, data, t))

    def flow(x: Tensor, t: float, s: float) -> Tensor:
        *_, end = walk(process, RK4, x, torch.linspace(t, s, 101, dtype=torch.float64))
        return end

    def scales(t: float) -> tuple[Tensor, Tensor]:
        at = torch.tensor(t, dtype=torch.float64)
        return schedule.alpha(at), schedule.beta(at)

    (a, b), (c, e) = scales(0.2), scales(0.8)
    true = c * data + e * (x - a * data) / b
    yield Figure("error of the flow", float((flow(x, 0.2, 0.8) - true).abs().max()), 1e-6)
    yield Figure("composition", float((flow(flow(x, 0.2, 0.5), 0.5, 0.8) - true).abs().max()), 1e-6)
    yield Figure("inverse", float((flow(flow(x, 0.2, 0.8), 0.8, 0.2) - x).abs().max()), 1e-6)
    times = torch.linspace(0.2, 0.8, 201, dtype=torch.float64)
    divergence = torch.stack([divergence_of(partial(process.drift, t=t), x) for t in times])
    weights = torch.tensor([1.0] + [4.0, 2.0] * 99 + [4.0, 1.0], dtype=torch.float64) * (0.6 / 200 / 3)
    yield Figure("log abs det", float(((weights @ divergence) - 3 * (e / b).log()).abs().max()), 1e-6)


def _each_path() -> Iterable[tuple[str, tuple[Any, ...]]]:
    some = {name: GaussianPath(schedules()[name]) for name in ("linear:0.1", "cosine", "variance-preserving")}
    return [(name, (path,)) for name, path in {**some, **{f"bridge:{s:g}": BridgePath(s) for s in (0, 0.5)}}.items()]


@law(1, _each_path)
def a_path_reads_each_kind_from_the_others(path: Path) -> Iterator[Figure]:
    """What a path reads from true heads is the true kind, one head or two, to rounding."""
    point, t = _point_of(path)
    targets = {kind: target for kind in predictions().values() if (target := _known(point, kind)) is not None}
    error, count = 0.0, 0
    for heads in [*itertools.combinations(targets, 1), *((kind, SCORE) for kind in targets if kind != SCORE)]:
        for kind, true in targets.items():
            if all(head in targets for head in heads) and (found := _mixed(path, heads, kind, t)) is not None:
                value = blend(found.m, point.x, zip(found.n, (targets[head] for head in heads), strict=True))
                size = 1 + true.norm(dim=1) + point.x.norm(dim=1)
                error, count = worst_of(error, float(((value - true).norm(dim=1) / size).max())), count + 1
    yield Figure("error", error, 1e-9)
    yield Figure("kinds that are read", count, math.inf, len(targets))


def _point_of(path: Path, t: Tensor | None = None) -> tuple[PathPoint, Tensor]:
    noise, data, z = (points(200, 3, seed) for seed in (72, 73, 74))
    t = spread_times(200) if t is None else t
    return path.point(noise, data, t, lambda x: z), t


def _known(point: PathPoint, kind: Prediction) -> Tensor | None:
    try:
        return point.target(kind)
    except ValueError:  # the path has no such kind
        return None


def _mixed(path: Path, heads: tuple[Prediction, ...], kind: Prediction, t: Tensor) -> HeadMix | None:
    try:
        return path.mix(heads, kind, t)
    except ValueError:  # these heads never settle it
        return None


@law(3, _each_path)
def a_path_takes_one_time_or_one_each(path: Path) -> Iterator[Figure]:
    """A path's point at a time of shape () is the one at the same time in shape (batch,), in the dtype of its data."""
    different = wrong = 0
    for dtype in (torch.float32, torch.float64):
        noise, data, z = (points(3, 3, seed).to(dtype) for seed in (75, 76, 77))
        for t in (0.25, 0.9):
            one = torch.tensor(t, dtype=dtype)
            a, b = [path.point(noise, data, time, lambda x: z) for time in (one, one.expand(3))]  # noqa: B023 - drawn here
            different += not torch.equal(a.x, b.x)
            for kind in predictions().values():
                first, second = _known(a, kind), _known(b, kind)
                if first is not None and second is not None:
                    different += not torch.equal(first, second)
                    wrong += first.dtype != dtype or a.x.dtype != dtype
    yield Figure("values that differ", different, 0)
    yield Figure("values of another dtype", wrong, 0)


@law(5, _each_path)
def a_path_moves_at_its_velocity(path: Path) -> Iterator[Figure]:
    """From its noise to its data a path's point moves at its velocity target, and knows both."""
    point, t = _point_of(path)
    moved: Tensor = torch.func.jvp(lambda s: _point_of(path, s)[0].x, (t,), (torch.ones_like(t),))[1]
    velocity = point.target(VELOCITY)
    yield Figure("error of the velocity", float((moved - velocity).norm() / velocity.norm()), 1e-6)
    noise, data = points(200, 3, seed=72), points(200, 3, seed=73)
    known = torch.stack((point.target(DATA) - data, point.target(NOISE) - noise))
    yield Figure("error of data and noise as targets", float(known.abs().max()), 1e-12)
    ends = [_point_of(path, torch.full_like(t, end))[0].x for end in (0.0, 1.0)]
    true = [alpha * data + beta * noise for alpha, beta in path.schedule.ends]
    yield Figure("error at the ends", float((torch.stack(ends) - torch.stack(true)).abs().max()), 1e-6)


@law(8, _each_path)
def targets_have_their_variance(path: Path) -> Iterator[Figure]:
    """The variance that a path tells of a target, which losses are weighed by, is that of draws from unit normals."""
    count, ratios = 100_000, [1.0]
    noise, data, z = (points(count, 1, seed) for seed in (78, 79, 80))
    for t in (torch.tensor(t, dtype=torch.float64) for t in (0.1, 0.5, 0.9)):
        point = path.point(noise, data, t, lambda x: z)
        for kind in predictions().values():
            if (target := _known(point, kind)) is not None:
                ratios.append(float(target.var() / path.target_variance(kind, t)))
    yield Figure("variance ratio, most", worst_of(*ratios), 1.03, 0.97)
    yield Figure("variance ratio, least", -worst_of(*(-ratio for ratio in ratios)), 1.03, 0.97)


@law(5, once)
def linear_flow_is_exponential() -> Iterator[Figure]:
    """The linear ODE's flow is exp(-theta t) x."""
    process, x = LinearODE(0.7), points(10)
    *_, end = walk(process, RK4, x, torch.linspace(0, 2, 101, dtype=torch.float64))
    yield Figure("error", float((end - process.flow(x, 2.0)).abs().max()), 1e-8)


def divergence_of(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The trace of the Jacobian at each point, of shape (batch,)."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for i in range(x.shape[1]):
        along = torch.zeros_like(x)
        along[:, i] = 1
        total = total + torch.func.jvp(function, (x,), (along,))[1][:, i]
    return total
