"""Frames, header blocks and gRPC messages as bytes, for servers that send what they should not.

Nothing here checks anything, so every function can make what RFC 9113 (HTTP/2) and RFC 7541 (HPACK) forbid.
"""

from __future__ import annotations

import enum
import struct

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

__all__ = [
    "AGE",
    "CALL_ANSWER",
    "FRAME_HEADER_LENGTH",
    "HEALTHY",
    "INTERIM",
    "OK",
    "PREFACE",
    "SET_UP",
    "TRAILERS",
    "Flag",
    "Setting",
    "Type",
    "answer",
    "body",
    "call_answer",
    "call_answer_head",
    "data",
    "frame",
    "headers",
    "huffman",
    "integer",
    "literal",
    "padded",
    "setting",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_LENGTH = 9
JSON = 6
"""The number of JSON among the types of a Variant (commons.proto)."""


class Type(enum.IntEnum):
    """Types of frames: RFC 9113, section 6; RFC 7838; RFC 8336; and one that nobody knows."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9
    ALTSVC = 0xA
    ORIGIN = 0xC
    UNKNOWN = 0xFA


class Flag(enum.IntFlag):
    """The flags of frames (RFC 9113, section 6)."""

    ACK = 0x1
    END_STREAM = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting(enum.IntEnum):
    """What SETTINGS set (RFC 9113, 6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5


_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def headers(stream: int, block: bytes, *, end: bool = False) -> bytes:
    """A whole header block in one HEADERS frame; `end` makes it the stream's last."""
    return frame(Type.HEADERS, Flag.END_HEADERS | (Flag.END_STREAM if end else 0), stream, block)


def data(stream: int, payload: bytes = b"") -> bytes:
    """A DATA frame that does not end the stream."""
    return frame(Type.DATA, 0, stream, payload)


def padded(payload: bytes) -> bytes:
    """What a frame with the flag PADDED carries: as much padding as there can be (RFC 9113, 6.1)."""
    return b"\xff" + payload + bytes(255)


def setting(number: int, value: int) -> bytes:
    """One entry of a SETTINGS frame."""
    return struct.pack(">HI", number, value)


def integer(value: int, prefix: int, first: int = 0) -> bytes:
    """An integer of HPACK (RFC 7541, 5.1) in so many bits of its first byte, whose other bits are given."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes((first | value,))
    encoded = bytearray((first | most,))
    value -= most
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def huffman(text: bytes) -> bytes:
    """A string of HPACK in Huffman's code (RFC 7541, 5.2)."""
    encoded = _HUFFMAN.encode(text)
    return integer(len(encoded), 7, 0x80) + encoded


def literal(name: bytes, value: bytes, *, indexed: bool = False) -> bytes:
    """A field that is written out, and put into the dynamic table or not (RFC 7541, 6.2)."""
    first = b"\x40" if indexed else b"\x00"
    return first + integer(len(name), 7) + name + integer(len(value), 7) + value


AGE = b"\x95"
"""The field ``age`` with an empty value, from HPACK's static table: 1 byte, and 35 in a list of headers."""
INTERIM = b"\x08\x03103"
"""``:status: 103``, an interim response (RFC 9110, 15.2), of which there may be any number."""
OK = b"\x88" + literal(b"content-type", b"application/grpc")
TRAILERS = literal(b"grpc-status", b"0")


def body(message: bytes) -> bytes:
    """A message as a gRPC body has it: not compressed, its length, itself."""
    return b"\0" + struct.pack(">I", len(message)) + message


def answer(stream: int, message: bytes) -> bytes:
    """A whole answer with a small message, as it should be."""
    return headers(stream, OK) + data(stream, body(message)) + headers(stream, TRAILERS, end=True)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def call_answer(text: bytes) -> bytes:
    """A CallResponse (dynamic_subclass.proto) with a value in JSON."""
    return call_answer_head(len(text)) + text


def call_answer_head(length: int) -> bytes:
    """What comes before the text in a CallResponse with a value in JSON, which is so long."""
    head = bytes((0x10, JSON, 0x1A)) + _varint(length)
    return SET_UP + b"\x12" + _varint(len(head) + length) + head


SET_UP = b"\x0a\x09\x0a\x07SUCCESS"
"""A SetupResponse that says SUCCESS."""
HEALTHY = b"\x08\x01"
"""A HealthCheckResponse that says SERVING."""
CALL_ANSWER = call_answer(b"1.5")
