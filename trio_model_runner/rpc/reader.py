"""Reads what arrives on connections: each in its own task, or all plain sockets of a program in one.

The natural way is a task for each connection, which waits, reads, and waits again. Where a round's answers
come from hundreds of connections at once, most of a small answer's way then goes through the scheduler: a
system call to be woken, a place in the queue, a task switch, a system call to wait again. So a `SocketHub`
waits for all its sockets with one epoll, in one task, and hands over what it reads right there. That saves a
tenth of what a small call costs. It is for plain sockets on Linux; all others take the natural way.

That one waits before it reads, with the descriptor's own system calls. Trio's `SocketStream` tries to read
first, since most programs find something there; between two answers of a model lie seconds.

**One after the other.** A peer can make the turn of its connection long. So a connection may end its turn and
ask for another one. Nothing more is read from it before that, and every other connection that has something
to do comes first.
"""

from __future__ import annotations

import enum
import os
import select
from typing import Final, Protocol

import trio
from trio.lowlevel import enable_ki_protection

from ..text import with_reason

__all__ = ["Consumer", "SocketHub", "Want", "let_readers_catch_up", "read_until_end"]

_SIZE: Final = 64 << 10

_PASSES: Final = 3
"""Passes of Trio's scheduler until what lies in the kernel has reached the tasks that wait for it.

One to see that a socket is readable, one for the task that reads from it, one for TLS or for a task beneath.
"""


async def let_readers_catch_up() -> None:
    """Let the readers take in what the kernel holds already.

    An answer that lies there when a deadline passes is not late: the reader just did not come to it yet,
    because something held up the event loop, perhaps. So whoever decides at a deadline calls this first.
    The deadline must not cancel it: it belongs outside that deadline's scope, or into a shielded one.
    """
    for _ in range(_PASSES):
        await trio.lowlevel.checkpoint()


class Want(enum.IntEnum):
    """What a consumer wants after its turn."""

    NOTHING = 0
    """It has enough."""

    BYTES = 1
    """The next piece, when there is one."""

    TURN = 2
    """Another turn, for what it has already."""


_NOTHING: Final = Want.NOTHING  # looked up at each turn, which an enum's member takes long for
_BYTES: Final = Want.BYTES
_TURN: Final = Want.TURN


class Consumer(Protocol):
    """Takes what is read from one stream. It never waits."""

    def take_in(self, data: bytes) -> Want:
        """Have a turn.

        Args:
            data: the next piece that was read; b"" in a turn that the consumer asked for.
        """

    def end(self) -> None:
        """Nothing more can be read. The task in `read_until_end` has its turn later than this."""


async def read_until_end(stream: trio.abc.Stream, consumer: Consumer, hub: SocketHub | None) -> None:
    """Read from a stream until it ends, or its consumer has enough.

    Args:
        stream: where from.
        consumer: gets all that is read, piece by piece.
        hub: what reads from plain sockets, if there is one.

    Raises:
        trio.BrokenResourceError: the stream is broken; the cause says how.
        trio.ClosedResourceError: the stream was closed meanwhile.
    """
    if isinstance(stream, trio.SocketStream) and hub is not None:
        await hub.read_until_end(stream.socket, consumer)
        return
    want = Want.BYTES
    while want is not Want.NOTHING:
        if want is Want.TURN:
            await trio.lowlevel.checkpoint()
            want = consumer.take_in(b"")
        elif isinstance(stream, trio.SocketStream):
            await trio.lowlevel.wait_readable(stream.socket)
            want = _read(stream.socket.fileno(), consumer)
        elif data := await stream.receive_some(_SIZE):
            want = consumer.take_in(bytes(data))
        else:
            consumer.end()
            return


def _read(descriptor: int, consumer: Consumer) -> Want:
    """Read what is there, and let the consumer have its turn."""
    try:
        data = os.read(descriptor, _SIZE)
    except BlockingIOError:
        return _BYTES
    except OSError as error:
        consumer.end()
        raise trio.BrokenResourceError(with_reason("the connection broke", error)) from error
    if data:
        return consumer.take_in(data)
    consumer.end()
    return _NOTHING


class SocketHub:
    """Waits for any number of sockets in one task, and reads from those that have something.

    `run` must run for as long as anybody reads.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readings: dict[int, _Reading] = {}
        self._unfinished: dict[int, _Reading] = {}  # those that asked for another turn

    @staticmethod
    def available() -> bool:
        """Whether this system has what it takes."""
        return hasattr(select, "epoll")

    @enable_ki_protection
    async def run(self) -> None:
        """Read, for whoever is in `read_until_end`, until this is cancelled."""
        try:
            while True:
                if self._unfinished:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._give_turns()
        finally:
            self._readings.clear()
            self._unfinished.clear()
            self._epoll.close()

    def _give_turns(self) -> None:
        """Give one turn to each that has something to do."""
        unfinished, self._unfinished = self._unfinished, {}
        for descriptor, _ in self._epoll.poll(0):
            if descriptor in unfinished or (reading := self._readings.get(descriptor)) is None:
                continue
            if (want := reading.step()) is not _BYTES:
                self._follow(descriptor, reading, want)
        for descriptor, reading in unfinished.items():
            if self._readings.get(descriptor) is reading:
                self._follow(descriptor, reading, reading.step())

    def _follow(self, descriptor: int, reading: _Reading, want: Want) -> None:
        if want is _TURN:
            self._unfinished[descriptor] = reading
        elif want is _NOTHING:
            self._forget(descriptor)

    async def read_until_end(self, socket: trio.socket.SocketType, consumer: Consumer) -> None:
        """Read from a socket; see `read_until_end` of this module."""
        if self._epoll.closed:
            raise trio.ClosedResourceError("nobody reads here any more")
        descriptor = socket.fileno()
        reading = self._readings[descriptor] = _Reading(descriptor, consumer)
        self._epoll.register(descriptor, select.EPOLLIN)
        try:
            await reading.ended.wait()
        finally:
            self._forget(descriptor)
        if reading.error is not None:
            raise reading.error

    def _forget(self, descriptor: int) -> None:
        if self._readings.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)


class _Reading:
    """One socket of a hub.

    Attributes:
        ended: nothing more will be read.
        error: why, if that was no end as it should be.
    """

    __slots__ = ("_consumer", "_descriptor", "_unfinished", "ended", "error")

    def __init__(self, descriptor: int, consumer: Consumer) -> None:
        self._descriptor = descriptor
        self._consumer = consumer
        self._unfinished = False
        self.ended = trio.Event()
        self.error: BaseException | None = None

    def step(self) -> Want:
        """Have a turn: with what it has already, or with what can be read."""
        try:
            want = (
                self._consumer.take_in(b"") if self._unfinished else _read(self._descriptor, self._consumer)
            )
        except BaseException as error:  # noqa: ASYNC103 - whoever waits for the end raises it
            self.error = error
            want = _NOTHING
        if want is not _BYTES or self._unfinished:
            self._unfinished = want is _TURN
            if want is _NOTHING:
                self.ended.set()
        return want
