"""The training loop, as a generator: it yields, and whoever iterates prints, saves, plots or stops.

Everything random depends on (seed, position in the stream of samples) alone, so a loop begun at a later step goes on
exactly as one that never stopped. Nothing in it waits for the device: an update whose gradient is not finite is left
out there, and counted there.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.arguments import described, function, instance, number, numbers, samples, whole
from pathline.data.rows import Array, Rows
from pathline.fields.modes import is_evaluated_elsewhere, train_mode
from pathline.training.augment import NONE, Augmentation
from pathline.training.batches import Batches, Order, ahead
from pathline.training.distributed import ALONE, Group, is_shared
from pathline.training.ema import EMA
from pathline.training.loss import Loss


@dataclass(frozen=True)
class TrainStep:
    """What one optimizer step did. Tensors stay on the device: reading one is what waits for it.

    Attributes:
        step: Its number, from 1.
        loss: The mean over the batch; of several processes each has its own part of it, and their mean is that.
        gradient_norm: Before clipping.
        skipped: Updates left out since the loop began, as their gradient was not finite.
        skipped_in_a_row: Those of them since the last update that was made.
    """

    step: int
    loss: Tensor
    gradient_norm: Tensor
    skipped: Tensor
    skipped_in_a_row: Tensor


def train(
    loss: Loss,
    data: Array | NDArray[Any],
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
    seen: int | None = None,
    accumulate: int = 1,
    workers: int = 0,
    augmentation: Augmentation | None = None,
    precision: torch.dtype = torch.float32,
    group: Group = ALONE,
) -> Iterator[TrainStep]:
    """Train the field of a loss, one optimizer step at a time.

    Args:
        loss: The loss, with its field.
        data: All of it, of shape `(samples, *shape)`: finite floating-point numbers, which are trained on in the dtype
            of the field's parameters; `Rows` are read as they are needed.
        y: Its conditions, one per sample, or None: by their kind, `{"class": ..., "numbers": ...}`, or bare where the
            network takes one kind. Class labels are indices, from 0 to one below the number of classes, of any type of
            whole numbers or booleans. A network of your own that declares no kinds may have any tree of them. Leaves
            may be `Rows` as well.
        steps: The step to stop after.
        batch_size: Samples a step, in all processes together; every sample is seen once an epoch.
        learning_rate: Of AdamW, if no optimizer is given.
        optimizer: Of the field's parameters.
        lr_schedule: The factor on the learning rate at a share of the training, 0 to 1; 1 throughout if left out.
        ema: An average of the weights to keep up.
        clip: The largest norm of a gradient.
        start: The steps already taken, when going on.
        seen: The samples already taken; `start * batch_size` unless given, which is wrong where batches had another
            size.
        accumulate: The pieces that a process takes its samples of a step in, to save memory: the step is the same.
        workers: Threads that make batches ahead: noise, optimal transport, samples from a mapped file.
        augmentation: What is done to the data first.
        precision: What the network computes in (autocast); weights, times and the loss keep theirs.
        group: The processes that train together.

    Raises:
        ValueError: If there is no data, or some of it is not finite; if the labels or the source do not match it, or
            labels are no indices of classes; if an argument is of another type, or a count is not positive.
    """
    instance("loss", loss, Loss, "MatchingLoss(field) is one")
    if not any(p.requires_grad for p in loss.parameters()):
        raise ValueError("loss must be that of a field with parameters to train, and this one has none")
    data = data if isinstance(data, Rows) else samples("data", data)
    if data.ndim < 2 or len(data) == 0:
        raise ValueError(f"data must have shape (samples, *shape) with at least one sample, got {tuple(data.shape)}")
    steps, batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
    accumulate, start, workers = whole("accumulate", accumulate, 1), whole("start", start), whole("workers", workers)
    if isinstance(data, Rows):
        numbers("data", data[:1])
    instance("group", group, Group, "ALONE is, and joined() gives that of torchrun").check(batch_size, accumulate)
    if not number("clip", clip) > 0:
        raise ValueError(f"clip must be positive, got {clip}; math.inf clips nothing")
    tree_map(lambda leaf: _check_labels(leaf, len(data)), y, is_leaf=_is_list)
    y = None if y is None else tree_map(_as_tensor, loss.field.checked(y), is_leaf=_is_list)
    if augmentation is not None:
        instance("augmentation", augmentation, Augmentation, "FlipAugmentation() is one")
    if not isinstance(precision, torch.dtype) or not precision.is_floating_point:
        raise ValueError(f"precision must be torch.float32 or torch.bfloat16, got {described(precision)}")
    loss.check(len(data), tuple(data.shape[1:]))
    if loss.is_paired and augmentation not in (None, NONE):
        raise ValueError(
            f"augmentation must be left out for paired samples, as it would change one of a pair alone, got "
            f"{augmentation}; add pairs that are changed alike to the data and the source"
        )
    if ema is not None:
        instance("ema", ema, EMA, "EMA(field) is one")
    if lr_schedule is not None:
        function("lr_schedule", lr_schedule, "the share of training that is done")
    if not 0 <= number("learning_rate", learning_rate) < math.inf:
        raise ValueError(f"learning_rate must be a finite number, 0 or more, got {learning_rate}")
    if optimizer is None:
        optimizer = adamw(loss, learning_rate)
    instance("optimizer", optimizer, torch.optim.Optimizer, "torch.optim.AdamW(field.parameters()) is one")
    is_channels_last = any(
        p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) for p in loss.parameters()
    )
    origin = 0 if seen is None else seen - start * batch_size
    batches = Batches(loss, data, y, batch_size, accumulate, augmentation or NONE, group, is_channels_last, origin)
    return _steps(batches, range(start, steps), workers, precision, optimizer, lr_schedule, ema, clip)


def adamw(loss: Loss, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """The optimizer that `train` uses: fused, one call for all parameters."""
    return torch.optim.AdamW(loss.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)


def _as_tensor(leaf: Any) -> Any:
    return torch.as_tensor(leaf) if isinstance(leaf, list | np.ndarray) else leaf


def _is_list(leaf: Any) -> bool:
    return isinstance(leaf, list)


def _check_labels(leaf: Any, count: int) -> None:
    if hasattr(leaf, "__len__") and len(leaf) != count:
        raise ValueError(f"y must have one condition for each of the {count} samples, got {len(leaf)}")


def _steps(
    batches: Batches,
    numbers: range,
    workers: int,
    precision: torch.dtype,
    optimizer: torch.optim.Optimizer,
    lr_schedule: Callable[[float], float] | None,
    ema: EMA | None,
    clip: float,
) -> Iterator[TrainStep]:
    loss, group = batches.loss, batches.group
    train_mode(loss)
    is_disturbed = False
    model = group.spread(loss)
    parameters = [p for p in loss.parameters() if p.requires_grad]
    device = parameters[0].device
    base = [param_group.setdefault("initial_lr", param_group["lr"]) for param_group in optimizer.param_groups]
    skipped, in_a_row = torch.zeros(2, dtype=torch.int64, device=device)
    order = Order(len(batches.data), loss.noise)
    made = ahead(batches.make, ((step, batches.rows(order, step)) for step in numbers), workers)
    for step, pieces in zip(numbers, made, strict=True):
        if lr_schedule is not None:
            for param_group, lr in zip(optimizer.param_groups, base, strict=True):
                param_group["lr"] = lr * lr_schedule(step / numbers.stop)
        if not is_disturbed and is_evaluated_elsewhere(loss):
            is_disturbed = True
            warnings.warn(
                f"step {step + 1} is in eval mode (no dropout), as another thread samples the model that is trained; "
                "sample a copy: copy.deepcopy(field)",
                stacklevel=2,
            )
        optimizer.zero_grad()
        total = torch.zeros((), device=device)
        for piece in pieces:
            with (
                group.holding(model, is_last=piece is pieces[-1]),
                torch.autocast(device.type, precision, enabled=precision != torch.float32),
            ):
                value = model(piece.point, piece.y) * piece.share
                value.backward()
            total = total + value.detach()
        norm: Any = torch.nn.utils.clip_grad_norm_(parameters, clip)
        norm = norm.full_tensor() if is_shared(norm) else norm
        is_bad = ~norm.isfinite()
        _update(optimizer, is_bad)
        skipped, in_a_row = skipped + is_bad, (in_a_row + 1) * is_bad
        if ema is not None:
            ema.update()
        yield TrainStep(step + 1, total, norm, skipped, in_a_row)


def _update(optimizer: Any, is_bad: Tensor) -> None:
    """A step of the optimizer, unless the gradient is bad: a fused one is told so on the device."""
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf = is_bad.float()
        optimizer.step()
        del optimizer.found_inf
    elif not is_bad:
        optimizer.step()


def warmup_cosine(warmup: float = 0.05, floor: float = 0.0) -> Callable[[float], float]:
    """A factor that rises over the first share of the training, then falls along a cosine to `floor`."""
    rise = warmup_constant(warmup)

    def factor(share: float) -> float:
        if share < warmup:
            return rise(share)
        angle = math.pi * (share - warmup) / (1 - warmup)
        return floor + (1 - floor) * (1 + math.cos(angle)) / 2

    return factor


def warmup_constant(warmup: float = 0.05) -> Callable[[float], float]:
    """A factor that rises over the first share of the training, and is 1 then."""

    def factor(share: float) -> float:
        return (share + 1e-3) / (warmup + 1e-3) if share < warmup else 1.0  # a first step of exactly 0 would be lost

    return factor
