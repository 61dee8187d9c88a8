"""The table that is sent of a frame: all that it holds arrives on a node, or it is refused.

A frame may come from any library that has the Arrow PyCapsule interface, such as polars or pyarrow: columns
are read through that interface, and the library need not be known. pandas frames are different. That
interface would lose their index and some dtypes. So `pyarrow.Table.from_pandas` writes these into the
schema's metadata, where the pandas on the node finds them again.

What a node would read as something else, or not at all, is refused: labels by `label_trials`, objects by
`object_trials`, types by `sent_types`, values by `sent_values`. This module knows nothing of bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Container
from typing import Any, Final

from ..refusal import Refusal
from .label_trials import refuse_changed_labels
from .object_trials import kept_integers, refuse_changed_objects, refuse_unreadable_dtypes
from .plain_arrays import plain_array
from .sent_types import sent_schema
from .sent_values import refuse_lost_values

__all__ = ["table_of_capsule", "table_of_pandas"]

_WAYS_TO_A_LIST: Final = ("tolist", "to_list")  # the method of pandas' columns, and of polars'
_PANDAS: Final = b"pandas"  # the key of what pandas wrote about a frame
_TWICE: Final = (
    "two columns of the frame have the same name"  # deployed nodes (release 0.4.2) can't read these
)


def table_of_pandas(pyarrow: Any, frame: Any, *, parquet: bool) -> Any:
    """Make the table of a pandas frame.

    Args:
        pyarrow: the module.
        frame: the frame.
        parquet: whether it becomes Parquet; an Arrow stream has more types.

    Raises:
        Refusal: it would not arrive as it is.
    """
    pandas = sys.modules["pandas"]
    try:
        table = _read_pandas(pyarrow, pandas, frame)
    except (Refusal, MemoryError, ImportError):
        raise
    except Exception:  # pyarrow's own, OverflowError and more, of which the text may show a value
        raise _unreadable(pyarrow, frame) from None
    return _sendable(pyarrow, table, parquet=parquet, library="pandas", nullable=kept_integers(frame))


def table_of_capsule(pyarrow: Any, frame: Any, *, parquet: bool) -> Any:
    """Make the table of any other frame; the arguments and errors are those of `table_of_pandas`."""
    table = _read_capsule(pyarrow, frame)
    nullable: Container[str] = ()
    if _PANDAS in (table.schema.metadata or {}):
        nullable = _check_metadata(pyarrow, table)
    library = type(frame).__module__.partition(".")[0]
    return _sendable(pyarrow, table, parquet=parquet, library=library, nullable=nullable)


def _refuse_invalid(pyarrow: Any, table: Any) -> None:
    """Refuse content that Arrow's own rules forbid: pyarrow lets one make it, and nodes fail at it."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)  # 4 ms for a million texts
        except pyarrow.ArrowInvalid:  # the text may show a value
            what = f"column {name[:100]!r} has content that {column.type} can't have"
            raise Refusal(
                ValueError, f"{what}, such as text that is not UTF-8, or times of day from 24:00 on"
            ) from None


def _sendable(pyarrow: Any, table: Any, *, parquet: bool, library: str, nullable: Container[str]) -> Any:
    _refuse_invalid(pyarrow, table)
    names = table.column_names
    if len(set(names)) < len(names):
        raise Refusal(ValueError, _TWICE)
    schema = sent_schema(pyarrow, table.schema, parquet=parquet, library=library)
    if not schema.equals(table.schema):
        columns = [
            pyarrow.chunked_array([plain_array(pyarrow, chunk, kind) for chunk in column.chunks], kind)
            for column, kind in zip(table.columns, schema.types, strict=True)
        ]
        table = pyarrow.Table.from_arrays(columns, schema=schema)
    refuse_lost_values(pyarrow, table, nullable)
    return table


