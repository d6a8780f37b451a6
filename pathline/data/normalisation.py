"""Normalisation: between the units of the data and those of a model, which sees numbers of unit size.

    z = (x - shift) / scale,   x = shift + scale z

Shift and scale are one number for all, or one for each column of vectors (n, d) and each channel of what has more
dimensions, (n, C, ...). They are learned as mean and standard deviation of the values that are not far outside:

    low - 3 (high - low) <= x <= high + 3 (high - low),   low, high: the 1st and the 99th percentile

so that a single value of 1e4 among values of unit size does not set the scale. Where those percentiles are equal, as in
pictures that are mostly black, they are those of the values that differ from the commonest one. A column or channel
that never changes has scale 0: the model sees 0, and samples hold the constant itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pathline.data.rows import Array, Rows, blocks_of
from pathline.noise import Noise

RULE = 2  # of what is learned, so that the memos of another rule are not read
PICK_STREAM = 23
PICKED = 1 << 20  # values of a channel that percentiles are found from, at most
MOST = 1 << 22  # and of all channels together
ROWS = 256  # rows that they are of, at least, where there are so many
TRIMMED, REACH = 0.01, 3.0
FEW = 20  # values that are too few for percentiles, or to set a scale without a word
APART = 30.0  # standard deviations over the spread of the middle half, beyond which most values look alike to a model
FILLED = 0.25  # of the range of unsigned levels, from which on it is taken for theirs
SHOWN = 6  # columns or channels whose figures are told

Number: TypeAlias = float | tuple[float, ...]


@dataclass(frozen=True)
class Normalisation:
    """Between the units of the data and those of the model.

    Args:
        shift: One number for all, or one for each column of vectors, or for each channel.
        scale: The same, positive; that of a column or channel that never changes is 0.
        low: What is drawn black, in the units of the data; shift - scale unless given.
        high: What is drawn white; shift + scale unless given.
        notes: What a user should know of how it was learned, such as values far outside, each a sentence.

    Raises:
        ValueError: If a number is not finite, or a scale negative, or the only one 0.
    """

    shift: Number
    scale: Number
    low: Number | None = field(default=None, compare=False)
    high: Number | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        shift, scale = (torch.as_tensor(row, dtype=torch.float64) for row in (self.shift, self.scale))
        is_good = shift.shape == scale.shape and (shift.isfinite() & scale.isfinite() & (scale >= 0)).all()
        if not is_good or (scale.ndim == 0 and scale == 0):
            raise ValueError(
                "shift and scale must be finite, scale positive (or 0 for one of several columns that never changes), "
                f"and both as long, got {self.shift} and {self.scale}"
            )

    @classmethod
    def of(cls, raw: Array, names: tuple[str, ...] = ()) -> Normalisation:
        """What brings each column of vectors `(n, d)`, or channel of `(n, C, ...)`, to mean 0 and standard deviation 1.

        Values far outside the others are left out of both, see above. What was learned of rows in a file is kept
        beside it, and read the next time.

        Args:
            raw: The data, in memory or in a file.
            names: Of the columns, if they have names.

        Raises:
            ValueError: If the squares of a column's or channel's numbers are beyond float64.
        """
        place = _memo(raw)
        if place is not None:
            with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
                return cls.from_dict(json.loads(place.read_bytes()))
        found = cls._learned(raw, names)
        if place is not None:
            with suppress(OSError):
                draft = place.with_suffix(f".{os.getpid()}")
                draft.write_text(json.dumps({each.name: getattr(found, each.name) for each in fields(cls)}), "utf-8")
                draft.replace(place)
        return found

    @classmethod
    def from_dict(cls, about: dict[str, Any]) -> Normalisation:
        """The normalisation that JSON holds; that of earlier versions has a shift and a scale only."""
        low, high = (None if about.get(name) is None else _numbers(about[name]) for name in ("low", "high"))
        notes = tuple(map(str, about.get("notes", ())))
        return cls(_numbers(about["shift"]), _numbers(about["scale"]), low, high, notes)

    @classmethod
    def _learned(cls, raw: Array, names: tuple[str, ...] = ()) -> Normalisation:
        picked = _picked(raw)
        found = _Spread(*_fences(picked))
        for block in blocks_of(raw):
            found.add(_by_channel(block))
        called = [_called(raw, k, names) for k in range(raw.shape[1])]
        shift, scale = found.settled(called)
        low, high = found.seen.low, found.seen.high
        is_drawn = raw.ndim > 2
        return cls(
            tuple(shift.tolist()),
            tuple(scale.tolist()),
            tuple(low.tolist()) if is_drawn else None,
            tuple(high.tolist()) if is_drawn else None,
            tuple(found.notes(picked, scale, called)),
        )

    @property
    def constants(self) -> dict[int, float]:
        """The columns or channels that never change, by their number from 0, and what each of them is."""
        if isinstance(self.scale, tuple) and isinstance(self.shift, tuple):
            return {k: self.shift[k] for k, scale in enumerate(self.scale) if scale == 0}
        return {}

    @property
    def ends(self) -> tuple[Number, Number]:
        """What is drawn black and white, in the units of the data."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        if isinstance(self.shift, tuple) and isinstance(self.scale, tuple):
            pairs = list(zip(self.shift, self.scale, strict=True))
            return tuple(shift - scale for shift, scale in pairs), tuple(shift + scale for shift, scale in pairs)
        assert not isinstance(self.shift, tuple)
        assert not isinstance(self.scale, tuple)
        return self.shift - self.scale, self.shift + self.scale

    def told(self, names: tuple[str, ...] = (), what: str = "channel") -> str:
        """What is done to the data, in words; `what` a number is for stands in the place of `names`."""
        if not isinstance(self.shift, tuple) or not isinstance(self.scale, tuple):
            return f"the model sees (x - {self.shift:g}) / {self.scale:g}"
        called = [repr(name) for name in names] or [f"{what} {k + 1}" for k in range(len(self.shift))]
        varying = [
            f"{name} {shift:.4g} ± {scale:.3g}"
            for name, shift, scale in zip(called, self.shift, self.scale, strict=True)
            if scale
        ]
        constant = [f"{called[k]} = {value:g}" for k, value in self.constants.items()]
        more = [f" (and {len(each) - SHOWN} more)" if len(each) > SHOWN else "" for each in (varying, constant)]
        said = f"each {what} less its mean, over its standard deviation: {', '.join(varying[:SHOWN])}{more[0]}"
        kept = f"; always the same, and so in samples: {', '.join(constant[:SHOWN])}{more[1]}" if constant else ""
        return (said if varying else f"no {what} ever changes") + kept

    def into(self, raw: Tensor) -> Tensor:
        """The data as a model sees it, in torch's default type."""
        if not raw.is_floating_point() or raw.itemsize < 4:  # numbers of up to two bytes fit float32
            raw = raw.to(torch.float32 if raw.itemsize <= 2 else torch.float64)
        scale = tuple(each or 1.0 for each in self.scale) if isinstance(self.scale, tuple) else self.scale
        return ((raw - _like(self.shift, raw)) / _like(scale, raw)).to(torch.get_default_dtype())

    def back(self, x: Tensor) -> Tensor:
        """What a model made, in the units of the data; in float64 where these were learned, which years may need."""
        return _like(self.shift, x) + _like(self.scale, x) * x


