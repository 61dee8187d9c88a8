"""Reports that wait: when they are released, when they are held, and what withdraws them."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.config import Health
from trio_model_runner.model.policy import PendingReport, PendingReports
from trio_model_runner.values.failure_codes import FailureCode


def report(model: str, at: float, name: str | None = None) -> PendingReport[str]:
    code = FailureCode.MULTIPLE_FAILED if name is None else FailureCode.BAD_IMPLEMENTATION
    return PendingReport(model, code, f"{model} at {at}", at, name)


def pending(*given: PendingReport[str]) -> PendingReports[str]:
    reports: PendingReports[str] = PendingReports(Health())
    for each in given:
        reports.add(each)
    return reports


def test_a_report_waits_for_a_minute() -> None:
    reports = pending(report("a", 10))
    assert reports.due(10, 10).released == ()
    assert reports.next_due(10, 10) == 70
    assert reports.due(69.9, 10).released == ()
    assert len(reports) == 1
    assert reports.due(70, 10).released == (report("a", 10),)
    assert len(reports) == 0
    assert reports.due(80, 10).released == ()
    assert reports.next_due(80, 10) is None


def test_nothing_to_ask_for_without_reports() -> None:
    reports: PendingReports[str] = PendingReports(Health())
    assert reports.next_due(0, 10) is None
    assert reports.due(0, 0) == reports.due(0, 10)


@pytest.mark.parametrize(("members", "reported"), [(3, 2), (4, 2), (5, 3), (10, 5), (11, 6)])
def test_half_of_three_or_more_are_a_mass(members: int, reported: int) -> None:
    few = pending(*(report(str(index), index) for index in range(reported - 1)))
    assert few.due(reported, members).held == ()
    assert len(few.due(100, members).released) == reported - 1

    many = pending(*(report(str(index), index) for index in range(reported)))
    decision = many.due(reported, members)
    assert len(decision.held) == reported
    assert decision.released == ()
    assert (many.held, len(many)) == (reported, 0)
    assert many.due(100, members).released == ()


@pytest.mark.parametrize("members", [1, 2])
def test_of_two_members_each_is_reported_at_once(members: int) -> None:
    reports = pending(*(report(str(index), 5) for index in range(members)))
    assert len(reports.due(5, members).released) == members
    assert reports.next_due(5, members) is None


def test_who_joins_a_mass_within_a_minute_is_held_with_it() -> None:
    reports = pending(report("a", 0), report("b", 30))
    assert len(reports.due(30, 4).held) == 2
    reports.add(report("c", 60))
    assert reports.due(60, 4).held == (report("c", 60),)


def test_who_comes_after_a_mass_is_no_part_of_it() -> None:
    reports = pending(*(report(name, 0) for name in "abcde"))
    assert len(reports.due(0, 10).held) == 5
    reports.add(report("f", 100))
    assert reports.due(100, 10).held == ()
    assert reports.due(160, 10).released == (report("f", 100),)


def test_a_mass_is_seen_over_the_edges_of_minutes() -> None:
    reports = pending(report("a", 0))
    assert reports.due(59, 4).released == ()
    reports.add(report("b", 60))
    assert {each.model for each in reports.due(60, 4).held} == {"a", "b"}


def test_a_model_counts_once_however_often_it_is_to_be_reported() -> None:
    reports = pending(*(report("a", at) for at in range(5)))
    assert reports.due(60, 4).released == (report("a", 0),)


def test_a_success_withdraws_a_report() -> None:
    reports = pending(report("a", 0))
    reports.note_success("a", "tick")
    reports.note_success("unknown", "tick")
    assert len(reports) == 0
    assert reports.due(100, 10).released == ()


def test_whose_report_was_withdrawn_is_no_part_of_a_mass() -> None:
    reports = pending(report("a", 0), report("b", 0))
    reports.withdraw("a")
    assert reports.due(1, 4).held == ()
    assert reports.due(60, 4).released == (report("b", 0),)


def test_what_no_other_model_has_is_a_typo_and_never_reported() -> None:
    reports = pending(*(report(model, 0, "prdict") for model in "abc"))
    assert reports.due(1000, 3) == reports.due(1000, 100) == reports.due(1000, 1)
    assert reports.held == 0
    reports.prove("prdict", "a", 1000)
    assert not reports.proved("prdict", "a")
    reports.withdraw("b")
    reports.withdraw("c")
    assert reports.due(2000, 10).released == ()


def test_what_another_model_has_is_missing_in_this_one() -> None:
    reports = pending(report("a", 0, "predict"))
    assert reports.prove("predict", "b", 5)
    assert not reports.prove("predict", "b", 6)
    assert reports.proved("predict", "a")
    assert reports.due(64, 10).released == ()
    (released,) = reports.due(65, 10).released
    assert (released.model, released.code) == ("a", FailureCode.BAD_IMPLEMENTATION)


def test_a_late_proof_does_not_let_a_mass_through() -> None:
    reports = pending(*(report(model, 0, "predict") for model in "abcde"))
    reports.due(500, 6)
    reports.prove("predict", "f", 500)
    decision = reports.due(500, 6)
    assert len(decision.held) == 5
    assert decision.released == ()


def test_success_with_another_method_is_no_answer_to_a_missing_one() -> None:
    reports = pending(report("a", 0, "predict"))
    reports.prove("predict", "b", 0)
    reports.note_success("a", "tick")
    assert reports.due(60, 10).released == (report("a", 0, "predict"),)

    reports.add(report("a", 70, "predict"))
    reports.note_success("a", "predict")
    assert reports.due(130, 10).released == ()


def test_an_unproved_report_gives_way_to_another() -> None:
    reports = pending(report("a", 0, "prdict"), report("a", 5))
    assert reports.due(65, 10).released == (report("a", 5),)


MODELS = [*"abcdef"]
STEPS = st.lists(
    st.tuples(
        st.floats(0, 40),
        st.one_of(
            st.tuples(st.just("give"), st.sampled_from(MODELS), st.sampled_from([None, "x", "y"])),
            st.tuples(st.just("succeed"), st.sampled_from(MODELS), st.sampled_from(["x", "y"])),
            st.tuples(st.just("withdraw"), st.sampled_from(MODELS), st.none()),
        ),
    ),
    max_size=40,
)


class History:
    """The same rules told once more, over everything that happened instead of by bookkeeping."""

    def __init__(self) -> None:
        self.has: set[tuple[str, str]] = set()
        self.waiting: dict[str, PendingReport[str]] = {}
        self.given_at: dict[str, float] = {}

    def stands(self, each: PendingReport[str]) -> bool:
        return each.lacking is None or any(
            name == each.lacking and model != each.model for model, name in self.has
        )

    def give(self, each: PendingReport[str]) -> None:
        if each.model not in self.waiting or not self.stands(self.waiting[each.model]):
            self.waiting[each.model] = each
            self.given_at[each.model] = each.at

    def succeed(self, model: str, name: str, now: float) -> None:
        unproved = [each for each in self.waiting.values() if not self.stands(each)]
        self.has.add((model, name))
        for each in unproved:
            if self.stands(each):
                self.waiting[each.model] = attrs.evolve(each, at=now)
                self.given_at[each.model] = now
        if model in self.waiting and self.waiting[model].lacking in (None, name):
            self.withdraw(model)

    def withdraw(self, model: str) -> None:
        self.waiting.pop(model, None)
        self.given_at.pop(model, None)

    def mass(self, members: int) -> set[str]:
        unproved = {model for model, each in self.waiting.items() if not self.stands(each)}
        counted = {model: at for model, at in self.given_at.items() if model not in unproved}
        mass: set[str] = set()
        for start in counted.values():
            together = {model for model, at in counted.items() if start <= at <= start + 60}
            if members >= 3 and 2 * len(together) >= members:
                mass |= together
        return mass

    def judge(self, now: float, members: int) -> tuple[set[str], set[str]]:
        mass = self.mass(members)
        standing = [each for each in self.waiting.values() if self.stands(each)]
        held = {each.model for each in standing if each.model in mass}
        due = {each.model for each in standing if members < 3 or each.at + 60 <= now} - held
        for model in held | due:
            del self.waiting[model]
        return due, held


@given(STEPS, st.integers(1, 9))
def test_what_is_released_waited_a_minute_with_its_proof_and_without_a_mass(
    steps: list[tuple[float, tuple[str, str, str | None]]], members: int
) -> None:
    reports, history, now = pending(), History(), 0.0
    for delay, (step, model, name) in steps:
        now += delay
        if step == "give":
            reports.add(report(model, now, name))
            history.give(report(model, now, name))
        elif name is not None:
            reports.prove(name, model, now)
            reports.note_success(model, name)
            history.succeed(model, name, now)
        else:
            reports.withdraw(model)
            history.withdraw(model)
        decision = reports.due(now, members)
        released = {each.model for each in decision.released}
        assert (released, {each.model for each in decision.held}) == history.judge(now, members)
        assert len(reports) == len(history.waiting)
        next_due = reports.next_due(now, members)
        assert next_due is None or next_due > now
