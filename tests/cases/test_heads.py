"""Two heads that disagree, as two trained networks do: an ODE follows the velocity head, an SDE both."""

import math

import pytest
import torch

import pathline as pl
from pathline.fields.field import Field
from pathline.likelihood.bound import information_grid
from pathline.noise import Noise
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY
from pathline.sampling.multistep import Multistep

COUNT = 2000
KS = math.sqrt(-math.log(1e-5 / 2) / 2) * math.sqrt(2 / COUNT)  # two samples of one law differ by more once in 1e5


def mixture():
    means = torch.tensor([[-1.5], [1.0]]).double()
    return pl.GaussianMixture(means, torch.tensor([[0.16], [0.36]]).double(), torch.tensor([0.4, 0.6]).double())


class Off(Field):
    """The exact heads of a mixture in one dimension, each with a constant error."""

    def __init__(self, *heads, off=None):
        super().__init__()
        self.path = pl.GaussianPath(pl.LinearSchedule())
        self.exact = pl.MixtureField(mixture(), self.path)
        self.prediction = heads if len(heads) > 1 else heads[0]
        self.off = off or {VELOCITY: 0.3}

    def forward(self, x, t):
        values = tuple(value + self.off.get(kind, 0.0) for kind, value in self.all(x, t).items())
        return values if len(values) > 1 else values[0]

    def all(self, x, t):
        found = self.exact.read(x, t, *self.heads)
        return dict(zip(self.heads, found if isinstance(found, tuple) else (found,), strict=True))


def start(count=COUNT, seed=1):
    return Noise(seed).normal((count, 1), dtype=torch.float64)


def by_hand(field, sigma, steps, x):
    """Euler and Maruyama's steps of velocity + sigma^2/2 score, the last one without noise."""
    h = 1 / steps
    for k in range(steps):
        u, s = field.read(x, k * h, VELOCITY, SCORE)
        x = x + h * (u + sigma**2 / 2 * s)
        if k < steps - 1:
            x = x + sigma * math.sqrt(h) * Noise(2).like(x, k)
    return x


def distance(a, b):
    """Of Kolmogorov and Smirnov."""
    a, b = a.flatten().sort().values, b.flatten().sort().values
    both = torch.cat((a, b))
    shares = [torch.searchsorted(each, both, right=True) / len(each) for each in (a, b)]
    return float((shares[0] - shares[1]).abs().max())


@pytest.fixture(scope="module")
def truth():
    return {sigma: by_hand(Off(VELOCITY, SCORE), sigma, 400, start()) for sigma in (1.0, 3.0)}


ORDERS = [(VELOCITY, SCORE), (SCORE, VELOCITY)]


@pytest.mark.parametrize("heads", ORDERS, ids=str)
@pytest.mark.parametrize("sigma", [1.0, 3.0])  # before, with the velocity first: 0.31 and 0.70
@pytest.mark.parametrize("sampler", [pl.SDESampler, pl.ExponentialSDE], ids=lambda s: s.__name__)
def test_an_sde_of_two_heads_is_that_of_both(heads, sigma, sampler, truth):
    x = pl.sample(Off(*heads), (COUNT, 1), sampler(sigma), steps=150, seed=3, start=start(seed=4))
    assert distance(x, truth[sigma]) < KS + 0.02  # the bias of 150 steps at sigma = 3


@pytest.mark.slow
@pytest.mark.parametrize("steps", [200, 800, 3200])  # before 0.31, 0.32, 0.35: more steps made it worse
def test_an_sde_of_two_heads_does_not_grow_worse_with_its_steps(steps, truth):
    x = pl.sample(Off(VELOCITY, SCORE), (COUNT, 1), pl.SDESampler(1.0), steps=steps, seed=3, start=start(seed=4))
    assert distance(x, truth[1.0]) < KS


RENEWING = [pl.DDIM(1.0), pl.DDIM(0.5), pl.ExponentialSDE(1.0), pl.ChurnSampler(), pl.PredictorCorrector(pl.DDIM(1.0))]


@pytest.mark.parametrize("sampler", [pl.SDESampler(1.0), *RENEWING], ids=str)  # before, apart by up to 3
def test_the_order_of_heads_does_not_matter_to_noisy_samplers(sampler):
    off = {VELOCITY: 0.3, SCORE: 0.5}
    a, b = (pl.sample(Off(*heads, off=off), (200, 1), sampler, steps=15, seed=3, start=start(200)) for heads in ORDERS)
    assert torch.allclose(a, b, rtol=0, atol=1e-9)


FLOWS = [
    pl.ODESampler(),
    pl.DDIM(),
    pl.default_sampler(),
    Multistep.dpm(),
    Multistep.deis(),
    Multistep.unipc(3),
    pl.ExponentialSDE(0.0),
    pl.AdaptiveSampler(),
]
WITH = [(VELOCITY, SCORE), (SCORE, VELOCITY), (NOISE, VELOCITY), (DATA, SCORE, VELOCITY), (DATA, NOISE, VELOCITY)]


