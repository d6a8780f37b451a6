"""Where a time meets a batch of points, and where a batch is summed sample by sample."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from numbers import Real
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from pathline.arguments import described

Time: TypeAlias = float | Tensor
S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")


def exact(value: Any, name: str = "they") -> Tensor:
    """Numbers as precise as they were given: tensors and arrays as they are, Python numbers and lists in float64.

    `torch.as_tensor` alone would round the latter to float32.

    Raises:
        ValueError: If they are no numbers; `name` is what the message calls them.
    """
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(value, dtype=None if hasattr(value, "dtype") else torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be numbers, got {described(value)}") from error


def time_of(x: Tensor, t: Time) -> Tensor:
    """The time `t`, of shape `()` or `(batch,)`, on the device of `x`; at least float32, and float64 where `x` is.

    Raises:
        ValueError: If `t` has any other shape or is no number, or the points are no floating-point numbers.
    """
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        way_out = "torch.from_numpy(x)" if isinstance(x, np.ndarray) else "x.float()"
        raise ValueError(f"x must be a tensor of floating-point numbers, got {described(x)}; pass {way_out}")
    if not isinstance(t, Tensor | Real):
        t = exact(t, "t")
    t = torch.as_tensor(t, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    if t.ndim and t.shape != x.shape[:1]:
        raise ValueError(
            f"t must have shape () or (batch,) = ({x.shape[0]},) to meet points of shape {tuple(x.shape)}, "
            f"got {tuple(t.shape)}; pass one time, or one per sample"
        )
    return t


def meet(t: Tensor, x: Tensor) -> Tensor:
    """A function of time, of shape `()` or `(batch,)`, shaped so that it multiplies points of `(batch, *shape)`."""
    return t.reshape(-1, *(1,) * (x.ndim - 1)) if t.ndim else t


def wide(t: Tensor) -> Tensor:
    """The time in float64; on the host where the device has none."""
    return t.to("cpu" if t.device.type == "mps" else t.device, torch.float64)


def is_eager(*tensors: Tensor) -> bool:
    """Whether values can be looked at: not on the meta device, nor while a function transform or a compiler traces."""
    return not torch.compiler.is_compiling() and not any(
        tensor.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors
    )


def is_transformed() -> bool:
    """Whether a function transform of `torch.func` is at work: autograd's own tape is not to be used then."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def unrounded(x: Tensor) -> AbstractContextManager[Any]:
    """Where what is computed on the device of `x` is not rounded by an autocast: what is exact must stay so."""
    if not isinstance(x, Tensor) or x.is_meta:  # the first is refused by its name, the second computes nothing
        return nullcontext()
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def exactly(method: Callable[Concatenate[S, Tensor, P], T]) -> Callable[Concatenate[S, Tensor, P], T]:
    """A method of points that no autocast rounds."""

    @wraps(method)
    def computed(self: S, x: Tensor, *args: P.args, **kwargs: P.kwargs) -> T:
        with unrounded(x):
            return method(self, x, *args, **kwargs)

    return computed  # type: ignore[return-value] # names of arguments aside


def sum_per_sample(x: Tensor) -> Tensor:
    """The sum over all but the batch dimension, of shape `(batch,)`."""
    return rows_of(x).sum(1)


def mean_per_sample(x: Tensor) -> Tensor:
    """The mean over all but the batch dimension, of shape `(batch,)`."""
    return rows_of(x).mean(1)


def rows_of(x: Tensor) -> Tensor:
    """Points as rows of numbers, of shape `(batch, numbers)`; a batch of single numbers too."""
    return x.flatten(1) if x.ndim > 1 else x[:, None]
