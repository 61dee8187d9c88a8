"""Each kind of hostile node sends what it says: whole frames, readable blocks, no more than windows allow.

Nothing is measured here. A kind is played on a socket, and what it sends for a few calls is looked at.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hpack
import pytest

sys.path.append(
    str(Path(__file__).parent)
)  # the benchmarks are scripts, which import each other by bare names

import hostile_drain
from hostile import OVER_TLS, TLS, read_options
from hostile_peer import KINDS, Kind, Peer
from hostile_server import play
from hostile_table import Figures, Row, as_markdown, summary
from hostile_wire import (
    INTERIM,
    OK,
    PREFACE,
    Flag,
    Setting,
    Type,
    answer,
    call_answer,
    frame,
    headers,
    huffman,
    integer,
    padded,
    setting,
)

from trio_model_runner.proto.commons import VariantType
from trio_model_runner.proto.dynamic_subclass import CallResponse

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream and payload."""

NO_HTTP_2 = {"http_1"}
SET_UP_STREAM, CALL_STREAM = 1, 3
WINDOW = 300
"""Bytes; of the client's streams."""


class Client:
    """The other end of a kind's connection, which calls once and reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def call(self) -> None:
        window = frame(Type.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, WINDOW))
        setup = hostile_drain.call(SET_UP_STREAM, "Setup")
        call = hostile_drain.call(CALL_STREAM, "Call")
        self._connection.sendall(PREFACE + window + setup + call)

    def bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            received = self._connection.recv(65_536)
            if not received:
                break
            self._buffer += received
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def frames(self, count: int) -> Iterator[Frame]:
        """So many frames, or all that come before the end."""
        for _ in range(count):
            if len(header := self.bytes(9)) < 9:
                return
            length = int.from_bytes(header[:3], "big")
            payload = self.bytes(length)
            assert len(payload) == length
            yield header[3], header[4], int.from_bytes(header[5:], "big"), payload

    def frames_until_quiet(self, count: int) -> Iterator[Frame]:
        """So many frames at most: some kinds send nothing until they are called again."""
        self._connection.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            yield from self.frames(count)


@pytest.fixture
def client(kind: Kind) -> Iterator[Client]:
    """A client of a kind, which has called."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with contextlib.suppress(OSError), theirs:
            play(Peer(theirs, sets_up=kind.begins != "setup"), kind)

    thread = threading.Thread(target=serve)
    thread.start()
    ours.settimeout(30)
    with ours:
        client = Client(ours)
        client.call()
        yield client
    thread.join(10)
    assert not thread.is_alive()


