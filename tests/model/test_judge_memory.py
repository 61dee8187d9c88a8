"""What the judge keeps in mind of a model, and for how long: small facts that can change a verdict."""

from __future__ import annotations

import pytest
from helpers.court import LETTERS, NOTHING, WITNESS, Court, held, of, pending, released

from trio_model_runner.config import Health
from trio_model_runner.model.policy import (
    NEVER,
    SETUP,
    Form,
    Incident,
    Judge,
    Limits,
    News,
    NewsKind,
    Outcome,
    Overrun,
    Record,
    RoundEvidence,
    Standing,
)
from trio_model_runner.model.policy.crowd import Crowd

FAILED, MISSING, OK = Outcome.MODEL_FAILED, Outcome.BAD_IMPLEMENTATION, Outcome.SUCCEEDED
HANGS = Outcome.OVERRAN


def overrun_of(method: str = "predict", began: float = 0.0, *, good: bool | None = True) -> Overrun:
    """A call of 4 s that was cut off."""
    return Overrun(method, began, began + 4, 4.0, counts_from=began + 4, way_was_good=good)


def end_call(
    court: Court, model: str, overrun: Overrun, *, witness: str = WITNESS, now: float = 4.0
) -> RoundEvidence:
    """A call that has become an overrun."""
    evidence = RoundEvidence(Form(overrun.method), overrun.sent_at, witness=witness)
    record = court.record(model)
    record.overrun = overrun
    court.judge.note(record, evidence, HANGS, began=overrun.sent_at, now=now, overrun=overrun)
    return evidence


# Who was asked, and so is a part of a crowd.


@pytest.mark.parametrize(
    ("outcome", "asked"),
    [
        (Outcome.BUSY, True),
        (Outcome.UNAVAILABLE, True),
        (Outcome.INSTANCE_LOST, True),
        (Outcome.CONNECTION_LOST, True),
        (Outcome.PROOF_LAPSED, True),
        (Outcome.SITTING_OUT, True),
        (Outcome.NOT_ITS_FAULT, True),
        (Outcome.INVALID_ANSWER, True),
        (Outcome.OPTIONAL_MISSING, True),
        (Outcome.NOT_CONNECTED, False),
        (Outcome.NOT_READY, False),
        (Outcome.NOT_REACHED, False),
        (Outcome.QUEUE_FULL, False),
        (Outcome.STILL_BUSY, False),
        (Outcome.BUSY_WITH_OTHERS, False),
        (Outcome.COORDINATOR_RAISED, False),
    ],
)
def test_who_was_asked_in_vain_is_a_part_of_a_crowd(outcome: Outcome, asked: bool) -> None:
    court = Court("abcde")
    for model in "bc":
        court.note(model, outcome, 10)
    for model in "de":
        court.note(model, OK, 10)
    court.note("a", FAILED, 10)
    assert of(court.decide(10)) == (held("a") if asked else pending("a"))


@pytest.mark.parametrize(("method", "asked"), [("predict", True), ("tick", False)])
def test_who_is_still_at_it_is_a_part_of_the_crowd_of_that_method(method: str, asked: bool) -> None:
    court = Court("abcde", timeouts=9)
    for model in "bc":
        court.record(model).overrun = overrun_of(method)
        court.note(model, Outcome.STILL_BUSY, 10)
    for model in "de":
        court.note(model, OK, 10)
    court.note("a", FAILED, 10)
    assert of(court.decide(10)) == (held("a") if asked else pending("a"))


def test_the_first_call_that_showed_that_a_method_is_missing_decides_who_shares_it() -> None:
    court = Court(LETTERS[:6], failures=9)
    court.note("a", MISSING, 0)
    for model in "bc":
        court.note(model, FAILED, 5)
    for model in "def":
        court.note(model, OK, 5)
    assert of(court.decide(5)) == held("a")
    court.note("a", MISSING, 20)  # alone, this time
    assert of(court.decide(20)) == held("a")
    assert court.standing("a").first_at == 0


# What a success forgets.


