"""What becomes of the answers of a round over shards, as they come.

Most answers stay as they are until somebody looks at them (`columns`). Here is what can't wait: values that
``returns=`` must take, since a misfit is the model's failure; data frames, which processes of their own read;
large values, which threads decode; and results that somebody waits for one by one. This module knows nothing
of shards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..model.call import drop_traceback
from ..model.decoding import value_of_slow
from ..model.policy import (
    OUTCOME_OF_A_VALUE,
    RULES,
    Progress,
    RoundEvidence,
    cut_off_text,
    is_coordinators,
    outcome_of_cut_off,
    outcome_of_value,
)
from ..signal import Signal
from ..values.effort import FRAMES, NEVER_LONG_BYTES
from ..values.encoded import DataType
from ..values.results import PredictResult, Status
from .columns import STATUSES, Columns, Table

if TYPE_CHECKING:
    from ..frame_readers.readers import FrameReaders
    from ..model.round_spec import Requests, RoundSpec, Value
    from ..values.encoded import Encoded
    from .messages import Results
    from .remote_actor import RemoteActor

__all__ = ["RoundValues"]

_SUCCESS: Final = STATUSES.index(Status.SUCCESS)
_ABSENT: Final = STATUSES.index(Status.ABSENT)
_NEVER_LONG: Final = min(NEVER_LONG_BYTES[kind] for kind in DataType if kind not in FRAMES)
"""Bytes. Only frames may be shorter, and take long to decode."""


class RoundValues:
    """The results of one round, while they come.

    Args:
        table: the members.
        spec: what is asked.
        requests: what is sent; told what the coordinator's own functions do wrong.
        readers: read data frames; None if threads do.
        evidence_of: what is known of the request that a member with this number got.
        on_result: told each result, as it comes; None if nobody waits for single ones.

    Attributes:
        columns: the results.
        news: sent when a value is there that took long.
    """

    def __init__(
        self,
        table: Table,
        spec: RoundSpec,
        requests: Requests,
        readers: FrameReaders | None,
        evidence_of: Callable[[int], RoundEvidence],
        on_result: Callable[[PredictResult[Any]], None] | None,
    ) -> None:
        self.columns = Columns(table, spec)
        self.news = Signal()
        self._table = table
        self._spec = spec
        self._requests = requests
        self._readers = readers
        self._evidence_of = evidence_of
        self._on_result = on_result
        self._reading: dict[int, tuple[Results, int]] = {}
        self._raised: dict[int, Exception] = {}

    @property
    def reading(self) -> bool:
        """Whether answers are there that are not decoded yet."""
        return bool(self._reading)

    def put(
        self,
        actor: RemoteActor,
        status: Status,
        detail: str,
        error: Exception | None = None,
        *,
        value: Any = None,
        elapsed: float = 0.0,
        sent: bool = True,
    ) -> None:
        """Take a member's result that is made here."""
        result = PredictResult(
            model=actor.runner,
            status=status,
            value=value,
            elapsed=elapsed,
            detail=actor.shorten(detail) if detail else "",
            error=error,
            sent=sent,
        )
        self.columns.put(self._table.by_number[actor.number], result)
        if self._on_result is not None:
            self._on_result(result)

    def note_mistake(self, number: int, error: Exception, *, raised: bool) -> None:
        """The arguments for a member can't be had; its result, which comes, has this error."""
        self.columns.keep_error(number, error)
        if raised:
            self._raised[number] = error

    def take(self, batch: Results, nursery: trio.Nursery) -> None:
        """Take a batch of results; none of its members has one yet.

        Args:
            batch: the results.
            nursery: where values are decoded that take long.
        """
        self.columns.add(batch)
        for row in batch.rows:
            number = batch.members[row.position]
            if row.mistake:
                self._requests.mistakes.note(row.detail, self._raised.get(number))
            if row.error is not None and batch.statuses[row.position] == _ABSENT:
                self._keep_own_error(number)
        if self._spec.returns is not None or (self._spec.decode and _may_take_long(batch)):
            for at, status in enumerate(batch.statuses):
                if status != _SUCCESS or not self._take_value(batch, at, nursery):
                    self._deliver(batch, at)
        elif self._on_result is not None:
            for at in range(len(batch.members)):
                self._deliver(batch, at)

    def _keep_own_error(self, number: int) -> None:
        """A model is absent by an exception of the coordinator's code, which was raised here."""
        error = self._actor(number).our_error
        if error is not None:
            self.columns.keep_error(number, error)

    def expire(self, *, seconds_late: float, cut_short: str) -> None:
        """Make the results of answers that were not decoded by the deadline."""
        reading, self._reading = self._reading, {}
        for number, (batch, at) in reading.items():
            text = cut_short or cut_off_text(Progress.READING, seconds_late=seconds_late)
            outcome = outcome_of_cut_off(
                Progress.READING, seconds_late=seconds_late, cut_short=bool(cut_short)
            )
            actor, elapsed = self._actor(number), batch.elapsed[at]
            self.put(actor, RULES[outcome].status, text, TimeoutError(text), elapsed=elapsed)

    def _actor(self, number: int) -> RemoteActor:
        return self._table.actors[self._table.by_number[number]]

    def _deliver(self, batch: Results, at: int) -> None:
        if self._on_result is not None:
            self._on_result(self.columns.result_of(batch, at))

    def _take_value(self, batch: Results, at: int, nursery: trio.Nursery) -> bool:
        """Make the value of an answer; False if that may wait."""
        encoded, number = self.columns.encoded(batch, at), batch.members[at]
        if self._spec.takes_long_to_decode(encoded):
            self._reading[number] = batch, at
            nursery.start_soon(self._read, encoded, number)
        elif self._spec.returns is not None:
            self._end_with(batch, at, self._spec.value_of(encoded))
        else:
            return False
        return True

    @enable_ki_protection
    async def _read(self, encoded: Encoded, number: int) -> None:
        value = await value_of_slow(self._spec, encoded, self._readers, self._actor(number).runner.model_id)
        read = self._reading.pop(number, None)
        if read is not None:
            self._end_with(*read, value)
        self.news.send()

    def _end_with(self, batch: Results, at: int, value: Value) -> None:
        number = batch.members[at]
        actor, outcome = self._actor(number), OUTCOME_OF_A_VALUE
        if value.error is not None:
            outcome = outcome_of_value(value.error, misfits_count=value.misfits_count)
            if is_coordinators(outcome):
                self._requests.mistakes.note(value.detail, value.error if value.raised else None)
            else:
                drop_traceback(value.error)
        self.put(
            actor,
            RULES[outcome].status,
            value.detail,
            value.error,
            value=value.value,
            elapsed=batch.elapsed[at],
        )
        if self._spec.returns is not None:  # else the shard has counted it
            actor.conduct.note_call(self._evidence_of(number), outcome, value.detail, None)


def _may_take_long(batch: Results) -> bool:
    """Whether an answer may take long to decode."""
    if any(kind in batch.data_types for kind in FRAMES):
        return True
    ends = batch.ends
    if not ends or ends[-1] <= _NEVER_LONG:
        return False
    return max(map(int.__sub__, ends, (0, *ends[:-1]))) > _NEVER_LONG
