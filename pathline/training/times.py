"""When along the path training looks: distributions of t on (0, 1)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pathline.noise import Noise


class Times(ABC):
    """A distribution of training times."""

    @abstractmethod
    def draw(self, count: int, noise: Noise, like: Tensor) -> Tensor:
        """Times of shape `(count,)`, at least float32, on the device of `like`; time i depends on (seed, i) only."""


@dataclass(frozen=True)
class UniformTimes(Times):
    """Uniform between two times.

    Raises:
        ValueError: Unless 0 <= start < stop <= 1.
    """

    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(f"times must satisfy 0 <= start < stop <= 1, got {self.start} and {self.stop}")

    def draw(self, count: int, noise: Noise, like: Tensor) -> Tensor:
        """Start + (stop - start) U."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        return self.start + (self.stop - self.start) * noise.uniform((count, 1), 0, dtype, like.device)[:, 0]


@dataclass(frozen=True)
class LogitNormalTimes(Times):
    """The logistic function of a normal number: most often in the middle of the path, never at its ends.

    Source: Esser et al. 2024, https://arxiv.org/abs/2403.03206, section 3.1
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"std must be positive, got {self.std}")

    def draw(self, count: int, noise: Noise, like: Tensor) -> Tensor:
        """sigmoid(mean + std N)."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        t = (self.mean + self.std * noise.normal((count, 1), 0, dtype, like.device)[:, 0]).sigmoid()
        return t.clamp(torch.finfo(dtype).tiny, 1 - torch.finfo(dtype).eps / 2)  # rounding makes some of them 1
