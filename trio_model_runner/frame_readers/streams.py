"""A plain table as the bytes of an Arrow stream, and back. The one who reads them here wrote them here."""

from __future__ import annotations

import contextlib
from typing import Any

from ..values.frames.writing import import_pyarrow

__all__ = ["from_stream", "to_stream"]


def to_stream(table: Any) -> Any:
    """Write a `pyarrow.Table`; a buffer."""
    pyarrow = import_pyarrow()
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        with contextlib.suppress(pyarrow.ArrowException):  # different dictionaries, with nulls
            table = table.combine_chunks()
        writer.write_table(table)
    return sink.getvalue()


def from_stream(data: Any) -> Any:
    """Read a `pyarrow.Table`. Its columns stay in `data`, and are not copied."""
    pyarrow = import_pyarrow()
    with pyarrow.ipc.open_stream(pyarrow.py_buffer(data)) as reader:
        return reader.read_all()
