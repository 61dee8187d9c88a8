"""Values of columns that pandas on the nodes could not hold, or would change.

pandas holds whole numbers of which some are missing as floats, and rounds those of more than 53 bits without
a word. Of dates, and of times inside others, it makes Python's, which know the years 1 to 9999 and
microseconds; others raise an error there, and then the model seems to have failed. So such values are refused
before anything is sent. This module looks at arrays of types that `sent_types` made.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any, Final

from ..refusal import Refusal
from .time_zones import extremes_of, has_far_times

__all__ = ["refuse_lost_values"]

_EXACT: Final = 2**53  # floats hold all whole numbers up to here
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # of Python's years, in days since 1970
_MOST_SECONDS: Final = 999_999_999 * 86_400  # of a timedelta


def refuse_lost_values(pyarrow: Any, table: Any, nullable: Container[str]) -> None:
    """Refuse a table with values that would be lost.

    Args:
        pyarrow: the module.
        table: the `pyarrow.Table`.
        nullable: the names of the columns whose dtypes keep whole numbers beside missing ones.

    Raises:
        Refusal: the reason names the column, and what to do.
    """
    for name, column in zip(table.column_names, table.columns, strict=True):
        reason = next(_reasons(pyarrow, column, rounds=name not in nullable), None)
        if reason is not None:
            raise Refusal(ValueError, f"column {name[:100]!r} has {reason}")


def _reasons(pyarrow: Any, column: Any, *, rounds: bool) -> Iterator[str]:
    if not _may_lose(pyarrow.types, column.type):
        return
    for chunk in column.chunks:
        yield from _of_array(pyarrow, chunk, rounds=rounds, in_struct=False)


def _may_lose(types: Any, kind: Any) -> bool:
    checks = (types.is_nested, types.is_dictionary, types.is_int64, types.is_uint64, types.is_temporal)
    return any(check(kind) for check in checks)


def _of_array(pyarrow: Any, array: Any, *, rounds: bool, in_struct: bool) -> Iterator[str]:
    """Say what an array would lose; of times in objects, and in lists in these, pandas makes Python's."""
    types, kind = pyarrow.types, array.type
    if isinstance(array, pyarrow.ExtensionArray):
        return
    if types.is_dictionary(kind):
        values = array.dictionary
        if array.null_count and not values.null_count:
            values = pyarrow.chunked_array([values, pyarrow.nulls(1, values.type)])
        yield from _of_flat(types, values, rounds=rounds, in_struct=in_struct)
    elif types.is_struct(kind):
        for part in array.flatten():
            yield from _of_array(pyarrow, part, rounds=rounds, in_struct=True)
    elif types.is_map(kind):
        entries = array.values.slice(*_slice_of(array))
        for part in entries.flatten():
            yield from _of_array(pyarrow, part, rounds=rounds, in_struct=True)
    elif types.is_nested(kind):
        yield from _of_array(pyarrow, array.flatten(), rounds=rounds, in_struct=in_struct)
    else:
        yield from _of_flat(types, array, rounds=rounds, in_struct=in_struct)


def _slice_of(array: Any) -> tuple[int, int]:
    if not len(array):
        return 0, 0
    offsets = array.offsets
    return offsets[0].as_py(), offsets[-1].as_py() - offsets[0].as_py()


def _of_flat(types: Any, array: Any, *, rounds: bool, in_struct: bool) -> Iterator[str]:
    kind = array.type
    is_long = types.is_int64(kind) or types.is_uint64(kind)
    if is_long and rounds and array.null_count and any(abs(each) > _EXACT for each in extremes_of(array)):
        yield (
            "whole numbers of more than 53 bits, and missing ones: pandas would round them "
            "(fill the missing ones, or send a pandas frame with the dtype Int64)"
        )
    elif types.is_date(kind):
        day = 1 if types.is_date32(kind) else 86_400_000
        if not all(_FIRST_DAY <= each // day <= _LAST_DAY for each in extremes_of(array)):
            yield "dates outside of the years 1 to 9999"
    elif types.is_time64(kind) and kind.unit == "ns" and _has_parts(array):
        yield "times of day with nanoseconds, which pandas can't read (send microseconds)"
    elif types.is_timestamp(kind) and (kind.tz is not None or in_struct) and has_far_times(array):
        yield "times outside of the years 1 to 9999"
    elif types.is_duration(kind) and in_struct and kind.unit in ("s", "ms"):
        unit = 1 if kind.unit == "s" else 1000
        if any(abs(each) // unit > _MOST_SECONDS for each in extremes_of(array)):
            yield "durations of more than 999999999 days"


def _has_parts(times: Any) -> bool:
    """Say whether some times in nanoseconds are no whole microseconds."""
    from pyarrow import compute

    numbers = times.cast("int64")
    whole = compute.multiply(compute.divide(numbers, 1000), 1000)
    return compute.any(compute.not_equal(numbers, whole)).as_py() is True
