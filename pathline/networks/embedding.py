"""Time, and a class, numbers or a caption, as vectors that a network can use."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pathline.conditions import CLASS, NUMBERS, TEXT, by_kind
from pathline.networks.text import TextEmbedding, TextForm, Words
from pathline.tensors import is_eager


class Waves(nn.Module):
    """Sines and cosines of numbers, at frequencies that no cast of the network rounds.

    Frequencies, and the angles that are made of them, are in float32 at least: rounded to bfloat16, a frequency of 64
    periods moves an angle by up to 0.8 rad.
    """

    frequencies: Tensor

    def __init__(self, frequencies: Tensor) -> None:
        super().__init__()
        self._exact = tuple(frequencies.tolist())
        self.register_buffer("frequencies", frequencies, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Waves:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        dtype = torch.promote_types(self.frequencies.dtype, torch.float32)
        self.frequencies = torch.tensor(self._exact, dtype=dtype, device=self.frequencies.device)
        return self

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Of x with shape `(batch, numbers)`: first all sines, then all cosines, rounded to a dtype."""
        angle = (x[:, :, None] * self.frequencies).flatten(1)
        return torch.cat((angle.sin(), angle.cos()), 1).to(dtype)


class TimeEmbedding(nn.Module):
    """Sines and cosines of t at frequencies from 1/4 to `highest` periods over [0, 1], then a small MLP.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5
    """

    def __init__(self, width: int, waves: int = 32, highest: float = 64.0) -> None:
        super().__init__()
        self.waves = Waves(_even_in_log(0.25, highest, waves))
        self.mlp = nn.Sequential(nn.Linear(2 * waves, width), nn.SiLU(), nn.Linear(width, width))

    @property
    def frequencies(self) -> Tensor:
        """In radians for each unit of t."""
        return self.waves.frequencies

    def forward(self, t: Tensor) -> Tensor:
        """Of t with shape `(batch,)`: shape `(batch, width)`."""
        own = next((weight.dtype for weight in self.mlp.parameters()), t.dtype)
        return self.mlp(self.waves(t[:, None], own))  # type: ignore[no-any-return]


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
        if y.is_floating_point() or y.ndim != 1:
            raise ValueError(
                f"y must hold class indices, whole numbers of shape ({batch},), got {y.dtype} of shape {tuple(y.shape)}"
            )
        if is_eager(y) and y.device.type == "cpu" and y.numel():
            low, high = int(y.min()), int(y.max())
            if low < 0 or high > self.classes:
                raise ValueError(
                    f"y must be a class index from 0 to {self.classes - 1} ({self.classes} is the null class), "
                    f"got {low if low < 0 else high}"
                )
        return self.table(y.long())  # type: ignore[no-any-return]


class NumberEmbedding(nn.Module):
    """Numbers of about unit size, with their sines and cosines at 1/16 to 2 periods a unit, then a small MLP.

    The numbers themselves carry trends beyond the data, the waves what bends within it. A sample of which a number is
    NaN has none: it gets a vector of its own, which is learned.
    """

    def __init__(self, numbers: int, width: int, waves: int = 6) -> None:
        super().__init__()
        self.numbers = numbers
        self.waves = Waves(2 * math.pi * 2.0 ** torch.linspace(-4, 1, waves))
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
        y = y.to(self.waves.frequencies.dtype)  # as precise as the network, in whatever type they are given
        is_none = y.isnan().any(1, keepdim=True)
        known = torch.where(is_none, 0.0, y)  # before the waves: a NaN would reach the gradients
        seen = torch.cat((known.to(self.none.dtype), self.waves(known, self.none.dtype)), 1)
        return torch.where(is_none, self.none, self.mlp(seen))


def _even_in_log(low: float, high: float, count: int) -> Tensor:
    """Frequencies from `low` to `high` periods a unit, in radians, in float32.

    Each operation is rounded to float32 on its own, so that they are the same on every processor: those of
    `torch.linspace` and of `exp` in float32 differ in their last bits by how wide a processor's registers are.
    """

    def rounded(x: float | Tensor) -> Tensor:
        return torch.as_tensor(x, dtype=torch.float64).float().double()

    first, last = rounded(math.log(low)), rounded(math.log(high))
    step = rounded(rounded(last - first) / max(count - 1, 1))
    k = torch.arange(count).double()
    exponents = rounded(torch.where(k < count // 2, first + step * k, last - step * (count - 1 - k)))
    return (rounded(2 * math.pi) * rounded(exponents.exp())).float()


class Conditioning(nn.Module):
    """Time, and all else that is known of a sample, as one vector; and the words of its caption.

    Attributes:
        kinds: What else is known, of class, numbers and text.
        null: The condition of one sample that stands for none, by its kind: the class beyond the last, a NaN for each
            number, a caption without a word. None where nothing else is known.
    """

    def __init__(
        self, width: int, classes: int | None = None, numbers: int | None = None, text: TextForm | None = None
    ) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.label = ClassEmbedding(classes, width) if classes else None
        self.numbers = NumberEmbedding(numbers, width) if numbers else None
        self.text = TextEmbedding(text, width) if text else None
        null: dict[str, Any] = {}
        if classes:
            null[CLASS] = classes
        if numbers:
            null[NUMBERS] = torch.full((numbers,), math.nan)
        if self.text is not None:
            null[TEXT] = self.text.null
        self.kinds = tuple(null)
        self.null = null or None

    def forward(self, t: Tensor, y: Any) -> tuple[Tensor, Words | None]:
        """Of t with shape `(batch,)` and conditions: a vector of shape `(batch, width)`, and words if there are any.

        Raises:
            ValueError: If there are conditions that the network was made without.
        """
        given, words = by_kind(y, self.kinds), None
        embedding = self.time(t)
        if self.label is not None:
            embedding = embedding + self.label(given.get(CLASS), t.shape[0])
        if self.numbers is not None:
            embedding = embedding + self.numbers(given.get(NUMBERS), t.shape[0])
        if self.text is not None:
            summary, words = self.text(given.get(TEXT), t.shape[0])
            embedding = embedding + summary
        return nn.functional.silu(embedding), words
