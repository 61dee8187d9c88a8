"""All messages between a driver and its shards, as strategies; and bytes that only look like a message."""

from __future__ import annotations

import json
import math
import struct
from array import array
from collections.abc import Mapping
from typing import Any, get_args

import attrs
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from trio_model_runner import DataType, Encoded
from trio_model_runner.model.lifecycle import JoinReason
from trio_model_runner.model.policy import Outcome
from trio_model_runner.orchestrator.infos import freeze
from trio_model_runner.sharding import messages
from trio_model_runner.sharding.messages import (
    FromDriver,
    FromShard,
    Results,
    Row,
    Standings,
    StandingTimes,
    WireArguments,
)
from trio_model_runner.sharding.wire import decode_from_driver, decode_from_shard, encode
from trio_model_runner.values.results import ModelState, Status

__all__ = ["ENCODED", "JSON", "KINDS", "MESSAGES", "decode", "forged", "parts_of"]

DRIVERS = get_args(FromDriver)
KINDS: tuple[Any, ...] = (*DRIVERS, *get_args(FromShard))

TEXTS = st.text(max_size=20)
WHOLE = st.integers(0, 2**32 - 1) | st.integers(0, 2**53)
NUMBERS = st.integers(0, 2**32 - 1)
SECONDS = st.floats(0, 1e9) | st.just(math.inf)
AGES = st.floats(allow_nan=False)
ENCODED = st.builds(Encoded, st.sampled_from(DataType), st.binary(max_size=40))
JSON: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e99, 1e99) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=3)
ARGUMENTS = st.builds(
    WireArguments,
    st.lists(ENCODED, max_size=3).map(tuple),
    st.dictionaries(TEXTS, ENCODED, max_size=3),
    TEXTS,
)
MEMBERS = st.lists(NUMBERS, max_size=5, unique=True).map(lambda numbers: array("I", numbers))

OF_NAMES: Mapping[str, SearchStrategy[Any]] = {
    "version": st.just(messages.VERSION),
    "index": st.integers(0, 2**16),
    "port": st.integers(0, 2**16 - 1),
    "level": st.integers(0, 50),
    "lease": st.floats(0.01, 100),
    "renew_every": st.floats(0.01, 100),
    "leave_after": st.floats(0.01, 100),
    "began": AGES,
    "overrun_sent": AGES,
    "overrun_since": AGES,
    "overrun_counts_from": AGES,
    "flags": st.lists(st.sampled_from(["created", "good", "peaceful", "silent"]), unique=True).map(tuple),
    "number": NUMBERS,
    "epoch": NUMBERS,
    "pid": NUMBERS,
    "infos": OBJECTS.map(freeze),
}
"""For fields whose bounds or values the type does not say."""

OF_TYPES: Mapping[str, SearchStrategy[Any]] = {
    "str": TEXTS,
    "str | None": st.none() | TEXTS,
    "int": WHOLE,
    "int | None": st.none() | WHOLE,
    "bool": st.booleans(),
    "float": SECONDS,
    "array[int]": MEMBERS,
    "Mapping[str, Any]": OBJECTS,
    "Mapping[str, Any] | None": st.none() | OBJECTS,
    "Mapping[str, tuple[str, ...]]": st.dictionaries(TEXTS, st.lists(TEXTS, max_size=2).map(tuple)),
    "Mapping[str, tuple[int, ...]]": st.dictionaries(TEXTS, st.lists(NUMBERS, max_size=2).map(tuple)),
    "JoinReason": st.sampled_from(JoinReason),
    "ModelState": st.sampled_from(ModelState),
    "Outcome | None": st.none() | st.sampled_from(Outcome),
    "Verb": st.sampled_from(messages.Verb),
    "JudgedKind": st.sampled_from(messages.JudgedKind),
    "WireArguments | None": st.none() | ARGUMENTS,
    "tuple[tuple[bytes, bytes], ...]": st.lists(
        st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=2
    ).map(tuple),
}


def strategy(field: attrs.Attribute[Any]) -> SearchStrategy[Any]:
    return OF_NAMES[field.name] if field.name in OF_NAMES else OF_TYPES[str(field.type)]


def built(kind: Any) -> SearchStrategy[Any]:
    fields = {each.name: strategy(each) for each in attrs.fields(kind)}
    return st.builds(kind, **fields)


@st.composite
def results(draw: DrawFn) -> Results:
    members = draw(MEMBERS)
    count = len(members)
    answers = draw(st.lists(st.none() | ENCODED, min_size=count, max_size=count))
    data = b""
    ends = array("Q")
    for answer in answers:
        data += b"" if answer is None else answer.data
        ends.append(len(data))
    positions = draw(st.lists(st.integers(0, count - 1), unique=True)) if count else []
    return Results(
        draw(WHOLE),
        members,
        statuses=bytes(draw(st.lists(st.integers(0, len(Status) - 1), min_size=count, max_size=count))),
        sent=bytes(draw(st.lists(st.booleans(), min_size=count, max_size=count))),
        elapsed=array("d", draw(st.lists(st.floats(0, 1e9), min_size=count, max_size=count))),
        data_types=bytes(0xFF if each is None else each.data_type for each in answers),
        ends=ends,
        data=data,
        rows=tuple(attrs.evolve(draw(built(Row)), position=each) for each in positions),
        witnesses=draw(strategy(attrs.fields(Results).witnesses)),
        last=draw(st.booleans()),
    )


STANDINGS = st.builds(
    Standings,
    WHOLE,
    st.lists(st.builds(StandingTimes, NUMBERS, TEXTS, AGES, AGES, AGES), max_size=4).map(tuple),
)

SPECIAL: Mapping[Any, SearchStrategy[Any]] = {Results: results(), Standings: STANDINGS}
MESSAGES: Mapping[Any, SearchStrategy[Any]] = {
    kind: SPECIAL[kind] if kind in SPECIAL else built(kind) for kind in KINDS
}
"""For each class of messages, any that can be sent."""


def decode(kind: Any, data: bytes) -> FromDriver | FromShard:
    """Read what should be a message of that kind, on the side that may get it."""
    return decode_from_driver(data) if kind in DRIVERS else decode_from_shard(data)


def parts_of(message: FromDriver | FromShard) -> tuple[int, Any, bytes]:
    """The number of its kind, its JSON, and what is behind that."""
    data = encode(message)
    number, length = struct.unpack_from("<BI", data)
    return number, json.loads(data[5 : 5 + length]), data[5 + length :]


def forged(number: int, told: Any, rest: bytes = b"") -> bytes:
    """A message with any JSON, or with any bytes in its place."""
    header = told if isinstance(told, bytes) else json.dumps(told).encode()
    return struct.pack("<BI", number, len(header)) + header + rest
