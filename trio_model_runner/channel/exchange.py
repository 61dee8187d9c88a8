"""One request and its response on a connection: what has come of it, cut into messages, until it is wanted.

The reader task must never wait for the program that reads the messages, or one slow reader would stop all
calls on the connection. So what arrives is kept here, and HTTP/2's flow control limits how much that can be.

The obvious rule, to give a message's window back when the message is read, stands still for good as soon as
a message is larger than the window: it never becomes whole, so it is never read. Therefore the first
message that nobody can read yet is let in as it comes (its length prefix has said that it is not too large);
only what comes behind a whole message waits for the reader. At most one message and one window are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..rpc.connection import Connection
from ..rpc.frames import ErrorCode
from ..rpc.headers import Fields, RawFields
from ..rpc.http2 import Buffer
from ..rpc.protocol import MESSAGE_PREFIX_LENGTH, message_length
from ..rpc.receiver import CallInterrupted

__all__ = ["Exchange"]


class Exchange:
    """One HTTP/2 stream, as a call with any number of messages wants it; also its `connection.Receiver`.

    Args:
        connection: where the stream is opened; nothing is sent before the first `send`.
        fields: the request headers, as in `Connection.open`.
        volatile: those that differ from call to call.
        single: the response has one message, and a second one is an error.
        max_message_bytes: the largest message taken, bytes.

    Raises:
        CallInterrupted: the connection takes no new calls.

    Attributes:
        headers: the response's headers, None until they came.
        trailers: its trailers, None until they came.
        trailers_only: it is a status alone, whose single block of fields is in `headers`.
        ended: nothing more will come.
        error: why it ended early, if it did.
    """

    def __init__(
        self,
        connection: Connection,
        fields: RawFields,
        volatile: RawFields,
        *,
        single: bool,
        max_message_bytes: int,
    ) -> None:
        self.headers: Fields | None = None
        self.trailers: Fields | None = None
        self.trailers_only = False
        self.ended = False
        self.error: CallInterrupted | GRPCError | None = None
        self._single = single
        self._max_message_bytes = max_message_bytes
        self._messages: deque[bytes] = deque()
        self._begun = 0
        self._buffer = bytearray()
        self._expected: int | None = None
        self._unacknowledged = 0
        self._news = trio.Event()
        self._connection = connection
        self._stream = connection.open(fields, volatile, self)

    @property
    def has_message(self) -> bool:
        """Whether there is a message to `take`."""
        return bool(self._messages)

    @property
    def empty(self) -> bool:
        """Whether no message has begun yet."""
        return not self._begun

    @property
    def cut_off(self) -> bool:
        """Whether there is the beginning of a message without its end."""
        return bool(self._buffer)

    def send(self, data: Sequence[Buffer], *, end_stream: bool) -> None:
        """Send the request's headers, if that was not done, and a piece of its body."""
        self._connection.send(self._stream, data, end_stream=end_stream)

    async def wait_unsent(self, limit: int) -> None:
        """Wait until at most `limit` bytes of the request wait to be sent, or nothing more can be."""
        await self._connection.wait_unsent(self._stream, limit)

    def take(self) -> bytes | None:
        """The next message, or None as long as there is none."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        length = MESSAGE_PREFIX_LENGTH + len(message)
        self._acknowledge(min(length, self._unacknowledged) if self._messages else self._unacknowledged)
        return message

    async def wait(self, arrived: Callable[[Exchange], bool], deadline: float) -> bool:
        """Wait until `arrived(self)`, or the end.

        A response that lies in the kernel when the deadline passes is not late: the reader task only didn't
        come to it yet, because something held up the event loop, perhaps. So it may run three times more.

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
                while not (self.ended or arrived(self)):
                    await self._news.wait()
                return True
        with trio.CancelScope(shield=True):
            for _ in range(3):
                await trio.lowlevel.checkpoint()
        return self.ended

    def leave(self) -> None:
        """End it, in the way that fits how far it came: nothing is left of it here or on the server."""
        complete = self.ended and self.error is None
        self._connection.reset(self._stream, ErrorCode.NO_ERROR if complete else ErrorCode.CANCEL)
        self.interrupted(CallInterrupted("the call was cancelled"))

    def headers_received(self, fields: Fields, *, end_stream: bool) -> None:
        """See `connection.Receiver`."""
        if self.headers is None:
            self.headers = fields
            self.trailers_only = end_stream
        else:
            self.trailers = fields
        self._wake(ended=end_stream)

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None:
        """See `connection.Receiver`."""
        self._buffer += data
        self._unacknowledged += flow_controlled_length
        try:
            self._cut_messages()
        except GRPCError as error:
            self.error = error
            self._buffer.clear()
            self._connection.reset(self._stream)
            self._wake(ended=True)
            return
        if not self._messages:
            self._acknowledge(self._unacknowledged)
        self._wake(ended=end_stream)

    def interrupted(self, error: CallInterrupted) -> None:
        """See `connection.Receiver`."""
        if not self.ended:
            self.error = error
            self._wake(ended=True)

    def _cut_messages(self) -> None:
        while True:
            if self._expected is None:
                if len(self._buffer) < MESSAGE_PREFIX_LENGTH:
                    return
                if self._single and self._begun:
                    raise GRPCError(Status.INTERNAL, "the answer is more than one message")
                prefix = bytes(self._buffer[:MESSAGE_PREFIX_LENGTH])
                self._expected = message_length(prefix, self._max_message_bytes)
                self._begun += 1
            end = MESSAGE_PREFIX_LENGTH + self._expected
            if len(self._buffer) < end:
                return
            self._messages.append(bytes(self._buffer[MESSAGE_PREFIX_LENGTH:end]))
            del self._buffer[:end]
            self._expected = None

    def _acknowledge(self, length: int) -> None:
        self._unacknowledged -= length
        self._connection.acknowledge(self._stream, length)

    def _wake(self, *, ended: bool) -> None:
        self.ended = self.ended or ended
        self._news.set()
        self._news = trio.Event()
