"""Requests that certainly were not processed are sent again, until the deadline; see `channel.retries`."""

from __future__ import annotations

import itertools
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trio
from grpclib.const import Cardinality
from grpclib.events import SendMessage, listen
from h2.events import RequestReceived
from helpers.channel_scenarios import connections_of
from helpers.channel_servers import (
    ANSWER,
    CALL,
    SERVICE,
    answering,
    answering_server,
    h2_channel,
    hanging_server,
    server_that,
    unary,
)
from helpers.h2_server import RESPONSE, TRAILERS, H2Server, message
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.channel import CallInterrupted, Channel
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = CallRequest(method_name="tick")


def send_goaway(server: H2Server, stream_id: int, body: bytes) -> None:
    server.h2.close_connection(last_stream_id=stream_id - 2 if stream_id > 1 else 0)


def refuse(server: H2Server, stream_id: int, body: bytes) -> None:
    server.h2.reset_stream(stream_id, 7)


def refusing_server(times: int, at: list[float] | None = None) -> H2Server:
    """Refuses so many requests, and then answers; notes when the requests came."""
    left = iter(range(times))

    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        if at is not None:
            at.append(trio.current_time())
        (refuse if next(left, None) is not None else answering)(server, stream_id, body)

    return server_that(respond)


def bodies_of(*servers: H2Server) -> list[bytes]:
    return [bytes(body) for server in servers for body in server.bodies.values()]


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)


@pytest.mark.parametrize("times", [1, 2, 3, 20])
async def test_a_refused_request_is_sent_again_as_it_was(times: int, autojump_clock: MockClock) -> None:
    async with h2_channel(server := refusing_server(times)) as (_, stub):
        assert await stub.call(TICK, timeout=20) == ANSWER
    assert bodies_of(server) == [message(bytes(TICK))] * (times + 1)


async def test_what_goaways_left_unprocessed_is_sent_again_on_the_next_connection(
    autojump_clock: MockClock,
) -> None:
    servers = [*(server_that(send_goaway) for _ in range(3)), answering_server()]
    async with h2_channel(*servers) as (_, stub):
        assert await stub.call(TICK, timeout=20) == ANSWER
    assert bodies_of(*servers) == [message(bytes(TICK))] * 4


async def test_the_waits_grow_to_a_second(autojump_clock: MockClock, no_jitter: None) -> None:
    at: list[float] = []
    async with h2_channel(refusing_server(12, at)) as (_, stub):
        assert await stub.call(TICK, timeout=20) == ANSWER
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert gaps == pytest.approx([0.0015 * 2**power for power in range(10)] + [1.0, 1.0])


async def test_a_refused_request_is_sent_again_until_the_deadline(autojump_clock: MockClock) -> None:
    async with h2_channel(server := server_that(refuse)) as (channel, stub):
        connection = await channel.connect()
        begun = trio.current_time()
        with pytest.raises(TimeoutError, match="the deadline passed") as caught:
            await stub.call(TICK, timeout=100)
        assert trio.current_time() == begun + 100
        assert isinstance(caught.value.__cause__, CallInterrupted)
        assert "REFUSED_STREAM" in str(caught.value.__cause__)
        with trio.move_on_after(100) as scope:
            await stub.call(TICK)
        assert scope.cancelled_caught
        assert trio.current_time() == begun + 200
        assert connection.idle
        assert len(server.bodies) > 150


async def test_a_call_without_any_deadline_gives_up_after_a_minute(autojump_clock: MockClock) -> None:
    async with h2_channel(server := server_that(refuse)) as (_, stub):
        begun = trio.current_time()
        with pytest.raises(CallInterrupted, match="REFUSED_STREAM") as caught:
            await stub.call(TICK)
        assert 30 < trio.current_time() - begun < 90
        assert caught.value.unprocessed
        assert len(server.bodies) == 64


