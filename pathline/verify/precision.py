"""Laws of precision: 29."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from pathline.data.distributions import GaussianMixture, Normal
from pathline.fields.discrete import DiscreteSchedule
from pathline.fields.exact import MixtureField
from pathline.fields.guidance import ClassifierFree
from pathline.fields.network import NetworkField
from pathline.likelihood.log_prob import log_prob
from pathline.networks.mlp import MLP
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.schedules import CosineSchedule, LinearSchedule
from pathline.processes.processes import ODE, BrownianMotion, LinearODE, OrnsteinUhlenbeck
from pathline.sampling.sample import sample
from pathline.sampling.samplers import ODESampler
from pathline.solvers.runge_kutta import RK4
from pathline.solvers.solver import walk
from pathline.verify.parts import field, points
from pathline.verify.table import Figure, law, once

EPS = torch.finfo(torch.float64).eps
MEANS, VARIANCES = [[0.1, 0.2], [1.3, -0.7]], [0.3, 0.7]


def _each_reading() -> Iterable[tuple[str, tuple[Any, ...]]]:
    """What is read of numbers that may be Python's or a float64 tensor."""
    x, path = points(5, seed=301), GaussianPath(LinearSchedule())
    free = MixtureField(Normal([0.5, 0.2], 1.3), path)

    def ends(times: Any) -> Tensor:
        return torch.cat([*walk(ODE(lambda x, t: t * x), RK4, x, times)])

    readings: dict[str, tuple[Callable[[Any], Tensor], Any]] = {
        "linear-flow": (lambda t: LinearODE(1.7).flow(x, t), 2.0),
        "brownian-moments": (lambda t: BrownianMotion(0.7).moments(x, t).variance, 0.3),
        "ou-moments": (lambda t: OrnsteinUhlenbeck(1.2).moments(x, t).mean, 0.3),
        "guidance-scale": (lambda w: ClassifierFree(field(), free, w).velocity(x, 0.3), 1.3),
        "log-density": (lambda t: log_prob(field(), x, stop=t, steps=5), 0.7),
        "walk": (ends, [0.1, 0.23, 0.7]),
        "sampler": (lambda t: torch.cat([*ODESampler().walk(field(), x, t)]), [0.0, 0.1, 0.7, 1.0]),
        "discrete-table": (lambda bars: DiscreteSchedule(bars).beta(points(1)[0].sigmoid()), [0.999, 0.7, 0.1]),
        "mixture": (lambda m: GaussianMixture(m, VARIANCES).log_prob(x), MEANS),
        "normal": (lambda v: Normal([0.1, 0.2], v).log_prob(x), 0.3),
        "path-point": (lambda t: GaussianPath(CosineSchedule()).point(x, x.flip(0), t).x, 0.3),
    }
    return [(name, (read, value)) for name, (read, value) in readings.items()]


@law(29, _each_reading)
def python_numbers_are_not_rounded(read: Callable[[Any], Tensor], value: Any) -> Iterator[Figure]:
    """A number given as Python's, alone or in a list, is as good as one in float64: points in float64 meet no other."""
    found, true = read(value), read(torch.tensor(value, dtype=torch.float64))
    yield Figure("results that are not in float64", int(found.dtype != torch.float64), 0)
    size = max(1.0, float(true.abs().max()))
    yield Figure("error / eps", float((found - true).abs().max()) / (size * EPS), 16)


@law(29, once)
def a_flow_is_exact_on_every_processor() -> Iterator[Figure]:
    """The linear flow is exp(-theta t) x, and OU's mean too, to float64, whatever the processor rounds otherwise."""
    x, worst = points(50, seed=302), 0.0
    for time in (0.1, 0.7, 2.0):
        for factor, found in (
            (math.exp(-1.7 * time), LinearODE(1.7).flow(x, time)),
            (math.exp(-1.2 * time), OrnsteinUhlenbeck(1.2).moments(x, time).mean),
        ):
            worst = max(worst, float((found / (factor * x) - 1).abs().max()))
    yield Figure("relative error / eps", worst / EPS, 16)


def _each_half() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [("bfloat16", (torch.bfloat16,)), ("float16", (torch.float16,))]


@law(29, _each_half)
def half_precision_rounds_weights_not_waves(half: torch.dtype) -> Iterator[Figure]:
    """A network cast to half precision is asked at the same angles, and its samples differ by its rounding only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MLP(2, 32, 2)
        torch.nn.init.normal_(network.last.weight, std=0.1)
    path, cast = GaussianPath(LinearSchedule()), copy.deepcopy(network).to(half)
    time = Noise(303).uniform((100, 1))
    waves = [one.condition.time.waves(time, torch.float32) for one in (network, cast)]
    yield Figure("error of a wave", float((waves[0] - waves[1]).abs().max()), 0)
    ends = [sample(NetworkField(one, path), (100, 2), steps=10, seed=0).float() for one in (network, cast)]
    apart = float((ends[0] - ends[1]).pow(2).mean().sqrt()) / torch.finfo(half).eps
    yield Figure("distance of samples / eps of the weights", apart, 4)


@law(29, once)
def autocast_rounds_no_exact_field() -> Iterator[Figure]:
    """Under an autocast to bfloat16 an exact field, its samples and its log-densities are the same to the bit."""
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.4]]] * 2)
    one = MixtureField(GaussianMixture(torch.tensor(MEANS), covariances), GaussianPath(LinearSchedule()))
    x = points(20, seed=304).float()

    def read() -> Tensor:
        parts = one.velocity(x, 0.9), sample(one, (20, 2), steps=5, seed=0), log_prob(one, x, steps=3)[:, None]
        return torch.cat(parts, 1)

    with torch.autocast("cpu", torch.bfloat16):
        found = read()
    yield Figure("largest difference", float((found - read()).abs().max()), 0)
