"""How much useless work a peer may make us do: what frames cost it that bring no call forward.

Many frames cost a peer nothing to send, and cost us time to read: interim responses, empty DATA, SETTINGS,
changes of HPACK's table, frames on closed streams. RFC 9113, section 10.5, leaves it to each side to limit
them. Here each connection has a bucket. Such frames are paid from it, and what brings a call forward fills it
up again. Who empties it is told to calm down, and the connection ends.

No honest peer may ever come near the end. So two kinds of frames have a bucket of their own, since it is us
who cause them: reactions to the data that we send (WINDOW_UPDATE, and the PINGs with which servers measure
the line), and what was still on its way when we reset a stream.

It knows neither frames nor streams, only what they cost. The prices are in units of about 25 ns of our time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .frames import ErrorCode, ProtocolViolation

__all__ = [
    "ANSWER",
    "CAPACITY",
    "FIELD",
    "FRAME",
    "FRAME_ON_CLOSED_STREAM",
    "HUFFMAN_BYTE",
    "HUFFMAN_TEXT",
    "INSERTION",
    "LATE_HEADERS",
    "MESSAGE",
    "PIECE",
    "SETTING",
    "SMALL_DATA",
    "WorkBudget",
]

CAPACITY: Final = 256 << 10
"""What a bucket holds; it begins full."""

FRAME: Final = 64
FRAME_ON_CLOSED_STREAM: Final = 128
FIELD: Final = 32
"""A field of a header block, wherever its block is not free."""
INSERTION: Final = 64
"""A field that enters HPACK's table, beside what it costs as a field."""
HUFFMAN_TEXT: Final = 32
HUFFMAN_BYTE: Final = 4
"""A text in Huffman's code, beside what its field costs, and each byte of it."""
SETTING: Final = 64
"""A parameter in a SETTINGS frame."""

SMALL_DATA: Final = 512
"""DATA with fewer bytes takes more time for its frame than for what is in it. It counts for the peer's turn.

It costs `FRAME` less a unit for each byte: what is no smaller than 64 bytes costs nothing, since proxies and
slow lines cut answers into small pieces, and answers are bounded.
"""

MESSAGE: Final = 4 * FRAME
"""What a whole message gives back at most: its prefix and its body may come in several small frames."""

ANSWER: Final = 4 << 10
"""What an answer gives back that has come to its end."""
_PER_SECOND: Final = 32 << 10

_TURN: Final = 16 << 10
"""Half a millisecond. Whoever has made us work for so long waits until all others had their turn."""

_SENT_PER_REACTION: Final = 32
"""Bytes. Some servers return small windows as they read, on the stream and on the connection."""
PIECE: Final = 4 * _SENT_PER_REACTION
"""A piece of a request that is sent to its end allows as many reactions as so many bytes, if it is small.

Two WINDOW_UPDATEs, for one, and a PING. The end of a window is no end of a piece: who lets us send a byte
each time is not paid for that.
"""
_MOST_SENT: Final = 65_536 * _SENT_PER_REACTION

LATE_HEADERS: Final = 4 << 10
"""More than this is no matter of chance: such headers on a closed stream are never free."""

_IN_FLIGHT_PER_BYTE: Final = 1 / 8
"""A frame for each KiB that the peer was allowed to send when we reset its stream."""
_IN_FLIGHT_PER_BYTE_OF_MESSAGES: Final = FRAME_ON_CLOSED_STREAM / 5
"""The same for a stream that brings messages, of which an empty one has 5 bytes."""
_MOST_IN_FLIGHT: Final = 4 << 20
_IN_FLIGHT_SECONDS: Final = 30.0


class WorkBudget:
    """What one connection's peer may still make us do for nothing.

    Args:
        clock: gives the time, in seconds.

    Attributes:
        left: what is in the bucket.
        turn_over: the peer has spent so much in this turn that it is the turn of others.
        spent_in_turn: how much that is.
    """

    __slots__ = (
        "_clock",
        "_in_flight",
        "_in_flight_until",
        "_reacted",
        "_since",
        "left",
        "spent_in_turn",
        "turn_over",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self.left: float = CAPACITY
        self.turn_over = False
        self._clock = clock
        self._since = clock()
        self.spent_in_turn: float = 0
        self._reacted = 0
        self._in_flight = 0.0
        self._in_flight_until = -1.0

    def begin_turn(self) -> None:
        """The peer has its next turn."""
        self.turn_over = False
        self.spent_in_turn = 0

    def spend(self, cost: float, *, work: float = 0.0) -> None:
        """Pay for something that brings no call forward.

        Args:
            cost: what it costs.
            work: what it counts for the peer's turn beyond that.

        Raises:
            ProtocolViolation: there is not so much in the bucket.
        """
        now = self._clock()
        self.left = min(CAPACITY, self.left + (now - self._since) * _PER_SECOND) - cost
        self._since = now
        self._count_work(cost + work)
        if self.left < 0:
            raise ProtocolViolation(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that bring no call forward")

    def _count_work(self, work: float) -> None:
        self.spent_in_turn += work
        self.turn_over = self.spent_in_turn >= _TURN

    def spend_on_reaction(self, bytes_sent: int, cost: float) -> None:
        """Pay for a frame with which a peer may react to data that it gets.

        Args:
            bytes_sent: how much data it got on this connection until now, bytes, and `PIECE` for each piece.
            cost: what it costs if we have not sent enough.

        Raises:
            ProtocolViolation: see `spend`.
        """
        unclaimed = bytes_sent - self._reacted
        if unclaimed < _SENT_PER_REACTION:
            self.spend(cost)
        elif unclaimed > _MOST_SENT:
            self._reacted = bytes_sent - _MOST_SENT + _SENT_PER_REACTION
        else:
            self._reacted += _SENT_PER_REACTION

    def spend_on_closed_stream(self, cost: float) -> None:
        """Pay for a frame on a closed stream, which may have been on its way when we closed it.

        Raises:
            ProtocolViolation: see `spend`.
        """
        if self._in_flight >= cost and self._clock() <= self._in_flight_until:
            self._in_flight -= cost
            self._count_work(cost)
        else:
            self.spend(cost)

    def expect_in_flight(self, window: int, *, messages: bool) -> None:
        """We reset a stream: what the peer was allowed to send on it may be on its way.

        Args:
            window: how much that is, bytes.
            messages: whole messages have come on it, in a call that may have many.
        """
        now = self._clock()
        if now > self._in_flight_until:
            self._in_flight = 0.0
        self._in_flight_until = now + _IN_FLIGHT_SECONDS
        price = _IN_FLIGHT_PER_BYTE_OF_MESSAGES if messages else _IN_FLIGHT_PER_BYTE
        grant = max(window, 0) * price + 2 * MESSAGE
        most = max(grant, _MOST_IN_FLIGHT)
        self._in_flight = max(self._in_flight, min(self._in_flight + grant, most))

    def earn(self, gain: float) -> None:
        """A call was brought forward."""
        self.left = min(CAPACITY, self.left + gain)
