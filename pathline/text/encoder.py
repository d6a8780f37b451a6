"""What reads captions: texts in; vectors of words, which of them there are, and a vector for the whole out.

    encoder = MinilmEncoder().fitted(captions)     as many places as these captions need
    text = encoder.encode(["a red circle", ""])    tokens (2, 16, 384), mask (2, 16), pooled (2, 384)

An empty or blank text is the null condition: no place holds a word, and all of its numbers are zero.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from pathline.networks.text import Text, TextForm
from pathline.specs import build

VERSION = 1  # of what encoders make of a text, so that vectors of another pathline are not taken for this one's
PLACES = 16  # at least, so that prompts may be longer than the captions of a data set
STEP = 8  # places come in multiples of it
SHOWN = 60  # letters of a prompt in an error


class Encoder(ABC):
    """Reads captions. It is named by what its class is called: `words`, `minilm`, `clip:NAME`, `t5:NAME`.

    Attributes:
        kind: That name.
        is_kept: Whether what it makes of captions is worth keeping on the disk, and settled by its digest.
    """

    kind: ClassVar[str]
    is_kept: ClassVar[bool] = False

    @property
    @abstractmethod
    def form(self) -> TextForm:
        """The shape of what it makes.

        Raises:
            ValueError: If it is not ready for that: it has no words yet, or its model cannot be read.
        """

    @property
    @abstractmethod
    def digest(self) -> str:
        """A sha256 that changes with the weights, the tokenizer, the vocabulary and the length."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Text:
        """Texts of any number, on the CPU, each as if it were alone; a word that is not known is left out.

        Raises:
            ValueError: If one is longer than `form.length`, or no text.
        """

    @abstractmethod
    def check(self, texts: Sequence[str]) -> None:
        """Refuse prompts that are not read as they stand.

        Raises:
            ValueError: If one is longer than `form.length`, or has a word that is not known.
        """

    @abstractmethod
    def fitted(self, captions: Sequence[str], others: Sequence[str] = ()) -> Encoder:
        """The encoder made ready for a data set: its words, where it learns them, and its length.

        A length that was given stays. Else it is that of the longest caption, in multiples of 8 and at least 16.

        Args:
            captions: Those that are trained on.
            others: Those that must fit in too, such as held-out ones; no word is learned from them.

        Raises:
            ValueError: If no caption has a word, or one is longer than what the encoder can take.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `encoder_from` needs to make the encoder again, fit for JSON.

        Raises:
            ValueError: If it cannot be written down.
        """


def encoder_from(state: Mapping[str, Any]) -> Encoder:
    """The encoder whose `state` was kept.

    Raises:
        ValueError: If it is no such state, the model is not there, or is another one than when the state was kept.
    """
    if not isinstance(state, Mapping) or not {"kind", "digest"} <= set(state):
        raise ValueError(f"the state of a text encoder must have kind and digest, got {shortened(str(state))}")
    arguments = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in state.items()
        if key not in ("kind", "digest")
    }
    encoder = build(Encoder, {"name": state["kind"], "arguments": arguments})
    if encoder.digest != state["digest"]:
        name = " ".join(str(state[key]) for key in ("kind", "name") if key in state)
        raise ValueError(
            f"the text encoder {name} is not the one that was used: its digest is {encoder.digest[:12]}, "
            f"{str(state['digest'])[:12]} was kept; put the files of that model back, or train again with this one"
        )
    return encoder


# ---- what encoders share


def texts_of(texts: Sequence[str]) -> list[str]:
    """The texts as a list, if that is what they are.

    Raises:
        ValueError: If they are one string, or one of them is none or no Unicode.
    """
    if isinstance(texts, str):
        raise ValueError(f"texts must be several strings, got the string {shortened(texts)}; put it into a list")
    found = list(texts)
    for k, text in enumerate(found):
        if not isinstance(text, str):
            raise ValueError(f"texts must be strings, got {text!r} as number {k}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"texts must be Unicode, got {shortened(text)} as number {k}; read them as UTF-8"
            ) from None
    return [str(text) for text in found]  # NumPy has strings of its own


def shortened(text: str) -> str:
    """A text as errors show it, in quotes and not too long."""
    return repr(text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}...")


def places(longest: int) -> int:
    """How many places captions get of which the longest needs so many."""
    return max(PLACES, math.ceil(longest / STEP) * STEP)


def check_length(length: int, name: str) -> None:
    """Refuse a length that is none.

    Raises:
        ValueError: If it is no whole number, or below 0.
    """
    if not isinstance(length, int) or length < 0:
        raise ValueError(f"{name} takes a length in whole places, or 0 for as many as captions need, got {length!r}")


def check_lengths(texts: Sequence[str], counts: Iterable[int], takes: int, unit: str, name: str) -> None:
    """Refuse texts that are too long.

    Raises:
        ValueError: If one has more of the unit than an encoder takes.
    """
    for text, count in zip(texts, counts, strict=True):
        if count > takes:
            raise ValueError(
                f"the prompt {shortened(text)} has {count} {unit}, and {name} takes {takes} at most; shorten it"
            )


def check_captions(captions: Sequence[str]) -> list[str]:
    """The captions to fit an encoder to.

    Raises:
        ValueError: If all of them are blank.
    """
    found = texts_of(captions)
    if not any(text.strip() for text in found):
        raise ValueError(f"captions must have a word for an encoder to be fitted to, got {len(found)} without one")
    return found


def null(form: TextForm, count: int) -> Text:
    """As many null conditions: what an encoder fills in where there are words."""
    shape = (count, form.length)
    tokens = torch.zeros(*shape, form.features) if form.features else torch.zeros(shape, dtype=torch.int64)
    return Text(tokens, torch.zeros(shape, dtype=torch.bool), torch.zeros(count, form.pooled))


def digest_of(*parts: Any) -> str:
    """The sha256 of plain values."""
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()
