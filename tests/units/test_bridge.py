"""Bridges between two sets of samples: where their points lie, what is refused, and that a network learns one."""

import math

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.noise import Noise

SIGMAS = (0.0, 0.8)
HEADS = {0.0: pl.VELOCITY, 0.8: (pl.VELOCITY, pl.SCORE)}


def ends(count=5, shape=(2,)):
    return Noise(1).normal((count, *shape), dtype=torch.float64), 3 + Noise(2).normal((count, *shape)).double()


class Told(pl.Field):
    """Says what it is told to, on a bridge."""

    def __init__(self, path, prediction, *values):
        super().__init__()
        self.path, self.prediction, self.told = path, prediction, values

    def forward(self, x, t):
        return self.told if isinstance(self.prediction, tuple) else self.told[0]


# ---- points


@pytest.mark.fast
@pytest.mark.parametrize("t", [0.1, 0.5, 0.8])
def test_points_are_spread_around_the_straight_line_as_a_brownian_bridge_is(t):
    n, sigma, a, b = 40_000, 0.8, -1.0, 2.0
    point = pl.BridgePath(sigma).point(torch.full((n, 1), a), torch.full((n, 1), b), t, Noise(3))
    variance = sigma**2 * t * (1 - t)
    assert abs(float(point.x.mean()) - ((1 - t) * a + t * b)) < 5 * math.sqrt(variance / n)
    assert abs(float(point.x.double().var()) / variance - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.fast
def test_the_same_draw_is_the_same_bridge_and_another_knows_nothing_of_it():
    noise, data = ends(20_000, (1,))
    path = pl.BridgePath(1.0)
    same, again, other = (path.point(noise, data, 0.4, Noise(seed)).z for seed in (1, 1, 2))
    assert torch.equal(same, again)
    correlation = float(torch.corrcoef(torch.stack((same[:, 0], other[:, 0])))[0, 1])
    assert abs(correlation) * math.sqrt(20_000) < 5


@pytest.mark.fast
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("shape", [(2,), (5,), (1, 3, 5)], ids=str)
def test_a_point_follows_its_formula_at_its_own_time(sigma, shape):
    noise, data = ends(5, shape)
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    point = pl.BridgePath(sigma).point(noise, data, t, Noise(4))
    for i, s in enumerate(t.tolist()):
        line = (1 - s) * noise[i] + s * data[i]
        assert torch.allclose(point.x[i], line + sigma * math.sqrt(s * (1 - s)) * point.z[i], atol=1e-14)
    assert torch.equal(point.x[0], noise[0]) and torch.equal(point.x[-1], data[-1])
    assert torch.equal(point.z, Noise(4).like(data) if sigma else torch.zeros_like(data))


@pytest.mark.fast
def test_a_straight_bridge_draws_nothing():
    def draw(x):
        raise AssertionError("drew")

    pl.BridgePath().point(*ends(), 0.5, draw)


@pytest.mark.fast
def test_a_bridge_without_a_draw_follows_the_seed_of_torch():
    path = pl.BridgePath(1.0)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = (path.point(*ends(), 0.5).x for _ in range(2))
        torch.manual_seed(5)
        assert torch.equal(path.point(*ends(), 0.5).x, first) and not torch.equal(first, second)


@pytest.mark.fast
def test_targets_are_the_formulas():
    noise, data = ends()
    t, sigma = 0.3, 0.8
    point = pl.BridgePath(sigma).point(noise, data, t, Noise(4))
    g = sigma * math.sqrt(t * (1 - t))
    slope = sigma * (math.sqrt((t + 1e-6) * (1 - t - 1e-6)) - math.sqrt((t - 1e-6) * (1 - t + 1e-6))) / 2e-6
    assert torch.allclose(point.target(pl.SCORE), -(point.x - (1 - t) * noise - t * data) / g**2, atol=1e-12)
    assert torch.allclose(point.target(pl.VELOCITY), data - noise + slope * point.z, atol=1e-8)
    assert torch.equal(point.target(pl.DATA), data) and torch.equal(point.target(pl.NOISE), noise)
    straight = pl.BridgePath().point(noise, data, t)
    assert torch.equal(straight.target(pl.VELOCITY), data - noise)


@pytest.mark.fast
@pytest.mark.parametrize("head", [pl.VELOCITY, pl.DATA, pl.NOISE], ids=str)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_every_kind_follows_from_a_straight_head_and_the_score(sigma, head):
    path, t = pl.BridgePath(sigma), torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    point = path.point(*ends(), t, Noise(4))
    told = [point.target(head), *([point.target(pl.SCORE)] if sigma else [])]
    field = Told(path, (head, pl.SCORE) if sigma else head, *told)
    kinds = (pl.VELOCITY, pl.DATA, pl.NOISE)
    for kind, value in zip(kinds, field.read(point.x, t, *kinds), strict=True):
        assert torch.allclose(value, point.target(kind), atol=1e-12), kind


@pytest.mark.fast
@pytest.mark.parametrize(
    ("heads", "kind", "start", "stop"),
    [
        ((pl.VELOCITY, pl.SCORE), pl.DATA, True, True),
        ((pl.VELOCITY, pl.SCORE), pl.SCORE, True, True),
        ((pl.DATA, pl.SCORE), pl.VELOCITY, True, False),  # what is left of the way over what is left of time
        ((pl.NOISE, pl.SCORE), pl.VELOCITY, False, True),
        ((pl.NOISE, pl.SCORE), pl.DATA, False, True),
    ],
    ids=str,
)
def test_intervals_are_those_of_the_straight_line(heads, kind, start, stop):
    found = pl.BridgePath(0.5).interval(heads, kind)
    assert (found.start, found.stop, found.has_start, found.has_stop) == (0.0, 1.0, start, stop)
    field = Told(pl.BridgePath(0.5), heads, torch.ones(2, 2), torch.ones(2, 2))
    for t, inside in ((0.0, start), (1.0, stop)):
        if inside:
            assert field.read(torch.ones(2, 2), t, kind).isfinite().all()
        else:
            with pytest.raises(ValueError, match=rf"to read {kind.name} from .* got t = {t:g}"):
                field.read(torch.ones(2, 2), t, kind)


# ---- the exact field


@pytest.mark.fast
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_between_two_normals_every_kind_is_linear_in_x(sigma, t):
    (m, v), (n, w) = (-1.0, 0.25), (2.0, 1.5)
    source, target = (
        pl.Normal(torch.tensor([mean], dtype=torch.float64), variance) for mean, variance in ((m, v), (n, w))
    )
    field = pl.MixtureBridgeField(source, target, pl.BridgePath(sigma))
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    s = (1 - t) ** 2 * v + t**2 * w + sigma**2 * t * (1 - t)
    z = (x - (1 - t) * m - t * n) / s
    velocity, score, data, noise = field.read(x, t, pl.VELOCITY, pl.SCORE, pl.DATA, pl.NOISE)
    assert torch.allclose(score, -z, atol=1e-12)
    assert torch.allclose(data, n + t * w * z, atol=1e-12)
    assert torch.allclose(noise, m + (1 - t) * v * z, atol=1e-12)
    assert torch.allclose(velocity, n - m + (t * w - (1 - t) * v + sigma**2 * (1 - 2 * t) / 2) * z, atol=1e-12)


@pytest.mark.fast
def test_an_image_is_read_as_a_vector_and_another_dimension_is_refused():
    source, target = pl.Normal(torch.zeros(4)), pl.Normal(torch.ones(4), torch.tensor([1.0, 2.0, 3.0, 4.0]))
    field, x = pl.MixtureBridgeField(source, target, pl.BridgePath(0.5)), Noise(1).normal((3, 4))
    assert torch.equal(field.velocity(x.reshape(3, 1, 2, 2), 0.3), field.velocity(x, 0.3).reshape(3, 1, 2, 2))
    with pytest.raises(ValueError, match="vectors of 4"):
        field.velocity(x[:, :3], 0.3)
    with pytest.raises(ValueError, match="one dimension, got 4 and 2"):
        pl.MixtureBridgeField(source, pl.Normal(torch.zeros(2)), pl.BridgePath())


# ---- what is refused


def network_field(sigma, prediction=None, width=16):
    prediction = prediction or HEADS[sigma]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        heads = len(prediction) if isinstance(prediction, tuple) else 1
        return pl.NetworkField(pl.MLP(1, width, 2, heads=heads), pl.BridgePath(sigma), prediction)


ONES = torch.ones(3, 1)
GAUSSIAN = pl.NetworkField(nn.Identity(), pl.GaussianPath(pl.LinearSchedule()))


@pytest.mark.fast
@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: pl.BridgePath(-0.1), "sigma must be a finite number, 0 or more, got -0.1"),
        (lambda: pl.BridgePath(math.nan), "sigma must be a finite number"),
        (lambda: pl.BridgePath().point(ONES, torch.ones(2, 1), 0.5), r"noise must have the shape of data, \(2, 1\)"),
        (lambda: pl.BridgePath().point(ONES.long(), ONES.long(), 0.5), "floating-point"),
        (lambda: network_field(0.0).score(ONES, 0.5), "sigma = 0 has no score"),
        (lambda: pl.BridgePath().point(ONES, ONES, 0.5).target(pl.SCORE), "sigma = 0 has no score"),
        (lambda: network_field(0.8, pl.VELOCITY).score(ONES, 0.5), "it needs a score head"),
        (lambda: network_field(0.8, pl.VELOCITY).data(ONES, 0.5), "it needs a score head"),
        (lambda: network_field(0.8, pl.SCORE).velocity(ONES, 0.5), "it needs a head beside the score"),
        (lambda: network_field(0.0).read(ONES, 0.5, pl.V), "a bridge has no v"),
        (lambda: pl.BridgePath(1.0).point(ONES, ONES, 0.5).target(pl.V), "a bridge has no v"),
        (lambda: network_field(0.0, pl.EDMPrediction()).velocity(ONES, 0.5), "a bridge has no edm:0.5"),
        (lambda: pl.MatchingLoss(network_field(0.0)), "source must be given"),
        (lambda: pl.MatchingLoss(GAUSSIAN, source=ONES), "source must be left out"),
        (
            lambda: pl.MatchingLoss(network_field(0.8), source=torch.ones(3, 2))(ONES),
            "source must hold samples of the data's shape",
        ),
        (lambda: pl.sample(network_field(0.0), (3, 1)), "start must be given"),
        (lambda: pl.sample(network_field(0.0), (3, 1), start=torch.ones(2, 1)), r"shape of the samples, \(3, 1\)"),
        (lambda: pl.sample(network_field(0.8), (3, 1), pl.DDIM(0.0), start=ONES), "needs a Gaussian path"),
        (lambda: pl.sample(network_field(0.0), (3, 1), pl.SDESampler(1.0), start=ONES), "sigma = 0 has no score"),
        (lambda: pl.sample(network_field(0.8, pl.VELOCITY), (3, 1), pl.SDESampler(1.0), start=ONES), "score head"),
    ],
)
def test_what_a_bridge_cannot_do_is_said(attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt()


# ---- sampling


@pytest.mark.fast
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_sample_of_a_bridge_depends_on_its_seed_index_and_start_only(sigma):
    source, target = pl.Normal(torch.zeros(2)), pl.Normal(torch.ones(2))
    field, start = pl.MixtureBridgeField(source, target, pl.BridgePath(sigma)), Noise(7).normal((6, 2))
    sampler = pl.SDESampler(1.0) if sigma else None
    whole = pl.sample(field, (6, 2), sampler, steps=5, seed=1, start=start)
    assert torch.allclose(pl.sample(field, (2, 2), sampler, steps=5, seed=1, start=start[:2]), whole[:2], atol=1e-6)
    other = pl.sample(field, (6, 2), sampler, steps=5, seed=2, start=start)
    assert torch.equal(other, whole) == (sigma == 0)


@pytest.mark.fast
def test_along_straight_lines_a_normal_is_moved_onto_another():
    # the flow between N(m, v) and N(n, w) along p_t = N((1 - t) m + t n, s_t) keeps a point's standard score
    (m, v), (n, w) = (-1.0, 0.25), (2.0, 1.44)
    source, target = pl.Normal(torch.tensor([m]).double(), v), pl.Normal(torch.tensor([n]).double(), w)
    x = torch.linspace(-3, 1, 9, dtype=torch.float64)[:, None]
    for sigma in SIGMAS:
        field = pl.MixtureBridgeField(source, target, pl.BridgePath(sigma))
        end = pl.sample(field, (9, 1), pl.ODESampler(pl.RK4), steps=50, start=x)
        assert torch.allclose(end, n + (x - m) * math.sqrt(w / v), atol=1e-5)


# ---- training


SOURCE = pl.GaussianMixture(torch.tensor([[-2.0], [0.5]]), torch.tensor([0.09, 0.25]), torch.tensor([0.4, 0.6]))
TARGET = pl.GaussianMixture(torch.tensor([[3.0], [1.0]]), torch.tensor([0.16, 0.09]), torch.tensor([0.7, 0.3]))


def errors(field, sigma):
    """The mean squared error of each head along the bridge, over the mean square of what it ought to say."""
    exact = pl.MixtureBridgeField(SOURCE, TARGET, pl.BridgePath(sigma))
    found = []
    with torch.no_grad():
        for kind in field.heads:
            wrong = size = 0.0
            for t in (0.1, 0.3, 0.5, 0.7, 0.9):
                point = exact.path.point(SOURCE.sample(1000, seed=5), TARGET.sample(1000, seed=6), t, Noise(7))
                true = exact.read(point.x, t, kind)
                wrong += float(((field.read(point.x, t, kind) - true) ** 2).mean())
                size += float((true**2).mean())
            found.append(wrong / size)
    return found


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_network_learns_a_bridge_and_carries_its_source_to_its_data(sigma):
    field = network_field(sigma, width=48)
    before = errors(field, sigma)
    weight = pl.BalancedWeight() if sigma else None
    loss = pl.MatchingLoss(field, weight=weight, source=SOURCE.sample(20_000, seed=1), seed=2)
    ema = pl.EMA(field, 0.98)
    data = TARGET.sample(20_000, seed=3)
    for _ in pl.train(
        loss, data, steps=600, batch_size=512, learning_rate=5e-3, lr_schedule=pl.warmup_cosine(), ema=ema
    ):
        pass
    start, truth = SOURCE.sample(4000, seed=8), TARGET.sample(4000, seed=9)
    with ema.applied():
        after = errors(field, sigma)
        samplers = [pl.ODESampler(), *([pl.SDESampler(sigma, pl.StochasticHeun())] if sigma else [])]
        ends = [pl.sample(field, (4000, 1), sampler, steps=40, seed=4, start=start) for sampler in samplers]
    assert min(before) > 0.5 and max(after) < 0.05
    assert float(pl.energy_distance(start, truth)) > 2
    assert max(float(pl.energy_distance(end, truth)) for end in ends) < 0.03
