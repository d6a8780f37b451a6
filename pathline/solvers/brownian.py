"""A Brownian path that is the same whatever the steps that are taken along it.

W is known at the ends of an interval, and half way between two known times by the bridge

    W(middle) = (W(left) + W(right)) / 2 + sqrt(right - left) / 2 normal

down a binary tree whose every node has a normal number of its own, counter-based. So a walk of 50 steps and one of 100
meet the same path, and their increments add up. Within a leaf of the tree, the path is the bridge of one normal number:
the increments of grids are right in law as long as no two of their times share a leaf.

Source: Gaines & Lyons 1997, https://doi.org/10.1137/S0036139995286515 (the tree); Kidger 2022,
https://arxiv.org/abs/2202.02435, section 5.5.2 (as a function of a seed)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pathline.noise import Noise

PATH_STREAM = 1 << 17  # apart from a start made with the same noise, and from steps that draw anew


@dataclass(frozen=True)
class BrownianPath:
    """W from `start`, where it is 0, to `stop`; give it to a walk in place of its noise.

    Sample i of the path depends on (seed, i) only. A leaf is (stop - start) / 2^depth wide.

    Raises:
        ValueError: If the times do not increase, or the depth is not from 1 to 30.
    """

    noise: Noise
    start: float = 0.0
    stop: float = 1.0
    depth: int = 16

    def __post_init__(self) -> None:
        if not self.start < self.stop:
            raise ValueError(f"start must be below stop, got {self.start:g} and {self.stop:g}")
        if not 1 <= self.depth <= 30:
            raise ValueError(f"depth must be from 1 to 30 levels, got {self.depth}")

    def at(self, first: int) -> BrownianPath:
        """The same path for a batch that begins `first` samples later."""
        return replace(self, noise=self.noise.at(first))

    def along(self, times: Tensor) -> Increments:
        """What the steps of a walk along `times` draw.

        Raises:
            ValueError: If a time is not between start and stop.
        """
        if times.min() < self.start or times.max() > self.stop:
            raise ValueError(
                f"times must lie in [{self.start:g}, {self.stop:g}], where this path is known, got {times.min():g} to "
                f"{times.max():g}; BrownianPath(noise, start, stop) says otherwise"
            )
        return Increments(self, times.tolist())

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """W(t), with the shape, dtype and device of `x`."""
        return _Seeker(self)(_wide(x), t).to(x.dtype)


class Increments:
    """The normal numbers of a walk's steps: the increment of the path over each, over the root of its length."""

    def __init__(self, path: BrownianPath, times: list[float]) -> None:
        self.times = times
        self._seek = _Seeker(path)

    def __call__(self, x: Tensor, draw: int) -> Tensor:
        """Those of step `draw`, with the shape, dtype and device of `x`."""
        t, s, wide = self.times[draw], self.times[draw + 1], _wide(x)
        return ((-self._seek(wide, t) + self._seek(wide, s)) / math.sqrt(abs(s - t))).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    """Points in which the path is not rounded by more than a short step of it is long."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _Seeker:
    """The way down the tree to a time, kept: as the next time is most often near, few numbers are drawn twice."""

    def __init__(self, path: BrownianPath) -> None:
        self.path = path
        self.noise = path.noise.of(path.noise.stream + PATH_STREAM)
        self._way: list[tuple[float, float, int, Tensor, Tensor]] = []  # left, right, node, W there and there
        self._last: tuple[float, Tensor] | None = None

    def __call__(self, x: Tensor, t: float) -> Tensor:
        way = self._way
        if not way or way[0][3].shape != x.shape or way[0][3].dtype != x.dtype or way[0][3].device != x.device:
            end = math.sqrt(self.path.stop - self.path.start) * self.noise.like(x, 0)
            way[:] = [(self.path.start, self.path.stop, 1, torch.zeros_like(x), end)]
            self._last = None
        if self._last is None or self._last[0] != t:
            self._last = t, self._found(x, t)
        return self._last[1]

    def _found(self, x: Tensor, t: float) -> Tensor:
        way = self._way
        while not way[-1][0] <= t <= way[-1][1]:
            way.pop()
        while True:
            left, right, node, a, b = way[-1]
            if t in (left, right):
                return a if t == left else b
            if node >> self.path.depth:  # a leaf: the bridge of one number, right in law for one time
                spread = math.sqrt((t - left) * (right - t) / (right - left))
                return torch.lerp(a, b, (t - left) / (right - left)) + spread * self.noise.like(x, node)
            middle = (left + right) / 2
            half = (a + b) / 2 + math.sqrt(right - left) / 2 * self.noise.like(x, node)
            way.append((left, middle, 2 * node, a, half) if t <= middle else (middle, right, 2 * node + 1, half, b))
