"""The matching loss: regress on the target that is known once data and noise are.

    L = E_t,data,noise  weight_t |prediction(x_t, t) - (a_t data + b_t noise)|^2

Flow matching, denoising score matching, DDPM's noise, data and v prediction are this one loss: the heads of the field
say which. Its minimum is the marginal field, as the conditional and the marginal loss differ by a constant.

Source: Lipman et al. 2023, https://arxiv.org/abs/2210.02747, theorem 2; Vincent 2011 for the score
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pathline.arguments import described, instance, samples
from pathline.conditions import by_kind, replaced
from pathline.fields.field import Field, checked_field
from pathline.noise import Noise
from pathline.paths.couplings import Coupling, IndependentCoupling
from pathline.paths.path import PathPoint
from pathline.tensors import mean_per_sample
from pathline.training.times import Times, UniformTimes
from pathline.training.weights import UnitWeight, Weight

NOISE_STREAM, TIME_STREAM, DROP_STREAM, BRIDGE_STREAM = 2, 3, 4, 10
COUPLINGS = "IndependentCoupling() and OptimalTransportCoupling()"
ALL = "all"  # of the kinds of condition, in the shares that are dropped


class Loss(nn.Module, ABC):
    """What `train` minimises: the mean of an error over samples, for each of which all that is random is drawn ahead.

    What is drawn for training sample i depends on the seed and i only, so any process or thread can draw it.

    Args:
        field: What is trained.
        drop: The share of labels replaced by the null condition in training, so that guidance can be used. Where there
            are several kinds of condition, a dictionary may give each kind a share of its own, and "all" that of the
            samples that lose all at once.
        seed: Of all that is drawn.

    Raises:
        ValueError: If `drop` is not a probability, or not one for each of such kinds.
    """

    def __init__(self, field: Field, drop: float | Mapping[str, float], seed: int) -> None:
        super().__init__()
        checked_field(field)
        for share in drop.values() if isinstance(drop, Mapping) else [drop]:
            if not isinstance(share, Real) or not 0 <= share < 1:
                raise ValueError(f"drop must be a share of labels from 0 to below 1, got {described(share)}")
        self.field = field
        self.drop = drop
        self.noise = Noise(seed)
        self.seen = 0

    is_paired = False  # whether it has to know which rows of the data set a batch holds

    @property
    def is_global(self) -> bool:
        """Whether each of several processes must see the whole of a batch."""
        return False

    def check(self, count: int, shape: tuple[int, ...]) -> None:
        """Refuse a data set of so many samples of this shape that cannot be trained on; `train` asks first.

        Raises:
            ValueError: If it does not fit the loss.
        """

    def ends(self, data: Tensor, index: int | Tensor, y: Any = None, rows: Tensor | None = None) -> tuple[Tensor, ...]:
        """What has to be found for a batch as a whole, one row a sample; the data itself comes last.

        Args:
            data: The batch, of shape `(batch, *shape)`.
            index: As in `forward`.
            y: Its conditions.
            rows: As in `forward`.
        """
        return (data,)

    @abstractmethod
    def point(self, ends: tuple[Tensor, ...], index: int | Tensor) -> Any:
        """What training looks at, drawn for some samples of a batch; not a bare tensor."""

    @abstractmethod
    def errors(self, point: Any, y: Any = None) -> Tensor:
        """The error of each sample, of shape `(batch,)`."""

    def draw(self, data: Tensor, index: int | Tensor, y: Any = None, rows: Tensor | None = None) -> Any:
        """What training looks at for a batch with this index, which holds these rows of the data set."""
        return self.point(self.ends(data, index, y, rows), index)

    def forward(
        self, data: Any, y: Any = None, index: int | Tensor | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch, a number.

        Args:
            data: Of shape `(batch, *shape)`; or what was drawn ahead, with the labels that were left to it.
            y: Its conditions, one per sample, if it has any.
            index: The number of the batch's first sample in the stream of all that are trained on, or the number of
                each; counted here if left out. What is random about a sample depends on the seed and its number.
            rows: Which rows of the data set these samples are, of shape `(batch,)`; unless given, all of them in their
                order. Only a paired loss looks at them.
        """
        if isinstance(data, np.ndarray | list):
            data = samples("data", data)
        if not isinstance(data, Tensor):
            return self.errors(data, y).mean()
        if not len(data):
            raise ValueError(f"data must hold at least one sample, got shape {tuple(data.shape)}")
        y = None if y is None else self.field.checked(y, may_wait=False)
        if index is None:
            index = self.seen
            self.seen += len(data)
        labels = self.dropped(y, index, len(data)) if self.training else y
        return self.errors(self.draw(data, index, y, rows), labels).mean()

    def pieces(self, index: int | Tensor, batch: int) -> list[tuple[Noise, int]]:
        """The noise of each run of samples whose numbers follow each other, and how many they are."""
        if isinstance(index, Tensor) and index.ndim:
            if index.shape != (batch,):
                raise ValueError(
                    f"index must be a number, or one for each of {batch} samples, got {tuple(index.shape)}"
                )
            starts = [0, *((index.diff() != 1).nonzero()[:, 0] + 1).tolist()]
            counts = torch.tensor([*starts, batch]).diff().tolist()
            return [(self.noise.at(int(index[i])), count) for i, count in zip(starts, counts, strict=True)]
        return [(self.noise.at(int(index)), batch)]

    def dropped(self, y: Any, index: int | Tensor, batch: int) -> Any:
        """The conditions, a share of them replaced by the null one."""
        if y is None or not self.drop:
            return y
        null = getattr(self.field, "null", None)
        if null is None:
            raise ValueError(
                f"drop must be 0 for a field without a null condition, got {self.drop}; give the network an attribute "
                "`null`, the condition that stands for none"
            )
        y = by_kind(y, tuple(null)) if isinstance(null, Mapping) else y
        shares = dict(self.drop) if isinstance(self.drop, Mapping) else {ALL: self.drop}
        kinds = [ALL, *(y if isinstance(y, Mapping) else ())]
        null = {kind: null[kind] for kind in y} if isinstance(y, Mapping) else null
        if not shares.keys() <= set(kinds):
            raise ValueError(f"drop must be a share, or one for each of {', '.join(kinds)}, got {shares}")
        pieces = self.pieces(index, batch)

        def chances(draw: int) -> Tensor:
            return torch.cat([noise.of(DROP_STREAM).uniform((count, 1), draw)[:, 0] for noise, count in pieces])

        gone = {kind: chances(kinds.index(kind)) < share for kind, share in shares.items()}
        whole = gone.pop(ALL, torch.zeros(batch, dtype=torch.bool))
        if not gone:
            return replaced(y, null, whole)
        return {kind: replaced(leaf, null[kind], whole | gone.get(kind, whole)) for kind, leaf in y.items()}


