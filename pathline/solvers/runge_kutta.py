"""Explicit Runge-Kutta methods for dx = u(x, t) dt, each a tableau of coefficients.

    k_i = u(x + h sum_j a_ij k_j, t + c_i h),   x_s = x + h sum_i b_i k_i,   h = s - t

Source: Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", section II.1; Ralston 1962,
https://doi.org/10.1090/S0025-5718-1962-0150954-0; Dormand & Prince 1980,
https://doi.org/10.1016/0771-050X(80)90013-3; Tsitouras 2011, https://doi.org/10.1016/j.camwa.2011.06.002
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pathline.solvers.solver import Draw, Solver, between, drift_at, moved, step_ends


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
        return self.stepped(lambda x, t, _: drift_at(process, x, t), x, *step_ends(t, s))

    def stepped(self, slope: Callable[[Tensor, Tensor, float], Tensor], x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The point at `s`, by a slope that is told the weight b_i of its stage beside the point and the time.

        What is integrated along a solution and changes nothing in it is needed only where that weight is not 0.
        """
        k: list[Tensor] = []
        for row, c, weight in zip(self.a, self.nodes, self.b, strict=True):
            k.append(slope(_combined(x, t, s, row, k), between(t, s, c), weight))
        return _combined(x, t, s, self.b, k)

    def __repr__(self) -> str:
        return self.name.upper().replace("-", "_")

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
RALSTON = RungeKutta("ralston", 2, a=((), (2 / 3,)), b=(1 / 4, 3 / 4), nodes=(0.0, 2 / 3))
RK4 = RungeKutta(
    "rk4",
    4,
    a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    nodes=(0.0, 1 / 2, 1 / 2, 1.0),
)
DORMAND_PRINCE = RungeKutta(
    "dormand-prince",
    5,
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    nodes=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
)
TSITOURAS = RungeKutta(
    "tsitouras",
    5,
    a=(
        (),
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
    ),
    b=(0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
    nodes=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0),
)

ROOT = math.sqrt(3)
# Of order 4 with all its weight on the two nodes of Gauss and Legendre, so that what is integrated along a solution is
# needed twice a step. As order 3 within a step is enough at those: sum_j a_ij c_j^k = c_i^(k+1) / (k+1), k = 0, 1, 2.
GAUSS = RungeKutta(
    "gauss",
    4,
    a=(
        (),
        ((3 - ROOT) / 18,),
        (0.0, (3 - ROOT) / 9),
        ((3 - ROOT) / 24, 0.0, (3 - ROOT) / 8),
        ((33 + 17 * ROOT) / 24, 0.0, -(39 + 23 * ROOT) / 8, (12 + 7 * ROOT) / 3),
    ),
    b=(0.0, 0.0, 0.0, 1 / 2, 1 / 2),
    nodes=(0.0, (3 - ROOT) / 18, (3 - ROOT) / 9, (3 - ROOT) / 6, (3 + ROOT) / 6),
)
