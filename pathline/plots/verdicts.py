"""What is known of a model on one page: its figures by t, each beside what it should be, and a verdict in words."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pathline.plots.axes import COLOURS, COMPUTED, EXACT, FAINT, INK, checked, demo_path, key, label, panels, save

VERDICTS = {"fine": COLOURS[2], "look": COLOURS[4], "worry": COLOURS[1], "": INK}
WIDTH = 58  # letters of a line of words under a panel
LINES: tuple[dict[str, Any], ...] = (
    {"color": COMPUTED, "marker": "o"},
    {"color": COMPUTED, "marker": "o", "mfc": "white", "ls": ":"},
)


def by_time(
    times: Sequence[float],
    lines: Mapping[str, ArrayLike],
    ax: Axes,
    right: float | None = 0.0,
    errors: ArrayLike | None = None,
    bounds: tuple[float, float] | None = None,
) -> Axes:
    """Figures by t, one line each, and where they would be if all were right.

    Args:
        times: Of shape (n,).
        lines: Figures of shape (n,), by their names.
        ax: Where to draw.
        right: What they should be; None if nothing.
        errors: Standard errors of the first line.
        bounds: How far from that is a reason to look, and to worry: both are shaded.

    Raises:
        ValueError: If there is not one figure for each time.
    """
    if right is not None:
        ax.axhline(right, color=EXACT, lw=1.4)
    for k, (name, values) in enumerate(lines.items()):
        style = LINES[min(k, 1)]
        ax.plot(times, checked(name, values, len(times)), ms=4, lw=1.6, label=name, **style)
    if errors is not None:
        first, width = next(iter(lines.values())), 2 * checked("errors", errors, len(times))
        middle = np.asarray(first, dtype=float)
        ax.fill_between(times, middle - width, middle + width, color=COMPUTED, alpha=0.2, lw=0)
    ax.set_xlim(0, 1)
    if right is not None and bounds is not None:
        _shade(ax, right, *bounds)
    if right == 0:
        ax.set_ylim(bottom=0)
    return key(label(ax, x="$t$, from noise to data")) if len(lines) > 1 else label(ax, x="$t$, from noise to data")


def _shade(ax: Axes, right: float, look: float, worry: float) -> None:
    """Say by colour how far from right is too far, as far as there is to see."""
    low, high = ax.get_ylim()
    low, high = min(low, right - 1.2 * look), max(high, right + 1.2 * look)
    for verdict, least, most in (("look", look, worry), ("worry", worry, max(high - right, right - low))):
        for sign in (1, -1) if most > least else ():
            ax.axhspan(right + sign * least, right + sign * most, color=VERDICTS[verdict], alpha=0.13, lw=0)
    ax.set_ylim(low, high)


def apart(names: Sequence[str], shares: ArrayLike, ax: Axes) -> Axes:
    """How far samples of each sigma are from those of the first, as bars.

    Raises:
        ValueError: If there is not one share a name.
    """
    values = checked("shares", shares, len(names))
    ax.axvline(0, color=EXACT, lw=1.4)
    ax.barh(range(len(names)), values, color=COMPUTED, height=0.55)
    ax.set_yticks(range(len(names)), [f"sigma {name}" for name in names])
    ax.invert_yaxis()
    most = max(0.02, 1.15 * float(np.nanmax(np.abs(values))))
    ax.set_xlim(-most / 4, most)
    return label(ax, x="share of distances that sigma makes")


def nearest(samples: ArrayLike, held_out: ArrayLike, ax: Axes) -> Axes:
    """Distances to the nearest training sample: of what a model made, and of held-out data.

    Raises:
        ValueError: If one is no row of numbers.
    """
    mine, real = checked("samples", samples, "n"), checked("held_out", held_out, "n")
    edges = np.linspace(0, np.quantile(np.concatenate((mine, real)), 0.995), 25).tolist()
    ax.hist(real, edges, density=True, color=EXACT, alpha=0.3, label="held-out data")
    ax.hist(mine, edges, density=True, histtype="step", lw=1.8, color=COMPUTED, label="samples")
    ax.set_yticks([])
    return key(label(ax, x="distance to the nearest training sample"))


def verdicts(rows: Sequence[tuple[str, str, str]], ax: Axes) -> Axes:
    """Figures in words: a name, its value, and fine, look or worry."""
    ax.set_axis_off()
    step = min(1 / max(len(rows), 1), 0.115)
    for k, (name, value, verdict) in enumerate(rows):
        style: Any = {"transform": ax.transAxes, "fontsize": 8.5, "va": "top", "color": INK}
        ax.text(0.0, 0.97 - k * step, name, **style)
        ax.text(0.86, 0.97 - k * step, value, **(style | {"ha": "right"}))
        ax.text(0.89, 0.97 - k * step, verdict, **(style | {"color": VERDICTS[verdict], "weight": "bold"}))
    return ax


def words(ax: Axes, text: str) -> Axes:
    """The same axes with plain words below them."""
    style: Any = {"fontsize": 8, "color": INK, "va": "top", "ha": "left", "transform": ax.transAxes, "alpha": 0.85}
    ax.text(0.0, -0.25, textwrap.fill(text, WIDTH), **style)
    return ax


def demo() -> Axes:
    """A model that is right early, wrong near data, and copies nothing."""
    rng, t = np.random.default_rng(0), [0.05 + 0.1 * k for k in range(10)]
    axes = panels(2, 2, width=4.6, height=3.3)
    words(
        by_time(t, {"training points": [0.5 * s for s in t], "held-out points": [s**2 for s in t]}, axes[0]),
        "0 is the exact field.",
    )
    apart(["0", "0.5", "beta"], [0, 0.004, 0.011], axes[1])
    nearest(rng.gamma(20, 0.1, 400), rng.gamma(21, 0.1, 400), axes[2])
    verdicts([("error", "0.11", "fine"), ("known by heart", "0.30", "look"), ("copies", "0.2", "worry")], axes[3])
    axes[3].plot([], [], color=FAINT)
    return axes[0]


if __name__ == "__main__":
    save(demo(), path := demo_path("verdicts.png"))
    print(path)
