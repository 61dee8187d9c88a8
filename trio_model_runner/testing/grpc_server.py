"""A small gRPC server on Trio: h2's server side below, handlers for whole calls above.

Tests need a server that can do what a good server never does: break off, send nonsense, hold its answers
back, say GOAWAY at the worst moment. It must do so on a clock that jumps, and on streams that are no sockets.
So this server works over any Trio stream. It has one reader and one writer for each connection, and one task
for each call. What a client sends can end its own connection only.

It knows gRPC over HTTP/2, and must not know models, nodes or faults. Faults are made by the handlers, by
`GRPCServer.goaway` and `GRPCServer.send_raw`, and by the stream below.
"""

from __future__ import annotations

import logging
import math
import struct
from typing import TYPE_CHECKING, TypeAlias

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ..signal import Signal
from .grpc_call import ServerCall
from .ping_budget import PingBudget

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["GRPCServer", "Handler", "ServerCall"]

Handler: TypeAlias = "Callable[[ServerCall], Awaitable[None]]"

logger = logging.getLogger(__name__)

RECEIVE_BYTES = 65536
GOAWAY = 7  # the frame's type (RFC 9113, section 6.8)
DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # either way, as deployed nodes have it
DEFAULT_WINDOW_BYTES = 4 * 1024 * 1024
MAX_HEADER_LIST_BYTES = 16384  # as deployed nodes announce and enforce it, counted as RFC 9113 does (6.5.2)
MAX_DECODED_BYTES = 1 << 20  # of a request's headers; beyond that the client is no honest one
HEADER_OVERHEAD = 32  # bytes that each header counts beside its name and value
DEADLINE_LATENESS = 0.04  # seconds by which a deployed node is late to notice a deadline (measured)


class GRPCServer:
    """Serves gRPC over the streams that it is given.

    A handler gets a `ServerCall`; when it returns, the call ends with OK; a `grpclib.GRPCError` is the
    status to end with; any other exception is UNKNOWN, as in grpcio. A call that the client resets, or whose
    connection is lost, cancels its handler; one past its ``grpc-timeout`` ends with DEADLINE_EXCEEDED.

    Args:
        handlers: what to run for each path, ``/package.Service/Method``.
        max_message_bytes: the largest message to take or send.
        window_bytes: the flow-control window to give to each stream and to the connection, 65535 at least.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
    ) -> None:
        self.handlers = handlers
        self.max_message_bytes = max_message_bytes
        self.window_bytes = window_bytes
        self._connections: set[ServerConnection] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until either side ends it; the caller closes `stream`."""
        connection = ServerConnection(self, stream)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def goaway(
        self, *, last_stream_id: int | None = None, error_code: int = 0, debug_data: bytes = b""
    ) -> None:
        """Say GOAWAY on every connection. Calls up to `last_stream_id` (None: all) may end first."""
        for connection in list(self._connections):
            connection.goaway(last_stream_id, error_code, debug_data)

    def send_raw(self, data: bytes) -> None:
        """Send `data` on every connection between two frames, whatever the protocol says to that."""
        for connection in list(self._connections):
            connection.send_raw(data)

    async def wait_idle(self) -> None:
        """Wait until every connection that said GOAWAY has ended."""
        while self._connections:
            await next(iter(self._connections)).ended.wait()
        await trio.lowlevel.checkpoint()


