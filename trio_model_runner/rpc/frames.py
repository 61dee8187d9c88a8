"""The frames of HTTP/2 (RFC 9113): their numbers, their layout, and how those that control it are written.

Nothing here has state; what a frame means is `http2`'s business. The frames that carry requests are written
in `streams`.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import Final

__all__ = [
    "CONNECTION_PREFACE",
    "DEFAULT_MAX_FRAME_SIZE",
    "DEFAULT_WINDOW",
    "FRAME_HEADER",
    "FRAME_HEADER_LENGTH",
    "MAX_MAX_FRAME_SIZE",
    "MAX_STREAM_ID",
    "MAX_WINDOW",
    "ErrorCode",
    "Flag",
    "FrameType",
    "ProtocolViolation",
    "Setting",
    "error_name",
    "goaway_frame",
    "parse_settings",
    "ping_frame",
    "require",
    "rst_stream_frame",
    "settings_ack_frame",
    "settings_frame",
    "window_update_frame",
    "without_padding",
]

CONNECTION_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_WINDOW: Final = 65_535
DEFAULT_MAX_FRAME_SIZE: Final = 16_384
MAX_MAX_FRAME_SIZE: Final = 2**24 - 1
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM_ID: Final = 2**31 - 1

FRAME_HEADER: Final = struct.Struct(">HBBBL")
"""The high 16 and the low 8 bits of the payload's length, the type, the flags, the stream id."""

FRAME_HEADER_LENGTH: Final = FRAME_HEADER.size

_SETTING: Final = struct.Struct(">HL")
_UINT32: Final = struct.Struct(">L")
_GOAWAY: Final = struct.Struct(">LL")


class FrameType(enum.IntEnum):
    """RFC 9113, section 6."""

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


class Flag:
    """The flags' bits; which frame knows which flag is in RFC 9113, section 6.

    Plain numbers: they are looked up for every frame, and to look up an enum's member takes longer.
    """

    ACK: Final = 0x1
    END_STREAM: Final = 0x1
    END_HEADERS: Final = 0x4
    PADDED: Final = 0x8
    PRIORITY: Final = 0x20


class Setting(enum.IntEnum):
    """RFC 9113, section 6.5.2."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class ErrorCode(enum.IntEnum):
    """RFC 9113, section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ProtocolViolation(Exception):
    """The peer did what RFC 9113 calls a connection error."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def require(condition: bool, code: ErrorCode, reason: str) -> None:
    """Hold a peer to the protocol.

    Raises:
        ProtocolViolation: the condition is not met.
    """
    if not condition:
        raise ProtocolViolation(code, reason)


def error_name(code: int) -> str:
    """The name of an error code, or its number where RFC 9113 has no name for it."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code:#x}"


def _frame(kind: FrameType, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return FRAME_HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def settings_frame(settings: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame with these identifiers and values."""
    return _frame(FrameType.SETTINGS, 0, 0, b"".join(_SETTING.pack(*setting) for setting in settings))


def settings_ack_frame() -> bytes:
    """The answer to a SETTINGS frame."""
    return _frame(FrameType.SETTINGS, Flag.ACK, 0)


def parse_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The identifiers and values in a SETTINGS frame's payload, whose length is a multiple of 6."""
    yield from _SETTING.iter_unpack(payload)


def ping_frame(payload: bytes, *, ack: bool) -> bytes:
    """A PING frame with its 8 bytes."""
    return _frame(FrameType.PING, Flag.ACK if ack else 0, 0, payload)


def rst_stream_frame(stream_id: int, code: int) -> bytes:
    """A RST_STREAM frame: this stream ends here."""
    return _frame(FrameType.RST_STREAM, 0, stream_id, _UINT32.pack(code))


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame: the peer may send so many bytes more, on a stream or (0) on the connection."""
    return _frame(FrameType.WINDOW_UPDATE, 0, stream_id, _UINT32.pack(increment))


def goaway_frame(last_stream_id: int, code: int, debug_data: bytes = b"") -> bytes:
    """A GOAWAY frame: no stream of the peer's above `last_stream_id` was or will be processed."""
    return _frame(FrameType.GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + debug_data)


def without_padding(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding.

    Raises:
        ProtocolViolation: there is more padding than payload.
    """
    if not flags & Flag.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