def some(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", [KINDS[name] for name in names], ids=names)


http_2 = some(*[name for name in KINDS if name not in NO_HTTP_2])


@http_2
def test_frames_are_whole_and_blocks_readable_and_windows_obeyed(kind: Kind, client: Client) -> None:
    decoder = hpack.Decoder(max_header_list_size=1 << 17)
    block, blocks, taken, closed = b"", 0, 0, False
    try:
        for what, flags, stream, payload in client.frames_until_quiet(WINDOW + 100):
            assert len(payload) <= 16_384
            closed |= (
                stream == CALL_STREAM and what in (Type.DATA, Type.HEADERS) and bool(flags & Flag.END_STREAM)
            )
            if what in (Type.HEADERS, Type.PUSH_PROMISE, Type.CONTINUATION):
                block += without_extras(what, flags, payload)
                if flags & Flag.END_HEADERS:
                    if blocks < 20:  # reading 455 fields takes a millisecond
                        decoder.decode(block, raw=True)
                    block, blocks = b"", blocks + 1
            else:
                assert not block, "a block must be whole before another frame comes (RFC 9113, 4.3)"
            if what == Type.DATA and stream == CALL_STREAM and not closed:
                taken += len(payload)
    except hpack.OversizedHeaderListError:
        assert kind.name in {"bomb_over_limit", "trailers_over_limit"}
    assert taken <= WINDOW


def without_extras(what: int, flags: int, payload: bytes) -> bytes:
    if what == Type.PUSH_PROMISE:
        return payload[4:]
    if what == Type.HEADERS and flags & Flag.PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if what == Type.HEADERS and flags & Flag.PRIORITY else payload


@some(*[name for name in KINDS if KINDS[name].begins == "call"])
def test_models_of_this_kind_can_join(kind: Kind, client: Client) -> None:
    frames = list(client.frames(5))
    assert frames[0] == (Type.SETTINGS, 0, 0, b"")  # the server's preface (RFC 9113, 3.4)
    assert [each for each in frames if each[2] == SET_UP_STREAM] == parsed(
        answer(SET_UP_STREAM, b"\x0a\x09\x0a\x07SUCCESS")
    )


def parsed(text: bytes) -> list[Frame]:
    frames = []
    while text:
        end = 9 + int.from_bytes(text[:3], "big")
        frames.append((text[3], text[4], int.from_bytes(text[5:9], "big"), text[9:end]))
        text = text[end:]
    return frames


@some("data_bytes")
def test_the_long_message_is_64_mib_in_single_bytes(kind: Kind, client: Client) -> None:
    bodies = [
        payload
        for what, _, stream, payload in client.frames(100)
        if (what, stream) == (Type.DATA, CALL_STREAM)
    ]
    assert bodies[0] == b"\0\x04\0\0\0"
    assert {len(payload) for payload in bodies[1:]} == {1}


@some("many_lists")
def test_large_answers_are_whole_messages(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peer, "take", lambda peer, stream, wanted, unit: wanted)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        first, *parts, last = parsed(b"".join(kind.flood(Peer(theirs), CALL_STREAM)))
    message = b"".join(payload for _, _, _, payload in parts)
    assert (first[0], last[:2]) == (Type.HEADERS, (Type.HEADERS, Flag.END_HEADERS | Flag.END_STREAM))
    assert message[:5] == b"\0" + (len(message) - 5).to_bytes(4, "big")
    response = CallResponse().parse(message[5:])
    assert json.loads(response.method_response.value) == [[]] * 60 * 5333 + [0]


@some("settings_table")
def test_the_table_changes_2600_times_a_frame(kind: Kind, client: Client) -> None:
    *_, (what, _, _, payload) = client.frames(10)
    assert (what, len(payload)) == (Type.SETTINGS, 2600 * 6)


@some("interim_closed", "trailers_closed", "data_closed", "reset_closed", "window_closed")
def test_calls_are_answered_before_the_flood_on_their_stream(kind: Kind, client: Client) -> None:
    on_call = [each for each in client.frames(200) if each[2] == CALL_STREAM]
    assert on_call[:3] == parsed(answer(CALL_STREAM, call_answer(b"1.5")))
    assert len(on_call) > 100


@some("http_1")
def test_a_page_in_http_1(kind: Kind, client: Client) -> None:
    assert client.bytes(15) == b"HTTP/1.1 200 OK"


@some("flapping", "hang_up", "flapping_setup")
def test_kinds_that_hang_up(kind: Kind, client: Client) -> None:
    assert len(list(client.frames(20_000))) < 20_000
    assert client.bytes(1) == b""


def test_a_peer_counts_windows_in_the_units_that_are_wanted() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Peer(theirs)
        window = frame(Type.SETTINGS, 0, 0, setting(Setting.INITIAL_WINDOW_SIZE, 65_550))
        ours.sendall(PREFACE + window + hostile_drain.call(CALL_STREAM, "Call"))
        assert peer.next_call(0) == CALL_STREAM
        assert peer.take(CALL_STREAM, 100_000) == 65_535  # the connection's, before any WINDOW_UPDATE
        ours.sendall(frame(Type.WINDOW_UPDATE, 0, 0, b"\0\0\0\x63"))
        assert peer.take(CALL_STREAM, 100, 4) == 12  # of the 15 that are left of the stream's
        assert peer.take(0, 100) == 87
        ours.sendall(frame(Type.RST_STREAM, 0, CALL_STREAM, b"\0\0\0\x08"))
        assert peer.take(CALL_STREAM, 8, 4) == 0


def test_an_answer_is_what_the_service_reads() -> None:
    response = CallResponse().parse(call_answer(b"[1, 2]" * 100))
    assert response.status.code == "SUCCESS"
    assert response.method_response.type == VariantType.JSON
    assert response.method_response.value == b"[1, 2]" * 100


def test_the_parts_of_frames_and_blocks() -> None:
    assert integer(10, 5) == b"\x0a"  # RFC 7541, C.1.1
    assert integer(1337, 5) == b"\x1f\x9a\x0a"  # C.1.2
    assert huffman(b"www.example.com") == bytes.fromhex("8cf1e3c2e5f23a6ba0ab90f4ff")  # C.4.1
    assert frame(Type.PING, Flag.ACK, 0, b"12345678") == b"\0\0\x08\x06\x01\0\0\0\x0012345678"
    assert len(padded(b"x")) == 257
    assert list(hpack.Decoder().decode(INTERIM)) == [(":status", "103")]
    assert headers(5, OK, end=True)[3:9] == b"\x01\x05\0\0\0\x05"


def test_every_kind_says_what_it_is() -> None:
    assert len(KINDS) > 30
    assert [name for name, kind in KINDS.items() if not kind.description.endswith(".")] == []


def test_all_kinds_are_played_unless_some_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    counted = Counter(read_options([]).kinds)
    assert set(counted.values()) == {1}
    assert set(counted) == set(KINDS) - {"silent"} | {name + TLS for name in OVER_TLS}
    assert read_options(["--kinds", "ping", "ping+tls"]).kinds == ["ping", "ping+tls"]
    with pytest.raises(SystemExit):
        read_options(["--kinds", "pong"])
    assert "no pong" in capsys.readouterr().err


def test_targets_are_judged_one_by_one() -> None:
    control = Figures(1.0, walls=[1.0], answers=[0.001, 0.010, 0.020], memory=10)
    cases = {
        "PASS": Figures(1.0, walls=[1.04], answers=[0.001, 0.029, 0.110], memory=70),
        "FAIL: late": Figures(1.0, walls=[1.0, 1.06], answers=[0.010], memory=10),
        "FAIL: p50": Figures(1.0, walls=[1.0], answers=[0.031], memory=10),
        "FAIL: max": Figures(1.0, walls=[1.0], answers=[0.001, 0.001, 0.130], memory=10),
        "FAIL: missed": Figures(1.0, walls=[1.0], answers=[0.001], missed=1, memory=10),
        "FAIL: memory": Figures(1.0, walls=[1.0], answers=[0.001], memory=80),
        "FAIL: failed": Figures(1.0, failure="no end | none"),
    }
    rows = [Row("ping", KINDS["ping"], flood, control) for flood in cases.values()]
    assert [row.verdict for row in rows] == list(cases)
    table = as_markdown(rows).splitlines()
    assert len(table) == len(rows) + 2
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert summary(rows).startswith("1 of 7 kinds PASS")
