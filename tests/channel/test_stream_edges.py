"""`channel.stream` and `channel.deadline` where two things meet: a refusal and a second task, for example."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from h2.events import StreamEnded
from helpers.channel_routes import routed_line
from helpers.channel_servers import ANSWER, CALL, answering, h2_channel, hanging_server, server_that
from helpers.h2_server import RESPONSE, TRAILERS, H2Server, frame, h2_server, message
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.channel import CallInterrupted, Channel, RoutedChannel
from trio_model_runner.channel.deadline import CallDeadline
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub
from trio_model_runner.rpc.frames import FrameType

if TYPE_CHECKING:
    from trio_model_runner.rpc.connection import Connection

TICK = CallRequest(method_name="tick")


def request(
    channel: RoutedChannel, cardinality: Cardinality = Cardinality.UNARY_UNARY, **options: Any
) -> Any:
    return channel.request(CALL, cardinality, CallRequest, CallResponse, **options)


def refuse(server: H2Server, stream_id: int, body: bytes) -> None:
    server.h2.reset_stream(stream_id, 7)


def refusing_once() -> H2Server:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        (refuse if stream_id == 1 else answering)(server, stream_id, body)

    return server_that(respond)


# Requests that are sent again


async def test_a_large_request_that_is_refused_is_sent_again_as_it_was(autojump_clock: MockClock) -> None:
    large = CallRequest(method_name="x" * 200_000)
    async with h2_channel(server := refusing_once()) as (channel, _), request(channel) as stream:
        await stream.send_message(large, end=True)
        assert await stream.recv_message() == ANSWER
    assert bytes(server.bodies[3]) == message(bytes(large))


async def test_a_unary_request_is_ended_again_too_where_nobody_said_that_it_ends(
    autojump_clock: MockClock,
) -> None:
    async with h2_channel(refusing_once()) as (channel, _), request(channel) as stream:
        await stream.send_message(TICK)
        with trio.fail_after(10):
            assert await stream.recv_message() == ANSWER


async def test_two_tasks_that_learn_of_a_refusal_send_the_request_again_once(mock_clock: MockClock) -> None:
    received = []

    async def receive() -> None:
        received.extend([answer async for answer in stream])

    server = server_that(lambda server, stream_id, body: answering(server, stream_id, body))
    async with (
        h2_channel(server) as (channel, _),
        request(channel, Cardinality.STREAM_STREAM) as stream,
        trio.open_nursery() as nursery,
    ):
        await stream.send_message(TICK)
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        refuse(server, 1, b"")
        await server.flush()
        await wait_all_tasks_blocked()  # the one that receives waits before it sends it again
        nursery.start_soon(stream.send_message, TICK)
        await wait_all_tasks_blocked()
        mock_clock.jump(1)
        await wait_all_tasks_blocked()
        await stream.end()
        await wait_all_tasks_blocked()
    assert received == [ANSWER]
    assert [bytes(body) for body in server.bodies.values()] == [
        message(bytes(TICK)),
        message(bytes(TICK)) * 2,
    ]


# Answers


async def test_a_page_brings_no_metadata() -> None:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, [(":status", "404"), ("server", "nginx")], end_stream=True)

    async with h2_channel(server_that(respond)) as (channel, _):
        stream = request(channel)
        await stream.send_message(TICK, end=True)
        with pytest.raises(GRPCError) as caught:
            await stream.recv_message()
        await stream.cancel()
        assert caught.value.status is Status.UNIMPLEMENTED
        assert (stream.initial_metadata, stream.trailing_metadata) == (None, None)


async def test_without_a_grpc_status_an_http_status_says_how_a_call_went() -> None:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, [(":status", "503"), *RESPONSE[1:]])
        server.h2.send_headers(stream_id, [("a", "b")], end_stream=True)

    async with h2_channel(server_that(respond)) as (_, stub):
        with pytest.raises(GRPCError) as caught:
            await stub.call(TICK)
    assert caught.value.status is Status.UNAVAILABLE


async def test_a_stream_of_no_answers_may_be_a_status_alone() -> None:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, [*RESPONSE, ("grpc-status", "0"), ("a", "b")], end_stream=True)

    async with (
        h2_channel(server_that(respond)) as (channel, _),
        request(channel, Cardinality.UNARY_STREAM) as stream,
    ):
        await stream.send_message(TICK, end=True)
        await stream.recv_initial_metadata()
        assert stream.initial_metadata == {}
        assert stream.trailing_metadata == {"a": "b"}
        assert await stream.recv_message() is None
        await stream.recv_trailing_metadata()  # which is there already


async def test_a_call_that_was_cancelled_says_so_after_its_deadline_too(autojump_clock: MockClock) -> None:
    async with h2_channel(hanging_server()) as (channel, _), request(channel, timeout=5) as stream:
        await stream.send_message(TICK, end=True)
        await stream.cancel()
        await trio.sleep(10)
        with pytest.raises(CallInterrupted, match="the call was cancelled"):
            await stream.recv_message()


async def test_pieces_of_a_message_that_never_becomes_whole_are_paid_for() -> None:
    async with h2_channel(server := hanging_server()) as (channel, _):
        connection = await channel.connect()
        async with request(channel, Cardinality.UNARY_STREAM) as stream:
            await stream.send_message(TICK, end=True)
            await server.wait(lambda: 1 in server.bodies)
            server.h2.send_headers(1, RESPONSE)
            server.h2.send_data(1, message(bytes(ANSWER)) + b"\0\0\x10\0\0")
            await server.flush()
            assert await stream.recv_message() == ANSWER
            for _ in range(5000):  # each in a read of its own
                connection.take_in(frame(FrameType.DATA, 0, 1, b"x"))
            with pytest.raises(CallInterrupted, match="too much for nothing"):
                await stream.recv_message()
        assert connection.lost


async def test_a_server_with_one_answer_to_give_may_not_send_more_after_a_reset_than_one_that_gave_none() -> (
    None
):
    async with h2_channel(server := hanging_server()) as (channel, _):
        connection: Connection = await channel.connect()
        async with request(channel) as stream:
            await stream.send_message(TICK, end=True)
            await server.wait(lambda: 1 in server.bodies)
            server.h2.send_headers(1, RESPONSE)
            server.h2.send_data(1, message(bytes(ANSWER)))
            await server.flush()
            assert await stream.recv_message() == ANSWER
            await stream.cancel()
        await server.wait(lambda: 1 in server.sent_resets)
        await server.flush(frame(FrameType.DATA, 0, 1, b"x") * 4000)
        await connection.watch()
        assert "too much for nothing" in str(connection.loss)


# Routes


async def test_a_route_is_told_of_a_call_that_finds_its_connection_retired() -> None:
    async with routed_line("memory") as line:
        begin = line.route.begin

        async def begin_and_retire(path: str) -> Any:
            call = await begin(path)
            line.connection.retire("enough")
            return call

        line.route.begin = begin_and_retire  # type: ignore[method-assign]
        stream = request(line.channel)
        async with stream:
            with pytest.raises(CallInterrupted, match="enough"):
                await stream.send_message(TICK, end=True)
        assert line.route.ends == [[(False, False)]]


async def test_a_route_sees_an_answer_that_ends_a_stream_of_requests_before_its_error_is_raised() -> None:
    async with routed_line("memory") as line:
        (server,) = line.servers.all
        stream = request(line.channel, Cardinality.STREAM_UNARY)
        await stream.send_message(TICK)
        await server.wait(lambda: 1 in server.bodies)
        fields = [*RESPONSE, ("grpc-status", "8"), ("grpc-message", "enough")]
        server.h2.send_headers(1, fields, end_stream=True)
        await server.flush()
        await wait_all_tasks_blocked()
        with pytest.raises(GRPCError, match="enough"):
            await stream.send_message(TICK)
        await stream.cancel()
        assert line.route.calls[0].checked == [True]


async def test_a_route_sees_an_answer_once() -> None:
    async with routed_line("memory") as line:
        (server,) = line.servers.all
        stream = request(line.channel, Cardinality.STREAM_STREAM)
        await stream.send_message(TICK)
        await server.wait(lambda: 1 in server.bodies)
        server.h2.send_headers(1, RESPONSE)
        server.h2.send_data(1, message(bytes(ANSWER)))
        await server.flush()
        assert await stream.recv_message() == ANSWER
        server.h2.send_headers(1, [("grpc-status", "8"), ("grpc-message", "enough")], end_stream=True)
        await server.flush()
        await wait_all_tasks_blocked()
        with pytest.raises(GRPCError, match="enough"):
            await stream.send_message(TICK)
        await stream.cancel()
        assert line.route.calls[0].checked == [False]


def test_a_call_may_be_forgotten_when_trio_has_ended() -> None:
    forgotten: list[Any] = []

    async def leave_open() -> None:
        async with routed_line("memory") as line:
            stream = request(line.channel)
            await stream.send_message(TICK, end=True)
            forgotten.append(stream)

    trio.run(leave_open)
    forgotten.clear()


# Deadlines


async def test_a_deadline_names_its_method_and_what_went_wrong(autojump_clock: MockClock) -> None:
    deadline, error = CallDeadline(trio.current_time() + 5, CALL), ValueError("mine")
    with (
        pytest.raises(TimeoutError, match=f"^{CALL}: the deadline passed$") as caught,
        deadline.limiting(error),
    ):
        await trio.sleep_forever()
    assert caught.value.__cause__ is error
    with pytest.raises(TimeoutError) as caught:
        await deadline.meet(error)
    assert caught.value.__cause__ is error


async def test_what_ends_in_spite_of_its_deadline_has_ended(autojump_clock: MockClock) -> None:
    with CallDeadline(trio.current_time() + 5, CALL).limiting(), trio.CancelScope(shield=True):
        await trio.sleep(10)


async def test_a_deadline_is_met_when_it_is_there_or_as_much_earlier_as_may_be(
    autojump_clock: MockClock,
) -> None:
    deadline, begun = CallDeadline(trio.current_time() + 5, CALL), trio.current_time()
    await deadline.meet(ValueError(), early=4.9)
    assert trio.current_time() == begun
    with pytest.raises(TimeoutError):
        await deadline.meet(ValueError(), early=5)
    assert trio.current_time() == begun + 5
    await CallDeadline(math.inf, CALL).meet(ValueError(), early=1e9)


async def test_the_deadline_of_a_scope_is_the_scopes(autojump_clock: MockClock) -> None:
    deadline = CallDeadline(trio.current_time() + 10, CALL)
    with trio.move_on_after(5) as scope:
        assert deadline.nearest == trio.current_time() + 5
        await deadline.meet(ValueError(), early=5)
    assert scope.cancelled_caught


async def test_an_answer_that_the_kernel_holds_at_the_deadline_is_in_time(mock_clock: MockClock) -> None:
    """In one step of Trio's the deadline and the reader have their turns in any order, so there are many."""
    server, answers, ended = h2_server(), [], set[int]()

    async def call() -> None:
        answers.append(await DynamicSubclassServiceStub(channel).call(TICK, timeout=10))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with Channel(*listening.getsockname()) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(channel.connect)
            with (await trio.to_thread.run_sync(listening.accept))[0] as peer:
                peer.settimeout(10)
                peer.sendall(server.data_to_send())
                await wait_all_tasks_blocked()
                for stream_id in range(1, 61, 2):
                    nursery.start_soon(call)
                    await wait_all_tasks_blocked()
                    while stream_id not in ended:
                        received = server.receive_data(peer.recv(1 << 16))
                        ended |= {each.stream_id for each in received if isinstance(each, StreamEnded)}
                    server.send_headers(stream_id, RESPONSE)
                    server.send_data(stream_id, message(bytes(ANSWER)))
                    server.send_headers(stream_id, TRAILERS, end_stream=True)
                    peer.sendall(server.data_to_send())
                    mock_clock.jump(10)
                    await wait_all_tasks_blocked()
                channel.close()
    assert answers == [ANSWER] * 30


async def test_a_stream_of_requests_may_be_left_open_where_its_answer_has_come_to_its_end() -> None:
    async with (
        h2_channel(server := hanging_server()) as (channel, _),
        request(channel, Cardinality.STREAM_UNARY) as stream,
    ):
        await stream.send_message(TICK)
        await server.wait(lambda: 1 in server.bodies)
        server.answer(1, message(bytes(ANSWER)))
        await server.flush()
        assert await stream.recv_message() == ANSWER
        await wait_all_tasks_blocked()
        await stream.recv_trailing_metadata()
