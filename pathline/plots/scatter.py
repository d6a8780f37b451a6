"""Points in the plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pathline.plots.axes import COLOURS, INK, new_axes


def scatter(
    points: ArrayLike, y: ArrayLike | None = None, names: Sequence[str] = (), title: str = "", ax: Axes | None = None
) -> Axes:
    """Points of shape (n, 2), coloured by class if `y` is given."""
    points = np.asarray(points)
    if ax is None:
        ax = new_axes(4.6, 4.4)
    labels = np.zeros(len(points), int) if y is None else np.asarray(y)
    for label in np.unique(labels):
        mine = points[labels == label]
        name = names[label] if label < len(names) else None
        ax.scatter(mine[:, 0], mine[:, 1], s=5, alpha=0.5, lw=0, color=COLOURS[label % len(COLOURS)], label=name)
    ax.set_aspect("equal")
    if names:
        ax.legend(frameon=False, fontsize=9, markerscale=3, loc="upper right")
    if title:
        ax.set_title(title, fontsize=10, color=INK)
    return ax
