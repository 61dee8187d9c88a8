"""Deadlines of a channel's calls: what the server is told, and what happens when they pass."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trio
from grpclib.const import Cardinality
from grpclib.const import Status as GrpcStatus
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline
from helpers.channel_servers import (
    ANSWER,
    CALL,
    answering,
    answering_server,
    grpcio_server,
    h2_channel,
    hanging_server,
    in_thread,
    server_that,
    unary,
)
from helpers.h2_server import RESPONSE, H2Server, message, serving
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.channel import Channel
from trio_model_runner.channel.exchange import Exchange
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub
from trio_model_runner.proto.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthStub,
)
from trio_model_runner.rpc.receiver import CallInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable

if TYPE_CHECKING:
    pass


async def test_a_node_that_ignores_the_deadline_times_out_and_the_connection_lives_on():
    release = threading.Event()
    peers = []

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        peers.append(context.peer())
        if request.method_name == "hang":
            release.wait(60)
        return ANSWER

    with grpcio_server(Call=unary(call)) as port:
        try:
            async with Channel("127.0.0.1", port) as channel:
                stub = DynamicSubclassServiceStub(channel)
                assert await stub.call(CallRequest()) == ANSWER
                with pytest.raises(TimeoutError):
                    await stub.call(CallRequest(method_name="hang"), timeout=0.2)
                assert await stub.call(CallRequest()) == ANSWER
        finally:
            release.set()
    assert len(set(peers)) == 1


async def test_the_server_is_told_the_nearest_deadline():
    remaining = []

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        remaining.append(context.time_remaining())
        return ANSWER

    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port) as channel:
            stub = DynamicSubclassServiceStub(channel)
            await stub.call(CallRequest())
            await stub.call(CallRequest(), timeout=1000)
            with trio.fail_after(500):
                await stub.call(CallRequest(), timeout=1000)
                await stub.call(CallRequest())
    assert remaining[0] is None or remaining[0] > 10**6
    assert 500 < remaining[1] <= 1000
    assert 0 < remaining[2] <= 500
    assert 0 < remaining[3] <= 500


async def test_a_deadline_passes_on_trios_clock(autojump_clock):
    server = hanging_server()
    async with h2_channel(server) as (_, stub):
        begun = trio.current_time()
        with pytest.raises(TimeoutError, match="Call: the deadline passed"):
            await stub.call(CallRequest(), timeout=1000)
        assert trio.current_time() == begun + 1000
        await server.wait(lambda: bool(server.sent_resets))
    assert server.sent_resets == {1: 8}


def jumping_after(clock: MockClock, respond: Callable[[H2Server, int, bytes], None]) -> H2Server:
    """A server whose answer has reached the client when the clock jumps, before any other task has run."""

    def respond_and_jump(server: H2Server, stream_id: int, body: bytes) -> None:
        respond(server, stream_id, body)
        deliver = server.stream.send_stream.send_all_hook

        async def deliver_and_jump() -> None:
            await deliver()
            clock.jump(1000)

        server.stream.send_stream.send_all_hook = deliver_and_jump

    return server_that(respond_and_jump)


async def test_an_answer_that_has_come_when_the_deadline_passes_is_delivered(mock_clock):
    async with h2_channel(jumping_after(mock_clock, answering)) as (_, stub):
        assert await stub.call(CallRequest(), timeout=10) == ANSWER
        assert trio.current_time() >= 1000


def say_deadline_exceeded(server: H2Server, stream_id: int, body: bytes) -> None:
    server.h2.send_headers(stream_id, [*RESPONSE, ("grpc-status", "4")], end_stream=True)


def reset(server: H2Server, stream_id: int, body: bytes) -> None:
    server.h2.reset_stream(stream_id, 8)


@pytest.mark.parametrize("respond", [say_deadline_exceeded, reset])
async def test_a_server_that_ends_the_call_at_its_deadline_is_a_timeout_as_well(mock_clock, respond):
    async with h2_channel(jumping_after(mock_clock, respond)) as (_, stub):
        with pytest.raises(TimeoutError, match="the deadline passed"):
            await stub.call(CallRequest(), timeout=10)


@pytest.mark.parametrize("respond", [say_deadline_exceeded, reset])
async def test_a_server_that_ends_the_call_at_a_scopes_deadline_leaves_it_to_the_scope(
    mock_clock, monkeypatch, respond
):
    """The event loop is so busy that the deadline passes between the reading of the answer and its use."""
    take_end = Exchange._ended

    def take_end_late(self: Exchange) -> None:
        take_end(self)
        mock_clock.jump(1000)

    monkeypatch.setattr(Exchange, "_ended", take_end_late)
    async with h2_channel(server_that(respond)) as (_, stub):
        with trio.move_on_after(10) as scope:
            await stub.call(CallRequest())
        assert scope.cancelled_caught


async def say_it_after(server: H2Server, seconds: float) -> None:
    """Say DEADLINE_EXCEEDED so many seconds after the request came."""
    await server.wait(lambda: 1 in server.requests)
    await trio.sleep(seconds)
    server.h2.send_headers(1, [*RESPONSE, ("grpc-status", "4")], end_stream=True)
    await server.flush()


@pytest.mark.parametrize("early", [0.0, 0.001, 0.005, 0.0099])
async def test_a_server_may_say_a_little_early_that_our_deadline_has_passed(autojump_clock, early):
    """The answer is that deadline, when it comes: `TimeoutError`, or the scope's cancellation."""
    for own in (True, False):
        async with h2_channel(server := hanging_server()) as (channel, stub), trio.open_nursery() as nursery:
            await channel.connect()
            nursery.start_soon(say_it_after, server, 1 - early)
            begun = trio.current_time()
            if own:
                with pytest.raises(TimeoutError, match="the deadline passed"):
                    await stub.call(CallRequest(), timeout=1)
            else:
                with trio.move_on_after(1) as scope:
                    await stub.call(CallRequest())
                assert scope.cancelled_caught
            assert trio.current_time() == pytest.approx(begun + 1, abs=1e-9)


