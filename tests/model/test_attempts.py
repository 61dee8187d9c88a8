"""Attempts to connect: the waits between them, what begins them anew, and how often nodes may retire one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.config import Backoff
from trio_model_runner.model.attempts import Attempts


def waits_of(attempts: Attempts) -> list[float]:
    """The waits before all attempts that are left."""
    waits = []
    while attempts.next():
        waits.append(attempts.wait)
    return waits


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff(), [2, 4, 8, 16]),
        (Backoff(attempts=7), [2, 4, 8, 16, 16, 16]),
        (Backoff(attempts=3, initial=0.5, factor=10, maximum=4), [0.5, 4]),
        (Backoff(attempts=1), []),
    ],
)
def test_the_first_attempt_needs_no_wait_and_the_others_those_of_the_backoff(
    backoff: Backoff, waits: list[float]
) -> None:
    attempts = Attempts(backoff)
    assert attempts.wait == 0
    assert waits_of(attempts) == waits


def test_once_exhausted_each_further_attempt_is_the_last_one() -> None:
    attempts = Attempts(Backoff())
    assert len(waits_of(attempts)) == 4
    for _ in range(3):
        assert not attempts.next()
        assert attempts.wait == 0


def test_they_start_over_from_the_first() -> None:
    attempts = Attempts(Backoff())
    for taken in (1, 3, 4):
        for _ in range(taken):
            attempts.next()
        attempts.start_over()
        assert waits_of(attempts) == [2, 4, 8, 16]
        attempts.start_over()


@pytest.mark.parametrize(
    ("peaceful", "answered", "good", "waits"),
    [
        (False, True, True, [0, 2, 4, 8, 16]),  # it was good: at once, and from the first
        (False, False, True, [0, 2, 4, 8, 16]),
        (True, True, True, [2, 2, 4, 8, 16]),  # no failed attempt, but not at once
        (True, True, False, [2, 2, 4, 8, 16]),
        (True, False, True, [8, 16]),  # its node retires each one: that goes on
        (True, False, False, [8, 16]),
        (False, True, False, [8, 16]),  # it was good for nothing
        (False, False, False, [8, 16]),
    ],
)
def test_after_a_connection_they_go_on_unless_it_was_good_for_something(
    peaceful: bool, answered: bool, good: bool, waits: list[float]
) -> None:
    attempts = Attempts(Backoff())
    assert attempts.next()
    assert attempts.next()
    attempts.held = True
    assert attempts.next_after(0, peaceful=peaceful, answered=answered, good=good)
    assert [attempts.wait, *waits_of(attempts)] == waits
    assert attempts.held == (waits == [8, 16])


def test_the_last_connection_that_was_good_for_nothing_ends_them() -> None:
    attempts = Attempts(Backoff())
    waits_of(attempts)
    assert not attempts.next_after(0, peaceful=False, answered=True, good=False)
    assert not attempts.next_after(0, peaceful=True, answered=False, good=True)
    assert attempts.next_after(0, peaceful=True, answered=True, good=False)


def test_with_one_attempt_alone_nothing_waits() -> None:
    attempts = Attempts(Backoff(attempts=1))
    assert attempts.next_after(0, peaceful=True, answered=True, good=False)
    assert attempts.wait == 0
    assert not attempts.next()


def test_after_a_flood_no_good_connection_makes_them_begin_anew() -> None:
    attempts = Attempts(Backoff())
    waits = []
    for now in (0, 5, 10):
        attempts.note_flood(now)
        assert attempts.next_after(now, peaceful=False, answered=True, good=True)
        waits.append(attempts.wait)
        assert not attempts.may_replace(now + 899)
        assert attempts.may_replace(now + 900)
    assert attempts.next_after(909, peaceful=False, answered=True, good=True)
    waits.append(attempts.wait)
    assert waits == [2, 4, 8, 16]
    assert not attempts.next_after(909, peaceful=True, answered=True, good=True)
    assert attempts.next_after(910, peaceful=False, answered=True, good=True)
    assert [attempts.wait, *waits_of(attempts)] == [0, 2, 4, 8, 16]


def test_another_announcement_lets_a_flood_be_forgotten() -> None:
    attempts = Attempts(Backoff())
    attempts.note_flood(0)
    assert attempts.flooded(1)
    attempts.start_over()
    assert attempts.next_after(1, peaceful=False, answered=True, good=True)
    assert attempts.wait == 0


# The waits of a model that was given up.


def test_who_is_given_up_is_tried_again_after_the_longest_wait() -> None:
    attempts = Attempts(Backoff())
    waits_of(attempts)
    assert [attempts.retry_wait() for _ in range(5)] == [16] * 5


def test_who_is_held_is_tried_again_after_waits_that_grow_up_to_five_minutes() -> None:
    attempts = Attempts(Backoff())
    assert attempts.retry_wait() == 16
    attempts.held = True
    assert [attempts.retry_wait() for _ in range(7)] == [16, 32, 64, 128, 256, 300, 300]
    attempts.held = False
    assert attempts.retry_wait() == 16
    attempts.held = True
    assert attempts.retry_wait() == 300
    attempts.start_over()
    assert not attempts.held
    attempts.held = True
    assert attempts.retry_wait() == 16


@given(st.floats(0.1, 1000), st.floats(0, 1))
def test_a_held_models_waits_are_bent_by_the_jitter_alone(maximum: float, jitter: float) -> None:
    attempts = Attempts(Backoff(initial=0.05, maximum=maximum, jitter=jitter))
    attempts.held = True
    expected = maximum
    for _ in range(12):
        wait = attempts.retry_wait()
        assert expected * (1 - jitter) * (1 - 1e-9) <= wait <= expected * (1 + jitter) * (1 + 1e-9)
        expected = min(expected * 2, max(300, maximum))


# Connections that their nodes retire in peace.


def replaced_at(attempts: Attempts, now: float) -> bool:
    """Replace a connection if that may be."""
    if not attempts.may_replace(now):
        return False
    attempts.replace(now)
    return True


def test_three_are_replaced_at_once_and_one_more_after_each_initial_wait() -> None:
    attempts = Attempts(Backoff(initial=2))
    assert [replaced_at(attempts, 100) for _ in range(4)] == [True, True, True, False]
    assert not attempts.may_replace(101.9)
    assert [replaced_at(attempts, 102) for _ in range(2)] == [True, False]
    assert [replaced_at(attempts, 105.9) for _ in range(2)] == [True, False]
    assert [replaced_at(attempts, 106) for _ in range(2)] == [True, False]
    assert [replaced_at(attempts, 1000) for _ in range(4)] == [True, True, True, False]


def test_to_ask_takes_nothing_and_to_start_over_gives_nothing() -> None:
    attempts = Attempts(Backoff())
    assert all(attempts.may_replace(100) for _ in range(10))
    for _ in range(3):
        attempts.replace(100)
    attempts.start_over()
    assert not attempts.may_replace(100)


def test_to_replace_one_is_no_failed_attempt() -> None:
    attempts = Attempts(Backoff())
    waits_of(attempts)
    attempts.held = True
    attempts.replace(100)
    assert not attempts.held
    assert waits_of(attempts) == [2, 4, 8, 16]


@given(st.lists(st.integers(0, 40), max_size=60), st.sampled_from([0.25, 1.0, 4.0]))
def test_in_any_time_no_more_are_replaced_than_three_and_one_for_each_initial_wait(
    quarters: list[int], initial: float
) -> None:
    attempts, now = Attempts(Backoff(initial=initial)), 1000.0
    times, asked = [], []
    for quarter in quarters:
        now += quarter / 4
        asked.append(now)
        if replaced_at(attempts, now):
            times.append(now)
    for begin in range(len(times)):
        for end in range(begin, len(times)):
            assert end - begin + 1 <= 3 + (times[end] - times[begin]) / initial
    for before, after in pairwise(asked):
        assert after in times or after - before < initial
