"""Checks of users' parts: ours pass, realistic bugs are called out by the right law, and nothing stops the others."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import pathline as pl
from pathline.sampling.sampler import path_grid
from pathline.solvers.solver import moved
from pathline.verify import parts
from pathline.verify.checks import (
    Report,
    check_field,
    check_guidance,
    check_path,
    check_prediction,
    check_sampler,
    check_schedule,
    check_solver,
)
from pathline.verify.sampling import _samplers

LINEAR = pl.GaussianPath(pl.LinearSchedule())
QUICK = (1, 3, 4, 5, 6, 8, 9, 12, 19)  # laws that need no long simulation


def broken(report: Report) -> dict[str, list[str]]:
    """The failures of each law that is broken, by its name."""
    return {checked.law.name: checked.failures for checked in report.broken}


@pytest.mark.parametrize("name", parts.schedules())
def test_every_schedule_passes(name):
    report = check_schedule(parts.schedules()[name], QUICK)
    assert len(report.checked) == 6
    assert not report.broken, report


@pytest.mark.parametrize("name", parts.predictions())
def test_every_prediction_passes(name):
    some = {"variance-preserving": pl.VariancePreservingSchedule()}
    report = check_prediction(parts.predictions()[name], some, QUICK)
    assert len(report.checked) == 2
    assert not report.broken, report


@pytest.mark.parametrize("path", [LINEAR, pl.GaussianPath(pl.PolynomialSchedule(3)), pl.BridgePath(), pl.BridgePath(1)])
def test_every_path_passes(path):
    assert not check_path(path).broken, check_path(path)


@pytest.mark.parametrize("name", parts.examples(pl.Solver))
def test_every_solver_passes(name):
    report = check_solver(parts.examples(pl.Solver)[name], QUICK)
    assert len(report.checked) >= 3
    assert not report.broken, report


@pytest.mark.parametrize(
    ("sampler", "steps"), [parts for _, parts in _samplers()], ids=[name for name, _ in _samplers()]
)
def test_every_sampler_passes(sampler, steps):
    report = check_sampler(sampler, steps, QUICK)
    assert len(report.checked) >= 2
    assert not report.broken, report


@pytest.mark.parametrize("head", [pl.VELOCITY, (pl.SCORE, pl.DATA)])
def test_exact_fields_pass(head):
    report = check_field(parts.field(head=head), parts.mixture())
    assert not report.broken, report
    data = parts.mixture().sample(30, seed=1).reshape(30, 1, 2)
    own = pl.EmpiricalField(data, LINEAR, bandwidth=0.3)
    report = check_field(own, own)
    assert not report.broken, report


def test_a_network_keeps_the_contract_of_a_field():
    torch.manual_seed(0)
    network = pl.NetworkField(pl.MLP(2), LINEAR, pl.VELOCITY)
    report = check_field(network, only=(3, 19))
    assert len(report.checked) == 2
    assert not report.broken, report


def test_guidance_passes():
    assert not check_guidance(pl.ClassifierFree).broken, check_guidance(pl.ClassifierFree)


@pytest.mark.slow
def test_every_law_of_a_check_holds_for_ours():
    for schedule in parts.schedules().values():
        check_schedule(schedule).raise_if_broken()
    for prediction in parts.predictions().values():
        check_prediction(prediction).raise_if_broken()
    for solver in parts.examples(pl.Solver).values():
        check_solver(solver).raise_if_broken()
    check_solver(pl.Dopri5()).raise_if_broken()
    for _, (sampler, steps) in _samplers():
        check_sampler(sampler, steps).raise_if_broken()


# schedules ------------------------------------------------------------------------------------------------------------


class Swapped(pl.Schedule):
    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def beta(self, t: Tensor) -> Tensor:
        return t


class Cubic(pl.Schedule):
    """Its slope has lost its power."""

    def alpha(self, t: Tensor) -> Tensor:
        return t**3

    def beta(self, t: Tensor) -> Tensor:
        return 1 - t**3

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return t**2, -(t**2)


def test_swapped_scales_are_called_out():
    failures = broken(check_schedule(Swapped(), (4,)))["schedule_is_sound"]
    assert "error at the ends 1 (<= 1e-06)" in failures
    assert "falling alpha or rising beta 2000 (<= 0)" in failures


def test_a_wrong_slope_is_called_out_and_whole_samples_see_it():
    failures = broken(check_schedule(Cubic(), (3, 4, 5, 7)))
    assert failures["schedule_is_sound"] == ["error of a slope 0.6667 (<= 1e-06)"]
    assert failures["velocity_and_score_of_a_conditional_path"][0] == "error of the velocity 2 (<= 1e-06)"
    assert "density_follows_its_equation" in failures
    assert "one_time_or_one_each" not in failures


# predictions ----------------------------------------------------------------------------------------------------------


def test_a_name_that_is_taken_is_called_out():
    mine = pl.Prediction("velocity", lambda c: (-c.beta, c.alpha))
    failures = broken(check_prediction(mine, {"linear": pl.LinearSchedule()}, (1,)))["conversion_is_exact"]
    assert any(failure.startswith("from velocity on linear: error / (eps kappa)") for failure in failures)


def test_a_target_of_another_sign_is_called_out():
    class Noise(pl.Prediction):
        def target(self, c: Any, data: Tensor, noise: Tensor) -> Tensor:
            return -noise

    mine = Noise("mine", lambda c: (torch.zeros_like(c.alpha), torch.ones_like(c.beta)))
    failures = broken(check_prediction(mine, {"linear": pl.LinearSchedule()}, (1,)))["conversion_is_exact"]
    assert len(failures) == 2 * len(parts.predictions())


# paths ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Backwards(pl.GaussianPath):
    def point(self, noise: Tensor, data: Tensor, t: Any, draw: Any = None) -> Any:
        return super().point(data, noise, t, draw)


@dataclass(frozen=True)
class Deviation(pl.GaussianPath):
    def target_variance(self, kind: pl.Prediction, t: Tensor) -> Tensor:
        return super().target_variance(kind, t).sqrt()


def test_a_path_that_runs_from_data_to_noise_is_called_out():
    failures = broken(check_path(Backwards(pl.CosineSchedule())))
    names = [failure.split(" of ")[0].split(" at ")[0] for failure in failures["a_path_moves_at_its_velocity"]]
    assert names == ["error"] * 2, failures


def test_a_standard_deviation_for_a_variance_is_called_out():
    failures = broken(check_path(Deviation(pl.LinearSchedule())))
    assert list(failures) == ["targets_have_their_variance"]


# solvers --------------------------------------------------------------------------------------------------------------


class OldTime(pl.Solver):
    """Heun's method whose second stage is read at the old time."""

    order = 2
    nodes = (0.0, 1.0)
    is_stochastic = False

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Any) -> Tensor:
        first = process.drift(x, t)
        return moved(x, t, s, first + process.drift(moved(x, t, s, first), t), 0.5)

    def check(self, process: Any, times: Tensor) -> None:
        pass


