"""What takes the response of a stream, and how it learns that there won't be one."""

from __future__ import annotations

from typing import Protocol

from grpclib.exceptions import StreamTerminatedError

from .headers import Fields

__all__ = ["CallInterrupted", "Receiver"]


class CallInterrupted(StreamTerminatedError):
    """A call ended before its answer: its stream was reset, or the connection was lost.

    Attributes:
        unprocessed: the server certainly did nothing with the request, so it may be sent again.
        connection_lost: it was the whole connection.
    """

    def __init__(self, reason: str, *, unprocessed: bool = False, connection_lost: bool = False) -> None:
        super().__init__(reason)
        self.unprocessed = unprocessed
        self.connection_lost = connection_lost


class Receiver(Protocol):
    """What takes a stream's response. Its methods are called by the reader task, and must not block."""

    def headers_received(self, fields: Fields, *, end_stream: bool) -> None:
        """The response's headers, or its trailers when `end_stream` is set."""

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None:
        """A piece of the body; `Connection.acknowledge` gives its window back once it is consumed."""

    def interrupted(self, error: CallInterrupted) -> None:
        """Nothing more will come."""
