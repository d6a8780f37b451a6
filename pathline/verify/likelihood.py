"""Laws of log-density, 14, and of a divergence that is estimated, 15."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from pathline.data.distributions import GaussianMixture
from pathline.fields.exact import MixtureField
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.likelihood.divergence import Divergence, Exact, Hutchinson, HutchPlusPlus
from pathline.likelihood.log_prob import PROBE_STREAM, estimate_log_prob, log_prob, sample_with_log_prob
from pathline.networks.mlp import MLP
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE, VELOCITY, Prediction
from pathline.paths.schedules import LinearSchedule, Schedule
from pathline.solvers.adaptive import Dopri5, Tsit5
from pathline.solvers.runge_kutta import GAUSS
from pathline.verify.parts import each_head_and_schedule, field, mixture
from pathline.verify.table import Figure, law, once

POINTS = 100
FINE = Dopri5(rtol=1e-8, atol=1e-8)
REPEATS, DIMENSION, PROBES = 2500, 64, 4096


@contextmanager
def _unsaid() -> Iterator[None]:
    """Without the word on a start that is not quite noise: its size is what is measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*takes for noise")
        yield


@law(14, each_head_and_schedule, seconds=1.0)
def log_density_of_a_mixture(head: Any, schedule: Schedule) -> Iterator[Figure]:
    """The log-density under the exact field is the mixture's own, whatever is predicted and on every schedule.

    A start that is not quite standard normal is told, and costs no more than 0.03 nats.
    """
    exact = field(schedule, head)
    x = exact.mixture.sample(POINTS // 2, seed=81)
    with warnings.catch_warnings(record=True) as told, torch.no_grad():
        warnings.simplefilter("always")
        error = (log_prob(exact, x, solver=FINE) - exact.log_prob(x, 1.0)).abs().max()
    is_told = any("takes for noise" in str(warning.message) for warning in told)
    is_pure = schedule.ends[0][0] == 0
    yield Figure("worst error, nats", float(error), 1e-6 if is_pure else 0.03)
    yield Figure("said, or needless", is_told == is_pure, 0)


def _shapes() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [("vectors of 2", ((2,),)), ("images of 3 x 8 x 8", ((3, 8, 8),))]


def _mixture_of(shape: tuple[int, ...]) -> GaussianMixture:
    """Three modes in as many dimensions as points of a shape have numbers."""
    if shape == (2,):
        return mixture()
    means = Noise(82).normal((3, math.prod(shape)), dtype=torch.float64) / 2
    variances = (0.3 + Noise(82).uniform(means.shape, 1, torch.float64)) ** 2
    return GaussianMixture(means, variances, torch.tensor([0.5, 0.3, 0.2]))


@law(14, _shapes, seconds=4.0)
def log_density_of_any_shape(shape: tuple[int, ...]) -> Iterator[Figure]:
    """Worst error at tolerance 1e-8, mean error at 1e-5, and the error of fixed steps."""
    exact = MixtureField(_mixture_of(shape), GaussianPath(LinearSchedule()))
    x = exact.mixture.sample(POINTS if len(shape) == 1 else 4, seed=83)
    true, x = exact.mixture.log_prob(x), x.reshape(-1, *shape)
    with torch.no_grad():
        for solver in (Dopri5, Tsit5):
            name = solver.__name__
            fine, coarse = (log_prob(exact, x, solver=solver(rtol=tol, atol=tol)) - true for tol in (1e-8, 1e-5))
            yield Figure(f"{name}, worst error at 1e-8", float(fine.abs().max()), 1e-4)
            yield Figure(f"{name}, mean error at 1e-5", float(coarse.abs().mean()), 1e-3)
        yield Figure("100 steps, worst error", float((log_prob(exact, x) - true).abs().max()), 1e-4)


def _network(shape: tuple[int, ...], weight: float) -> NetworkField:
    """A field of an untrained network: no exact one, yet a density as good as any."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(84)
        network = MLP(math.prod(shape), 32, 2).double()
        torch.nn.init.normal_(network.last.weight, std=weight)
    return NetworkField(network, GaussianPath(LinearSchedule()))


@law(14, once, seconds=4.0)
def density_integrates_to_one() -> Iterator[Figure]:
    """The density of a mixture, and that of a network's flow, summed over a fine grid of the plane."""
    side = torch.linspace(-7, 7, 121, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    for name, model, steps in (("mixture", field(), 30), ("network", _network((2,), 0.3), 12)):
        with torch.no_grad():
            total = float(log_prob(model, x, steps=steps).exp().sum() * (side[1] - side[0]) ** 2)
        yield Figure(name, total, 1 + 1e-3, 1 - 1e-3)


@law(14, once, seconds=3.5)
def samples_come_with_their_density() -> Iterator[Figure]:
    """What one pass says of its samples is what the way back says of them, and what is true of them."""
    exact = field()
    x, found = sample_with_log_prob(exact, (POINTS, 2), solver=FINE, seed=85)
    yield Figure("error, nats", float((found - exact.mixture.log_prob(x)).abs().max()), 1e-6)
    for head in (DATA, NOISE):
        x, found = sample_with_log_prob(field(head=head), (POINTS, 2), solver=FINE, seed=85)
        error = (found - exact.mixture.log_prob(x)).abs().max()
        yield Figure(f"error, nats, {head.name} prediction", float(error), 1e-6)
    model = _network((2,), 0.3)
    x, found = sample_with_log_prob(model, (POINTS, 2), seed=86)
    with torch.no_grad():
        yield Figure("there and back, nats", float((found - log_prob(model, x)).abs().max()), 1e-5)


@law(14, once, seconds=2.0)
def gradients_of_log_density() -> Iterator[Figure]:
    """With respect to x the score, to the time of x what continuity says; to weights and times as of a difference."""
    exact, t = field(), torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    x = exact.mixture.sample(POINTS, seed=87).requires_grad_()
    (by_x,) = torch.autograd.grad(log_prob(exact, x).sum(), x)
    x = x.detach()
    yield Figure("score", float((by_x - exact.score(x, 1.0)).abs().max() / by_x.abs().max()), 1e-4)
    (by_stop,) = torch.autograd.grad(log_prob(exact, x, stop=t).sum(), t)
    (true,) = torch.autograd.grad(exact.log_prob(x, t).sum(), t)
    yield Figure("d log p / dt", float((by_stop - true).abs() / true.abs()), 1e-4)
    model, x = _network((2,), 0.3), x[:4]
    start = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    weights = {"weights": model.get_parameter("network.first.weight"), "start": start, "stop": t}
    for name, weight in weights.items():

        def value(move: Tensor, weight: Tensor = weight) -> Tensor:
            with torch.no_grad(), _unsaid():
                weight += move
                found = log_prob(model, x, steps=5, start=start, stop=t).sum()
                weight -= move
            return found

        direction = Noise(88).normal([1, *weight.shape], dtype=torch.float64)[0]
        with _unsaid():
            (slope,) = torch.autograd.grad(log_prob(model, x, steps=5, start=start, stop=t).sum(), weight)
        wanted = (value(1e-5 * direction) - value(-1e-5 * direction)) / 2e-5
        yield Figure(name, float(((slope * direction).sum() - wanted).abs() / wanted.abs()), 1e-6)


class _Linear(Field):
    """The flow of dx = A x dt, whose log-density is log N(e^-A x; 0, I) - tr A."""

    matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.path = GaussianPath(LinearSchedule())
        self.prediction: Prediction = VELOCITY
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """A x."""
        return x @ self.matrix.T

    def log_start(self, x: Tensor) -> Tensor:
        """The log-density where x comes from."""
        z: Tensor = x @ torch.linalg.matrix_exp(-self.matrix).T
        return -(z**2).sum(1) / 2 - x.shape[1] * math.log(2 * math.pi) / 2


def _matrix(decay: float) -> Tensor:
    """Of no symmetry, with singular values that fall as k^-decay; its trace is not small."""
    noise = Noise(91)
    left, right = (torch.linalg.qr(noise.normal((DIMENSION, DIMENSION), draw, torch.float64))[0] for draw in range(2))
    sizes: Tensor = torch.arange(1, DIMENSION + 1, dtype=torch.float64) ** -decay
    matrix: Tensor = left @ torch.diag(sizes) @ (left + 0.5 * right).T / sizes.sum().sqrt()
    return matrix


def _estimators() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [
        ("signs", (lambda count: Hutchinson(count),)),
        ("normal", (lambda count: Hutchinson(count, is_normal=True),)),
        ("hutch++", (lambda count: HutchPlusPlus(8, count),)),
    ]


@law(15, _estimators)
def estimate_is_unbiased(made: Any) -> Iterator[Figure]:
    """The mean of 4,096 probes is the trace, in standard errors: of one point, and of 512 points with 8 each."""
    matrix = _matrix(0.5)
    for count in (1, 512):
        x = torch.zeros(count, DIMENSION, dtype=torch.float64, requires_grad=True)
        estimator: Divergence = made(PROBES // count)
        found = estimator.of(x @ matrix.T, x, estimator.vectors(x, Noise(92)), is_kept=False)
        each = found.mean(0) if count > 1 else found[:, 0]  # what is independent
        z = (each.mean() - matrix.trace()) / (each.std() / math.sqrt(len(each)))
        yield Figure(f"z of {count}", float(z.abs()), 4.9)  # six figures


@law(15, _estimators, seconds=0.4)
def interval_covers(made: Any) -> Iterator[Figure]:
    """The 95 % interval of an estimated log-density holds the truth in 93 to 97 % of 2,500 repeats, d = 64."""
    model, probes = _Linear(_matrix(0.5)), 16
    x = torch.zeros(REPEATS, DIMENSION, dtype=torch.float64)
    with torch.no_grad():
        found, error = estimate_log_prob(model, x, solver=GAUSS, steps=2, divergence=made(probes), seed=93)
    wide = stats.t.ppf(0.975, probes - 1) * error
    covered = (found - (model.log_start(x) - model.matrix.trace())).abs() <= wide
    yield Figure("covered", float(covered.double().mean()), 0.97, 0.93)


@law(15, once)
def probes_are_fixed_within_a_solve() -> Iterator[Figure]:
    """For a linear flow the estimate is v . A v of the very probes, whatever the steps and whoever lays them."""
    model = _Linear(_matrix(0.5))
    x = Noise(94).normal((16, DIMENSION), dtype=torch.float64)
    estimator = Hutchinson(3)
    v = estimator.vectors(x, Noise(95, stream=PROBE_STREAM))
    true = model.log_start(x) - torch.einsum("kbi,ij,kbj->kb", v, model.matrix, v).mean(0)
    for name, solver in (("fixed steps", GAUSS), ("adaptive", Dopri5(rtol=1e-10, atol=1e-10))):
        with torch.no_grad():
            whole = log_prob(model, x, solver=solver, divergence=estimator, seed=95)
        yield Figure(name, float((whole - true).abs().max()), 1e-7)


@law(15, once)
def exact_is_the_trace() -> Iterator[Figure]:
    """In one piece or many, and for points of any shape."""
    matrix = _matrix(0.5)
    x = Noise(96).normal((5, 4, 4, 4), dtype=torch.float64).requires_grad_()
    for at_once, is_kept in product((None, 1, 7, 64), (False, True)):
        value = (x.flatten(1) @ matrix.T).sin().reshape(x.shape)
        found = Exact(at_once).of(value, x, x.new_empty(0), is_kept)[0]
        true = (matrix.diagonal() * (x.flatten(1) @ matrix.T).cos()).sum(1)
        yield Figure(f"{at_once or 'all'} at once", float((found - true).detach().abs().max()), 1e-12)
