"""The captions of a data set, encoded once: what a trained encoder makes of them is kept beside the data.

    <cache>/text/<encoder>-<captions>/  text.safetensors  manifest.json      both are hashes

Only places that hold a word are kept, of distinct captions, and they are read where they lie. A folder appears under
its name all at once, when everything in it is on the disk; one that is damaged is made anew. It can be removed at any
time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pathline.data.cache import ABANDONED, HEX, cache_folder
from pathline.data.rows import Rows
from pathline.networks.text import Text
from pathline.text.encoder import Encoder, digest_of, null, texts_of

CHUNK = 1024  # captions between two reports
LARGE = 1 << 28  # bytes of vectors of tokens: more are kept in float16
FILE, MANIFEST = "text.safetensors", "manifest.json"


class Packed(NamedTuple):
    """Encoded captions as they are kept: tokens of shape `(words of all captions, features)`, and the rest."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class Padded:
    """Tokens of captions, packed: those of a caption are set in its places when it is asked for; rows as of a tensor.

    Args:
        tokens: Of all captions, one after another, of shape `(words of all captions, *shape)`; float16 becomes float32.
        mask: Which places of a caption hold them, of shape `(captions, length)`.
    """

    def __init__(self, tokens: Tensor, mask: Tensor) -> None:
        self.tokens, self.mask = tokens, mask
        counts = mask.sum(1)
        self.first = counts.cumsum(0) - counts

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all rows, as a tensor would have it."""
        return (*self.mask.shape, *self.tokens.shape[1:])

    @property
    def ndim(self) -> int:
        """The number of dimensions, the rows' own included."""
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        mask = self.mask[index]
        found = self.tokens.new_zeros(*mask.shape, *self.tokens.shape[1:])
        found[mask] = self.tokens[(self.first[index, None] + mask.cumsum(1) - 1)[mask]]
        return found.float() if found.dtype == torch.float16 else found


def embedded(encoder: Encoder, captions: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Text:
    """All captions, encoded and in their order; each is encoded once, and read from the cache the next time.

    The parts are `Rows`, which give a caption when it is asked for: what is kept stays on the disk, and is shared by
    all processes that read it. Words that are learned with the model are numbered at once, and what a function makes
    is not settled by its name: these stay in memory. Vectors of tokens beyond 256 MB are rounded to float16, so that
    they are the same each time.

    Args:
        encoder: As it was fitted to the captions.
        captions: Any number, some of which may be the same.
        progress: Told how many captions are encoded, and how many there are.

    Raises:
        ValueError: If a caption is too long for the encoder.
    """
    captions = texts_of(captions)
    distinct = sorted(set(captions), key=lambda caption: (len(caption), caption))  # those of a length are fast together
    row = {caption: number for number, caption in enumerate(distinct)}
    rows = torch.tensor([row[caption] for caption in captions], dtype=torch.int64)
    packed = (
        _kept(encoder, distinct, progress) if encoder.is_kept and distinct else _packed(encoder, distinct, progress)
    )
    parts: list[Any] = [Rows(part, rows) for part in (Padded(packed.tokens, packed.mask), packed.mask, packed.pooled)]
    return Text(*parts)


def _kept(encoder: Encoder, distinct: list[str], progress: Callable[[int, int], None] | None) -> Packed:
    folder = cache_folder() / "text" / f"{encoder.digest[:24]}-{digest_of(distinct)[:24]}"
    found = _load(folder)
    if found is not None:
        return found
    encoder.check(distinct)  # rather now than at the last caption
    made = _packed(encoder, distinct, progress)
    try:
        _write(folder, made)
    except OSError as error:
        warnings.warn(
            f"encoded captions cannot be kept in {folder.parent}: {error.strerror}; they are made anew next time, "
            "unless PATHLINE_CACHE names a folder with room",
            stacklevel=3,
        )
    return _load(folder) or made


def _packed(encoder: Encoder, texts: list[str], progress: Callable[[int, int], None] | None) -> Packed:
    empty = null(encoder.form, 0)
    found = [Packed(empty.tokens[empty.mask], empty.mask, empty.pooled)]
    for start in range(0, len(texts), CHUNK):
        text = encoder.encode(texts[start : start + CHUNK])
        found.append(Packed(text.tokens[text.mask], text.mask, text.pooled))
        if progress is not None:
            progress(min(start + CHUNK, len(texts)), len(texts))
    tokens, mask, pooled = (torch.cat(parts) for parts in zip(*found, strict=True))
    if encoder.is_kept and tokens.nbytes > LARGE and tokens.abs().max() < torch.finfo(torch.float16).max:
        tokens = tokens.half()
    return Packed(tokens, mask, pooled)


# ---- on the disk


def _write(folder: Path, packed: Packed) -> None:
    """Write a folder whole; where another process was faster, its folder stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
    ) as temporary:
        draft = Path(temporary)
        whole = draft / "whole"  # with the user's permissions: the draft has its owner's alone
        whole.mkdir()
        path = whole / FILE
        try:
            safetensors.torch.save_file(packed._asdict(), path)
        except SafetensorError as error:  # a full disk, most likely
            raise OSError(0, str(error)) from error
        manifest = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        (whole / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
        path.chmod((whole / MANIFEST).stat().st_mode)
        for written in (path, whole / MANIFEST):
            with written.open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists() and _load(folder) is None:
            folder.rename(draft / "old")
        try:
            whole.rename(folder)
        except OSError:
            if _load(folder) is None:
                raise


def _load(folder: Path) -> Packed | None:
    """What is kept; None if nothing is, or it is damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["sha256"] != _sha256(folder / FILE):
            return None
        found = safetensors.torch.load_file(folder / FILE)
        return Packed(found["tokens"], found["mask"], found["pooled"])  # as they lie in the file
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sweep(place: Path) -> None:
    """Removes what processes left that were killed."""
    for old in place.glob(f".{HEX}-{HEX}-*"):
        with suppress(OSError):
            if max(path.stat().st_mtime for path in (old, *old.rglob("*"))) < time.time() - ABANDONED:
                shutil.rmtree(old)
