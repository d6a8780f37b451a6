"""Pictures as arrays of levels, of 8 bits or 16 as their files have them.

    8 bits among 16     level = 257 value
    alpha a             level = round((a colour + (most - a) most) / most), over white; most is 255 or 65,535

A picture is turned as its EXIF says. It has one channel if its three are equal everywhere, else three: red, green and
blue. Colours are taken as they are; a profile of a screen or a printer is not looked at.
"""

from __future__ import annotations

import io
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from pathline.data.cache import Block, cache_folder
from pathline.data.classes import Condition, numbered, stacked
from pathline.data.normalisation import Levels, Normalisation
from pathline.data.rows import BLOCK

Picture: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

LEVELS = Normalisation(127.5, 127.5)  # 0 to 255 into -1 to 1
WIDER = 257  # 65,535 over 255
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # not EPS, which would run another program
MOST = 1 << 25  # pixels: four bytes of memory each while one is read
DENSE, SMALL = 400, 1 << 20  # levels to a byte of its file, beyond so many pixels: only a bomb, or blank, has more
TURNS = dict(enumerate((Image.Transpose(k) for k in (0, 3, 1, 5, 4, 6, 2)), 2))  # by the orientations of EXIF
ON_ITS_SIDE = {Image.Transpose(k) for k in (5, 4, 6, 2)}  # those that make a height of a width
ORIENTATION = 0x0112
SHOWN = 1000  # bad files in a message


class Unusable(ValueError):
    """Why a picture cannot be used: the end of a sentence that begins with its name."""


def sides_of(size: int | str) -> tuple[int, int] | None:
    """Height and width that images are brought to: both N for N, H and W for HxW; None for 0, as they are.

    Raises:
        ValueError: If it is neither, or beyond what is read.
    """
    words, most = str(size).lower().split("x"), math.isqrt(MOST)
    if len(words) > 2 or not all(word.strip().isascii() and word.strip().isdecimal() for word in words):
        raise ValueError(
            f"size must be 0 or more pixels, as N for both sides or as HEIGHTxWIDTH, such as 32 or 32x48, got {size!r}"
        )
    height, width = int(words[0]), int(words[-1])
    if max(height, width) > most or (len(words) > 1 and not min(height, width)):
        raise ValueError(f"size must be up to {most:,} pixels a side, or 0 for images as they are, got {size}")
    return (height, width) if height else None


def picture_of(file: Path | bytes, size: int | str = 0) -> Picture:
    """A picture as levels from 0 to 255, or of 16 bits from 0 to 65,535, of shape `(1 or 3, height, width)`.

    Args:
        file: A path, or what a file holds.
        size: Of its sides, N or HEIGHTxWIDTH: it is resized, with antialiasing, until both are filled, and what is
            beyond on one of them is cut at both ends. As it is, unless given.

    Raises:
        Unusable: If it is empty, damaged, animated, of a kind that is not read, or declares more pixels than it should.
    """
    if not (len(file) if isinstance(file, bytes) else file.stat().st_size):
        raise Unusable("is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow says of odd metadata, and of sizes, which are looked at here
        try:
            with _opened(file) as image:
                return _levels(image, file, sides_of(size))
        except Unusable:
            raise
        except UnidentifiedImageError:
            raise Unusable("is no image of a kind that is read, or damaged from its start") from None
        except Image.DecompressionBombError:
            raise Unusable(f"declares more than {MOST:,} pixels") from None
        except Exception as error:  # on damaged files Pillow's readers raise almost anything
            raise Unusable(f"is damaged: {' '.join(str(error).split())[:100] or type(error).__name__}") from None


def _opened(file: Path | bytes) -> ImageFile.ImageFile:
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS)


def _levels(image: ImageFile.ImageFile, file: Path | bytes, sides: tuple[int, int] | None) -> Picture:
    if getattr(image, "is_animated", False) and image.format != "MPO":  # an MPO is a photograph and its previews
        raise Unusable("is animated, or has several pages; save one of them")
    if sides:
        most = 2 * max(sides)
        image.draft(image.mode, (most, most))  # a JPEG is read at a fraction of its size, where that will do
    (width, height), length = image.size, len(file) if isinstance(file, bytes) else file.stat().st_size
    channels = 1 / 8 if image.mode == "1" else len(image.getbands())
    if width * height > min(MOST, max(SMALL, DENSE * length / channels)):
        raise Unusable(f"declares {width} x {height} pixels in {length:,} bytes, which is too many to be read")
    deep = _of_16_bits(image, file)
    image.load()  # a TIFF is turned by that, and its EXIF says so then
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    if deep is None:
        has_alpha, is_grey = image.has_transparency_data, image.mode in ("1", "L", "LA")
        mode = ("L" if is_grey else "RGB") + ("A" if has_alpha else "")
        x = _placed(image if image.mode == mode else image.convert(mode), sides, turn)
        x = _by_rows(lambda rows: _over_white(rows, 255), x) if has_alpha else x
    else:  # Pillow has no colours of 16 bits, but each of them fits its floats
        planes = [_placed(Image.fromarray(plane.astype(np.float32)), sides, turn) for plane in np.moveaxis(deep, -1, 0)]
        x = np.concatenate([plane.round().clip(0, 65535).astype(np.uint16) for plane in planes], -1)
    if all((rows == rows[..., :1]).all() for rows in _split(x)):
        x = x[..., :1]
    return np.ascontiguousarray(x.transpose(2, 0, 1))


