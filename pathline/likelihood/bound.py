"""A lower bound on the log-density of what a chain of ancestral steps makes: what each step adds is a denoising error.

A chain from noise to data takes the times t_0 < ... < t_n. Its steps draw x_s from q(x_s | x_t, data), with the field's
own guess in the place of the data, and its last draws the data from a normal about the last guess. With
SNR = alpha^2 / beta^2 and s the time after t,

    -ELBO = KL(q(x_t0 | data) || N(0, (alpha_0^2 + beta_0^2) I))
            + sum_steps (SNR_s - SNR_t)/2 E |data - guess(x_t, t)|^2 - E log N(data; guess(x_tn, tn), I / SNR_n)

where the last term is one more step, in which the SNR grows by SNR_n, and d/2 log(2 pi / SNR_n). A normal about the
guess with the variance 1 / SNR is what data is, given a point with little noise: for data of the scale s it costs
1 / (2 s^2 SNR_n)^2 nats a dimension; one about x / alpha would cost 1 / (2 s^2 SNR_n).

It is the chain's density that is bounded. For an exact field it goes to the data's own with more steps; for another
field it bounds what ancestral sampling makes, and may be above or below the density of the flow.

Of two heads, of velocity and score, the chain is that of both, whose drift is velocity head + sigma^2/2 score head with
the memoryless sigma: `DDIM(1)` on its times. The guess that makes its steps those of a single guess is

    guess = (data(of velocity) + kept data(of score)) / (1 + kept),   kept = sqrt(SNR_t / SNR_s), 0 in the last step

Source: Kingma et al. 2021, https://arxiv.org/abs/2107.00630, equations 11 to 13; Ho et al. 2020,
https://arxiv.org/abs/2006.11239, equations 5, 8 and 10
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pathline.arguments import points, whole
from pathline.fields.field import Field, checked_field
from pathline.fields.modes import evaluating
from pathline.noise import Noise, fresh_seed
from pathline.paths.predictions import DATA, SCORE, VELOCITY
from pathline.paths.schedules import Schedule
from pathline.sampling.dynamics import Term, field_heads, is_two_headed, read_each
from pathline.sampling.grids import bisected, share_of
from pathline.sampling.sample import in_batches
from pathline.solvers.solver import grid
from pathline.tensors import meet, sum_per_sample

NOISE_STREAM, STEP_STREAM = 20, 21
FINEST = 1e-3  # beta / alpha at the last time of a chain: far below the scale of data that is of unit size
FIRST = 1e-3  # alpha / beta at its first, where data cannot be read at pure noise: it costs 5e-7 |data|^2 nats
LAST_SHARE = 16  # of the draws, one in so many is of the last term: as much as its share of the bound
AT_ONCE = 1 << 16  # numbers of the points that a field is called with at once, unless the batch itself has more


def elbo(
    field: Field,
    x: Tensor,
    *,
    steps: int | Tensor | list[float] = 1000,
    draws: int = 256,
    seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """A lower bound on the log-density of points, in nats, and the standard error of its estimate: `(batch,)` each.

    The density is that of the chain of ancestral steps, `DDIM(1)` on the chain's times, and not that of the flow. A
    field with a velocity and a score head makes the chain of both; `log_prob` is of the velocity head alone.

    Steps are drawn from even stretches of the chain, at least twice from each, whose differences tell the error; so a
    chain of a million steps costs no more than one of a thousand, and its bound is tighter. The field is in eval mode
    meanwhile. In grad mode the bound has gradients, and memory grows with the draws; without it, it does not.

    Args:
        field: On a Gaussian path, with any prediction; under its condition if it has one.
        x: Points of shape `(batch, *shape)`, in the field's own units.
        steps: Of the chain, laid by `information_grid`; or its times, from noise to data, both ends within the path.
        draws: At how many points, at most, the field is called for each sample. The error falls with their root.
        seed: Of the steps and the noise: those of sample i depend on (seed, i) only. A fresh one where left out.

    Raises:
        ValueError: If the field is on no Gaussian path, the data cannot be read at one of the times, or an argument
            does not fit.

    Source: Kingma et al. 2021, https://arxiv.org/abs/2107.00630, equations 11 to 13
    """
    checked_field(field)
    x = points("x", x, may_be_empty=True)
    if whole("draws", draws) < 4:
        raise ValueError(f"draws must be at least 4, two of the steps and two of the last term, got {draws}")
    if not field.path.is_gaussian:
        raise ValueError(f"field must be on a path from noise, whose chain has a density, got {field.path}")
    times = _chain(field, x, steps)
    noise = Noise(fresh_seed() if seed is None else seed)
    if not len(x):
        empty = x.new_zeros(0, dtype=torch.promote_types(x.dtype, torch.float32))
        return empty, empty
    with evaluating(field):
        parts = [
            *in_batches(field, len(x), lambda part, rows: _bound(part, x[rows], times, draws, noise.at(rows.start)))
        ]
    values, variances = (torch.cat(rows) for rows in zip(*parts, strict=True))
    return values, variances.sqrt()


def information_grid(field: Field, steps: int, finest: float = FINEST) -> Tensor:
    """Steps + 1 times for a chain, in float64 on the host, even in log(1 + SNR).

    That is twice the information, in nats, that a point holds of each number of normal data of unit variance. Each step
    then costs such data the same, and no other grid of so many steps has a tighter bound for it: L^2 / (4 steps) nats a
    dimension are lost, L being the length of the grid, 13.8 unless the path begins or ends before.

    Args:
        field: On a Gaussian path.
        steps: How many.
        finest: Beta / alpha at the last time, or that of the end of the path if that is larger.

    Raises:
        ValueError: If there is not one step at least, or no path before `finest`.
    """
    steps = whole("steps", steps, 1)
    schedule = field.path.unit
    ends = share_of(schedule, torch.tensor([0.0, 1.0], dtype=torch.float64))
    is_readable = not read_each(
        field, torch.empty(0), torch.zeros(1, dtype=torch.float64), Term(DATA, of=VELOCITY)
    ).is_singular
    first = ends[0] if is_readable else ends[0].clamp(min=FIRST / (1 + FIRST))
    last = ends[1].clamp(max=1 / (1 + finest))
    if not (finest > 0 and first < last):
        raise ValueError(
            f"finest must be positive, and below beta / alpha at the start of the path, got {finest:g} for {schedule}"
        )
    low, high = (torch.log1p((share / (1 - share)) ** 2) for share in (first, last))
    ratio = torch.expm1(torch.lerp(low, high, torch.linspace(0, 1, steps + 1, dtype=torch.float64))).sqrt()
    share = ratio / (1 + ratio)
    times = bisected(lambda t: share_of(schedule, t) < share, torch.ones_like(share))[1]
    times[0] = times[0] if ends[0] < first else 0.0
    return times


def _chain(field: Field, x: Tensor, steps: int | Tensor | list[float]) -> Tensor:
    """The times of the chain, at each of which the data can be read."""
    times = grid(information_grid(field, steps) if isinstance(steps, int) else steps)
    if times[-1] < times[0] or times[0] < 0 or times[-1] > 1 or not snr(field.path.schedule, times[-1:]).isfinite():
        raise ValueError(
            f"steps must be times that rise within [0, 1], to one at which there is noise left, got {times[0]:g} to "
            f"{times[-1]:g}; information_grid(field, steps) lays them"
        )
    reading = read_each(field, x, times, *_guess(field, times, torch.arange(len(times))))
    if reading.is_singular:
        raise ValueError(
            f"steps must be times at which data can be read from the {field_heads(field)} of this field on "
            f"{field.path}, got t = {float(reading.t):g}; begin inside"
        )
    return times


def _guess(field: Field, times: Tensor, term: Tensor) -> tuple[Term, ...]:
    """The data that the steps of a chain guess, those that begin at some of its times."""
    if not is_two_headed(field):
        return (Term(DATA, of=VELOCITY),)
    ratio = snr(field.path.schedule, times)
    kept = torch.cat(((ratio[:-1] / ratio[1:]).sqrt(), ratio.new_zeros(1)))[term]
    return Term(DATA, 1 / (1 + kept), of=VELOCITY), Term(DATA, kept / (1 + kept), of=SCORE)


def snr(schedule: Schedule, times: Tensor) -> Tensor:
    """The signal-to-noise ratio alpha^2 / beta^2."""
    return (schedule.alpha(times) / schedule.beta(times)) ** 2


def _bound(field: Field, x: Tensor, times: Tensor, draws: int, noise: Noise) -> tuple[Tensor, Tensor]:
    """The bound of each sample, and the variance of its estimate."""
    real = torch.promote_types(x.dtype, torch.float32)
    ratio = snr(field.path.schedule, times)
    weight = torch.cat((ratio.diff(), ratio[-1:])) / 2  # the last term is a step too
    terms, cost = len(times), torch.zeros(len(x), dtype=real, device=x.device)
    variance = torch.zeros_like(cost)
    of_last = max(draws // LAST_SHARE, 2)
    stretches = min((draws - of_last) // 2, terms - 1)
    each = (draws - of_last) // stretches
    # the first term of each draw's stretch, and how many there are in it
    edges = torch.arange(stretches + 1) * (terms - 1) // stretches
    first = torch.cat((edges[:-1].repeat_interleave(each), torch.full((of_last,), terms - 1)))
    count = torch.cat((edges.diff().repeat_interleave(each), torch.ones(of_last, dtype=torch.int64)))
    found = _errors(field, x, times, weight, first, count, noise)
    for part in (*found[: stretches * each].reshape(stretches, each, len(x)), found[stretches * each :]):
        cost = cost + part.mean(0)
        variance = variance + part.var(0) / len(part)
    c = field.path.schedule.at(times[0])
    spread = field.path.unit.alpha(times[0]) ** 2 + c.beta**2
    moved = float(c.alpha**2 / spread) * sum_per_sample(x.to(real) ** 2)
    size = x[0].numel()
    start = (moved + size * float(c.beta**2 / spread - 1 + (spread / c.beta**2).log())) / 2
    return -(start + cost + size / 2 * math.log(2 * math.pi / ratio[-1])), variance


def _errors(
    field: Field, x: Tensor, times: Tensor, weight: Tensor, first: Tensor, count: Tensor, noise: Noise
) -> Tensor:
    """What each draw estimates the sum over its stretch of terms to be, of shape `(draws, batch)`."""
    schedule, batch = field.path.schedule, len(x)
    at_once = max(AT_ONCE // max(x.numel(), 1), 1)
    found = []
    for k in range(0, len(first), at_once):
        draw = range(k, min(k + at_once, len(first)))
        n, repeated = count[k : draw.stop, None], x.repeat(len(draw), *(1,) * (x.ndim - 1))
        place = torch.cat([noise.of(STEP_STREAM).uniform((batch, 1), i, torch.float64).T for i in draw])
        term = (first[k : draw.stop, None] + (place * n).long().clamp(max=n - 1)).flatten()
        t = times[term]
        eps = noise.of(NOISE_STREAM).normals(x.shape, draw, x.dtype, x.device).flatten(0, 1)
        alpha, beta = (meet(scale.to(x.device, x.dtype), x) for scale in (schedule.alpha(t), schedule.beta(t)))
        point = alpha * repeated + beta * eps
        reading = read_each(field, point, t, *_guess(field, times, term))
        guess = reading(point, field.repeat(len(draw)).values(point, reading.t))
        error = sum_per_sample((repeated - guess) ** 2).reshape(len(draw), batch)
        found.append(error * (weight[term].reshape(-1, batch) * n).to(error.device, error.dtype))
    return torch.cat(found)
