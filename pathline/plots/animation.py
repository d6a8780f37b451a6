"""Moving pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from PIL import Image


def frame_of(ax: Axes) -> NDArray[Any]:
    """The figure of some axes as an array (height, width, 3) of bytes."""
    canvas: Any = ax.figure.canvas
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def enlarged(sheet: ArrayLike, factor: int) -> NDArray[Any]:
    """An array of grey or colour pixels from 0 to 1, each pixel a square of bytes."""
    pixels: NDArray[Any] = np.rint(np.clip(np.asarray(sheet, dtype=float), 0, 1) * 255).astype(np.uint8)
    return np.repeat(np.repeat(pixels, factor, 0), factor, 1)


def save_gif(frames: Sequence[NDArray[Any]], path: Path, seconds: float = 3.0, hold: float = 1.5) -> None:
    """Write frames as an endless GIF that lasts `seconds`, and rests on the last frame for `hold` more."""
    pictures = [Image.fromarray(frame.squeeze(-1) if frame.shape[-1] == 1 else frame) for frame in frames]
    pictures = [picture.quantize(32, dither=Image.Dither.NONE) for picture in pictures]
    each = max(20, round(1000 * seconds / len(frames)))
    durations = [each] * (len(frames) - 1) + [round(1000 * hold)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)
