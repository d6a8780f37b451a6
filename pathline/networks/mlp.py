"""A residual MLP for vectors, every block modulated by time and condition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pathline.networks.embedding import Conditioning
from pathline.networks.text import TextForm


class MLP(nn.Module):
    """A network for points of shape `(batch, dimension)`.

    Args:
        dimension: Of a point.
        width: Of the hidden layers.
        depth: The number of residual blocks.
        classes: The number of classes, or None; the null class has the index `classes`.
        heads: How many predictions it makes, side by side.
        numbers: How many numbers of about unit size each sample is conditioned on, or None; the null condition is NaN.
        text: The form of captions that samples are conditioned on, or None; of words, it sees their summary.

    Conditions are a dictionary, `{"class": ..., "numbers": ..., "text": ...}`; the value of an only kind may be bare.

    Raises:
        ValueError: If a size is not positive.
    """

    def __init__(
        self,
        dimension: int,
        width: int = 256,
        depth: int = 3,
        classes: int | None = None,
        heads: int = 1,
        numbers: int | None = None,
        text: TextForm | None = None,
    ) -> None:
        super().__init__()
        if min(dimension, width, depth, heads) < 1:
            raise ValueError(
                f"dimension, width, depth and heads must be at least 1, got {dimension}, {width}, {depth} and {heads}"
            )
        self.classes = classes
        self.numbers = numbers
        self.text = text
        self.condition = Conditioning(width, classes, numbers, text)
        self.null = self.condition.null
        self.first = nn.Linear(dimension, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.last = nn.Linear(width, heads * dimension)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, t: Tensor, y: Any = None) -> Tensor:
        """The prediction, of shape `(batch, heads * dimension)`.

        Raises:
            ValueError: If points have another dimension.
        """
        if x.ndim != 2 or x.shape[1] != self.first.in_features:
            raise ValueError(
                f"points must have shape (batch, {self.first.in_features}) for this MLP, got {tuple(x.shape)}; it was "
                f"made with dimension={self.first.in_features}"
            )
        c, _ = self.condition(t, y)
        h = self.first(x)
        for block in self.blocks:
            h = block(h, c)
        return self.last(nn.functional.silu(h))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.modulation(c).chunk(2, 1)
        h = torch.addcmul(shift, self.norm(x), 1 + scale)
        return x + self.outer(nn.functional.silu(self.inner(h)))  # type: ignore[no-any-return]
