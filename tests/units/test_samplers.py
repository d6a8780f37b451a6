"""Samplers: their grids and counts, and where they take a normal whose flow is known."""

import math

import pytest
import torch

import pathline as pl
from pathline.noise import Noise
from pathline.solvers.solver import Solver
from pathline.specs import catalogue

pytestmark = pytest.mark.fast

S, M = 0.5, 1.5
SOLVERS = {name: made() if isinstance(made, type) else made for name, made in catalogue(Solver).items()}
SAMPLERS = {
    **{
        name: pl.SDESampler(pl.BetaSigma(1.0), solver) if solver.is_stochastic else pl.ODESampler(solver)
        for name, solver in SOLVERS.items()
    },
    "ddim": pl.DDIM(),
    "ddpm": pl.DDIM(1.0),
    "exponential": pl.ExponentialSDE(0.7),
    "churn": pl.ChurnSampler(),
    "predictor-corrector": pl.PredictorCorrector(),
    "adams-moulton": pl.Multistep.adams_moulton(),
    "dpm": pl.Multistep.dpm(),
    "deis": pl.Multistep.deis(),
    "unipc": pl.Multistep.unipc(),
}
each_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


class Counted(pl.Field):
    """The exact field towards N(M, S^2), as one head; it counts its calls."""

    def __init__(self, head=pl.VELOCITY, schedule=None):
        super().__init__()
        self.path = pl.GaussianPath(schedule or pl.LinearSchedule())
        self.prediction = head
        normal = pl.Normal(torch.tensor([M], dtype=torch.float64), S**2)
        self.exact = pl.MixtureField(normal, self.path, head)
        self.calls = 0
        self.modes = set()

    def forward(self, x, t):
        self.calls += 1
        self.modes.add((torch.is_grad_enabled(), self.training))
        return self.exact(x, t)


@each_sampler
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_step_calls_the_field_once_a_node(sampler, steps):
    field = Counted()
    times = sampler.times(field, steps=steps)
    assert torch.equal(times, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
    assert times.dtype == torch.float64 and times.device.type == "cpu" and field.calls == 0
    *_, _ = sampler.walk(field, torch.zeros(3, 1, dtype=torch.float64), times, Noise(0))
    if isinstance(sampler, pl.SDESampler | pl.PredictorCorrector):  # other steps, or none, where the score is infinite
        assert steps <= field.calls <= steps * len(sampler.nodes)
    else:
        assert field.calls == steps * len(sampler.nodes)


@each_sampler
@pytest.mark.parametrize("evaluations", [6, 7, 12])
def test_evaluations_are_the_most_calls(sampler, evaluations):
    field = Counted()
    times = sampler.times(field, evaluations=evaluations)
    *_, _ = sampler.walk(field, torch.zeros(3, 1, dtype=torch.float64), times, Noise(0))
    assert len(times) - 1 == evaluations // len(sampler.nodes)
    assert evaluations // len(sampler.nodes) <= field.calls <= evaluations


@each_sampler
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": -3}, "steps must be at least 1, got -3"),
        ({"evaluations": 0}, "evaluations must be at least .*got 0"),
        ({"evaluations": -5}, "evaluations must be at least .*got -5"),
        ({"steps": 3, "evaluations": 3}, "either steps or evaluations, got steps=3, evaluations=3"),
        ({}, "either steps or evaluations, got steps=None"),
    ],
)
def test_counts_that_make_no_grid_are_refused(sampler, counts, message):
    with pytest.raises(ValueError, match=message):
        sampler.times(Counted(), **counts)


def test_evaluations_for_less_than_a_step_are_refused():
    with pytest.raises(ValueError, match=r"at least 4 for .*RK4.*got 3"):
        pl.ODESampler(pl.RK4).times(Counted(), evaluations=3)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_an_eta_out_of_range_is_refused(eta):
    with pytest.raises(ValueError, match=f"eta must be between 0 .* got {eta}"):
        pl.DDIM(eta)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_a_sigma_that_is_no_scale_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must be a finite number, 0 or more"):
        pl.SDESampler(sigma)


