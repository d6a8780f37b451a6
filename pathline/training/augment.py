"""Changes of the data that leave it as likely as it was: more to learn from, for nothing.

What is done to a sample depends on the seed and on its place in the stream of training, like its noise.
"""

from __future__ import annotations

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