class InPlace(pl.Solver):
    nodes = (0.0,)
    is_stochastic = False

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Any) -> Tensor:
        return x.add_(process.drift(x, t), alpha=float(s - t))

    def check(self, process: Any, times: Tensor) -> None:
        pass


class Normed(InPlace):
    """It shortens a step by the norm of the whole batch."""

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Any) -> Tensor:
        slope = process.drift(x, t)
        return x + (s - t).to(x.dtype) * slope / slope.norm().clamp(min=1)


class WholeStep(pl.Solver):
    """Its noise grows with h, not with its root."""

    nodes = (0.0,)
    is_stochastic = True

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Any) -> Tensor:
        x = moved(x, t, s, process.drift(x, t))
        return x + process.diffusion(x, t) * (s - t).abs() * noise(x) if hasattr(process, "diffusion") else x

    def check(self, process: Any, times: Tensor) -> None:
        pass


def test_a_stage_at_the_old_time_is_called_out_by_its_order():
    report = check_solver(OldTime())
    failures = broken(report)
    assert failures["ode_solver_has_its_order"][0].startswith("order on pendulum, driven 0.9")
    assert failures["a_walk_begins_at_its_start_and_returns"][0].startswith("distance of a call from its node")
    assert "is a later stage read at the old time" in str(report)
    with pytest.raises(AssertionError, match="order on pendulum"):
        report.raise_if_broken()


def test_a_step_in_place_is_called_out():
    failures = broken(check_solver(InPlace()))["a_walk_begins_at_its_start_and_returns"]
    assert "states changed after they were given 400 (<= 0)" in failures


def test_a_step_by_the_norm_of_the_batch_is_called_out():
    failures = broken(check_solver(Normed()))
    assert failures["a_step_of_a_sample_is_its_own"][0].startswith("alone less in a batch, torch.float64")


