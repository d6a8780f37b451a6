"""`walk` and the steps it takes, on equations whose solution is known."""

import math

import pytest
import torch

import pathline as pl
from pathline.noise import Noise
from pathline.solvers.solver import WALK_STREAM, grid

pytestmark = pytest.mark.fast

RUNGE_KUTTA = (pl.EULER, pl.MIDPOINT, pl.HEUN, pl.RK4)
STOCHASTIC = (pl.EulerMaruyama(), pl.StochasticHeun())
DECAY = pl.LinearODE(1.0)
UP = torch.linspace(0, 1, 5, dtype=torch.float64)


def start(n=3, d=2):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("solver", [*RUNGE_KUTTA, *STOCHASTIC], ids=repr)
@pytest.mark.parametrize("is_noisy", [False, True])
def test_there_is_a_state_for_each_time_and_none_is_changed_later(solver, is_noisy):
    if is_noisy and not solver.is_stochastic:
        pytest.skip("for ODEs")
    x, states, copies = start(), [], []
    begin = x.clone()
    for state in pl.walk(pl.BrownianMotion() if is_noisy else DECAY, solver, x, UP):
        states.append(state)
        copies.append(state.clone())
    assert len(states) == len(UP)
    assert states[0] is x and torch.equal(x, begin)
    assert all(torch.equal(state, copy) for state, copy in zip(states, copies, strict=True))
    assert len({state.data_ptr() for state in states}) == len(states)


@pytest.mark.parametrize("solver", RUNGE_KUTTA, ids=repr)
def test_a_step_of_decay_is_the_taylor_series_of_its_order(solver):
    *_, end = pl.walk(DECAY, solver, start(), torch.tensor([0.0, 0.3]))
    series = sum((-0.3) ** k / math.factorial(k) for k in range(solver.order + 1))
    assert torch.allclose(end, start() * series, atol=1e-6)  # 0.3 in float32


@pytest.mark.parametrize("solver", RUNGE_KUTTA, ids=repr)
def test_a_grid_need_not_be_even_nor_stay_in_0_to_1(solver):
    times = torch.tensor([-2.0, -1.9, 0.0, 3.0, 3.5], dtype=torch.float64)
    flow = pl.ODE(lambda x, t: torch.full_like(x, 1.0) * 2 * t)  # x + t^2: exact for order 2
    states = list(pl.walk(flow, solver, start(), times))
    if solver is not pl.EULER:
        for state, t in zip(states, times, strict=True):
            assert torch.allclose(state, start() + t**2 - 4, atol=1e-12)
    else:  # the left sum of 2 t dt
        total = float((2 * times[:-1] * times.diff()).sum())
        assert torch.allclose(states[-1], start() + total, atol=1e-12)


@pytest.mark.parametrize("solver", [*RUNGE_KUTTA, *STOCHASTIC], ids=repr)
def test_an_ode_runs_backwards_to_where_it_came_from(solver):
    times = torch.linspace(0, 1, 2001, dtype=torch.float64)
    *_, there = pl.walk(DECAY, pl.RK4, start(), times)
    *_, back = pl.walk(DECAY, solver, there, times.flip(0))
    assert torch.allclose(back, start(), atol=2e-3)


def test_the_drift_is_read_at_the_nodes_of_each_step():
    read = []
    flow = pl.ODE(lambda x, t: read.append(float(t)) or x)
    list(pl.walk(flow, pl.RK4, start(), torch.tensor([0.0, 0.5, 2.0])))
    assert read == [0, 0.25, 0.25, 0.5, 0.5, 1.25, 1.25, 2.0]


def test_a_process_gets_a_time_as_wide_as_its_points():
    seen = []
    flow = pl.ODE(lambda x, t: seen.append(t.dtype) or x)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        *_, end = pl.walk(flow, pl.EULER, start().to(dtype), UP)
        assert end.dtype == dtype
    assert set(seen[:4]) == {torch.float32} and set(seen[4:8]) == {torch.float32} and set(seen[8:]) == {torch.float64}


@pytest.mark.parametrize("solver", STOCHASTIC, ids=repr)
def test_backwards_on_a_bare_sde_is_refused(solver):
    for process in (pl.BrownianMotion(), pl.OrnsteinUhlenbeck(), pl.SDE(lambda x, t: x, 1.0)):
        with pytest.raises(ValueError, match="times must increase for this SDE, got 1 to 0"):
            pl.walk(process, solver, start(), UP.flip(0))


@pytest.mark.parametrize("solver", RUNGE_KUTTA, ids=repr)
def test_a_runge_kutta_method_refuses_an_sde(solver):
    with pytest.raises(ValueError, match=r"BrownianMotion has a diffusion.*EulerMaruyama"):
        pl.walk(pl.BrownianMotion(), solver, start(), UP)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 0.5, 0.5, 1.0], "strictly one way, up or down, got 0.5 then 0.5"),
        ([0.0, 0.5, 0.2, 1.0], "got 0.5 then 0.2"),
        ([1.0, 0.5, 0.7, 0.0], "got 0.5 then 0.7"),
        ([0.0, 1.0, 0.0], "strictly one way"),
        ([0.0, 0.0], "got 0 then 0"),
        ([0.0, math.nan, 1.0], "times must be finite, got nan"),
        ([0.0, math.inf], "times must be finite, got inf"),
        ([0.5], "at least two"),
        ([], "at least two"),
        ([[0.0, 1.0]], "at least two"),
        (0.5, "at least two"),
    ],
)
@pytest.mark.parametrize("solver", [pl.HEUN, pl.EulerMaruyama()], ids=repr)
def test_a_grid_that_turns_or_stands_still_is_refused_at_once(times, message, solver):
    with pytest.raises(ValueError, match=message):
        pl.walk(DECAY, solver, start(), torch.tensor(times))


