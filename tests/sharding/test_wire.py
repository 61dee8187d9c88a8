"""Messages between a driver and its shards become bytes and come back; any other bytes are a WireError."""

from __future__ import annotations

import contextlib
import functools
import math
import struct
import tracemalloc
from array import array
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from helpers.shard_messages import JSON, KINDS, MESSAGES, decode, forged, parts_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from trio_model_runner import DataType, Encoded
from trio_model_runner.model.lifecycle import JoinReason
from trio_model_runner.orchestrator.infos import freeze
from trio_model_runner.sharding import wire, wire_columns
from trio_model_runner.sharding.messages import (
    VERSION,
    ArgumentsGiven,
    Command,
    Hello,
    Judged,
    JudgedKind,
    Leave,
    Logged,
    Renewal,
    Results,
    RoundBegin,
    RoundCut,
    Row,
    ShardReady,
    Standings,
    StandingTimes,
    Start,
    Verb,
    WireArguments,
)
from trio_model_runner.sharding.wire import (
    RoundEncoder,
    WireError,
    decode_from_driver,
    decode_from_shard,
    encode,
)
from trio_model_runner.values.results import Status

NUMBERS = {kind: number for number, kind in wire._KINDS.items()}
EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)

ARGUMENTS = WireArguments((Encoded(DataType.JSON, b"[1]"),), {"x": Encoded(DataType.INT, b"8 bytes!")}, "s")
BEGIN = RoundBegin(3, "predict", 1.5, 2.0, array("I", [7, 5]), ARGUMENTS)
RESULTS = Results(
    3,
    array("I", [7, 5, 6]),
    statuses=b"\0\1\0",
    sent=b"\1\0\1",
    elapsed=array("d", [0.5, 0.0, 0.25]),
    data_types=b"\6\xff\6",
    ends=array("Q", [2, 2, 5]),
    data=b"12345",
    rows=(Row(1, "why"),),
)
START = Start(1, 1, "7", "d", "host", 80, {}, JoinReason.JOINED)
STANDINGS = Standings(2, (StandingTimes(1, "predict", 1.0, 2.0, math.inf),))


@EACH_KIND
@settings(max_examples=10)
@given(data=st.data())
def test_every_message_comes_back(kind: Any, data: DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    assert decode(kind, encode(message)) == message


@settings(max_examples=150)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_every_part_of_a_message_is_none(kind: Any, data: DataObject) -> None:
    encoded = encode(data.draw(MESSAGES[kind]))
    end = data.draw(st.integers(0, len(encoded) - 1))
    assert isinstance(refused_or_read(kind, encoded[:end]), WireError)
    longer = refused_or_read(kind, encoded + b"\0")
    assert isinstance(longer, WireError)
    assert len(str(longer)) < 200


@settings(max_examples=250)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_changed_bytes_are_a_message_or_refused(kind: Any, data: DataObject) -> None:
    encoded = bytearray(encode(data.draw(MESSAGES[kind])))
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(encoded)))
        end = begin + data.draw(st.integers(0, 4))
        encoded[begin:end] = data.draw(st.binary(max_size=5))
    refused_or_read(kind, bytes(encoded))


@settings(max_examples=250)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_changed_json_is_a_message_or_refused(kind: Any, data: DataObject) -> None:
    number, told, rest = parts_of(data.draw(MESSAGES[kind]))
    place: Any = told
    while place and data.draw(st.booleans()):
        inner = data.draw(st.sampled_from(list(place.values()) if isinstance(place, dict) else place))
        if not isinstance(inner, dict | list):
            break
        place = inner
    if isinstance(place, dict):
        names = [*place, *(each.name for each in attrs.fields(kind)), "unknown"]
        place[data.draw(st.sampled_from(names))] = data.draw(JSON)
    elif place:
        place[data.draw(st.integers(0, len(place) - 1))] = data.draw(JSON)
    refused_or_read(kind, forged(number, told, rest))


def refused_or_read(kind: Any, data: bytes) -> Any:
    """What is read, or the WireError. What is read can be sent again, and is the same then."""
    try:
        message: Any = decode(kind, data)
    except WireError as error:
        return error
    assert decode(type(message), encode(message)) == message
    return message


