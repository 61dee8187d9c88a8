"""Failures and missing methods once more: the rules retold over a whole history, beside the judge's books."""

from __future__ import annotations

import attrs
from helpers.court import Court
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.model.policy import Outcome
from trio_model_runner.values.failure_codes import FailureCode

FAILED, MISSING, OK = Outcome.MODEL_FAILED, Outcome.BAD_IMPLEMENTATION, Outcome.SUCCEEDED

STEPS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 25.0, 60.0]),
        st.sampled_from("abcde"),
        st.sampled_from(["x", "y"]),
        st.sampled_from([FAILED, FAILED, MISSING, OK]),
    ),
    max_size=50,
)


@attrs.define
class Case:
    """A report, as it is told once more: when it was seen to be due, and whether it is held."""

    due_at: float
    seen: bool = False
    held: bool = False


@attrs.define
class History:
    """The same rules, told once more over everything that happened instead of by bookkeeping."""

    members: int
    limit: int
    happened: list[tuple[float, str, str, Outcome]] = attrs.field(factory=list)
    cases: dict[tuple[str, str, Outcome], Case] = attrs.field(factory=dict)
    forgiven: dict[tuple[str, str], int] = attrs.field(factory=dict)

    def note(self, now: float, model: str, method: str, outcome: Outcome) -> None:
        self.happened.append((now, model, method, outcome))
        key = (model, method, outcome)
        if outcome is OK:
            self.cases.pop((model, method, FAILED), None)
            self.cases.pop((model, method, MISSING), None)
            self.forgiven.pop((model, method), None)
        elif (outcome is MISSING or self.failures(model, method) > self.limit) and (
            key not in self.cases or self.cases[key].held
        ):
            self.cases[key] = Case(now)

    def since_success(self, model: str, method: str) -> list[tuple[float, Outcome]]:
        found: list[tuple[float, Outcome]] = []
        for at, *who, outcome in self.happened:
            if who == [model, method]:
                found = [] if outcome is OK else [*found, (at, outcome)]
        return found

    def failures(self, model: str, method: str) -> int:
        failures = [at for at, outcome in self.since_success(model, method) if outcome is FAILED]
        return len(failures) - self.forgiven.get((model, method), 0)

    def has(self, method: str) -> bool:
        models = {model for _, model, name, _ in self.happened if name == method}
        have = {model for _, model, name, outcome in self.happened if (name, outcome) == (method, OK)}
        lack = {
            model
            for model in models
            if any(outcome is MISSING for _, outcome in self.since_success(model, method))
        }
        return len(have - lack) > len(lack)

    def is_crowd(self, method: str, since: float) -> bool:
        later = [(who, what) for at, who, name, what in self.happened if name == method and at >= since]
        asked = {who for who, _ in later}
        fails = {who for who in asked if (found := self.since_success(who, method)) and found[0][0] <= since}
        bad = len(asked) - len({who for who, what in later if what is OK} - fails)
        return 2 * bad >= len(asked) and bad >= min(3, self.members)

    def decide(self, now: float) -> list[set[tuple[str, str, Outcome]]]:
        gone, kept, waits = (set[tuple[str, str, Outcome]]() for _ in range(3))
        for key, case in [*self.cases.items()]:
            model, method, outcome = key
            if case.held:
                continue
            if outcome is MISSING and not self.has(method):
                case.seen, case.due_at = False, float("inf")
                continue
            if case.due_at == float("inf"):
                case.due_at = now
            if case.seen and now < case.due_at + 60:
                continue
            first_at = self.since_success(model, method)[0][0]
            if self.is_crowd(method, first_at):
                case.held = True
                kept.add(key)
                if outcome is FAILED:
                    over = self.failures(model, method) - self.limit
                    self.forgiven[model, method] = self.forgiven.get((model, method), 0) + max(0, over)
            elif case.seen:
                del self.cases[key]
                gone.add(key)
            else:
                case.seen = True
                waits.add(key)
        return [gone, kept, waits]


@settings(deadline=None)
@given(STEPS, st.integers(0, 2), st.integers(5, 9))
def test_what_is_released_waited_a_minute_alone_and_with_its_proof(
    steps: list[tuple[float, str, str, Outcome]], limit: int, members: int
) -> None:
    court, history, now = Court("abcde", failures=limit, members=members), History(members, limit), 0.0
    for delay, model, method, outcome in steps:
        now += delay
        court.note(model, outcome, now, method)
        history.note(now, model, method, outcome)
        decision = court.decide(now)
        found = [
            {
                (
                    report.record.model_id,
                    report.method,
                    MISSING if report.code is FailureCode.BAD_IMPLEMENTATION else FAILED,
                )
                for report in reports
            }
            for reports in (decision.released, decision.held, decision.pending)
        ]
        assert found == history.decide(now)
        assert len([*court.judge.reports]) == len(history.cases)
        assert court.standing(model, method).failures == history.failures(model, method)
        next_at = court.judge.reports.next_decision(now)
        assert next_at is None or next_at > now
