"""Laws held to your own parts: hand in an object, get the laws that it breaks, each with its figures and a hint.

    assert not check_schedule(MySchedule()).broken

A law is a function of parts, so yours takes the place of ours: these are the laws that hold the library itself. A part
that raises, or returns another shape or dtype than it must, or NaN, breaks the law that called it; the call is named,
with its values, and the other laws go on.
"""

from __future__ import annotations

import inspect
import itertools
import textwrap
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias

import torch

from pathline.data.distributions import GaussianMixture, Normal
from pathline.fields.empirical import EmpiricalField
from pathline.fields.exact import MixtureField
from pathline.fields.field import Field
from pathline.noise import Noise
from pathline.paths.path import GaussianPath, Path
from pathline.paths.predictions import SCORE, VELOCITY, Prediction
from pathline.paths.schedules import LinearSchedule, Schedule
from pathline.sampling.multistep import GeneralSampler
from pathline.sampling.sampler import STEPS, Sampler
from pathline.solvers.adaptive import AdaptiveSolver
from pathline.solvers.runge_kutta import RungeKutta
from pathline.solvers.solver import Solver
from pathline.verify import contracts, fields, multistep, parts, paths, processes, sampling, solvers
from pathline.verify.calls import CallError, called, named, shortened, watched_copy
from pathline.verify.table import Check, Figure, Law, laws

Held: TypeAlias = tuple[Check, str, dict[str, tuple[Any, ...]]]  # a law, a hint, and the parts of each case
SHOWN = 3  # failures of one law that a report prints


@dataclass(frozen=True)
class Checked:
    """What a law came to: the figures of its cases, what was raised in some, and what often causes a failure."""

    law: Law
    figures: tuple[tuple[str, Figure], ...]
    errors: tuple[tuple[str, str], ...]
    hint: str

    @property
    def holds(self) -> bool:
        """Whether it gave figures, all of them within their bounds, and nothing was raised."""
        return bool(self.figures) and not self.failures

    @property
    def failures(self) -> list[str]:
        """What does not hold, in words; what was raised first."""
        found = [f"{case}: {error}" if case else error for case, error in self.errors]
        return found + [
            f"{case}: {figure}" if case else str(figure) for case, figure in self.figures if not figure.holds
        ]

    def __str__(self) -> str:
        verdict = "holds" if self.holds else "FAILS"
        lines = textwrap.wrap(self.law.statement, 105)
        failures = self.failures
        lines += ["  " + failure for failure in failures[:SHOWN]]
        lines += [f"  and {len(failures) - SHOWN} more"] if len(failures) > SHOWN else []
        lines += [] if self.holds else ["  hint: " + self.hint]
        return f"{self.law.number:>3}  {verdict}  " + "\n            ".join(lines)


@dataclass(frozen=True, repr=False)
class Report:
    """The laws that a part was held to; printed, a table."""

    part: str
    checked: tuple[Checked, ...]

    @property
    def broken(self) -> tuple[Checked, ...]:
        """Those that it breaks."""
        return tuple(checked for checked in self.checked if not checked.holds)

    def raise_if_broken(self) -> None:
        """Raise an AssertionError that shows the broken laws, if there are any."""
        if self.broken:
            raise AssertionError(str(Report(self.part, self.broken)))

    def __str__(self) -> str:
        return "\n".join(
            (f"{self.part}: {len(self.broken)} of {len(self.checked)} laws broken", *map(str, self.checked))
        )

    __repr__ = __str__


def check_schedule(schedule: Schedule, only: Collection[int] | None = None) -> Report:
    """The laws of a schedule: its ends and slopes, and those of paths, exact fields and samples on it.

    Args:
        schedule: Yours.
        only: Numbers of the laws to check; all that concern it unless given.

    Raises:
        TypeError: If it is no `Schedule`.
    """
    _must_be(schedule, Schedule, "schedule", "FunctionSchedule(alpha, beta) makes one of two functions")
    watched = watched_copy(schedule, {"alpha": 0, "beta": 0, "slopes": 0, "variance_slope": 0}, is_finite=False)
    one = {"": (watched,)}
    kinds = parts.predictions()
    pairs = itertools.product(kinds.items(), repeat=2)
    slopes = "is a slope the derivative of its scale? leave slopes out to have them by autodiff"
    held: list[Held] = [
        (paths.conversion_is_exact, slopes, {f"{a}->{b}": (p, q, watched) for (a, p), (b, q) in pairs}),
        (paths.one_time_or_one_each, "does a method reshape t, or take only numbers? return the shape of t", one),
        (
            paths.schedule_is_sound,
            "alpha and beta swapped (t = 0 is noise)? ends undeclared? a slope that is not the derivative?",
            one,
        ),
        (paths.velocity_and_score_of_a_conditional_path, slopes, one),
        (fields.score_is_the_gradient_of_log_p, "is beta the noise's standard deviation, not its variance?", one),
        (
            fields.density_follows_its_equation,
            "does variance_slope belong to beta^2, slopes to alpha and beta?",
            {"velocity": (VELOCITY, watched), "score": (SCORE, watched)},
        ),
        (
            sampling.every_sampler_on_every_head_and_schedule,
            "alpha and beta swapped, or ends that are not those declared: samples begin at the noise of t = 0",
            {"": (VELOCITY, watched, GeneralSampler(), 30)},
        ),
        (processes.noising_and_its_reversal_are_one_path, slopes, one),
    ]
    return _report(schedule, held, only)


def check_prediction(
    prediction: Prediction, schedules: dict[str, Schedule] | None = None, only: Collection[int] | None = None
) -> Report:
    """The laws of a kind of prediction: its conversions from and to all others, and the fields that predict it.

    Args:
        prediction: Yours.
        schedules: Those that it is meant for, by name; every schedule of the library unless given.
        only: Numbers of the laws to check.

    Raises:
        TypeError: If it is no `Prediction`.
    """
    _must_be(prediction, Prediction, "prediction", "Prediction(name, row) makes one of a row (a, b)")
    watched = watched_copy(prediction, {"row": 0, "scale": 0}, like=lambda c: c.alpha, is_finite=False)
    schedules = parts.schedules() if schedules is None else schedules
    cases: dict[str, tuple[Any, ...]] = {}
    for (name, kind), (on, schedule) in itertools.product(parts.predictions().items(), schedules.items()):
        cases[f"to {name} on {on}"] = (watched, kind, schedule)
        cases[f"from {name} on {on}"] = (kind, watched, schedule)
    first = dict(itertools.islice(schedules.items(), 1))
    row = (
        "does the row depend on more than the schedule's coefficients, or vanish beside (alpha, beta)? is the name new?"
    )
    held: list[Held] = [
        (paths.conversion_is_exact, row, cases),
        (
            paths.one_time_or_one_each,
            "a row and its scale have the shape of the coefficients: torch.zeros_like(c.alpha), not 0",
            {name: (schedule, [watched, VELOCITY]) for name, schedule in first.items()},
        ),
        (fields.density_follows_its_equation, row, {name: (watched, schedule) for name, schedule in first.items()}),
        (
            sampling.every_sampler_on_every_head_and_schedule,
            row,
            {name: (watched, schedule, GeneralSampler(), 30) for name, schedule in first.items()},
        ),
    ]
    return _report(prediction, held, only)


def check_path(path: Path, only: Collection[int] | None = None) -> Report:
    """The laws of a path: its points, their targets, and what it reads of one kind from others.

    Raises:
        TypeError: If it is no `Path`.
    """
    _must_be(path, Path, "path", "GaussianPath(schedule) makes one of a schedule")
    one = {"": (watched_copy(path, {"point": 1}),)}
    held: list[Held] = [
        (paths.a_path_reads_each_kind_from_the_others, "does `mix` solve for the same ends that `point` joins?", one),
        (
            paths.a_path_takes_one_time_or_one_each,
            "shape a time by `meet(t, x)`, and let it follow the dtype of x",
            one,
        ),
        (
            paths.a_path_moves_at_its_velocity,
            "is the velocity's target the slope of the point in t, noise at t = 0 and data at t = 1?",
            one,
        ),
        (paths.targets_have_their_variance, "is target_variance a variance (squared), of both ends together?", one),
    ]
    return _report(path, held, only)


def check_solver(solver: Solver | AdaptiveSolver, only: Collection[int] | None = None) -> Report:
    """The laws of a solver: its order (declared as `order`, or at least 1), its nodes, and noise if it has some.

    Raises:
        TypeError: If it is no `Solver`.
    """
    _must_be(solver, (Solver, AdaptiveSolver), "solver", "it has step(process, x, t, s, noise)")
    if isinstance(solver, AdaptiveSolver):
        hint = "is the error's norm of each sample alone? is the error's weight row the difference of two orders?"
        return _report(solver, [(solvers.adaptive_solver_keeps_its_tolerance, hint, {"": (type(solver),)})], only)
    one = {"": (watched_copy(solver, {"step": 1}),)}
    held: list[Held] = [
        (
            solvers.a_walk_begins_at_its_start_and_returns,
            "does step change x in place, read the drift elsewhere than at its nodes, or take |s - t| for s - t?",
            one,
        ),
        (
            solvers.ode_solver_has_its_order,
            "an order too low: is a later stage read at the old time, or at the old point? the step h is s - t",
            one,
        ),
        (solvers.a_step_of_a_sample_is_its_own, "does a norm or a step size look at the whole batch?", one),
    ]
    if isinstance(solver, RungeKutta):
        held.append((solvers.ode_solver_meets_its_order_conditions, "is a coefficient of the tableau mistyped?", one))
    if solver.is_stochastic:
        held += [
            (
                solvers.sde_solver_has_its_strong_order,
                "noise is sigma(x, t) sqrt(h) eps, with sigma read at the start: any later and it is Stratonovich's",
                one,
            ),
            (solvers.brownian_motion_has_its_increments, "noise is scaled by sqrt(h), not by h", one),
        ]
    return _report(solver, held, only)


def check_sampler(sampler: Sampler, steps: int | None = None, only: Collection[int] | None = None) -> Report:
    """The laws of a sampler: its walk, its order if it draws no noise, and the law of its samples, up and down.

    Args:
        sampler: Yours.
        steps: With how many the law of its samples is checked, 400 unless given; fewer show a low order.
        only: Numbers of the laws to check.

    Raises:
        TypeError: If it is no `Sampler`.
    """
    _must_be(sampler, Sampler, "sampler", "ODESampler(solver) and SDESampler(sigma, solver) make one of a solver")
    is_free = sampler.usual_steps == STEPS  # one with a number of its own was made for that, and its own grid
    steps = steps or (400 if is_free else sampler.usual_steps)
    watched = watched_copy(sampler, {"walk": 1})
    one = {"": (watched,)}
    held: list[Held] = [
        (
            sampling.a_sampler_begins_at_its_start,
            "walk yields x first, then a new tensor for each time; `nodes` has an entry for each call of the field",
            one,
        ),
        (
            sampling.every_sampler_has_the_same_marginals,
            "a spread too small or large: the 1/2 of sigma^2/2 score, or noise without its sqrt(h)",
            {"": (watched, steps)},
        ),
        (
            sampling.a_walk_of_a_sample_is_its_own,
            "draw from the noise that walk is given, noise.like(x, draw=k), not from torch.randn",
            one,
        ),
    ]
    if is_free:
        down = "downwards the drift is velocity - sigma^2/2 score; refuse times that decrease if it is not for them"
        if not _refuses_down(sampler):
            held.append((sampling.a_sampler_runs_down_to_noise, down, {"": (watched, steps)}))
        if not _draws(sampler):
            hint = "an order too low: which time is a value read at, and which point? is a coefficient lost?"
            held.append((multistep.multistep_method_has_its_order, hint, {"": (watched, LinearSchedule())}))
    return _report(sampler, held, only)


def check_field(
    field: Field,
    truth: GaussianMixture | Normal | MixtureField | EmpiricalField | None = None,
    shape: tuple[int, ...] = (2,),
    tolerance: float | None = None,
    only: Collection[int] | None = None,
) -> Report:
    """The laws of a field: one function of point and time with derivatives, whose score and velocity belong together.

    Args:
        field: Yours, under its condition if it has one.
        truth: The distribution that it leads to, or its exact field, if that is known.
        shape: Of one point; that of the truth where one is given.
        tolerance: Of what only an exact field keeps; rounding unless given. A trained network needs one.
        only: Numbers of the laws to check.

    Raises:
        TypeError: If it is no `Field`, or the truth is none of those.
    """
    _must_be(field, Field, "field", "subclass it, set path and prediction, and write forward(x, t)")
    if isinstance(truth, GaussianMixture | Normal):
        truth = MixtureField(truth, GaussianPath(field.path.schedule))
    if truth is not None:
        _must_be(truth, (MixtureField, EmpiricalField), "truth", "a GaussianMixture, a Normal, or an exact field")
        if not isinstance(truth, MixtureField) or len(shape) == 1:
            shape = truth.shape if isinstance(truth, EmpiricalField) else (truth.mixture.dimension,)
    watched = watched_copy(field, {"forward": 0})
    alone, near = {"": (watched, shape)}, {"": (watched, shape, tolerance)}
    held: list[Held] = [
        (contracts.a_field_takes_one_time_or_one_each, "shape t by `meet(t, x)` before it multiplies x", alone),
        (
            contracts.a_value_of_a_field_is_its_own,
            "dropout or batch statistics left on, a norm over the whole batch, or x changed in place",
            alone,
        ),
        (
            contracts.a_field_keeps_its_derivatives,
            "a detach, .item() or no_grad inside forward; or enable_grad without a detach",
            alone,
        ),
    ]
    if field.path.is_gaussian:
        if len(field.heads) > 1:
            hint = "the score's sign? velocity = alpha'/alpha x + (beta^2 alpha'/alpha - beta' beta) score"
            held.append((contracts.heads_of_a_field_say_the_same, hint, near))
        held += [
            (
                contracts.a_score_is_a_gradient,
                "a field that turns is no gradient of log p: was it trained to the end?",
                near,
            ),
            (
                contracts.a_score_follows_its_own_equation,
                "is prediction what forward returns, on this path? a conditional or guided velocity keeps no density",
                near,
            ),
        ]
    if truth is not None:
        hint = "is prediction what forward returns, path the one of its data, and t = 1 the data?"
        held.append((contracts.a_field_is_the_one_of_its_data, hint, {"": (watched, truth, tolerance)}))
    return _report(field, held, only)


