"""Keeps one connection to a server for many calls: made when it is needed, replaced when it ends.

**Connecting is lazy and shared.** The first call connects, and calls that come meanwhile wait for the same
attempt, each within its own deadline; a call that gives up does not take the attempt from the others. A
connection that was lost, or whose server said GOAWAY, is replaced when the next call needs one; calls that
are open on the old one may end there.

**Attempts keep their distance.** The naive way, to try whenever a call asks, makes a thousand clients storm
a server the moment it comes back. So after an attempt that failed the next one waits: about 0.1 s, then
twice as long each time up to 10 s, each time a quarter more or less, so that clients fall out of step. A
call never fails by an attempt that was over before it came: it waits for the next one.

**How long a call waits** is gRPC's choice of two. By default it shares one attempt, and fails with that. With
`wait_for_ready` it waits through as many as it takes, until its deadline.

A server that objects to PINGs (GOAWAY with "too_many_pings") is asked half as often from then on, as gRPC's
specification of keepalive has it.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

from ..backoff import growing_waits
from ..rpc.connection import Connection
from ..rpc.ending import Ending
from ..rpc.receiver import CallInterrupted

__all__ = ["ConnectionKeeper"]

_MAX_LOSSES: Final = 3
"""How many connections in a row may be lost between being ready and being used."""

_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 10.0
_JITTER: Final = 0.25


class _Attempt:
    """One try to connect, and everybody who waits for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.connection: Connection | None = None
        self.error: Exception | None = None


class ConnectionKeeper:
    """Has a connection ready for whoever needs one.

    Args:
        open_connection: makes a connection with its tasks in a nursery.
        on_connect: awaited with each new connection before it is used. What it raises goes to those who wait.
        keepalive_interval: seconds; see `Connection.watch`.
        keepalive_timeout: seconds; see `Connection.watch`.
        grace: seconds that a connection's goodbye may take.

    Attributes:
        nursery: where all tasks run; to be set before the first `connect`.
        connections: those that are not closed.
        keepalive_interval: as it is now.
    """

    def __init__(
        self,
        open_connection: Callable[[trio.Nursery], Awaitable[Connection]],
        *,
        on_connect: Callable[[Connection], Awaitable[None]] | None,
        keepalive_interval: float,
        keepalive_timeout: float,
        grace: float,
    ) -> None:
        self.nursery: trio.Nursery | None = None
        self.connections: set[Connection] = set()
        self.keepalive_interval = keepalive_interval
        self._keepalive_timeout = keepalive_timeout
        self._open_connection = open_connection
        self._on_connect = on_connect
        self._grace = grace
        self._scopes: set[trio.CancelScope] = set()
        self._connection: Connection | None = None
        self._attempt: _Attempt | None = None
        self._delays = reconnect_delays()
        self._not_before = 0.0
        self._closed = False

    async def connect(self, *, wait_for_ready: bool = False) -> Connection:
        """A connection that takes a call now, which is before the next checkpoint; made, if there is none.

        Raises:
            OSError: nobody answers there; see `open_connection`.
            trio.ClosedResourceError: `close` was called.
            Exception: `on_connect` raised it.
        """
        losses = itertools.count() if wait_for_ready else range(_MAX_LOSSES)
        loss: Ending | None = None
        for _ in losses:
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this channel is closed")
            if self._connection is not None and self._connection.accepts_calls:
                return self._connection
            attempt = self._attempt or self._start_attempt()
            await attempt.done.wait()
            if attempt.connection is not None:
                if attempt.connection.accepts_calls:
                    return attempt.connection
                loss = attempt.connection.loss
            elif not (wait_for_ready and isinstance(attempt.error, (OSError, CallInterrupted))):
                assert attempt.error is not None
                raise attempt.error
        raise ConnectionError(f"connections are lost as soon as they are made: {loss}")

    def close(self) -> None:
        """Make no more connections."""
        self._closed = True
        self._connection = None
        for scope in self._scopes:
            scope.cancel()

    def abort(self, reason: str) -> None:
        """Close, and give all connections up without goodbye."""
        self.close()
        for connection in self.connections:
            connection.abort(reason)

    async def aclose(self) -> None:
        """Close, with a goodbye on all connections. Cancellation is put off until that is done."""
        self.close()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for connection in self.connections:
                    nursery.start_soon(connection.aclose, self._grace)
            await trio.lowlevel.checkpoint()

    @contextlib.contextmanager
    def _shielded(self) -> Iterator[None]:
        """What runs inside is ended by closing, and by nothing else."""
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            if self._closed:
                scope.cancel()
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def _start_attempt(self) -> _Attempt:
        if self.nursery is None:
            raise RuntimeError(
                "this channel's block was not entered: use it in `async with Channel(...) as channel:`"
            )
        self._attempt = _Attempt()
        self.nursery.start_soon(self._perform, self._attempt, self.nursery)
        return self._attempt

    @enable_ki_protection
    async def _perform(self, attempt: _Attempt, nursery: trio.Nursery) -> None:
        attempt.error = trio.ClosedResourceError("this channel was closed")
        try:
            with self._shielded():
                await trio.sleep_until(self._not_before)
                attempt.connection = self._connection = await self._make_connection(nursery)
                self._delays = reconnect_delays()
        except Exception as error:  # it is for those who wait, whatever `on_connect` raised
            attempt.error = error
            self._not_before = trio.current_time() + next(self._delays)
        finally:
            self._attempt = None
            attempt.done.set()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _make_connection(self, nursery: trio.Nursery) -> Connection:
        connection = await self._open_connection(nursery)
        if self._closed:
            connection.abort("the channel was closed")
            raise trio.ClosedResourceError("this channel was closed")
        self.connections.add(connection)
        nursery.start_soon(self._keep, connection)
        try:
            if self._on_connect is not None:
                awaitable = self._on_connect(connection)
                if not inspect.isawaitable(awaitable):
                    got = type(awaitable).__name__
                    raise TypeError(f"on_connect: must be an async function, and returned {got}")
                await awaitable
        except BaseException:
            connection.retire("it could not be prepared")
            raise
        if not connection.accepts_calls and not (connection.loss and connection.loss.peaceful):
            raise ConnectionError(f"the connection was lost as soon as it was made: {connection.loss}")
        return connection

    @enable_ki_protection
    async def _keep(self, connection: Connection) -> None:
        """Watch over a connection until it takes no new calls and has none; then close it."""
        with self._shielded():
            await connection.watch(self.keepalive_interval, self._keepalive_timeout)
            if connection.too_many_pings:
                self.keepalive_interval *= 2
            await connection.finish(self._grace)
            self.connections.discard(connection)


def reconnect_delays() -> Iterator[float]:
    """Give the waits before further attempts to connect, in seconds."""
    return growing_waits(_FIRST_DELAY, maximum=_LONGEST_DELAY, jitter=_JITTER)
