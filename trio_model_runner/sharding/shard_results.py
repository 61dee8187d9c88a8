"""The results of a shard's rounds on their way to the driver: collected as rows, sent as columns.

It must not know calls, or how results are made.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..services.base import NOTHING
from ..signal import Signal
from ..values.encoded import Encoded
from ..values.results import PredictResult, Status
from .messages import FromShard, Results, RoundBegin, Row
from .told_errors import name_of, text_of

if TYPE_CHECKING:
    from ..model.policy import Outcome
    from ..values.results import ModelIdentity

__all__ = ["Batches", "Collected"]

_LONGEST_WAIT: Final = 0.003
"""Seconds that a result waits for others, while the event loop is busy."""

_LARGEST: Final = 4 << 20
"""Bytes of answers in one message, if it is not a single answer: a renewal waits for no longer than that."""

_PLACES: Final = {str(status): place for place, status in enumerate(Status)}
_SUCCESS: Final = _PLACES[Status.SUCCESS]
_NO_ANSWER: Final = 0xFF
_WITNESSES: Final = 2


class _Columns:
    """Results in columns; see `Results`. They are filled row by row, which costs least.

    Attributes:
        members: the models.
        end: how many bytes of answers there are.
    """

    __slots__ = ("_data", "_data_types", "_elapsed", "_ends", "_rows", "_sent", "_statuses", "end", "members")

    def __init__(self) -> None:
        self.members = array("I")
        self.end = 0
        self._statuses = bytearray()
        self._sent = bytearray()
        self._elapsed = array("d")
        self._data_types = bytearray()
        self._ends = array("Q")
        self._data: list[bytes] = []
        self._rows: list[Row] = []

    def add(
        self, number: int, place: int, sent: bool, elapsed: float, value: Encoded | None, row: Row | None
    ) -> None:
        """Take a result: of which model, the place of its status, and what `Row` says.

        Args:
            number: the model's.
            place: of the status in `Status`.
            sent: whether the request may have reached the model.
            elapsed: seconds.
            value: the answer, as it came.
            row: what else there is to say; None if nothing.
        """
        if row is not None:
            self._rows.append(attrs.evolve(row, position=len(self.members)))
        self.members.append(number)
        self._statuses.append(place)
        self._sent.append(sent)
        self._elapsed.append(elapsed)
        if value is None:
            self._data_types.append(_NO_ANSWER)
        else:
            self._data_types.append(value.data_type)
            self._data.append(value.data)
            self.end += len(value.data)
        self._ends.append(self.end)

    def to_message(self, round_number: int, witnesses: Mapping[str, tuple[int, ...]], last: bool) -> Results:
        """Make the message."""
        return Results(
            round=round_number,
            members=self.members,
            statuses=bytes(self._statuses),
            sent=bytes(self._sent),
            elapsed=self._elapsed,
            data_types=bytes(self._data_types),
            ends=self._ends,
            data=b"".join(self._data),
            rows=tuple(self._rows),
            witnesses=witnesses,
            last=last,
        )


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
        self._full: list[_Columns] = []
        self._columns = _Columns()
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
        number, error = self.numbers[result.model], result.error
        if result.status is Status.SUCCESS and not result.detail:
            if shape is not None and len(self._witnesses.get(shape, ())) < _WITNESSES:
                self._note_witness(shape, number)
            value = NOTHING if result.value is None else result.value  # as after a reset
            self._add(number, _SUCCESS, result.sent, result.elapsed, value, None)
            return
        row = _row(result.detail, error, outcome if self._judged else None, mistake=mistake)
        self._add(number, _PLACES[result.status], result.sent, result.elapsed, result.value, row)

    def add_plain(self, number: int, status: Status, detail: str, error: Exception | None = None) -> None:
        """Note that there is no result of a member; with an error of ours, its request may have been sent."""
        row = _row(detail, error, None, mistake=error is not None)
        self._add(number, _PLACES[status], error is not None, 0.0, None, row)

    def complete(self, detail: str, error: Exception | None = None) -> None:
        """End the round: members that have no result get one that says why."""
        for number in list(self._missing):
            self.add_plain(number, Status.FAILED, detail, error or RuntimeError(detail))
        self._tell(self)

    def _add(
        self, number: int, place: int, sent: bool, elapsed: float, value: Encoded | None, row: Row | None
    ) -> None:
        if number not in self._missing:  # only the first counts
            return
        del self._missing[number]
        if value is not None and self._columns.end and self._columns.end + len(value.data) > _LARGEST:
            self._full.append(self._columns)
            self._columns = _Columns()
        self._columns.add(number, place, sent, elapsed, value, row)
        self._tell(self)

    def take(self) -> list[Results]:
        """What is to be sent now, in messages of a bounded size. The last of a round is marked."""
        if self._ended or (self._missing and not self._columns.members):
            return []
        self._ended = not self._missing
        full, columns, witnesses = self._full, self._columns, self._new_witnesses
        self._full, self._columns, self._new_witnesses = [], _Columns(), {}
        return [
            *(each.to_message(self._round, {}, False) for each in full),
            columns.to_message(self._round, witnesses, self._ended),
        ]

    def _note_witness(self, shape: str, number: int) -> None:
        self._witnesses[shape] = (*self._witnesses.get(shape, ()), number)
        self._new_witnesses[shape] = (*self._new_witnesses.get(shape, ()), number)


def _row(detail: str, error: BaseException | None, outcome: Outcome | None, *, mistake: bool) -> Row:
    return Row(
        0,
        detail=detail,
        error=None if error is None else text_of(error),
        error_kind="" if error is None else name_of(error),
        outcome=outcome,
        mistake=mistake,
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
            if collected not in self._waiting:
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