def test_what_waited_for_its_witness_does_not_count_after_a_success() -> None:
    court = Court("ab")
    evidence = RoundEvidence(Form("predict"), 0)
    court.judge.note(court.record("a"), evidence, FAILED, began=0, now=1)
    court.note("a", OK, 2)
    court.judge.note(court.record("b"), evidence, OK, began=0, now=3)
    assert court.standing("a").failures == 0
    assert of(court.decide(3)) == NOTHING


@pytest.mark.parametrize("succeeds", [False, True])
def test_a_bad_way_hinders_unless_the_model_has_succeeded_since(succeeds: bool) -> None:
    court = Court("ab", timeouts=9)
    overrun = overrun_of(good=None)
    end_call(court, "a", overrun)
    if succeeds:
        court.note("a", OK, 5)
    court.judge.note_way(court.record("a"), overrun, good=False, now=6)
    assert court.standing("a").hindered == (0 if succeeds else 1)
    assert court.standing("a").timeouts == 0


def test_a_way_that_is_known_to_be_bad_hinders_at_once() -> None:
    court = Court("ab", timeouts=9)
    end_call(court, "a", overrun_of(good=False))
    assert (court.standing("a").hindered, court.standing("a").timeouts) == (1, 0)


def test_the_way_of_a_call_is_learnt_once() -> None:
    court = Court("ab", timeouts=9)
    overrun = overrun_of(good=None)
    end_call(court, "a", overrun)
    court.judge.note_way(court.record("a"), overrun, good=True, now=5)
    court.judge.note_way(court.record("a"), overrun, good=False, now=6)
    assert overrun.way_was_good
    assert (court.standing("a").hindered, court.standing("a").timeouts) == (0, 1)


def test_an_overrun_that_outlives_two_connections_hinders_once() -> None:
    court = Court("ab", timeouts=9)
    end_call(court, "a", overrun_of())
    for now in (10, 20):
        court.judge.note_loss(court.record("a"), stood=600, peaceful=False, now=now)
    assert court.standing("a").hindered == 1


def test_who_is_announced_anew_has_no_method_missing() -> None:
    court = Court("abc")
    court.note("a", MISSING, 0)
    court.judge.begin_anew(court.record("a"))
    court.note("a", FAILED, 5)
    court.note("b", MISSING, 5)
    court.note("c", OK, 5)
    crowd = Crowd(court.judge.records, 3, Health())
    assert not crowd.most_have("predict")  # one has it, one lacks it, and of one nobody knows
    court.note("a", OK, 6)
    assert Crowd(court.judge.records, 3, Health()).most_have("predict")


def test_who_begins_anew_is_lost_anew() -> None:
    """An hour after it was lost with two others, it is announced again, and can not be reached: alone."""
    court = Court(LETTERS[:10])
    for model in "abc":
        court.judge.note_loss(court.record(model), stood=600, peaceful=False, now=0)
    for model in "bc":
        court.judge.note_setup(court.record(model), created=False, now=30)
    court.judge.begin_anew(court.record("a"))
    court.judge.note_failed_attempt(court.record("a"), began=3600, now=3600)
    court.judge.note_giving_up(court.record("a"), Outcome.UNREACHABLE, now=3600, detail="refused")
    assert court.record("a").lost_at == 3600
    assert of(court.decide(3600)) == pending("a")


def test_each_beginning_is_counted() -> None:
    record = Record("a", "a", "10.0.0.1")
    record.begin_anew()
    record.begin_anew()
    assert record.beginnings == 2


# Reports.


def test_a_report_that_a_model_is_unserved_falls_when_others_are_no_better() -> None:
    court = Court(LETTERS[:8], failures=9, timeouts=0)
    for model in LETTERS[1:8]:
        court.note(model, OK, 1)
    for now in (0, 1000):
        court.note("a", Outcome.CONNECTION_LOST, now)
    assert of(court.decide(1000)) == pending("a")
    for model in LETTERS[8:20]:
        court.records[model] = court.judge.admit(model, model, model)
        court.note(model, FAILED, 1010)
    assert of(court.decide(1010)) == NOTHING
    assert court.codes("a") == []
    assert of(court.decide(2000)) == NOTHING


