"""Noising and the reversal of time, against the SDEs of Song et al. 2021 and normals whose law is known."""

import math

import pytest
import torch

import pathline as pl
from pathline.noise import Noise

pytestmark = pytest.mark.fast

X = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=torch.float64)
S = (0.1, 0.5, 0.9)


def rates(slow=0.1, fast=20.0):
    """The rate of DDPM, and its integral from 0 to s: s = 0 is data here."""
    return lambda s: slow + (fast - slow) * s, lambda s: slow * s + (fast - slow) * s**2 / 2


@pytest.mark.parametrize("s", [0.0, *S, 1.0])
def test_variance_preserving_noising_is_ddpms_forward_process(s):
    process, (rate, _) = pl.Noising(pl.VariancePreservingSchedule(0.1, 20.0)), rates()
    time = torch.tensor(s, dtype=torch.float64)
    assert torch.allclose(process.drift(X, time), -rate(s) / 2 * X, rtol=1e-12)
    assert float(process.diffusion(X, time)) == pytest.approx(math.sqrt(rate(s)), rel=1e-12)


@pytest.mark.parametrize("s", [0.0, *S, 1.0])
def test_the_other_sdes_of_the_paper_too(s):
    time, (rate, total) = torch.tensor(s, dtype=torch.float64), rates()
    sub = pl.Noising(pl.SubVariancePreservingSchedule(0.1, 20.0))  # equation 29
    assert torch.allclose(sub.drift(X, time), -rate(s) / 2 * X, rtol=1e-12)
    squared = rate(s) * (1 - math.exp(-2 * total(s)))
    assert float(sub.diffusion(X, time)) ** 2 == pytest.approx(squared, rel=1e-10, abs=1e-14)
    low, high = 0.01, 50.0
    exploding = pl.Noising(pl.VarianceExplodingSchedule(low, high))  # equation 30
    assert torch.equal(exploding.drift(X, time), torch.zeros_like(X))
    sigma = low * (high / low) ** s * math.sqrt(2 * math.log(high / low))
    assert float(exploding.diffusion(X, time)) == pytest.approx(sigma, rel=1e-10)


@pytest.mark.parametrize("s", [0.0, *S])
def test_noising_along_the_straight_line_is_its_formula(s):
    process, time = pl.Noising(pl.LinearSchedule()), torch.tensor(s, dtype=torch.float64)
    assert torch.allclose(process.drift(X, time), -X / (1 - s), rtol=1e-12)
    assert float(process.diffusion(X, time)) == pytest.approx(math.sqrt(2 * s / (1 - s)), rel=1e-12)


def test_each_point_has_its_own_time():
    process, s = pl.Noising(pl.LinearSchedule()), torch.tensor([0.2, 0.6], dtype=torch.float64)  # as many as features
    for i in range(2):
        assert torch.allclose(process.drift(X, s)[i], process.drift(X[i : i + 1], s[i])[0])
        assert torch.allclose(process.diffusion(X, s)[i], process.diffusion(X[i : i + 1], s[i]))


@pytest.mark.parametrize("s", [0.0, *S])
@pytest.mark.parametrize(
    "schedule",
    [pl.LinearSchedule(), pl.LinearSchedule(0.2), pl.CosineSchedule(), pl.VarianceExplodingSchedule(0.1, 5)],
    ids=repr,
)
def test_what_was_a_point_of_the_path_at_data_is_one_later(schedule, s):
    # of data z with the noise beta_0 left: mean alpha z, variance beta^2, whatever was left
    z, process = X, pl.Noising(schedule)
    first, now = (schedule.at(torch.tensor(1 - time, dtype=torch.float64)) for time in (0.0, s))
    moments = process.moments(z, s)
    kept = now.alpha / first.alpha
    assert torch.allclose(moments.mean, kept * z) and moments.variance.shape == z.shape
    assert torch.allclose(kept**2 * first.beta**2 + moments.variance, now.beta.expand_as(z) ** 2, atol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "until"),
    [
        (pl.VariancePreservingSchedule(0.5, 4.0), 1.0),
        (pl.CosineSchedule(), 0.7),
        (pl.VarianceExplodingSchedule(0.3, 3.0), 1.0),
    ],
    ids=["vp", "cosine", "ve"],
)
def test_a_walk_of_it_has_its_moments(schedule, until):
    n = 20_000
    process = pl.Noising(schedule)
    *_, end = pl.walk(
        process,
        pl.StochasticHeun(),
        X[:1].expand(n, 2).clone(),
        torch.linspace(0, until, 81, dtype=torch.float64),
        Noise(1),
    )
    moments = process.moments(X[:1], until)
    z_mean = (end.mean(0) - moments.mean[0]) / (moments.variance[0] / n).sqrt()
    z_variance = (end.var(0) / moments.variance[0] - 1) / math.sqrt(2 / n)
    assert z_mean.abs().max() < 5.2 and z_variance.abs().max() < 5.2


