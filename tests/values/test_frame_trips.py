"""Frames of all kinds that a coordinator may send: each arrives as it was, or is refused.

`python tests/fuzzing/sent_frames.py` runs the same for as long as one likes, with a node's own pandas, too.
"""

from __future__ import annotations

from typing import Any

from helpers.frame_trips import assert_that_it_arrives
from helpers.frames_to_send import arrow_tables, pandas_frames_to_send, polars_frames
from hypothesis import HealthCheck, given, settings

some = settings(deadline=None, suppress_health_check=list(HealthCheck))


@some
@given(pandas_frames_to_send())
def test_a_pandas_frame_arrives_or_is_refused(frame: Any) -> None:
    assert_that_it_arrives(frame)


@some
@given(polars_frames())
def test_a_polars_frame_arrives_or_is_refused(frame: Any) -> None:
    assert_that_it_arrives(frame)


@some
@given(arrow_tables())
def test_an_arrow_table_arrives_or_is_refused(frame: Any) -> None:
    assert_that_it_arrives(frame)
