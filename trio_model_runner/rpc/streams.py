"""One HTTP/2 stream of a client: a request on its way out and what has come of its response.

The order in which a response's parts may come is a table here, and nowhere else.
"""

from __future__ import annotations

import enum
import functools
from typing import Any, Final, TypeAlias

from .headers import Fields, RawFields

__all__ = ["Buffer", "Http2Stream", "Part", "well_formed"]

Buffer: TypeAlias = bytes | memoryview


class Received(enum.IntEnum):
    """How much of a response has come. Whole numbers, since a plain Enum computes its hash in Python."""

    NOTHING = enum.auto()
    HEADERS = enum.auto()
    EVERYTHING = enum.auto()


class Part(enum.IntEnum):
    """What a frame adds to a response; the second of each pair also ends it."""

    HEADERS = enum.auto()
    HEADERS_AND_END = enum.auto()
    DATA = enum.auto()
    DATA_AND_END = enum.auto()


_RESPONSE: Final[dict[tuple[Received, Part], Received]] = {
    (Received.NOTHING, Part.HEADERS): Received.HEADERS,
    (Received.NOTHING, Part.HEADERS_AND_END): Received.EVERYTHING,
    (Received.HEADERS, Part.DATA): Received.HEADERS,
    (Received.HEADERS, Part.DATA_AND_END): Received.EVERYTHING,
    (Received.HEADERS, Part.HEADERS_AND_END): Received.EVERYTHING,
}
"""RFC 9113, section 8.1: headers, any amount of data, at most one block of trailers."""


class Http2Stream:
    """One request and its response.

    Attributes:
        id: 0 until its HEADERS were handed to the writer: until then the server can't know of it.
        receiver: whatever the connection's owner keeps here to find who waits for the response.
        sent: all of the request was handed to the writer.
        closed: nothing more will be sent or received.
        answering: the response has begun.
        answered: the whole response has come.
    """

    __slots__ = (
        "answered",
        "answering",
        "closed",
        "end_queued",
        "fields",
        "id",
        "outgoing",
        "receive_window",
        "received",
        "receiver",
        "send_window",
        "sent",
        "unreturned",
        "volatile",
    )

    def __init__(self, fields: RawFields, volatile: RawFields, receiver: Any) -> None:
        self.id = 0
        self.receiver = receiver
        self.sent = False
        self.closed = False
        self.fields = fields
        self.volatile = volatile
        self.outgoing: list[Buffer] = []
        self.end_queued = False
        self.send_window = 0
        self.received = Received.NOTHING
        self.answering = False
        self.answered = False
        self.receive_window = 0
        self.unreturned = 0

    @property
    def unsent(self) -> int:
        """Bytes of the request's body that were not handed to the writer yet."""
        return sum(map(len, self.outgoing))

    def advance(self, part: Part) -> bool:
        """Note that `part` of the response came; False if it may not come now."""
        received = _RESPONSE.get((self.received, part))
        if received is None:
            return False
        self.received = received
        self.answering = True
        self.answered = received is Received.EVERYTHING
        return True

    def take(self, room: int) -> tuple[int, list[Buffer]]:
        """Take up to `room` bytes of the body, as views of what was queued; their number and the pieces."""
        length = 0
        for index, piece in enumerate(self.outgoing):
            if length + len(piece) > room:
                view, left = memoryview(piece), room - length
                pieces = [*self.outgoing[:index], view[:left]] if left else self.outgoing[:index]
                self.outgoing[: index + 1] = [view[left:]]
                return room, pieces
            length += len(piece)
        pieces, self.outgoing = self.outgoing, []
        return length, pieces


@functools.lru_cache(maxsize=256)  # the same few blocks come again and again
def well_formed(fields: Fields, trailers: bool) -> bool:
    """Whether headers, or trailers, of a response keep to RFC 9113, sections 8.1 to 8.3."""
    if not trailers and not (fields and fields[0][0] == ":status" and len(fields[0][1]) == 3):
        return False
    names = [name for name, _ in (fields if trailers else fields[1:])]
    return not any(name.startswith(":") or not name or name != name.lower() for name in names)
