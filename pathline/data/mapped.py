"""An array in a file, of which some rows are read at a time: what was read does not stay in memory."""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

HELD = 1 << 27  # bytes of the file that may be in memory before they are let go
AROUND = 1 << 16  # bytes that Linux maps around one that is read


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
        self.path, self.shape = Path(path), shape
        self.end = offset + np.dtype(dtype).itemsize * math.prod(shape)
        with self.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._check()
        self._array: NDArray[Any] = np.ndarray(shape, dtype, self._map, offset, order=order)
        self._held = 0

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of dimensions, the rows' own included."""
        return len(self.shape)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Some of the rows, in memory.

        Raises:
            ValueError: If the file was cut short since it was opened.
        """
        return torch.from_numpy(self.raw(index).astype(wide(self._array.dtype), copy=False))

    def raw(self, index: Tensor | slice) -> NDArray[Any]:
        """Some of the rows, in memory, in the type that they have in the file."""
        self._check()
        if isinstance(index, slice):
            rows = np.array(self._array[index], order="C")
            self._held += rows.nbytes
        else:
            rows = np.ascontiguousarray(self._array[index.numpy()])
            self._held += rows.nbytes + AROUND * len(rows)
        if self._held > HELD and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._held = 0
        return rows

    def _check(self) -> None:
        if self._map.size() < self.end:  # to read beyond the end of a file kills the process
            raise ValueError(f"{self.path} was cut short while it was read; start again once it is whole")
