"""Rows of data, in memory or read when they are asked for, so that data may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 1 << 24  # bytes that are read at once, where all would be too many


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
