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
BESIDE = 6  # channels that are drawn side by side, at most
WIDEST = 16.0  # inches of a grid


def rule_of(channels: int, has_alpha: bool = False) -> str:
    """How images of so many channels are drawn, in words; nothing for grey ones, and those in three colours."""
    if channels in (1, 3):
        return ""
    if channels == 4 and has_alpha:
        return "alpha over white"
    if channels <= BESIDE:
        return f"{channels} channels side by side"
    return f"channels 1, {channels // 2 + 1} and {channels} of {channels} as red, green and blue"


def drawable(images: ArrayLike, is_ink: bool = False, has_alpha: bool = False) -> NDArray[Any]:
    """Images of any number of channels as grey ones, (n, 1, height, width), or in colour, (n, 3, height, width).

    One channel is grey, and three are red, green and blue. Of four, the last is alpha if it is said so, and the colours
    are laid over white. Up to six are drawn in grey side by side, and of more the first, the middle one and the last
    are colours.

    Args:
        images: Of shape (n, channels, height, width), values from 0 to 1; what is beyond is cut.
        is_ink: Whether high values are black, as ink on paper, in grey pictures; else they are white.
        has_alpha: Whether the last of four channels is alpha.

    Raises:
        ValueError: If the images have another shape.
    """
    pictures = checked("images", images, *SHAPE, hint="pass x[:, None] for grey images without a channel")
    x: NDArray[np.float64] = np.clip(pictures, 0, 1)
    n, channels, height, width = x.shape
    if channels == 4 and has_alpha:
        x = x[:, :3] * x[:, 3:] + 1 - x[:, 3:]
    elif channels > BESIDE:
        x = x[:, [0, channels // 2, channels - 1]]
    if x.shape[1] == 3:
        return x
    panels = np.full((n, 1, height, channels * (width + 1) - 1), 1.0)
    for k in range(channels):
        panels[:, 0, :, k * (width + 1) :][..., :width] = 1 - x[:, k] if is_ink else x[:, k]
    return panels


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
    images: ArrayLike,
    columns: int,
    row_names: Sequence[str] = (),
    title: str = "",
    ax: Axes | None = None,
    *,
    is_ink: bool = False,
    has_alpha: bool = False,
) -> Axes:
    """Images in rows, drawn as `drawable` has it; its rule stands in the title where they are neither grey nor colours.

    Args:
        images: Of shape (n, channels, height, width), values from 0 to 1.
        columns: How many are in a row.
        row_names: What the rows are called, if anything.
        title: Above the axes.
        ax: Where to draw; new axes if left out.
        is_ink: Whether high values of grey images are black, as ink on paper.
        has_alpha: Whether the last of four channels is alpha.

    Raises:
        ValueError: If the images have another shape, or there is no column.
    """
    drawn = drawable(images, is_ink, has_alpha)
    channels, gap = np.shape(images)[1], gap_of(np.shape(images)[1], has_alpha)
    sheet = tile(drawn, columns, gap)
    height, width = drawn.shape[2:]
    rows = -(-len(drawn) // columns)
    if ax is None:
        longest = max(map(len, row_names), default=0)
        wide = columns * max(1.0, width / height)
        size = min(0.55, WIDEST / wide)  # inches of a picture's shorter side
        ax = new_axes(size * wide + 0.5 + LETTER * max(longest - 4, 0), size * rows * max(1.0, height / width) + 0.35)
    ax.imshow(sheet.squeeze(-1) if drawn.shape[1] == 1 else sheet, cmap="gray", vmin=0, vmax=1)
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    ax.set_yticks([(height + gap) * row + (height - 1) / 2 for row in range(len(row_names))], row_names)
    ax.tick_params(length=0)
    return label(ax, "; ".join(filter(None, (title, rule_of(channels, has_alpha)))))


def gap_of(channels: int, has_alpha: bool = False) -> int:
    """Pixels between two images; more where there are some between the channels of one."""
    return 3 if "side by side" in rule_of(channels, has_alpha) else 1


def strip(
    times: ArrayLike, states: ArrayLike, ax: Axes | None = None, *, title: str = "", is_ink: bool = False
) -> Axes:
    """Images on their way from noise to data: a row each, a column each time.

    Args:
        times: Of shape (k,).
        states: Of shape (k, n, channels, height, width), values from 0 to 1.
        ax: Where to draw; new axes if left out.
        title: Above the axes.
        is_ink: Whether high values of grey images are black, as ink on paper.

    Raises:
        ValueError: If a shape does not fit.
    """
    times = checked("times", times, "k")
    states = checked("states", states, len(times), *SHAPE)
    k, n, channels, height, width = states.shape
    if ax is None:
        ax = new_axes(0.55 * k + 0.2, 0.55 * n * height / width + 0.5)
    image_grid(states.swapaxes(0, 1).reshape(n * k, *states.shape[2:]), k, title=title, ax=ax, is_ink=is_ink)
    step = drawable(states[0, :1]).shape[-1] + gap_of(channels)
    ax.set_xticks([step * column + (step - gap_of(channels) - 1) / 2 for column in range(k)], [f"{t:g}" for t in times])
    return label(ax, x="$t$, from noise to data")


def demo() -> Axes:
    """Discs and rings that come out of noise, x_t = t data + (1 - t) noise."""
    side = np.linspace(-1.2, 1.2, 24)
    radius = np.hypot(*np.meshgrid(side, side))
    edges = [(0.0, 0.9), (0.5, 1.0), (0.0, 0.5)]
    data = np.stack([((radius >= low) & (radius <= high)).astype(float) for low, high in edges])[:, None]
    noise = np.random.default_rng(0).normal(0.5, 0.5, data.shape)
    times = np.linspace(0, 1, 9)
    return strip(times, np.stack([t * data + (1 - t) * noise for t in times]), is_ink=True)


if __name__ == "__main__":
    save(demo(), path := demo_path("images.png"))
    print(path)
