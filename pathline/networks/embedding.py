"""Time, and a class or numbers, as vectors that a network can use."""

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


class NumberEmbedding(nn.Module):
    """Numbers of about unit size, with their sines and cosines at 1/16 to 2 periods a unit, then a small MLP.

    The numbers themselves carry trends beyond the data, the waves what bends within it. A sample of which a number is
    NaN has none: it gets a vector of its own, which is learned.
    """

    frequencies: Tensor

    def __init__(self, numbers: int, width: int, waves: int = 6) -> None:
        super().__init__()
        self.numbers = numbers
        self.register_buffer("frequencies", 2 * math.pi * 2.0 ** torch.linspace(-4, 1, waves), persistent=False)
        self.mlp = nn.Sequential(nn.Linear((1 + 2 * waves) * numbers, width), nn.SiLU(), nn.Linear(width, width))
        self.none = nn.Parameter(torch.zeros(width))

    def forward(self, y: Tensor | None, batch: int) -> Tensor:
        """Of numbers with shape `(batch, numbers)`, or of None for none: shape `(batch, width)`.

        Raises:
            ValueError: If they have another shape or are no floats, or one is infinite.
        """
        if y is None:
            return self.none.expand(batch, -1)
        if y.shape != (batch, self.numbers) or not y.is_floating_point():
            raise ValueError(
                f"y must hold floats of shape {(batch, self.numbers)}, the numbers of each sample, got {y.dtype} of "
                f"shape {tuple(y.shape)}"
            )
        if is_eager(y) and y.device.type == "cpu" and y.isinf().any():
            raise ValueError(f"y must be finite, or NaN for none, got {float(y[y.isinf()][0])}")
        is_none = y.isnan().any(1, keepdim=True)
        known = torch.where(is_none, 0.0, y).to(self.none.dtype)  # before the waves: a NaN would reach the gradients
        angle = (known[:, :, None] * self.frequencies).flatten(1)
        return torch.where(is_none, self.none, self.mlp(torch.cat((known, angle.sin(), angle.cos()), 1)))


class Conditioning(nn.Module):
    """Time, and a class or numbers if there are any, as one vector.

    Attributes:
        null: The condition of one sample that stands for none: the class beyond the last, or a NaN for each number.

    Raises:
        ValueError: If there are both classes and numbers.
    """

    def __init__(self, width: int, classes: int | None, numbers: int | None = None) -> None:
        super().__init__()
        if classes and numbers:
            raise ValueError(
                f"either classes or numbers is what a network is conditioned on, got {classes} and {numbers}; a class "
                "can be a number too, or one number for each class, 0 or 1"
            )
        self.time = TimeEmbedding(width)
        self.label: nn.Module | None = ClassEmbedding(classes, width) if classes else None
        self.null: int | Tensor | None = classes
        if numbers:
            self.label, self.null = NumberEmbedding(numbers, width), torch.full((numbers,), math.nan)

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        """Of shape `(batch, width)`."""
        embedding = self.time(t)
        if self.label is not None:
            embedding = embedding + self.label(y, len(t))
        elif y is not None:
            raise ValueError("y must be left out: this network was made without classes and numbers")
        return nn.functional.silu(embedding)
