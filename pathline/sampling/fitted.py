"""A solver as a table: the times of its steps and every coefficient, as `fit` finds them for one field.

In the coordinates X = x / (alpha + beta) and tau = alpha / (alpha + beta) every Gaussian path is the linear one, and a
method that calls the field n times is a table of its times and of a lower triangle of weights,

    X_k = X_0 + sum_{j < k} b_kj q_j,   q_j = (data - noise) read at X_j, tau_j,   sum_j b_kj = tau_k - tau_0

whose last row is the sample. The sums make it exact for a field that stands still.

Source: Shaul et al. 2024, https://arxiv.org/abs/2403.01329 (non-stationary solvers)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pathline.arguments import whole
from pathline.fields.field import Field
from pathline.paths.predictions import VELOCITY
from pathline.sampling.dynamics import Reading, field_heads, no_gradient, read_along
from pathline.sampling.grids import Grid, share_of, times_at
from pathline.sampling.multistep import combined, mixed
from pathline.sampling.sampler import Sampler, path_grid
from pathline.solvers.solver import Source

ALIKE = 1e-9  # times and shares that differ by less are the same


@dataclass(frozen=True)
class FittedGrid(Grid):
    """The shares of data, alpha / (alpha + beta), that a fitted solver stops at.

    Raises:
        ValueError: If they do not increase from 0 or more to 1 at most.
    """

    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        s = self.shares
        if len(s) < 2 or any(not 0 <= a < b <= 1 for a, b in pairwise(s)):
            raise ValueError(f"shares must increase, at least 0 and at most 1, got {s}")

    def times(self, field: Field, steps: int) -> Tensor:
        """Its own times.

        Raises:
            ValueError: If more or fewer steps are wanted, or the path of the field has other ends.
        """
        if steps != len(self.shares) - 1:
            raise ValueError(f"steps must be {len(self.shares) - 1} for a solver fitted to so many, got {steps}")
        ends = share_of(field.path.unit, torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
        if any(abs(a - b) > ALIKE for a, b in zip(ends, (self.shares[0], self.shares[-1]), strict=True)):
            raise ValueError(
                f"the solver was fitted from a share of data of {self.shares[0]:.6g} to {self.shares[-1]:.6g}, and "
                f"{field.path.schedule} goes from {ends[0]:.6g} to {ends[1]:.6g}"
            )
        return times_at(field.path.unit, torch.tensor(self.shares, dtype=torch.float64))


@dataclass(frozen=True)
class FittedSampler(Sampler):
    """A table of times and weights. It stops at its own times only, and goes from noise to data.

    Args:
        shares: Of data, alpha / (alpha + beta), at its times.
        weights: A row for each time after the first, of as many weights as there are times before it.

    Raises:
        ValueError: If the rows have other lengths, or do not sum to the way gone: no field could be followed.
    """

    shares: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    nodes = (0.0,)
    is_laid_for_unit_size = False

    def __post_init__(self) -> None:
        shares = self.grid.shares
        if [len(row) for row in self.weights] != list(range(1, len(shares))):
            raise ValueError(
                f"weights must be rows of 1 to {len(shares) - 1} numbers, got rows of {[len(r) for r in self.weights]}"
            )
        for k, row in enumerate(self.weights, start=1):
            if not abs(math.fsum(row) - (shares[k] - shares[0])) < ALIKE:
                raise ValueError(
                    f"row {k} of weights must sum to {shares[k] - shares[0]:.10g}, got {math.fsum(row):.10g}"
                )

    @property
    def grid(self) -> FittedGrid:  # type: ignore[override]
        """Its times."""
        return FittedGrid(self.shares)

    @property
    def usual_steps(self) -> int:
        """As many as it was fitted to."""
        return len(self.weights)

    def __str__(self) -> str:
        return f"the solver fitted to {len(self.weights)} evaluations"

    def times(self, field: Field, steps: int | None = None, evaluations: int | None = None) -> Tensor:
        """Its own times, for as many steps, or evaluations enough.

        Raises:
            ValueError: If fewer are allowed, or exactly so many steps are not what is wanted.
        """
        n = len(self.weights)
        if steps is None and evaluations is not None and whole("evaluations", evaluations) >= n:
            return self.grid.times(field, n)
        return super().times(field, steps, evaluations)

    def walk(self, field: Field, x: Tensor, times: Tensor, noise: Source | None = None) -> Iterator[Tensor]:
        """The points of the flow at its own times; it draws nothing.

        Raises:
            ValueError: If the times are others, or the field cannot be read at one of them, or begins at no noise.
        """
        if not field.path.is_gaussian:
            raise ValueError(f"a fitted solver needs a path that begins at noise, and this is {field.path}")
        times = path_grid(times)
        no_gradient(times)
        own = self.grid.times(field, len(self.weights))
        if len(times) != len(own) or not torch.allclose(times, own, rtol=0, atol=ALIKE):
            raise ValueError(f"times must be the solver's own, which sampler.times(field, steps={len(own) - 1}) gives")
        readings = read_along(field, x, own[:-1], mixed(field, VELOCITY))
        singular = [float(t) for t, reading in zip(own, readings, strict=False) if reading.is_singular]
        if singular:
            raise ValueError(
                f"a fitted solver reads data - noise at t = {singular[0]:g}, where the {field_heads(field)} of this "
                f"field on {field.path} cannot settle it"
            )
        c = field.path.unit.at(own)
        return self._walk(field, x, readings, (c.alpha + c.beta).tolist())

    def _walk(self, field: Field, x: Tensor, readings: list[Reading], w: list[float]) -> Iterator[Tensor]:
        start, values = x, list[Tensor]()
        yield x
        for reading, row, scale in zip(readings, self.weights, w[1:], strict=True):
            values.append(reading(x, field.values(x, reading.t)))
            x = combined(scale / w[0], start, [scale * b for b in row], values)
            yield x

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` makes it of again: plain lists of numbers."""
        return {"shares": list(self.shares), "weights": [list(row) for row in self.weights]}


def fitted_from(values: dict[str, Any]) -> FittedSampler:
    """The solver that `to_dict` wrote down.

    Raises:
        ValueError: If anything is missing, or is none.
    """
    try:
        shares = tuple(float(share) for share in values["shares"])
        return FittedSampler(shares, tuple(tuple(float(b) for b in row) for row in values["weights"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"a fitted solver must have shares and weights, lists of numbers: {error!r}") from None
