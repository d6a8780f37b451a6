"""Data sets, with what is needed to train on them and to show what came of it.

A model sees (raw - shift) / scale; what it makes is brought back by shift + scale * x.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathline.conditions import CLASS, KINDS, NUMBERS, TEXT, by_kind, indices_of
from pathline.data.normalisation import Normalisation
from pathline.data.rows import BLOCK, Array, Rows, blocks_of
from pathline.noise import Noise

SPLIT_STREAM = 6


def _check_kinds(kinds: Collection[str]) -> None:
    odd = next((kind for kind in kinds if kind not in KINDS), None)
    if odd is not None:
        raise ValueError(f"the kind of a condition must be one of {', '.join(KINDS)}, got {odd!r}")


@dataclass(frozen=True)
class Samples:
    """A data set, in memory, in a mapped file, or made as it is asked for.

    A sample may have conditions of several kinds: "class", an index into `classes`, and "text", one into `captions`,
    both of shape `(samples,)` in int64; and "numbers", of shape `(samples, numbers)` in float64. They are given by
    their kind, or bare if `classes`, `numbers` and `captions` name one kind only; a kind without names is a class.

    Attributes:
        x: Raw data, of shape `(samples, *shape)`.
        y: The conditions by their kind, in the order of `KINDS`; none unless given.
        classes: The names of the classes.
        normalisation: Into the units of the model; None if it is to be learned from the part that is trained on.
        title: What it is, in a line.
        licence: Its terms.
        source: Where it is from.
        columns: The names of a vector's entries, if they have any.
        fingerprint: What stands for the whole data set that these are of; a hash of all of it, unless given.
        numbers: The names of the numbers in `y`; none if it holds none.
        normalisation_of_numbers: The same as `normalisation`, for the numbers in `y`.
        captions: The distinct captions.
        unseen: Of shape `(samples,)`, whether a sample is never to be trained on, as what it is made of is only to be
            seen apart; None if all may be.
        is_ink: Whether pictures of one channel are ink on paper, as handwriting is: high values are drawn black.
        class_type: What the values of the classes are, of `classes.TYPES`; as their names have it unless given.

    Raises:
        ValueError: If `y` holds kinds of condition that are not named, or `unseen` has another shape.
    """

    x: Array
    y: Any  # a dictionary, once the samples are made
    classes: tuple[str, ...]
    normalisation: Normalisation | None
    title: str
    licence: str
    source: str
    columns: tuple[str, ...] = ()
    fingerprint: str = ""
    numbers: tuple[str, ...] = ()
    normalisation_of_numbers: Normalisation | None = None
    captions: tuple[str, ...] = ()
    unseen: Tensor | None = None
    is_ink: bool = False
    class_type: str = ""

    def __post_init__(self) -> None:
        named = tuple(kind for kind, names in self._names().items() if names) or KINDS[:1]
        y = by_kind(self.y, named)
        missing = [kind for kind in named[: len(named) if y else 0] if kind not in y]
        if missing:
            raise ValueError(
                f"y must hold all that is named in classes, numbers and captions, {', '.join(named)}, got "
                f"{', '.join(y)}"
            )
        if self.classes and CLASS in y:
            y[CLASS] = indices_of(y[CLASS], len(self.classes))
        object.__setattr__(self, "y", y)
        if self.unseen is not None and (self.unseen.dtype, self.unseen.shape) != (torch.bool, (len(self),)):
            raise ValueError(
                f"unseen must be booleans of shape ({len(self)},), got {self.unseen.dtype} of shape "
                f"{tuple(self.unseen.shape)}"
            )

    def __len__(self) -> int:
        return len(self.x)

    def _names(self) -> dict[str, tuple[str, ...]]:
        return dict(zip(KINDS, (self.classes, self.numbers, self.captions), strict=True))

    @property
    def conditions(self) -> dict[str, Tensor]:
        """The conditions by kind, a copy of `y`; the name is that of earlier versions."""
        return dict(self.y)

    def ordered(self, columns: tuple[str, ...], need: str) -> Samples:
        """The same samples, their columns taken by name in this order; as they are where either has no names.

        Args:
            columns: The names.
            need: How an error begins that says which of them is missing.

        Raises:
            ValueError: If a column is missing.
        """
        if not columns or not self.columns or columns == self.columns:
            return self
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise ValueError(f"{need} has no {missing[0]!r}; it has {', '.join(self.columns)}")
        order = torch.tensor([self.columns.index(name) for name in columns])
        return replace(self, x=self.x[:][:, order], columns=columns)

    @property
    def units(self) -> Normalisation:
        """The normalisation, learned from these samples unless it is given."""
        return self.normalisation or Normalisation.of(self.x, self.columns)

    @property
    def units_of_numbers(self) -> Normalisation | None:
        """The same for the numbers in `y`; None if there are none."""
        y = self.y.get(NUMBERS)
        return None if y is None else self.normalisation_of_numbers or Normalisation.of(y, self.numbers)

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
        """What stands for the whole data set that these samples are of, and changes with it."""
        if self.fingerprint:
            return self.fingerprint
        found = hashlib.sha256()
        for block in blocks_of(self.x):
            found.update(block.numpy().tobytes())
        for kind, y in self.y.items():
            found.update(kind.encode() if len(self.y) > 1 else b"")  # digests of runs that were kept stay as they are
            found.update(y.numpy().tobytes())
        found.update(json.dumps(self.captions).encode() if self.captions else b"")
        return found.hexdigest()

    def take(self, index: Tensor | slice) -> Samples:
        """Some of the samples; those of a mapped file stay in it."""
        x = self.x.take(index) if isinstance(self.x, Rows) else self.x[index]
        unseen = None if self.unseen is None else _taken(self.unseen, index)
        return replace(self, x=x, y=self._each(lambda y: _taken(y, index)), unseen=unseen)

    def keeping(self, kinds: Collection[str]) -> Samples:
        """The same samples with their conditions of these kinds alone, as far as they have them.

        Raises:
            ValueError: If a kind is unknown.
        """
        _check_kinds(kinds)
        kept = {kind: y for kind, y in self.y.items() if kind in kinds}
        if kept.keys() == self.y.keys():
            return self
        return replace(
            self,
            y=kept,
            classes=self.classes if CLASS in kept else (),
            class_type=self.class_type if CLASS in kept else "",
            numbers=self.numbers if NUMBERS in kept else (),
            captions=self.captions if TEXT in kept else (),
            normalisation_of_numbers=self.normalisation_of_numbers if NUMBERS in kept else None,
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        return {kind: change(y) for kind, y in self.y.items()}

    def some(self, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """So many of the samples and their conditions, in memory: one at random of each even stretch, or all.

        Data is often in the order of its classes, so the first of them would stand for a few only.
        """
        if len(self) <= count:
            return self.x[:], self.y
        rows = self.spread(count)
        return self.x[rows], self._each(lambda y: y[rows])

    def spread(self, count: int) -> Tensor:
        """The numbers of the samples that `some` takes."""
        if len(self) <= count:
            return torch.arange(len(self))
        place = torch.arange(count) + Noise(0, stream=SPLIT_STREAM).uniform((count, 1), 1, torch.float64)[:, 0]
        return (place * len(self) / count).long()

    def split(self, share: float, seed: int = 0) -> tuple[Samples, Samples]:
        """Training and held-out samples, the same share of each class held out; it depends on the seed alone.

        Where classes are so small that none would be held out, they are not told apart. Samples that are `unseen` are
        all held out, and the share is that of the others. A normalisation that is to be learned is that of the training
        samples, for both.

        Raises:
            ValueError: If either part would be empty.
        """
        held = self.held_out(share, seed)
        whole = replace(self, fingerprint=self.digest)
        small = torch.int32 if len(self) < 2**31 else torch.int64
        training, rest = (whole.take(part.nonzero()[:, 0].to(small)) for part in (~held, held))
        units, of_numbers = training.units, training.units_of_numbers
        training = replace(training, normalisation=units, normalisation_of_numbers=of_numbers)
        return training, replace(rest, normalisation=units, normalisation_of_numbers=of_numbers)

    def held_out(self, share: float, seed: int = 0) -> Tensor:
        """Whether `split` holds out each sample, of shape `(samples,)`.

        Raises:
            ValueError: If it would hold out none, or all.
        """
        order = Noise(seed, stream=SPLIT_STREAM).permutation(len(self))
        order = order if self.unseen is None else order[~self.unseen[order]]
        held = _held_out(len(self), order, self.y.get(CLASS) if self.classes else None, share)
        held = held if held.any() else _held_out(len(self), order, None, share)
        held = held if self.unseen is None else held | self.unseen
        if held.all() or not held.any():
            beside = "" if self.unseen is None else f", of which {int(self.unseen.sum())} are never trained on"
            raise ValueError(
                f"held_out must leave samples on both sides of the split, got {share} of {len(held)} samples{beside}"
            )
        return held


def _taken(y: Tensor, index: Tensor | slice) -> Tensor:
    if isinstance(index, Tensor) and index.dtype == torch.int32:  # brackets would make it int64 first
        return y.index_select(0, index)
    return y[index]


def _held_out(count: int, order: Tensor, y: Tensor | None, share: float) -> Tensor:
    """Whether each of so many samples is held out: the first of its class in the given order, or the first of all."""
    held = torch.zeros(count, dtype=torch.bool)
    if y is None:
        held[order[: round(share * len(order))]] = True
        return held
    counts = torch.bincount(y if len(order) == count else y[order]).numpy()
    quota, seen = np.round(share * counts), np.zeros_like(counts)
    for block in torch.split(order, BLOCK >> 3):
        labels = y[block].numpy().astype(np.min_scalar_type(len(counts)))
        by_class = np.argsort(labels, kind="stable")
        labels, here = labels[by_class], np.bincount(labels, minlength=len(counts))
        rank = np.arange(len(labels)) - (here.cumsum() - here - seen)[labels]
        held[block[by_class]] = torch.from_numpy(rank < quota[labels])
        seen += here
    return held


class Source(ABC):
    """Where data comes from."""

    @abstractmethod
    def load(self) -> Samples:
        """All of it."""
