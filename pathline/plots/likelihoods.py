"""Log-densities of samples: how they are spread, and which samples are the least likely of all.

Samples in the plane show theirs by colour, pictures in rows from either end, and the rows of a table by how far each of
their columns is from its mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import ArrayLike, NDArray

from pathline.plots.axes import COMPUTED, EXACT, INK, checked, demo_path, key, label, new_axes, panels, save, tidy
from pathline.plots.images import drawable, rule_of
from pathline.plots.scatter import scatter

NATS = "log-density, nats"
CENTRAL = (0.01, 0.99)  # the quantiles of each set that a histogram has room for
NEAR = 0.3  # of the way between them: how far beyond others are still drawn
FAR = 4.0  # standard deviations of the strongest colour of a table
AWAY = LinearSegmentedColormap.from_list("away", [COMPUTED, "#ffffff", EXACT])
MOST_BINS, FEWEST_BINS = 60, 12


def log_densities(sets: Mapping[str, ArrayLike], ax: Axes | None = None) -> Axes:
    """Histograms of log-densities, by the names of the sets: the first filled, another as a line; means are dashed.

    Each counts shares of its own set. A few values far from all others are counted at the edge, not drawn.

    Raises:
        ValueError: If a set is empty, or not of shape `(n,)`.
    """
    values = {name: checked(name, found, "n") for name, found in sets.items()}
    if not values or not all(len(found) for found in values.values()):
        raise ValueError(f"sets must hold at least one value each, got { ({k: len(v) for k, v in values.items()}) }")
    ax = new_axes(6.4, 3.8) if ax is None else ax
    edges = _edges([*values.values()])
    for k, (name, found) in enumerate(values.items()):
        share = np.histogram(found, edges)[0] / len(found)
        colour, words = INK if k else COMPUTED, f"{name}: {len(found)}, mean {found.mean():.4g}"
        ax.stairs(share, edges, fill=not k, color=colour, alpha=1 if k else 0.45, lw=1.5, label=words)
        if edges[0] <= found.mean() <= edges[-1]:
            ax.axvline(found.mean(), color=colour, ls=(0, (4, 3)), lw=1.2)
        for x, side, sign, beyond in (
            (0.0, "left", "$\\leftarrow$ ", int((found < edges[0]).sum())),
            (1.0, "right", "$\\rightarrow$ ", int((found > edges[-1]).sum())),
        ):
            if beyond:
                text = f"{sign}{beyond} of {name}"
                ax.text(x, 0.97 - 0.07 * k, text, transform=ax.transAxes, ha=side, va="top", fontsize=8, color=INK)
    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    ax.set_xlim(edges[0], edges[-1])
    key(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(values))
    return label(ax, x=NATS, y="share of samples")


def _edges(sets: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Bins for all of the sets, as fine as the one with the least spread asks: Freedman & Diaconis 1981."""
    low, high = np.quantile([np.quantile(found, CENTRAL) for found in sets], (0, 1))
    reach = NEAR * (high - low)
    low = max(low - reach, min(float(found.min()) for found in sets))
    high = min(high + reach, max(float(found.max()) for found in sets))
    margin = 0.03 * (high - low) or 0.5
    wide = [2 * np.subtract(*np.quantile(found, (0.75, 0.25))) / len(found) ** (1 / 3) for found in sets]
    finest = min((float(width) for width in wide if width > 0), default=high - low) or 1.0
    bins = int(np.clip((high - low) / finest, FEWEST_BINS, MOST_BINS))
    return np.linspace(low - margin, high + margin, bins + 1)


