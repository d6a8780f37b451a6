"""Captions as a network sees them: vectors of words, which of them there are, and one vector for the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


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
        if self.length < 1 or (self.words > 0) == (self.features > 0) or min(self.words, self.features, self.pooled) < 0:
            raise ValueError(f"a text needs places, and either words or features, got {self}")
