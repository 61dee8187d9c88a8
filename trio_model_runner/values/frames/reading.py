"""Data frames that a stranger wrote: Parquet files and Arrow streams, read without trusting them.

Three things can be wrong with such bytes. They may not be what they say: Arrow's readers check the structure
of what they read but not all of its content, so a table is validated in full before anybody touches it. They
may be small and expand enormously: so what they take is added up from their headers before they are read
(`parquet_pages`, `arrow_messages`), and where headers can't tell, because many rows refer to the same text,
the text is kept once until it is weighed. And they may carry what only pandas would stumble over: its
metadata in the schema is the stranger's own JSON.

Whatever goes wrong on the way is one `ValueError`, and no table larger than the limit is ever made. (Reading
takes a small multiple of a table's size for a moment, and a pandas frame has a Python object for each text.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from .bounds.arrow import MessageError, measure_arrow
from .bounds.parquet import CELL_BYTES, measure_parquet
from .bounds.thrift import ThriftError
from .writing import FrameKind, import_pandas, import_pyarrow

__all__ = ["MAX_FRAME_BYTES", "read_arrow", "read_parquet"]

MAX_FRAME_BYTES: Final = 256 * 2**20
"""How large the table in an answer may be by default, in bytes: four times the largest message."""

_LONGEST_NAME: Final = 1000
"""Characters; pandas evaluates names as Python literals if its metadata says that they were tuples."""


def read_parquet(data: bytes, frames: FrameKind, max_bytes: int = MAX_FRAME_BYTES) -> Any:
    """Read a Parquet file.

    Args:
        data: the file.
        frames: as what: "arrow", a `pyarrow.Table`, or "pandas", a `pandas.DataFrame`.
        max_bytes: how large the table may be; each value counts 8 bytes or more.

    Raises:
        ValueError: the bytes are no Parquet file that can be read, or it is too large.
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
        # Many kinds: Arrow's own, OSError, UnicodeDecodeError, MemoryError for sizes that are a lie, and
        # whatever pandas metadata leads to that makes no sense.
        ours = type(error) is ValueError or isinstance(error, (ThriftError, MessageError))
        reason = str(error) if ours else f"{type(error).__name__}: {error}"
        raise ValueError(f"{form} that can't be read: {reason}") from error


def _parquet_table(data: bytes, max_bytes: int) -> Any:
    pyarrow = import_pyarrow()
    from pyarrow import parquet

    size = measure_parquet(data, max_bytes)
    _require(size.bytes, max_bytes)
    # Not `read_table`: it goes through Arrow's data sets, which stumble over columns of the same name.
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
        weight += _weigh(pyarrow, table)
        _require(weight, max_bytes)
        groups.append(table.cast(schema))
    return pyarrow.concat_tables(groups)


def _without_views(pyarrow: Any, schema: Any) -> Any:
    """The same schema with plain text where it has views of text, to which dictionaries can't be cast."""
    plain = {"string_view": pyarrow.large_string(), "binary_view": pyarrow.large_binary()}
    for index, field in enumerate(schema):
        schema = schema.set(index, field.with_type(plain.get(str(field.type), field.type)))
    return schema


def _arrow_table(data: bytes, max_bytes: int) -> Any:
    pyarrow = import_pyarrow()
    _require(measure_arrow(pyarrow, data, max_bytes), max_bytes)
    table = pyarrow.ipc.open_stream(data).read_all()
    table.validate(full=True)
    _require(_weigh(pyarrow, table), max_bytes)
    return table


def _require(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ValueError(f"it would take more than {max_bytes} bytes")


def _weigh(pyarrow: Any, table: Any) -> int:
    """What a table takes where every value has its own bytes, also those that share them now."""
    return sum(_weigh_array(pyarrow, chunk) for column in table.columns for chunk in column.chunks)


def _weigh_array(pyarrow: Any, array: Any) -> int:
    types, kind = pyarrow.types, array.type
    cells = len(array) * CELL_BYTES
    if isinstance(kind, pyarrow.BaseExtensionType):
        return _weigh_array(pyarrow, array.storage)
    if types.is_dictionary(kind):
        return cells + _weigh_references(pyarrow, array)
    if types.is_struct(kind) or types.is_fixed_size_list(kind):
        return cells + sum(_weigh_array(pyarrow, inner) for inner in _inner(array))
    if types.is_map(kind):
        return cells + _weigh_array(pyarrow, array.keys) + _weigh_array(pyarrow, array.items)
    if types.is_list(kind) or types.is_large_list(kind):
        return cells + _weigh_array(pyarrow, array.flatten())
    if str(kind) in ("string_view", "binary_view"):
        return cells + _weigh_views(array)
    if getattr(kind, "num_fields", 0):
        # Unions, runs and views of lists: values may stand for any number of others, so each may be all.
        return cells + len(array) * int(array.nbytes)
    return max(cells, int(array.nbytes))


def _inner(array: Any) -> Iterable[Any]:
    parts = array.flatten()
    return parts if isinstance(parts, list) else [parts]


def _weigh_references(pyarrow: Any, array: Any) -> int:
    values = array.dictionary
    most = len(array) * int(values.nbytes)
    texts = (pyarrow.StringArray, pyarrow.LargeStringArray, pyarrow.BinaryArray, pyarrow.LargeBinaryArray)
    if not isinstance(values, texts):
        return most
    from pyarrow import compute

    lengths = compute.take(compute.binary_length(values), array.indices)
    return int(compute.sum(compute.cast(lengths, "int64")).as_py() or 0)


def _weigh_views(array: Any) -> int:
    """The lengths of the texts: each view is 16 bytes, of which the first 4 are its length."""
    views = memoryview(array.buffers()[1]).cast("B").cast("i")
    begin = 4 * array.offset
    return sum(map(abs, views[begin : begin + 4 * len(array) : 4].tolist()))


def _check_names(fields: Iterable[Any]) -> None:
    """Decode the names of `fields` and of those inside them; pyarrow puts it off until they are used."""
    for field in fields:
        if len(field.name) > _LONGEST_NAME:
            raise ValueError(f"the name of a column has more than {_LONGEST_NAME} characters")
        inner = (getattr(field.type, name, None) for name in ("value_field", "key_field", "item_field"))
        _check_names(field for field in inner if field is not None)
        if isinstance(field.type, Iterable):  # a struct
            _check_names(field.type)
