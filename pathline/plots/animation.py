"""Moving pictures: frames are arrays (height, width, 3) of bytes, a film is a list of them, a file is GIF or WebP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from pathline.plots.axes import COMPUTED, INK, checked, demo_path, in_few_colours, new_axes, plane
from pathline.plots.densities import density
from pathline.plots.fields import arrows
from pathline.plots.scatter import scatter

Frame = NDArray[Any]
SIZE = 3.6  # inches, of a frame


def frame_of(ax: Axes) -> Frame:
    """The figure of some axes as an array (height, width, 3) of bytes."""
    canvas: Any = ax.figure.canvas
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def enlarged(sheet: ArrayLike, factor: int) -> Frame:
    """An array of grey or colour pixels from 0 to 1, each pixel a square of bytes."""
    pixels: Frame = np.rint(np.clip(np.asarray(sheet, dtype=float), 0, 1) * 255).astype(np.uint8)
    return np.repeat(np.repeat(pixels, factor, 0), factor, 1)


def save_gif(
    frames: Sequence[Frame], path: str | Path, seconds: float = 3.0, hold: float = 1.5, *, colours: int = 128
) -> None:
    """Write frames as an endless GIF that lasts `seconds`, and rests on the last frame for `hold` more.

    Args:
        frames: Arrays (height, width, 3 or 1) of bytes.
        path: The file.
        seconds: For all frames but the last; a GIF counts in hundredths, and shows none for less than two.
        hold: For the last frame.
        colours: How many each frame may have, 16 to 256. Shades of a density need many, and room: WebP takes a third.

    Raises:
        ValueError: If there is no frame, or they differ in size.
    """
    pictures = [in_few_colours(picture.convert("RGB"), colours) for picture in _pictures(frames)]
    durations = _durations(len(frames), seconds, hold)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)


def save_webp(
    frames: Sequence[Frame], path: str | Path, seconds: float = 3.0, hold: float = 1.5, *, quality: int = 85
) -> None:
    """Write frames as an endless WebP, in full colour: `quality` 0 to 100, otherwise as `save_gif`.

    Raises:
        ValueError: If there is no frame, or they differ in size.
    """
    pictures = [picture.convert("RGB") for picture in _pictures(frames)]
    durations = _durations(len(frames), seconds, hold)
    options: Any = {"quality": quality, "method": 4, "minimize_size": True}
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, **options)


def save_animation(frames: Sequence[Frame], path: str | Path, seconds: float = 3.0, hold: float = 1.5) -> None:
    """Write frames as what the suffix of the path says, .gif or .webp.

    Raises:
        ValueError: If it is another, there is no frame, or they differ in size.
    """
    write: dict[str, Callable[..., None]] = {".gif": save_gif, ".webp": save_webp}
    suffix = Path(path).suffix.lower()
    if suffix not in write:
        raise ValueError(f"path must end in .gif or .webp, got {str(path)!r}")
    write[suffix](frames, path, seconds, hold)


def film_of_samples(
    times: ArrayLike,
    states: ArrayLike,
    reach: float,
    *,
    grid: ArrayLike | None = None,
    densities: ArrayLike | None = None,
) -> list[Frame]:
    """Samples in the plane as they move, over the density that they should have by then.

    Args:
        times: Of shape (k,).
        states: Of shape (k, n, 2).
        reach: Half the side of the window.
        grid: Points of shape (m, 2) that fill a rectangle.
        densities: At each time and point of the grid, of shape (k, m).

    Raises:
        ValueError: If a shape does not fit, or one of `grid` and `densities` comes without the other.
    """
    times = checked("times", times, "k")
    states = checked("states", states, len(times), "n", 2, hint="pass torch.stack(list(walk))[..., :2]")
    behind = _behind(grid, densities, len(times))

    def draw(k: int, ax: Axes) -> None:
        scatter(states[k], ax=ax, grid=grid, density=None if behind is None else behind[k])

    return _film(times, reach, draw)


def film_of_densities(times: ArrayLike, grid: ArrayLike, densities: ArrayLike, reach: float) -> list[Frame]:
    """A density in the plane as it moves: `densities` (k, m) at `times` (k,) and the points `grid` (m, 2).

    Raises:
        ValueError: If a shape does not fit.
    """
    times = checked("times", times, "k")
    sheets = checked("densities", densities, len(times), len(np.asarray(grid)))
    return _film(times, reach, lambda k, ax: density(grid, sheets[k], ax))


def film_of_fields(
    times: ArrayLike,
    points: ArrayLike,
    vectors: ArrayLike,
    reach: float,
    *,
    grid: ArrayLike | None = None,
    densities: ArrayLike | None = None,
) -> list[Frame]:
    """A field in the plane as it changes, as arrows of one unit, over the density.

    Args:
        times: Of shape (k,).
        points: The middle of each arrow, of shape (n, 2).
        vectors: At each time and point, of shape (k, n, 2).
        reach: Half the side of the window.
        grid: Points of shape (m, 2) that fill a rectangle.
        densities: At each time and point of the grid, of shape (k, m).

    Raises:
        ValueError: If a shape does not fit, or one of `grid` and `densities` comes without the other.
    """
    times, points = checked("times", times, "k"), checked("points", points, "n", 2)
    vectors = checked("vectors", vectors, len(times), len(points), 2)
    behind = _behind(grid, densities, len(times))
    unit = float(np.quantile(np.linalg.norm(vectors, axis=-1), 0.95)) or 1.0

    def draw(k: int, ax: Axes) -> None:
        if grid is not None and behind is not None:
            density(grid, behind[k], ax)
        arrows(points, vectors[k], ax, unit=unit)

    return _film(times, reach, draw)


def _film(times: NDArray[Any], reach: float, draw: Callable[[int, Axes], object]) -> list[Frame]:
    """A frame for each time: what `draw` draws, in one window, over a bar that fills as t goes to 1."""
    frames = []
    for k, t in enumerate(times):
        ax = new_axes(SIZE, SIZE)
        draw(k, ax)
        plane(ax, reach)
        share = (t - times[0]) / (np.ptp(times) or 1.0)
        ax.plot([0, share], [0, 0], color=COMPUTED, lw=5, solid_capstyle="butt", transform=ax.transAxes, zorder=9)
        corner: Any = {
            "zorder": 9,
            "transform": ax.transAxes,
            "va": "top",
            "color": INK,
            "fontsize": 12,
            "math_fontfamily": "cm",
        }
        ax.text(0.03, 0.96, f"$t = {t:.2f}$", bbox={"color": "white", "alpha": 0.8, "pad": 2}, **corner)
        frames.append(frame_of(ax))
    return frames


def _behind(grid: ArrayLike | None, densities: ArrayLike | None, count: int) -> NDArray[Any] | None:
    if (grid is None) != (densities is None):
        raise ValueError("grid and densities must come together, got one alone; densities are read at the grid")
    if grid is None or densities is None:
        return None
    return checked("densities", densities, count, len(np.asarray(grid)))


def _pictures(frames: Sequence[Frame]) -> list[Image.Image]:
    sizes = {np.shape(frame) for frame in frames}
    if len(sizes) != 1:
        raise ValueError(f"frames must be at least one and all of one shape, got {sorted(sizes) or 'none'}")
    return [Image.fromarray(frame.squeeze(-1) if frame.shape[-1] == 1 else frame) for frame in frames]


def _durations(count: int, seconds: float, hold: float) -> list[int]:
    """In milliseconds."""
    return [max(20, round(1000 * seconds / count))] * (count - 1) + [round(1000 * hold)]


def demo() -> list[Frame]:
    """Four normals that grow out of one, x_t = t data + (1 - t) noise, with samples."""
    rng = np.random.default_rng(0)
    means, std = 2.0 * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]), 0.4
    data = means[rng.integers(4, size=600)] + std * rng.normal(size=(600, 2))
    noise = rng.normal(size=(600, 2))
    line = np.linspace(-3.4, 3.4, 81)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    times = np.linspace(0, 1, 21)
    variances = (times * std) ** 2 + (1 - times) ** 2
    far = ((grid[None, :, None] - times[:, None, None, None] * means) ** 2).sum(-1)
    densities = (np.exp(-far / (2 * variances[:, None, None])) / (8 * np.pi * variances[:, None, None])).sum(-1)
    states = np.stack([t * data + (1 - t) * noise for t in times])
    return film_of_samples(times, states, 3.4, grid=grid, densities=densities)


if __name__ == "__main__":
    save_animation(demo(), path := demo_path("animation.gif"))
    print(path)
