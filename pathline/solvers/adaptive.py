"""Adaptive Runge-Kutta methods for dx = u(x, t) dt: every sample of a batch has its own time and its own steps.

    x_s = x + h sum_i b_i k_i,   error = h sum_i e_i k_i,   ratio = rms(error / (atol + rtol max(|x|, |x_s|)))

with the root mean square over the numbers of one sample. A step is taken where its ratio is at most 1, and the next is

    h' = h (AIM / ratio)^0.06 (ratio_before / ratio)^0.08

so no sample depends on its batch mates: they only share the calls of u, and leave the batch when they are done. The
last k_i of a step is the first of the next, so a step costs six evaluations.

Source: Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", sections II.4 to II.6; Gustafsson
1991, https://doi.org/10.1145/210232.210242 (the controller)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pathline.arguments import numbers
from pathline.solvers.runge_kutta import DORMAND_PRINCE, TSITOURAS, RungeKutta
from pathline.solvers.solution import Counts, Matrix, Piece, Solution, shaped
from pathline.solvers.solver import between, checked_process, drift_at, grid
from pathline.tensors import mean_per_sample, meet

AIM = 0.02  # the ratio of a step: so low that even on fields which make up their mind late, 1 in 100 is refused
INTEGRAL, PROPORTIONAL = 0.3 / 5, 0.4 / 5
LEAST = 1e-3  # ratio of a step that shortens the next but one
SHORTER, LONGER = 0.2, 5.0  # than the step before, at most
STRETCH = 1.01  # of a last step, rather than one more of next to nothing
COARSE, SHORTEST = 4, 16  # machine precisions: of points, no tolerance is finer; of times, no step is shorter


class SolverError(ValueError):
    """A solution that cannot be had, with the `sample`, its time `t` and `step`, and the `evaluations` it took."""

    def __init__(self, what: str, sample: int, t: float, step: float, evaluations: int) -> None:
        super().__init__(f"{what}: sample {sample} at t = {t:.10g}, step {step:.3g}, after {evaluations} evaluations")
        self.sample, self.t, self.step, self.evaluations = sample, t, step, evaluations


class SingularError(SolverError):
    """No step is short enough: the solution ends or jumps here."""


class NonFiniteError(SolverError):
    """The drift is not a finite number here."""


class EvaluationsError(SolverError):
    """The evaluations ran out."""


@dataclass(frozen=True)
class AdaptiveSolver(ABC):
    """A method with an estimate of its error, for any process whose drift takes a time of shape `(batch,)`.

    A process whose samples differ by more than their points, by a condition, has `take(rows)`: itself for some of them.
    One whose points are not of unit size may have `size(x, t)`: what `atol` is multiplied with, a number or a tensor
    that multiplies `x`.

    Args:
        rtol: The error that a step may have, relative to the size of each number.
        atol: What it may have beside that, of points of unit size.
        evaluations: Calls of the drift per sample at most.

    Raises:
        ValueError: If a tolerance is negative or both are 0, or the evaluations do not suffice for a step.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    evaluations: int = 10_000

    @property
    @abstractmethod
    def method(self) -> RungeKutta:
        """What a step is taken by."""

    @property
    @abstractmethod
    def error(self) -> tuple[float, ...]:
        """The weights e: those of the method, less those of one of order 4."""

    @property
    @abstractmethod
    def dense(self) -> Matrix:
        """The coefficients of the polynomial between the ends of a step."""

    def __post_init__(self) -> None:
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number, 0 or more, got {value}")
        if self.rtol == self.atol == 0:
            raise ValueError("rtol and atol must not both be 0: every step has some error")
        least = 2 + len(self.method.nodes)
        if self.evaluations < least:
            raise ValueError(f"evaluations must be at least {least}, for a first step, got {self.evaluations}")

    def check(self, process: Any, times: Tensor) -> None:
        """Refuse to be walked step by step, as `walk` does with other solvers.

        Raises:
            ValueError: In any case.
        """
        raise ValueError(
            f"solver must be one of fixed steps for walk, and {self} lays its own; use solver.walk(process, x, times)"
        )

    def walk(self, process: Any, x: Tensor, times: Tensor, counts: Counts | None = None) -> Iterator[Tensor]:
        """The states at `times`: the first is `x` itself, and none is changed later. Times cost no evaluations.

        Those that some samples have reached and others have not yet are held until all have.

        Args:
            process: Has `drift(x, t)`.
            x: Points of shape `(batch, *shape)` at `times[0]`.
            times: A strictly monotone grid, up or down.
            counts: Where to keep count, `Counts.of(x)`.

        Raises:
            ValueError: If the grid is not strictly monotone, the process has noise, or a tolerance is too fine for x.
            SolverError: On the way: a `SingularError`, `NonFiniteError` or `EvaluationsError`.
        """
        times = self._checked(process, x, times)
        return self._walk(process, x, times, counts or Counts.of(x))

    def solve(self, process: Any, x: Tensor, times: Tensor) -> Solution:
        """The solution from the first to the last of the times, at any time between; raises what `walk` does."""
        times = self._checked(process, x, times)
        counts, end = Counts.of(x), torch.empty_like(x)
        pieces = []
        for piece in self._pieces(process, x, times, counts):
            pieces.append(piece)
            which = (piece.holds & (piece.s == times[-1])).nonzero()[:, 0].to(x.device)
            end[piece.rows.to(x.device)[which]] = piece.end[which]
        return Solution(end, counts, float(times[0]), float(times[-1]), x, pieces)

    def _checked(self, process: Any, x: Tensor, times: Tensor) -> Tensor:
        checked_process(process)
        if numbers("x", x).ndim == 0:
            raise ValueError("x must be a batch of points, as each has steps of its own, got shape (); pass x[None]")
        if x.is_meta:
            raise ValueError("x must hold numbers for steps that are chosen by their error, got a tensor on meta")
        times = grid(times)
        if times.requires_grad:
            raise ValueError("times must not require a gradient: steps are chosen as plain numbers; walk with RK4")
        if hasattr(process, "diffusion"):
            raise ValueError(
                f"{type(process).__name__} has a diffusion, which an adaptive method would leave out; "
                "solve it with EulerMaruyama() or StochasticHeun()"
            )
        finest = COARSE * torch.finfo(x.dtype).eps
        if max(self.rtol, self.atol) < finest:
            raise ValueError(
                f"rtol or atol must be at least {finest:.2g} for points in {x.dtype}, got {self.rtol:g} and "
                f"{self.atol:g}; pass x.double()"
            )
        return times

    def _walk(self, process: Any, x: Tensor, times: Tensor, counts: Counts) -> Iterator[Tensor]:
        yield x
        states: dict[int, Tensor] = {}
        missing = [len(x)] * len(times)
        upcoming = 1
        for piece in self._pieces(process, x, times, counts):
            which, k = piece.covers(times).nonzero(as_tuple=True)
            if not len(which):
                continue
            found, rows = piece.at(which, times[k]), piece.rows[which].to(x.device)
            for reached in sorted(set(k.tolist())):
                mine = (k == reached).nonzero()[:, 0].to(x.device)
                states.setdefault(reached, torch.empty_like(x))[rows[mine]] = found[mine]
                missing[reached] -= len(mine)
            while upcoming < len(times) and not missing[upcoming]:
                yield states.pop(upcoming)
                upcoming += 1

    def _pieces(self, process: Any, x: Tensor, times: Tensor, counts: Counts) -> Iterator[Piece]:
        """Every step that is tried, of all samples on their way at once."""
        whole, stop = process, times[-1]
        rows, t = torch.arange(len(x)), times[0].expand(len(x))
        slope = drift_at(process, x, t)
        h = self._first_step(process, x, t, slope, stop)
        counts.evaluations.add_(2)
        ratio = before = torch.full_like(t, AIM)  # of the last try, and of the last step taken
        while len(rows):
            h = h.bfloat16().double()  # 8 bits do, and what another batch rounds differently does not reach them
            s = torch.where((STRETCH * h).abs() >= (stop - t).abs(), stop, t + h)
            h = s - t
            self._refuse(rows, t, h, s == stop, ratio, counts)
            end, slopes = self._tried(process, x, t, s, slope)
            was_refused, ratio = ~(ratio <= 1), self._ratio(process, x, end, s, h, slopes)
            holds = ratio <= 1  # NaN does not
            counts.evaluations[rows] += len(self.method.nodes)
            counts.steps[rows] += holds
            counts.refused[rows] += ~holds
            yield Piece(self.dense, rows, holds, t, s, x, end, slopes)
            h = h * _growth(ratio, before, was_refused)
            t, before = torch.where(holds, s, t), torch.where(holds, ratio, before)
            taken = meet(holds.to(x.device), x)
            x, slope = torch.where(taken, end, x), torch.where(taken, slopes[-1], slope)
            left = (t != stop).nonzero()[:, 0]
            if len(left) < len(rows):
                rows, t, h, ratio, before = (column[left] for column in (rows, t, h, ratio, before))
                x, slope = x[left.to(x.device)], slope[left.to(x.device)]
                process = whole.take(rows.to(x.device)) if hasattr(whole, "take") else whole

    def _tried(self, process: Any, x: Tensor, t: Tensor, s: Tensor, slope: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The end of a step for each sample, and its slopes with that of the end."""
        method, h, slopes = self.method, shaped(s - t, x), [slope]
        for row, c in zip(method.a[1:], method.nodes[1:], strict=True):
            slopes.append(drift_at(process, x + h * _sum(row, slopes), between(t, s, c)))
        end = x + h * _sum(method.b, slopes)
        return end, [*slopes, drift_at(process, end, s)]

    def _ratio(self, process: Any, x: Tensor, end: Tensor, s: Tensor, h: Tensor, slopes: list[Tensor]) -> Tensor:
        """The estimated error over what it may be."""
        with torch.no_grad():
            allowed = self.atol * _size(process, end, s) + self.rtol * torch.maximum(x.abs(), end.abs())
            return _norm(shaped(h, x) * _sum(self.error, slopes), allowed)

    def _first_step(self, process: Any, x: Tensor, t: Tensor, slope: Tensor, stop: Tensor) -> Tensor:
        """A guess by one more evaluation: a short step of Euler's shows how fast the drift changes."""
        with torch.no_grad():
            span, size = stop - t, self.atol * _size(process, x, t) + self.rtol * x.abs()
            of_x, of_slope = _norm(x, size), _norm(slope, size)
            if not of_slope.isfinite().all():
                bad = int((~of_slope.isfinite()).nonzero()[0, 0])
                raise NonFiniteError("the drift is not finite at the start", bad, float(t[bad]), 0.0, 1)
            short = torch.where((of_x < 1e-5) | (of_slope < 1e-5), 1e-6, 0.01 * of_x / of_slope)
            short = torch.minimum(short, span.abs())
            there = drift_at(process, x + shaped(short.copysign(span), x) * slope, t + short.copysign(span))
            largest = torch.maximum(of_slope, _norm(there - slope, size) / short)
            long = torch.where(largest > 1e-15, (0.01 / largest) ** (1 / 5), (1e-3 * short).clamp(min=1e-6))
            long = torch.where(long.isfinite(), long, short)  # the drift is not, further on
            return torch.minimum(torch.minimum(100 * short, long), span.abs()).copysign(span)

    def _refuse(self, rows: Tensor, t: Tensor, h: Tensor, is_last: Tensor, ratio: Tensor, counts: Counts) -> None:
        """Refuse a step that the clock cannot tell from none, or one for which no evaluations are left."""
        used = counts.evaluations[rows]
        shortest = SHORTEST * torch.finfo(t.dtype).eps * torch.maximum(t.abs(), (t + h).abs())
        too_short, too_many = ~is_last & (h.abs() <= shortest), used + len(self.method.nodes) > self.evaluations
        for bad, error, what in (
            (too_short & ~ratio.isfinite(), NonFiniteError, "the drift is not finite beyond this"),
            (too_short, SingularError, "the solution is singular: no step is short enough for the tolerance"),
            (too_many, EvaluationsError, "too many evaluations: the equation is stiff, or the tolerance too fine"),
        ):
            if bad.any():
                i = int(bad.nonzero()[0, 0])
                raise error(what, int(rows[i]), float(t[i]), float(h[i]), int(used[i]))


def _size(process: Any, x: Tensor, t: Tensor) -> Any:
    """How large the points of a process are: of unit size unless it says otherwise."""
    return process.size(x, t) if hasattr(process, "size") else 1.0


def _growth(ratio: Tensor, before: Tensor, was_refused: Tensor) -> Tensor:
    """Of a step by its own ratio and that of the one taken before; there is none after a refusal."""
    holds, ratio = ratio <= 1, ratio.nan_to_num(nan=torch.inf)
    taken = (AIM / ratio) ** INTEGRAL * (before.clamp(min=LEAST) / ratio) ** PROPORTIONAL
    factor = torch.where(holds, taken, (AIM / ratio) ** (1 / 5)).clamp(SHORTER, LONGER)
    return torch.minimum(factor, torch.where(holds & ~was_refused, LONGER, 1.0))


def _sum(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total = torch.add(total, slope, alpha=weight)
    return total


def _norm(x: Tensor, size: Tensor) -> Tensor:
    """The root mean square of x / size over the numbers of each sample, on the host in float64."""
    return mean_per_sample((x / size) ** 2).sqrt().cpu().double()


@dataclass(frozen=True)
class Dopri5(AdaptiveSolver):
    """Dormand and Prince's method of order 5 with one of order 4, and Shampine's polynomial between.

    Source: Dormand & Prince 1980, https://doi.org/10.1016/0771-050X(80)90013-3; Shampine 1986,
    https://doi.org/10.1090/S0025-5718-1986-0815836-3
    """

    method = DORMAND_PRINCE
    error = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
    dense = (
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    )


@dataclass(frozen=True)
class Tsit5(AdaptiveSolver):
    """Tsitouras' method of order 5 with one of order 4, and his polynomial between.

    Source: Tsitouras 2011, https://doi.org/10.1016/j.camwa.2011.06.002
    """

    method = TSITOURAS
    error = (
        -0.00178001105222577714,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        1 / 66,
    )
    dense = (
        (1.0, -2.763706197274826, 2.9132554618219126, -1.0530884977290216),
        (0.0, 0.1317, -0.2234, 0.1017),
        (0.0, 3.9302962368947516, -5.941033872131505, 2.490627285651253),
        (0.0, -12.411077166933676, 30.33818863028232, -16.548102889244902),
        (0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928),
        (0.0, -27.896526289197286, 65.09189467479366, -34.87065786149661),
        (0.0, 1.5, -4.0, 2.5),
    )
