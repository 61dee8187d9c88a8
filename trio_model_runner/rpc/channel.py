"""grpclib's `Channel` on Trio: what generated stubs call, over one connection that is replaced when it ends.

```python
async with Channel("localhost", 50051) as channel:
    stub = DynamicSubclassServiceStub(channel)
    response = await stub.call(CallRequest(method_name="predict"), timeout=2.0)
```

(Stubs for methods with a stream each way start an asyncio task: use `request` for those.)

A stub asks nothing of its channel but `request`, and a listener for events nothing but `__dispatch__`. So
this class is a `grpclib.client.Channel` by type alone: none of the base's code runs, which wants an asyncio
loop from its `__init__` on. What is missing there is an owner for the tasks behind a connection. Here that is
the `async with` block: they run in its nursery, and none outlives it.

**Connecting is lazy and shared.** The first call connects, and calls that come meanwhile wait for the same
attempt, each within its own deadline; a call that gives up does not take the attempt from the others. A
connection that was lost, or whose server said GOAWAY, is replaced when the next call needs one; calls that
are open on the old one may end there.

**A new connection can lead to another process** than the old one did, so `on_connect` may look at it, and
prepare it, before any call uses it.

**The tasks are shielded, one by one.** The nursery itself is not: the body of the block runs in it. Leaving
the block, in whatever way, ends the tasks in order (reset the calls, say GOAWAY, close), within `grace`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, TypeVar

import attrs
import grpclib.client
import trio
from grpclib.const import Cardinality
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.events import _DispatchChannelEvents
from multidict import MultiDict
from trio.lowlevel import enable_ki_protection

from ..network import Network, TCPNetwork
from .codec import BetterprotoCodec
from .connecting import open_connection
from .connection import Connection
from .headers import RawFields
from .protocol import request_fields
from .stream import Stream

__all__ = ["Channel", "Peer"]

SendT = TypeVar("SendT")
ReceiveT = TypeVar("ReceiveT")

_MAX_ATTEMPTS: Final = 3
"""How many connections in a row may be lost between being ready and being used."""


@attrs.frozen
class Peer:
    """Who is at the other end, in the form of grpclib's `Peer`."""

    host: str
    port: int

    def addr(self) -> tuple[str, int]:
        """The host and port that are connected to."""
        return (self.host, self.port)

    def cert(self) -> dict[str, Any] | None:
        """The server's certificate: None, for the connection is plaintext."""
        return None


