"""The judge in a shard: it keeps what its own actors need, and passes everything on to the driver's.

A shard sees only its own models. So it can't say whether a request was good, or whether a model is alone
with its trouble: it counts nothing, and reports nobody. But its actors need to know at once whether a node is
still busy, and how many calls a model sits out. The first is what the ordinary `Judge` keeps here. For the
second, the driver says how many timeouts it counts (`StandingCorrected`).

Everything that a model's conduct tells the judge goes through `ForwardingJudge`. Successes that change
nothing do not: an actor notes them by itself, and `RoundEvidence.witness` names one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import attrs

from ..model.policy import (
    NEVER,
    Incident,
    Judge,
    Limits,
    Outcome,
    Overrun,
    Record,
    RoundEvidence,
    succeeded,
)
from ..model.policy.counting import Counting
from .messages import Judged, JudgedKind, StandingCorrected, StandingTimes

if TYPE_CHECKING:
    from ..config import Health

__all__ = ["ForwardedEvidence", "ForwardingJudge"]


@attrs.define(eq=False)
class ForwardedEvidence(RoundEvidence):
    """What a shard knows of one request of a round.

    Attributes:
        round: the driver's number of the round.
        shape: of the arguments, as the driver has it.
    """

    round: int = 0
    shape: str = ""


class ForwardingJudge(Judge):
    """Tells the driver's judge what the models of one shard do.

    Args:
        limits: see `Judge`.
        health: see `Judge`.
        gateway: see `Judge`.
        number_of: the driver's number of a deployment; None once the shard has it no longer.
        forward: takes what is to be told. It must neither raise nor wait.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        health: Health,
        gateway: bool,
        number_of: Callable[[Hashable], int | None],
        forward: Callable[[Judged], None],
    ) -> None:
        super().__init__(limits=limits, health=health, enabled=False, gateway=gateway)
        self._counting = _NoCounting(limits, self.reports)
        self._longest_rest = health.mass_window
        self._number_of = number_of
        self._forward = forward
        self._overruns: WeakKeyDictionary[Overrun, int] = WeakKeyDictionary()
        self._overruns_told = 0

    def evidence(
        self, method: str, shape: Hashable, *, shape_text: str, round_number: int, began: float, judged: bool
    ) -> ForwardedEvidence:
        """Begin the evidence about a request of a round.

        Args:
            method: the method.
            shape: of the arguments.
            shape_text: the same, as the driver has it.
            round_number: the driver's number of the round.
            began: when the round began here, seconds.
            judged: the driver decides whether an answer is a success.
        """
        return ForwardedEvidence(
            self.form(method, shape),
            began,
            elsewhere=judged,
            round=round_number,
            shape=shape_text,
        )

    def correct(self, record: Record, correction: StandingCorrected, now: float) -> None:
        """The driver counts so many timeouts of a model. The next success is told again."""
        standing = record.standing(correction.method)
        is_more = correction.timeouts > standing.timeouts
        standing.timeouts = correction.timeouts
        if not correction.timeouts:
            standing.sitting_out = 0
        elif is_more and record.overrun is None:  # the node was through before the driver had counted
            standing.begin_sitting_out(now, self._limits.timeouts, self._longest_rest)
        record.expect_news(correction.method)

    def times(self, now: float) -> list[StandingTimes]:
        """When each model was called, and succeeded: what the driver was not told at each success."""
        return [
            StandingTimes(
                number,
                standing.method,
                called=_ago(standing.called_at, now),
                asked=_ago(standing.asked_at, now),
                succeeded=_ago(standing.succeeded_at, now),
            )
            for record in self.records
            if (number := self._number_of(record.key)) is not None
            for standing in record.standings.values()
        ]

    # What `Conduct` tells; see `Judge`.

    def note(
        self,
        record: Record,
        evidence: RoundEvidence,
        outcome: Outcome,
        *,
        began: float,
        now: float,
        detail: str = "",
        overrun: Overrun | None = None,
    ) -> None:
        """See `Judge.note`. A success that the driver judges is not counted here, and not told."""
        of_round = evidence if isinstance(evidence, ForwardedEvidence) else None
        if evidence.elsewhere and succeeded(outcome):
            return
        super().note(record, evidence, outcome, began=began, now=now, detail=detail, overrun=overrun)
        method = "" if evidence is self.setups else evidence.form.method
        self._pass_on(
            JudgedKind.NOTE,
            record,
            now,
            evidence.form.method,
            overrun,
            round=None if of_round is None else of_round.round,
            shape="" if of_round is None else of_round.shape,
            method=method,
            outcome=outcome,
            began=now - began,
            detail=detail,
        )

    def note_setup(self, record: Record, *, created: bool, now: float) -> None:
        """See `Judge.note_setup`."""
        super().note_setup(record, created=created, now=now)
        self._pass_on(JudgedKind.NOTE_SETUP, record, now, flags=_flags(created=created))

    def note_way(self, record: Record, overrun: Overrun, *, good: bool, now: float) -> None:
        """See `Judge.note_way`. What is known already is not told again."""
        is_news = overrun.way_was_good is None
        super().note_way(record, overrun, good=good, now=now)
        if is_news:
            flags = _flags(good=good)
            self._pass_on(JudgedKind.NOTE_WAY, record, now, overrun.method, overrun, flags=flags)

    def note_still_busy(self, record: Record, overrun: Overrun, *, seen_at: float, now: float) -> None:
        """See `Judge.note_still_busy`. It is told only if a window has ended, since else nothing counts."""
        ended = overrun.close_windows(seen_at)
        if ended:
            self._pass_on(JudgedKind.NOTE_STILL_BUSY, record, now, overrun.method, overrun, windows=ended)

    def note_through(self, record: Record, now: float) -> None:
        """See `Judge.note_through`."""
        overrun = record.overrun
        super().note_through(record, now)
        if overrun is not None:
            self._pass_on(JudgedKind.NOTE_THROUGH, record, now, overrun.method, overrun)

    def note_loss(
        self, record: Record, *, stood: float, peaceful: bool, now: float, silent: bool = False
    ) -> None:
        """See `Judge.note_loss`."""
        super().note_loss(record, stood=stood, peaceful=peaceful, now=now, silent=silent)
        self._pass_on(
            JudgedKind.NOTE_LOSS, record, now, stood=stood, flags=_flags(peaceful=peaceful, silent=silent)
        )

    def note_failed_attempt(self, record: Record, *, began: float, now: float) -> None:
        """See `Judge.note_failed_attempt`."""
        super().note_failed_attempt(record, began=began, now=now)
        self._pass_on(JudgedKind.NOTE_FAILED_ATTEMPT, record, now, began=now - began)

    def note_giving_up(self, record: Record, outcome: Outcome, *, now: float, detail: str) -> None:
        """See `Judge.note_giving_up`. Nothing is due here; where it is at the driver, it stops the model."""
        super().note_giving_up(record, outcome, now=now, detail=detail)
        self._pass_on(JudgedKind.NOTE_GIVING_UP, record, now, outcome=outcome, detail=detail)

    def _pass_on(
        self,
        kind: JudgedKind,
        record: Record,
        now: float,
        counted: str = "",
        overrun: Overrun | None = None,
        **more: object,
    ) -> None:
        number = self._number_of(record.key)
        if number is None:
            return
        standing = record.standings.get(counted)
        if standing is not None:
            more["timeouts"] = standing.timeouts
        if overrun is not None:
            more |= self._of_overrun(overrun, now)
        self._forward(Judged(kind, number, **more))  # type: ignore[arg-type]

    def _of_overrun(self, overrun: Overrun, now: float) -> dict[str, object]:
        number = self._overruns.get(overrun)
        if number is None:
            self._overruns_told += 1
            number = self._overruns[overrun] = self._overruns_told
        return {
            "overrun": number,
            "overrun_method": overrun.method,
            "overrun_sent": now - overrun.sent_at,
            "overrun_since": now - overrun.since,
            "overrun_timeout": overrun.timeout,
            "overrun_counts_from": now - overrun.counts_from,
        }


class _NoCounting(Counting):
    """Counts nothing: the driver does."""

    def count_if_certain(self, incident: Incident, now: float) -> None:
        """See `Counting.count_if_certain`."""

    def become_due(self, *_: object, **__: object) -> None:
        """See `Counting.become_due`."""


def _flags(**flags: bool) -> tuple[str, ...]:
    return tuple(name for name, is_set in flags.items() if is_set)


def _ago(time: float, now: float) -> float:
    return math.inf if time == NEVER else now - time
