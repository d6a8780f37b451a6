"""Editing by noise: on a normal every edit is known, and Langevin steps at a frozen t are an autoregression."""

import math

import pytest
import torch

import pathline as pl
from pathline.sampling.editing import edit, langevin

pytestmark = pytest.mark.fast

F64 = torch.float64
MEAN, STD = torch.tensor([1.5, -0.5], dtype=F64), torch.tensor([0.5, 1.2], dtype=F64)
NORMAL = pl.Normal(MEAN, torch.diag(STD**2))
LINEAR = pl.GaussianPath(pl.LinearSchedule())
FIELD = pl.MixtureField(NORMAL, LINEAR)
FINE = pl.ODESampler(pl.RK4)
N, REACH = 20_000, 5.5  # a normal number is farther out than that in one of 26 million cases


def points(count, seed=0):
    return MEAN + STD * pl.Noise(seed).normal((count, 2), dtype=F64)


def scales(path, strength):
    t = torch.tensor(1 - strength, dtype=F64)
    return path.schedule.alpha(t), path.schedule.beta(t)


def edited(x, noise, path, strength, mean=MEAN, std=STD):
    """What the flow of N(mean, std^2) makes of alpha x + beta noise: it stretches about the mean."""
    alpha, beta = scales(path, strength)
    return mean + std * (alpha * x + beta * noise - alpha * mean) / (alpha**2 * std**2 + beta**2).sqrt()


# ---- the law of an edit


@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.DATA], ids=lambda head: head.name)
@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.VariancePreservingSchedule()])
def test_an_edit_of_a_normal_by_the_flow_is_known(schedule, head):
    path = pl.GaussianPath(schedule)
    x, noise = points(30), pl.Noise(7).normal((30, 2), dtype=F64)
    for strength in (0.05, 0.5, 0.999):
        found = edit(pl.MixtureField(NORMAL, path, head), x, strength, pl.ODESampler(pl.RK4, pl.CosineGrid()), 50, 7)
        assert float((found - edited(x, noise, path, strength)).abs().max()) < 1e-4, strength


@pytest.mark.parametrize("strength", [0.3, 0.7])
@pytest.mark.parametrize(
    "sampler",
    [None, pl.ExponentialSDE(1.0), pl.SDESampler(0.5), pl.ChurnSampler()],
    ids=lambda sampler: type(sampler).__name__,
)
def test_edits_of_data_are_data_again(sampler, strength):
    """Mean and variance of each number: 4 statistics a case, 32 in all, a false alarm in 1.3 of a million runs."""
    x = points(N)
    z = (edit(FIELD, x, strength, sampler, 100, 11) - MEAN) / STD
    assert (z.mean(0) * math.sqrt(N)).abs().max() < REACH
    assert ((z.var(0) - 1) / math.sqrt(2 / N)).abs().max() < REACH


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
def test_what_is_kept_of_a_point_falls_with_the_strength(strength):
    """Fisher's z of the correlation, alpha s / sqrt(alpha^2 s^2 + beta^2): of variance 1 / (n - 3)."""
    x = points(N)
    found = edit(FIELD, x, strength, None, 40, 12)
    alpha, beta = scales(LINEAR, strength)
    truth = alpha * STD / (alpha**2 * STD**2 + beta**2).sqrt()
    for k in range(2):
        r = torch.corrcoef(torch.stack((x[:, k], found[:, k])))[0, 1]
        assert abs(r.atanh() - truth[k].atanh()) * math.sqrt(N - 3) < REACH
    assert (truth[1] > truth[0]) and float(torch.corrcoef(torch.stack((x[:, 0], found[:, 1])))[0, 1]) < 0.04


@pytest.mark.parametrize("path", [LINEAR, pl.GaussianPath(pl.VariancePreservingSchedule())], ids=str)
@pytest.mark.parametrize("sampler", [None, pl.DDIM(1.0)], ids=str)
def test_no_strength_is_the_point_and_full_strength_a_sample(path, sampler):
    field, x = pl.MixtureField(NORMAL, path), points(9)
    assert torch.equal(edit(field, x, 0.0, sampler), x)
    assert torch.equal(edit(field, x, 1.0, sampler, 10, 5), pl.sample(field, (9, 2), sampler, 10, 5))


def test_a_faint_edit_hardly_moves():
    x = points(50)
    for strength in (1e-12, 1e-6, 1e-3):
        assert float((edit(FIELD, x, strength, seed=0) - x).abs().max()) < 6 * strength
        assert float((edit(FIELD, x, strength, pl.DDIM(1.0), seed=0) - x).abs().max()) < 6 * strength