@given(st.integers(0, 255), JSON, st.binary(max_size=80))
def test_anything_is_a_message_or_refused(number: int, told: Any, rest: bytes) -> None:
    for read in (decode_from_driver, decode_from_shard):
        for data in (rest, forged(number, told, rest), forged(number, rest, rest)):
            with contextlib.suppress(WireError):
                read(data)


@EACH_KIND
def test_the_other_side_does_not_say_it(kind: Any) -> None:
    number = NUMBERS[kind]
    driver = number < 0x80
    read: Callable[[bytes], Any] = decode_from_shard if driver else decode_from_driver
    with pytest.raises(WireError, match=f"a {'shard' if driver else 'driver'} has no message of kind"):
        read(forged(number, {}))


def changed(message: Any, **fields: Any) -> bytes:
    """A message with other values in its JSON; `...` takes a field away."""
    number, told, rest = parts_of(message)
    told = {name: value for name, value in {**told, **fields}.items() if value is not ...}
    return forged(number, told, rest)


READY = ShardReady(VERSION, "host", 1)
HELLO = Hello(VERSION, 0, {}, None)
JUDGED = Judged(JudgedKind.NOTE, 1)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (changed(HELLO, version=VERSION + 1, config=...), f"speaks version {VERSION} .* the other one"),
        (changed(READY, version=True), r"ShardReady.version: must be a whole number"),
        (changed(START, port=65_536), r"Start.port: must be a whole number from 0 to 65535, got 65536"),
        (changed(START, port=-1), r"Start.port"),
        (changed(START, port="80"), r"Start.port"),
        (changed(START, number=2**32), r"Start.number"),
        (changed(START, epoch=True), r"Start.epoch"),
        (changed(START, host=None), r"Start.host: must be text, got None"),
        (changed(START, host=...), r"Start.host: is missing"),
        (changed(START, known=1), r"Start.known: must be true or false"),
        (changed(START, reason="JOINED"), r"Start.reason: must be a JoinReason"),
        (changed(START, reason=["joined"]), r"Start.reason: must be a JoinReason"),
        (changed(START, infos=[]), r"Start.infos: must be an object"),
        (changed(START, infos={"x": "y" * 20_000}), r"Start.infos: they have more than"),
        (changed(START, model="7"), r"Start: has no field 'model'"),
        (changed(HELLO, lease=0), r"Hello.lease"),
        (changed(HELLO, lease="inf"), r"Hello.lease"),
        (changed(RoundCut(1, 0.0, ""), seconds=-0.5), r"RoundCut.seconds: must be a number from 0 to inf"),
        (changed(RoundCut(1, 0.0, ""), seconds="nan"), r"RoundCut.seconds"),
        (changed(RoundCut(1, 0.0, ""), seconds=10**400), r"RoundCut.seconds"),
        (changed(Renewal(1), sequence=2**53 + 1), r"Renewal.sequence"),
        (changed(JUDGED, outcome="succeeded"), r"Judged.outcome: must be a Outcome"),
        (changed(JUDGED, outcome=1), r"Judged.outcome"),
        (changed(JUDGED, flags=["good", "bad"]), r"Judged.flags: must be some of"),
        (changed(JUDGED, flags=["good", "good"]), r"Judged.flags"),
        (changed(JUDGED, flags="good"), r"Judged.flags"),
        (changed(BEGIN, metadata=[["a"]]), r"RoundBegin.metadata: must be a list of pairs"),
        (changed(BEGIN, metadata=[["a", "€"]]), r"RoundBegin.metadata: must be pairs of bytes"),
        (changed(BEGIN, metadata="ab"), r"RoundBegin.metadata"),
        (changed(BEGIN, members=[1]), r"RoundBegin: has no field 'members'"),
        (changed(BEGIN, arguments=...), r"RoundBegin: has no arguments"),
        (changed(ArgumentsGiven(1, 1), arguments=[]), r"ArgumentsGiven: has arguments that are not"),
        (changed(RESULTS, witnesses={"s": "12"}), r"Results.witnesses: must be a list"),
        (changed(RESULTS, last=None), r"Results.last"),
        (forged(0x0C, b'{"a":1,"a":1}'), r"Leave: has JSON with a key that comes twice"),
        (forged(0x0C, b"{} {}"), r"Leave: has JSON that can't be read"),
        (forged(0x0C, []), r"Leave: has JSON that is no object"),
        (forged(0x0C, b'{"a":"\xff"}'), r"Leave: has JSON that is not UTF-8"),
        (forged(0x0C, b'{"a":"\\ud83d"}'), r"Leave: has JSON that is not UTF-8, or with a lone surrogate"),
        (forged(0x0C, b'{"a":NaN}'), r"Leave: has JSON with NaN"),
        (forged(0x0C, b'{"a":-Infinity}'), r"Leave: has JSON with -Infinity"),
        (forged(0x0C, b'{"a":1e999}'), r"Leave: has JSON with a number that is too large"),
        (forged(0x0C, b'{"a":' + b"9" * 6000 + b"}"), r"Leave: has JSON with a whole number of 6000 digits"),
        (forged(0x0C, b"[" * 257 + b"]" * 257), r"Leave: has JSON that is nested too deeply"),
        (forged(0x0C, b"[" * 10**6), r"Leave: has JSON that is nested too deeply"),
        (forged(0x0C, b"[" + b"{}," * 400_000 + b"{}]"), r"Leave: has JSON that can't be read: .* more than"),
        (forged(0x0C, b"[" + b"1," * 600_000 + b"1]"), r"Leave: has JSON that can't be read: .* more than"),
        (encode(Leave())[:4], r"at least 5 bytes, got 4"),
        (encode(Leave()) + b"x", r"Leave: has 1 bytes too many"),
        (b"\x0c\xff\xff\xff\xff{}", r"Leave: ends 4294967293 bytes too soon"),
        (b"\x7f\0\0\0\0", r"no message of kind 0x7f"),
        (b"\0\0\0\0\0", r"no message of kind 0x00"),
    ],
)
def test_what_is_no_message_says_why(data: bytes, text: str) -> None:
    read = decode_from_driver if data[0] < 0x80 else decode_from_shard
    with pytest.raises(WireError, match=text) as refused:
        read(data)
    assert isinstance(refused.value, ValueError)


