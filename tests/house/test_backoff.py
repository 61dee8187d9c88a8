"""Waits grow by their factor up to the longest, for ever, and the jitter bends each by a fraction at most."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.backoff import growing_waits

SECONDS = st.floats(1e-3, 1e6)
FACTORS = st.floats(1, 100)
MANY = 50


@pytest.mark.parametrize(
    ("initial", "factor", "maximum", "waits"),
    [
        (2.0, 2.0, 16.0, [2, 4, 8, 16, 16]),
        (0.5, 3.0, 10.0, [0.5, 1.5, 4.5, 10, 10]),
        (5.0, 1.0, 9.0, [5, 5, 5, 5, 5]),
        (5.0, 2.0, 3.0, [3, 3, 3, 3, 3]),
    ],
)
def test_waits_grow_up_to_the_longest(
    initial: float, factor: float, maximum: float, waits: list[float]
) -> None:
    assert list(islice(growing_waits(initial, factor=factor, maximum=maximum), 5)) == waits


@given(SECONDS, FACTORS, SECONDS)
def test_without_jitter_no_wait_is_shorter_than_the_one_before(
    initial: float, factor: float, maximum: float
) -> None:
    waits = list(islice(growing_waits(initial, factor=factor, maximum=maximum), MANY))
    assert waits == sorted(waits)
    assert waits[0] == min(initial, maximum)
    assert max(waits) <= maximum
    for wait, after in pairwise(waits):
        assert after == min(wait * factor, maximum)


@given(SECONDS, FACTORS, SECONDS, st.floats(0, 1))
def test_the_jitter_bends_each_wait_by_its_fraction_and_not_those_after_it(
    initial: float, factor: float, maximum: float, jitter: float
) -> None:
    plain = islice(growing_waits(initial, factor=factor, maximum=maximum), MANY)
    bent = islice(growing_waits(initial, factor=factor, maximum=maximum, jitter=jitter), MANY)
    for wait, bent_wait in zip(plain, bent, strict=True):
        assert wait * (1 - jitter) * (1 - 1e-9) <= bent_wait <= wait * (1 + jitter) * (1 + 1e-9)


def test_with_jitter_two_do_not_wait_alike() -> None:
    one, other = (list(islice(growing_waits(1.0, maximum=9.0, jitter=0.5), MANY)) for _ in range(2))
    assert one != other


def test_waits_never_end_and_never_overflow() -> None:
    waits = growing_waits(1.0, factor=1e100, maximum=1e300)
    assert list(islice(waits, 10_000))[-1] == 1e300
