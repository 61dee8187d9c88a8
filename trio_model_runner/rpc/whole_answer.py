"""Recognises the usual answer to a unary call: headers, one message and trailers, in one piece that was read.

This is about the layout of three frames, and nothing else: what they mean is `http2`'s business. Whatever is
not laid out like this, though it may be as good an answer, is None here, and goes the way of all frames.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import attrs

from .frames import FRAME_HEADER_LENGTH, Flag, FrameType

if TYPE_CHECKING:
    from .headers import HeaderList

__all__ = ["AnswerParts", "AnswerShape", "answer_parts"]

_HEADER: Final = struct.Struct(">HBHL")
"""As `frames.FRAME_HEADER`, but type and flags are one number."""

_HEADERS: Final = FrameType.HEADERS << 8 | Flag.END_HEADERS
_DATA: Final = FrameType.DATA << 8
_TRAILERS: Final = _HEADERS | Flag.END_STREAM


@attrs.define
class AnswerParts:
    """The frames of one answer.

    Attributes:
        stream_id: the stream's id.
        head: the header block.
        body: the body.
        tail: the trailers' block.
    """

    stream_id: int
    head: bytes
    body: bytes
    tail: bytes


def answer_parts(data: bytes) -> AnswerParts | None:
    """The parts of an answer, if that is all that `data` is."""
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
    return AnswerParts(stream_id, head, data[body_at:trailers_at], data[trailers_at + FRAME_HEADER_LENGTH :])


class AnswerShape:
    """How the last answer was laid out. Most are laid out like it, which is found out in half the time.

    Args:
        parts: of that answer.
        headers: what its header block means.
        trailers: what its trailers' block means.

    Attributes:
        headers: see above.
        trailers: see above.
    """

    __slots__ = ("_before_id", "_before_last_id", "_head", "_tail", "headers", "trailers")

    def __init__(self, parts: AnswerParts, headers: HeaderList, trailers: HeaderList) -> None:
        length = len(parts.head)
        self._before_id = _HEADER.pack(length >> 8, length & 0xFF, _HEADERS, 0)[:5]
        self._head = parts.head
        length = len(parts.tail)
        self._before_last_id = _HEADER.pack(length >> 8, length & 0xFF, _TRAILERS, 0)[:5]
        self._tail = parts.tail
        self.headers = headers
        self.trailers = trailers

    def match(self, data: bytes) -> tuple[int, bytes] | None:
        """The stream's id and the body, if `data` is an answer of this shape, and nothing else."""
        stream_id = data[5:FRAME_HEADER_LENGTH]
        head = self._before_id + stream_id + self._head
        tail = self._before_last_id + stream_id + self._tail
        begin, end = len(head), len(data) - len(tail)
        if end < begin + FRAME_HEADER_LENGTH or not (data.startswith(head) and data.endswith(tail)):
            return None
        high, low, kind, number = _HEADER.unpack_from(data, begin)
        begin += FRAME_HEADER_LENGTH
        if kind != _DATA or data[begin - 4 : begin] != stream_id or end - begin != high << 8 | low:
            return None
        return number, data[begin:end]
