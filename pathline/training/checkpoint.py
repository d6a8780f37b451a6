"""Checkpoints: safetensors and JSON, written under another name, then renamed; read only if every byte is right.

    checkpoints/step-00000100/  model.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json

Nothing is pickled. The manifest holds the size and sha256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pathline.training.ema import EMA

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and found whole."""

    folder: Path
    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def save(run: Path, step: int, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> Path:
    """Write a checkpoint of a run at a step. It is there whole, or not at all.

    Returns:
        Its folder.
    """
    folder = run / "checkpoints" / f"step-{step:08d}"
    state = {
        "step": step,
        "ema_updates": ema.updates,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    files = {
        "model.safetensors": _bytes(dict(module.state_dict())),
        "ema.safetensors": _bytes(ema.weights),
        "optimizer.safetensors": _bytes(_optimizer_tensors(optimizer, module) | {"rng.torch": torch.get_rng_state()}),
        "state.json": json.dumps(state, indent=1).encode(),
    }
    files["manifest.json"] = _manifest(files)
    for left in folder.parent.glob(".step-*"):  # by a save that was killed
        shutil.rmtree(left)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        for name, data in files.items():
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _fsync(folder.parent)
    return folder


def steps_of(run: Path) -> list[int]:
    """The steps at which a run has checkpoints, in order."""
    return sorted(
        int(folder.name.removeprefix("step-")) for folder in (run / "checkpoints").glob("step-" + "[0-9]" * 8)
    )


def load(run: Path, step: int) -> Checkpoint:
    """Read a checkpoint, if every file is as its manifest says.

    Raises:
        ValueError: If a file is missing or damaged; the message names it and the way out.
    """
    folder = run / "checkpoints" / f"step-{step:08d}"
    for name in (*FILES, "manifest.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing; {_way_out(run, step)}")
    data = {name: (folder / name).read_bytes() for name in FILES}
    manifest = (folder / "manifest.json").read_bytes()
    if manifest != _manifest(data):
        wrong = [name for name in FILES if _entry(data[name]).encode() not in manifest]
        named = folder / (wrong[0] if len(wrong) == 1 else "manifest.json")
        raise ValueError(f"{named} is damaged: its bytes are not the ones written; {_way_out(run, step)}")
    tensors = {name: safetensors.torch.load(data[f"{name}.safetensors"]) for name in ("model", "ema", "optimizer")}
    return Checkpoint(folder, step, state=json.loads(data["state.json"]), **tensors)


def restore(checkpoint: Checkpoint, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> None:
    """Put everything back as it was when the checkpoint was written.

    Raises:
        ValueError: If the checkpoint is of another model.
    """
    load_weights(module, checkpoint.model, checkpoint.folder)
    for name, value in checkpoint.ema.items():
        ema.weights[name].copy_(value)
    ema.updates = checkpoint.state["ema_updates"]
    for name, parameter in module.named_parameters():
        moments = {
            key.removeprefix(f"{name}:"): value
            for key, value in checkpoint.optimizer.items()
            if key.startswith(f"{name}:")
        }
        if moments:
            optimizer.state[parameter] = moments
    torch.set_rng_state(checkpoint.optimizer["rng.torch"])


def load_weights(module: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """Put weights from a checkpoint folder into a module.

    Raises:
        ValueError: If they are of another model.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"{folder} holds another model than config.json describes: {reason}; "
            "restore the config.json that the run was trained with"
        ) from None


def _optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}:{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _way_out(run: Path, step: int) -> str:
    others = [other for other in steps_of(run) if other != step]
    remove = f"remove {run / 'checkpoints' / f'step-{step:08d}'}"
    return f"{remove} to use step {others[-1]}" if others else f"{remove}; no other checkpoint is there, train again"


def _bytes(tensors: dict[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})


def _entry(data: bytes) -> str:
    return json.dumps({"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})


def _manifest(files: dict[str, bytes]) -> bytes:
    """JSON with a line for each file; the same files give the same bytes."""
    lines = ",\n".join(f"  {json.dumps(name)}: {_entry(data)}" for name, data in files.items())
    return f"{{\n{lines}\n}}\n".encode()


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
