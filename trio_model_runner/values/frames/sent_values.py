"""Values of columns that pandas on the nodes could not hold, or would change.

pandas holds whole numbers of which some are missing as floats, and rounds those of more than 53 bits without
a word. Of dates, and of times inside others, it makes Python's, which know the years 1 to 9999 and
microseconds; others raise an error there, and then the model seems to have failed. So such values are refused
before anything is sent. This module looks at arrays of types that `sent_types` made.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any, Final

from ..refusal import Refusal
from .time_zones import extremes_of, has_far_times, has_moving_times, told_of_moving

__all__ = ["refuse_lost_values"]

_EXACT: Final = 2**53  # floats hold all whole numbers up to here
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # of Python's years, in days since 1970
_LAST: Final = (2**63 - 1) // 1000  # in seconds
_IN_UTC: Final = '(send them in UTC: .dt.tz_convert("UTC") of pandas, .dt.convert_time_zone("UTC") of polars)'
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
    checks = ("nested", "dictionary", "int64", "uint64", "temporal")
    if any(getattr(pyarrow.types, f"is_{check}")(column.type) for check in checks):
        yield from _of_arrays(pyarrow, column.chunks, column.type, rounds=rounds, in_struct=False)


def _of_arrays(
    pyarrow: Any, arrays: Sequence[Any], kind: Any, *, rounds: bool, in_struct: bool
) -> Iterator[str]:
    """Say what arrays, the chunks of a column or what is in them, would lose.

    They are looked at together, since pandas makes one array of them. Of times in objects, and in lists in
    these, it makes Python's.
    """
    types = pyarrow.types
    if isinstance(kind, pyarrow.BaseExtensionType):
        return
    if types.is_struct(kind) or types.is_map(kind):
        structs = (
            [array.values.slice(*_slice_of(array)) for array in arrays] if types.is_map(kind) else arrays
        )
        fields = zip(*(struct.flatten() for struct in structs), strict=True)
        for parts in fields:
            yield from _of_arrays(pyarrow, parts, parts[0].type, rounds=rounds, in_struct=True)
    elif types.is_nested(kind):
        inner = [array.flatten() for array in arrays]
        yield from _of_arrays(pyarrow, inner, kind.value_type, rounds=rounds, in_struct=in_struct)
    else:
        if types.is_dictionary(kind):
            nulls = pyarrow.nulls(any(array.null_count for array in arrays), kind.value_type)
            arrays, kind = [*(array.dictionary for array in arrays), nulls], kind.value_type
        whole = pyarrow.chunked_array(arrays, kind)
        yield from _of_flat(types, whole, rounds=rounds, in_struct=in_struct)


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
    elif types.is_timestamp(kind) and kind.tz is not None and has_moving_times(array):
        yield f"times {told_of_moving(kind.tz)} {_IN_UTC}"
    elif (
        types.is_timestamp(kind)
        and kind.unit == "s"
        and any(abs(each) > _LAST for each in extremes_of(array))
    ):
        yield "times that Parquet can't count in milliseconds"
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
