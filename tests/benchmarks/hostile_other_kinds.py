"""Kinds of misbehaviour that are about time, connections and answers, and a mixture of all frames."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator

from hostile_peer import Peer, kind, on_newest
from hostile_wire import (
    AGE,
    INTERIM,
    OK,
    TRAILERS,
    Flag,
    Setting,
    Type,
    call_answer_head,
    data,
    frame,
    headers,
    literal,
    setting,
)

FRAME_SIZE = 16_000


@kind()
def silent(peer: Peer, stream: int) -> Iterator[bytes]:
    """Nothing at all: what the others are compared with."""
    return iter(())


@kind()
def drip(peer: Peer, stream: int) -> Iterator[bytes]:
    """An empty frame of an unknown type each 100 microseconds."""
    while True:
        yield frame(Type.UNKNOWN, 0, 0)
        time.sleep(100e-6)


@kind()
def segments(peer: Peer, stream: int) -> Iterator[bytes]:
    """Empty frames of an unknown type, each byte sent by itself."""
    useless = frame(Type.UNKNOWN, 0, 0)
    while True:
        for position in range(len(useless) - 1):
            peer.send(useless[position : position + 1])
        yield useless[-1:]  # what is answered to the client may only come between two frames


@kind()
def mixed(peer: Peer, stream: int) -> Iterator[bytes]:
    """Nine useless kinds of frames in a random order."""
    chance = random.Random(1)

    def pieces(stream: int) -> Iterator[bytes]:
        closed = stream - 2
        useless = [
            headers(stream, INTERIM + AGE * 455),
            headers(stream, INTERIM + literal(b"a", b"b", indexed=True) * 100),
            data(closed),
            frame(Type.SETTINGS, 0, 0, setting(Setting.HEADER_TABLE_SIZE, 4096) * 100),
            frame(Type.SETTINGS, Flag.ACK, 0),
            frame(Type.PING, Flag.ACK, 0, bytes(8)),
            frame(Type.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
            frame(Type.UNKNOWN, 0, stream, b"x"),
            frame(Type.RST_STREAM, 0, closed, b"\0\0\0\x08"),
        ]
        while True:
            yield b"".join(chance.choices(useless, k=2000))

    return on_newest(peer, pieces)


@kind(begins="connection")
def connection_settings(peer: Peer, stream: int) -> Iterator[bytes]:
    """SETTINGS of 2,600 changes from the first byte of the connection on."""
    changes = (setting(Setting.HEADER_TABLE_SIZE, 0) + setting(Setting.HEADER_TABLE_SIZE, 4096)) * 1300
    return itertools.repeat(frame(Type.SETTINGS, 0, 0, changes) * 6)


@kind(begins="connection")
def connection_pings(peer: Peer, stream: int) -> Iterator[bytes]:
    """SETTINGS, and PINGs from then on, before the client has said anything; no answer is read."""
    peer.deaf = True
    yield frame(Type.SETTINGS, 0, 0)
    yield from itertools.repeat(frame(Type.PING, 0, 0, bytes(8)) * 10_000)


@kind(begins="connection")
def before_settings(peer: Peer, stream: int) -> Iterator[bytes]:
    """Frames of an unknown type, and never any SETTINGS."""
    return itertools.repeat(frame(Type.UNKNOWN, 0, 0) * 10_000)


@kind(begins="connection")
def http_1(peer: Peer, stream: int) -> Iterator[bytes]:
    """An endless page in HTTP/1.1."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    yield from itertools.repeat(b"<p>Hello</p>\r\n" * 10_000)


@kind()
def flapping(peer: Peer, stream: int) -> Iterator[bytes]:
    """200 interim responses of 455 fields for a call, then the connection's end; and so on the next one."""
    yield headers(stream, INTERIM + AGE * 455) * 200
    peer.hang_up()


@kind(begins="setup")
def flapping_setup(peer: Peer, stream: int) -> Iterator[bytes]:
    """10,000 empty DATA frames instead of an answer to Setup, then the end of the connection."""
    yield headers(stream, OK) + data(stream) * 10_000
    peer.hang_up()


@kind()
def hang_up(peer: Peer, stream: int) -> Iterator[bytes]:
    """A good answer, and the end of the connection."""
    yield peer.answer(stream)
    peer.hang_up()


@kind()
def goaway_each(peer: Peer, stream: int) -> Iterator[bytes]:
    """A good answer, and a GOAWAY, so that each call needs a new connection."""
    yield peer.answer(stream) + frame(Type.GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4))


@kind()
def goaway_unprocessed(peer: Peer, stream: int) -> Iterator[bytes]:
    """A GOAWAY that leaves each call unprocessed, so that it may be sent again on a new connection."""
    yield frame(Type.GOAWAY, 0, 0, bytes(8))


def at_full_speed(
    peer: Peer, stream: int, begin: bytes, unit: bytes, frames: int, end: bytes
) -> Iterator[bytes]:
    """An answer with a large value in JSON, as fast as the windows let it through.

    Args:
        peer: the connection.
        stream: the call's.
        begin: how the value begins.
        unit: what follows, as often as it fits into so many frames of 16 KB.
        frames: how many of them.
        end: how the value ends.
    """
    payload = unit * (FRAME_SIZE // len(unit))
    size = len(payload)
    length = len(begin) + frames * size + len(end)
    head = call_answer_head(length)
    first = b"\0" + (len(head) + length).to_bytes(4, "big") + head + begin
    yield headers(stream, OK)
    if peer.take(stream, len(first), len(first)):
        yield data(stream, first)
    single = data(stream, payload)
    while frames and (granted := peer.take(stream, min(frames, 16) * size, size)):
        frames -= granted // size
        yield single * (granted // size)
    if not frames and peer.take(stream, len(end), len(end)):
        yield data(stream, end) + headers(stream, TRAILERS, end=True)


@kind(memory=1300)
def large_string(peer: Peer, stream: int) -> Iterator[bytes]:
    """Good answers of 60 MB, a text in JSON."""
    return at_full_speed(peer, stream, b'"', b"x", 3750, b'"')


@kind(memory=400)
def many_numbers(peer: Peer, stream: int) -> Iterator[bytes]:
    """Answers of 4 MB, two million numbers in JSON, which are more than is read."""
    return at_full_speed(peer, stream, b"[", b"0,", 250, b"0]")


@kind(memory=400)
def many_lists(peer: Peer, stream: int) -> Iterator[bytes]:
    """Answers of 960 kB, 320,000 empty lists in JSON, which are more than is read."""
    return at_full_speed(peer, stream, b"[", b"[],", 60, b"0]")
