"""grpclib's `Channel` on Trio: what generated stubs call, over one connection that is replaced when it ends.

```python
async with Channel("localhost", 50051) as channel:
    stub = DynamicSubclassServiceStub(channel)
    response = await stub.call(CallRequest(method_name="predict"), timeout=2.0)
```

(Stubs for methods with a stream each way start an asyncio task: use `request` for those.)

What makes it a channel is in `routed`. What is added here is a route of its own, and with it an owner for the
tasks behind a connection. That is the `async with` block: they run in its nursery, and none outlives it. How
connections come and go is the affair of `keeper`.

**A new connection can lead to another process** than the old one did, so `on_connect` may look at it, and
prepare it, before any call uses it.

**The tasks are shielded, one by one.** The nursery itself is not: the body of the block runs in it. Leaving
the block, in whatever way, ends the tasks in order (reset the calls, say GOAWAY, close), within `grace`.
"""

from __future__ import annotations

import contextlib
import os
import ssl as _ssl
import types
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from trio.lowlevel import enable_ki_protection

from ..given import check_whole_number, seconds_given
from ..groups import one_by_itself
from ..network import Network, TCPNetwork, UnixNetwork, address_text, authority_host
from ..network.tls import TLSNetwork
from ..rpc.connecting import open_connection
from ..rpc.connection import Connection
from ..rpc.headers import Fields, RawFields
from ..rpc.protocol import request_fields
from ..security.tls import client_context
from ..text import kind_of_secret, shown
from ..trio_needed import trio_needed
from .keeper import ConnectionKeeper
from .peer import Peer
from .routed import RoutedChannel

__all__ = ["Channel"]

_MAX_OF_32_BITS: Final = 2**32 - 1
"""HTTP/2 has so many bits for a setting, and gRPC for the length of a message."""


@attrs.frozen
class _OwnCall:
    """A call of a channel with its own connection: nothing is to be checked, or done in the end."""

    connection: Connection
    path: str
    scheme: str
    authority: str
    volatile: RawFields = ()

    def fields(self, content_type: str) -> RawFields:
        return request_fields(
            self.path, scheme=self.scheme, authority=self.authority, content_type=content_type
        )

    def check(self, headers: Fields, *, trailers_only: bool) -> None:
        """Take any answer: `on_connect` has looked at the connection, if the program wants that."""

    def end(self, *, sent: bool, ended: bool) -> None:
        """Do nothing."""


@attrs.frozen
class _OwnRoute:
    """A route over the connection that a keeper has ready."""

    keeper: ConnectionKeeper
    scheme: str
    host: str
    port: int | None
    wait_for_ready: bool

    async def begin(self, path: str) -> _OwnCall:
        connection = await self.keeper.connect(wait_for_ready=self.wait_for_ready)
        host = authority_host(self.host)
        authority = host if self.port is None else address_text(host, self.port)
        return _OwnCall(connection, path, self.scheme, authority)


def _check_types(**arguments: tuple[object, str, type | types.UnionType]) -> None:
    """Others would be found with the first connection, by texts of other packages that show them."""
    for name, (value, rule, kinds) in arguments.items():
        if value is not None and not isinstance(value, kinds):
            raise TypeError(f"{name}: must be {rule}, got {type(value).__name__}")


def _check_hosts(**names: str | None) -> None:
    """Refuse what no host can have as its name, and what could be a key: a name is shown in every error."""
    for argument, name in names.items():
        if name is None:
            continue
        kind = kind_of_secret(name)
        if kind is not None:
            raise ValueError(f"{argument}: holds {kind}; a host's name is wanted")
        try:
            authority_host(name)
        except OSError as error:
            raise ValueError(f"{argument}: {error.strerror}") from None


