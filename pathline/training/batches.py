"""What training looks at, step by step: a function of the step alone, so it can be made ahead, anywhere, or again.

    step k  ->  positions o + k B ... o + (k + 1) B of the stream  ->  samples, their noise, times and conditions

A batch is cut twice: each process has a stretch of it, and takes that in pieces if gradients are to be gathered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.data.rows import Array
from pathline.noise import Noise
from pathline.training.augment import Augmentation
from pathline.training.distributed import Group
from pathline.training.loss import Loss

ORDER_STREAM, AUGMENT_STREAM = 5, 13

T = TypeVar("T")


@dataclass(frozen=True)
class Piece:
    """What a loss looks at, the conditions, and their share of this process's part in the mean loss."""

    point: Any
    y: Any
    share: float


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


@dataclass(frozen=True)
class Batches:
    """The batches of a training, for one of the processes that share it.

    Attributes:
        loss: What draws for samples, and drops conditions.
        data: All samples, of shape `(samples, *shape)`.
        y: Their conditions, or None.
        batch_size: Samples of a step, in all processes together.
        pieces: How many pieces a process takes its part in.
        augmentation: What is done to the data.
        group: The processes.
        is_channels_last: Whether images lie in memory pixel by pixel.
        origin: Where in the stream step 0 would be: not at 0 if earlier batches had another size.
    """

    loss: Loss
    data: Array
    y: Any
    batch_size: int
    pieces: int
    augmentation: Augmentation
    group: Group
    is_channels_last: bool
    origin: int = 0

    @torch.no_grad()
    def make(self, step: int, rows: Tensor) -> list[Piece]:
        """The pieces of a step, of the samples that it sees: those of the whole batch if all are paired together."""
        mine, paired = self.group.part(self.batch_size), self._paired()
        first = self.origin + step * self.batch_size + paired.start
        parameter = next(self.loss.parameters())
        device, dtype = parameter.device, torch.promote_types(parameter.dtype, torch.float32)
        data = self.augmentation(self.data[rows].to(device, dtype), self.loss.noise.at(first).of(AUGMENT_STREAM))
        y = None if self.y is None else tree_map(lambda leaf: leaf[rows].to(device), self.y)
        ends = self.loss.ends(data, first, y, rows)
        start = mine.start - paired.start
        cuts = [start + len(mine) * k // self.pieces for k in range(self.pieces + 1)]
        return [self._piece(ends, y, slice(*cut), first) for cut in pairwise(cuts)]

    def _piece(self, ends: tuple[Tensor, ...], y: Any, cut: slice, first: int) -> Piece:
        ends = tuple(end[cut] for end in ends)
        if self.is_channels_last and ends[-1].ndim == 4:
            ends = tuple(end.contiguous(memory_format=torch.channels_last) for end in ends)
        data, index = ends[-1], first + cut.start
        labels = None if y is None else tree_map(lambda leaf: leaf[cut], y)
        share = len(data) * self.group.size / self.batch_size
        return Piece(self.loss.point(ends, index), self.loss.dropped(labels, index, len(data)), share)

    def rows(self, order: Order, step: int) -> Tensor:
        """The samples that `make` needs for a step."""
        paired = self._paired()
        return order.rows(self.origin + step * self.batch_size + paired.start, len(paired))

    def _paired(self) -> range:
        """The samples of a batch that noise is paired with together."""
        return range(self.batch_size) if self.loss.is_global else self.group.part(self.batch_size)


def ahead(make: Callable[..., T], calls: Iterable[tuple[Any, ...]], workers: int) -> Iterator[T]:
    """What `make` returns for each call, in their order, made by this many threads while earlier ones are used."""
    if not workers:
        for call in calls:
            yield make(*call)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        for call in calls:
            waiting.append(pool.submit(make, *call))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