class ServerConnection:
    """One HTTP/2 connection of a `GRPCServer`."""

    def __init__(self, server: GRPCServer, stream: trio.abc.Stream) -> None:
        self.ended = trio.Event()
        self._server = server
        self._stream = stream
        self._calls: dict[int, ServerCall] = {}
        self._budget = PingBudget()
        self._raw = bytearray()
        self._wake = Signal()
        self._ending = False
        self._last_stream_id: float = math.inf
        self._scope = trio.CancelScope()
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: server.window_bytes,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
            },
        )
        self._h2.decoder.max_header_list_size = (
            MAX_DECODED_BYTES  # one call too large must not end the others
        )

    async def run(self) -> None:
        """Serve until either side ends the connection."""
        self._h2.initiate_connection()
        if self._server.window_bytes > 65535:
            self._h2.increment_flow_control_window(self._server.window_bytes - 65535)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, nursery)
                    await self._write()
                    nursery.cancel_scope.cancel()
        finally:
            self.ended.set()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """End the connection at once, with nothing more sent."""
        self._scope.cancel()

    def send_raw(self, data: bytes) -> None:
        """Send `data` between two frames."""
        self._raw += data
        self._wake_writer()

    def goaway(self, last_stream_id: int | None, error_code: int, debug_data: bytes) -> None:
        """Say GOAWAY; hang up when the calls up to `last_stream_id` have ended."""
        last = self._h2.highest_inbound_stream_id if last_stream_id is None else last_stream_id
        self._last_stream_id = min(self._last_stream_id, last)
        for stream_id in [stream_id for stream_id in self._calls if stream_id > last]:
            self._calls.pop(stream_id).scope.cancel()
        # Not h2's own GOAWAY: after that, h2 does not let open calls go on.
        payload = struct.pack(">II", last, error_code) + debug_data
        self.send_raw(struct.pack(">IBI", len(payload) << 8 | GOAWAY, 0, 0) + payload)

    async def _read(self, nursery: trio.Nursery) -> None:
        while not self._ending:
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                self.abort()
                return
            try:
                for event in self._h2.receive_data(bytes(data)):
                    self._handle(event, nursery)
            except Exception as error:  # h2 raises more than ProtocolError for bytes that make no sense
                logger.debug("a client broke the protocol: %r", error)
                self._ending = True  # once the GOAWAY that h2 has ready is sent
            self._wake_writer()

    def _handle(self, event: h2.events.Event, nursery: trio.Nursery) -> None:
        match event:
            case h2.events.RequestReceived():
                self._begin_call(event, nursery)
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                if call := self._calls.get(event.stream_id):
                    call.feed(event.data or b"")
            case h2.events.StreamEnded():
                if call := self._calls.get(event.stream_id):
                    call.feed_end()
            case h2.events.StreamReset():
                if call := self._calls.pop(event.stream_id, None):
                    call.scope.cancel()
            case h2.events.PingReceived():
                self._count_ping()
            case h2.events.ConnectionTerminated():
                self._ending = True  # h2 sends nothing any more

    def _count_ping(self) -> None:
        if not self._budget.spend(trio.current_time(), calls_open=bool(self._calls)):
            self._h2.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_pings")
            self._ending = True

    def _begin_call(self, event: h2.events.RequestReceived, nursery: trio.Nursery) -> None:
        if event.stream_id > self._last_stream_id:
            return  # it crossed our GOAWAY, and the client knows that nothing was done
        metadata = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in event.headers  # bytes: no header encoding is configured
        }
        call = ServerCall(
            event.stream_id,
            metadata,
            max_message_bytes=self._server.max_message_bytes,
            wake_writer=self._wake_writer,
            abort_connection=self.abort,
        )
        self._calls[event.stream_id] = call
        size = sum(len(name) + len(value) + HEADER_OVERHEAD for name, value in event.headers)
        if size > MAX_HEADER_LIST_BYTES:
            text = f"received metadata size exceeds hard limit ({size} vs. {MAX_HEADER_LIST_BYTES})"
            call.finish(Status.RESOURCE_EXHAUSTED, text)  # in grpcio's words
            return
        nursery.start_soon(self._run_call, call)

    async def _run_call(self, call: ServerCall) -> None:
        handler = self._server.handlers.get(call.path)
        if handler is None:
            call.finish(Status.UNIMPLEMENTED, "Method not found!")
            return
        call.scope.deadline = trio.current_time() + call.timeout + DEADLINE_LATENESS
        with call.scope:
            try:
                await handler(call)
            except GRPCError as error:
                call.finish(error.status, error.message or "")
            except Exception as error:
                logger.debug("the handler of %s failed", call.path, exc_info=True)
                call.finish(Status.UNKNOWN, f"Exception calling application: {error}")
            else:
                call.finish(Status.OK)
        if call.scope.cancelled_caught:
            call.finish(Status.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _wake_writer(self) -> None:
        self._wake.send()

    async def _write(self) -> None:
        while True:
            self._transmit()
            data = bytes(self._raw) + self._h2.data_to_send()
            self._raw.clear()
            if data:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
            elif self._ending or (self._last_stream_id < math.inf and not self._calls):
                return
            else:
                await self._wake.wait()

    def _transmit(self) -> None:
        for call in list(self._calls.values()):
            pending = self._h2.outbound_flow_control_window
            try:
                done = call.transmit(self._h2)
            except h2.exceptions.ProtocolError as error:
                logger.debug("the answer to %s can't be sent: %r", call.path, error)
                done = True
            if done:
                del self._calls[call.stream_id]
            if done or self._h2.outbound_flow_control_window != pending:
                self._budget.renew()
