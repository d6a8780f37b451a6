"""Couplings: which noise goes with which data in a training batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Coupling(ABC):
    """A joint distribution of noise and data, given a batch of each; data and its labels keep their order."""

    @abstractmethod
    def __call__(self, noise: Tensor, data: Tensor) -> Tensor:
        """The noise, in the order of the data that it goes with."""


@dataclass(frozen=True)
class IndependentCoupling(Coupling):
    """Noise and data know nothing of each other: p(noise, data) = p(noise) p(data)."""

    def __call__(self, noise: Tensor, data: Tensor) -> Tensor:
        """The noise as it is."""
        return noise
