"""An address that a local server listens on. It can refuse, break off, fall silent, and come back.

If a test lets a node crash, the node must come back at the same host and port. Connections must be refused in
between, and open ones must break as when a process dies. With plain sockets, none of this is certain: another
process may take a port that was released, and a closed socket says goodbye properly. So an endpoint keeps its
port all its life (while it is bound and does not listen, it refuses). It breaks TCP connections with a reset,
and can stop reading and writing, as a stopped process does. Forked children have none of it, or a port would
listen and a connection would stay as long as they live.

It knows bytes and addresses, and must not know what is sent over its streams.
"""

from __future__ import annotations

import abc
import contextlib
import logging
import socket
import struct
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from ..forks import keep_from_children
from ..given import check_whole_number
from ..signal import Signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..network import MemoryListener, MemoryNetwork

__all__ = ["Endpoint", "EndpointStream", "open_endpoint"]

logger = logging.getLogger(__name__)

BACKLOG = 1024
PAUSE_AFTER_ACCEPT_ERROR = 0.1  # seconds; for example, descriptors are used up, and may be free later


def open_endpoint(network: MemoryNetwork | None = None, host: str = "127.0.0.1", port: int = 0) -> Endpoint:
    """Listen on `host` and `port`; port 0 takes a free one.

    Args:
        network: the network inside this process to listen on; None listens on a socket of this machine.
        host: an address of this machine (any of 127.0.0.0/8 on Linux); in memory any name.
        port: the port number.

    Raises:
        OSError: the address is taken, or isn't this machine's.
        TypeError: `host` is no text, or `port` no whole number.
        ValueError: `port` is none of a port.
    """
    if not isinstance(host, str):
        raise TypeError(f"host: must be text, got {type(host).__name__}")
    check_whole_number(port, "port", at_most=65535)
    if network is None:
        return SocketEndpoint(host, port)
    return MemoryEndpoint(network, host, port)


