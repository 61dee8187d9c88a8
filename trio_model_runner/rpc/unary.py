"""A call with one message each way: the way that every round goes, so it takes the shortest path.

grpclib's `Stream` is made for any number of messages, and pays for it with a dozen awaits. A unary call needs
one: everything is sent before the first, and its task is woken once, when the whole answer is there. What
arrives is gathered by the reader task meanwhile; a message that is too large is refused from its length
prefix, before it is gathered.

A call that ends before its answer, by cancellation above all, resets its stream, so that the server hears of
it and the connection stays as good as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import outcome
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from trio.lowlevel import enable_ki_protection

from .connection import Connection
from .frames import ErrorCode
from .headers import Fields, RawFields
from .http2 import Buffer, Http2Stream
from .protocol import (
    MESSAGE_PREFIX_LENGTH,
    encode_timeout,
    message_length,
    message_prefix,
    raise_for_status,
)
from .receiver import CallInterrupted

__all__ = ["Answer", "UnaryCall"]


@attrs.frozen(repr=False)
class Answer:
    """The answer to a unary call.

    Attributes:
        message: the answer's message, encoded.
        metadata: the initial metadata with all other headers, in the order in which they came.
    """

    message: bytes
    metadata: Fields

    def __repr__(self) -> str:
        """Show the length, never the message."""
        return f"<Answer of {len(self.message)} bytes>"


class UnaryCall:
    """One call. `perform` is its whole life; `begin`, `leave` and `answer` are the parts that never wait.

    Args:
        connection: where to.
        fields: the request headers; see `protocol.request_fields`.
        message: the request's message, encoded, in any number of buffers, which are not copied.
        max_message_bytes: the largest message taken as an answer, bytes.
        volatile: request headers that differ from call to call.

    Attributes:
        sent: the whole request was handed to the kernel: the server may have acted on it.
        ended_at: when the answer or the end came, on Trio's clock, in seconds; None until then.
    """

    __slots__ = (
        "_connection",
        "_error",
        "_expected",
        "_fields",
        "_headers",
        "_max_message_bytes",
        "_message",
        "_on_end",
        "_received",
        "_stream",
        "_task",
        "_trailers",
        "_volatile",
        "ended_at",
    )

    def __init__(
        self,
        connection: Connection,
        fields: RawFields,
        message: Sequence[Buffer],
        *,
        max_message_bytes: int,
        volatile: RawFields = (),
    ) -> None:
        self._connection = connection
        self._fields = fields
        self._message = message
        self._max_message_bytes = max_message_bytes
        self._volatile = volatile
        self._stream: Http2Stream | None = None
        self._task: trio.lowlevel.Task | None = None
        self._on_end: Callable[[], None] | None = None
        self._headers: Fields | None = None
        self._trailers: Fields | None = None
        self._received: bytes | bytearray = b""
        self._expected: int | None = None
        self._error: Exception | None = None
        self.ended_at: float | None = None

    @property
    def sent(self) -> bool:
        """See the class."""
        return self._stream is not None and self._stream.sent and self._connection.all_written

    @property
    def headers(self) -> Fields:
        """The initial metadata with all other headers, as soon as they have come; empty until then."""
        return self._headers or ()

    @property
    def trailers_only(self) -> bool:
        """Whether the server answered with a status and nothing else, not even metadata before it."""
        refused = self._error is not None  # by us, for what came of the message
        return self._headers is not None and self._trailers is None and not (self._received or refused)

    @property
    def has_message(self) -> bool:
        """Whether a piece of a message has come."""
        return bool(self._received)

    @enable_ki_protection
    def begin(self, timeout: float, on_end: Callable[[], None]) -> None:
        """Send the request; whoever does this must `leave`, too.

        Args:
            timeout: seconds that the server is told it has. Nothing here enforces it: whoever waits does.
            on_end: called once, when `answer` has something to say; mostly by the task that reads. It must
                neither raise nor wait.
        """
        self._on_end = on_end
        length = sum(map(len, self._message))
        try:
            stream = self._connection.open(self._fields, (*encode_timeout(timeout), *self._volatile), self)
        except CallInterrupted as error:
            self.interrupted(error)
            return
        self._stream = stream
        self._connection.send(stream, (message_prefix(length), *self._message), end_stream=True)

    @enable_ki_protection
    def leave(self) -> None:
        """Be done with the call: if it has not ended, the server hears of that. Idempotent."""
        self._on_end = None
        if self._stream is not None:
            code = ErrorCode.CANCEL if self.ended_at is None else ErrorCode.NO_ERROR
            self._connection.reset(self._stream, code)

    @enable_ki_protection
    async def run(self, timeout: float) -> None:
        """Send the request and wait until the call has ended; `answer` then says how.

        Args:
            timeout: see `begin`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.begin(timeout, self._wake)
            await self._wait()
        finally:
            self.leave()

    async def perform(self, timeout: float) -> Answer:
        """Send the request, wait for the answer, and return it; see `begin` and `answer`."""
        await self.run(timeout)
        return self.answer()

    async def _wait(self) -> None:
        if self.ended_at is not None:
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()

        def abort(_: Callable[[], Any]) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task, outcome.Value(None))
            self._task = None

    def answer(self) -> Answer:
        """The answer to a call that has ended.

        Raises:
            GRPCError: the server's status, or what makes the answer none.
            CallInterrupted: the stream or the connection ended first.
        """
        if self._error is not None:
            raise self._error
        assert self._headers is not None
        raise_for_status(self._headers, self._trailers)
        received = self._received
        if self._expected is None or len(received) != MESSAGE_PREFIX_LENGTH + self._expected:
            raise GRPCError(Status.INTERNAL, "the answer is not exactly one message")
        return Answer(bytes(memoryview(received)[MESSAGE_PREFIX_LENGTH:]), self._headers)

    def headers_received(self, fields: Fields, *, end_stream: bool) -> None:
        """See `connection.Receiver`."""
        if self._headers is None:
            self._headers = fields
        else:
            self._trailers = fields
        if end_stream:
            self._end()

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None:
        """See `connection.Receiver`."""
        assert self._stream is not None
        if not self._received:
            self._received = data  # most answers have just one piece
        else:
            if isinstance(self._received, bytes):
                self._received = bytearray(self._received)
            self._received += data
        if self._expected is None and len(self._received) >= MESSAGE_PREFIX_LENGTH:
            self._check_prefix(bytes(self._received[:MESSAGE_PREFIX_LENGTH]))
        elif self._expected is not None and len(self._received) > MESSAGE_PREFIX_LENGTH + self._expected:
            self._refuse(GRPCError(Status.INTERNAL, "the answer is more than one message"))
        self._connection.acknowledge(self._stream, flow_controlled_length)
        if end_stream:
            self._end()

    def _check_prefix(self, prefix: bytes) -> None:
        try:
            self._expected = message_length(prefix, self._max_message_bytes)
        except GRPCError as error:
            self._refuse(error)

    def _refuse(self, error: GRPCError) -> None:
        if self._error is None and self._stream is not None:
            self._error = error
            self._received = b""
            self._connection.reset(self._stream)
            self._end()

    def interrupted(self, error: CallInterrupted) -> None:
        """See `connection.Receiver`."""
        if self.ended_at is None:
            self._error = error
            self._end()

    def _end(self) -> None:
        if self.ended_at is not None:
            return
        self.ended_at = trio.current_time()
        on_end, self._on_end = self._on_end, None  # which knows whoever knows this call
        if on_end is not None:
            on_end()