def test_noise_that_grows_with_the_step_is_called_out():
    failures = broken(check_solver(WholeStep(), (5, 9, 10)))
    assert failures["brownian_motion_has_its_increments"][0].startswith("largest z of 44")
    assert "sde_solver_has_its_strong_order" in failures
    assert "ode_solver_has_its_order" not in failures


# samplers -------------------------------------------------------------------------------------------------------------


class Steps(pl.Sampler):
    """Euler's steps along a drift of one's own, with noise of one's own."""

    nodes = (0.0,)

    def drift(self, field: pl.Field, x: Tensor, t: Tensor) -> Tensor:
        return field.velocity(x, t)

    def noise(self, x: Tensor, noise: pl.Noise, k: int) -> Tensor | float:
        return 0.0

    def walk(self, field: pl.Field, x: Tensor, times: Tensor, noise: pl.Noise | None = None) -> Any:
        times = path_grid(times)
        yield x
        for k, (t, s) in enumerate(itertools.pairwise(times)):
            x = moved(x, t, s, self.drift(field, x, t)) + float((s - t).abs() ** 0.5) * self.noise(x, noise, k)
            yield x


class NoHalf(Steps):
    def drift(self, field: pl.Field, x: Tensor, t: Tensor) -> Tensor:
        u, s = field.read(x, t, pl.VELOCITY, pl.SCORE)
        return u + s

    def noise(self, x: Tensor, noise: pl.Noise, k: int) -> Tensor:
        return noise.like(x, k)


class OwnDice(Steps):
    def drift(self, field: pl.Field, x: Tensor, t: Tensor) -> Tensor:
        u, s = field.read(x, t, pl.VELOCITY, pl.SCORE)
        return u + s / 2

    def noise(self, x: Tensor, noise: pl.Noise, k: int) -> Tensor:
        return torch.randn_like(x)


class TwoCalls(Steps):
    """Heun's method, or so it says."""

    order = 2

    def drift(self, field: pl.Field, x: Tensor, t: Tensor) -> Tensor:
        return (field.velocity(x, t) + field.velocity(x, t)) / 2


def test_a_right_sampler_passes():
    report = check_sampler(Steps(), 100, QUICK)
    assert not report.broken, report


def test_a_drift_without_its_half_is_called_out_by_the_spread():
    failures = broken(check_sampler(NoHalf(), 50, (5, 11, 19)))
    assert "a_walk_of_a_sample_is_its_own" not in failures
    assert failures["every_sampler_has_the_same_marginals"][0].startswith("variance ratio 0.")


def test_noise_of_ones_own_is_called_out():
    failures = broken(check_sampler(OwnDice(), 100, (5, 19)))
    assert list(failures) == ["a_walk_of_a_sample_is_its_own"]


def test_an_order_that_is_not_there_and_calls_that_are_not_told_of_are_called_out():
    failures = broken(check_sampler(TwoCalls(), only=(5, 9)))
    assert failures["a_sampler_begins_at_its_start"] == ["calls of the field for one that is declared 2 (<= 1)"]
    assert failures["multistep_method_has_its_order"][0].startswith(("order 1.0", "order 0.9"))


# fields ---------------------------------------------------------------------------------------------------------------


class Own(pl.Field):
    """The exact field, through a function of one's own."""

    def __init__(self, prediction: Any = pl.VELOCITY) -> None:
        super().__init__()
        self.path, self.prediction = LINEAR, prediction
        self.exact = parts.field()

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.exact.read_as(x, t, self.prediction)


class Signed(Own):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        velocity, score = self.exact.read(x, t, pl.VELOCITY, pl.SCORE)
        return velocity, -score


class Dropped(Own):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        return torch.nn.functional.dropout(super().forward(x, t), 0.5)


class Unmet(Own):
    """It multiplies points by times as they come."""

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return t * x if t.ndim and len(t) == x.shape[1] else super().forward(x, t)


class Detached(Own):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        return super().forward(x, t.detach())


class Turning(Own):
    def forward(self, x: Tensor, t: Tensor) -> Any:
        return super().forward(x, t) + 0.3 * torch.stack((-x[:, 1], x[:, 0]), 1)


class Mistaken(Own):
    """It returns data and says velocity."""

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.exact.data(x, t)


def test_an_own_field_passes():
    assert not check_field(Own(pl.DATA), parts.mixture(), tolerance=1e-9).broken


