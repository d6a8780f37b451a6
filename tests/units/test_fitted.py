"""Fitted solvers: consistent tables, the methods that they begin as, and fits that lower the error on other noise."""

import json

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.sampling.fit import converged, errors, fit, solved, table_of
from pathline.sampling.fitted import fitted_from
from pathline.sampling.grids import share_of
from pathline.verify.parts import field, points

pytestmark = pytest.mark.fast

TABLE = pl.FittedSampler((0.0, 0.3, 1.0), ((0.3,), (-0.2, 1.2)))


def as_fitted(method, exact, steps):
    """A multistep method as a table."""
    shares = share_of(exact.path.schedule, method.times(exact, steps=steps))
    return pl.FittedSampler(tuple(shares.tolist()), tuple(tuple(row.tolist()) for row in table_of(method, shares)))


class Still(pl.Field):
    """Data and noise that stand still."""

    def __init__(self, schedule):
        super().__init__()
        self.path, self.prediction = pl.GaussianPath(schedule), pl.V

    def forward(self, x, t):
        return self.prediction.target(self.path.schedule.at(t), points(4, seed=1), points(4, seed=2))


SCHEDULES = (pl.LinearSchedule(), pl.CosineSchedule(), pl.SquareRootSchedule())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_table_is_exact_where_data_and_noise_stand_still(schedule):
    exact = Still(schedule)
    *_, end = TABLE.walk(exact, points(4, seed=2), TABLE.times(exact, steps=2))
    assert torch.allclose(end, points(4, seed=1), atol=1e-9)


@pytest.mark.parametrize(
    "schedule", [*SCHEDULES[:2], pl.VariancePreservingSchedule(), pl.LinearSchedule(0.1)], ids=repr
)
@pytest.mark.parametrize(
    "method",
    [pl.Multistep.adams_bashforth(2), pl.Multistep.adams_moulton(3), pl.GeneralSampler().settled(5)],
    ids=["adams-bashforth", "adams-moulton", "general"],
)
def test_a_method_is_its_own_table(method, schedule):
    exact = field(schedule, pl.DATA)
    for steps in (1, 2, 6):
        table = as_fitted(method, exact, steps)
        states = [*table.walk(exact, points(5), table.times(exact, steps=steps))]
        own = [*method.walk(exact, points(5), method.times(exact, steps=steps))]
        assert len(states) == steps + 1
        last = (
            -1 if method.is_corrected else slice(1, None)
        )  # its states are those at which it reads, not the corrected
        assert torch.allclose(torch.stack(states)[last], torch.stack(own)[last], atol=1e-10)


def test_a_table_gives_the_same_on_every_schedule():
    ends = []
    for schedule in SCHEDULES[:2]:
        exact = field(schedule, pl.DATA)
        *_, end = TABLE.walk(exact, points(5), TABLE.times(exact, steps=2))
        ends.append(end)
    assert torch.allclose(*ends, atol=1e-10)


def test_sample_takes_as_many_steps_as_a_solver_was_fitted_to():
    method, exact = pl.Multistep.adams_bashforth(2), field(pl.LinearSchedule())
    table = as_fitted(method, exact, 6)
    usual, told = (pl.sample(exact, (5, 2), table, seed=0, **more) for more in ({}, {"evaluations": 6}))
    assert torch.equal(usual, told)
    torch.testing.assert_close(usual, pl.sample(exact, (5, 2), method, steps=6, seed=0))


def test_a_table_survives_json():
    assert fitted_from(json.loads(json.dumps(TABLE.to_dict()))) == TABLE
    for wrong in ({}, {"shares": [0, 1]}, {"shares": None, "weights": []}, {"shares": [0, 1], "weights": [1.0]}):
        with pytest.raises(ValueError, match="shares and weights, lists of numbers"):
            fitted_from(wrong)
    with pytest.raises(ValueError):
        fitted_from({"shares": ["0", "a"], "weights": [[1.0]]})


@pytest.mark.parametrize(
    ("shares", "weights", "message"),
    [
        ((0.0, 1.0), ((0.9,),), "row 1 of weights must sum to 1, got 0.9"),
        ((0.0, 1.0), ((float("nan"),),), "row 1 of weights must sum to 1, got nan"),
        ((0.0, 0.5, 1.0), ((0.5,), (1.0,)), r"rows of 1 to 2 numbers, got rows of \[1, 1\]"),
        ((0.0, 0.5, 1.0), ((0.5,),), r"rows of 1 to 2 numbers, got rows of \[1\]"),
        ((0.0, 0.5, 0.5), ((0.5,), (0.5, 0.0)), "shares must increase"),
    ],
)
def test_a_table_that_no_field_could_follow_is_refused(shares, weights, message):
    with pytest.raises(ValueError, match=message):
        pl.FittedSampler(shares, weights)


