"""The loss of a training run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from pathline.plots.axes import COLOURS, INK, new_axes


def loss(
    steps: Sequence[int],
    training: Sequence[float],
    held_out_steps: Sequence[int] = (),
    held_out: Sequence[float] = (),
    ax: Axes | None = None,
) -> Axes:
    """Training loss, as logged and smoothed, and the loss on held-out data, against the optimizer step."""
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
    ax.set_xlabel("optimizer step", color=INK)
    ax.set_ylabel("matching loss", color=INK)
    ax.legend(frameon=False)
    return ax


def loss_by_time(values: Sequence[float], ax: Axes | None = None) -> Axes:
    """The held-out loss in even bins of t, from noise to data."""
    if ax is None:
        ax = new_axes(4.0, 3.6)
    edges = np.linspace(0, 1, len(values) + 1)
    ax.stairs(values, edges, fill=True, color=COLOURS[1], alpha=0.6)
    ax.set_xlim(0, 1)
    ax.set_xlabel("t, from noise to data", color=INK)
    ax.set_ylabel("held-out loss", color=INK)
    return ax


def _smoothed(values: Sequence[float], reach: int = 3) -> list[float]:
    """The mean over a window to both sides, shorter at the ends, so that it lags neither way."""
    last = len(values) - 1
    reaches = [min(reach, i, last - i) for i in range(len(values))]
    return [float(np.mean(values[i - r : i + r + 1])) for i, r in enumerate(reaches)]
