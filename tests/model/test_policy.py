"""The rules of blame: what an answer or an error means, what it counts as, and when it is reported."""

from __future__ import annotations

import math

import pytest
from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.model.policy import (
    RULES,
    Counts,
    FailureCode,
    Outcome,
    Record,
    is_busy,
    outcome_of_answer,
    outcome_of_grpc_error,
    outcome_of_setup,
    outcome_of_setup_error,
)
from trio_model_runner.services.base import AnswerCode
from trio_model_runner.values.results import Status

TABLE = [
    (Outcome.SUCCEEDED, Status.SUCCESS, Counts.CLEARS, None),
    (Outcome.MODEL_FAILED, Status.FAILED, Counts.FAILURE, None),
    (Outcome.BAD_IMPLEMENTATION, Status.FAILED, Counts.NOTHING, FailureCode.BAD_IMPLEMENTATION),
    (Outcome.NOT_ITS_FAULT, Status.FAILED, Counts.NOTHING, None),
    (Outcome.INVALID_ANSWER, Status.FAILED, Counts.NOTHING, None),
    (Outcome.COORDINATOR_RAISED, Status.FAILED, Counts.NOTHING, None),
    (Outcome.OVERRAN, Status.TIMEOUT, Counts.TIMEOUT, None),
    (Outcome.NOT_REACHED, Status.TIMEOUT, Counts.NOTHING, None),
    (Outcome.BUSY, Status.TIMEOUT, Counts.TIMEOUT, None),
    (Outcome.CONNECTION_LOST, Status.FAILED, Counts.NOTHING, None),
    (Outcome.SITTING_OUT, Status.SKIPPED, Counts.NOTHING, None),
    (Outcome.QUEUE_FULL, Status.SKIPPED, Counts.NOTHING, None),
    (Outcome.NOT_READY, Status.ABSENT, Counts.NOTHING, None),
    (Outcome.SETUP_FAILED, Status.ABSENT, Counts.NOTHING, FailureCode.MULTIPLE_FAILED),
    (Outcome.SETUP_UNANSWERED, Status.ABSENT, Counts.NOTHING, FailureCode.CONNECTION_FAILED),
    (Outcome.UNREACHABLE, Status.ABSENT, Counts.NOTHING, FailureCode.CONNECTION_FAILED),
    (Outcome.PROOF_FAILED, Status.ABSENT, Counts.NOTHING, FailureCode.CONNECTION_FAILED),
    (Outcome.ANSWER_UNPROVED, Status.FAILED, Counts.NOTHING, FailureCode.CONNECTION_FAILED),
]


@pytest.mark.parametrize(("outcome", "status", "counts", "report"), TABLE)
def test_each_outcome_has_its_status_its_count_and_its_report(
    outcome: Outcome, status: Status, counts: Counts, report: FailureCode | None
) -> None:
    rule = RULES[outcome]
    assert (rule.status, rule.counts, rule.report) == (status, counts, report)


def test_every_outcome_has_a_rule() -> None:
    assert {row[0] for row in TABLE} == set(Outcome) == set(RULES)


@pytest.mark.parametrize(("outcome", "status", "counts", "report"), TABLE)
def test_a_record_does_what_the_rule_says(
    outcome: Outcome, status: Status, counts: Counts, report: FailureCode | None
) -> None:
    record = Record(5, 5, failures=2, timeouts=2)
    assert record.note(outcome) is report
    failures, timeouts = {
        Counts.NOTHING: (2, 2),
        Counts.FAILURE: (3, 2),
        Counts.TIMEOUT: (2, 3),
        Counts.CLEARS: (0, 0),
    }[counts]
    assert (record.failures, record.timeouts) == (failures, timeouts)


