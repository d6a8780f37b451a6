"""A run is a folder: its settings, its metrics, its checkpoints, its pictures, and the model that came of it.

config.json  metrics.jsonl  README.md  checkpoints/step-XXXXXXXX/  samples/  tuned/  likelihood/  verify/
outputs.jsonl, with the files that commands wrote from the model
source.safetensors for a bridge; conditions.safetensors for a model conditioned on numbers or text, with those of some
training samples; text.json for one conditioned on text, with what captions are read by, and some of them
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import reprlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.conditions import NUMBERS, TEXT, by_kind
from pathline.config import OF_THE_MODEL, Config, config_from
from pathline.data.codec import Codec, codec_of, type_of
from pathline.data.normalisation import Normalisation
from pathline.data.source import Samples
from pathline.fields.field import Field
from pathline.fields.guidance import ClassifierFree
from pathline.fields.network import NetworkField
from pathline.networks.text import Text
from pathline.noise import Noise
from pathline.quoting import quoted
from pathline.text.embedded import embedded
from pathline.text.encoder import Encoder, encoder_from
from pathline.training import checkpoint
from pathline.training.checkpoint import Checkpoint

START_STREAM, KEPT_STREAM = 12, 14
SOURCE, CONDITIONS, TEXT_FILE = "source.safetensors", "conditions.safetensors", "text.json"
OUTPUTS = "outputs.jsonl"
TENSOR, HELD_OUT = "x", "held_out"  # names in a file of tensors: the only one there, or that of the training samples
LABEL = "class"  # the column of classes in a table of samples, where the run's own data has no name for it
LOCK = ".lock"
KEPT = 1000  # training samples whose conditions are kept, for samples to be drawn under
PARTS = (
    *("config.json", SOURCE, CONDITIONS, TEXT_FILE, OUTPUTS, "metrics.jsonl", "README.md", "checkpoints"),
    *("samples", "tuned", "likelihood", "verify", "tensorboard"),
)


@dataclass(frozen=True)
class Leg:
    """A stretch of training under settings that are not those before it.

    Attributes:
        step: The step after which it begins.
        changed: The settings that are others from there on: each with its value before, and the one after.
    """

    step: int
    changed: Mapping[str, tuple[Any, Any]]

    def __str__(self) -> str:
        each = (f"{name} {before} to {after}" for name, (before, after) in self.changed.items())
        return f"from step {self.step:,}: {', '.join(each)}"


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
        class_type: What the values of the classes are, of `classes.TYPES`; as their names have it where it is empty.
        class_shares: The share of the training samples that each class has; empty where it was not kept.
        is_ink: Whether its pictures of one channel are ink on paper, as handwriting is: high values are drawn black.
        legs: Where training went on under other settings, in order; `config` has those of the last.
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
    class_type: str = ""
    class_shares: tuple[float, ...] = ()
    is_ink: bool = False
    legs: tuple[Leg, ...] = ()

    @classmethod
    def create(
        cls,
        folder: Path,
        config: Config,
        samples: Samples,
        has_consent: bool = False,
        source: Tensor | None = None,
        encoder: Encoder | None = None,
        held_out: Samples | None = None,
        held_out_source: Tensor | None = None,
    ) -> Run:
        """Make the folder and write its config.json.

        Args:
            folder: Where; it must not exist, or be empty, unless there is consent to replace the run in it.
            config: The settings.
            samples: The data it will be trained on.
            has_consent: To remove what an earlier run left there.
            source: What a bridge begins at, in the units of the model: it is kept in the run. A paired one has a row
                for each of `samples`.
            encoder: What captions are read by, as `encoder_for` makes it.
            held_out: What it is never trained on: some captions of what is `unseen` there are kept, to be sampled.
            held_out_source: What the paths of a paired bridge begin at for each of the held-out samples.

        Raises:
            ValueError: If something is there already, or the folder cannot be written.
        """
        _refuse_to_replace(folder, has_consent)
        begin = {TENSOR: source, HELD_OUT: held_out_source}
        found = {name: x for name, x in begin.items() if x is not None}
        parts = {SOURCE: safetensors.torch.save(found)} if found else {}
        if samples.numbers or encoder is not None:
            parts |= _kept(samples, config.seed, encoder, held_out)
        codec = codec_of(samples)
        run = cls(
            folder,
            config,
            samples.shape,
            codec.classes,
            samples.units,
            samples.columns,
            samples.digest,
            codec.numbers,
            codec.units,
            {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()},
            codec.class_type,
            codec.shares,
            samples.is_ink,
        )
        about = {name: value for name, value in asdict(run).items() if name not in ("folder", "config", "legs")}
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

    @staticmethod
    def check_place(folder: Path, has_consent: bool = False) -> None:
        """Refuse, before any work, a folder that `create` would refuse, or that cannot be made.

        Raises:
            ValueError: If so.
        """
        _refuse_to_replace(folder, has_consent)
        place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not place.is_dir():
            raise ValueError(f"cannot write to {folder}: {place} is a file; name another folder with --out")
        if not os.access(place, os.W_OK | os.X_OK):
            raise ValueError(f"cannot write to {folder}: {place} is read-only; name another folder with --out")

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder.

        Raises:
            ValueError: If there is none, or its config.json is damaged.
        """
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise ValueError(f"{folder} is no run folder: it has no config.json; train one with pathline train")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            about = values.pop("samples")
            units = Normalisation.from_dict(about["normalisation"])
            of_numbers = Normalisation.from_dict(about["normalisation_of_numbers"]) if about.get("numbers") else None
            shape = tuple(int(size) for size in about["shape"])
            classes, columns, numbers = (
                tuple(map(str, names))
                for names in (about["classes"], about.get("columns", []), about.get("numbers", []))
            )
            digest, hashes = str(about.get("digest", "")), dict(about.get("hashes", {}))
            class_type, shares = str(about.get("class_type", "")), tuple(map(float, about.get("class_shares", [])))
            is_ink = bool(about.get("is_ink", values.get("data") == "digits"))
            legs = tuple(_leg(each) for each in values.pop("legs", []))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: {type(error).__name__} {error}; restore it, or train again") from None
        config = config_from(values, path)
        known = (units, columns, digest, numbers, of_numbers, hashes, class_type, shares, is_ink, legs)
        return cls(folder, config, shape, classes, *known)

    @property
    def normalised(self) -> str:
        """What is done to the data before the model sees it, in words."""
        return "normalised: " + self.normalisation.told(self.columns, "channel" if len(self.shape) > 1 else "column")

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
            except (ValueError, TypeError, RecursionError):
                raise ValueError(f"{path} is damaged in line {number}: {line[:60]!r} is not JSON; remove it") from None
        return found

    def forget_after(self, step: int) -> None:
        """Drop lines of metrics.jsonl beyond a step, and one that a kill cut short: the run goes on from there."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [line for line in self.metrics() if line.get("step", 0) <= step]
            write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))

    def going_on(self, step: int, config: Config, is_kept: bool = True) -> Run:
        """The run as it goes on after a step; where settings are others from there on, config.json is to say so.

        A later leg, of which no checkpoint is left, begins there too.
        """
        names = [each.name for each in fields(Config)]
        old, new = self.config.to_dict(), config.to_dict()
        changed = {name: (old[name], new[name]) for name in names if old[name] != new[name]}
        legs = tuple(Leg(min(leg.step, step), leg.changed) for leg in self.legs)
        legs += (Leg(step, changed),) if changed else ()
        if is_kept and legs != self.legs:
            path = self.folder / "config.json"
            values = json.loads(path.read_text(encoding="utf-8")) | new
            write_whole(path, json.dumps(values | {"legs": [asdict(leg) for leg in legs]}, indent=2) + "\n")
        return replace(self, config=config, legs=legs)

    def seen(self, step: int) -> int:
        """The samples that training has taken up to a step: a leg may have had batches of another size."""
        sizes = [(leg.step, *leg.changed["batch_size"]) for leg in self.legs if "batch_size" in leg.changed]
        total, begun, size = 0, 0, sizes[0][1] if sizes else self.config.batch_size
        for begin, _, after in sizes:
            total, begun, size = total + (begin - begun) * size, begin, after
        return total + (step - begun) * size

    def checkpoint(self, step: int | None = None) -> Checkpoint:
        """The checkpoint of a step, or the last that is whole: a warning names those that are not.

        Raises:
            ValueError: If there is none, or it is damaged.
        """
        return checkpoint.newest(self.folder) if step is None else checkpoint.load(self.folder, step)

    def source(self) -> Tensor | None:
        """What a bridge begins at, in the units of the model; None for noise. A paired one has a row a training sample.

        Raises:
            ValueError: If it is missing or damaged.
        """
        return self._begin(TENSOR) if self.config.is_bridge else None

    def held_out_source(self) -> Tensor | None:
        """What a paired bridge begins at for each of the held-out samples; None for one that is not paired.

        Raises:
            ValueError: If it is missing or damaged.
        """
        return self._begin(HELD_OUT) if self.config.paired else None

    def _begin(self, name: str) -> Tensor:
        found = self._parts(SOURCE, "where the bridge begins")
        if name not in found:
            raise ValueError(f"{self.folder / SOURCE} has no samples called {name!r}; restore it, or train again")
        return found[name]

    def start(self, count: int, seed: int = 0, first: int = 0) -> Tensor | None:
        """Where samples begin, from the one with the index `first`: for a bridge, in its source; None for noise."""
        found = self.source()
        if found is None:
            return None
        return found[Noise(seed, first, START_STREAM).rows(count, len(found))]

    @property
    def codec(self) -> Codec:
        """Between conditions as users write them, and as the model takes them."""
        type_ = self.class_type or (type_of(self.classes) if self.classes else "")
        has_text = TEXT_FILE in self.hashes
        return Codec(self.classes, type_, self.class_shares, self.numbers, self.normalisation_of_numbers, has_text)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of condition that the model takes, of class, numbers and text."""
        return self.codec.kinds

    def kept(self) -> dict[str, Any]:
        """The conditions of some training samples in random order, by their kind, as `conditions` takes them.

        Raises:
            ValueError: If they are missing or damaged.
        """
        found: dict[str, Any] = dict(self._parts(CONDITIONS, "conditions to make samples under"))
        if TEXT in found:
            found[TEXT] = np.array(self._text["captions"])[found[TEXT].numpy()]
        return {kind: found[kind] for kind in self.kinds}

    @property
    def unseen_captions(self) -> list[str]:
        """Some captions of which nothing alike was trained on; none, if none were held out so."""
        return list(self._text["unseen"])

    @cached_property
    def encoder(self) -> Encoder:
        """What captions are read by.

        Raises:
            ValueError: If its file is missing or damaged, or what it names is not there or not the same any more.
        """
        return encoder_from(self._text["encoder"])

    @cached_property
    def _text(self) -> dict[str, Any]:
        return dict(json.loads(self._bytes(TEXT_FILE, "what captions are read by")))

    def _parts(self, name: str, what: str) -> dict[str, Tensor]:
        """The tensors that are kept beside the settings."""
        try:
            return safetensors.torch.load(self._bytes(name, what))
        except SafetensorError as error:
            raise ValueError(f"{self.folder / name}, {what}, cannot be read: {error}") from None

    def _bytes(self, name: str, what: str) -> bytes:
        try:
            data = (self.folder / name).read_bytes()
            if self.hashes.get(name, "") not in ("", hashlib.sha256(data).hexdigest()):
                raise ValueError("its bytes are not the ones written")
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.folder / name}, {what}, cannot be read: {error}") from None
        return data

    def conditions(self, y: Any) -> dict[str, Any] | None:
        """Conditions by their kind as the model sees them; None where there are none.

        Class indices are as they are, numbers come in the units of the data, and text as an array of captions.
        """
        return {kind: self._condition(kind, value) for kind, value in by_kind(y, self.kinds).items()} or None

    def _condition(self, kind: str, value: Any) -> Any:
        if kind == NUMBERS:
            assert self.normalisation_of_numbers is not None
            return self.normalisation_of_numbers.into(value)
        if kind == TEXT:
            texts, index = np.unique(np.asarray(value), return_inverse=True)
            return Text(*(part[torch.from_numpy(index)] for part in self.encoder.encode(texts.tolist())))
        return value

    def conditions_of(self, samples: Samples) -> dict[str, Any] | None:
        """The conditions of samples of the run's data as the model sees them; those of text are rows of a table."""
        found: dict[str, Any] = {}
        for kind, y in samples.y.items():
            if kind == TEXT:
                found[kind] = tree_map(lambda rows, y=y: rows.take(y), embedded(self.encoder, samples.captions))
            else:
                found[kind] = self._condition(kind, y)
        return found or None

    def raw(self, samples: Samples, rows: Tensor) -> dict[str, Any] | None:
        """The conditions of some samples of data like the run's, as `conditions` takes them; None without any."""
        found: dict[str, Any] = {kind: y[rows] for kind, y in samples.y.items()}
        if TEXT in found:
            found[TEXT] = np.array([samples.captions[k] for k in found[TEXT].tolist()])
        return found or None

    def some(self, samples: Samples, count: int) -> tuple[Tensor, dict[str, Any] | None]:
        """So many samples in the units of the data, and their conditions as the model sees them, in memory."""
        x, y = samples.some(count)
        found = self.conditions_of(replace(samples, x=x, y=y, unseen=None))
        return x, None if found is None else tree_map(lambda leaf: leaf[:], found)

    def field(self, step: int | None = None) -> NetworkField:
        """The trained field, with its averaged weights, in eval mode."""
        return self.field_at(self.checkpoint(step))

    def field_at(self, found: Checkpoint) -> NetworkField:
        """The field as it was at a checkpoint, with its averaged weights, in eval mode."""
        self.check(found)
        field = self.new_field()
        checkpoint.load_weights(field, found.model | found.ema, found.folder)
        return field.eval()

    @property
    def meaning(self) -> dict[str, Any]:
        """What the weights of a checkpoint mean nothing without, as JSON holds it: kept in each, so that edits show."""
        found = {name: getattr(self.config, name) for name in OF_THE_MODEL}
        found["is_bridge"] = self.config.is_bridge
        found["classes"] = list(self.classes)
        found["normalisation"] = [self.normalisation.shift, self.normalisation.scale]
        return dict(json.loads(json.dumps(found)))

    def check(self, found: Checkpoint) -> None:
        """Refuse a checkpoint that was trained under other settings than config.json holds now.

        Raises:
            ValueError: If one differs that its weights depend on. A checkpoint that holds none is taken as it is.
        """
        before = found.state.get("meaning", {})
        for name, value in self.meaning.items():
            if name in before and before[name] != value:
                raise ValueError(
                    f"{self.folder / 'config.json'} has been edited: {name} is {reprlib.repr(value)}, and "
                    f"{found.folder.name} was trained with {reprlib.repr(before[name])}; put it back"
                )

    def new_field(self) -> NetworkField:
        """The field as it was before training."""
        form = self.encoder.form if TEXT in self.kinds else None
        return self.config.field(self.shape, len(self.classes), len(self.numbers), form)

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