def test_counts_do_not_grow_past_their_limit_while_reporting_is_off() -> None:
    news: list[News] = []
    judge = Judge(limits=Limits(2, 2), health=Health(), enabled=False, tell=news.append)
    record = judge.admit("a", "a", "10.0.0.1")
    for now in range(6):
        evidence = RoundEvidence(Form("predict"), now, witness=WITNESS)
        judge.note(record, evidence, FAILED, began=now, now=now)
    assert record.standing("predict").failures == 2
    assert {each.kind for each in news} == {NewsKind.SWITCHED_OFF}
    assert not judge.reports


def test_a_report_that_is_due_already_needs_no_more_windows() -> None:
    court = Court("ab", timeouts=2)
    overrun = overrun_of()
    end_call(court, "a", overrun)
    overrun.window_ends = [8.0]
    for timeouts, would_be in ((1, False), (2, True), (3, False)):
        court.standing("a").timeouts = timeouts
        assert court.judge.windows_would_be_due(court.record("a"), overrun, 9) is would_be


def test_an_attempt_that_fails_while_a_report_is_confirmed_is_news() -> None:
    court = Court(LETTERS[:10])
    record = court.record("a")
    court.judge.note_failed_attempt(record, began=0, now=0)
    court.judge.note_giving_up(record, Outcome.UNREACHABLE, now=0, detail="refused")
    court.decide(0)
    court.judge.note_failed_attempt(record, began=30, now=30)
    assert NewsKind.CHANGED not in [each.kind for each in court.news]
    court.decide(60)
    court.judge.note_failed_attempt(record, began=61, now=61)
    assert court.news[-1].kind is NewsKind.CHANGED


# Witnesses.


def test_another_deployment_of_a_model_is_no_witness_of_its_windows() -> None:
    court = Court("ab", timeouts=9)
    other = court.judge.admit("a2", "a", "10.0.9.1")
    overrun = overrun_of()
    end_call(court, "a", overrun)
    other.standing("predict").succeeded_at = 6
    overrun.window_ends = [8.0]
    court.judge.note_still_busy(court.record("a"), overrun, seen_at=9, now=9)
    assert (court.standing("a").timeouts, overrun.windows) == (1, 1)
    court.note("b", OK, 10)
    court.judge.note_still_busy(court.record("a"), overrun, seen_at=11, now=11)
    assert (court.standing("a").timeouts, overrun.windows) == (2, 0)


def test_a_success_since_the_call_was_sent_is_a_witness_of_its_windows() -> None:
    court = Court("ab", timeouts=9)
    overrun = overrun_of()
    end_call(court, "a", overrun)
    court.note("b", OK, 2)  # it was sent at 0, and was to be over at 4
    overrun.window_ends = [8.0]
    court.judge.note_still_busy(court.record("a"), overrun, seen_at=9, now=9)
    assert court.standing("a").timeouts == 2


def test_nobody_is_the_witness_of_its_own_setup() -> None:
    court = Court("ab", timeouts=9)
    court.judge.note_setup(court.record("a"), created=True, now=0)
    overrun = overrun_of(SETUP, 10)
    court.record("a").overrun = overrun
    court.judge.note(
        court.record("a"), court.judge.setups, Outcome.SETUP_OVERRAN, began=10, now=14, overrun=overrun
    )
    overrun.window_ends = [20.0]
    court.judge.note_still_busy(court.record("a"), overrun, seen_at=21, now=21)
    assert court.standing("a", SETUP).timeouts == 0
    court.judge.note_setup(court.record("b"), created=True, now=22)
    court.judge.note_still_busy(court.record("a"), overrun, seen_at=23, now=23)
    assert court.standing("a", SETUP).timeouts == 2
    assert court.standing("a", SETUP).witness == "b"


def test_two_witnesses_of_a_setup_are_two_models() -> None:
    evidence = RoundEvidence(Form(SETUP), NEVER)
    evidence.note_success("a")
    assert (evidence.witness_for("a"), evidence.witness_for("b")) == ("", "a")
    evidence.note_success("b")
    assert (evidence.witness_for("a"), evidence.witness_for("b")) == ("b", "a")
    evidence.note_success("a")
    assert evidence.witness_for("a") == "b"