class Levels:
    """What the type and the values of integer pictures say of their range: 0 to 255, or 0 to 65,535.

    Blocks of them are added as they are read, of shape `(n, C, ...)`.
    """

    def __init__(self) -> None:
        self.dtype, self.low, self.high = np.dtype(np.float64), np.full(1, math.inf), np.full(1, -math.inf)

    def add(self, x: NDArray[Any]) -> None:
        """A block, of the same type and as many channels as those before it, or of one as grey ones are."""
        self.dtype = x.dtype
        if x.size and self.most and x.ndim > 2:
            others = tuple(axis for axis in range(x.ndim) if axis != 1)
            self.low, self.high = np.minimum(self.low, x.min(others)), np.maximum(self.high, x.max(others))

    @property
    def most(self) -> int:
        """The highest level of the type; 0 where it is not one of unsigned levels of 8 or 16 bits."""
        return {"u1": 255, "u2": 65535}.get(self.dtype.str[1:], 0)

    def normalisation(self) -> Normalisation | None:
        """The range of the type onto -1 to 1; None if it has none, or the values fill less than a quarter of it.

        Levels of 12 bits in a file of 16 would be nearly alike to a model, so theirs is to be learned. One of several
        channels that never changes, as an alpha of 255, is kept as it is.
        """
        half, is_flat = self.most / 2, self.low == self.high
        if not self.most or (self.high - self.low).max() < FILLED * self.most:
            return None
        if not is_flat.any():
            return Normalisation(half, half)
        shift, scale = np.where(is_flat, self.low, half), np.where(is_flat, 0.0, half)
        ends = (0.0,) * len(shift), (float(self.most),) * len(shift)
        return Normalisation(tuple(shift.tolist()), tuple(scale.tolist()), *ends)


