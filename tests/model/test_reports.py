"""Reports about methods wait: when they are released, when they are held, and what withdraws them."""

from __future__ import annotations

import pytest
from helpers.court import LETTERS, NOTHING, Court, held, names, of, pending, released

from trio_model_runner.model.policy import SETUP, Decision, NewsKind, Outcome, Stage
from trio_model_runner.values.failure_codes import FailureCode

FAILED, MISSING, OK = Outcome.MODEL_FAILED, Outcome.BAD_IMPLEMENTATION, Outcome.SUCCEEDED
ROWS = [(3, 2), (3, 3), (4, 2), (4, 3), (5, 2), (5, 3), (10, 4), (10, 5), (11, 5), (11, 6), (2, 1), (2, 2)]


def all_answer(court: Court, failing: str, now: float, method: str = "predict") -> None:
    for model in court.records:
        court.note(model, FAILED if model in failing else OK, now, method)


def test_a_report_waits_for_a_minute() -> None:
    court = Court(LETTERS[:10])
    all_answer(court, "a", 10)
    assert court.judge.reports.next_decision(10) is None  # it is to be looked at now
    assert of(court.decide(10)) == pending("a")
    assert of(court.decide(69.9)) == NOTHING
    assert court.judge.reports.next_decision(11) == 70
    assert court.judge.reports.next_decision(71) == 71
    assert (court.judge.reports.pending, court.judge.reports.held) == (1, 0)
    assert of(court.decide(70)) == released("a")
    assert not court.judge.reports
    assert of(court.decide(80)) == NOTHING
    assert court.judge.reports.next_decision(80) is None


def test_nothing_to_ask_for_without_reports() -> None:
    reports = Court().judge.reports
    assert reports.next_decision(0) is None
    assert reports.decide(0, 0) == reports.decide(0, 10) == Decision()
    assert reports.rows() == []


@pytest.mark.parametrize(("members", "failing"), ROWS)
def test_half_of_those_asked_and_three_or_all_are_held(members: int, failing: int) -> None:
    court = Court(LETTERS[:members])
    bad = LETTERS[:failing]
    all_answer(court, bad, 5)
    together = 2 * failing >= members and failing >= min(3, members)
    assert of(court.decide(5)) == (held(*bad) if together else pending(*bad))
    assert of(court.decide(100)) == (NOTHING if together else released(*bad))
    assert court.judge.reports.held == (failing if together else 0)


@pytest.mark.parametrize("require_witness", [True, False])
def test_a_crunch_of_one_says_whether_anything_counts(require_witness: bool) -> None:
    court = Court("a", require_witness=require_witness)
    all_answer(court, "a", 5)
    assert of(court.decide(5)) == (held("a") if require_witness else pending("a"))


def test_only_models_that_were_asked_the_same_since_are_a_crowd() -> None:
    court = Court(LETTERS[:12], failures=1)
    for model in "defghijkl":
        court.note(model, OK, 1)  # too early to say anything
        court.note(model, OK, 9, "tick")  # something else
    for model in "abc":
        court.note(model, FAILED, 5)
    court.note("a", FAILED, 9)
    assert of(court.decide(9)) == held("a")


def test_who_joins_a_crowd_within_a_minute_keeps_the_first_from_being_reported() -> None:
    court = Court(LETTERS[:5])
    for failing, now in (("a", 0), ("ab", 30), ("abc", 59)):
        for model in failing:
            court.note(model, FAILED, now)
        court.note("d", OK, now)
        assert of(court.decide(now)) == (held("c") if now == 59 else pending(failing[-1]))
    assert of(court.decide(60)) == held("a")
    assert of(court.decide(89)) == NOTHING
    assert of(court.decide(90)) == held("b")


def test_who_comes_after_a_crowd_is_no_part_of_it() -> None:
    court = Court(LETTERS[:10])
    all_answer(court, "abcde", 0)
    assert of(court.decide(0)) == held(*"abcde")
    all_answer(court, "", 50)
    assert not court.judge.reports
    all_answer(court, "f", 100)
    assert of(court.decide(100)) == pending("f")
    assert of(court.decide(160)) == released("f")


def test_a_model_waits_once_however_often_it_fails() -> None:
    court = Court(LETTERS[:4])
    for now in range(5):
        all_answer(court, "a", now)
        assert of(court.decide(now)) == (pending("a") if now == 0 else NOTHING)
    assert of(court.decide(60)) == released("a")


def test_a_success_withdraws_what_is_due_about_its_method_and_model() -> None:
    court = Court(LETTERS[:10])
    for model, method in (("a", "predict"), ("a", "tick"), ("b", "tick")):
        court.note(model, FAILED, 0, method)
    court.note("a", OK, 1, "tick")
    assert (court.report("a").method, court.report("b").method) == ("predict", "tick")
    (told,) = (news for news in court.news if news.kind is NewsKind.WITHDRAWN)
    assert told.report is not None
    assert (told.report.record.model_id, told.text) == ("a", "tick succeeded")


