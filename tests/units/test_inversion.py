"""Inversion: flows of normals have inverses in closed form, and a way there and back ends where it began."""

import math
from itertools import pairwise

import pytest
import torch

import pathline as pl
from pathline.sampling.inversion import interpolate, invert, round_trip_sampler, slerp

pytestmark = pytest.mark.fast

F64 = torch.float64
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
ROOT = torch.tensor([[0.5, 0, 0], [0.3, 0.4, 0], [-0.2, 0.1, 0.8]], dtype=F64)
NORMAL = pl.Normal(MEAN, ROOT @ ROOT.T)
X = NORMAL.sample(50, seed=0).to(F64)
LINEAR = pl.GaussianPath(pl.LinearSchedule())
CASES = [
    *((pl.LinearSchedule(), head) for head in (pl.VELOCITY, pl.NOISE, pl.DATA, pl.V, pl.SCORE)),
    *((pl.CosineSchedule(), head) for head in (pl.V, pl.NOISE)),
    *((pl.VariancePreservingSchedule(), head) for head in (pl.NOISE, pl.DATA)),
    (pl.SquareRootSchedule(), pl.VELOCITY),
]


def two_modes(head=pl.VELOCITY, schedule=None):
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64)
    mixture = pl.GaussianMixture(means, torch.tensor([0.3, 0.2], dtype=F64))
    return pl.MixtureField(mixture, pl.GaussianPath(schedule or pl.LinearSchedule()), head), mixture


def back(field, noise, sampler=None, steps=100):
    return pl.sample(field, tuple(noise.shape), sampler or round_trip_sampler(), steps, start=noise)


def off(a, b):
    return float((a - b).abs().max())


# ---- one noise for each point


@pytest.mark.parametrize(("schedule", "head"), CASES, ids=lambda part: getattr(part, "name", type(part).__name__))
def test_the_noise_of_a_normal_is_known_and_leads_back(schedule, head):
    """In the axes of S: noise = alpha_0 m + sqrt((alpha_0^2 S + beta_0^2) / S) (x - m)."""
    field = pl.MixtureField(NORMAL, pl.GaussianPath(schedule), head)
    variances, axes = torch.linalg.eigh(ROOT @ ROOT.T)
    alpha, beta = (scale(torch.zeros((), dtype=F64)) for scale in (schedule.alpha, schedule.beta))
    stretch = ((alpha**2 * variances + beta**2) / variances).sqrt()
    truth = alpha * MEAN + ((X - MEAN) @ axes * stretch) @ axes.T
    noise = invert(field, X, steps=50)
    assert off(noise, truth) < 2e-5  # 1.1e-5 at most when this was written, of RK4 in 50 steps
    assert off(back(field, noise, steps=50), X) < 1e-5


@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE], ids=lambda head: head.name)
def test_two_modes_come_back_from_their_noise(head):
    field, mixture = two_modes(head, pl.CosineSchedule())
    x = mixture.sample(40, seed=1).to(F64)
    noise = invert(field, x)
    assert off(back(field, noise), x) < 1e-4
    assert off(noise, invert(field, x, steps=200)) < 1e-4


@pytest.mark.parametrize(
    "sampler", [pl.ODESampler(), pl.DDIM(), pl.default_sampler(), pl.AdaptiveSampler(), pl.SDESampler(0.0)], ids=repr
)
def test_any_sampler_that_draws_nothing_inverts(sampler):
    field = pl.MixtureField(NORMAL, LINEAR)
    assert off(invert(field, X, sampler, 200), torch.linalg.solve(_root(), (X - MEAN).T).T) < 0.05


def _root():
    """The symmetric root of S, which the flow of the linear path stretches by."""
    variances, axes = torch.linalg.eigh(ROOT @ ROOT.T)
    return (axes * variances.sqrt()) @ axes.T


def test_a_bridge_leads_back_to_its_source():
    """Its flow between normals takes N(a, s^2) to N(b, r^2) by x = b + r/s (source - a)."""
    ends = pl.Normal(torch.tensor([2.0], dtype=F64), 0.25), pl.Normal(torch.tensor([-1.0], dtype=F64), 0.04)
    field = pl.MixtureBridgeField(*ends, pl.BridgePath())
    x = torch.tensor([[-1.3], [-1.0], [-0.9]], dtype=F64)
    assert off(invert(field, x), 2 + 0.5 / 0.2 * (x + 1)) < 1e-6


