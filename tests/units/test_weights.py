"""Weights against the mean squares they undo, and the draws of a source."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

import pathline as pl
from pathline.noise import Noise

SCHEDULES = [
    pl.LinearSchedule(),
    pl.LinearSchedule(0.1),
    pl.CosineSchedule(),
    pl.PolynomialSchedule(3),
    pl.SquareRootSchedule(),
    pl.VariancePreservingSchedule(),
    pl.SubVariancePreservingSchedule(),
    pl.VarianceExplodingSchedule(),
    pl.FunctionSchedule(lambda t: t**2, lambda t: 1 - t),
]
HEADS = (pl.VELOCITY, pl.SCORE, pl.NOISE, pl.DATA, pl.V, pl.EDMPrediction(0.5))
LINEAR = pl.GaussianPath(pl.LinearSchedule())
N = 20_000


def mean_square(path, head, t):
    """Of the target, for ends that are independent and of unit variance: a mean of N squares of a normal."""
    noise, data = (Noise(seed).normal((N, 1), dtype=torch.float64) for seed in (1, 2))
    return float((path.point(noise, data, t, Noise(3)).target(head) ** 2).mean())


@pytest.mark.fast
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:30])
@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_a_balanced_weight_makes_every_target_of_unit_size(head, schedule):
    path, t = pl.GaussianPath(schedule), torch.tensor([0.05, 0.4, 0.95], dtype=torch.float64)
    weight = pl.BalancedWeight().at(t, path, head)
    for w, time in zip(weight.tolist(), t.tolist(), strict=True):
        assert abs(w * mean_square(path, head, time) - 1) < 5.2 * math.sqrt(2 / N)


@pytest.mark.fast
@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("head", [pl.VELOCITY, pl.SCORE, pl.DATA, pl.NOISE], ids=repr)
def test_on_a_bridge_too(head, sigma):
    if head == pl.SCORE and not sigma:
        return  # it has none
    path, t = pl.BridgePath(sigma), torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    weight = pl.BalancedWeight().at(t, path, head)
    for w, time in zip(weight.tolist(), t.tolist(), strict=True):
        assert abs(w * mean_square(path, head, time) - 1) < 5.2 * math.sqrt(2 / N)


@pytest.mark.fast
def test_balanced_weights_that_are_known():
    t = torch.tensor([0.0, 0.3, 1.0])

    def weight(path, head):
        return pl.BalancedWeight().at(t, path, head).tolist()

    assert weight(LINEAR, pl.SCORE) == pytest.approx([1, 0.49, 0])  # beta^2: DDPM's
    assert weight(LINEAR, pl.VELOCITY) == pytest.approx([0.5, 0.5, 0.5])
    assert weight(LINEAR, pl.V) == pytest.approx([1, 1 / 0.58, 1])
    assert weight(pl.BridgePath(), pl.VELOCITY) == pytest.approx([0.5, 0.5, 0.5])
    assert weight(pl.BridgePath(2.0), pl.SCORE) == pytest.approx([0, 4 * 0.21, 0])
    # an infinite target counts nothing
    assert weight(pl.BridgePath(1.0), pl.VELOCITY) == pytest.approx([0, 1 / (2 + 0.4**2 / (4 * 0.21)), 0])
    assert weight(pl.GaussianPath(pl.SquareRootSchedule()), pl.VELOCITY) == pytest.approx([0.8, 1 / (1 + 1 / 2.8), 0])


@pytest.mark.fast
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:30])
@pytest.mark.parametrize("kind", [pl.VELOCITY, pl.SCORE, pl.NOISE], ids=repr)
def test_an_error_of_data_weighs_as_what_it_moves(schedule, kind):
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    c = schedule.at(t)
    moved = {  # d kind / d data at a fixed point, by the chain rule: noise = (x - alpha data) / beta
        pl.VELOCITY: c.alpha_dot - c.beta_dot * c.alpha / c.beta,
        pl.SCORE: c.alpha / c.beta**2,
        pl.NOISE: -c.alpha / c.beta,
    }[kind]
    found = pl.ErrorAsWeight(kind, most=math.inf).at(t, pl.GaussianPath(schedule), pl.DATA)
    assert torch.allclose(found, moved**2, rtol=1e-10)


@pytest.mark.fast
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: repr(s)[:30])
def test_a_weight_stays_between_0_and_its_cap_at_both_ends(schedule):
    t = torch.tensor([0.0, 1e-7, 1 - 1e-7, 1.0])
    for head in HEADS:
        weight = pl.ErrorAsWeight("velocity", 100.0).at(t, pl.GaussianPath(schedule), head)
        assert ((weight >= 0) & (weight <= 100)).all() and weight.dtype == t.dtype


def test_a_data_head_learns_the_velocity_under_its_loss():
    normal = pl.GaussianMixture(torch.tensor([[-1.0], [1.5]]), torch.tensor([0.04, 0.25]), torch.tensor([0.4, 0.6]))
    exact, held_out = pl.MixtureField(normal, LINEAR), normal.sample(2000, seed=1)

    def errors(field):
        found = []
        with torch.no_grad():
            for t in (0.1, 0.3, 0.5, 0.7, 0.9):
                x = LINEAR.point(Noise(3).normal((2000, 1)), held_out, t).x
                found.append(float(((field.velocity(x, t) - exact.velocity(x, t)) ** 2).mean()))
        return max(found)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = pl.NetworkField(pl.MLP(1, 32, 2), LINEAR, pl.DATA)
    before = errors(field)
    loss, ema = pl.MatchingLoss(field, weight=pl.ErrorAsWeight("velocity", most=100.0)), pl.EMA(field, 0.98)
    steps = pl.train(loss, normal.sample(20_000, seed=0), steps=500, batch_size=512, learning_rate=5e-3, ema=ema)
    for _ in steps:
        pass
    with ema.applied():
        assert errors(field) < 0.1 < 10 < before


# ---- the draws of a source


class Nothing(pl.Field):
    def __init__(self, path):
        super().__init__()
        self.path, self.prediction = path, pl.VELOCITY
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        return self.level.expand_as(x)


def bridge_loss(sigma=0.7, size=10, seed=0, dtype=torch.float32):
    source = torch.arange(float(size))[:, None].to(dtype)
    return pl.MatchingLoss(Nothing(pl.BridgePath(sigma)), source=source, seed=seed)


@pytest.mark.fast
@pytest.mark.parametrize("sigma", [0.0, 0.7])
def test_what_is_drawn_for_sample_i_depends_on_seed_and_i_only(sigma):
    loss, data = bridge_loss(sigma), torch.zeros(40, 1)
    whole, part = loss.draw(data, 100), loss.draw(data[:10], 130)
    rows = torch.tensor([3, 4, 5, 30, 2])
    some = loss.draw(data[:5], 100 + rows)
    for name in ("x", "t", "noise", "z"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[30:])
        assert torch.equal(getattr(some, name), getattr(whole, name)[rows])
    other = bridge_loss(sigma, seed=1).draw(data, 100)
    assert not torch.equal(other.noise, whole.noise) and not torch.equal(other.t, whole.t)


@pytest.mark.fast
@pytest.mark.parametrize("size", [1, 10, 64])
def test_every_sample_of_a_source_is_drawn_as_often(size):
    begun = bridge_loss(size=size).draw(torch.zeros(N, 1), 0).noise[:, 0].long()
    counts = torch.bincount(begun, minlength=size)
    assert len(counts) == size
    if size > 1:
        assert stats.chisquare(counts.numpy()).pvalue > 1e-5


@pytest.mark.fast
def test_start_time_noise_and_data_know_nothing_of_each_other():
    point = bridge_loss().draw(Noise(5).normal((N, 1)), 0)
    columns = torch.stack((point.noise[:, 0], point.t, point.z[:, 0], point.data[:, 0]))
    off = torch.corrcoef(columns)[*torch.triu_indices(4, 4, 1)]
    assert float(off.abs().max()) * math.sqrt(N) < 5


@pytest.mark.fast
def test_a_source_takes_the_dtype_of_the_data_and_is_no_weight():
    loss = bridge_loss(dtype=torch.float64)
    assert loss.draw(torch.zeros(4, 1), 0).noise.dtype == torch.float32
    assert "source" not in loss.state_dict() and len(list(loss.parameters())) == 1


@pytest.mark.fast
def test_the_loss_on_a_bridge_is_the_mean_squared_distance_to_its_target():
    loss, data = bridge_loss(), torch.ones(50, 1)
    point = loss.draw(data, 7)
    assert float(loss(data, index=7).detach()) == pytest.approx(float((point.target(pl.VELOCITY) ** 2).mean()))
    held_out = pl.loss_by_time(bridge_loss(0.0), torch.full((N, 1), 3.0), bins=2)
    true = sum((3.0 - k) ** 2 for k in range(10)) / 10  # the field says 0, and starts are 0 to 9 as often
    spread = math.sqrt(sum(((3.0 - k) ** 2 - true) ** 2 for k in range(10)) / 10)
    assert ((held_out - true).abs() < 5 * spread / math.sqrt(N)).all()