def test_an_sde_sampler_refuses_an_ode_solver():
    with pytest.raises(ValueError, match=r"solver must be one for SDEs, got HEUN"):
        pl.SDESampler(0.5, pl.HEUN)


@each_sampler
@pytest.mark.parametrize("times", [[0.0, 1.5], [-0.1, 1.0], [0.0, 0.5, 0.5, 1.0], [0.5]])
def test_a_grid_that_leaves_the_path_is_refused_before_the_field_is_called(sampler, times):
    field = Counted()
    with pytest.raises(ValueError, match="times must"):
        sampler.walk(field, torch.zeros(3, 1, dtype=torch.float64), torch.tensor(times))
    assert field.calls == 0


@each_sampler
def test_a_walk_yields_a_state_a_time_and_changes_none_later(sampler):
    x = Noise(0).normal((4, 1), dtype=torch.float64)
    begin, states, copies = x.clone(), [], []
    for state in sampler.walk(Counted(), x, torch.linspace(0, 1, 6, dtype=torch.float64), Noise(1)):
        states.append(state)
        copies.append(state.clone())
    assert len(states) == 6 and states[0] is x and torch.equal(x, begin)
    assert all(torch.equal(a, b) for a, b in zip(states, copies, strict=True))


@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.CosineSchedule(), pl.SquareRootSchedule()], ids=repr)
@pytest.mark.parametrize("head", [pl.VELOCITY, pl.NOISE, pl.DATA, pl.SCORE], ids=repr)
def test_the_flow_of_a_normal_is_its_quantile_map(schedule, head):
    x = Noise(0).normal((5, 1), dtype=torch.float64)
    sampler, field = pl.ODESampler(pl.RK4), Counted(head, schedule)
    error = []
    for steps in (50, 200):
        *_, end = sampler.walk(field, x, sampler.times(field, steps=steps))
        error.append(float((end - (M + S * x)).abs().max()))
    is_steep = isinstance(schedule, pl.SquareRootSchedule)  # the last step then counts for order 1
    assert error[1] < (1e-2 if is_steep else 2e-3) and error[1] < error[0] / (1.5 if is_steep else 3)


def test_the_flow_runs_back_to_its_noise():
    x = Noise(0).normal((5, 1), dtype=torch.float64)
    field = Counted()
    times = torch.linspace(0, 1, 101, dtype=torch.float64)
    *_, back = pl.ODESampler(pl.RK4).walk(field, M + S * x, times.flip(0))
    assert torch.allclose(back, x, atol=1e-6)


@pytest.mark.parametrize("sampler", [pl.SDESampler(0.5), pl.SDESampler(pl.MemorylessSigma()), pl.DDIM(1.0)], ids=repr)
@pytest.mark.parametrize("is_backward", [False, True])
def test_a_noisy_sampler_has_the_moments_at_the_other_end(sampler, is_backward):
    n = 10_000
    start = Noise(0).normal((n, 1), dtype=torch.float64)
    times = torch.linspace(0, 1, 201, dtype=torch.float64)
    field = Counted()
    start, times, mean, std = (M + S * start, times.flip(0), 0, 1) if is_backward else (start, times, M, S)
    *_, end = sampler.walk(field, start, times, Noise(0, stream=1))
    assert abs(float(end.mean()) - mean) < 5 * std / math.sqrt(n) + 0.01 * std
    assert abs(float(end.std()) / std - 1) < 5 / math.sqrt(2 * n) + 0.01


def test_a_memoryless_walk_forgets_its_start_and_the_flow_does_not():
    n = 10_000
    start = Noise(0).normal((n, 1), dtype=torch.float64)
    times = torch.linspace(0, 1, 101, dtype=torch.float64)

    def correlation(sampler):
        *_, end = sampler.walk(Counted(), start, times, Noise(0, stream=1))
        return float(torch.corrcoef(torch.cat((start, end), 1).T)[0, 1])

    assert abs(correlation(pl.SDESampler(pl.MemorylessSigma()))) < 5 / math.sqrt(n) + 0.02
    assert correlation(pl.ODESampler()) == pytest.approx(1, abs=1e-9)


