"""Cuts: parts of a `MemoryNetwork` where bytes vanish, while nobody is told.

A connection that is refused or broken is an error at once. But often a cable, a firewall or a router loses
the packets, and both ends still think that they are connected. A cut does what two kernels would do then:

- What is sent into a cut is kept in a send buffer, and arrives in order when the cut has ended, since TCP
  sends lost packets again. So does the end of a stream.
- If only the other direction is cut, what is sent arrives, but its acknowledgements are lost. So it is kept
  in the send buffer, too. A sender waits while this is full.
- If one end is closed, the other end does not know it while the packets that would tell of it are lost.
- A new connection needs packets in both directions, and waits until none is lost.

Two things are simpler than in a kernel. What was lost arrives at once when the cut ends, where TCP may wait
for two minutes until it tries again. And nothing times out by itself, where Linux gives up a new connection
after two minutes, and an open one after a quarter of an hour.
"""

from __future__ import annotations

import contextlib
import enum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import trio

from ..signal import Signal

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from trio.testing import MemoryReceiveStream, MemorySendStream

__all__ = ["SEND_BUFFER_BYTES", "Cut", "Cuts", "Direction", "HasAddress", "Pipe", "Place"]

SEND_BUFFER_BYTES: Final = 2_621_440  # 2.5 MiB, about as much as a kernel keeps


class Direction(enum.Flag):
    """The way that bytes go through a connection."""

    TO_SERVER = enum.auto()
    """From who connects to who listens."""
    TO_CLIENT = enum.auto()
    """From who listens to who connects."""
    BOTH = TO_SERVER | TO_CLIENT
    """Both ways."""

    @property
    def opposite(self) -> Direction:
        """The other way; that of `BOTH` is neither."""
        return Direction.BOTH & ~self


class HasAddress(Protocol):
    """What listens on a host and a port, such as a `LocalNode`, a `LocalOrchestrator` or a listener."""

    @property
    def host(self) -> str:
        """The host that it listens on."""

    @property
    def port(self) -> int:
        """The port that it listens on."""


Place: TypeAlias = str | tuple[str, int] | HasAddress
"""Where to cut: a host with all its ports, a host and a port, or what listens on them."""

Address: TypeAlias = tuple[str, int]


class Cut:
    """A part of a `MemoryNetwork` that is cut; `MemoryNetwork.cut` makes it. Also a context manager.

    The cut begins when it is made, and ends with `restore` or at the end of a ``with`` block. What several
    cuts cover is cut until all of them have ended.
    """

    def __init__(self, cuts: Cuts, covered: frozenset[str | Address] | None, direction: Direction) -> None:
        self._cuts = cuts
        self._covered = covered  # None covers everything
        self._direction = direction

    def restore(self) -> None:
        """End the cut: what was sent meanwhile arrives. Nothing happens if it has ended before."""
        self._cuts.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.restore()

    def covers(self, address: Address, direction: Direction) -> bool:
        """Whether it loses what goes to or from the server at `address` in one `direction`, or in both."""
        if not direction & self._direction:
            return False
        return self._covered is None or address in self._covered or address[0] in self._covered


class Cuts:
    """All cuts of one network, and what waits until they end."""

    def __init__(self) -> None:
        self._cuts: list[Cut] = []
        self._changed = Signal()
        self.waiting: dict[Pipe, None] = {}  # in the order in which they began to wait

    def add(self, places: tuple[Place, ...] | None, direction: Direction) -> Cut:
        """Begin a cut of `places`; None is everything."""
        covered = None if places is None else frozenset(map(_covered_by, places))
        cut = Cut(self, covered, direction)
        self._cuts.append(cut)
        return cut

    def remove(self, cut: Cut) -> None:
        """End a cut, and let all that it kept from arriving arrive now."""
        if cut in self._cuts:
            self._cuts.remove(cut)
            for pipe in list(self.waiting):
                pipe.flow()
            self._changed.send()

    def cover(self, address: Address, direction: Direction) -> bool:
        """Whether a cut loses what goes to or from the server at `address` in one `direction`, or in both."""
        return any(cut.covers(address, direction) for cut in self._cuts)

    async def wait_restored(self, address: Address) -> None:
        """Wait until a connection to `address` can be made. This is no checkpoint if it can be made now."""
        await self._changed.wait_until(lambda: not self.cover(address, Direction.BOTH))


class Pipe:
    """One direction of one connection. It brings bytes from the sender to the receiver, unless it is cut.

    Args:
        cuts: the cuts of the network.
        address: the host and the port of the server, whichever end it is.
        direction: one of the two.
        sender: where the bytes are written; its hooks are set.
        receiver: where they are read.
    """

    def __init__(
        self,
        cuts: Cuts,
        address: Address,
        direction: Direction,
        sender: MemorySendStream,
        receiver: MemoryReceiveStream,
    ) -> None:
        self._cuts = cuts
        self._address = address
        self._direction = direction
        self._sender = sender
        self._receiver = receiver
        self._unsent = bytearray()  # what has not arrived; if it is too long for the buffer, a writer waits
        self._unacknowledged = 0  # bytes that have arrived, which the sender does not know
        self._closed = False  # the sender is closed
        self._end_unsent = False  # and the receiver was not told
        self._broken = False  # the receiver is closed, and the sender was told
        self._changed = Signal()
        sender.send_all_hook = self._send
        sender.close_hook = self._close

    @property
    def _room(self) -> int:
        """How many unsent bytes the send buffer can have."""
        return SEND_BUFFER_BYTES - self._unacknowledged

    def flow(self) -> None:
        """Let everything arrive that can."""
        acknowledged = not self._cuts.cover(self._address, self._direction.opposite)
        if acknowledged:
            self._unacknowledged = 0
        if not self._cuts.cover(self._address, self._direction):
            self._deliver(acknowledged=acknowledged)
        if self._unsent or self._unacknowledged or self._end_unsent:
            self._cuts.waiting[self] = None
        else:
            self._cuts.waiting.pop(self, None)
        self._changed.send()

    def _deliver(self, *, acknowledged: bool) -> None:
        if data := self._unsent if acknowledged else self._unsent[: self._room]:
            try:
                self._receiver.put_data(data)
            except trio.ClosedResourceError:
                if not acknowledged:
                    return  # the receiver's reset is lost, too
                self._broken = True
            if not acknowledged:
                self._unacknowledged += len(data)
            del self._unsent[: len(data)]
        if self._end_unsent:
            self._end_unsent = False
            self._receiver.put_eof()

    async def _send(self) -> None:
        self._take()
        try:
            self.flow()
            while len(self._unsent) > self._room:
                await self._changed.wait()
        finally:
            del self._unsent[self._room :]  # what had no room when the writer was cancelled
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed while it was sending")
        if self._broken:
            raise trio.BrokenResourceError("the other end was closed")

    def _close(self) -> None:
        if not self._closed:
            self._take()
            del self._unsent[self._room :]  # so that all the rest arrives together with the end
            self._closed = self._end_unsent = True
            self.flow()

    def _take(self) -> None:
        with contextlib.suppress(trio.WouldBlock):  # there is nothing
            self._unsent += self._sender.get_data_nowait()


def _covered_by(place: Place) -> str | Address:
    return place if isinstance(place, str | tuple) else (place.host, place.port)
