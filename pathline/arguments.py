"""Arguments as callers give them: each is of the type that is needed, or a ValueError says what to pass instead."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

AT_ONCE = 1 << 14  # samples that are looked at together

T = TypeVar("T")


def instance(name: str, value: Any, kind: type[T], way_out: str) -> T:
    """The value, if it is an object of this type.

    Raises:
        ValueError: If it is not: a class where its instance is needed, a string, a bare module.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise ValueError(f"{name} must be {article} {kind.__name__}, got {described(value)}; {way_out}")
    return value


def function(name: str, value: Any, form: str) -> Any:
    """The value, if it can be called.

    Raises:
        ValueError: If it cannot.
    """
    if not callable(value):
        raise ValueError(f"{name} must be a function of {form}, got {described(value)}")
    return value


def whole(name: str, value: Any, least: int = 0, purpose: str = "") -> int:
    """A whole number from `least` on: a Python or NumPy integer, or a tensor that holds one.

    A message says what it is at least needed for, if a `purpose` is given.

    Raises:
        ValueError: If it is something else, or less.
    """
    found: int | None = None
    if not isinstance(value, bool | np.bool_) and getattr(value, "dtype", None) is not torch.bool:
        try:
            found = operator.index(value)
        except (TypeError, RuntimeError):  # torch raises either, by what the tensor holds
            found = None
    if found is None:
        raise ValueError(f"{name} must be a whole number, got {described(value)}")
    if found < least:
        need = f"at least {least}" if least else "0 or more"
        raise ValueError(f"{name} must be {need}{purpose}, got {found}")
    return found


def number(name: str, value: Any) -> float:
    """A real number, whatever its size: a Python or NumPy number, or a tensor that holds one.

    Raises:
        ValueError: If it is something else.
    """
    try:
        found = float(value) if not isinstance(value, str | bytes) else None
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = None
    if found is None:
        raise ValueError(f"{name} must be a number, got {described(value)}")
    return found


def shape(name: str, value: Any) -> tuple[int, ...]:
    """The shape of a batch, (count, *shape of a point), all of its sizes at least 1.

    Raises:
        ValueError: If it is something else: a bare number, a size that is no whole number.
    """
    form = f"{name} must be (count, *shape of a point), whole numbers of at least 1, such as (100, 2)"
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray | Tensor):
        raise ValueError(f"{form}, got {described(value)}")
    try:
        sizes = tuple(whole(name, size) for size in value)
    except (ValueError, TypeError):
        raise ValueError(f"{form}, got {value!r}") from None
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"{form}, got {sizes}")
    return sizes


def points(name: str, value: Any, *, may_be_empty: bool = False) -> Tensor:
    """Points of shape `(batch, *shape)` as a tensor of floating-point numbers; an array of NumPy becomes one.

    Raises:
        ValueError: If it is something else, or empty where it must not be.
    """
    form = "floating-point numbers of shape (batch, *shape)" + ("" if may_be_empty else ", at least one of them")
    x = numbers(name, value, form)
    if x.ndim < 2 or not (x.numel() or (may_be_empty and not len(x))):
        way_out = f"; {name}[None] is a batch of one" if x.ndim == 1 and x.numel() else ""
        raise ValueError(f"{name} must be {form}, got {x.dtype} {tuple(x.shape)}{way_out}")
    return x


def numbers(name: str, value: Any, form: str = "floating-point numbers") -> Tensor:
    """A tensor of floating-point numbers; an array of NumPy becomes one. `form` is what a message asks for.

    Raises:
        ValueError: If it is something else, or holds whole numbers, whose scale and rounding are the caller's choice.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        value = torch.as_tensor(value)
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor or an array of numbers, got {described(value)}")
    if not value.is_floating_point():
        raise ValueError(f"{name} must be {form}, got {value.dtype} {tuple(value.shape)}; pass {name}.float()")
    return value


def samples(name: str, value: Any) -> Tensor:
    """Samples to train on as a tensor of finite floating-point numbers; an array of NumPy or a list becomes one.

    Raises:
        ValueError: If they are something else, or one of them is NaN or infinite.
    """
    if isinstance(value, list | tuple):
        with suppress(TypeError, ValueError):  # what is no table of numbers is refused as what it is
            value = torch.as_tensor(value)
    if hasattr(value, "to_numpy"):
        raise ValueError(f"{name} must be a tensor or an array, got {type(value).__name__}; pass {name}.to_numpy()")
    x = numbers(name, value)
    for first in range(0, len(x) if x.ndim else 0, AT_ONCE):
        bad = ~x[first : first + AT_ONCE].isfinite()
        if bad.any():
            row, found = int(bad.nonzero()[0, 0]), float(x[first : first + AT_ONCE][bad][0])
            raise ValueError(f"{name} must be finite, got {found} in row {first + row}; drop such rows or fill them in")
    return x


def described(value: Any) -> str:
    """What was given, in a few words."""
    if isinstance(value, type):
        return f"the class {value.__name__} (an instance is {value.__name__}(...))"
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of {value.dtype} and shape {tuple(value.shape)}" if value.ndim else f"{value!r}"
    text = repr(value)
    return text if len(text) <= 60 and "\n" not in text and not text.startswith("<") else type(value).__name__
