"""What was read once is kept: one pass over a source checks it and writes a file that later starts only map.

    <cache>/<key>/  x.bin  y.bin  about.json        the key is a hash of what the source is and when its files changed

A source hands its samples over in blocks, so that a data set larger than memory goes through. The folder is
`PATHLINE_CACHE`, else `pathline` in the user's folder for caches; it can be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathline.data.source import Array, Normalisation, Rows, Samples, Source

VERSION = 1  # of what is written, so that an older pathline's files are not read
IN_MEMORY = 1 << 26  # bytes: what is smaller is read whole


@dataclass(frozen=True)
class Block:
    """Some samples in the order of the source.

    Attributes:
        x: Of shape `(samples, *shape)`; all blocks of a source have one shape and one dtype.
        y: Class indices, or numbers of shape `(samples, numbers)`, in one dtype; None in all blocks or in none.
    """

    x: NDArray[Any]
    y: NDArray[Any] | None = None


@dataclass(frozen=True)
class About:
    """What is known of a source once all of it was read."""

    title: str
    licence: str = "not stated"
    source: str = ""
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    normalisation: Normalisation | None = None
    relabel: tuple[int, ...] = ()
    """The index of each class that was handed over, among `classes`: names are known in their order only at the end."""


class CachedSource(Source):
    """A source that is read once."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What settles the samples, as plain values: names and options, sizes and times of change of all files.

        Raises:
            ValueError: If there is nothing to read.
        """

    @abstractmethod
    def read(self) -> Iterator[Block | About]:
        """All samples in blocks, and last of all what is known of them.

        Raises:
            ValueError: If something in the source is wrong.
        """

    def load(self) -> Samples:
        """All samples: small ones in memory, others in a mapped file.

        Raises:
            ValueError: If something in the source is wrong, or the cache cannot be written.
        """
        key = json.dumps({"version": VERSION, "kind": type(self).__name__, **self.identity()}, sort_keys=True)
        folder = cache_folder() / hashlib.sha256(key.encode()).hexdigest()[:24]
        if not (folder / "about.json").is_file():
            self._write(folder)
        return _load(folder)

    def _write(self, folder: Path) -> None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as name:
                temporary = Path(name) / "whole"
                temporary.mkdir()
                _copy(self.read(), temporary)
                if not folder.exists():  # another process may have been faster
                    temporary.rename(folder)
        except OSError as error:
            if not str(error.filename or "").startswith(str(folder.parent)):
                raise
            raise ValueError(
                f"cannot keep what was read in {folder.parent}: {error.strerror}; name another folder in PATHLINE_CACHE"
            ) from error


def cache_folder() -> Path:
    """Where what was read is kept."""
    if "PATHLINE_CACHE" in os.environ:
        return Path(os.environ["PATHLINE_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "pathline"


def files_of(paths: Iterator[Path] | list[Path]) -> list[tuple[str, int, int]]:
    """What tells that a file has changed: its path, size and time of change."""
    found = [(path, path.stat()) for path in paths]
    return [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path, stat in found]


def _copy(parts: Iterator[Block | About], folder: Path) -> None:
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    count, digest, about = 0, hashlib.sha256(), None
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for part in parts:
            if isinstance(part, About):
                about = part
                continue
            for name, array in (("x", part.x), ("y", part.y)):
                if array is None:
                    continue
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{name}.bin").open("wb"))
                    shapes[name] = (array.dtype.name, array.shape[1:])
                assert (array.dtype.name, array.shape[1:]) == shapes[name]  # a reader's promise
                data = np.ascontiguousarray(array).data
                files[name].write(data)
                digest.update(data)
            count += len(part.x)
    assert about is not None
    assert count
    kept = {
        "title": about.title,
        "licence": about.licence,
        "source": about.source,
        "classes": about.classes,
        "columns": about.columns,
        "numbers": about.numbers,
        "normalisation": about.normalisation and (about.normalisation.shift, about.normalisation.scale),
        "relabel": about.relabel,
        "digest": digest.hexdigest(),
        "count": count,
        "arrays": shapes,
    }
    (folder / "about.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _load(folder: Path) -> Samples:
    try:
        about = json.loads((folder / "about.json").read_bytes())
        units = about["normalisation"] and Normalisation(*map(_plain, about["normalisation"]))
        arrays: dict[str, Array] = {
            name: _mapped(folder / f"{name}.bin", dtype, (about["count"], *shape))
            for name, (dtype, shape) in about["arrays"].items()
        }
        y = arrays.get("y")
        return Samples(
            x=arrays["x"],
            y=None if y is None else _relabelled(y[:], about["relabel"]),
            classes=tuple(about["classes"]),
            normalisation=units,
            title=about["title"],
            licence=about["licence"],
            source=about["source"],
            columns=tuple(about["columns"]),
            fingerprint=about["digest"],
            numbers=tuple(about["numbers"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}, a cache, is damaged: {error}; remove it, and the data is read again") from error


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> Array:
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes of {size}")
    if size <= IN_MEMORY:
        return torch.from_numpy(np.fromfile(path, dtype).reshape(shape))
    # copy-on-write, as torch has no tensors that cannot be written
    return Rows(torch.from_numpy(np.memmap(path, dtype, "c", shape=shape)))


def _relabelled(y: Tensor, relabel: list[int]) -> Tensor:
    return torch.tensor(relabel)[y.long()] if relabel else y


def _plain(value: float | list[float]) -> float | tuple[float, ...]:
    return tuple(value) if isinstance(value, list) else value