@pytest.mark.parametrize(
    ("code", "call", "setup"),
    [
        (AnswerCode.SUCCESS, Outcome.SUCCEEDED, Outcome.SUCCEEDED),
        (AnswerCode.INVALID_ARGUMENT, Outcome.NOT_ITS_FAULT, Outcome.NOT_ITS_FAULT),
        (AnswerCode.BAD_IMPLEMENTATION, Outcome.BAD_IMPLEMENTATION, Outcome.BAD_IMPLEMENTATION),
        (AnswerCode.FAILED_PRECONDITION, Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
        (AnswerCode.SETUP_FAILED, Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
        (AnswerCode.MODEL_FAILED, Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
        (AnswerCode.UNKNOWN, Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
        (AnswerCode("a code of next year"), Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
    ],
)
def test_what_a_node_answers_has_its_outcome(code: AnswerCode, call: Outcome, setup: Outcome) -> None:
    assert outcome_of_answer(code) is call
    assert outcome_of_setup(code) is setup


EXCUSED = {GRPCStatus.UNIMPLEMENTED, GRPCStatus.UNAUTHENTICATED, GRPCStatus.PERMISSION_DENIED}


@pytest.mark.parametrize("status", set(GRPCStatus) - {GRPCStatus.OK})
def test_a_grpc_status_has_its_outcome(status: GRPCStatus) -> None:
    error = GRPCError(status, "Server busy")
    if status in EXCUSED:
        expected = Outcome.NOT_ITS_FAULT, Outcome.NOT_ITS_FAULT
    elif status is GRPCStatus.DEADLINE_EXCEEDED:
        expected = Outcome.OVERRAN, Outcome.SETUP_UNANSWERED
    else:
        expected = Outcome.MODEL_FAILED, Outcome.SETUP_FAILED
    assert (outcome_of_grpc_error(error), outcome_of_setup_error(error)) == expected
    assert is_busy(error) == (status is GRPCStatus.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize(
    "message",
    [None, "", "server busy", "Server busy.", " Server busy", "Received message larger than max (5 vs. 4)"],
)
def test_only_the_exact_text_says_that_a_node_is_busy(message: str | None) -> None:
    assert not is_busy(GRPCError(GRPCStatus.RESOURCE_EXHAUSTED, message))


@pytest.mark.parametrize("limit", [0, 1, 3, 20])
@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.MODEL_FAILED, FailureCode.MULTIPLE_FAILED),
        (Outcome.OVERRAN, FailureCode.MULTIPLE_TIMEOUT),
        (Outcome.BUSY, FailureCode.MULTIPLE_TIMEOUT),
    ],
)
def test_the_one_past_the_limit_is_reported(limit: int, outcome: Outcome, code: FailureCode) -> None:
    record = Record(limit, limit)
    assert [record.note(outcome) for _ in range(limit + 2)] == [None] * limit + [code, code]


@pytest.mark.parametrize("outcome", [Outcome.MODEL_FAILED, Outcome.OVERRAN])
def test_without_a_limit_nothing_is_reported(outcome: Outcome) -> None:
    record = Record(None, None)
    assert not any(record.note(outcome) for _ in range(1000))


def test_each_kind_has_a_count_of_its_own() -> None:
    record = Record(3, 3)
    outcomes = [Outcome.MODEL_FAILED, Outcome.OVERRAN] * 3
    assert not any(record.note(outcome) for outcome in outcomes)
    assert (record.failures, record.timeouts) == (3, 3)


def test_success_clears_both_counts_and_the_sitting_out() -> None:
    record = Record(3, 3)
    for outcome in (Outcome.MODEL_FAILED, Outcome.OVERRAN, Outcome.SUCCEEDED):
        record.note(outcome)
    assert (record.failures, record.timeouts) == (0, 0)
    assert not record.sit_out()


@given(st.integers(1, 100))
def test_after_n_timeouts_half_as_many_calls_are_sat_out_then_one_is_made(timeouts: int) -> None:
    record = Record(None, None)
    for _ in range(timeouts):
        record.note(Outcome.OVERRAN)
    assert [record.sit_out() for _ in range(math.ceil(timeouts / 2))] == [True] * math.ceil(timeouts / 2)
    assert not record.sit_out()
    assert not record.sit_out()


def test_calls_that_were_sat_out_count_for_nothing() -> None:
    record = Record(3, 3)
    made = 0
    for _ in range(9):  # 1 sat out after the first, 1 after the second, 2 after the third
        if record.sit_out():
            assert record.note(Outcome.SITTING_OUT) is None
        elif made < 3:
            assert record.note(Outcome.OVERRAN) is None
            made += 1
    assert record.timeouts == 3


def test_a_forgiven_timeout_leaves_nothing() -> None:
    record = Record(3, 3)
    record.forgive_timeout()
    assert record.timeouts == 0
    record.note(Outcome.OVERRAN)
    record.note(Outcome.OVERRAN)
    record.forgive_timeout()
    assert record.timeouts == 1
    assert not record.sit_out()


@given(st.lists(st.sampled_from(list(Outcome))), st.integers(0, 4), st.integers(0, 4))
def test_counts_are_those_since_the_last_success(
    outcomes: list[Outcome], max_failures: int, max_timeouts: int
) -> None:
    record = Record(max_failures, max_timeouts)
    for index, outcome in enumerate(outcomes):
        code = record.note(outcome)
        since = outcomes[: index + 1]
        while Outcome.SUCCEEDED in since:
            since = since[since.index(Outcome.SUCCEEDED) + 1 :]
        failures = since.count(Outcome.MODEL_FAILED)
        timeouts = since.count(Outcome.OVERRAN) + since.count(Outcome.BUSY)
        assert (record.failures, record.timeouts) == (failures, timeouts)
        if outcome is Outcome.MODEL_FAILED:
            assert (code is FailureCode.MULTIPLE_FAILED) == (failures > max_failures)
        elif outcome in (Outcome.OVERRAN, Outcome.BUSY):
            assert (code is FailureCode.MULTIPLE_TIMEOUT) == (timeouts > max_timeouts)
        else:
            assert code is RULES[outcome].report
