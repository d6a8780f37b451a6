"""Counter-based noise: sample i depends on (seed, i) only, whatever the batch, the process or the device.

A block cipher turns a counter into random words, so any element can be had without those before it:

    words = Philox4x32-10(counter = (element // 4, draw, stream), key = seed)
    normal = sqrt(-2 log u) * (cos, sin)(2 pi v),   u, v = words / 2^32

where `element` counts through all samples: those of sample i begin at `i * size`.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", https://doi.org/10.1145/2063384.2063405
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pathline.arguments import whole

Words: TypeAlias = Any  # an integer array of NumPy, or a tensor: the same operators, the same bits

WORD = 0xFFFFFFFF
PARTS = 32  # of an order of millions, by the first bits of their keys
BLOCK = 1 << 14  # counters ciphered at once: their columns of int64 stay in a core's cache


def philox(counter: Sequence[Words], key: tuple[int, int], rounds: int = 10) -> tuple[Words, ...]:
    """Four columns of random 32-bit words for four columns of 32-bit counters, all held in int64.

    Products wrap beyond 63 bits, which leaves all their 64 bits right, in NumPy as in torch.

    Source: Salmon et al. 2011, section 5.3 (Philox4x32)
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p, q = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (q >> 32) & WORD ^ c1 ^ k0, q & WORD, (p >> 32) & WORD ^ c3 ^ k1, p & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def fresh_seed() -> int:
    """A new seed from torch's own generator, so that `torch.manual_seed` settles it."""
    return int(torch.randint(2**63 - 1, ()))


