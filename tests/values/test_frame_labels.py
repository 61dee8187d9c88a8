"""Labels of pandas frames: they arrive equal, on either axis, or are refused before anything is sent.

What happens on nodes was seen with theirs: release 0.4.2 has pyarrow 18, and pandas from 2.2.3 on.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from helpers.frame_trips import assert_that_it_arrives

from trio_model_runner.values.data import Arguments, DataType, encode
from trio_model_runner.values.frames import label_trials

DAYS = pandas.DatetimeIndex(["2026-01-01", "2026-01-02"])
DATES = [datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)]
UNEVEN = pandas.DatetimeIndex(["2026-01-01", "2026-01-02 03:04:05.000001"])
DECIMALS = [decimal.Decimal("1.5"), decimal.Decimal(2)]
IDS = [uuid.UUID(int=1), uuid.UUID(int=2)]
FAR = pandas.DatetimeIndex(numpy.array(["0001-01-01", "9999-12-31"], "M8[s]"))


def masked(values: list[Any], dtype: str) -> Any:
    return pandas.Index(pandas.array(values, dtype=dtype))


def arrow(values: list[Any], kind: Any) -> Any:
    return pandas.Index(pandas.array(values, dtype=pandas.ArrowDtype(kind)))


GOOD: Mapping[str, Any] = {
    "texts": ["a", "b"],
    "texts as objects": pandas.Index(["a", "None"], dtype=object),
    "strings": masked(["a", "b"], "string"),
    "range": pandas.RangeIndex(5, 9, 2, name="r"),
    "integers": [2**62 + 1, -(2**63)],
    "small integers": numpy.array([1, 2], "uint8"),
    "large integers": numpy.array([2**64 - 1, 2], "uint64"),
    "integers as objects": pandas.Index([1, 2], dtype=object),
    "nullable integers": masked([1, 2], "Int64"),
    "floats": [0.1, numpy.inf],
    "a NaN among floats": [1.5, numpy.nan],
    "small floats": numpy.array([0.1, 2], "float32"),
    "times": DAYS,
    "times and NaT": DAYS.insert(1, pandas.NaT)[:2],
    "times with a zone": DAYS.tz_localize("Europe/Berlin"),
    "levels": pandas.MultiIndex.from_product([["x"], [1, 2]], names=["u", None]),
    "levels of times": pandas.MultiIndex.from_product([["x"], DAYS]),
    "unused levels": pandas.MultiIndex.from_product([["x", "y"], [1, 2]])[2:],
    "quotes in levels": pandas.MultiIndex.from_tuples([("it's", 'q"x'), ("new\nline", "ü€😀\\")]),
}
"""On both axes."""

LOST_AS_COLUMNS: Mapping[str, tuple[Any, str]] = {
    "booleans": ([True, False], "(bool)"),
    "one boolean": ([True], "(bool)"),
    "nullable booleans": (masked([True, False], "boolean"), "(boolean)"),
    "booleans as objects": (pandas.Index([True, False], dtype=object), "(objects, boolean)"),
    "intervals": (pandas.interval_range(0, 2), "(interval[int64, right])"),
    "periods": (pandas.period_range("2026-01", periods=2, freq="M"), "(period[M])"),
    "durations": (pandas.timedelta_range("1h", periods=2), "(timedelta64["),
    "categories": (pandas.CategoricalIndex(["a", "b"]), "(category)"),
    "dates": (DATES, "(objects, date)"),
    "times of day": ([datetime.time(1), datetime.time(2)], "(objects, time)"),
    "decimals": (DECIMALS, "(objects, decimal)"),
    "bytes": ([b"a", b"b"], "(objects, bytes)"),
    "bytes that are no text": ([b"\xff", b"a"], "(objects, bytes)"),
    "levels of bytes": (
        pandas.MultiIndex.from_arrays([["x", "y"], [b"\xff", b"a"]]),
        "level 2 of the columns (objects, bytes)",
    ),
    "tuples": (pandas.Index([("a", 1), ("b", 2)], tupleize_cols=False), "(objects, mixed)"),
    "sets": ([frozenset([1]), frozenset([2])], "(objects, mixed)"),
    "ids": (IDS, "(objects, mixed)"),
    "mixed": ([1, "a"], "(objects, mixed-integer)"),
    "a missing text": (["a", None], "some missing)"),
    "a NaN among objects": (pandas.Index([numpy.nan, "a"], dtype=object), "some missing)"),
    "only None": ([None], "some missing)"),
    "missing integers": (masked([1, None], "Int64"), "(Int64, some missing)"),
    "times in Arrow's dtype": (arrow(list(DAYS), pyarrow.timestamp("us")), "(timestamp[us][pyarrow])"),
    "times of different forms": (UNEVEN, "(datetime64["),
    "times of different forms in a zone": (UNEVEN.tz_localize("UTC"), "(datetime64["),
    "far times": (FAR, "(datetime64[s])"),
    "large integers as objects": (pandas.Index([1, 2**70], dtype=object), "(objects, integer)"),
    "small floats as objects": (pandas.Index([numpy.float32(0.1)], dtype=object), "(objects, floating)"),
    "lone surrogates": (pandas.Index(["\ud800"], dtype=object), "(objects, string)"),
    "a single level": (pandas.MultiIndex.from_arrays([["a", "b"]]), "(a MultiIndex of one level"),
    "levels of booleans": (
        pandas.MultiIndex.from_product([["x"], [True, False]]),
        "level 2 of the columns (bool)",
    ),
    "levels of times with a zone": (
        pandas.MultiIndex.from_product([["x"], DAYS.tz_localize("UTC")]),
        "level 2 of the columns (datetime64[",
    ),
    "levels of intervals": (
        pandas.MultiIndex.from_product([pandas.interval_range(0, 2), ["x"]]),
        "level 1 of the columns (interval[int64, right])",
    ),
    "levels of which some miss": (
        pandas.MultiIndex.from_tuples([("a", None), ("b", "x")]),
        "level 2 of the columns (",
    ),
}

LOST_AS_INDEX: Mapping[str, tuple[Any, str]] = {
    "periods": (pandas.period_range("2026-01", periods=2, freq="M"), "(period[M])"),
    "intervals": (pandas.interval_range(0, 2), "(interval[int64, right])"),
    "categories of durations": (
        pandas.CategoricalIndex(pandas.timedelta_range("1h", periods=2)),
        "(category)",
    ),
    "missing integers": (masked([1, None], "Int64"), "(Int64, some missing)"),
    "missing integers behind": (masked([None, None, 1], "Int64"), "(Int64, some missing)"),
    "complex numbers": ([1j, 2j], "(complex128)"),
    "ids": (IDS, "(objects, mixed)"),
    "integers and floats": (pandas.Index([1, 2.5], dtype=object), "(objects, mixed-integer-float)"),
    "tuples": (pandas.Index([(3,)], tupleize_cols=False), "(objects, mixed)"),
    "bytes and texts": (pandas.Index([b"a", "b"], dtype=object), "(objects, mixed)"),
    "dates and times": (pandas.Index([DATES[0], DAYS[0].to_pydatetime()], dtype=object), "(objects, date)"),
    "a zone of seconds": (
        DAYS.tz_localize(datetime.timezone(datetime.timedelta(seconds=3601))),
        "(datetime64[",
    ),
    "a single level": (pandas.MultiIndex.from_arrays([["a", "b"]]), "(a MultiIndex of one level"),
    "levels of periods": (
        pandas.MultiIndex.from_product([["x"], pandas.period_range("2026-01", periods=2, freq="M")]),
        "level 2 of the index (period[M])",
    ),
    "integer levels of which some miss": (
        pandas.MultiIndex.from_arrays([["a", "b"], masked([1, None], "Int64")]),
        "level 2 of the index (Int64, some missing)",
    ),
}

GOOD_AS_INDEX: Mapping[str, Any] = {
    "booleans": [True, False],
    "texts of which some miss": ["a", None],
    "strings of which some miss": masked(["a", None], "string"),
    "bytes": [b"a", b"\xff"],
    "dates": DATES,
    "times of day": [datetime.time(1), datetime.time(2)],
    "decimals": DECIMALS,
    "durations": pandas.timedelta_range("1h", periods=2),
    "times of different forms": UNEVEN.tz_localize("+01:00"),
    "far times": FAR,
    "categories": pandas.CategoricalIndex(["b", "a"]),
    "categories of numbers": pandas.CategoricalIndex([2, 1]),
    "categories of days": pandas.CategoricalIndex(DAYS),
    "twice the same": ["a", "a"],
    "levels with nulls": pandas.MultiIndex.from_tuples([("a", None), ("b", 1.5)]),
}


def frame_of(axis: str, labels: Any) -> pandas.DataFrame:
    labels = labels if isinstance(labels, pandas.Index) else pandas.Index(labels)
    values = numpy.arange(len(labels), dtype="float64")
    frame = pandas.DataFrame([values]) if axis == "columns" else pandas.DataFrame({"a": values})
    return frame.set_axis(labels, axis=axis)


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_trials, "_outcomes", {})


@pytest.mark.parametrize("axis", ["columns", "index"])
@pytest.mark.parametrize("name", GOOD)
def test_good_labels_arrive_on_both_axes(name: str, axis: str) -> None:
    assert assert_that_it_arrives(frame_of(axis, GOOD[name]))


@pytest.mark.parametrize("name", GOOD_AS_INDEX)
def test_an_index_arrives(name: str) -> None:
    assert assert_that_it_arrives(frame_of("index", GOOD_AS_INDEX[name]))


def assert_refused(frame: pandas.DataFrame, says: str) -> None:
    """It is refused, for both formats; and what the text says to do makes a frame that arrives."""
    with pytest.raises(TypeError) as caught:
        Arguments(prices=frame).encode()
    text = str(caught.value)
    assert text.startswith("argument prices: the ")
    assert says in text
    assert " would not come back equal from Parquet (" in text
    with pytest.raises(TypeError):
        encode(frame, DataType.ARROW)
    made = frame.copy()
    exec(text.partition("text: ")[2].removesuffix(")"), {"frame": made})
    assert assert_that_it_arrives(made)


@pytest.mark.parametrize("name", LOST_AS_COLUMNS)
def test_labels_of_columns_that_would_be_lost_are_refused(name: str) -> None:
    labels, says = LOST_AS_COLUMNS[name]
    assert_refused(frame_of("columns", labels), says)


@pytest.mark.parametrize("name", LOST_AS_INDEX)
def test_an_index_that_would_be_lost_is_refused(name: str) -> None:
    labels, says = LOST_AS_INDEX[name]
    assert_refused(frame_of("index", labels), says)


NAMES: tuple[Any, ...] = (("a", 1), DATES[0], DAYS[0], b"x", numpy.nan, pandas.NaT, numpy.int64(3), 2**70)


@pytest.mark.parametrize("axis", ["columns", "index"])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: type(name).__name__)
def test_names_of_labels_that_would_be_lost_are_refused(axis: str, name: Any) -> None:
    frame = frame_of(axis, pandas.Index(["a", "b"]).rename(name))
    assert_refused(frame, f"the name of the {axis} ({type(name).__name__})")


def test_a_name_that_is_a_number_comes_back_where_it_can() -> None:
    assert assert_that_it_arrives(frame_of("columns", pandas.Index(["a", "b"], name=3)))
    assert assert_that_it_arrives(frame_of("index", pandas.RangeIndex(2, name=3)))
    assert_refused(frame_of("index", pandas.Index(["a", "b"], name=3)), "the name of the index (int)")
    levels = pandas.MultiIndex.from_tuples([("a", "b")], names=["x", 3])
    assert_refused(frame_of("index", levels), "the name of level 2 of the index (int)")


@pytest.mark.parametrize("name", ["__index_level_0__", "\ud800"])
def test_a_name_that_can_not_be_told_from_none_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"^the name of the index would not come back .* another one"):
        encode(frame_of("index", pandas.Index(["a"], name=name)))


EVERY_DAY: Mapping[str, Callable[[pandas.DataFrame], pandas.DataFrame]] = {
    "crosstab of booleans": lambda frame: pandas.crosstab(frame.day, frame.up),
    "crosstab of a cut": lambda frame: pandas.crosstab(frame.day, pandas.cut(frame.x, [0, 2, 5])),
    "unstacked dates": lambda frame: frame.set_index(["date", "day"])[["x"]].unstack("date"),
    "pivot by dates": lambda frame: frame.pivot(index="day", columns="date", values="x"),
    "grouped by a cut": lambda frame: frame.groupby(pandas.cut(frame.x, 2), observed=True)[["x"]].sum(),
    "grouped by months": lambda frame: frame.groupby(pandas.PeriodIndex(frame.date, freq="M"))[["x"]].sum(),
}


@pytest.mark.parametrize("name", EVERY_DAY)
def test_what_pandas_makes_every_day_is_refused_if_it_would_be_lost(name: str) -> None:
    source = pandas.DataFrame({"day": ["mo", "tu"], "date": DATES, "x": [1.0, 4.0], "up": [True, False]})
    with pytest.raises(TypeError, match=r"^the labels of .* would not come back equal"):
        encode(EVERY_DAY[name](source))


def test_other_tables_of_every_day_arrive() -> None:
    source = pandas.DataFrame({"day": ["mo", "tu"], "at": DAYS, "x": [1.0, 4.0], "y": [1, 2]})
    for frame in (
        source.pivot(index="day", columns="at", values="x"),
        source.pivot(index="day", columns="at", values=["x", "y"]),
        source.set_index(["day", "at"]),
        source.groupby("day").agg({"x": ["min", "max"]}),
        source[["x", "y"]].describe(),
    ):
        assert assert_that_it_arrives(frame)


def counted_trials(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    tried = []
    comes_back = label_trials._Trials._comes_back

    def count(trials: Any, axis: Any) -> bool:
        tried.append(axis.labels)
        return comes_back(trials, axis)

    monkeypatch.setattr(label_trials._Trials, "_comes_back", count)
    return tried


@pytest.mark.parametrize("labels", [["a", "b"] * 50, range(100), numpy.arange(100) / 3])
def test_a_kind_of_labels_is_tried_once_as_a_few_of_them(
    monkeypatch: pytest.MonkeyPatch, labels: Any
) -> None:
    tried = counted_trials(monkeypatch)
    for _ in range(3):
        encode(frame_of("columns", pandas.Index(labels).unique()))
        encode(frame_of("index", pandas.Index(labels)))
    assert sum(len(few) > 1 for few in tried) <= 2
    assert all(len(few) <= 2 for few in tried)


@pytest.mark.parametrize(
    ("good", "lost"),
    [
        (pandas.Index([pandas.NA] * 2, dtype="Int64"), masked([1, None], "Int64")),
        (pandas.Index([1, 2], dtype=object), pandas.Index([1, 2, 2**70], dtype=object)),
        (pandas.Index(DATES), pandas.Index([*DATES, DAYS[0].to_pydatetime()], dtype=object)),
        (pandas.CategoricalIndex(DATES), pandas.CategoricalIndex(["a", 1])),
        (pandas.Index([b"a"]), pandas.Index([b"a", "a"], dtype=object)),
    ],
)
def test_what_is_remembered_of_one_index_says_nothing_of_another(good: Any, lost: Any) -> None:
    for _ in range(2):
        encode(frame_of("index", good))
        with pytest.raises(TypeError):
            encode(frame_of("index", lost))


def test_what_is_remembered_of_times_says_nothing_of_others() -> None:
    encode(frame_of("columns", DAYS))
    encode(frame_of("columns", UNEVEN[1:]))
    for lost in (UNEVEN, DAYS.append(UNEVEN[1:]), FAR):
        with pytest.raises(TypeError):
            encode(frame_of("columns", lost))


def test_what_is_remembered_of_small_numbers_says_nothing_of_large_ones() -> None:
    for large in ([1, 2**64 - 1], [2, 3]):
        labels = arrow(large, pyarrow.uint64())
        if max(large) > 2**63:
            assert_refused(frame_of("columns", labels), "(uint64[pyarrow])")
        else:
            assert assert_that_it_arrives(frame_of("columns", labels))


@pytest.mark.parametrize("missing", ["x", 1.5, 3, DAYS[0]])
def test_levels_of_which_one_label_is_missing_are_tried_as_a_few(
    monkeypatch: pytest.MonkeyPatch, missing: Any
) -> None:
    tried = counted_trials(monkeypatch)
    labels = pandas.MultiIndex.from_arrays([numpy.arange(100), pandas.Index([missing] * 99 + [None])])
    assert assert_that_it_arrives(frame_of("index", labels))
    assert all(len(few) <= 4 for few in tried)
    tried.clear()
    for _ in range(2):
        long = pandas.MultiIndex(levels=[["a"], [2**60 + 1, 5]], codes=[[0] * 9, [1] * 7 + [0, -1]])
        assert_that_it_arrives(frame_of("index", long))
    assert any(len(labels) == 9 for labels in tried)


@pytest.mark.parametrize("axis", ["columns", "index"])
@pytest.mark.parametrize("last", ["b", None])
def test_levels_of_texts_with_a_zero_byte_are_refused(axis: str, last: Any) -> None:
    good = pandas.MultiIndex.from_arrays([["x", "y", "z"], ["", "a", "b"]])
    assert assert_that_it_arrives(frame_of(axis, good))  # and is remembered
    for lost in ("\0", "a\0b"):
        labels = pandas.MultiIndex.from_arrays([["x", "y", "z"], ["", lost, last]])
        assert_refused(frame_of(axis, labels), f"the labels of level 2 of the {axis} (with a zero byte)")


def test_levels_of_an_index_are_never_compared_as_tuples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pandas.MultiIndex, "__iter__", lambda labels: pytest.fail("tuples are made"), raising=False
    )
    for levels in ([DECIMALS * 2, [None, "b", "a", "a"]], [DECIMALS * 2, ["a", "b", "b", "a"]]):
        encode(frame_of("index", pandas.MultiIndex.from_arrays(levels)))


def test_memory_for_kinds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_trials, "_MOST_KEPT", 3)
    for number in range(10):
        encode(frame_of("index", pandas.Index(["a"], name=f"name {number}")))
    assert len(label_trials._outcomes) <= 3


def test_a_table_that_pandas_made_is_judged_by_the_labels_that_pandas_reads() -> None:
    good = pyarrow.Table.from_pandas(frame_of("columns", [1, 2]))
    assert assert_that_it_arrives(good.replace_schema_metadata(None))
    encode(good)
    for labels in ([True, False], DATES):
        with pytest.raises(TypeError, match=r"the labels of the columns|what the table's metadata say"):
            encode(pyarrow.Table.from_pandas(frame_of("columns", labels)))
    periods = frame_of("index", pandas.period_range("2026-01", periods=2, freq="M"))
    with pytest.raises(TypeError, match="the labels of the index"):
        encode(pyarrow.Table.from_pandas(periods))
