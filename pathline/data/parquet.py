"""Tables in Parquet, a batch of rows at a time, with the extra `data`. Rows are counted from 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pathline.data.arrays import refuse_bomb, refuse_large
from pathline.data.cache import About, Block
from pathline.data.classes import BOOL, EXACT, FLOAT, INT, ROUNDED, STR, name_of
from pathline.data.columns import Columns, Roles
from pathline.data.rows import BLOCK


def read_parquet(path: Path, roles: Roles) -> Iterator[Block | About]:
    """The rows of a .parquet.

    Args:
        path: Of the file.
        roles: What the user says of its columns.

    Raises:
        ValueError: If pyarrow is missing, the file is damaged, or a cell is no finite number.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f'{path} needs pyarrow to be read; pip install "pathline[data]"') from None
    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            names, count = file.schema_arrow.names, file.metadata.num_rows
            twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
            if twice is not None:
                raise ValueError(f"{path}: two columns are called {twice!r}; rename one of them")
            columns = Columns(path, names, roles)
            if not count:
                raise ValueError(f"{path} has no rows; it needs a row each sample")
            size = 8 * len(names) * count
            refuse_bomb(str(path), path.stat().st_size, size, "if it is whole, save a part of it")
            refuse_large(str(path), size)
            others = _of_other_types(file.schema_arrow, columns)
            row = 1
            for batch in file.iter_batches(max(1, BLOCK // (8 * len(names)))):
                yield from _block(batch, columns, row, others)
                row += len(batch)
            yield replace(columns.finish(), class_type=_class_type(file.schema_arrow, columns))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error


def _of_other_types(schema: Any, columns: Columns) -> dict[int, str]:
    """The columns that are used and hold no numbers, nor classes, and the names of their types."""
    from pyarrow import types

    found = {}
    for i in columns.used:
        of = schema.field(i).type
        of_words = types.is_string(of) or types.is_large_string(of) or types.is_dictionary(of)
        is_number = any(
            is_kind(of)
            for is_kind in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
        )
        if not is_number and not (i == columns.of_label and of_words):
            found[i] = str(of)
    return found


def _class_type(schema: Any, columns: Columns) -> str:
    """What the values of classes are."""
    from pyarrow import types

    if columns.of_label is None:
        return ""
    of_label = schema.types[columns.of_label]
    of_label = of_label.value_type if types.is_dictionary(of_label) else of_label
    for is_kind, name in ((types.is_boolean, BOOL), (types.is_integer, INT), (types.is_floating, FLOAT)):
        if is_kind(of_label):
            return name
    return STR


def _block(batch: Any, columns: Columns, first: int, others: dict[int, str]) -> Iterator[Block]:
    """Rows in memory; what is wrong in them is remembered."""
    from pyarrow import types

    cells = np.zeros((len(batch), len(columns.names)))
    labels = None
    is_wrong = False
    for i in sorted(columns.used):
        column = batch.columns[i]
        empty = column.is_null().to_numpy(zero_copy_only=False)
        if i in others:
            is_wrong = True
            cell = column[0].as_py()
            value = None if cell is None else str(cell)
            told = f"must hold numbers, got the type {others[i]}, and {value!r} here"
            columns.complain_of(f"row {first}", i, value, told, len(batch))
            continue
        if i == columns.of_label:
            labels = _labels(column, columns, empty)
            bad = empty
        else:
            cells[:, i] = _floats(column)
            bad = empty | ~np.isfinite(cells[:, i])
            if types.is_integer(column.type) and len(column):
                bad |= np.abs(cells[:, i]) >= EXACT  # what is beyond has not been rounded below
        for k in np.flatnonzero(bad).tolist():
            is_wrong = True
            number = None if empty[k] else float(cells[k, i])
            is_rounded = number is not None and math.isfinite(number)
            told = f"needs {ROUNDED}, got {column[k]}" if is_rounded else ""
            columns.complain_of(f"row {first + k}", i, number, told)
    if not is_wrong:
        yield columns.block(cells, labels)


def _floats(column: Any) -> NDArray[np.float64]:
    import pyarrow

    if pyarrow.types.is_null(column.type):
        return np.zeros(len(column))
    if pyarrow.types.is_decimal(column.type):
        column = column.cast(pyarrow.float64())
    found: NDArray[Any] = column.fill_null(False if column.type == pyarrow.bool_() else 0).to_numpy(
        zero_copy_only=False
    )
    return found.astype(np.float64)


def _labels(column: Any, columns: Columns, empty: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The classes, one of which stands in where there is none."""
    import pyarrow

    column = column if pyarrow.types.is_dictionary(column.type) else column.dictionary_encode()
    used, which = np.unique(column.indices.drop_null().to_numpy(), return_inverse=True)  # others are no classes
    numbers = np.zeros(len(column), np.int32)
    words = map(name_of, column.dictionary.take(pyarrow.array(used)).to_pylist())
    numbers[~empty] = columns.classes.add(words, len(column))[which]
    return numbers
