"""A server and a connection to it, as tests of cancellation and of interrupts begin and end with them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from helpers.h2_server import Address, H2Server, call, serving
from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Line", "closed_line", "open_line", "still_usable"]


@attrs.define
class Line:
    """A server, where it is, and a nursery for connections to it."""

    server: H2Server
    address: Address
    nursery: trio.Nursery
    connection: Connection | None = None

    async def open(self) -> Connection:
        """Open a connection and remember it."""
        address = self.address
        self.connection = await open_connection(self.nursery, address.network, address.host, address.port)
        return self.connection


@asynccontextmanager
async def closed_line(kind: str) -> AsyncIterator[Line]:
    """No connection yet; none must be left running in the end."""
    server = H2Server()
    with trio.fail_after(30):
        async with serving(kind, server) as address, trio.open_nursery() as nursery:
            yield Line(server, address, nursery)


@asynccontextmanager
async def open_line(kind: str) -> AsyncIterator[Line]:
    """A connection that has answered a call before."""
    async with closed_line(kind) as line:
        connection = await line.open()
        assert await call(connection, b"first") == b"first"
        try:
            yield line
        finally:
            await connection.aclose()


async def still_usable(line: Line, _: bool) -> None:
    connection = line.connection
    assert connection is not None
    assert connection.accepts_calls
    assert connection.idle
    assert await call(connection, b"next" * 50_000) == b"next" * 50_000
    assert line.server.h2.open_inbound_streams == 0
