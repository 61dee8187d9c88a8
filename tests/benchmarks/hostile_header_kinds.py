"""Kinds of misbehaviour with header blocks: interim responses, HPACK, CONTINUATION, and large headers.

A block costs its reader by the field, or by the byte of Huffman's code, and its sender nothing: 455 fields
can be 455 bytes. Unless a kind says so, no block is a list of more than 16 KiB (RFC 9113, 6.5.2), so that
nothing can be refused because of its size alone. Blocks differ wherever a reader could remember them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hostile_peer import Peer, kind, on_newest
from hostile_wire import (
    AGE,
    CALL_ANSWER,
    INTERIM,
    OK,
    TRAILERS,
    Flag,
    Type,
    body,
    data,
    frame,
    headers,
    huffman,
    integer,
    literal,
    padded,
)

FIELDS = 455
"""So many fields ``age``, and an interim response's others, are a list of nearly 16 KiB."""
TABLE_SIZE = 4096
NEWEST_ENTRY = integer(62, 7, 0x80)
"""The field that was put into HPACK's dynamic table last."""

numbers = itertools.count(10**9)
"""Numbers that no other block has, all of the same length."""


def unique() -> bytes:
    """A field that no other block has."""
    return literal(b"a", b"%d" % next(numbers))


def interims(stream: int, fields: bytes, count: int = 200) -> Iterator[bytes]:
    """Endless interim responses with some fields and a unique one, so many in a piece."""
    while True:
        yield b"".join(headers(stream, INTERIM + unique() + fields) for _ in range(count))


