"""Laws of the exact field of a data set, and of the loss floor: 6, 7 and 8."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pathline.data.distributions import GaussianMixture
from pathline.fields.empirical import EmpiricalField
from pathline.fields.exact import MixtureField
from pathline.fields.network import NetworkField
from pathline.networks.mlp import MLP
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY, Prediction, V
from pathline.paths.schedules import LinearSchedule, Schedule
from pathline.training.loss import MatchingLoss
from pathline.training.times import UniformTimes
from pathline.verify.floors import loss_floor
from pathline.verify.parts import each_schedule, field, mixture, points, spread_times
from pathline.verify.residuals import continuity_residual
from pathline.verify.table import Figure, law, once, worst_of


def near_ties(count: int = 300, dimension: int = 3) -> Tensor:
    """Points far from 0, four of each kind within 0.003 or so of each other."""
    centre = points(count // 4, dimension, seed=81) + 2
    each = torch.cat([centre] * 4)
    return each + 0.003 / math.sqrt(dimension) * points(len(each), dimension, seed=82)


@law(6, each_schedule)
def a_data_set_is_a_mixture(schedule: Schedule) -> Iterator[Figure]:
    """The field of a data set is that of a mixture with a narrow normal at each point, in float32 as in float64."""
    data, h = near_ties(), 0.05
    known = GaussianMixture(data, torch.full((len(data),), h**2, dtype=torch.float64))
    truth = MixtureField(known, GaussianPath(schedule))
    kinds = (VELOCITY, SCORE, DATA, NOISE, V)
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        exact = EmpiricalField(data.to(dtype), GaussianPath(schedule), h)
        error = 0.0
        for t in (0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0):
            c = schedule.at(torch.tensor(t, dtype=torch.float64))
            x = (c.alpha * data[:50] + c.beta * points(50, 3, seed=83)).to(dtype)
            true = truth.read(x.double(), t, *kinds)
            for kind, value, there in zip(kinds, exact.read(x, t, *kinds), true, strict=True):
                if bool(there.isfinite().all()) and not (kind == SCORE and c.beta < h):
                    # beside narrow data a score is the small difference of points that float32 has rounded
                    error = worst_of(error, float((value - there).norm() / there.norm().clamp(min=1e-3)))
        yield Figure(f"error in {dtype}".replace("torch.", ""), error, bound)
    x, times = near_ties()[:40] + 0.1 * points(40, 3, seed=84), spread_times(40)
    exact = EmpiricalField(data, GaussianPath(schedule), h)
    yield Figure("error of log p", float((exact.log_prob(x, times) - truth.log_prob(x, times)).abs().max()), 1e-9)
    free = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(exact.log_prob(free, times).sum(), free)
    yield Figure("error of the score", float((slope - exact.score(x, times)).norm() / slope.norm()), 1e-10)


@law(6, once)
def a_data_set_has_its_near_ties() -> Iterator[Figure]:
    """Without a bandwidth too, and up to data, the velocity in float32 is that of float64, computed plainly."""
    data = near_ties(2000, 200).float()
    exact, error = EmpiricalField(data, GaussianPath(LinearSchedule())), 0.0
    for t in (0.3, 0.6, 0.9, 0.99, 0.999, 0.9999, 1 - 1e-6):
        x = (t * (data[:64] + data[500:564]) / 2 + (1 - t) * points(64, 200, seed=85)).float()
        far = torch.cdist(x.double(), t * data.double(), compute_mode="donot_use_mm_for_euclid_dist") ** 2
        mean = torch.softmax(-far / (2 * (1 - t) ** 2), 1) @ data.double()
        true = (mean - x) / (1 - t)
        error = worst_of(error, float(((exact.velocity(x, t) - true).norm(dim=1) / true.norm(dim=1)).max()))
    yield Figure("error of the velocity", error, 1e-4)


@law(7, each_schedule)
def the_density_of_a_data_set_follows_its_equation(schedule: Schedule) -> Iterator[Figure]:
    """Continuity in log form, on the marginal of a data set."""
    exact = EmpiricalField(near_ties(60, 2), GaussianPath(schedule), 0.2)
    x, t = 2 + points(30, seed=86).repeat(3, 1), torch.tensor((0.1, 0.5, 0.9)).double().repeat_interleave(30)
    found = continuity_residual(exact, x, t, exact.log_prob)
    yield Figure("residual / the sum of the terms' sizes", float(found.relative.max()), 1e-10)


def _heads() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [(head.name, (head,)) for head in (VELOCITY, SCORE, NOISE, DATA, V)]


@law(8, _heads, seconds=4.0)
def both_losses_have_one_gradient(head: Prediction) -> Iterator[Figure]:
    """The conditional and the marginal loss have the same gradient, and differ by the floor."""
    torch.manual_seed(0)
    network, count = MLP(2, width=16, depth=1).double(), 150_000
    nn.init.normal_(network.last.weight, std=0.3)
    exact, model = field(head=head), NetworkField(network, GaussianPath(LinearSchedule()), head)
    start, stop = 0.05, 0.8
    loss = MatchingLoss(model, times=UniformTimes(start, stop), seed=3)
    point = loss.draw(mixture().sample(count, seed=87), 0)
    left = point.target(head) - exact.read(point.x, point.t, head)
    names, weights = zip(*network.named_parameters(), strict=True)
    largest = 0.0
    for seed in range(6):
        along = [Noise(seed, stream=90).like(weight[None].detach())[0] for weight in weights]

        def made(*weights: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(
                network, dict(zip(names, weights, strict=True)), (point.x, point.t)
            )
            return found

        value, change, *_ = torch.func.jvp(made, tuple(weights), tuple(along))
        # the difference of the two gradients along a direction, one number for each sample: its mean is 0
        each = (2 * left * change).sum(1).detach()
        largest = worst_of(largest, float(each.mean() / (each.std() / count**0.5)).__abs__())
    yield Figure("largest z of 6 directions", largest, 5.15)
    with torch.no_grad():
        conditional = ((value - point.target(head)) ** 2).mean(1)
        marginal = ((value - point.target(head) + left) ** 2).mean(1)
    nodes, gauss = _gauss(start, stop)
    floor = float(gauss @ loss_floor(exact, nodes, head).value)
    yield Figure("floor, measured over computed", float((conditional - marginal).mean()) / floor, 1.01, 0.99)


def _gauss(start: float, stop: float) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the mean over an interval."""
    import numpy as np

    nodes, weights = (torch.from_numpy(row) for row in np.polynomial.legendre.leggauss(12))
    return start + (stop - start) * (nodes + 1) / 2, weights / 2


@law(
    8,
    lambda: [(f"{head.name} {t}", (head, t)) for head, t in itertools.product((VELOCITY, DATA), (0.3, 0.7))],
    seconds=0.8,
)
def a_floor_is_what_draws_find(head: Prediction, t: float) -> Iterator[Figure]:
    """The floor of a mixture as an integral is the mean over draws; so is that of a data set, seen as a mixture."""
    time = torch.tensor([t])
    integral = loss_floor(field(), time, head).value
    drawn = loss_floor(field(), time, head, draws=400_000)
    yield Figure("drawn over computed", float(drawn.value / integral), 1.01, 0.99)
    yield Figure("z", float((drawn.value - integral).abs() / drawn.standard_error), 5.2)
    data, path = mixture().sample(8, seed=88), GaussianPath(LinearSchedule())
    known = MixtureField(GaussianMixture(data, torch.full((8,), 1e-12, dtype=torch.float64)), path)
    truth = loss_floor(known, time, head).value
    found = loss_floor(EmpiricalField(data, path), time, head)
    yield Figure("z of a data set", float((found.value - truth).abs() / found.standard_error), 5.2)
