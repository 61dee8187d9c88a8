"""What pandas wrote comes back exactly as pyarrow by itself gives it: index, labels and dtypes; but no attrs.

Each frame goes both ways that there are: made at once, as small frames are, and in slices, as large ones.
"""

from __future__ import annotations

import datetime
import decimal
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest

from trio_model_runner.frame_readers.streams import from_stream, to_stream
from trio_model_runner.values.encoded import DataType
from trio_model_runner.values.frames import pandas_index, presenting, slicing
from trio_model_runner.values.frames.presenting import present
from trio_model_runner.values.frames.reading import read_plain

TIMES = pandas.date_range("2026-01-01", periods=4, freq="h", tz="UTC")
NAIVE = pandas.DatetimeIndex(TIMES.tz_localize(None))
DAYS = [datetime.date(2026, 1, day) for day in (3, 1, 2, 4)]
TEXTS = ["b", "a", "d", "c"]
PERIODS = pandas.period_range("2026-01", periods=4, freq="M", name="month")
INTERVALS = pandas.interval_range(0, 4, name="span")
DECIMALS = [decimal.Decimal("1.50"), None, decimal.Decimal("-3.25"), decimal.Decimal(0)]


def categorical(values: Any, **options: Any) -> Any:
    return pandas.Categorical(values, **options)


INDEXES: Mapping[str, Any] = {
    "range": pandas.RangeIndex(4),
    "other range": pandas.RangeIndex(10, 30, 5, name="r"),
    "range with a number as name": pandas.RangeIndex(4, name=5),
    "integers": pandas.Index([3, 1, 2, 9], name="k"),
    "small integers": pandas.Index(numpy.array([1, 2, 3, 4], "uint8")),
    "twice the same": pandas.Index([1, 1, 2, 2]),
    "floats": pandas.Index([1.5, numpy.nan, 2, 3]),
    "booleans": pandas.Index([True, False, True, True]),
    "texts": pandas.Index(TEXTS, name="s"),
    "texts as objects": pandas.Index(TEXTS, dtype=object),
    "texts and nulls": pandas.Index(["a", None, "b", None], dtype=object),
    "bytes": pandas.Index([b"a", b"b", b"c", b"d"]),
    "times": NAIVE,
    "times in seconds": NAIVE.as_unit("s"),
    "times with a zone": TIMES,
    "times in Berlin": TIMES.tz_convert("Europe/Berlin"),
    "times at an offset": TIMES.tz_convert("-05:30"),
    "durations": pandas.timedelta_range("1h", periods=4),
    "days": pandas.Index(DAYS, name="day"),
    "decimals": pandas.Index(DECIMALS),
    "periods": PERIODS,
    "weeks": pandas.period_range("2026-01", periods=4, freq="W-WED"),
    "intervals": INTERVALS,
    "intervals of times": pandas.interval_range(NAIVE[0], periods=4),
    "categories": pandas.CategoricalIndex(TEXTS, ordered=True, categories=list("cdbaz")),
    "nullable integers": pandas.Index(pandas.array([1, 2, None, 3], dtype="Int64")),
    "strings": pandas.Index(pandas.array(TEXTS, dtype="string")),
    "levels": pandas.MultiIndex.from_product([["x", "y"], [1, 2]], names=["n", "m"]),
    "levels without names": pandas.MultiIndex.from_arrays([TEXTS, PERIODS.rename(None)]),
    "many levels": pandas.MultiIndex.from_arrays(
        [TIMES, categorical(TEXTS), DAYS, DECIMALS, [True, False, True, None], [True, False] * 2, TEXTS],
        names=["t", None, "d", "e", "b", "c", "s"],
    ),
}

LABELS: Mapping[str, Any] = {
    "integers": [1, 2],
    "small integers": pandas.Index(numpy.array([1, 2], "uint8")),
    "a range": pandas.RangeIndex(2),
    "texts with a name": pandas.Index(["a", "b"], name="nm"),
    "texts with a number as name": pandas.Index(["a", "b"], name=3),
    "floats": [1.5, 2.5],
    "small floats": pandas.Index(numpy.array([1.5, 2], "float32")),
    "booleans": [True, False],
    "bytes": [b"a", b"b"],
    "decimals": pandas.Index([decimal.Decimal("1.5"), decimal.Decimal(2)]),
    "mixed": [1, "a"],
    "with a null": [None, "a"],
    "with a nan": [numpy.nan, "a"],
    "times": NAIVE[:2],
    "times in seconds": NAIVE[:2].as_unit("s"),
    "times with a zone": TIMES[:2],
    "times in Berlin": TIMES[:2].tz_convert("Europe/Berlin"),
    "times at an offset": TIMES[:2].tz_convert("+01:00"),
    "strings": pandas.Index(pandas.array(["a", "b"], dtype="string")),
    "nullable integers": pandas.Index(pandas.array([1, 2], dtype="Int64")),
    "levels": pandas.MultiIndex.from_product([["x"], ["a", "b"]], names=["u", "v"]),
    "levels of numbers": pandas.MultiIndex.from_product([["x"], [1, 2], [0.5]]),
    "levels of times": pandas.MultiIndex.from_product([TIMES[:1], NAIVE[:2]]),
    "levels with quotes": pandas.MultiIndex.from_tuples([("it's", 'q"x'), ("new\nline", "ü€😀\\\x00")]),
}