def test_who_has_succeeded_is_no_part_of_a_crowd() -> None:
    court = Court(LETTERS[:4])
    all_answer(court, "abc", 0)
    court.note("c", OK, 1)
    assert of(court.decide(1)) == pending("a", "b")
    assert of(court.decide(60)) == released("a", "b")


def test_a_report_ends_with_its_deployment_and_with_a_report() -> None:
    court = Court(LETTERS[:10])
    all_answer(court, "abc", 0)
    court.judge.dismiss(court.record("a"))
    court.judge.begin_anew(court.record("b"))
    court.judge.reports.note_report(court.record("c"))
    assert not court.judge.reports
    all_answer(court, "abc", 1)  # a is gone, and c was reported
    assert {report.record.model_id for report in court.judge.reports} == {"b"}


# What is held.


def test_what_is_held_falls_back_to_the_limit_and_needs_something_new() -> None:
    court = Court(LETTERS[:4], failures=2)
    for now in (1, 2, 3, 4, 5):
        all_answer(court, "abc", now)
    assert court.standing("a").failures == 5
    assert of(court.decide(5)) == held(*"abc")
    assert court.standing("a").failures == 2
    for model in "bc":
        court.note(model, OK, 6)
    assert of(court.decide(1000)) == NOTHING  # it is alone by now, and nothing new has counted
    court.note("a", FAILED, 1000)
    assert of(court.decide(1000)) == pending("a")
    assert of(court.decide(1060)) == released("a")


def test_what_is_held_is_said_again_every_hour_and_not_anew_when_it_is_held_again() -> None:
    court = Court("abc")
    all_answer(court, "abc", 0)
    court.decide(0)
    reports = court.judge.reports
    assert names(reports.say_again(0)) == {*"abc"}
    assert reports.say_again(3599) == []
    court.note("a", FAILED, 3599)
    assert of(court.decide(3599)) == held("a")
    assert {report.said_at for report in reports} == {0}
    assert reports.say_again(3599) == []
    assert names(reports.say_again(3600)) == {*"abc"}
    assert reports.say_again(3601) == []


# What a model lacks.


def test_what_no_more_models_have_than_lack_is_a_typo_and_never_reported() -> None:
    court = Court(LETTERS[:10])
    for model in "abc":
        court.note(model, MISSING, 0, "prdict")
    assert of(court.decide(1000)) == NOTHING
    for model in "def":
        court.note(model, OK, 1000, "prdict")
    assert of(court.decide(2000)) == NOTHING
    assert {report.stage for report in court.judge.reports} == {Stage.UNPROVED}
    assert not court.judge.is_due(court.record("a"))


def test_what_more_models_have_than_lack_is_missing() -> None:
    court = Court(LETTERS[:10])
    court.note("a", MISSING, 0)
    assert of(court.decide(0)) == NOTHING
    court.note("b", OK, 500)
    assert of(court.decide(500)) == NOTHING  # one has it, and one lacks it
    court.note("c", OK, 500)
    assert court.news[-1].kind is NewsKind.CHANGED
    assert of(court.decide(500)) == pending("a")
    assert of(court.decide(559)) == NOTHING  # it waits from its proof on
    (only,) = court.decide(560).released
    assert (only.record.model_id, only.code) == ("a", FailureCode.BAD_IMPLEMENTATION)


def test_a_proof_may_be_lost_again_before_the_minute_is_over() -> None:
    court = Court(LETTERS[:10])
    court.note("a", MISSING, 0)
    for model in "bcd":
        court.note(model, OK, 0)
    assert of(court.decide(0)) == pending("a")
    for model in "efg":
        court.note(model, MISSING, 30)
    assert of(court.decide(60)) == NOTHING
    assert court.report("a").stage is Stage.UNPROVED


def test_success_with_another_method_is_no_answer_to_a_missing_one() -> None:
    court = Court(LETTERS[:10])
    court.note("a", MISSING, 0)
    for model in "bc":
        court.note(model, OK, 0)
    court.note("a", OK, 0, "tick")
    assert of(court.decide(0)) == pending("a")
    court.note("a", OK, 1)
    assert not court.judge.reports


def test_an_unproved_report_keeps_no_other_waiting() -> None:
    court = Court(LETTERS[:10])
    court.note("a", MISSING, 0, "prdict")
    all_answer(court, "a", 5)
    assert of(court.decide(5)) == pending("a")
    assert [report.method for report in court.decide(65).released] == ["predict"]


@pytest.mark.parametrize("created", [True, False])
def test_only_nodes_that_made_an_instance_have_a_class(created: bool) -> None:
    court = Court(LETTERS[:10])
    for model in "bc":
        court.judge.note_setup(court.record(model), created=created, now=0)
    court.judge.note(court.record("a"), court.judge.setups, MISSING, began=0, now=1)
    assert of(court.decide(1)) == (pending("a") if created else NOTHING)
    assert court.report("a").method == SETUP
