"""What shards tell of their models' conduct, for the driver's judge.

The driver's `Judge` is the ordinary one, with a record of each model. This module calls it as the models'
own `Conduct` would have, with the driver's evidence about the round and the driver's clock.

Where the judge counts other timeouts than the shard does, since it has witnesses that the shard has not, the
shard is told: models sit calls out by that number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable

from ..model.policy import NEVER, Form, Judge, Overrun, Record, RoundEvidence
from .messages import Judged, JudgedKind, StandingCorrected, StandingTimes

__all__ = ["Judging"]


class Judging:
    """Tells the driver's judge what one shard says.

    Args:
        judge: the judge of all models.
        record_of: the record of the deployment with a number, if this shard has it.
        evidence_of: what is known of the request of a round for a shape; None if the round is over.
        correct: takes what the shard is to be told.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        record_of: Callable[[int], Record | None],
        evidence_of: Callable[[int, str], RoundEvidence | None],
        correct: Callable[[StandingCorrected], None],
    ) -> None:
        self._judge = judge
        self._record_of = record_of
        self._evidence_of = evidence_of
        self._correct = correct
        self._overruns: dict[int, tuple[int, Overrun]] = {}  # the last of each model, with its number
        self._counted: dict[tuple[int, str], int] = {}  # timeouts as the shard counts them, if not none

    def take(self, told: Judged, now: float) -> None:
        """Take what the shard says, at `now` on the driver's clock; not of models that it does not have."""
        record = self._record_of(told.number)
        if record is None:
            return
        overrun = self._overrun(told, now)
        if overrun is not None:
            record.overrun = overrun
        self._note(told, record, overrun, now)
        if record.overrun is None:
            self._overruns.pop(told.number, None)
        method = told.method or told.overrun_method
        if method:
            self._counted[told.number, method] = told.timeouts

    def correct_counts(self) -> None:
        """Tell the shard where the judge counts other timeouts than it does; after each change."""
        for (number, method), counted in list(self._counted.items()):
            record = self._record_of(number)
            standing = None if record is None else record.standings.get(method)
            if standing is None:
                del self._counted[number, method]
            elif standing.timeouts != counted:
                self._counted[number, method] = standing.timeouts
                self._correct(StandingCorrected(number, method, standing.timeouts))
            elif not counted and standing.succeeded_at >= standing.called_at:  # nothing waits to count
                del self._counted[number, method]

    def take_times(self, times: Iterable[StandingTimes], now: float) -> None:
        """Take when models were called, and succeeded."""
        for each in times:
            record = self._record_of(each.number)
            if record is None:
                continue
            standing = record.standing(each.method)
            standing.called_at = max(standing.called_at, _at(each.called, now))
            standing.asked_at = max(standing.asked_at, _at(each.asked, now))
            standing.succeeded_at = max(standing.succeeded_at, _at(each.succeeded, now))

    def _note(self, told: Judged, record: Record, overrun: Overrun | None, now: float) -> None:
        judge, flags = self._judge, told.flags
        match told.kind:
            case JudgedKind.NOTE if told.outcome is not None:
                judge.note(
                    record,
                    self._evidence(told, now),
                    told.outcome,
                    began=now - told.began,
                    now=now,
                    detail=told.detail,
                    overrun=overrun,
                )
            case JudgedKind.NOTE_SETUP:
                judge.note_setup(record, created="created" in flags, now=now)
            case JudgedKind.NOTE_WAY if overrun is not None:
                judge.note_way(record, overrun, good="good" in flags, now=now)
            case JudgedKind.NOTE_STILL_BUSY if overrun is not None:
                overrun.window_ends = [now] * told.windows
                judge.note_still_busy(record, overrun, seen_at=now, now=now)
            case JudgedKind.NOTE_THROUGH:
                judge.note_through(record, now)
            case JudgedKind.NOTE_LOSS:
                peaceful, silent = "peaceful" in flags, "silent" in flags
                judge.note_loss(record, stood=told.stood, peaceful=peaceful, silent=silent, now=now)
            case JudgedKind.NOTE_FAILED_ATTEMPT:
                judge.note_failed_attempt(record, began=now - told.began, now=now)
            case JudgedKind.NOTE_GIVING_UP if told.outcome is not None:
                judge.note_giving_up(record, told.outcome, now=now, detail=told.detail)
            case _:
                pass

    def _evidence(self, told: Judged, now: float) -> RoundEvidence:
        """The evidence that an outcome belongs to: of a round, of Setups, or of nothing else."""
        if told.round is not None:
            evidence = self._evidence_of(told.round, told.shape)
            if evidence is not None:
                return evidence
        elif not told.method:
            return self._judge.setups
        return RoundEvidence(self._form(told.method, told.shape), now - told.began)

    def _form(self, method: str, shape: Hashable) -> Form:
        """The form of a call whose round is over, so that others may still be its witnesses."""
        return self._judge.forms.get((method, shape)) or Form(method)

    def _overrun(self, told: Judged, now: float) -> Overrun | None:
        if told.overrun is None:
            return None
        number, overrun = self._overruns.get(told.number, (None, None))
        if overrun is None or number != told.overrun:
            overrun = Overrun(
                told.overrun_method,
                now - told.overrun_sent,
                now - told.overrun_since,
                told.overrun_timeout,
                counts_from=now - told.overrun_counts_from,
            )
            self._overruns[told.number] = told.overrun, overrun
        return overrun


def _at(ago: float, now: float) -> float:
    return NEVER if math.isinf(ago) else now - ago
