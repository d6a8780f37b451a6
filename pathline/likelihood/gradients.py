"""Gradients of a flow and its log|det|: through all steps, through one step at a time, or by an equation of their own.

    dx = u dt,   dl = div u dt,   from t to s,   and a, b the gradients of the loss with respect to x and l at s

    da = -(a . du/dx + b ddiv u/dx) dt,   dloss/dtheta = integral of (a . du/dtheta + b ddiv u/dtheta) dt,   b constant

Backpropagation goes through what was computed. So does recomputation, which takes each step again from its begin. The
adjoint solves its equation back in time, and x with it: its gradient has the error of the solver, once more.

Source: Chen et al. 2018, https://arxiv.org/abs/1806.07366, section 2 and appendix C; Chen et al. 2016,
https://arxiv.org/abs/1604.06174 (recomputation)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pathline.fields.field import Field
from pathline.sampling.dynamics import FieldFlow
from pathline.solvers.adaptive import AdaptiveSolver
from pathline.solvers.runge_kutta import RungeKutta
from pathline.solvers.solver import between, step_ends
from pathline.tensors import meet


class System(Protocol):
    """A field's flow with the integral of its divergence."""

    @property
    def field(self) -> Field:
        """Whose flow."""

    def still(self) -> AbstractContextManager[None]:
        """The field as a function of x and t alone."""

    def kept(self, is_kept: bool) -> System:
        """The same where gradients are wanted, or are not."""

    def walk(self, x: Tensor, times: Tensor, solver: RungeKutta | AdaptiveSolver) -> Iterator[tuple[Tensor, Tensor]]:
        """The points and the integral after each step."""

    def flow(self, x: Tensor, times: Tensor, solver: RungeKutta) -> FieldFlow:
        """The flow alone, read at all times that steps of the solver will need."""

    def read(self, function: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """A function at `x`, and its divergence."""


class Gradient(ABC):
    """A way to find the gradient of a solve with respect to its points and the field's parameters.

    Attributes:
        is_stepwise: Whether it is for solvers of fixed steps alone.
    """

    is_stepwise = False

    def check(self, solver: RungeKutta | AdaptiveSolver) -> None:
        """Refuse a solver that it is not for.

        Raises:
            ValueError: If it is adaptive, where steps must be fixed.
        """
        if self.is_stepwise and isinstance(solver, AdaptiveSolver):
            raise ValueError(f"solver must be one of fixed steps with {self}, got {solver}; use Backpropagation()")

    @abstractmethod
    def solved(
        self, system: System, x: Tensor, times: Tensor, solver: RungeKutta | AdaptiveSolver
    ) -> tuple[Tensor, Tensor]:
        """The points at the last of the times, and the integral of the divergence."""


@dataclass(frozen=True)
class Backpropagation(Gradient):
    """Through every step of the solver: the fastest, with memory for all that each of them computed."""

    def solved(
        self, system: System, x: Tensor, times: Tensor, solver: RungeKutta | AdaptiveSolver
    ) -> tuple[Tensor, Tensor]:
        """The points at the last of the times, and the integral of the divergence."""
        for found in system.walk(x, times, solver):  # noqa: B007 - the others are let go
            pass
        return found


class _Stepwise(Gradient):
    """A way that solves without a graph, keeps some states, and goes back from those.

    Its gradient is with respect to the points and the parameters alone, and has no gradient itself.

    Attributes:
        keeps: How many states, the last ones; all if None.
    """

    is_stepwise = True
    keeps: int | None

    def solved(
        self, system: System, x: Tensor, times: Tensor, solver: RungeKutta | AdaptiveSolver
    ) -> tuple[Tensor, Tensor]:
        """The points at the last of the times, and the integral of the divergence.

        Raises:
            ValueError: If the solver lays steps of its own, or a gradient with respect to time is wanted.
        """
        self.check(solver)
        if times.requires_grad:
            raise ValueError(f"times must not require a gradient with {self}; Backpropagation() has one")
        found: tuple[Tensor, Tensor] = _Solve.apply(self, system, times, solver, x, *_trained(system))  # type: ignore[no-untyped-call]
        return found

    @abstractmethod
    def back(
        self, system: System, states: Sequence[Tensor], times: Tensor, solver: RungeKutta, a: Tensor, b: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The gradients with respect to the first points and to each parameter, from those at the end."""


@dataclass(frozen=True)
class Recomputation(_Stepwise):
    """Through one step at a time, taken again from its begin: the same gradient, with memory for one step.

    Beside it one state a step is kept: the numbers of a batch, not what a network made of them.
    """

    keeps = None

    def back(
        self, system: System, states: Sequence[Tensor], times: Tensor, solver: RungeKutta, a: Tensor, b: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The gradients with respect to the first points and to each parameter, from those at the end."""
        parameters = _trained(system)
        total = [torch.zeros_like(p) for p in parameters]
        for k in reversed(range(len(times) - 1)):
            x = states[k].detach().requires_grad_()
            with torch.enable_grad():
                (end,) = system.walk(x, times[k : k + 2], solver)
            a, *found = _pulled(end, (a, b), [x, *parameters])
            for gradient, part in zip(total, found, strict=True):
                gradient += part
        return a, total


@dataclass(frozen=True)
class Adjoint(_Stepwise):
    """By the adjoint equation, along the same grid backwards: memory for one stage of a step, and nothing is kept.

    Its error is of the solver's order, and far less with one whose nodes lie alike both ways, as those of RK4 do: it
    then meets the field at the times at which the solve met it. Where the field is singular, or the way back is
    stiff, it does not come out where it began; take `Recomputation()` there.
    """

    keeps = 1

    def back(
        self, system: System, states: Sequence[Tensor], times: Tensor, solver: RungeKutta, a: Tensor, b: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The gradients with respect to the first points and to each parameter, from those at the end."""
        parameters, times = _trained(system), times.flip(0)
        total = [torch.zeros_like(p) for p in parameters]
        flow = system.flow(states[-1], times, solver)
        state = torch.stack((states[-1], a))
        for t, s in pairwise(times.unbind()):  # each as a step from 0 to 1, so that samples may have their own

            def slope(state: Tensor, c: Tensor, weight: float, t: Tensor = t, s: Tensor = s) -> Tensor:
                x, a = state[0].detach().requires_grad_(), state[1]
                span = (s - t).to(x.device, x.dtype)
                each = meet(span, x)
                rates = system.read(lambda x: flow.drift(x, between(t, s, float(c))), x)
                pull, *found = _pulled(rates, (each * a, span * b), [x, *parameters] if weight else [x])
                for gradient, part in zip(total, found, strict=bool(weight)):  # an integral, as the divergence's
                    gradient.sub_(part, alpha=weight)
                return torch.stack((each * rates[0].detach(), -pull))

            state = solver.stepped(slope, state, *step_ends(0.0, 1.0))
        return state[1], total


class _Solve(torch.autograd.Function):
    """A solve in one piece, whose gradient is found in a way of its own."""

    @staticmethod
    def forward(
        ctx: Any, way: _Stepwise, system: System, times: Tensor, solver: RungeKutta, x: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        device = x.device.type  # without a cache: a weight rounded here, where there is no graph, has none later
        ctx.precision = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), False
        kept = deque([x], way.keeps)
        with torch.autocast(*ctx.precision):
            for end, change in system.kept(False).walk(x, times, solver):  # noqa: B007 - the last is what is found
                kept.append(end)
        ctx.save_for_backward(*kept)
        ctx.solve = way, system, times, solver
        return end, change

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
        way, system, times, solver = ctx.solve
        with system.still(), torch.autocast(*ctx.precision):
            a, found = way.back(system, ctx.saved_tensors, times, solver, a, b)
        return None, None, None, None, a, *found


def _trained(system: System) -> list[Tensor]:
    """The parameters that a gradient is wanted of."""
    return [p for p in system.field.parameters() if p.requires_grad]


def _pulled(values: Sequence[Tensor], cotangents: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The cotangents times the derivatives of the values: 0 where a value does not depend on an input."""
    own = [(value, cotangent) for value, cotangent in zip(values, cotangents, strict=True) if value.requires_grad]
    if not own:
        return tuple(torch.zeros_like(x) for x in inputs)
    given, pulls = zip(*own, strict=True)
    return torch.autograd.grad(given, inputs, pulls, materialize_grads=True)
