"""The bytes of messages between a driver and its shards, and back.

A message is one byte for its kind (see `_KINDS`), four bytes for the length of its JSON, that JSON with its
small fields (`wire_fields`), and what is large or many behind it (`wire_columns`):

- RoundBegin: 8 bytes for its seconds, 4 for a count, the members, and the bytes of all arguments.
- ArgumentsGiven: the bytes of all arguments.
- Results: 4 bytes for a count, its columns in the order of the class, and the data.
- Standings: 4 bytes for a count, and a column for each field of `StandingTimes`.

Numbers are little-endian. Nothing is pickled, and any bytes are a message or a `WireError`: no other
exception. To make a message copies what is large once, into the message. `Results.data` is read without a
copy, so it keeps the whole message; arguments are copied once more, since requests are made of them.

This module does no I/O, and must not know what a message leads to.
"""

from __future__ import annotations

import itertools
import operator
import struct
from array import array
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

from ..model.policy import Outcome
from ..values.encoded import DataType
from ..values.results import Status
from . import messages
from .messages import (
    VERSION,
    ArgumentsGiven,
    FromDriver,
    FromShard,
    Hello,
    Results,
    RoundBegin,
    Row,
    ShardReady,
    Standings,
    StandingTimes,
)
from .wire_columns import (
    Columns,
    arguments_index,
    buffers_of,
    check_each_once,
    check_seconds,
    column,
    counted,
    read_arguments,
)
from .wire_fields import fields_of, message_of
from .wire_json import WireError, read_json, write_json

__all__ = ["RoundEncoder", "WireError", "decode_from_driver", "decode_from_shard", "encode"]

Bytes: TypeAlias = bytes | memoryview

_KINDS: Final[Mapping[int, Any]] = {
    0x01: Hello,
    0x02: messages.Start,
    0x03: messages.Command,
    0x04: messages.JoinEnded,
    0x05: RoundBegin,
    0x06: messages.RoundCut,
    0x07: ArgumentsGiven,
    0x08: messages.AskMembers,
    0x09: messages.AskStandings,
    0x0A: messages.StandingCorrected,
    0x0B: messages.LeaseGranted,
    0x0C: messages.Leave,
    0x81: ShardReady,
    0x82: messages.State,
    0x83: messages.JoinWanted,
    0x84: Results,
    0x85: messages.ArgumentsWanted,
    0x86: messages.Judged,
    0x87: messages.MembersAsked,
    0x88: Standings,
    0x89: messages.Renewal,
    0x8A: messages.Logged,
    0x8B: messages.Ended,
}
"""The first byte of each message. A driver's are below 0x80, and a shard's are not."""

_FROM_SHARD: Final = 0x80
_KIND_OF: Final = {kind: number for number, kind in _KINDS.items()}

_HEAD: Final = struct.Struct("<BI")
_SECONDS: Final = struct.Struct("<d")
_ROUND_COLUMNS: Final = frozenset({"seconds", "members", "arguments"})
_RESULT_COLUMNS: Final = frozenset(
    {"members", "statuses", "sent", "elapsed", "data_types", "ends", "data", "rows"}
)

_NO_ANSWER: Final = 0xFF
_STATUSES: Final = bytes(range(len(Status)))
_FLAGS: Final = b"\0\1"
_DATA_TYPES: Final = bytes([*DataType, _NO_ANSWER])
_IS_NO_ANSWER: Final = bytes(each == _NO_ANSWER for each in range(256))


def encode(message: FromDriver | FromShard) -> bytes:
    """Make the bytes of a message. A `RoundBegin` for several shards is cheaper with a `RoundEncoder`.

    Raises:
        WireError: something in it can't be sent: columns that do not fit each other, a NaN, more than a
            million members.
    """
    match message:
        case RoundBegin():
            return RoundEncoder(message).for_shard(message.members, message.seconds)
        case ArgumentsGiven():
            fields = fields_of(message, without=frozenset({"arguments"}))
            fields["arguments"] = arguments_index(message.arguments)
            return _joined(message, fields, *buffers_of(message.arguments))
        case Results():
            return _encode_results(message)
        case Standings():
            return _encode_standings(message)
        case _:
            return _joined(message, fields_of(message))


class RoundEncoder:
    """Makes the bytes of one `RoundBegin` for several shards, where only members and seconds differ.

    Everything else is encoded once, here. For each shard, the bytes of the arguments are copied once, into
    its message.

    Args:
        begin: the round; its members and seconds are not used.
    """

    def __init__(self, begin: RoundBegin) -> None:
        fields = fields_of(begin, without=_ROUND_COLUMNS)
        fields["arguments"] = arguments_index(begin.arguments)
        self._head = _head(begin, fields)
        self._buffers = buffers_of(begin.arguments)

    def for_shard(self, members: array[int], seconds: float) -> bytes:
        """The message for a shard that has these members.

        Raises:
            WireError: see `encode`.
        """
        count = len(members)
        if not seconds >= 0.0:
            raise WireError(f"RoundBegin.seconds: must be a number >= 0, got {seconds}")
        columns = _SECONDS.pack(seconds), counted(count), column(members, "I", count)
        return b"".join((*self._head, *columns, *self._buffers))


