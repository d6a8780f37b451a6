"""What the exact field of a data set costs, over the two products of matrices that it consists of.

    queries @ data.T, weights @ data        256 points, 60,000 x 784 in float32

Beside it the naive form (all distances, a softmax, a product) and one call of fused attention with a bias, which is
fast but cannot tell near ties apart: the last columns are the largest relative error of each velocity, against float64.

    python benchmarks/exact_field.py [--threads 2] [--rounds 10] [--data images.npy]

Without --data, the data set is scikit-learn's digits, enlarged to 28 x 28, shifted and blurred at random, so that many
images have near doubles.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from timing import in_turn, print_ratios
from torch import Tensor
from torch.nn import functional

import pathline as pl

COUNT, BATCH = 60_000, 256
TIMES = (0.05, 0.2, 0.4, 0.6, 0.9, 0.99, 0.999)
PATH = pl.GaussianPath(pl.LinearSchedule())


def images(file: str | None) -> Tensor:
    """Vectors of 784 numbers between -1 and 1."""
    if file:
        return torch.from_numpy(np.load(file)).float().flatten(1)
    generator = torch.Generator().manual_seed(0)
    small = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    large = functional.pad(functional.interpolate(small, scale_factor=3, mode="bilinear"), (2, 2, 2, 2), value=-1.0)
    pick, shift = (torch.randint(high, (COUNT,), generator=generator) for high in (len(large), 25))
    moved = [torch.roll(large[pick[shift == k]], (k // 5 - 2, k % 5 - 2), (2, 3)) for k in range(25)]
    return (torch.cat(moved).flatten(1) + 0.02 * torch.randn(COUNT, 784, generator=generator)).clamp(-1, 1)


def floor(x: Tensor, data: Tensor) -> Tensor:
    return (x @ data.T) @ data


def naive(x: Tensor, t: float, data: Tensor) -> Tensor:
    mean = torch.softmax(-(torch.cdist(x, t * data) ** 2) / (2 * (1 - t) ** 2), 1) @ data
    return (mean - x) / (1 - t)


def fused(x: Tensor, t: float, data: Tensor, squares: Tensor) -> Tensor:
    bias = -(t**2) / (2 * (1 - t) ** 2) * squares
    query = (t / (1 - t) ** 2 * x)[None, None]
    mean = functional.scaled_dot_product_attention(query, data[None, None], data[None, None], bias[None], scale=1.0)
    return (mean[0, 0] - x) / (1 - t)


def plain(x: Tensor, t: float, data: Tensor) -> Tensor:
    """In float64, by differences."""
    far = torch.cat(
        [
            torch.cdist(x.double(), t * block.double(), compute_mode="donot_use_mm_for_euclid_dist")
            for block in data.split(4000)
        ],
        1,
    )
    weight = torch.softmax(-(far**2) / (2 * (1 - t) ** 2), 1)
    mean = sum(w @ block.double() for w, block in zip(weight.split(4000, 1), data.split(4000), strict=True))
    return (mean - x) / (1 - t)


def peak_of(run: Callable[[], object]) -> float:
    """Megabytes of memory that a call takes at most, looked at every millisecond."""

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    before, highest, is_done = resident(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not is_done.wait(0.001):
            highest = max(highest, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    is_done.set()
    watcher.join()
    return highest - before


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--data")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = images(options.data)
    squares = (data**2).sum(1)
    field = pl.EmpiricalField(data, PATH)
    noise = pl.Noise(0).normal((BATCH, 784))
    print(f"{len(data):,} x {data.shape[1]}, {BATCH} points, {options.threads} threads")
    for t in TIMES:
        x = t * data[:: len(data) // BATCH][:BATCH] + (1 - t) * noise
        rows = {
            "two products": partial(floor, x, data),
            "pathline": partial(field.velocity, x, t),
            "naive": partial(naive, x, t, data),
            "fused attention": partial(fused, x, t, data, squares),
        }
        taken = peak_of(rows["pathline"])  # first, while no other has left memory behind
        print_ratios(f"t = {t}", in_turn(rows, options.rounds, 1))
        true = plain(x[:64], t, data)
        print(f"  peak of memory beyond the data, pathline     {taken:.0f} MB")
        for name in list(rows)[1:]:
            error = (rows[name]()[:64] - true).norm(dim=1) / true.norm(dim=1)
            print(f"  error of the velocity, {name:18}{float(error.max()):.1e}")


if __name__ == "__main__":
    main()
