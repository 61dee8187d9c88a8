"""A call with any number of messages each way: grpclib's `Stream` as stubs know it, with Trio underneath.

grpclib enforces a call's deadline with a context that stays open from entering the call to leaving it. On
Trio that would be a cancel scope, and it would be wrong: generated stubs `yield` answers from inside the
call, and a scope that is open across a `yield` is left in another order than it was entered, which corrupts
the task's stack of scopes. So the deadline is a number here, and each method that waits has a scope of its
own, closed before it returns.

A KeyboardInterrupt can tear any `with` apart, between its body and its exit, and a torn scope breaks the
task. So the methods are protected from it: it comes out where they wait, and only there.

The order of events in a call is grpclib's, as are the names, the `ProtocolError` for calling methods out of
order, and the events for listeners. Where we differ, it is on purpose:

- A deadline that has passed is a `TimeoutError`, unless the whole answer has come by then; see `deadline`.
- Leaving a call before its stream of answers has ended cancels it, where grpclib waits for the end.
- A request that certainly was not processed is sent again until the deadline; see `retries`. What was sent
  is kept for that until the answer begins: a unary request, or the first 64 KiB of a stream.
- The answer of a call is shown to the channel's route before anything of it is given to the program.
- What a server sends wrong is a `GRPCError` with status INTERNAL, never an assertion.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import attrs
import trio
from grpclib.const import Cardinality, Status
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.exceptions import GRPCError, ProtocolError
from grpclib.stream import StreamIterator
from multidict import MultiDict
from trio.lowlevel import enable_ki_protection

from ..rpc.headers import Fields, RawFields
from ..rpc.http2 import Buffer
from ..rpc.messages import message_prefix
from ..rpc.metadata import Metadata, encode_metadata, read_metadata
from ..rpc.protocol import check_headers, read_status
from ..rpc.receiver import CallInterrupted
from .deadline import SERVER_EARLY_SECONDS, CallDeadline
from .exchange import Exchange
from .peer import Peer
from .retries import Retries
from .settings import CallSettings

__all__ = ["Stream"]

SendT = TypeVar("SendT")
ReceiveT = TypeVar("ReceiveT")

_SEND_BUFFER_BYTES: Final = 64 << 10
_MOST_KEPT_BYTES: Final = 64 << 10


@attrs.frozen
class _Leaving:
    """The leaving of a call, which begins when it is awaited.

    A KeyboardInterrupt can come before that. A coroutine would warn then that it was never awaited.
    """

    stream: Stream[Any, Any]
    failed: bool = attrs.field(kw_only=True)

    def __await__(self) -> Generator[Any, None, None]:
        return self.stream._leave(failed=self.failed).__await__()


class Stream(StreamIterator[ReceiveT], Generic[SendT, ReceiveT]):
    """One call, made by a channel's `request` and used with `async with`.

    Args:
        settings: what it has in common with the channel's other calls.
        method_name: the method's path, "/package.Service/Method".
        metadata: the request's metadata.
        cardinality: how many messages go each way.
        send_type: the messages' type.
        receive_type: the answers' type.
        deadline: when the call must be over, on Trio's clock in seconds; `math.inf` for never.

    Attributes:
        initial_metadata: the answer's metadata, once they came.
        trailing_metadata: those that came with its status.
        peer: who answers, once the request has begun.
    """

    initial_metadata: Metadata | None = None
    trailing_metadata: Metadata | None = None
    peer: Peer | None = None
    _exchange: Exchange | None = None

    def __init__(
        self,
        settings: CallSettings,
        method_name: str,
        metadata: Metadata,
        cardinality: Cardinality,
        send_type: type[SendT],
        receive_type: type[ReceiveT],
        *,
        deadline: float = math.inf,
    ) -> None:
        self._settings = settings
        self._method_name = method_name
        self._metadata = metadata
        self._cardinality = cardinality
        self._send_type = send_type
        self._receive_type = receive_type
        self._deadline = CallDeadline(deadline, method_name)
        self._dispatch = settings.dispatch
        self._content_type = ""
        self._encoded_metadata: RawFields = ()
        self._kept: list[Buffer] | None = []  # all that was sent, as long as it may have to be sent again
        self._retries = Retries()
        self._retrying = trio.Lock()
        self._message_sent = False
        self._end_sent = False
        self._initial_metadata_received = False
        self._status_received = False
        self._end_read = False
        self._cancelled = False
        self._given_up = False  # cancelled, or left

    @enable_ki_protection
    async def send_request(self, *, end: bool = False) -> None:
        """Begin the call: its headers are sent; done by the first `send_message` where it wasn't before.

        Args:
            end: there will be no messages, in a call that sends a stream of them.

        Raises:
            OSError, CallInterrupted: there is no connection to be had; TimeoutError: not in time.
            ValueError, TypeError: the metadata is not what metadata can be.
        """
        if end and not self._cardinality.client_streaming:
            raise ProtocolError("a unary request has a message before its end")
        if self._exchange is not None:
            raise ProtocolError("the request was sent already")
        with self._deadline.limiting():
            await self._prepare()
            exchange = await self._open()
        exchange.send((), end_stream=end)
        self._end_sent = end

    @enable_ki_protection
    async def send_message(self, message: SendT, *, end: bool = False) -> None:
        """Send a message, after waiting until those before it are mostly on their way.

        A server may end its answer without waiting for the end of a stream of messages: what is sent after
        that goes nowhere, silently, unless the status was an error.

        Args:
            message: of the type that the call sends.
            end: it is the last one. The only one of a unary request is, anyway.

        Raises:
            TypeError: the message has another type.
            GRPCError, CallInterrupted: the call has failed already.
            OSError, ValueError: see `send_request`; TimeoutError: the deadline passed.
        """
        unary = not self._cardinality.client_streaming
        if self._end_sent or (unary and self._message_sent):
            raise ProtocolError("the only message was sent already" if unary else "the request was ended")
        exchange = self._exchange
        with self._deadline.limiting():
            if exchange is None:
                await self._prepare()
            (message,) = await self._dispatch.send_message(message)
            data = self._settings.codec.encode(message, self._send_type)
            if exchange is None:
                exchange = await self._open()
            else:
                exchange = await self._wait_unsent()
        await self._raise_failure(exchange)
        buffers = (message_prefix(len(data)), data)
        exchange.send(buffers, end_stream=end or unary)
        self._message_sent = True
        self._end_sent = end
        self._keep(buffers)

    @enable_ki_protection
    async def end(self) -> None:
        """End a stream of messages, where the last one didn't."""
        exchange = self._begun()
        if self._end_sent:
            raise ProtocolError("the request was ended already")
        if not self._cardinality.client_streaming:
            if not self._message_sent:
                raise ProtocolError("a unary request has a message before its end")
        else:
            exchange.send((), end_stream=True)
        self._end_sent = True
        await trio.lowlevel.checkpoint()

    @enable_ki_protection
    async def recv_initial_metadata(self) -> None:
        """Wait for the answer's metadata; done by the first `recv_message` where it wasn't before.

        Raises:
            GRPCError: the answer is a status alone, and not OK; or it is not gRPC's.
            CallInterrupted: the stream was reset, or the connection lost.
            TimeoutError: the deadline passed.
            Exception: the channel's route refuses the answer.
        """
        self._begun()
        if self._initial_metadata_received:
            raise ProtocolError("the initial metadata was received already")
        exchange = await self._wait(lambda exchange: bool(exchange.headers))
        if not exchange.headers:
            assert exchange.error is not None
            raise exchange.error
        exchange.accept()
        self._initial_metadata_received = True
        self._kept = None
        if exchange.trailers_only:
            check_headers(exchange.headers, exchange.headers)
        initial: Metadata = MultiDict() if exchange.trailers_only else read_metadata(exchange.headers)
        (self.initial_metadata,) = await self._dispatch.recv_initial_metadata(initial)
        if exchange.trailers_only:
            await self._receive_status(exchange.headers)

    @enable_ki_protection
    async def recv_message(self) -> ReceiveT | None:
        """Wait for the next message; None after the last one.

        Raises:
            GRPCError: as for `recv_initial_metadata`; or the message can't be read, or is too large.
            CallInterrupted, TimeoutError: as for `recv_initial_metadata`.
        """
        if not self._initial_metadata_received:
            await self.recv_initial_metadata()
        exchange = await self._wait(lambda exchange: exchange.has_whole_message)
        data = exchange.take()
        if data is None:
            if exchange.error is not None:
                raise exchange.error
            self._end_read = True
            return None
        try:
            message = self._settings.codec.decode(data, self._receive_type)
        except Exception as error:  # what a codec raises is the codec's affair
            raise GRPCError(Status.INTERNAL, f"the answer can't be read: {error}") from error
        received: tuple[ReceiveT] = await self._dispatch.recv_message(message)
        return received[0]

    @enable_ki_protection
    async def recv_trailing_metadata(self) -> None:
        """Wait for the status, and raise it unless it is OK; done on leaving the call otherwise.

        Raises:
            GRPCError: the status is not OK, or the answer is not whole.
            CallInterrupted, TimeoutError: as for `recv_initial_metadata`.
        """
        exchange = self._begun()
        self._require_end()
        if not self._initial_metadata_received:
            raise ProtocolError("the initial metadata comes before the trailing metadata")
        if self._status_received and not exchange.trailers_only:
            raise ProtocolError("the trailing metadata was received already")
        exchange = await self._wait(lambda _: False)
        if not self._status_received:
            if exchange.error is not None:
                raise exchange.error
            await self._receive_status(exchange.trailers or ())

    @enable_ki_protection
    async def cancel(self) -> None:
        """Cancel the call, and tell the server."""
        exchange = self._begun()
        if self._cancelled:
            raise ProtocolError("the call was cancelled already")
        self._cancelled = self._given_up = True
        exchange.leave()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Stream[SendT, ReceiveT]:
        """Nothing happens before the first method is called."""
        return self

    @enable_ki_protection
    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Awaitable[None]:
        """Wait for the status, unless something was raised; in any case nothing of the call remains."""
        return _Leaving(self, failed=exc_value is not None)

    def __del__(self) -> None:
        """Leave a call that the program did not: it used no `async with`, or was interrupted there."""
        if self._exchange is not None:
            self._exchange.leave_soon()

    @enable_ki_protection
    async def _leave(self, *, failed: bool) -> None:
        try:
            if failed or self._cancelled or self._exchange is None:
                await trio.lowlevel.cancel_shielded_checkpoint()
            else:
                await self._finish()
        finally:
            self._given_up = True
            if self._exchange is not None:
                self._exchange.leave()

    async def _finish(self) -> None:
        if self._cardinality.server_streaming and not self._end_read:
            await trio.lowlevel.checkpoint()
            return  # left early
        self._require_end()
        if not self._initial_metadata_received:
            await self.recv_initial_metadata()
        if not self._status_received:
            await self.recv_trailing_metadata()
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _begun(self) -> Exchange:
        if self._exchange is None:
            raise ProtocolError("the request was not sent yet")
        return self._exchange

    def _require_end(self) -> None:
        unary = not self._cardinality.client_streaming
        if not (self._end_sent or (unary and self._message_sent) or self._begun().ended):
            raise ProtocolError("the request was not ended")

    async def _prepare(self) -> None:
        """Make the request's headers."""
        subtype = self._settings.codec.__content_subtype__
        self._content_type = GRPC_CONTENT_TYPE if subtype == "proto" else f"{GRPC_CONTENT_TYPE}+{subtype}"
        (metadata,) = await self._dispatch.send_request(
            self._metadata, method_name=self._method_name, deadline=None, content_type=self._content_type
        )
        self._encoded_metadata = encode_metadata(metadata)

    async def _open(self) -> Exchange:
        """Open a stream on a connection that takes it; its headers go out with whatever is sent next."""
        settings = self._settings
        routed = await settings.route.begin(self._method_name)
        self._exchange = Exchange(
            routed,
            self._content_type,
            self._encoded_metadata,
            seconds=trio.current_effective_deadline() - trio.current_time(),
            many_requests=self._cardinality.client_streaming,
            many_answers=self._cardinality.server_streaming,
            max_message_bytes=settings.max_message_bytes,
        )
        self.peer = attrs.evolve(settings.peer, connection=routed.connection)
        return self._exchange

    async def _wait(self, arrived: Callable[[Exchange], bool]) -> Exchange:
        """Wait until that is true of the response, or it ended; send an unprocessed request again."""
        while True:
            exchange = self._begun()
            if not await exchange.wait(arrived, self._deadline.at):
                raise self._deadline.error()
            error = exchange.error
            if not isinstance(error, CallInterrupted) or self._given_up:
                return exchange
            await self._deadline.meet(error)
            if exchange is self._exchange:
                if not self._may_be_sent_again(exchange):
                    return exchange
                await self._send_again(exchange)

    async def _wait_unsent(self) -> Exchange:
        """Wait until most of what was sent is on its way; send an unprocessed request again."""
        while True:
            exchange = self._begun()
            await exchange.wait_unsent(_SEND_BUFFER_BYTES)
            if exchange is self._exchange:
                if not self._may_be_sent_again(exchange):
                    return exchange
                await self._send_again(exchange)

    def _may_be_sent_again(self, exchange: Exchange) -> bool:
        """Whether a request certainly was not processed, and is there to be sent again."""
        error = exchange.error
        if not isinstance(error, CallInterrupted) or not error.unprocessed or exchange.headers:
            return False
        kept = self._kept is not None and not self._given_up
        return kept and self._retries.left(self._deadline.nearest)

    def _keep(self, buffers: tuple[Buffer, ...]) -> None:
        """Keep what was sent of the request, if it may have to be sent again, and is not too much."""
        if self._kept is not None:
            self._kept += buffers
            if self._cardinality.client_streaming and sum(map(len, self._kept)) > _MOST_KEPT_BYTES:
                self._kept = None

    async def _send_again(self, exchange: Exchange) -> None:
        """Send all that was sent of an unprocessed request again, after a wait, in a new exchange.

        Of a call with streams one task may send and another one receive. The first one that comes does it.
        """
        with self._deadline.limiting(exchange.error):
            async with self._retrying:
                if self._exchange is not exchange:
                    return
                exchange.leave()
                await self._retries.wait()
                new = await self._open()
                if self._given_up:
                    new.leave()
                    return
                unary = not self._cardinality.client_streaming
                ended = self._end_sent or (unary and self._message_sent)
                new.send(tuple(self._kept or ()), end_stream=ended)

    async def _raise_failure(self, exchange: Exchange) -> None:
        """Raise what the call has failed with already, if it has."""
        error = exchange.error
        if error is not None:
            await self._deadline.meet(error)
            raise error
        if exchange.ended and exchange.headers:
            exchange.accept()
            last = exchange.headers if exchange.trailers is None else exchange.trailers
            check_headers(exchange.headers, last)
            await self._raise_unless_ok(*read_status(last))

    async def _raise_unless_ok(self, status: Status, message: str | None, details: Any = None) -> None:
        """Raise an error's status; a server's DEADLINE_EXCEEDED at our own deadline is that deadline."""
        if status is Status.OK:
            return
        error = GRPCError(status, message, details)
        if status is Status.DEADLINE_EXCEEDED:
            await self._deadline.meet(error, early=SERVER_EARLY_SECONDS)
        raise error

    async def _receive_status(self, fields: Fields) -> None:
        check_headers(self._begun().headers, fields)
        status, message = read_status(fields)
        details = self._settings.details_of(fields, status, message)
        (self.trailing_metadata,) = await self._dispatch.recv_trailing_metadata(
            read_metadata(fields), status=status, status_message=message, status_details=details
        )
        self._status_received = True
        await self._raise_unless_ok(status, message, details)
        self._begun().check_end()