class MatchingLoss(Loss):
    """The loss of a field, averaged over the numbers of a point and over the batch; several heads add up.

    Args:
        field: What is trained.
        coupling: Which noise goes with which data.
        times: When along the path to look.
        weight: How much an error counts.
        drop: The share of labels replaced by the null condition in training, or the shares of several kinds.
        seed: Of the noise, times and drops: those of training sample i depend on (seed, i) only.
        source: Samples that the path begins at, of shape `(samples, *shape)`, drawn at random; noise unless given. A
            bridge needs it.
        is_paired: Whether row i of the source belongs to row i of the data: the path to a sample then begins at its own
            row of the source, however the data is shuffled and shared out. `train` knows the rows; a loop of your own
            says `loss(data[rows], rows=rows)`.

    Raises:
        ValueError: If `drop` is not a probability, a bridge has no source, or pairs are to be kept that there are not,
            or that the coupling would part.
    """

    source: Tensor | None

    def __init__(
        self,
        field: Field,
        coupling: Coupling | None = None,
        times: Times | None = None,
        weight: Weight | None = None,
        drop: float | Mapping[str, float] = 0.0,
        seed: int = 0,
        source: Tensor | None = None,
        is_paired: bool = False,
    ) -> None:
        super().__init__(field, drop, seed)
        source = None if source is None else samples("source", source)
        if source is None and not field.path.is_gaussian:
            raise ValueError(f"source must be given for {field.path}: the samples that it begins at")
        if source is not None and field.path.is_gaussian:
            raise ValueError(f"source must be left out for {field.path}, which begins at noise; a BridgePath takes one")
        self.coupling = instance("coupling", coupling or IndependentCoupling(), Coupling, f"{COUPLINGS} are")
        if is_paired and source is None:
            raise ValueError("source must be given for is_paired=True: its row i belongs to row i of the data")
        if is_paired and not isinstance(self.coupling, IndependentCoupling):
            raise ValueError(
                f"coupling must be left out for is_paired=True, as it would pair source and data anew, got "
                f"{self.coupling}"
            )
        self.is_paired = is_paired
        self.times = instance("times", times or UniformTimes(), Times, "UniformTimes() and LogitNormalTimes() are")
        self.weight = instance("weight", weight or UnitWeight(), Weight, "UnitWeight() and BalancedWeight() are")
        self.register_buffer("source", source, persistent=False)

    @property
    def is_global(self) -> bool:
        """Whether noise is paired with data over the batches of all processes."""
        return self.coupling.is_global

    def check(self, count: int, shape: tuple[int, ...]) -> None:
        """Refuse data whose samples the source has not the shape of, or not one for each."""
        if self.source is None:
            return
        if self.source.shape[1:] != torch.Size(shape) or not len(self.source):
            raise ValueError(
                f"source must hold samples of the data's shape, {tuple(shape)}, got {tuple(self.source.shape)}"
            )
        if self.is_paired and len(self.source) != count:
            raise ValueError(
                f"source must have a row for each of the {count:,} samples of the data for is_paired=True, got "
                f"{len(self.source):,}; leave out is_paired to pair them at random"
            )

    def ends(self, data: Tensor, index: int | Tensor, y: Any = None, rows: Tensor | None = None) -> tuple[Tensor, ...]:
        """Where the path to each sample of a batch begins, by its row or as the coupling has it, and the data."""
        if self.is_paired:
            return self.partners(data, rows), data
        begin = [self.begin(data[:count], noise.of(NOISE_STREAM)) for noise, count in self.pieces(index, len(data))]
        return self.coupling(torch.cat(begin), data, y), data

    def point(self, ends: tuple[Tensor, ...], index: int | Tensor) -> PathPoint:
        """The points that training looks at between two ends that were paired."""
        begin, data = ends
        pieces = self.pieces(index, len(data))
        t = torch.cat([self.times.draw(count, noise.of(TIME_STREAM), data) for noise, count in pieces])

        def own(x: Tensor) -> Tensor:
            return torch.cat([noise.of(BRIDGE_STREAM).like(x[:count]) for noise, count in pieces])

        return self.field.path.point(begin, data, t, own)

    def begin(self, data: Tensor, noise: Noise, draw: int = 0) -> Tensor:
        """Where paths to a batch of data begin: at noise, or at random samples of the source."""
        if self.source is None:
            return noise.like(data, draw)
        self.check(len(self.source), data.shape[1:])
        return self.source[noise.rows(len(data), len(self.source), draw, data.device)].to(data.dtype)

    def partners(self, data: Tensor, rows: Tensor | None) -> Tensor:
        """The rows of the source that belong to these rows of the data set.

        Raises:
            ValueError: If a part of the data is given, and not told which rows it is.
        """
        assert self.source is not None
        self.check(len(self.source), data.shape[1:])
        if rows is None and len(data) != len(self.source):
            raise ValueError(
                f"rows must say which of the {len(self.source):,} rows of the data these {len(data):,} samples are, as "
                "each begins at the row of the source of the same number: loss(data[rows], rows=rows), or let train do "
                "it"
            )
        rows = torch.arange(len(data)) if rows is None else rows
        if rows.shape != (len(data),) or rows.is_floating_point() or rows.dtype == torch.bool:
            raise ValueError(
                f"rows must be whole numbers of shape ({len(data)},), got {rows.dtype} of shape {tuple(rows.shape)}"
            )
        return self.source[rows.to(self.source.device)].to(data.device, data.dtype)

    def errors(self, point: PathPoint, y: Any = None) -> Tensor:
        """The weighted squared error of each sample, of shape `(batch,)`."""
        field = self.field if y is None else self.field.bound(y)
        total = torch.zeros_like(point.t)
        for head, value in zip(field.heads, field.values(point.x, point.t), strict=True):
            error = mean_per_sample((value - point.target(head)) ** 2)
            total = total + error * self.weight.at(point.t, field.path, head)
        return total
