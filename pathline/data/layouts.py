"""What an array of samples holds, from its shape: which axis is which.

    vectors (n, C)         series (n, C, L)      points (n, N, C)
    images (n, C, H, W)    volumes (n, C, D, H, W)    video (n, T, C, H, W)

n samples, C channels (or coordinates of a point), L steps of time, N points, T frames, and depth, height and width.
Images may also lie as (n, H, W, C), as many programs write them, and grey ones as (n, H, W). Where the rank leaves the
kind open, small axes tell: an axis of 1 to 4 beside larger ones holds the channels. Where they do not, the user does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathline.specs import did_you_mean

AUTO = "auto"
AXES = {
    "vectors": "(n, C)",
    "images": "(n, C, H, W)",
    "series": "(n, C, L)",
    "points": "(n, N, C)",
    "volumes": "(n, C, D, H, W)",
    "video": "(n, T, C, H, W)",
}
KINDS = tuple(kind for kind in AXES if kind != "vectors")  # that a user may say; vectors are known by their rank
SMALL = 4  # channels of a picture, coordinates of a point with a value: an axis that is larger is of something else
CHANNELS = 16  # of a series that is taken for one unasked


@dataclass(frozen=True)
class Layout:
    """What an array holds, and how it lies.

    Attributes:
        kind: One of `AXES`.
        shape: Of one sample, as it is handed on: channels first.
        axes: How it lies in the file, such as (n, H, W, C).
        is_guess: Whether the shape alone says so.
    """

    kind: str
    shape: tuple[int, ...]
    axes: str
    is_guess: bool = False

    @property
    def is_moved(self) -> bool:
        """Whether the channels lie last, and are brought to the front."""
        return self.axes == "(n, H, W, C)"

    def handed_on(self, block: NDArray[Any]) -> NDArray[Any]:
        """Some samples as they lie in the file, with the channels first."""
        block = np.moveaxis(block, -1, 1) if self.is_moved else block
        return block.reshape(len(block), *self.shape)

    @property
    def words(self) -> str:
        """What is done to the array, and what was guessed of it, for a line that is printed; empty if neither."""
        if self.is_moved:
            return f"taken for images {self.axes}, and transposed to {AXES['images']}"
        if self.axes == "(n, H, W)":
            return "grey images (n, H, W), of one channel"
        if self.is_guess:
            return f"taken for {self.kind} {self.axes}; say another with --kind"
        return ""


def check_kind(kind: str) -> None:
    """Refuse what is no kind of data.

    Raises:
        ValueError: If it is none.
    """
    if kind not in (AUTO, *KINDS):
        raise ValueError(f"unknown kind {kind!r}{did_you_mean(kind, (AUTO, *KINDS))}")


def layout_of(where: str, shape: tuple[int, ...], kind: str = AUTO) -> Layout:
    """What an array of this shape holds.

    Args:
        where: What a message calls it.
        shape: Of all samples, `(n, ...)`.
        kind: What the user says it is, or `AUTO`.

    Raises:
        ValueError: If the shape leaves it open, or the kind has other axes.
    """
    check_kind(kind)
    one = shape[1:]
    if len(one) == 1 and kind == AUTO:
        return Layout("vectors", one, AXES["vectors"])
    if kind != AUTO:
        return _said(where, one, kind)
    guess = {2: _of_two, 3: _of_three, 4: _of_four}.get(len(one))
    if guess is None:
        raise ValueError(
            f"{where} must have the axes of {_listed()}, got {_shown(one)}; save vectors, with x.reshape(len(x), -1)"
        )
    return guess(where, one)


def _said(where: str, one: tuple[int, ...], kind: str) -> Layout:
    if kind == "images" and len(one) == 2:
        return Layout("images", (1, *one), "(n, H, W)")
    if len(one) + 1 != AXES[kind].count(",") + 1:
        also = ", (n, H, W, C) or (n, H, W)" if kind == "images" else ""
        raise ValueError(f"{where} must have the axes {AXES[kind]}{also} for --kind {kind}, got {_shown(one)}")
    if kind == "images" and _is_small(one[2]) and not any(map(_is_small, one[:2])):
        return Layout("images", (one[2], *one[:2]), "(n, H, W, C)")
    return Layout(kind, one, AXES[kind])


def _of_two(where: str, one: tuple[int, ...]) -> Layout:
    first, last = one
    if 1 < last <= SMALL and first >= 2 * last and first > SMALL:
        return Layout("points", one, AXES["points"], is_guess=True)
    if first <= CHANNELS and last >= 2 * first and last > SMALL:
        return Layout("series", one, AXES["series"], is_guess=True)
    raise _open(where, one, ("series", "points", "images"), "grey images are (n, H, W)")


def _of_three(where: str, one: tuple[int, ...]) -> Layout:
    first, middle, last = one
    is_square = middle == last and first < last, first == middle and last < first  # tiny pictures, both ways to lie
    if is_square[0] or (_is_small(first) and not _is_small(last)):
        return Layout("images", one, AXES["images"])
    if is_square[1] or (_is_small(last) and not any(map(_is_small, (first, middle)))):
        return Layout("images", (last, first, middle), "(n, H, W, C)", is_guess=True)
    if not _is_small(last):  # spectra
        return Layout("images", one, AXES["images"], is_guess=True)
    raise _open(where, one, ("images",), "which is for (n, C, H, W); images (n, H, W, C) by x.transpose(0, 3, 1, 2)")


def _of_four(where: str, one: tuple[int, ...]) -> Layout:
    first, second, *rest = one
    if not any(map(_is_small, rest)) and _is_small(first) != _is_small(second):
        kind = "volumes" if _is_small(first) else "video"
        return Layout(kind, one, AXES[kind], is_guess=True)
    raise _open(where, one, ("volumes", "video"), "channels last are brought forward by np.moveaxis")


def _is_small(size: int) -> bool:
    return size <= SMALL


def _shown(one: tuple[int, ...]) -> str:
    return f"(n, {', '.join(map(str, one))})"


def _listed() -> str:
    return ", ".join(f"{kind} {axes}" for kind, axes in AXES.items())


def _open(where: str, one: tuple[int, ...], kinds: tuple[str, ...], beside: str) -> ValueError:
    may_be = " or ".join(f"{kind} {AXES[kind]}" if kind != "images" or len(one) == 3 else "images" for kind in kinds)
    may_be = may_be if len(kinds) > 1 else f"{may_be} or (n, H, W, C)"
    return ValueError(
        f"{where} has samples of shape {one}, which may be {may_be}; say which with --kind {'|'.join(kinds)} "
        f"({beside}), or save vectors, with x.reshape(len(x), -1)"
    )
