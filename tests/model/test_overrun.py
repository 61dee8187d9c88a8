"""A call that overran: its windows, how long others wait for it, and what the node's answers say."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError
from helpers.court import Court
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.model.policy import SETUP, Answer, Outcome, Overrun, answer_of_code, answer_of_error
from trio_model_runner.services.base import AnswerCode
from trio_model_runner.values.failure_codes import FailureCode


def overrun_of(timeout: float, method: str = "predict") -> Overrun:
    """A call that was sent at 0 and cut off at its deadline."""
    return Overrun(method, 0.0, timeout, timeout, counts_from=timeout)


# Windows.


def test_a_call_opens_a_window_until_its_deadline() -> None:
    overrun = overrun_of(2)
    overrun.open_window(10, 15)
    assert overrun.window_ends == [15]
    assert overrun.close_windows(14.9) == 0
    assert overrun.close_windows(15) == 1
    assert overrun.close_windows(1000) == 0


def test_a_window_lasts_as_long_as_the_overrunner_was_allowed_to() -> None:
    overrun = overrun_of(60)
    overrun.open_window(100, 101)  # a late train is not blamed by a quick predict
    assert overrun.window_ends == [160]


@pytest.mark.parametrize(("timeout", "end"), [(299, 1299), (300, 1300), (3000, 4300)])
def test_no_window_must_last_for_more_than_five_minutes(timeout: float, end: float) -> None:
    overrun = overrun_of(timeout)
    overrun.open_window(end - min(timeout, 300), end - min(timeout, 300) + 1)
    assert overrun.window_ends == [end]


def test_a_call_without_a_deadline_opens_the_shortest_window() -> None:
    overrun = overrun_of(20)
    overrun.open_window(100, math.inf)
    assert overrun.window_ends == [120]


def test_no_window_begins_before_the_deadline_of_a_call_that_was_cut_short() -> None:
    overrun = Overrun("predict", 0.0, 1.0, 10.0, counts_from=10.0)
    overrun.open_window(9.9, 30)
    assert overrun.window_ends == []
    overrun.open_window(10, 12)
    assert overrun.window_ends == [20]


@pytest.mark.parametrize("overrun", [Overrun("", 0, 0, math.inf), Overrun("predict", 0, 1, math.inf)])
def test_nothing_counts_for_a_stranger_or_without_a_deadline(overrun: Overrun) -> None:
    for now in (0.0, 10.0, 1e9):
        overrun.open_window(now, now + 1)
    assert overrun.window_ends == []
    assert overrun.close_windows(math.inf) == 0


def test_a_burst_counts_once() -> None:
    overrun = overrun_of(2)
    for now in (2.0, 2.5, 3.0, 3.9):
        overrun.open_window(now, now + 2)
    assert overrun.close_windows(100) == 1


def test_the_next_window_may_begin_when_the_last_one_ends() -> None:
    overrun = overrun_of(2)
    for now in range(2, 12, 2):
        overrun.open_window(now, now + 2)
    assert overrun.window_ends == [4, 6, 8, 10, 12]
    assert overrun.close_windows(8) == 3
    overrun.open_window(11, 13)  # within the one that ends at 12, though that of 10 is the last begun
    assert overrun.window_ends == [10, 12]
    assert overrun.close_windows(12) == 2


def test_windows_that_are_closed_still_keep_others_away() -> None:
    overrun = overrun_of(2)
    overrun.open_window(2, 10)
    assert overrun.close_windows(10) == 1
    overrun.open_window(9, 12)
    assert overrun.window_ends == []


CALLS = st.lists(st.tuples(st.floats(0, 50), st.floats(0.01, 400) | st.just(math.inf)), max_size=30)


@given(st.floats(0.1, 1000), CALLS)
def test_windows_do_not_overlap_and_nothing_counts_faster_than_in_the_field(
    timeout: float, calls: list[tuple[float, float]]
) -> None:
    overrun, now = overrun_of(timeout), 0.0
    windows: list[tuple[float, float]] = []
    for gap, seconds in calls:
        now += gap
        overrun.open_window(now, now + seconds)
        if len(overrun.window_ends) > len(windows):
            windows.append((now, overrun.window_ends[-1]))
        begin, end = windows[-1] if windows else (math.inf, math.inf)
        assert now < timeout or begin <= now < end  # each call is in a window, its own or an earlier one
    for begin, end in windows:
        assert begin >= timeout
        assert end - begin >= min(timeout, 300) * (1 - 1e-9)
    assert all(before[1] <= after[0] for before, after in pairwise(windows))
    assert overrun.close_windows(math.inf) == len(windows)


@given(st.lists(st.floats(0, 500), max_size=20))
def test_each_window_is_closed_once_when_its_end_is_seen(times: list[float]) -> None:
    overrun = overrun_of(2)
    for now in range(2, 400, 5):
        overrun.open_window(now, now + 3)
    ends = [now + 3.0 for now in range(2, 400, 5)]
    closed = 0
    for seen_at in sorted(times):
        closed += overrun.close_windows(seen_at)
        assert closed == sum(end <= seen_at for end in ends)


# How long others wait for it.


@pytest.mark.parametrize(("now", "outlasts"), [(2.0, False), (6.9, False), (7.0, True), (70.0, True)])
def test_it_outlasts_a_call_that_would_wait_for_less(now: float, outlasts: bool) -> None:
    assert overrun_of(2).outlasts(5, now) == outlasts


def test_it_never_outlasts_a_call_without_a_deadline() -> None:
    assert not overrun_of(2).outlasts(math.inf, 1e12)


@pytest.mark.parametrize(
    ("method", "ours", "name"), [("predict", True, "predict"), (SETUP, True, "Setup"), ("", False, "")]
)
def test_it_has_a_name_if_it_is_ours(method: str, ours: bool, name: str) -> None:
    overrun = overrun_of(2, method)
    assert (overrun.ours, overrun.name) == (ours, name)


# What the node's answers say.


@pytest.mark.parametrize("code", [*AnswerCode, AnswerCode("a code of next year")])
def test_a_node_that_answers_is_through(code: AnswerCode) -> None:
    gone = {AnswerCode.INVALID_ARGUMENT, AnswerCode.FAILED_PRECONDITION}
    assert answer_of_code(code) is (Answer.NO_INSTANCE if code in gone else Answer.THROUGH)


@pytest.mark.parametrize("status", [status for status in GRPCStatus if status is not GRPCStatus.OK])
def test_only_unavailable_is_about_the_way(status: GRPCStatus) -> None:
    expected = Answer.WAY_BROKEN if status is GRPCStatus.UNAVAILABLE else Answer.THROUGH
    assert answer_of_error(GRPCError(status, "any")) is expected


# What the judge makes of it.


def overrun_in(court: Court, timeout: float = 2, *, way: bool | None = True) -> Overrun:
    """An overrun of a, whose timeout has a witness."""
    overrun = overrun_of(timeout)
    overrun.way_was_good = way
    record = court.record("a")
    record.overrun = overrun
    evidence = type(court.judge.setups)(court.judge.form("predict", ()), 0.0, witness="b")
    court.judge.note(record, evidence, Outcome.OVERRAN, began=0.0, now=timeout, overrun=overrun)
    return overrun


@pytest.mark.parametrize("good", [True, False])
def test_the_timeout_counts_when_the_way_turns_out_to_be_good(good: bool) -> None:
    court = Court(timeouts=3)
    overrun = overrun_in(court, way=None)
    assert court.standing("a").timeouts == 0
    for _ in range(2):  # the first answer decides
        court.judge.note_way(court.record("a"), overrun, good=good, now=3)
        court.judge.note_way(court.record("a"), overrun, good=not good, now=3)
    assert court.standing("a").timeouts == good
    assert court.standing("a").hindered == (not good)


def test_windows_count_once_another_model_has_succeeded_since_the_call_began() -> None:
    for succeeded_at, counted in ((-1.0, 0), (0.0, 1)):
        court = Court(timeouts=1)
        court.note("b", Outcome.SUCCEEDED, succeeded_at)
        overrun = overrun_in(court)
        overrun.open_window(10, 12)
        court.judge.note_still_busy(court.record("a"), overrun, seen_at=11.9, now=12)
        assert court.standing("a").timeouts == 1
        court.judge.note_still_busy(court.record("a"), overrun, seen_at=12, now=12)
        assert court.standing("a").timeouts == 1 + counted
        assert court.codes("a") == [FailureCode.MULTIPLE_TIMEOUT] * counted


def test_windows_of_an_overrun_that_is_over_count_nothing() -> None:
    court = Court(timeouts=9)
    court.note("b", Outcome.SUCCEEDED, 1)
    overrun = overrun_in(court)
    overrun.open_window(10, 12)
    court.judge.note_through(court.record("a"), 13)
    court.judge.note_still_busy(court.record("a"), overrun, seen_at=14, now=14)
    assert court.standing("a").timeouts == 1
    assert court.standing("a").sitting_out == 1
    assert court.standing("a").sitting_out_until == 73


def test_what_was_due_falls_back_with_its_connection_and_needs_a_new_proof() -> None:
    court = Court(timeouts=1)
    court.note("b", Outcome.SUCCEEDED, 1)
    overrun = overrun_in(court)
    overrun.open_window(10, 12)
    overrun.open_window(12, 14)
    court.judge.note_still_busy(court.record("a"), overrun, seen_at=14, now=14)
    assert court.codes("a") == [FailureCode.MULTIPLE_TIMEOUT]
    court.judge.note_loss(court.record("a"), stood=100, peaceful=False, now=15)
    assert court.codes("a") == []
    assert court.standing("a").timeouts == 1
    assert court.record("a").overrun is overrun
    overrun.open_window(20, 22)
    court.judge.note_still_busy(court.record("a"), overrun, seen_at=22, now=22)
    assert court.codes("a") == [FailureCode.MULTIPLE_TIMEOUT]


@pytest.mark.parametrize("require_witness", [True, False])
def test_it_is_known_whether_the_next_window_would_make_a_report_due(require_witness: bool) -> None:
    court = Court(timeouts=2, require_witness=require_witness)
    overrun = overrun_in(court)
    record = court.record("a")
    for begin in (10, 12):
        assert not court.judge.windows_would_be_due(record, overrun, begin + 1)
        overrun.open_window(begin, begin + 2)
    assert not court.judge.windows_would_be_due(record, overrun, 13.9)
    assert court.judge.windows_would_be_due(record, overrun, 14)


def test_no_window_counts_while_nobody_can_see_the_node() -> None:
    overrun = Overrun("train", 0, 10, 10, counts_from=10)
    overrun.open_window(10, 20)
    overrun.lose_sight()
    overrun.open_window(25, 35)
    assert overrun.close_windows(100) == 0
    overrun.open_window(100, 110)
    assert overrun.close_windows(110) == 1
