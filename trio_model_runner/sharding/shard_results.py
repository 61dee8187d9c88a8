"""The results of a shard's rounds on their way to the driver: collected as rows, sent as columns.

It must not know calls, or how results are made.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..services.base import NOTHING
from ..signal import Signal
from ..values.encoded import Encoded
from ..values.results import PredictResult, Status
from .messages import FromShard, Results, RoundBegin, Row

if TYPE_CHECKING:
    from ..model.policy import Outcome
    from ..values.results import ModelIdentity

__all__ = ["Batches", "Collected"]

_LONGEST_WAIT: Final = 0.003
"""Seconds that a result waits for others, while the event loop is busy."""

_LARGEST: Final = 4 << 20
"""Bytes of answers in one message, if it is not a single answer: a renewal waits for no longer than that."""

_STATUS: Final = {status: place for place, status in enumerate(Status)}
_NO_ANSWER: Final = 0xFF
_WITNESSES: Final = 2


@attrs.define(eq=False)
class _Result:
    """One result.

    Attributes:
        number: the model's.
        status: how the call ended.
        sent: whether the request may have reached the model.
        elapsed: seconds.
        value: the answer, as it came.
        row: what else there is to say; None if nothing.
    """

    number: int
    status: Status
    sent: bool
    elapsed: float
    value: Encoded | None
    row: Row | None


class Collected:
    """What has come of one round.

    Args:
        begin: the round.
        numbers: the numbers of the members that are here, by handle.
        tell: told that there is something to be sent.

    Attributes:
        numbers: the same.
    """

    def __init__(
        self,
        begin: RoundBegin,
        numbers: Mapping[ModelIdentity, int],
        tell: Callable[[Collected], None],
    ) -> None:
        self.numbers = numbers
        self._round = begin.round
        self._judged = begin.judged
        self._missing = dict.fromkeys(begin.members)
        self._results: list[_Result] = []
        self._witnesses: dict[str, tuple[int, ...]] = {}  # by shape
        self._new_witnesses: dict[str, tuple[int, ...]] = {}
        self._ended = False
        self._tell = tell

    @property
    def open(self) -> int:
        """How many members have no result yet."""
        return len(self._missing)

    def add(
        self,
        result: PredictResult[Any],
        outcome: Outcome | None = None,
        *,
        mistake: bool = False,
        shape: str | None = None,
    ) -> None:
        """Take a result.

        Args:
            result: the result, whose value is an `Encoded` as it came.
            outcome: what it means.
            mistake: it failed by the coordinator's own fault.
            shape: of the arguments, if a success with them counts.
        """
        error, value = result.error, result.value
        if result.status is Status.SUCCESS:
            value = NOTHING if value is None else value  # as after a reset
            if shape is not None:
                self._note_witness(shape, self.numbers[result.model])
        row = None
        if result.detail or error is not None or mistake or result.status is not Status.SUCCESS:
            row = Row(
                0,
                detail=result.detail,
                error=None if error is None else str(error),
                error_kind="" if error is None else type(error).__name__,
                outcome=outcome if self._judged else None,
                mistake=mistake,
            )
        self._add(
            _Result(
                self.numbers[result.model],
                result.status,
                result.sent,
                result.elapsed,
                value,
                row,
            )
        )

    def add_plain(self, number: int, status: Status, detail: str, error: Exception | None = None) -> None:
        """Note that there is no result of a member, for whom nothing was sent for certain."""
        row = Row(
            0,
            detail=detail,
            error=None if error is None else str(error),
            error_kind="" if error is None else type(error).__name__,
            mistake=error is not None,
        )
        self._add(_Result(number, status, error is not None, 0.0, None, row))

    def complete(self, detail: str, error: Exception | None = None) -> None:
        """End the round: members that have no result get one that says why."""
        for number in list(self._missing):
            self.add_plain(number, Status.FAILED, detail, error or RuntimeError(detail))
        self._tell(self)

    def _add(self, result: _Result) -> None:
        if result.number in self._missing:  # only the first counts
            del self._missing[result.number]
            self._results.append(result)
            self._tell(self)

    def take(self) -> list[Results]:
        """What is to be sent now, in messages of a bounded size. The last of a round is marked."""
        if self._ended:
            return []
        results, self._results = self._results, []
        pieces: list[list[_Result]] = [[]]
        size = 0
        for result in results:
            length = 0 if result.value is None else len(result.value.data)
            if pieces[-1] and size + length > _LARGEST:
                pieces.append([])
                size = 0
            pieces[-1].append(result)
            size += length
        self._ended = not self._missing
        if not results and not self._ended:
            return []
        messages = [self._columns(piece) for piece in pieces]
        witnesses, self._new_witnesses = self._new_witnesses, {}
        messages[-1] = attrs.evolve(messages[-1], witnesses=witnesses, last=self._ended)
        return messages

    def _note_witness(self, shape: str, number: int) -> None:
        known = self._witnesses.get(shape, ())
        if len(known) < _WITNESSES:
            self._witnesses[shape] = self._new_witnesses[shape] = (*known, number)

    def _columns(self, results: Sequence[_Result]) -> Results:
        ends, end = array("Q"), 0
        data: list[bytes] = []
        for result in results:
            if result.value is not None:
                data.append(result.value.data)
                end += len(result.value.data)
            ends.append(end)
        return Results(
            round=self._round,
            members=array("I", [result.number for result in results]),
            statuses=bytes([_STATUS[result.status] for result in results]),
            sent=bytes([result.sent for result in results]),
            elapsed=array("d", [result.elapsed for result in results]),
            data_types=bytes(
                [_NO_ANSWER if result.value is None else result.value.data_type for result in results]
            ),
            ends=ends,
            data=b"".join(data),
            rows=tuple(
                attrs.evolve(result.row, position=position)
                for position, result in enumerate(results)
                if result.row is not None
            ),
        )


class Batches:
    """Sends results in batches.

    Args:
        say: says something to the driver. It must neither raise nor wait.
    """

    def __init__(self, say: Callable[[FromShard], None]) -> None:
        self._say = say
        self._waiting: dict[Collected, None] = {}
        self._results = 0  # so many have ever come
        self._came = Signal()

    def collect(self, begin: RoundBegin, numbers: Mapping[ModelIdentity, int]) -> Collected:
        """Take the results of a round, from now on."""
        return Collected(begin, numbers, self._note)

    def _note(self, collected: Collected) -> None:
        self._results += 1
        if collected.open:
            self._waiting[collected] = None
            self._came.send()
        else:
            self._waiting.pop(collected, None)
            self._send(collected)

    def _send(self, collected: Collected) -> None:
        for message in collected.take():
            self._say(message)

    @enable_ki_protection
    async def run(self) -> None:
        """Send, until cancelled. What is left then, `send_all` sends."""
        while True:
            await self._came.wait_until(lambda: bool(self._waiting))
            latest = trio.current_time() + _LONGEST_WAIT
            before = -1
            while before != self._results and trio.current_time() < latest:
                before = self._results
                await trio.lowlevel.checkpoint()  # others run, and what has arrived is read
            self.send_all()

    def send_all(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, {}
        for collected in waiting:
            self._send(collected)