def _placed(image: Image.Image, sides: tuple[int, int] | None, turn: Image.Transpose | None) -> NDArray[Any]:
    """The picture in its size and the right way up, of shape `(height, width, channels)`."""
    if sides:
        height, width = sides if turn not in ON_ITS_SIDE else sides[::-1]  # it is turned below
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    if turn is not None:
        image = image.transpose(turn)
    return np.asarray(image).reshape(image.height, image.width, -1)


def _over_white(x: NDArray[Any], most: int) -> NDArray[Any]:
    """Colours over white, from colours and, in the last place, alpha."""
    colour, alpha = x[..., :-1].astype(np.uint32), x[..., -1:].astype(np.uint32)
    sums: NDArray[Any] = alpha * colour + (most - alpha) * most + most // 2  # below 2**32, as most is below 2**16
    return (sums // most).astype(x.dtype)


def _by_rows(change: Callable[[NDArray[Any]], NDArray[Any]], x: NDArray[Any]) -> NDArray[Any]:
    """A change of an image, some rows at a time to save memory."""
    return np.concatenate([change(rows) for rows in _split(x)])


def _split(x: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (x[k : k + 64] for k in range(0, len(x), 64))


def _of_16_bits(image: ImageFile.ImageFile, file: Path | bytes) -> NDArray[np.uint16] | None:
    """Its levels over white, of shape `(height, width, 1 or 3)`, if it has 16 bits; None if it has 8."""
    raw = image.tile[0].args if image.format == "PNG" and image.tile else None
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
        x = np.array(image).astype(np.uint16)[..., None]
    elif image.mode in ("I", "F"):
        raise Unusable(f"holds numbers of type {image.mode}, not levels; save it in 8 or 16 bits")
    elif raw == "LA;16B":  # Pillow reads the high byte alone; as four bytes, they are all there
        image.tile = [image.tile[0]._replace(args="RGBA")]
        x = np.array(image).view(">u2").astype(np.uint16)
    elif raw in ("RGB;16B", "RGBA;16B"):  # again, and in the other order it takes the low ones
        with _opened(file) as again:
            again.tile = [again.tile[0]._replace(args=raw[:-1] + "L")]
            x = np.array(image).astype(np.uint16) << 8 | np.array(again)
    else:
        return None
    clear = image.info.get("transparency")  # the value of a PNG that stands for nothing
    if clear is not None:
        x = np.where((x == np.array(clear)).all(-1, keepdims=True), np.uint16(65535), x)
    return _by_rows(lambda rows: _over_white(rows, 65535), x) if x.shape[-1] in (2, 4) else x


# ---- many of them


@dataclass(frozen=True)
class Entry:
    """A picture that is still to be read.

    Attributes:
        name: What a message calls it.
        file: Its path, or what the file holds.
        y: Its conditions by their kind: the name of its class, its numbers, its caption.
    """

    name: str
    file: Path | bytes
    y: Mapping[str, Condition] = field(default_factory=dict)


def blocks_of(
    entries: Iterable[Entry], size: int | str, known: Mapping[str, dict[str, int]], bad: list[str]
) -> Iterator[Block]:
    """The pictures in blocks of one shape and one depth, that of the deepest in the first block.

    Args:
        entries: The pictures.
        size: Of their sides, N or HEIGHTxWIDTH, if they are to be resized.
        known: Where classes and captions are numbered, as they come.
        bad: Where pictures that cannot be used go, each with its reason.

    Raises:
        ValueError: If two have different sizes, or `size` is none.
    """
    sides_of(size)
    return _alike(_batches(entries, size, known, bad))


def _batches(
    entries: Iterable[Entry], size: int | str, known: Mapping[str, dict[str, int]], bad: list[str]
) -> Iterator[Block]:
    first: tuple[str, tuple[int, ...]] | None = None
    held: list[tuple[Picture, Any]] = []
    dtype: np.dtype[Any] | None = None
    for entry in entries:
        try:
            x = picture_of(entry.file, size)
        except (Unusable, OSError) as error:
            bad.append(f"{entry.name} {error if isinstance(error, Unusable) else f'cannot be read: {error.strerror}'}")
            continue
        first = first or (entry.name, x.shape[1:])
        if x.shape[1:] != first[1]:
            (height, width), (other, another) = first[1], x.shape[1:]
            raise ValueError(
                f"all images must have one size, got {width} x {height} pixels of {first[0]} and {another} x {other} "
                f"of {entry.name}; bring all to one with --size N, or --size HEIGHTxWIDTH"
            )
        if dtype is not None and x.dtype.itemsize > dtype.itemsize:
            bad.append(f"{entry.name} has 16 bits, and those before it have 8; save all of them in 16, or all in 8")
            continue
        held.append((x, numbered(entry.y, known)))
        if 3 * x.nbytes // len(x) * len(held) >= BLOCK:
            yield (block := _block(held, dtype))
            held, dtype = [], block.x.dtype
    if held:
        yield _block(held, dtype)


def _block(held: list[tuple[Picture, Any]], dtype: np.dtype[Any] | None) -> Block:
    channels = max(len(x) for x, _ in held)
    dtype = dtype or max((x.dtype for x, _ in held), key=lambda each: each.itemsize)
    wide = (x if x.dtype == dtype else x.astype(dtype) * WIDER for x, _ in held)
    return Block(np.stack([np.broadcast_to(x, (channels, *x.shape[1:])) for x in wide]), stacked([y for _, y in held]))


def _alike(blocks: Iterable[Block]) -> Iterator[Block]:
    """All blocks in one channel, or all in three: grey ones wait in a file until a coloured one comes, or the end."""
    waiting: list[tuple[tuple[int, ...], np.dtype[Any], Mapping[str, NDArray[Any]]]] = []
    is_grey = True
    with tempfile.TemporaryFile(dir=cache_folder()) as file:

        def replayed() -> Iterator[tuple[NDArray[Any], Mapping[str, NDArray[Any]]]]:
            file.seek(0)
            for shape, dtype, y in waiting:
                yield np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape), y

        for block in blocks:
            if is_grey and block.x.shape[1] == 1:
                file.write(block.x.tobytes())
                waiting.append((block.x.shape, block.x.dtype, block.y))
                continue
            if is_grey:
                is_grey = False
                yield from (Block(x.repeat(3, 1), y) for x, y in replayed())
            yield Block(block.x if block.x.shape[1] == 3 else block.x.repeat(3, 1), block.y)
        if is_grey:
            yield from (Block(x, y) for x, y in replayed())


def settle(bad: list[str], count: int, what: str, place: str, is_forgiving: bool) -> str:
    """What a warning says of those that were left out, such as images, beside `count` good ones; `place` holds them.

    Raises:
        ValueError: If there are any, all of them named, and they are not to be left out; or if nothing is left.
    """
    if not bad:
        if not count:
            raise ValueError(f"there are no {what} in {place}; known are {', '.join(FORMATS)}")
        return ""
    listed = "".join(f"\n  {each}" for each in bad[:SHOWN])
    listed += f"\n  (and {len(bad) - SHOWN:,} more)" if len(bad) > SHOWN else ""
    told = f"{len(bad):,} of {len(bad) + count:,} {what}"
    if not count or not is_forgiving:
        way_out = "mend or remove them, or leave them out with --skip-bad" if count else "none is left"
        raise ValueError(f"{told} in {place} cannot be used; {way_out}:{listed}")
    return f"{told} cannot be used, and are left out:{listed}"


def units_of(levels: Levels) -> Normalisation | None:
    """How pictures of such levels are brought to a model: by the range of their type, or as is to be learned."""
    return LEVELS if levels.dtype == np.uint8 else levels.normalisation()


def of_depth(levels: Levels) -> str:
    """What a title says of them."""
    return " in 16 bits" if levels.dtype == np.uint16 else ""


def is_handwriting(name: str) -> bool:
    """Whether a data set is digits or letters by its name: MNIST, or what is named after it, but for clothes."""
    return "mnist" in name.lower() and "fashion" not in name.lower()


def of_bad(bad: list[str]) -> str:
    """What a title says of them."""
    return f"; {len(bad):,} bad ones left out" if bad else ""


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The names of classes in their order: by size if they are numbers, else by letters."""
    found = sorted(set(names))
    with suppress(ValueError):
        found.sort(key=float)
    return tuple(found)
