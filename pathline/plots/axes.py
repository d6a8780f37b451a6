"""Fresh axes, and one look for all pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK = "#1b2a41"
COLOURS = ("#1f77b4", "#e4572e", "#2e9e6b", "#8e5fa8", "#e0a526", "#17a2b8", "#c2528b", "#6b8e23", "#5b6c8f", "#a0522d")


def new_axes(width: float = 5.0, height: float = 4.0) -> Axes:
    """Axes on a figure of their own, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return tidy(figure.add_subplot())


def tidy(ax: Axes) -> Axes:
    """The same axes without the box."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=INK, labelsize=9)
    return ax


def save(ax: Axes, path: Path, dpi: int = 130) -> None:
    """Write the figure of some axes as a picture."""
    figure: Any = ax.figure
    figure.savefig(path, dpi=dpi)
