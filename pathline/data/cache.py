"""What was read once is kept: one pass over a source checks it and writes files that later starts only map.

    <cache>/<key>/  about.json  x.bin  class.bin  numbers.bin  text.bin  captions.json  units-*.json

The key is a hash of what the source is called.

A source hands its samples over in blocks, so that a data set larger than memory goes through. A folder appears under
its key all at once, when everything in it is on the disk; one that was changed since, or whose source was, is made
anew. All of them are in `PATHLINE_CACHE`, else in `pathline` in the user's folder for caches, and can be removed at any
time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from pathline.conditions import KINDS, NUMBERS
from pathline.data.mapped import Mapped, wide
from pathline.data.normalisation import Normalisation
from pathline.data.rows import BLOCK, Array, Rows
from pathline.data.source import Samples, Source

VERSION = 6  # of what is written, so that another pathline's files are not read
CAPTIONS = "captions.json"
IN_MEMORY = 1 << 26  # bytes: what is smaller is read whole
ABANDONED = 3600  # seconds after which what nobody has written to is a dead process's
HEX = "[0-9a-f]" * 24  # a key, as a pattern


@dataclass(frozen=True)
class Block:
    """Some samples in the order of the source.

    Attributes:
        x: Of shape `(samples, *shape)`; all blocks of a source have one shape and one dtype.
        y: Conditions by their kind, the same kinds in all blocks, each in one dtype: indices of classes and of
            captions, and numbers of shape `(samples, numbers)`.
    """

    x: NDArray[Any]
    y: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class InFile:
    """That `x` lies in a file as it is: a reader that says so first has its blocks looked at, and not copied.

    Attributes:
        path: Of the file.
        dtype: NumPy's name of the numbers' type.
        offset: The byte where they begin; they lie in the order of C.
    """

    path: str
    dtype: str
    offset: int


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
    captions: tuple[str, ...] = ()
    """Those that are different, in the order of their indices."""
    class_type: str = ""
    """What the values of classes are, of `classes.TYPES`; as the names have it unless given."""
    left_out: str = ""
    """What each start warns of: the bad samples that were left out."""
    is_ink: bool = False


class CachedSource(Source):
    """A source that is read once."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What settles the samples, as plain values.

        The value of `files` tells that a file has changed, as that of `files_of` does; all the others say what the
        source is: names and options.

        Raises:
            ValueError: If there is nothing to read.
        """

    @abstractmethod
    def read(self) -> Iterator[Block | InFile | About]:
        """All samples in blocks, and last of all what is known of them.

        Raises:
            ValueError: If something in the source is wrong.
        """

    def load(self) -> Samples:
        """All samples, in floats: small ones in memory, others in a mapped file.

        Raises:
            ValueError: If something in the source is wrong, or the cache cannot be written.
        """
        identity = dict(self.identity())
        stamp = _hash([VERSION, identity])
        files = identity.pop("files", "")
        named = [path for path, *_ in files] if isinstance(files, list | tuple) else []
        folder = cache_folder() / _hash([type(self).__name__, identity, named])
        found = _load(folder, stamp)
        if found is None:
            with _alone(folder):
                found = _load(folder, stamp)  # another process may have been faster
                if found is None:
                    self._write(folder, stamp)
                    found = _load(folder, stamp)
        if found is None:
            raise ValueError(f"{folder} was changed while it was written; start again")
        samples, left_out = found
        if left_out:
            warnings.warn(f"{samples.source}: {left_out}", stacklevel=2)
        return samples

    def _write(self, folder: Path, stamp: str) -> None:
        with ExitStack() as stack:
            with _told(folder.parent):
                _sweep(folder.parent)
                draft = Path(
                    stack.enter_context(
                        tempfile.TemporaryDirectory(
                            prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
                        )
                    )
                )
                whole = draft / "whole"  # with the user's permissions: the draft has its owner's alone
                whole.mkdir()
                if folder.exists() and _load(folder, stamp) is None:
                    folder.rename(draft / "old")
            name = _copy(self.read(), whole, stamp)
            if _hash([VERSION, dict(self.identity())]) != stamp:
                raise ValueError(f"{name} was changed while it was read; start again once it is whole")
            with _told(folder.parent):
                try:
                    whole.rename(folder)
                except OSError:  # where files cannot be locked, another process may have been faster
                    if _load(folder, stamp) is None:
                        raise


def cache_folder() -> Path:
    """Where what was read is kept.

    Raises:
        ValueError: If nothing says where.
    """
    if os.environ.get("PATHLINE_CACHE"):
        return Path(os.environ["PATHLINE_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "pathline"
    try:
        return Path.home() / ".cache" / "pathline"
    except RuntimeError:
        raise ValueError("there is no home folder to keep what is read in; name a folder in PATHLINE_CACHE") from None


def free_bytes() -> int:
    """The room that is left where what was read is kept."""
    folder = cache_folder().absolute()
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def files_of(paths: Iterator[Path] | list[Path]) -> list[tuple[str, list[int]]]:
    """What tells that a file has changed: its path and its state."""
    return [(str(path.resolve()), state_of(path.stat())) for path in paths]


def state_of(stat: os.stat_result) -> list[int]:
    """What changes with a file: one put in its place may have its size and time, but is another or was just renamed."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


