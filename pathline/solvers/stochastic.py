"""Solvers for Ito's dX = u(X, t) dt + sigma(X, t) dW, with diagonal noise.

    Euler-Maruyama     X_s = X + h u(X, t) + sigma(X, t) sqrt(h) eps
    stochastic Heun    X_s = X + h/2 (u(X, t) + u(X~, s)) + (sigma(X, t) + sigma(X, s))/2 sqrt(h) eps

where X~ is the first of the two. Heun averages sigma over time alone: averaging it over X as well would
converge to Stratonovich's integral, another process whenever sigma depends on X.

Source: Kloeden & Platen 1992, "Numerical Solution of Stochastic Differential Equations", sections 10.2 and 15.1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pathline.solvers.solver import Draw, Solver, diffusion_at, drift_at, moved, step_ends


class _Stochastic(Solver):
    is_stochastic = True

    def check(self, process: Any, times: Tensor) -> None:
        """Refuse to run an SDE against its direction: its time reversal has another drift."""
        is_backward = getattr(process, "is_backward", False)
        if hasattr(process, "diffusion") and bool(times[-1] < times[0]) != is_backward:
            raise ValueError(
                f"times must {'decrease' if is_backward else 'increase'} for this SDE, got {times[0]:g} to "
                f"{times[-1]:g}: the other way it has another drift; SDESampler knows it for a field, and ODE solvers "
                "run either way"
            )


@dataclass(frozen=True)
class EulerMaruyama(_Stochastic):
    """One drift and one normal number a step: strong order 1/2, or 1 where sigma does not depend on X."""

    nodes = (0.0,)

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The point at `s`; without a diffusion, or where it is the number 0, it is Euler's to the bit."""
        t, s = step_ends(t, s)
        return _kicked(moved(x, t, s, drift_at(process, x, t)), _kick(process, x, t, t, s, noise))


@dataclass(frozen=True)
class StochasticHeun(_Stochastic):
    """Two drifts and one normal number a step: Ito's solution, of weak order 2 where sigma is a constant."""

    nodes = (0.0, 1.0)

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Draw) -> Tensor:
        """The point at `s`."""
        t, s = step_ends(t, s)
        kick = _kick(process, x, t, s, s, noise)
        first = drift_at(process, x, t)
        second = drift_at(process, _kicked(moved(x, t, s, first), kick), s)
        return _kicked(moved(x, t, s, first + second, 0.5), kick)


def _kick(process: Any, x: Tensor, t: Tensor, other: Tensor, s: Tensor, noise: Draw) -> Tensor | None:
    """The random part of a step, sigma sqrt(|h|) eps, with sigma the mean of its values at two times; None if 0."""
    if not hasattr(process, "diffusion"):
        return None
    sigma = diffusion_at(process, x, t)
    if other is not t:
        sigma = (sigma + diffusion_at(process, x, other)) / 2
    if not isinstance(sigma, Tensor) and not sigma:
        return None
    return sigma * (s - t).abs().sqrt() * noise(x)


def _kicked(x: Tensor, kick: Tensor | None) -> Tensor:
    return x if kick is None else x + kick
