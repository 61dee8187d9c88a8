"""The short way of a success in `ModelActor.note` leaves everything as the judge's long way does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import attrs
import trio
from helpers.court import Court
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_model_runner.model.actor import ModelActor
from trio_model_runner.model.conduct import Conduct
from trio_model_runner.model.handle import ModelRunner
from trio_model_runner.model.policy import Outcome, Overrun, RoundEvidence, Standing

MODELS = "abc"
METHODS = ["predict", "tick"]
OUTCOMES = [
    *[Outcome.SUCCEEDED] * 6,
    Outcome.MODEL_FAILED,
    Outcome.OVERRAN,
    Outcome.BAD_IMPLEMENTATION,
    Outcome.CONNECTION_LOST,
    Outcome.UNREACHABLE,
    Outcome.NOT_ITS_FAULT,
    Outcome.SITTING_OUT,
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(MODELS),
        st.sampled_from(OUTCOMES),
        st.sampled_from(METHODS),
        st.sampled_from([0.1, 1, 70, 500]),
        st.sampled_from(["call", "call", "call", "close", "begin anew", "set up"]),
    ),
    max_size=40,
)


class Books:
    """What a judge knows of three models, in whose rounds each is asked once."""

    def __init__(self, *, short: bool) -> None:
        self.court = Court(MODELS, failures=1, timeouts=1)
        self.judge = self.court.judge
        self.short_ways = 0
        self._short = short
        self._rounds: dict[str, tuple[RoundEvidence, set[str]]] = {}
        self._conducts: dict[str, Conduct] = {}
        for model in MODELS:
            runner = cast("ModelRunner", SimpleNamespace(model_id=model))
            self._conducts[model] = Conduct(runner, f"10.1.{ord(model)}.1", self.judge)
            self.court.records[model] = self._conducts[model].record

    def evidence_for(self, model: str, method: str) -> RoundEvidence:
        evidence, asked = self._rounds.get(method, (None, set[str]()))
        if evidence is None or model in asked:
            self.close(method)
            evidence, asked = RoundEvidence(self.judge.form(method, ()), trio.current_time()), set()
            self._rounds[method] = evidence, asked
        asked.add(model)
        return evidence

    def close(self, method: str) -> None:
        if method in self._rounds:
            self.judge.close(self._rounds.pop(method)[0])

    def note(self, model: str, outcome: Outcome, method: str) -> None:
        evidence, conduct = self.evidence_for(model, method), self._conducts[model]
        overrun = None
        if outcome is Outcome.OVERRAN:
            now = trio.current_time()
            overrun = Overrun(method, now, now, 1.0, counts_from=now, way_was_good=True)
        if self._short:
            told = Told(conduct)
            actor: Any = SimpleNamespace(conduct=told)
            ModelActor.note(actor, evidence, outcome, "why", overrun)
            self.short_ways += not told.calls
        else:
            conduct.note_call(evidence, outcome, "why", overrun)

    def state(self) -> list[Any]:
        """All that the short way has to keep up; which of several witnesses is named does not matter."""
        reports = [{**row, "witness": row["witness"] is not None} for row in self.judge.reports.rows()]
        standings = {
            (model, method): attrs.asdict(standing, recurse=False)
            | {"witness": bool(standing.witness), "cleared": None}  # what was cleared had no counts
            for model, conduct in self._conducts.items()
            for method, standing in conduct.record.standings.items()
        }
        forms = {key: (form.latest, form.before) for key, form in self.judge.forms.items()}
        rounds = {
            method: [evidence.answered, len(evidence.waiting)]
            + [bool(evidence.witness_for(model)) for model in MODELS if model not in asked]
            for method, (evidence, asked) in self._rounds.items()
        }
        return [reports, standings, forms, rounds]


class Told:
    """A model's conduct, which notes whether it was told of a call, the long way."""

    def __init__(self, conduct: Conduct) -> None:
        self.record = conduct.record
        self.calls = 0
        self._conduct = conduct

    def note_call(self, *what: Any) -> None:
        self.calls += 1
        self._conduct.note_call(*what)


def decisions_of(books: Books) -> list[Any]:
    decision = books.judge.reports.decide(trio.current_time(), 10)
    return [
        [(report.record.model_id, report.code, report.method) for report in reports]
        for reports in (decision.released, decision.held, decision.pending, decision.to_confirm)
    ]


