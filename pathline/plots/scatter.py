"""Points in the plane, over the density that they should have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pathline.plots.axes import COLOURS, COOL, checked, demo_path, key, label, new_axes, plane, save, tidy
from pathline.plots.densities import density as draw_density


def scatter(
    points: ArrayLike,
    y: ArrayLike | None = None,
    names: Sequence[str] = (),
    title: str = "",
    ax: Axes | None = None,
    *,
    grid: ArrayLike | None = None,
    density: ArrayLike | None = None,
    size: float = 5.0,
    values: ArrayLike | None = None,
    bar: str = "",
) -> Axes:
    """Points of shape (n, 2), coloured by class if `y` is given, or by number if `values` are.

    Args:
        points: Where they are.
        y: The class of each, of shape (n,), counted from 0.
        names: Of the classes, for a legend.
        title: Above the axes.
        ax: Where to draw; new axes if left out.
        grid: Points of shape (m, 2) that fill a rectangle row by row or column by column.
        density: The density at these points, of shape (m,), drawn behind.
        size: The area of a point, in square points.
        values: A number that goes with each, of shape (n,).
        bar: What the numbers are, beside a bar of their colours; no bar without it.

    Raises:
        ValueError: If a shape does not fit, there are both `y` and `values`, or one of `grid` and `density` comes
            without the other.
    """
    points = checked("points", points, "n", 2, hint="pass x[:, :2] for the first two coordinates")
    labels = np.zeros(len(points), int) if y is None else checked("y", y, len(points)).astype(int)
    if (grid is None) != (density is None):
        raise ValueError("grid and density must come together, got one alone; density is read at the points of grid")
    if values is not None and y is not None:
        raise ValueError("y and values must not come together, as a point has one colour; leave out one of them")
    ax = new_axes(4.6, 4.4) if ax is None else ax
    if grid is not None and density is not None:
        draw_density(grid, density, ax=ax)
    if values is not None:
        numbers = checked("values", values, len(points))
        shown = ax.scatter(points[:, 0], points[:, 1], s=size, alpha=0.7, lw=0, c=numbers, cmap=COOL)
        if bar:
            figure: Any = ax.figure
            scale = figure.colorbar(shown, ax=ax)
            scale.solids.set_alpha(1)
            scale.outline.set_visible(False)
            label(tidy(scale.ax), y=bar)
    for k in np.unique(labels) if values is None else ():
        mine = points[labels == k]
        name = names[k] if k < len(names) else None
        ax.scatter(mine[:, 0], mine[:, 1], s=size, alpha=0.5, lw=0, color=COLOURS[k % len(COLOURS)], label=name)
    ax.set_aspect("equal")
    if names:
        key(ax, markerscale=3, loc="upper right")
    return label(ax, title)


def demo() -> Axes:
    """Samples of a ring of normals over its density."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(6) / 6
    means = 2 * np.column_stack((np.cos(angle), np.sin(angle)))
    points = means[rng.integers(6, size=2000)] + 0.35 * rng.normal(size=(2000, 2))
    line = np.linspace(-3.5, 3.5, 121)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    density = np.exp(-((grid[:, None] - means) ** 2).sum(-1) / (2 * 0.35**2)).sum(1) / (6 * 2 * np.pi * 0.35**2)
    return plane(scatter(points, title="samples over their density", grid=grid, density=density), 3.5)


if __name__ == "__main__":
    save(demo(), path := demo_path("scatter.png"))
    print(path)
