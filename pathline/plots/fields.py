"""Vector fields in the plane: a velocity u_t(x) or a score grad log p_t(x), as arrows or as streamlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pathline.plots.axes import INK, checked, demo_path, label, new_axes, panels, plane, save
from pathline.plots.densities import density, lattice, row_of


def arrows(
    points: ArrayLike, vectors: ArrayLike, ax: Axes | None = None, *, unit: float | None = None, color: str = INK
) -> Axes:
    """Arrows of shape (n, 2) at points of shape (n, 2).

    Args:
        points: The middle of each arrow; any points will do.
        vectors: Where they go.
        ax: Where to draw; new axes if left out.
        unit: The length of a vector that is drawn as long as the distance between points; that of the longest if left
            out. Pass one number to compare panels.
        color: Of the arrows.

    Raises:
        ValueError: If a shape does not fit, or `unit` is not positive.
    """
    points = checked("points", points, "n", 2)
    vectors = checked("vectors", vectors, len(points), 2)
    length = np.linalg.norm(vectors, axis=1)
    if unit is None:
        unit = float(length.max(initial=0)) or 1.0
    if not unit > 0:
        raise ValueError(f"unit must be positive, got {unit}; it is the length of a vector that is drawn in full")
    ax = new_axes(4.6, 4.4) if ax is None else ax
    spacing = _spacing(points)
    ax.quiver(
        *points.T,
        *vectors.T,
        color=color,
        angles="xy",
        scale_units="xy",
        pivot="mid",
        scale=unit / spacing,
        width=0.005,
        zorder=3,
    )
    ax.set_aspect("equal")
    return ax


def _spacing(points: NDArray[Any]) -> float:
    """The mean distance between neighbours, as if they filled their rectangle evenly."""
    width, height = np.ptp(points, axis=0)
    # a lattice of a x b points has (a - 1)(b - 1) cells, which is (sqrt(n) - 1)^2 where it is square
    return float(np.sqrt(width * height) / max(np.sqrt(len(points)) - 1, 1)) or 1.0


def streamlines(grid: ArrayLike, vectors: ArrayLike, ax: Axes | None = None, *, color: str = INK) -> Axes:
    """Lines that follow a field, of shape (m, 2), on points of shape (m, 2) that fill a rectangle evenly.

    Raises:
        ValueError: If a shape does not fit, or the points fill no rectangle.
    """
    points = checked("grid", grid, "m", 2)
    x, y, field = lattice(points, checked("vectors", vectors, len(points), 2))
    ax = new_axes(4.6, 4.4) if ax is None else ax
    ax.streamplot(x, y, field[..., 0], field[..., 1], color=color, linewidth=0.7, arrowsize=0.7, density=0.9)
    ax.set_aspect("equal")
    return ax


def fields_at(
    times: ArrayLike,
    points: ArrayLike,
    vectors: ArrayLike,
    axes: Sequence[Axes] | None = None,
    *,
    grid: ArrayLike | None = None,
    densities: ArrayLike | None = None,
) -> list[Axes]:
    """A field at several times, side by side, as arrows over the density; each panel has its own unit.

    Args:
        times: Of shape (k,).
        points: The middle of each arrow, of shape (n, 2).
        vectors: At each time and point, of shape (k, n, 2).
        axes: One for each time; a row of new ones if left out.
        grid: Points of shape (m, 2) that fill a rectangle.
        densities: The density at each time and point of the grid, of shape (k, m).

    Raises:
        ValueError: If a shape does not fit, or one of `grid` and `densities` comes without the other.
    """
    times, points = checked("times", times, "k"), checked("points", points, "n", 2)
    vectors = checked("vectors", vectors, len(times), len(points), 2)
    if (grid is None) != (densities is None):
        raise ValueError("grid and densities must come together, got one alone; densities are read at the grid")
    if grid is not None and densities is not None:
        densities = checked("densities", densities, len(times), len(np.asarray(grid)))
    axes = row_of(axes, len(times))
    reach = float(np.abs(points if grid is None else np.asarray(grid)).max())
    for k, ax in enumerate(axes):
        if grid is not None and densities is not None:
            density(grid, np.asarray(densities)[k], ax)
        label(plane(arrows(points, vectors[k], ax), reach), f"$t = {times[k]:g}$")
    return axes


def demo() -> Axes:
    """Score of a normal and velocity of x_t = t z + (1 - t) noise towards one point z, in closed form."""
    line, fine = np.linspace(-2.7, 2.7, 13), np.linspace(-3, 3, 101)
    points, grid = (np.stack(np.meshgrid(side, side), -1).reshape(-1, 2) for side in (line, fine))
    z, t = np.array([1.2, 0.8]), 0.4
    p = np.exp(-((grid - t * z) ** 2).sum(1) / (2 * (1 - t) ** 2)) / (2 * np.pi * (1 - t) ** 2)
    axes = panels(3, width=3.0, height=3.2)
    for ax in axes:
        plane(density(grid, p, ax), 3.0)
    label(arrows(points, (z - points) / (1 - t), axes[0]), "velocity $u_t(x\\,|\\,z)$")
    label(arrows(points, -(points - t * z) / (1 - t) ** 2, axes[1]), r"score $\nabla \log p_t(x\,|\,z)$")
    label(streamlines(grid, (z - grid) / (1 - t), axes[2]), "streamlines of $u_t(x\\,|\\,z)$")
    return axes[0]


if __name__ == "__main__":
    save(demo(), path := demo_path("fields.png"))
    print(path)
