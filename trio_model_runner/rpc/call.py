"""One call on a connection: its stream is opened, its answer gathered, and in the end it is left.

There are two kinds. The `UnaryCall` here has one message each way. The `Exchange` of `channel` hands messages
to a program one by one. Both are a `Call`: it makes the call's seconds the header that tells the server, and
refuses an answer that nobody wants.

A `UnaryCall` is the way that every round goes, so it takes the shortest path. grpclib's `Stream` is made for
any number of messages, and pays for it with a dozen awaits. A unary call needs one: everything is sent before
the first, and its task is woken once, when the whole answer is there. What arrives is gathered by the reader
task meanwhile; a message that is too large is refused from its length prefix, before it is gathered.

A call that ends before its answer, by cancellation above all, resets its stream. So the server hears of it,
and the connection stays as good as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
import outcome
import trio
from grpclib.exceptions import GRPCError
from trio.lowlevel import enable_ki_protection

from .connection import Connection
from .headers import Fields, RawFields
from .messages import MESSAGE_PREFIX, MESSAGE_PREFIX_LENGTH, MessageCutter
from .protocol import NotGRPC, encode_timeout, over_limit_error, page_error, raise_for_status
from .receiver import CallInterrupted
from .streams import Buffer, Http2Stream

__all__ = ["Answer", "Call", "UnaryCall"]

T = TypeVar("T")


class Call:
    """One HTTP/2 stream that carries a call; also its `receiver.Receiver`.

    Subclasses say where the pieces of the answer go (`_take_in`), what follows when one was taken in
    (`_consume`) and at the end (`_ended`).

    Args:
        connection: where to.

    Attributes:
        headers: the response's headers, with its initial metadata; empty until they came.
        trailers: the response's trailers; None until they came.
        ended_at: when the whole response or another end came, on Trio's clock, in seconds; None until then.
    """

    __slots__ = (
        "_connection",
        "_error",
        "_over_limit",
        "_page",
        "_stream",
        "ended_at",
        "headers",
        "trailers",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stream: Http2Stream | None = None
        self.headers: Fields = ()
        self.trailers: Fields | None = None
        self._error: Exception | None = None
        self._over_limit = False  # the last block of the response
        self._page = False  # the response is none of gRPC's
        self.ended_at: float | None = None

    @property
    def error(self) -> Exception | None:
        """Why it ended early, if it did."""
        return self._error

    @property
    def has_message(self) -> bool:
        """Whether a piece of a message has come."""
        raise NotImplementedError

    @property
    def trailers_only(self) -> bool:
        """Whether the server answered with a status and nothing else, not even metadata before it.

        A page that is none of gRPC's is taken for its HTTP status, whether it has a body or not.
        """
        if self._page:
            return True
        if self.ended_at is None or self._error is not None:
            return False
        return bool(self.headers) and self.trailers is None and not self.has_message

    def leave(self) -> None:
        """Be done with the call: if it has not ended, the server hears of that. Idempotent."""
        if self._stream is not None:
            self._connection.leave(self._stream)

    def refuse(self, error: Exception) -> None:
        """Take nothing more of the answer: it ends here, with an error."""
        self._error = self._error or error
        self._let_go()
        if self._stream is not None:
            self._connection.leave(self._stream)  # not `self.leave`: whoever waits is still to be told
        self._end()

    def headers_received(self, fields: Fields, *, end_stream: bool, over_limit: bool = False) -> None:
        """See `receiver.Receiver`."""
        if not self.headers:
            self.headers = fields
            if not end_stream:
                if fields is not self._connection.usual_headers:
                    self._check_beginning(fields, over_limit=over_limit)
                return
        else:
            self.trailers = fields
        self._over_limit = over_limit
        if end_stream:
            self._end()

    def _check_beginning(self, fields: Fields, *, over_limit: bool) -> None:
        """Refuse an answer whose headers say that it is none, before its body."""
        if (page := page_error(fields)) is not None:
            self._page = True
            self.refuse(NotGRPC(*page))
        elif over_limit:
            self.refuse(over_limit_error())
        else:
            self._connection.usual_headers = fields

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None:
        """See `receiver.Receiver`."""
        assert self._stream is not None
        try:
            self._take_in(data)
        except GRPCError as error:
            self.refuse(error)
            return
        self._consume(self._stream, flow_controlled_length)
        if end_stream:
            self._end()

    def answer_received(self, headers: Fields, body: bytes, trailers: Fields) -> None:
        """See `receiver.Receiver`."""
        assert self._stream is not None
        self.headers_received(headers, end_stream=False)
        if self._stream.receiver is not None:  # it was not refused
            self.data_received(body, len(body), end_stream=False)
        if self._stream.receiver is not None:
            self.headers_received(trailers, end_stream=True)

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
        stream = self._connection.open(fields, encode_timeout(seconds) + volatile, self)
        self._stream = stream
        return stream

    def _take_in(self, data: bytes) -> None:
        """Take in a piece of the answer's body.

        Raises:
            GRPCError: the body is not as it must be.
        """
        raise NotImplementedError

    def _let_go(self) -> None:
        """Let go of what was gathered of the answer."""
        raise NotImplementedError

    def _consume(self, stream: Http2Stream, flow_controlled_length: int) -> None:
        """A piece of the answer was taken in."""
        self._connection.acknowledge(stream, flow_controlled_length)

    def _end(self) -> None:
        if self.ended_at is None:
            self.ended_at = self._connection.now()
            self._ended()

    def _ended(self) -> None:
        """Nothing more will come."""
        raise NotImplementedError


@attrs.define(repr=False)
class Answer:
    """The answer to a unary call. It is not frozen, which would take longer.

    Attributes:
        message: the answer's message, encoded.
        metadata: the initial metadata with all other headers, in the order in which they came.
    """

    message: bytes
    metadata: Fields

    def __repr__(self) -> str:
        """Show the length, never the message."""
        return f"<Answer of {len(self.message)} bytes>"


class UnaryCall(Call):
    """A call with one message each way.

    `perform` is its whole life; `begin`, `leave` and `answer` are the parts that never wait.

    Args:
        connection: where to.
        fields: the request headers; see `protocol.request_fields`.
        message: the request's message, encoded, in any number of buffers, which are not copied.
        max_message_bytes: the largest message taken as an answer, bytes.
        volatile: request headers that differ from call to call.
        unguarded: there is nothing in it that the connection's guard would have to hold back.
    """

    __slots__ = (
        "_cutter",
        "_fields",
        "_max_message_bytes",
        "_message",
        "_on_end",
        "_task",
        "_told",
        "_unguarded",
        "_volatile",
        "_whole",
    )

    def __init__(
        self,
        connection: Connection,
        fields: RawFields,
        message: Sequence[Buffer],
        *,
        max_message_bytes: int,
        volatile: RawFields = (),
        unguarded: bool = False,
    ) -> None:
        super().__init__(connection)
        self._fields = fields
        self._message = message
        self._max_message_bytes = max_message_bytes
        self._volatile = volatile
        self._unguarded = unguarded
        self._whole = b""  # an answer's body that is one message, and came in one piece, as most do
        self._cutter: MessageCutter | None = None  # what gathers any other
        self._task: trio.lowlevel.Task | None = None
        self._on_end: Callable[[Any], None] | None = None
        self._told: Any = None

    @property
    def handed_over(self) -> bool:
        """Whether the writer has taken the end of the request. If not, the server can't have all of it."""
        return self._stream is not None and self._stream.sent

    @property
    def sent(self) -> bool:
        """Whether the whole request was handed to the kernel: the server may have acted on it."""
        return self._stream is not None and self._stream.sent and self._connection.all_written

    @property
    def has_message(self) -> bool:
        """See `Call.has_message`."""
        return bool(self._whole) or (self._cutter is not None and not self._cutter.empty)

    def begin(self, timeout: float, on_end: Callable[[T], None], told: T) -> None:
        """Send the request; whoever does this must `leave`, too.

        Args:
            timeout: seconds that the server is told it has. Nothing here enforces it: whoever waits does.
            on_end: called once, when `answer` has something to say; mostly by the task that reads. It must
                neither raise nor wait.
            told: what it is called with. (A function that knows it would be three objects more for the
                garbage collector, in each open call.)
        """
        self._on_end, self._told = on_end, told
        try:
            self._stream = self._connection.request(
                self._fields,
                encode_timeout(timeout) + self._volatile,
                (MESSAGE_PREFIX.pack(0, sum(map(len, self._message))), *self._message),
                self,
                unguarded=self._unguarded,
            )
        except CallInterrupted as error:
            self.interrupted(error)

    def leave(self) -> None:
        """See `Call.leave`."""
        self._on_end = self._told = None
        super().leave()

    @enable_ki_protection
    async def run(self, timeout: float) -> None:
        """Send the request and wait until the call has ended; `answer` then says how.

        Args:
            timeout: see `begin`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.begin(timeout, UnaryCall._wake, self)
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
        good = self._connection.last_good
        if good is None or self.headers is not good[0] or self.trailers is not good[1]:
            raise_for_status(self.headers, self.trailers)
            if self._over_limit:
                raise over_limit_error()
            self._connection.last_good = (self.headers, self.trailers)
        if self._whole:
            return Answer(self._whole[MESSAGE_PREFIX_LENGTH:], self.headers)
        cutter = self._gathering()
        cutter.check_end()
        return Answer(cutter.messages[0], self.headers)

    def answer_received(self, headers: Fields, body: bytes, trailers: Fields) -> None:
        """See `receiver.Receiver`."""
        if headers is self._connection.usual_headers and self._is_whole(body):
            self.headers, self._whole, self.trailers = headers, body, trailers
            self._end()
        else:
            super().answer_received(headers, body, trailers)

    def _take_in(self, data: bytes) -> None:
        if not self._whole and self._cutter is None and self._is_whole(data):
            self._whole = data
        else:
            self._gathering().feed(data)

    def _is_whole(self, data: bytes) -> bool:
        """Whether this is one message that may be taken."""
        length = len(data) - MESSAGE_PREFIX_LENGTH
        return 0 <= length <= self._max_message_bytes and data.startswith(MESSAGE_PREFIX.pack(0, length))

    def _gathering(self) -> MessageCutter:
        """What gathers an answer in pieces, with all that has come."""
        if self._cutter is None:
            self._cutter = MessageCutter(self._max_message_bytes, single=True)
            self._cutter.feed(self._whole)
            self._whole = b""
        return self._cutter

    def _let_go(self) -> None:
        self._whole = b""
        if self._cutter is not None:
            self._cutter.clear()

    def _ended(self) -> None:
        on_end, told = self._on_end, self._told
        self._on_end = self._told = None  # which knows this call
        if on_end is not None:
            on_end(told)