# ---- the reversal of time

THETA, SIGMA, END = 0.7, 1.2, 1.5
START = (1.0, 0.3)  # mean and variance of the process at 0


def law(s):
    """Mean and variance of the Ornstein-Uhlenbeck process at s."""
    m, v = START
    k = math.exp(-THETA * s)
    return k * m, k**2 * v + SIGMA**2 * (1 - k**2) / (2 * THETA)


def reversal(end=END):
    def score(x, s):
        m, v = law(float(s))
        return -(x - m) / v

    return pl.TimeReversal(pl.OrnsteinUhlenbeck(THETA, SIGMA), score, end)


def walked(process, end, steps=200, n=20_000, seed=1):
    m, v = law(end)
    y = m + math.sqrt(v) * Noise(seed).normal((n, 1), dtype=torch.float64)
    return list(pl.walk(process, pl.StochasticHeun(), y, torch.linspace(0, end, steps + 1), Noise(seed + 1)))


@pytest.mark.parametrize("end", [END, 0.6])
def test_a_process_run_backwards_comes_back_to_where_it_began(end):
    states = walked(reversal(end), end)
    n = len(states[0])
    for k, s in ((100, end / 2), (200, 0.0)):
        m, v = law(s)
        assert abs(float(states[k].mean()) - m) < 5.2 * math.sqrt(v / n)
        assert abs(float(states[k].var()) / v - 1) < 5.2 * math.sqrt(2 / n)


def test_not_only_marginals_but_pairs_are_those_of_the_process():
    # cov(X_0, X_end) = e^(-theta end) v_0, which the flow with the same marginals does not have
    states = walked(reversal(), END)
    (_, v), (_, w) = START, law(END)
    true = math.exp(-THETA * END) * v / math.sqrt(v * w)
    found = float(torch.corrcoef(torch.stack((states[0][:, 0], states[-1][:, 0])))[0, 1])
    assert abs(math.atanh(found) - math.atanh(true)) * math.sqrt(len(states[0])) < 5


def test_the_reversal_of_a_reversal_is_the_process():
    ou = pl.OrnsteinUhlenbeck(THETA, SIGMA)
    once = reversal()
    twice = pl.TimeReversal(once, lambda y, r: once.score(y, END - r), END)
    for s in (0.2, 0.7, 1.4):
        time = torch.tensor(s, dtype=torch.float64)
        assert torch.allclose(twice.drift(X, time), ou.drift(X, time), atol=1e-12)
        assert twice.diffusion(X, time) == SIGMA


def test_brownian_motion_from_a_point_is_reversed_to_a_bridge():
    # dY = -(Y - x) / (end - r) dr + sigma dW: a Brownian bridge to where it began
    process = pl.TimeReversal(pl.BrownianMotion(0.8), lambda y, s: -(y - 2.0) / (0.8**2 * s), 1.0)
    for r in (0.0, 0.4, 0.9):
        time = torch.tensor(r, dtype=torch.float64)
        assert torch.allclose(process.drift(X, time), (2.0 - X) / (1 - r), rtol=1e-12)
        assert process.diffusion(X, time) == 0.8
