"""Streams inside this process."""

from __future__ import annotations

import errno
import math
import os
from typing import TYPE_CHECKING, TypeAlias

import trio

from .base import Network
from .black_holes import Cuts, Direction, Pipe

if TYPE_CHECKING:
    from trio.testing import MemoryReceiveStream, MemorySendStream

    from .black_holes import Cut, Place

    MemoryStream: TypeAlias = "trio.StapledStream[MemorySendStream, MemoryReceiveStream]"

__all__ = ["MemoryListener", "MemoryNetwork"]


class MemoryListener(trio.abc.Listener["MemoryStream"]):
    """Gives a server its end of each new connection in a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, address: tuple[str, int]) -> None:
        self._network = network
        self._address = address
        self._send, self._receive = trio.open_memory_channel["MemoryStream"](math.inf)

    @property
    def host(self) -> str:
        """The host that this listener has."""
        return self._address[0]

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
        """Stop listening: connections are refused from now on."""
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

    Host names are not resolved: a listener is found under the name that it listens on. Streams buffer without
    limit, unless they are cut (see `cut`).
    """

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, int], MemoryListener] = {}
        self._next_port = 49152
        self._cuts = Cuts()

    def listen(self, host: str = "localhost", port: int = 0) -> MemoryListener:
        """Listen on `host` and `port`; port 0 takes a free one.

        Raises:
            OSError: there is a listener already.
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
        """Connect to the listener at `host` and `port`; see `Network.connect`. This waits while it is cut."""
        await trio.lowlevel.checkpoint()
        address = (host, port)
        await self._cuts.wait_restored(address)
        listener = self._listeners.get(address)
        if listener is None:
            raise OSError(errno.ECONNREFUSED, f"{os.strerror(errno.ECONNREFUSED)}: {host}:{port}")
        from trio.testing import memory_stream_pair  # late: it imports pytest where that is installed

        ours, theirs = memory_stream_pair()
        Pipe(self._cuts, address, Direction.TO_SERVER, ours.send_stream, theirs.receive_stream)
        Pipe(self._cuts, address, Direction.TO_CLIENT, theirs.send_stream, ours.receive_stream)
        listener._offer(theirs)
        return ours

    def cut(self, *places: Place, direction: Direction = Direction.BOTH) -> Cut:
        """Let bytes vanish, without an error, on the way to and from servers, until the cut is restored.

        ::

            with network.cut("node-1", ("node-2", 50051), crunch.node("model-3"), crunch.orchestrator):
                ...  # connections stay open, nothing comes through them, and connecting waits
            ...  # what was sent meanwhile has arrived

        A closed end is unknown to the other end until then. A sender waits when 2.5 MiB of what it sent are
        not acknowledged. `black_holes` says why, and how a kernel differs.

        Args:
            places: the servers. A host, as it is given to `connect`, stands for all its ports. For one port,
                give a host and a port, or an object that has them as ``host`` and ``port``.
            direction: the way in which bytes vanish. Connecting waits, whichever it is.

        Raises:
            ValueError: there are no places, see `cut_everything`; or a server is on another network.
            TypeError: a place is none.
        """
        if not places:
            raise ValueError("nothing to cut; cut_everything() cuts the whole network")
        for place in places:
            self._check_place(place)
        return self._cuts.add(places, direction)

    def _check_place(self, place: object) -> None:
        """A cut that covers nothing would let a test pass that shows nothing."""
        if isinstance(place, str) or _is_address(place):
            return
        if not _is_address((getattr(place, "host", None), getattr(place, "port", None))):
            text = "a place must be a host, a host and a port in a tuple, or a server with host and port"
            raise TypeError(f"{text}, got {type(place).__name__}")
        if getattr(place, "network", self) is not self:
            raise ValueError(f"the {type(place).__name__} is not on this network: it can't be cut off it")

    def cut_everything(self, *, direction: Direction = Direction.BOTH) -> Cut:
        """Cut the ways to and from all servers, those that come later, too; else as `cut`."""
        return self._cuts.add(None, direction)


def _is_address(value: object) -> bool:
    if not (isinstance(value, tuple) and len(value) == 2):
        return False
    host, port = value
    return isinstance(host, str) and isinstance(port, int)
