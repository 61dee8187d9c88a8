"""Frames that a release on a node could not read, or would read as something else: refused, with advice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pytest
from dateutil import tz
from helpers.frame_trips import assert_that_it_arrives

from trio_model_runner.values.data import Arguments, DataType, encode, encode_data
from trio_model_runner.values.frames.plain_types import DEEPEST


def of_arrow(values: list[Any], kind: Any) -> Any:
    return pandas.array(values, dtype=pandas.ArrowDtype(kind))


def nested(depth: int) -> pyarrow.Table:
    kind, value = pyarrow.int64(), 1
    for _ in range(depth):
        kind, value = pyarrow.list_(kind), [value]
    return pyarrow.table({"a": pyarrow.array([value], kind)})


def table_of_buffer(kind: Any, *buffers: bytes) -> pyarrow.Table:
    owned = [None, *map(pyarrow.py_buffer, buffers)]
    return pyarrow.table({"a": pyarrow.Array.from_buffers(kind, 1, owned)})


DAY = (86_400 * 10**6).to_bytes(8, "little")
VIEWS = {"a": of_arrow(["x"], pyarrow.string_view())}
UNKNOWN = "a' has the dtype .*_view.pyarrow., which pandas would not find .* .send it .astype"
REFUSED: Mapping[str, tuple[Any, str]] = {
    "views of text": (pandas.DataFrame(VIEWS), UNKNOWN),
    "views of bytes": (pandas.DataFrame({"a": of_arrow([b"x"], pyarrow.binary_view())}), UNKNOWN),
    "a table of such a frame": (pyarrow.Table.from_pandas(pandas.DataFrame(VIEWS)), UNKNOWN),
    "an index of views": (
        pandas.DataFrame({"b": [1]}, index=VIEWS["a"]),
        "the labels of the index .string_view.pyarrow.. would not",
    ),
    "24:00": (table_of_buffer(pyarrow.time64("us"), DAY), "a' has content that time64.us. can't have"),
    "no UTF-8": (
        table_of_buffer(pyarrow.string(), bytes([0, 0, 0, 0, 1, 0, 0, 0]), b"\xff"),
        "a' has content that string can't have, such as text that is not UTF-8",
    ),
    "deep lists": (nested(DEEPEST + 1), f"a' has values inside of more than {DEEPEST} others"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_node_could_not_read_is_refused(name: str) -> None:
    frame, says = REFUSED[name]
    for data_type in (DataType.PARQUET, DataType.ARROW):
        with pytest.raises((TypeError, ValueError), match=says):
            encode_data(data_type, frame)


def test_lists_that_are_not_too_deep_arrive() -> None:
    assert assert_that_it_arrives(nested(DEEPEST))


@pytest.mark.parametrize("names", ["n", ["n", None]])
def test_names_of_no_columns_are_refused(names: Any) -> None:
    levels = pandas.MultiIndex.from_arrays([[], []], names=names) if isinstance(names, list) else None
    columns = pandas.Index([], name=names) if levels is None else levels
    frame = pandas.DataFrame(numpy.zeros((0, 0)), columns=columns)
    with pytest.raises(
        TypeError, match=r"the name of the columns would not come back .* since there are none"
    ):
        encode(frame)
    assert assert_that_it_arrives(pandas.DataFrame())


@pytest.mark.parametrize("zone", [tz.tzutc(), tz.tzoffset(None, 3600), tz.gettz("America/New_York")])
def test_zones_that_pandas_can_not_find_by_name_have_advice_that_helps(zone: Any) -> None:
    frame = pandas.DataFrame({"a": pandas.date_range("2026-07-01", periods=2, tz="UTC").tz_convert(zone)})
    with pytest.raises(TypeError, match=r"column 'a' .* \(send it \.dt\.tz_convert\(\"UTC\"\)\)$"):
        encode(frame)
    assert assert_that_it_arrives(frame.assign(a=frame.a.dt.tz_convert("UTC")))


def test_the_zone_of_this_computer_has_advice_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        times = pandas.date_range("2026-07-01", periods=2, tz="UTC").tz_convert(tz.tzlocal())
        with pytest.raises(TypeError, match=r"column 'a' .* \(send it \.dt\.tz_convert\(\"UTC\"\)\)$"):
            encode(pandas.DataFrame({"a": times}))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_polars_is_told_what_to_send_instead() -> None:
    with pytest.raises(TypeError, match=r"LazyFrame can't be sent as JSON \(send its \.collect\(\)\)$"):
        Arguments(polars.LazyFrame({"a": [1]})).encode()
    frame = polars.DataFrame({"x": [1], "a": [2**100]}, schema={"x": polars.Int8, "a": polars.Int128})
    with pytest.raises(TypeError, match=r"column 'a': .* \(cast it to a type that Arrow has"):
        encode(frame)
