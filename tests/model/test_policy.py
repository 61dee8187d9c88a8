"""The tables of the policy, row by row; `test_counts` has what follows from many outcomes together."""

from __future__ import annotations

import errno

import pytest
from grpclib.const import Status as GRPCStatus
from grpclib.exceptions import GRPCError
from helpers.court import Court

from trio_model_runner import InvalidAnswer, ModelState
from trio_model_runner.errors import ProofFailed
from trio_model_runner.model.policy import (
    OUTCOME_OF_A_VALUE,
    OVERSLEPT,
    RULES,
    Counts,
    Fact,
    Outcome,
    Progress,
    Rule,
    is_about_the_way,
    is_busy,
    is_coordinators,
    is_our_deadline,
    is_unknown_method,
    may_be_sent,
    may_still_run,
    must_be_set_up_again,
    outcome_of_absence,
    outcome_of_answer,
    outcome_of_cut_off,
    outcome_of_distrust,
    outcome_of_fact,
    outcome_of_grpc_error,
    outcome_of_interruption,
    outcome_of_proof,
    outcome_of_setup,
    outcome_of_setup_error,
    outcome_of_unreachable,
    outcome_of_value,
    succeeded,
    tried_again,
    tried_again_when_held,
)
from trio_model_runner.security.delegation import ProofLapsed, UnknownIdentity
from trio_model_runner.services.base import AnswerCode
from trio_model_runner.values.failure_codes import FailureCode
from trio_model_runner.values.results import Status

FAILED, TIMEOUT, SKIPPED, ABSENT = Status.FAILED, Status.TIMEOUT, Status.SKIPPED, Status.ABSENT
CONNECTION_FAILED = FailureCode.CONNECTION_FAILED
ANSWERED = True
TABLE = {
    Outcome.SUCCEEDED: Rule(Status.SUCCESS, Counts.CLEARS, ANSWERED),
    Outcome.MODEL_FAILED: Rule(FAILED, Counts.FAILURE, ANSWERED),
    Outcome.BAD_IMPLEMENTATION: Rule(FAILED, Counts.LACKS, ANSWERED),
    Outcome.OPTIONAL_MISSING: Rule(FAILED, Counts.NOTHING, ANSWERED),
    Outcome.NOT_ITS_FAULT: Rule(FAILED, Counts.NOTHING, ANSWERED),
    Outcome.INVALID_ANSWER: Rule(FAILED, Counts.NOTHING, ANSWERED),
    Outcome.COORDINATOR_RAISED: Rule(FAILED, Counts.NOTHING),
    Outcome.OVERRAN: Rule(TIMEOUT, Counts.TIMEOUT, ANSWERED),
    Outcome.NOT_REACHED: Rule(TIMEOUT, Counts.NOTHING),
    Outcome.NOT_SERVED: Rule(TIMEOUT, Counts.HINDERED),
    Outcome.BUSY: Rule(TIMEOUT, Counts.HINDERED),
    Outcome.UNAVAILABLE: Rule(FAILED, Counts.HINDERED),
    Outcome.INSTANCE_LOST: Rule(FAILED, Counts.HINDERED),
    Outcome.CONNECTION_LOST: Rule(FAILED, Counts.HINDERED),
    Outcome.PROOF_LAPSED: Rule(FAILED, Counts.HINDERED),
    Outcome.SITTING_OUT: Rule(SKIPPED, Counts.NOTHING),
    Outcome.STILL_BUSY: Rule(SKIPPED, Counts.NOTHING),
    Outcome.BUSY_WITH_OTHERS: Rule(SKIPPED, Counts.HINDERED),
    Outcome.QUEUE_FULL: Rule(SKIPPED, Counts.NOTHING),
    Outcome.NOT_READY: Rule(ABSENT, Counts.NOTHING),
    Outcome.NOT_CONNECTED: Rule(ABSENT, Counts.HINDERED),
    Outcome.SETUP_FAILED: Rule(ABSENT, Counts.FAILURE, ANSWERED),
    Outcome.SETUP_OVERRAN: Rule(ABSENT, Counts.TIMEOUT, ANSWERED),
    Outcome.PROOF_UNANSWERED: Rule(ABSENT, report=CONNECTION_FAILED, may_pass=True),
    Outcome.UNREACHABLE: Rule(ABSENT, report=CONNECTION_FAILED, may_pass=True),
    Outcome.UNREACHABLE_FROM_HERE: Rule(ABSENT, may_pass=True),
    Outcome.FLOODED: Rule(ABSENT, report=CONNECTION_FAILED),
    Outcome.NOT_FOR_US: Rule(ABSENT, may_pass=True),
    Outcome.PROOF_FAILED: Rule(ABSENT, report=CONNECTION_FAILED),
    Outcome.ANSWER_UNPROVED: Rule(FAILED, report=CONNECTION_FAILED),
}

