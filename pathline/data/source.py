"""Data sets, with what is needed to train on them and to show what came of it.

A model sees (raw - shift) / scale; what it makes is brought back by shift + scale * x.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pathline.noise import Noise

SPLIT_STREAM = 6


@dataclass(frozen=True)
class Normalisation:
    """Between the units of the data and those of the model.

    Args:
        shift: One number for all, or one for each entry of a vector.
        scale: The same, positive.

    Raises:
        ValueError: If a number is not finite, or a scale not positive.
    """

    shift: float | tuple[float, ...]
    scale: float | tuple[float, ...]

    def __post_init__(self) -> None:
        shift, scale = (torch.as_tensor(row, dtype=torch.float64) for row in (self.shift, self.scale))
        if shift.shape != scale.shape or not (shift.isfinite() & scale.isfinite() & (scale > 0)).all():
            raise ValueError(
                f"shift and scale must be finite, scale positive, and both as long, got {self.shift} and {self.scale}"
            )

    @classmethod
    def of(cls, raw: Tensor) -> Normalisation:
        """What brings data of shape `(samples, *shape)` to the size of noise.

        Each entry of a vector gets mean 0 and standard deviation 1; one that never changes is only shifted. Pictures
        are brought between -1 and 1, all by the same numbers.
        """
        raw = raw.double()
        if raw.ndim == 2:
            changes = raw.amax(0) > raw.amin(0)
            scale = torch.where(changes, raw.std(0, correction=0), 1.0)
            return cls(tuple(raw.mean(0).tolist()), tuple(scale.tolist()))
        low, high = float(raw.min()), float(raw.max())
        return cls((low + high) / 2, (high - low) / 2 if high > low else 1.0)

    def into(self, raw: Tensor) -> Tensor:
        """The data as a model sees it, in torch's default type."""
        return ((raw - self._like(self.shift, raw)) / self._like(self.scale, raw)).to(torch.get_default_dtype())

    def back(self, x: Tensor) -> Tensor:
        """What a model made, in the units of the data; vectors in float64, which a column of years may need."""
        return self._like(self.shift, x) + self._like(self.scale, x) * x

    def _like(self, value: float | tuple[float, ...], x: Tensor) -> float | Tensor:
        return value if isinstance(value, int | float) else torch.tensor(value, dtype=torch.float64, device=x.device)


@dataclass(frozen=True)
class Samples:
    """A data set in memory.

    Attributes:
        x: Raw data, of shape `(samples, *shape)`.
        y: Class indices of shape `(samples,)`, or None.
        classes: The names of the classes.
        normalisation: Into the units of the model; None if it is to be learned from the part that is trained on.
        title: What it is, in a line.
        licence: Its terms.
        source: Where it is from.
        columns: The names of a vector's entries, if they have any.
    """

    x: Tensor
    y: Tensor | None
    classes: tuple[str, ...]
    normalisation: Normalisation | None
    title: str
    licence: str
    source: str
    columns: tuple[str, ...] = ()

    @property
    def units(self) -> Normalisation:
        """The normalisation, learned from these samples unless it is given."""
        return self.normalisation or Normalisation.of(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether a sample is a picture: (channels, height, width)."""
        return self.x.ndim == 4

    @property
    def digest(self) -> str:
        """A hash of the samples and their classes."""
        found = hashlib.sha256(self.x.numpy().tobytes())
        found.update(b"" if self.y is None else self.y.numpy().tobytes())
        return found.hexdigest()

    def take(self, index: Tensor | slice) -> Samples:
        """Some of the samples."""
        return replace(self, x=self.x[index], y=None if self.y is None else self.y[index])

    def split(self, share: float, seed: int = 0) -> tuple[Samples, Samples]:
        """Training and held-out samples, the same share of each class held out; it depends on the seed alone.

        Where classes are so small that none would be held out, they are not told apart. A normalisation that is to be
        learned is that of the training samples, for both.

        Raises:
            ValueError: If either part would be empty.
        """
        order = Noise(seed, stream=SPLIT_STREAM).permutation(len(self.x))
        one = torch.zeros(len(self.x), dtype=torch.long)
        held = _held_out(order, one if self.y is None else self.y, share)
        held = held if held.any() else _held_out(order, one, share)
        if held.all() or not held.any():
            raise ValueError(
                f"held_out must leave samples on both sides of the split, got {share} of {len(held)} samples"
            )
        training, rest = self.take((~held).nonzero()[:, 0]), self.take(held.nonzero()[:, 0])
        return replace(training, normalisation=training.units), replace(rest, normalisation=training.units)


def _held_out(order: Tensor, y: Tensor, share: float) -> Tensor:
    """Whether each sample is held out: the first of its class in the given order."""
    held = torch.zeros(len(order), dtype=torch.bool)
    for label in torch.unique(y):
        mine = order[y[order] == label]
        held[mine[: round(share * len(mine))]] = True
    return held


class Source(ABC):
    """Where data comes from."""

    @abstractmethod
    def load(self) -> Samples:
        """All of it."""