ALIASES = ("int64", "int8", "double", "float", "bool", "string", "large_string", "binary", "date32", "null")
ARROW_TYPES = [pyarrow.type_for_alias(alias) for alias in ALIASES] + [
    pyarrow.timestamp("us"),
    pyarrow.timestamp("us", "UTC"),
    pyarrow.time64("us"),
    pyarrow.duration("us"),
]

DTYPES: Mapping[str, Any] = {
    **{
        dtype: pandas.array([1, 0, 1, 1], dtype=dtype)
        for bits in (8, 16, 32, 64)
        for dtype in (f"int{bits}", f"uint{bits}", f"Int{bits}", f"UInt{bits}")
    },
    **{d: pandas.array([1, 0, 1, 1], dtype=d) for d in ("float16", "float32", "float64", "bool")},
    **{f"{d} with nulls": pandas.array([1, None, 0, 1], dtype=d) for d in ("Float32", "Float64", "boolean")},
    **{
        f"texts as {dtype}": pandas.array(["a", None, "ü", "x" * 30], dtype=dtype)
        for dtype in ("str", "string", "string[python]", "string[pyarrow]", "object")
    },
    **{f"Arrow's {kind}": pandas.array([None] * 4, dtype=pandas.ArrowDtype(kind)) for kind in ARROW_TYPES},
    "times": NAIVE,
    "times in milliseconds in Berlin": TIMES.as_unit("ms").tz_convert("Europe/Berlin"),
    "times at an offset": TIMES.tz_convert("-05:30"),
    "no times": pandas.DatetimeIndex(["2026-01-01", None, None, None]),
    "durations": pandas.timedelta_range("1h", periods=4),
    "categories": categorical(list("abca")),
    "ordered categories": categorical(list("abca"), ordered=True, categories=list("cbaz")),
    "categories of numbers": categorical([2.5, 1, 2.5, None]),
    "categories of times": categorical(TIMES),
    "categories of days": categorical(DAYS),
    "no categories": categorical([None] * 4),
    **{
        f"periods of {freq}": pandas.period_range("2026-01-05", periods=4, freq=freq)
        for freq in ("D", "M", "Q-DEC", "Y-MAR", "W-SUN", "h", "min", "s", "ns", "2D", "15min")
    },
    "periods with nulls": pandas.PeriodIndex(["2026-01", None, "2026-02", None], freq="M"),
    "intervals": INTERVALS,
    "intervals of floats with nulls": pandas.arrays.IntervalArray.from_tuples([(0.0, 1.0), None] * 2),
    "intervals of times": pandas.interval_range(NAIVE[0], periods=4, closed="both"),
    "intervals of durations": pandas.interval_range(pandas.Timedelta(1), periods=4, closed="neither"),
    "days": numpy.array([DAYS[0], None, DAYS[1], DAYS[2]], object),
    "times of day": numpy.array([datetime.time(1), None, datetime.time(2), None], object),
    "decimals": DECIMALS,
    "bytes": numpy.array([b"a", None, b"b", b""], object),
    "booleans with nulls": numpy.array([True, None, False, True], object),
    "nothing": numpy.array([None] * 4, object),
    "integers with nulls": pandas.Series([1, None, 2, 3]),
    "lists": pandas.Series([[1], [], None, [2, 3]]),
    "lists of lists": pandas.Series([[[1]], [], None, [[2, 3]]]),
    "lists of texts": pandas.Series([["a"], [], None, ["b"]]),
    "structs": pandas.Series([{"a": 1, "b": "x"}, None, {"a": 2, "b": ""}, {"a": None, "b": None}]),
    "lists with nulls": pandas.Series([[1, 2], [], None, [None]]),
    "lists of structs": pandas.Series([[{"a": 1}], [], None, [{"a": None}, {"a": 2}]]),
    "arrays": pandas.Series([numpy.arange(3.0) for _ in range(4)]),
}


def frames() -> dict[str, pandas.DataFrame]:
    frame = pandas.DataFrame({"a": [1.5, 2, 3, 4], "s": TEXTS, "d": DAYS})
    made = {f"index: {name}": frame.set_axis(index, axis=0) for name, index in INDEXES.items()}
    made["all dtypes"] = pandas.DataFrame(dict(DTYPES), index=INDEXES["many levels"])
    made["no rows"] = made["all dtypes"].iloc[:0]
    made["no columns"] = pandas.DataFrame(index=pandas.Index([1, 2], name="k"))
    made["only an index of objects"] = pandas.DataFrame(index=INDEXES["days"])
    made["index and column of one name"] = pandas.DataFrame({"k": [1]}, index=pandas.Index([5], name="k"))
    return made


