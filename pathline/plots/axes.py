"""Fresh axes, and one look for all pictures: cool is computed, warm is exact.

blue    samples, paths, histograms                    `COLOURS[0]`, and `COOL` as a map of the numbers they go with
warm    densities, means, spreads: what must be met   `EXACT`, and `WARM` as a map from paper to ink
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray
from PIL import Image

INK = "#1b2a41"
FAINT = "#c9ced6"
COLOURS = ("#1f77b4", "#e4572e", "#2e9e6b", "#8e5fa8", "#e0a526", "#17a2b8", "#c2528b", "#6b8e23", "#5b6c8f", "#a0522d")
COMPUTED, EXACT = COLOURS[0], COLOURS[1]
COOL = LinearSegmentedColormap.from_list("cool", ["#9bdcc4", "#2aa5b8", "#1f77b4", "#3f3f9e", "#2b1247"])
WARM = LinearSegmentedColormap.from_list("warm", ["#ffffff", "#fdeadf", "#f9c8ae", "#f19c76", "#e4572e"])


def new_axes(width: float = 5.0, height: float = 4.0) -> Axes:
    """Axes on a figure of their own, in inches."""
    return tidy(_figure(width, height).add_subplot())


def panels(columns: int, rows: int = 1, width: float = 2.4, height: float = 2.6, **layout: Any) -> list[Axes]:
    """Axes in rows on one figure, row by row; each has this width and height in inches.

    `layout` is what matplotlib's `Figure.subplots` takes: `sharey=True`, `width_ratios=(3, 1)`.

    Raises:
        ValueError: If there is not at least one row and one column.
    """
    if columns < 1 or rows < 1:
        raise ValueError(f"columns and rows must be at least 1, got {columns} and {rows}")
    figure = _figure(columns * width, rows * height)
    return [tidy(ax) for ax in figure.subplots(rows, columns, squeeze=False, **layout).flat]


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.05))
    FigureCanvasAgg(figure)
    return figure


def tidy(ax: Axes) -> Axes:
    """The same axes without the box."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(INK)
    ax.tick_params(colors=INK, labelsize=9)
    return ax


def plane(ax: Axes, reach: float) -> Axes:
    """The same axes as a window on the plane, from -reach to reach both ways, framed and without ticks.

    Raises:
        ValueError: If the reach is not positive.
    """
    if not reach > 0:
        raise ValueError(f"reach must be positive, got {reach}; it is half the side of the window")
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(FAINT)
    return ax


def label(ax: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """The same axes with a title and names of x and y, in ink, formulas ($x_t$) in the letters of a paper.

    Where panels share an axis, only the first of a row names its y, and only the last of a column its x.
    """
    style: Any = {"color": INK, "fontsize": 11, "math_fontfamily": "cm"}
    place = ax.get_subplotspec()
    names_x = place is None or place.is_last_row() or len(ax.get_shared_x_axes().get_siblings(ax)) < 2
    names_y = place is None or place.is_first_col() or len(ax.get_shared_y_axes().get_siblings(ax)) < 2
    if title:
        ax.set_title(title, **style)
    if x and names_x:
        ax.set_xlabel(x, **style)
    if y and names_y:
        ax.set_ylabel(y, **style)
    return ax


def key(ax: Axes, **place: Any) -> Axes:
    """The same axes with a legend of what has a name, if anything has."""
    if ax.get_legend_handles_labels()[0]:
        legend = ax.legend(frameon=False, fontsize=9, labelcolor=INK, **place)
        for text in legend.get_texts():
            text.set_math_fontfamily("cm")
    return ax


def save(ax: Axes, path: str | Path, dpi: int = 130, *, colours: int | None = None) -> None:
    """Write the figure of some axes as a picture; in 16 to 256 `colours`, a PNG takes a third of the room.

    Raises:
        ValueError: If there are fewer colours, or more.
    """
    if colours is not None and not 16 <= colours <= 256:
        raise ValueError(f"colours must be from 16 to 256, got {colours}; leave it out to keep all")
    figure: Any = ax.figure
    figure.draw_without_rendering()  # the layout of axes with an aspect settles with the first drawing
    if colours is None:
        figure.savefig(path, dpi=dpi)
        return
    whole = BytesIO()
    figure.savefig(whole, dpi=dpi, format="png")
    in_few_colours(Image.open(whole).convert("RGB"), colours).save(path, optimize=True)


def in_few_colours(picture: Image.Image, colours: int) -> Image.Image:
    """The picture in few colours, ours and white among them: a median cut alone would blend the rare ones away."""
    ours = np.rint([to_rgb(colour) for colour in ("white", INK, FAINT, *COLOURS)] * np.array(255.0))
    cut = picture.quantize(colours - len(ours)).getpalette() or []
    palette = np.concatenate((ours, np.reshape(cut, (-1, 3))))[:colours]
    codes, place = np.unique(np.asarray(picture) @ [1 << 16, 1 << 8, 1], return_inverse=True)
    found = np.stack((codes >> 16, codes >> 8 & 255, codes & 255), 1)
    nearest = ((palette**2).sum(1) - 2 * found @ palette.T).argmin(1)  # Pillow's own search is too coarse for white
    few = Image.fromarray(nearest[place].reshape(picture.height, picture.width).astype(np.uint8), "P")
    few.putpalette(palette.astype(np.uint8).tobytes())
    return few


def checked(name: str, value: ArrayLike, *shape: int | str, hint: str = "") -> NDArray[Any]:
    """An argument as an array of numbers, if it has the shape: a word in it stands for any size.

    Raises:
        ValueError: If it has another shape.
    """
    array = np.asarray(value, dtype=float)
    fits = array.ndim == len(shape) and all(
        isinstance(w, str) or w == n for w, n in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}" + (f"; {hint}" if hint else ""))
    return array


def demo_path(name: str) -> Path:
    """Where a module's demo writes: the first argument, or `name` in the current folder."""
    return Path(sys.argv[1] if len(sys.argv) > 1 else name)


def demo() -> Axes:
    """The colours: of what is computed, of what is exact, and of classes."""
    left, right = panels(2, width=3.4, height=2.2)
    left.imshow(np.linspace(0, 1, 256)[None], cmap=WARM, aspect="auto", extent=(0, 1, 0, 1))
    left.set_yticks([])
    label(left, "exact", "share of the peak")
    right.bar(range(len(COLOURS)), [1] * len(COLOURS), color=COLOURS)
    right.set(xticks=range(len(COLOURS)), yticks=[])
    label(right, "computed (0), and classes", "$y$")
    return left


if __name__ == "__main__":
    save(demo(), path := demo_path("axes.png"))
    print(path)