def results_with(**fields: Any) -> bytes:
    """Results whose columns were not checked by `encode`."""
    results = attrs.evolve(RESULTS, **fields)
    number, told, _ = parts_of(RESULTS)
    rest = struct.pack("<I", len(results.members)) + results.members.tobytes()
    rest += results.statuses + results.sent + results.elapsed.tobytes() + results.data_types
    return forged(number, told, rest + results.ends.tobytes() + results.data)


def rows(**fields: Any) -> bytes:
    """Results with one row, whose columns have other values."""
    number, told, rest = parts_of(RESULTS)
    columns = {
        "position": [1],
        "detail": [""],
        "error": [None],
        "kind": [""],
        "outcome": [None],
        "mistake": [False],
    }
    told["rows"] = [*(columns | fields).values()]
    return forged(number, told, rest)


@pytest.mark.parametrize(
    "data",
    [
        results_with(statuses=bytes([0, len(Status), 0])),
        results_with(sent=b"\1\2\0"),
        results_with(data_types=b"\6\xff\7"),
        results_with(data_types=b"\6\xff\xff"),
        results_with(data_types=b"\xff\xff\6"),
        results_with(elapsed=array("d", [0.5, -0.1, 0.5])),
        results_with(elapsed=array("d", [0.5, math.nan, 0.5])),
        results_with(elapsed=array("d", [math.nan, 0.5, 0.5])),
        results_with(elapsed=array("d", [0.5, math.inf, 0.5])),
        results_with(ends=array("Q", [2, 1, 5])),
        results_with(ends=array("Q", [2, 6, 5])),
        results_with(ends=array("Q", [2, 2, 6])),
        results_with(ends=array("Q", [2, 2, 4])),
        results_with(ends=array("Q", [2, 2, 2**64 - 1])),
        results_with(statuses=b"\0\0"),
        results_with(members=array("I", [1, 2, 3, 4])),
        rows(position=[3]),
        rows(position=[-1]),
        rows(position=[True]),
        rows(
            position=[1, 1],
            detail=["", ""],
            error=[None] * 2,
            kind=[""] * 2,
            outcome=[None] * 2,
            mistake=[False] * 2,
        ),
        rows(position=[0, 1]),
        rows(position=[], detail=[], error=[], kind=[], outcome=[], mistake=[]),
        rows(detail=[None]),
        rows(error=[5]),
        rows(outcome=["LUCKY"]),
        rows(outcome=[[]]),
        rows(mistake=[0]),
        rows(mistake=False),
        rows(more=[1]),
    ],
)
def test_results_whose_columns_do_not_fit_are_refused(data: bytes) -> None:
    with pytest.raises(WireError, match=r"^Results"):
        decode_from_shard(data)