# Numbers.


@pytest.mark.parametrize(
    ("failures", "timeouts", "unserved"), [(3, None, 3), (3, 5, 5), (None, 5, 5), (None, None, None)]
)
def test_how_often_calls_may_come_to_nothing(
    failures: int | None, timeouts: int | None, unserved: int | None
) -> None:
    limits = Limits(failures, timeouts)
    assert limits.unserved == unserved
    standing = Standing("predict", hindered=4, hindered_since=0)
    assert limits.escapes(standing, 900, 900) is (unserved == 3)
    assert not limits.escapes(standing, 900, 899)


def test_a_connection_is_good_for_something_once_a_call_succeeded_not_a_setup() -> None:
    record = Record("a", "a", "10.0.0.1")
    record.standing(SETUP).succeeded_at = 10
    assert not record.succeeded_since(5)
    assert not record.answered_since(5)
    record.standing("predict").asked_at = 10
    assert not record.succeeded_since(5)
    assert record.answered_since(5)
    assert not record.answered_since(11)
    record.standing("tick").succeeded_at = 10
    assert record.succeeded_since(5)
    assert not record.succeeded_since(11)


def test_ten_thousand_forms_are_kept_and_the_oldest_is_dropped() -> None:
    judge = Judge(limits=Limits(3, 3), health=Health())
    first = judge.form("predict", 0)
    for shape in range(1, 10_000):
        judge.form("predict", shape)
    assert judge.form("predict", 0) is first
    judge.form("predict", 10_000)
    assert len(judge.forms) == 10_000
    assert judge.form("predict", 0) is not first


def test_an_incident_of_a_call_begins_with_its_round() -> None:
    """Who is a part of a crowd is asked since then."""
    court = Court("ab", failures=9)
    evidence = RoundEvidence(Form("predict"), 5)
    court.judge.note(court.record("a"), evidence, FAILED, began=7, now=8)
    (incident,) = evidence.waiting
    assert isinstance(incident, Incident)
    assert (incident.began, incident.ended) == (5, 8)
    court.judge.note(court.record("a"), court.judge.setups, Outcome.SETUP_FAILED, began=7, now=8)
    assert court.judge.setups.waiting[0].began == 7


def test_a_minute_to_the_second() -> None:
    court = Court(LETTERS[:4])
    court.note("a", FAILED, 0)
    for model in "bcd":
        court.note(model, OK, 0)
    court.decide(0)
    assert of(court.decide(59.999)) == NOTHING
    assert of(court.decide(60)) == released("a")


def test_two_that_failed_together_need_a_witness_of_their_own_round() -> None:
    """A third one succeeds with the same arguments, in a round of its own that ends a little later."""
    court = Court("abc", failures=9)
    form = court.judge.form("predict", 0)
    evidence, other = RoundEvidence(form, 0), RoundEvidence(form, 0)
    for model in "ab":
        court.judge.note(court.record(model), evidence, FAILED, began=0, now=1)
    court.judge.note(court.record("c"), other, OK, began=0, now=2)
    court.judge.close(evidence)
    assert (court.standing("a").failures, court.standing("b").failures) == (0, 0)
    alone = RoundEvidence(form, 3)
    court.judge.note(court.record("a"), alone, FAILED, began=3, now=4)
    court.judge.close(alone)
    assert (court.standing("a").failures, court.standing("a").witness) == (1, "c")


def test_a_success_after_a_hindrance_is_no_routine() -> None:
    """A model whose connection was cut while it ran over counts from its next success as served again."""
    court = Court("ab", timeouts=3)
    record, form = court.record("a"), Form("predict")
    overrun = overrun_of()
    end_call(court, "a", overrun)
    court.judge.note(record, RoundEvidence(form, 5.0), OK, began=5.0, now=6.0)
    assert (OK, "predict") in record.no_news
    court.judge.note_loss(record, stood=9.0, peaceful=False, now=7.0)
    assert record.standing("predict").hindered == 1
    assert (OK, "predict") not in record.no_news
    court.judge.note(record, RoundEvidence(form, 8.0), OK, began=8.0, now=9.0)
    assert record.standing("predict").hindered == 0
