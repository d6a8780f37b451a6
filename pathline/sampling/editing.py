"""Editing: as much of a point is forgotten as it is noised, and the rest holds what is made of it; and moves at one t.

    edit       x_t = alpha_t x + beta_t noise,   t = 1 - strength,   then from x_t to data by any sampler
    langevin   x += step score(x, t) + sqrt(2 step) normal,   t frozen

Noising takes data to p_t, and a sampler takes p_t to data: of points drawn from the data the edits are too, at every
strength. For data N(m, S) and the flow, an edit and its point have in each axis of S, of standard deviation s,

    correlation = alpha_t s / sqrt(alpha_t^2 s^2 + beta_t^2)

so wide features are kept and fine ones made anew. Langevin dynamics keeps p_t up to the length of its steps: around a
normal of variance v they make it v / (1 - step / (2 v)).

Source: Meng et al. 2022, https://arxiv.org/abs/2108.01073 (SDEdit)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pathline.arguments import number, points, whole
from pathline.fields.field import Field, checked_field, on_path
from pathline.noise import Noise, fresh_seed
from pathline.sampling.dynamics import langevin_of
from pathline.sampling.inversion import from_noise, walked
from pathline.sampling.sampler import Sampler, checked_sampler
from pathline.sampling.samplers import default_sampler
from pathline.solvers.solver import walk
from pathline.solvers.stochastic import EulerMaruyama

SAME = 1e-6  # a stop of the grid that is nearer to where an edit begins is none: so short a step tells nothing
RATIO = (
    0.16  # of signal to noise in a step of Langevin's, as of the corrector: p_t is off by 2.6% or less of its variance
)


def edit(
    field: Field,
    x: Tensor,
    strength: float,
    sampler: Sampler | None = None,
    steps: int | None = None,
    seed: int | None = None,
) -> Tensor:
    """Points like `x`, of its shape and in the field's units: noised back to t = 1 - strength, and sampled from there.

    Of strength 0 they are x, of strength 1 the fresh samples that `sample` makes with the same seed. Edit i depends on
    its point and (seed, i) only. The field is in eval mode meanwhile, and no gradient is kept.

    Args:
        field: What makes the edits, under a condition if they are to have another: `field.given(3)`.
        x: Points of shape `(batch, *shape)`.
        strength: How far back to noise, in the time of the path.
        sampler: `default_sampler()` unless another is given, with noise of its own or without.
        steps: Of the whole way from noise to data, of which those after t are taken; 50 unless given.
        seed: A whole number; a fresh one where left out.

    Raises:
        ValueError: If the strength is not from 0 to 1, the path does not begin at noise, or the sampler, being fitted,
            stops at its own times only.
    """
    x = points("x", x)
    if not 0 <= number("strength", strength) <= 1:
        raise ValueError(f"strength must be from 0, x itself, to 1, fresh samples, got {strength}")
    path = from_noise(field, "edit")
    sampler = default_sampler() if sampler is None else checked_sampler(sampler)
    grid = sampler.times(field, sampler.usual_steps if steps is None else steps)
    if 1 - strength == 1:
        return x.clone()
    noise = Noise(fresh_seed() if seed is None else seed)
    if strength == 1:
        return walked(field, path.start_scale * noise.like(x), sampler, grid, noise)
    t = torch.tensor([1 - strength], dtype=torch.float64)
    alpha, beta = float(path.schedule.alpha(t)), float(path.schedule.beta(t))
    later = grid[grid > t + SAME]
    times = torch.cat((t, later if len(later) else grid[-1:]))
    return walked(field, alpha * x + beta * noise.like(x), sampler, times, noise)


def langevin(
    field: Field, x: Tensor, t: float, steps: int, step_size: float | None = None, seed: int | None = None
) -> Iterator[Tensor]:
    """Points of Langevin dynamics at a frozen t, `x` first and one after each step: it keeps p_t, and settles there.

    Like any walk it follows the caller's grad mode and the field's own: call it in `torch.no_grad()` for points alone.
    Sample i depends on (seed, i) only.

    Args:
        field: Whose score, under its condition if it has one.
        x: Points of shape `(batch, *shape)`.
        t: A time of the path at which the score can be read.
        steps: One call of the field each.
        step_size: The length of a step; 2 (RATIO beta_t)^2 unless given.
        seed: A whole number; a fresh one where left out.

    Raises:
        ValueError: If t is not one of the path, or the score cannot be read there; if there is no step, or none of a
            positive length.
    """
    checked_field(field)
    x, t = points("x", x), number("t", t)
    beta = float(field.path.schedule.beta(on_path(torch.tensor(t, dtype=torch.float64))))
    length = 2 * (RATIO * beta) ** 2 if step_size is None else number("step_size", step_size)
    steps = whole("steps", steps, 1)
    if not 0 < length < math.inf:
        way = "" if step_size is not None else f", that of t = {t:g}, where no noise sets a scale; give a step_size"
        raise ValueError(f"step_size must be positive and finite, got {length:g}{way}")
    times = length * torch.arange(steps + 1, dtype=torch.float64)
    noise = Noise(fresh_seed() if seed is None else seed)
    return walk(langevin_of(field, t, math.sqrt(2)), EulerMaruyama(), x, times, noise)