def test_what_is_forged_above_is_right_but_for_one_thing() -> None:
    assert decode_from_shard(results_with()) == RESULTS
    assert decode_from_shard(rows(detail=["why"])) == RESULTS


def round_with(members: bytes, seconds: float = 1.0, count: int | None = None) -> bytes:
    number, told, _ = parts_of(attrs.evolve(BEGIN, arguments=None))
    counted = len(members) // 4 if count is None else count
    return forged(number, told, struct.pack("<dI", seconds, counted) + members)


@pytest.mark.parametrize(
    "data",
    [
        round_with(array("I", [1, 2, 1]).tobytes()),
        round_with(array("I", [2, 2]).tobytes()),
        round_with(b"", math.nan),
        round_with(b"", -1.0),
        round_with(b"1234", count=0),
        round_with(b"1234", count=2),
        round_with(b"", count=2**32 - 1),
        round_with(array("I", range(1_000_001)).tobytes()),
    ],
)
def test_rounds_whose_members_do_not_fit_are_refused(data: bytes) -> None:
    with pytest.raises(WireError, match=r"^RoundBegin"):
        decode_from_driver(data)


@pytest.mark.parametrize(
    "index",
    [
        {"positional": [[6, 4]], "keyword": []},
        {"positional": [[6, 12]], "keyword": [], "shape": ""},
        {"positional": [[6, -1], [6, 1]], "keyword": [], "shape": ""},
        {"positional": [[6, 10], [6, True]], "keyword": [], "shape": ""},
        {"positional": [[6, 11.0]], "keyword": [], "shape": ""},
        {"positional": [[7, 11]], "keyword": [], "shape": ""},
        {"positional": [[[], 11]], "keyword": [], "shape": ""},
        {"positional": [[True, 11]], "keyword": [], "shape": ""},
        {"positional": [[6, 3, "x"]], "keyword": [], "shape": ""},
        {"positional": {}, "keyword": [], "shape": ""},
        {"positional": [], "keyword": [[6, 3, "x"], [6, 8, "x"]], "shape": ""},
        {"positional": [], "keyword": [[6, 11, None]], "shape": ""},
        {"positional": [], "keyword": [[6, 11]], "shape": ""},
        {"positional": [[6, 11]], "keyword": [], "shape": None},
        {"positional": [[6, 11]], "keyword": [], "shape": "", "more": 1},
    ],
)
def test_arguments_that_do_not_fit_their_bytes_are_refused(index: Any) -> None:
    with pytest.raises(WireError, match=r"^RoundBegin"):
        decode_from_driver(changed(BEGIN, arguments=index))


@pytest.mark.parametrize(
    "data",
    [
        changed(STANDINGS, methods=[]),
        changed(STANDINGS, methods=["predict", 1]),
        changed(STANDINGS, methods="predict"),
        changed(STANDINGS, methods=...),
        changed(STANDINGS, standings=[]),
        forged(0x88, {"question": 2, "methods": ["x"]}, struct.pack("<IIIddd", 1, 1, 0, 1.0, math.nan, 1.0)),
        forged(0x88, {"question": 2, "methods": ["x"]}, struct.pack("<IIIddd", 2**20, 1, 0, 1.0, 1.0, 1.0)),
    ],
)
def test_standings_that_do_not_fit_are_refused(data: bytes) -> None:
    with pytest.raises(WireError, match=r"^Standings"):
        decode_from_shard(data)


