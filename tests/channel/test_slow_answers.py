"""A large answer over a slow line: the answer to a PING waits behind it, and each byte is a sign of life."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from helpers.channel_servers import hanging_server, server_that
from helpers.h2_server import H2Server, message, serve_tls, tls_contexts
from helpers.thin_line import ThinNetwork
from trio.testing import MockClock

from trio_model_runner.channel import CallInterrupted, Channel
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.proto.commons import Variant
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub

RATE = 10_000
LARGE = CallResponse(method_response=Variant(value=bytes(900_000)))


@pytest.mark.parametrize("tls", [False, True])
async def test_an_answer_that_takes_long_on_the_line_arrives(autojump_clock: MockClock, tls: bool) -> None:
    server = server_that(lambda server, stream_id, _: server.answer(stream_id, message(bytes(LARGE))))
    memory = MemoryNetwork()
    network = ThinNetwork(memory, RATE)
    server_side, client_side = tls_contexts()
    listener = memory.listen("node")
    serve = partial(serve_tls, server, server_side) if tls else server
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        async with Channel(
            "node",
            listener.port,
            network=network,
            ssl=client_side if tls else None,
            keepalive_interval=0.01,
            keepalive_timeout=1,  # in which not even a whole TLS record arrives
        ) as channel:
            connection = await channel.connect()
            begun = trio.current_time()
            with trio.fail_after(200):
                assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == LARGE
            assert trio.current_time() - begun > 85
            assert await channel.connect() is connection
            assert server.pings > 10
        nursery.cancel_scope.cancel()
    assert network.connections == 1


async def test_an_answer_that_stops_in_its_midst_is_given_up_in_time(autojump_clock: MockClock) -> None:
    server = hanging_server()

    def begin(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
        server.h2.send_data(stream_id, message(bytes(LARGE))[:16_000])

    server.on_request = begin
    server.answering_pings = False
    memory = MemoryNetwork()
    listener = memory.listen("node")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server, [listener])
        async with Channel(
            "node",
            listener.port,
            network=ThinNetwork(memory, RATE),
            keepalive_interval=5,
            keepalive_timeout=3,
        ) as channel:
            await channel.connect()
            begun = trio.current_time()
            with trio.fail_after(200), pytest.raises(CallInterrupted, match="no answer to a PING within 3 s"):
                await DynamicSubclassServiceStub(channel).call(CallRequest())
            assert 1.6 + 3 < trio.current_time() - begun < 1.6 + 2 * 5 + 3 + 0.1
        nursery.cancel_scope.cancel()
