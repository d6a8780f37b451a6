"""Samples on their way to a file, a batch at a time: what is written does not stay in memory.

.npz      x and y as NumPy saves them: x as it comes, then y, which is known without the samples
.csv      a row each, what it is conditioned on last
FOLDER/   000000.png, 000001.png, ...; and metadata.jsonl with the conditions of each, as Hugging Face's imagefolder
has it, which `pathline train images --data FOLDER` reads
.png      one picture of all of them, for which they are gathered
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from pathline.asked import Asked
from pathline.cli.pictures import points, sheet
from pathline.conditions import CLASS, NUMBERS, TEXT
from pathline.data.classes import INT
from pathline.model import Batch
from pathline.plots.axes import save
from pathline.quoting import drawn
from pathline.runs import Run

OF_FILES = (".png", ".npz", ".csv")  # what ends so is a file, even if there is a folder of that name
COLUMNS = 10  # of one picture of images
MOST_IMAGES = 9000  # in one picture, of which matplotlib draws 65,536 pixels at most
MOST_POINTS = 10_000_000  # in one scatter plot, which holds them all in memory
CHUNK = 1 << 14  # conditions at a time
BRIGHT = 128  # from which on the highest value of images is that of levels from 0 to 255
DIGITS = 6  # of the names of single images, at least


def written(wish: Asked, made: Iterator[Batch], count: int, out: Path, suffix: str) -> str:
    """Write samples to a file of that suffix, or single images to a folder where it has none; what to say of it."""
    if not suffix:
        return _write_images(wish, made, count, out)
    {".npz": _write_npz, ".csv": _write_csv, ".png": _write_png}[suffix](wish, made, count, out)
    return ""


def check(run: Run, count: int, out: Path, suffix: str) -> None:
    """Refuse a file that cannot hold so many samples of the run.

    Raises:
        ValueError: If so.
    """
    is_image = len(run.shape) == 3
    if suffix not in (*OF_FILES, ""):
        raise ValueError(f"--out must end in .png, .npz or .csv, or in / for a folder of single images, got {out}")
    if suffix == ".csv" and len(run.shape) != 1:
        raise ValueError(
            f"--out must end in {'.png or ' if is_image else ''}.npz for samples of shape {run.shape}, got {out}"
        )
    if not suffix and not (is_image and run.shape[0] in (1, 3)):
        way_out = ".npz, .csv or .png" if len(run.shape) == 1 else ".npz"
        raise ValueError(
            f"--out is a folder, for single images of 1 channel or 3, and samples have the shape {run.shape}; name a "
            f"file that ends in {way_out}"
        )
    if suffix in (".npz", ".csv"):
        need, place = 4 * count * math.prod(run.shape), next(each for each in out.resolve().parents if each.exists())
        if need > (free := shutil.disk_usage(place).free):
            raise ValueError(
                f"--count must be of samples that the disk has room for, got {count:,}, which take {need / 1e9:,.1f} "
                f"GB or more, and {free / 1e9:,.1f} GB are free in {place}"
            )
    most = MOST_IMAGES if is_image else MOST_POINTS
    if suffix == ".png" and count > most:
        raise ValueError(
            f"--count must be at most {most:,} for one picture, got {count:,}; write them to an .npz, or "
            + ("as single images to a folder, --out FOLDER/" if is_image else "to a .csv")
        )


# ---- arrays


def _write_npz(wish: Asked, made: Iterator[Batch], count: int, out: Path) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        first = next(made)
        with _member(archive, "x") as file:
            x = first.x.numpy()
            _write_header(file, (count, *x.shape[1:]), x.dtype)
            for batch in chain([first], made):
                file.write(np.ascontiguousarray(batch.x.numpy()).data)
        if first.y is None:
            return
        dtype = reduce(np.promote_types, (part.dtype for part in _conditions(wish, count)))  # words differ in length
        with _member(archive, "y") as file:
            for place, part in enumerate(_conditions(wish, count)):
                if not place:
                    _write_header(file, (count, *part.shape[1:]), dtype)
                file.write(part.astype(dtype).tobytes())


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)  # without the date: the same bytes again


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    about = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, about)


def _conditions(wish: Asked, count: int) -> Iterator[NDArray[Any]]:
    """The conditions of all samples as the `y` of an .npz, some at a time."""
    for first in range(0, count, CHUNK):
        y = wish.of(range(first, min(first + CHUNK, count)))
        assert y is not None
        yield wish.run.codec.array(y)


# ---- tables


def _write_csv(wish: Asked, made: Iterator[Batch], count: int, out: Path) -> None:
    """Rows as they were trained on, what they are conditioned on last."""
    run = wish.run
    header = list(run.columns or (str(i + 1) for i in range(run.shape[0])))
    with out.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for batch in made:
            parts = [batch.x.numpy().astype(str)]  # as many digits as tell a number from its neighbours
            more: list[str] = []
            for kind, value in (batch.y or {}).items():
                if kind == NUMBERS:
                    more += run.numbers
                    parts.append(value.numpy().astype(str))
                else:
                    more.append((run.config.label or CLASS) if kind == CLASS else TEXT)
                    names = value if kind == TEXT else np.array(run.classes)[value.numpy()]
                    parts.append(np.asarray(names, dtype=object)[:, None])
            if not batch.rows.start:
                table.writerow([*header, *more])
            table.writerows(np.concatenate([part.astype(object) for part in parts], 1).tolist())


# ---- pictures


def _write_png(wish: Asked, made: Iterator[Batch], count: int, out: Path) -> None:
    run, pieces = wish.run, []
    for batch in made:
        pieces.append(batch.x if len(run.shape) == 3 else batch.x[:, :2])  # of a vector, two numbers are drawn
    x, y = torch.cat(pieces), wish.of(range(count))
    if len(run.shape) == 3:
        texts = {*(y or {}).get(TEXT, ())}
        title = drawn(str(*texts)) if len(texts) == 1 else ""
        save(sheet(run, x, min(COLUMNS, count), title=title), out)
    else:
        save(points(run, x, y), out)


def _write_images(wish: Asked, made: Iterator[Batch], count: int, out: Path) -> str:
    run, digits = wish.run, max(DIGITS, len(str(count - 1)))
    low, high = (torch.as_tensor(end, dtype=torch.float64).reshape(-1, 1, 1) for end in run.normalisation.ends)
    lowest, highest = float(low.min()), float(high.max())
    is_deep = lowest >= 0 and 255 < highest <= 65535
    is_as_it_is = is_deep or (lowest >= 0 and BRIGHT <= highest <= 255)
    most = 65535 if is_deep else 255
    with (out / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for batch in made:
            x = batch.x.double() if is_as_it_is else (batch.x.double() - low) / (high - low) * most
            levels = x.round().clamp(0, most).numpy().astype(np.uint16 if is_deep else np.uint8)
            rows = _lines(run, batch)
            for i, picture in zip(batch.rows, levels, strict=True):
                name = f"{i:0{digits}}.png"
                _save_image(picture, out / name)
                if rows is not None:
                    file.write(json.dumps({"file_name": name, **next(rows)}, ensure_ascii=False) + "\n")
    if wish.of(range(1)) is None:
        (out / "metadata.jsonl").unlink()
    return "" if is_as_it_is else f"; {lowest:g} to {highest:g} are the levels 0 to {most}"


def _lines(run: Run, batch: Batch) -> Iterator[dict[str, Any]] | None:
    """The conditions of each image of a batch, by the keys that training reads them by."""
    if batch.y is None:
        return None
    columns: dict[str, list[Any]] = {}
    for kind, values in run.codec.written(batch.y).items():
        if kind == NUMBERS:
            columns |= dict(zip(run.numbers, values.T.tolist(), strict=True))
        elif kind == CLASS:
            is_whole = run.codec.class_type == INT
            names = values.tolist() if is_whole else [run.classes[k] for k in batch.y[CLASS].tolist()]
            columns[run.config.label or "label"] = names
        else:
            columns["text"] = values.tolist()
    return (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def _save_image(levels: NDArray[Any], path: Path) -> None:
    """One image of shape `(1 or 3, height, width)`, in as many bits as its levels have."""
    picture = levels.transpose(1, 2, 0)
    if levels.dtype == np.uint8:
        Image.fromarray(picture[..., 0] if len(levels) == 1 else picture).save(path)
    else:
        path.write_bytes(_png_of_16_bits(picture))


def _png_of_16_bits(picture: NDArray[np.uint16]) -> bytes:
    """A picture of shape `(height, width, 1 or 3)` as a PNG: Pillow writes no colours of 16 bits.

    Source: https://www.w3.org/TR/png-3/, sections 11.2 and 9.2 (no filter)
    """
    height, width, channels = picture.shape
    rows = picture.astype(">u2").reshape(height, -1).view(np.uint8)
    data = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()
    about = struct.pack(">IIBBBBB", width, height, 16, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", about), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
