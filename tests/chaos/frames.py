"""HTTP/2 frames (RFC 9113, section 4.1) that a node may send without being asked, by what they are."""

from __future__ import annotations

import random

__all__ = ["FLOOD", "GARBAGE", "OUTBURSTS"]

_DATA, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _UNKNOWN = 0x0, 0x4, 0x6, 0x7, 0x8, 0xFA


def _frame(kind: int, payload: bytes = b"", *, stream: int = 0, flags: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


GARBAGE = random.Random(9113).randbytes(20_000)
FLOOD = _frame(_SETTINGS) + 100 * _frame(_UNKNOWN, bytes(16_384))
"""A beginning as it should be, and then 1.6 MB of what is to be ignored."""

OUTBURSTS = {
    "garbage": GARBAGE,
    "pings": 2_000 * _frame(_PING, bytes(8)),
    "settings": 2_000 * _frame(_SETTINGS),
    "padding": FLOOD,
    "windows": 2_000 * _frame(_WINDOW_UPDATE, (1).to_bytes(4, "big"), stream=0),
    "overflow": _frame(_WINDOW_UPDATE, (2**31 - 1).to_bytes(4, "big")),
    "data": _frame(_DATA, bytes(1000), stream=999_999),
    "goodbye": _frame(_GOAWAY, (2**31 - 1).to_bytes(4, "big") + bytes(4)),
    "harsh goodbye": _frame(_GOAWAY, bytes(4) + (11).to_bytes(4, "big") + b"enough"),
}
"""What a node may say once, between two frames of its own."""
