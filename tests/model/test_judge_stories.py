"""Stories that are told to the judge and to a plain model of the rules: both must report the same.

The table has a row for each clause of the rules (DESIGN.md, section 3, items 7 and 8), with the smallest
story that needs it. Most rows are compared with the plain model, too; so are random stories.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pytest
from helpers.plain_facts import (
    Admitted,
    AttemptFailed,
    BegunAnew,
    Closed,
    Dismissed,
    Ended,
    Fact,
    GaveUp,
    LaterCall,
    Lost,
    MembersAsked,
    Reported,
    SeenBusy,
    SetUp,
    Through,
    WayKnown,
)
from helpers.plain_judge import PlainJudge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_model_runner.config import Health
from trio_model_runner.model.policy import (
    RULES,
    SETUP,
    Counts,
    Judge,
    Limits,
    News,
    NewsKind,
    Outcome,
    Overrun,
    PendingReport,
    Record,
    RoundEvidence,
)
from trio_model_runner.values.failure_codes import FailureCode

START = 1000.0
NEXT = 1 / 1024  # seconds between two facts: exact in binary, so that sums have no errors
LIMIT = 3
TIMEOUT = 4.0

OK, RAISES, HANGS = Outcome.SUCCEEDED, Outcome.MODEL_FAILED, Outcome.OVERRAN
WRONG = Outcome.NOT_ITS_FAULT
Row: TypeAlias = "tuple[float, str, str, str]"  # seconds since the start, model, code, about what


class Story:
    """A cluster of models m0, m1 ... whose life is told to the judge and to the plain model.

    Args:
        models: how many.
        hosts: where their nodes are; each on its own network, unless given.
        up: they are all connected, and their instances were made.
    """

    def __init__(
        self,
        models: int = 10,
        *,
        hosts: Mapping[int, str] | None = None,
        gateway: bool = False,
        limits: Limits | None = None,
        up: bool = True,
        health: Health | None = None,
        confirms: bool = True,
        compared: bool = True,
    ) -> None:
        self.now = START
        self.tick = NEXT
        self.news: list[News] = []
        limits = limits or Limits(LIMIT, LIMIT)
        health = health or Health()
        self.judge = Judge(limits=limits, health=health, gateway=gateway, tell=self.news.append)
        self.plain = PlainJudge(limits, health, gateway=gateway)
        self.compared = compared
        self.confirms = confirms
        self.records: dict[str, Record] = {}
        self.calls = itertools.count(1)
        self.rounds: dict[int, RoundEvidence] = {}
        self.shapes: dict[int, int] = {}
        self.running: dict[str, tuple[int, Overrun]] = {}
        self.released: list[Row] = []
        self.held: list[Row] = []
        self.to_confirm: list[PendingReport] = []
        for index in range(models):
            self.admit(f"m{index}", host=(hosts or {}).get(index, f"10.0.{index}.1"))
        if up:
            for name in self.records:
                self.set_up(name, created=True)

    # What is told to both.

    def tell(self, fact: Fact) -> None:
        if self.compared:
            self.plain.tell(fact)

    def pass_by(self, seconds: float | None = None) -> float:
        self.now += self.tick if seconds is None else seconds
        return self.now

    def admit(self, name: str, *, model_id: str | None = None, host: str = "10.9.9.9") -> None:
        self.records[name] = self.judge.admit(name, model_id or name, host)
        self.tell(Admitted(self.pass_by(), name, model_id or name, host))

    def dismiss(self, name: str) -> None:
        self.judge.dismiss(self.records.pop(name))
        self.running.pop(name, None)
        self.tell(Dismissed(self.pass_by(), name))

    def begin_anew(self, name: str) -> None:
        self.judge.begin_anew(self.records[name])
        self.running.pop(name, None)
        self.tell(BegunAnew(self.pass_by(), name))

    def open(self, method: str = "predict", shape: int = 0) -> int:
        """Begin a round."""
        number = next(self.calls)
        self.rounds[number] = RoundEvidence(self.judge.form(method, shape), self.pass_by())
        self.shapes[number] = shape
        return number

    def result(self, number: int, name: str, outcome: Outcome) -> None:
        """A call of a round ends."""
        evidence = self.rounds[number]
        self.end(name, evidence, evidence.form.method, self.shapes[number], number, outcome, evidence.began)

    def end(
        self,
        name: str,
        evidence: RoundEvidence,
        method: str,
        shape: int,
        number: int,
        outcome: Outcome,
        began: float,
    ) -> None:
        record, overrun, call, now = self.records[name], None, next(self.calls), self.now
        if RULES[outcome].counts is Counts.TIMEOUT:
            overrun = Overrun(method, began, now, now - began, now)
            record.overrun = overrun
            self.running[name] = (call, overrun)
        self.judge.note(record, evidence, outcome, began=began, now=now, detail="so", overrun=overrun)
        self.tell(Ended(now, name, method, shape, number, outcome, began, call))

    def close(self, number: int) -> None:
        self.judge.close(self.rounds.pop(number))
        self.tell(Closed(self.pass_by(), "", number))
        self.look()

    def setup_fails(self, name: str, outcome: Outcome = Outcome.SETUP_FAILED, seconds: float = 1) -> None:
        began = self.pass_by()
        self.pass_by(seconds)
        self.end(name, self.judge.setups, SETUP, 0, 0, outcome, began)
        self.look()

    def set_up(self, name: str, *, created: bool = False) -> None:
        self.judge.note_setup(self.records[name], created=created, now=self.pass_by())
        self.tell(SetUp(self.now, name, created))
        self.look()

    def way(self, name: str, *, good: bool = True) -> None:
        call, overrun = self.running[name]
        self.judge.note_way(self.records[name], overrun, good=good, now=self.pass_by())
        self.tell(WayKnown(self.now, name, call, good))
        self.look()

    def later_call(self, name: str, timeout: float = TIMEOUT) -> None:
        call, overrun = self.running[name]
        overrun.open_window(self.pass_by(), self.now + timeout)
        self.tell(LaterCall(self.now, name, call, self.now + timeout))

    def seen_busy(self, name: str) -> None:
        call, overrun = self.running[name]
        self.judge.note_still_busy(self.records[name], overrun, seen_at=self.pass_by(), now=self.now)
        self.tell(SeenBusy(self.now, name, call))
        self.look()

    def through(self, name: str) -> None:
        self.running.pop(name, None)
        self.judge.note_through(self.records[name], self.pass_by())
        self.tell(Through(self.now, name))
        self.look()

    def lose(self, *names: str, stood: float = 600, peaceful: bool = False) -> None:
        for name in names:
            self.judge.note_loss(self.records[name], stood=stood, peaceful=peaceful, now=self.pass_by())
            self.tell(Lost(self.now, name, stood, peaceful))
        self.look()

    def fail_attempt(self, name: str, began: float | None = None) -> None:
        began = self.pass_by() if began is None else began
        self.judge.note_failed_attempt(self.records[name], began=began, now=self.pass_by())
        self.tell(AttemptFailed(self.now, name, began))
        self.look()

    def give_up(self, *names: str, outcome: Outcome = Outcome.UNREACHABLE) -> None:
        for name in names:
            if outcome is Outcome.UNREACHABLE:
                self.fail_attempt(name)
            self.judge.note_giving_up(self.records[name], outcome, now=self.pass_by(), detail="gone")
            self.tell(GaveUp(self.now, name, outcome))
        self.look()

    def members_asked(self, report: PendingReport) -> None:
        self.judge.reports.note_members_asked(report)
        self.tell(MembersAsked(self.pass_by(), str(report.record.key)))

    # What is decided.

    def look(self) -> None:
        """Let both decide, and compare."""
        decision = self.judge.reports.decide(self.now, len(self.records))
        seen = (decision.released, decision.held, decision.pending, decision.to_confirm)
        if self.compared:
            look = self.plain.look(self.now, len(self.records))
            wanted = (look.released, look.held, look.pending, look.to_confirm)
            decided = tuple(map(_titles, seen))
            assert decided == wanted, f"{self.told()}\njudge {decided}\nplain {wanted}"
        for report in decision.released:
            self.released.append(self.row(report))
            self.check_release(report)
            self.judge.reports.note_report(report.record)
            self.tell(Reported(self.now, str(report.record.key)))
        self.held += map(self.row, decision.held)
        self.to_confirm += decision.to_confirm
        for report in decision.to_confirm if self.confirms else ():
            self.pass_by()
            self.members_asked(report)
            self.fail_attempt(str(report.record.key))

    def check_release(self, report: PendingReport) -> None:
        """Whatever the details are: no report of counts without repetition, a witness and a way (a, b, c)."""
        if not self.compared or "MULTIPLE" not in report.code:
            return
        name, method = str(report.record.key), report.method
        kind = Counts.FAILURE if report.code is FailureCode.MULTIPLE_FAILED else Counts.TIMEOUT
        bad, others_succeeded, signs = 0, False, 0
        for fact in self.plain.history:
            good = isinstance(fact, Ended) and fact.method == method and fact.outcome is OK
            good = good or (isinstance(fact, SetUp) and method == SETUP)
            others_succeeded = others_succeeded or (good and fact.name != name)
            if fact.name == name and isinstance(fact, Ended) and fact.method == method:
                bad += RULES[fact.outcome].counts is kind
            elif fact.name == name and isinstance(fact, WayKnown | SeenBusy):
                signs += 1
            bad += fact.name == name and isinstance(fact, LaterCall) and kind is Counts.TIMEOUT
            bad = 0 if good and fact.name == name else bad
        limit = self.plain.limit(method, timeouts=kind is Counts.TIMEOUT)
        assert limit is not None
        assert bad > limit
        assert others_succeeded or not self.plain.health.require_witness
        assert signs or kind is Counts.FAILURE

    def told(self) -> str:
        """The whole story, to be read after a failure."""
        return "\n".join(
            map(
                str,
                [
                    self.plain.limits,
                    self.plain.health,
                    self.plain.gateway,
                    *self.plain.history,
                    f"now {self.now}, {self.judge.reports.rows()}",
                ],
            )
        )

    def row(self, report: PendingReport) -> Row:
        return (round(self.now - START), str(report.record.key), report.code, report.method)

    def wait(self, seconds: float) -> None:
        """Let time pass, and decide whenever the judge wants to."""
        end = self.now + seconds
        while (due := self.judge.reports.next_decision(self.now)) is not None and due <= end:
            self.now = max(due, self.now + NEXT)
            self.look()
        self.now = max(end, self.now)
        self.look()

    # Rounds as they mostly are.

    def round(
        self,
        *names: str,
        method: str = "predict",
        shape: int = 0,
        seconds: float = 1,
        others: Outcome | None = OK,
        way: bool | None = True,
        **outcomes: Outcome,
    ) -> None:
        """A round over these models, or over all. What is not said to be the outcome is `others`.

        If that is None, only those with an outcome are asked.
        """
        number = self.open(method, shape)
        self.pass_by(seconds)
        for name in names or list(self.records):
            outcome = outcomes.get(name, others)
            if outcome is not None:
                self.result(number, name, outcome)
        self.close(number)
        for name, outcome in outcomes.items():
            if outcome is HANGS and way is not None:
                self.way(name, good=way)

    def window(self, name: str, *, method: str = "predict", timeout: float = TIMEOUT) -> None:
        """A round in which a model is still at an earlier call, from end to end; all others succeed."""
        self.later_call(name, timeout)
        self.round(method=method, seconds=timeout / 2, **each(Outcome.STILL_BUSY, name))
        self.pass_by(timeout / 2)
        self.seen_busy(name)

    def reported(self) -> set[str]:
        return {name for _, name, _, _ in self.released}

    def kinds(self) -> list[NewsKind]:
        return [news.kind for news in self.news]


def each(outcome: Outcome, *names: str) -> dict[str, Any]:
    """The same outcome for several models, for `Story.round`."""
    return dict.fromkeys(names, outcome)


def _titles(reports: Iterable[PendingReport]) -> set[tuple[str, FailureCode, str]]:
    return {(str(report.record.key), report.code, report.method) for report in reports}


SEVERAL: dict[str, Any] = {"suppress_health_check": list(HealthCheck), "deadline": None}

# ---- The table: a row for each clause. ----

Play: TypeAlias = "Callable[[], tuple[Story, set[str], set[str]]]"  # who must be reported, who must be held
ROWS: list[Any] = []
NOBODY: set[str] = set()
FAILS_4 = LIMIT + 1


def row(name: str) -> Callable[[Play], Play]:
    """Add a story to the table."""

    def add(play: Play) -> Play:
        ROWS.append(pytest.param(play, id=name))
        return play

    return add


def fails(story: Story, times: int = FAILS_4, outcome: Outcome = RAISES, *names: str) -> Story:
    """One model, or several, fail with `predict` so often, while all others succeed."""
    for _ in range(times):
        story.round(**each(outcome, *(names or ("m0",))))
    return story


def hangs(story: Story, windows: int = LIMIT, *, name: str = "m0", seconds: float = TIMEOUT) -> Story:
    """One model hangs in a `predict`, and then for so many windows."""
    story.round(seconds=seconds, **each(HANGS, name))
    for _ in range(windows):
        story.window(name)
    return story


@row("a: one failure more than the limit is reported after mass_window")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story())
    story.wait(59)
    assert not story.released
    story.wait(1)
    assert [each[1:] for each in story.released] == [("m0", FailureCode.MULTIPLE_FAILED, "predict")]
    return story, {"m0"}, NOBODY


@row("a: the limit itself is not reported")
def _() -> tuple[Story, set[str], set[str]]:
    return fails(Story(), LIMIT), NOBODY, NOBODY


@row("a: failures of two methods are not added up")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story(), LIMIT)
    for _ in range(LIMIT):
        story.round(method="tick", m0=RAISES)
    return story, NOBODY, NOBODY


@row("a: failures and timeouts are not added up")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story(), LIMIT)
    for _ in range(LIMIT):
        story.round(m0=HANGS)
        story.through("m0")
    return story, NOBODY, NOBODY


@row("a: a success of another method does not save it")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    for _ in range(FAILS_4):
        story.round(m0=RAISES)
        story.round(method="tick")
    return story, {"m0"}, NOBODY


@row("a: a success of the method clears failures")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story(), LIMIT)
    story.round()
    return fails(story, LIMIT), NOBODY, NOBODY


@row("a: a success of the method clears timeouts, too")
def _() -> tuple[Story, set[str], set[str]]:
    story = hangs(Story(), LIMIT - 1)
    story.through("m0")
    story.round()
    return hangs(story, LIMIT - 1), NOBODY, NOBODY


@row("a: a success of the method withdraws what is due")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story())
    story.wait(50)
    story.round()
    assert NewsKind.WITHDRAWN in story.kinds()
    return story, NOBODY, NOBODY


@row("a: what began before the last success does not count")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story(), LIMIT)
    number = story.open()
    story.result(number, "m0", RAISES)  # has no witness yet
    story.round()
    story.result(number, "m1", OK)
    story.close(number)
    return story, NOBODY, NOBODY


@row("a: no limit, no report")
def _() -> tuple[Story, set[str], set[str]]:
    return fails(Story(limits=Limits(None, None)), 20), NOBODY, NOBODY


@row("b: no other succeeded: not counted, and one NO_WITNESS")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    for _ in range(6):
        story.round(others=WRONG, m0=RAISES)
    assert story.kinds().count(NewsKind.NO_WITNESS) == 1
    return story, NOBODY, NOBODY


@row("b: a witness counts that succeeded before, or after, in the same round")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(3)
    for turn in range(FAILS_4):
        number = story.open()
        for name in ("m0", "m1") if turn % 2 else ("m1", "m0"):
            story.result(number, name, RAISES if name == "m0" else OK)
        story.close(number)
    return story, {"m0"}, NOBODY


@row("b: a success of another round is no witness, if others answered")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    for _ in range(FAILS_4):
        story.round("m2")
        story.round(m0=RAISES, m1=WRONG, others=None)
    return story, NOBODY, NOBODY


@row("b: another deployment of the same model is no witness")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(1)
    story.admit("m0-new", model_id="m0")
    for _ in range(FAILS_4):
        story.round(**(each(RAISES, "m0") | each(OK, "m0-new")))
    return story, NOBODY, NOBODY


@row("b: a round of one: the last other with this shape succeeded")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    story.round("m1")
    for _ in range(FAILS_4):
        story.round(m0=RAISES, others=None)
    return story, {"m0"}, NOBODY


@row("b: a round of one: the last other with this shape failed")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    story.round("m2")
    story.round(m1=RAISES, others=None)
    for _ in range(FAILS_4):
        story.round(m0=RAISES, others=None)
    return story, NOBODY, NOBODY


@row("b: a round of one: another shape says nothing")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    story.round("m1", shape=1)
    for _ in range(FAILS_4):
        story.round(m0=RAISES, others=None)
    return story, NOBODY, NOBODY


@row("b: all others absent: as in a round of one")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    story.round()
    for _ in range(FAILS_4):
        story.round(m0=RAISES, others=Outcome.NOT_CONNECTED)
    return story, {"m0"}, NOBODY


@row("b: Setup: who created is a witness")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(5, up=False)
    story.set_up("m1", created=True)
    story.setup_fails("m0")
    return story, {"m0"}, NOBODY


@row("b: Setup: who created later is a witness, too")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(5, up=False)
    story.setup_fails("m0")
    story.wait(1000)
    story.set_up("m1", created=True)
    return story, {"m0"}, NOBODY


@row("b: Setup: 'already exists' is no witness")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(5, up=False)
    story.set_up("m1", created=False)
    story.setup_fails("m0")
    assert NewsKind.NO_WITNESS in story.kinds()
    return story, NOBODY, NOBODY


@row("b: 2 of 62 have the method: nobody")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(62, compared=False)
    story.round(others=Outcome.BAD_IMPLEMENTATION, m0=OK, m1=OK)
    return story, NOBODY, NOBODY


@row("b: 60 of 62 have the method: the others, at once")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(62, compared=False)
    story.round(m0=Outcome.BAD_IMPLEMENTATION, m1=Outcome.BAD_IMPLEMENTATION)
    return story, {"m0", "m1"}, NOBODY


@row("b: as many have the method as lack it: nobody")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(4)
    story.round(m0=Outcome.BAD_IMPLEMENTATION, m1=Outcome.BAD_IMPLEMENTATION)
    return story, NOBODY, NOBODY


@row(
    "b: who lacks the method now does not have it, whatever it once had",
)
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(2, compared=False)
    story.round()
    story.round(m0=Outcome.BAD_IMPLEMENTATION)
    return story, NOBODY, NOBODY


@row("b: a method that need not exist is not missed")
def _() -> tuple[Story, set[str], set[str]]:
    return fails(Story(), 20, Outcome.OPTIONAL_MISSING), NOBODY, NOBODY


@row("b: require_witness=False: a crunch of one")
def _() -> tuple[Story, set[str], set[str]]:
    return fails(Story(1, health=Health(require_witness=False))), {"m0"}, NOBODY


@row("b: a crunch of one, else: nobody")
def _() -> tuple[Story, set[str], set[str]]:
    return fails(Story(1)), NOBODY, NOBODY


@row("c: a timeout does not count if the way was bad")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    for _ in range(20):
        story.round(way=False, m0=HANGS)
        story.through("m0")
    return story, NOBODY, NOBODY


@row("c: a timeout does not count before the way is known")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    for _ in range(20):
        story.round(way=None, m0=HANGS)
        story.through("m0")
    return story, NOBODY, NOBODY


@row("c: slow, but through each time: reported past the limit")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    for _ in range(FAILS_4):
        story.round(m0=HANGS)
        story.through("m0")
    return story, {"m0"}, NOBODY


@row("c: UNAVAILABLE and a busy node count nothing")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story(), 20, Outcome.UNAVAILABLE)
    return fails(story, 20, Outcome.BUSY), NOBODY, NOBODY


@row("c: unreachable: reported after mass_window, and one more failed attempt")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(30)
    story.lose("m0")
    story.give_up("m0")
    story.wait(59)
    assert not story.to_confirm
    return story, {"m0"}, NOBODY


@row("c: unreachable, and connected again: falls")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(30)
    story.lose("m0")
    story.give_up("m0")
    story.wait(50)
    story.set_up("m0")
    return story, NOBODY, NOBODY


@row("c: unreachable, but not tried again since: not yet")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(30, confirms=False)
    story.lose("m0")
    story.give_up("m0")
    story.wait(50)
    early = story.now
    story.wait(20)
    story.members_asked(story.to_confirm[0])
    story.fail_attempt("m0", began=early)  # it began before the members were asked
    story.wait(1000)
    return story, NOBODY, NOBODY


@row("c: unreachable, but the members were not asked: not yet")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(30, confirms=False)
    story.lose("m0")
    story.give_up("m0")
    story.wait(70)
    story.fail_attempt("m0")
    story.wait(1000)
    return story, NOBODY, NOBODY


@row("c: the PINGs find more models lost: held")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(30, confirms=False)
    story.lose("m0")
    story.give_up("m0")
    story.wait(70)
    story.fail_attempt("m0")
    story.lose("m1", "m2")
    story.members_asked(story.to_confirm[0])
    return story, NOBODY, {"m0"}


@row("d: 3 of 6 fail: held")
def _() -> tuple[Story, set[str], set[str]]:
    return fails(Story(6), FAILS_4, RAISES, "m0", "m1", "m2"), NOBODY, {"m0", "m1", "m2"}


@row("d: 2 of 6 fail: reported")
def _() -> tuple[Story, set[str], set[str]]:
    return fails(Story(6), FAILS_4, RAISES, "m0", "m1"), {"m0", "m1"}, NOBODY


@row("d: 3 of 7 fail: reported")
def _() -> tuple[Story, set[str], set[str]]:
    names = {"m0", "m1", "m2"}
    return fails(Story(7), FAILS_4, RAISES, *sorted(names)), names, NOBODY


@row("d: others fail while it waits, but have succeeded since its first failure: reported")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story(6))
    story.wait(10)
    for _ in range(2):
        story.round(others=WRONG, m0=RAISES, m1=WRONG)
    return story, {"m0"}, NOBODY


@row("d: uncounted failures of others make a mass, too")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(6)
    for _ in range(FAILS_4):
        story.round(m0=RAISES, m1=WRONG, m2=Outcome.INVALID_ANSWER)
    return story, NOBODY, {"m0"}


@row("d: what is held needs a new incident")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story(6), FAILS_4, RAISES, "m0", "m1", "m2")
    story.wait(100)
    story.round("m1", "m2", "m3")  # the others recover
    story.wait(1000)
    return story, NOBODY, {"m0", "m1", "m2"}


@row("d: what is held is reported after a new incident, if it is alone then")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story(6), FAILS_4, RAISES, "m0", "m1", "m2")
    story.wait(100)
    story.round(m0=RAISES)
    return story, {"m0"}, {"m0", "m1", "m2"}


@row(
    "d: a success that ended when the first failed call began was before it",
)
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(6, compared=False)
    story.tick = 0
    story.round()
    return fails(story, FAILS_4, RAISES, "m0", "m1", "m2"), NOBODY, {"m0", "m1", "m2"}


@row(
    "d: a success before a model's first failure is none since, though that round had begun before",
)
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(6, compared=False)
    first, second = story.open(), story.open(shape=1)
    for number in (first, second):
        story.pass_by(1)
        for name in story.records:
            story.result(number, name, RAISES if number == second and name in ("m0", "m1", "m2") else OK)
        story.close(number)
    return fails(story, LIMIT, RAISES, "m0", "m1", "m2"), NOBODY, {"m0", "m1", "m2"}


def _lost(lost: int, models: int) -> tuple[Story, set[str]]:
    story, names = Story(models, compared=False), [f"m{index}" for index in range(lost)]
    story.lose(*names)
    story.give_up(*names)
    return story, set(names)


for _number, _models, _held in (
    (10, 30, True),
    (3, 30, True),
    (2, 30, False),
    (6, 62, False),
    (7, 62, True),
    (9, 200, False),
    (10, 200, True),
    (2, 3, False),
    (3, 3, True),
    (1, 2, False),
    (2, 2, True),
):

    @row(f"d: {_number} of {_models} lost within the window: {'held' if _held else 'reported'}")
    def _(number: int = _number, models: int = _models, held: bool = _held) -> Any:
        story, names = _lost(number, models)
        return story, NOBODY if held else names, names if held else NOBODY


@row("d: others lost earlier than the window do not count")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(30)
    story.lose("m1", "m2")
    story.wait(61)
    story.lose("m0")
    story.give_up("m0")
    return story, {"m0"}, NOBODY


NEAR = {0: "10.0.0.1", 1: "10.0.0.2", 2: "10.0.0.3"}
for _stood, _gateway, _hosts, _where, _held in (
    (60, False, NEAR, "one /24", True),
    (60, False, dict.fromkeys(range(3), "node.example"), "one host", True),
    (59, False, NEAR, "one /24", False),
    (60, True, NEAR, "one /24, in gateway mode", False),
    (60, False, {0: "10.0.0.1", 1: "10.1.0.1", 2: "10.2.0.1"}, "three networks", False),
):

    @row(f"d: 3 of 62 in {_where} that stood {_stood} s: {'held' if _held else 'reported'}")
    def _(stood: int = _stood, gateway: bool = _gateway, hosts: Any = _hosts, held: bool = _held) -> Any:
        story = Story(
            62, hosts=dict(hosts) | {i: f"10.{i}.9.9" for i in range(3, 62)}, gateway=gateway, compared=False
        )
        story.lose("m0", "m1", "m2", stood=stood)
        story.give_up("m0", "m1", "m2")
        names = {"m0", "m1", "m2"}
        return story, NOBODY if held else names, names if held else NOBODY


@row(
    "d: held with others that are back for long: reported after a new failed attempt",
)
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(30, compared=False)
    story.lose("m0", "m1", "m2")
    story.give_up("m0")
    story.set_up("m1")
    story.set_up("m2")
    for _ in range(20):
        story.wait(300)
        story.give_up("m0")
    return story, {"m0"}, {"m0"}


def evades(
    story: Story, *names: str, seconds: float = 1000, methods: Sequence[str] = ("predict",), **rest: Any
) -> Story:
    """Calls on some models come to nothing for so long; all others succeed."""
    outcome = rest.pop("outcome", Outcome.CONNECTION_LOST)
    end = story.now + seconds
    while story.now < end:
        story.wait(30)
        for method in methods:
            story.round(method=method, **each(outcome, *names), **rest)
    return story


for _outcome, _counts in (
    (Outcome.CONNECTION_LOST, True),
    (Outcome.NOT_CONNECTED, True),
    (Outcome.UNAVAILABLE, True),
    (Outcome.BUSY, True),
    (Outcome.BUSY_WITH_OTHERS, True),
    (Outcome.NOT_SERVED, True),
    (Outcome.INSTANCE_LOST, True),
    (Outcome.NOT_REACHED, False),
    (Outcome.STILL_BUSY, False),
    (Outcome.SITTING_OUT, False),
    (Outcome.NOT_READY, False),
    (Outcome.QUEUE_FULL, False),
):

    @row(f"e: 900 s of {_outcome.name}: {'reported' if _counts else 'nobody'}")
    def _(outcome: Outcome = _outcome, counts: bool = _counts) -> Any:
        story = evades(Story(10, compared=False), "m0", outcome=outcome)
        story.wait(60)
        code = FailureCode.CONNECTION_FAILED
        assert [each[1:] for each in story.released] == ([("m0", code, "predict")] if counts else [])
        return story, {"m0"} if counts else NOBODY, NOBODY


@row("e: not before 900 s")
def _() -> tuple[Story, set[str], set[str]]:
    return evades(Story(10, compared=False), "m0", seconds=880), NOBODY, NOBODY


@row("e: not for as few calls as the limit")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(10)
    for _ in range(LIMIT):
        story.round(m0=Outcome.CONNECTION_LOST)
        story.wait(900)
    return story, NOBODY, NOBODY


for _answer in (OK, RAISES, WRONG):

    @row(f"e: an answer begins it anew: {_answer.name}")
    def _(answer: Outcome = _answer) -> Any:
        story = evades(Story(10, compared=False), "m0", seconds=800)
        story.round(m0=answer)
        return evades(story, "m0", seconds=800), NOBODY, NOBODY


@row("e: coming back does not save it")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(10, compared=False)
    for _ in range(40):
        story.wait(30)
        story.round(m0=Outcome.CONNECTION_LOST)
        story.lose("m0", stood=20)
        story.set_up("m0", created=True)
    return story, {"m0"}, NOBODY


@row(
    "e: just half of the others succeed: nobody",
)
def _() -> tuple[Story, set[str], set[str]]:
    bad = each(WRONG, "m1", "m2")
    return evades(Story(5, compared=False), "m0", **bad), NOBODY, NOBODY


@row(
    "e: nobody succeeds at all: nobody",
)
def _() -> tuple[Story, set[str], set[str]]:
    return evades(Story(3, compared=False), "m0", "m1", "m2"), NOBODY, NOBODY


@row(
    "e: 3 of 5 come to nothing, so 2 of 4 others succeed: nobody",
)
def _() -> tuple[Story, set[str], set[str]]:
    return evades(Story(5, compared=False), "m0", "m1", "m2"), NOBODY, NOBODY


@row("e: as many at once as d's number: reported")
def _() -> tuple[Story, set[str], set[str]]:
    names = {"m0", "m1", "m2"}
    return evades(Story(30, compared=False), *sorted(names)), names, NOBODY


@row("e: more at once than d's number: held")
def _() -> tuple[Story, set[str], set[str]]:
    names = {"m0", "m1", "m2", "m3"}
    return evades(Story(30, compared=False), *sorted(names)), NOBODY, names


@row(
    "e: d's number is of models, not of methods",
)
def _() -> tuple[Story, set[str], set[str]]:
    story = evades(Story(30, compared=False), "m0", "m1", methods=("predict", "tick"), seconds=1500)
    return story, {"m0", "m1"}, NOBODY


@row(
    "e: nobody escapes by overruns that end with their connections",
)
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(10, compared=False)
    for _ in range(60):
        story.round(m0=HANGS)
        story.wait(20)
        story.lose("m0", stood=20)
        story.through("m0")
        story.set_up("m0", created=True)
    return story, {"m0"}, NOBODY


@row("8: a hanging model: its timeout and three windows")
def _() -> tuple[Story, set[str], set[str]]:
    return hangs(Story()), {"m0"}, NOBODY


@row("8: its timeout and two windows")
def _() -> tuple[Story, set[str], set[str]]:
    return hangs(Story(), LIMIT - 1), NOBODY, NOBODY


@row("8: calls of any method are windows, and count against the one that overran")
def _() -> tuple[Story, set[str], set[str]]:
    story = hangs(Story(), 0)
    for _ in range(LIMIT):
        story.round(others=OK, m0=Outcome.STILL_BUSY)
        story.window("m0", method="tick")
    assert {each.method for each in story.judge.reports} == {"predict"}
    return story, {"m0"}, NOBODY


@row("8: a burst of calls is one window")
def _() -> tuple[Story, set[str], set[str]]:
    story = hangs(Story(), LIMIT - 2)
    for _ in range(50):
        story.later_call("m0")
    story.wait(TIMEOUT)
    story.seen_busy("m0")
    return story, NOBODY, NOBODY


@row("8: a late train is not blamed by quick predicts")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    story.round(method="train", seconds=60, m0=HANGS)
    for _ in range(40):  # in 160 s, there are only 2 windows of 60 s
        story.window("m0")
    assert story.records["m0"].standing("train").timeouts == 3
    return story, NOBODY, NOBODY


@row("8: a window lasts 300 s at most")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    story.round(method="train", seconds=3000, m0=HANGS)
    for _ in range(LIMIT):
        story.later_call("m0")
        story.wait(301)
        story.seen_busy("m0")
    return story, {"m0"}, NOBODY


@row("8: no window counts without a witness since the call began")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    story.round()
    story.round(others=None, m0=HANGS)
    for _ in range(20):
        story.later_call("m0")
        story.wait(TIMEOUT)
        story.seen_busy("m0")
    assert story.records["m0"].standing("predict").timeouts == 1
    return story, NOBODY, NOBODY


@row("8: through within a window: it does not count")
def _() -> tuple[Story, set[str], set[str]]:
    story = hangs(Story(), LIMIT - 1)
    story.later_call("m0")
    story.wait(TIMEOUT / 2)
    story.through("m0")
    return story, NOBODY, NOBODY


@row("8: the connection is lost: what was due falls back")
def _() -> tuple[Story, set[str], set[str]]:
    story = hangs(Story())
    story.lose("m0")
    return story, NOBODY, NOBODY


@row("8: ... but counts stay, and one window on the new connection is enough")
def _() -> tuple[Story, set[str], set[str]]:
    story = hangs(Story())
    story.lose("m0")
    story.wait(100)
    story.window("m0")
    return story, {"m0"}, NOBODY


@row("8: failures do not fall back when the connection is lost")
def _() -> tuple[Story, set[str], set[str]]:
    story = fails(Story())
    story.lose("m0")
    return story, {"m0"}, NOBODY


@row("8: an overrun that the connection ended under, before the way was known, does not count")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story()
    for _ in range(20):
        story.round(way=None, m0=HANGS)
        story.lose("m0")
        story.through("m0")
        story.set_up("m0")
    return story, NOBODY, NOBODY


@row("8: a Setup that hangs is an overrun of Setup")
def _() -> tuple[Story, set[str], set[str]]:
    story = Story(5, up=False)
    story.set_up("m1", created=True)
    story.setup_fails("m0", Outcome.SETUP_OVERRAN, 10)
    story.way("m0")
    for _ in range(LIMIT):
        story.later_call("m0")
        story.wait(11)
        story.set_up("m2", created=True)
        story.seen_busy("m0")
    assert {each.method for each in story.judge.reports} == {SETUP}
    return story, {"m0"}, NOBODY


@pytest.mark.parametrize(("timeouts", "sits_out"), [(1, 1), (2, 1), (3, 2)])
def test_sits_out_half_as_many_calls_as_there_were_timeouts(timeouts: int, sits_out: int) -> None:
    story = Story()
    for _ in range(timeouts):
        story.round(m0=HANGS)
        story.through("m0")
    record = story.records["m0"]
    assert not record.sit_out("tick", story.now)
    assert [record.sit_out("predict", story.now) for _ in range(5)] == [n < sits_out for n in range(5)]


def test_sits_out_for_mass_window_at_most() -> None:
    story = Story()
    story.round(m0=HANGS)
    story.through("m0")
    assert not story.records["m0"].sit_out("predict", story.now + 61)


@pytest.mark.parametrize("play", ROWS)
def test_clause(play: Play) -> None:
    story, reported, held = play()
    story.wait(100)
    assert story.reported() == reported
    assert {name for _, name, _, _ in story.held} == held


# ---- Nobody is missed: bounds. ----


@settings(max_examples=20, **SEVERAL)
@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 4), st.integers(0, 3))
def test_who_alone_fails_is_reported_in_time(models: int, period: int, limit: int, others: int) -> None:
    """Bound: one round more than the limit, and mass_window. Others may fail now and then."""
    story = Story(models, limits=Limits(limit, limit), compared=False)
    began = story.now
    for turn in range(limit + 1):
        flaky = each(RAISES, f"m{1 + turn % (models - 1)}") if others == 0 and models > 2 and limit else {}
        story.round(m0=RAISES, **flaky)
        story.wait(period)
    story.wait(60)
    assert story.reported() == {"m0"}
    assert story.released[0][0] + START <= began + (limit + 1) * (period + 1) + 60


@settings(max_examples=20, **SEVERAL)
@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 4), st.integers(1, 10))
def test_who_alone_hangs_is_reported_in_time(models: int, pause: int, limit: int, timeout: int) -> None:
    """Bound: its timeout, a pause and a window for each timeout that is allowed, and mass_window."""
    story = Story(models, limits=Limits(limit, limit), compared=False)
    began = story.now
    story.round(seconds=timeout, m0=HANGS)
    for _ in range(limit):
        story.wait(pause)
        story.window("m0", timeout=timeout)
    story.wait(60)
    assert story.reported() == {"m0"}
    assert story.released[0][0] + START <= began + timeout + limit * (pause + timeout) + 61


# ---- Random stories. ----


METHODS = ("predict", "tick")
ENDS = (
    [OK] * 4
    + [RAISES] * 3
    + [
        WRONG,
        Outcome.INVALID_ANSWER,
        Outcome.COORDINATOR_RAISED,
        Outcome.NOT_REACHED,
        Outcome.UNAVAILABLE,
        Outcome.CONNECTION_LOST,
        Outcome.BUSY,
        Outcome.INSTANCE_LOST,
        Outcome.ANSWER_UNPROVED,
        HANGS,
        HANGS,
    ]
)
LOSES = (Outcome.UNAVAILABLE, Outcome.CONNECTION_LOST, Outcome.ANSWER_UNPROVED)


class RandomStory(Story):
    """A story whose parts are drawn."""

    def __init__(self, choose: Callable[[Sequence[Any]], Any]) -> None:
        self.choose = choose
        models = choose(range(3, 9))
        limits = Limits(choose([0, 1, 2, None]), choose([0, 1, 2, None]))
        health = Health(
            mass_window=choose([4, 60]),
            unserved=choose([10, 900]),
            require_witness=choose(range(10)) > 0,
        )
        hosts = {index: choose(["10.0.0.1", "10.0.0.2", f"h{index}"]) for index in range(models)}
        super().__init__(
            models,
            hosts=hosts,
            gateway=choose((False, True)),
            limits=limits,
            health=health,
            up=False,
            confirms=False,
        )
        self.up: set[str] = set()
        # Where models are soon found unserved, most models are steady: they are always there, and succeed.
        steady = len(self.records) // 2 + 1 if health.unserved < 900 else 0
        self.steady = list(self.records)[:steady]
        self.bad = {name: choose((RAISES, HANGS)) for name in self.records if choose(range(4)) == 0}
        self.methods = METHODS[:1] if steady else METHODS
        self.lack = {  # a model lacks a method for ever, or never
            (name, method): choose((Outcome.BAD_IMPLEMENTATION, Outcome.OPTIONAL_MISSING))
            for name in self.records
            for method in (*METHODS, SETUP)
            if name not in self.steady and choose(range(4)) == 0
        }

    def some(self) -> list[str]:
        return [name for name in self.records if name not in self.steady and self.choose((False, True))]

    def play(self) -> None:
        for name in self.steady:
            self.up.add(name)
            self.set_up(name, created=self.choose((False, True)))
        self.come()
        for _ in range(self.choose(range(1, 26))):
            part = self.choose(
                [self.calls_go] * 6 + [self.go, self.come, self.idle, self.watch, self.anew, self.ask]
            )
            part()

    def drop(self, name: str, *, stood: float, peaceful: bool = False) -> None:
        self.up.discard(name)
        if self.steady and name in self.running and self.running[name][1].way_was_good:
            self.through(name)  # else see the row of overruns that end with their connections
        self.lose(name, stood=stood, peaceful=peaceful)

    def idle(self) -> None:
        self.wait(self.choose([0.5, 3, 5, 40, 70]))

    def outcome(self, name: str, method: str, *, good: bool) -> Outcome:
        """What comes of a call on a model."""
        if name not in self.up:
            return Outcome.NOT_CONNECTED
        if name in self.running:
            return self.choose([Outcome.STILL_BUSY, Outcome.NOT_REACHED])  # type: ignore[no-any-return]
        if self.records[name].sit_out(method, self.now):
            return Outcome.SITTING_OUT
        if name in self.steady:
            return OK
        outcome: Outcome = OK if good and self.choose((False, True)) else self.choose(ENDS)
        if name in self.bad and self.choose(range(5)):
            outcome = self.bad[name]
        return self.lack.get((name, method), outcome) if RULES[outcome].answered else outcome

    def calls_go(self) -> None:
        shape, method = self.choose((0, 1)), self.choose(self.methods)
        asked = self.some() + self.steady
        number = self.open(method, shape)
        for name in asked:
            if name in self.running:
                self.later_call(name, self.choose([1, TIMEOUT]))
        good = self.choose((False, True))
        for name in asked:
            self.pass_by(self.choose([NEXT, 1]))
            outcome = self.outcome(name, method, good=good)
            self.result(number, name, outcome)
            if outcome in LOSES:
                self.drop(name, stood=self.choose([1, 600]))
            if outcome is HANGS and self.choose(range(4)):
                self.way(name, good=self.choose(range(4)) > 0)
        self.close(number)

    def watch(self) -> None:
        for name in list(self.running):
            what = self.choose(range(4))
            if what == 0:
                self.through(name)
            elif self.running[name][1].way_was_good is None:
                self.way(name, good=what > 1)
            else:
                self.seen_busy(name)

    def go(self) -> None:
        for name in self.some():
            if name in self.up:
                self.drop(name, stood=self.choose([1, 600]), peaceful=self.choose((False, True)))
            elif self.choose((False, True)):
                self.give_up(
                    name,
                    outcome=self.choose(
                        [Outcome.UNREACHABLE, Outcome.PROOF_FAILED, Outcome.PROOF_UNANSWERED]
                    ),
                )
            elif (name, SETUP) in self.lack:
                self.setup_fails(name, Outcome.BAD_IMPLEMENTATION)
            elif self.choose((False, True)):
                self.setup_fails(name)
            else:
                self.fail_attempt(name)

    def come(self) -> None:
        for name in self.some():
            if name not in self.up and (name, SETUP) not in self.lack:
                if name in self.running:
                    self.through(name)
                self.up.add(name)
                self.set_up(name, created=self.choose((False, True)))

    def anew(self) -> None:
        names = [name for name in self.records if name not in self.steady]
        if not names:
            return
        name = self.choose(names)
        if self.choose((False, True)) and len(self.records) > 2:
            self.dismiss(name)
            self.up.discard(name)
        else:
            self.begin_anew(name)
            self.up.discard(name)

    def ask(self) -> None:
        for report in self.to_confirm:
            if report.record in self.records.values():
                self.members_asked(report)
                if str(report.record.key) not in self.up:
                    self.fail_attempt(str(report.record.key))
        self.look()


@settings(max_examples=150, **SEVERAL)
@given(st.data())
def test_both_judges_decide_the_same(data: st.DataObject) -> None:
    RandomStory(lambda options: data.draw(st.sampled_from(options))).play()
