"""Any function of texts as an encoder: one of a model that is loaded elsewhere, or of a service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from pathline.networks.text import Text, TextForm
from pathline.text.encoder import (
    Encoder,
    check_captions,
    check_length,
    check_lengths,
    digest_of,
    null,
    places,
    texts_of,
)

BATCH = 64  # texts that a function gets at once
PROBE = "a"  # what it is asked first, to see what it makes


@dataclass(frozen=True)
class FunctionEncoder(Encoder):
    """A function as an encoder. It is made in Python alone: no string names it, and no run can keep it.

    Attributes:
        function: Of a list of n texts, none of them blank: vectors of shape `(n, features)`, each of which is the
            only token of its text and its pooled vector; or tokens `(n, length, features)`, a mask `(n, length)` that
            is true where there is one, and pooled `(n, pooled)`. Tensors or arrays, of any length.
        name: What it is called.
        length: Places for words; unless given, as many as it makes of a single letter, until `fitted` counts more.
    """

    function: Callable[[list[str]], Any]
    name: str
    length: int = 0

    kind: ClassVar[str] = "function"

    def __post_init__(self) -> None:
        check_length(self.length, self.kind)
        if not callable(self.function):
            raise ValueError(
                f"function must be a function of a list of texts, got {self.function!r}; no string names one: "
                "make it in Python, FunctionEncoder(function, name)"
            )

    @cached_property
    def form(self) -> TextForm:
        """What the function makes of a letter."""
        made = self._made([PROBE])
        return TextForm(self.length or made.mask.shape[1], features=made.tokens.shape[-1], pooled=made.pooled.shape[-1])

    @property
    def digest(self) -> str:
        """A sha256 of the name and the length: what the function does is not in it."""
        return digest_of(self.kind, self.name, self.length)

    def encode(self, texts: Sequence[str]) -> Text:
        """What the function makes of the texts, in float32 and on the CPU, and zeros where it has no word.

        Raises:
            ValueError: If a text needs more places than there are, or the function makes something else than it should.
        """
        texts = texts_of(texts)
        text = null(self.form, len(texts))
        for rows, made in self._batches(texts):
            check_lengths([texts[row] for row in rows], _counts(made), self.form.length, "tokens", self.name)
            if made.tokens.shape[-1] != self.form.features or made.pooled.shape[-1] != self.form.pooled:
                raise ValueError(f"{self.name} made vectors of other sizes than of one letter, {_shapes(*made)}")
            tokens = made.tokens.masked_fill(~made.mask[..., None], 0)[:, : self.form.length]
            text.tokens[rows, : tokens.shape[1]] = tokens
            text.mask[rows, : tokens.shape[1]] = made.mask[:, : self.form.length]
            text.pooled[rows] = made.pooled
        return text

    def check(self, texts: Sequence[str]) -> None:
        """Refuse prompts that are too long, which only the function can tell."""
        self.encode(texts)

    def fitted(self, captions: Sequence[str], others: Sequence[str] = ()) -> FunctionEncoder:
        """Places for the longest caption; none but one if the function gives a vector for each text."""
        found = [*dict.fromkeys([*check_captions(captions), *texts_of(others)])]
        if self.length:
            self.check(found)
            return self
        longest = max(count for _, made in self._batches(found) for count in _counts(made))
        return replace(self, length=places(longest) if longest > 1 else 1)

    def state(self) -> dict[str, Any]:
        """Nothing: a function cannot be written down.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"the text encoder {self.name} is a function, which a run cannot keep; keep its vectors as conditions, "
            "or write a class of pathline.text.encoder.Encoder with a state"
        )

    def _batches(self, texts: list[str]) -> list[tuple[list[int], Text]]:
        """What the function makes of the texts that are not blank, with where they are."""
        rows = [row for row, text in enumerate(texts) if text.strip()]
        parts = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        return [(part, self._made([texts[row] for row in part])) for part in parts]

    @torch.no_grad()
    def _made(self, texts: list[str]) -> Text:
        made = self.function(texts)
        parts = [torch.as_tensor(part).detach().cpu() for part in (made if isinstance(made, tuple | list) else (made,))]
        shapes = [part.shape for part in parts]
        if len(parts) == 1 and parts[0].ndim == 2:
            tokens, mask, pooled = parts[0][:, None], torch.ones(len(parts[0]), 1), parts[0]
        elif len(parts) == 3 and parts[0].ndim == 3 and shapes[1] == shapes[0][:2] and parts[2].ndim == 2:
            tokens, mask, pooled = parts
        else:
            tokens, mask, pooled = (torch.zeros(0),) * 3
        if not len(texts) == len(tokens) == len(pooled):
            raise ValueError(
                f"{self.name} must make vectors (n, features) of n texts, or tokens (n, length, features), a mask "
                f"(n, length) and pooled (n, pooled), got {_shapes(*parts)} of {len(texts)}"
            )
        mask = mask.bool()
        if not (tokens[mask].isfinite().all() and pooled.isfinite().all()):
            raise ValueError(f"{self.name} must make finite numbers, got others of {texts[0]!r} or those after it")
        return Text(tokens.float(), mask, pooled.float())


def _counts(made: Text) -> list[int]:
    """Places that each text needs: up to the last with a word."""
    numbers = torch.arange(1, made.mask.shape[1] + 1)
    return [int(count) for count in (made.mask * numbers).amax(1)]


def _shapes(*parts: Tensor) -> str:
    return ", ".join(str(tuple(part.shape)) for part in parts)
