"""A field of some columns or channels, where the data never changes in the others.

Data that is always 0 in a column is beta_t noise there on its way, which is independent of all else. So what a field
says of the other columns does not depend on where that column is, and their density alone is that of the flow in which
it is held at 0.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from pathline.fields.field import Field


class PinnedField(Field):
    """A field with some columns of `(batch, d)`, or channels of `(batch, C, ...)`, left out: they are held at 0.

    Args:
        field: The whole field.
        size: How many columns or channels it has.
        pinned: The numbers of those that are left out, from 0.

    Raises:
        ValueError: If none is left.
    """

    def __init__(self, field: Field, size: int, pinned: Collection[int]) -> None:
        super().__init__()
        self.field, self.size, self.pinned = field, size, frozenset(pinned)
        self.path, self.prediction = field.path, field.prediction
        self.kept = torch.tensor([k for k in range(size) if k not in self.pinned])
        if not len(self.kept):
            raise ValueError(f"pinned must leave a column or channel, got all {size}; a constant has no density")

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """What the whole field predicts for the columns that are left, at points of these."""
        kept = self.kept.to(x.device)
        whole = x.new_zeros(len(x), self.size, *x.shape[2:]).index_copy(1, kept, x)
        found = tuple(value.index_select(1, kept) for value in self.field.values(whole, t))
        return found if isinstance(self.prediction, tuple) else found[0]

    def given(self, y: Any) -> Field:
        """The field under a condition."""
        return PinnedField(self.field.given(y), self.size, self.pinned)

    def take(self, index: Tensor | slice) -> Field:
        """The same field for some samples of its batch."""
        return PinnedField(self.field.take(index), self.size, self.pinned)

    def repeat(self, copies: int) -> Field:
        """The same field for the batch several times over."""
        return PinnedField(self.field.repeat(copies), self.size, self.pinned)
