"""Data sets, with what is needed to train on them and to show what came of it.

A model sees (raw - shift) / scale; what it makes is brought back by shift + scale * x.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathline.noise import Noise

SPLIT_STREAM = 6
BLOCK = 1 << 24  # bytes that are read at once, where all would be too many
KINDS = ("class", "numbers", "text")  # of conditions, in the order of every tree of them

T = TypeVar("T")


def tree_of(conditions: Mapping[str, T]) -> T | dict[str, T] | None:
    """Conditions by kind as one: None if there are none, the bare one if it is alone, else a dict in order of `KINDS`.

    Raises:
        ValueError: If one is of no known kind.
    """
    _check_kinds(conditions)
    found = {kind: conditions[kind] for kind in KINDS if kind in conditions}
    return found if len(found) > 1 else next(iter(found.values()), None)


def _check_kinds(kinds: Collection[str]) -> None:
    odd = next((kind for kind in kinds if kind not in KINDS), None)
    if odd is not None:
        raise ValueError(f"the kind of a condition must be one of {', '.join(KINDS)}, got {odd!r}")


@runtime_checkable
class Indexed(Protocol):
    """What gives rows for numbers from 0, or for a slice: a tensor, a mapped file, pictures that are drawn when asked.

    What it gives for one row must not depend on the others that are asked for.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all rows, as a tensor would have it."""

    @property
    def ndim(self) -> int:
        """The number of dimensions, the rows' own included."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice, /) -> Tensor: ...