@kind()
def interim(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses of 455 indexed fields, each block another one."""
    return on_newest(peer, lambda stream: interims(stream, AGE * FIELDS))


@kind()
def interim_same(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses of 455 indexed fields, always the same block."""
    block = INTERIM + AGE * FIELDS
    return on_newest(peer, lambda stream: itertools.repeat(headers(stream, block) * 300))


@kind()
def interim_small(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses of nothing but their status."""
    return on_newest(peer, lambda stream: itertools.repeat(headers(stream, INTERIM) * 10_000))


@kind()
def interim_closed(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses of 455 indexed fields for calls that were answered."""
    return on_newest(peer, lambda stream: interims(stream, AGE * FIELDS), answered=True)


@kind()
def trailers_closed(peer: Peer, stream: int) -> Iterator[bytes]:
    """Trailers of 455 fields, again and again, for calls that were answered."""

    def pieces(stream: int) -> Iterator[bytes]:
        while True:
            blocks = (TRAILERS + unique() + AGE * FIELDS for _ in range(200))
            yield b"".join(headers(stream, block, end=True) for block in blocks)

    return on_newest(peer, pieces, answered=True)


@kind()
def literals(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses of 440 fields that are written out, with a name and a value of a byte."""
    return on_newest(peer, lambda stream: interims(stream, literal(b"b", b"c") * 440, 60))


@kind()
def headers_padded(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses in HEADERS frames with a priority and 255 bytes of padding."""
    payload = padded(b"\0\0\0\0\x10" + INTERIM)
    flags = Flag.END_HEADERS | Flag.PADDED | Flag.PRIORITY
    return on_newest(peer, lambda stream: itertools.repeat(frame(Type.HEADERS, flags, stream, payload) * 600))


@kind()
def table_churn(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses with 300 small fields for HPACK's table, where each drives out another one."""

    def pieces(stream: int) -> Iterator[bytes]:
        while True:
            fields = (literal(b"%d" % next(numbers), b"", indexed=True) for _ in range(300 * 30))
            yield b"".join(
                headers(stream, INTERIM + b"".join(itertools.islice(fields, 300))) for _ in range(30)
            )

    return on_newest(peer, pieces)


@kind()
def table_eviction(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses with 112 small fields for HPACK's table, and a large one that drives all out."""

    def pieces(stream: int) -> Iterator[bytes]:
        small = literal(b"a", b"", indexed=True) * 112
        while True:
            large = (literal(b"%d" % next(numbers), b"x" * 4050, indexed=True) for _ in range(40))
            yield b"".join(headers(stream, INTERIM + small + field) for field in large)

    return on_newest(peer, pieces)


@kind()
def table_size(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses that begin with two updates of the table's size, to 0 and back, and fill it."""
    resized = integer(0, 5, 0x20) + integer(TABLE_SIZE, 5, 0x20) + INTERIM
    block = resized + literal(b"a", b"", indexed=True) * 124
    return on_newest(peer, lambda stream: itertools.repeat(headers(stream, block) * 250))


@kind()
def table_sizes(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses that begin with 4,000 updates of the table's size (RFC 7541 allows two)."""
    block = (integer(0, 5, 0x20) + integer(TABLE_SIZE, 5, 0x20)) * 2000 + INTERIM
    return on_newest(peer, lambda stream: itertools.repeat(headers(stream, block) * 25))


@kind()
def bomb(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses with three references to a field of 4,000 bytes in HPACK's table."""
    first = INTERIM + literal(b"a", b"x" * 4000, indexed=True)
    block = INTERIM + NEWEST_ENTRY * 3

    def pieces(stream: int) -> Iterator[bytes]:
        yield headers(stream, first)
        yield from itertools.repeat(headers(stream, block) * 10_000)

    return on_newest(peer, pieces)


@kind()
def bomb_over_limit(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses with 16,000 references to a field of 4,000 bytes: lists of 64 MB."""
    first = INTERIM + literal(b"a", b"x" * 4000, indexed=True)
    block = INTERIM + NEWEST_ENTRY * 16_000

    def pieces(stream: int) -> Iterator[bytes]:
        yield headers(stream, first)
        yield from itertools.repeat(headers(stream, block) * 6)

    return on_newest(peer, pieces)


@kind()
def huffman_name(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses with a name of 15 KB in Huffman's code."""
    field = b"\0" + huffman(b"a" * 15_000) + b"\0"
    return on_newest(peer, lambda stream: interims(stream, field, 20))


@kind()
def huffman_long(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses with a value of the longest codes that a value may have, 28 bits a byte."""
    field = b"\0\x01b" + huffman(b"\xdc\xf9" * 2200)
    return on_newest(peer, lambda stream: interims(stream, field, 20))


@kind()
def huffman_many(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses with 440 fields, names and values of one byte in Huffman's code."""
    return on_newest(peer, lambda stream: interims(stream, (b"\0" + huffman(b"b") + huffman(b"c")) * 440, 60))


@kind()
def continuation_empty(peer: Peer, stream: int) -> Iterator[bytes]:
    """A header block that goes on for ever, in empty CONTINUATION frames."""

    def pieces(stream: int) -> Iterator[bytes]:
        yield frame(Type.HEADERS, 0, stream, INTERIM)
        yield from itertools.repeat(frame(Type.CONTINUATION, 0, stream) * 10_000)

    return on_newest(peer, pieces)


@kind()
def continuation_bytes(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses in 50 CONTINUATION frames of a byte each."""

    def pieces(stream: int) -> Iterator[bytes]:
        block = frame(Type.HEADERS, 0, stream, INTERIM) + frame(Type.CONTINUATION, 0, stream, AGE) * 49
        yield from itertools.repeat((block + frame(Type.CONTINUATION, Flag.END_HEADERS, stream, AGE)) * 200)

    return on_newest(peer, pieces)


@kind()
def push(peer: Peer, stream: int) -> Iterator[bytes]:
    """PUSH_PROMISEs, which the client has switched off, of 455 fields."""

    def promise(stream: int, promised: int) -> bytes:
        return frame(Type.PUSH_PROMISE, Flag.END_HEADERS, stream, promised.to_bytes(4, "big") + AGE * FIELDS)

    def pieces(stream: int) -> Iterator[bytes]:
        for first in itertools.count(2, 400):
            yield b"".join(promise(stream, first + 2 * each) for each in range(200))

    return on_newest(peer, pieces)


@kind()
def large_headers(peer: Peer, stream: int) -> Iterator[bytes]:
    """Good answers, whose headers are 440 small fields that are written out."""
    fields = b"".join(literal(b"%d" % (100 + each), b"") for each in range(440))
    yield headers(stream, OK + fields) + data(stream, body(CALL_ANSWER)) + headers(stream, TRAILERS, end=True)


@kind()
def large_trailers(peer: Peer, stream: int) -> Iterator[bytes]:
    """Good answers, whose trailers have 455 indexed fields."""
    yield headers(stream, OK) + data(stream, body(CALL_ANSWER))
    yield headers(stream, TRAILERS + unique() + AGE * FIELDS, end=True)


@kind()
def long_message(peer: Peer, stream: int) -> Iterator[bytes]:
    """Failures whose message has 5,000 characters, each percent-encoded."""
    message = literal(b"grpc-message", b"%C3%A9" * 2500)
    yield headers(stream, OK + literal(b"grpc-status", b"2") + message, end=True)


@kind()
def trailers_over_limit(peer: Peer, stream: int) -> Iterator[bytes]:
    """Good answers, whose trailers have 16,000 indexed fields, a list of 560 kB."""
    yield headers(stream, OK) + data(stream, body(CALL_ANSWER))
    yield headers(stream, TRAILERS + unique() + AGE * 16_000, end=True)


@kind()
def interims_then_answer(peer: Peer, stream: int) -> Iterator[bytes]:
    """Good answers, each after 10 interim responses of 455 fields: it may look like progress."""
    yield next(interims(stream, AGE * FIELDS, 10)) + peer.answer(stream)


@kind(begins="setup")
def setup_interim(peer: Peer, stream: int) -> Iterator[bytes]:
    """Interim responses of 455 fields instead of an answer to Setup."""
    return on_newest(peer, lambda stream: interims(stream, AGE * FIELDS))


@kind(begins="setup")
def setup_continuation(peer: Peer, stream: int) -> Iterator[bytes]:
    """An endless header block of CONTINUATION frames instead of an answer to Setup."""
    return continuation_empty(peer, stream)
