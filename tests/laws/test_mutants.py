"""Every law catches a bug: an edit of the shipped code, made in a copy, that the law must call out.

A mutant is a file, what stands there, what is put in its place, and the law and case that must fail. The figure before
and after is printed (`pytest -rP`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

import pathline
from pathline.verify import laws

PACKAGE = Path(pathline.__file__).parent

RUN = """
import json, sys, torch
torch.set_num_threads(1)
from pathline.verify import laws
number, name, case = json.loads(sys.argv[1])
(law,) = [law for law in laws() if (law.number, law.name) == (number, name)]
figures = [figure for _, figure in law.figures(case)]
print(json.dumps([[str(figure), figure.holds] for figure in figures]))
"""


class Mutant(NamedTuple):
    bug: str
    file: str
    old: str
    new: str
    law: tuple[int, str, str | None]


MUTANTS = [
    Mutant(
        "Python numbers by way of float32",
        "tensors.py",
        'dtype=None if hasattr(value, "dtype") else torch.float64',
        "dtype=None",
        (29, "python_numbers_are_not_rounded", "guidance-scale"),
    ),
    Mutant(
        "a flow's time in float32",
        "processes/processes.py",
        "(-self.theta * time_of(x, time)).exp(), x)",
        "(-self.theta * time_of(x.float(), time)).exp(), x)",
        (29, "a_flow_is_exact_on_every_processor", None),
    ),
    Mutant(
        "frequencies that a cast rounds",
        "networks/embedding.py",
        "dtype=dtype, device=self.frequencies.device)",
        "dtype=self.frequencies.dtype, device=self.frequencies.device)",
        (29, "half_precision_rounds_weights_not_waves", "bfloat16"),
    ),
    Mutant(
        "an exact field that autocast rounds",
        "tensors.py",
        "return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()",
        "return nullcontext()",
        (29, "autocast_rounds_no_exact_field", None),
    ),
    Mutant(
        "a conversion with its determinant's sign lost",
        "paths/predictions.py",
        "m = _wedge(q, p) / _wedge(x, p)",
        "m = _wedge(p, q) / _wedge(x, p)",
        (1, "conversion_is_exact", "velocity->data linear"),
    ),
    Mutant(
        "a guard of 1e-8 in place of the limit",
        "paths/predictions.py",
        "INSIDE = 1e-40",
        "INSIDE = 1e-8",
        (2, "ends_are_limits_or_refused", "square-root"),
    ),
    Mutant(
        "a batched time that does not broadcast",
        "tensors.py",
        "return t.reshape(-1, *(1,) * (x.ndim - 1)) if t.ndim else t",
        "return t",
        (3, "one_time_or_one_each", "linear"),
    ),
    Mutant(
        "sine and cosine swapped",
        "paths/schedules.py",
        "return (math.pi / 2 * t).sin()",
        "return (math.pi / 2 * t).cos()",
        (4, "schedule_is_sound", "cosine"),
    ),
    Mutant(
        "a slope without its power",
        "paths/schedules.py",
        "slope = self.power * t ** (self.power - 1)",
        "slope = t ** (self.power - 1)",
        (5, "velocity_and_score_of_a_conditional_path", "polynomial"),
    ),
    Mutant(
        "a linear flow that grows",
        "processes/processes.py",
        "return x * _each((-self.theta * time_of(x, time)).exp(), x)",
        "return x * _each((self.theta * time_of(x, time)).exp(), x)",
        (5, "linear_flow_is_exponential", None),
    ),
    Mutant(
        "the posterior with alpha instead of alpha squared",
        "fields/exact.py",
        "s = alpha**2 * variances + beta**2",
        "s = alpha * variances + beta**2",
        (6, "marginal_is_a_posterior_mean", "linear"),
    ),
    Mutant(
        "the score's sign",
        "fields/exact.py",
        "score = -(r * mixture.from_axes(pull)).sum(1)",
        "score = (r * mixture.from_axes(pull)).sum(1)",
        (6, "score_is_the_gradient_of_log_p", "linear"),
    ),
    Mutant(
        "the 1/2 of the SDE's drift",
        "sampling/dynamics.py",
        "half = -squared / 2 if self.is_backward else squared / 2",
        "half = -squared if self.is_backward else squared",
        (7, "density_follows_its_equation", "velocity linear"),
    ),
    Mutant(
        "the sign of the score on the way back",
        "sampling/dynamics.py",
        "half = -squared / 2 if self.is_backward else squared / 2",
        "half = squared / 2",
        (7, "density_follows_its_equation", "noise cosine"),
    ),
    Mutant(
        "Heun's second stage at the old time",
        "solvers/runge_kutta.py",
        "b=(1 / 2, 1 / 2), nodes=(0.0, 1.0)",
        "b=(1 / 2, 1 / 2), nodes=(0.0, 0.0)",
        (9, "ode_solver_has_its_order", "heun"),
    ),
    Mutant(
        "a weight of RK4",
        "solvers/runge_kutta.py",
        "b=(1 / 6, 1 / 3, 1 / 3, 1 / 6)",
        "b=(1 / 6, 1 / 3, 1 / 6, 1 / 3)",
        (9, "ode_solver_has_its_order", "rk4"),
    ),
    Mutant(
        "a sign in Tsitouras' weights",
        "solvers/runge_kutta.py",
        "1.379008574103742, -3.290069515436081",
        "1.379008574103742, 3.290069515436081",
        (9, "ode_solver_has_its_order", "tsitouras"),
    ),
    Mutant(
        "a digit of Dormand and Prince's",
        "solvers/runge_kutta.py",
        "(9017 / 3168, -355 / 33, 46732 / 5247",
        "(9017 / 3168, -355 / 33, 46731 / 5247",
        (9, "ode_solver_meets_its_order_conditions", "dormand-prince"),
    ),
    Mutant(
        "the error's norm over the whole batch",
        "solvers/adaptive.py",
        "return mean_per_sample((x / size) ** 2).sqrt().cpu().double()",
        "return ((x / size) ** 2).mean().sqrt().expand(len(x)).cpu().double()",
        (9, "adaptive_solver_keeps_its_tolerance", "dopri5"),
    ),
    Mutant(
        "a step refused and taken all the same",
        "solvers/adaptive.py",
        "holds = ratio <= 1  # NaN does not",
        "holds = ratio <= 1e9",
        (9, "adaptive_solver_keeps_its_tolerance", "dopri5"),
    ),
    Mutant(
        "a slope kept from the start of a step",
        "solvers/adaptive.py",
        "torch.where(taken, slopes[-1], slope)",
        "torch.where(taken, slopes[0], slope)",
        (9, "adaptive_solver_keeps_its_tolerance", "tsit5"),
    ),
    Mutant(
        "a coefficient of the polynomial between steps",
        "solvers/adaptive.py",
        "(0.0, 0.1317, -0.2234, 0.1017)",
        "(0.0, 0.1317, -0.2134, 0.0917)",
        (9, "adaptive_solver_keeps_its_tolerance", "tsit5"),
    ),
    Mutant(
        "noise scaled by h instead of its root",
        "solvers/stochastic.py",
        "return sigma * (s - t).abs().sqrt() * noise(x)",
        "return sigma * (s - t).abs() * noise(x)",
        (10, "brownian_motion_has_its_increments", None),
    ),
    Mutant(
        "Stratonovich's average of sigma over X",
        "solvers/stochastic.py",
        "return _kicked(moved(x, t, s, first + second, 0.5), kick)",
        "there = _kick(process, _kicked(moved(x, t, s, first), kick), t, s, s, noise)\n"
        "        return _kicked(_kicked(moved(x, t, s, first + second, 0.5), kick / 2), there / 2)",
        (10, "sde_solver_has_its_strong_order", "stochastic-heun"),
    ),
    Mutant(
        "half of what the centre of data moves",
        "sampling/exponential.py",
        "centre = torch.lerp(before, centre, 1 + span / 2)",
        "centre = torch.lerp(before, centre, 1 + span / 4)",
        (10, "exponential_steps_have_their_order", "2"),
    ),
    Mutant(
        "a bridge with twice its variance half way",
        "solvers/brownian.py",
        "math.sqrt(right - left) / 2 *",
        "math.sqrt((right - left) / 2) *",
        (10, "a_brownian_path_is_the_same_under_refinement", None),
    ),
    Mutant(
        "nodes of the tree that share their numbers",
        "solvers/brownian.py",
        "(left, middle, 2 * node, a, half)",
        "(left, middle, node + 1, a, half)",
        (10, "a_brownian_path_is_the_same_under_refinement", None),
    ),
    Mutant(
        "increments that are not over the root of their length",
        "solvers/brownian.py",
        "/ math.sqrt(abs(s - t))",
        "/ abs(s - t)",
        (10, "the_strong_order_shows_along_a_brownian_path", None),
    ),
    Mutant(
        "fresh noise on top of the point as it was",
        "sampling/churn.py",
        "x = ratio * x + fresh * noise(x)",
        "x = x + fresh * noise(x)",
        (11, "every_sampler_has_the_same_marginals", "churn"),
    ),
    Mutant(
        "Langevin steps without their 2",
        "sampling/corrector.py",
        "(2 * length) ** 0.5",
        "length**0.5",
        (11, "every_sampler_has_the_same_marginals", "predictor-corrector"),
    ),
    Mutant(
        "data taken for still in exponential steps",
        "sampling/exponential.py",
        "return slope.nan_to_num(0.0, widest, 0.0).clamp(0, widest)",
        "return torch.zeros_like(slope)",
        (22, "exponential_steps_are_right", "variance-preserving"),
    ),
    Mutant(
        "steps of any length taken for short",
        "sampling/samplers.py",
        "STIFF = 0.5",
        "STIFF = 1e9",
        (22, "long_steps_are_right_or_warned_of", "euler-maruyama"),
    ),
    Mutant(
        "a warning of steps that are short",
        "sampling/samplers.py",
        "OUTRUN = 1.0",
        "OUTRUN = 1e-3",
        (22, "long_steps_are_right_or_warned_of", "stochastic-heun"),
    ),
    Mutant(
        "the missing 1/2, seen in the samples",
        "sampling/dynamics.py",
        "half = -squared / 2 if self.is_backward else squared / 2",
        "half = -squared if self.is_backward else squared",
        (11, "every_sigma_has_the_same_marginals", "2"),
    ),
    Mutant(
        "a last step that reads the score at data",
        "sampling/samplers.py",
        "solver = self.other if float(t) in self.replaced else self.solver",
        "solver = self.solver",
        (11, "backwards_data_becomes_noise", "1"),
    ),
    Mutant(
        "steps of any length, seen in the samples",
        "sampling/samplers.py",
        "STIFF = 0.5",
        "STIFF = 1e9",
        (11, "long_steps_keep_the_spread", "2 50"),
    ),
    Mutant(
        "memoryless without its factor 2",
        "sampling/sigmas.py",
        "return 2 * c.beta * (",
        "return c.beta * (",
        (11, "memoryless_forgets_its_start", None),
    ),
    Mutant(
        "Langevin with sigma for sigma squared",
        "processes/processes.py",
        "return self.sigma**2 / 2 * self.score",
        "return self.sigma / 2 * self.score",
        (12, "langevin_converges_on_a_normal", None),
    ),
    Mutant(
        "the stationary variance without its 2",
        "processes/processes.py",
        "torch.expm1(-2 * self.theta * t) / (2 * self.theta)",
        "torch.expm1(-2 * self.theta * t) / self.theta",
        (12, "brownian_and_ou_have_their_moments", None),
    ),
    Mutant(
        "eta for eta squared",
        "sampling/samplers.py",
        "(1 - self.eta**2 * (1 - ratio**2))",
        "(1 - self.eta**2 * (1 - ratio))",
        (13, "ddim_is_ddpm_when_eta_is_one", None),
    ),
    Mutant(
        "the sign of the score's target",
        "paths/predictions.py",
        '"score", lambda c: (torch.zeros_like(c.alpha), -torch.ones_like(c.beta))',
        '"score", lambda c: (torch.zeros_like(c.alpha), torch.ones_like(c.beta))',
        (13, "score_matching_is_noise_prediction", "linear"),
    ),
    Mutant(
        "guidance off by one",
        "fields/guidance.py",
        "mixed = tuple((1 - w) * f + w * g",
        "mixed = tuple(-w * f + (1 + w) * g",
        (16, "guidance_of_zero_and_one_is_none", None),
    ),
    Mutant(
        "the condition and its absence swapped",
        "fields/guidance.py",
        "mixed = tuple((1 - w) * f + w * g",
        "mixed = tuple((1 - w) * g + w * f",
        (16, "guided_gaussian_is_its_closed_form", "w=3 sigma=1"),
    ),
    Mutant(
        "labels dropped in eval mode too",
        "training/loss.py",
        "self.dropped(y, index, len(data)) if self.training else y",
        "self.dropped(y, index, len(data))",
        (17, "labels_drop_at_their_rate", None),
    ),
    Mutant(
        "samples written with the indices of their classes",
        "data/codec.py",
        "found[CLASS] = self.values[found[CLASS]]",
        "found[CLASS] = found[CLASS]",
        (28, "labels_come_back_as_they_were_written", "from 1"),
    ),
    Mutant(
        "the null class taken for a label",
        "conditions.py",
        "if low < 0 or high >= classes:",
        "if low < 0 or high > classes:",
        (28, "labels_given_to_a_network_are_classes_or_refused", None),
    ),
    Mutant(
        "words that look like numbers written as numbers",
        "data/arrays.py",
        "self.class_type = TYPE_OF[dtype.kind]",
        'self.class_type = "int"',
        (28, "labels_come_back_as_they_were_written", "digits as words"),
    ),
    Mutant(
        "kinds of condition that are dropped by one draw",
        "training/loss.py",
        "chances(kinds.index(kind)) < share",
        "chances(0) < share",
        (17, "kinds_drop_at_rates_of_their_own", None),
    ),
    Mutant(
        "a kind that is spared where all are dropped",
        "training/loss.py",
        "whole | gone.get(kind, whole)",
        "gone.get(kind, whole)",
        (17, "kinds_drop_at_rates_of_their_own", None),
    ),
    Mutant(
        "the average not applied",
        "training/ema.py",
        "            value.copy_(mine)",
        "            pass",
        (18, "sampling_leaves_the_model_as_it_was", None),
    ),
    Mutant(
        "dropout left on",
        "fields/modes.py",
        "    module.eval()\n",
        "    pass\n",
        (18, "sampling_leaves_the_model_as_it_was", None),
    ),
    Mutant(
        "a round of the cipher lost",
        "noise.py",
        "rounds: int = 10",
        "rounds: int = 9",
        (19, "noise_is_the_published_generator", None),
    ),
    Mutant(
        "noise that counts from the batch's own start",
        "noise.py",
        "start, count = self.first * size, shape[0] * size",
        "start, count = 0 * size, shape[0] * size",
        (19, "a_sample_depends_on_seed_and_index", "7"),
    ),
    Mutant(
        "moments of the optimizer left behind",
        "training/checkpoint.py",
        "        if moments:",
        "        if not moments:",
        (20, "a_training_goes_on_to_the_bit", "after 5"),
    ),
    Mutant(
        "steps counted anew after going on",
        "training/loop.py",
        "(step, batches.rows(order, step))",
        "(step - numbers.start, batches.rows(order, step - numbers.start))",
        (20, "a_training_goes_on_to_the_bit", "after 5"),
    ),
    Mutant(
        "the average's count left behind",
        "training/checkpoint.py",
        '    ema.updates = checkpoint.state["ema_updates"]',
        "    pass",
        (20, "a_training_goes_on_to_the_bit", "after 5"),
    ),
    Mutant(
        "torch's random state left behind",
        "training/checkpoint.py",
        "    put_back_random_states(checkpoint.optimizer)",
        "    pass",
        (20, "a_training_goes_on_to_the_bit", "after 5"),
    ),
    Mutant(
        "one order for all epochs",
        "training/batches.py",
        "self.noise.permutation(self.size, epoch)",
        "self.noise.permutation(self.size, 0)",
        (20, "an_epoch_holds_each_sample_once", None),
    ),
    Mutant(
        "a row of EDM's with its size upside down",
        "paths/predictions.py",
        "lambda c: (c.beta / sigma_data, -c.alpha * sigma_data)",
        "lambda c: (c.beta * sigma_data, -c.alpha / sigma_data)",
        (2, "ends_are_limits_or_refused", "cosine"),
    ),
    Mutant(
        "a bridge whose slope counts the other way",
        "paths/bridge.py",
        "of_score = of_score + n * slope",
        "of_score = of_score - n * slope",
        (1, "a_bridge_is_read_from_its_heads", "sigma=1"),
    ),
    Mutant(
        "sigma for sigma squared in a bridge's reading",
        "paths/bridge.py",
        "squared, slope = self.sigma**2 * t * (1 - t), self.sigma**2",
        "squared, slope = self.sigma * t * (1 - t), self.sigma**2",
        (1, "a_bridge_is_read_from_its_heads", "sigma=0.5"),
    ),
    Mutant(
        "noise left on the data, undeclared",
        "paths/schedules.py",
        "return (0.0, 1.0), (1.0, self.sigma_min)",
        "return (0.0, 1.0), (1.0, 0.0)",
        (4, "schedule_is_sound", "linear:0.1"),
    ),
    Mutant(
        "a slope that leaves the noise out",
        "paths/schedules.py",
        "return torch.ones_like(t), torch.full_like(t, self.sigma_min - 1)",
        "return torch.ones_like(t), torch.full_like(t, -1.0)",
        (4, "schedule_is_sound", "linear:0.1"),
    ),
    Mutant(
        "the root of a variance where there is none",
        "paths/schedules.py",
        "return (self.start, 1 - self.start**2), (1.0, 0.0)",
        "return (self.start, math.sqrt(1 - self.start**2)), (1.0, 0.0)",
        (4, "schedule_is_sound", "sub-variance-preserving"),
    ),
    Mutant(
        "low and high swapped",
        "paths/schedules.py",
        "return math.log(self.low / self.high)",
        "return math.log(self.high / self.low)",
        (4, "schedule_is_sound", "variance-exploding"),
    ),
    Mutant(
        "the 1/2 of a root's slope",
        "paths/bridge.py",
        "self.sigma * (1 - 2 * t) / (2 * root) * self.z",
        "self.sigma * (1 - 2 * t) / root * self.z",
        (5, "a_bridge_moves_at_its_velocity", "sigma=1"),
    ),
    Mutant(
        "the score over the variance of its own noise",
        "paths/bridge.py",
        "return -self.z / (self.sigma * root)",
        "return -self.z / (self.sigma * root) ** 2",
        (5, "a_bridge_moves_at_its_velocity", "sigma=0.5"),
    ),
    Mutant(
        "the covariance of a bridge's velocity without its 1/2",
        "fields/bridge.py",
        "slope = self.path.sigma**2 * (1 - 2 * s) / 2",
        "slope = self.path.sigma**2 * (1 - 2 * s)",
        (6, "a_bridge_marginal_is_a_posterior_mean", "sigma=1"),
    ),
    Mutant(
        "the start of a bridge's velocity with the sign of its end",
        "fields/bridge.py",
        "VELOCITY: s * c_k - (1 - s) * c_j",
        "VELOCITY: s * c_k + (1 - s) * c_j",
        (6, "a_bridge_marginal_is_a_posterior_mean", "sigma=0"),
    ),
    Mutant(
        "an offset without its alpha",
        "fields/empirical.py",
        "alpha[:, 0] * (centred @ self.mean)",
        "(centred @ self.mean)",
        (6, "a_data_set_is_a_mixture", "linear"),
    ),
    Mutant(
        "a key with alpha instead of alpha squared",
        "fields/empirical.py",
        "return alpha / s * centred, alpha**2 / (2 * s), offset",
        "return alpha / s * centred, alpha / (2 * s), offset",
        (6, "a_data_set_is_a_mixture", "linear"),
    ),
    Mutant(
        "a bandwidth that does not shrink with the data",
        "fields/empirical.py",
        "(alpha * self.bandwidth) ** 2 + beta**2",
        "self.bandwidth**2 + beta**2",
        (6, "a_data_set_is_a_mixture", "cosine"),
    ),
    Mutant(
        "products trusted where they cannot tell near ties apart",
        "fields/empirical.py",
        "CLOSE = 3e-4",
        "CLOSE = 1e9",
        (6, "a_data_set_has_its_near_ties", None),
    ),
    Mutant(
        "near ties out of reach of a nearest that is rounded",
        "fields/empirical.py",
        "reach = (2 * error + math.log(len(self.rows) / nothing)).to(dtype)",
        "reach = torch.full_like(error, math.log(len(self.rows) / nothing)).to(dtype)",
        (6, "a_data_set_has_its_near_ties", None),
    ),
    Mutant(
        "differences without the size of their noise",
        "fields/empirical.py",
        ".sum(1, keepdim=True) / (2 * s[point])",
        ".sum(1, keepdim=True) / s[point]",
        (6, "a_data_set_has_its_near_ties", None),
    ),
    Mutant(
        "sigma for sigma squared in a bridge's spread",
        "fields/bridge.py",
        "squared = (self.path.sigma**2 * s * (1 - s))",
        "squared = (self.path.sigma * s * (1 - s))",
        (7, "a_bridge_density_follows_its_equation", "sigma=0.5"),
    ),
    Mutant(
        "the 1/2 of a log-determinant",
        "fields/bridge.py",
        "- log_det / 2 -",
        "- log_det -",
        (7, "a_bridge_density_follows_its_equation", "sigma=0"),
    ),
    Mutant(
        "the 1/2 of a density's constant",
        "fields/empirical.py",
        "constant = -self.mean.numel() / 2 *",
        "constant = -self.mean.numel() *",
        (7, "the_density_of_a_data_set_follows_its_equation", "linear"),
    ),
    Mutant(
        "a data set's velocity with the score's sign",
        "fields/exact.py",
        "VELOCITY: c.alpha_dot * data - half * score",
        "VELOCITY: c.alpha_dot * data + half * score",
        (7, "the_density_of_a_data_set_follows_its_equation", "cosine"),
    ),
    Mutant(
        "a posterior variance without the spread of its means",
        "fields/exact.py",
        "return (r * (((means - mean) ** 2).sum(-1) + left)).sum(1)",
        "return (r * left).sum(1)",
        (8, "a_floor_is_what_draws_find", "velocity 0.3"),
    ),
    Mutant(
        "a velocity with all of the slope of beta squared",
        "fields/exact.py",
        "half = meet(path.schedule.variance_slope(t) / 2, x)",
        "half = meet(path.schedule.variance_slope(t), x)",
        (8, "both_losses_have_one_gradient", "velocity"),
    ),
    Mutant(
        "a point with the variance of its noise for its size",
        "paths/path.py",
        "GaussianPoint(c.alpha * data + c.beta * noise",
        "GaussianPoint(c.alpha * data + c.beta**2 * noise",
        (8, "both_losses_have_one_gradient", "noise"),
    ),
    Mutant(
        "a floor with an error ratio for its square",
        "verify/floors.py",
        "value = factor**2 *",
        "value = factor.abs() *",
        (8, "a_floor_is_what_draws_find", "velocity 0.7"),
    ),
    Mutant(
        "a floor of all numbers for the mean of one",
        "verify/floors.py",
        "return total / d\n",
        "return total\n",
        (8, "both_losses_have_one_gradient", "data"),
    ),
    Mutant(
        "a start that is not heeded",
        "sampling/sample.py",
        "begin = start_of(field, shape, noise) if start is None else _checked_start(start, shape)",
        "begin = noise.normal(shape, dtype=torch.float64)",
        (11, "a_bridge_ends_at_its_data", "straight ode"),
    ),
    Mutant(
        "a bridge's drift with all of sigma squared",
        "sampling/dynamics.py",
        "half = -squared / 2 if self.is_backward else squared / 2",
        "half = -squared if self.is_backward else squared",
        (11, "a_bridge_ends_at_its_data", "brownian sde"),
    ),
    Mutant(
        "noising without its factor 2",
        "processes/noising.py",
        "return (2 * (c.beta**2 * c.alpha_dot / c.alpha - half)).sqrt()",
        "return (c.beta**2 * c.alpha_dot / c.alpha - half).sqrt()",
        (12, "noising_and_its_reversal_are_one_path", "cosine"),
    ),
    Mutant(
        "a reversal with sigma for sigma squared",
        "processes/noising.py",
        "diffusion_at(self.process, x, s) ** 2 * self.score(x, s)",
        "diffusion_at(self.process, x, s) * self.score(x, s)",
        (12, "noising_and_its_reversal_are_one_path", "linear"),
    ),
    Mutant(
        "a reversal on the clock of the process",
        "processes/noising.py",
        "        s = self.end - time_of(x, r)\n",
        "        s = time_of(x, r)\n",
        (12, "noising_and_its_reversal_are_one_path", "polynomial"),
    ),
    Mutant(
        "noising that draws data together as it draws it apart",
        "processes/noising.py",
        "return -c.alpha_dot / c.alpha * x",
        "return c.alpha_dot / c.alpha * x",
        (12, "noising_and_its_reversal_are_one_path", "square-root"),
    ),
    Mutant(
        "the dearest pairing",
        "paths/couplings.py",
        "maximize=True",
        "maximize=False",
        (17, "transport_uses_each_point_once", None),
    ),
    Mutant(
        "a pairing the wrong way round",
        "paths/couplings.py",
        "(x - x.mean(0)) @ (z - z.mean(0)).T",
        "(z - z.mean(0)) @ (x - x.mean(0)).T",
        (17, "transport_uses_each_point_once", None),
    ),
    Mutant(
        "the places in a class taken for those in the batch",
        "paths/couplings.py",
        "order[mine] = mine[_cheapest(noise[mine], data[mine])]",
        "order[mine] = _cheapest(noise[mine], data[mine])",
        (17, "transport_uses_each_point_once", None),
    ),
    Mutant(
        "labels that transport does not mind",
        "paths/couplings.py",
        "if y is None or not self.is_within_classes:",
        "if y is None or self.is_within_classes:",
        (17, "transport_within_classes_leaves_noise_unbiased", None),
    ),
    Mutant(
        "processes that draw the same noise",
        "training/batches.py",
        "first = self.origin + step * self.batch_size + paired.start",
        "first = self.origin + step * self.batch_size",
        (21, "processes_train_as_one", "independent"),
    ),
    Mutant(
        "a transport over all processes that pairs the stretch of each",
        "training/batches.py",
        "return range(self.batch_size) if self.loss.is_global else self.group.part(self.batch_size)",
        "return self.group.part(self.batch_size)",
        (21, "processes_train_as_one", "global transport"),
    ),
    Mutant(
        "a sample on the edge of two parts that both processes have",
        "training/distributed.py",
        "batch * (self.rank + 1) // self.size)",
        "-(-batch * (self.rank + 1) // self.size))",
        (21, "processes_train_as_one", "independent"),
    ),
    Mutant(
        "parts of different size that count the same",
        "training/batches.py",
        "share = len(data) * self.group.size / self.batch_size",
        "share = 1 / self.pieces",
        (21, "processes_train_as_one", "independent"),
    ),
    Mutant(
        "a history in the wrong order",
        "sampling/multistep.py",
        "values = [reading(x, field.values(x, reading.t)), *values[: self.order]]",
        "values = [*values[-self.order :], reading(x, field.values(x, reading.t))]",
        (9, "multistep_method_has_its_order", "adams-bashforth:3"),
    ),
    Mutant(
        "values of one step too few",
        "sampling/multistep.py",
        "weights(k, k + 1, known[: self.order])",
        "weights(k, k + 1, known[: self.order - 1] or known[:1])",
        (9, "multistep_method_has_its_order", "dpm:2"),
    ),
    Mutant(
        "a corrector that forgets the new value",
        "sampling/multistep.py",
        "steps[-1]._replace(correct=weights(k - 1, k, known))",
        "steps[-1]._replace(correct=[0.0, *weights(k - 1, k, known[1:])])",
        (9, "multistep_method_has_its_order", "adams-moulton:2"),
    ),
    Mutant(
        "a correction from where the last step ended",
        "sampling/multistep.py",
        "x = combined(last.keep, before, last.correct, values)",
        "x = combined(last.keep, x, last.correct, values)",
        (9, "multistep_method_has_its_order", "unipc:2"),
    ),
    Mutant(
        "the clocks swapped between nodes and places",
        "sampling/multistep.py",
        "_lagrange(nodes, logit if is_logarithmic else share)",
        "_lagrange(nodes, share if is_logarithmic else logit)",
        (9, "multistep_method_has_its_order", "deis:2"),
    ),
    Mutant(
        "a measure without its square",
        "sampling/multistep.py",
        "(mix.p * rest - mix.r * share) ** 2",
        "(mix.p * rest - mix.r * share)",
        (9, "multistep_method_has_its_order", "deis:3"),
    ),
    Mutant(
        "a point that is not scaled from step to step",
        "sampling/multistep.py",
        "Step(w[k + 1] / w[k], weights",
        "Step(torch.ones_like(w[k]), weights",
        (13, "the_first_order_of_each_is_ddim", None),
    ),
    Mutant(
        "a share of data taken for a time",
        "sampling/grids.py",
        "return times_at(schedule, start + (stop - start) * fraction)",
        "return start + (stop - start) * fraction",
        (13, "every_schedule_is_the_same_path", "adams-moulton:3"),
    ),
    Mutant(
        "a table's point that keeps the scale of its start",
        "sampling/fitted.py",
        "combined(scale / w[0], start,",
        "combined(1.0, start,",
        (13, "a_table_is_the_method_that_it_is_made_of", "cosine"),
    ),
    Mutant(
        "weights that do not sum to the step",
        "sampling/multistep.py",
        "b = b * (whole / b.sum())",
        "b = b * (1.02 * whole / b.sum())",
        (11, "every_sampler_has_the_same_marginals", "dpm"),
    ),
    Mutant(
        "a default that corrects with yesterday's values",
        "sampling/multistep.py",
        "if last.correct:",
        "if last.correct and (values := values[1:] + values[:1]):",
        (11, "every_sampler_has_the_same_marginals", "general"),
    ),
    Mutant(
        "the sign of the stretch",
        "likelihood/log_prob.py",
        "return log_start(part, end, times[-1]) + change",
        "return log_start(part, end, times[-1]) - change",
        (14, "log_density_of_a_mixture", "velocity linear"),
    ),
    Mutant(
        "the divergence of every stage in full",
        "likelihood/log_prob.py",
        "change = change + weight * _like(span, x) * found",
        "change = change + _like(span, x) * found",
        (14, "log_density_of_any_shape", "vectors of 2"),
    ),
    Mutant(
        "the last stage of Gauss' method without its first",
        "solvers/runge_kutta.py",
        "((33 + 17 * ROOT) / 24, 0.0, -(39 + 23 * ROOT) / 8",
        "(0.0, (33 + 17 * ROOT) / 24, -(39 + 23 * ROOT) / 8",
        (9, "ode_solver_has_its_order", "gauss"),
    ),
    Mutant(
        "the noise of an end at the inner time",
        "likelihood/log_prob.py",
        "< (r + r_s) / 2) != is_data",
        "< (r + r_s)) != is_data",
        (14, "log_density_of_a_mixture", "data linear"),
    ),
    Mutant(
        "the scale of a renewed end forgotten",
        "likelihood/log_prob.py",
        "return end, x[0].numel() * math.log(w_s / w) + step * inner * found",
        "return end, step * inner * found",
        (14, "log_density_of_a_mixture", "noise square-root"),
    ),
    Mutant(
        "the normal's constant once for all dimensions",
        "likelihood/log_prob.py",
        "- x[0].numel() * (scale.log() + math.log(2 * math.pi) / 2)",
        "- (x[0].numel() * scale.log() + math.log(2 * math.pi) / 2)",
        (14, "density_integrates_to_one", None),
    ),
    Mutant(
        "a start with data in it passed over in silence",
        "likelihood/log_prob.py",
        "PURE = 1e-4",
        "PURE = 1e-2",
        (14, "log_density_of_a_mixture", "velocity variance-preserving"),
    ),
    Mutant(
        "density on the way up as on the way down",
        "likelihood/log_prob.py",
        "before - torch.cat([change for _, change in found], 1).mean(0)",
        "before + torch.cat([change for _, change in found], 1).mean(0)",
        (14, "samples_come_with_their_density", None),
    ),
    Mutant(
        "times that lose their gradient",
        "likelihood/log_prob.py",
        'first, last = (exact(t, "start and stop").to("cpu", torch.float64) for t in (start, stop))',
        'first, last = (exact(t, "start and stop").detach().to("cpu", torch.float64) for t in (start, stop))',
        (14, "gradients_of_log_density", None),
    ),
    Mutant(
        "new probes at every stage",
        "likelihood/log_prob.py",
        "found = self.divergence.of(value, x, self.vectors, self.is_kept)",
        "found = self.divergence.of(value, x, torch.randn_like(self.vectors), self.is_kept)",
        (15, "probes_are_fixed_within_a_solve", None),
    ),
    Mutant(
        "a standard error over the count, not its root",
        "likelihood/log_prob.py",
        "error = found.std(0) / math.sqrt(count)",
        "error = found.std(0) / count",
        (15, "interval_covers", "signs"),
    ),
    Mutant(
        "Hutch++ counting the span of Q twice",
        "likelihood/divergence.py",
        'rest = rest - torch.einsum("kbd,kbe,jbe->jbd", q, q, rest)',
        'rest = rest - 0 * torch.einsum("kbd,kbe,jbe->jbd", q, q, rest)',
        (15, "estimate_is_unbiased", "hutch++"),
    ),
    Mutant(
        "a basis that begins anew with every chunk",
        "likelihood/divergence.py",
        "basis[torch.arange(len(index)), 0, index] = 1",
        "basis[torch.arange(len(index)), 0, index - first] = 1",
        (15, "exact_is_the_trace", None),
    ),
    Mutant(
        "steps of a bound without their 1/2",
        "likelihood/bound.py",
        "weight = torch.cat((ratio.diff(), ratio[-1:])) / 2",
        "weight = torch.cat((ratio.diff(), ratio[-1:]))",
        (14, "bound_has_its_closed_form", "linear"),
    ),
    Mutant(
        "a guess at the cleaner end of a step",
        "likelihood/bound.py",
        "t = times[term]",
        "t = times[(term + 1).clamp(max=len(times) - 1)]",
        (14, "bound_has_its_closed_form", "cosine"),
    ),
    Mutant(
        "a chain without its last guess",
        "likelihood/bound.py",
        "torch.cat((ratio.diff(), ratio[-1:])) / 2",
        "torch.cat((ratio.diff(), 0 * ratio[-1:])) / 2",
        (14, "bound_has_its_closed_form", "linear:0.1"),
    ),
    Mutant(
        "a start that takes data for noise",
        "likelihood/bound.py",
        "spread = field.path.unit.alpha(times[0]) ** 2 + c.beta**2",
        "spread = c.beta**2",
        (14, "bound_has_its_closed_form", "variance-preserving"),
    ),
    Mutant(
        "signal for its square",
        "likelihood/bound.py",
        "return (schedule.alpha(times) / schedule.beta(times)) ** 2",
        "return schedule.alpha(times) / schedule.beta(times)",
        (14, "bound_has_its_closed_form", "square-root"),
    ),
    Mutant(
        "every path taken for one that preserves variance",
        "likelihood/bound.py",
        "return (schedule.alpha(times) / schedule.beta(times)) ** 2",
        "return schedule.alpha(times) ** 2 / (1 - schedule.alpha(times) ** 2)",
        (14, "bound_is_the_same_on_every_path", "square-root"),
    ),
    Mutant(
        "a drawn step that counts once",
        "likelihood/bound.py",
        "(weight[term].reshape(-1, batch) * n)",
        "weight[term].reshape(-1, batch)",
        (14, "bound_has_its_closed_form", "linear"),
    ),
    Mutant(
        "a draw's variance for that of the mean",
        "likelihood/bound.py",
        "variance = variance + part.var(0) / len(part)",
        "variance = variance + part.var(0)",
        (14, "bound_tells_its_error", None),
    ),
    Mutant(
        "the same noise for each draw",
        "likelihood/bound.py",
        ".normals(x.shape, draw, x.dtype, x.device)",
        ".normals(x.shape, range(len(draw)), x.dtype, x.device)",
        (14, "bound_tells_its_error", None),
    ),
    Mutant(
        "an adjoint whose equation has the wrong sign",
        "likelihood/gradients.py",
        "return torch.stack((each * rates[0].detach(), -pull))",
        "return torch.stack((each * rates[0].detach(), pull))",
        (14, "gradients_agree", "images, Hutchinson"),
    ),
    Mutant(
        "an adjoint that forgets the divergence",
        "likelihood/gradients.py",
        "_pulled(rates, (each * a, span * b), ",
        "_pulled(rates, (each * a, 0 * b), ",
        (14, "gradients_agree", "images, exact"),
    ),
    Mutant(
        "an adjoint without the weights of the stages",
        "likelihood/gradients.py",
        "gradient.sub_(part, alpha=weight)",
        "gradient.sub_(part, alpha=1.0)",
        (14, "gradients_agree", "images, Hutchinson"),
    ),
    Mutant(
        "a step taken again from its end",
        "likelihood/gradients.py",
        "x = states[k].detach().requires_grad_()",
        "x = states[k + 1].detach().requires_grad_()",
        (14, "gradients_agree", "images, Hutchinson"),
    ),
    Mutant(
        "a graph that is cut between the stages of a step",
        "likelihood/log_prob.py",
        "x = x if self.is_kept and x.requires_grad else x.detach().requires_grad_()",
        "x = x.detach().requires_grad_()",
        (14, "gradients_agree", "images, Hutchinson"),
    ),
    Mutant(
        "halves of a Brownian interval that share a number",
        "solvers/brownian.py",
        "(middle, right, 2 * node + 1, half, b)",
        "(middle, right, 2 * node, half, b)",
        (10, "a_brownian_path_is_the_same_under_refinement", None),
    ),
    Mutant(
        "stochastic Heun with sigma at the start alone",
        "solvers/stochastic.py",
        "kick = _kick(process, x, t, s, s, noise)",
        "kick = _kick(process, x, t, t, s, noise)",
        (10, "heun_takes_sigma_of_a_whole_step", None),
    ),
    Mutant(
        "a transport within classes by the inverse permutation",
        "paths/couplings.py",
        "order[mine] = mine[_cheapest(noise[mine], data[mine])]",
        "order[mine[_cheapest(noise[mine], data[mine])]] = mine",
        (17, "transport_uses_each_point_once", None),
    ),
    Mutant(
        "DDIM with eta for its square",
        "sampling/samplers.py",
        "kept = (1 - self.eta**2 * (1 - ratio**2))",
        "kept = (1 - self.eta * (1 - ratio**2))",
        (13, "ddim_is_ddpm_when_eta_is_one", None),
    ),
    Mutant(
        "probes of Hutch++ from the numbers of its sketch",
        "likelihood/divergence.py",
        "drawn(x, self.probes, noise.after(1))",
        "drawn(x, self.probes, noise)",
        (15, "estimate_is_unbiased", "hutch++"),
    ),
    Mutant(
        "a variance of two draws over two",
        "likelihood/bound.py",
        "variance = variance + part.var(0) / len(part)",
        "variance = variance + part.var(0, correction=0) / len(part)",
        (14, "bound_tells_its_error", None),
    ),
    Mutant(
        "a renewal without the score head",
        "sampling/renewal.py",
        "part = part + (1 - kept) * gap",
        "part = part + 0 * gap",
        (30, "an_sde_follows_both_heads", "ddim"),
    ),
    Mutant(
        "a flow that reads data from the score head",
        "sampling/renewal.py",
        "Term(kind, of=VELOCITY)",
        "Term(kind, of=SCORE)",
        (30, "a_flow_follows_the_velocity_head", "ddim"),
    ),
    Mutant(
        "exponential steps of one head",
        "sampling/exponential.py",
        "moved / (a.alpha + a.beta) * gap",
        "0 * gap",
        (30, "an_sde_follows_both_heads", "exponential"),
    ),
    Mutant(
        "labels of a piece dropped at the batch's index",
        "training/batches.py",
        "self.loss.dropped(labels, index, len(data))",
        "self.loss.dropped(labels, first, len(data))",
        (21, "processes_train_as_one", "independent"),
    ),
]


QUICK = 1  # mutants of each law number that every run plants; `make test-slow` plants all of them


def _cases() -> list[object]:
    planted: Counter[int] = Counter()
    found = []
    for mutant in MUTANTS:
        number = mutant.law[0]
        planted[number] += 1
        marks = [pytest.mark.slow] if planted[number] > QUICK else []
        found.append(pytest.param(mutant, id=mutant.bug.replace(" ", "-"), marks=marks))
    return found


@pytest.mark.fast
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.bug.replace(" ", "-") for mutant in MUTANTS])
def test_a_mutant_edits_one_place_of_the_code(mutant: Mutant) -> None:
    assert (PACKAGE / mutant.file).read_text().count(mutant.old) == 1, (
        f"{mutant.file} must hold this once: {mutant.old}"
    )


@pytest.mark.parametrize("mutant", _cases())
def test_law_catches_bug(mutant: Mutant, tmp_path: Path) -> None:
    (law,) = [law for law in laws() if (law.number, law.name) == mutant.law[:2]]
    before = list(law.figures(mutant.law[2]))
    copy = tmp_path / "pathline"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = (copy / mutant.file).read_text()
    (copy / mutant.file).write_text(code.replace(mutant.old, mutant.new))
    after = _figures(mutant, tmp_path)
    print(f"{mutant.law}: {mutant.bug}\n  before {[str(figure) for _, figure in before]}\n  after  {after}")
    assert before and all(figure.holds for _, figure in before)
    assert not all(holds for _, holds in after)


def _figures(mutant: Mutant, where: Path) -> list[tuple[str, bool]]:
    """The figures of the mutant's law, from the package in this folder; a law that raises has failed."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(mutant.law)],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(where)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return [(done.stderr.strip().splitlines()[-1], False)]
    return [(text, holds) for text, holds in json.loads(done.stdout)]


def test_every_law_has_a_mutant() -> None:
    assert {law.number for law in laws()} == {mutant.law[0] for mutant in MUTANTS}
