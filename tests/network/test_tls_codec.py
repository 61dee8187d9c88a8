"""`network.tls_codec`, and who reads through it, against a server of the same library, in any pieces."""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import ssl
from functools import cache
from typing import Any

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.network.tls import TLSFault, explain, fault_of
from trio_model_runner.network.tls_codec import TLSCodec
from trio_model_runner.rpc.reader import Decrypting, Want

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
both_versions = pytest.mark.parametrize("version", VERSIONS)


@cache
def contexts(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.maximum_version = version
    authority.issue_cert("node").configure_cert(server_side)
    client_side = ssl.create_default_context()
    client_side.options |= ssl.OP_NO_RENEGOTIATION
    authority.configure_trust(client_side)
    return server_side, client_side


class Pair:
    """Both sides after the handshake, and a consumer, which asks for a turn more after each piece.

    Attributes:
        on_the_way: what the server has written and nobody has read yet. Under TLS 1.3, tickets come first.
        heard: what each side has heard.
    """

    def __init__(self, version: ssl.TLSVersion, *, turns: int = 0) -> None:
        server_side, client_side = contexts(version)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server_side.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.codec = TLSCodec(client_side, "node")
        self.client_heard = self.server_heard = b""
        self.server_told_goodbye = False
        self.pieces_without_data = self.ends = 0
        self._turns, self._turns_left = turns, 0
        self.want = Want.BYTES
        done, shaken, data = False, False, b""
        while not (done and shaken):
            done = done or self.codec.shake_hands(data)
            self.flush()
            with contextlib.suppress(ssl.SSLWantReadError):
                self.server.do_handshake()
                shaken = True
            data = b"" if done else self._outgoing.read()
        self.reader = Decrypting(self.codec, self)

    def take_in(self, data: bytes) -> Want:
        if data:
            self._turns_left = self._turns
        else:
            assert self._turns_left > 0, "a turn that nobody asked for"
            self._turns_left -= 1
        self.client_heard += data
        self.flush()
        return Want.TURN if self._turns_left else Want.BYTES

    def note_bytes(self) -> None:
        self.pieces_without_data += 1
        self.flush()

    def end(self) -> None:
        self.ends += 1

    def flush(self) -> None:
        for piece in self.codec.encrypt([]):
            self._incoming.write(piece)

    def say_to_server(self, *data: bytes) -> None:
        for piece in self.codec.encrypt(data):
            assert len(piece) < 17_000
            self._incoming.write(piece)

    def listen(self) -> None:
        """Have the server read what has come to it."""
        with contextlib.suppress(ssl.SSLWantReadError):
            while piece := self.server.read(1 << 20):
                self.server_heard += piece
            self.server_told_goodbye = True

    def say_to_client(self, data: bytes) -> None:
        if data:
            self.server.write(data)

    def ask(self, function: str, *arguments: int) -> None:
        """Have the server send what Python's own module has no function for."""
        inside: Any = self.server._sslobj  # type: ignore[attr-defined]
        after_its_socket = id(inside) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
        connection = ctypes.c_void_p.from_address(after_its_socket)
        assert getattr(ctypes.CDLL(_ssl.__file__), function)(connection, *arguments) == 1
        self.server.do_handshake()

    def update_keys(self, *, answer: bool) -> None:
        self.ask("SSL_key_update", int(answer))

    def say_goodbye_to_client(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.server.unwrap()

    def read(self, data: bytes) -> None:
        """Have a piece read, with all turns that follow."""
        self.want = self.reader.take_in(data)
        while self.want is Want.TURN:
            self.want = self.reader.take_in(b"")

    def carry(self, size: int = 1 << 16, most: int = 1 << 30) -> None:
        """Have the client read what is on the way to it, in pieces."""
        while most > 0 and self.want is Want.BYTES and (data := self._outgoing.read(min(size, most))):
            most -= len(data)
            self.read(data)


some_data = st.one_of(st.binary(max_size=50), st.integers(1, 70_000).map(bytes))
sizes = st.one_of(st.integers(1, 40).map(lambda n: n * 25), st.integers(1, 1 << 16))
steps = st.one_of(
    st.tuples(st.just("to server"), st.lists(some_data, max_size=3)),
    st.tuples(st.just("to client"), some_data),
    st.tuples(st.just("carry"), st.tuples(sizes, st.integers(1, 70_000))),
    st.tuples(st.just("listen"), st.none()),
    st.tuples(st.just("update keys"), st.booleans()),
)


@both_versions
@given(steps=st.lists(steps, max_size=12), size=sizes, turns=st.integers(0, 2), end=st.booleans())
def test_both_sides_hear_what_was_said_in_whatever_pieces(
    version: ssl.TLSVersion, steps: list[tuple[str, Any]], size: int, turns: int, end: bool
) -> None:
    pair, to_server, to_client = Pair(version, turns=turns), b"", b""
    for step, value in steps:
        if step == "to server":
            pair.say_to_server(*value)
            to_server += b"".join(value)
        elif step == "to client":
            pair.say_to_client(value)
            to_client += value
        elif step == "carry":
            pair.carry(*value)
        elif step == "listen":
            pair.listen()
        elif version is ssl.TLSVersion.TLSv1_3:
            pair.update_keys(answer=value)
    if end:
        pair.listen()  # whoever has said goodbye is told nothing more by this library
        pair.say_goodbye_to_client()
    pair.carry(size)
    if not end:
        pair.listen()
    assert pair.client_heard == to_client
    assert pair.server_heard == to_server
    assert (pair.codec.failure, pair.codec.ended, pair.ends) == (None, end, int(end))
    assert pair.want is (Want.NOTHING if end else Want.BYTES)
    assert not pair.codec.holds_more
    goodbye = pair.codec.say_goodbye()
    assert len(goodbye) == 1
    assert not pair.codec.say_goodbye()
    if not end:
        pair._incoming.write(goodbye[0])
        pair.listen()
        assert pair.server_told_goodbye


@both_versions
@given(data=some_data, where=st.integers(0, 1 << 20), what=st.integers(1, 255), size=sizes)
def test_what_was_changed_on_the_way_is_not_heard(
    version: ssl.TLSVersion, data: bytes, where: int, what: int, size: int
) -> None:
    pair = Pair(version)
    pair.say_to_client(b"before" + data)
    record = bytearray(pair._outgoing.read())
    record[where % len(record)] ^= what
    pair.say_to_client(b"behind" * 10_000)
    record += pair._outgoing.read()
    with contextlib.suppress(trio.BrokenResourceError):
        for start in range(0, len(record), size):
            pair.read(bytes(record[start : start + size]))
        # Only a length can be changed so that the library still waits for the rest of its record.
        assert pair.codec.failure is None
    assert (b"before" + data).startswith(pair.client_heard)
    assert (pair.ends == 1) is (pair.codec.failure is not None)


@given(garbage=st.binary(min_size=1, max_size=2000))
def test_garbage_ends_a_handshake_or_nothing_has_come_yet(garbage: bytes) -> None:
    codec = TLSCodec(contexts(VERSIONS[1])[1], "node")
    assert not codec.shake_hands()
    assert codec.encrypt([])
    with contextlib.suppress(ssl.SSLError):
        assert not codec.shake_hands(garbage)


def test_an_alert_behind_data_is_told_when_the_data_was_consumed() -> None:
    pair = Pair(VERSIONS[0], turns=2)
    pair.say_to_client(b"last")
    pair._incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))  # which the server can't read
    with pytest.raises(ssl.SSLError):
        pair.server.read(10)
    with pytest.raises(trio.BrokenResourceError) as raised:
        pair.carry()
    assert (pair.client_heard, pair.ends) == (b"last", 1)
    assert fault_of(raised.value) is TLSFault.REFUSED


