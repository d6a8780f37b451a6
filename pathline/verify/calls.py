"""Calls of anybody's part, looked at: what was called with which values, and what came of it that must not.

A copy of the part stands in for it. A method of the copy that raises, or returns another shape or dtype than it must,
or NaN, raises a CallError that says so; all else is as it was, so that laws need not know.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from pathline.tensors import is_eager

T = TypeVar("T")


class CallError(Exception):
    """A call of a part that raised, or returned what it must not."""


def watched_copy(
    part: T, methods: dict[str, int], like: Callable[[Any], Any] = lambda x: x, is_finite: bool = True
) -> T:
    """A copy of a part that tells which call of its own went wrong, and how.

    Args:
        part: Any object.
        methods: By name, and which of their arguments a result must be like.
        like: From that argument to a tensor of the shape and dtype that are wanted.
        is_finite: Whether a result must be finite; a slope may be infinite at an end, but nothing is NaN.
    """
    if not hasattr(part, "__dict__"):
        return part  # of a class with slots, whose methods cannot be stood in for
    copy = object.__new__(type(part))
    vars(copy).update(vars(part))
    for name, place in methods.items():
        if callable(method := getattr(part, name, None)):
            object.__setattr__(copy, name, _telling(f"{type(part).__name__}.{name}", method, place, like, is_finite))
    return copy


def _telling(
    name: str, method: Callable[..., Any], place: int, like: Callable[[Any], Any], is_finite: bool
) -> Callable[..., Any]:
    @wraps(method)
    def told(*args: Any, **kwargs: Any) -> Any:
        found = called(name, method, args, kwargs)
        wanted = like(args[place])
        told_of = f"{name}({_listed(args, kwargs)})"
        if isinstance(found, Iterator):
            return _each(told_of, found, wanted)
        for value in found if isinstance(found, tuple) else (getattr(found, "x", found),):
            _look(told_of, value, wanted, is_finite)
        return found

    return told


def called(name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call returns; a CallError if it raises."""
    try:
        return method(*args, **kwargs)
    except CallError:
        raise
    except Exception as error:
        raise CallError(f"{name}({_listed(args, kwargs)}) raised {type(error).__name__}: {shortened(error)}") from error


def _each(told_of: str, states: Iterator[Any], wanted: Tensor) -> Iterator[Any]:
    """The states of a walk, each looked at."""
    k = 0
    while True:
        try:
            state = next(states)
        except StopIteration:
            return
        except CallError:
            raise
        except Exception as error:
            raise CallError(f"{told_of} raised {type(error).__name__} after {k} states: {shortened(error)}") from error
        _look(f"state {k} of {told_of}", state, wanted, is_finite=True)
        yield state
        k += 1


def _look(told_of: str, value: Any, wanted: Tensor, is_finite: bool) -> None:
    """Refuse a value that is not like the one wanted."""
    need = f"it must be a tensor of shape {tuple(wanted.shape)} in {_short(wanted.dtype)}"
    if not isinstance(value, Tensor):
        raise CallError(f"{told_of} returned {type(value).__name__} {shortened(value)}; {need}")
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        raise CallError(f"{told_of} returned {_told(value)}; {need}")
    if is_eager(value):
        wrong = ~value.isfinite() if is_finite else value.isnan()
        if wrong.any():
            raise CallError(
                f"{told_of} returned {value[wrong][0].item()} in {int(wrong.sum())} of {value.numel()} numbers"
            )


def _listed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    return ", ".join([*map(_told, args), *(f"{name}={_told(value)}" for name, value in kwargs.items())])


def _told(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        if not is_eager(value):
            return f"a traced tensor of shape {tuple(value.shape)}"
        if value.numel() == 1:
            return f"{value.item():.6g}" + ("" if value.ndim == 0 else f" of shape {tuple(value.shape)}")
        real = value.detach().double()
        return f"{_short(value.dtype)} of shape {tuple(value.shape)} from {real.min():.4g} to {real.max():.4g}"
    return named(value) if not isinstance(value, int | float | str) else repr(value)


def named(value: Any) -> str:
    """What is shown of an object: its own repr if that is short, else its class."""
    if inspect.isclass(value) or inspect.isfunction(value):
        return value.__name__
    text = repr(value)
    return text if len(text) < 60 and " at 0x" not in text and "\n" not in text else f"{type(value).__name__}(...)"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def shortened(value: Any) -> str:
    """Its text, cut where it grows long."""
    return textwrap.shorten(str(value), 200, placeholder=" ...")
