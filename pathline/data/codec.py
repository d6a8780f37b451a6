"""Conditions as users write them, and as a model takes them.

    a class:  the user's own value (7, -2, True, "cat")  <->  its index
    numbers:  in the units of the data                   <->  of mean 0 and standard deviation 1

Whatever reads or writes conditions goes through the codec that a run keeps, so that all of it agrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathline.conditions import CLASS, KINDS, TEXT
from pathline.data.classes import BOOL, FLOAT, INT, STR, number
from pathline.data.normalisation import Normalisation
from pathline.data.source import Samples
from pathline.noise import Noise

SHARES_STREAM = 17


@dataclass(frozen=True)
class Codec:
    """Between what users write and what a model takes.

    Attributes:
        classes: The names of the classes: class k is the k-th.
        class_type: What their values are, one of `classes.TYPES`; as their names have it where it is not known.
        shares: The share of the training samples that each class has; empty where it is not known.
        numbers: The names of the numbers.
        units: Between the units of the numbers and those of the model.
        has_text: Whether there are captions. These are words on both sides: an encoder reads them.
    """

    classes: tuple[str, ...] = ()
    class_type: str = ""
    shares: tuple[float, ...] = ()
    numbers: tuple[str, ...] = ()
    units: Normalisation | None = None
    has_text: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of condition that the model takes."""
        found = (bool(self.classes), bool(self.numbers), self.has_text)
        return tuple(kind for kind, is_there in zip(KINDS, found, strict=True) if is_there)

    @property
    def values(self) -> NDArray[Any]:
        """The classes as the user wrote them: an array of whole numbers, floats, booleans or words."""
        return values_of(self.classes, self.class_type)

    def written(self, y: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Conditions as users write them, by their kind: values of classes, numbers in their units, captions.

        Args:
            y: By their kind: indices of classes, numbers in the units of the data, captions.
        """
        found = {kind: np.asarray(value) for kind, value in y.items()}
        if CLASS in found:
            found[CLASS] = self.values[found[CLASS]]
        if TEXT in found:
            found[TEXT] = found[TEXT].astype(np.str_)
        return found

    def array(self, y: Mapping[str, Any]) -> NDArray[Any]:
        """The same as the `y` of an .npz: an array, with the kinds as its fields where there are several.

        `pathline.data.arrays` reads it back.
        """
        parts = self.written(y)
        if len(self.kinds) == 1:
            return parts[self.kinds[0]]
        fields = [(kind, part.dtype, part.shape[1:]) for kind, part in parts.items()]
        found = np.empty(len(next(iter(parts.values()))), fields)
        for kind, part in parts.items():
            found[kind] = part
        return found

    def index(self, name: str) -> int:
        """The class that is called so.

        A name comes first; an index is one where no class has a number for a name that could be an index as well.

        Raises:
            ValueError: If there is none.
        """
        (found,) = self.indices([name])
        if found >= 0:
            return found
        n, some = len(self.classes), ", ".join(self.classes)
        if self.classes == tuple(map(str, range(n))):
            raise ValueError(f"must be one of {' or '.join(self.classes) if n < 3 else f'0 to {n - 1}'}, got {name!r}")
        if self._has_indices:
            raise ValueError(f"must be one of {some}, or an index from 0 to {n - 1}, got {name!r}")
        raise ValueError(
            f"must be one of {some}, got {name!r}; an index is no name of these, as some of them are numbers that "
            "could be an index too"
        )

    def indices(self, names: Sequence[str]) -> list[int]:
        """The classes that are called so, -1 for none; if no name is one of a class, all may be indices.

        So files are read that hold indices in place of names, as older versions wrote them.
        """
        known = {name: k for k, name in enumerate(self.classes)}
        by_value: dict[float | None, int] = {}
        if self.class_type != STR and all(number(name) is not None for name in self.classes):
            by_value = {number(name): k for k, name in enumerate(self.classes)}  # 2 is 2.0
        found = [known.get(name, by_value.get(number(name), -1)) for name in names]
        n = len(self.classes)
        if max(found, default=0) < 0 and self._has_indices and all(_is_index(name, n) for name in names):
            return [int(name) for name in names]
        return found

    @property
    def _has_indices(self) -> bool:
        """Whether an index can be told from a name."""
        return not any(_is_index(name, len(self.classes)) for name in self.classes)

    def drawn(self, count: int, seed: int, first: int = 0) -> Tensor:
        """Indices of classes drawn by the shares that they have in the training data; the i-th is by (seed, i) only.

        They are those from the i-th on, i being `first`.

        Raises:
            ValueError: If the shares are not known.
        """
        if not self.shares:
            raise ValueError("the shares of the classes are not known: this run was trained by an older version")
        return torch.from_numpy(drawn(np.array(self.shares), count, seed, first))


def codec_of(samples: Samples, has_text: bool = False) -> Codec:
    """The codec of a data set: its class names and their type, the share of each class, and the units of its numbers.

    Args:
        samples: What the model is trained on.
        has_text: Whether the model is conditioned on captions too.
    """
    shares: tuple[float, ...] = ()
    if CLASS in samples.y and samples.classes:
        counts = torch.bincount(samples.y[CLASS], minlength=len(samples.classes)).double()
        shares = tuple((counts / counts.sum()).tolist())
    units, type_ = samples.units_of_numbers, samples.class_type or type_of(samples.classes)
    return Codec(samples.classes, type_ if samples.classes else "", shares, samples.numbers, units, has_text)


def type_of(names: Sequence[str]) -> str:
    """What values stand behind names, of a source that does not tell: numbers are those that are written as one is."""
    if all(_as_written(name, int) for name in names):
        return INT
    if all(_as_written(name, float) for name in names):
        return FLOAT
    return BOOL if set(names) <= {"False", "True"} else STR


def values_of(names: Sequence[str], class_type: str = "") -> NDArray[Any]:
    """The values behind names, in an array that holds no objects; words where they do not fit its types."""
    class_type = class_type or type_of(names)
    if class_type == BOOL:
        return np.array([name == "True" for name in names])
    if class_type == FLOAT:
        return np.array([float(name) for name in names])
    if class_type == INT:
        whole = [int(float(name)) if not _as_written(name, int) else int(name) for name in names]
        for kind in (np.int64, np.uint64):
            if all(np.iinfo(kind).min <= value <= np.iinfo(kind).max for value in whole):
                return np.array(whole, kind)
    return np.array(names, np.str_)


def drawn(shares: NDArray[np.float64], count: int, seed: int, first: int = 0) -> NDArray[np.int64]:
    """Indices of so many classes from the one with the index `first`, drawn by their shares.

    The i-th depends on the seed and i only.
    """
    chance = Noise(seed, first, SHARES_STREAM).uniform((count, 1), dtype=torch.float64)[:, 0].numpy()
    return np.searchsorted(shares.cumsum(), chance).clip(max=len(shares) - 1)


def _as_written(name: str, kind: type) -> bool:
    try:
        return str(kind(name)) == name
    except ValueError:
        return False


def _is_index(name: str, classes: int) -> bool:
    return name.isdecimal() and name.isascii() and int(name) < classes