def test_ddim_on_the_straight_line_is_euler():
    x = Noise(0).normal((5, 1), dtype=torch.float64)
    times = torch.linspace(0, 1, 11, dtype=torch.float64)
    for a, b in zip(
        pl.DDIM().walk(Counted(), x, times), pl.ODESampler(pl.EULER).walk(Counted(), x, times), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-13)


def test_without_noise_the_sde_is_the_flow_to_the_bit():
    x = Noise(0).normal((5, 1), dtype=torch.float64)
    times = torch.linspace(0, 0.9, 11, dtype=torch.float64)
    for sigma in (0.0, lambda t: 0 * t):
        walks = (pl.SDESampler(sigma).walk(Counted(), x, times), pl.ODESampler(pl.EULER).walk(Counted(), x, times))
        assert all(torch.equal(a, b) for a, b in zip(*walks, strict=True))


def test_the_default_is_the_general_multistep_method():
    assert pl.default_sampler() == pl.GeneralSampler() and pl.ODESampler() == pl.ODESampler(pl.HEUN)


def test_sample_is_the_end_of_the_walk_from_its_noise():
    found = pl.sample(Counted(), (6, 1), steps=20, seed=3)
    start = Noise(3).normal((6, 1), dtype=torch.float64)
    *_, end = pl.GeneralSampler().walk(Counted(), start, pl.GeneralSampler().times(Counted(), steps=20))
    assert torch.equal(found, end) and found.dtype == torch.float64


@each_sampler
def test_sample_i_depends_on_the_seed_and_i_only(sampler):
    def draw(n, seed):
        return pl.sample(Counted(), (n, 1), sampler, steps=5, seed=seed)

    assert torch.allclose(draw(7, 3)[:4], draw(4, 3), atol=1e-13)
    assert not torch.allclose(draw(4, 3), draw(4, 4))


def test_without_a_seed_every_draw_is_another():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (pl.sample(Counted(), (3, 1), steps=2) for _ in range(2))
        torch.manual_seed(0)
        again = pl.sample(Counted(), (3, 1), steps=2)
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_fifty_steps_unless_told_otherwise():
    field = Counted()
    pl.sample(field, (2, 1), seed=0)
    assert field.calls == 50
    field.calls = 0
    pl.sample(field, (2, 1), pl.ODESampler(), seed=0)
    assert field.calls == 50 * 2
    field.calls = 0
    pl.sample(field, (2, 1), pl.ODESampler(), seed=0, evaluations=9)
    assert field.calls == 8


def test_sampling_keeps_no_gradient_and_leaves_the_field_as_it_was():
    field = Counted().train()
    assert not pl.sample(field, (2, 1), steps=2, seed=0).requires_grad
    assert field.modes == {(False, False)} and field.training


@pytest.mark.parametrize("shape", [(3,), (0, 1), (3, 0), ()])
def test_a_shape_of_no_points_is_refused(shape):
    with pytest.raises(ValueError, match=r"shape must be \(count, \*shape of a point\)"):
        pl.sample(Counted(), shape)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be"):
        pl.sample(Counted(), (3, 1), seed=seed)


def test_samples_have_the_dtype_of_the_fields_own_numbers():
    network = pl.MLP(2, 8, 1)
    field = pl.NetworkField(network, pl.GaussianPath(pl.LinearSchedule()))
    assert pl.sample(field, (2, 2), steps=1).dtype == torch.float32
    assert pl.sample(field.double(), (2, 2), steps=1).dtype == torch.float64


def test_a_solver_of_another_family_is_refused_with_the_sampler_that_takes_it():
    for made in (pl.ODESampler, lambda solver: pl.SDESampler(0.5, solver)):
        with pytest.raises(ValueError, match=r"got Dopri5.*AdaptiveSampler adaptive ones"):
            made(pl.Dopri5())
    with pytest.raises(ValueError, match=r"solver must be one for ODEs, not adaptive, got Dopri5"):
        pl.ChurnSampler(pl.Dopri5())
    with pytest.raises(ValueError, match=r"solver must be adaptive, .* got HEUN; ODESampler takes others"):
        pl.AdaptiveSampler(pl.HEUN)