@pytest.mark.parametrize("heads", WITH, ids=str)  # before, a wrong score first sent the default sampler up to 5 away
@pytest.mark.parametrize("sampler", FLOWS, ids=str)
def test_a_flow_follows_the_velocity_head_alone(heads, sampler):
    off = {VELOCITY: 0.3, SCORE: 0.5, NOISE: -0.4, DATA: 0.6}
    ends = [
        pl.sample(Off(*kinds, off=off), (100, 1), sampler, steps=12, seed=3, start=start(100))
        for kinds in (heads, (VELOCITY,))
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize("heads", WITH, ids=str)
def test_log_prob_and_invert_are_of_the_flow_of_the_velocity_head(heads):
    off = {VELOCITY: 0.3, SCORE: 0.5, NOISE: -0.4, DATA: 0.6}
    two, one = Off(*heads, off=off), Off(VELOCITY, off=off)
    x = start(50)
    assert torch.equal(pl.log_prob(two, x, steps=10), pl.log_prob(one, x, steps=10))
    assert torch.equal(pl.invert(two, x, pl.DDIM(), 10), pl.invert(one, x, pl.DDIM(), 10))


def of_head(kind, x, t, value):
    """Velocity and score that a head tells of on the linear path."""
    if kind == DATA:
        return (value - x) / (1 - t), -(x - t * value) / (1 - t) ** 2
    noise = value if kind == NOISE else -(1 - t) * value
    return (x - noise) / t, -noise / (1 - t)


@pytest.mark.parametrize(
    ("heads", "flow", "score"),
    [
        ((DATA, SCORE), DATA, SCORE),
        ((SCORE, DATA), DATA, SCORE),
        ((SCORE, NOISE), NOISE, SCORE),
        ((NOISE, DATA), DATA, NOISE),
        ((NOISE, VELOCITY), VELOCITY, NOISE),  # noise is the score in other units; before, by the order of the heads
        ((DATA, SCORE, VELOCITY), VELOCITY, SCORE),
        ((SCORE, DATA, NOISE), DATA, SCORE),
    ],
    ids=str,
)
def test_any_heads_make_the_drift_of_one_velocity_and_one_score(heads, flow, score):
    field = Off(*heads, off={VELOCITY: 0.3, SCORE: 0.5, NOISE: -0.4, DATA: 0.6})
    x, t, h = start(50), 0.6, 1e-6
    values = dict(zip(heads, field(x, torch.tensor(t).double()), strict=True))
    u = values[VELOCITY] if flow == VELOCITY else of_head(flow, x, t, values[flow])[0]
    drift = u + 0.5 * (values[SCORE] if score == SCORE else of_head(score, x, t, values[score])[1])
    assert torch.allclose(pl.diffusion_of(field, 1.0).drift(x, torch.tensor(t).double()), drift)
    for sampler in (pl.ExponentialSDE(1.0), pl.SDESampler(1.0)):
        times = torch.tensor([t - h, t, t + h], dtype=torch.float64)
        states = list(sampler.walk(field, x, times, NoNoise(0)))
        assert torch.allclose((states[2] - states[1]) / h, drift, atol=1e-3)


class NoNoise(Noise):
    """The mean of a step."""

    def _drawn(self, shape, draws, device, transform):
        return torch.zeros(len(draws), *shape)


@pytest.mark.parametrize(
    "sampler", [pl.SDESampler(1.0), pl.SDESampler(1.0, pl.StochasticHeun()), pl.ExponentialSDE(1.0)]
)
@pytest.mark.parametrize("heads", ORDERS, ids=str)
def test_the_last_step_is_the_mean_of_the_drift(heads, sampler):
    # before: data as the first head has it, off by 0.005 and more
    field, times = Off(*heads, off={VELOCITY: 0.3, SCORE: 0.5}), torch.linspace(0, 1, 201, dtype=torch.float64)
    *_, before, end = sampler.walk(field, start(300), times, Noise(5))
    u, s = field.read(before, times[-2], VELOCITY, SCORE)
    apart = (end - before - (u + s / 2) / 200).abs()
    assert (apart < 1e-9).double().mean() > 0.99  # the few of which a step tells no spread stay nearer to their data


def test_a_long_last_step_does_not_go_beyond_the_data():
    x = pl.sample(Off(VELOCITY, SCORE), (2000, 1), pl.ExponentialSDE(20.0), steps=50, seed=3, start=start(2000))
    assert (x.abs() > 3.5).double().mean() < 0.02 and x.std() < 1.5  # h sigma^2/2 is 4, the data's variance 1.8


@pytest.mark.parametrize("heads", ORDERS, ids=str)
def test_the_elbo_is_of_the_chain_of_both_heads(heads):
    """It is that of one guess, which makes the steps of DDIM(1) with both heads: their means are the same."""
    off, x = {VELOCITY: 0.3, SCORE: 0.5}, torch.linspace(-2, 2, 20).double()[:, None]
    two = Off(*heads, off=off)
    times = information_grid(two, 50)
    guessed = Guessed(two, times)
    value, one = (pl.elbo(field, x, steps=times, draws=200, seed=1)[0] for field in (two, guessed))
    assert torch.allclose(value, one, rtol=0, atol=1e-6)
    alone, _ = pl.elbo(Off(VELOCITY, off=off), x, steps=times, draws=200, seed=1)  # before, of the first head alone
    assert (value - alone).abs().max() > 0.02
    ends = [list(pl.DDIM(1.0).walk(field, x, times[1:], Noise(3)))[-1] for field in (two, guessed)]
    assert torch.allclose(*ends, rtol=0, atol=1e-6)


class Guessed(Field):
    """The data that the chain of two heads guesses at its times."""

    def __init__(self, field, times):
        super().__init__()
        self.field, self.times, self.path, self.prediction = field, times, field.path, DATA

    def forward(self, x, t):
        u, s = self.field.read(x, t, VELOCITY, SCORE)
        k = torch.searchsorted(self.times, t.double() - 1e-9)
        ratio = self.times / (1 - self.times)
        kept = torch.cat((ratio[:-1] / ratio[1:], torch.zeros(1).double()))[k]
        a, kept = (each[:, None] if each.ndim else each for each in (t, kept))
        return (x + (1 - a) * u + kept * (x + (1 - a) ** 2 * s) / a.clamp(min=1e-300)) / (1 + kept)