class _Attempt:
    """One try to connect, and everybody who waits for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.connection: Connection | None = None
        self.error: Exception | None = None


class Channel(grpclib.client.Channel):
    """A gRPC server, as stubs see it; used with `async with`, then by any task of the same Trio run.

    Args:
        host: a name or an address.
        port: a port.
        network: what opens byte streams; TCP by default.
        codec: what turns messages into bytes and back; betterproto's by default.
        status_details_codec: what decodes the details that a status can come with; without one they are
            ignored.
        on_connect: awaited with each new connection, before any call uses it. What it raises goes to the
            calls that wait for the connection, which is given up.
        connect_timeout: seconds for a connection to be made, without `on_connect`.
        max_message_bytes: the largest message taken as an answer, bytes.
        max_header_bytes: the largest list of headers taken, bytes.
        keepalive_interval: seconds of silence, with calls open, after which the server is asked for a sign
            of life.
        keepalive_timeout: seconds in which that must come, else the connection is given up.
        grace: seconds that leaving the block may take for goodbyes, if the server does not read.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 50051,
        *,
        network: Network | None = None,
        codec: CodecBase | None = None,
        status_details_codec: StatusDetailsCodecBase | None = None,
        on_connect: Callable[[Connection], Awaitable[None]] | None = None,
        connect_timeout: float = 10.0,
        max_message_bytes: int = 64 << 20,
        max_header_bytes: int = 16 << 10,
        keepalive_interval: float = 300.0,
        keepalive_timeout: float = 20.0,
        grace: float = 1.0,
    ) -> None:
        self.__dispatch__ = _DispatchChannelEvents()
        self.peer = Peer(host, port)
        self.codec = BetterprotoCodec() if codec is None else codec
        self.status_details_codec = status_details_codec
        self.max_message_bytes = max_message_bytes
        self._network = TCPNetwork() if network is None else network
        self._authority = self._get_authority(host, port)
        self._on_connect = on_connect
        self._connect_timeout = connect_timeout
        self._max_header_bytes = max_header_bytes
        self._keepalive = (keepalive_interval, keepalive_timeout)
        self._grace = grace
        self._nursery: trio.Nursery | None = None
        self._manager: contextlib.AbstractAsyncContextManager[trio.Nursery, bool | None] | None = None
        self._scopes: set[trio.CancelScope] = set()
        self._connections: set[Connection] = set()
        self._connection: Connection | None = None
        self._attempt: _Attempt | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Channel({self.peer.host!r}, {self.peer.port!r})"

    def request(  # type: ignore[override]  # a stream like grpclib's, not one of its
        self,
        name: str,
        cardinality: Cardinality,
        request_type: type[SendT],
        reply_type: type[ReceiveT],
        *,
        timeout: float | None = None,
        deadline: None = None,
        metadata: Mapping[str, Any] | Collection[tuple[str, Any]] | None = None,
    ) -> Stream[SendT, ReceiveT]:
        """A call, which begins when its first method is called.

        Args:
            name: the method's path, "/package.Service/Method".
            cardinality: how many messages go each way.
            request_type: the messages' type.
            reply_type: the answers' type.
            timeout: seconds from now until the call must be over. The server is told what remains of them,
                or until the deadline of an enclosing cancel scope where that is nearer.
            deadline: only None. grpclib's `Deadline` is a time on a clock that is not Trio's.
            metadata: the request's metadata: text, and bytes where the key ends in "-bin".

        Raises:
            TypeError: a `deadline` was given.
            ValueError: `timeout` is not a number.
        """
        if deadline is not None:
            raise TypeError("deadline= is grpclib's clock, not Trio's: give timeout= in seconds instead")
        if timeout is not None and math.isnan(timeout):
            raise ValueError("timeout: must be a number of seconds, got nan")
        return Stream(
            self,
            name,
            MultiDict(metadata or ()),
            cardinality,
            request_type,
            reply_type,
            deadline=math.inf if timeout is None else trio.current_time() + timeout,
        )

    async def connect(self) -> Connection:
        """A connection that takes a call now, which is before the next checkpoint; made, if there is none.

        Raises:
            OSError: nobody answers there; see `open_connection`.
            trio.ClosedResourceError: the channel was closed.
            Exception: `on_connect` raised it.
        """
        loss = ""
        for _ in range(_MAX_ATTEMPTS):
            await trio.lowlevel.checkpoint()
            if self._closed:
                raise trio.ClosedResourceError("this channel is closed")
            if self._connection is not None and self._connection.accepts_calls:
                return self._connection
            attempt = self._attempt or self._start_attempt()
            await attempt.done.wait()
            if attempt.error is not None:
                raise attempt.error
            assert attempt.connection is not None
            if attempt.connection.accepts_calls:
                return attempt.connection
            loss = attempt.connection.loss
        raise ConnectionError(f"connections are lost as soon as they are made: {loss}")

    def fields_of(self, path: str, content_type: str) -> RawFields:
        """The request headers of a call to `path`, without its metadata."""
        return request_fields(path, scheme="http", authority=self._authority, content_type=content_type)

    def close(self) -> None:
        """Close at once, without goodbye: open calls are interrupted, sockets closed. See also `aclose`."""
        self._shut()
        for connection in self._connections:
            connection.abort("the channel was closed")

    async def aclose(self) -> None:
        """Close: open calls are reset, the server gets a GOAWAY, sockets are closed. Idempotent.

        Cancellation is put off until it is done, which takes at most `grace` seconds.
        """
        self._shut()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for connection in self._connections:
                    nursery.start_soon(connection.aclose, self._grace)
            await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Channel:
        """Open the nursery; nothing is connected yet."""
        if self._manager is not None:
            raise RuntimeError("a channel can be entered once")
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self

    def __aexit__(  # type: ignore[override]  # a nursery's exit may swallow what it cancelled itself
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Awaitable[bool | None]:
        """See `aclose`. What was raised in the block leaves it as it is, not in a group."""
        return self._leave(exc_type, exc_value, traceback)

    @enable_ki_protection
    async def _leave(self, *raised: Any) -> bool | None:
        assert self._manager is not None
        assert self._nursery is not None
        await self.aclose()
        if self._nursery.cancel_scope.cancel_called:  # a task crashed, a bug of ours, and cancelled the body
            return await self._manager.__aexit__(*raised)
        await self._manager.__aexit__(None, None, None)  # waits for nothing: all tasks have ended
        return None

    def _shut(self) -> None:
        self._closed = True
        self._connection = None
        for scope in self._scopes:
            scope.cancel()

    @contextlib.contextmanager
    def _shielded(self) -> Iterator[None]:
        """What runs inside is ended by closing the channel, and by nothing else."""
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            if self._closed:
                scope.cancel()
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def _start_attempt(self) -> _Attempt:
        if self._nursery is None:
            raise RuntimeError('a channel connects inside "async with" alone')
        self._attempt = _Attempt()
        self._nursery.start_soon(self._perform, self._attempt, self._nursery)
        return self._attempt

    async def _perform(self, attempt: _Attempt, nursery: trio.Nursery) -> None:
        attempt.error = trio.ClosedResourceError("this channel was closed")
        try:
            with self._shielded():
                attempt.connection = self._connection = await self._make_connection(nursery)
                attempt.error = None
        except Exception as error:  # it is for those who wait, whatever `on_connect` raised
            attempt.error = error
        finally:
            self._attempt = None
            attempt.done.set()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _make_connection(self, nursery: trio.Nursery) -> Connection:
        connection = await open_connection(
            nursery,
            self._network,
            *self.peer.addr(),
            timeout=self._connect_timeout,
            max_header_bytes=self._max_header_bytes,
        )
        if self._closed:
            connection.abort("the channel was closed")
            raise trio.ClosedResourceError("this channel was closed")
        self._connections.add(connection)
        nursery.start_soon(self._keep, connection)
        try:
            if self._on_connect is not None:
                await self._on_connect(connection)
        except BaseException:
            connection.retire("it could not be prepared")
            raise
        return connection

    async def _keep(self, connection: Connection) -> None:
        """Watch over a connection until it takes no new calls and has none; then close it."""
        with self._shielded():
            await connection.watch(*self._keepalive)
            await connection.finish(self._grace)
            self._connections.discard(connection)
