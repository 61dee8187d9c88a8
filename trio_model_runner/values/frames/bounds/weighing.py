"""How much memory a table takes, found out after it was read.

If many rows refer to one text, headers don't tell how large the column is. Such columns are read as
dictionaries, which hold each text once. They are weighed here before each row gets its own text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .limit import CELL_BYTES

__all__ = ["weigh"]


def weigh(pyarrow: Any, table: Any) -> int:
    """How large a table is, in bytes, if each value has bytes of its own, even where values share them now.

    Args:
        pyarrow: the module.
        table: a `pyarrow.Table` that was read and validated.
    """
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
        # Unions, runs and views of lists: each value may stand for all the others.
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
