"""Objects in frames that are sent are compared with what Arrow made of them, in bulk or a few at a time."""

from __future__ import annotations

import datetime
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from helpers.frame_trips import assert_that_it_arrives

from trio_model_runner.values.data import encode
from trio_model_runner.values.frames import object_trials

NOON = datetime.datetime(2026, 1, 1, 12)


@pytest.mark.parametrize(
    "values",
    [
        list(numpy.arange(20_000.0).reshape(2000, 10)),
        list(numpy.arange(20_000, dtype="uint8").reshape(2000, 10)),
        [numpy.array([0.5, numpy.nan], "float32"), None, numpy.array([], "float32")],
        [numpy.array([True, False]), None],
        [NOON, None] * 1000,
        [1, 2],
        ["x", None],
        [1.5, None],
        [True, None],
    ],
    ids=lambda values: str(values[:2])[:30],
)
def test_objects_of_one_type_are_not_compared_one_by_one(
    monkeypatch: pytest.MonkeyPatch, values: list[Any]
) -> None:
    monkeypatch.setattr(object_trials, "same", lambda ours, theirs: pytest.fail("one by one"))
    encode(pandas.DataFrame({"a": pandas.Series(values, dtype=object)}))
    monkeypatch.undo()
    assert assert_that_it_arrives(pandas.DataFrame({"a": pandas.Series(values[:5], dtype=object)}))


def test_only_a_few_rows_become_objects_at_a_time() -> None:
    class Made:
        """Like a column of Arrow, of which a part can be had."""

        type = pyarrow.struct({"x": pyarrow.int64()})

        def slice(self, start: int, count: int) -> Any:
            assert count <= 1000
            return pyarrow.chunked_array([whole[start : start + count]])

    whole = pyarrow.array([{"x": 1}] * 2500)
    for last, is_same in ((1, True), (2, False)):
        values = [{"x": 1}] * 2499 + [{"x": last}]
        assert object_trials._came_through(values, Made(), {dict}) is is_same


@pytest.mark.parametrize(
    ("ours", "made"),
    [
        ([[1, 2]], [[1, 3]]),
        ([[1, 2], [3]], [[1], [2, 3]]),
        ([[1.5, numpy.nan]], [[1.5, 2]]),
        ([[1, 2]], [[1.0, 2.0]]),
        ([[1, 2]], [[1, None]]),
    ],
)
def test_arrays_that_became_others_are_no_same_arrays(ours: list[Any], made: list[Any]) -> None:
    arrays = [numpy.array(each) for each in ours]
    assert object_trials._are_same_arrays(arrays, pyarrow.chunked_array([arrays]))
    assert not object_trials._are_same_arrays(arrays, pyarrow.chunked_array([made]))


def test_times_of_which_some_have_a_zone_are_still_refused() -> None:
    for values in ([NOON, NOON.replace(tzinfo=datetime.UTC)], [NOON.replace(tzinfo=datetime.UTC), NOON]):
        with pytest.raises(TypeError, match="column 'a'"):
            encode(pandas.DataFrame({"a": pandas.Series(values, dtype=object)}))
