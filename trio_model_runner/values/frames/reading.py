"""Data frames that a stranger wrote: Parquet files and Arrow streams, read without trusting them.

Three things can be wrong with such bytes. They may not be what they say: Arrow's readers check the structure
of what they read, but not all of its content. So a table is validated in full before it is used. They may be
small and expand enormously. So `bounds` adds up, from their headers, how much memory they take, before they
are read. If many rows refer to one text, headers don't tell; then the text is kept once until the table is
weighed. And the schema may have metadata that make pandas fail: they are the stranger's own JSON.

Each of these errors is a `ValueError`, and no table larger than the limit is ever made. (While it is read, a
table takes a few times its size. A pandas frame has a Python object for each text.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from .bounds.arrow import MessageError, measure_arrow
from .bounds.limit import MAX_FRAME_BYTES, refuse_larger
from .bounds.parquet import measure_parquet
from .bounds.thrift import ThriftError
from .bounds.weighing import weigh
from .writing import FrameKind, import_pandas, import_pyarrow

__all__ = ["read_arrow", "read_parquet"]

_LONGEST_NAME: Final = 1000
"""In characters. pandas evaluates names as Python literals if its metadata says that they were tuples."""


def read_parquet(data: bytes, frames: FrameKind, max_bytes: int = MAX_FRAME_BYTES) -> Any:
    """Read a Parquet file.

    Args:
        data: the file.
        frames: "arrow" for a `pyarrow.Table`, "pandas" for a `pandas.DataFrame`.
        max_bytes: how large the table may be, in bytes; each value counts as 8 bytes or more.

    Raises:
        ValueError: the bytes are no readable Parquet file, or the table is too large.
        ImportError: pyarrow, or pandas where it is asked for, is missing.
    """
    return _read("Parquet", lambda: _parquet_table(data, max_bytes), frames)


def read_arrow(data: bytes, frames: FrameKind, max_bytes: int = MAX_FRAME_BYTES) -> Any:
    """Read an Arrow IPC stream; see `read_parquet`."""
    return _read("Arrow", lambda: _arrow_table(data, max_bytes), frames)


def _read(form: str, read: Callable[[], Any], frames: FrameKind) -> Any:
    import_pyarrow()
    if frames == "pandas":
        import_pandas()
    try:
        table = read()
        _check_names(table.schema)
        return table.to_pandas() if frames == "pandas" else table
    except Exception as error:
        # There are many kinds: Arrow's own, OSError, UnicodeDecodeError, MemoryError for false sizes, and
        # whatever senseless metadata of pandas leads to.
        ours = type(error) is ValueError or isinstance(error, (ThriftError, MessageError))
        reason = str(error) if ours else f"{type(error).__name__}: {error}"
        raise ValueError(f"{form} that can't be read: {reason}") from error


def _parquet_table(data: bytes, max_bytes: int) -> Any:
    pyarrow = import_pyarrow()
    from pyarrow import parquet

    size = measure_parquet(data, max_bytes)
    refuse_larger(size.bytes, max_bytes)
    # Not `read_table`: it uses Arrow's data sets, and these fail if two columns have the same name.
    file = parquet.ParquetFile(pyarrow.BufferReader(data))
    if not size.shared:
        table = file.read()
        table.validate(full=True)
        return table
    schema = _without_views(pyarrow, file.schema_arrow)
    file = parquet.ParquetFile(pyarrow.BufferReader(data), read_dictionary=list(size.shared))
    groups, weight = [], 0
    for index in range(file.num_row_groups):
        table = file.read_row_group(index)
        table.validate(full=True)
        weight += weigh(pyarrow, table)
        refuse_larger(weight, max_bytes)
        groups.append(table.cast(schema))
    return pyarrow.concat_tables(groups)


def _without_views(pyarrow: Any, schema: Any) -> Any:
    """The same schema with plain text instead of views of text: dictionaries can't be cast to views."""
    plain = {"string_view": pyarrow.large_string(), "binary_view": pyarrow.large_binary()}
    for index, field in enumerate(schema):
        schema = schema.set(index, field.with_type(plain.get(str(field.type), field.type)))
    return schema


def _arrow_table(data: bytes, max_bytes: int) -> Any:
    pyarrow = import_pyarrow()
    refuse_larger(measure_arrow(pyarrow, data, max_bytes), max_bytes)
    table = pyarrow.ipc.open_stream(data).read_all()
    table.validate(full=True)
    refuse_larger(weigh(pyarrow, table), max_bytes)
    return table


def _check_names(fields: Iterable[Any]) -> None:
    """Decode the names of `fields` and of the fields inside them; pyarrow would do so only on first use."""
    for field in fields:
        if len(field.name) > _LONGEST_NAME:
            raise ValueError(f"the name of a column has more than {_LONGEST_NAME} characters")
        inner = (getattr(field.type, name, None) for name in ("value_field", "key_field", "item_field"))
        _check_names(field for field in inner if field is not None)
        if isinstance(field.type, Iterable):  # a struct
            _check_names(field.type)
