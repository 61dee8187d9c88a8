"""Tables of all kinds that models may well answer."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from typing import Any

import numpy
import pandas
import pyarrow

__all__ = ["honest_frames", "pandas_frames"]

DAY = datetime.date(2026, 1, 2)
TIME = datetime.datetime(2026, 1, 2, 3, 4, 5)


def honest_frames() -> Iterator[pyarrow.Table]:
    """Tables, from pandas' frames and of Arrow's own types."""
    for frame in pandas_frames():
        yield pyarrow.Table.from_pandas(frame)
    yield pyarrow.table({"a": [1, 2, None], "b": ["x", None, "z"]})
    yield pyarrow.table(
        {
            "lists": [[1, 2], [], None],
            "structs": [{"a": 1, "b": "x"}, None, {"a": None, "b": None}],
            "maps": pyarrow.array([[("k", 1)], [], None], pyarrow.map_(pyarrow.string(), pyarrow.int32())),
            "nested": [[{"a": [1.5]}], None, []],
            "fixed": pyarrow.array([[1, 2], [3, 4], None], pyarrow.list_(pyarrow.int16(), 2)),
        }
    )
    yield pyarrow.table(
        {
            "decimals": [decimal.Decimal("1.50"), None, decimal.Decimal("-2.25")],
            "dates": [DAY, None, DAY],
            "times": pyarrow.array([datetime.time(1, 2), None, datetime.time(3, 4)]),
            "stamps": pyarrow.array([TIME, None, TIME], pyarrow.timestamp("us", "Europe/Paris")),
            "spans": pyarrow.array([datetime.timedelta(1), None, datetime.timedelta(2)]),
            "words": pyarrow.array(["a", "b", "a"]).dictionary_encode(),
            "bytes": [b"\0", None, b"\xff"],
            "fixed": pyarrow.array([b"ab", None, b"cd"], pyarrow.binary(2)),
            "half": pyarrow.array(numpy.array([1, 2, 3], "float16")),
            "nothing": pyarrow.nulls(3),
            "truth": [True, None, False],
            "views": pyarrow.array(["x", None, "a text that is longer than twelve"], pyarrow.string_view()),
        }
    )
    yield pyarrow.table({"a": pyarrow.array([], pyarrow.int64())})


def pandas_frames() -> Iterator[Any]:
    """Frames with all kinds of indexes, labels and columns."""
    data = {"a": [1.5, None, 3.0], "b": ["x", "y", None]}
    indexes = [
        None,
        pandas.RangeIndex(5, 11, 2, name="steps"),
        pandas.Index(["p", "q", "r"], name="letters"),
        pandas.date_range("2026-01-01", periods=3, tz="Europe/Paris", name="when"),
        pandas.period_range("2026-01", periods=3, freq="M"),
        pandas.interval_range(0, 3),
        pandas.CategoricalIndex(["x", "y", "x"]),
        pandas.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["one", None]),
    ]
    for index in indexes:
        yield pandas.DataFrame(data, index=index)
    for labels in (
        [1, 2],
        [1.5, 2.5],
        pandas.date_range("2026-01-01", periods=2),
        pandas.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
    ):
        yield pandas.DataFrame([[1, 2.0], [3, 4.0], [5, 6.0]], columns=labels)
    yield pandas.DataFrame(
        {
            "int": pandas.array([1, None, 3], dtype="Int64"),
            "truth": pandas.array([True, None, False], dtype="boolean"),
            "category": pandas.Categorical(["b", "a", None], categories=["b", "a", "c"], ordered=True),
            "text": pandas.array(["a", None, "c"], dtype="string"),
            "span": pandas.to_timedelta([1, 2, None], unit="s"),
            "period": pandas.period_range("2026-01", periods=3, freq="D"),
            "small": numpy.array([1, 2, 3], "uint8"),
        }
    )
    yield pandas.DataFrame()
    yield pandas.DataFrame({"a": []}, index=pandas.Index([], name="none"))
