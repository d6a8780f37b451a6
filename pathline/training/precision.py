"""What a network computes in, and where: asked of the hardware, not assumed.

Half of the bits pay where matrices of bfloat16 have units of their own: on a GPU since 2020, on a CPU with AMX tiles.
Without them they gained nothing, or little. Weights, times, losses and averages stay in float32 everywhere.
"""

from __future__ import annotations

import torch
from torch import nn


def device_of(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one.

    Raises:
        ValueError: If it is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be cpu or auto where no GPU can be used, got 'cuda'")
    has_gpu = torch.cuda.is_available() and name != "cpu"
    return torch.device("cuda", torch.cuda.current_device()) if has_gpu else torch.device("cpu")


def kind_of(device: torch.device) -> str:
    """What kind of device it is, for the bits that come out of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


def precision_of(name: str, device: torch.device, is_convolutional: bool) -> str:
    """What `auto` stands for on a device; another name stands for itself."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if is_convolutional and torch.cpu._is_amx_tile_supported() else "float32"


def lay_out(module: nn.Module, precision: str) -> None:
    """Put the weights of convolutions in the order that they are fastest in: pixel by pixel for bfloat16."""
    if precision == "bfloat16":
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
