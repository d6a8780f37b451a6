"""Classifier-free guidance: a field of two fields.

    u^w(x | y) = (1 - w) u(x) + w u(x | y)

w = 0 ignores the condition, w = 1 is the conditional model, more exaggerates it. Every kind of prediction is the same
map of x and another, so mixing any of them mixes all.

Source: Ho & Salimans 2022, https://arxiv.org/abs/2207.12598, equation 6 (their scale is w - 1)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.fields.field import Field, checked_field, tuple_of
from pathline.fields.network import Given
from pathline.paths.predictions import Interval, Prediction
from pathline.tensors import exact, meet


class ClassifierFree(Field):
    """The guided field, with scale `w`: a number, or one per sample of shape `(batch,)`.

    Where both fields are one network under two conditions, they are asked in one batch of twice the size.

    Raises:
        ValueError: If the fields have different paths, or a scale is not finite.
    """

    def __init__(self, conditional: Field, unconditional: Field, w: float | Tensor) -> None:
        super().__init__()
        checked_field(conditional, "conditional")
        checked_field(unconditional, "unconditional")
        if conditional.path != unconditional.path:
            raise ValueError(
                f"both fields must have the same path, got {conditional.path} and {unconditional.path}; "
                "guidance mixes them at the same point"
            )
        self.conditional = conditional
        self.unconditional = unconditional
        self.w = exact(w, "w")
        if not self.w.isfinite().all():
            raise ValueError(f"w must be finite, got {w}")
        self.path = conditional.path
        self.prediction = conditional.prediction
        self._number = None if self.w.ndim else float(self.w)
        self._pair = _pair(conditional, unconditional)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The mix of the two; with w = 0 or 1 the one field, and nothing is asked of the other."""
        if self._number in (0.0, 1.0):
            return self._read(self.conditional if self._number else self.unconditional, x, t)
        if self._pair is not None:
            field, conditions = self._pair
            y = tree_map(lambda *leaves: torch.cat(leaves), *(c.conditions(x) for c in conditions))
            both = field.under(torch.cat((x, x)), t if t.ndim == 0 else torch.cat((t, t)), y)
            given, free = zip(*((part[: x.shape[0]], part[x.shape[0] :]) for part in tuple_of(both)), strict=True)
        else:
            given, free = (tuple_of(self._read(field, x, t)) for field in (self.conditional, self.unconditional))
        w = meet(self.w.to(x.device, x.dtype), x)
        mixed = tuple((1 - w) * f + w * g for g, f in zip(given, free, strict=True))
        return mixed if isinstance(self.prediction, tuple) else mixed[0]

    def given(self, y: Any) -> Field:
        """The field guided to another condition."""
        return ClassifierFree(self.conditional.given(y), self.unconditional, self.w)

    def take(self, index: Tensor | slice) -> Field:
        """The field for some samples of its batch."""
        w = self.w[index] if self.w.numel() > 1 else self.w
        return ClassifierFree(self.conditional.take(index), self.unconditional.take(index), w)

    def repeat(self, copies: int) -> Field:
        """The field for the batch several times over."""
        w = torch.cat([self.w] * copies) if self.w.numel() > 1 else self.w
        return ClassifierFree(self.conditional.repeat(copies), self.unconditional.repeat(copies), w)

    def _read(self, field: Field, x: Tensor, t: Tensor) -> Any:
        """The field's own prediction, or its reading as the other's kind."""
        return field(x, t) if field.prediction == self.prediction else field.read_as(x, t, self.prediction)

    def interval(self, kind: Prediction) -> Interval:
        """The times at which both fields can be read as the kind, or as what this field predicts."""
        whole = self.conditional.interval(kind)
        for head in self.heads:
            whole = whole & self.unconditional.interval(head)
        return whole


def _pair(conditional: Field, unconditional: Field) -> Any:
    """The network field that both bind, and its two conditions, if one batch can hold them."""
    if not (isinstance(conditional, Given) and isinstance(unconditional, Given)):
        return None
    if conditional.field is not unconditional.field or unconditional.y is None or conditional.y is None:
        return None
    return conditional.field, (conditional, unconditional)
