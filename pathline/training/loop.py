"""The training loop, as a generator: it yields, and whoever iterates prints, saves, plots or stops.

Everything random depends on (seed, position in the stream of samples) alone, so a loop begun at a later step goes on
exactly as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.noise import Noise
from pathline.training.ema import EMA
from pathline.training.loss import MatchingLoss

ORDER_STREAM = 5


@dataclass(frozen=True)
class TrainStep:
    """What one optimizer step did. Tensors stay on the device: reading one is what waits for it."""

    step: int
    loss: Tensor
    gradient_norm: Tensor


def train(
    loss: MatchingLoss,
    data: Tensor | NDArray[Any],
    y: Any = None,
    *,
    steps: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    optimizer: torch.optim.Optimizer | None = None,
    lr_schedule: Callable[[float], float] | None = None,
    ema: EMA | None = None,
    clip: float = 1.0,
    start: int = 0,
) -> Iterator[TrainStep]:
    """Train the field of a loss, one optimizer step at a time.

    Args:
        loss: The loss, with its field.
        data: All of it, of shape `(samples, *shape)`.
        y: Its conditions, one per sample, or None.
        steps: The step to stop after.
        batch_size: Samples a step; every sample is seen once an epoch.
        learning_rate: Of AdamW, if no optimizer is given.
        optimizer: Of the field's parameters.
        lr_schedule: The factor on the learning rate at a share of the training, 0 to 1; 1 throughout if left out.
        ema: An average of the weights to keep up.
        clip: The largest norm of a gradient.
        start: The steps already taken, when going on.

    Raises:
        ValueError: If there is no data, the labels do not match it, or a count is not positive.
    """
    data = torch.as_tensor(data)
    y = torch.as_tensor(y) if isinstance(y, list | np.ndarray) else y
    if data.ndim < 2 or len(data) == 0:
        raise ValueError(f"data must have shape (samples, *shape) with at least one sample, got {tuple(data.shape)}")
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}; math.inf clips nothing")
    tree_map(lambda leaf: _check_labels(leaf, data), y)
    optimizer = optimizer or adamw(loss, learning_rate)
    base = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
    return _steps(loss, data, y, steps, batch_size, optimizer, base, lr_schedule, ema, clip, start)


def adamw(loss: MatchingLoss, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """The optimizer that `train` uses: fused, one call for all parameters."""
    return torch.optim.AdamW(loss.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)


def _check_labels(leaf: Any, data: Tensor) -> None:
    if isinstance(leaf, Tensor) and len(leaf) != len(data):
        raise ValueError(f"y must have one condition for each of the {len(data)} samples, got {len(leaf)}")


def _steps(  # type: ignore[no-untyped-def]
    loss, data, y, steps, batch_size, optimizer, base, lr_schedule, ema, clip, start
) -> Iterator[TrainStep]:
    loss.train()
    order = Order(len(data), loss.noise)
    parameters = [p for p in loss.parameters() if p.requires_grad]
    for step in range(start, steps):
        if lr_schedule is not None:
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * lr_schedule(step / steps)
        index = step * batch_size
        rows = order.rows(index, batch_size)
        value = loss(data[rows], tree_map(lambda leaf: leaf[rows], y) if y is not None else None, index)  # noqa: B023
        optimizer.zero_grad()
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        if ema is not None:
            ema.update()
        yield TrainStep(step + 1, value.detach(), norm)


class Order:
    """The order in which samples are seen: a new permutation every epoch, any stretch of which can be had."""

    def __init__(self, size: int, noise: Noise) -> None:
        self.size = size
        self.noise = Noise(noise.seed, stream=ORDER_STREAM)
        self._epoch = (-1, torch.empty(0))

    def rows(self, start: int, count: int) -> Tensor:
        """The samples at positions start to start + count of the stream."""
        pieces = []
        while count:
            epoch, begin = divmod(start, self.size)
            if self._epoch[0] != epoch:
                self._epoch = (epoch, self.noise.permutation(self.size, epoch))
            piece = self._epoch[1][begin : begin + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def warmup_cosine(warmup: float = 0.05, floor: float = 0.0) -> Callable[[float], float]:
    """A factor that rises over the first share of the training, then falls along a cosine to `floor`."""

    def factor(share: float) -> float:
        if share < warmup:
            return (share + 1e-3) / (warmup + 1e-3)  # a first step of exactly 0 would be a step lost
        angle = torch.pi * (share - warmup) / (1 - warmup)
        return floor + (1 - floor) * float(1 + torch.cos(torch.tensor(angle))) / 2

    return factor
