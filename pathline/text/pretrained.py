"""Models of the package transformers, by folder or name: found, hashed, and read from safetensors alone."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",), ("spiece.model",)  # one of these
OTHERS = ("config.json", "tokenizer_config.json")
FETCHED = [WEIGHTS, INDEX, "model-*.safetensors", *OTHERS, *(name for one in TOKENIZERS for name in one)]


@dataclass(frozen=True)
class Pretrained:
    """A model of transformers in its folder; each part is read when it is needed first.

    Attributes:
        source: The folder, or the name on Hugging Face.
        title: What errors call it.
        loader: The class that reads it.
        types: What it may call itself in its configuration.
    """

    source: str
    title: str
    loader: str
    types: tuple[str, ...]

    @cached_property
    def folder(self) -> Path:
        """Where it lies; it is fetched if need be, but for where HF_HUB_OFFLINE says not to."""
        place = Path(self.source).expanduser()
        if place.is_file():
            raise ValueError(f"{self.title} names a file; name the folder that it is in")
        if place.is_dir():
            return place
        is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        hub = package("huggingface_hub", self.title)
        try:
            return Path(hub.snapshot_download(self.source, allow_patterns=FETCHED, local_files_only=is_offline))
        except Exception as error:  # it has no error of its own for all that can go wrong on the way
            hint = "HF_HUB_OFFLINE is set, so that it must have been fetched before" if is_offline else _line(error)
            raise ValueError(
                f"cannot find the model {self.title}: it is no folder here, nor can it be had from Hugging Face "
                f"({hint}); name a folder, or a model as owner/name"
            ) from error

    @cached_property
    def files(self) -> list[Path]:
        """What settles its vectors: the files of the configuration, the tokenizer and the weights."""
        if not (self.folder / "config.json").is_file():
            raise ValueError(f"{self.title} holds no model: {self.folder} has no config.json")
        weights = [WEIGHTS]
        if not (self.folder / WEIGHTS).is_file():
            weights = [INDEX, *_parts(self.folder / INDEX)] if (self.folder / INDEX).is_file() else []
        if not weights:
            pickles = sorted(path.name for end in ("bin", "pt", "pth", "ckpt") for path in self.folder.glob(f"*.{end}"))
            found = f"only {pickles[0]}, which may run code as it is read" if pickles else "no weights"
            raise ValueError(
                f"{self.title} must have its weights in {WEIGHTS}, got {found}; read it where you trust it, and "
                "write it with save_pretrained"
            )
        tokenizer = next((one for one in TOKENIZERS if all((self.folder / name).is_file() for name in one)), ())
        if not tokenizer:
            raise ValueError(f"{self.title} has no tokenizer; put its tokenizer.json beside the weights")
        names = [name for name in OTHERS if (self.folder / name).is_file()]
        for name in weights:
            if not (self.folder / name).is_file():
                raise ValueError(f"{self.title} is not whole: {name} is missing; fetch it again")
        return [self.folder / name for name in (*names, *tokenizer, *weights)]

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each file."""
        found = {}
        for path in self.files:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        return found

    @cached_property
    def config(self) -> Any:
        """The configuration of the text model."""
        with self._reading("config.json"):
            config = self._transformers.AutoConfig.from_pretrained(
                self._settled, local_files_only=True, trust_remote_code=False
            )
        if config.model_type not in self.types:
            raise ValueError(f"{self.title} must be a model of type {self.types[0]}, got type {config.model_type}")
        return getattr(config, "text_config", config)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.config.hidden_size)

    @cached_property
    def tokenizer(self) -> Any:
        """What makes tokens of texts."""
        with self._reading("the tokenizer"):
            return self._transformers.AutoTokenizer.from_pretrained(
                self._settled, local_files_only=True, trust_remote_code=False
            )

    @cached_property
    def network(self) -> Any:
        """The model itself, in float32."""
        assert self.config
        with self._reading("the weights"):
            network, about = getattr(self._transformers, self.loader).from_pretrained(
                self._settled,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        if about["missing_keys"]:
            missing = sorted(about["missing_keys"])
            raise ValueError(f"{self.title} lacks {len(missing)} of its weights, such as {missing[0]}; fetch it again")
        return network.eval()

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """The numbers of the tokens of each text, uncut."""
        if not texts:
            return []
        return self.tokenizer(texts, padding=False, truncation=False, verbose=False)["input_ids"]  # type: ignore[no-any-return]

    @torch.no_grad()
    def output(self, numbers: Tensor) -> Any:
        """What it makes of texts of one number of tokens."""
        with torch.autocast("cpu", enabled=False):  # the caller's: the digest stands for these numbers
            return self.network(numbers)

    @property
    def _transformers(self) -> Any:
        return package("transformers", self.title)

    @property
    def _settled(self) -> str:
        """The folder, once it is known to hold what is needed."""
        assert self.files
        return str(self.folder)

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Keeps transformers quiet, and says what it was that could not be read."""
        settled, logging = self._settled, self._transformers.utils.logging
        verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        try:
            with warnings.catch_warnings(action="ignore"):
                yield
        except Exception as error:  # it has no error of its own for all that can be wrong with a file
            raise ValueError(f"{self.title}: {what} in {settled} cannot be read: {_line(error)}") from error
        finally:
            logging.set_verbosity(verbosity)
            if has_bar:
                logging.enable_progress_bar()


def _parts(index: Path) -> list[str]:
    """The files that weights are split into."""
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{index} cannot be read: {_line(error)}; fetch the model again") from error


def package(name: str, title: str) -> Any:
    """A package of the extra `text`, once it is needed.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f'the text encoder {title} needs a package: pip install "pathline[text]"') from None


def _line(error: Exception) -> str:
    """An error in one line, and not all of a long one."""
    return " ".join(str(error).split())[:200]
