"""Strategies for frames that a coordinator may send: of pandas, polars and pyarrow, of every kind there is.

Most of what they make can be sent, and a good part must be refused. Kinds are made of few values each, and of
those that are at a limit, or look like something else.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy
import pandas
import polars
import pyarrow
from hypothesis import strategies as st

__all__ = ["OBJECTS", "arrow_tables", "frames_to_send", "pandas_frames_to_send", "polars_frames"]

UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=1))
NOON = datetime.datetime(2026, 1, 2, 12, 30)
DAY = datetime.date(2026, 1, 2)
Decimal = decimal.Decimal


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Word(enum.StrEnum):
    A = "a"
    B = "b"


class Thing(enum.Enum):
    A = 1


TEXTS = [
    "a",
    "b",
    "",
    "ü€😀",
    "1",
    "nan",
    "None",
    "NaT",
    "True",
    "('a', 1)",
    "it's",
    'q"',
    "x\x00y\n",
    "\ud800",
]
TEXTS += ["__index_level_0__", "2026-01-01", "a text of more than twelve bytes"]
WHOLE = [0, 1, -1, 127, 255, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**60, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -0.0, 1.0, 1.5, 0.1, 1e300, 2.0**53, float("inf"), float("nan")]
TIMES = [NOON, datetime.datetime(2026, 1, 2), datetime.datetime(2026, 7, 1, 0, 0, 0, 1)]
TIMES += [datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23), datetime.datetime(1900, 1, 1)]
DURATIONS = [datetime.timedelta(days=1), datetime.timedelta(microseconds=1), datetime.timedelta(-3)]
STAMPS = [pandas.Timestamp("2026-01-02T00:00:00.123456789"), pandas.Timestamp(NOON)]

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
ZONES = ("UTC", "Europe/Berlin", "+01:00", "-05:30", "Asia/Kolkata")
FREQUENCIES = ("D", "M", "Q-DEC", "Y-MAR", "W-WED", "h", "min", "s", "ns", "2D")

FLAT: dict[pyarrow.DataType, Sequence[Any]] = {
    pyarrow.null(): [],
    pyarrow.bool_(): [True, False],
    pyarrow.float16(): [numpy.float16(1.5)],
    pyarrow.float32(): [1.5, 0.0],
    pyarrow.float64(): FLOATS,
    pyarrow.decimal128(38, 10): [Decimal("1.5"), Decimal(3)],
    pyarrow.decimal256(70, 20): [Decimal("1.5")],
    pyarrow.decimal128(5, -2): [Decimal(100)],
    pyarrow.string(): TEXTS[:-4],
    pyarrow.large_string(): ["a", "ü"],
    pyarrow.binary(): [b"a", b"\xff"],
    pyarrow.large_binary(): [b"a"],
    pyarrow.binary(3): [b"abc"],
    pyarrow.binary(8): [b"abcdefgh"],
    pyarrow.binary(0): [b""],
    pyarrow.date32(): [DAY, datetime.date(1, 1, 1), 3_000_000, -800_000],
    pyarrow.date64(): [DAY],
    pyarrow.time32("s"): [datetime.time(1)],
    pyarrow.time32("ms"): [datetime.time(1, 2, 3, 4000)],
    pyarrow.time64("us"): [datetime.time(1, 2, 3, 4)],
    pyarrow.time64("ns"): [datetime.time(1, 2, 3, 4), 1],
    pyarrow.month_day_nano_interval(): [pyarrow.MonthDayNano([1, 2, 3])],
    **{getattr(pyarrow, f"int{bits}")(): [1, -7] for bits in (8, 16, 32)},
    **{getattr(pyarrow, f"uint{bits}")(): [1, 7] for bits in (8, 16, 32)},
    pyarrow.int64(): WHOLE,
    pyarrow.uint64(): [1, 2**53, 2**64 - 1],
    **{pyarrow.timestamp(unit): [NOON, 1, 2**55] for unit in ("s", "ms", "us", "ns")},
    **{pyarrow.timestamp("us", zone): [NOON, 1] for zone in (*ZONES, "Nowhere/City")},
    pyarrow.timestamp("ns", "UTC"): [NOON, 1],
    pyarrow.timestamp("s", "UTC"): [NOON, 2**40],
    **{pyarrow.duration(unit): [1, 10**9, -5] for unit in ("s", "ms", "us", "ns")},
}
"""Types of Arrow without others inside, and values of each; whole numbers are of the type's own unit."""

