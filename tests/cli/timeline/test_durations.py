"""Percentiles of a whole record: exact, or to within half a percent in memory that stays as it is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.cli.timeline import durations
from trio_model_runner.cli.timeline.durations import Durations
from trio_model_runner.cli.timeline.words import precise


@given(
    st.lists(st.floats(0, 1e9), min_size=1),
    st.integers(1, 100),
    st.integers(0, 5),
    st.sampled_from([1, 9999]),
)
def test_a_percentile_is_that_of_all_results(
    seconds: list[float], percent: int, missed: int, most: int
) -> None:
    counted, results = Durations(), len(seconds) + missed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durations, "_MOST", most)
        for each in seconds:
            counted.add([each])
    place = -(-results * percent // 100) - 1
    exact = sorted(seconds)[place] if place < len(seconds) else None
    told = counted.reached_by(percent, results)
    if exact is None or most == 9999:
        assert told == exact
    else:
        assert told == pytest.approx(exact, rel=0.0026)


def test_memory_stays_as_it_is() -> None:
    counted, source = Durations(), random.Random(7)
    for _ in range(100):
        counted.add(source.uniform(0.0, 5.0) for _ in range(1000))
    assert len(counted._counts) <= durations._MOST
    assert counted.reached_by(50, 100_000) == pytest.approx(2.5, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0"),
        (0.0001, "0.0001"),
        (0.0123, "0.0123"),
        (0.104, "0.104"),
        (4.567, "4.57"),
        (1234.5, "1,234"),
    ],
)
def test_a_duration_has_three_digits(seconds: float, text: str) -> None:
    assert precise(seconds) == text
