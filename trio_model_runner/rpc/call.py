"""One call on a connection: what every kind of call shares, from opening its stream to leaving it.

There are two kinds. `unary.UnaryCall` waits for one whole answer, and is made to be cheap. The `Exchange` of
`channel` hands messages to a program one by one. Both are a `Call`: here the call's seconds become the
header that tells the server, here messages are cut, and here an answer that nobody wants is refused.
"""

from __future__ import annotations

import trio
from grpclib.exceptions import GRPCError

from .connection import Connection
from .headers import Fields, RawFields
from .http2 import Http2Stream
from .messages import MessageCutter
from .protocol import encode_timeout
from .receiver import CallInterrupted

__all__ = ["Call"]


class Call:
    """One HTTP/2 stream that carries a call; also its `receiver.Receiver`.

    Subclasses say what follows when a piece of the answer came in (`_consume`) and at the end (`_ended`).

    Args:
        connection: where to.
        max_message_bytes: the largest message taken as an answer, bytes.
        single: the answer must be exactly one message.

    Attributes:
        headers: the response's headers, with its initial metadata; empty until they came.
        trailers: the response's trailers; None until they came.
        ended_at: when the whole response or another end came, on Trio's clock, in seconds; None until then.
    """

    __slots__ = ("_connection", "_cutter", "_error", "_stream", "ended_at", "headers", "trailers")

    def __init__(self, connection: Connection, max_message_bytes: int, *, single: bool) -> None:
        self._connection = connection
        self._cutter = MessageCutter(max_message_bytes, single=single)
        self._stream: Http2Stream | None = None
        self.headers: Fields = ()
        self.trailers: Fields | None = None
        self._error: Exception | None = None
        self.ended_at: float | None = None

    @property
    def error(self) -> Exception | None:
        """Why it ended early, if it did."""
        return self._error

    @property
    def trailers_only(self) -> bool:
        """Whether the server answered with a status and nothing else, not even metadata before it."""
        if self.ended_at is None or self._error is not None:
            return False
        return bool(self.headers) and self.trailers is None and self._cutter.empty

    def leave(self) -> None:
        """Be done with the call: if it has not ended, the server hears of that. Idempotent."""
        if self._stream is not None:
            self._connection.leave(self._stream)

    def refuse(self, error: Exception) -> None:
        """Take nothing more of the answer: it ends here, with an error."""
        self._error = self._error or error
        self._cutter.clear()
        if self._stream is not None:
            self._connection.leave(self._stream)  # not `self.leave`: whoever waits is still to be told
        self._end()

    def headers_received(self, fields: Fields, *, end_stream: bool) -> None:
        """See `receiver.Receiver`."""
        if not self.headers:
            self.headers = fields
        else:
            self.trailers = fields
        if end_stream:
            self._end()

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None:
        """See `receiver.Receiver`."""
        assert self._stream is not None
        try:
            self._cutter.feed(data)
        except GRPCError as error:
            self.refuse(error)
            return
        self._consume(self._stream, flow_controlled_length)
        if end_stream:
            self._end()

    def interrupted(self, error: CallInterrupted) -> None:
        """See `receiver.Receiver`."""
        if self.ended_at is None:
            self._error = error
            self._end()

    def _open(self, fields: RawFields, volatile: RawFields, seconds: float) -> Http2Stream:
        """Open the stream; its headers go out with whatever is sent next.

        Args:
            fields: the request headers; see `protocol.request_fields`.
            volatile: those that differ from call to call.
            seconds: what the server is told that it has.

        Raises:
            CallInterrupted: the connection takes no new calls.
        """
        stream = self._connection.open(fields, (*encode_timeout(seconds), *volatile), self)
        self._stream = stream
        return stream

    def _consume(self, stream: Http2Stream, flow_controlled_length: int) -> None:
        """A piece of the answer was taken in."""
        self._connection.acknowledge(stream, flow_controlled_length)

    def _end(self) -> None:
        if self.ended_at is None:
            self.ended_at = trio.current_time()
            self._ended()

    def _ended(self) -> None:
        """Nothing more will come."""
        raise NotImplementedError
