"""The exact marginal field of a data set: what a network would learn if it learned its training set by heart.

With a normal of standard deviation h around each of the n points, p_t is a mixture of as many,

    p_t = 1/n sum_i N(alpha x_i, S I),   S = alpha^2 h^2 + beta^2,   r_i(x) = softmax_i(-|x - alpha x_i|^2 / 2S)
    m = sum_i r_i x_i,   score = -(x - alpha m) / S,   data = m + alpha h^2 / S (x - alpha m)

so that m is attention over the data: queries x, keys and values x_i. Two products of matrices are the price of it,

    -|x - alpha x_i|^2 / 2S = (alpha (x - alpha mean) . x_i - alpha^2 |x_i - mean|^2 / 2) / S + the same for all i

and where few points count, one: those within reach of the nearest are looked up and weighed by differences in float64,
as products in float32 cannot tell near ties apart when S is small.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, theorem 10, with the data set as p_data
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathline.arguments import described
from pathline.conditions import CLASS, by_kind
from pathline.fields.exact import kinds_of
from pathline.fields.field import Field, gaussian, on_path, tuple_of
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, SCORE, VELOCITY, Interval, Prediction
from pathline.tensors import Time, exactly, is_eager, meet, time_of, wide

Rows: TypeAlias = Tensor | NDArray[Any]

POINTS, COLUMNS = 1 << 10, 1 << 12  # points and data points at once: their logits stay in a processor's cache
CELLS = 1 << 22  # numbers of the data points that are looked up at once
FEW, MANY = 2, 1 << 10  # data points within reach, per point: so few of a block that they are looked up; too many to be
# the error of a product of two vectors, over that of their lengths: 0.35 eps was seen
ROUNDING = 0.5 * torch.finfo(torch.float32).eps
CLOSE = 3e-4  # the error of a logit up to which float32 is trusted; that of the velocity is a hundredth of it


class EmpiricalField(Field):
    """The exact field of a Gaussian path towards a data set, or towards normals around its points.

    Points may have any shape. The data is kept as it is, in float32, bfloat16 or float64, a tensor or an array that is
    mapped from a file, and read in blocks; what is returned has the dtype of the point. Gradients with respect to
    points and times are kept, by way of float64 and of all weights at once.

    Args:
        data: Of shape `(samples, *shape)`.
        path: From noise to it.
        bandwidth: The standard deviation of the normal around each point. With 0 nothing can be read at pure data.
        y: Class labels, whole numbers of shape `(samples,)`, alone or as `{"class": ...}`: `given(label)` is then the
            field of one class, exactly.
        prediction: The head that samplers see.

    Raises:
        ValueError: If the data is empty or not finite, the bandwidth is negative, or the labels do not fit.
    """

    path: GaussianPath
    mean: Tensor
    squares: Tensor
    y: Tensor | None

    def __init__(
        self,
        data: Rows,
        path: GaussianPath,
        bandwidth: float = 0.0,
        y: Any = None,
        prediction: Prediction | tuple[Prediction, ...] = VELOCITY,
    ) -> None:
        super().__init__()
        y = by_kind(y, (CLASS,)).get(CLASS)
        y = None if y is None else torch.as_tensor(y)
        gaussian(path)
        if not isinstance(data, Tensor | np.ndarray):
            raise ValueError(f"data must be a tensor or an array, got {described(data)}; torch.as_tensor makes one")
        if data.ndim < 2 or not len(data) or not _is_real(data):
            raise ValueError(
                f"data must be floating-point numbers of shape (samples, *shape), got {data.dtype} {tuple(data.shape)}"
            )
        if not 0 <= bandwidth < math.inf:
            raise ValueError(f"bandwidth must be a finite number, 0 or more, got {bandwidth}")
        if y is not None and (y.shape != data.shape[:1] or y.is_floating_point()):
            raise ValueError(f"y must be a class index for each of {len(data)} samples, got {y.dtype} {tuple(y.shape)}")
        self.path = path
        self.bandwidth = bandwidth
        self.prediction = prediction
        self.shape = tuple(data.shape[1:])
        self.rows: Rows
        flat: Rows = data.reshape(len(data), -1)
        if isinstance(flat, Tensor):
            self.register_buffer("rows", flat, persistent=False)
        else:
            self.rows = flat
            self.register_buffer("like", torch.from_numpy(np.array(flat[:0])), persistent=False)  # samples are like it
        self.register_buffer("mean", torch.empty(0), persistent=False)
        self.register_buffer("squares", torch.empty(0), persistent=False)
        self.register_buffer("y", y, persistent=False)
        self._measure()
        variance = self.squares.mean() / self.mean.numel() + bandwidth**2
        self.path = path.measured(float(variance.sqrt()))

    def _measure(self) -> None:
        """The mean, the squared distances from it and the largest norm, from the data as it is now."""
        mean = torch.stack([block.double().sum(0) for _, block in self._blocks()]).sum(0) / len(self.rows)
        if is_eager(mean) and not mean.isfinite().all():
            raise ValueError("data must be finite, and its mean is not")
        self.mean = mean
        self.squares = torch.cat([((block - mean) ** 2).sum(1) for _, block in self._blocks(torch.float64)])
        norms = [block.norm(dim=1).amax() for _, block in self._blocks(torch.float32)]
        largest = torch.stack(norms).amax()
        self.largest = float(largest) if is_eager(largest) else math.nan
        self._classes: dict[int, EmpiricalField] = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EmpiricalField:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._measure()  # of the data as it is now, in float64 whatever it was made
        return self

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The exact value of each head."""
        return self.read_as(x, t, self.prediction)

    def interval(self, kind: Prediction) -> Interval:
        """Everywhere, but at data where that is points without width."""
        has_width = self.bandwidth > 0 or self.path.interval((DATA,), SCORE).has_stop
        return Interval(0.0, 1.0, has_stop=has_width)

    @exactly
    def read(self, x: Tensor, t: Time, *kinds: Prediction) -> Any:
        """One or several kinds, exactly.

        Raises:
            ValueError: If t is outside [0, 1], or is 1 and the data is points without width.
        """
        t = self.time(x, t)
        m = self._posterior(x, t)[0].to(torch.float64)
        y, (alpha, s) = wide(x), self._scales(x, t)
        pull = (y - alpha * m) / s
        found = kinds_of(self.path, y, t, -pull, m + alpha * self.bandwidth**2 * pull, kinds)
        found = tuple(value.to(x.dtype) for value in found)
        return found if len(kinds) > 1 else found[0]

    @exactly
    def log_prob(self, x: Tensor, t: Time = 1.0) -> Tensor:
        """The log-density of p_t at `x`, in nats, of shape `(batch,)`; that of the data itself at t = 1.

        Raises:
            ValueError: If t is 1 and the data is points without width, which have no density.
        """
        t = self.time(x, t)
        s = self._scales(x, t)[1].reshape(-1)
        constant = -self.mean.numel() / 2 * (2 * math.pi * s).log() - math.log(len(self.rows))
        return (self._posterior(x, t)[1] + constant).to(torch.promote_types(x.dtype, torch.float32))

    def given(self, y: Any) -> Field:
        """The field of one class, or of one for each point; None is that of all data.

        Raises:
            ValueError: If the data has no labels, or none of the class.
        """
        if y is None:
            return self
        if self.y is None:
            raise ValueError("this field takes no condition: its data has no labels; EmpiricalField(..., y=labels)")
        y = torch.as_tensor(by_kind(y, (CLASS,))[CLASS])
        if y.ndim > 1 or not y.numel() or y.is_floating_point() or y.dtype == torch.bool:
            raise ValueError(f"y must be a class index, or one for each point, got {y.dtype} of shape {tuple(y.shape)}")
        return _OfClasses(self, y)

    def of_class(self, label: int) -> EmpiricalField:
        """The field of the data with this label."""
        if label not in self._classes:
            assert self.y is not None  # as `given` has seen
            mine = (self.y == label).nonzero()[:, 0]
            if not len(mine):
                raise ValueError(f"y must be a label of the data, {sorted(set(self.y.tolist()))}, got {label}")
            data = self._rows(mine).reshape(len(mine), *self.shape)
            self._classes[label] = EmpiricalField(data, self.path, self.bandwidth, None, self.prediction)
        return self._classes[label]

    def samples(self, index: Tensor) -> Tensor:
        """Some of the data, of shape `(len(index), *shape)`, at least in float32."""
        rows = self._rows(index)
        return rows.to(torch.promote_types(rows.dtype, torch.float32)).reshape(len(index), *self.shape)

    def time(self, x: Tensor, t: Time) -> Tensor:
        """A time of the path at which points like `x` can be read, in float64."""
        if tuple(x.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, ("batch", *self.shape)))
            raise ValueError(f"x must have the shape of the data, ({wanted}), got {tuple(x.shape)}")
        time_of(x, t)
        t = on_path(torch.as_tensor(t, dtype=torch.float64, device=x.device))
        if is_eager(t) and (t == 1).any() and not self.interval(VELOCITY).has_stop:
            raise ValueError(
                "t must be below 1: the data is points without width, and what passes through one at t = 1 cannot be "
                "told; give a bandwidth, or stop before"
            )
        return t

    def _scales(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and S, shaped to multiply `x`."""
        alpha, beta = meet(self.path.schedule.alpha(t), x), meet(self.path.schedule.beta(t), x)
        return alpha, (alpha * self.bandwidth) ** 2 + beta**2

    def _blocks(self, dtype: torch.dtype | None = None) -> Iterator[tuple[int, Tensor]]:
        """The data in pieces, each with the number of its first row."""
        for first in range(0, len(self.rows), COLUMNS):
            piece = self.rows[first : first + COLUMNS]
            block = piece if isinstance(piece, Tensor) else torch.from_numpy(np.array(piece)).to(self.mean.device)
            yield first, block if dtype is None else block.to(dtype)

    def _posterior(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The mean m, of the shape of x, and the log of the sum of exp(-|x - alpha x_i|^2 / 2S), of shape (batch,)."""
        alpha, s = (scale.expand(x.shape[0], *(1,) * (x.ndim - 1)).reshape(-1, 1) for scale in self._scales(x, t))
        flat = wide(x).flatten(1)
        if not is_eager(x, t) or not len(x) or (torch.is_grad_enabled() and (x.requires_grad or t.requires_grad)):
            mean, total = self._at_once(flat, alpha, s)
        else:
            dtype = torch.promote_types(torch.float32, torch.promote_types(x.dtype, next(self._blocks())[1].dtype))
            pieces = zip(*(torch.split(values, POINTS) for values in (flat, alpha, s)), strict=True)
            found = [self._piece(points, of_data, squared, dtype) for points, of_data, squared in pieces]
            mean, total = (torch.cat(parts) for parts in zip(*found, strict=True))
        return mean.reshape(x.shape), total

    def _at_once(self, x: Tensor, alpha: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Every weight in float64, in a way that can be differentiated and transformed."""
        values = torch.cat([block for _, block in self._blocks(torch.float64)])
        query, key, offset = self._as_attention(x, alpha, s)
        logits = query @ values.T - key * self.squares
        return logits.softmax(1) @ values, torch.logsumexp(logits, 1) + offset

    def _rows(self, index: Tensor) -> Tensor:
        if isinstance(self.rows, Tensor):
            return self.rows[index]
        return torch.from_numpy(self.rows[index.cpu().numpy()]).to(self.mean.device)

    def _as_attention(self, x: Tensor, alpha: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-|x - alpha x_i|^2 / 2S as query . x_i - key |x_i - mean|^2 + offset."""
        centred = x - alpha * self.mean
        offset = -((centred**2).sum(1) / 2 + alpha[:, 0] * (centred @ self.mean)) / s[:, 0]
        return alpha / s * centred, alpha**2 / (2 * s), offset

    def _piece(self, x: Tensor, alpha: Tensor, s: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean and sum for a few points, by a softmax that runs over the blocks.

        A block of which few data points are within reach is left for later, when they are weighed by differences.
        Where they are many, and products in float32 are not good enough, these are taken in float64.
        """
        size = x.norm(dim=1, keepdim=True) + alpha * (self.mean.norm() + self.largest)
        error = ROUNDING * alpha * self.largest * size / s
        is_trusted = dtype == torch.float64 or bool(error.max() <= CLOSE)
        nothing = torch.finfo(dtype).eps  # what all data points out of reach may weigh together
        reach = (2 * error + math.log(len(self.rows) / nothing)).to(dtype)
        query, key, offset = self._as_attention(x, alpha, s)
        query, key = query.to(dtype), key.to(dtype)
        top = query.new_full((len(x), 1), -math.inf)
        total, mean, near = torch.zeros_like(top), torch.zeros_like(query), _Pairs()
        for first, block in self._blocks(dtype):
            squares = self.squares[first : first + len(block)].to(dtype)
            logits = (query @ block.T).addr_(key[:, 0], squares, alpha=-1)
            higher = torch.maximum(top, logits.amax(1, keepdim=True))
            is_near = logits >= higher - reach
            count = int(is_near.sum())
            if count <= FEW * len(x) or not is_trusted:
                near.add(is_near, first, count)
                if near.count > MANY * len(x):
                    return self._piece(x, alpha, s, torch.float64)
            fade = (top - higher).exp()
            total, mean, top = total * fade, mean.mul_(fade), higher
            if count > FEW * len(x) and is_trusted:
                weight = logits.sub_(top).exp_()
                total = total + weight.sum(1, keepdim=True)
                mean = mean.addmm_(weight, block)
        return self._with_differences(x, alpha, s, near, top.double() + offset[:, None], total.double(), mean.double())

    def _with_differences(
        self, x: Tensor, alpha: Tensor, s: Tensor, near: _Pairs, top: Tensor, total: Tensor, mean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and sum, once the pairs left for later are in it; so far they are those of exp(logit - top)."""
        # where nothing was weighed by it, the top is but a guess by products, and may be above all there is
        top = torch.where(total > 0, top, torch.finfo(top.dtype).min)
        for point, row in near.pieces(x.shape[1]):
            values = self._rows(row).double()
            logits = -((x[point] - alpha[point] * values) ** 2).sum(1, keepdim=True) / (2 * s[point])
            higher = top.scatter_reduce(0, point[:, None], logits, "amax")
            fade, weight = (top - higher).exp(), (logits - higher[point]).exp()
            total = (total * fade).index_add(0, point, weight)
            mean, top = (mean * fade).index_add(0, point, weight * values), higher
        return mean / total, (total.log() + top)[:, 0]


class _Pairs:
    """Pairs of a point and a data point near it."""

    def __init__(self) -> None:
        self.found: list[tuple[Tensor, Tensor]] = []
        self.count = 0

    def add(self, is_near: Tensor, first: int, count: int) -> None:
        """Those of a block that begins at the data point `first`."""
        if count:
            point, row = is_near.nonzero(as_tuple=True)
            self.found.append((point, row + first))
            self.count += count

    def pieces(self, dimension: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them, as many at a time as fit in memory."""
        if self.found:
            size = max(1, CELLS // dimension)
            columns = (torch.split(torch.cat(column), size) for column in zip(*self.found, strict=True))
            yield from zip(*columns, strict=True)


class _OfClasses(Field):
    """The field of an own class for each point of a batch."""

    def __init__(self, field: EmpiricalField, y: Tensor) -> None:
        super().__init__()
        self.field, self.y = field, y
        self.path, self.prediction = field.path, field.prediction
        self.labels = sorted(set(y.reshape(-1).tolist()))
        for label in self.labels:
            field.of_class(label)  # refused now if it has none

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return self.read_as(x, t, self.prediction)

    def interval(self, kind: Prediction) -> Interval:
        return self.field.interval(kind)

    def read(self, x: Tensor, t: Time, *kinds: Prediction) -> Any:
        found = self._joined(x, t, lambda field, x, t: tuple_of(field.read(x, t, *kinds)))
        return found if len(kinds) > 1 else found[0]

    def log_prob(self, x: Tensor, t: Time = 1.0) -> Tensor:
        return self._joined(x, t, lambda field, x, t: (field.log_prob(x, t),))[0]

    def _joined(
        self, x: Tensor, t: Time, read: Callable[[EmpiricalField, Tensor, Tensor], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What each class's field reads of its points, put back in order."""
        t = self.field.time(x, t)
        if self.y.numel() == 1:
            return read(self.field.of_class(self.labels[0]), x, t)
        if len(self.y) != len(x):
            raise ValueError(f"y must be one condition or one per sample, {len(x)}, got {len(self.y)}")
        rows = [(self.y == label).nonzero()[:, 0] for label in self.labels]
        parts = [
            read(self.field.of_class(label), x[mine], t[mine] if t.ndim else t)
            for label, mine in zip(self.labels, rows, strict=True)
        ]
        order = torch.cat(rows).argsort()
        return tuple(torch.cat(part)[order] for part in zip(*parts, strict=True))

    def given(self, y: Any) -> Field:
        return self.field.given(y)

    def take(self, index: Tensor | slice) -> Field:
        return self if self.y.numel() == 1 else _OfClasses(self.field, self.y[index])

    def repeat(self, copies: int) -> Field:
        return self if self.y.numel() == 1 else _OfClasses(self.field, torch.cat([self.y] * copies))


def _is_real(data: Rows) -> bool:
    return data.is_floating_point() if isinstance(data, Tensor) else bool(np.issubdtype(data.dtype, np.floating))