if hasattr(pyarrow, "string_view"):  # from pyarrow 16 on
    FLAT[pyarrow.string_view()] = ["a", "a text of more than twelve bytes"]
    FLAT[pyarrow.binary_view()] = [b"a", b"some bytes, more than twelve"]


def _some(values: Sequence[Any], count: int, *, missing: Sequence[Any] = (None,)) -> st.SearchStrategy[Any]:
    """So many of the values, with missing ones here and there."""
    few = st.lists(st.sampled_from(values), min_size=1, max_size=3) if values else st.just([None])
    mixed = few.flatmap(
        lambda these: st.lists(st.sampled_from([*these, *missing]), min_size=count, max_size=count)
    )
    whole = few.flatmap(lambda these: st.lists(st.sampled_from(these), min_size=count, max_size=count))
    return st.one_of(whole, mixed)


def _made(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `make` makes; a case that the library itself refuses is no frame."""
    try:
        return make(*args, **kwargs)
    except (
        ValueError,
        TypeError,
        OverflowError,
        NotImplementedError,
        AttributeError,
        pyarrow.ArrowException,
    ):
        return None
    except polars.exceptions.PolarsError:
        return None


def _there(made: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return made.filter(lambda value: value is not None)


# What pandas calls an array: a column, an index, or labels are made of one.


def _of_objects(values: Sequence[Any]) -> Any:
    array = numpy.empty(len(values), object)
    for place, value in enumerate(values):
        array[place] = value
    return array


@lru_cache(maxsize=1000)
def _objects(count: int) -> st.SearchStrategy[Any]:
    missing = (None, float("nan"), pandas.NaT, pandas.NA)
    one = st.sampled_from(sorted(OBJECTS)).flatmap(lambda kind: _some(OBJECTS[kind], count, missing=missing))
    pair = st.lists(st.sampled_from(sorted(OBJECTS)), min_size=2, max_size=2)
    two = pair.flatmap(lambda kinds: _some([value for kind in kinds for value in OBJECTS[kind]], count))
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
    values = _some([0, 1], count)
    large = _some([2**53 + 1, 2**60], count).map(lambda these: pandas.array(these, dtype="Int64"))
    small = st.builds(lambda dtype, these: pandas.array(these, dtype=dtype), st.sampled_from(MASKED), values)
    return st.one_of(small, small, large)


@lru_cache(maxsize=1000)
def _strings(count: int) -> st.SearchStrategy[Any]:
    values = _some(TEXTS, count)
    made = st.builds(
        lambda dtype, these: _made(pandas.array, these, dtype=dtype), st.sampled_from(STRINGS), values
    )
    return _there(made)


@lru_cache(maxsize=1000)
def _zoned(count: int) -> st.SearchStrategy[Any]:
    def made(values: list[Any], zone: str, unit: str) -> Any:
        times = pandas.DatetimeIndex(pandas.array(values, dtype="datetime64[us]"))
        return times.tz_localize("UTC").tz_convert(zone).as_unit(unit).array

    units = st.sampled_from(["s", "ms", "us", "ns"])
    return _there(
        st.builds(lambda *args: _made(made, *args), _some(TIMES[:3], count), st.sampled_from(ZONES), units)
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

    return _there(st.builds(lambda *args: _made(made, *args), st.sampled_from(starts), closed, st.booleans()))


@lru_cache(maxsize=1000)
def _categories(count: int) -> st.SearchStrategy[Any]:
    inner = st.one_of(_strings(3), _numpys(3), _zoned(3), _periods(3), _intervals(3), _objects(3), _masked(3))
    codes = st.lists(st.sampled_from([-1, 0, 0, 0]), min_size=count, max_size=count)

    def made(values: Any, these: list[int], ordered: bool) -> Any:
        categories = pandas.Index(values).dropna().unique()
        last = len(categories) - 1
        codes = [min(code + (place % 2 if code >= 0 else 0), last) for place, code in enumerate(these)]
        return pandas.Categorical.from_codes(codes, categories, ordered=ordered)

    return _there(st.builds(lambda *args: _made(made, *args), inner, codes, st.booleans()))


@lru_cache(maxsize=1000)
def _arrow_arrays(count: int) -> st.SearchStrategy[Any]:
    return _there(
        _arrays(count).map(lambda array: _made(pandas.array, array, dtype=pandas.ArrowDtype(array.type)))
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
    return _there(made.map(lambda array: _made(pandas.Series, array))).filter(
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
        lambda array, name: _made(pandas.Index, array, name=name, tupleize_cols=False), arrays, NAMES
    )
    ranges = st.builds(
        lambda start, step, name: _made(pandas.RangeIndex, start, start + step * count, step, name=name),
        st.integers(-2, 2),
        st.sampled_from([1, 2, -1]),
        NAMES,
    )

    def levels(parts: list[Any], names: list[Any], used: bool) -> Any:
        made = pandas.MultiIndex.from_arrays(parts, names=names[: len(parts)])
        return made if used else made[::-1]

    several = st.builds(
        lambda *args: _made(levels, *args),
        st.lists(arrays, min_size=1, max_size=3),
        st.lists(NAMES, min_size=3, max_size=3),
        st.booleans(),
    )
    texts = st.just(pandas.Index([f"c{place}" for place in range(count)]))
    whole = _there(st.one_of(texts, flat, flat, ranges, several))
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


# Arrow's own.


@lru_cache(maxsize=1000)
def _flat_types() -> st.SearchStrategy[Any]:
    return st.sampled_from(list(FLAT))


def _dictionary(kind: Any) -> Any:
    return _made(pyarrow.dictionary, pyarrow.int8(), kind)


@lru_cache(maxsize=1000)
def _types() -> st.SearchStrategy[Any]:
    leaves = st.one_of(_flat_types(), _flat_types(), _there(_flat_types().map(_dictionary)))

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            inner.map(pyarrow.list_),
            inner.map(pyarrow.large_list),
            inner.map(lambda kind: pyarrow.list_(kind, 2)),
            inner.map(lambda kind: pyarrow.struct([("a", kind)])),
            st.tuples(inner, inner).map(lambda kinds: pyarrow.struct([("a", kinds[0]), ("b", kinds[1])])),
            inner.map(lambda kind: pyarrow.map_(pyarrow.string(), kind)),
            _there(inner.map(lambda kind: _made(pyarrow.map_, kind, pyarrow.int64()))),
        )

    return st.recursive(leaves, around, max_leaves=3)


@lru_cache(maxsize=1000)
def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Python values of a type of Arrow, with None here and there."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _values(kind.value_type)
    if types.is_struct(kind):
        fields = {kind[place].name: _values(kind[place].type) for place in range(kind.num_fields)}
        return st.one_of(st.fixed_dictionaries(fields), st.fixed_dictionaries(fields), st.none())
    if types.is_map(kind):
        keys = _values(kind.key_type).filter(lambda key: key is not None)
        pairs = st.lists(st.tuples(keys, _values(kind.item_type)), max_size=2)
        return st.one_of(pairs, st.none())
    if types.is_fixed_size_list(kind):
        return st.one_of(st.lists(_values(kind.value_type), min_size=2, max_size=2), st.none())
    if types.is_nested(kind):
        return st.one_of(st.lists(_values(kind.value_type), max_size=3), st.none())
    values = FLAT[kind]
    return st.sampled_from([*values, *values, None]) if values else st.none()


def _without_dictionaries(kind: Any) -> Any:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return kind.value_type
    if types.is_struct(kind):
        return pyarrow.struct(
            [
                kind[place].with_type(_without_dictionaries(kind[place].type))
                for place in range(kind.num_fields)
            ]
        )
    if types.is_map(kind):
        return pyarrow.map_(_without_dictionaries(kind.key_type), _without_dictionaries(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(_without_dictionaries(kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pyarrow.large_list(_without_dictionaries(kind.value_type))
    return pyarrow.list_(_without_dictionaries(kind.value_type)) if types.is_list(kind) else kind


def encoded(array: Any, kind: Any) -> Any:
    """An array, with dictionaries where its type is to have them: pyarrow casts to few of these."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        made = array.dictionary_encode()
        return made.cast(pyarrow.dictionary(pyarrow.int8(), kind.value_type)) if len(array) else made
    return array if not types.is_nested(kind) else array.cast(kind)


def _array(kind: Any, values: list[Any]) -> Any:
    plain = _without_dictionaries(kind)
    array = pyarrow.array(values, plain)
    return array if plain == kind else encoded(array, kind)


@lru_cache(maxsize=1000)
def _arrays(count: int) -> st.SearchStrategy[Any]:
    def of(kind: Any) -> st.SearchStrategy[Any]:
        values = st.lists(_values(kind), min_size=count, max_size=count)
        return values.map(lambda these: _made(_array, kind, these))

    return _there(_types().flatmap(of))


@st.composite
def arrow_tables(draw: Any) -> Any:
    """Tables of pyarrow: whole, in chunks, cut out of larger ones, and of no rows or columns."""
    rows = draw(st.integers(0, 6))
    count = draw(st.sampled_from([0, 1, 1, 1, 2]))
    names = draw(st.lists(st.sampled_from([*TEXTS[:-4], "x", "y"]), min_size=count, max_size=count))
    table = pyarrow.Table.from_arrays([draw(_arrays(rows)) for _ in range(count)], names=names)
    start = draw(st.integers(0, rows))
    parts = [table.slice(0, start), table.slice(start)]
    way = draw(st.sampled_from(["whole", "chunks", "slice", "empty"]))
    if way == "chunks" and count:
        return pyarrow.concat_tables(parts)
    if way == "empty":
        return table.slice(rows)
    return parts[1] if way == "slice" else table


# polars.

POLARS: Mapping[Any, Sequence[Any]] = {
    polars.Int8: [1, -1],
    polars.Int64: WHOLE,
    polars.UInt64: [1, 2**53 + 1, 2**64 - 1],
    polars.Float32: [0.5, 1.5],
    polars.Float64: FLOATS,
    polars.Boolean: [True, False],
    polars.String: TEXTS[:-4],
    polars.Binary: [b"a", b"\xff"],
    polars.Categorical: ["a", "b", "ü"],
    polars.Enum(["lo", "hi", "other"]): ["hi", "lo"],
    polars.Date: [DAY, datetime.date(1, 1, 1)],
    polars.Time: [datetime.time(1), datetime.time(2, 3, 4, 5)],
    polars.Datetime("us"): TIMES,
    polars.Datetime("ms"): TIMES,
    polars.Datetime("ns"): TIMES[:2],
    polars.Datetime("us", "Europe/Berlin"): [each.replace(tzinfo=UTC) for each in TIMES[:3]],
    polars.Duration("us"): DURATIONS,
    polars.Duration("ns"): DURATIONS,
    polars.Decimal(20, 3): [Decimal("1.5"), Decimal(2)],
    polars.Null: [],
    polars.Int128: [1, 2**100],
    polars.Object: [object(), "a", 1],
}


@lru_cache(maxsize=1000)
def _polars_types() -> st.SearchStrategy[Any]:
    flat = [dtype for dtype in POLARS if dtype not in (polars.Object, polars.Int128)]

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            inner.map(polars.List),
            inner.map(lambda dtype: polars.Array(dtype, 2)),
            inner.map(lambda dtype: polars.Struct({"a": dtype, "b": polars.String})),
        )

    nested = st.recursive(st.sampled_from(flat), around, max_leaves=2)
    return st.one_of(st.sampled_from(list(POLARS)), nested, nested)


