"""The data that a name stands for: digits, shapes, a toy, a file, a folder of images, or a data set of Hugging Face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pathline.data.digits import DigitsSource
from pathline.data.distributions import Distribution
from pathline.data.files import SUFFIXES, FileSource
from pathline.data.idx import NAME, IDXSource, idx_files
from pathline.data.images import ImageFolderSource
from pathline.data.layouts import AUTO
from pathline.data.shapes import ShapesSource
from pathline.data.source import Source
from pathline.data.toys import ToySource
from pathline.specs import build, catalogue, did_you_mean

KINDS = f"a file ending in {', '.join(SUFFIXES)} or idx3-ubyte, a folder of images, or hf:NAME of Hugging Face"
OF_PICTURES = (DigitsSource, IDXSource, ImageFolderSource, ShapesSource)
TAKERS = {
    "label": "label names a column of a .csv, the key of a metadata.jsonl or .csv, or a column of Hugging Face",
    "numbers": "numbers names columns of a .csv, keys of a metadata.jsonl or .csv, or columns of Hugging Face",
    "size": "size is for folders of images and those of Hugging Face",
    "is_forgiving": "skip_bad is for folders of images and data sets of Hugging Face",
    "columns": "columns names columns of a .csv or .parquet",
    "drop_columns": "drop_columns names columns of a .csv or .parquet",
    "kind": "kind is for arrays, .npy and .npz",
    "text": "text is for shapes, folders of images with a metadata.jsonl, .csv or .parquet, or a .txt beside each, "
    "an .npz with captions in y, and Hugging Face",
}


def source_of(
    data: str,
    label: str = "",
    numbers: str = "",
    size: int | str = 0,
    skip_bad: bool = False,
    text: str | bool = False,
    kind: str = "",
    columns: str = "",
    drop_columns: str = "",
) -> Source:
    """Where data of this name comes from.

    Args:
        data: Its name, or its path.
        label: The column or key that holds the class.
        numbers: The columns or keys that hold numbers to condition on, with commas between them.
        size: The sides of images, N or HEIGHTxWIDTH, which are resized and cut to them.
        skip_bad: Whether bad images are left out.
        text: The column or key that holds captions, or True for the one called text; shapes have captions in any case.
        kind: What an array holds, or auto for what its shape says; as it is, unless given.
        columns: The columns of a table that are entries of a sample, with commas between them; all others unless given.
        drop_columns: Those that are not looked at.

    Raises:
        ValueError: If it names neither a data set nor a file of a known kind, or an option is not for that kind.
    """
    if not data:
        raise ValueError(f"data must be named, such as --data FILE: {KINDS}")
    found = _found(data)
    given = {"label": label, "numbers": numbers, "size": size, "is_forgiving": skip_bad, "text": text, "kind": kind}
    given |= {"columns": columns, "drop_columns": drop_columns}
    options = {name: value for name, value in given.items() if value and value != "0"}
    if isinstance(found, ShapesSource):
        options.pop("text", None)
    if kind == AUTO or (kind == "images" and isinstance(found, OF_PICTURES)):
        options = options if isinstance(found, FileSource) else {k: v for k, v in options.items() if k != "kind"}
    for name, value in options.items():
        if name not in vars(found):
            raise ValueError(f"{TAKERS[name]}, got {value!r} for {data}; leave it out")
    return replace(found, **options) if options else found  # type: ignore[type-var]


def _found(data: str) -> Source:
    name, _, rest = data.partition(":")
    sources, toys = catalogue(Source), catalogue(Distribution)
    if name == "hf" and rest:
        named = dict(zip(("name", "split", "subset"), rest.split(",", 2), strict=False))
        return build(Source, {"name": "hugging-face", "arguments": named})
    if name in sources:
        return build(Source, data)
    if name in toys:
        return ToySource(data)
    path = Path(data)
    if path.name.lower().endswith(SUFFIXES):
        return FileSource(data)
    if path.is_dir():
        return IDXSource(data) if idx_files(path) else ImageFolderSource(data)
    if NAME.search(path.name):
        return IDXSource(data)
    raise ValueError(f"unknown data {data!r}{did_you_mean(data, [*sources, *toys])}, or {KINDS}")
