"""Captions as a network sees them: vectors of words, which of them there are, and one vector for the whole.

    vectors of words, each with its place  ->  transformer  ->  words that know of each other, and their summary

The summary joins the time; pixels look at the words (`Attention`). A caption without a word is the null condition: one
place that is always there, with a vector that is learned, stands before all captions, and is all that is left then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Text(NamedTuple):
    """Captions that were encoded; a tree of conditions may hold one.

    Attributes:
        tokens: Vectors of shape `(captions, length, features)`; or, where vectors are learned with the model, the
            number of each word, of shape `(captions, length)`.
        mask: Which places hold a word, of shape `(captions, length)`; the null condition has none.
        pooled: A vector for the whole of each, of shape `(captions, pooled)`; pooled may be 0.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class TextForm:
    """The shape of encoded captions: all that a network must know to take them.

    Attributes:
        length: Places for words.
        words: How many words have a vector that is learned with the model, numbered from 1; 0 where vectors are given.
        features: Numbers in a given vector; 0 where they are learned.
        pooled: Numbers in the vector for the whole, which may be 0.

    Raises:
        ValueError: If there is no place, or not one of words and features.
    """

    length: int
    words: int = 0
    features: int = 0
    pooled: int = 0

    def __post_init__(self) -> None:
        if (
            self.length < 1
            or (self.words > 0) == (self.features > 0)
            or min(self.words, self.features, self.pooled) < 0
        ):
            raise ValueError(f"a text needs places, and either words or features, got {self}")


class Words(NamedTuple):
    """What pixels look at: vectors of shape `(batch, places, width)`, and which of them there are."""

    vectors: Tensor
    mask: Tensor


class Attention(nn.Module):
    """Each place of x looks at the places of a context that there are.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2

    Raises:
        ValueError: If the width cannot be shared evenly among the heads.
    """

    def __init__(self, width: int, context: int, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of {heads} for a network that reads text, got {width}")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(context, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Words) -> Tensor:
        """Of x with shape `(batch, places, width)`: the same shape."""
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.pair(context.vectors).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, context.mask[:, None, None])
        return self.out(seen.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class TextEmbedding(nn.Module):
    """Captions of a form as words that know of each other, and as one vector.

    Args:
        form: That of the captions.
        width: Of all vectors.
        depth: The number of transformer blocks.

    Attributes:
        null: The condition of one sample that stands for none: no word.
    """

    def __init__(self, form: TextForm, width: int, depth: int = 2) -> None:
        super().__init__()
        self.form = form
        self.words = nn.Embedding(form.words + 1, width) if form.words else nn.Linear(form.features, width)
        self.places = nn.Parameter(0.5 * torch.randn(form.length, width))  # as large as words: order must be seen
        self.whole = nn.Parameter(0.5 * torch.randn(width))
        self.pooled = nn.Linear(form.pooled, width, bias=False) if form.pooled else None
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.summary = nn.Linear(width, width)

    @property
    def null(self) -> Text:
        """No word, for one sample."""
        form = self.form
        tokens = torch.zeros(form.length, form.features) if form.features else torch.zeros(form.length).long()
        return Text(tokens, torch.zeros(form.length, dtype=torch.bool), torch.zeros(form.pooled))

    def forward(self, y: Text | None, batch: int) -> tuple[Tensor, Words]:
        """Of captions, or of None for none: a vector of shape `(batch, width)`, and the words.

        Raises:
            ValueError: If the captions have another form.
        """
        y = self._null_of(batch) if y is None else self._checked(y, batch)
        x = self.words(y.tokens if self.form.words else y.tokens.to(self.places.dtype)) + self.places
        whole = self.whole.expand(batch, -1)
        if self.pooled is not None:
            whole = whole + self.pooled(y.pooled.to(whole.dtype))
        mask = nn.functional.pad(y.mask, (1, 0), value=True)
        words = Words(torch.cat((whole[:, None].to(x.dtype), x), 1), mask)
        for block in self.blocks:
            words = Words(block(words), mask)
        vectors = self.norm(words.vectors)
        return self.summary(vectors[:, 0]), Words(vectors, mask)

    def _null_of(self, batch: int) -> Text:
        device = self.places.device
        return Text(*(leaf.to(device).expand(batch, *leaf.shape) for leaf in self.null))

    def _checked(self, y: Text, batch: int) -> Text:
        need = [(batch, *leaf.shape) for leaf in self.null]
        if not isinstance(y, tuple) or len(y) != 3 or [tuple(leaf.shape) for leaf in y] != need:
            got = [tuple(leaf.shape) for leaf in y] if isinstance(y, tuple) else type(y).__name__
            raise ValueError(
                f"y must hold encoded captions, Text(tokens, mask, pooled) of the shapes {need}, got {got}; encode "
                "them with the encoder that the network was made for"
            )
        return Text(*y)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.attention = Attention(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, words: Words) -> Tensor:
        x = self.before(words.vectors)
        x = words.vectors + self.attention(x, Words(x, words.mask))
        return x + self.mlp(x)  # type: ignore[no-any-return]
