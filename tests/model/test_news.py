"""A success that is no news may be left out: reports and counts are the same as if it had been noted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.config import Health
from trio_model_runner.model.policy import Decision, Outcome, PendingReport, PendingReports, Record

NAMES = ["predict", "tick"]
OUTCOMES = [
    Outcome.SUCCEEDED,
    Outcome.SUCCEEDED,
    Outcome.MODEL_FAILED,
    Outcome.OVERRAN,
    Outcome.BAD_IMPLEMENTATION,
    Outcome.SETUP_UNANSWERED,
    Outcome.NOT_ITS_FAULT,
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(OUTCOMES),
        st.sampled_from(NAMES),
        st.sampled_from([0, 1, 70]),
    ),
    max_size=40,
)


class Bookkeeping:
    """Records and reports of three models, as a cluster keeps them."""

    def __init__(self) -> None:
        self.records = {model: Record(1, 1) for model in "abc"}
        self.reports: PendingReports[str] = PendingReports(Health())

    def note(self, model: str, outcome: Outcome, name: str, now: float) -> None:
        consequence = self.records[model].note(outcome, name)
        if consequence.proves:
            self.reports.prove(name, model, now)
            self.reports.note_success(model, name)
        elif consequence.report is not None:
            lacking = name if consequence.lacks else None
            self.reports.add(PendingReport(model, consequence.report, "why", now, lacking))

    def counts(self) -> list[tuple[int, int, int]]:
        records = self.records.values()
        return [(record.failures, record.timeouts, record.sitting_out) for record in records]

    def decide(self, now: float) -> tuple[Decision[str], int]:
        return self.reports.due(now, 10), len(self.reports)


@settings(deadline=None, max_examples=200)
@given(STEPS)
def test_to_leave_out_what_is_no_news_changes_nothing(steps: list[tuple[str, Outcome, str, int]]) -> None:
    thorough, brief = Bookkeeping(), Bookkeeping()
    now = 0
    for model, outcome, name, seconds in steps:
        now += seconds
        thorough.note(model, outcome, name, now)
        if (outcome, name) not in brief.records[model].no_news:
            brief.note(model, outcome, name, now)
        assert brief.counts() == thorough.counts()
        assert brief.decide(now) == thorough.decide(now)


def test_what_is_news() -> None:
    record = Record(None, None)
    record.note(Outcome.SUCCEEDED, "tick")
    record.note(Outcome.SUCCEEDED, "predict")
    assert record.no_news == {(Outcome.SUCCEEDED, "tick"), (Outcome.SUCCEEDED, "predict")}
    record.note(Outcome.NOT_ITS_FAULT, "predict")
    assert record.no_news == set()
    record.note(Outcome.SUCCEEDED, "tick")
    record.clear()
    assert record.no_news == set()
