"""Maximum likelihood: a continuous normalizing flow, trained by its own log-density of the data.

    L = -E_data log p_1(data) / d,   log p_1(x_1) = log p_0(x_0) - integral of div u_t(x_t) dt

Every step solves the flow from data to noise and goes back through the solve for the gradient. Flow matching trains the
same field towards the same density with one call of the network a step; what is compared are losses, not models.

Source: Chen et al. 2018, https://arxiv.org/abs/1806.07366, section 4; Grathwohl et al. 2019,
https://arxiv.org/abs/1810.01367
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pathline.fields.field import Field, gaussian
from pathline.likelihood.divergence import Divergence, Hutchinson
from pathline.likelihood.gradients import Backpropagation, Gradient
from pathline.likelihood.log_prob import carry, even, log_start, probes
from pathline.solvers.adaptive import AdaptiveSolver
from pathline.solvers.runge_kutta import RK4, RungeKutta
from pathline.training.loss import Loss

SHIFT_STREAM = 22


class ProbedData(NamedTuple):
    """Data, the vectors by which its divergence is found, `(vectors, *data.shape)`, and how each grid is shifted."""

    data: Tensor
    vectors: Tensor
    shift: Tensor | None


class MaximumLikelihood(Loss):
    """The negative log-density of data under a field's flow, in nats per number of a point, averaged over the batch.

    The field is in eval mode meanwhile, as a flow is one and the same all the way: dropout does nothing. An estimated
    divergence leaves the loss and its gradient unbiased. In training every sample has a grid of its own, shifted at
    random, as a network learns on a fixed one where the solver looks: the divergence gets a dent there, the loss falls
    without end, and the density gets worse.

    Args:
        field: What is trained, on a path from noise.
        solver: The method of a step, or an adaptive one.
        steps: How many, of a solver that does not lay its own.
        divergence: How the divergence is found: `Hutchinson()`, one probe a sample, unless given; `Exact()` is better
            in few dimensions.
        gradient: How the gradient is: `Backpropagation()` unless given; `Recomputation()` and `Adjoint()` save memory.
        drop: The share of labels replaced by the null condition in training, so that guidance can be used.
        seed: Of the probes and drops: those of training sample i depend on (seed, i) only.

    Raises:
        ValueError: If an argument does not fit.
    """

    def __init__(
        self,
        field: Field,
        solver: RungeKutta | AdaptiveSolver = RK4,
        steps: int = 10,
        divergence: Divergence | None = None,
        gradient: Gradient | None = None,
        drop: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(field, drop, seed)
        gaussian(field.path)
        self.solver = solver
        self.times = even(field, 1.0, 0.0, steps)
        self.divergence = divergence or Hutchinson()
        self.gradient = gradient or Backpropagation()
        self.gradient.check(solver)

    def point(self, ends: tuple[Tensor, ...], index: int | Tensor) -> ProbedData:
        """The data, the probes of its divergence, and in training a shift of the grid."""
        (data,) = ends
        pieces = self.pieces(index, len(data))
        vectors = torch.cat([probes(self.divergence, data[:count], noise) for noise, count in pieces], 1)
        if not self.training or isinstance(self.solver, AdaptiveSolver):
            return ProbedData(data, vectors, None)
        shifts = [noise.of(SHIFT_STREAM).uniform((count, 1), dtype=torch.float64)[:, 0] for noise, count in pieces]
        return ProbedData(data, vectors, torch.cat(shifts))

    def errors(self, point: ProbedData, y: Any = None) -> Tensor:
        """The negative log-density of each sample, per number of it, of shape `(batch,)`."""
        field, x = self.field if y is None else self.field.bound(y), point.data
        end, change = carry(
            field, x, self.times, self.solver, self.divergence, point.vectors, self.gradient, point.shift
        )
        return -(log_start(field, end, self.times[-1]) + change.mean(0)) / x[0].numel()