def _like(value: Number, x: Tensor) -> float | Tensor:
    """A number, or those of columns and channels so that they meet dimension 1 of `(n, C, ...)`."""
    if not isinstance(value, tuple):
        return value
    return torch.tensor(value, dtype=torch.float64, device=x.device).reshape(-1, *[1] * (x.ndim - 2))


def _numbers(value: Any) -> Number:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else float(value)


def _memo(raw: Array) -> Path | None:
    """Where the normalisation of these rows is kept."""
    if not isinstance(raw, Rows) or raw.memo is None or raw.change is not None:
        return None
    which = b"" if raw.index is None else raw.index.contiguous().numpy().data
    return raw.memo.with_name(f"{raw.memo.name}-{RULE}-{hashlib.sha256(which).hexdigest()[:24]}.json")


def _called(raw: Array, k: int, names: tuple[str, ...]) -> str:
    return f"{'column' if raw.ndim == 2 else 'channel'} {repr(names[k]) if names else k + 1}"


# ---- how it is learned


def _by_channel(x: Tensor) -> Tensor:
    """The values of each column or channel, of shape `(C, values)`, in float64."""
    return x.double().transpose(0, 1).flatten(1)


def _picked(raw: Array) -> Tensor:
    """Some values of each column or channel in their order, `(C, values)`: of rows evenly spread, or of all."""
    channels, size = raw.shape[1], math.prod(raw.shape[2:])
    most = max(1, min(PICKED, MOST // channels))
    count = min(len(raw), max(ROWS, most // size))
    noise = Noise(0, stream=PICK_STREAM)
    place = (torch.arange(count) + noise.uniform((count, 1), dtype=torch.float64)[:, 0]) * len(raw) / count
    index = place.long().clamp(max=len(raw) - 1)
    keep = noise.permutation(size, 1)[: max(1, most // count)].long() if count * size > most else slice(None)
    rows = raw.take(index) if isinstance(raw, Rows) else Rows(raw, index)
    pieces = [_by_channel(block.reshape(*block.shape[:2], -1)[..., keep]) for block in blocks_of(rows)]
    return torch.cat(pieces, 1).sort(1).values


def _trimmed(count: int) -> int:
    """How many values of so many are left out at either end."""
    return min(max(2, math.ceil(TRIMMED * count)), (count - 1) // 8)


def _fences(picked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least and the most that is not far outside, and the middle value, of each row of sorted values."""
    k, middle = _trimmed(picked.shape[1]), picked[:, picked.shape[1] // 2]
    low, high = picked[:, k].clone(), picked[:, -1 - k].clone()
    for c in (low == high).nonzero()[:, 0].tolist():
        others = picked[c][picked[c] != middle[c]]
        if len(others) < FEW:
            low[c], high[c] = -math.inf, math.inf
        else:
            k = _trimmed(len(others))
            low[c], high[c] = torch.minimum(others[k], middle[c]), torch.maximum(others[-1 - k], middle[c])
    reach = REACH * (high - low)
    return low - reach, high + reach, middle


class _Moments:
    """Count, mean, sum of squares about it, least and most of each channel, of blocks that are added.

    Source: Chan et al. 1983, https://doi.org/10.1080/00031305.1983.10483115
    """

    def __init__(self, channels: int) -> None:
        self.count, self.mean, self.square = (torch.zeros(channels, dtype=torch.float64) for _ in range(3))
        self.low, self.high = torch.full_like(self.mean, math.inf), torch.full_like(self.mean, -math.inf)

    def add(self, values: Tensor, is_in: Tensor) -> None:
        """Those of shape `(channels, values)` that are in."""
        here = is_in.sum(1).double()
        some = here.clamp(min=1)
        centre = values.where(is_in, 0.0).sum(1) / some
        square = (values - centre[:, None]).where(is_in, 0.0).square().sum(1)
        step, count = centre - self.mean, (self.count + here).clamp(min=1)
        self.square = self.square + square + (step.square() * self.count * here / count).where(here > 0, 0.0)
        self.mean = self.mean + (step * here / count).where(here > 0, 0.0)
        self.count = self.count + here
        self.low = torch.minimum(self.low, values.where(is_in, math.inf).amin(1))
        self.high = torch.maximum(self.high, values.where(is_in, -math.inf).amax(1))


class _Spread:
    """What is known of each channel: of all its values, and of those within its fences."""

    def __init__(self, lowest: Tensor, highest: Tensor, middle: Tensor) -> None:
        self.lowest, self.highest, self.middle = lowest, highest, middle
        self.inside, self.all = _Moments(len(middle)), _Moments(len(middle))
        self.differing = torch.zeros_like(middle)

    def add(self, values: Tensor) -> None:
        """A block of values, of shape `(channels, values)`."""
        is_in = (values >= self.lowest[:, None]) & (values <= self.highest[:, None])
        self.inside.add(values, is_in)
        self.all.add(values, torch.ones_like(is_in))
        self.differing += (values != self.middle[:, None]).sum(1)

    @property
    def seen(self) -> _Moments:
        """Of what sets the scale: the values within, unless they are all the same and others are not."""
        found, is_whole = _Moments(len(self.middle)), self.inside.high <= self.inside.low
        for name in vars(found):
            setattr(found, name, torch.where(is_whole, getattr(self.all, name), getattr(self.inside, name)))
        return found

    def settled(self, called: list[str]) -> tuple[Tensor, Tensor]:
        """Shift and scale.

        Raises:
            ValueError: If the squares of a channel's numbers are beyond float64; it is `called` so.
        """
        seen = self.seen
        is_constant = seen.high == seen.low
        shift = torch.where(is_constant, seen.low, seen.mean)
        scale = torch.where(is_constant, 0.0, (seen.square / seen.count).sqrt())
        is_good = shift.isfinite() & scale.isfinite() & (is_constant | (scale > 0))
        if not is_good.all():
            k = int(is_good.int().argmin())
            raise ValueError(
                f"{called[k]} must hold numbers whose squares are within float64, got {self.all.low[k]:g} to "
                f"{self.all.high[k]:g}; rescale it: divide it by the largest of them"
            )
        return shift, scale

    def notes(self, picked: Tensor, scale: Tensor, called: list[str]) -> list[str]:
        """What a user should know of the channels that are `called` so."""
        seen, found = self.seen, []
        count = int(self.all.count[0])
        first, third = (picked[:, int(share * (picked.shape[1] - 1))] for share in (0.25, 0.75))
        for k, name in enumerate(called):
            outside, differing = count - int(seen.count[k]), int(self.differing[k])
            if outside:
                ends = [f"{end[k]:.4g}" for end in (self.all.low, self.all.high, seen.low, seen.high)]
                found.append(
                    f"{outside:,} of the {count:,} values of {name} lie far outside the others, which are from "
                    f"{ends[2]} to {ends[3]}, and all from {ends[0]} to {ends[1]}: they do not set its scale; remove "
                    "them if they are mistakes"
                )
            elif 0 < differing <= FEW and picked.shape[1] > 5 * FEW:
                found.append(
                    f"only {differing:,} of the {count:,} values of {name} differ from {self.middle[k]:.4g}, and they "
                    "set its scale; leave it out if it says nothing"
                )
            elif scale[k] > APART * (third[k] - first[k]) / 1.35 > 0:
                found.append(
                    f"the middle half of the values of {name} is from {first[k]:.4g} to {third[k]:.4g}, and all are "
                    f"from {self.all.low[k]:.4g} to {self.all.high[k]:.4g}: few values set its scale, to which the "
                    "others look alike; take the logarithm, or remove values that stand for missing ones"
                )
        return found
