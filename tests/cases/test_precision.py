"""Precision: numbers given as Python numbers are not rounded to float32, and half precision rounds weights only.

A row a case: what is given in two ways that say the same, and must be read the same.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import pathline as pl
from pathline.fields.discrete import DiscreteSchedule
from pathline.networks.embedding import TimeEmbedding
from pathline.networks.mlp import MLP
from pathline.networks.unet import UNet
from pathline.noise import Noise
from pathline.processes.noising import Noising
from pathline.processes.processes import LinearODE
from pathline.sampling.churn import ChurnSampler
from pathline.sampling.dynamics import diffusion_of, flow_of
from pathline.sampling.exponential import ExponentialSDE
from pathline.sampling.multistep import Multistep

EPS = torch.finfo(torch.float64).eps
X = torch.tensor([[0.3, -1.2], [2.0, 0.7], [-0.4, 0.1]], dtype=torch.float64)
MEANS, VARIANCES, WEIGHTS = [[0.1, 0.2], [1.3, -0.7]], [0.3, 0.7], [0.4, 0.6]
TIMES = [0.0, 0.1, 0.23, 0.7, 1.0]
BARS = [0.999, 0.9, 0.7, 0.3, 0.01]


def wide(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def field(**given: Any) -> pl.MixtureField:
    return pl.MixtureField(pl.GaussianMixture(wide(MEANS), wide(VARIANCES), wide(WEIGHTS)), path(**given))


def path(schedule: Any = None) -> pl.GaussianPath:
    return pl.GaussianPath(schedule or pl.LinearSchedule())


def ends(states: Any) -> Tensor:
    return torch.stack([*states])


def guided(w: Any) -> Tensor:
    free = pl.MixtureField(pl.Normal(wide([0.5, 0.2]), wide(1.3)), path())
    return pl.ClassifierFree(field(), free, w).velocity(X, 0.3)


# What is read of a number, or a list of numbers, given as Python's or as a float64 tensor; and the numbers.
NUMBERS: dict[str, tuple[Callable[[Any], Tensor], Any]] = {
    "a guidance scale": (guided, 1.3),  # 9e-7 off
    "guidance scales in a list": (guided, [1.3, 0.1, 2.7]),
    "log_prob, stop": (lambda t: pl.log_prob(field(), X, stop=t, steps=10), 0.7),  # 2.3e-7 nats
    "log_prob, start": (lambda t: pl.log_prob(field(), X, start=t, steps=5), 5e-5),
    "estimate_log_prob, stop": (
        lambda t: pl.estimate_log_prob(field(), X, stop=t, steps=5, divergence=pl.Hutchinson(4), seed=0)[0],
        0.7,
    ),
    "a table of discrete steps": (lambda bars: DiscreteSchedule(bars).beta(wide([0.3, 0.999])), BARS),  # 8e-5
    "means": (lambda m: pl.GaussianMixture(m, wide(VARIANCES)).log_prob(X), MEANS),  # 1e-8 and more
    "variances": (lambda v: pl.GaussianMixture(wide(MEANS), v).log_prob(X), VARIANCES),
    "covariances": (lambda c: pl.GaussianMixture(wide(MEANS), c).log_prob(X), [[[0.3, 0.1], [0.1, 0.7]]] * 2),
    "weights": (lambda w: pl.GaussianMixture(wide(MEANS), wide(VARIANCES), w).log_prob(X), WEIGHTS),
    "all of a mixture": (lambda m: pl.GaussianMixture(m, [0.3, 0.7], [0.4, 0.6]).log_prob(X), MEANS),
    "a normal's mean": (lambda m: pl.Normal(m, wide(0.3)).log_prob(X), [0.1, 0.2]),
    "a normal's variance": (lambda v: pl.Normal(wide([0.1, 0.2]), v).log_prob(X), 0.3),
    "an exact field's parameters": (
        lambda m: pl.MixtureField(pl.GaussianMixture(m, VARIANCES, WEIGHTS), path()).score(X, 0.3),
        MEANS,
    ),
    "walk": (lambda t: ends(pl.walk(pl.ODE(lambda x, t: t * x), pl.RK4, X, t)), TIMES),
    "adaptive walk": (lambda t: ends(pl.Dopri5().walk(pl.ODE(lambda x, t: x.cos() * t[:, None]), X, t)), TIMES),
    "adaptive solve": (lambda t: pl.Dopri5().solve(pl.ODE(lambda x, t: x.cos()), X, t).x, [0.1, 0.7]),
    "ODESampler.walk": (lambda t: ends(pl.ODESampler().walk(field(), X, t)), TIMES),
    "SDESampler.walk": (lambda t: ends(pl.SDESampler(0.5).walk(field(), X, t, Noise(1))), TIMES),
    "DDIM.walk": (lambda t: ends(pl.DDIM(0.5).walk(field(), X, t, Noise(1))), TIMES),
    "default_sampler().walk": (lambda t: ends(pl.default_sampler().walk(field(), X, t)), TIMES),
    "elbo, its chain": (lambda t: pl.elbo(field(), X, steps=t, draws=64, seed=0)[0], [0.1, 0.4, 0.97]),  # TypeError
    "a field's velocity": (lambda t: field().velocity(X, t), 0.3),
    "a field's velocity, a time each": (lambda t: field().velocity(X, t), [0.3, 0.7, 0.1]),
    "an empirical field's data": (lambda t: pl.EmpiricalField(X, path(), 0.1).data(X, t), 0.3),
    "a point of a path": (lambda t: path(pl.CosineSchedule()).point(X, X.flip(0), t).x, 0.3),
    "a point of a bridge": (lambda t: pl.BridgePath(0.5).point(X, X.flip(0), t, lambda x: X).x, [0.3, 0.1, 0.7]),
    "a linear ODE's flow": (lambda t: LinearODE(1.7).flow(X, t), 2.0),  # 2.8e-8
    "a Brownian motion's moments": (lambda t: pl.BrownianMotion(0.7).moments(X, t).variance, [0.3, 0.1, 0.7]),
    "an OU process's moments": (lambda t: ends(vars(pl.OrnsteinUhlenbeck(1.2).moments(X, t)).values()), 0.3),
    "noising's moments": (lambda t: ends(vars(Noising(pl.CosineSchedule()).moments(X, t)).values()), 0.3),
    "a flow's drift": (lambda t: flow_of(field()).drift(X, t), 0.3),  # AttributeError
    "a diffusion": (lambda t: wide([float(s) for s in [diffusion_of(field(), lambda t: t).diffusion(X, t)]]), 0.3),
    "a function of time as a schedule": (
        lambda t: path(pl.FunctionSchedule(lambda t: t**2, lambda t: 1 - t**2)).point(X, X.flip(0), t).x,
        0.3,
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_python_numbers_are_not_rounded(name: str) -> None:
    read, value = NUMBERS[name]
    got, wanted = read(value), read(wide(value))
    assert got.dtype == torch.float64
    assert float((got - wanted).abs().max()) <= 16 * EPS * max(1.0, float(wanted.abs().max()))


def test_a_linear_flow_is_exact_in_the_precision_of_its_points() -> None:
    wanted = [x * math.exp(-1.7 * 2.0) for x in X.flatten().tolist()]
    for time in (2.0, wide(2.0), torch.tensor(2.0)):
        assert LinearODE(1.7).flow(X, time).flatten().tolist() == pytest.approx(wanted, rel=16 * EPS, abs=0)


@pytest.mark.parametrize(("means", "dtype"), [(MEANS, torch.float32), (wide(MEANS), torch.float64)])
def test_samples_have_the_dtype_of_the_means(means: Any, dtype: torch.dtype) -> None:
    mixture = pl.GaussianMixture(means, VARIANCES, WEIGHTS)
    assert mixture.sample(3, seed=0).dtype == dtype
    assert pl.sample(pl.MixtureField(mixture, path()), (3, 2), steps=4, seed=0).dtype == dtype


# ---- weights of half precision


def network(kind: str) -> tuple[torch.nn.Module, tuple[int, ...], Any]:
    """A network whose output depends on time by all of its waves, the shape of its points, and a condition."""
    torch.manual_seed(0)
    y: Any = None
    if kind == "unet":
        made, shape = UNet(1, 8, 2), (8, 1, 4, 4)
    elif kind == "numbers":
        made, shape, y = MLP(2, 32, 2, numbers=1), (8, 2), torch.tensor([1.7])
    else:
        made, shape = MLP(2, 32, 2), (32, 2)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made, shape, y


SAMPLERS: dict[str, Any] = {
    "default": pl.default_sampler(),
    "heun": pl.ODESampler(),
    "sde": pl.SDESampler(0.7),
    "ddpm": pl.DDIM(1.0),
    "adaptive": pl.AdaptiveSampler(pl.Dopri5(1e-2, 1e-2)),
    **{name: Multistep.__dict__[name].__func__(Multistep) for name in ("dpm", "deis", "unipc")},
    "exponential": ExponentialSDE(1.0),
    "churn": ChurnSampler(),
}


HALVES = [
    *((name, "mlp", torch.bfloat16) for name in SAMPLERS),
    *(("default", kind, half) for kind in ("mlp", "unet", "numbers") for half in (torch.bfloat16, torch.float16)),
]


@pytest.mark.parametrize(("name", "kind", "half"), HALVES[1:], ids=str)
def test_samples_of_half_precision_differ_by_rounding_only(name: str, kind: str, half: torch.dtype) -> None:
    # before: RuntimeError, mat1 and mat2 must have the same dtype; and with a cast alone, angles off by 0.8 rad
    made, shape, y = network(kind)
    fine = pl.NetworkField(made, path())
    rounded = pl.NetworkField(copy.deepcopy(made).to(half).float(), path())
    coarse = pl.NetworkField(copy.deepcopy(made).to(half), path())
    ends = [
        pl.sample(one if y is None else one.given(y), shape, SAMPLERS[name], steps=10, seed=0)
        for one in (fine, rounded, coarse)
    ]
    assert ends[2].dtype == half
    by_weights, found = (float((end.float() - ends[0]).norm()) for end in ends[1:])
    assert found <= 12 * by_weights


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_log_prob_of_half_precision_differs_by_rounding_only(half: torch.dtype) -> None:
    made, shape, _ = network("mlp")
    x = Noise(1).normal(shape)
    fine, coarse = (pl.NetworkField(one, path()) for one in (made, copy.deepcopy(made).to(half)))
    wanted = pl.log_prob(fine, x, steps=5).detach()
    for asked in (x, x.double(), x.to(half)):
        found = pl.log_prob(coarse, asked, steps=5).detach()
        assert found.dtype == asked.dtype
        assert float((found.float() - wanted).abs().max()) < (60 if asked.dtype == half else 6) * torch.finfo(half).eps


@pytest.mark.parametrize("cast", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_waves_are_not_rounded_by_a_cast(cast: torch.dtype) -> None:
    embedding = TimeEmbedding(8)
    known = embedding.frequencies.clone()
    embedding.to(cast)
    assert embedding.frequencies.dtype == torch.promote_types(cast, torch.float32)
    assert torch.equal(embedding.frequencies.float(), known)
    assert embedding(torch.rand(3)).dtype == cast
    assert torch.equal(embedding.float().frequencies, known)
    assert not [name for name in embedding.state_dict() if "mlp" not in name]
    empty = TimeEmbedding(8).to("meta").to_empty(device="cpu")
    assert torch.equal(empty.frequencies, known)  # before: whatever was in memory


def test_waves_are_the_same_on_every_processor() -> None:
    # of `linspace` and `exp` in float32 they differed between processors in 12 of 32 frequencies
    turns = TimeEmbedding(8).frequencies.double() / (2 * math.pi)
    assert float((turns * 4 / 256 ** (torch.arange(32).double() / 31) - 1).abs().max()) < 4e-7
    digest = hashlib.sha256(TimeEmbedding(8).frequencies.numpy().tobytes()).hexdigest()
    assert digest.startswith("52c5394a2eba")


# ---- under autocast


def at_autocast(read: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        found = read()
    return found, read()


FLAT = torch.linspace(-1, 1, 24).reshape(8, 3)
ROTATED = torch.tensor([[[0.5, 0.2, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.3]]] * 2)
FULL = pl.GaussianMixture(torch.tensor([[1.0, 0.3, -0.2], [-1.0, 0.1, 0.7]]), ROTATED)

EXACT: dict[str, pl.Field] = {
    "mixture": pl.MixtureField(FULL, path()),  # raised, or 1.6 % off
    "empirical": pl.EmpiricalField(Noise(3).normal((50, 3)), path(), 0.1),
    "empirical without width": pl.EmpiricalField(Noise(3).normal((50, 3)), path(pl.CosineSchedule())),
    "bridge": pl.MixtureBridgeField(FULL, FULL, pl.BridgePath(0.5)),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_fields_are_not_rounded_by_autocast(name: str) -> None:
    one = EXACT[name]
    for read in (one.velocity, one.data, one.score, getattr(one, "log_prob", one.noise)):
        found, wanted = at_autocast(lambda read=read: read(FLAT, 0.9))  # type: ignore[misc]
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["default", "heun", "sde", "dpm", "exponential", "adaptive"])
def test_samples_of_an_exact_field_are_not_rounded_by_autocast(name: str) -> None:
    found, wanted = at_autocast(lambda: pl.sample(EXACT["mixture"], (8, 3), SAMPLERS[name], steps=10, seed=0))
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("divergence", [pl.Exact(), pl.Hutchinson(4), pl.HutchPlusPlus(2, 2)], ids=repr)
def test_log_densities_of_an_exact_field_are_not_rounded_by_autocast(divergence: Any) -> None:
    found, wanted = at_autocast(lambda: pl.log_prob(EXACT["mixture"], FLAT, steps=5, divergence=divergence, seed=0))
    assert torch.equal(found, wanted)
    assert torch.equal(*at_autocast(lambda: FULL.log_prob(FLAT)))
    assert torch.equal(*at_autocast(lambda: FULL.sample(9, seed=1)))


def test_a_network_under_autocast_rounds_its_own_products_only() -> None:
    made, shape, _ = network("mlp")
    one = pl.NetworkField(made, path())
    assert one.velocity(Noise(1).normal(shape), 0.3).dtype == torch.float32
    found, wanted = at_autocast(lambda: pl.sample(one, shape, steps=10, seed=0))
    assert found.dtype == torch.float32
    assert float((found - wanted).abs().max()) < 0.05
