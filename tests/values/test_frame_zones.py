"""Times with a zone in frames that are sent: they have the same offset from UTC on a node, or are refused."""

from __future__ import annotations

import numpy
import pandas
import polars
import pyarrow
import pytest
from helpers.frame_trips import assert_that_it_arrives

from trio_model_runner.values.data import encode


def in_zone(zone: str, *texts: str) -> pandas.DatetimeIndex:
    return pandas.DatetimeIndex(numpy.array(texts, "M8[us]")).tz_localize("UTC").tz_convert(zone)


MOVED = [
    ("Europe/Paris", "1500-01-01"),  # the process ends when pandas 2 reads it
    ("Europe/Paris", "1900-01-01"),
    ("Europe/Amsterdam", "1936-01-01"),  # nineteen minutes and 32 seconds, and twenty for pytz
    ("America/New_York", "2038-07-01"),
    ("EST", "1700-01-01"),
]


@pytest.mark.parametrize(("zone", "text"), MOVED)
def test_times_that_would_have_another_hour_on_a_node_are_refused(zone: str, text: str) -> None:
    times = in_zone(zone, "2026-01-01", text)
    columns = pyarrow.table({"a": pyarrow.array(times)})
    objects = columns.select([]).append_column("a", pyarrow.StructArray.from_arrays([times], ["t"]))
    frame = pandas.DataFrame({"a": times})
    levels = pandas.MultiIndex.from_arrays([["x", "y"], times])
    for sent in (
        frame,
        columns,
        polars.from_arrow(columns),
        objects,
        frame.set_index("a"),
        frame[[]].set_index(levels),
    ):
        with pytest.raises(
            ValueError, match=f"has times of the zone '{zone}' before 19.* \\(send them in UTC: "
        ):
            encode(sent)
    if text > "1700":
        labels = frame.assign(b=1.0).set_index("a").T
        with pytest.raises(
            TypeError, match=f"the labels of the columns are times of the zone '{zone}' before 19"
        ):
            encode(labels)
        assert assert_that_it_arrives(labels.set_axis(labels.columns.astype(str), axis="columns"))
    assert assert_that_it_arrives(frame.assign(a=frame.a.dt.tz_convert("UTC")))


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "1500-01-01"),
        ("Etc/GMT+5", "9000-01-01"),
        ("+01:00", "1500-01-01"),
        ("Asia/Tokyo", "2999-01-01"),
        ("Europe/Paris", "2037-12-31"),
        ("America/New_York", "1902-01-01"),
    ],
)
def test_times_whose_zone_has_one_offset_then_arrive(zone: str, text: str) -> None:
    assert assert_that_it_arrives(pandas.DataFrame({"a": in_zone(zone, text)}))
