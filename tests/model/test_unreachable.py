"""Models that can not be reached, or escape: what confirms a report, and who is lost with whom."""

from __future__ import annotations

import attrs
import pytest
from helpers.court import LETTERS, NOTHING, Court, held, of, pending, released

from trio_model_runner.config import Health
from trio_model_runner.model.policy import Outcome, Stage
from trio_model_runner.model.policy.crowd import Crowd

FAILED, OK = Outcome.MODEL_FAILED, Outcome.SUCCEEDED


def lose(court: Court, model: str, now: float, *, stood: float = 1000.0) -> None:
    """Lose a model that was connected, and give it up at once."""
    court.judge.note_loss(court.record(model), stood=stood, peaceful=False, now=now)
    give_up(court, model, now)


def give_up(court: Court, model: str, now: float) -> None:
    """One more attempt to connect fails, and with it the last one."""
    court.judge.note_failed_attempt(court.record(model), began=now, now=now)
    court.judge.note_giving_up(court.record(model), Outcome.UNREACHABLE, now=now, detail="refused")


def test_before_it_is_sent_it_must_fail_once_more_and_all_are_asked() -> None:
    for members_first in (True, False):
        court = Court(LETTERS[:10])
        lose(court, "a", 0)
        assert of(court.decide(0)) == pending("a")
        give_up(court, "a", 59)
        assert of(court.decide(60)) == [set(), set(), set(), {"a"}]
        assert of(court.decide(61)) == NOTHING
        report = court.report("a")
        if members_first:
            court.judge.reports.note_members_asked(report)
        else:
            give_up(court, "a", 61)
        assert of(court.decide(62)) == NOTHING
        if members_first:
            give_up(court, "a", 63)
        else:
            court.judge.reports.note_members_asked(report)
        assert of(court.decide(64)) == released("a")


def test_an_attempt_that_had_begun_before_confirms_nothing() -> None:
    court = Court(LETTERS[:10])
    lose(court, "a", 0)
    court.decide(0)
    court.decide(60)
    court.judge.reports.note_members_asked(court.report("a"))
    court.judge.note_failed_attempt(court.record("a"), began=59.9, now=65)
    assert of(court.decide(65)) == NOTHING
    court.judge.note_failed_attempt(court.record("a"), began=65, now=70)
    assert of(court.decide(70)) == released("a")


def test_what_the_question_to_all_finds_holds_it() -> None:
    court = Court(LETTERS[:10])
    lose(court, "a", 0)
    court.decide(0)
    court.decide(60)
    court.judge.reports.note_members_asked(court.report("a"))
    for model in "bc":
        court.judge.note_loss(court.record(model), stood=1000, peaceful=False, now=65)
    give_up(court, "a", 65)
    assert of(court.decide(65)) == held("a")


def test_it_falls_when_the_model_is_connected_again() -> None:
    court = Court(LETTERS[:10])
    for now in (0, 60):
        lose(court, "a", now)
        court.decide(now)
        court.decide(now + 60)
        assert court.report("a").stage is Stage.CONFIRMING
        court.judge.note_setup(court.record("a"), created=False, now=now + 60)
        assert not court.judge.reports


def test_who_proves_to_be_another_needs_no_further_attempt() -> None:
    court = Court(LETTERS[:10])
    court.judge.note_giving_up(court.record("a"), Outcome.PROOF_FAILED, now=0, detail="another")
    assert of(court.decide(0)) == pending("a")
    assert of(court.decide(60)) == released("a")


# Nobody escapes.


@attrs.frozen
class Escape:
    """A model on which so many calls came to nothing, each so many seconds after the one before."""

    calls: int
    gap: float

    def play(self, court: Court, *models: str) -> float:
        for number in range(self.calls):
            for model in models:
                court.note(model, Outcome.CONNECTION_LOST, number * self.gap)
        return (self.calls - 1) * self.gap


@pytest.mark.parametrize(
    ("escape", "due"),
    [(Escape(4, 300), True), (Escape(4, 299), False), (Escape(3, 500), False), (Escape(100, 9), False)],
)
def test_who_is_unserved_for_too_long_and_too_often_is_due(escape: Escape, due: bool) -> None:
    court = Court(LETTERS[:10], timeouts=3)
    for model in LETTERS[1:10]:
        court.note(model, OK, 1)
    now = escape.play(court, "a")
    assert of(court.decide(now)) == (pending("a") if due else NOTHING)
    assert of(court.decide(now + 60)) == (released("a") if due else NOTHING)
    assert court.codes("a") == []


@pytest.mark.parametrize(("outcome", "falls"), [(OK, True), (FAILED, True), (Outcome.OVERRAN, False)])
def test_an_answer_ends_being_unserved(outcome: Outcome, falls: bool) -> None:
    court = Court(LETTERS[:10], failures=9, timeouts=3)
    for model in LETTERS[1:10]:
        court.note(model, OK, 1)
    now = Escape(4, 300).play(court, "a")
    court.decide(now)
    court.note("a", outcome, now + 1)
    assert court.standing("a").hindered == (0 if falls else 4)
    assert of(court.decide(now + 60)) == (NOTHING if falls else released("a"))


@pytest.mark.parametrize(
    ("succeeding", "failing", "due"),
    [("bcd", "", True), ("bc", "d", True), ("b", "c", False), ("", "b", False)],
)
def test_nobody_is_unserved_unless_more_than_half_of_the_others_succeeded(
    succeeding: str, failing: str, due: bool
) -> None:
    court = Court(LETTERS[:10], failures=9, timeouts=3)
    for model in succeeding + failing:
        court.note(model, OK if model in succeeding else FAILED, 1)
    now = Escape(4, 300).play(court, "a")
    assert of(court.decide(now)) == (pending("a") if due else NOTHING)


