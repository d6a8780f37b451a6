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
from pathline.data.rows import BLOCK
from pathline.data.tables import Columns


def read_parquet(path: Path, label: str, numbers: str) -> Iterator[Block | About]:
    """The rows of a .parquet.

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
            columns = Columns(path, names, label, numbers)
            if not count:
                raise ValueError(f"{path} has no rows; it needs a row each sample")
            size = 8 * len(names) * count
            refuse_bomb(str(path), path.stat().st_size, size, "if it is whole, save a part of it")
            refuse_large(str(path), size)
            _check_types(file.schema_arrow, columns)
            row = 1
            for batch in file.iter_batches(max(1, BLOCK // (8 * len(names)))):
                yield from _block(batch, columns, row)
                row += len(batch)
            yield replace(columns.finish(), class_type=_class_type(file.schema_arrow, columns))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())[:200]}") from error


def _check_types(schema: Any, columns: Columns) -> None:
    from pyarrow import types

    for i, field in enumerate(schema):
        of_words = types.is_string(field.type) or types.is_large_string(field.type) or types.is_dictionary(field.type)
        is_number = any(
            is_kind(field.type)
            for is_kind in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
        )
        if not is_number and not (i == columns.of_label and of_words):
            hint = "remove the column" + (
                "" if columns.label or columns.numbers else ", or name the one that holds the class with --label"
            )
            raise ValueError(
                f"{columns.path}, column {field.name!r}: must hold numbers, got the type {field.type}; {hint}"
            )


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


def _block(batch: Any, columns: Columns, first: int) -> Iterator[Block]:
    """Rows in memory; what is wrong in them is remembered."""
    from pyarrow import types

    cells = np.zeros((len(batch), len(columns.names)))
    labels = None
    wrong: list[tuple[int, int, Any]] = []
    for i, column in enumerate(batch.columns):
        empty = column.is_null().to_numpy(zero_copy_only=False)
        if i == columns.of_label:
            labels = _labels(column, columns, empty)
            bad = empty
        else:
            cells[:, i] = _floats(column)
            bad = empty | ~np.isfinite(cells[:, i])
            if types.is_integer(column.type) and len(column):
                bad |= np.abs(cells[:, i]) >= EXACT  # what is beyond has not been rounded below
        wrong += [(int(k), i, None if empty[k] else float(cells[k, i])) for k in np.flatnonzero(bad)]
    for k, i, value in sorted(wrong, key=lambda place: place[:2]):
        if value is None or not math.isfinite(value):
            columns.complain_of(f"row {first + k}", i, value)
        else:
            columns.complain(
                f"row {first + k}, column {columns.names[i]!r}", f"needs {ROUNDED}, got {batch.columns[i][k]}"
            )
    if not wrong:
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
