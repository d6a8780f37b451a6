"""Data sets from files: arrays of NumPy, and tables of numbers with a class in one column.

    .npy      an array x of shape (samples, ...)
    .npz      arrays x and, if there are any, y: classes of shape (samples,), numbers, captions, or fields of these
    .csv      a row each sample, a column each entry of its vector; some are a class and numbers if they are named
    .parquet  the same

What is wrong in a file is told by its row and column, all of it before anything is trained. A file that is larger than
memory will do: it is read once, piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathline.data.arrays import read_arrays, shape_of
from pathline.data.cache import About, Block, CachedSource, InFile, files_of
from pathline.data.columns import Roles
from pathline.data.layouts import AUTO, Layout, layout_of
from pathline.data.parquet import read_parquet
from pathline.data.tables import read_csv

TABLES = (".csv", ".parquet", ".csv.gz")
ARRAYS = (".npy", ".npz")
SUFFIXES = (".csv", ".npy", ".npz", ".parquet", ".csv.gz")


@dataclass(frozen=True)
class FileSource(CachedSource):
    """Samples from a file, normalised by what is learned from those that are trained on.

    Attributes:
        path: Of the file.
        label: The column of a table that holds the class; columns are called 1, 2, ... if the file has no header.
        numbers: The columns of a table that hold numbers to condition on, with commas between their names.
        text: Whether words in y of an .npz are captions; those in a field called text are not used unless so.
        kind: What an array holds, one of `layouts.KINDS`, or auto for what its shape says: images are then handed on
            with their channels first. As it is, whatever it holds, unless given.
        columns: The columns of a table that are entries of a sample, with commas between them; all others unless given.
        drop_columns: Those that are not looked at.
        may_differ: Whether each sample may have a class of its own: nothing can be learned of such, so they are refused
            unless they are read to be scored.
    """

    path: str
    label: str = ""
    numbers: str = ""
    text: str | bool = False
    kind: str = ""
    columns: str = ""
    drop_columns: str = ""
    may_differ: bool = False

    def layout(self) -> Layout | None:
        """What an array holds, from its shape alone; None for a table, or where it is to be taken as it is.

        Raises:
            ValueError: If there is no such file, it is damaged, or its shape leaves open what it holds.
        """
        self.identity()
        path = Path(self.path)
        if not self.kind or path.name.lower().endswith(TABLES):
            return None
        return layout_of(f"{path}: x", shape_of(path), self.kind)

    def identity(self) -> Mapping[str, Any]:
        """The file and what its columns are.

        Raises:
            ValueError: If there is no such file, or it is of a kind that has no columns.
        """
        path = Path(self.path)
        name = path.name.lower()
        if not name.endswith(SUFFIXES):
            raise ValueError(f"a data file must end in {', '.join(SUFFIXES)}, got {path}")
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        if self.label and not name.endswith(TABLES):
            raise ValueError(
                f"label names a column of a .csv or .parquet, got {self.label!r} for {path}; an .npz has classes in y"
            )
        if self.numbers and not name.endswith(TABLES):
            raise ValueError(
                f"numbers names columns of a .csv or .parquet, got {self.numbers!r} for {path}; an .npz has them in y"
            )
        for flag, names in (("columns", self.columns), ("drop-columns", self.drop_columns)):
            if names and not name.endswith(TABLES):
                raise ValueError(
                    f"--{flag} names columns of a .csv or .parquet, got {names!r} for {path}; leave it out"
                )
        if self.text and (self.text is not True or not name.endswith(".npz")):
            raise ValueError(
                f"text is of captions in y of an .npz, got {self.text!r} for {path}; those of pictures may stand in a "
                "metadata.jsonl beside them"
            )
        if self.kind not in ("", AUTO) and name.endswith(TABLES):
            raise ValueError(f"kind is for arrays, .npy and .npz, got {self.kind!r} for {path}; leave it out")
        known = {"files": files_of([path]), "label": self.label, "numbers": self.numbers}
        known |= {key: names for key, names in (("columns", self.columns), ("drop", self.drop_columns)) if names}
        is_laid_out = self.kind and not name.endswith(TABLES)
        options = {"text": bool(self.text), "kind": self.kind if is_laid_out else "", "may_differ": self.may_differ}
        return known | {name: option for name, option in options.items() if option}

    def read(self) -> Iterator[Block | InFile | About]:
        """All samples, checked; numbers keep their precision.

        Raises:
            ValueError: If the file cannot be read as finite numbers: row and column are named.
        """
        path = Path(self.path)
        if not path.name.lower().endswith(TABLES):
            return read_arrays(path, bool(self.text), self.layout(), self.may_differ)
        read = read_parquet if path.suffix.lower() == ".parquet" else read_csv
        return read(path, Roles(self.label, self.numbers, self.columns, self.drop_columns, self.may_differ))
