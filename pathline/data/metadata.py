"""What stands beside images about them, in the conventions of Hugging Face's imagefolder and of those who train on it.

    metadata.jsonl      {"file_name": "1.png", "text": "a cat"}        a line for each image
    metadata.csv        file_name,text                                 a header, then a line for each image
    metadata.parquet    columns file_name, text                        a row for each image
    1.txt               a cat                                          the caption of 1.png, and nothing else

A caption may also be called caption. Each file is gone through once.
"""

from __future__ import annotations

import csv
import json
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

KINDS = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
OF_CAPTIONS = ("text", "caption")  # keys: the first that there is


def metadata_in(names: Iterable[str], where: str, part: str) -> str:
    """The file of metadata in a part of a folder, else in the folder itself; empty if there is none.

    Raises:
        ValueError: If there are several in one place.
    """
    known = set(names)
    for prefix in dict.fromkeys((part, "")):
        found = [prefix + kind for kind in KINDS if prefix + kind in known]
        if len(found) > 1:
            raise ValueError(f"{where} must have one file of metadata, got {' and '.join(found)}; keep one of them")
        if found:
            return found[0]
    return ""


def texts_beside(names: Iterable[str], images: Iterable[str]) -> dict[str, str]:
    """The .txt of the same stem beside each image that has one."""
    texts = {name for name in names if name.lower().endswith(".txt")}
    found = {}
    for image in images:
        stem = posixpath.splitext(image)[0]
        text = next((stem + suffix for suffix in (".txt", ".TXT") if stem + suffix in texts), "")
        if text:
            found[image] = text
    return found


def text_of(path: Path) -> str:
    """What a .txt says.

    Raises:
        ValueError: If it cannot be read as text: the end of a sentence that begins with the image's name.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"has {path.name} beside it, which is not text in UTF-8; save it so") from None
    except OSError as error:
        raise ValueError(f"has {path.name} beside it, which cannot be read: {error.strerror}") from None


def lines(
    root: Path, metadata: str, names: set[str], part: str, bad: list[str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The lines of a file of metadata that name an image of this part.

    Args:
        root: The folder.
        metadata: The name of the file in it.
        names: Of the images.
        part: What the names of those that are read begin with.
        bad: Where lines that cannot be used go, each with its reason.

    Yields:
        Where a line is, the image that it names, and all that it says.

    Raises:
        ValueError: If the file cannot be read at all.
    """
    told: set[str] = set()
    read = {".jsonl": _of_jsonl, ".csv": _of_csv, ".parquet": _of_parquet}[posixpath.splitext(metadata)[1]]
    for where, row in read(root / metadata, metadata, bad):
        given = row.get("file_name")
        if not isinstance(given, str) or not given:
            bad.append(f'{where} needs a "file_name", got {_shown(row)}')
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(metadata), given))
        if given.startswith("/") or ".." in given.split("/"):
            bad.append(f"{where} must name a file inside the folder, got {given!r}")
        elif not name.startswith(part):
            continue
        elif name not in names or name in told:
            bad.append(
                f"{where} names {given!r}, " + ("which is not there" if name not in names else "as one before it")
            )
        else:
            told.add(name)
            yield where, name, row


def _shown(row: dict[str, Any]) -> str:
    return json.dumps(row, default=str, ensure_ascii=False)[:60]


def _of_jsonl(path: Path, name: str, bad: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not text.strip():
                continue
            try:
                row = json.loads(text.decode())
            except (ValueError, RecursionError) as error:
                bad.append(f"{name}, line {number} is not JSON: {error}")
                continue
            if isinstance(row, dict):
                yield f"{name}, line {number}", row
            else:
                bad.append(f'{name}, line {number} needs a "file_name", got {text.decode().strip()[:60]}')


def _of_csv(path: Path, name: str, bad: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(path, header)
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    bad.append(f"{name}, line {reader.line_num} needs {len(header)} cells, got {len(row)}")
                    continue
                yield f"{name}, line {reader.line_num}", dict(zip(header, row, strict=True))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num} is no row of a table: {error}") from None


def _of_parquet(path: Path, name: str, bad: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f'{path} needs pyarrow to be read; pip install "pathline[data]"') from None
    try:
        with parquet.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{name}, row {number}", row
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error


def _check_header(path: Path, header: list[str]) -> None:
    if "file_name" not in header:
        got = ", ".join(map(repr, header[:9])) or "none"
        raise ValueError(
            f"{path} must have a column 'file_name' that names each image, got {got}; add it, or rename the file"
        )
    twice = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if twice is not None:
        raise ValueError(f"{path}: two columns are called {twice!r}; rename one of them")
