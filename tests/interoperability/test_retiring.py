"""Servers that retire connections, all at once or one after the other, and that allow few calls at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from helpers.channel_scenarios import connections_of

from trio_model_runner.channel import Channel
from trio_model_runner.proto.dynamic_subclass import CallRequest

from .proxies import PROXIES
from .servers import PLAIN, SERVERS
from .service import NO_LIMITS, Limits
from .stubs import Stub, chat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_model_runner.rpc.connection import Connection

AGE = Limits(age=0.2)
CONNECTIONS = 3  # that calls go through while the server retires one after the other
CALLERS = 10


def kinds(servers: Iterable[str], *but: str) -> pytest.MarkDecorator:
    """A test for each of these kinds of servers but some."""
    return pytest.mark.parametrize("kind", [kind for kind in servers if kind not in but], indirect=True)


async def a_hundred_calls_at_once(kind: str, limits: Limits) -> None:
    """Each gets its own answer."""
    answers: list[CallRequest] = []

    async def call(channel: Channel, number: int) -> None:
        message = CallRequest(str(number) * 3000)
        assert await Stub(channel).echo(message) == message
        answers.append(message)

    with SERVERS[kind](limits) as port, trio.fail_after(60):
        async with Channel("127.0.0.1", port) as channel, trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(call, channel, number)
    assert len(answers) == 100


@kinds(PLAIN, "grpclib")
async def test_a_server_that_retires_lets_open_calls_end_and_takes_no_new_ones(kind: str) -> None:
    """That of grpclib never says GOAWAY: closed, it goes on taking calls on the connections that it has.

    What retires behind a proxy is the proxy's affair.
    """
    with PLAIN[kind](NO_LIMITS) as port, trio.fail_after(60):
        async with Channel("127.0.0.1", port) as channel:
            async with chat(channel) as stream:
                await stream.send_message(CallRequest("before"))
                assert await stream.recv_message() == CallRequest("before")
                connection = await channel.connect()
                await Stub(channel).retire()
                await connection.watch()
                assert str(connection.loss).startswith("the server said GOAWAY")
                await stream.send_message(CallRequest("after"))
                assert await stream.recv_message() == CallRequest("after")
                await stream.end()
                assert await stream.recv_message() is None
            with pytest.raises(OSError, match="Connection refused"):
                await Stub(channel).echo(CallRequest())


@kinds(SERVERS, "grpclib")
async def test_calls_do_not_notice_that_connections_grow_old(kind: str) -> None:
    """MaxConnectionAge: calls begin while connections retire; one that is older than they goes on."""
    seen: dict[Connection, None] = {}

    async def call(channel: Channel, name: str) -> None:
        count = 0
        while len(seen) < CONNECTIONS:
            text = f"{name}, {count}"
            assert await Stub(channel).echo(CallRequest(text)) == CallRequest(text)
            seen.update(dict.fromkeys(connections_of(channel)))
            count += 1

    with SERVERS[kind](AGE) as port, trio.fail_after(60):
        async with Channel("127.0.0.1", port) as channel, chat(channel) as stream:
            await stream.send_message(CallRequest("young"))
            assert await stream.recv_message() == CallRequest("young")
            async with trio.open_nursery() as nursery:
                for number in range(CALLERS):
                    nursery.start_soon(call, channel, str(number))
            await stream.send_message(CallRequest("old"))
            assert await stream.recv_message() == CallRequest("old")
            await stream.end()
            assert await stream.recv_message() is None


@pytest.mark.parametrize("kind", PROXIES, indirect=True)
async def test_calls_that_a_proxy_leaves_unprocessed_are_made_on_its_next_connection(kind: str) -> None:
    """Each connection may have ten calls. Nginx leaves what comes after them, and says so with its GOAWAY."""
    await a_hundred_calls_at_once(kind, Limits(calls=10))


@pytest.mark.parametrize("streams", [1, 5, 10])
@kinds(SERVERS, "grpclib")
async def test_a_hundred_calls_at_once_where_few_are_allowed(kind: str, streams: int) -> None:
    """Some servers refuse streams that the client may open by their own word: then it tries again."""
    await a_hundred_calls_at_once(kind, Limits(streams=streams))


@kinds(SERVERS, "grpclib")
async def test_a_stream_without_messages_that_waits_for_its_turn(kind: str) -> None:
    """It has ended before it began: still grpc-go must hear of that behind its headers, not with them."""
    with SERVERS[kind](Limits(streams=1)) as port, trio.fail_after(10):
        async with Channel("127.0.0.1", port) as channel, chat(channel) as first:
            await first.send_message(CallRequest())
            assert await first.recv_message() == CallRequest()
            async with chat(channel) as second:
                await second.send_request()
                await second.end()
                await first.end()
                assert await first.recv_message() is None
                assert await second.recv_message() is None
