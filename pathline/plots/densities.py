"""Densities: in the plane, on a line, and along time.

in the plane       p(x) at points that fill a rectangle     `density`, `contours`, `densities_at`
on a line          p(x), and a histogram that must meet it  `curve`, `histogram`
on a line, in time p_t(x), from noise to data               `density_along`, `ridges`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pathline.plots.axes import COMPUTED, EXACT, WARM, checked, demo_path, label, new_axes, panels, plane, save

RINGS = tuple(float(np.exp(-(r**2) / 2)) for r in (3, 2, 1))  # of the peak: 3, 2, 1 standard deviations of a normal
DEEPEST = 1.3  # the strongest colour is for more than the peak: what is drawn above must still be seen


def lattice(grid: ArrayLike, *values: ArrayLike) -> tuple[NDArray[Any], ...]:
    """The columns x (w,) and rows y (h,) of points that fill a rectangle, and each of the values as (h, w, ...).

    Raises:
        ValueError: If the points, of shape (m, 2), do not fill a rectangle of at least 2 x 2, or values are not m.
    """
    points = checked("grid", grid, "m", 2)
    (x, column), (y, row) = (np.unique(points[:, k], return_inverse=True) for k in (0, 1))
    place = row * len(x) + column
    if min(len(x), len(y)) < 2 or len(points) != len(x) * len(y) or len(np.unique(place)) != len(points):
        raise ValueError(
            f"grid must fill a rectangle once, got {len(points)} points with {len(x)} x {len(y)} coordinates; "
            "torch.cartesian_prod(line, line) makes one"
        )
    sheets = []
    for value in values:
        array = np.asarray(value, dtype=float)
        if array.shape[:1] != (len(points),):
            raise ValueError(f"there must be one value a point of the grid, {len(points)}, got shape {array.shape}")
        sheets.append(array[np.argsort(place)].reshape(len(y), len(x), *array.shape[1:]))
    return x, y, *sheets


def density(grid: ArrayLike, values: ArrayLike, ax: Axes | None = None, *, peak: float | None = None) -> Axes:
    """A density in the plane as colour, white at 0; colour goes by its square root, so that the tails show.

    Args:
        grid: Points of shape (m, 2) that fill a rectangle, in any order.
        values: The density at each, of shape (m,).
        ax: Where to draw; new axes if left out.
        peak: The density of the strongest colour: the largest of the values if left out.

    Raises:
        ValueError: If a shape does not fit, the points fill no rectangle, or a density is negative.
    """
    x, y, sheet = lattice(grid, checked("values", values, "m"))
    if not (sheet >= 0).all():
        raise ValueError(f"values must be densities, 0 or more, got {np.nanmin(sheet):g}; pass log_prob.exp()")
    ax = new_axes(4.6, 4.4) if ax is None else ax
    top = np.sqrt(sheet.max() if peak is None else peak) or 1.0
    ax.pcolormesh(x, y, np.sqrt(sheet), shading="gouraud", cmap=WARM, vmin=0, vmax=DEEPEST * top, zorder=0)
    ax.set_aspect("equal")
    return ax


def contours(
    grid: ArrayLike, values: ArrayLike, ax: Axes | None = None, *, levels: Sequence[float] = RINGS, color: str = EXACT
) -> Axes:
    """Lines of equal density in the plane, at levels that are shares of its peak.

    The three of `RINGS` are 1, 2 and 3 standard deviations from the mean of a normal.

    Raises:
        ValueError: If a shape does not fit, or the points fill no rectangle.
    """
    x, y, sheet = lattice(grid, checked("values", values, "m"))
    ax = new_axes(4.6, 4.4) if ax is None else ax
    ax.contour(x, y, sheet, levels=sorted(level * sheet.max() for level in levels), colors=color, linewidths=1.0)
    ax.set_aspect("equal")
    return ax


def densities_at(
    times: ArrayLike, grid: ArrayLike, values: ArrayLike, axes: Sequence[Axes] | None = None
) -> list[Axes]:
    """Densities in the plane at several times, side by side, each with its own strongest colour.

    Args:
        times: Of shape (k,).
        grid: Points of shape (m, 2) that fill a rectangle.
        values: The density at each time and point, of shape (k, m).
        axes: One for each time; a row of new ones if left out.

    Raises:
        ValueError: If a shape does not fit, or there are not as many axes as times.
    """
    times = checked("times", times, "k")
    points = checked("grid", grid, "m", 2)
    sheets = checked("values", values, len(times), len(points))
    axes = row_of(axes, len(times))
    for t, sheet, ax in zip(times, sheets, axes, strict=True):
        label(plane(density(points, sheet, ax), float(np.abs(points).max())), f"$t = {t:g}$")
    return axes


def row_of(axes: Sequence[Axes] | None, count: int) -> list[Axes]:
    """The axes given, or a row of new ones.

    Raises:
        ValueError: If there are not `count`.
    """
    axes = panels(count) if axes is None else list(axes)
    if len(axes) != count:
        raise ValueError(f"axes must be one for each of the {count} times, got {len(axes)}; panels({count}) makes them")
    return axes


def curve(
    grid: ArrayLike, values: ArrayLike, ax: Axes | None = None, *, is_sideways: bool = False, name: str = ""
) -> Axes:
    """An exact density on a line: `values` (m,) at the points `grid` (m,); sideways, x runs upwards.

    Raises:
        ValueError: If a shape does not fit.
    """
    x = checked("grid", grid, "m")
    p = checked("values", values, len(x))
    ax = new_axes(5.0, 3.2) if ax is None else ax
    (ax.set_ylim if is_sideways else ax.set_xlim)(x[0], x[-1])
    ax.plot(*((p, x) if is_sideways else (x, p)), color=EXACT, lw=1.8, label=name or None, zorder=3)
    return ax


def histogram(
    samples: ArrayLike,
    grid: ArrayLike | None = None,
    values: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    bins: int = 60,
    is_sideways: bool = False,
) -> Axes:
    """Samples of shape (n,) as a histogram of area 1, and the exact density (`values` at `grid`) that it must meet.

    Samples outside the grid are counted in the area, but not drawn.

    Raises:
        ValueError: If a shape does not fit, or one of `grid` and `values` comes without the other.
    """
    samples = checked("samples", samples, "n", hint="pass x[:, 0] for one coordinate")
    if (grid is None) != (values is None):
        raise ValueError("grid and values must come together, got one alone; values is the density at grid")
    ax = new_axes(5.0, 3.2) if ax is None else ax
    line = samples if grid is None else checked("grid", grid, "m")
    counts, edges = np.histogram(samples, bins, range=(float(line.min()), float(line.max())))
    heights = counts / (len(samples) * np.diff(edges))
    way: Any = "horizontal" if is_sideways else "vertical"
    ax.stairs(heights, edges, orientation=way, fill=True, color=COMPUTED, alpha=0.4)
    return ax if grid is None or values is None else curve(grid, values, ax, is_sideways=is_sideways)


def density_along(times: ArrayLike, grid: ArrayLike, values: ArrayLike, ax: Axes | None = None) -> Axes:
    """Densities on a line as colour along time: t to the right, x upwards.

    Colour goes by the square root of the density over its peak at that time, so that wide and narrow ones both show.

    Args:
        times: Of shape (k,), rising.
        grid: Points of shape (m,), rising.
        values: The density at each time and point, of shape (k, m).
        ax: Where to draw; new axes if left out.

    Raises:
        ValueError: If a shape does not fit.
    """
    times, grid = checked("times", times, "k"), checked("grid", grid, "m")
    values = checked("values", values, len(times), len(grid))
    ax = new_axes(5.4, 3.4) if ax is None else ax
    share = np.sqrt(values / values.max(1, keepdims=True))
    ax.pcolormesh(times, grid, share.T, shading="gouraud", cmap=WARM, vmin=0, vmax=DEEPEST, zorder=0)
    ax.set_xlim(times[0], times[-1])
    return label(ax, x="$t$", y="$x$")


def ridges(
    times: ArrayLike, grid: ArrayLike, values: ArrayLike, ax: Axes | None = None, *, height: float = 1.6
) -> Axes:
    """Densities on a line at a few times, one above the other, as a range of hills from noise (below) to data.

    Args:
        times: Of shape (k,), rising.
        grid: Points of shape (m,).
        values: The density at each time and point, of shape (k, m).
        ax: Where to draw; new axes if left out.
        height: Of the highest hill, in steps between two rows.

    Raises:
        ValueError: If a shape does not fit.
    """
    times, grid = checked("times", times, "k"), checked("grid", grid, "m")
    values = checked("values", values, len(times), len(grid))
    ax = new_axes(4.6, 3.8) if ax is None else ax
    scale = height / values.max()
    for row in reversed(range(len(times))):
        hill = row + scale * values[row]
        ax.fill_between(grid, row, hill, color=WARM(0.25), lw=0, zorder=2 * (len(times) - row))
        ax.plot(grid, hill, color=EXACT, lw=1.4, zorder=2 * (len(times) - row) + 1)
    ax.set_yticks(range(len(times)), [f"{t:g}" for t in times])
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(grid[0], grid[-1])
    return label(ax, x="$x$", y="$t$")


def demo() -> Axes:
    """Noise that becomes two normals: x_t = t data + (1 - t) noise, as colour along t, as hills, and its end."""
    grid, times = np.linspace(-3, 3, 241), np.linspace(0, 1, 101)

    def p(t: Any, x: Any) -> Any:
        parts = [(0.4, -1.3, 0.3), (0.6, 1.2, 0.4)]
        variances = [(t * std) ** 2 + (1 - t) ** 2 for _, _, std in parts]
        return sum(
            weight * np.exp(-((x - t * mean) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)
            for (weight, mean, _), v in zip(parts, variances, strict=True)
        )

    rng = np.random.default_rng(0)
    data = np.where(rng.random(6000) < 0.4, rng.normal(-1.3, 0.3, 6000), rng.normal(1.2, 0.4, 6000))
    first, second, third = panels(3, width=3.4, height=3.0)
    label(density_along(times, grid, p(times[:, None], grid), first), "$p_t$ along $t$")
    few = np.linspace(0, 1, 6)
    label(ridges(few, grid, p(few[:, None], grid), second), "$p_t$ at six times")
    label(histogram(data, grid, p(1.0, grid), third), "data and $p_1$", "$x$")
    return first


if __name__ == "__main__":
    save(demo(), path := demo_path("densities.png"))
    print(path)
