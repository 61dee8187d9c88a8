"""Data frames to bytes: Parquet, and Arrow's stream format.

A frame may come from any library that has the Arrow PyCapsule interface, such as polars or pyarrow: columns
are read through that interface, and this module need not know the library. pandas frames are different. That
interface would lose their index and some of their dtypes. So `pyarrow.Table.from_pandas` writes these into
the schema's metadata, where the pandas on the node finds them again.

pyarrow is optional, and takes a good part of a second to import: it is imported when a frame is first used.
This module knows nothing of the other encodings.
"""

from __future__ import annotations

import sys
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

_WAYS_TO_A_LIST = ("tolist", "to_list")  # the method of pandas' columns, and of polars'


def is_frame(value: object) -> bool:
    """Say whether `value` is a pandas frame or has the Arrow PyCapsule interface. Imports nothing."""
    kind = type(value)
    has_capsule = hasattr(kind, "__arrow_c_stream__") or hasattr(kind, "__arrow_c_array__")
    return has_capsule or _is_pandas_frame(value)


def write_parquet(frame: Any) -> bytes:
    """Write a frame as a Parquet file.

    Raises:
        Refusal: it is no frame of named columns, or Parquet can't hold it.
        ImportError: pyarrow is missing.
    """
    pyarrow = import_pyarrow()
    from pyarrow import parquet

    table = _to_table(frame)
    if table.num_rows and not table.num_columns:
        raise Refusal(ValueError, "the frame has rows but no columns: Parquet would lose the rows")
    sink = pyarrow.BufferOutputStream()
    try:
        parquet.write_table(table, sink)
    except pyarrow.ArrowException as error:
        raise Refusal(TypeError, f"{type(frame).__name__} can't be written as Parquet: {error}") from None
    return bytes(sink.getvalue())


def write_arrow(frame: Any) -> bytes:
    """Write a frame as an Arrow IPC stream.

    Raises:
        Refusal: it is no frame of named columns.
        ImportError: pyarrow is missing.
    """
    pyarrow = import_pyarrow()
    table = _to_table(frame)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _to_table(frame: Any) -> Any:
    pyarrow = import_pyarrow()
    try:
        table = pyarrow.Table.from_pandas(frame) if _is_pandas_frame(frame) else pyarrow.table(frame)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        # A single column, such as a pandas series, has the capsule interface as well.
        name = type(frame).__name__
        listing = next((f".{way}()" for way in _WAYS_TO_A_LIST if hasattr(type(frame), way)), None)
        hint = "" if listing is None else f" (send its {listing}, or a frame with it)"
        reason = f"{name} can't be read as a table of named columns{hint}: {error}"
        raise Refusal(TypeError, reason) from None
    names = table.column_names
    if len(set(names)) < len(names):
        # Deployed nodes (release 0.4.2) can't read these, and then the models seem to be at fault.
        raise Refusal(ValueError, "two columns of the frame have the same name")
    return _without_view_dictionaries(table)


def _without_view_dictionaries(table: Any) -> Any:
    """Cast dictionaries of string views (polars' categories) to dictionaries that Parquet can hold."""
    pyarrow = import_pyarrow()
    for index, field in enumerate(table.schema):
        kind = field.type
        if pyarrow.types.is_dictionary(kind) and str(kind.value_type) == "string_view":
            plain = pyarrow.dictionary(kind.index_type, pyarrow.large_string(), kind.ordered)
            table = table.set_column(index, field.with_type(plain), table.column(index).cast(plain))
    return table


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
