"""What takes the response of a stream, and how it learns that there won't be one."""

from __future__ import annotations

from typing import Protocol

from grpclib.exceptions import StreamTerminatedError

from .ending import Ending
from .headers import Fields

__all__ = ["CallInterrupted", "Receiver"]


class CallInterrupted(StreamTerminatedError):
    """A call ended before its answer: its stream was reset, or the connection ended or was not there.

    Args:
        reason: why, in words; or how the connection ended.
        unprocessed: see below.
        connection_lost: see below; always true if `reason` is an `Ending`.

    Attributes:
        unprocessed: the server certainly did nothing with the request, so it may be sent again.
        connection_lost: it was not this call alone: the connection takes no calls any more.
        ending: how the connection ended; None if it was this call alone, or there was no connection.
    """

    def __init__(
        self, reason: str | Ending, *, unprocessed: bool = False, connection_lost: bool = False
    ) -> None:
        super().__init__(str(reason))
        self.ending = reason if isinstance(reason, Ending) else None
        self.unprocessed = unprocessed
        self.connection_lost = connection_lost or self.ending is not None


class Receiver(Protocol):
    """What takes a stream's response. Its methods are called by the reader task, and must not wait."""

    def headers_received(self, fields: Fields, *, end_stream: bool, over_limit: bool = False) -> None:
        """Take the response's headers, or its trailers when `end_stream` is set.

        With `over_limit`, they are larger than allowed, and not all of them are here.
        """

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None:
        """Take a piece of the body; `Connection.acknowledge` gives its window back once it is consumed."""

    def answer_received(self, headers: Fields, body: bytes, trailers: Fields) -> None:
        """Take a whole response: the same as its headers, its body in one piece, and its trailers."""

    def interrupted(self, error: CallInterrupted) -> None:
        """Learn that nothing more will come."""
