"""Data frames that a stranger wrote, as plain Arrow tables.

Three things can be wrong with such bytes. They may not be what they say: Arrow's readers check the structure
of what they read, but not all of its content. So every batch is validated in full. They may be small and
expand enormously. So batches are weighed one by one, and reading stops once there are too many bytes. And
they may have types and metadata that pyarrow or pandas fail on, some of them by ending the process. So what
comes back has `plain_types` only, and metadata that `pandas_metadata` made anew.

pyarrow itself reads the bytes here, and it may end the process, or take gigabytes, for bytes that are made to
do so. So this runs in a process of its own where the sender is a stranger. That process has limits, and
nothing else to lose. This module must not import pandas.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ...text import named_error
from ..encoded import DataType
from .bounds.limit import MAX_FRAME_BYTES, refuse_larger
from .bounds.weighing import Scales
from .pandas_metadata import PANDAS, UNREADABLE, make_anew, with_schema_metadata
from .plain_arrays import plain_array
from .plain_types import plain_schema, with_wide_indices
from .writing import import_pyarrow

__all__ = ["read_plain"]

_BATCH_ROWS: Final = 2**16
_MOST_CHUNKS: Final = 1000
"""What is done with a table later is done for each chunk of it."""

_LONGEST_REASON: Final = 1000
_NAMES: Final = {DataType.PARQUET: "Parquet", DataType.ARROW: "Arrow"}


def read_plain(data: bytes, data_type: DataType, max_bytes: int = MAX_FRAME_BYTES) -> Any:
    """Read a Parquet file or an Arrow IPC stream.

    If the frame was written by pandas, but what it says about itself can't be used, `presenting.present`
    raises for "pandas".

    Args:
        data: the file or the stream.
        data_type: PARQUET or ARROW.
        max_bytes: how large the table may be, in bytes; each value counts as 8 bytes or more.

    Returns:
        A `pyarrow.Table` of plain types, for `presenting.present`.

    Raises:
        ValueError: the bytes are nothing that can be read, a column has another type than the plain ones, or
            the table is too large.
        ImportError: pyarrow is missing.
    """
    pyarrow = import_pyarrow()
    try:
        schema, batches = (_open_parquet if data_type is DataType.PARQUET else _open_arrow)(pyarrow, data)
        plain = plain_schema(pyarrow, schema)
        table = pyarrow.Table.from_batches(_read_batches(pyarrow, batches, plain, max_bytes), plain)
        return _with_metadata(pyarrow, _tidied(pyarrow, table), schema.metadata, _NAMES[data_type])
    except Exception as error:
        # There are many kinds: Arrow's own, OSError, UnicodeDecodeError, MemoryError for false sizes.
        reason = str(error) if type(error) is ValueError else named_error(error)
        text = f"{_NAMES[data_type]} that can't be read: {reason[:_LONGEST_REASON]}"
        raise ValueError(text) from error


def _open_parquet(pyarrow: Any, data: bytes) -> tuple[Any, Iterable[Any]]:
    from pyarrow import parquet

    # Not `read_table`: it uses Arrow's data sets, and these fail if two columns have the same name.
    file = parquet.ParquetFile(pyarrow.BufferReader(data), pre_buffer=False)
    return file.schema_arrow, file.iter_batches(batch_size=_BATCH_ROWS, use_threads=False)


def _open_arrow(pyarrow: Any, data: bytes) -> tuple[Any, Iterable[Any]]:
    options = pyarrow.ipc.IpcReadOptions(use_threads=False)
    stream = pyarrow.ipc.open_stream(data, options=options)
    return stream.schema, stream


def _read_batches(pyarrow: Any, batches: Iterable[Any], plain: Any, max_bytes: int) -> Iterator[Any]:
    scales, total = Scales(pyarrow), 0
    for batch in batches:
        batch.validate(full=True)
        total += scales.weigh(batch)
        refuse_larger(total, max_bytes)
        if batch.num_columns:
            columns = [
                plain_array(pyarrow, column, field.type)
                for column, field in zip(batch.columns, plain, strict=True)
            ]
            yield pyarrow.RecordBatch.from_arrays(columns, schema=plain)
        else:
            yield batch.replace_schema_metadata(None)  # it may have rows all the same


def _tidied(pyarrow: Any, table: Any) -> Any:
    """Give all chunks of a column the same dictionary, if that can be, and make them few."""
    if not table.num_columns or table.column(0).num_chunks < 2:
        return table  # without columns it would lose its rows
    columns = [_with_one_dictionary(pyarrow, column) for column in table.columns]
    fields = [field.with_type(column.type) for field, column in zip(table.schema, columns, strict=True)]
    table = pyarrow.Table.from_arrays(columns, schema=pyarrow.schema(fields))
    return table.combine_chunks() if table.column(0).num_chunks > _MOST_CHUNKS else table


def _with_one_dictionary(pyarrow: Any, column: Any) -> Any:
    """Unify the dictionaries of a column's chunks: its indices become wider, if they can't hold that."""
    with contextlib.suppress(pyarrow.ArrowException):
        return column.unify_dictionaries()
    kind = with_wide_indices(pyarrow, column.type)
    chunks = [plain_array(pyarrow, chunk, kind) for chunk in column.chunks]
    with contextlib.suppress(pyarrow.ArrowException):
        return pyarrow.chunked_array(chunks, kind).unify_dictionaries()
    return column  # dictionaries with nulls, which pyarrow unifies nowhere


def _with_metadata(pyarrow: Any, table: Any, metadata: Any, form: str) -> Any:
    text = (metadata or {}).get(PANDAS)
    if text is None:
        return table
    try:
        return with_schema_metadata(pyarrow, table, {PANDAS: make_anew(pyarrow, text, table)})
    except ValueError as error:
        reason = f"{form} that can't be read: what it says about pandas makes no sense: {error}"
        return with_schema_metadata(pyarrow, table, {UNREADABLE: reason[:_LONGEST_REASON]})
