"""What an adaptive solver finds: the steps of each sample, and a point at any time within them.

    x(t + theta h) = x + h sum_i k_i sum_j dense_ij theta^j,   0 <= theta <= 1,   j = 1 .. 4

a polynomial of order 4 through both ends of a step, of the slopes k_i that the step has read anyway.

Source: Hairer, Norsett & Wanner 1993, "Solving Ordinary Differential Equations I", section II.6
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from pathline.tensors import meet

Matrix: TypeAlias = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Counts:
    """What each sample took, each of shape `(batch,)`: calls of the drift, steps, and steps that were refused."""

    evaluations: Tensor
    steps: Tensor
    refused: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Counts:
        """None yet."""
        return cls(*torch.zeros(3, len(x), dtype=torch.int64))


@dataclass(frozen=True)
class Piece:
    """A step of some samples of the batch, `rows`, from `x` at `t` to `end` at `s`; taken by those where it `holds`."""

    dense: Matrix
    rows: Tensor
    holds: Tensor
    t: Tensor
    s: Tensor
    x: Tensor
    end: Tensor
    slopes: list[Tensor]

    def covers(self, times: Tensor) -> Tensor:
        """Which times, of shape `(k,)` or `(samples, k)`, a sample reaches in this step: `(samples, k)`."""
        t, s = self.t[:, None], self.s[:, None]
        return self.holds[:, None] & ((times - t) * (times - s) <= 0) & (times != t)

    def at(self, which: Tensor, times: Tensor) -> Tensor:
        """The points of some samples of the piece, each at its own time."""
        h = (self.s - self.t)[which]
        theta = (times - self.t[which]) / h
        powers = theta[:, None] ** torch.arange(1, 5)
        weights = h[:, None] * (powers @ torch.tensor(self.dense, dtype=torch.float64).T)
        which = which.to(self.x.device)
        x = self.x[which]
        for weight, slope in zip(weights.unbind(1), self.slopes, strict=True):
            x = x + shaped(weight, x) * slope[which]
        return torch.where(meet((theta == 1).to(x.device), x), self.end[which], x)


@dataclass(frozen=True)
class Solution:
    """A solution, all steps of which are kept.

    Attributes:
        x: The end of each sample.
        counts: What each sample took.
        start: The first time.
        stop: The last.
    """

    x: Tensor
    counts: Counts
    start: float
    stop: float
    begin: Tensor = field(repr=False)
    pieces: list[Piece] = field(repr=False)

    def at(self, t: float | Tensor) -> Tensor:
        """The points at one time, or each at its own, of shape `(batch,)`: dense output, of order 4.

        Raises:
            ValueError: If a time is not between the first and the last.
        """
        times = torch.as_tensor(t, dtype=torch.float64).detach().cpu().expand(len(self.begin))
        if not ((times - self.start) * (times - self.stop) <= 0).all():
            raise ValueError(f"t must lie between {self.start:g} and {self.stop:g}, which was solved, got {t}")
        x = self.begin.clone()
        for piece in self.pieces:
            which = piece.covers(times[piece.rows][:, None])[:, 0].nonzero()[:, 0]
            if len(which):
                x[piece.rows[which].to(x.device)] = piece.at(which, times[piece.rows[which]])
        return x


def shaped(h: Tensor, x: Tensor) -> Tensor:
    """A number of each sample, on the host in float64, so that it multiplies points without making them wider."""
    return meet(h.to(x.device, torch.promote_types(x.dtype, torch.float32)).to(x.dtype), x)
