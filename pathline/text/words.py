"""Words whose vectors are learned with the model: the vocabulary is that of the captions that are trained on.

    "Don't draw 2 cats; draw THEM."  ->  don't  draw  2  cats  draw  them

A caption is brought into Unicode's form NFKC and lower case. A word is a run of letters, digits and the marks upon
them, with apostrophes inside; all else only parts words, so that a number is a word and a symbol is none. Word k of
the vocabulary has number k + 1, and 0 is no word.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch

from pathline.networks.text import Text, TextForm
from pathline.text.encoder import (
    Encoder,
    check_captions,
    check_length,
    check_lengths,
    digest_of,
    null,
    places,
    shortened,
    texts_of,
)

MOST = 65_536  # words in a vocabulary


@dataclass(frozen=True)
class WordsEncoder(Encoder):
    """Numbers of words, for a network that learns a vector for each.

    Attributes:
        words: The vocabulary, the most frequent first; unless given, it is learned from captions by `fitted`.
        length: Places for words; unless given, as many as those captions need.

    Raises:
        ValueError: If one of the words is none, or is there twice, or there are more than 65,536.
    """

    words: tuple[str, ...] = ()
    length: int = 0

    kind: ClassVar[str] = "words"

    def __post_init__(self) -> None:
        check_length(self.length, self.kind)
        if not isinstance(self.words, tuple) or len(self.words) > MOST:
            raise ValueError(f"words must be a tuple of at most {MOST:,} words, got {shortened(str(self.words))}")
        for word in self.words:
            if not isinstance(word, str) or words_of(word) != [word]:
                raise ValueError(f"words must be single words in lower case, got {word!r}")
        if len(self._numbers) < len(self.words):
            raise ValueError(f"words must differ, got {Counter(self.words).most_common(1)[0][0]!r} twice")

    @property
    def form(self) -> TextForm:
        """Numbers of words, and nothing for the whole.

        Raises:
            ValueError: If it was not fitted.
        """
        if not self.words or not self.length:
            raise ValueError("words has no vocabulary or no length yet; learn them: WordsEncoder().fitted(captions)")
        return TextForm(self.length, words=len(self.words))

    @property
    def digest(self) -> str:
        """A sha256 of the vocabulary and the length."""
        return digest_of(self.kind, self.words, self.length)

    def encode(self, texts: Sequence[str]) -> Text:
        """Numbers of the known words of each; a text of none is the null condition.

        Raises:
            ValueError: If a text has more words than places, known or not.
        """
        split = self._split(texts)
        text = null(self.form, len(split))
        for tokens, found in zip(text.tokens, split, strict=True):
            numbers = [self._numbers[word] for word in found if word in self._numbers]
            tokens[: len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        return text._replace(mask=text.tokens > 0)

    def check(self, texts: Sequence[str]) -> None:
        """Refuse prompts that are too long, or have a word that is not in the vocabulary, or signs and no word."""
        for text, found in zip(texts, self._split(texts), strict=True):
            if text.strip() and not found:
                raise ValueError(
                    f"the prompt {shortened(text)} has no word; an empty one stands for no condition, and "
                    f"{len(self.words):,} words are known, such as {', '.join(self.words[:5])}"
                )
            for word in found:
                if word not in self._numbers:
                    near = difflib.get_close_matches(word, self.words, n=1)
                    hint = f"did you mean {near[0]!r}? " if near else ""
                    raise ValueError(
                        f"the prompt {shortened(text)} has the word {word!r}, which is not known; {hint}"
                        f"{len(self.words):,} words are known, such as {', '.join(self.words[:5])}"
                    )

    def fitted(self, captions: Sequence[str], others: Sequence[str] = ()) -> WordsEncoder:
        """The words of the captions, by frequency and then by letters, and places for the longest caption.

        Words that were given stay.
        """
        found = [words_of(caption) for caption in check_captions(captions)]
        counts = Counter(word for words in found for word in words)
        if not counts:
            raise ValueError(f"captions must have a word of letters or digits, got {len(found)} without one")
        learned = sorted(counts, key=lambda word: (-counts[word], word))[:MOST]
        longest = max(len(words) for words in (*found, *map(words_of, texts_of(others))))
        made = replace(self, words=self.words or tuple(learned), length=self.length or places(longest))
        made._split([*captions, *others])  # those that are longer than a length that was given
        return made

    def state(self) -> dict[str, Any]:
        """The vocabulary and the length."""
        return {"kind": self.kind, "words": list(self.words), "length": self.length, "digest": self.digest}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=1)}

    def _split(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text, none of which has too many."""
        found = [words_of(text) for text in texts_of(texts)]
        check_lengths(texts, map(len, found), self.form.length, "words", self.kind)
        return found


def words_of(text: str) -> list[str]:
    """The words of a text."""
    small = unicodedata.normalize("NFKC", text).lower()
    parts = unicodedata.normalize("NFKC", small).translate(_KEPT).split()  # small letters compose where capitals do not
    return [word for part in parts if (word := part.strip("'"))]


class _Kept(dict[int, str]):
    """What becomes of a letter: it stays if words have it, and parts them if not. Each is looked up once."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        self[code] = letter if letter.isalnum() or unicodedata.category(letter) in ("Mn", "Mc") else " "
        return self[code]


_KEPT = _Kept({ord("'"): "'", 0x2019: "'"})  # the typographic apostrophe is one too