def test_an_edit_depends_on_its_point_and_number_alone():
    x = points(40)
    for sampler in (None, pl.DDIM(1.0)):
        whole = edit(FIELD, x, 0.6, sampler, 10, 3)
        torch.testing.assert_close(edit(FIELD, x[:7], 0.6, sampler, 10, 3), whole[:7])
        assert not torch.allclose(edit(FIELD, x[:7], 0.6, sampler, 10, 4), whole[:7], atol=0.1)
    drawn = [edit(FIELD, 0 * x, 0.6, pl.DDIM(1.0), 10)[0] for _ in range(2)]
    assert not torch.equal(*drawn)  # a fresh seed


class Tight(pl.Field):
    """A field of which no more than some points fit into memory."""

    def __init__(self, most):
        super().__init__()
        self.path, self.prediction, self.most = LINEAR, pl.VELOCITY, most

    def forward(self, x, t):
        if len(x) > self.most:
            raise torch.OutOfMemoryError("can't allocate memory")
        return FIELD(x, t)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_where_memory_runs_out_the_same_edits_come_in_smaller_batches(strength):
    for sampler in (pl.DDIM(1.0), pl.ODESampler()):
        tight, wide = (edit(Tight(most), points(20), strength, sampler, 8, 1) for most in (6, 20))
        torch.testing.assert_close(tight, wide)


class Counted(pl.Field):
    """Counts its calls, and notes their times."""

    def __init__(self):
        super().__init__()
        self.path, self.prediction, self.seen = LINEAR, pl.VELOCITY, []

    def forward(self, x, t):
        self.seen.append(float(t))
        assert not self.training
        return torch.zeros_like(x)


@pytest.mark.parametrize(
    ("strength", "seen"),
    [
        (0.3, [0.7, 0.8, 0.9]),
        (0.8, [k / 10 for k in range(2, 10)]),
        (0.35, [0.65, 0.7, 0.8, 0.9]),
        (0.04, [0.96]),
        (1.0, [k / 10 for k in range(10)]),
    ],
)
def test_only_the_steps_after_t_are_taken(strength, seen):
    field = Counted().train()
    edit(field, points(2), strength, pl.ODESampler(pl.EULER), 10, 0)
    assert field.seen == pytest.approx(seen, abs=1e-6) and field.training


class TwoClasses(pl.Field):
    """An exact field under each of two classes."""

    def __init__(self, y):
        super().__init__()
        self.path, self.prediction = LINEAR, pl.VELOCITY
        self.one = pl.MixtureField(pl.Normal(MEAN + 3 * y, torch.diag(STD**2)), LINEAR)

    def forward(self, x, t):
        return self.one(x, t)

    def given(self, y):
        return TwoClasses(y)


def test_an_edit_under_another_class_is_of_that_class():
    x, noise = points(30), pl.Noise(2).normal((30, 2), dtype=F64)
    for strength in (0.2, 0.9):
        found = edit(TwoClasses(0).given(1), x, strength, FINE, 60, 2)
        assert float((found - edited(x, noise, LINEAR, strength, MEAN + 3)).abs().max()) < 1e-5
    assert float(((found - MEAN - 3) / STD).mean().abs()) < float(((x - MEAN - 3) / STD).mean().abs()) / 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: edit(FIELD, points(2), 1.2), r"strength must be from 0, x itself, to 1, fresh samples, got 1.2"),
        (lambda: edit(FIELD, points(2), -0.1), "strength must be from 0.* got -0.1"),
        (lambda: edit(FIELD, points(2), math.nan), "strength must be from 0.* got nan"),
        (lambda: edit(FIELD, points(2)[0], 0.5), r"x must be floating-point numbers of shape \(batch, \*shape\)"),
        (lambda: edit(FIELD, points(2), 0.5, steps=0), "steps must be at least 1, got 0"),
        (
            lambda: edit(pl.MixtureBridgeField(NORMAL, NORMAL, pl.BridgePath()), points(2), 0.5),
            "edit needs a path that begins at noise, and this is BridgePath",
        ),
        (
            lambda: edit(FIELD, points(2), 0.5, pl.FittedSampler((0.0, 0.5, 1.0), ((0.5,), (0.5, 0.5)))),
            "times must be the solver's own",
        ),
    ],
)
def test_an_edit_that_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- at a frozen t


