"""Adaptive solvers and their sampler: a time, a step and an error for each sample, on flows that are known."""

import math

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.noise import Noise
from pathline.solvers.solution import Counts
from pathline.specs import build
from pathline.verify.parts import field, heads, mixture, points, schedules

pytestmark = pytest.mark.fast

SOLVERS = (pl.Dopri5, pl.Tsit5)
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)
RATES = torch.tensor([[0.5], [2.0], [40.0]], dtype=torch.float64)
each_solver = pytest.mark.parametrize("made", SOLVERS)


class Decays:
    """dx = -rate x dt, each sample with its own rate; it remembers what it was asked for."""

    def __init__(self, rates=RATES):
        self.rates = rates
        self.asked = []

    def drift(self, x, t):
        self.asked.append(len(x))
        assert t.shape == x.shape[:1]
        return -self.rates.to(x.dtype) * x

    def take(self, rows):
        taken = Decays(self.rates[rows])
        taken.asked = self.asked
        return taken


@each_solver
@pytest.mark.parametrize("times", [[0.0, 1.0], [1.0, 0.0], [-1.0, 0.3, 2.0]])
def test_the_error_stays_near_its_tolerance_either_way(made, times):
    times = torch.tensor(times, dtype=torch.float64)
    x = torch.ones(2, 3, dtype=torch.float64)
    errors = []
    for tolerance in (1e-4, 1e-7, 1e-10):
        found = made(tolerance, tolerance).solve(Decays(RATES[:2]), x, times)
        true = x * (-RATES[:2] * (times[-1] - times[0])).exp()
        errors.append(float(((found.x - true) / true.clamp(min=1)).abs().max()))
        assert errors[-1] < 2 * tolerance
    assert errors[0] > 30 * errors[1] > 900 * errors[2]


@each_solver
def test_a_sample_alone_is_the_same_and_leaves_when_it_is_done(made):
    x = torch.ones(3, 2, dtype=torch.float64)
    process = Decays()
    together = made().solve(process, x, ENDS)
    for i in range(3):
        alone = made().solve(Decays(RATES[i : i + 1]), x[i : i + 1], ENDS)
        assert torch.allclose(alone.x[0], together.x[i], rtol=0, atol=1e-13)
        assert torch.equal(alone.counts.evaluations[0], together.counts.evaluations[i])
    slow, _, fast = together.counts.evaluations.tolist()
    assert fast > 4 * slow and process.asked[-1] == 1
    assert sum(process.asked) == int(together.counts.evaluations.sum())


@each_solver
def test_a_step_costs_six_evaluations_and_two_begin(made):
    counts = made(1e-6, 1e-6).solve(Decays(), torch.ones(3, 2, dtype=torch.float64), ENDS).counts
    assert torch.equal(counts.evaluations, 2 + 6 * (counts.steps + counts.refused))


@each_solver
def test_times_between_cost_nothing_and_are_as_good(made):
    x = torch.ones(3, 2, dtype=torch.float64)
    times = torch.linspace(0, 1, 12, dtype=torch.float64)
    few, many = Counts.of(x), Counts.of(x)
    *_, end = made(1e-7, 1e-7).walk(Decays(), x, ENDS, few)
    states = list(made(1e-7, 1e-7).walk(Decays(), x, times, many))
    assert torch.equal(few.evaluations, many.evaluations) and torch.equal(states[-1], end)
    assert len(states) == 12 and states[0] is x
    solution = made(1e-7, 1e-7).solve(Decays(), x, ENDS)
    for state, t in zip(states, times, strict=True):
        assert torch.allclose(state, (-RATES * t).exp() * x, atol=3e-7)
        assert torch.allclose(state, solution.at(t), atol=1e-13)


def test_no_state_is_changed_later():
    states, copies = [], []
    for state in pl.Dopri5().walk(Decays(), torch.ones(3, 2), torch.linspace(0, 1, 9)):
        states.append(state)
        copies.append(state.clone())
    assert all(torch.equal(a, b) for a, b in zip(states, copies, strict=True))