@dataclass(frozen=True)
class Noise:
    """Random numbers for a batch whose first sample has the index `first`.

    Each `draw` (the step of a walk, say) and each `stream` (what the numbers are for) is independent of all others.

    Raises:
        ValueError: If the seed is no whole number (of Python, NumPy or a tensor) that fits 64 bits, or an index is
            negative.
    """

    seed: int
    first: int = 0
    stream: int = 0
    draw: int = 0

    def __post_init__(self) -> None:
        if type(self.seed) is not int:
            object.__setattr__(self, "seed", whole("seed", self.seed))
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be a whole number from 0 to 2**64 - 1, got {self.seed}")
        if min(self.first, self.draw) < 0 or not 0 <= self.stream <= WORD:
            raise ValueError(
                "first and stream must not be negative, nor draw, and stream fits 32 bits, "
                f"got first={self.first}, stream={self.stream}, draw={self.draw}"
            )

    def at(self, first: int) -> Noise:
        """The same noise for a batch that begins `first` samples later."""
        return replace(self, first=self.first + first)

    def of(self, stream: int) -> Noise:
        """The noise of another stream."""
        return replace(self, stream=stream)

    def after(self, draws: int) -> Noise:
        """The same noise from a later draw on: what a walk of its remaining steps meets."""
        return replace(self, draw=self.draw + draws)

    def words(self, shape: Sequence[int], draw: int = 0, device: torch.device | None = None) -> Tensor:
        """Random 32-bit words in int64, of `shape` (batch, ...), four of each counter side by side."""
        return self._drawn(shape, range(draw, draw + 1), device, lambda words: torch.stack(words, -1))[0]

    def uniform(
        self,
        shape: Sequence[int],
        draw: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """Uniform numbers strictly between 0 and 1, at least in float32: a smaller type would round to the ends."""
        dtype = torch.promote_types(dtype, torch.float32)
        bits = 32 if dtype == torch.float64 else 23  # as many as keep the largest below 1 after rounding
        return ((self.words(shape, draw, device) >> (32 - bits)).to(dtype) + 0.5) * 2.0**-bits

    def signs(
        self,
        shape: Sequence[int],
        draw: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """Numbers that are 1 or -1, either by an even chance."""
        return ((self.words(shape, draw, device) >> 31) * 2 - 1).to(dtype)

    def normal(
        self,
        shape: Sequence[int],
        draw: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """Standard normal numbers of `shape` (batch, ...)."""
        return self.normals(shape, range(draw, draw + 1), dtype, device)[0]

    def normals(
        self, shape: Sequence[int], draws: range, dtype: torch.dtype, device: torch.device | None = None
    ) -> Tensor:
        """The standard normal numbers of several draws at once, of shape `(draws, *shape)`."""
        real = torch.promote_types(dtype, torch.float32)

        def box_muller(words: tuple[Tensor, ...]) -> Tensor:
            w = torch.stack(words).to(real)
            radius = w[:2].add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
            angle = w[2:].mul_(2 * math.pi * 2.0**-32)
            pairs = w.new_empty(w.shape[1], 2, 2)
            torch.mul(radius, angle.cos(), out=pairs[..., 0].T)
            torch.mul(radius, angle.sin(), out=pairs[..., 1].T)
            return pairs

        return self._drawn(shape, draws, device, box_muller).to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """Standard normal numbers like `x`: a noise can be what a single step draws from."""
        return self.like(x)

    def like(self, x: Tensor, draw: int = 0) -> Tensor:
        """Standard normal numbers with the shape, dtype and device of `x`."""
        return self.normal(x.shape, draw, x.dtype, x.device)

    def rows(self, count: int, size: int, draw: int = 0, device: torch.device | None = None) -> Tensor:
        """`count` row numbers of `size` rows, each as likely as the others, drawn with replacement."""
        return (self.uniform((count, 1), draw, torch.float64, device)[:, 0] * size).long()

    def permutation(self, size: int, draw: int = 0) -> Tensor:
        """A random order of `size` things."""
        small = np.int32 if size < 2**31 else np.int64
        keys = torch.empty(size, dtype=torch.int64)  # 63 bits: ties are rarer than 1 in 1e6 for a million things
        for block in torch.split(keys, 64 * BLOCK):
            start = self.first * size + int(block.storage_offset())
            high, low = (replace(self, first=first).words(block.shape, draw) for first in (start, start + size))
            torch.bitwise_xor(high << 31, low, out=block)
        if size < PARTS << 15:
            return torch.from_numpy(np.argsort(keys.numpy()).astype(small))
        order, place = np.empty(size, small), 0
        values = keys.numpy()
        parts = np.concatenate([(block >> 58).astype(np.uint8) for block in np.array_split(values, PARTS)])
        for part in range(PARTS):  # one range of keys after another, as to sort all at once takes twice the memory
            mine = np.flatnonzero(parts == part)
            order[place : place + len(mine)] = mine[np.argsort(values[mine])]
            place += len(mine)
        return torch.from_numpy(order)

    def _drawn(
        self,
        shape: Sequence[int],
        draws: range,
        device: torch.device | None,
        transform: Callable[[tuple[Tensor, ...]], Tensor],
    ) -> Tensor:
        size = math.prod(shape[1:])
        start, count = self.first * size, shape[0] * size
        if not count:
            nothing = torch.empty(0, dtype=torch.int64, device=device)
            return transform((nothing, nothing, nothing, nothing)).reshape(len(draws), *shape)
        key = (self.seed & WORD, self.seed >> 32)
        is_host = device is None or torch.device(device).type == "cpu"
        pieces = []
        for first in range(start // 4, -(-(start + count) // 4), BLOCK):
            last = min(first + BLOCK, -(-(start + count) // 4))
            number, element = divmod(np.arange(len(draws) * (last - first)), last - first)
            element += first
            columns = (
                element & WORD,
                element >> 32,
                number + (self.draw + draws.start),
                np.full_like(element, self.stream),
            )
            if is_host:  # NumPy's integers are faster here than torch's, three times so for few
                words = tuple(map(torch.from_numpy, philox(columns, key)))
            else:
                words = philox([torch.from_numpy(column).to(device) for column in columns], key)
            pieces.append(transform(words).reshape(len(draws), -1))
        flat = torch.cat(pieces, 1) if len(pieces) > 1 else pieces[0]
        return flat[:, start % 4 : start % 4 + count].reshape(len(draws), *shape)


class Draws:
    """The normal numbers of a walk's steps. Where points are few, those of several steps are drawn at once."""

    AHEAD = 16

    def __init__(self, noise: Noise) -> None:
        self.noise = noise
        self._first = 0
        self._ready = torch.empty(0)

    def __call__(self, x: Tensor, draw: int) -> Tensor:
        """Those of step `draw`, with the shape, dtype and device of `x`."""
        ready = self._ready
        fits = ready.shape[1:] == x.shape and ready.dtype == x.dtype and ready.device == x.device
        if not fits or not self._first <= draw < self._first + len(ready):
            ahead = max(1, min(self.AHEAD, 4 * BLOCK // max(x.numel(), 1)))
            self._first, self._ready = draw, self.noise.normals(x.shape, range(draw, draw + ahead), x.dtype, x.device)
        return self._ready[draw - self._first]
