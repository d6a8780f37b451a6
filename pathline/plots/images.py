"""Images side by side: a grid of samples, or a strip from noise to data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pathline.plots.axes import checked, demo_path, label, new_axes, save

LETTER = 0.082  # inches that one takes in the name of a row
SHAPE = ("n", "channels", "height", "width")


def tile(images: ArrayLike, columns: int, gap: int = 1, paper: float = 1.0) -> NDArray[Any]:
    """Images of shape (n, channels, height, width) as one array (height, width, channels), filled row by row.

    Raises:
        ValueError: If the images have another shape, or there is no column.
    """
    pictures = checked("images", images, *SHAPE, hint="pass x[:, None] for grey images without a channel")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    n, channels, height, width = pictures.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), paper)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = picture.transpose(1, 2, 0)
    return sheet


def image_grid(
    images: ArrayLike, columns: int, row_names: Sequence[str] = (), title: str = "", ax: Axes | None = None
) -> Axes:
    """Images of shape (n, channels, height, width), values from 0 to 1, in rows; grey ones as ink on paper.

    Raises:
        ValueError: If the images have another shape, or are neither grey nor in three colours.
    """
    images = checked("images", images, *SHAPE, hint="pass x[:, None] for grey images without a channel")
    channels, height = images.shape[1:3]
    if channels not in (1, 3):
        raise ValueError(f"images must have 1 channel or 3, got {channels}; pass images[:, :1] for the first")
    sheet = tile(np.clip(images, 0, 1), columns, paper=0.0 if channels == 1 else 1.0)
    rows = -(-len(images) // columns)
    if ax is None:
        longest = max(map(len, row_names), default=0)
        ax = new_axes(0.55 * columns + 0.5 + LETTER * max(longest - 4, 0), 0.55 * rows + 0.35)
    ax.imshow(sheet.squeeze(-1) if channels == 1 else sheet, cmap="gray_r", vmin=0, vmax=1)
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    ax.set_yticks([(height + 1) * row + (height - 1) / 2 for row in range(len(row_names))], row_names)
    ax.tick_params(length=0)
    return label(ax, title)


def strip(times: ArrayLike, states: ArrayLike, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Images on their way from noise to data: a row each, a column each time.

    Args:
        times: Of shape (k,).
        states: Of shape (k, n, channels, height, width), values from 0 to 1.
        ax: Where to draw; new axes if left out.
        title: Above the axes.

    Raises:
        ValueError: If a shape does not fit.
    """
    times = checked("times", times, "k")
    states = checked("states", states, len(times), *SHAPE)
    k, n, _, height, width = states.shape
    if ax is None:
        ax = new_axes(0.55 * k + 0.2, 0.55 * n * height / width + 0.5)
    image_grid(states.swapaxes(0, 1).reshape(n * k, *states.shape[2:]), k, title=title, ax=ax)
    ax.set_xticks([(width + 1) * column + (width - 1) / 2 for column in range(k)], [f"{t:g}" for t in times])
    return label(ax, x="$t$, from noise to data")


def demo() -> Axes:
    """Discs and rings that come out of noise, x_t = t data + (1 - t) noise."""
    side = np.linspace(-1.2, 1.2, 24)
    radius = np.hypot(*np.meshgrid(side, side))
    edges = [(0.0, 0.9), (0.5, 1.0), (0.0, 0.5)]
    data = np.stack([((radius >= low) & (radius <= high)).astype(float) for low, high in edges])[:, None]
    noise = np.random.default_rng(0).normal(0.5, 0.5, data.shape)
    times = np.linspace(0, 1, 9)
    return strip(times, np.stack([t * data + (1 - t) * noise for t in times]))


if __name__ == "__main__":
    save(demo(), path := demo_path("images.png"))
    print(path)
