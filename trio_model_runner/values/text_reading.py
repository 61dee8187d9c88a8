"""Text that a stranger sent, read without holding up other threads.

To decode 64 MiB is one call into C, which holds the interpreter's lock for up to 130 ms. So large text is
decoded in pieces. To put them together is one call, too, and it takes the longer the more memory the text
takes. A single character decides whether all of them take 1, 2 or 4 bytes. So that memory is bounded.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from typing import Final

from ..abandoned import stop_if_abandoned
from .json_structure import piece_without_escapes

__all__ = ["MAX_TEXT_MEMORY", "TextTooLargeError", "text_of_json", "text_of_utf8"]

MAX_TEXT_MEMORY: Final = 80 * 2**20
"""A text takes no more memory, in bytes. To put one together takes up to 30 ms."""

_PIECE_BYTES = 2**20
_PAIR_BYTES = 12  # of \ud83d\ude00, which is one character
_HIGH_SURROGATE = re.compile(rb"\\u[dD][89abAB]..")
_HEADER_BYTES = sys.getsizeof(chr(256) * 2) - 2 * 3


class TextTooLargeError(ValueError):
    """A text takes more than `MAX_TEXT_MEMORY`."""


class _Parts:
    """The parts of a text, and how much memory they take together."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._width = 1

    def add(self, part: str) -> None:
        """Add a part that was just decoded.

        Raises:
            TextTooLargeError: the text takes too much.
        """
        if not part.isascii():
            width = (sys.getsizeof(part) - _HEADER_BYTES) // (len(part) + 1)
            self._width = max(self._width, width)
        self._length += len(part)
        if self._length * self._width > MAX_TEXT_MEMORY:
            raise TextTooLargeError(f"a text that takes more than {MAX_TEXT_MEMORY >> 20} MiB of memory")
        self._parts.append(part)

    def joined(self) -> str:
        return "".join(self._parts)


def text_of_utf8(data: bytes) -> str:
    """Decode UTF-8.

    Raises:
        UnicodeError: it is malformed.
        TextTooLargeError: the text takes more than `MAX_TEXT_MEMORY`.
    """
    if len(data) <= _PIECE_BYTES:
        return data.decode("utf-8")
    decoder, parts = codecs.getincrementaldecoder("utf-8")(), _Parts()
    for begin in range(0, len(data), _PIECE_BYTES):
        stop_if_abandoned()
        end = begin + _PIECE_BYTES
        parts.add(_next(decoder, data[begin:end], begin, final=end >= len(data)))
    return parts.joined()


def text_of_json(data: bytes, begin: int) -> tuple[str, int]:
    """Decode a long text in JSON.

    Args:
        data: the JSON.
        begin: where the text begins, behind its first quote.

    Returns:
        the text, and where its last quote is.

    Raises:
        UnicodeError: it is not UTF-8.
        TextTooLargeError: the text takes more than `MAX_TEXT_MEMORY`.
        ValueError: it is malformed otherwise, or has a lone surrogate.
    """
    decoder, parts = codecs.getincrementaldecoder("utf-8")(), _Parts()
    while begin < len(data):
        stop_if_abandoned()
        piece = piece_without_escapes(data, begin)
        length = piece.find(b'"')
        final = length >= 0
        if not final:
            if begin + len(piece) >= len(data):
                break
            length = _without_open_escape(piece)
        text = _next(decoder, data[begin : begin + length], begin, final=final)
        begin += length
        parts.add(_part_of_json(text))
        if final:
            return parts.joined(), begin
    raise ValueError("JSON that can't be read: a text without an end")


def _next(decoder: codecs.IncrementalDecoder, piece: bytes, begin: int, *, final: bool) -> str:
    pending = len(decoder.getstate()[0])
    try:
        return decoder.decode(piece, final)
    except UnicodeDecodeError as error:
        raise UnicodeError(f"{error.reason} at byte {begin - pending + error.start}") from None


def _part_of_json(text: str) -> str:
    try:
        part: str = json.JSONDecoder().decode(f'"{text}"')
        if "\\u" in text:
            part.encode("utf-8")
    except json.JSONDecodeError as error:
        raise ValueError(f"JSON that can't be read: {error.msg}") from None
    except UnicodeEncodeError:
        raise ValueError("JSON with a lone surrogate in it") from None
    return part


def _without_open_escape(piece: bytes) -> int:
    """The length of a piece of a text in JSON without what may be the begin of a character's escape."""
    end = piece.find(b"\\", max(0, len(piece) - _PAIR_BYTES + 1))
    if end < 0:
        return len(piece)
    high = end - _PAIR_BYTES // 2
    return high if high > 0 and _HIGH_SURROGATE.match(piece, high) else end or len(piece)
