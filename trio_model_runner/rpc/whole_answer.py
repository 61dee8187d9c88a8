"""Recognises the usual answer to a unary call: a header block, one message, trailers, in one piece that was read.

This is about the layout of three frames, and nothing else: what they mean is `http2`'s business. Whatever is not
laid out like this, though it may be as good an answer, is None here, and goes the way of all frames.
"""

from __future__ import annotations

import struct
from typing import Final

from .frames import FRAME_HEADER_LENGTH, Flag, FrameType

__all__ = ["answer_parts"]

_HEADER: Final = struct.Struct(">HBHL")
"""As `frames.FRAME_HEADER`, but type and flags are one number."""

_HEADERS: Final = FrameType.HEADERS << 8 | Flag.END_HEADERS
_DATA: Final = FrameType.DATA << 8
_TRAILERS: Final = _HEADERS | Flag.END_STREAM


def answer_parts(data: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """The stream's id, the header block, the body and the trailers' block, if that is all that `data` is."""
    if len(data) < 3 * FRAME_HEADER_LENGTH:
        return None
    high, low, kind, stream_id = _HEADER.unpack_from(data)
    body_at = FRAME_HEADER_LENGTH + (high << 8 | low)
    if kind != _HEADERS or len(data) < body_at + FRAME_HEADER_LENGTH:
        return None
    high, low, kind, body_of = _HEADER.unpack_from(data, body_at)
    body_at += FRAME_HEADER_LENGTH
    trailers_at = body_at + (high << 8 | low)
    if kind != _DATA or body_of != stream_id or len(data) < trailers_at + FRAME_HEADER_LENGTH:
        return None
    high, low, kind, trailers_of = _HEADER.unpack_from(data, trailers_at)
    end = trailers_at + FRAME_HEADER_LENGTH + (high << 8 | low)
    if kind != _TRAILERS or trailers_of != stream_id or end != len(data):
        return None
    head = data[FRAME_HEADER_LENGTH : body_at - FRAME_HEADER_LENGTH]
    return stream_id, head, data[body_at:trailers_at], data[trailers_at + FRAME_HEADER_LENGTH :]
