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
    manifest = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in files.items()}
    files["manifest.json"] = json.dumps(manifest, indent=1).encode()
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
    manifest = _json(folder / "manifest.json")
    data = {}
    for name, entry in manifest.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; {_way_out(run, step)}")
        data[name] = path.read_bytes()
        if not isinstance(entry, dict) or entry.get("sha256") != _sha256(data[name]):
            raise ValueError(
                f"{path} is damaged: its {len(data[name])} bytes are not the ones written; {_way_out(run, step)}"
            )
    tensors = {}
    for name in ("model", "ema", "optimizer"):
        file = f"{name}.safetensors"
        if file not in data:
            raise ValueError(f"{folder / 'manifest.json'} is damaged: it lacks {file}; {_way_out(run, step)}")
        tensors[name] = safetensors.torch.load(data[file])
    return Checkpoint(folder, step, state=json.loads(data["state.json"]), **tensors)


def restore(checkpoint: Checkpoint, module: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> None:
    """Put everything back as it was when the checkpoint was written."""
    module.load_state_dict(checkpoint.model)
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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: this is not a whole checkpoint; remove its folder") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; remove its folder to use another checkpoint") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it must hold an object; remove its folder to use another checkpoint")
    return found


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
