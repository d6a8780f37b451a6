"""How far points are moved, and how straight their ways are."""

from __future__ import annotations

import torch
from torch import Tensor

from pathline.tensors import sum_per_sample


def transport_cost(noise: Tensor, data: Tensor) -> Tensor:
    """The mean squared distance between the points of two sets, pair by pair, in the units of their square.

    Args:
        noise: Of shape `(n, *shape)`.
        data: What each goes to, of the same shape.
    """
    if not len(data):
        raise ValueError("noise and data must hold at least one pair, got none")
    if noise.shape != data.shape:
        raise ValueError(f"noise must have the shape of data, {tuple(data.shape)}, got {tuple(noise.shape)}")
    return sum_per_sample((noise - data).double() ** 2).mean()


def path_straightness(states: Tensor, times: Tensor) -> Tensor:
    """E|x_1 - x_0|^2 / integral of E|dx/dt|^2: 1 for straight lines at constant speed, less for all others.

    Args:
        states: The points at each time, of shape `(times, n, *shape)`: those of a walk along an ODE.
        times: Of shape `(times,)`.

    Source: Liu et al. 2023, https://arxiv.org/abs/2209.03003, section 2.2 (their S is the integral less the square)
    """
    if len(states) != len(times) or len(times) < 2:
        raise ValueError(f"states must be given at each of at least two times, got {len(states)} for {len(times)}")
    states, times = states.double(), times.double()
    energy = torch.stack([sum_per_sample(move**2).mean() for move in states.diff(dim=0)]) / times.diff().abs()
    straight = sum_per_sample((states[-1] - states[0]) ** 2).mean() / (times[-1] - times[0]).abs()
    return torch.where(energy.sum() > 0, straight / energy.sum(), 1.0)  # what stands still is straight
