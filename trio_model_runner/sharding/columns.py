"""The results of a round over shards: kept in columns as they came, and made when they are looked at.

To make a `PredictResult` of each answer takes longer than everything else that a driver does in a round, and
a coordinator may look at few of them. So an answer is decoded when its result is looked at, and that result
is kept. What can't wait (a value that `returns=` must take, a data frame) was made before, by
`sharded_round`. This module knows nothing of messages' ways, of time, or of what counts.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ..model.call import drop_traceback
from ..values.encoded import DataType, Encoded
from ..values.prediction_round import PredictionRound
from ..values.results import PredictResult, Status
from .messages import Results, Row
from .told_errors import error_named

if TYPE_CHECKING:
    from ..model.handle import ModelRunner
    from ..model.round_spec import RoundSpec
    from .remote_actor import RemoteActor

__all__ = ["STATUSES", "ColumnRound", "Columns", "Table"]

STATUSES: Final = tuple(Status)
"""A status is its place here, in a byte."""

_PLACES: Final = {status: place for place, status in enumerate(STATUSES)}
_NO_TYPE: Final = 0xFF
_NO_ROW: Final = Row(0)


class Table:
    """The members of a round, in order. Rounds with the same members share one.

    Attributes:
        actors: the members.
        positions: where each model is among them, by its handle.
        by_number: the same by its number.
    """

    def __init__(self, actors: Sequence[RemoteActor]) -> None:
        self.actors = actors
        self.positions: dict[ModelRunner, int] = {actor.runner: at for at, actor in enumerate(actors)}
        self.by_number = {actor.number: at for at, actor in enumerate(actors)}


class _Made(Mapping["ModelRunner", PredictResult[Any]]):
    """A mapping whose values are made when they are looked at; else it behaves as a `dict`."""

    def copy(self) -> dict[ModelRunner, PredictResult[Any]]:
        return dict(self)

    def __reversed__(self) -> Iterator[ModelRunner]:
        return reversed(list(self))

    def __or__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(self) | dict(other)

    def __ror__(self, other: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(other) | dict(self)

    def __repr__(self) -> str:
        return repr(dict(self))


class Columns(_Made):
    """The results of one round: a mapping from model to result.

    Args:
        table: the members.
        spec: what is asked.
    """

    def __init__(self, table: Table, spec: RoundSpec) -> None:
        self._table = table
        self._spec = spec
        self._made: dict[int, PredictResult[Any]] = {}
        self._batches: list[tuple[Results, Mapping[int, Row]]] = []
        self._errors: dict[int, Exception] = {}

    # What comes.

    def put(self, position: int, result: PredictResult[Any]) -> None:
        """Take a result that is made already. It replaces one that came in a batch."""
        self._made[position] = result

    def add(self, batch: Results) -> None:
        """Take a batch. None of its members has a result yet."""
        self._batches.append((batch, {row.position: row for row in batch.rows}))

    def keep_error(self, number: int, error: Exception) -> None:
        """The exception behind a model's result, which was raised here."""
        self._errors[number] = error

    @property
    def count(self) -> int:
        """How many members have a result."""
        numbers = {self._table.actors[position].number for position in self._made}
        numbers.update(*(batch.members for batch, _ in self._batches))
        return len(numbers)

    def encoded(self, batch: Results, at: int) -> Encoded:
        """The answer at a place in a batch."""
        start, kind = batch.ends[at - 1] if at else 0, batch.data_types[at]
        data_type = DataType.NONE if kind == _NO_TYPE else DataType(kind)
        return Encoded(data_type, batch.data[start : batch.ends[at]])

    def result_of(self, batch: Results, at: int) -> PredictResult[Any]:
        """Make the result at a place in a batch, and keep it."""
        position = self._table.by_number[batch.members[at]]
        made = self._made.get(position)
        if made is None:
            row = next((each for each in batch.rows if each.position == at), _NO_ROW)
            made = self._made[position] = self._make(batch, at, row)
        return made

    def error_of(self, number: int, row: Row) -> Exception | None:
        """The exception behind a result."""
        if row.error is None:
            return None
        return self._errors.get(number) or error_named(row.error_kind, row.error)

    # What is looked at.

    def __getitem__(self, model: ModelRunner) -> PredictResult[Any]:
        position = self._table.positions[model]
        made = self._made.get(position)
        if made is None:
            batch, rows, at = self._places[position]
            made = self._made[position] = self._make(batch, at, rows.get(at, _NO_ROW))
        return made

    def __iter__(self) -> Iterator[ModelRunner]:
        return iter(self._table.positions)

    def __len__(self) -> int:
        return len(self._table.actors)

    def __contains__(self, model: object) -> bool:
        return model in self._table.positions

    def with_status(self, status: Status) -> Mapping[ModelRunner, PredictResult[Any]]:
        """The results with a status."""
        return MappingProxyType(_Group(self, status))

    @cached_property
    def statuses(self) -> bytes:
        """The place in `STATUSES` of each member's status; to be asked when all results have come."""
        found, by_number = bytearray(len(self)), self._table.by_number
        for batch, _ in self._batches:
            for number, status in zip(batch.members, batch.statuses, strict=True):
                found[by_number[number]] = status
        for position, made in self._made.items():
            found[position] = _PLACES[made.status]
        return bytes(found)

    @cached_property
    def _places(self) -> Mapping[int, tuple[Results, Mapping[int, Row], int]]:
        by_number = self._table.by_number
        return {
            by_number[number]: (batch, rows, at)
            for batch, rows in self._batches
            for at, number in enumerate(batch.members)
        }

    def _make(self, batch: Results, at: int, row: Row) -> PredictResult[Any]:
        number, status = batch.members[at], STATUSES[batch.statuses[at]]
        actor = self._table.actors[self._table.by_number[number]]
        value, detail, error = None, row.detail, self.error_of(number, row)
        if status is Status.SUCCESS:
            encoded = self.encoded(batch, at)
            if not self._spec.decode:
                value = encoded
            else:
                decoded = self._spec.value_of(encoded)
                value = decoded.value
                if decoded.error is not None:  # the shard could read it
                    drop_traceback(decoded.error)
                    status, detail, error = Status.FAILED, decoded.detail, decoded.error
        return PredictResult(
            model=actor.runner,
            status=status,
            value=value,
            elapsed=batch.elapsed[at],
            detail=detail,
            error=error,
            sent=bool(batch.sent[at]),
        )


