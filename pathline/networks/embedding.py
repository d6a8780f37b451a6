"""Time and class as vectors that a network can use."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pathline.tensors import is_eager


class TimeEmbedding(nn.Module):
    """Sines and cosines of t at frequencies from 1/4 to `highest` periods over [0, 1], then a small MLP.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5
    """

    frequencies: Tensor

    def __init__(self, width: int, waves: int = 32, highest: float = 64.0) -> None:
        super().__init__()
        exponents = torch.linspace(math.log(0.25), math.log(highest), waves)
        self.register_buffer("frequencies", 2 * math.pi * exponents.exp(), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Of t with shape `(batch,)`: shape `(batch, width)`."""
        angle = t[:, None] * self.frequencies
        return self.mlp(torch.cat((angle.sin(), angle.cos()), 1))  # type: ignore[no-any-return]


class ClassEmbedding(nn.Module):
    """A vector for each of `classes`, and one more for no class at all, with the index `classes`."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, y: Tensor | None, batch: int) -> Tensor:
        """Of class indices with shape `(batch,)`, or of None for no class: shape `(batch, width)`.

        Raises:
            ValueError: If an index is not one of a class.
        """
        if y is None:
            return self.table.weight[self.classes].expand(batch, -1)
        if y.is_floating_point():
            raise ValueError(f"y must hold class indices, whole numbers, got {y.dtype}")
        if is_eager(y) and y.device.type == "cpu" and len(y):
            low, high = int(y.min()), int(y.max())
            if low < 0 or high > self.classes:
                raise ValueError(
                    f"y must be a class index from 0 to {self.classes - 1} ({self.classes} is the null class), "
                    f"got {low if low < 0 else high}"
                )
        return self.table(y)  # type: ignore[no-any-return]


class Conditioning(nn.Module):
    """Time, and class if there are any, as one vector."""

    def __init__(self, width: int, classes: int | None) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.label = ClassEmbedding(classes, width) if classes else None

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        """Of shape `(batch, width)`."""
        embedding = self.time(t)
        if self.label is not None:
            embedding = embedding + self.label(y, len(t))
        elif y is not None:
            raise ValueError("y must be left out: this network was made without classes")
        return nn.functional.silu(embedding)
