"""A judge that hears of its models through shards decides as one that sees them all.

The same things happen to the models of one process, and to the same models on two shards. Whatever counts
must be the same in the driver's judge, and each shard must know how many calls its models sit out.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.config import Health
from trio_model_runner.model.policy import (
    Form,
    Judge,
    Limits,
    Outcome,
    Overrun,
    Record,
    RoundEvidence,
    succeeded,
)
from trio_model_runner.sharding.judging import Judging
from trio_model_runner.sharding.messages import Judged, JudgedKind, StandingCorrected
from trio_model_runner.sharding.shard_judge import ForwardingJudge

MODELS = ("m0", "m1", "m2", "m3")
LIMITS = Limits(3, 3)
METHOD = "predict"


class OneProcess:
    """All models, seen by one judge."""

    def __init__(self) -> None:
        self.judge = Judge(limits=LIMITS, health=Health())
        self.records = {model: self.judge.admit(model, model, model) for model in MODELS}
        self.evidence: RoundEvidence | None = None

    def begin_round(self, now: float) -> None:
        self.evidence = RoundEvidence(self.judge.form(METHOD, "shape"), now)

    def act(self, model: str, act: Act, now: float) -> None:
        act_on(self.judge, self.records[model], self.evidence, act, now)

    def end_round(self) -> None:
        if self.evidence is not None:
            self.judge.close(self.evidence)
        self.evidence = None


class Sharded:
    """The same models on two shards, and the driver's judge."""

    def __init__(self) -> None:
        self.judge = Judge(limits=LIMITS, health=Health())
        self.records = {model: self.judge.admit(model, model, model) for model in MODELS}
        self.evidence: RoundEvidence | None = None
        self.now = 0.0
        self.shards = [ShardOf(self, 0), ShardOf(self, 1)]

    def begin_round(self, now: float) -> None:
        self.evidence = RoundEvidence(self.judge.form(METHOD, "shape"), now)
        for shard in self.shards:
            shard.told = set()
            shard.evidence = shard.judge.evidence(
                METHOD, "shape", shape_text="shape", round_number=1, began=now, judged=False
            )

    def act(self, model: str, act: Act, now: float) -> None:
        self.now = now
        shard = self.shards[MODELS.index(model) % 2]
        act_on(shard.judge, shard.records[model], shard.evidence, act, now)
        if self.evidence is not None:
            self.judge.note_witnesses(self.evidence, map(self.records.get, shard.new_witnesses()), now)
        self.settle()

    def settle(self) -> None:
        for shard in self.shards:
            shard.judging.correct_counts()

    def end_round(self) -> None:
        for shard in self.shards:
            if shard.evidence is not None:
                shard.judge.close(shard.evidence)
            shard.evidence = None
        if self.evidence is not None:
            self.judge.close(self.evidence)
        self.evidence = None
        self.settle()


class ShardOf:
    """A shard with every second model."""

    def __init__(self, driver: Sharded, index: int) -> None:
        self.judge = ForwardingJudge(
            limits=LIMITS,
            health=Health(),
            gateway=False,
            number_of=lambda key: MODELS.index(str(key)),
            forward=lambda told: self.judging.take(told, driver.now),
        )
        self.driver = driver
        mine = MODELS[index::2]
        self.records = {model: self.judge.admit(model, model, model) for model in mine}
        self.evidence: Any = None
        self.told: set[str] = set()
        self.judging = Judging(
            driver.judge,
            record_of=lambda number: driver.records[MODELS[number]],
            evidence_of=lambda number, shape: driver.evidence,
            correct=self.correct,
        )

    def new_witnesses(self) -> list[str]:
        """Who has succeeded in this round, the first two, each told once."""
        ids = {self.evidence.witness, self.evidence.second_witness} - {"", *self.told}
        self.told |= ids
        return sorted(ids)

    def correct(self, correction: StandingCorrected) -> None:
        self.judge.correct(self.records[MODELS[correction.number]], correction, self.driver.now)


Act = tuple[str, Any]

OUTCOMES = [
    Outcome.SUCCEEDED,
    Outcome.MODEL_FAILED,
    Outcome.CONNECTION_LOST,
    Outcome.BAD_IMPLEMENTATION,
    Outcome.SITTING_OUT,
    Outcome.INVALID_ANSWER,
    Outcome.BUSY,
]

IN_ROUNDS = st.one_of(st.tuples(st.just("outcome"), st.sampled_from(OUTCOMES)), st.just(("hangs", None)))
AT_ANY_TIME = st.sampled_from(
    [
        ("setup", True),
        ("setup", False),
        ("loss", True),
        ("loss", False),
        ("attempt", None),
        ("way", True),
        ("way", False),
        ("busy", None),
        ("through", None),
        ("giving up", None),
    ]
)


