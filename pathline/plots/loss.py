"""The loss of a training run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from pathline.plots.axes import COLOURS, EXACT, INK, checked, demo_path, key, label, new_axes, panels, save


def loss(
    steps: Sequence[int],
    training: Sequence[float],
    held_out_steps: Sequence[int] = (),
    held_out: Sequence[float] = (),
    ax: Axes | None = None,
) -> Axes:
    """Training loss, as logged and smoothed, and the loss on held-out data, against the optimizer step.

    Raises:
        ValueError: If there is not one loss a step.
    """
    checked("training", training, len(steps))
    checked("held_out", held_out, len(held_out_steps))
    if ax is None:
        ax = new_axes(6.0, 3.6)
    ax.plot(steps, training, color=COLOURS[0], alpha=0.25, lw=1)
    ax.plot(steps, _smoothed(training), color=COLOURS[0], lw=1.8, label="training")
    if len(held_out):
        ax.plot(held_out_steps, held_out, "o-", color=COLOURS[1], ms=4, lw=1.4, label="held out (averaged weights)")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(ScalarFormatter())
    ax.tick_params(which="minor", labelsize=8, colors=INK)
    return key(label(ax, x="optimizer step", y="matching loss"))


def loss_by_time(values: Sequence[float], ax: Axes | None = None) -> Axes:
    """The held-out loss in even bins of t, from noise to data."""
    if ax is None:
        ax = new_axes(4.0, 3.6)
    edges = np.linspace(0, 1, len(values) + 1)
    ax.stairs(values, edges, fill=True, color=COLOURS[1], alpha=0.6)
    ax.set_xlim(0, 1)
    return label(ax, x="$t$, from noise to data", y="held-out loss")


def loss_over_floor(
    floor: Sequence[float], training: Sequence[float], held_out: Sequence[float], ax: Axes | None = None
) -> Axes:
    """The loss of a model in even bins of t, on what it was trained on and on held-out data, over the exact floor.

    A training loss that touches the floor of its training set near data, while the held-out loss turns up, is that of
    a model that knows its samples by heart.

    Raises:
        ValueError: If there are not as many values of each.
    """
    checked("training", training, len(floor))
    checked("held_out", held_out, len(floor))
    if ax is None:
        ax = new_axes(6.0, 3.6)
    edges = np.linspace(0, 1, len(floor) + 1)
    ax.stairs(floor, edges, fill=True, color=EXACT, alpha=0.25)
    ax.stairs(floor, edges, color=EXACT, lw=1.6, label="floor of the training set, exact")
    ax.stairs(training, edges, baseline=None, color=COLOURS[0], lw=1.8, label="training")
    ax.stairs(held_out, edges, baseline=None, color=COLOURS[0], lw=1.4, ls=":", label="held out")
    ax.set(xlim=(0, 1), ylim=(0, None))
    return key(label(ax, x="$t$, from noise to data", y="matching loss"))


def _smoothed(values: Sequence[float], reach: int = 3) -> list[float]:
    """The mean over a window to both sides, shorter at the ends, so that it lags neither way."""
    last = len(values) - 1
    reaches = [min(reach, i, last - i) for i in range(len(values))]
    return [float(np.mean(values[i - r : i + r + 1])) for i, r in enumerate(reaches)]


def demo() -> Axes:
    """A loss that falls to its floor like 1 / step, with the noise of small batches."""
    steps = list(range(10, 1001, 10))
    floor = np.array([1 + 20 / step for step in steps])
    logged = floor * np.exp(0.08 * np.random.default_rng(0).normal(size=len(steps)))
    left, middle, right = panels(3, width=4.0, height=3.2, width_ratios=(3, 2, 3))
    loss(steps, logged.tolist(), steps[9::10], floor[9::10].tolist(), left)
    held_out = [1.6, 1.3, 1.1, 1.0, 0.9, 0.8, 0.8, 0.7, 0.8, 1.1]
    loss_by_time(held_out, middle)
    loss_over_floor([1.5, 1.2, 1.0, 0.8, 0.5, 0.2, 0, 0, 0, 0], [0.95 * value for value in held_out], held_out, right)
    return left


if __name__ == "__main__":
    save(demo(), path := demo_path("loss.png"))
    print(path)