def test_nobody_is_unserved_where_no_other_model_was_asked() -> None:
    court = Court("abc", timeouts=3)
    now = Escape(4, 300).play(court, *"abc")
    assert of(court.decide(now)) == NOTHING
    assert of(court.decide(now + 60)) == NOTHING


@pytest.mark.parametrize(("escaping", "together"), [(3, False), (4, True)])
def test_not_more_than_so_many_escape_at_once(escaping: int, together: bool) -> None:
    court = Court(LETTERS[:20], timeouts=3)
    bad = LETTERS[:escaping]
    for model in LETTERS[escaping:20]:
        court.note(model, OK, 1)
    now = Escape(4, 300).play(court, *bad)
    assert of(court.decide(now)) == (held(*bad) if together else pending(*bad))
    assert {court.standing(model).hindered for model in bad} == {3 if together else 4}


# Who is lost with whom.


@pytest.mark.parametrize(
    ("members", "together"),
    [(1, 1), (2, 2), (3, 3), (4, 3), (30, 3), (31, 4), (50, 5), (95, 10), (100, 10), (101, 10), (5000, 10)],
)
@pytest.mark.parametrize("enough", [True, False])
def test_a_tenth_but_three_to_ten_are_not_lost_by_chance(members: int, together: int, enough: bool) -> None:
    lost = together if enough else together - 1
    court = Court(map(str, range(members)))
    for model in range(lost):
        court.judge.note_loss(court.record(str(model)), stood=9, peaceful=False, now=model)
    if lost:
        give_up(court, "0", 30)
        assert of(court.decide(30)) == (held("0") if enough else pending("0"))


@pytest.mark.parametrize(("seconds", "together"), [(60, True), (60.1, False)])
def test_only_what_is_lost_within_a_minute_is_lost_together(seconds: float, together: bool) -> None:
    court = Court(LETTERS[:10])
    for model in "bc":
        court.judge.note_loss(court.record(model), stood=9, peaceful=False, now=100 - seconds)
        court.judge.note_setup(court.record(model), created=False, now=101 - seconds)  # which is back
    lose(court, "a", 100)
    assert of(court.decide(100)) == (held("a") if together else pending("a"))


def test_who_is_gone_in_peace_is_not_lost() -> None:
    court = Court(LETTERS[:10])
    for model in "bcdef":
        court.judge.note_loss(court.record(model), stood=1000, peaceful=True, now=0)
    lose(court, "a", 0)
    assert of(court.decide(0)) == pending("a")


PLACES = [
    (["10.1.2.3"] * 3, True),
    (["10.1.2.3", "10.1.2.4", "10.1.2.250"], True),
    (["10.1.2.3", "10.1.2.4", "10.1.3.3"], False),
    (["10.1.2.3", "10.1.2.4"], False),
    (["node.example"] * 3, True),
    (["one.example", "two.example", "three.example"], False),
    (["2001:db8::1"] * 3, True),
    (["2001:db8::1", "2001:db8::2", "2001:db8::3"], False),
]


@pytest.mark.parametrize(("hosts", "together"), PLACES)
@pytest.mark.parametrize(("stood", "gateway"), [(60.0, False), (59.9, False), (60.0, True)])
def test_three_at_one_place_are_lost_with_their_place(
    hosts: list[str], together: bool, stood: float, gateway: bool
) -> None:
    court = Court(map(str, range(100)), gateway=gateway)
    for number, host in enumerate(hosts):
        court.record(str(number)).host = host
        court.judge.note_loss(court.record(str(number)), stood=stood, peaceful=False, now=0)
    give_up(court, "0", 30)
    place_counts = together and stood >= 60 and not gateway
    assert of(court.decide(30)) == (held("0") if place_counts else pending("0"))


@pytest.mark.parametrize("require_witness", [True, False])
def test_the_only_model_is_lost_with_all_others(require_witness: bool) -> None:
    court = Court("a", require_witness=require_witness)
    lose(court, "a", 0)
    assert of(court.decide(0)) == (held("a") if require_witness else pending("a"))


def test_a_loss_is_noted_once_until_the_model_is_back() -> None:
    court = Court("ab")
    record = court.record("a")
    court.judge.note_loss(record, stood=70, peaceful=False, now=5)
    court.judge.note_failed_attempt(record, began=6, now=7)
    court.judge.note_loss(record, stood=1, peaceful=False, now=8)
    assert (record.lost_at, record.stood, record.tried_at) == (5, 70, 6)
    court.judge.note_setup(record, created=False, now=9)
    court.judge.note_loss(record, stood=1, peaceful=False, now=10)
    assert (record.lost_at, record.stood) == (10, 1)


def test_who_was_never_connected_is_lost_with_its_first_attempt() -> None:
    court = Court()
    record = court.record("a")
    court.judge.note_failed_attempt(record, began=6, now=16)
    court.judge.note_failed_attempt(record, began=18, now=28)
    assert (record.lost_at, record.stood, record.tried_at) == (6, 0, 18)


def test_nobody_is_lost_in_an_empty_crowd() -> None:
    crowd = Crowd([], 0, Health())
    assert crowd.lost_by_chance == 0
    assert not crowd.most_have("predict")