@pytest.mark.parametrize("sampler", [pl.ODESampler(), pl.default_sampler(), pl.Multistep.dpm()], ids=repr)
def test_each_correction_takes_off_most_of_what_is_left(sampler):
    field, mixture = two_modes()
    x = mixture.sample(40, seed=2).to(F64)
    errors = [off(back(field, invert(field, x, sampler, 25, corrections=k), sampler, 25), x) for k in range(4)]
    assert errors[0] > 1e-4  # there is something to correct
    assert all(b < a / 5 for a, b in pairwise(errors)), errors


def test_it_leaves_the_field_as_it_was_and_keeps_no_gradient():
    class Other(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.modes = torch.nn.Parameter(torch.ones(())), []

        def forward(self, x, t):
            self.modes.append(self.training)
            return self.weight * x.sin()

    field = pl.NetworkField(Other(), LINEAR)
    noise = invert(field, torch.ones(3, 2), pl.ODESampler(), 4, corrections=1)
    assert field.training and field.network.training and not any(field.network.modes) and not noise.requires_grad


class Tight(pl.Field):
    """A field with a number for each point, where no more than some points fit into memory."""

    def __init__(self, most, y):
        super().__init__()
        self.path, self.prediction, self.most, self.y = LINEAR, pl.VELOCITY, most, y

    def forward(self, x, t):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("can't allocate memory")
        return x.sin() + self.y[:, None] - t

    def take(self, index):
        return Tight(self.most, self.y[index])

    def repeat(self, copies):
        return Tight(self.most, torch.cat([self.y] * copies))


def test_where_memory_runs_out_it_is_done_in_smaller_batches():
    y = torch.arange(20, dtype=F64) / 20
    x = pl.Noise(0).normal((20, 2), dtype=F64)
    tight, wide = (invert(Tight(most, y), x, steps=5, corrections=1) for most in (6, 20))
    torch.testing.assert_close(tight, wide)


# ---- between two of them


def test_an_arc_turns_evenly_and_norms_go_evenly():
    a, b = torch.tensor([[2.0, 0.0]], dtype=F64), torch.tensor([[0.0, 4.0]], dtype=F64)
    for share in (0.0, 0.25, 1 / 3, 0.9, 1.0):
        angle, norm = share * math.pi / 2, 2 + 2 * share
        truth = torch.tensor([[norm * math.cos(angle), norm * math.sin(angle)]], dtype=F64)
        torch.testing.assert_close(slerp(a, b, share), truth, rtol=0, atol=1e-14)


def test_an_arc_is_over_all_dimensions_of_a_sample_with_a_share_for_each():
    a, b = (pl.Noise(seed).normal((5, 2, 3, 4), dtype=F64) for seed in (0, 1))
    share = torch.tensor([0.0, 0.2, 0.5, 0.7, 1.0], dtype=F64)
    c = slerp(a, b, share)
    u, v, w = (x.flatten(1) / x.flatten(1).norm(dim=1, keepdim=True) for x in (a, b, c))
    angle = (u * v).sum(1).arccos()
    torch.testing.assert_close((u * w).sum(1), (share * angle).cos(), rtol=0, atol=1e-12)
    torch.testing.assert_close((v * w).sum(1), ((1 - share) * angle).cos(), rtol=0, atol=1e-12)
    norms = [x.flatten(1).norm(dim=1) for x in (a, b, c)]
    torch.testing.assert_close(norms[2], torch.lerp(norms[0], norms[1], share))
    torch.testing.assert_close(slerp(a, 3 * a, share), (1 + 2 * share[:, None, None, None]) * a)  # of no angle at all


def test_noises_on_an_arc_are_noise_by_their_norm():
    """The mean norm of 4,000 is sqrt(d) - 1/(4 sqrt(d)) to 1/sqrt(2 * 4000): 6 of these are a false alarm of 2e-9."""
    d, n = 64, 4000
    a, b = (pl.Noise(seed).normal((n, d), dtype=F64) for seed in (3, 4))
    for share in (0.2, 0.5):
        mean = float(slerp(a, b, share).norm(dim=1).mean())
        assert abs(mean - (math.sqrt(d) - 0.25 / math.sqrt(d))) < 6 / math.sqrt(2 * n)
    assert float(torch.lerp(a, b, 0.5).norm(dim=1).mean()) < 0.72 * math.sqrt(d)


def test_between_points_of_a_normal_the_way_is_an_arc_around_its_mean():
    """The flow to N(m, s^2 I) is x = m + s noise, and arcs scale."""
    normal = pl.Normal(MEAN, 0.25)
    a, b = (normal.sample(6, seed=seed).to(F64) for seed in (5, 6))
    x = interpolate(pl.MixtureField(normal, LINEAR), a, b, 5)
    assert x.shape == (5, 6, 3)
    truth = [MEAN + slerp(a - MEAN, b - MEAN, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert off(x, torch.stack(truth)) < 1e-6
    assert off(x[0], a) < 1e-6 and off(x[-1], b) < 1e-6


def test_each_way_is_under_the_condition_of_its_own_sample():
    y = torch.arange(4, dtype=F64) / 4
    a, b = (pl.Noise(seed).normal((4, 2), dtype=F64) for seed in (0, 1))
    x = interpolate(Tight(99, y), a, b, 3, steps=20)
    for i in range(4):
        one = interpolate(Tight(99, y[i : i + 1]), a[i : i + 1], b[i : i + 1], 3, steps=20)
        torch.testing.assert_close(x[:, i : i + 1], one)


def test_corrections_bring_the_ends_home():
    field, mixture = two_modes()
    a, b = mixture.sample(16, seed=2).to(F64).chunk(2)
    rough, fine = (interpolate(field, a, b, 2, pl.ODESampler(), 25, corrections=k) for k in (0, 2))
    assert off(fine, torch.stack((a, b))) < 1e-5 < 1e-4 < off(rough, torch.stack((a, b)))


# ---- what is refused


@pytest.mark.parametrize(
    "sampler",
    [pl.SDESampler(0.5), pl.DDIM(1.0), pl.ExponentialSDE(0.5), pl.PredictorCorrector(pl.ODESampler())],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_sampler_that_draws_noise_is_refused(sampler):
    with pytest.raises(ValueError, match=r"sampler must draw nothing for .*, and .* does; use ODESampler, a multistep"):
        invert(pl.MixtureField(NORMAL, LINEAR), X, sampler, 10)


def test_a_sampler_that_goes_up_only_is_refused():
    with pytest.raises(ValueError, match="times must increase for churn"):
        invert(pl.MixtureField(NORMAL, LINEAR), X, pl.ChurnSampler(), 10)


FIELD = pl.MixtureField(NORMAL, LINEAR)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: invert(FIELD, X, corrections=-1), "corrections must be 0 or more, got -1"),
        (lambda: invert(FIELD, X.long()), r"x must be floating-point numbers .* got torch.int64 \(50, 3\)"),
        (lambda: invert(FIELD, X[0]), r"x must be floating-point numbers of shape \(batch, \*shape\).* \(3,\)"),
        (lambda: invert(FIELD, X[:0]), r"at least one of them, got torch.float64 \(0, 3\)"),
        (lambda: invert(FIELD, X, steps=0), "steps must be at least 1, got 0"),
        (lambda: interpolate(FIELD, X, X[:4], 3), r"b must have the shape of a, \(50, 3\), got \(4, 3\)"),
        (lambda: interpolate(FIELD, X, X, 1), "count must be at least 2, for both ends, got 1"),
        (lambda: slerp(X, X[:4], 0.5), r"b must have the shape of a, \(50, 3\), got \(4, 3\)"),
        (lambda: slerp(X, torch.cat((X[:7], -X[7:])), 0.5), "neither opposite nor 0 .* and sample 7 is; torch.lerp"),
        (lambda: slerp(X, 0 * X, 0.5), "neither opposite nor 0 .* and sample 0 is"),
        (lambda: slerp(X, X, torch.zeros(3)), r"t must have shape \(\) or \(batch,\)"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_arc_between_the_sources_of_a_bridge():
    field = pl.MixtureBridgeField(NORMAL, NORMAL, pl.BridgePath())
    with pytest.raises(ValueError, match="interpolate needs a path that begins at noise, and this is BridgePath"):
        interpolate(field, X, X, 3)