def _head(message: object, fields: Mapping[str, Any]) -> tuple[bytes, bytes]:
    kind = type(message)
    if kind not in _KIND_OF:
        raise WireError(f"{kind.__name__} is no message")
    try:
        header = write_json(fields)
    except WireError as error:
        raise WireError(f"{kind.__name__}: {error}") from None
    return _HEAD.pack(_KIND_OF[kind], len(header)), header


def _joined(message: object, fields: Mapping[str, Any], *rest: Bytes) -> bytes:
    return b"".join((*_head(message, fields), *rest))


def _encode_results(results: Results) -> bytes:
    count = len(results.members)
    if not len(results.statuses) == len(results.sent) == len(results.data_types) == count:
        raise WireError("Results: has columns of several lengths")
    fields = fields_of(results, without=_RESULT_COLUMNS)
    if results.rows:
        fields["rows"] = [*zip(*map(_row_fields, results.rows), strict=True)]
    return _joined(
        results,
        fields,
        counted(count),
        column(results.members, "I", count),
        results.statuses,
        results.sent,
        column(results.elapsed, "d", count),
        results.data_types,
        column(results.ends, "Q", count),
        results.data,
    )


def _row_fields(row: Row) -> tuple[Any, ...]:
    name = None if row.outcome is None else row.outcome.name
    return row.position, row.detail, row.error, row.error_kind, name, row.mistake


def _encode_standings(told: Standings) -> bytes:
    standings = told.standings
    places = {method: place for place, method in enumerate(dict.fromkeys(each.method for each in standings))}
    return _joined(
        told,
        {"question": told.question, "methods": list(places)},
        counted(len(standings)),
        _column_of("I", [each.number for each in standings]),
        _column_of("I", [places[each.method] for each in standings]),
        _column_of("d", [each.called for each in standings]),
        _column_of("d", [each.asked for each in standings]),
        _column_of("d", [each.succeeded for each in standings]),
    )


def _column_of(code: str, values: list[Any]) -> bytes:
    try:
        return column(array(code, values), code, len(values))
    except OverflowError as error:
        raise WireError(f"Standings: {error}") from None


def decode_from_driver(data: Bytes) -> FromDriver:
    """Read what a driver says.

    Raises:
        WireError: it is no message of a driver, or one of another version.
    """
    return cast("FromDriver", _decode(data, from_shard=False))


def decode_from_shard(data: Bytes) -> FromShard:
    """Read what a shard says. The data of `Results` is a view of `data`.

    Raises:
        WireError: it is no message of a shard, or one of another version.
    """
    return cast("FromShard", _decode(data, from_shard=True))


def _decode(data: Bytes, *, from_shard: bool) -> Any:
    if len(data) < _HEAD.size:
        raise WireError(f"a message has at least {_HEAD.size} bytes, got {len(data)}")
    number, length = _HEAD.unpack_from(data)
    kind = _KINDS.get(number)
    if kind is None or (number >= _FROM_SHARD) is not from_shard:
        who = "shard" if from_shard else "driver"
        raise WireError(f"a {who} has no message of kind {number:#04x}")
    columns = Columns(memoryview(data)[_HEAD.size :])
    try:
        told = read_json(bytes(columns.take(length)))
        if type(told) is not dict:
            raise WireError("has JSON that is no object")
        read = _READ.get(kind)
        message = message_of(kind, told) if read is None else read(told, columns)
        columns.check_end()
    except WireError as error:
        text, name = str(error), kind.__name__
        raise WireError(text if text.startswith(name) else f"{name}: {text}") from None
    return message


def _read_hello(told: dict[str, Any], columns: Columns) -> Hello:
    _check_version(told)
    return message_of(Hello, told)


def _read_shard_ready(told: dict[str, Any], columns: Columns) -> ShardReady:
    _check_version(told)
    return message_of(ShardReady, told)


def _check_version(told: dict[str, Any]) -> None:
    """Check the version first: in another one, all else may be different."""
    version = told.get("version")
    if type(version) is int and version != VERSION:
        raise WireError(
            f"driver and shard must run the same release: "
            f"this one speaks version {VERSION} of their messages, the other one {version}"
        )


