"""A run is a folder: its settings, its metrics, its checkpoints, its pictures, and the model that came of it.

config.json  metrics.jsonl  README.md  checkpoints/step-XXXXXXXX/  samples/  tuned/  likelihood/  verify/
source.safetensors for a bridge, numbers.safetensors for a model conditioned on numbers
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from pathline.config import Config, config_from
from pathline.data.source import Normalisation, Samples
from pathline.fields.field import Field
from pathline.fields.guidance import ClassifierFree
from pathline.fields.network import NetworkField
from pathline.noise import Noise
from pathline.training import checkpoint
from pathline.training.checkpoint import Checkpoint

START_STREAM, NUMBERS_STREAM = 12, 14
SOURCE, NUMBERS = "source.safetensors", "numbers.safetensors"
TENSOR = "x"  # the name of the only one in such a file
LOCK = ".lock"
KEPT = 1000  # training samples whose numbers are kept, for samples to be drawn under
PARTS = (
    *("config.json", SOURCE, NUMBERS, "metrics.jsonl", "README.md", "checkpoints"),
    *("samples", "tuned", "likelihood", "verify", "tensorboard"),
)


@dataclass(frozen=True)
class Run:
    """A run folder that exists.

    Attributes:
        folder: Where it is.
        config: Its settings.
        shape: The shape of a sample.
        classes: The names of the classes, if any.
        normalisation: Between the units of the data and the model's.
        columns: The names of a vector's entries, if any.
        digest: Of the samples that it is trained on, so that a change of them is seen; empty where it was not kept.
        numbers: The names of the numbers that it is conditioned on, if any.
        normalisation_of_numbers: Between the units of the numbers and the model's.
        hashes: The sha256 of what is kept beside the settings, by the name of its file.
    """

    folder: Path
    config: Config
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    normalisation: Normalisation
    columns: tuple[str, ...] = ()
    digest: str = ""
    numbers: tuple[str, ...] = ()
    normalisation_of_numbers: Normalisation | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def create(
        cls, folder: Path, config: Config, samples: Samples, has_consent: bool = False, source: Tensor | None = None
    ) -> Run:
        """Make the folder and write its config.json.

        Args:
            folder: Where; it must not exist, or be empty, unless there is consent to replace the run in it.
            config: The settings.
            samples: The data it will be trained on.
            has_consent: To remove what an earlier run left there.
            source: What a bridge begins at, in the units of the model: it is kept in the run.

        Raises:
            ValueError: If something is there already, or the folder cannot be written.
        """
        _refuse_to_replace(folder, has_consent)
        parts = {} if source is None else {SOURCE: safetensors.torch.save({TENSOR: source})}
        if samples.numbers and samples.y is not None:
            rows = Noise(config.seed, stream=NUMBERS_STREAM).permutation(len(samples))[:KEPT]
            parts[NUMBERS] = safetensors.torch.save({TENSOR: samples.y[rows]})
        run = cls(
            folder,
            config,
            samples.shape,
            samples.classes,
            samples.units,
            samples.columns,
            samples.digest,
            samples.numbers,
            samples.units_of_numbers,
            {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
        )
        about = {name: value for name, value in asdict(run).items() if name not in ("folder", "config")}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with run.locked():
                _refuse_to_replace(folder, has_consent)  # another process may have been faster
                if (folder / "config.json").exists():
                    for part in (folder / name for name in reversed(PARTS)):  # it is a run until its config.json goes
                        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
                run.samples_folder.mkdir(exist_ok=True)
                for name, data in parts.items():
                    (folder / name).write_bytes(data)
                write_whole(folder / "config.json", json.dumps(config.to_dict() | {"samples": about}, indent=2) + "\n")
        except OSError as error:
            raise ValueError(f"cannot write to {folder}: {error.strerror}; name another folder with --out") from error
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run in a folder.

        Raises:
            ValueError: If there is none, or its config.json is damaged.
        """
        path = folder / "config.json"
        if not path.is_file():
            raise ValueError(f"{folder} is no run folder: it has no config.json; train one with pathline train")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            about = values.pop("samples")
            units = _units(about["normalisation"])
            of_numbers = _units(about["normalisation_of_numbers"]) if about.get("numbers") else None
            shape = tuple(int(size) for size in about["shape"])
            classes, columns, numbers = (
                tuple(map(str, names))
                for names in (about["classes"], about.get("columns", []), about.get("numbers", []))
            )
            digest, hashes = str(about.get("digest", "")), dict(about.get("hashes", {}))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__} {error}; restore it, or train again") from None
        config = config_from(values, path)
        return cls(folder, config, shape, classes, units, columns, digest, numbers, of_numbers, hashes)

    @property
    def samples_folder(self) -> Path:
        """Where pictures go."""
        return self.folder / "samples"

    @property
    def tuned_folder(self) -> Path:
        """Where solvers that were fitted to the model are kept."""
        return self.folder / "tuned"

    def log(self, **values: Any) -> None:
        """Add a line to metrics.jsonl."""
        path = self.folder / "metrics.jsonl"
        with _named(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, but for one at the end that is being written, or that a kill cut short.

        Raises:
            ValueError: If another is damaged.
        """
        path, found = self.folder / "metrics.jsonl", []
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), start=1):
            try:
                found.append(dict(json.loads(line)))
            except (ValueError, TypeError):
                raise ValueError(f"{path} is damaged in line {number}: {line[:60]!r} is not JSON; remove it") from None
        return found

    def forget_after(self, step: int) -> None:
        """Drop lines of metrics.jsonl beyond a step, and one that a kill cut short: the run goes on from there."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in self.metrics() if line.get("step", 0) <= step]
            write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))

    def checkpoint(self, step: int | None = None) -> Checkpoint:
        """The checkpoint of a step, or the last that is whole: a warning names those that are not.

        Raises:
            ValueError: If there is none, or it is damaged.
        """
        return checkpoint.newest(self.folder) if step is None else checkpoint.load(self.folder, step)

    def source(self) -> Tensor | None:
        """What a bridge begins at, in the units of the model; None for noise.

        Raises:
            ValueError: If it is missing or damaged.
        """
        if not self.config.is_bridge:
            return None
        return self._part(SOURCE, "where the bridge begins")

    def start(self, count: int, seed: int = 0) -> Tensor | None:
        """Where samples begin: for a bridge, some of its source, else None, for noise."""
        found = self.source()
        if found is None:
            return None
        return found[Noise(seed, stream=START_STREAM).rows(count, len(found))]

    def kept_numbers(self) -> Tensor:
        """The numbers of some training samples in random order, of shape `(samples, numbers)`, in their own units.

        Raises:
            ValueError: If they are missing or damaged.
        """
        return self._part(NUMBERS, "numbers to make samples under")

    def _part(self, name: str, what: str) -> Tensor:
        """A tensor that is kept beside the settings."""
        try:
            data = (self.folder / name).read_bytes()
            if self.hashes.get(name, "") not in ("", hashlib.sha256(data).hexdigest()):
                raise ValueError("its bytes are not the ones written")
            return safetensors.torch.load(data)[TENSOR]
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise ValueError(f"{self.folder / name}, {what}, cannot be read: {error}") from None

    def conditions(self, y: Tensor) -> Tensor:
        """Conditions as the model sees them: class indices as they are, numbers in its own units."""
        return y if self.normalisation_of_numbers is None else self.normalisation_of_numbers.into(y)

    def field(self, step: int | None = None) -> NetworkField:
        """The trained field, with its averaged weights, in eval mode."""
        return self.field_at(self.checkpoint(step))

    def field_at(self, found: Checkpoint) -> NetworkField:
        """The field as it was at a checkpoint, with its averaged weights, in eval mode."""
        field = self.new_field()
        checkpoint.load_weights(field, found.model | found.ema, found.folder)
        return field.eval()

    def new_field(self) -> NetworkField:
        """The field as it was before training."""
        return self.config.field(self.shape, len(self.classes), len(self.numbers))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The run as this process's own: a second trainer is refused, and one that is killed leaves no lock behind.

        Raises:
            ValueError: If another process trains it.
        """
        with (self.folder / LOCK).open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{self.folder} is being trained by another process; wait until it ends, or stop it"
                ) from None
            yield


def write_whole(path: Path, text: str) -> None:
    """Write a file at once: whoever looks, or kills, finds the old one or the new."""
    other = path.with_name(f".{path.name}")
    with _named(path):
        try:
            with other.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            other.replace(path)
        finally:
            other.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong in writing a file, with its name: a full disk tells none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _units(about: Any) -> Normalisation:
    return Normalisation(_numbers(about["shift"]), _numbers(about["scale"]))


def _numbers(value: Any) -> float | tuple[float, ...]:
    return tuple(float(number) for number in value) if isinstance(value, list) else float(value)


def _refuse_to_replace(folder: Path, has_consent: bool) -> None:
    """Refuse a folder that is not empty, and even with consent one that is no run."""
    if not folder.exists() or (folder.is_dir() and _is_begun(folder)):
        return
    if not has_consent:
        raise ValueError(
            f"{folder} exists already and is left as it is; go on with --resume {folder}, "
            "name another folder with --out, or replace it with --overwrite"
        )
    Run.open(folder)


def _is_begun(folder: Path) -> bool:
    """Whether a folder holds nothing, or what a run left that was killed before it had its config.json."""
    names = {path.name for path in folder.iterdir()}
    return names <= {SOURCE, NUMBERS, "samples", LOCK, ".config.json"}


def guided(field: NetworkField, y: Any, w: float = 1.0) -> Field:
    """The field under a condition, with guidance of scale w."""
    return ClassifierFree(field.given(y), field.given(None), w)
