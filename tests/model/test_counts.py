"""Counts of one model over any outcomes: limits, successes, methods, and calls that are sat out."""

from __future__ import annotations

import math

import pytest
from helpers.court import Court
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.model.policy import RULES, SETUP, Outcome, Stage
from trio_model_runner.values.failure_codes import FailureCode

CONNECTION_FAILED = FailureCode.CONNECTION_FAILED
PAST_LIMITS = [
    (Outcome.MODEL_FAILED, FailureCode.MULTIPLE_FAILED),
    (Outcome.OVERRAN, FailureCode.MULTIPLE_TIMEOUT),
]


@pytest.mark.parametrize("limit", [0, 1, 3, 20])
@pytest.mark.parametrize(("outcome", "code"), PAST_LIMITS)
def test_the_one_past_the_limit_is_due(limit: int, outcome: Outcome, code: FailureCode) -> None:
    court = Court(failures=limit, timeouts=limit)
    for number in range(limit + 2):
        court.note("a", outcome, number)
        assert court.codes("a") == ([code] if number >= limit else [])


@pytest.mark.parametrize(("outcome", "code"), PAST_LIMITS)
def test_without_a_limit_nothing_is_due(outcome: Outcome, code: FailureCode) -> None:
    court = Court(failures=None, timeouts=None)
    for number in range(1000):
        court.note("a", outcome, number)
    assert court.codes("a") == []


@pytest.mark.parametrize("failures", [None, 0, 5])
def test_a_setup_may_fail_no_more_than_once(failures: int | None) -> None:
    court = Court(failures=failures)
    court.judge.note_setup(court.record("b"), created=True, now=1)
    court.judge.note(court.record("a"), court.judge.setups, Outcome.SETUP_FAILED, began=1, now=2)
    assert (court.codes("a"), court.report("a").method) == ([FailureCode.MULTIPLE_FAILED], SETUP)


def test_each_kind_and_each_method_has_a_count_of_its_own() -> None:
    court = Court(failures=3, timeouts=3)
    for _ in range(3):
        for method in ("predict", "tick"):
            for outcome in (Outcome.MODEL_FAILED, Outcome.OVERRAN):
                court.note("a", outcome, 5, method)
    for method in ("predict", "tick"):
        standing = court.standing("a", method)
        assert (standing.failures, standing.timeouts) == (3, 3)
    assert court.codes("a") == []


def test_success_clears_both_counts_and_the_sitting_out_of_its_method_alone() -> None:
    court = Court(failures=3, timeouts=3)
    for method in ("predict", "tick"):
        court.note("a", Outcome.MODEL_FAILED, 1, method)
        court.note("a", Outcome.OVERRAN, 2, method)
        court.standing("a", method).begin_sitting_out(2, 3, 60)
    court.note("a", Outcome.SUCCEEDED, 3, "predict")
    predict, tick = court.standing("a", "predict"), court.standing("a", "tick")
    assert (predict.failures, predict.timeouts, predict.first_at) == (0, 0, None)
    assert (tick.failures, tick.timeouts, tick.first_at) == (1, 1, 1)
    assert not court.record("a").sit_out("predict", 4)
    assert court.record("a").sit_out("tick", 4)


@given(st.integers(1, 100), st.none() | st.integers(0, 100))
def test_after_n_timeouts_half_as_many_calls_are_sat_out_then_one_is_made(
    timeouts: int, limit: int | None
) -> None:
    record = Court().record("a")
    standing = record.standing("predict")
    standing.count(timeouts=timeouts, began=0, witness="b")
    standing.begin_sitting_out(5, limit, 60)
    half = math.ceil((timeouts if limit is None else min(timeouts, limit)) / 2)
    assert [record.sit_out("predict", 6) for _ in range(half)] == [True] * half
    assert not record.sit_out("predict", 6)
    assert not record.sit_out("predict", 6)
    assert not record.sit_out("tick", 6)


def test_no_call_is_sat_out_after_a_minute() -> None:
    record = Court().record("a")
    standing = record.standing("predict")
    standing.count(timeouts=10, began=0, witness="b")
    standing.begin_sitting_out(5, None, 60)
    assert record.sit_out("predict", 64.9)
    assert not record.sit_out("predict", 65)
    assert not record.sit_out("predict", 6)


def test_calls_that_were_sat_out_count_for_nothing() -> None:
    court = Court(failures=3, timeouts=3)
    court.note("a", Outcome.OVERRAN, 1)
    for outcome in (Outcome.SITTING_OUT, Outcome.STILL_BUSY, Outcome.QUEUE_FULL) * 9:
        court.note("a", outcome, 2000)
    standing = court.standing("a")
    assert (standing.failures, standing.timeouts, standing.hindered) == (0, 1, 0)
    assert court.codes("a") == []


@given(st.lists(st.sampled_from(list(Outcome))), st.integers(0, 4), st.integers(0, 4))
def test_counts_are_those_since_the_last_success(
    outcomes: list[Outcome], max_failures: int, max_timeouts: int
) -> None:
    court = Court(failures=max_failures, timeouts=max_timeouts)
    standing = court.standing("a")
    for index, outcome in enumerate(outcomes):
        court.note("a", outcome, index)
        since = outcomes[: index + 1]
        while Outcome.SUCCEEDED in since:
            since = since[since.index(Outcome.SUCCEEDED) + 1 :]
        failures = since.count(Outcome.MODEL_FAILED) + since.count(Outcome.SETUP_FAILED)
        timeouts = since.count(Outcome.OVERRAN)
        assert (standing.failures, standing.timeouts) == (failures, timeouts)
        codes = court.codes("a")
        assert (FailureCode.MULTIPLE_FAILED in codes) == (failures > max_failures)
        assert (FailureCode.MULTIPLE_TIMEOUT in codes) == (timeouts > max_timeouts)
        assert (FailureCode.BAD_IMPLEMENTATION in codes) == (Outcome.BAD_IMPLEMENTATION in since)
        at_once = any(RULES[each].report is CONNECTION_FAILED for each in outcomes[: index + 1])
        assert (CONNECTION_FAILED in codes) == at_once
    stages = [report.stage for report in court.judge.reports]
    assert set(stages) <= {Stage.NEW, Stage.UNPROVED}
