"""Changes of the data, seen anew each time: those that leave it as likely are more to learn from, for nothing.

What is done to a sample depends on the seed and on its place in the stream of training, like its noise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pathline.noise import Noise
from pathline.tensors import meet


class Augmentation(ABC):
    """A random change of each sample."""

    @abstractmethod
    def __call__(self, data: Tensor, noise: Noise) -> Tensor:
        """The data of shape `(batch, *shape)`, changed; what happens to sample i depends on (seed, i) only."""


@dataclass(frozen=True)
class NoAugmentation(Augmentation):
    """The data as it is."""

    def __call__(self, data: Tensor, noise: Noise) -> Tensor:
        """Nothing is changed."""
        return data


NONE = NoAugmentation()


@dataclass(frozen=True)
class FlipAugmentation(Augmentation):
    """Mirror images: right becomes left in this share of them.

    Raises:
        ValueError: If it is no share, or the data are no images.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {self.share}")

    def __call__(self, data: Tensor, noise: Noise) -> Tensor:
        """Some of the images mirrored."""
        if data.ndim < 4:
            raise ValueError(f"flip is for images, (batch, channels, height, width), got {tuple(data.shape)}")
        chance = noise.uniform((len(data), 1), device=data.device)[:, 0]
        return torch.where(meet(chance < self.share, data), data.flip(-1), data)


@dataclass(frozen=True)
class DequantiseAugmentation(Augmentation):
    """Uniform noise on [0, bin) over each number: data on a lattice gets a density, anew each time that it is seen.

    A model of whole numbers as they are puts ever narrower spikes on them, and next to nothing between. One whose
    likelihood is asked for in bits is of the numbers with this noise, and what it samples is rounded down to them.

    Args:
        bin: The distance of neighbouring values in the units of the model: 0.125 for digits, 17 levels from -1 to 1.

    Raises:
        ValueError: If it is not positive.

    Source: Theis et al. 2016, https://arxiv.org/abs/1511.01844, section 3.1
    """

    bin: float

    def __post_init__(self) -> None:
        if not 0 < self.bin < math.inf:
            raise ValueError(
                f"bin must be positive, got {self.bin}; it is the distance of neighbouring values in the units of the "
                "model: 0.125 for digits"
            )

    def __call__(self, data: Tensor, noise: Noise) -> Tensor:
        """The data with its noise."""
        return data + self.bin * noise.uniform(data.shape, dtype=data.dtype, device=data.device).to(data.dtype)