@contextmanager
def _told(place: Path, need: int = 0) -> Iterator[None]:
    """Says what to do where the cache cannot be written."""
    try:
        yield
    except OSError as error:
        room = ""
        with suppress(OSError):
            room = f" ({need:,} bytes or more are needed, and {free_bytes():,} are free)" if need else ""
        raise ValueError(
            f"cannot keep what was read in {place}: {error.strerror}{room}; name a folder with more room in "
            "PATHLINE_CACHE"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lets in one process at a time, where files can be locked; elsewhere, several may do the same work."""
    with ExitStack() as stack:
        place = folder.with_name(f".{folder.name}.lock")
        with _told(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(place.open("a"))
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                place.unlink()


def _sweep(place: Path) -> None:
    """Removes what processes left that were killed."""
    for old in (*place.glob(f".{HEX}-*"), *place.glob(f".{HEX}.lock")):
        with suppress(OSError):
            if max(path.stat().st_mtime for path in (old, *old.rglob("*"))) < time.time() - ABANDONED:
                shutil.rmtree(old) if old.is_dir() else old.unlink()


# ---- writing


def _copy(parts: Iterator[Block | InFile | About], folder: Path, stamp: str) -> str:
    """Writes all parts, and `about.json` last; gives what the data is called."""
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    lies: InFile | None = None
    about: About | None = None
    count, written, digest = 0, 0, hashlib.sha256()
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for part in parts:
            if isinstance(part, About):
                about = part
                continue
            if isinstance(part, InFile):
                lies = part
                continue
            for name, array in {"x": part.x, **part.y}.items():
                kind = kinds.setdefault(name, (array.dtype.str, array.shape[1:]))
                assert (array.dtype.str, array.shape[1:]) == kind  # a reader's promise
                data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                if name == "x":
                    digest.update(data)
                if name == "x" and lies is not None:
                    continue
                written += len(data)
                with _told(folder.parent.parent, written):
                    if name not in files:
                        files[name] = stack.enter_context((folder / f"{name}.bin").open("w+b"))
                    files[name].write(data)
            count += len(part.x)
        assert about is not None
        assert count
        with _told(folder.parent.parent, written):
            conditions = [each for each in KINDS if each in files]
            for each in conditions:
                digest.update(each.encode() if len(conditions) > 1 else b"")
                _settle(files[each], kinds[each][0], each, about.relabel, digest)
            if about.captions:
                letters = json.dumps(about.captions).encode()
                digest.update(letters)
                files["captions"] = stack.enter_context((folder / CAPTIONS).open("wb"))
                files["captions"].write(letters)
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
    arrays: dict[str, dict[str, Any]] = {
        name: {"path": f"{name}.bin", "dtype": dtype, "shape": [count, *shape], "offset": 0}
        for name, (dtype, shape) in kinds.items()
    }
    if lies is not None:
        arrays["x"] |= asdict(lies)
    for kept in arrays.values():
        kept["stat"] = state_of((folder / kept["path"]).stat())
    captions = state_of((folder / CAPTIONS).stat()) if about.captions else None
    whole = asdict(about) | {"digest": digest.hexdigest(), "arrays": arrays, "stamp": stamp}
    whole |= {"captions": captions}  # many, so that they have a file of their own
    with _told(folder.parent.parent, written), (folder / "about.json").open("w", encoding="utf-8") as out:
        json.dump({"about": whole, "check": _hash(whole)}, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    return about.source or about.title


def _settle(file: BinaryIO, dtype: str, kind: str, relabel: tuple[int, ...], digest: Any) -> None:
    """Gives classes their numbers in order, in place, and hashes what stands there for a condition."""
    order = np.array(relabel, dtype)
    file.seek(0)
    while data := file.read(BLOCK // 8 * np.dtype(dtype).itemsize):
        y = np.frombuffer(data, dtype)
        if relabel and kind == "class":
            y = order[y]
            file.seek(-len(data), os.SEEK_CUR)
            file.write(y.data)
        digest.update(y if kind == "numbers" else y.astype(np.int64))


# ---- reading


def _load(folder: Path, stamp: str) -> tuple[Samples, str] | None:
    """What is kept, and what was left out; None if nothing is, or it was changed, or its source was since."""
    try:
        kept = json.loads((folder / "about.json").read_bytes())
        about = kept["about"]
        if about["stamp"] != stamp or kept["check"] != _hash(about):
            return None
        units = about["normalisation"] and Normalisation.from_dict(about["normalisation"])
        arrays = about["arrays"]
        y = {kind: torch.from_numpy(_read(folder, arrays[kind])) for kind in KINDS if kind in arrays}
        samples = Samples(
            x=_rows(folder, arrays["x"], folder / f"units-{about['digest'][:24]}"),
            y={kind: each if kind == NUMBERS else each.long() for kind, each in y.items()},
            classes=tuple(about["classes"]),
            normalisation=units,
            title=about["title"],
            licence=about["licence"],
            source=about["source"],
            columns=tuple(about["columns"]),
            fingerprint=about["digest"],
            numbers=tuple(about["numbers"]),
            is_ink=bool(about["is_ink"]),
            captions=_captions(folder / CAPTIONS, about["captions"]) if about["captions"] else (),
            class_type=about["class_type"],
        )
        return samples, str(about["left_out"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(folder: Path, kept: Mapping[str, Any]) -> NDArray[Any]:
    path, shape = folder / kept["path"], tuple(kept["shape"])
    if state_of(path.stat()) != kept["stat"]:
        raise ValueError
    return np.fromfile(path, kept["dtype"], math.prod(shape), offset=kept["offset"]).reshape(shape)


def _captions(path: Path, state: list[int]) -> tuple[str, ...]:
    if state_of(path.stat()) != state:
        raise ValueError
    return tuple(json.loads(path.read_bytes()))


def _rows(folder: Path, kept: Mapping[str, Any], memo: Path) -> Array:
    path, dtype, shape = folder / kept["path"], np.dtype(kept["dtype"]), tuple(kept["shape"])
    if math.prod(shape) * np.dtype(wide(dtype)).itemsize <= IN_MEMORY:
        return torch.from_numpy(_read(folder, kept).astype(wide(dtype)))
    if state_of(path.stat()) != kept["stat"]:
        raise ValueError
    return Rows(Mapped(path, dtype, shape, kept["offset"]), memo=memo)
