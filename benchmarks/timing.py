"""Paired timing: all contenders run in turn, round after round, and are compared within a round.

What else a machine does changes slowly beside a round, so it falls on the contenders of one round alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


def in_turn(contenders: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3) -> dict[str, Seconds]:
    """The seconds that each contender took in each round, after some rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(warmup + rounds):
        for name, run in contenders.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: np.array(row[warmup:]) for name, row in seconds.items()}


def print_ratios(title: str, seconds: Mapping[str, Seconds]) -> None:
    """A row a contender: its median time, and the median and 10-90 % range of its ratios to the first, by rounds."""
    base = next(iter(seconds.values()))
    print(f"\n{title}\n{'':28}{'median':>12}{'ratio':>11}{'10 % to 90 %':>24}")
    for name, row in seconds.items():
        low, middle, high = np.quantile(row / base, (0.1, 0.5, 0.9))
        print(f"{name:28}{1e3 * np.median(row):>9.3f} ms{middle:>11.3f}{f'{low:.3f} to {high:.3f}':>24}")