COUNTED = {Outcome.MODEL_FAILED: (1, 0), Outcome.SETUP_FAILED: (1, 0), Outcome.OVERRAN: (0, 1)}
"""The failures and timeouts that an outcome counts, if it has a witness. (Setups are in another test.)"""


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_its_rule(outcome: Outcome) -> None:
    assert RULES[outcome] == TABLE[outcome]


def test_every_outcome_has_a_rule() -> None:
    assert set(TABLE) == set(Outcome) == set(RULES)


@pytest.mark.parametrize("outcome", Outcome)
def test_the_judge_does_what_the_rule_says(outcome: Outcome) -> None:
    court = Court(failures=9, timeouts=9)
    standing = court.standing("a")
    standing.count(failures=2, timeouts=2, began=0, witness="b")
    court.note("a", outcome, 5)
    counts, hindered = RULES[outcome].counts, 0
    failures, timeouts = COUNTED.get(outcome, (0, 0))
    if counts is Counts.CLEARS:
        failures = timeouts = -2
    elif counts is Counts.HINDERED:
        hindered = 1
    assert (standing.failures, standing.timeouts, standing.hindered) == (2 + failures, 2 + timeouts, hindered)
    lacks = outcome in (Outcome.BAD_IMPLEMENTATION, Outcome.OPTIONAL_MISSING)
    assert standing.lacks == lacks
    expected = FailureCode.BAD_IMPLEMENTATION if counts is Counts.LACKS else RULES[outcome].report
    assert court.codes("a") == ([] if expected is None else [expected])
    assert court.codes("b") == []


@pytest.mark.parametrize("outcome", Outcome)
def test_only_answers_of_others_keep_the_last_resort_away(outcome: Outcome) -> None:
    """In a round where another model answered, what earlier rounds have shown is no witness."""
    court = Court()
    form = court.judge.form("predict", ())
    form.note(("c", True))
    before = form.last_other("a")
    evidence = type(court.judge.setups)(form, 5)
    for model in "ba":
        court.judge.note(court.records[model], evidence, outcome, began=5, now=5)
    if outcome is Outcome.SUCCEEDED:
        assert (evidence.witness_for("a"), evidence.witness_for("b")) == ("b", "a")
    elif RULES[outcome].answered:
        assert (evidence.answered, evidence.last_resort("a")) == (2, "")
    else:
        assert (evidence.answered, evidence.last_resort("a")) == (0, "c")
        assert form.last_other("a") == before


