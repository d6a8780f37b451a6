"""Grids: where along a path a sampler stops.

A grid is a rule from a number of steps to times, from noise (t = 0) to data (t = 1). Steps belong where the field
turns; which rule puts them there depends on the schedule and on the method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pathline.fields.field import Field


class Grid(ABC):
    """A way to lay times from noise to data."""

    @abstractmethod
    def times(self, field: Field, steps: int) -> Tensor:
        """Steps + 1 times from 0 to 1, in float64 on the host, strictly increasing."""


@dataclass(frozen=True)
class UniformGrid(Grid):
    """Even in time."""

    def times(self, field: Field, steps: int) -> Tensor:
        """K / steps."""
        return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


UNIFORM = UniformGrid()
