"""Images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pathline.plots.axes import INK, new_axes


def tile(images: ArrayLike, columns: int, gap: int = 1, paper: float = 1.0) -> NDArray[Any]:
    """Images of shape (n, channels, height, width) as one array (height, width, channels), filled row by row."""
    pictures = np.asarray(images, dtype=float)
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
    """Images of shape (n, channels, height, width), values from 0 to 1, in rows; grey ones as ink on paper."""
    sheet = tile(np.clip(images, 0, 1), columns, paper=0.0 if np.shape(images)[1] == 1 else 1.0)
    rows = -(-len(np.asarray(images)) // columns)
    if ax is None:
        ax = new_axes(0.55 * columns + 0.5, 0.55 * rows + 0.35)
    ax.imshow(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet, cmap="gray_r", vmin=0, vmax=1)
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    height = np.shape(images)[2] + 1
    ax.set_yticks([height * row + (height - 2) / 2 for row in range(len(row_names))], row_names)
    ax.tick_params(length=0)
    if title:
        ax.set_title(title, fontsize=10, color=INK)
    return ax