def test_a_solution_is_known_at_a_time_of_each_sample():
    solution = pl.Dopri5(1e-8, 1e-8).solve(Decays(), torch.ones(3, 2, dtype=torch.float64), ENDS)
    t = torch.tensor([0.0, 0.37, 1.0], dtype=torch.float64)
    assert torch.allclose(solution.at(t), (-RATES * t[:, None]).exp().expand(3, 2), atol=1e-7)
    for wrong in (-0.1, 1.1, torch.tensor([0.0, 0.5, 2.0]), math.nan):
        with pytest.raises(ValueError, match="t must lie between 0 and 1, which was solved"):
            solution.at(wrong)


@each_solver
def test_points_keep_their_type_and_shape(made):
    x = torch.ones(3, 1, 2, 2)
    found = made(1e-4, 1e-4).solve(pl.ODE(lambda x, t: -x * t[:, None, None, None]), x, ENDS)
    assert found.x.dtype == torch.float32 and found.x.shape == x.shape
    assert torch.allclose(found.x, x * math.exp(-0.5), atol=1e-4)


def test_a_still_point_stays_where_it_is():
    x = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    found = pl.Dopri5().solve(pl.ODE(lambda x, t: torch.zeros_like(x)), x, ENDS)
    assert torch.equal(found.x, x) and int(found.counts.evaluations.max()) <= 100


@each_solver
def test_gradients_reach_the_start_and_the_parameters(made):
    rate = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    flow = pl.ODE(lambda x, t: -rate * x)
    *_, middle, end = made(1e-8, 1e-8).walk(flow, x, torch.tensor([0.0, 0.4, 1.0]))
    of_x, of_rate = torch.autograd.grad(end.sum() + middle.sum(), (x, rate))
    t = torch.tensor([0.4, 1.0], dtype=torch.float64).float().double()
    fall = (-1.5 * t).exp()
    assert torch.allclose(of_x, fall.sum().expand(2, 1), atol=1e-6)
    assert float(of_rate) == pytest.approx(-3 * float((t * fall).sum()), abs=1e-6)
    with torch.no_grad():
        *_, end = made().walk(flow, x, ENDS)
        assert not end.requires_grad


@each_solver
def test_a_solution_that_ends_is_singular(made):
    x = torch.tensor([[0.1], [2.0]], dtype=torch.float64)  # x / (1 - x t), which ends at t = 1/2
    with pytest.raises(pl.SingularError, match=r"sample 1 at t = 0.5") as caught:
        made(evaluations=100_000).solve(pl.ODE(lambda x, t: x**2), x, ENDS)
    error = caught.value
    assert isinstance(error, ValueError) and isinstance(error, pl.SolverError)
    assert error.sample == 1 and error.t == pytest.approx(0.5, abs=1e-4) and 0 < error.step < 1e-10
    assert error.evaluations > 100


@each_solver
def test_a_drift_that_is_not_finite_is_told_from_one_that_ends(made):
    x = torch.ones(2, 1, dtype=torch.float64)
    late = pl.ODE(lambda x, t: torch.where(t[:, None] > 0.5, torch.nan, x))
    with pytest.raises(pl.NonFiniteError, match=r"not finite beyond this: sample 0 at t = 0.5") as caught:
        made().solve(late, x, ENDS)
    assert caught.value.t == pytest.approx(0.5, abs=1e-9) and caught.value.evaluations > 8
    early = pl.ODE(lambda x, t: torch.where(torch.tensor([[False], [True]]), torch.inf, x))
    with pytest.raises(pl.NonFiniteError, match="not finite at the start: sample 1 at t = 0") as caught:
        made().solve(early, x, ENDS)
    assert caught.value.sample == 1 and caught.value.evaluations == 1


@each_solver
def test_a_stiff_equation_runs_out_of_evaluations(made):
    rates = torch.tensor([[1.0], [1e5]], dtype=torch.float64)
    with pytest.raises(pl.EvaluationsError, match=r"too many evaluations.*sample 1 at t = .*after 98") as caught:
        made(evaluations=100).solve(Decays(rates), torch.ones(2, 1, dtype=torch.float64), ENDS)
    assert caught.value.sample == 1 and caught.value.evaluations == 98 and 0 < caught.value.step < 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rtol": -1e-3}, "rtol must be a finite number, 0 or more, got -0.001"),
        ({"atol": math.nan}, "atol must be a finite number, 0 or more, got nan"),
        ({"rtol": 0.0, "atol": 0.0}, "must not both be 0"),
        ({"evaluations": 7}, "evaluations must be at least 8, for a first step, got 7"),
    ],
)
def test_a_tolerance_or_cap_that_allows_no_step_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pl.Dopri5(**arguments)


