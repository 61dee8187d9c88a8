"""Data frames to bytes: Parquet, and Arrow's stream format.

A frame may come from any library that has the Arrow PyCapsule interface, such as polars or pyarrow, or from
pandas.

What a node would read as something else, or not at all, is refused before: see `sent_tables`.

pyarrow is optional, and takes a good part of a second to import: it is imported when a frame is first used.
This module knows nothing of the other encodings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from ..refusal import Refusal

__all__ = [
    "FrameKind",
    "import_pandas",
    "import_pyarrow",
    "is_frame",
    "write_arrow",
    "write_parquet",
]

FrameKind: TypeAlias = Literal["arrow", "pandas"]


def is_frame(value: object) -> bool:
    """Say whether `value` is a pandas frame or has the Arrow PyCapsule interface. Imports nothing."""
    kind = type(value)
    has_capsule = hasattr(kind, "__arrow_c_stream__") or hasattr(kind, "__arrow_c_array__")
    return has_capsule or _is_pandas_frame(value)


def write_parquet(frame: Any) -> bytes:
    """Write a frame as a Parquet file.

    Raises:
        Refusal: it is no frame of named columns, or would not come back equal.
        ImportError: pyarrow is missing.
    """
    table = _to_table(frame, parquet=True)
    if table.num_rows and not table.num_columns:
        raise Refusal(ValueError, "the frame has rows but no columns: Parquet would lose the rows")
    from pyarrow import parquet

    return _written(table, "Parquet", parquet.write_table)


def write_arrow(frame: Any) -> bytes:
    """Write a frame as an Arrow IPC stream.

    Raises:
        Refusal: it is no frame of named columns, or would not come back equal.
        ImportError: pyarrow is missing.
    """
    return _written(_to_table(frame, parquet=False), "an Arrow stream", _write_stream)


def _write_stream(table: Any, sink: Any) -> None:
    with import_pyarrow().ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _written(table: Any, form: str, write: Callable[[Any, Any], None]) -> bytes:
    pyarrow = import_pyarrow()
    sink = pyarrow.BufferOutputStream()
    try:
        write(table, sink)
    except MemoryError:
        raise
    except Exception:  # pyarrow's own, and OSError, of which the text may show a value
        for name in table.column_names:
            try:
                write(table.select([name]), pyarrow.BufferOutputStream())
            except Exception:
                kind = table.schema.field(name).type
                reason = f"column {name[:100]!r} of the type {kind} can't be written as {form}"
                raise Refusal(TypeError, reason) from None
        raise Refusal(TypeError, f"the frame can't be written as {form}") from None
    return bytes(sink.getvalue())


def _to_table(frame: Any, *, parquet: bool) -> Any:
    pyarrow = import_pyarrow()
    from .sent_tables import table_of_capsule, table_of_pandas

    make = table_of_pandas if _is_pandas_frame(frame) else table_of_capsule
    try:
        return make(pyarrow, frame, parquet=parquet)
    except (Refusal, MemoryError, ImportError):
        raise
    except Exception as error:  # pyarrow has no kernel for some types inside of others
        reason = f"{type(frame).__name__} has a type that pyarrow can't take apart ({type(error).__name__})"
        raise Refusal(TypeError, reason) from None


def _is_pandas_frame(value: object) -> bool:
    pandas = sys.modules.get("pandas")  # if it is not imported, no value is pandas'
    return pandas is not None and isinstance(value, pandas.DataFrame)


def import_pyarrow() -> Any:
    """Import pyarrow.

    Raises:
        ImportError: it is missing; the text names the extra.
    """
    try:
        import pyarrow
    except ImportError as error:
        text = "data frames need pyarrow, which is not installed: pip install '.[arrow]' in a clone"
        raise ImportError(text, name="pyarrow") from error
    return pyarrow


def import_pandas() -> Any:
    """Import pandas.

    Raises:
        ImportError: it is missing.
    """
    try:
        import pandas
    except ImportError as error:
        text = 'answers as pandas frames (frames="pandas") need pandas, which is not installed'
        raise ImportError(text, name="pandas") from error
    return pandas
