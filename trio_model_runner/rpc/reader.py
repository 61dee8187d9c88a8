"""Reads what arrives on connections: each in its own task, or all sockets of a program in one.

The natural way is a task for each connection, which waits, reads, and waits again. Where a round's answers
come from hundreds of connections at once, most of a small answer's way then goes through the scheduler: a
system call to be woken, a place in the queue, a task switch, a system call to wait again. So a `SocketHub`
waits for all its sockets with one epoll, in one task, and hands over what it reads right there. That saves a
tenth of what a small call costs. It is for sockets on Linux; all other streams take the natural way.

The same epoll says when a socket has room for what is to be written, where that is waited for at all. So a
connection in a hub needs a task only to be ended.

TLS makes no difference to either: `Decrypting` stands between the reader and the consumer.

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
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import trio
from outcome import Error, Value
from trio.lowlevel import enable_ki_protection

from ..network.tls_codec import TLSCodec
from ..text import with_reason

__all__ = ["Consumer", "Decrypting", "SocketHub", "Want", "let_readers_catch_up", "read_until_end"]

_SIZE: Final = 64 << 10

_READABLE: Final = getattr(select, "EPOLLIN", 0)
_WRITABLE: Final = getattr(select, "EPOLLOUT", 0)

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


class TLSConsumer(Consumer, Protocol):
    """A consumer of what came over TLS."""

    def note_bytes(self) -> None:
        """Something was read that says nothing yet. TLS itself may have something to write then."""


class Decrypting:
    """A `Consumer` of what TLS has encrypted, which has another one consume what it says.

    Args:
        tls: the codec, after the handshake. What came with the handshake's last bytes is consumed in a turn
            that nobody need ask for; see `wants_first`.
        consumer: the other one.
    """

    __slots__ = ("_consumer", "_in_turn", "_tls")

    def __init__(self, tls: TLSCodec, consumer: TLSConsumer) -> None:
        self._tls = tls
        self._consumer = consumer
        self._in_turn = False

    @property
    def wants_first(self) -> Want:
        """What it wants before anything was read."""
        return _TURN if self._tls.holds_more else _BYTES

    def take_in(self, data: bytes) -> Want:
        """Have a turn; see `Consumer`.

        Raises:
            trio.BrokenResourceError: TLS failed; the cause says how.
        """
        want, tls = _BYTES, self._tls
        if self._in_turn:
            want = self._consumer.take_in(b"")
        elif plain := tls.decrypt(data):
            want = self._consumer.take_in(plain)
        else:
            self._consumer.note_bytes()
        self._in_turn = want is _TURN
        if want is _BYTES:
            if tls.holds_more:
                return _TURN
            if tls.failure is not None:
                self._consumer.end()
                raise trio.BrokenResourceError("TLS failed") from tls.failure
            if tls.ended:
                self._consumer.end()
                return _NOTHING
        return want

    def end(self) -> None:
        """Nothing more can be read; see `Consumer`. A goodbye of TLS before is not asked for."""
        self._consumer.end()


async def read_until_end(
    stream: trio.abc.Stream, consumer: Consumer, hub: SocketHub | None, want: Want = _BYTES
) -> None:
    """Read from a stream until it ends, or its consumer has enough.

    Args:
        stream: where from.
        consumer: gets all that is read, piece by piece.
        hub: what reads from sockets, if there is one.
        want: what the consumer wants first.

    Raises:
        trio.BrokenResourceError: the stream is broken; the cause says how.
        trio.ClosedResourceError: the stream was closed meanwhile.
    """
    while want is not _NOTHING:
        if want is _TURN:
            await trio.lowlevel.checkpoint()
            want = consumer.take_in(b"")
        elif isinstance(stream, trio.SocketStream):
            if hub is not None:
                await hub.read_until_end(stream.socket, consumer)
                return
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
    """Waits for any number of sockets in one task, reads from them, and says when they can be written to.

    `run` must run for as long as anybody reads or writes.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, int] = {}  # what epoll waits for
        self._readings: dict[int, tuple[Consumer, trio.lowlevel.Task]] = {}
        self._unfinished: dict[int, tuple[Consumer, trio.lowlevel.Task]] = {}  # asked for another turn
        self._writers: dict[int, Callable[[], bool]] = {}

    @staticmethod
    def available() -> bool:
        """Whether this system has what it takes."""
        return hasattr(select, "epoll")

    @enable_ki_protection
    async def run(self) -> None:
        """Read and write, for whoever is in `read_until_end`, until this is cancelled."""
        try:
            while True:
                if self._unfinished:
                    await trio.lowlevel.checkpoint()
                else:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._give_turns()
        finally:
            for each in (self._watched, self._readings, self._unfinished, self._writers):
                each.clear()
            self._epoll.close()

    def _give_turns(self) -> None:
        """Give one turn to each that has something to do."""
        unfinished, self._unfinished = self._unfinished, {}
        for descriptor, events in self._epoll.poll(0):
            if events != _READABLE and descriptor in self._writers:
                self._write(descriptor)
            if descriptor in unfinished or (reading := self._readings.get(descriptor)) is None:
                continue
            try:
                want = _read(descriptor, reading[0])
            except BaseException as error:  # noqa: ASYNC103 - whoever waits for the end raises it
                self._end(descriptor, Error(error))
            else:
                if want is not _BYTES:
                    self._follow(descriptor, reading, want)
        for descriptor, reading in unfinished.items():
            if self._readings.get(descriptor) is reading:
                try:
                    self._follow(descriptor, reading, reading[0].take_in(b""))
                except BaseException as error:  # noqa: ASYNC103 - as above
                    self._end(descriptor, Error(error))

    def _follow(self, descriptor: int, reading: tuple[Consumer, trio.lowlevel.Task], want: Want) -> None:
        if want is _TURN:
            self._unfinished[descriptor] = reading
        elif want is _NOTHING:
            self._end(descriptor, Value(None))

    def _write(self, descriptor: int) -> None:
        try:
            goes_on = self._writers[descriptor]()
        except BaseException as error:  # noqa: ASYNC103 - whoever waits for the end raises it
            self.forget_writer(descriptor)
            if descriptor not in self._readings:
                raise
            self._end(descriptor, Error(error))
        else:
            if not goes_on:
                self.forget_writer(descriptor)

    async def read_until_end(self, socket: trio.socket.SocketType, consumer: Consumer) -> None:
        """Read from a socket; see `read_until_end` of this module."""
        if self._epoll.closed:
            raise trio.ClosedResourceError("nobody reads here any more")
        descriptor = socket.fileno()
        self._readings[descriptor] = (consumer, trio.lowlevel.current_task())
        self._watch(descriptor)
        # An event would be six objects more for each connection, all of which a garbage collection visits.
        await trio.lowlevel.wait_task_rescheduled(partial(self._abort, descriptor))

    def _abort(self, descriptor: int, raise_cancel: Any) -> trio.lowlevel.Abort:
        if self._readings.pop(descriptor, None) is not None:
            self._watch(descriptor)
        return trio.lowlevel.Abort.SUCCEEDED

    def _end(self, descriptor: int, result: Value[None] | Error) -> None:
        if (reading := self._readings.pop(descriptor, None)) is not None:
            self._watch(descriptor)
            trio.lowlevel.reschedule(reading[1], result)

    def write_when_possible(self, socket: trio.socket.SocketType, write: Callable[[], bool]) -> bool:
        """Have a function called whenever a socket takes something, until it returns False.

        Returns:
            False if nobody waits here any more.
        """
        if self._epoll.closed:
            return False
        descriptor = socket.fileno()
        self._writers[descriptor] = write
        self._watch(descriptor)
        return True

    def forget_writer(self, descriptor: int) -> None:
        """Call the function for this descriptor no more. Before the socket is closed, this must be called."""
        if self._writers.pop(descriptor, None) is not None:
            self._watch(descriptor)

    def _watch(self, descriptor: int) -> None:
        """Have epoll wait for what is wanted of a socket by now."""
        wanted = _READABLE * (descriptor in self._readings) | _WRITABLE * (descriptor in self._writers)
        watched = self._watched.pop(descriptor, 0)
        if wanted:
            self._watched[descriptor] = wanted
            if watched:
                self._epoll.modify(descriptor, wanted)
            else:
                self._epoll.register(descriptor, wanted)
        elif watched:
            self._epoll.unregister(descriptor)
