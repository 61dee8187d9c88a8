"""What tests of cancellation and of interrupts do with a channel, and how they look at what is left."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio
from grpclib.const import Cardinality

from helpers.channel_servers import ANSWER, CALL
from helpers.h2_server import H2Server, message, serving
from trio_model_runner.channel import Channel
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from helpers.h2_server import Address
    from trio_model_runner.rpc.connection import Connection


class Servers:
    """A server of h2's for each connection, which answers each request with three messages, or one.

    Attributes:
        all: they, in the order in which the connections came.
    """

    def __init__(self) -> None:
        self.all: list[H2Server] = []

    async def __call__(self, stream: trio.abc.Stream) -> None:
        server = H2Server()
        server.on_request = self.answer
        self.all.append(server)
        await server(stream)

    @staticmethod
    def answer(server: H2Server, stream_id: int, body: bytes) -> None:
        server.answer(stream_id, message(bytes(ANSWER)) * (3 if body == STREAM_OF_REQUESTS else 1))


REQUEST = CallRequest(method_name="predict")
STREAM_OF_REQUESTS = message(bytes(REQUEST)) * 2


@attrs.define
class Line:
    """Servers, where they are, and a channel to there."""

    servers: Servers
    address: Address
    channel: Channel

    @property
    def stub(self) -> Any:
        return DynamicSubclassServiceStub(self.channel)


@asynccontextmanager
async def new_line(kind: str) -> AsyncIterator[Line]:
    """No connection yet; in the end all are closed, with a goodbye where one was."""
    servers = Servers()
    with trio.fail_after(30):
        async with serving(kind, servers) as address:
            async with Channel(address.host, address.port, network=address.network) as channel:
                yield Line(servers, address, channel)
            for server in servers.all:
                await server.ended.wait()


@asynccontextmanager
async def used_line(kind: str) -> AsyncIterator[Line]:
    """A connection that has carried a call."""
    async with new_line(kind) as line:
        assert await line.stub.call(REQUEST) == ANSWER
        yield line


async def unary(line: Line) -> None:
    """Make a call with one message each way."""
    assert await line.stub.call(REQUEST) == ANSWER


async def streaming(line: Line) -> None:
    """Make a call with several messages each way."""
    async with line.channel.request(CALL, Cardinality.STREAM_STREAM, CallRequest, CallResponse) as stream:
        await stream.send_message(REQUEST)
        await stream.send_message(REQUEST, end=True)
        assert [answer async for answer in stream] == [ANSWER] * 3


async def abandoned(line: Line) -> None:
    """Leave a call whose answers go on."""
    async with line.channel.request(CALL, Cardinality.STREAM_STREAM, CallRequest, CallResponse) as stream:
        await stream.send_message(REQUEST)
        await stream.send_message(REQUEST, end=True)
        async for _ in stream:
            break


def connections_of(channel: Channel) -> set[Connection]:
    """The channel's connections that are not closed; a program has no use for them, but they may not leak."""
    return channel._keeper.connections


async def still_connected(line: Line, _: bool) -> None:
    """The connection is the same, it has no streams, and the next calls succeed."""
    (connection,) = connections_of(line.channel)
    assert connection.accepts_calls
    assert connection.idle
    await unary(line)
    await streaming(line)
    assert len(line.servers.all) == 1
    assert line.servers.all[0].h2.open_inbound_streams == 0


async def still_works(line: Line, _: bool) -> None:
    """The next calls succeed, on whatever connection, and there are no others."""
    await unary(line)
    await streaming(line)
    assert len(connections_of(line.channel)) == 1


async def whole_life(line: Line) -> None:
    """Open a channel of its own, use and leave it."""
    address = line.address
    async with Channel(address.host, address.port, network=address.network) as line.channel:
        await unary(line)


async def gone(line: Line, _: bool) -> None:
    """Nothing is left of a whole life."""
    assert connections_of(line.channel) == set() or all(
        connection.lost for connection in connections_of(line.channel)
    )
    for server in line.servers.all:
        await server.ended.wait()
