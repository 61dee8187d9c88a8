"""When a failure is reported, and when it is held: for a minute at first, and while many fail at once."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.cluster.verdicts import Verdict, Verdicts
from trio_model_runner.config import Health
from trio_model_runner.values.failure_codes import FailureCode


def verdict(model: str, at: float, name: str | None = None) -> Verdict[str]:
    code = FailureCode.MULTIPLE_FAILED if name is None else FailureCode.BAD_IMPLEMENTATION
    return Verdict(model, code, f"{model} at {at}", at, name)


def verdicts_of(*given: Verdict[str]) -> Verdicts[str]:
    verdicts: Verdicts[str] = Verdicts(Health())
    for each in given:
        verdicts.give(each)
    return verdicts


def test_a_verdict_is_held_for_a_minute() -> None:
    verdicts = verdicts_of(verdict("a", 10))
    assert verdicts.due(10, 10).released == ()
    assert verdicts.next_due(10, 10) == 70
    assert verdicts.due(69.9, 10).released == ()
    assert verdicts.pending == 1
    assert verdicts.due(70, 10).released == (verdict("a", 10),)
    assert verdicts.pending == 0
    assert verdicts.due(80, 10).released == ()
    assert verdicts.next_due(80, 10) is None


def test_nothing_to_ask_for_without_verdicts() -> None:
    verdicts: Verdicts[str] = Verdicts(Health())
    assert verdicts.next_due(0, 10) is None
    assert verdicts.due(0, 0) == verdicts.due(0, 10)


@pytest.mark.parametrize(("members", "accused"), [(3, 2), (4, 2), (5, 3), (10, 5), (11, 6)])
def test_half_of_three_or_more_are_a_mass(members: int, accused: int) -> None:
    few = verdicts_of(*(verdict(str(index), index) for index in range(accused - 1)))
    assert few.due(accused, members).held == ()
    assert len(few.due(100, members).released) == accused - 1

    many = verdicts_of(*(verdict(str(index), index) for index in range(accused)))
    judgement = many.due(accused, members)
    assert len(judgement.held) == accused
    assert judgement.released == ()
    assert (many.held, many.pending) == (accused, 0)
    assert many.due(100, members).released == ()


@pytest.mark.parametrize("members", [1, 2])
def test_of_two_members_each_is_reported_at_once(members: int) -> None:
    verdicts = verdicts_of(*(verdict(str(index), 5) for index in range(members)))
    assert len(verdicts.due(5, members).released) == members
    assert verdicts.next_due(5, members) is None


def test_who_joins_a_mass_within_a_minute_is_held_with_it() -> None:
    verdicts = verdicts_of(verdict("a", 0), verdict("b", 30))
    assert len(verdicts.due(30, 4).held) == 2
    verdicts.give(verdict("c", 60))
    assert verdicts.due(60, 4).held == (verdict("c", 60),)


def test_who_comes_after_a_mass_is_no_part_of_it() -> None:
    verdicts = verdicts_of(*(verdict(name, 0) for name in "abcde"))
    assert len(verdicts.due(0, 10).held) == 5
    verdicts.give(verdict("f", 100))
    assert verdicts.due(100, 10).held == ()
    assert verdicts.due(160, 10).released == (verdict("f", 100),)


def test_a_mass_is_seen_over_the_edges_of_minutes() -> None:
    verdicts = verdicts_of(verdict("a", 0))
    assert verdicts.due(59, 4).released == ()
    verdicts.give(verdict("b", 60))
    assert {each.model for each in verdicts.due(60, 4).held} == {"a", "b"}


def test_a_model_counts_once_however_often_it_is_accused() -> None:
    verdicts = verdicts_of(*(verdict("a", at) for at in range(5)))
    assert verdicts.due(60, 4).released == (verdict("a", 0),)


def test_a_success_acquits() -> None:
    verdicts = verdicts_of(verdict("a", 0))
    verdicts.acquit("a", "tick")
    verdicts.acquit("unknown", "tick")
    assert verdicts.pending == 0
    assert verdicts.due(100, 10).released == ()


def test_who_was_acquitted_is_no_part_of_a_mass() -> None:
    verdicts = verdicts_of(verdict("a", 0), verdict("b", 0))
    verdicts.withdraw("a")
    assert verdicts.due(1, 4).held == ()
    assert verdicts.due(60, 4).released == (verdict("b", 0),)


def test_what_no_other_model_has_is_a_typo_and_never_reported() -> None:
    verdicts = verdicts_of(*(verdict(model, 0, "prdict") for model in "abc"))
    assert verdicts.due(1000, 3) == verdicts.due(1000, 100) == verdicts.due(1000, 1)
    assert verdicts.held == 0
    verdicts.prove("prdict", "a", 1000)
    assert not verdicts.proved("prdict", "a")
    verdicts.withdraw("b")
    verdicts.withdraw("c")
    assert verdicts.due(2000, 10).released == ()


def test_what_another_model_has_is_missing_in_this_one() -> None:
    verdicts = verdicts_of(verdict("a", 0, "predict"))
    assert verdicts.prove("predict", "b", 5)
    assert not verdicts.prove("predict", "b", 6)
    assert verdicts.proved("predict", "a")
    assert verdicts.due(64, 10).released == ()
    (released,) = verdicts.due(65, 10).released
    assert (released.model, released.code) == ("a", FailureCode.BAD_IMPLEMENTATION)


def test_a_late_proof_does_not_let_a_mass_through() -> None:
    verdicts = verdicts_of(*(verdict(model, 0, "predict") for model in "abcde"))
    verdicts.due(500, 6)
    verdicts.prove("predict", "f", 500)
    judgement = verdicts.due(500, 6)
    assert len(judgement.held) == 5
    assert judgement.released == ()


def test_success_with_another_method_is_no_answer_to_a_missing_one() -> None:
    verdicts = verdicts_of(verdict("a", 0, "predict"))
    verdicts.prove("predict", "b", 0)
    verdicts.acquit("a", "tick")
    assert verdicts.due(60, 10).released == (verdict("a", 0, "predict"),)

    verdicts.give(verdict("a", 70, "predict"))
    verdicts.acquit("a", "predict")
    assert verdicts.due(130, 10).released == ()


def test_an_unproved_verdict_gives_way_to_another() -> None:
    verdicts = verdicts_of(verdict("a", 0, "prdict"), verdict("a", 5))
    assert verdicts.due(65, 10).released == (verdict("a", 5),)


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
        self.waiting: dict[str, Verdict[str]] = {}
        self.given_at: dict[str, float] = {}

    def stands(self, each: Verdict[str]) -> bool:
        return each.name is None or any(name == each.name and model != each.model for model, name in self.has)

    def give(self, each: Verdict[str]) -> None:
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
        if model in self.waiting and self.waiting[model].name in (None, name):
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
def test_what_is_released_was_held_a_minute_with_its_proof_and_without_a_mass(
    steps: list[tuple[float, tuple[str, str, str | None]]], members: int
) -> None:
    verdicts, history, now = verdicts_of(), History(), 0.0
    for delay, (step, model, name) in steps:
        now += delay
        if step == "give":
            verdicts.give(verdict(model, now, name))
            history.give(verdict(model, now, name))
        elif name is not None:
            verdicts.prove(name, model, now)
            verdicts.acquit(model, name)
            history.succeed(model, name, now)
        else:
            verdicts.withdraw(model)
            history.withdraw(model)
        judgement = verdicts.due(now, members)
        released = {each.model for each in judgement.released}
        assert (released, {each.model for each in judgement.held}) == history.judge(now, members)
        assert verdicts.pending == len(history.waiting)
        next_due = verdicts.next_due(now, members)
        assert next_due is None or next_due > now