def _leg(about: Any) -> Leg:
    return Leg(int(about["step"]), {str(name): (before, after) for name, (before, after) in about["changed"].items()})


def _refuse_to_replace(folder: Path, has_consent: bool) -> None:
    """Refuse a folder that is not empty, and even with consent one that is no run."""
    if not folder.exists() or (folder.is_dir() and _is_begun(folder)):
        return
    if not (folder / "config.json").is_file():
        what = "is no run, so that neither --resume nor --overwrite may have it" if folder.is_dir() else "is a file"
        raise ValueError(f"{folder} exists already and {what}; name another folder with --out")
    if not has_consent:
        raise ValueError(
            f"{folder} exists already and is left as it is; go on with --resume {quoted(folder)}, "
            "name another folder with --out, or replace it with --overwrite"
        )
    try:
        Run.open(folder)
    except ValueError as error:
        raise ValueError(
            f"--overwrite replaces a run, and {folder} is none that can be read: {str(error).partition(';')[0]}; "
            "remove it yourself, or name another folder with --out"
        ) from None


def _is_begun(folder: Path) -> bool:
    """Whether a folder holds nothing, or what a run left that was killed before it had its config.json."""
    names = {path.name for path in folder.iterdir()}
    return names <= {SOURCE, CONDITIONS, TEXT_FILE, "samples", LOCK, ".config.json"}