def _read_pandas(pyarrow: Any, pandas: Any, frame: Any) -> Any:
    if not frame.columns.is_unique:
        raise Refusal(ValueError, _TWICE)
    refuse_changed_labels(pyarrow, pandas, frame)
    refuse_unreadable_dtypes(pandas, frame)
    if frame.attrs:  # some releases send them, and warn of what is no JSON
        frame = frame.copy(deep=False)
        frame.attrs = {}
    table = pyarrow.Table.from_pandas(frame)
    refuse_changed_objects(pandas, frame, table)
    return table


def _unreadable(pyarrow: Any, frame: Any) -> Refusal:
    """Say which column of a pandas frame Arrow can't read."""
    reason = f"{type(frame).__name__} can't be read as a table of named columns"
    for place, label in enumerate(frame.columns):
        column = frame.iloc[:, place]
        try:
            pyarrow.array(column, from_pandas=True)
        except Exception:
            what = f"column {str(label)[:100]!r} ({column.dtype}) has values of which Arrow makes no column"
            has_zone = getattr(column.dtype, "tz", None) is not None
            cure = 'it .dt.tz_convert("UTC")' if has_zone else "numbers, times or texts of one kind"
            return Refusal(TypeError, f"{reason}: {what} (send {cure})")
    return Refusal(TypeError, f"{reason}: Arrow can't hold its labels (text must be UTF-8)")


def _read_capsule(pyarrow: Any, frame: Any) -> Any:
    if isinstance(frame, pyarrow.Table):
        return frame
    if isinstance(frame, pyarrow.RecordBatch):
        return pyarrow.Table.from_batches([frame])
    is_reader = isinstance(frame, pyarrow.RecordBatchReader)
    if not is_reader and "\\x00" in repr(getattr(frame, "schema", None)):
        # The interface has names that end at a zero byte; polars (release 2.1) ends the process.
        raise Refusal(ValueError, "a name in the frame has a zero byte, which Arrow's interface can't hold")
    try:
        return frame.read_all() if is_reader else pyarrow.table(frame)
    except MemoryError:
        raise
    except Exception as error:  # whatever the library raises
        # A single column, such as a pandas series, has the capsule interface as well.
        name = type(frame).__name__
        listing = next((f".{way}()" for way in _WAYS_TO_A_LIST if hasattr(type(frame), way)), None)
        hint = "" if listing is None else f" (send its {listing}, or a frame with it)"
        column = _unexported(pyarrow, frame)
        cast = " (cast it to a type that Arrow has, such as integers of 64 bits, or text)" if column else ""
        reason = f"{name} can't be read as a table of named columns{hint}: {column}{error}{cast}"
        raise Refusal(TypeError, reason) from None


def _unexported(pyarrow: Any, frame: Any) -> str:
    """Name the column that a library can't export, if it lets one select columns by name, as polars does."""
    select = getattr(frame, "select", None)
    if select is None:
        return ""
    for name in getattr(frame, "columns", ()):
        try:
            pyarrow.table(select([name]))
        except Exception:
            return f"column {str(name)[:100]!r}: "
    return ""


def _check_metadata(pyarrow: Any, table: Any) -> Container[str]:
    """Check what pandas wrote about a table: the labels that it makes of that must come back equal.

    Returns:
        The names of the columns whose dtypes keep whole numbers beside missing ones.
    """
    try:
        import pandas
    except ImportError:
        return ()
    try:
        levels = [name for name in table.schema.pandas_metadata["index_columns"] if isinstance(name, str)]
        kinds = [table.schema.field(name).type for name in levels if name in table.column_names]
        shell = table.schema.empty_table().to_pandas()
    except Exception:
        raise Refusal(TypeError, "pandas can't read what the table's metadata say about labels") from None
    refuse_changed_labels(pyarrow, pandas, shell)
    refuse_unreadable_dtypes(pandas, shell)
    if any(isinstance(kind, pyarrow.BaseExtensionType) for kind in kinds):
        raise Refusal(
            TypeError, "the labels of the index are of an extension type, of which nodes read numbers"
        )
    return kept_integers(shell)
