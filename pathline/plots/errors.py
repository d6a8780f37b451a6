"""The error of solvers against what they cost, both in logarithms: a method of order p falls by p decades in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator
from scipy.optimize import isotonic_regression

from pathline.plots.axes import COLOURS, COMPUTED, FAINT, INK, checked, demo_path, label, new_axes, save

GAP = 0.055  # between two names, of the height
LEAST = 1e-12  # an error of 0 has no logarithm
LOUD = (COMPUTED, COLOURS[6])
QUIET = ("#9aa5b1", "#c9a86a", "#7fb89a", "#b39ac4", "#d9a08c", "#86b6c9", "#a8b37f", "#8c8fa8", "#c49aa8", "#b0a394")


def error_by_evaluations(
    lines: Mapping[str, tuple[Sequence[int], Sequence[float]]], loud: Sequence[str] = (), ax: Axes | None = None
) -> Axes:
    """A line for each solver, with its name beside its end.

    Args:
        lines: For each name its evaluations, in order, and the errors there.
        loud: The names of those that are to be seen first; one point of such is a star.
        ax: Where; new ones unless given.

    Raises:
        ValueError: If there is no line, or not one error for each number of evaluations.
    """
    if not lines:
        raise ValueError("lines must hold at least one solver, got none")
    ax = new_axes(7.2, 4.6) if ax is None else ax
    quiet = [name for name in lines if name not in loud]
    colours = {name: QUIET[k % len(QUIET)] for k, name in enumerate(quiet)}
    colours |= {name: LOUD[min(k, 1)] for k, name in enumerate(loud)}
    for name, (evaluations, errors) in lines.items():
        heights = np.maximum(checked(f"the errors of {name}", errors, len(evaluations)), LEAST)
        is_loud, is_alone = name in loud, len(evaluations) == 1
        marker = "*" if is_loud and is_alone else "o"
        size = (14 if is_alone else 6) if is_loud else 3.5
        ax.plot(
            evaluations,
            heights,
            marker=marker,
            ms=size,
            lw=2.6 if is_loud else 1.4,
            color=colours[name],
            mec="white" if is_loud else colours[name],
            zorder=3 + is_loud + is_alone,
            clip_on=False,
        )
    ax.set(xscale="log", yscale="log")
    seen = sorted({n for evaluations, _ in lines.values() for n in evaluations})
    ax.xaxis.set_major_locator(FixedLocator(seen))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([str(n) for n in seen])
    ax.grid(axis="y", color=FAINT, lw=0.5, alpha=0.6)
    _name(ax, lines, colours, loud)
    return label(ax, x="evaluations of the field", y="median error")


def _name(
    ax: Axes,
    lines: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    colours: Mapping[str, str],
    loud: Sequence[str],
) -> None:
    """Write each name to the right, as high as its line ends, but not over another; below one that ends before."""
    low, high = np.log(ax.get_ylim())
    last = max(evaluations[-1] for evaluations, _ in lines.values())
    ends = {name: (evaluations[-1], max(errors[-1], LEAST)) for name, (evaluations, errors) in lines.items()}
    heights = {name: float((np.log(y) - low) / (high - low)) for name, (x, y) in ends.items() if x == last}
    names = sorted(heights, key=lambda name: heights[name])
    apart = GAP * np.arange(len(names))  # as near to the ends of the lines as they can be with gaps between
    places = isotonic_regression([heights[name] for name in names] - apart).x + apart
    for name, end in ends.items():
        look: Any = {"fontsize": 9, "color": colours[name] if name in loud else INK, "annotation_clip": False}
        look["weight"] = "bold" if name in loud else "normal"
        if end[0] < last:
            ax.annotate(name, end, (0, -14), textcoords="offset points", ha="center", va="center", **look)
            continue
        leader = {"arrowstyle": "-", "color": colours[name], "lw": 0.8, "shrinkA": 2, "shrinkB": 5, "relpos": (0, 0.5)}
        place = (1.06, places[names.index(name)])
        ax.annotate(name, end, place, textcoords="axes fraction", va="center", arrowprops=leader, **look)


def demo() -> Axes:
    """Methods of orders 1 to 4 on one equation, and one that was fitted to it."""
    n = [5, 10, 20, 40]
    lines = {f"order {p}": (n, [0.5 * (p / k) ** p for k in n]) for p in (1, 2, 4)}
    return error_by_evaluations(
        {**lines, "best": (n, [0.3 * (2 / k) ** 3 for k in n]), "fitted": ([8], [1e-3])}, ("best", "fitted")
    )


if __name__ == "__main__":
    save(demo(), path := demo_path("errors.png"))
    print(path)