def act_on(  # noqa: C901 - a table of what can happen
    judge: Judge, record: Record, evidence: RoundEvidence | None, act: Act, now: float
) -> None:
    """Have something happen to a model, as its `Conduct` and its watch would tell it."""
    kind, what = act
    overrun = record.overrun
    if kind == "outcome" and evidence is not None:
        if succeeded(what) and (what, METHOD) in record.no_news and not evidence.waiting:
            standing = record.no_news[what, METHOD]  # as `ModelActor.note` does, without the judge
            standing.succeeded_at = evidence.form.succeeded_at = now
            evidence.witness = record.model_id
            evidence.form.note(record.success_mark)
        else:
            judge.note(record, evidence, what, began=evidence.began, now=now, detail="it did")
    elif kind == "hangs" and evidence is not None:
        record.overrun = Overrun(METHOD, now - 1, now, 1.0, counts_from=now)
        judge.note(
            record,
            evidence,
            Outcome.OVERRAN,
            began=evidence.began,
            now=now,
            detail="late",
            overrun=record.overrun,
        )
    elif kind == "setup":
        judge.note_setup(record, created=what, now=now)
    elif kind == "loss":
        judge.note_loss(record, stood=5.0, peaceful=what, now=now)
    elif kind == "attempt":
        judge.note_failed_attempt(record, began=now - 1, now=now)
    elif kind == "giving up":
        judge.note_giving_up(record, Outcome.UNREACHABLE, now=now, detail="nothing answers")
    elif overrun is not None and kind == "way":
        judge.note_way(record, overrun, good=what, now=now)
    elif overrun is not None and kind == "busy":
        overrun.open_window(now, now + 1)
        judge.note_still_busy(record, overrun, seen_at=now + 400, now=now)
    elif overrun is not None and kind == "through":
        judge.note_through(record, now)


def counts(record: Record) -> dict[str, tuple[object, ...]]:
    return {
        method: (
            standing.failures,
            standing.timeouts,
            standing.first_at,
            standing.hindered,
            standing.lacks,
            standing.sitting_out,
        )
        for method, standing in record.standings.items()
        if standing.called_at > 0 or not standing.blameless
    }


HUNG = st.just([("hangs", None), ("way", True)])  # and its node is alive: a timeout that counts


def due(judge: Judge) -> list[dict[str, Any]]:
    """The reports that wait. Which of several witnesses is named is all the same."""
    return [row | {"witness": bool(row["witness"])} for row in judge.reports.rows()]


def timeouts(record: Record) -> dict[str, int]:
    return {method: standing.timeouts for method, standing in record.standings.items() if standing.timeouts}


ONE_MODEL = st.one_of(
    st.just([("outcome", Outcome.SUCCEEDED)]),
    HUNG,
    st.tuples(IN_ROUNDS, AT_ANY_TIME).map(list),
    st.lists(AT_ANY_TIME, max_size=3),
)
ROUNDS = st.lists(
    st.tuples(st.permutations(MODELS), st.tuples(ONE_MODEL, ONE_MODEL, ONE_MODEL, ONE_MODEL)), max_size=8
)


@settings(max_examples=300)
@given(ROUNDS)
def test_what_counts_is_the_same_on_shards(rounds: list[Any]) -> None:
    one, sharded = OneProcess(), Sharded()
    now = 1000.0
    for models, acts_of in rounds:
        for world in (one, sharded):
            world.begin_round(now)
        for model, acts in zip(models, acts_of, strict=True):
            for act in acts:
                now += 0.25
                for world in (one, sharded):
                    world.act(model, act, now)
        for world in (one, sharded):
            world.end_round()
    for model in MODELS:
        assert counts(sharded.records[model]) == counts(one.records[model])
    assert due(sharded.judge) == due(one.judge)
    shown = {model: timeouts(record) for shard in sharded.shards for model, record in shard.records.items()}
    assert shown == {model: timeouts(record) for model, record in one.records.items()}


def test_a_success_that_the_driver_judges_is_neither_counted_nor_told() -> None:
    told: list[Judged] = []
    judge = ForwardingJudge(
        limits=LIMITS, health=Health(), gateway=False, number_of=lambda _: 7, forward=told.append
    )
    record = judge.admit("robin", "robin", "robin")
    evidence = judge.evidence(METHOD, (), shape_text="", round_number=3, began=0.0, judged=True)
    assert evidence.elsewhere
    judge.note(record, evidence, Outcome.SUCCEEDED, began=0.0, now=1.0)
    assert not told
    assert not record.standings
    judge.note(record, evidence, Outcome.MODEL_FAILED, began=0.0, now=1.0, detail="it raised")
    assert told == [
        Judged(
            JudgedKind.NOTE,
            7,
            round=3,
            method=METHOD,
            outcome=Outcome.MODEL_FAILED,
            began=1.0,
            detail="it raised",
        )
    ]


def test_a_model_that_the_shard_has_no_longer_is_not_spoken_of() -> None:
    told: list[Judged] = []
    judge = ForwardingJudge(
        limits=LIMITS, health=Health(), gateway=False, number_of=lambda _: None, forward=told.append
    )
    judge.note_setup(judge.admit("robin", "robin", "robin"), created=True, now=1.0)
    assert not told


@pytest.mark.parametrize("kind", JudgedKind)
def test_nothing_that_a_shard_can_say_breaks_the_judge(kind: JudgedKind) -> None:
    """All kinds, with nothing else said: what makes no sense changes nothing."""
    judge = Judge(limits=LIMITS, health=Health())
    record = judge.admit("robin", "robin", "robin")
    judging = Judging(judge, record_of={1: record}.get, evidence_of=lambda *_: None, correct=lambda _: None)
    judging.take(Judged(kind, 1), 10.0)
    judging.take(Judged(kind, 2), 10.0)
    judging.correct_counts()
    assert not judge.reports
    assert Form(METHOD) not in judge.forms.values()
