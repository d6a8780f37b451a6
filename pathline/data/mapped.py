"""An array in a file, of which some rows are read at a time: what was read does not stay in memory.

Rows in order, or nearly all of those between two, are read from a map of the file; others one by one, as around each of
them the system would map hundreds of kilobytes.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

HELD = 1 << 24  # bytes of the file that may be in memory before they are let go
DENSE = 4  # rows from the first to the last, over those asked for, up to which all of them are read


def wide(dtype: DTypeLike) -> type[np.floating[Any]]:
    """The smallest type of at least float32 that holds these numbers, float64 if none does."""
    return np.float32 if np.can_cast(dtype, np.float32) else np.float64


class Mapped:
    """An array in a file, as floats of a type that holds its numbers.

    Args:
        path: Of the file.
        dtype: Of the numbers in it.
        shape: `(rows, *shape)`.
        offset: Where in the file they begin, in bytes.
        order: `C` if the last index runs fastest, `F` if the first does.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is shorter.
    """

    def __init__(
        self,
        path: str | Path,
        dtype: DTypeLike,
        shape: tuple[int, ...],
        offset: int = 0,
        order: Literal["C", "F"] = "C",
    ) -> None:
        self.path, self.shape, self.offset = Path(path), shape, offset
        self.dtype, self.is_fortran = np.dtype(dtype), order == "F"
        self.end = offset + self.dtype.itemsize * math.prod(shape)
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        with self.path.open("rb") as file:  # another one, as the system reads ahead where a file is read in order
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._check(self._map.size())
        self._array: NDArray[Any] = np.ndarray(shape, dtype, self._map, offset, order=order)
        self._held = 0

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of dimensions, the rows' own included."""
        return len(self.shape)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Some of the rows, in memory, by a slice or by numbers from 0 to the last row, which are not looked at again.

        Raises:
            ValueError: If the file was cut short since it was opened.
        """
        return torch.from_numpy(self.raw(index).astype(wide(self.dtype), copy=False))

    def raw(self, index: Tensor | slice) -> NDArray[Any]:
        """Some of the rows, in memory, in the type that they have in the file."""
        if isinstance(index, slice):
            return self._in_order(index)
        rows = index.numpy()
        if not len(rows):
            return self._in_order(slice(0, 0))
        first, last = int(rows.min()), int(rows.max())
        if self.is_fortran or (last - first < DENSE * len(rows)):
            return np.take(self._in_order(slice(first, last + 1)), rows - first, axis=0)
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        data = bytearray().join([os.pread(self._file, size, self.offset + row * size) for row in rows.tolist()])
        self._check(self.end if len(data) == size * len(rows) else 0)
        return np.ndarray((len(rows), *self.shape[1:]), self.dtype, data)

    def _in_order(self, rows: slice) -> NDArray[Any]:
        self._check(self._map.size())  # to read a map beyond the end of its file kills the process
        found: NDArray[Any] = np.array(self._array[rows], order="C")
        self._held += found.nbytes
        if self._held > HELD and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._held = 0
        return found

    def _check(self, size: int) -> None:
        if size < self.end:
            raise ValueError(f"{self.path} was cut short while it was read; start again once it is whole")