class EndpointStream(trio.abc.Stream):
    """The server's end of one connection to an `Endpoint`. It waits while the endpoint is paused."""

    def __init__(self, endpoint: Endpoint, transport: trio.abc.Stream) -> None:
        self._endpoint = endpoint
        self._transport = transport

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; see `trio.abc.SendStream.send_all`."""
        await self._endpoint.wait_running()
        await self._transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream.wait_send_all_might_not_block`."""
        await self._endpoint.wait_running()
        await self._transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what there is; see `trio.abc.ReceiveStream.receive_some`."""
        await self._endpoint.wait_running()
        data = await self._transport.receive_some(max_bytes)
        await self._endpoint.wait_running()  # it came while we were stopped, and is read after that
        return data

    async def aclose(self) -> None:
        """Close the connection."""
        self._endpoint._streams.discard(self)
        await self._transport.aclose()

    def abort(self) -> None:
        """Break the connection at once, without a goodbye."""
        self._endpoint._streams.discard(self)
        self._endpoint._break(self._transport)


class Endpoint(abc.ABC):
    """One address, its connections, and the ways in which they fail.

    Attributes:
        host: the host that it listens on.
        port: the port that it has, all its life.
    """

    host: str
    port: int

    def __init__(self) -> None:
        self._listener: trio.abc.Listener[Any] | None = None
        self._streams: set[EndpointStream] = set()
        self._paused = False
        self._changed = Signal()  # it listens again, or runs again

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._streams)

    def listen(self) -> None:
        """Accept connections. If it does so already, nothing happens."""
        if self._listener is None:
            self._listener = self._open_listener()
            self._changed.send()

    def refuse(self) -> None:
        """Refuse connections from now on; those that are open stay."""
        if self._end_listener():
            self._reserve()

    def pause(self) -> None:
        """Neither read nor write until `resume`. Connecting still works, since the kernel does that."""
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        self._changed.send()

    async def wait_running(self) -> None:
        """Wait until the endpoint is not paused."""
        await trio.lowlevel.checkpoint()
        await self._changed.wait_until(lambda: not self._paused)

    def abort(self) -> None:
        """Break every open connection at once, without a goodbye."""
        for stream in list(self._streams):
            stream.abort()

    def close(self) -> None:
        """Refuse connections, break those that are open and let go of the port."""
        self._end_listener()
        self.abort()
        self._release()

    def _end_listener(self) -> bool:
        listener, self._listener = self._listener, None
        if listener is None:
            return False
        self._close_listener(listener)
        return True

    async def serve(self, handler: Callable[[EndpointStream], Awaitable[None]]) -> NoReturn:
        """Give each connection to a task of its own, which runs `handler` and then closes the connection."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._changed.wait_until(lambda: self._listener is not None)
                listener = self._listener
                assert listener is not None
                try:
                    transport = await listener.accept()
                except trio.ClosedResourceError:
                    continue
                except OSError as error:
                    logger.debug("%s:%d could not accept a connection: %r", self.host, self.port, error)
                    await trio.sleep(PAUSE_AFTER_ACCEPT_ERROR)
                    continue
                self._take(transport)
                stream = EndpointStream(self, transport)
                self._streams.add(stream)
                if listener is not self._listener:
                    stream.abort()
                    continue
                nursery.start_soon(self._handle, handler, stream)

    async def _handle(
        self, handler: Callable[[EndpointStream], Awaitable[None]], stream: EndpointStream
    ) -> None:
        async with stream:
            try:
                await handler(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                logger.debug("connection to %s:%d broke: %r", self.host, self.port, error)

    @abc.abstractmethod
    def _open_listener(self) -> trio.abc.Listener[Any]: ...

    @abc.abstractmethod
    def _close_listener(self, listener: Any) -> None: ...

    @abc.abstractmethod
    def _reserve(self) -> None: ...

    @abc.abstractmethod
    def _take(self, transport: Any) -> None: ...

    @abc.abstractmethod
    def _break(self, transport: Any) -> None: ...

    @abc.abstractmethod
    def _release(self) -> None: ...


class SocketEndpoint(Endpoint):
    """An address of this machine."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self.host = host
        self.port = port
        self._reservation: socket.socket | None = None
        self._reserve()
        self.listen()

    def _reserve(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        reservation = socket.socket(family, socket.SOCK_STREAM)
        keep_from_children(reservation)
        try:
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reservation.bind((self.host, self.port))
        except BaseException:
            reservation.close()
            raise
        self.port = reservation.getsockname()[1]
        self._reservation = reservation

    def _open_listener(self) -> trio.SocketListener:
        if self._reservation is None:
            raise trio.ClosedResourceError("this endpoint is closed")
        reservation, self._reservation = self._reservation, None
        reservation.listen(BACKLOG)
        return trio.SocketListener(trio.socket.from_stdlib_socket(reservation))

    def _close_listener(self, listener: trio.SocketListener) -> None:
        # A child that is forked just now has a copy: the port is free only if that does not listen, either.
        with contextlib.suppress(OSError):
            listener.socket.shutdown(socket.SHUT_RDWR)
        listener.socket.close()

    def _take(self, transport: trio.SocketStream) -> None:
        keep_from_children(transport.socket)

    def _break(self, transport: trio.SocketStream) -> None:
        if transport.socket.fileno() != -1:
            # With a linger time of 0, closing a socket sends a reset instead of a goodbye.
            transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.socket.close()

    def _release(self) -> None:
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None


class MemoryEndpoint(Endpoint):
    """An address of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, host: str, port: int) -> None:
        super().__init__()
        self._network = network
        self.host = host
        self.port = port
        self.listen()

    def _open_listener(self) -> MemoryListener:
        listener = self._network.listen(self.host, self.port)
        self.port = listener.port
        return listener

    def _close_listener(self, listener: MemoryListener) -> None:
        listener.close()

    def _reserve(self) -> None:
        pass

    def _take(self, transport: trio.abc.Stream) -> None:
        pass

    def _break(self, transport: trio.StapledStream[Any, Any]) -> None:
        transport.send_stream.close()
        transport.receive_stream.close()

    def _release(self) -> None:
        pass
