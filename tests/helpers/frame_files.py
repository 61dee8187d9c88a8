"""Tables as the bytes of a Parquet file and of an Arrow stream, as pyarrow writes them."""

from __future__ import annotations

import io
from typing import Any

import pyarrow
import pyarrow.parquet

__all__ = ["arrow_of", "parquet_of"]


def parquet_of(table: pyarrow.Table, **options: Any) -> bytes:
    """A Parquet file of a table; `options` are those of `pyarrow.parquet.write_table`."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, **options)
    return sink.getvalue()


def arrow_of(table: pyarrow.Table | pyarrow.Schema, **options: Any) -> bytes:
    """An Arrow stream of a table, or of a schema alone; `options` are those of `IpcWriteOptions`."""
    sink = io.BytesIO()
    schema = table if isinstance(table, pyarrow.Schema) else table.schema
    with pyarrow.ipc.new_stream(sink, schema, options=pyarrow.ipc.IpcWriteOptions(**options)) as writer:
        if schema is not table:
            writer.write_table(table)
    return sink.getvalue()