def test_langevin_steps_are_the_autoregression_of_a_normal():
    """Around N(alpha m, v): mean decays by rho = 1 - h/v a step, variance goes to v / (1 - h/(2v)) by 1 - rho^(2k)."""
    t, h = 0.6, 0.1
    v, centre = (t * STD) ** 2 + (1 - t) ** 2, t * MEAN
    start = torch.tensor([4.0, -3.0], dtype=F64)
    with torch.no_grad():
        states = list(langevin(FIELD, start.expand(N, 2), t, 40, h, seed=4))
    assert len(states) == 41 and torch.equal(states[0], start.expand(N, 2))
    rho = 1 - h / v
    for k in (1, 3, 40):
        mean = centre + rho**k * (start - centre)
        variance = v / (1 - h / (2 * v)) * (1 - rho ** (2 * k))
        assert ((states[k].mean(0) - mean) / (variance / N).sqrt()).abs().max() < REACH, k
        assert ((states[k].var(0) / variance - 1) / math.sqrt(2 / N)).abs().max() < REACH, k


@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.SCORE], ids=lambda head: head.name)
def test_it_keeps_the_density_of_its_time_and_finds_it_from_anywhere(head):
    """Two modes: each statistic to its own error, and steps make variances 2.6% too large at most."""
    mixture = pl.GaussianMixture(torch.tensor([[-1.0], [1.5]]), torch.tensor([0.2, 0.1]), torch.tensor([0.3, 0.7]))
    field = pl.MixtureField(mixture, LINEAR, head)
    count, t = 6000, 0.4
    truth = t * mixture.sample(count, seed=1) + (1 - t) * pl.Noise(1).normal((count, 1))
    for x in (truth, torch.full((count, 1), 3.0)):
        with torch.no_grad():
            *_, end = langevin(field, x, t, 150, seed=6)
        mean = t * (0.3 * -1 + 0.7 * 1.5)
        variance = t**2 * (0.3 * 0.2 + 0.7 * 0.1 + 0.21 * 2.5**2) + (1 - t) ** 2
        assert abs(float(end.mean()) - mean) < REACH * math.sqrt(variance / count)
        assert abs(float(end.var()) / variance - 1) < 0.027 + REACH * math.sqrt(2 / count)


def test_a_sample_is_its_own_and_draws_anew():
    x = points(30)
    with torch.no_grad():
        *_, whole = langevin(FIELD, x, 0.5, 20, seed=1)
        *_, part = langevin(FIELD, x[:5], 0.5, 20, seed=1)
        ends = [list(langevin(FIELD, x, 0.5, 1))[-1] for _ in range(2)]
    torch.testing.assert_close(part, whole[:5])
    assert not torch.equal(*ends)


def test_a_step_has_a_tenth_of_the_scale_of_the_noise_unless_given():
    """That is 2 (0.16 beta)^2, at any t and on any path."""
    for schedule in (pl.LinearSchedule(), pl.CosineSchedule()):
        field = pl.MixtureField(NORMAL, pl.GaussianPath(schedule))
        for t in (0.0, 0.7):
            length = 2 * (0.16 * float(schedule.beta(torch.tensor(t, dtype=F64)))) ** 2
            given, left = ([*langevin(field, points(5), t, 3, size, seed=1)][-1] for size in (length, None))
            torch.testing.assert_close(left, given)


def test_at_data_a_score_that_is_known_is_followed_and_one_that_is_not_is_refused():
    with torch.no_grad():
        *_, end = langevin(FIELD, points(N), 1.0, 10, 0.02, seed=2)
        z = (end - MEAN) / STD
        assert (z.mean(0) * math.sqrt(N)).abs().max() < REACH
        network = pl.NetworkField(torch.nn.Identity(), LINEAR)
        network.forward = lambda x, t: x
        with pytest.raises(ValueError, match=r"t must lie in \[0, 1\) to read score from a velocity prediction"):
            list(langevin(network, points(2), 1.0, 3, 0.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 3), "step_size must be positive and finite, got 0, that of t = 1, where no noise sets a scale; give a"),
        ((0.5, 3, -0.1), "step_size must be positive and finite, got -0.1$"),
        ((0.5, 3, math.inf), "step_size must be positive and finite, got inf"),
        ((0.5, 0), "steps must be at least 1, got 0"),
        ((1.5, 3), r"t must lie in \[0, 1\], noise to data, got 1.5"),
        ((-0.5, 3, 0.1), r"t must lie in \[0, 1\], noise to data, got -0.5"),
    ],
)
def test_dynamics_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        langevin(FIELD, points(2), *arguments)