def encoder_for(config: Config, training: Samples) -> Encoder | None:
    """What captions are read by, once it knows those that are trained on; None if captions are not used."""
    encoder = config.encoder()
    if encoder is None or TEXT not in training.y:
        return None
    seen = torch.unique(training.y[TEXT]).tolist()
    return encoder.fitted([training.captions[k] for k in seen], training.captions)


def _kept(samples: Samples, seed: int, encoder: Encoder | None, held_out: Samples | None) -> dict[str, bytes]:
    """The conditions of some training samples, and what reads captions, as files."""
    noise = Noise(seed, stream=KEPT_STREAM)
    rows = noise.permutation(len(samples))[:KEPT]
    kept = {kind: y[rows] for kind, y in samples.y.items()}
    parts = {}
    if encoder is not None:
        distinct, kept[TEXT] = torch.unique(kept[TEXT], return_inverse=True)
        unseen: list[str] = []
        if held_out is not None and held_out.unseen is not None:
            apart = torch.unique(held_out.y[TEXT][held_out.unseen])
            unseen = [samples.captions[k] for k in apart[noise.permutation(len(apart), 1)[:KEPT]].tolist()]
        text = {
            "encoder": encoder.state(),
            "captions": [samples.captions[k] for k in distinct.tolist()],
            "unseen": unseen,
        }
        parts[TEXT_FILE] = json.dumps(text, indent=1).encode()
    return {CONDITIONS: safetensors.torch.save(kept), **parts}


def guided(field: NetworkField, y: Any, w: float = 1.0, away_from: Any = None) -> Field:
    """The field under a condition, with guidance of scale w: away from the null condition, or from another."""
    return ClassifierFree(field.given(y), field.given(away_from), w)