async def keep_both(steps: list[tuple[str, Outcome, str, float, str]], clock: MockClock) -> None:
    long, short = Books(short=False), Books(short=True)
    for model, outcome, method, seconds, what in steps:
        clock.jump(seconds)
        for books in (long, short):
            match what:
                case "call":
                    books.note(model, outcome, method)
                case "close":
                    books.close(method)
                case "begin anew":
                    books.judge.begin_anew(books.court.record(model))
                case _:
                    books.judge.note_setup(books.court.record(model), created=True, now=trio.current_time())
        assert short.state() == long.state()
        assert decisions_of(short) == decisions_of(long)


@settings(deadline=None, max_examples=200)
@given(STEPS)
def test_the_short_way_changes_nothing(steps: list[tuple[str, Outcome, str, float, str]]) -> None:
    clock = MockClock()
    trio.run(keep_both, steps, clock, clock=clock)


async def test_the_short_way_keeps_up_what_others_need(mock_clock: MockClock) -> None:
    books = Books(short=True)
    for model in "ab":
        books.note(model, Outcome.SUCCEEDED, "tick")
    assert books.short_ways == 0  # the first one is news
    mock_clock.jump(5)
    evidence = books.evidence_for("c", "tick")
    form = evidence.form
    assert (form.latest, form.before) == (("b", True), ("a", True))
    books.note("a", Outcome.SUCCEEDED, "tick")
    assert books.short_ways == 1
    assert books.court.standing("a", "tick").succeeded_at == trio.current_time()
    assert (form.latest, form.before) == (("a", True), ("b", True))
    books.note("b", Outcome.SUCCEEDED, "tick")
    books.note("b", Outcome.SUCCEEDED, "tick")  # in the next round: itself is not before itself
    assert books.short_ways == 3
    assert (form.latest, form.before) == (("b", True), ("a", True))


async def test_a_success_by_the_short_way_is_a_witness(mock_clock: MockClock) -> None:
    books = Books(short=True)
    books.note("a", Outcome.SUCCEEDED, "tick")
    mock_clock.jump(5)
    books.note("a", Outcome.SUCCEEDED, "tick")
    assert books.short_ways == 1
    books.note("b", Outcome.MODEL_FAILED, "tick")
    assert (books.court.standing("b", "tick").failures, books.court.standing("b", "tick").witness) == (1, "a")


async def test_a_success_that_something_waits_for_takes_the_long_way(mock_clock: MockClock) -> None:
    books = Books(short=True)
    books.note("a", Outcome.SUCCEEDED, "tick")
    books.close("tick")
    mock_clock.jump(5)
    books.note("b", Outcome.MODEL_FAILED, "tick")
    assert books.court.standing("b", "tick").failures == 0
    books.note("a", Outcome.SUCCEEDED, "tick")
    assert books.short_ways == 0
    assert books.court.standing("b", "tick").failures == 1


async def test_what_is_no_news(mock_clock: MockClock) -> None:
    books = Books(short=True)
    record = books.court.record("a")

    def no_news() -> list[Standing]:
        return [*record.no_news.values()]

    for method in METHODS:
        books.note("a", Outcome.SUCCEEDED, method)
    assert no_news() == [record.standing(method) for method in METHODS]
    books.note("a", Outcome.NOT_ITS_FAULT, "predict")
    assert no_news() == [record.standing("tick")]
    books.note("a", Outcome.SUCCEEDED, "predict")
    books.judge.begin_anew(record)
    assert no_news() == []


async def test_a_window_that_counts_makes_the_next_success_news(mock_clock: MockClock) -> None:
    books = Books(short=True)
    for model in "ab":
        books.note(model, Outcome.SUCCEEDED, "predict")
    record, now = books.court.record("a"), trio.current_time()
    record.overrun = overrun = Overrun("predict", now, now, 2.0, counts_from=now)
    overrun.open_window(now, now + 2)
    books.judge.note_still_busy(record, overrun, seen_at=now + 2, now=now + 2)
    assert record.standing("predict").timeouts == 1
    mock_clock.jump(3)
    books.note("a", Outcome.SUCCEEDED, "predict")
    assert record.standing("predict").timeouts == 0