async def test_a_server_that_is_gone_for_the_next_attempt_is_an_os_error(autojump_clock: MockClock) -> None:
    class Once(MemoryNetwork):
        """Lets one connection be made."""

        used = False

        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            if self.used:
                raise ConnectionRefusedError("nobody is there")
            self.used = True
            return await super().connect(host, port)

    network = Once()
    listener = network.listen("node")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server_that(send_goaway), [listener])
        async with Channel("node", listener.port, network=network) as channel:
            with pytest.raises(ConnectionRefusedError, match="nobody is there"):
                await DynamicSubclassServiceStub(channel).call(TICK, timeout=20)
        nursery.cancel_scope.cancel()


async def test_a_server_that_began_to_answer_has_processed_the_request() -> None:
    def begin_and_refuse(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, RESPONSE)
        refuse(server, stream_id, body)

    async with h2_channel(server := server_that(begin_and_refuse)) as (_, stub):
        with pytest.raises(CallInterrupted, match="REFUSED_STREAM"):
            await stub.call(TICK)
    assert len(server.bodies) == 1


def requests(channel: Channel, cardinality: Cardinality, **options: Any) -> Any:
    return channel.request(CALL, cardinality, CallRequest, CallResponse, **options)


def server_that_refuses_headers(times: int) -> H2Server:
    """Refuses so many requests as soon as their headers come, and answers the others."""
    refused: set[int] = set()

    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        if stream_id not in refused:  # its end may come in one piece with its headers
            answering(server, stream_id, body)

    server = server_that(respond)
    handle: Callable[[Any], None] = server._handle

    def refuse_or_handle(event: Any) -> None:
        handle(event)
        if isinstance(event, RequestReceived) and len(refused) < times:
            refused.add(event.stream_id)
            refuse(server, event.stream_id, b"")

    server._handle = refuse_or_handle  # type: ignore[method-assign]
    return server


@pytest.mark.parametrize("cardinality", Cardinality)
async def test_a_call_may_be_refused_before_and_after_its_first_message(cardinality: Cardinality) -> None:
    server = server_that_refuses_headers(2)
    async with h2_channel(server) as (channel, _), requests(channel, cardinality) as stream:
        await stream.send_request()
        await wait_all_tasks_blocked()
        await stream.send_message(TICK, end=True)
        assert await stream.recv_message() == ANSWER
    assert len(server.bodies) == 3
    assert bodies_of(server)[-1] == message(bytes(TICK))


async def test_a_stream_of_no_requests_is_ended_again() -> None:
    server = server_that_refuses_headers(2)
    async with h2_channel(server) as (channel, _):
        for ends_at_once in (True, False):
            async with requests(channel, Cardinality.STREAM_UNARY) as stream:
                await stream.send_request(end=ends_at_once)
                if not ends_at_once:
                    await stream.end()
                assert await stream.recv_message() == ANSWER
    assert len(server.bodies) == 4


async def test_one_task_may_wait_for_answers_while_another_one_sends() -> None:
    server = server_that_refuses_headers(3)
    async with (
        h2_channel(server) as (channel, _),
        requests(channel, Cardinality.STREAM_STREAM) as stream,
        trio.open_nursery() as nursery,
    ):
        received = []

        async def receive() -> None:
            received.extend([answer async for answer in stream])

        await stream.send_request()
        nursery.start_soon(receive)
        for end in (False, True):
            await stream.send_message(TICK, end=end)
    assert received == [ANSWER]
    assert len(server.bodies) == 4
    assert bodies_of(server)[-1] == message(bytes(TICK)) * 2


