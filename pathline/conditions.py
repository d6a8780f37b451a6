"""Conditions: what is known of samples, always a mapping from a kind to a batch of values.

    {"class": indices (n,), "numbers": floats (n, k), "text": encoded captions, a tree of (n, ...)}

Each kind has one null, the value that stands for "not known". Where a model takes one kind only, users may give its
value bare, without the mapping: `by_kind` is the one place that turns it into the mapping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.tensors import is_eager, meet

CLASS, NUMBERS, TEXT = KINDS = ("class", "numbers", "text")  # in the order of every mapping of them


def by_kind(y: Any, kinds: tuple[str, ...]) -> dict[str, Any]:
    """Conditions by their kind, in the order of `kinds`; a bare value is of the only kind, and None is no condition.

    Raises:
        ValueError: If there are no kinds, `y` holds another kind, or it is bare and there are several kinds.
    """
    if y is None:
        return {}
    if isinstance(y, Mapping) and y.keys() <= set(kinds):
        return {kind: y[kind] for kind in kinds if y.get(kind) is not None}
    if not kinds:
        raise ValueError("y must be left out: this network was made without classes, numbers and text")
    if isinstance(y, Mapping) or len(kinds) > 1:
        got = ", ".join(map(str, y)) if isinstance(y, Mapping) else type(y).__name__
        raise ValueError(f"y must be a dictionary of {', '.join(kinds)}, as far as each is given, got {got}")
    return {kinds[0]: y}


def batches_of(
    y: Mapping[str, Any], null: Mapping[str, Any], classes: int | None = None, may_wait: bool = True
) -> dict[str, Any]:
    """Conditions as batches of tensors: one value stands for all samples, single numbers are one for each sample.

    Args:
        y: By their kind.
        null: The null of each kind, in a batch of one.
        classes: How many classes there are, to check class labels against; no check unless given.
        may_wait: Whether labels on another device than the CPU are checked too, which waits for it.

    Raises:
        ValueError: If a label is not the index of a class, or numbers are none.
    """
    found = {}
    for kind, value in y.items():
        if kind == CLASS and classes is not None:
            value = indices_of(value, classes, may_wait)
        elif kind == NUMBERS:
            value = numbers_of(value)
        found[kind] = tree_map(as_batch, tree_map(_as_tensor, value, is_leaf=_is_list), null[kind])
    return found


def indices_of(labels: Any, classes: int, may_wait: bool = True) -> Tensor:
    """Class labels as indices in int64, of shape `(n,)`, or `()` for one.

    Labels may be whole numbers of any type, or booleans (False is 0, True is 1), in a tensor, an array, a list, or a
    column of a table; a shape of `(n, 1)` is taken for `(n,)`. Where one `may_wait` for another device, those there are
    checked too.

    Raises:
        ValueError: If they are no whole numbers, or one is not from 0 to `classes` - 1.
    """
    found = labels if isinstance(labels, Tensor) else _whole_numbers(labels)
    if found.is_floating_point() or found.is_complex():
        raise ValueError(f"y must hold class indices, whole numbers, got {found.dtype}; {_WAY_OUT}")
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim > 1:
        raise ValueError(f"y must hold class indices of shape (n,), got shape {tuple(found.shape)}")
    found = found.long()
    is_seen = found.device.type == "cpu" or (may_wait and found.device.type != "meta")
    if is_seen and is_eager(found) and found.numel():
        low, high = map(int, torch.aminmax(found))
        if low < 0 or high >= classes:
            raise ValueError(
                f"y must hold class indices from 0 to {classes - 1}, got {low if low < 0 else high}; {_WAY_OUT}"
            )
    return found


_WAY_OUT = "number the classes from 0 with names, y = numpy.unique(labels, return_inverse=True), and keep the names"


def _whole_numbers(labels: Any) -> Tensor:
    """Labels that are no tensor, as one of whole numbers."""
    found = column_of(labels)
    if found.dtype.kind not in "bui":
        some = f" such as {found.reshape(-1)[:1].tolist()[0]!r}" if found.size else ""
        raise ValueError(f"y must hold class indices, whole numbers, got {found.dtype}{some}; {_WAY_OUT}")
    if found.dtype == np.uint64 and found.size and int(found.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"y must hold class indices, got {found.max()}; {_WAY_OUT}")
    return torch.from_numpy(found.astype(np.int64))


def numbers_of(values: Any) -> Tensor:
    """Numbers to condition on as a tensor of floats; floats keep their type.

    Raises:
        ValueError: If they are no real numbers.
    """
    if not isinstance(values, Tensor):
        found = column_of(values)
        if found.dtype.kind not in "uif":
            raise ValueError(f"y must hold numbers, got {found.dtype}; give floats of shape (n, numbers)")
        values = torch.as_tensor(found)
    if values.dtype == torch.bool or values.is_complex():
        raise ValueError(f"y must hold numbers, got {values.dtype}; give floats of shape (n, numbers)")
    return torch.as_tensor(values, dtype=values.dtype if values.is_floating_point() else torch.get_default_dtype())


def column_of(values: Any) -> NDArray[Any]:
    """Values as an array; those of a column that may have gaps, as pandas keeps them, in NumPy's own types.

    Raises:
        ValueError: If a value is missing.
    """
    found: NDArray[Any] = np.asarray(values)
    declared = getattr(getattr(values, "dtype", None), "kind", found.dtype.kind)
    has_gaps = found.dtype.kind == "f" and declared in "iub"  # whole numbers, but for NaN where one is missing
    if found.dtype.kind != "O" and not has_gaps:
        return found
    flat = found.reshape(-1).tolist()
    for row, value in enumerate(flat):
        is_nan = isinstance(value, float) and math.isnan(value)
        if value is None or is_nan or type(value).__name__ in ("NAType", "NaTType"):
            raise ValueError(f"y must have a value for every sample, got {value} in row {row}; leave out these samples")
    if declared == "f":
        return found.astype(np.float64)
    is_whole = flat and any(all(type(value) is kind for value in flat) for kind in (bool, int))
    return np.array(flat).reshape(found.shape) if is_whole else found


def replaced(y: Any, null: Any, gone: Tensor) -> Any:
    """One kind of condition, or a tree of any form, with the null in place of the samples that are `gone`.

    Args:
        y: Of a batch.
        null: In a batch of one.
        gone: Booleans of shape `(batch,)`.
    """
    return tree_map(
        lambda leaf, none: torch.where(meet(gone.to(leaf.device), leaf), none[0].to(leaf.device, leaf.dtype), leaf),
        y,
        null,
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _as_tensor(leaf: Any) -> Any:
    return torch.as_tensor(leaf) if isinstance(leaf, list | np.ndarray | int | float) else leaf


def as_batch(leaf: Any, null: Tensor) -> Any:
    """Conditions in a batch, where they come without it: one for all samples, or single numbers one each."""
    if not isinstance(leaf, Tensor):
        return leaf
    one = null.shape[1:]
    is_bare = leaf.ndim < null.ndim and (leaf.shape == one or one.numel() == 1)
    return leaf.reshape(-1, *one) if is_bare else leaf
