"""A field whose forward is compiled: one graph in place of a call for each of its operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.paths.predictions import Interval, Prediction


class CompiledField(Field):
    """Another field, compiled at its first call, and again where shapes, dtypes or grad mode are new.

    On a GPU the graph is captured as a CUDA graph, whose memory the next call writes over; so values are copied out.
    """

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field
        self.path = field.path
        self.prediction = field.prediction
        self._forward = torch.compile(field.forward)
        self._captured = torch.compile(field.forward, mode="reduce-overhead")

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The field's prediction."""
        if not x.is_cuda:
            return self._forward(x, t)
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        value = self._captured(x, t)
        return tuple(part.clone() for part in value) if isinstance(value, tuple) else value.clone()

    def interval(self, kind: Prediction) -> Interval:
        """That of the field."""
        return self.field.interval(kind)

    def given(self, y: Any) -> Field:
        """The field under a condition, compiled."""
        return CompiledField(self.field.given(y))

    def take(self, index: Tensor | slice) -> Field:
        """The field for some samples of its batch, compiled: this one, if it is the same for all."""
        return self._of(self.field.take(index))

    def repeat(self, copies: int) -> Field:
        """The field for the batch several times over, compiled."""
        return self._of(self.field.repeat(copies))

    def _of(self, field: Field) -> CompiledField:
        return self if field is self.field else CompiledField(field)