@pytest.mark.parametrize("early", [0.02, 0.5])
@pytest.mark.parametrize("own", [True, False])
async def test_a_server_that_says_it_much_earlier_means_a_deadline_of_its_own(autojump_clock, early, own):
    async with h2_channel(server := hanging_server()) as (channel, stub), trio.open_nursery() as nursery:
        await channel.connect()
        nursery.start_soon(say_it_after, server, 1 - early)
        with trio.move_on_after(1000 if own else 1), pytest.raises(GRPCError) as caught:
            await stub.call(CallRequest(), timeout=1 if own else None)
    assert caught.value.status is GrpcStatus.DEADLINE_EXCEEDED


async def test_a_scope_that_does_not_end_the_call_leaves_the_servers_status(autojump_clock):
    """Its deadline was moved while the call waited for it; or the call is shielded from it."""
    async with h2_channel(server := hanging_server()) as (channel, stub), trio.open_nursery() as nursery:
        await channel.connect()
        nursery.start_soon(say_it_after, server, 0.995)
        with trio.move_on_after(1) as scope:

            async def move() -> None:
                await trio.sleep(0.997)
                scope.deadline += 100

            nursery.start_soon(move)
            with pytest.raises(GRPCError) as caught:
                await stub.call(CallRequest())
        assert caught.value.status is GrpcStatus.DEADLINE_EXCEEDED
        assert not scope.cancel_called
    async with h2_channel(server := hanging_server()) as (channel, stub), trio.open_nursery() as nursery:
        await channel.connect()
        nursery.start_soon(say_it_after, server, 0.995)
        with trio.move_on_after(1), trio.CancelScope(shield=True), pytest.raises(GRPCError) as caught:
            await stub.call(CallRequest())
        assert caught.value.status is GrpcStatus.DEADLINE_EXCEEDED


async def receive_initial(stream: Any) -> None:
    await stream.recv_initial_metadata()


async def receive_message(stream: Any) -> None:
    await stream.recv_message()


async def receive_trailing(stream: Any) -> None:
    await stream.recv_initial_metadata()
    assert await stream.recv_message() is None
    await stream.end()
    await stream.recv_trailing_metadata()


async def leave(stream: Any) -> None:
    await trio.lowlevel.checkpoint()


async def send(stream: Any) -> None:
    await trio.sleep(0.997)
    await stream.send_message(CallRequest())


@pytest.mark.parametrize("headers_first", [False, True])
@pytest.mark.parametrize("use", [receive_initial, receive_message, receive_trailing, leave, send])
async def test_it_holds_wherever_a_call_waits(autojump_clock, use, headers_first):
    async def say_it() -> None:
        await server.wait(lambda: 1 in server.requests)
        if headers_first:
            server.h2.send_headers(1, RESPONSE)
        await server.flush()
        await trio.sleep(0.995)
        headers = () if headers_first else RESPONSE
        server.h2.send_headers(1, [*headers, ("grpc-status", "4")], end_stream=True)
        await server.flush()

    async def call(timeout: float | None) -> None:
        async with channel.request(
            CALL, Cardinality.STREAM_UNARY, CallRequest, CallResponse, timeout=timeout
        ) as stream:
            await stream.send_request()
            await use(stream)
            await stream.end()

    for timeout in (1, None):
        async with h2_channel(server := hanging_server()) as (channel, _), trio.open_nursery() as nursery:
            await channel.connect()
            nursery.start_soon(say_it)
            begun = trio.current_time()
            with trio.move_on_after(1000 if timeout else 1) as scope:
                if timeout:
                    with pytest.raises(TimeoutError, match="the deadline passed"):
                        await call(timeout)
                else:
                    await call(timeout)
            assert scope.cancelled_caught == (timeout is None)
            assert trio.current_time() == pytest.approx(begun + 1, abs=1e-9)