async def test_a_task_that_sends_follows_one_that_has_heard_the_new_answer_begin() -> None:
    server = server_that_refuses_headers(1)
    async with (
        h2_channel(server) as (channel, _),
        requests(channel, Cardinality.STREAM_STREAM) as stream,
        trio.open_nursery() as nursery,
    ):

        async def listen_to_messages(event: SendMessage) -> None:
            await heard.wait()

        async def receive() -> None:
            await stream.recv_initial_metadata()
            heard.set()

        heard = trio.Event()
        listen(channel, SendMessage, listen_to_messages)
        await stream.send_request()
        nursery.start_soon(receive)
        nursery.start_soon(partial(stream.send_message, TICK, end=True))
        await server.wait(lambda: 3 in server.requests)
        server.h2.send_headers(3, RESPONSE)
        server.on_request = lambda server, stream_id, _: server.h2.send_headers(
            stream_id, TRAILERS, end_stream=True
        )
        await server.flush()
        await server.wait(lambda: server.bodies[3] == message(bytes(TICK)))
    assert len(server.bodies) == 2


@pytest.mark.parametrize("cancel", [True, False])
async def test_a_call_that_is_given_up_while_it_waits_is_not_sent_again(
    cancel: bool, autojump_clock: MockClock
) -> None:
    """Another task cancels it, or leaves its block."""
    async with h2_channel(server := server_that(refuse)) as (channel, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(CallInterrupted):
                await stream.recv_message()

        async with requests(channel, Cardinality.UNARY_STREAM) as stream:
            await stream.send_message(TICK)
            nursery.start_soon(receive)
            await trio.sleep(10)
            if cancel:
                await stream.cancel()
        sent = len(server.bodies)
        await trio.sleep(10)
        assert len(server.bodies) == sent
        (connection,) = connections_of(channel)
        assert connection.idle


async def test_a_stream_of_which_little_was_sent_is_sent_again() -> None:
    server = answering_server()
    async with h2_channel(server) as (channel, _), requests(channel, Cardinality.STREAM_UNARY) as stream:
        for stream_id in (1, 3):
            await stream.send_message(TICK)
            await wait_all_tasks_blocked()
            refuse(server, stream_id, b"")
            await server.flush()
            await wait_all_tasks_blocked()
        await stream.end()
        assert await stream.recv_message() == ANSWER
    assert bodies_of(server) == [message(bytes(TICK)), message(bytes(TICK)) * 2, message(bytes(TICK)) * 2]


async def test_a_stream_of_which_much_was_sent_is_not_kept_and_not_sent_again() -> None:
    large = CallRequest(method_name="x" * 40_000)

    async def call() -> None:
        async with requests(channel, Cardinality.STREAM_UNARY) as stream:
            await stream.send_message(large)
            await stream.send_message(large)
            await server.wait(lambda: len(server.bodies.get(1, b"")) > 80_000)
            refuse(server, 1, b"")
            await server.flush()
            with pytest.raises(CallInterrupted, match="REFUSED_STREAM"):
                await stream.recv_message()
            await stream.send_message(large)

    async with h2_channel(server := hanging_server()) as (channel, _):
        with pytest.raises(CallInterrupted, match="REFUSED_STREAM") as caught:
            await call()
        assert caught.value.unprocessed
    assert len(server.bodies) == 1


async def test_a_crowd_at_a_server_of_grpcios_with_room_for_three() -> None:
    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        time.sleep(0.001)
        return ANSWER

    answers = []
    with ThreadPoolExecutor(8) as executor:
        server = grpc.server(executor, options=[("grpc.max_concurrent_streams", 3)])
        handlers = grpc.method_handlers_generic_handler(SERVICE, {"Call": unary(call)})
        server.add_generic_rpc_handlers((handlers,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            async with Channel("127.0.0.1", port) as channel:
                stub = DynamicSubclassServiceStub(channel)

                async def make() -> None:
                    answers.append(await stub.call(CallRequest(), timeout=20))

                async with trio.open_nursery() as nursery:
                    for _ in range(400):
                        nursery.start_soon(make)
                assert all(connection.idle for connection in connections_of(channel))
        finally:
            server.stop(None).wait()
    assert answers == [ANSWER] * 400
