"""Checkpoints: safetensors and JSON, written under another name, then renamed; read only if every byte is right.

    checkpoints/step-00000100/  model.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json

The manifest holds the size and sha256 of every file, what wrote them, and its own sha256. Every file and both folders
are forced to the disk before the name appears, and an older checkpoint goes only after that: at every instant the
newest one that can be seen is whole. Nothing is pickled, random states included.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from pathline.training.distributed import like, whole
from pathline.training.ema import EMA

TENSORS = ("model", "ema", "optimizer")
FILES = (*(f"{name}.safetensors" for name in TENSORS), "state.json")
MANIFEST = "manifest.json"
RNG = "rng."  # what begins the keys of random states


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    folder: Path
    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    digest: str = ""
    """The sha256 of its weights: of the hashes of their files, as the manifest holds them."""


Contents = dict[str, dict[str, Tensor]]  # the tensors of each file, by its name


# ---- writing


def save(run: Path, step: int, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> Path:
    """Write a checkpoint of a run at a step, by one process alone. It is there whole, or not at all.

    Returns:
        Its folder.

    Raises:
        OSError: If it cannot be written; the message says where, how much is needed, and how much is free.
    """
    made_by = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    return write(run, step, contents(module, ema, optimizer), made_by, {"ema_updates": ema.updates})


def contents(module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> Contents:
    """What a checkpoint holds. Where a module is sharded, every process must ask, and each gets all of it."""
    return {
        "model": {name: whole(value) for name, value in module.state_dict().items()},
        "ema": {name: whole(value) for name, value in ema.weights.items()},
        "optimizer": {
            f"{name}:{key}": whole(value)
            for name, parameter in module.named_parameters()
            for key, value in sorted(optimizer.state.get(parameter, {}).items())  # processes must ask in one order
        }
        | random_states(),
    }


def write(run: Path, step: int, found: Contents, circumstances: Mapping[str, Any], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint from its contents, what made it, and plain values to keep; return its folder."""
    folder = folder_of(run, step)
    temporary = folder.with_name(f".{folder.name}.new")
    with _named(folder, found):
        made_by = {"step": step, "pathline": version("pathline"), **circumstances}
        if not folder.parent.is_dir():
            folder.parent.mkdir(parents=True)
            _fsync(run)
        for left in folder.parent.glob(".step-*"):  # by a save that was killed
            shutil.rmtree(left)
        temporary.mkdir()
        try:
            entries = {}
            for name in TENSORS:
                entries[f"{name}.safetensors"] = _put(
                    temporary / f"{name}.safetensors", safetensors.torch.save(found[name])
                )
            about = json.dumps({**made_by, **state}, indent=1) + "\n"
            entries["state.json"] = _put(temporary / "state.json", about.encode())
            _put(temporary / MANIFEST, _manifest({**made_by, "files": entries}))
            _fsync(temporary)
            _commit(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _fsync(folder.parent)
    return folder


def _commit(temporary: Path, folder: Path) -> None:
    """Give a checkpoint its name; one of the same step, found damaged most likely, makes room for it."""
    if not folder.exists():
        temporary.rename(folder)
        return
    aside = folder.rename(folder.with_name(f".{folder.name}.old"))
    try:
        temporary.rename(folder)
    except BaseException:  # a second Ctrl-C too
        aside.rename(folder)
        raise
    for path in aside.iterdir():
        if path.name not in (*FILES, MANIFEST):  # it is somebody else's
            path.rename(folder / path.name)
    shutil.rmtree(aside)


@contextmanager
def _named(folder: Path, found: Contents) -> Iterator[None]:
    """What goes wrong with the disk, with what someone needs to know of it."""
    try:
        yield
    except OSError as error:
        need = sum(value.nbytes for part in found.values() for value in part.values())
        place = next(path for path in (folder, *folder.parents) if path.exists())
        way_out = "make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "look at the disk"
        raise OSError(
            error.errno,
            f"cannot write the checkpoint {folder}: {error.strerror}; it needs {need / 1e6:,.1f} MB, "
            f"{shutil.disk_usage(place).free / 1e6:,.1f} MB are free; checkpoints made before are kept, "
            f"{way_out}, and go on with --resume",
        ) from error


def _put(path: Path, data: bytes) -> dict[str, Any]:
    """Write a file to the disk; what the manifest says of it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return _entry(data)


def _manifest(values: dict[str, Any]) -> bytes:
    """JSON that ends with the hash of what stands before it; the same values give the same bytes."""
    own = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    return (json.dumps({**values, "sha256": own}, indent=1) + "\n").encode()


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def prune(run: Path, keep: int, last: int) -> None:
    """Remove the oldest checkpoints up to the last step, but for `keep`; a folder that holds anything else stays.

    Later ones are those that training did not go on from, as they are damaged: they count for nothing.
    """
    for step in [step for step in steps_of(run) if step <= last][:-keep]:
        folder = folder_of(run, step)
        if {path.name for path in folder.iterdir()} <= {*FILES, MANIFEST}:
            gone = folder.rename(folder.with_name(f".{folder.name}.old"))  # half a checkpoint is never seen
            shutil.rmtree(gone)


# ---- reading


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / "checkpoints" / f"step-{step:08d}"


def steps_of(run: Path) -> list[int]:
    """The steps at which a run has checkpoints, in order."""
    found = (folder.name.removeprefix("step-") for folder in (run / "checkpoints").glob("step-*"))
    return sorted(int(step) for step in found if step.isdecimal())


def load(run: Path, step: int) -> Checkpoint:
    """Read a checkpoint, if every file is as its manifest says.

    Raises:
        ValueError: If a file is missing, damaged or cannot be read; the message names it and the way out.
    """
    try:
        return _read(run, step)
    except Damaged as error:
        raise ValueError(f"{error}; {_way_out(run, step)}") from error.__cause__


class Damaged(ValueError):
    """A checkpoint that is not as it was written."""


def _read(run: Path, step: int) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        Damaged: If a file is missing, damaged or cannot be read.
    """
    folder = folder_of(run, step)
    for name in (*FILES, MANIFEST):
        if not (folder / name).is_file():
            raise Damaged(f"{folder / name} is missing")
    try:
        data = {name: (folder / name).read_bytes() for name in FILES}
        written = (folder / MANIFEST).read_bytes()
    except OSError as error:  # a bad sector, most likely
        raise Damaged(f"{error.filename or folder} cannot be read: {error.strerror}") from None
    try:
        manifest = json.loads(written.decode())
        own = manifest.pop("sha256")
        is_whole = _manifest(manifest) == written and manifest["step"] == step and bool(own)
        entries = dict(manifest["files"])
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        is_whole, entries = False, {}
    wrong = [MANIFEST] if not is_whole else [name for name in FILES if entries.get(name) != _entry(data[name])]
    if wrong:
        raise Damaged(f"{folder / wrong[0]} is damaged: its bytes are not the ones written")
    unfit = (SafetensorError, ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError)
    try:
        tensors = {name: safetensors.torch.load(data[f"{name}.safetensors"]) for name in TENSORS}
        state = json.loads(data["state.json"].decode())
        counts = {name: int(state.get(name, 0)) for name in ("ema_updates", "skipped")}
    except unfit as error:
        raise Damaged(f"{folder} was not written by pathline: {error}") from error
    hashes = "".join(entries[f"{name}.safetensors"]["sha256"] for name in ("model", "ema"))
    digest = hashlib.sha256(hashes.encode()).hexdigest()
    return Checkpoint(folder, step, state=state | counts, digest=digest, **tensors)


def newest(run: Path) -> Checkpoint:
    """The newest checkpoint that is whole; a warning names those that are not.

    A training that goes on meanwhile may remove one that is about to be read: there is a newer one then.

    Raises:
        ValueError: If there is none.
    """
    refusal, seen = ValueError(f"{run} has no checkpoint; train it again"), set[int]()
    while left := [step for step in steps_of(run) if step not in seen]:
        step = left[-1]
        seen.add(step)
        try:
            return _read(run, step)
        except Damaged as error:
            if not folder_of(run, step).exists():
                continue
            refusal = ValueError(f"{error}; {_way_out(run, step)}")
            if len(left) > 1:
                warnings.warn(f"{error}; an earlier checkpoint is used instead", stacklevel=2)
    raise refusal


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _way_out(run: Path, step: int) -> str:
    """What to do about a checkpoint that is damaged: another is used only if it is whole itself."""
    for other in reversed(steps_of(run)):
        if other == step:
            continue
        try:
            _read(run, other)
        except Damaged:
            continue
        return f"remove {folder_of(run, step)} to use step {other}"
    return f"no other whole checkpoint is there: remove {run}, and train again"


# ---- putting back


def restore(checkpoint: Checkpoint, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> None:
    """Put everything back as it was when the checkpoint was written.

    Raises:
        ValueError: If the checkpoint is of another model.
    """
    load_weights(module, checkpoint.model, checkpoint.folder)
    try:
        _restore(checkpoint, module, ema, optimizer)
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"{checkpoint.folder} holds another training than config.json describes: {error}") from error


def _restore(checkpoint: Checkpoint, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> None:
    for name, value in checkpoint.ema.items():
        ema.weights[name].copy_(like(value, ema.weights[name]))
    ema.updates = checkpoint.state["ema_updates"]
    for name, parameter in module.named_parameters():
        moments = {
            key.removeprefix(f"{name}:"): value
            for key, value in checkpoint.optimizer.items()
            if key.startswith(f"{name}:")
        }
        if any(value.shape not in (parameter.shape, ()) for value in moments.values()):
            raise RuntimeError(f"the moments of {name} have other shapes than {tuple(parameter.shape)}")
        if moments:
            optimizer.state[parameter] = {
                key: like(value, parameter.detach()) if value.shape == parameter.shape else value.to(parameter.device)
                for key, value in moments.items()
            }
    put_back_random_states(checkpoint.optimizer)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Put weights from a checkpoint folder into a module.

    Raises:
        ValueError: If they are of another model.
    """
    mine = module.state_dict()
    fitting = {
        name: like(value, mine[name]) if _fits(value, mine.get(name)) else value for name, value in weights.items()
    }
    try:
        module.load_state_dict(fitting)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"{folder} holds another model than config.json describes: {reason}; "
            "restore the config.json that the run was trained with"
        ) from None


def _fits(value: Tensor, model: Tensor | None) -> bool:
    return model is not None and value.shape == model.shape


# ---- random states


def random_states() -> dict[str, Tensor]:
    """Torch's own random states, by name; those of every process where several train together.

    Noise, times and order of the samples need none of them: they follow from the seed. A network's dropout does.
    """
    mine = {f"{RNG}torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        mine[f"{RNG}cuda"] = torch.cuda.get_rng_state()
    if not torch.distributed.is_initialized():
        return mine
    found: dict[str, Tensor] = {}
    for name, state in mine.items():
        everyone = [torch.empty_like(state) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(everyone, state)
        found |= {f"{name}{f'.{rank}' if rank else ''}": each for rank, each in enumerate(everyone)}
    return found


def put_back_random_states(states: Mapping[str, Tensor]) -> None:
    """Set torch's own random states; a process beyond those that were kept begins with its own."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    suffix = f".{rank}" if rank else ""
    if f"{RNG}torch{suffix}" in states:
        torch.set_rng_state(states[f"{RNG}torch{suffix}"])
    if f"{RNG}cuda{suffix}" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[f"{RNG}cuda{suffix}"])