def ranked_images(
    images: ArrayLike,
    values: ArrayLike,
    names: Sequence[str] = (),
    columns: int = 10,
    rows: int = 2,
    *,
    is_ink: bool = False,
    has_alpha: bool = False,
) -> list[Axes]:
    """The least likely images, and below them the most likely: each over its log-density, and its class if it has one.

    Args:
        images: Of shape (n, channels, height, width), values from 0 to 1, drawn as `drawable` has it.
        values: Of shape (n,).
        names: The class of each, or none.
        columns: Images in a row.
        rows: Of each end, at most.
        is_ink: Whether high values of grey images are black, as ink on paper.
        has_alpha: Whether the last of four channels is alpha.

    Raises:
        ValueError: If a shape does not fit.
    """
    pictures = drawable(images, is_ink, has_alpha)
    rule = rule_of(np.shape(images)[1], has_alpha)
    numbers = checked("values", values, len(pictures))
    channels, height, width = pictures.shape[1:]
    columns = max(1, min(columns, int(columns * height / width))) if width > height else columns
    order = np.argsort(numbers, kind="stable")
    count = min(rows * columns, -(-len(order) // 2))
    ends = {"least likely first": order[:count], "most likely first": order[count:][-count:][::-1]}
    ends = {name: index for name, index in ends.items() if len(index)}
    tall, size = -(-count // columns), 0.9 * height / width
    step = size + 0.22 + 0.2 * bool(names)  # below a picture there is room for its words
    digits = 1 if np.abs(numbers).max() >= 100 else 2
    axes = panels(1, len(ends), width=0.74 * columns + 0.3, height=0.74 * step * tall + 0.42)
    for ax, (title, index) in zip(axes, ends.items(), strict=True):
        for place, i in enumerate(index):
            left, top = place % columns, -step * (place // columns)
            picture = pictures[i].transpose(1, 2, 0)
            look: Any = {"cmap": "gray", "vmin": 0, "vmax": 1} if channels == 1 else {}
            ax.imshow(picture if channels == 3 else picture[..., 0], extent=(left, left + 0.9, top - size, top), **look)
            words = f"{numbers[i]:.{digits}f}" + (f"\n{names[i]}" if names else "")
            ax.text(left + 0.45, top - size - 0.04, words, ha="center", va="top", fontsize=7.5, color=INK)
        ax.set(xlim=(-0.05, columns), ylim=(-step * tall, 0.05), aspect="equal", xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        label(ax, f"{title}: {NATS}{' and class' if names else ''}{rule and f' ({rule})'}")
    return axes


def ranked_points(points: ArrayLike, values: ArrayLike, least: int = 10, ax: Axes | None = None) -> Axes:
    """Points in the plane, coloured by log-density, with rings around the least likely; on a line, log-density over x.

    Colours reach down to where all but one in fifty are, so that a few outliers do not take all of them.

    Args:
        points: Of shape (n, 2) or (n, 1).
        values: Of shape (n,).
        least: How many have rings.
        ax: Where to draw; new axes if left out.

    Raises:
        ValueError: If a shape does not fit.
    """
    found = checked("points", points, "n", "dimension")
    numbers = checked("values", values, len(found))
    order = np.argsort(numbers, kind="stable")[:least]
    rings: Any = {"s": 46, "facecolors": "none", "edgecolors": EXACT, "lw": 1.2, "zorder": 4}
    if found.shape[1] == 1:
        ax = new_axes(6.0, 3.8) if ax is None else ax
        ax.scatter(found[:, 0], numbers, s=7, lw=0, alpha=0.7, color=COMPUTED)
        ax.scatter(found[order, 0], numbers[order], label=f"the {len(order)} least likely", **rings)
        label(ax, x="$x$", y=NATS)
    else:
        floor = np.quantile(numbers, 0.02)
        is_cut = bool(numbers.min() < floor)
        bar = f"{NATS} (below {floor:.3g} alike)" if is_cut else NATS
        wide, tall = np.ptp(found, axis=0)
        ax = new_axes(6.2, 1.2 + 4.4 * float(np.clip(tall / wide if wide > 0 else 1, 0.35, 1))) if ax is None else ax
        scatter(found, values=np.maximum(numbers, floor), bar=bar, size=9, ax=ax)
        ax.scatter(found[order, 0], found[order, 1], label=f"the {len(order)} least likely", **rings)
        label(ax, x="$x_1$", y="$x_2$")
    return key(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def ranked_rows(
    cells: ArrayLike,
    away: ArrayLike,
    values: ArrayLike,
    columns: Sequence[str],
    names: Sequence[str],
    rows: int = 12,
    most: int = 10,
    ax: Axes | None = None,
) -> Axes:
    """The least likely rows of a table: the columns of theirs that are the farthest from their means.

    Args:
        cells: Of shape (n, d).
        away: How many standard deviations each is from the mean of its column, of shape (n, d).
        values: Log-densities, of shape (n,).
        columns: The name of each column.
        names: The name of each row.
        rows: How many are shown.
        most: Columns that are shown.
        ax: Where to draw; new axes if left out.

    Raises:
        ValueError: If a shape does not fit.
    """
    cells = checked("cells", cells, "n", len(columns))
    away = checked("away", away, *cells.shape)
    numbers = checked("values", values, len(cells))
    shown = np.argsort(numbers, kind="stable")[:rows]
    wide = np.sort(np.argsort(-np.abs(away[shown]).max(0), kind="stable")[:most])
    ax = new_axes(2.6 + 0.72 * len(wide), 1.7 + 0.3 * len(shown)) if ax is None else ax
    sheet = ax.imshow(away[np.ix_(shown, wide)], cmap=AWAY, vmin=-FAR, vmax=FAR, aspect="auto")
    for row, i in enumerate(shown):
        for column, k in enumerate(wide):
            colour = "white" if abs(away[i, k]) > 0.75 * FAR else INK
            ax.text(column, row, f"{cells[i, k]:.4g}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_yticks(range(len(shown)), [f"{names[i]}   {numbers[i]:.4g}" for i in shown])
    ax.set_xticks(range(len(wide)), [_short(columns[k]) for k in wide], rotation=35, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure: Any = ax.figure
    bar = figure.colorbar(sheet, ax=ax, extend="both")
    bar.outline.set_visible(False)
    label(tidy(bar.ax), y="standard deviations from the mean")
    return label(ax, f"the {len(shown)} least likely: {NATS}")


def _short(name: str, longest: int = 22) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def demo() -> Axes:
    """Log-densities of samples of a normal in the plane, and of points that are farther out."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(size=(2, 800, 2)) * [[[1]], [[1.7]]]
    first, second = (-(points**2).sum(1) / 2 - np.log(2 * np.pi) for points in (near, far))
    left, right = panels(2, width=5.2, height=3.8)
    log_densities({"farther out": second, "samples": first}, left)
    ranked_points(far, second, ax=right)
    return left


if __name__ == "__main__":
    save(demo(), path := demo_path("likelihoods.png"))
    print(path)
