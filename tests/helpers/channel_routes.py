"""A route for `RoutedChannel` over a connection of the test's own, which notes what it is asked and told."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from helpers.channel_scenarios import Servers
from helpers.h2_server import serving
from trio_model_runner.channel import CallInterrupted, Peer, RoutedChannel
from trio_model_runner.proto.dynamic_subclass import DynamicSubclassServiceStub
from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.protocol import request_fields

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio_model_runner.rpc.connection import Connection
    from trio_model_runner.rpc.headers import Fields, RawFields

__all__ = ["FakeCall", "FakeRoute", "RoutedLine", "routed_line"]


@attrs.define(eq=False)
class FakeCall:
    """One call, and all that was asked of it.

    Attributes:
        ends: what `end` was told: sent, ended.
        checked: what `check` was shown: whether it was a status alone.
        open_at_end: the connection's streams when it was told of the end.
    """

    route: FakeRoute
    connection: Connection
    path: str
    volatile: RawFields
    ends: list[tuple[bool, bool]] = attrs.field(factory=list)
    checked: list[bool] = attrs.field(factory=list)

    def fields(self, content_type: str) -> RawFields:
        return request_fields(self.path, scheme="http", authority="routed", content_type=content_type)

    def check(self, headers: Fields, *, trailers_only: bool) -> None:
        assert dict(headers)[":status"]
        assert len(self.ends) <= 1  # the answer may have come to its end before it is looked at
        self.checked.append(trailers_only)
        self.route.on_check()

    def end(self, *, sent: bool, ended: bool) -> None:
        self.ends.append((sent, ended))
        self.route.turn.release()


class FakeRoute:
    """One call at a time over one connection, each with a token of its own.

    Attributes:
        connection: None while there is none.
        calls: those that began.
        turn: held from the beginning of a call to its end.
        on_check: what `check` does.
    """

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.calls: list[FakeCall] = []
        self.turn = trio.Semaphore(1, max_value=1)
        self.on_check: Callable[[], None] = lambda: None

    async def begin(self, path: str) -> FakeCall:
        await self.turn.acquire()
        try:
            await trio.lowlevel.checkpoint()
            if self.connection is None or not self.connection.accepts_calls:
                raise CallInterrupted("not connected", unprocessed=True, connection_lost=True)
        except BaseException:
            self.turn.release()
            raise
        token = ((b"x-token", b"%d" % len(self.calls)),)
        self.calls.append(FakeCall(self, self.connection, path, token))
        return self.calls[-1]

    @property
    def ends(self) -> list[list[tuple[bool, bool]]]:
        """What each call was told of its end."""
        return [call.ends for call in self.calls]


@attrs.define
class RoutedLine:
    """Servers, a connection to one of them, and a channel over that."""

    servers: Servers
    connection: Connection
    route: FakeRoute
    channel: RoutedChannel

    @property
    def stub(self) -> Any:
        return DynamicSubclassServiceStub(self.channel)


@asynccontextmanager
async def routed_line(kind: str) -> AsyncIterator[RoutedLine]:
    """A connection that has carried no call."""
    servers = Servers()
    with trio.fail_after(30):
        async with serving(kind, servers) as address, trio.open_nursery() as nursery:
            route = FakeRoute()
            connection = await open_connection(nursery, address.network, address.host, address.port)
            route.connection = connection
            try:
                channel = RoutedChannel(route, peer=Peer((address.host, address.port)))
                yield RoutedLine(servers, connection, route, channel)
            finally:
                await connection.aclose()
