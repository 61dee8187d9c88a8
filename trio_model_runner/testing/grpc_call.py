"""One gRPC call as the server sees it: messages in, messages out, a status at the end.

On the wire a message is a prefix of five bytes and its content, cut into DATA frames at any place. An answer
is sent in pieces, as the client's windows allow. A handler gets and returns whole messages. This module knows
how gRPC frames messages. Only the handler knows what a message means.
"""

from __future__ import annotations

import math
import urllib.parse
from typing import TYPE_CHECKING

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from h2.connection import H2Connection

__all__ = ["ServerCall"]

PREFIX_LENGTH = 5
TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
UNESCAPED = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def parse_timeout(text: str | None) -> float:
    """The seconds in a ``grpc-timeout`` header; infinite if there is none, or if it can't be read."""
    if text and text[:-1].isdecimal() and text[-1] in TIMEOUT_UNITS:
        return int(text[:-1]) * TIMEOUT_UNITS[text[-1]]
    return math.inf


class ServerCall:
    """One call, from its request headers to its status.

    Attributes:
        path: what is called, ``/package.Service/Method``.
        metadata: the request's headers, also pseudo-headers (``:authority``). Of repeated ones, it is the
            last.
        initial_metadata: is sent before the first message. A call that fails before it sends none, unless
            `send_initial_metadata` was called.
        stream_id: the HTTP/2 stream.
        scope: the cancel scope that the handler runs in.
    """

    def __init__(
        self,
        stream_id: int,
        metadata: Mapping[str, str],
        *,
        max_message_bytes: int,
        wake_writer: Callable[[], None],
        abort_connection: Callable[[], None],
    ) -> None:
        self.stream_id = stream_id
        self.path = metadata.get(":path", "")
        self.metadata = metadata
        self.initial_metadata: list[tuple[str, str]] = []
        self.scope = trio.CancelScope()
        self.abort_connection = abort_connection
        self._wake_writer = wake_writer
        self._max_message_bytes = max_message_bytes
        self._incoming = bytearray()
        self._messages_in, self._messages = trio.open_memory_channel[bytes](math.inf)
        self._request_ended = False
        self._head: list[tuple[str, str]] | None = None
        self._head_sent = False
        self._body = bytearray()
        self._trailers: list[tuple[str, str]] | None = None

    @property
    def timeout(self) -> float:
        """Seconds that the client gave the call, infinite if it didn't say."""
        return parse_timeout(self.metadata.get("grpc-timeout"))

    @property
    def finished(self) -> bool:
        """Whether the status is decided."""
        return self._trailers is not None

    async def receive(self) -> bytes | None:
        """Wait for the client's next message; None if it sends no more."""
        try:
            return await self._messages.receive()
        except trio.EndOfChannel:
            return None

    async def send(self, message: bytes) -> None:
        """Queue a message for the client.

        Raises:
            grpclib.GRPCError: the message is larger than the server sends.
        """
        await trio.lowlevel.checkpoint()
        if len(message) > self._max_message_bytes:
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED,
                f"SERVER: Sent message larger than max ({len(message)} vs. {self._max_message_bytes})",
            )
        await self.send_body(b"\0" + len(message).to_bytes(4, "big") + message)

    def send_initial_metadata(self) -> None:
        """Queue `initial_metadata` now, so that a call that fails has sent it, too; once is enough."""
        if self._head is None:
            self._head = [(":status", "200"), ("content-type", "application/grpc"), *self.initial_metadata]
            self._wake_writer()

    async def send_body(self, data: bytes) -> None:
        """Queue `data` as it is. It should have its own prefix, which a test may break."""
        await trio.lowlevel.checkpoint()
        self.send_initial_metadata()
        self._body += data
        self._wake_writer()

    def finish(self, status: Status, message: str = "") -> None:
        """Set the status. What was queued is sent before it. A second status is ignored."""
        if self._trailers is None:
            escaped = urllib.parse.quote(message, safe=UNESCAPED)
            self._trailers = [("grpc-status", str(status.value)), ("grpc-message", escaped)]
            self._wake_writer()

    def fail(self, status: Status, message: str) -> None:
        """End the call with `status`, whatever its handler does."""
        self.finish(status, message)
        self.scope.cancel()

    def feed(self, data: bytes) -> None:
        """Take in a piece of the request's body."""
        if self.finished:
            return
        self._incoming += data
        while len(self._incoming) >= PREFIX_LENGTH:
            size = int.from_bytes(self._incoming[1:PREFIX_LENGTH], "big")
            if self._incoming[0]:
                self.fail(Status.INTERNAL, "Compression bit set but no encoding configured")
                return
            if size > self._max_message_bytes:
                limit = self._max_message_bytes
                text = f"SERVER: Received message larger than max ({size} vs. {limit})"
                self.fail(Status.RESOURCE_EXHAUSTED, text)
                return
            end = PREFIX_LENGTH + size
            if len(self._incoming) < end:
                return
            self._messages_in.send_nowait(bytes(self._incoming[PREFIX_LENGTH:end]))
            del self._incoming[:end]

    def feed_end(self) -> None:
        """Take in the end of the request."""
        self._request_ended = True
        self._messages_in.close()

    def transmit(self, connection: H2Connection) -> bool:
        """Hand `connection` as much of the answer as its windows allow; True when that was all."""
        if self._head is not None and not self._head_sent:
            connection.send_headers(self.stream_id, self._head)
            self._head_sent = True
        while self._body:
            room = min(
                connection.local_flow_control_window(self.stream_id), connection.max_outbound_frame_size
            )
            if room <= 0:
                return False
            connection.send_data(self.stream_id, bytes(self._body[:room]))
            del self._body[:room]
        if self._trailers is None:
            return False
        trailers = self._trailers
        if not self._head_sent:  # "trailers only": headers and trailers in one
            trailers = [(":status", "200"), ("content-type", "application/grpc"), *trailers]
        connection.send_headers(self.stream_id, trailers, end_stream=True)
        if not self._request_ended:
            connection.reset_stream(self.stream_id)  # with NO_ERROR: the rest of the request is not needed
        return True
