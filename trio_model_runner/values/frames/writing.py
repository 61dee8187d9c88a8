"""Data frames to bytes: Parquet, and Arrow's stream format.

A frame may come from any library that has the Arrow PyCapsule interface, such as polars or pyarrow: columns
are read through that interface, and this module need not know the library. pandas frames are different. That
interface would lose their index and some of their dtypes. So `pyarrow.Table.from_pandas` writes these into
the schema's metadata, where the pandas on the node finds them again.

What a node would read as something else, or not at all, is refused here: labels by `label_trials`, objects by
`object_trials`, types by `sent_types`, values by `sent_values`.

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

_WAYS_TO_A_LIST = ("tolist", "to_list")  # the method of pandas' columns, and of polars'
_PANDAS = b"pandas"  # the key of what pandas wrote about a frame


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
    """Make the table that is sent of a frame: all its values arrive.

    Raises:
        Refusal: they would not.
    """
    from .plain_arrays import plain_array
    from .sent_types import sent_schema
    from .sent_values import refuse_lost_values

    pyarrow = import_pyarrow()
    if _is_pandas_frame(frame):
        table, nullable = _of_pandas(pyarrow, frame)
    else:
        table, nullable = _of_capsule(pyarrow, frame)
    names = table.column_names
    if len(set(names)) < len(names):
        # Deployed nodes (release 0.4.2) can't read these, and then the models seem to be at fault.
        raise Refusal(ValueError, "two columns of the frame have the same name")
    library = type(frame).__module__.partition(".")[0]
    schema = sent_schema(pyarrow, table.schema, parquet=parquet, library=library)
    refuse_lost_values(pyarrow, table, nullable)
    if schema.equals(table.schema):
        return table
    columns = [
        pyarrow.chunked_array([plain_array(pyarrow, chunk, kind) for chunk in column.chunks], kind)
        for column, kind in zip(table.columns, schema.types, strict=True)
    ]
    return pyarrow.Table.from_arrays(columns, schema=schema)


def _of_pandas(pyarrow: Any, frame: Any) -> tuple[Any, set[str]]:
    """Make a table of a pandas frame, and name the columns that keep whole numbers beside missing ones."""
    from .label_trials import refuse_changed_labels
    from .object_trials import kept_integers, refuse_changed_objects, refuse_unreadable_dtypes

    pandas = import_pandas()
    if not frame.columns.is_unique:
        raise Refusal(ValueError, "two columns of the frame have the same name")
    refuse_changed_labels(pyarrow, pandas, frame)
    refuse_unreadable_dtypes(pandas, frame)
    if frame.attrs:  # some releases send them, and warn of what is no JSON
        frame = frame.copy(deep=False)
        frame.attrs = {}
    try:
        table = pyarrow.Table.from_pandas(frame)
    except MemoryError:
        raise
    except Exception:  # pyarrow's own, OverflowError and more, of which the text may show a value
        raise _unreadable(pyarrow, pandas, frame) from None
    refuse_changed_objects(pandas, frame, table)
    return table, kept_integers(frame)


def _unreadable(pyarrow: Any, pandas: Any, frame: Any) -> Refusal:
    """Say which column of a pandas frame Arrow can't read."""
    reason = f"{type(frame).__name__} can't be read as a table of named columns"
    for place, label in enumerate(frame.columns):
        column = frame.iloc[:, place]
        try:
            pyarrow.array(column, from_pandas=True)
        except Exception:
            kind = f"{column.dtype}, {pandas.api.types.infer_dtype(column, skipna=True)}"
            what = f"column {str(label)[:100]!r} ({kind}) has values of which Arrow makes no column"
            return Refusal(TypeError, f"{reason}: {what} (send numbers, times or texts of one kind)")
    return Refusal(TypeError, f"{reason}: its labels or its index have no place in Arrow")


def _of_capsule(pyarrow: Any, frame: Any) -> tuple[Any, set[str]]:
    """Make a table of any other frame. If pandas made that, its labels must come back as they are read."""
    try:
        table = pyarrow.table(frame)
    except MemoryError:
        raise
    except Exception as error:  # whatever the library raises
        # A single column, such as a pandas series, has the capsule interface as well.
        name = type(frame).__name__
        listing = next((f".{way}()" for way in _WAYS_TO_A_LIST if hasattr(type(frame), way)), None)
        hint = "" if listing is None else f" (send its {listing}, or a frame with it)"
        reason = f"{name} can't be read as a table of named columns{hint}: {error}"
        raise Refusal(TypeError, reason) from None
    if _PANDAS not in (table.schema.metadata or {}):
        return table, set()
    try:
        shell = table.schema.empty_table().to_pandas()
    except ImportError:
        return table, set()
    except Exception:
        raise Refusal(TypeError, "pandas can't read what it wrote about the table's labels") from None
    from .label_trials import refuse_changed_labels
    from .object_trials import kept_integers

    refuse_changed_labels(pyarrow, import_pandas(), shell)
    return table, kept_integers(shell)


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
        text = "data frames need pyarrow: install trio-model-runner[arrow]"
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