def test_a_grid_is_solved_in_float64_on_the_host():
    found = grid(torch.tensor([0.0, 0.1], dtype=torch.float32))
    assert found.dtype == torch.float64 and found.device.type == "cpu"


def test_a_walk_follows_the_callers_grad_mode():
    x = start().requires_grad_()
    *_, end = pl.walk(DECAY, pl.RK4, x, UP)
    (gradient,) = torch.autograd.grad(end.sum(), x)
    assert torch.allclose(gradient, torch.full_like(x, math.exp(-1)), atol=1e-4)
    with torch.no_grad():
        *_, end = pl.walk(DECAY, pl.RK4, x, UP)
    assert not end.requires_grad


def test_the_consumers_grad_mode_is_its_own_between_states():
    for _ in pl.walk(DECAY, pl.EULER, start(), UP):
        assert torch.is_grad_enabled()
    with torch.no_grad():
        for _ in pl.walk(DECAY, pl.EULER, start(), UP):
            assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_the_end_has_a_slope_in_the_time_it_ends_at():
    stop = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    times = torch.linspace(0, 1, 33, dtype=torch.float64) * stop
    *_, end = pl.walk(DECAY, pl.RK4, start(), times)
    (slope,) = torch.autograd.grad(end.sum(), stop)
    assert float(slope) == pytest.approx(-math.exp(-1) * float(start().sum()), rel=1e-6)


@pytest.mark.parametrize("solver", STOCHASTIC, ids=repr)
def test_the_same_noise_is_the_same_walk_and_another_is_not(solver):
    def end(noise):
        return list(pl.walk(pl.OrnsteinUhlenbeck(), solver, start(), UP, noise))[-1]

    assert torch.equal(end(Noise(1)), end(Noise(1)))
    assert not torch.equal(end(Noise(1)), end(Noise(2)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(end(None), end(None))  # a fresh seed each time


def test_a_brownian_walk_is_the_sum_of_its_draws():
    noise, x = Noise(5), start()
    states = list(pl.walk(pl.BrownianMotion(2.0), pl.EulerMaruyama(), x, UP, noise))
    expected = x
    for draw in range(4):
        expected = expected + 2.0 * 0.5 * noise.of(WALK_STREAM).like(x, draw)
        assert torch.allclose(states[draw + 1], expected, atol=1e-14)


@pytest.mark.parametrize("solver", STOCHASTIC, ids=repr)
def test_part_of_a_batch_walks_as_in_the_whole(solver):
    x = start(6)
    *_, whole = pl.walk(pl.OrnsteinUhlenbeck(), solver, x, UP, Noise(3))
    *_, part = pl.walk(pl.OrnsteinUhlenbeck(), solver, x[4:], UP, Noise(3).at(4))
    assert torch.equal(part, whole[4:])


def test_without_noise_euler_maruyama_is_euler_to_the_bit():
    quiet = pl.SDE(lambda x, t: -x, 0.0)
    for process in (DECAY, quiet):
        *_, a = pl.walk(process, pl.EulerMaruyama(), start(), UP)
        *_, b = pl.walk(DECAY, pl.EULER, start(), UP)
        assert torch.equal(a, b)


def test_without_noise_stochastic_heun_is_heun():
    *_, a = pl.walk(DECAY, pl.StochasticHeun(), start(), UP)
    *_, b = pl.walk(DECAY, pl.HEUN, start(), UP)
    assert torch.allclose(a, b, atol=1e-15)


def test_a_diffusion_may_be_a_number_for_each_sample():
    sigma = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    x = torch.zeros(3, 3, dtype=torch.float64)  # as many features as samples
    *_, end = pl.walk(pl.SDE(lambda x, t: 0 * x, lambda x, t: sigma), pl.EulerMaruyama(), x, UP[:2], Noise(1))
    assert torch.allclose(end, sigma[:, None] * 0.5 * Noise(1).of(WALK_STREAM).like(x), atol=1e-14)


def test_heun_averages_the_diffusion_over_time_alone():
    # dX = X dW: Ito keeps the mean, Stratonovich would grow it by e^(1/2)
    x = torch.ones(20_000, 1, dtype=torch.float64)
    times = torch.linspace(0, 1, 33, dtype=torch.float64)
    *_, end = pl.walk(pl.SDE(lambda x, t: 0 * x, lambda x, t: x), pl.StochasticHeun(), x, times, Noise(0))
    assert abs(float(end.mean()) - 1) < 5 * math.sqrt((math.e - 1) / len(x))
