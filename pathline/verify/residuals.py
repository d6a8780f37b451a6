"""How far a field is from the equations that hold it together, by exact derivatives: no density is needed.

    Fokker-Planck       d/dt log p + div f + f . s - sigma^2/2 (div s + |s|^2) = 0,   f = u + sigma^2/2 s
    its score form      d/dt s + grad (div f + f . s - sigma^2/2 (div s + |s|^2)) = 0
    being a gradient    J = J^T,   J the Jacobian of the score: s = grad log p

With sigma = 0 the first is continuity. f is the drift of the sampler's own SDE, and p a log-density where one is given.
Without it the gradient of the first line is taken, in which p stands as its score alone; so a trained network can be
asked, and for a residual of 0 its score need be that of no density that is known. Whatever is measured comes with the
sum of the sizes of its terms, for a residual alone says nothing.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, theorems 12 and 15; Lai et al. 2023,
https://arxiv.org/abs/2210.04296 (the score's Fokker-Planck equation, of one SDE)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pathline.arguments import points
from pathline.fields.field import Field
from pathline.fields.modes import evaluating, math_attention
from pathline.likelihood.divergence import AT_ONCE, Divergence, Exact, drawn, pulled
from pathline.noise import Noise
from pathline.paths.predictions import SCORE, Prediction
from pathline.sampling.dynamics import diffusion_of
from pathline.sampling.sigmas import Sigma
from pathline.tensors import Time, sum_per_sample, time_of

RESIDUAL_STREAM = 34


class Residual(NamedTuple):
    """What ought to be nothing at each point, and what it is to be held against.

    Attributes:
        value: The residual: of shape `(batch,)`, or of that of the points where it is a vector.
        size: The sum of the sizes of its terms, of shape `(batch,)`.
        error: What probes put into the norm of the value, of shape `(batch,)`: 0 where the divergence is exact.
    """

    value: Tensor
    size: Tensor
    error: Tensor

    @property
    def relative(self) -> Tensor:
        """The norm of the residual over the size, at each point."""
        return _norm(self.value) / self.size

    @property
    def overall(self) -> float:
        """The same for all points together, by mean squares, free of what probes put in."""
        squared = (_norm(self.value) ** 2 - self.error**2).mean().clamp(min=0)
        return float((squared / (self.size**2).mean()).sqrt())


def continuity_residual(
    field: Field,
    x: Tensor,
    t: Time,
    log_prob: Callable[[Tensor, Tensor], Tensor] | None = None,
    divergence: Divergence | None = None,
    seed: int = 0,
) -> Residual:
    """How far the flow of a field is from carrying its density: d/dt log p + div u + u . s, or its gradient.

    It is `fokker_planck_residual` with sigma = 0.
    """
    return fokker_planck_residual(field, x, t, 0.0, log_prob, divergence, seed=seed)


def fokker_planck_residual(
    field: Field,
    x: Tensor,
    t: Time,
    sigma: float | Callable[[Tensor], Tensor] | Sigma = 0.0,
    log_prob: Callable[[Tensor, Tensor], Tensor] | None = None,
    divergence: Divergence | None = None,
    *,
    is_backward: bool = False,
    seed: int = 0,
) -> Residual:
    """How far the SDE of a field is from keeping its density: the residual of the Fokker-Planck equation.

    Args:
        field: Under its condition, if it has one.
        x: Points of shape `(batch, *shape)`; in float64 on exact fields it is nothing but rounding.
        t: Of shape `()` or `(batch,)`, inside the path.
        sigma: The diffusion of the SDE.
        log_prob: The log-density of p_t, from points and times to shape `(batch,)`: `field.log_prob` of exact fields.
            Left out, the score form is measured, a vector at each point.
        divergence: Exact unless given; an estimated one is for points of many numbers.
        is_backward: Whether the SDE is the one that runs back to noise.
        seed: Of the probes.

    Raises:
        ValueError: If velocity or score cannot be read at t.
    """
    x = points("x", x)
    divergence = divergence or Exact()
    with torch.enable_grad(), evaluating(field), math_attention():  # others have no second derivative
        x = x.detach().clone().requires_grad_()
        time = time_of(x, t).detach().expand(len(x))
        moment = time.clone().requires_grad_()
        process = diffusion_of(field, sigma, is_backward)
        f, squared = process.drift(x, time), torch.as_tensor(process.diffusion(x, time), dtype=x.dtype) ** 2
        half = -squared / 2 if is_backward else squared / 2
        vectors = divergence.vectors(x, Noise(seed, stream=RESIDUAL_STREAM))
        if log_prob is None:
            s = field.score(x, moment)
            rate = _along(s, moment)
        else:
            rate, s = torch.autograd.grad(log_prob(x, moment).sum(), (moment, x), create_graph=True)
        terms = [divergence.of(f, x, vectors, is_kept=True), sum_per_sample(f * s)[None]]
        if half.any():
            terms += [-half * divergence.of(s, x, vectors, is_kept=True), -half * sum_per_sample(s**2)[None]]
        if log_prob is None:
            terms = [torch.stack([_gradient(row, x) for row in term]) for term in terms]
        terms = [rate.detach()[None], *(term.detach() for term in terms)]
    each = torch.stack([term.expand_as(terms[1]) for term in terms]).sum(0)  # one for each estimate of a divergence
    count = len(each)
    spread = each.var(0) / count if count > 1 else torch.zeros_like(each[0])
    size = torch.stack([_norm(term.mean(0)) for term in terms]).sum(0)
    return Residual(each.mean(0), size, spread.reshape(len(x), -1).sum(1).sqrt())


def asymmetry(
    field: Field, x: Tensor, t: Time, kind: Prediction = SCORE, probes: int | None = None, seed: int = 0
) -> Residual:
    """How far a field is from being a gradient: |J - J^T| / 2 at each point, beside |J|, its Jacobian's norm.

    The ratio is 0 for a gradient and 1 for pure rotation; a matrix of independent numbers has 0.71. The score is a
    gradient by its definition, and on a Gaussian path so are velocity, data and noise; a network's need not be.

    Args:
        field: Under its condition, if it has one.
        x: Points of shape `(batch, *shape)`.
        t: Of shape `()` or `(batch,)`.
        kind: Which reading of the field.
        probes: Pairs of random vectors, v . J w - w . J v, for squares without bias; all of J unless given.
        seed: Of the probes.

    Raises:
        ValueError: If the kind cannot be read at t, or there is not at least one probe.
    """
    x = points("x", x)
    if probes is not None and probes < 1:
        raise ValueError(f"probes must be at least 1, or left out for all of the Jacobian, got {probes}")
    with torch.enable_grad(), evaluating(field), math_attention():
        x = x.detach().clone().requires_grad_()
        value = field.read(x, time_of(x, t), kind)
        if probes is None:
            size = x[0].numel()
            basis = torch.eye(size, dtype=x.dtype, device=x.device)[:, None].expand(-1, len(x), -1)
            v = basis.reshape(-1, *x.shape)
        else:
            v = drawn(x, 2 * probes, Noise(seed, stream=RESIDUAL_STREAM))
        at_once = max(AT_ONCE // x.numel(), 1)
        rows = torch.cat([pulled(value, x, part, is_kept=False) for part in torch.split(v, at_once)])
    rows, v = rows.detach().flatten(2), v.flatten(2)
    if probes is None:
        part = (rows.permute(1, 0, 2) - rows.permute(1, 2, 0)) / 2
        whole, turning = (rows**2).sum((0, 2)), (part**2).sum((1, 2))
    else:
        a, b, at_a, at_b = v[:probes], v[probes:], rows[:probes], rows[probes:]
        whole, turning = (rows**2).sum(2).mean(0), ((b * at_a - a * at_b).sum(2) ** 2).mean(0) / 4
    return Residual(turning.sqrt(), whole.sqrt(), torch.zeros_like(whole))


def _along(value: Tensor, t: Tensor) -> Tensor:
    """The derivative with respect to a time of each sample's own, by two backward passes."""
    if not value.requires_grad:
        return torch.zeros_like(value)
    weight = torch.ones_like(value, requires_grad=True)  # <weight, value> is linear in it
    (slope,) = torch.autograd.grad(value, t, weight, create_graph=True, allow_unused=True)
    if slope is None or not slope.requires_grad:
        return torch.zeros_like(value)
    (found,) = torch.autograd.grad(slope.sum(), weight, retain_graph=True)
    return found


def _gradient(numbers: Tensor, x: Tensor) -> Tensor:
    """The gradient of each sample's number at its point."""
    if not numbers.requires_grad:
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(numbers.sum(), x, retain_graph=True, allow_unused=True)
    return torch.zeros_like(x) if found is None else found


def _norm(value: Tensor) -> Tensor:
    return value.abs() if value.ndim == 1 else value.flatten(1).norm(dim=1)
