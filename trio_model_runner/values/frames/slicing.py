"""Columns whose values become Python objects in pandas, made a few at a time.

Between two slices, other threads have their turn. `objects` says how many objects there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ...abandoned import stop_if_abandoned
from .objects import MOST_IN_A_ROW, units_up_to

__all__ = ["AT_ONCE", "in_small_chunks", "objects_of", "units_of"]

AT_ONCE: Final = 20_000
"""So many units of objects are made at once: 2 to 10 ms."""


def units_of(pyarrow: Any, column: Any) -> int:
    """Count the units of a column.

    Raises:
        ValueError: a single value has more than `MOST_IN_A_ROW`.
    """
    total = 0
    for chunk in column.chunks:
        up_to = units_up_to(pyarrow, chunk)
        total += int(up_to[-1])
        if up_to[-1] > MOST_IN_A_ROW and (up_to[1:] - up_to[:-1]).max() > MOST_IN_A_ROW:
            raise ValueError(f"a single value would become more than {MOST_IN_A_ROW} objects")
    return total


def objects_of(pyarrow: Any, column: Any) -> Any:
    """Make the objects of a column, as a numpy array."""
    import numpy

    extra = None
    if pyarrow.types.is_nested(column.type):
        column = pyarrow.chunked_array([column.combine_chunks()], column.type)
        extra = _one_with_nulls(pyarrow, column.chunk(0))
    made = numpy.empty(len(column), dtype=object)
    begin = 0
    for part in _slices(pyarrow, column):
        # Of a slice of a map, pyarrow makes the objects of the whole map, unless it is a copy.
        copied = part if extra is None else pyarrow.concat_arrays([part, extra])
        made[begin : begin + len(part)] = copied.to_pandas().to_numpy()[: len(part)]
        begin += len(part)
    return made


def in_small_chunks(pyarrow: Any, column: Any) -> Any:
    """Make the same column of small chunks: pandas' own dtypes are made chunk by chunk."""
    return pyarrow.chunked_array(list(_slices(pyarrow, column)), column.type)


def _slices(pyarrow: Any, column: Any) -> Iterator[Any]:
    for chunk in column.chunks:
        up_to = units_up_to(pyarrow, chunk)
        begin = 0
        while begin < len(chunk):
            stop_if_abandoned()
            end = int(up_to.searchsorted(up_to[begin] + AT_ONCE, side="right")) - 1
            end = max(end, begin + 1)
            yield chunk.slice(begin, end - begin)
            begin = end


def _one_with_nulls(pyarrow: Any, array: Any) -> Any:
    """Make an array of one value, which has a null inside wherever `array` has one.

    Integers in a list or a struct become floats if there is a null among them. With this value behind each
    slice, they do so in all slices, or in none. An array without values has none here, either.
    """
    types, kind = pyarrow.types, array.type
    if not len(array):
        return array
    if types.is_struct(kind) and kind.num_fields:
        parts = [_one_with_nulls(pyarrow, array.field(place)) for place in range(kind.num_fields)]
        return pyarrow.StructArray.from_arrays(
            parts, fields=[kind[place] for place in range(kind.num_fields)]
        )
    if types.is_map(kind):
        parts = [array.keys[:1], _one_with_nulls(pyarrow, array.items)]
        inner = pyarrow.StructArray.from_arrays(parts, fields=[kind.key_field, kind.item_field])
        return _one_list(pyarrow, kind, inner, "int32")
    if types.is_list(kind) or types.is_large_list(kind):
        inner = _one_with_nulls(pyarrow, array.values)
        return _one_list(pyarrow, kind, inner, "int32" if types.is_list(kind) else "int64")
    if types.is_fixed_size_list(kind) and kind.list_size:
        rest = array.values[: kind.list_size - 1]
        inner = pyarrow.concat_arrays([_one_with_nulls(pyarrow, array.values), rest])
        return pyarrow.Array.from_buffers(kind, 1, [None], children=[inner])
    return array.take(pyarrow.array([None], "int64")) if array.null_count else array[:1]


def _one_list(pyarrow: Any, kind: Any, inner: Any, offsets: str) -> Any:
    begin_and_end = pyarrow.array([0, len(inner)], offsets).buffers()[1]
    return pyarrow.Array.from_buffers(kind, 1, [None, begin_and_end], children=[inner])