@pytest.mark.parametrize(
    ("code", "call", "setup"),
    [
        (AnswerCode.SUCCESS, Outcome.SUCCEEDED, Outcome.SUCCEEDED),
        (AnswerCode.INVALID_ARGUMENT, Outcome.NOT_ITS_FAULT, Outcome.NOT_ITS_FAULT),
        (AnswerCode.BAD_IMPLEMENTATION, Outcome.BAD_IMPLEMENTATION, Outcome.BAD_IMPLEMENTATION),
        (AnswerCode.FAILED_PRECONDITION, Outcome.INSTANCE_LOST, Outcome.SETUP_FAILED),
        (AnswerCode.SETUP_FAILED, Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
        (AnswerCode.MODEL_FAILED, Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
        (AnswerCode.UNKNOWN, Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
        (AnswerCode("a code of next year"), Outcome.MODEL_FAILED, Outcome.SETUP_FAILED),
    ],
)
def test_what_a_node_answers_has_its_outcome(code: AnswerCode, call: Outcome, setup: Outcome) -> None:
    missing = call is Outcome.BAD_IMPLEMENTATION
    assert outcome_of_answer(code) is call
    assert outcome_of_answer(code, optional=True) is (Outcome.OPTIONAL_MISSING if missing else call)
    assert outcome_of_setup(code) is setup
    assert must_be_set_up_again(code) == (code is AnswerCode.FAILED_PRECONDITION)


EXCUSED = {GRPCStatus.UNIMPLEMENTED, GRPCStatus.UNAUTHENTICATED, GRPCStatus.PERMISSION_DENIED}


@pytest.mark.parametrize("status", [status for status in GRPCStatus if status is not GRPCStatus.OK])
def test_a_grpc_status_has_its_outcome(status: GRPCStatus) -> None:
    error = GRPCError(status, "Server busy")
    if status in EXCUSED:
        expected = Outcome.NOT_ITS_FAULT, Outcome.NOT_ITS_FAULT
    elif status is GRPCStatus.DEADLINE_EXCEEDED:
        expected = Outcome.OVERRAN, Outcome.SETUP_FAILED  # one that came too early
    elif status is GRPCStatus.UNAVAILABLE:
        expected = Outcome.UNAVAILABLE, Outcome.UNAVAILABLE
    else:
        expected = Outcome.MODEL_FAILED, Outcome.SETUP_FAILED
    assert (outcome_of_grpc_error(error), outcome_of_setup_error(error)) == expected
    assert outcome_of_proof(error) is (Outcome.NOT_FOR_US if status in EXCUSED else None)
    assert is_busy(error) == (status is GRPCStatus.RESOURCE_EXHAUSTED)
    assert is_about_the_way(error) == (status is GRPCStatus.UNAVAILABLE)
    assert is_unknown_method(error) == (status is GRPCStatus.UNIMPLEMENTED)
    assert may_still_run(error) == (status is GRPCStatus.DEADLINE_EXCEEDED)
    assert is_our_deadline(error, deadline_passed=True) == may_still_run(error)
    assert not is_our_deadline(error, deadline_passed=False)


def test_a_setup_whose_answer_can_not_be_read_has_failed() -> None:
    assert outcome_of_setup_error(ValueError("no protobuf")) is Outcome.SETUP_FAILED


@pytest.mark.parametrize(
    "message",
    [None, "", "server busy", "Server busy.", " Server busy", "Received message larger than max (5 vs. 4)"],
)
def test_only_the_exact_text_says_that_a_node_is_busy(message: str | None) -> None:
    assert not is_busy(GRPCError(GRPCStatus.RESOURCE_EXHAUSTED, message))


FACTS = {
    Fact.SITS_OUT: Outcome.SITTING_OUT,
    Fact.OVERRUN_GOES_ON: Outcome.STILL_BUSY,
    Fact.BUSY_GOES_ON: Outcome.BUSY_WITH_OTHERS,
    Fact.QUEUE_FULL: Outcome.QUEUE_FULL,
    Fact.MODEL_LEFT: Outcome.CONNECTION_LOST,
    Fact.SETUP_OVERRAN: Outcome.SETUP_OVERRAN,
    Fact.PROOF_UNANSWERED: Outcome.PROOF_UNANSWERED,
    Fact.COORDINATORS_CODE_RAISED: Outcome.COORDINATOR_RAISED,
}


@pytest.mark.parametrize("fact", Fact)
def test_a_fact_has_its_outcome(fact: Fact) -> None:
    assert outcome_of_fact(fact) is FACTS[fact]


CUT_OFF = {
    Progress.WAITING: Outcome.NOT_REACHED,
    Progress.WAITING_FOR_OTHERS: Outcome.BUSY,
    Progress.CONNECTING: Outcome.NOT_SERVED,
    Progress.REFUSED: Outcome.NOT_SERVED,
    Progress.CALLING: Outcome.NOT_SERVED,
    Progress.CUT_OFF: Outcome.OVERRAN,
    Progress.BUSY: Outcome.BUSY,
    Progress.READING: Outcome.NOT_REACHED,
}


@pytest.mark.parametrize("progress", Progress)
def test_a_call_that_is_cut_off_has_the_outcome_of_its_progress(progress: Progress) -> None:
    assert outcome_of_cut_off(progress, seconds_late=OVERSLEPT, cut_short=False) is CUT_OFF[progress]
    assert RULES[CUT_OFF[progress]].status is TIMEOUT


@pytest.mark.parametrize("progress", Progress)
@pytest.mark.parametrize(("seconds_late", "cut_short"), [(OVERSLEPT * 1.01, False), (0.0, True)])
def test_what_was_cut_off_by_us_is_nobodys_fault(
    progress: Progress, seconds_late: float, cut_short: bool
) -> None:
    outcome = outcome_of_cut_off(progress, seconds_late=seconds_late, cut_short=cut_short)
    assert outcome is Outcome.NOT_REACHED
    assert RULES[outcome] == Rule(TIMEOUT)


IN_REACH = {
    ModelState.JOINING,
    ModelState.REACHABLE,
    ModelState.REPLACING,
    ModelState.RECOVERING,
    ModelState.RETIRING,
    ModelState.GONE,
}
"""If a model in such a state is absent, it is not because its node does not answer."""


@pytest.mark.parametrize("state", ModelState)
def test_absence_is_held_against_a_node_that_does_not_answer(state: ModelState) -> None:
    expected = Outcome.NOT_READY if state in IN_REACH else Outcome.NOT_CONNECTED
    assert outcome_of_absence(state, ours=False) is expected
    assert outcome_of_absence(state, ours=True) is Outcome.NOT_READY


def test_a_stream_that_ends_too_early_has_the_outcome_of_its_connection() -> None:
    assert outcome_of_interruption(connection_lost=True) is Outcome.CONNECTION_LOST
    assert outcome_of_interruption(connection_lost=False) is Outcome.MODEL_FAILED


@pytest.mark.parametrize(
    ("error", "counting", "otherwise"),
    [
        (None, Outcome.SUCCEEDED, Outcome.SUCCEEDED),
        (InvalidAnswer("no number"), Outcome.MODEL_FAILED, Outcome.INVALID_ANSWER),
        (ImportError("no pyarrow"), Outcome.COORDINATOR_RAISED, Outcome.COORDINATOR_RAISED),
        (ZeroDivisionError(), Outcome.COORDINATOR_RAISED, Outcome.COORDINATOR_RAISED),
    ],
)
def test_a_value_has_its_outcome(error: Exception | None, counting: Outcome, otherwise: Outcome) -> None:
    assert outcome_of_value(error, misfits_count=True) is counting
    assert outcome_of_value(error, misfits_count=False) is otherwise
    assert (error is None) == (counting is OUTCOME_OF_A_VALUE) == succeeded(counting)


def test_distrust_has_its_outcome() -> None:
    assert outcome_of_distrust(ProofFailed("it is another"), answer=True) is Outcome.ANSWER_UNPROVED
    assert outcome_of_distrust(ProofFailed("it is another"), answer=False) is Outcome.PROOF_FAILED
    for answer in (True, False):
        assert outcome_of_distrust(UnknownIdentity("no key"), answer=answer) is Outcome.NOT_ITS_FAULT
        assert outcome_of_distrust(ProofLapsed("too late"), answer=answer) is Outcome.PROOF_LAPSED


def caused(error: OSError, cause: OSError) -> OSError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (None, False),
        (OSError(errno.ECONNREFUSED, "refused"), False),
        (TimeoutError(), False),
        (OSError(errno.EMFILE, "too many files"), True),
        (OSError(errno.EADDRNOTAVAIL, "no port left"), True),
        (caused(OSError("all attempts failed"), OSError(errno.EPERM, "a firewall")), True),
        (caused(OSError("all attempts failed"), OSError(errno.ECONNREFUSED, "refused")), False),
        (caused(OSError("two"), OSError(errno.EACCES, "no")), True),
        (ExceptionGroup("two", [TimeoutError(), OSError(errno.ENFILE, "too many")]), True),
        (ExceptionGroup("two", [TimeoutError(), ConnectionRefusedError()]), False),
    ],
)
def test_what_this_machine_is_short_of_is_no_models_fault(error: BaseException | None, ours: bool) -> None:
    expected = Outcome.UNREACHABLE_FROM_HERE if ours else Outcome.UNREACHABLE
    assert outcome_of_unreachable(error) is expected
    assert is_coordinators(expected) == ours


TRIED_AGAIN = {
    Outcome.PROOF_UNANSWERED,
    Outcome.UNREACHABLE,
    Outcome.UNREACHABLE_FROM_HERE,
    Outcome.NOT_FOR_US,
}


@pytest.mark.parametrize("outcome", Outcome)
def test_who_can_not_be_set_up_is_tried_again_if_that_may_help(outcome: Outcome) -> None:
    untold = outcome in (Outcome.SETUP_FAILED, Outcome.BAD_IMPLEMENTATION)
    assert tried_again(outcome, due=True) == (outcome in TRIED_AGAIN)
    assert tried_again(outcome, due=False) == (outcome in TRIED_AGAIN or untold)


def test_who_is_not_the_model_is_not_tried_again_while_held() -> None:
    assert tried_again_when_held(None)
    assert tried_again_when_held(TimeoutError())
    assert not tried_again_when_held(ProofFailed("it is another"))


def test_no_connection_is_reported_while_the_orchestrator_is_away() -> None:
    assert all(may_be_sent(code, orchestrator_connected=True) for code in FailureCode)
    unsent = {code for code in FailureCode if not may_be_sent(code, orchestrator_connected=False)}
    assert unsent == {CONNECTION_FAILED}
