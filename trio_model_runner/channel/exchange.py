"""A call's request and response on their way: what has come, cut into messages, until it is wanted.

The reader task must never wait for the program that reads the messages, or one slow reader would stop all
calls on the connection. So what arrives is kept here, and HTTP/2's flow control limits how much that can be.

The obvious rule, to give a message's window back when the message is read, stands still for good as soon as
a message is larger than the window: it never becomes whole, so it is never read. Therefore the first
message that nobody can read yet is let in as it comes (its length prefix has said that it is not too large);
only what comes behind a whole message waits for the reader. At most one message and one window are kept.

An exchange also keeps faith with the route that the call came by: the route sees the answer's headers before
the program does, and learns of the end exactly once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import trio

from ..rpc.call import Call
from ..rpc.headers import Fields, RawFields
from ..rpc.http2 import Buffer, Http2Stream
from ..rpc.messages import MESSAGE_PREFIX_LENGTH, MessageCutter
from ..rpc.protocol import over_limit_error
from ..rpc.reader import let_readers_catch_up
from ..rpc.receiver import CallInterrupted
from ..signal import Signal
from .route import RoutedCall

__all__ = ["Exchange"]


class Exchange(Call):
    """One HTTP/2 stream, for a call with any number of messages each way. Its maker must `leave` it.

    Args:
        routed: where the stream is opened. Nothing is sent before the first `send`.
        content_type: the request's content type.
        metadata: the request's metadata.
        seconds: what the server is told that it has.
        many_requests: the request may have any number of messages; else it has one.
        many_answers: the response may have any number of messages; else it must have one.
        max_message_bytes: the largest message taken, bytes.

    Raises:
        CallInterrupted: the connection takes no new calls.
    """

    __slots__ = (
        "_accepted",
        "_cutter",
        "_left",
        "_many_answers",
        "_many_requests",
        "_news",
        "_route_told",
        "_routed",
        "_token",
        "_unacknowledged",
    )

    def __init__(
        self,
        routed: RoutedCall,
        content_type: str,
        metadata: RawFields,
        *,
        seconds: float,
        many_requests: bool,
        many_answers: bool,
        max_message_bytes: int,
    ) -> None:
        super().__init__(routed.connection)
        self._cutter = MessageCutter(max_message_bytes, single=not many_answers)
        self._routed = routed
        self._many_requests = many_requests
        self._many_answers = many_answers
        self._unacknowledged = 0
        self._news = Signal()
        self._accepted = False
        self._left = False
        self._route_told = False
        self._token = trio.lowlevel.current_trio_token()
        try:
            self._open(routed.fields(content_type), (*routed.volatile, *metadata), seconds)
        except BaseException:
            self.leave()
            raise

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.ended_at is not None

    @property
    def has_message(self) -> bool:
        """See `Call.has_message`."""
        return not self._cutter.empty

    @property
    def has_whole_message(self) -> bool:
        """Whether there is a message to `take`."""
        return bool(self._cutter.messages)

    def send(self, data: Sequence[Buffer], *, end_stream: bool) -> None:
        """Send the request's headers, if that was not done, and a piece of its body."""
        assert self._stream is not None
        self._connection.send(self._stream, data, end_stream=end_stream)

    async def wait_unsent(self, limit: int) -> None:
        """Wait until at most `limit` bytes of the request wait to be sent, or nothing more can be."""
        assert self._stream is not None
        await self._connection.wait_unsent(self._stream, limit)

    def take(self) -> bytes | None:
        """Take the next message, or None as long as there is none."""
        messages = self._cutter.messages
        if not messages:
            return None
        message = messages.popleft()
        length = MESSAGE_PREFIX_LENGTH + len(message)
        assert self._stream is not None
        self._acknowledge(
            self._stream, min(length, self._unacknowledged) if messages else self._unacknowledged
        )
        return message

    def check_end(self) -> None:
        """Check that the response may end as it did, with a status of OK; see `MessageCutter.check_end`.

        Raises:
            GRPCError: it may not.
        """
        if self._over_limit:
            raise over_limit_error()
        self._cutter.check_end()

    async def wait(self, arrived: Callable[[Exchange], bool], deadline: float) -> bool:
        """Wait until `arrived(self)`, or the end.

        Args:
            arrived: what is waited for.
            deadline: a time on Trio's clock, in seconds. After it, only a response that is there to its end
                is a response: one that still goes on could go on for ever.

        Returns:
            False if the deadline passed first.
        """
        if trio.current_time() < deadline:
            with trio.move_on_at(deadline):
                await trio.lowlevel.checkpoint()
                await self._news.wait_until(lambda: self.ended or arrived(self))
                return True
        with trio.CancelScope(shield=True):
            await let_readers_catch_up()
        await trio.lowlevel.checkpoint_if_cancelled()
        return self.ended

    def accept(self) -> None:
        """Let the route look at the answer, before anything of it goes to the program.

        Raises:
            Exception: the route refuses the answer, of which nothing is left.
        """
        if self._accepted or not self.headers:
            return
        try:
            self._routed.check(self.headers, trailers_only=self.trailers_only)
        except Exception as error:
            self.refuse(error)
            self.headers, self.trailers = (), None
            raise
        self._accepted = True

    def leave(self) -> None:
        """End it, in the way that fits how far it came: nothing is left of it here or on the server."""
        if self._left:
            return
        self._left = True
        told, self._route_told = self._route_told, True
        sent, ended = self._may_have_been_acted_on(), self._was_ended_by_the_server()
        try:
            super().leave()
            self.interrupted(CallInterrupted("the call was cancelled"))
        finally:
            if not told:
                self._routed.end(sent=sent, ended=ended)

    def leave_soon(self) -> None:
        """Leave it from a place where nothing of it may be changed: the garbage collector can be anywhere."""
        if not self._left:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self.leave)

    def headers_received(self, fields: Fields, *, end_stream: bool, over_limit: bool = False) -> None:
        """See `receiver.Receiver`."""
        super().headers_received(fields, end_stream=end_stream, over_limit=over_limit)
        self._news.send()

    def _take_in(self, data: bytes) -> None:
        before = len(self._cutter.messages)
        self._cutter.feed(data)
        if self._many_answers and len(self._cutter.messages) > before:
            assert self._stream is not None
            self._connection.note_message(self._stream)

    def _let_go(self) -> None:
        self._cutter.clear()

    def _consume(self, stream: Http2Stream, flow_controlled_length: int) -> None:
        self._unacknowledged += flow_controlled_length
        if not self._cutter.messages:
            self._acknowledge(stream, self._unacknowledged)
        self._news.send()

    def _acknowledge(self, stream: Http2Stream, length: int) -> None:
        self._unacknowledged -= length
        self._connection.acknowledge(stream, length)

    def _ended(self) -> None:
        if not self._route_told:
            self._route_told = True
            self._routed.end(sent=self._may_have_been_acted_on(), ended=self._was_ended_by_the_server())
        self._news.send()

    def _may_have_been_acted_on(self) -> bool:
        if self._stream is None or (isinstance(self.error, CallInterrupted) and self.error.unprocessed):
            return False
        return self._stream.id > 0 if self._many_requests else self._stream.sent

    def _was_ended_by_the_server(self) -> bool:
        if self._stream is None:
            return False
        reset = isinstance(self.error, CallInterrupted) and not self.error.connection_lost
        return self._stream.answered or reset
