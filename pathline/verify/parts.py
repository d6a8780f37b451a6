"""The parts that laws are held to: everything in the catalogues, and exact fields."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from pathline.data.distributions import GaussianMixture
from pathline.fields.exact import MixtureField
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import SCORE, VELOCITY, Prediction
from pathline.paths.schedules import FunctionSchedule, LinearSchedule, PolynomialSchedule, Schedule
from pathline.specs import catalogue

T = TypeVar("T")

EXAMPLES: dict[type, Any] = {
    PolynomialSchedule: PolynomialSchedule(3),
    FunctionSchedule: FunctionSchedule(lambda t: t * (3 - t) / 2, lambda t: (1 - t) * (2 + t) / 2),
}


def examples(family: type[T]) -> dict[str, T]:
    """One of each member of a family, by name; a class that needs arguments has its example in EXAMPLES."""
    return {
        name: cast(T, (EXAMPLES[made] if made in EXAMPLES else made()) if inspect.isclass(made) else made)
        for name, made in catalogue(family).items()
    }


def schedules() -> dict[str, Schedule]:
    """Every schedule, and one that leaves noise on the data."""
    return {**examples(Schedule), "linear:0.1": LinearSchedule(0.1)}


def predictions() -> dict[str, Prediction]:
    """Every kind of prediction."""
    return examples(Prediction)


def each_schedule() -> Iterable[tuple[str, tuple[Any, ...]]]:
    """A case for every schedule."""
    return [(name, (schedule,)) for name, schedule in schedules().items()]


def heads() -> dict[str, Any]:
    """Every prediction as the head of a field, and velocity and score as two heads of one."""
    return {**predictions(), "velocity+score": (VELOCITY, SCORE)}


def each_head_and_schedule() -> Iterable[tuple[str, tuple[Any, ...]]]:
    """A case for every head on every schedule."""
    return [
        (f"{head_name} {name}", (head, schedule))
        for head_name, head in heads().items()
        for name, schedule in schedules().items()
    ]


def mixture(blur: float = 0.0) -> GaussianMixture:
    """Three modes apart in the plane, none symmetric to another, the narrowest of standard deviation 0.3.

    `blur` is the standard deviation of noise on top of it.
    """
    means = torch.tensor([[2.0, 0.5], [-1.5, 1.5], [0.0, -2.0]], dtype=torch.float64)
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    sd = torch.tensor([[0.3, 0.4], [0.4, 0.3], [0.5, 0.3]], dtype=torch.float64)
    return GaussianMixture(means, turn @ torch.diag_embed(sd**2 + blur**2) @ turn.T, torch.tensor([0.5, 0.3, 0.2]))


def field(schedule: Schedule | None = None, head: Any = VELOCITY) -> MixtureField:
    """The exact field towards that mixture."""
    return MixtureField(mixture(), GaussianPath(schedule or LinearSchedule()), head)


def points(count: int, dimension: int = 2, seed: int = 0) -> Tensor:
    """Normal points in float64."""
    return Noise(seed).normal((count, dimension), dtype=torch.float64)


def spread_times(count: int, low: float = 0.02, high: float = 0.98, seed: int = 1) -> Tensor:
    """Times inside the path in float64."""
    return low + (high - low) * Noise(seed).uniform((count, 1), dtype=torch.float64)[:, 0]