def test_what_an_adaptive_method_is_not_for_is_refused_at_once():
    x = torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"BrownianMotion has a diffusion.*EulerMaruyama"):
        pl.Dopri5().walk(pl.BrownianMotion(), x, ENDS)
    with pytest.raises(ValueError, match="strictly one way"):
        pl.Dopri5().walk(Decays(), x, torch.tensor([0.0, 0.0]))
    with pytest.raises(ValueError, match="times must not require a gradient"):
        pl.Dopri5().walk(Decays(), x, ENDS.clone().requires_grad_())
    with pytest.raises(ValueError, match=r"must be at least 4.8e-07 for points in torch.float32.*x.double"):
        pl.Dopri5(1e-8, 1e-8).walk(Decays(), x, ENDS)


@pytest.mark.parametrize("head", heads().values(), ids=heads().keys())
@pytest.mark.parametrize(
    "schedule", [schedule for name, schedule in schedules().items() if name != "function"], ids=repr
)
def test_a_drift_of_many_times_is_that_of_each(head, schedule):
    exact, x = field(schedule, head), points(3)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    for process in (pl.flow_of(exact), pl.diffusion_of(exact, pl.BetaSigma(1.5))):
        together = process.drift(x, t)
        for i in range(3):
            assert torch.allclose(together[i], process.drift(x[i : i + 1], t[i])[0], rtol=1e-12, atol=1e-12)


def test_a_drift_of_many_times_names_the_singular_one():
    process = pl.flow_of(field(head=pl.DATA))
    with pytest.raises(ValueError, match="the drift cannot be read at t = 1 from the data prediction"):
        process.drift(points(3), torch.tensor([0.0, 0.5, 1.0]))
    assert process.drift(points(3).float(), torch.tensor([0.0, 0.5, 0.9])).dtype == torch.float32


class Normals(pl.Field):
    """The exact field towards N(1.5, 0.5^2)."""

    def __init__(self, head, schedule):
        super().__init__()
        self.path, self.prediction = pl.GaussianPath(schedule), head
        self.exact = pl.MixtureField(pl.Normal(torch.tensor([1.5], dtype=torch.float64), 0.25), self.path, head)

    def forward(self, x, t):
        return self.exact(x, t)


@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.DATA, pl.SCORE], ids=repr)
@pytest.mark.parametrize(
    "schedule", [pl.LinearSchedule(), pl.SquareRootSchedule(), pl.VariancePreservingSchedule()], ids=repr
)
def test_the_flow_of_a_normal_is_its_quantile_map_whatever_is_singular(head, schedule):
    x = Noise(0).normal((5, 1), dtype=torch.float64)
    exact, sampler = Normals(head, schedule), pl.AdaptiveSampler(pl.Dopri5(1e-6, 1e-6))
    (a, b), (c, d) = schedule.ends
    std = [(scale**2 * 0.25 + noise**2) ** 0.5 for scale, noise in ((a, b), (c, d))]
    true = 1.5 * c + std[1] / std[0] * (x - 1.5 * a)
    states = list(sampler.walk(exact, x, torch.linspace(0, 1, 5, dtype=torch.float64)))
    assert len(states) == 5 and states[0] is x
    assert torch.allclose(states[-1], true, atol=1e-5)
    solution = sampler.solve(exact, x, ENDS)
    assert torch.allclose(solution.x, states[-1], atol=1e-12) and torch.allclose(
        solution.at(0.5), states[2], atol=1e-12
    )
    *_, back = sampler.walk(exact, states[-1], ENDS.flip(0))
    assert torch.allclose(back, x, atol=3e-5)


