"""How to open a byte stream to somewhere: over TCP, to a UNIX socket, or inside this process.

Everything above asks a `Network` for a stream and never touches a socket's address again, so the very
same `Cluster` runs on real sockets and, in tests, on memory under a clock that jumps. A network knows
hosts and ports; it must not know what is said over the stream.

TCP's own trap is that a host name can have several addresses of which some lead nowhere. Trying them one
after the other costs a connect timeout for each; `trio.open_tcp_stream` races them, as RFC 8305 ("happy
eyeballs") has it, and switches Nagle's algorithm off.

Where the hosts are named by somebody else, the orchestrator, who might name any service that this machine can
reach, `RestrictedNetwork` looks at the addresses first. It connects to the very address that it has looked
at: a name asked for twice can have another address the second time.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import ipaddress
import math
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from ..groups import one_by_itself

if TYPE_CHECKING:
    from trio.testing import MemoryReceiveStream, MemorySendStream

    MemoryStream: TypeAlias = "trio.StapledStream[MemorySendStream, MemoryReceiveStream]"

__all__ = [
    "IPNetwork",
    "MemoryListener",
    "MemoryNetwork",
    "Network",
    "RestrictedNetwork",
    "TCPNetwork",
    "UnixNetwork",
    "address_text",
]

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_SECONDS_AN_ADDRESS: Final = 3.0


def address_text(host: str, port: int) -> str:
    """A host and a port as people write them, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Network(abc.ABC):
    """Opens byte streams to a host and a port.

    Attributes:
        secure: nobody on the way can read or change what goes over the streams, and it is known who is at
            their other end: what is "https" in the web.
    """

    secure: bool = False

    @abc.abstractmethod
    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream to `host` and `port`.

        Raises:
            OSError: nobody answers there, or this process may not ask.
        """


@attrs.frozen
class TCPNetwork(Network):
    """TCP over IPv4 and IPv6.

    Attributes:
        happy_eyeballs_delay: seconds to wait for one address of a host before trying the next beside it.
    """

    happy_eyeballs_delay: float = attrs.field(
        default=0.25, converter=float, validator=[attrs.validators.gt(0), attrs.validators.lt(math.inf)]
    )

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Open a TCP connection; see `Network.connect`."""
        with one_by_itself():  # a KeyboardInterrupt comes out of Trio's own tasks in a group
            return await trio.open_tcp_stream(host, port, happy_eyeballs_delay=self.happy_eyeballs_delay)


@attrs.frozen
class UnixNetwork(Network):
    """A UNIX socket: one server on this machine, whatever host and port are asked for.

    Attributes:
        path: where the socket is.
    """

    path: str

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Connect to the socket; see `Network.connect`."""
        try:
            return await trio.open_unix_socket(self.path)
        except OSError as error:
            error.filename = self.path  # else nobody could tell what was not found
            raise


class RestrictedNetwork(Network):
    """Connects only to addresses in some networks.

    A host name is resolved first. If a single one of its addresses lies outside, it is refused altogether:
    whoever mixes them means no good. The addresses are then tried one after the other, each for
    three seconds but the last.

    Args:
        network: what opens the streams.
        allowed: where their other ends must be.
    """

    def __init__(self, network: Network, allowed: Sequence[IPNetwork]) -> None:
        self.secure = network.secure
        self._network = network
        self._allowed = tuple(allowed)

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream to an allowed address of `host`; see `Network.connect`.

        Raises:
            PermissionError: not all addresses of the host are allowed.
        """
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        for address in addresses:
            if not self._allows(address):
                raise PermissionError(
                    errno.EACCES, f"{address_text(host, port)}: {address} is in no allowed network"
                )
        for address in addresses[:-1]:
            with contextlib.suppress(OSError), trio.move_on_after(_SECONDS_AN_ADDRESS):
                return await self._network.connect(address, port)
        return await self._network.connect(addresses[-1], port)

    def _allows(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        mapped = getattr(address, "ipv4_mapped", None)  # ::ffff:10.0.0.1 is 10.0.0.1 to the kernel
        return any((mapped or address) in network for network in self._allowed)


class MemoryListener(trio.abc.Listener["MemoryStream"]):
    """Where a `MemoryNetwork` hands over the server's end of each new connection."""

    def __init__(self, network: MemoryNetwork, address: tuple[str, int]) -> None:
        self._network = network
        self._address = address
        self._send, self._receive = trio.open_memory_channel["MemoryStream"](math.inf)

    @property
    def port(self) -> int:
        """The port that this listener has."""
        return self._address[1]

    async def accept(self) -> MemoryStream:
        """Wait for the next connection and return the server's end of it."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError("this listener is closed") from None

    async def aclose(self) -> None:
        """Stop listening: whoever connects from now on is refused."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Stop listening, at once."""
        self._network._listeners.pop(self._address, None)
        self._send.close()

    def _offer(self, stream: MemoryStream) -> None:
        self._send.send_nowait(stream)


class MemoryNetwork(Network):
    """A network inside this process, for tests: no socket, no port of the machine, any clock.

    Host names are not resolved: who listens on a name is found under that name. Streams buffer without limit.
    """

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, int], MemoryListener] = {}
        self._next_port = 49152

    def listen(self, host: str = "localhost", port: int = 0) -> MemoryListener:
        """Listen on `host` and `port`; port 0 takes a free one.

        Raises:
            OSError: somebody listens there already.
        """
        if port == 0:
            port = self._next_port
            self._next_port += 1
        address = (host, port)
        if address in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{os.strerror(errno.EADDRINUSE)}: {host}:{port}")
        listener = self._listeners[address] = MemoryListener(self, address)
        return listener

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Connect to the listener at `host` and `port`; see `Network.connect`."""
        await trio.lowlevel.checkpoint()
        listener = self._listeners.get((host, port))
        if listener is None:
            raise OSError(errno.ECONNREFUSED, f"{os.strerror(errno.ECONNREFUSED)}: {host}:{port}")
        from trio.testing import memory_stream_pair  # imports a test framework where there is one

        ours, theirs = memory_stream_pair()
        listener._offer(theirs)
        return ours
