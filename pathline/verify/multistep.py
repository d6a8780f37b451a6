"""Laws of multistep methods: their orders (9), and what they are special cases of (13)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from pathline.fields.exact import MixtureField
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE, VELOCITY
from pathline.paths.schedules import CosineSchedule, LinearSchedule, Schedule, VariancePreservingSchedule
from pathline.sampling.fit import table_of
from pathline.sampling.fitted import FittedSampler
from pathline.sampling.grids import UNIFORM, PowerGrid, share_of
from pathline.sampling.multistep import Multistep
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import DDIM, ODESampler
from pathline.solvers.runge_kutta import EULER
from pathline.verify.parts import field, mixture, points, schedules
from pathline.verify.table import Figure, law, once, worst_of

START, STOP = 0.05, 0.95


def methods() -> dict[str, Multistep]:
    """Every family in every order."""
    made = {
        "adams-bashforth": Multistep.adams_bashforth,
        "adams-moulton": Multistep.adams_moulton,
        "dpm": Multistep.dpm,
        "deis": Multistep.deis,
        "unipc": Multistep.unipc,
    }
    return {f"{name}:{order}": make(order) for name, make in made.items() for order in (1, 2, 3, 4)}


def _each_method() -> Iterable[tuple[str, tuple[Any, ...]]]:
    cycle = itertools.cycle((LinearSchedule(), CosineSchedule(), VariancePreservingSchedule()))
    return [(name, (method, schedule)) for (name, method), schedule in zip(methods().items(), cycle, strict=False)]


def _grid_with_a_start(steps: int, is_logarithmic: bool) -> Tensor:
    """Even steps h, and before them steps that double from h^4: a start whose own error is of fifth order at least."""
    h = (STOP - START) / steps
    doubling = math.ceil(math.log2(h**-3))
    first = h * 2.0 ** -torch.arange(doubling, 0, -1, dtype=torch.float64)
    sizes = torch.cat((first, torch.full((steps - 1,), h, dtype=torch.float64)))
    places = torch.cat((torch.zeros(1, dtype=torch.float64), sizes.cumsum(0)))
    first, last = torch.tensor([START, STOP], dtype=torch.float64)
    if is_logarithmic:  # even in log(alpha / beta) of the linear path
        return torch.lerp(first.logit(), last.logit(), places / places[-1]).sigmoid()
    return torch.lerp(first, last, places / places[-1])


@law(9, _each_method, seconds=0.5)
def multistep_method_has_its_order(method: Sampler, schedule: Schedule) -> Iterator[Figure]:
    """A method on the flow of a mixture has its order, and one more if it corrects, from a start as good.

    One that declares no order has at least the first.
    """
    exact, x = MixtureField(mixture(blur=0.6), GaussianPath(schedule)), points(8)  # smooth: orders show early
    declared = getattr(method, "order", getattr(getattr(method, "solver", None), "order", None))
    order = (declared or 1) + getattr(method, "is_corrected", False)

    def slope(t: float, state: np.ndarray[Any, Any]) -> Any:
        return exact.velocity(torch.from_numpy(state).reshape(x.shape), t).flatten().numpy()

    true = solve_ivp(slope, (START, STOP), x.flatten().numpy(), rtol=1e-13, atol=1e-14, method="DOP853").y[:, -1]
    errors = []
    for steps in {4: (480, 960), 5: (400, 800)}.get(order, (160, 320)):
        *_, end = method.walk(exact, x, _grid_with_a_start(steps, getattr(method, "is_logarithmic", False)))
        errors.append(float((end.flatten() - torch.from_numpy(true)).norm()))
    most = math.inf if declared is None else order + 0.1
    yield Figure("order", math.log2(errors[0] / errors[1]), most, order - 0.1)
    yield Figure("floor / finest error", 1e-12 / errors[1], 1)


@law(13, once, seconds=0.3)
def the_first_order_of_each_is_ddim() -> Iterator[Figure]:
    """Methods of order 1 are DDIM's deterministic step, from data and from noise; from velocity they are Euler's."""
    x = points(100)
    for name, schedule in schedules().items():
        exact = field(schedule)
        times = torch.linspace(0.02, 0.98, 9, dtype=torch.float64)
        *_, true = DDIM(0.0).walk(exact, x, times)
        worst = 0.0
        for kind in (DATA, NOISE):
            *_, end = Multistep(kind, 1).walk(exact, x, times)
            worst = worst_of(worst, float((end - true).abs().max() / true.abs().max()))
        yield Figure(f"error, {name}", worst, 1e-10)
    *_, euler = ODESampler(EULER).walk(field(), x, times)
    *_, end = Multistep(VELOCITY, 1).walk(field(), x, times)
    yield Figure("error, Euler", float((end - euler).abs().max()), 1e-10)


@law(13, lambda: [(name, (method,)) for name, method in methods().items() if method.order == 3])
def every_schedule_is_the_same_path(method: Multistep) -> Iterator[Figure]:
    """On the same shares of data, a method gives the same samples whatever the schedule between the same ends."""
    x = points(100)
    ends = []
    for schedule in (LinearSchedule(), CosineSchedule()):
        exact = field(schedule)
        *_, end = method.walk(exact, x, PowerGrid(1.5).times(exact, 8))
        ends.append(end)
    yield Figure("difference", float((ends[0] - ends[1]).abs().max()), 1e-10)
    *_, other = method.walk(exact, x, UNIFORM.times(exact, 8))
    yield Figure("difference of another grid, over 0.001", float((ends[0] - other).abs().max()) / 1e-3, math.inf, 1.0)


@law(13, lambda: [(name, (schedule,)) for name, schedule in schedules().items() if name != "function"])
def a_table_is_the_method_that_it_is_made_of(schedule: Schedule) -> Iterator[Figure]:
    """A multistep method of the velocity, written down as a fitted solver's table, ends where it ends itself."""
    method, exact, x = Multistep.adams_moulton(3), field(schedule, DATA), points(100)
    times = method.times(exact, 8)
    shares = share_of(schedule, times)
    rows = tuple(tuple(row.tolist()) for row in table_of(method, shares))
    *_, end = method.walk(exact, x, times)
    table = FittedSampler(tuple(shares.tolist()), rows)
    *_, found = table.walk(exact, x, table.times(exact, 8))
    yield Figure("difference", float((found - end).abs().max()), 1e-10)
