"""Explicit Runge-Kutta methods for dx = u(x, t) dt, each a tableau of coefficients.

    k_i = u(x + h sum_j a_ij k_j, t + c_i h),   x_s = x + h sum_i b_i k_i,   h = s - t

Source: Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", section II.1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pathline.solvers.solver import Draw, Solver, between, moved, step_ends


@dataclass(frozen=True)
class RungeKutta(Solver):
    """The method with the tableau (a, b, c): `a` strictly lower triangular, `nodes` being c."""

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    nodes: tuple[float, ...]
    is_stochastic = False

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The point at `s`. Draws no noise."""
        t, s = step_ends(t, s)
        k: list[Tensor] = []
        for row, c in zip(self.a, self.nodes, strict=True):
            k.append(process.drift(_combined(x, t, s, row, k), between(t, s, c)))
        return _combined(x, t, s, self.b, k)

    def __repr__(self) -> str:
        return self.name.upper()

    def check(self, process: Any, times: Tensor) -> None:
        """Refuse a process that has noise."""
        if hasattr(process, "diffusion"):
            raise ValueError(
                f"{type(process).__name__} has a diffusion, which a Runge-Kutta method would leave out; "
                "solve it with EulerMaruyama() or StochasticHeun()"
            )


def _combined(x: Tensor, t: Tensor, s: Tensor, weights: tuple[float, ...], k: list[Tensor]) -> Tensor:
    for weight, slope in zip(weights, k, strict=True):
        if weight:
            x = moved(x, t, s, slope, weight)
    return x


EULER = RungeKutta("euler", 1, a=((),), b=(1.0,), nodes=(0.0,))
MIDPOINT = RungeKutta("midpoint", 2, a=((), (1 / 2,)), b=(0.0, 1.0), nodes=(0.0, 1 / 2))
HEUN = RungeKutta("heun", 2, a=((), (1.0,)), b=(1 / 2, 1 / 2), nodes=(0.0, 1.0))
RK4 = RungeKutta(
    "rk4",
    4,
    a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    nodes=(0.0, 1 / 2, 1 / 2, 1.0),
)