def frames_with_labels() -> dict[str, pandas.DataFrame]:
    made = {name: pandas.DataFrame([[1.5, "a"]], columns=columns) for name, columns in LABELS.items()}
    made["rows alone"] = pandas.DataFrame(index=range(3))
    made["nothing"] = pandas.DataFrame()
    made["attrs"] = pandas.DataFrame({"a": [1]})
    made["attrs"].attrs = {"a": 1}
    return made


def written(frame: pandas.DataFrame) -> Iterator[tuple[DataType, bytes, pandas.DataFrame]]:
    """Write a frame in both formats, and let pyarrow read it by itself, without attrs."""
    with warnings.catch_warnings(action="ignore"):  # of labels that it turns to text
        table = pyarrow.Table.from_pandas(frame)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    arrow = sink.getvalue()
    yield DataType.ARROW, arrow, without_attrs(pyarrow.ipc.open_stream(arrow).read_all())
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    yield DataType.PARQUET, sink.getvalue(), without_attrs(pyarrow.parquet.ParquetFile(sink).read())


def without_attrs(table: pyarrow.Table) -> pandas.DataFrame:
    frame = table.to_pandas()
    frame.attrs = {}
    return frame


def assert_same(got: pandas.DataFrame, expected: pandas.DataFrame) -> None:
    pandas.testing.assert_frame_equal(got, expected, check_exact=True, check_freq=True)
    assert got.attrs == {}
    assert list(got.dtypes) == list(expected.dtypes)
    for ours, theirs in ((got.index, expected.index), (got.columns, expected.columns)):
        assert (type(ours), ours.dtype, list(ours.names)) == (type(theirs), theirs.dtype, list(theirs.names))
        if isinstance(theirs, pandas.MultiIndex):
            assert [level.dtype for level in ours.levels] == [level.dtype for level in theirs.levels]
            assert [list(code) for code in ours.codes] == [list(code) for code in theirs.codes]
    for place in range(expected.shape[1]):
        ours, theirs = got.iloc[:, place], expected.iloc[:, place]
        assert list(map(type, ours)) == list(map(type, theirs))
        assert repr(list(ours)) == repr(list(theirs))  # also inside of lists


def through_a_process(table: pyarrow.Table) -> pyarrow.Table:
    return from_stream(to_stream(table))


@pytest.fixture(params=["at once", "in slices"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in slices":
        monkeypatch.setattr(presenting, "_is_small", lambda _: False)
        monkeypatch.setattr(presenting, "AT_ONCE", -1)
        monkeypatch.setattr(slicing, "AT_ONCE", 1)
        monkeypatch.setattr(pandas_index, "FEW_ROWS", 0)


FRAMES = frames()
FRAMES_WITH_LABELS = frames_with_labels()


def assert_that_it_comes_back(frame: pandas.DataFrame) -> None:
    for data_type, data, expected in written(frame):
        table = read_plain(data, data_type)
        assert_same(present(table, "pandas"), expected)
        assert_same(present(through_a_process(table), "pandas"), expected)
        assert_same(present(table, "arrow").to_pandas(), expected)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("name", FRAMES)
def test_index_and_dtypes_come_back(name: str) -> None:
    assert_that_it_comes_back(FRAMES[name])


@pytest.mark.parametrize("name", FRAMES_WITH_LABELS)
def test_labels_come_back(name: str) -> None:
    assert_that_it_comes_back(FRAMES_WITH_LABELS[name])


def dictionaries_of_batches(index_type: str, first: Any = "first") -> list[pyarrow.Array]:
    """Three arrays of 100 categories each, all different but one; they have that one too."""
    values = [[first, *(f"{batch} {number}" for number in range(99))] for batch in range(3)]
    indices = pyarrow.array([0, 1, None, 99], index_type)
    return [pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array(each)) for each in values]


def stream_of(arrays: list[pyarrow.Array]) -> bytes:
    sink = io.BytesIO()
    batches = [pyarrow.record_batch({"a": array, "b": [1, 2, 3, 4]}) for array in arrays]
    with pyarrow.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


@pytest.mark.parametrize("index_type", ["int8", "uint8"])
def test_batches_may_have_more_categories_than_their_indices_can_hold(index_type: str) -> None:
    flat = dictionaries_of_batches(index_type)
    nested = [pyarrow.StructArray.from_arrays([array], ["x"]) for array in flat]
    for data in (stream_of(flat), stream_of(nested)):
        wanted = pyarrow.ipc.open_stream(data).read_all()
        table = read_plain(data, DataType.ARROW)
        for read in (table, through_a_process(table)):
            assert present(read, "arrow").to_pylist() == wanted.to_pylist()
            pandas.testing.assert_frame_equal(present(read, "pandas"), wanted.to_pandas())


def test_different_dictionaries_with_nulls_stay_as_they_are() -> None:
    data = stream_of(dictionaries_of_batches("int32", None))
    table = read_plain(data, DataType.ARROW)
    for read in (table, through_a_process(table)):
        assert present(read, "arrow").equals(pyarrow.ipc.open_stream(data).read_all())
        with pytest.raises(ValueError, match="dictionaries with nulls"):
            present(read, "pandas")