def test_other_steps_times_and_paths_are_refused():
    exact = field()
    assert torch.allclose(TABLE.times(exact, evaluations=7), torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64))
    for counts in ({"steps": 3}, {"evaluations": 1}):
        with pytest.raises(ValueError, match="steps must be 2 for a solver fitted to so many"):
            TABLE.times(exact, **counts)
    with pytest.raises(ValueError, match="either steps or evaluations"):
        TABLE.times(exact)
    for times in ([0.0, 0.4, 1.0], [0.0, 1.0], [1.0, 0.3, 0.0]):
        with pytest.raises(ValueError, match=r"times must be the solver's own.*steps=2"):
            TABLE.walk(exact, points(2), torch.tensor(times, dtype=torch.float64))
    with pytest.raises(ValueError, match="was fitted from a share of data of 0 to 1"):
        TABLE.times(field(pl.LinearSchedule(0.1)), steps=2)


def test_a_field_that_cannot_be_read_at_noise_is_refused():
    for head in (pl.NOISE, pl.SCORE):
        exact = field(head=head)
        with pytest.raises(ValueError, match=r"reads data - noise at t = 0, where the (noise|score) prediction"):
            TABLE.walk(exact, points(2), TABLE.times(exact, steps=2))


def test_a_bridge_is_refused():
    class Bridge(pl.Field):
        def __init__(self):
            super().__init__()
            self.path, self.prediction = pl.BridgePath(), pl.VELOCITY

        def forward(self, x, t):
            return x

    with pytest.raises(ValueError, match="needs a path that begins at noise"):
        TABLE.walk(Bridge(), points(2), torch.tensor([0.0, 0.3, 1.0]))
    with pytest.raises(ValueError, match="path must begin at noise"):
        next(fit(Bridge(), points(2), points(2), 2))


def test_trajectories_converge_on_their_ends():
    exact, start = field(), points(30)
    *_, true = pl.ODESampler(pl.RK4).walk(exact, start, pl.PowerGrid(1.6).times(exact, 400))
    end, change = converged(exact, start, tolerance=1e-5)
    assert change < 1e-5 and float(errors(end, true).median()) < 1e-5
    _, change = converged(exact, start, tolerance=0.0, most=32)
    assert change > 0


def test_an_error_is_the_root_of_the_mean_square_of_each_sample():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert errors(x, torch.zeros(2, 2)).tolist() == pytest.approx([12.5**0.5, 0.0])


@pytest.mark.parametrize(("evaluations", "gain"), [(1, 1.0), (2, 0.6), (3, 0.9), (5, 0.75)])
def test_a_fit_lowers_the_error_on_other_noise(evaluations, gain):
    exact, start = field(), points(100, seed=5)
    *_, last = fit(exact, start, converged(exact, start, 1e-3)[0], evaluations, steps=40)
    assert last.step == last.steps == 40 and len(last.sampler.weights) == evaluations
    other = points(100, seed=6)
    end = converged(exact, other, 1e-3)[0]
    before, after = (
        float(errors(solved(exact, other, sampler, evaluations), end).median())
        for sampler in (pl.GeneralSampler(), last.sampler)
    )
    assert after <= gain * before * (1 + 1e-9)


class Net(nn.Module):
    """A small network with a class, dropout and running statistics."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(3, 2, generator=generator))
        self.embedding = nn.Parameter(torch.randn(3, 2, generator=generator))
        self.norm, self.drop = nn.BatchNorm1d(2), nn.Dropout(0.5)

    def forward(self, x, t, y=None):
        h = torch.cat((x, t[:, None].to(x)), 1) @ self.a + (0 if y is None else self.embedding[y])
        return self.drop(self.norm(h.sin() + x))


@pytest.mark.parametrize("which", ["each", "one", "guided"])
def test_a_fit_keeps_to_conditions_and_leaves_the_field_as_it_was(which):
    model = pl.NetworkField(Net(), pl.GaussianPath(pl.LinearSchedule())).train()
    model.network.embedding.requires_grad_(False)
    model.network.a.grad = torch.ones(3, 2)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    y = torch.arange(150) % 3  # more than are solved at once
    bound = {"each": model.given(y), "one": model.given(1)}.get(which) or pl.ClassifierFree(
        model.given(y), model.given(None), 2.0
    )
    start = points(150).float()
    end = converged(bound, start)[0]
    first, *_, last = fit(bound, start, end, 3, steps=15)
    assert last.median < first.median and last.sampler != first.sampler
    assert float(errors(solved(bound, start, last.sampler, 3), end).median()) == pytest.approx(last.median, rel=1e-3)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.training and model.network.drop.training and torch.equal(model.network.a.grad, torch.ones(3, 2))
    assert model.network.a.requires_grad and not model.network.embedding.requires_grad


def test_a_fit_to_what_is_exact_at_once_stays():
    class Nothing(pl.Field):
        def __init__(self):
            super().__init__()
            self.path, self.prediction = pl.GaussianPath(pl.LinearSchedule()), pl.VELOCITY

        def forward(self, x, t):
            return torch.zeros_like(x)

    *_, last = fit(Nothing(), points(5), points(5), 3, steps=10)
    assert last.median == 0 and all(torch.tensor(row).isfinite().all() for row in last.sampler.weights)


@pytest.mark.parametrize(
    ("end", "counts"), [(points(3), {}), (points(4), {"evaluations": 0}), (points(4), {"steps": 0})]
)
def test_a_fit_of_nothing_is_refused(end, counts):
    with pytest.raises(ValueError, match="start and end must have one shape, and evaluations and steps be at least 1"):
        next(fit(field(), points(4), end, **{"evaluations": 2, **counts}))
