"""Data frames to bytes and back: Parquet, and Arrow's stream format.

A frame may be anybody's: pandas, polars, pyarrow, or whatever else has the Arrow PyCapsule interface,
which hands columns over without this module knowing the library. pandas frames are the exception. Through
the capsule they would arrive without their index and some of their dtypes; `pyarrow.Table.from_pandas`
writes them into the schema's metadata, where the pandas on the node finds them again.

What comes back was written by a stranger. Arrow's readers check the structure of what they read but not
all of its content, and the pandas metadata is the stranger's own JSON; so a table is validated in full,
and whatever goes wrong on the way is one `ValueError`.

pyarrow takes a good part of a second to import and is optional: it is imported when a frame is first used.
This module knows nothing of the other encodings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias

from .refusal import Refusal

__all__ = ["FrameKind", "is_frame", "read_arrow", "read_parquet", "write_arrow", "write_parquet"]

FrameKind: TypeAlias = Literal["arrow", "pandas"]


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
    pyarrow = _import_pyarrow()
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
    pyarrow = _import_pyarrow()
    table = _to_table(frame)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def read_parquet(data: bytes, frames: FrameKind) -> Any:
    """Read a Parquet file as a `pyarrow.Table` or, with `frames` "pandas", a `pandas.DataFrame`.

    Raises:
        ValueError: the bytes are no Parquet file that can be read.
        ImportError: pyarrow, or pandas where it is asked for, is missing.
    """
    pyarrow = _import_pyarrow()
    from pyarrow import parquet

    # Not `read_table`: it goes through Arrow's data sets, which stumble over columns of the same name.
    return _read("Parquet", lambda: parquet.ParquetFile(pyarrow.BufferReader(data)).read(), frames)


def read_arrow(data: bytes, frames: FrameKind) -> Any:
    """Read an Arrow IPC stream; see `read_parquet`."""
    pyarrow = _import_pyarrow()
    return _read("Arrow", lambda: pyarrow.ipc.open_stream(data).read_all(), frames)


def _read(form: str, read: Callable[[], Any], frames: FrameKind) -> Any:
    if frames == "pandas":
        _import_pandas()
    try:
        table = read()
        table.validate(full=True)
        _decode_names(table.schema)
        return table.to_pandas() if frames == "pandas" else table
    except Exception as error:
        # Many kinds: Arrow's own, OSError, UnicodeDecodeError, MemoryError for sizes that are a lie, and
        # whatever pandas metadata leads to that makes no sense.
        raise ValueError(f"{form} that can't be read: {type(error).__name__}: {error}") from error


def _decode_names(fields: Iterable[Any]) -> None:
    """Decode the names of `fields` and of those inside them; pyarrow puts it off until they are used."""
    for field in fields:
        field.name  # noqa: B018
        inner = (getattr(field.type, name, None) for name in ("value_field", "key_field", "item_field"))
        _decode_names(field for field in inner if field is not None)
        if isinstance(field.type, Iterable):  # a struct
            _decode_names(field.type)


def _to_table(frame: Any) -> Any:
    pyarrow = _import_pyarrow()
    try:
        table = pyarrow.Table.from_pandas(frame) if _is_pandas_frame(frame) else pyarrow.table(frame)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        # A single column, such as a pandas series, has the capsule interface as well.
        reason = f"{type(frame).__name__} can't be read as a table of named columns: {error}"
        raise Refusal(TypeError, reason) from None
    names = table.column_names
    if len(set(names)) < len(names):
        # Deployed nodes (release 0.4.2) fail to read these, and it would look like the models' fault.
        raise Refusal(ValueError, "two columns of the frame have the same name")
    return _without_view_dictionaries(table)


def _without_view_dictionaries(table: Any) -> Any:
    """Cast dictionaries of string views, as polars has its categories, to those that Parquet can hold."""
    pyarrow = _import_pyarrow()
    for index, field in enumerate(table.schema):
        kind = field.type
        if pyarrow.types.is_dictionary(kind) and str(kind.value_type) == "string_view":
            plain = pyarrow.dictionary(kind.index_type, pyarrow.large_string(), kind.ordered)
            table = table.set_column(index, field.with_type(plain), table.column(index).cast(plain))
    return table


def _is_pandas_frame(value: object) -> bool:
    pandas = sys.modules.get("pandas")  # not imported: then nothing is pandas'
    return pandas is not None and isinstance(value, pandas.DataFrame)


def _import_pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        text = "data frames need pyarrow: install trio-model-runner[arrow]"
        raise ImportError(text, name="pyarrow") from error
    return pyarrow


def _import_pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        text = 'answers as pandas frames (frames="pandas") need pandas, which is not installed'
        raise ImportError(text, name="pandas") from error
    return pandas
