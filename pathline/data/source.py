"""Data sets, with what is needed to train on them and to show what came of it.

A model sees (raw - shift) / scale; what it makes is brought back by shift + scale * x.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pathline.noise import Noise

SPLIT_STREAM = 6


@dataclass(frozen=True)
class Normalisation:
    """Between the units of the data and those of the model."""

    shift: float
    scale: float

    def into(self, raw: Tensor) -> Tensor:
        """The data as a model sees it."""
        return (raw - self.shift) / self.scale

    def back(self, x: Tensor) -> Tensor:
        """What a model made, in the units of the data."""
        return self.shift + self.scale * x


@dataclass(frozen=True)
class Samples:
    """A data set in memory.

    Attributes:
        x: Raw data, of shape `(samples, *shape)`.
        y: Class indices of shape `(samples,)`, or None.
        classes: The names of the classes.
        normalisation: Into the units of the model.
        title: What it is, in a line.
        licence: Its terms.
        source: Where it is from.
    """

    x: Tensor
    y: Tensor | None
    classes: tuple[str, ...]
    normalisation: Normalisation
    title: str
    licence: str
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether a sample is a picture: (channels, height, width)."""
        return self.x.ndim == 4

    def take(self, index: Tensor | slice) -> Samples:
        """Some of the samples."""
        return replace(self, x=self.x[index], y=None if self.y is None else self.y[index])

    def split(self, share: float, seed: int = 0) -> tuple[Samples, Samples]:
        """Training and held-out samples, the same share of each class held out; it depends on the seed alone.

        Raises:
            ValueError: If either part would be empty.
        """
        order = Noise(seed, stream=SPLIT_STREAM).permutation(len(self.x))
        y = torch.zeros(len(self.x), dtype=torch.long) if self.y is None else self.y
        held = torch.zeros(len(self.x), dtype=torch.bool)
        for label in torch.unique(y):
            mine = order[y[order] == label]
            held[mine[: round(share * len(mine))]] = True
        if held.all() or not held.any():
            raise ValueError(f"held_out must leave samples on both sides of the split, got {share} of {len(y)} samples")
        return self.take((~held).nonzero()[:, 0]), self.take(held.nonzero()[:, 0])


class Source(ABC):
    """Where data comes from."""

    @abstractmethod
    def load(self) -> Samples:
        """All of it."""
