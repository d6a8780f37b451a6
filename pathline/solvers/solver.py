"""A solver is one step of an equation; `walk`, the only loop, takes it along a grid of times.

    dX = drift(X, t) dt + diffusion(X, t) dW,   from t to s

A grid may run up (noise to data) or down.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import pairwise
from numbers import Real
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pathline.arguments import described, numbers
from pathline.noise import Draws, Noise, fresh_seed
from pathline.solvers.brownian import BrownianPath
from pathline.tensors import exact, meet

WALK_STREAM = 1 << 16  # steps draw apart from a start made with the same noise
Running: TypeAlias = Generator[Tensor, Tensor | None, None]  # a walk that goes on from points that are sent to it
Draw: TypeAlias = Callable[[Tensor], Tensor]  # standard normal numbers, shaped like what it is given
Source: TypeAlias = Noise | BrownianPath  # of the numbers of a walk: of each step anew, or of one path for any steps


class Process(Protocol):
    """What a solver solves. One that has noise also has `diffusion(x, t)`, of one of these shapes.

    A number or `()` is the same for all. `(batch,)` is one number for each sample, also where points happen to be
    vectors of as many numbers. The shape of `x` is one for each number of each point (diagonal noise).
    """

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """The change of `x` per unit of time: of its shape, or a number that is the same for all."""
        ...


def drift_at(process: Any, x: Tensor, t: Tensor) -> Tensor:
    """The drift of a process.

    Raises:
        ValueError: If it has not the shape of `x`.
    """
    drift = process.drift(x, t)
    if isinstance(drift, Real):
        return torch.full_like(x, float(drift))
    if not isinstance(drift, Tensor) or drift.shape != x.shape:
        raise ValueError(
            f"drift must have the shape of x, {tuple(x.shape)}, got {described(drift)}; expand_as(x) spreads one "
            "vector over a batch"
        )
    return drift


def diffusion_at(process: Any, x: Tensor, t: Tensor) -> Any:
    """The diffusion of a process: a number, or a tensor shaped to multiply `x`.

    Raises:
        ValueError: If it is neither a number, nor one for each sample, nor of the shape of `x`.
    """
    sigma = process.diffusion(x, t)
    if isinstance(sigma, Real) or (isinstance(sigma, np.ndarray) and not sigma.ndim):
        return float(sigma)
    if not isinstance(sigma, Tensor) or sigma.shape not in ((), x.shape[:1], x.shape):
        raise ValueError(
            f"diffusion must be a number, one for each sample, {tuple(x.shape[:1])}, or of the shape of x, "
            f"{tuple(x.shape)}, got {described(sigma)}; expand_as(x) gives each dimension its own"
        )
    if sigma.ndim == 0:
        return sigma
    return (meet(sigma, x) if sigma.ndim < x.ndim else sigma).to(x.device, x.dtype)


class Solver(ABC):
    """One step. `nodes` are the fractions of a step at which the drift is read, one evaluation each."""

    nodes: tuple[float, ...]
    is_stochastic: bool

    @abstractmethod
    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The point at time `s`, from the point `x` at time `t`; `noise(x)` draws this step's normal numbers."""

    @abstractmethod
    def check(self, process: Any, times: Tensor) -> None:
        """Refuse, with a ValueError, a process or a direction that this method is not for."""


def grid(times: Tensor | Sequence[float]) -> Tensor:
    """The times as they are solved: on the host, in float64, strictly monotone.

    Raises:
        ValueError: If there are fewer than two, if any is not finite, or if they turn or stand still.
    """
    times = exact(times).to("cpu", torch.float64)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must be a row of at least two, got shape {tuple(times.shape)}")
    spans = times.diff().detach()
    if not times.isfinite().all():
        raise ValueError(f"times must be finite, got {times[~times.isfinite()][0]:g}")
    wrong = (spans * spans.sum().sign() <= 0).nonzero()
    if len(wrong):
        a, b = times[wrong[0, 0]], times[wrong[0, 0] + 1]
        raise ValueError(
            f"times must go strictly one way, up or down, got {a:g} then {b:g}; "
            "sort them (times.flip(0) runs the other way) and drop repeats"
        )
    return times


def step_ends(t: float | Tensor, s: float | Tensor) -> tuple[Tensor, Tensor]:
    """The two times of a step as tensors, for one who takes a step by hand with numbers."""
    if isinstance(t, Tensor) and isinstance(s, Tensor):
        return t, s
    return torch.as_tensor(t, dtype=torch.float64), torch.as_tensor(s, dtype=torch.float64)


def between(t: Tensor, s: Tensor, c: float) -> Tensor:
    """The time a fraction `c` of the way from t to s: the ends themselves at 0 and 1, without rounding."""
    return t if c == 0 else s if c == 1 else t + c * (s - t)


def moved(x: Tensor, t: Tensor, s: Tensor, slope: Tensor, share: float = 1.0) -> Tensor:
    """The point x + share (s - t) slope: one pass over x, or two where a gradient with respect to time is wanted."""
    if t.requires_grad or s.requires_grad:
        return x + share * (s - t) * slope
    return torch.add(x, slope, alpha=share * (float(s) - float(t)))


def checked_process(process: Any) -> None:
    """Refuse what cannot be solved.

    Raises:
        ValueError: If it has no drift, or is a class.
    """
    if isinstance(process, type) or not callable(getattr(process, "drift", None)):
        raise ValueError(
            f"process must have drift(x, t), got {described(process)}; ODE(velocity) and SDE(drift, diffusion) make "
            "one of functions, flow_of(field) of a field"
        )


def walk(process: Any, solver: Solver, x: Tensor, times: Tensor, noise: Source | None = None) -> Iterator[Tensor]:
    """The states of a process at `times`: the first is `x` itself, and none is changed later.

    Args:
        process: Has `drift(x, t)` and, if it has noise, `diffusion(x, t)`.
        solver: The method of a step.
        x: Points of shape `(batch, *shape)` at `times[0]`.
        times: A strictly monotone grid, up or down.
        noise: Where a stochastic step draws from, a `BrownianPath` to meet it whatever the steps; a fresh seed where
            left out.

    Raises:
        ValueError: If the grid is not strictly monotone, the solver is not one for this process, or an argument is of
            another type; on the way, if a drift or a diffusion has another shape than `Process` says.
    """
    x = numbers("x", x)
    checked_process(process)
    if isinstance(solver, type) or not callable(getattr(solver, "check", None)):
        raise ValueError(
            f"solver must be a solver, such as HEUN, RK4 or EulerMaruyama(), got {described(solver)}; a sampler has a "
            "walk of its own, sampler.walk(field, x, times)"
        )
    times = grid(times)
    solver.check(process, times)
    return advance(process, solver, x, times, noise)


def advance(process: Any, solver: Solver, x: Tensor, times: Tensor, noise: Source | None) -> Running:
    """What `walk` does once its grid and its process are checked: the loop itself.

    It goes on from a point that is sent to it in return for a state.
    """
    sent = yield x
    noise = noise or Noise(fresh_seed() if solver.is_stochastic else 0)
    draws = noise.along(times) if isinstance(noise, BrownianPath) else Draws(noise.of(noise.stream + WALK_STREAM))
    for draw, (t, s) in enumerate(pairwise(times.unbind())):
        x = solver.step(process, x if sent is None else sent, t, s, partial(draws, draw=draw))
        sent = yield x