class Rows:
    """Rows of an array that may be larger than memory, read when they are asked for.

    They are asked for by a slice, by whole numbers (a tensor or an array of NumPy of one dimension; -1 is the last row)
    or by a mask with an entry for each row, as those of a tensor are.

    Args:
        x: Of shape `(rows, *shape)`, in memory, in a mapped file, or made as they are asked for.
        index: Which of its rows these are, from 0, in which order and how often; all of them unless given.
        change: What is done to rows as they are read, a batch of them at a time, row by row.
        memo: How the names of files begin that keep what was learned of the rows; nothing is kept unless given.
    """

    def __init__(
        self,
        x: Indexed,
        index: Tensor | None = None,
        change: Callable[[Tensor], Tensor] | None = None,
        memo: Path | None = None,
    ) -> None:
        self.x, self.index, self.change, self.memo = x, index, change, memo

    def __len__(self) -> int:
        return len(self.x if self.index is None else self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all the rows, as a tensor would have it."""
        return (len(self), *self.x.shape[1:])

    @property
    def ndim(self) -> int:
        """The number of dimensions, the rows' own included."""
        return self.x.ndim

    def __getitem__(self, index: Tensor | NDArray[Any] | slice) -> Tensor:
        """Some of the rows, in memory.

        Raises:
            IndexError: If one is beyond the end, or the index is neither numbers nor a mask.
        """
        index = self._settled(index)
        found = self.x[index if self.index is None else self.index[index]]
        if self.change is not None:
            return self.change(found)
        return found.clone() if isinstance(self.x, Tensor) else found

    def then(self, change: Callable[[Tensor], Tensor]) -> Rows:
        """The same rows, changed once more as they are read."""
        first = self.change
        return Rows(self.x, self.index, change if first is None else lambda x: change(first(x)))

    def take(self, index: Tensor | NDArray[Any] | slice) -> Rows:
        """Some of the rows, still unread.

        Raises:
            IndexError: If one is beyond the end, or the index is neither numbers nor a mask.
        """
        index = self._settled(index)
        if self.index is not None:
            index = self.index[index]
        elif isinstance(index, slice):
            index = torch.arange(len(self))[index]
        return Rows(self.x, index, self.change, self.memo)

    def _settled(self, index: Tensor | NDArray[Any] | slice) -> Tensor | slice:
        """The same rows by numbers from 0, or as a slice."""
        if isinstance(index, slice):
            return index
        rows, count = torch.as_tensor(index), len(self)
        if rows.dtype == torch.bool and rows.shape == (count,):
            return rows.nonzero()[:, 0]
        if rows.ndim != 1 or rows.dtype == torch.bool or rows.is_floating_point() or rows.is_complex():
            raise IndexError(
                f"rows must be a slice, whole numbers of one dimension, or a mask of shape ({count},), got "
                f"{rows.dtype} of shape {tuple(rows.shape)}"
            )
        rows = rows if rows.dtype in (torch.int32, torch.int64) else rows.long()
        if not len(rows):
            return rows
        least, most = map(int, torch.aminmax(rows))
        if least < -count or most >= count:
            raise IndexError(f"rows must be from {-count} to {count - 1}, got {least if least < -count else most}")
        return torch.where(rows < 0, rows + count, rows) if least < 0 else rows


Array: TypeAlias = Tensor | Rows


def blocks_of(x: Array) -> Iterator[Tensor]:
    """All rows in their order, as many at a time as fill a block."""
    row = 8 * max(1, torch.Size(x.shape[1:]).numel())
    for first in range(0, len(x), max(1, BLOCK // row)):
        yield x[first : first + max(1, BLOCK // row)]


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
    def of(cls, raw: Array, names: tuple[str, ...] = ()) -> Normalisation:
        """What brings data of shape `(samples, *shape)` to the size of noise.

        Each entry of a vector gets mean 0 and standard deviation 1; one that never changes is only shifted. Pictures
        are brought between -1 and 1, all by the same numbers.

        Raises:
            ValueError: If the squares of an entry's numbers are beyond float64; it is called by `names`, if it has one.
        """
        place = _memo(raw)
        if place is not None:
            with suppress(OSError, ValueError, TypeError):
                return cls(*(tuple(v) if isinstance(v, list) else v for v in json.loads(place.read_bytes())))
        found = cls._learned(raw, names)
        if place is not None:
            with suppress(OSError):
                draft = place.with_suffix(f".{os.getpid()}")
                draft.write_text(json.dumps([found.shift, found.scale]), encoding="utf-8")
                draft.replace(place)
        return found

    @classmethod
    def _learned(cls, raw: Array, names: tuple[str, ...] = ()) -> Normalisation:
        low, high = torch.tensor(math.inf), torch.tensor(-math.inf)
        count, mean, square = 0, torch.tensor(0.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
        for block in blocks_of(raw):
            least, most = torch.aminmax(block, dim=0)
            low, high = torch.minimum(low, least), torch.maximum(high, most)
            if raw.ndim == 2:  # mean and sum of squares about it of two parts together: Chan et al. 1983
                rows, here = block.double(), len(block)
                centre = rows.sum(0) / here
                step, share = centre - mean, here / (count + here)
                square = square + (rows - centre).square().sum(0) + step.square() * count * share
                count, mean = count + here, mean + step * share
        if raw.ndim != 2:
            lowest, highest = float(low.min()), float(high.max())
            return cls((lowest + highest) / 2, (highest - lowest) / 2 if highest > lowest else 1.0)
        scale = torch.where(high > low, (square / count).sqrt(), 1.0)
        is_good = mean.isfinite() & scale.isfinite() & (scale > 0)
        if not is_good.all():
            k = int(is_good.int().argmin())
            raise ValueError(
                f"column {repr(names[k]) if names else k + 1} must hold numbers whose squares are within float64, got "
                f"{low[k]:g} to {high[k]:g}; rescale it: divide it by the largest of them"
            )
        return cls(tuple(mean.tolist()), tuple(scale.tolist()))

    def into(self, raw: Tensor) -> Tensor:
        """The data as a model sees it, in torch's default type."""
        if not raw.is_floating_point() or raw.itemsize < 4:  # numbers of up to two bytes fit float32
            raw = raw.to(torch.float32 if raw.itemsize <= 2 else torch.float64)
        return ((raw - self._like(self.shift, raw)) / self._like(self.scale, raw)).to(torch.get_default_dtype())

    def back(self, x: Tensor) -> Tensor:
        """What a model made, in the units of the data; vectors in float64, which a column of years may need."""
        return self._like(self.shift, x) + self._like(self.scale, x) * x

    def _like(self, value: float | tuple[float, ...], x: Tensor) -> float | Tensor:
        return value if isinstance(value, int | float) else torch.tensor(value, dtype=torch.float64, device=x.device)


@dataclass(frozen=True)
class Samples:
    """A data set, in memory, in a mapped file, or made as it is asked for.

    A sample may have conditions of several kinds: "class", an index into `classes`, and "text", one into `captions`,
    both of shape `(samples,)` in int64; and "numbers", of shape `(samples, numbers)` in float64.

    Attributes:
        x: Raw data, of shape `(samples, *shape)`.
        y: The conditions as `tree_of` makes one of them: None, the bare one, or several by their kind.
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

    Raises:
        ValueError: If `y` does not hold the kinds of condition that are named, or `unseen` has another shape.
    """

    x: Array
    y: Tensor | dict[str, Tensor] | None
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

    def __post_init__(self) -> None:
        named = [kind for kind, names in self._names().items() if names]
        if isinstance(self.y, dict) and (len(named) < 2 or list(self.y) != named):
            raise ValueError(
                f"y must be what tree_of makes of the kinds that are named in classes, numbers and captions, "
                f"{', '.join(named) or 'none'}, got {', '.join(self.y) or 'none'}"
            )
        if isinstance(self.y, Tensor) and len(named) > 1:
            raise ValueError(f"y must hold {' and '.join(named)} by their kind, as both are named, got one tensor")
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
        """The conditions by their kind, in the order of `KINDS`; one that has no names is a class."""
        if self.y is None or isinstance(self.y, dict):
            return dict(self.y or {})
        return {next((kind for kind, names in self._names().items() if names), KINDS[0]): self.y}

    @property
    def units(self) -> Normalisation:
        """The normalisation, learned from these samples unless it is given."""
        return self.normalisation or Normalisation.of(self.x, self.columns)

    @property
    def units_of_numbers(self) -> Normalisation | None:
        """The same for the numbers in `y`; None if there are none."""
        y = self.conditions.get("numbers")
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
        for kind, y in self.conditions.items():
            found.update(kind.encode() if isinstance(self.y, dict) else b"")
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
        kept = {kind: y for kind, y in self.conditions.items() if kind in kinds}
        if kept.keys() == self.conditions.keys():
            return self
        return replace(
            self,
            y=tree_of(kept),
            classes=self.classes if "class" in kept else (),
            numbers=self.numbers if "numbers" in kept else (),
            captions=self.captions if "text" in kept else (),
            normalisation_of_numbers=self.normalisation_of_numbers if "numbers" in kept else None,
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> Tensor | dict[str, Tensor] | None:
        return tree_of({kind: change(y) for kind, y in self.conditions.items()})

    def some(self, count: int) -> tuple[Tensor, Tensor | dict[str, Tensor] | None]:
        """So many of the samples and their conditions, in memory: one at random of each even stretch, or all.

        Data is often in the order of its classes, so the first of them would stand for a few only.
        """
        if len(self) <= count:
            return self.x[:], self.y
        place = torch.arange(count) + Noise(0, stream=SPLIT_STREAM).uniform((count, 1), 1, torch.float64)[:, 0]
        rows = (place * len(self) / count).long()
        return self.x[rows], self._each(lambda y: y[rows])

    def split(self, share: float, seed: int = 0) -> tuple[Samples, Samples]:
        """Training and held-out samples, the same share of each class held out; it depends on the seed alone.

        Where classes are so small that none would be held out, they are not told apart. Samples that are `unseen` are
        all held out, and the share is that of the others. A normalisation that is to be learned is that of the training
        samples, for both.

        Raises:
            ValueError: If either part would be empty.
        """
        order = Noise(seed, stream=SPLIT_STREAM).permutation(len(self))
        order = order if self.unseen is None else order[~self.unseen[order]]
        held = _held_out(len(self), order, self.conditions.get("class") if self.classes else None, share)
        held = held if held.any() else _held_out(len(self), order, None, share)
        held = held if self.unseen is None else held | self.unseen
        if held.all() or not held.any():
            beside = "" if self.unseen is None else f", of which {int(self.unseen.sum())} are never trained on"
            raise ValueError(
                f"held_out must leave samples on both sides of the split, got {share} of {len(held)} samples{beside}"
            )
        whole = replace(self, fingerprint=self.digest)
        small = order.dtype  # of 4 bytes, for up to two billion samples
        del order
        training, rest = (whole.take(part.nonzero()[:, 0].to(small)) for part in (~held, held))
        units, of_numbers = training.units, training.units_of_numbers
        training = replace(training, normalisation=units, normalisation_of_numbers=of_numbers)
        return training, replace(rest, normalisation=units, normalisation_of_numbers=of_numbers)


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


def _memo(raw: Array) -> Path | None:
    """Where the normalisation of these rows is kept."""
    if not isinstance(raw, Rows) or raw.memo is None or raw.change is not None:
        return None
    which = b"" if raw.index is None else raw.index.contiguous().numpy().data
    return raw.memo.with_name(f"{raw.memo.name}-{hashlib.sha256(which).hexdigest()[:24]}.json")


class Source(ABC):
    """Where data comes from."""

    @abstractmethod
    def load(self) -> Samples:
        """All of it."""