def test_a_sample_alone_is_the_sample_in_a_batch():
    exact, sampler = field(head=pl.DATA), pl.AdaptiveSampler(pl.Tsit5(1e-5, 1e-5))
    x = points(40)
    together = sampler.solve(exact, x, ENDS)
    for i in (0, 17, 39):
        alone = sampler.solve(exact, x[i : i + 1], ENDS)
        assert float((alone.x - together.x[i]).abs().max()) < 1e-12
        assert alone.counts.evaluations.item() == together.counts.evaluations[i]
    assert len(set(together.counts.evaluations.tolist())) > 1


class Turns(nn.Module):
    """A velocity whose speed is its class: class y decays at the rate 4 y; the null class 0 stands still."""

    null, classes = torch.tensor(0), 10

    def forward(self, x, t, y=None):
        return -4.0 * (torch.zeros(len(x)) if y is None else y)[:, None] * x


@pytest.mark.parametrize("w", [1.0, 0.5, torch.tensor([1.0, 0.5, 0.0, 2.0])], ids=str)
def test_each_sample_keeps_its_condition_while_others_finish(w):
    network = pl.NetworkField(Turns(), pl.GaussianPath(pl.LinearSchedule()))
    y = torch.tensor([3, 0, 1, 5])
    guided = pl.ClassifierFree(network.given(y), network.given(None), w)
    x = torch.ones(4, 2)
    found = pl.AdaptiveSampler(pl.Dopri5(1e-5, 1e-5)).solve(guided, x, ENDS)
    assert torch.allclose(found.x, (-4.0 * torch.as_tensor(w) * y).exp()[:, None].expand(4, 2), atol=1e-4)
    assert found.counts.evaluations[3] > found.counts.evaluations[1]


def test_its_times_are_where_it_stops():
    exact, sampler = field(), pl.AdaptiveSampler(pl.Dopri5(1e-4, 1e-4))
    assert torch.equal(sampler.times(exact, steps=4), torch.linspace(0, 1, 5, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"evaluations must not be given for AdaptiveSampler.*got 30.*Dopri5\("):
        sampler.times(exact, evaluations=30)
    with pytest.raises(ValueError, match=r"times must stay in \[0, 1\]"):
        sampler.walk(exact, points(2), torch.tensor([0.0, 1.5]))
    ends = [pl.sample(exact, (4, 2), sampler, steps=steps, seed=1) for steps in (1, 50)]
    assert torch.allclose(*ends, atol=1e-12) and not ends[0].requires_grad
    *_, true = pl.ODESampler(pl.RK4).walk(exact, points(4, seed=1), torch.linspace(0, 1, 401, dtype=torch.float64))
    assert torch.allclose(ends[0], true, atol=1e-3)


def test_the_gradient_of_samples_reaches_their_start():
    exact = pl.MixtureField(mixture(), pl.GaussianPath(pl.LinearSchedule()), pl.DATA)
    x = points(3).requires_grad_()
    *_, end = pl.AdaptiveSampler(pl.Dopri5(1e-5, 1e-5)).walk(exact, x, ENDS)
    *_, true = pl.ODESampler(pl.RK4).walk(exact, x, torch.linspace(0, 1, 101, dtype=torch.float64))
    found, slope = (torch.autograd.grad(each.sum(), x)[0] for each in (end, true))
    assert torch.allclose(found, slope, rtol=1e-2, atol=1e-3)


def test_names_make_them():
    assert build(pl.AdaptiveSolver, "tsit5:1e-4,1e-6") == pl.Tsit5(1e-4, 1e-6)
    assert build(pl.AdaptiveSolver, "dopri5") == pl.Dopri5(1e-5, 1e-5, 10_000)
    assert build(pl.Sampler, "adaptive") == pl.AdaptiveSampler(pl.Dopri5())
    assert build(pl.Solver, "dormand-prince") is pl.DORMAND_PRINCE and repr(pl.DORMAND_PRINCE) == "DORMAND_PRINCE"


def test_a_walk_of_fixed_steps_sends_an_adaptive_solver_to_its_own():
    with pytest.raises(ValueError, match=r"solver must be one of fixed steps .* use solver.walk"):
        pl.walk(pl.ODE(lambda x, t: -x), pl.Dopri5(), torch.ones(2, 1), torch.linspace(0, 1, 3))
