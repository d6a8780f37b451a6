"""The captions of a data set, encoded once: what a trained encoder makes of them is kept beside the data.

    <cache>/text/<encoder>-<captions>/  text.safetensors  manifest.json      both are hashes

Only places that hold a word are kept, of distinct captions. A folder appears under its name all at once, when
everything in it is on the disk; one that is damaged is made anew. It can be removed at any time.
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
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pathline.data.cache import ABANDONED, HEX, cache_folder
from pathline.networks.text import Text
from pathline.text.encoder import Encoder, digest_of, texts_of

CHUNK = 1024  # captions between two reports
LARGE = 1 << 28  # bytes of vectors of tokens: more are kept in float16
FILE, MANIFEST = "text.safetensors", "manifest.json"


class Packed(NamedTuple):
    """Encoded captions as they are kept: tokens of shape `(words of all captions, features)`, and the rest."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


def embedded(encoder: Encoder, captions: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Text:
    """All captions, encoded and in their order; each is encoded once, and read from the cache the next time.

    Words that are learned with the model are numbered at once, and what a function makes is not settled by its name:
    these are not kept. Vectors of tokens beyond 256 MB are rounded to float16, so that they are the same each time.

    Args:
        encoder: As it was fitted to the captions.
        captions: Any number, some of which may be the same.
        progress: Told how many captions are encoded, and how many there are.

    Raises:
        ValueError: If a caption is too long for the encoder.
    """
    captions = texts_of(captions)
    distinct = sorted(set(captions))
    row = {caption: number for number, caption in enumerate(distinct)}
    rows = torch.tensor([row[caption] for caption in captions], dtype=torch.int64)
    if not (encoder.is_kept and distinct):
        return _rows(_encoded(encoder, distinct, progress), rows)
    folder = cache_folder() / "text" / f"{encoder.digest[:24]}-{digest_of(distinct)[:24]}"
    packed = _load(folder)
    if packed is None:
        encoder.check(distinct)  # rather now than at the last caption
        packed = _packed(_encoded(encoder, distinct, progress))
        try:
            _write(folder, packed)
        except OSError as error:
            warnings.warn(
                f"encoded captions cannot be kept in {folder.parent}: {error.strerror}; they are made anew next time, "
                "unless PATHLINE_CACHE names a folder with room",
                stacklevel=2,
            )
    return _rows(_unpacked(packed), rows)


def _encoded(encoder: Encoder, texts: list[str], progress: Callable[[int, int], None] | None) -> Text:
    """The texts, those of alike lengths at once, as these are fastest together."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    whole = Text(*(part.new_zeros(len(texts), *part.shape[1:]) for part in encoder.encode([""])))
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        for part, made in zip(whole, encoder.encode([texts[row] for row in rows]), strict=True):
            part[rows] = made
        if progress is not None:
            progress(start + len(rows), len(texts))
    return whole


def _rows(text: Text, rows: Tensor) -> Text:
    if torch.equal(rows, torch.arange(len(text.mask))):
        return text
    return Text(*(part[rows] for part in text))


def _packed(text: Text) -> Packed:
    tokens = text.tokens[text.mask]
    if tokens.nbytes > LARGE and tokens.abs().max() < torch.finfo(torch.float16).max:
        tokens = tokens.half()
    return Packed(tokens, text.mask, text.pooled)


def _unpacked(packed: Packed) -> Text:
    tokens = torch.zeros(*packed.mask.shape, packed.tokens.shape[-1])
    tokens[packed.mask] = packed.tokens.float()
    return Text(tokens, packed.mask, packed.pooled)


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
        return Packed(found["tokens"], found["mask"].clone(), found["pooled"].clone())  # the file may go
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