@pytest.mark.parametrize(
    ("field", "law", "figure"),
    [
        (Signed((pl.VELOCITY, pl.SCORE)), "heads_of_a_field_say_the_same", "error of score from velocity"),
        (Dropped(), "a_value_of_a_field_is_its_own", "second time less first, velocity"),
        (Unmet(), "a_field_takes_one_time_or_one_each", "difference"),
        (Detached(), "a_field_keeps_its_derivatives", "error of d/dt, velocity"),
        (Turning(), "a_score_is_a_gradient", "asymmetry"),
        (Mistaken(), "a_score_follows_its_own_equation", "residual, sigma = 0"),
        (Mistaken(), "a_field_is_the_one_of_its_data", "error of velocity at t = 0.1"),
    ],
)
def test_a_bug_of_a_field_is_called_out(field, law, figure):
    failures = broken(check_field(field, parts.mixture()))
    assert any(figure in failure for failure in failures[law]), failures


# guidance -------------------------------------------------------------------------------------------------------------


def one_more(conditional: pl.Field, unconditional: pl.Field, w: Any) -> pl.Field:
    return pl.ClassifierFree(conditional, unconditional, w + 1)


def swapped(conditional: pl.Field, unconditional: pl.Field, w: Any) -> pl.Field:
    return pl.ClassifierFree(unconditional, conditional, w)


@pytest.mark.parametrize("guided", [one_more, swapped])
def test_guidance_off_by_one_or_swapped_is_called_out(guided):
    report = check_guidance(guided)
    assert {checked.law.name for checked in report.broken} == {
        "guidance_of_zero_and_one_is_none",
        "guided_gaussian_is_its_closed_form",
    }


# bad input ------------------------------------------------------------------------------------------------------------


def bad(kind: str) -> pl.Schedule:
    class Bad(pl.LinearSchedule):
        def beta(self, t: Tensor) -> Any:
            if kind == "raises":
                raise ZeroDivisionError("division by zero")
            good = 1 - t
            return {"shape": good[None], "dtype": good.half(), "number": 0.5, "nan": good / good * good}[kind]

    return Bad()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raises", "Bad.beta(float64 of shape (1001,) from 0 to 1) raised ZeroDivisionError: division by zero"),
        ("shape", "returned float64 of shape (1, 1001) from 0 to 1; it must be a tensor of shape (1001,) in float64"),
        ("dtype", "returned float16 of shape (1001,) from 0 to 1; it must be a tensor of shape (1001,) in float64"),
        ("number", "returned float 0.5; it must be a tensor of shape (1001,) in float64"),
        ("nan", "Bad.beta(float64 of shape (1001,) from 0 to 1) returned nan in 1 of 1001 numbers"),
    ],
)
def test_what_is_no_schedule_breaks_the_law_that_called_it_and_the_rest_go_on(kind, words):
    report = check_schedule(bad(kind), (1, 3, 4, 5, 6))
    assert len(report.checked) == 5
    assert words in broken(report)["schedule_is_sound"][0]


def test_bad_steps_walks_and_values_are_named_with_their_call():
    class Stop(Steps):
        def drift(self, field: pl.Field, x: Tensor, t: Tensor) -> Tensor:
            return torch.full_like(x, float("nan"))

    class Half(InPlace):
        def step(self, *args: Any) -> Any:
            return args[1].half()

    class Wide(Own):
        def forward(self, x: Tensor, t: Tensor) -> Any:
            return torch.cat((x, x), 1)

    walks = broken(check_sampler(Stop(), only=(5, 19)))
    assert "state 1 of Stop.walk(_Single(...)" in str(walks) or "state 1 of Stop.walk(" in str(walks)
    assert "returned nan in 18 of 18 numbers" in str(walks)
    steps = broken(check_solver(Half()))
    assert len(steps) == 3
    assert all("Half.step(ODE(" in found[0] and "returned float16" in found[0] for found in steps.values())
    values = broken(check_field(Wide(), only=(3, 19)))
    assert all("Wide.forward(float64 of shape (" in found[0] for found in values.values())
    assert all("it must be a tensor of shape (" in found[0] for found in values.values())


@pytest.mark.parametrize(
    ("check", "argument", "words"),
    [
        (check_schedule, pl.LinearSchedule, "schedule must be a Schedule itself, got the class LinearSchedule; pass"),
        (check_schedule, "linear", "schedule must be a Schedule, got 'linear'"),
        (check_solver, pl.ODE(lambda x, t: x), "solver must be a Solver or AdaptiveSolver, got"),
        (check_field, None, "field must be a Field, got None; subclass it"),
        (check_guidance, 3.0, "guided must make a field of"),
    ],
)
def test_what_is_of_another_kind_is_refused(check, argument, words):
    with pytest.raises(TypeError, match=words):
        check(argument)