def check_guidance(guided: Callable[[Field, Field, Any], Field], only: Collection[int] | None = None) -> Report:
    """The laws of classifier-free guidance, a class or function of (conditional, unconditional, w).

    Args:
        guided: Yours; w is a number, or one per sample of shape `(batch,)`.
        only: Numbers of the laws to check.

    Raises:
        TypeError: If it cannot be called.
    """
    if not callable(guided) or isinstance(guided, Field):
        raise TypeError(f"guided must make a field of (conditional, unconditional, w), got {guided!r}; pass the class")

    @wraps(guided, updated=())
    def watched(conditional: Field, unconditional: Field, w: Any) -> Field:
        made: Field = called("guided", guided, (conditional, unconditional, w), {})
        _must_be(made, Field, "what guided returns", "a Field")
        return watched_copy(made, {"forward": 0})

    scale = "w = 0 ignores the condition, w = 1 is the conditional field: (1 - w) free + w given; is yours w - 1?"
    held: list[Held] = [
        (fields.guidance_of_zero_and_one_is_none, scale, {"": (watched,)}),
        (
            fields.guided_gaussian_is_its_closed_form,
            scale,
            {
                f"w = 3, sigma = {name}": (3.0, fields.sigmas()[name], watched, steps)
                for name, steps in (("0", 20), ("1", 200))
            },
        ),
    ]
    return _report(guided, held, only)


def _report(part: Any, held: Iterable[Held], only: Collection[int] | None) -> Report:
    known = {law.check: law for law in laws()}
    wanted = [entry for entry in held if only is None or known[entry[0]].number in only]
    checked = [_checked(known[check], hint, cases) for check, hint, cases in wanted]
    return Report(named(part), tuple(sorted(checked, key=lambda row: row.law.number)))


def _checked(law: Law, hint: str, cases: dict[str, tuple[Any, ...]]) -> Checked:
    figures: list[tuple[str, Figure]] = []
    errors: list[tuple[str, str]] = []
    for case, given in cases.items():
        try:
            for figure in law.check(*given):
                figures.append((case, figure))
        except CallError as error:
            errors.append((case, str(error)))
        except Exception as error:  # a part is anybody's, and so is what it raises
            errors.append((case, f"raised {type(error).__name__}: {shortened(error)}"))
    return Checked(law, tuple(figures), tuple(errors), hint)


def _must_be(value: Any, family: type | tuple[type, ...], name: str, way_out: str) -> None:
    if isinstance(value, family):
        return
    kinds = " or ".join(kind.__name__ for kind in (family if isinstance(family, tuple) else (family,)))
    if inspect.isclass(value):
        raise TypeError(f"{name} must be a {kinds} itself, got the class {value.__name__}; pass {value.__name__}()")
    raise TypeError(f"{name} must be a {kinds}, got {shortened(repr(value))}; {way_out}")


def _refuses_down(sampler: Sampler) -> bool:
    """Whether a sampler says that it is not for times that decrease."""
    try:
        for _ in sampler.walk(parts.field(), parts.points(2), torch.tensor([0.9, 0.6, 0.3], dtype=torch.float64)):
            pass
    except ValueError as error:
        return "times must increase" in str(error)
    except Exception:  # the law will tell of it
        return False
    return False


def _draws(sampler: Sampler) -> bool:
    """Whether the end of a walk depends on its noise."""
    times, ends = torch.linspace(0.1, 0.9, 5, dtype=torch.float64), []
    try:
        for seed in (1, 2):
            *_, end = sampler.walk(parts.field(), parts.points(3), times, Noise(seed))
            ends.append(end)
        return not torch.equal(*ends)
    except Exception:  # the law will tell of it
        return False