class _Group(_Made):
    """The results with one status."""

    def __init__(self, columns: Columns, status: Status) -> None:
        self._columns = columns
        self._place = _PLACES[status]

    def __getitem__(self, model: ModelRunner) -> PredictResult[Any]:
        if model not in self:
            raise KeyError(model)
        return self._columns[model]

    def __contains__(self, model: object) -> bool:
        columns = self._columns
        return model in columns and columns.statuses[columns._table.positions[model]] == self._place  # type: ignore[index]

    def __iter__(self) -> Iterator[ModelRunner]:
        place = self._place
        return (
            model
            for model, status in zip(self._columns, self._columns.statuses, strict=True)
            if status == place
        )

    def __len__(self) -> int:
        return self._columns.statuses.count(self._place)


class ColumnRound(PredictionRound[Any]):
    """A round whose results are made when they are looked at.

    Args:
        columns: the results, all of them.
        **settings: see `PredictionRound`.
    """

    def __init__(self, columns: Columns, **settings: Any) -> None:
        super().__init__({}, **settings)
        self._results = self._columns = columns  # type: ignore[assignment]

    @cached_property
    def _by_status(self) -> dict[Status, Mapping[Any, PredictResult[Any]]]:
        return {status: self._columns.with_status(status) for status in Status}


def rows_of(batch: Results, chosen: Sequence[int]) -> Results:
    """Some of the results of a batch."""
    moved = {at: place for place, at in enumerate(chosen)}
    pieces = [bytes(batch.data[batch.ends[at - 1] if at else 0 : batch.ends[at]]) for at in chosen]
    ends, total = array("Q"), 0
    for piece in pieces:
        total += len(piece)
        ends.append(total)
    return Results(
        round=batch.round,
        members=array("I", [batch.members[at] for at in chosen]),
        statuses=bytes(batch.statuses[at] for at in chosen),
        sent=bytes(batch.sent[at] for at in chosen),
        elapsed=array("d", [batch.elapsed[at] for at in chosen]),
        data_types=bytes(batch.data_types[at] for at in chosen),
        ends=ends,
        data=b"".join(pieces),
        rows=tuple(
            Row(moved[row.position], row.detail, row.error, row.error_kind, row.outcome, row.mistake)
            for row in batch.rows
            if row.position in moved
        ),
        witnesses=batch.witnesses,
        last=batch.last,
    )
