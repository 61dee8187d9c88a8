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
from trio.lowlevel import enable_ki_protection

from .call import Call
from .connection import Connection
from .headers import Fields, RawFields
from .http2 import Buffer
from .protocol import message_prefix, raise_for_status
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


class UnaryCall(Call):
    """One call. `perform` is its whole life; `begin`, `leave` and `answer` are the parts that never wait.

    Args:
        connection: where to.
        fields: the request headers; see `protocol.request_fields`.
        message: the request's message, encoded, in any number of buffers, which are not copied.
        max_message_bytes: the largest message taken as an answer, bytes.
        volatile: request headers that differ from call to call.
    """

    __slots__ = ("_fields", "_message", "_on_end", "_task", "_volatile")

    def __init__(
        self,
        connection: Connection,
        fields: RawFields,
        message: Sequence[Buffer],
        *,
        max_message_bytes: int,
        volatile: RawFields = (),
    ) -> None:
        super().__init__(connection, max_message_bytes, single=True)
        self._fields = fields
        self._message = message
        self._volatile = volatile
        self._task: trio.lowlevel.Task | None = None
        self._on_end: Callable[[], None] | None = None

    @property
    def sent(self) -> bool:
        """Whether the whole request was handed to the kernel: the server may have acted on it."""
        return self._stream is not None and self._stream.sent and self._connection.all_written

    @property
    def has_message(self) -> bool:
        """Whether a piece of a message has come."""
        return not self._cutter.empty

    def begin(self, timeout: float, on_end: Callable[[], None]) -> None:
        """Send the request; whoever does this must `leave`, too.

        Args:
            timeout: seconds that the server is told it has. Nothing here enforces it: whoever waits does.
            on_end: called once, when `answer` has something to say; mostly by the task that reads. It must
                neither raise nor wait.
        """
        self._on_end = on_end
        try:
            stream = self._open(self._fields, self._volatile, timeout)
        except CallInterrupted as error:
            self.interrupted(error)
            return
        prefix = message_prefix(sum(map(len, self._message)))
        self._connection.send(stream, (prefix, *self._message), end_stream=True)

    def leave(self) -> None:
        """See `Call.leave`."""
        self._on_end = None
        super().leave()

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
        raise_for_status(self.headers, self.trailers)
        self._cutter.check_end()
        return Answer(self._cutter.messages[0], self.headers)

    def _ended(self) -> None:
        on_end, self._on_end = self._on_end, None  # which knows whoever knows this call
        if on_end is not None:
            on_end()