def _read_round(told: dict[str, Any], columns: Columns) -> RoundBegin:
    (seconds,) = _SECONDS.unpack(columns.take(_SECONDS.size))
    if not seconds >= 0.0:
        raise WireError(f"RoundBegin.seconds: must be a number >= 0, got {seconds}")
    count = columns.count()
    members = columns.take_column("I", count)
    check_each_once(members)
    arguments = read_arguments(_required(told, "arguments"), columns)
    return message_of(RoundBegin, told, seconds=seconds, members=members, arguments=arguments)


def _read_given(told: dict[str, Any], columns: Columns) -> ArgumentsGiven:
    arguments = read_arguments(_required(told, "arguments"), columns)
    return message_of(ArgumentsGiven, told, arguments=arguments)


def _required(told: dict[str, Any], name: str) -> Any:
    if name not in told:
        raise WireError(f"has no {name}")
    return told.pop(name)


def _read_results(told: dict[str, Any], columns: Columns) -> Results:
    count = columns.count()
    members = columns.take_column("I", count)
    statuses = bytes(columns.take(count))
    sent = bytes(columns.take(count))
    elapsed = columns.take_column("d", count)
    data_types = bytes(columns.take(count))
    ends = columns.take_column("Q", count)
    data = columns.take_all()
    if (
        statuses.translate(None, _STATUSES)
        or sent.translate(None, _FLAGS)
        or data_types.translate(None, _DATA_TYPES)
    ):
        raise WireError("has a status, a flag or a data type that is none")
    check_seconds(elapsed)
    _check_ends(ends, data_types, len(data))
    rows = _read_rows(told.pop("rows", None), count)
    return message_of(
        Results,
        told,
        members=members,
        statuses=statuses,
        sent=sent,
        elapsed=elapsed,
        data_types=data_types,
        ends=ends,
        data=data,
        rows=rows,
    )


def _check_ends(ends: array[int], data_types: bytes, length: int) -> None:
    """Check that answers end one after the other, the last one with the data; and that no answer is empty."""
    if (ends[-1] if ends else 0) != length or not all(
        map(operator.le, ends, itertools.islice(ends, 1, None))
    ):
        raise WireError("has answers that do not fill its data one after the other")
    if _NO_ANSWER in data_types:
        sizes = map(operator.sub, ends, itertools.chain((0,), ends))
        if any(itertools.compress(sizes, data_types.translate(_IS_NO_ANSWER))):
            raise WireError("has data where there is no answer")


def _read_rows(told: Any, count: int) -> tuple[Row, ...]:
    if told is None:
        return ()
    if type(told) is not list or len(told) != len(_ROW_TYPES) or any(type(each) is not list for each in told):
        raise WireError("Results.rows: must be the columns of rows")
    number = len(told[0])
    for values, types in zip(told, _ROW_TYPES, strict=True):
        if len(values) != number or not types.issuperset(map(type, values)):
            raise WireError("Results.rows: has a column with another length, or with other values")
    positions, *texts, names, mistakes = told
    if not number or len(set(positions)) < number or min(positions) < 0 or max(positions) >= count:
        raise WireError("Results.rows: must have positions of members, each once")
    if not _OUTCOMES.keys() >= set(names):
        raise WireError("Results.rows: has what is no outcome")
    return tuple(map(Row, positions, *texts, map(_OUTCOMES.get, names), mistakes))


_NONE: Final = type(None)
_ROW_TYPES: Final[tuple[frozenset[type], ...]] = (
    frozenset({int}),
    frozenset({str}),
    frozenset({str, _NONE}),
    frozenset({str}),
    frozenset({str, _NONE}),
    frozenset({bool}),
)
_OUTCOMES: Final[Mapping[str | None, Outcome | None]] = {
    None: None,
    **{each.name: each for each in Outcome},
}


def _read_standings(told: dict[str, Any], columns: Columns) -> Standings:
    count = columns.count()
    numbers, places = columns.take_column("I", count), columns.take_column("I", count)
    times = [columns.take_column("d", count) for _ in range(3)]
    methods = _required(told, "methods")
    if type(methods) is not list or not {str}.issuperset(map(type, methods)):
        raise WireError("Standings.methods: must be a list of texts")
    if count and max(places) >= len(methods):
        raise WireError("Standings.methods: has too few methods")
    if any(map(operator.ne, itertools.chain(*times), itertools.chain(*times))):
        raise WireError("has a time that is no number")
    standings = map(StandingTimes, numbers, map(methods.__getitem__, places), *times)
    return message_of(Standings, told, standings=tuple(standings))


_READ: Final[Mapping[Any, Callable[[dict[str, Any], Columns], Any]]] = {
    Hello: _read_hello,
    ShardReady: _read_shard_ready,
    RoundBegin: _read_round,
    ArgumentsGiven: _read_given,
    Results: _read_results,
    Standings: _read_standings,
}