@pytest.mark.parametrize("answer", [True, False])
def test_much_that_says_nothing_takes_many_turns(answer: bool) -> None:
    pair = Pair(VERSIONS[1])
    for _ in range(2400):
        pair.update_keys(answer=answer)
    pair.say_to_client(b"data")
    want, turns = pair.reader.take_in(pair._outgoing.read(1 << 16)), 1
    while want is Want.TURN:
        want, turns = pair.reader.take_in(b""), turns + 1
    assert turns >= 4
    pair.listen()  # the answers are good
    pair.carry()
    assert pair.client_heard == b"data"


def test_who_asks_for_answers_and_does_not_read_them_is_cut_off() -> None:
    pair = Pair(VERSIONS[1])
    pair.flush = lambda: None  # type: ignore[method-assign]
    for _ in range(5):
        for _ in range(200):
            pair.update_keys(answer=True)
        pair.carry()
    for _ in range(400):
        pair.update_keys(answer=True)
    with pytest.raises(trio.BrokenResourceError) as raised:
        pair.carry()
    assert "does not read them" in str(raised.value.__cause__)


def test_who_sends_data_between_such_questions_is_cut_off_as_well() -> None:
    pair = Pair(VERSIONS[1])
    pair.flush = lambda: None  # type: ignore[method-assign]

    def go_on() -> None:
        for _ in range(2000):
            pair.update_keys(answer=True)
            pair.say_to_client(b"x")
            pair.carry()

    with pytest.raises(trio.BrokenResourceError) as raised:
        go_on()
    assert explain(raised.value) == "TLS failed (the peer asks for answers and does not read them)"


def test_nothing_is_kept_of_what_was_read() -> None:
    pair = Pair(VERSIONS[1])
    pair.say_to_client(bytes(60_000))
    pair.carry()
    assert pair.client_heard == bytes(60_000)
    assert not isinstance(pair.reader._tls._undecrypted, memoryview)


def test_a_new_handshake_in_the_middle_is_refused() -> None:
    pair = Pair(VERSIONS[0])
    pair.ask("SSL_renegotiate")
    pair.say_to_client(b"on it goes")
    pair.carry()
    pair.say_to_server(b"and here")
    assert pair.client_heard == b"on it goes"
    with pytest.raises(ssl.SSLError, match="NO_RENEGOTIATION"):
        pair.listen()
