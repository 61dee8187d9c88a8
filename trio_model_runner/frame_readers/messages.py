"""What goes through the pipes between a coordinator and its reader processes.

Both ways it is messages: a head of fixed size, and some bytes. A coordinator sends frames, each with a number
and its data type. The reader answers in the same order, with that number. It writes each answer as soon as it
has it, so whoever knows which answers came knows which frame the reader was at when it ended.

This module does no I/O, and knows nothing of what the bytes are.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import struct
from collections.abc import Iterator
from typing import Final

import attrs

__all__ = ["HEAD_BYTES", "Kind", "Message", "MessageParser", "head", "parse_head"]

_HEAD: Final = struct.Struct("<QBQ")

HEAD_BYTES: Final = _HEAD.size

_LARGE_BYTES: Final = 2**20
"""A larger message gets pages of its own: making room in a bytearray would write zeros to all of it first."""


class Kind(enum.IntEnum):
    """What a reader says.

    Attributes:
        READY: it can be sent frames now. The number is 0, and there is nothing else.
        BROKEN: it can't work here; a text says why. It ends itself then.
        TABLE: an Arrow stream of the frame with that number.
        REFUSAL: a text that says why that frame can't be read.
    """

    READY = 0
    BROKEN = 1
    TABLE = 2
    REFUSAL = 3


@attrs.frozen
class Message:
    """A message.

    Attributes:
        number: which frame it is, or is about.
        kind: the number of a `Kind`; on the way to a reader, the number of a `DataType`.
        body: the rest.
    """

    number: int
    kind: int
    body: bytes | mmap.mmap


def head(number: int, kind: int, length: int) -> bytes:
    """The head of a message.

    Args:
        number: see `Message`.
        kind: see `Message`.
        length: the length of the body, bytes.
    """
    return _HEAD.pack(number, kind, length)


def parse_head(data: bytes) -> tuple[int, int, int]:
    """The number, the kind and the length of the body; see `head`."""
    return _HEAD.unpack(data)


class MessageParser:
    """Cuts what comes through a pipe into messages.

    Args:
        max_body_bytes: the longest body that is taken, bytes.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._received = bytearray()
        self._large: mmap.mmap | None = None
        self._filled = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take bytes, and give the messages that are complete with them.

        Raises:
            ValueError: a body is too long.
        """
        if self._large is not None:
            taken = min(len(data), len(self._large) - self._filled)
            self._large[self._filled : self._filled + taken] = data[:taken]
            self._filled += taken
            data = data[taken:]
            if self._filled < len(self._large):
                return
            yield self._finish_large(self._large)
        self._received += data
        while len(self._received) >= HEAD_BYTES:
            number, kind, length = _HEAD.unpack_from(self._received)
            if length > self._max_body_bytes:
                raise ValueError(f"a message of {length} bytes, more than {self._max_body_bytes}")
            end = HEAD_BYTES + length
            if len(self._received) < end:
                if length > _LARGE_BYTES:
                    self._begin_large(length)
                return
            yield Message(number, kind, bytes(memoryview(self._received)[HEAD_BYTES:end]))
            del self._received[:end]

    def _begin_large(self, length: int) -> None:
        self._large = _pages(length)
        self._filled = len(self._received) - HEAD_BYTES
        self._large[: self._filled] = self._received[HEAD_BYTES:]
        del self._received[HEAD_BYTES:]

    def _finish_large(self, body: mmap.mmap) -> Message:
        number, kind, _ = _HEAD.unpack(self._received)
        self._received.clear()
        self._large = None
        return Message(number, kind, body)


def _pages(length: int) -> mmap.mmap:
    """Make room for a large body. To give small pages back takes 50 ms: they are large where that works."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, length)
    pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not for shared ones
    with contextlib.suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages
