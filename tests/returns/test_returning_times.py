"""Dates and times in ISO 8601, with separators."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from helpers.shapes import taken
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import InvalidAnswer

zones = st.none() | st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(
    datetime.timezone
)
specs = st.sampled_from(["auto", "minutes", "seconds", "milliseconds", "microseconds"])


@given(st.datetimes(timezones=zones), specs)
def test_what_python_writes_is_taken(value: datetime.datetime, spec: str) -> None:
    for wanted, text in [
        (datetime.datetime, value.isoformat(timespec=spec)),
        (datetime.datetime, value.isoformat(" ")),
        (datetime.datetime, value.isoformat(timespec="hours")),
        (datetime.date, value.date().isoformat()),
        (datetime.time, value.timetz().isoformat(timespec=spec)),
    ]:
        expected = wanted.fromisoformat(text)
        assert taken(wanted, text) == expected
        assert taken(dict[wanted, int], {text: 1}) == {expected: 1}


@pytest.mark.parametrize(
    ("wanted", "texts"),
    [
        (datetime.date, ["20260102", "2026-W01-1", "2026-01-02T00:00", "2026-1-2", "2026-02-30"]),
        (datetime.time, ["20200101", "12", "1230", "T12:30", "12:30:00\n", "25:00"]),
        (datetime.datetime, ["20260102T1230", "2026-01-02x12:30", "2026-W01-1T12:30", "2026-01-02T1230"]),
        (datetime.time, ["\u0661\u0662:30"]),
    ],
)
def test_what_could_mean_something_else_is_refused(wanted: Any, texts: list[str]) -> None:
    for text in texts:
        for returns, answer in [(wanted, text), (dict[wanted, int], {text: 1})]:
            with pytest.raises(InvalidAnswer, match=f"must be a {wanted.__name__} in ISO 8601"):
                taken(returns, answer)


def test_nanoseconds_and_z_are_taken() -> None:
    expected = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
    assert taken(datetime.datetime, "2026-01-02T03:04:05.678901234Z") == expected
    assert taken(datetime.datetime, "2026-01-02") == datetime.datetime(2026, 1, 2)