async def test_a_deadline_of_the_servers_own_is_a_status():
    async with h2_channel(server_that(say_deadline_exceeded)) as (_, stub):
        with pytest.raises(GRPCError) as caught:
            await stub.call(CallRequest(), timeout=1000)
    assert caught.value.status is GrpcStatus.DEADLINE_EXCEEDED


async def test_a_stream_of_answers_that_goes_on_after_the_deadline_ends_there(autojump_clock):
    async with h2_channel(server := hanging_server()) as (channel, _), trio.open_nursery() as nursery:

        async def chatter() -> None:
            await server.wait(lambda: 1 in server.bodies)
            server.h2.send_headers(1, RESPONSE)
            while True:
                server.h2.send_data(1, message(bytes(HealthCheckResponse())))
                await server.flush()
                await trio.sleep(0.001)

        nursery.start_soon(chatter)
        received = []

        async def watch() -> None:
            async for answer in HealthStub(channel).watch(HealthCheckRequest(), timeout=1):
                received.append(answer)
                await trio.sleep(0.1)

        with pytest.raises(TimeoutError):
            await watch()
        assert 5 <= len(received) <= 11
        nursery.cancel_scope.cancel()


async def test_a_deadline_that_has_passed_sends_nothing(autojump_clock):
    async with h2_channel(server := answering_server()) as (channel, stub):
        await channel.connect()
        with pytest.raises(TimeoutError):
            await stub.call(CallRequest(), timeout=-1)
        await wait_all_tasks_blocked()
        assert not server.bodies


async def test_connecting_counts_against_the_deadline(autojump_clock):
    async def never_speak(stream: trio.abc.Stream) -> None:
        async with stream:
            await trio.sleep_forever()

    async with (
        serving("memory", never_speak) as address,
        Channel(address.host, address.port, network=address.network) as channel,
    ):
        stub = DynamicSubclassServiceStub(channel)
        with pytest.raises(TimeoutError, match="the deadline passed"):
            await stub.call(CallRequest(), timeout=3)
        with pytest.raises(TimeoutError, match="no HTTP/2 SETTINGS within 10 s"):
            await stub.call(CallRequest(), timeout=100)


async def test_grpclibs_deadlines_are_refused():
    async with h2_channel(answering_server()) as (_, stub):
        with pytest.raises(TypeError, match="timeout="):
            await stub.call(CallRequest(), deadline=Deadline.from_timeout(1))
        with pytest.raises(ValueError, match="nan"):
            await stub.call(CallRequest(), timeout=math.nan)


async def test_a_cancelled_call_is_cancelled_on_the_server_and_the_connection_lives_on():
    entered, cancelled, release = threading.Event(), threading.Event(), threading.Event()
    peers = []

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        peers.append(context.peer())
        if request.method_name == "hang":
            context.add_callback(cancelled.set)
            entered.set()
            release.wait(60)
        return ANSWER

    with grpcio_server(Call=unary(call)) as port:
        try:
            async with Channel("127.0.0.1", port) as channel:
                stub = DynamicSubclassServiceStub(channel)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stub.call, CallRequest(method_name="hang"))
                    await in_thread(entered)
                    nursery.cancel_scope.cancel()
                await in_thread(cancelled)
                assert await stub.call(CallRequest()) == ANSWER
        finally:
            release.set()
    assert len(peers) == 2
    assert len(set(peers)) == 1


async def test_cancel_resets_the_stream_and_ends_whoever_waits():
    async with h2_channel(server := hanging_server()) as (channel, _):
        async with (
            channel.request(CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse) as stream,
            trio.open_nursery() as nursery,
        ):
            await stream.send_message(CallRequest())

            async def receive() -> None:
                with pytest.raises(CallInterrupted, match="cancelled"):
                    await stream.recv_message()

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            await stream.cancel()
        await server.wait(lambda: bool(server.sent_resets))
    assert server.sent_resets == {1: 8}