@lru_cache(maxsize=1000)
def _polars_values(dtype: Any) -> st.SearchStrategy[Any]:
    if isinstance(dtype, polars.List):
        return st.one_of(st.lists(_polars_values(dtype.inner), max_size=2), st.none())
    if isinstance(dtype, polars.Array):
        return st.one_of(st.lists(_polars_values(dtype.inner), min_size=2, max_size=2), st.none())
    if isinstance(dtype, polars.Struct):
        fields = {field.name: _polars_values(field.dtype) for field in dtype.fields}
        return st.one_of(st.fixed_dictionaries(fields), st.none())
    values = POLARS[dtype]
    return st.sampled_from([*values, *values, None]) if values else st.none()


@st.composite
def polars_frames(draw: Any) -> Any:
    """Frames of polars: of one or two columns, whole, in chunks, or cut out of larger ones."""
    rows = draw(st.integers(0, 5))

    def column(name: str) -> Any:
        dtype = draw(_polars_types())
        values = draw(st.lists(_polars_values(dtype), min_size=rows, max_size=rows))
        return _made(polars.Series, name, values, dtype=dtype)

    columns = [column(name) for name in ("a", "b")[: draw(st.sampled_from([1, 1, 2]))]]
    frame = polars.DataFrame([each for each in columns if each is not None])
    start = draw(st.integers(0, rows))
    way = draw(st.sampled_from(["whole", "chunks", "slice"]))
    if way == "chunks" and frame.width:
        return _made(polars.concat, [frame[:start], frame[start:]], rechunk=False)
    return frame[start:] if way == "slice" else frame


def frames_to_send() -> st.SearchStrategy[Any]:
    """Frames of all three libraries."""
    made = st.one_of(pandas_frames_to_send(), pandas_frames_to_send(), polars_frames(), arrow_tables())
    return _there(made)