@pytest.mark.parametrize(
    "message",
    [
        attrs.evolve(RESULTS, statuses=b"\0"),
        attrs.evolve(RESULTS, ends=array("Q", [5])),
        attrs.evolve(RESULTS, members=array("L", [1, 2, 3])),
        attrs.evolve(BEGIN, seconds=math.nan),
        attrs.evolve(BEGIN, members=array("I", bytes(4 * 1_000_001))),
        RoundCut(1, math.nan, ""),
        Standings(1, (StandingTimes(2**32, "predict", 1.0, 1.0, 1.0),)),
        attrs.evolve(HELLO, config={"path": object()}),
        attrs.evolve(HELLO, config={"number": math.inf}),
        ARGUMENTS,
    ],
)
def test_what_can_not_be_sent_is_refused_before(message: Any) -> None:
    with pytest.raises(WireError):
        encode(message)


def test_a_text_that_utf_8_does_not_have_is_written_out() -> None:
    assert decode_from_shard(encode(Logged(20, "x", "a\ud83d\\b"))) == Logged(20, "x", "a\\ud83d\\b")


def test_infos_are_told_whatever_the_orchestrator_said_and_read_only() -> None:
    infos = freeze({"a": [1, [math.nan]], "b": {"c": "\ud83d"}})
    update = decode_from_driver(encode(Command(1, Verb.UPDATE, infos=infos)))
    assert isinstance(update, Command)
    assert update.infos == {"a": (1, (None,)), "b": {"c": "\\ud83d"}}
    with pytest.raises(TypeError):
        update.infos["a"] = 5  # type: ignore[index]


def test_a_round_for_several_shards_is_encoded_once_but_for_its_members() -> None:
    encoder = RoundEncoder(BEGIN)
    for members, seconds in ((array("I", [1, 2]), 0.5), (array("I"), math.inf)):
        expected = attrs.evolve(BEGIN, members=members, seconds=seconds)
        assert encoder.for_shard(members, seconds) == encode(expected)


def test_the_data_of_results_is_not_copied() -> None:
    data = encode(RESULTS)
    results = decode_from_shard(data)
    assert isinstance(results, Results)
    assert isinstance(results.data, memoryview)
    assert results.data.obj is data


def test_large_arguments_are_copied_once_each_way() -> None:
    size = 4_000_000
    begin = attrs.evolve(BEGIN, arguments=WireArguments((Encoded(DataType.STRING, b"x" * size),)))
    encoder = RoundEncoder(begin)
    made: list[Any] = []
    assert size <= peak(lambda: made.append(encoder.for_shard(begin.members, 1.0))) < 1.1 * size
    assert size <= peak(lambda: made.append(decode_from_driver(made[0]))) < 1.1 * size
    assert made[1].arguments == begin.arguments


def test_a_count_alone_takes_no_memory() -> None:
    for data in (
        round_with(b"", count=999_999),
        forged(0x84, {"round": 1}, struct.pack("<I", 999_999)),
        changed(BEGIN, arguments={"positional": [[6, 2**40]], "keyword": [], "shape": ""}),
        struct.pack("<BI", 0x0C, 2**32 - 1),
    ):
        assert peak(functools.partial(refused, data)) < 100_000


def refused(data: bytes) -> None:
    with pytest.raises(WireError):
        (decode_from_driver if data[0] < 0x80 else decode_from_shard)(data)


def peak(act: Callable[[], object]) -> int:
    """How much more memory there was at most meanwhile, in bytes."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        act()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_numbers_have_the_same_bytes_on_machines_of_the_other_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    here = encode(RESULTS)
    assert array("I", [7, 5, 6]).tobytes() in here
    monkeypatch.setattr(wire_columns, "_IS_BIG", not wire_columns._IS_BIG)
    there = encode(RESULTS)
    swapped = array("I", [7, 5, 6])
    swapped.byteswap()
    assert swapped.tobytes() in there
    assert RESULTS.members == array("I", [7, 5, 6])
    assert decode_from_shard(there) == RESULTS
