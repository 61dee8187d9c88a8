"""Strategies for frames of pandas that a coordinator may send."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy
import pandas
import pyarrow
from hypothesis import strategies as st

from .arrow_to_send import arrow_arrays
from .frame_values import (
    DAY,
    DURATIONS,
    FLOATS,
    NOON,
    TEXTS,
    TIMES,
    UTC,
    WHOLE,
    ZONES,
    Decimal,
    make_or_none,
    there,
)

__all__ = ["pandas_frames_to_send"]

EAST = datetime.timezone(datetime.timedelta(hours=1))
STAMPS = [pandas.Timestamp("2026-01-02T00:00:00.123456789"), pandas.Timestamp(NOON)]


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Word(enum.StrEnum):
    A = "a"
    B = "b"


class Thing(enum.Enum):
    A = 1


OBJECTS: Mapping[str, Sequence[Any]] = {
    "texts": TEXTS,
    "whole numbers": [*WHOLE, 2**63, 2**64 - 1, 2**70],
    "floats": FLOATS,
    "booleans": [True, False, numpy.True_],
    "bytes": [b"a", b"", b"\xff", bytearray(b"b")],
    "dates": [DAY, datetime.date(1, 1, 1), datetime.date(9999, 12, 31)],
    "times": TIMES,
    "times with a zone": [NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=EAST)],
    "stamps": STAMPS,
    "times of day": [datetime.time(1), datetime.time(2, 3, 4, 5), datetime.time(1, tzinfo=UTC)],
    "durations": [*DURATIONS, pandas.Timedelta(1), numpy.timedelta64(5, "s")],
    "numpy's times": [numpy.datetime64("2026-01-02T00:00:01"), numpy.datetime64("2026-01-02", "ns")],
    "decimals": [Decimal("1.50"), Decimal(2), Decimal("1E+20"), Decimal("1E-8"), Decimal("NaN")],
    "numpy's numbers": [numpy.int8(1), numpy.uint64(2**63), numpy.float32(0.1), numpy.float64(2)],
    "enums": [Number.ONE, Number.TWO],
    "enums of texts": [Word.A, Word.B],
    "other enums": [Thing.A],
    "periods": [pandas.Period("2026-01", "M"), pandas.Period("2026-02", "M")],
    "intervals": [pandas.Interval(0, 1), pandas.Interval(1, 2)],
    "ids": [uuid.UUID(int=1), uuid.UUID(int=2)],
    "sets": [{1}, frozenset([2])],
    "classes": [int, object()],
    "complex": [1j],
    "lists": [[1, 2], [], [1, None], (3,), [2**60 + 1, None], [1, 2.5], numpy.arange(2), numpy.array([0.5])],
    "lists of texts": [["a"], [], ["b", None], [b"a"], numpy.array(["a"])],
    "lists of times": [
        [NOON],
        [STAMPS[0]],
        [DAY],
        [NOON.replace(tzinfo=UTC)],
        numpy.array(["2026"], "M8[s]"),
    ],
    "lists of lists": [[[1]], [], [[], None], [[2.5]]],
    "objects": [{"a": 1}, {"a": 2, "b": "x"}, {}, {"b": None}, {"a": None}, {"c": [1]}],
    "objects of times": [{"t": NOON}, {"t": STAMPS[0]}, {"t": NOON.replace(tzinfo=UTC)}, {"d": DURATIONS[0]}],
    "objects in lists": [[{"a": 1}], [{"b": 2}], [], [None]],
    "offsets": [pandas.DateOffset(1)],
    "scalars": [pyarrow.scalar(1)],
}
"""Python objects by kind: what a column, an index, or labels of the dtype object may hold."""

NUMPYS = (
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "bool", "complex128"),
    *(f"{kind}64[{unit}]" for kind in ("datetime", "timedelta") for unit in ("s", "ms", "us", "ns")),
)
MASKED = (
    *(f"{sign}nt{bits}" for sign in ("I", "UI") for bits in (8, 16, 32, 64)),
    *("Float32", "Float64", "boolean"),
)
STRINGS = ("str", "string", "string[python]", "string[pyarrow]")
FREQUENCIES = ("D", "M", "Q-DEC", "Y-MAR", "W-WED", "h", "min", "s", "ns", "2D")


def some(values: Sequence[Any], count: int, *, missing: Sequence[Any] = (None,)) -> st.SearchStrategy[Any]:
    """So many of the values, with missing ones here and there."""
    few = st.lists(st.sampled_from(values), min_size=1, max_size=3) if values else st.just([None])
    mixed = few.flatmap(
        lambda these: st.lists(st.sampled_from([*these, *missing]), min_size=count, max_size=count)
    )
    whole = few.flatmap(lambda these: st.lists(st.sampled_from(these), min_size=count, max_size=count))
    return st.one_of(whole, mixed)


def _of_objects(values: Sequence[Any]) -> Any:
    array = numpy.empty(len(values), object)
    for place, value in enumerate(values):
        array[place] = value
    return array


@lru_cache(maxsize=1000)
def _objects(count: int) -> st.SearchStrategy[Any]:
    missing = (None, float("nan"), pandas.NaT, pandas.NA)
    one = st.sampled_from(sorted(OBJECTS)).flatmap(lambda kind: some(OBJECTS[kind], count, missing=missing))
    pair = st.lists(st.sampled_from(sorted(OBJECTS)), min_size=2, max_size=2)
    two = pair.flatmap(lambda kinds: some([value for kind in kinds for value in OBJECTS[kind]], count))
    return st.one_of(one, one, two).map(_of_objects)


@lru_cache(maxsize=1000)
def _numpys(count: int) -> st.SearchStrategy[Any]:
    numbers = st.lists(st.sampled_from(WHOLE), min_size=count, max_size=count)

    def made(dtype: str, values: list[int], shrunk: bool) -> Any:
        raw = numpy.array([value % 100 if shrunk else value for value in values], "int64")
        if dtype.startswith(("datetime", "timedelta")):
            return raw.view(dtype)
        with numpy.errstate(over="ignore"):
            return raw.astype(dtype)

    return st.builds(made, st.sampled_from(NUMPYS), numbers, st.booleans())


@lru_cache(maxsize=1000)
def _floats(count: int) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(FLOATS), min_size=count, max_size=count).map(numpy.array)


@lru_cache(maxsize=1000)
def _masked(count: int) -> st.SearchStrategy[Any]:
    values = some([0, 1], count)
    large = some([2**53 + 1, 2**60], count).map(lambda these: pandas.array(these, dtype="Int64"))
    small = st.builds(lambda dtype, these: pandas.array(these, dtype=dtype), st.sampled_from(MASKED), values)
    return st.one_of(small, small, large)


@lru_cache(maxsize=1000)
def _strings(count: int) -> st.SearchStrategy[Any]:
    values = some(TEXTS, count)
    made = st.builds(
        lambda dtype, these: make_or_none(pandas.array, these, dtype=dtype), st.sampled_from(STRINGS), values
    )
    return there(made)


@lru_cache(maxsize=1000)
def _zoned(count: int) -> st.SearchStrategy[Any]:
    def made(values: list[Any], zone: str, unit: str) -> Any:
        times = pandas.DatetimeIndex(pandas.array(values, dtype="datetime64[us]"))
        return times.tz_localize("UTC").tz_convert(zone).as_unit(unit).array

    units = st.sampled_from(["s", "ms", "us", "ns"])
    return there(
        st.builds(
            lambda *args: make_or_none(made, *args), some(TIMES[:3], count), st.sampled_from(ZONES), units
        )
    )


@lru_cache(maxsize=1000)
def _periods(count: int) -> st.SearchStrategy[Any]:
    ordinals = st.lists(st.integers(0, 700), min_size=count, max_size=count)
    return st.builds(
        lambda freq, these: pandas.PeriodIndex.from_ordinals(these, freq=freq).array,
        st.sampled_from(FREQUENCIES),
        ordinals,
    )


@lru_cache(maxsize=1000)
def _intervals(count: int) -> st.SearchStrategy[Any]:
    starts = [0, 1.5, pandas.Timestamp(NOON), pandas.Timestamp(NOON, tz="UTC"), pandas.Timedelta(1)]
    closed = st.sampled_from(["left", "right", "both", "neither"])

    def made(start: Any, kind: str, lacks: bool) -> Any:
        breaks = pandas.interval_range(start, periods=max(count, 1), closed=kind)[:count]
        if lacks and count:
            return breaks.astype(object).insert(count, None)[1:].astype(breaks.dtype).array
        return breaks.array

    return there(
        st.builds(lambda *args: make_or_none(made, *args), st.sampled_from(starts), closed, st.booleans())
    )


@lru_cache(maxsize=1000)
def _categories(count: int) -> st.SearchStrategy[Any]:
    inner = st.one_of(_strings(3), _numpys(3), _zoned(3), _periods(3), _intervals(3), _objects(3), _masked(3))
    codes = st.lists(st.sampled_from([-1, 0, 0, 0]), min_size=count, max_size=count)

    def made(values: Any, these: list[int], ordered: bool) -> Any:
        categories = pandas.Index(values).dropna().unique()
        last = len(categories) - 1
        codes = [min(code + (place % 2 if code >= 0 else 0), last) for place, code in enumerate(these)]
        return pandas.Categorical.from_codes(codes, categories, ordered=ordered)

    return there(st.builds(lambda *args: make_or_none(made, *args), inner, codes, st.booleans()))


@lru_cache(maxsize=1000)
def _arrow_arrays(count: int) -> st.SearchStrategy[Any]:
    return there(
        arrow_arrays(count).map(
            lambda array: make_or_none(pandas.array, array, dtype=pandas.ArrowDtype(array.type))
        )
    )


@lru_cache(maxsize=1000)
def _sparse(count: int) -> st.SearchStrategy[Any]:
    return st.just(pandas.arrays.SparseArray([0, 1, 0, 2][:count] or [0]))


@lru_cache(maxsize=1000)
def _pandas_arrays(count: int) -> st.SearchStrategy[Any]:
    kinds = (_objects, _objects, _numpys, _floats, _masked, _strings, _zoned, _periods, _intervals)
    return st.one_of(*(kind(count) for kind in (*kinds, _categories, _categories, _arrow_arrays)))


@lru_cache(maxsize=1000)
def _columns(count: int) -> st.SearchStrategy[Any]:
    made = st.one_of(_pandas_arrays(count), _pandas_arrays(count), _sparse(count))
    return there(made.map(lambda array: make_or_none(pandas.Series, array))).filter(
        lambda column: len(column) == count
    )


NAMES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.none(),
    st.sampled_from(TEXTS),
    st.sampled_from(
        [0, 1.5, True, ("a", 1), DAY, NOON, b"x", float("nan"), pandas.NaT, pandas.NA, 2**70, numpy.int64(1)]
    ),
)


@lru_cache(maxsize=1000)
def _labels(count: int) -> st.SearchStrategy[Any]:
    """An index of pandas, for either axis."""
    arrays = st.one_of(_pandas_arrays(count), _strings(count), _numpys(count))
    flat = st.builds(
        lambda array, name: make_or_none(pandas.Index, array, name=name, tupleize_cols=False), arrays, NAMES
    )
    ranges = st.builds(
        lambda start, step, name: make_or_none(
            pandas.RangeIndex, start, start + step * count, step, name=name
        ),
        st.integers(-2, 2),
        st.sampled_from([1, 2, -1]),
        NAMES,
    )

    def levels(parts: list[Any], names: list[Any], used: bool) -> Any:
        made = pandas.MultiIndex.from_arrays(parts, names=names[: len(parts)])
        return made if used else made[::-1]

    several = st.builds(
        lambda *args: make_or_none(levels, *args),
        st.lists(arrays, min_size=1, max_size=3),
        st.lists(NAMES, min_size=3, max_size=3),
        st.booleans(),
    )
    texts = st.just(pandas.Index([f"c{place}" for place in range(count)]))
    whole = there(st.one_of(texts, flat, flat, ranges, several))
    return whole.filter(lambda labels: len(labels) == count)


@st.composite
def pandas_frames_to_send(draw: Any) -> Any:
    """Frames of pandas: mostly one side of them is unusual, its columns, its index or its labels."""
    rows, count = draw(st.sampled_from([0, 1, 2, 3, 4])), draw(st.sampled_from([0, 1, 1, 2, 3]))
    side = draw(st.sampled_from(["columns", "labels", "index", "all"]))
    columns = [
        draw(_columns(rows)) if side in ("columns", "all") else pandas.Series(range(rows), dtype="float64")
        for _ in range(count)
    ]
    frame = pandas.DataFrame(dict(enumerate(columns)), index=pandas.RangeIndex(rows))
    if side in ("labels", "all"):
        frame.columns = draw(_labels(count))
    else:
        frame.columns = pandas.Index([f"c{place}" for place in range(count)], dtype="str")
    if side in ("index", "all"):
        frame.index = draw(_labels(rows))
    if draw(st.integers(0, 9)) == 0:
        frame.attrs = {"a": object()}
    return frame