class Channel(RoutedChannel):
    """A gRPC server, as stubs see it; used with `async with`, then by any task of the same Trio run.

    Args:
        host: a name or an address; 127.0.0.1 by default.
        port: a port; 50051 by default.
        path: that of a UNIX socket, instead of host and port.
        ssl: a context for TLS, or True for one that trusts what the system trusts.
        server_hostname: the name that the server's certificate must have, where it isn't the host's.
        network: what opens byte streams, beneath TLS; TCP by default.
        codec: what turns messages into bytes and back; betterproto's by default.
        status_details_codec: what decodes the details that a status can come with; without one they are
            ignored.
        on_connect: awaited with each new connection, before any call uses it. What it raises goes to the
            calls that wait for the connection, which is given up.
        wait_for_ready: a call that finds no connection waits for one until its deadline, however many
            attempts fail meanwhile; by default, it fails with the attempt that it waits for.
        connect_timeout: seconds for a connection to be made, without `on_connect`.
        max_message_bytes: the largest message taken as an answer, bytes.
        max_header_bytes: the largest list of headers taken, bytes. A larger one costs its call.
        keepalive_interval: seconds of silence, with calls open, after which the server is asked for a sign
            of life.
        keepalive_timeout: seconds in which that must come, else the connection is given up.
        grace: seconds that leaving the block may take for goodbyes, if the server does not read.

    Raises:
        ValueError: arguments exclude each other, a number is out of bounds, or what could be a key stands in
            place of a name or a path.
        TypeError: an argument has another type; the text names it.
    """

    def __init__(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        ssl: _ssl.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        network: Network | None = None,
        codec: CodecBase | None = None,
        status_details_codec: StatusDetailsCodecBase | None = None,
        on_connect: Callable[[Connection], Awaitable[None]] | None = None,
        wait_for_ready: bool = False,
        connect_timeout: float = 10.0,
        max_message_bytes: int = 64 << 20,
        max_header_bytes: int = 16 << 10,
        keepalive_interval: float = 300.0,
        keepalive_timeout: float = 20.0,
        grace: float = 1.0,
    ) -> None:
        if path is not None and any(each is not None for each in (host, port, network)):
            raise ValueError("path: takes the place of host, port and network")
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname: is for TLS, and there is no ssl")
        _check_types(
            host=(host, "text", str),
            ssl=(ssl, "an ssl.SSLContext or True", bool | _ssl.SSLContext),
            server_hostname=(server_hostname, "text", str),
            network=(network, "a Network", Network),
            codec=(codec, "a grpclib.encoding.base.CodecBase", CodecBase),
            status_details_codec=(
                status_details_codec,
                "a grpclib.encoding.base.StatusDetailsCodecBase",
                StatusDetailsCodecBase,
            ),
            on_connect=(on_connect, "an async function", Callable),  # type: ignore[arg-type]
            wait_for_ready=(wait_for_ready, "True or False", bool),
        )
        if port is not None:
            check_whole_number(port, "port", at_least=1, at_most=65535)
        _check_hosts(host=host, server_hostname=server_hostname)
        check_whole_number(max_message_bytes, "max_message_bytes", at_least=1, at_most=_MAX_OF_32_BITS)
        check_whole_number(max_header_bytes, "max_header_bytes", at_least=1, at_most=_MAX_OF_32_BITS)
        connect_timeout = seconds_given(connect_timeout, "connect_timeout")
        keepalive_interval = seconds_given(keepalive_interval, "keepalive_interval")
        keepalive_timeout = seconds_given(keepalive_timeout, "keepalive_timeout")
        grace = seconds_given(grace, "grace", zero=True)
        self._host = "127.0.0.1" if host is None else host
        self._port = 50051 if port is None else port
        socket = None if path is None else UnixNetwork(path)
        peer = Peer((self._host, self._port) if socket is None else socket.path)
        if socket is not None:
            self._host, network = "localhost", socket
        if ssl:
            context = client_context() if ssl is True else ssl
            network = TLSNetwork(context, network, server_hostname=server_hostname)
        self._network = TCPNetwork() if network is None else network
        self._connect_timeout = connect_timeout
        self._max_header_bytes = max_header_bytes
        self._keeper = ConnectionKeeper(
            self._open_connection,
            on_connect=on_connect,
            keepalive_interval=keepalive_interval,
            keepalive_timeout=keepalive_timeout,
            grace=grace,
        )
        route = _OwnRoute(
            self._keeper,
            "https" if self._network.secure else "http",
            self._host,
            None if path is not None else self._port,
            wait_for_ready,
        )
        super().__init__(
            route,
            peer=peer,
            codec=codec,
            status_details_codec=status_details_codec,
            max_message_bytes=max_message_bytes,
        )
        self._own_route = route
        self._manager: contextlib.AbstractAsyncContextManager[trio.Nursery, bool | None] | None = None

    def __repr__(self) -> str:
        address = self.peer.address
        return f"Channel(path={shown(address)})" if isinstance(address, str) else f"Channel{address!r}"

    @enable_ki_protection
    async def connect(self) -> Connection:
        """Wait for a connection that takes a call now, which is before the next checkpoint.

        Raises:
            OSError: nobody answers there; see `open_connection`.
            trio.ClosedResourceError: the channel was closed.
            Exception: `on_connect` raised it.
        """
        return (await self._own_route.begin("")).connection

    async def _open_connection(self, nursery: trio.Nursery) -> Connection:
        return await open_connection(
            nursery,
            self._network,
            self._host,
            self._port,
            timeout=self._connect_timeout,
            max_header_bytes=self._max_header_bytes,
        )

    @enable_ki_protection
    def close(self) -> None:
        """Close at once, without goodbye: open calls are interrupted, sockets closed. See also `aclose`."""
        self._keeper.abort("the channel was closed")

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close: open calls are reset, the server gets a GOAWAY, sockets are closed. Idempotent.

        Cancellation is put off until it is done, which takes at most `grace` seconds.
        """
        await self._keeper.aclose()

    @enable_ki_protection
    async def __aenter__(self) -> Channel:
        """Open the nursery; nothing is connected yet."""
        if (error := trio_needed("a Channel")) is not None:
            raise error
        if self._manager is not None:
            raise RuntimeError("a Channel can be entered only once: make a new one for another block")
        self._manager = trio.open_nursery()
        self._keeper.nursery = await self._manager.__aenter__()
        return self

    if not TYPE_CHECKING:  # type checkers know by themselves that this is wrong

        def __enter__(self):
            raise RuntimeError("use `async with Channel(...)`, not `with Channel(...)`")

        def __exit__(self, kind, error, traceback):
            raise AssertionError  # Python looks for it before it enters

    @enable_ki_protection
    def __aexit__(  # type: ignore[override]  # a nursery's exit may swallow what it cancelled itself
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, bool | None]:
        """See `aclose`. What was raised in the block leaves it as it is, not in a group."""
        return self._leave(exc_type, exc_value, traceback)

    @enable_ki_protection
    async def _leave(self, *raised: Any) -> bool | None:
        assert self._manager is not None
        assert self._keeper.nursery is not None
        try:
            with one_by_itself():
                await self.aclose()
        except BaseException as error:  # a KeyboardInterrupt: all else is put off until it is done
            self._keeper.abort("the program was interrupted")
            with one_by_itself():
                await self._manager.__aexit__(  # noqa: ASYNC102 - all tasks are cancelled, so it waits for nothing
                    type(error), error, error.__traceback__
                )
            raise
        if self._keeper.nursery.cancel_scope.cancel_called:  # a task crashed, a bug, and cancelled the body
            return await self._manager.__aexit__(*raised)
        await self._manager.__aexit__(None, None, None)  # waits for nothing: all tasks have ended
        return None
