"""`channel.RoutedChannel`: calls over somebody else's connection, with its tokens, checks and turns."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import grpclib.client
import pytest
import trio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from helpers.channel_routes import FakeRoute, RoutedLine, routed_line
from helpers.channel_scenarios import REQUEST, abandoned, streaming, unary
from helpers.channel_servers import ANSWER, CALL
from helpers.checkpoints import cancel_everywhere, interrupt_every_line, interrupt_everywhere
from helpers.h2_server import RESPONSE, H2Server, message
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.channel import CallInterrupted, Peer, RoutedChannel
from trio_model_runner.errors import ProofFailed
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse
from trio_model_runner.rpc import frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

every_kind = pytest.mark.parametrize("kind", ["memory", "tcp"])
every_cardinality = pytest.mark.parametrize("cardinality", Cardinality)

SENT_AND_ENDED = [(True, True)]


async def make(line: RoutedLine, cardinality: Cardinality) -> None:
    """Make a call with one or two messages and one or three answers."""
    async with line.channel.request(CALL, cardinality, CallRequest, CallResponse) as stream:
        if cardinality.client_streaming:
            await stream.send_message(REQUEST)
        await stream.send_message(REQUEST, end=True)
        assert [await stream.recv_message() for _ in range(3 if cardinality.server_streaming else 1)] == (
            [ANSWER] * (3 if cardinality.server_streaming else 1)
        )
        if cardinality.server_streaming:
            assert await stream.recv_message() is None


def answer(count: int) -> Callable[[H2Server, int, bytes], None]:
    def on_request(server: H2Server, stream_id: int, _: bytes) -> None:
        server.answer(stream_id, message(bytes(ANSWER)) * count)

    return on_request


def serve(line: RoutedLine, on_request: Callable[[H2Server, int, bytes], None]) -> H2Server:
    (server,) = line.servers.all
    server.on_request = on_request
    return server


@every_kind
@every_cardinality
async def test_a_call_has_its_token_is_checked_and_ends_once(kind: str, cardinality: Cardinality) -> None:
    async with routed_line(kind) as line:
        server = serve(line, answer(3 if cardinality.server_streaming else 1))
        for _ in range(2):
            await make(line, cardinality)
        requests = list(server.requests.values())
        assert [headers["x-token"] for headers in requests] == ["0", "1"]
        assert {(headers[":path"], headers[":authority"]) for headers in requests} == {(CALL, "routed")}
        assert [call.path for call in line.route.calls] == [CALL] * 2
        assert line.route.ends == [SENT_AND_ENDED] * 2
        assert [call.checked for call in line.route.calls] == [[False]] * 2
        assert line.connection.idle


async def test_it_is_a_channel_of_grpclibs_that_needs_no_closing() -> None:
    async with routed_line("memory") as line:
        assert isinstance(line.channel, grpclib.client.Channel)
        assert "node" in repr(line.channel)
        async with line.channel:
            await unary(line)  # type: ignore[arg-type]  # a line with a stub is all it needs
        line.channel.close()
        assert line.connection.accepts_calls
        async with line.channel.request(CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse) as stream:
            await stream.send_message(REQUEST)
            assert stream.peer is not None
            assert stream.peer.connection is line.connection
            assert await stream.recv_message() == ANSWER


async def test_without_a_connection_a_call_is_interrupted() -> None:
    channel = RoutedChannel(FakeRoute(), peer=Peer(("node", 1)))
    stream = channel.request(CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse)
    async with stream:
        with pytest.raises(CallInterrupted, match="not connected") as raised:
            await stream.send_message(REQUEST)
    assert (raised.value.unprocessed, raised.value.connection_lost) == (True, True)


@every_cardinality
async def test_an_answer_that_is_refused_never_reaches_the_program(cardinality: Cardinality) -> None:
    def refuse() -> None:
        raise ProofFailed("not it")

    async with routed_line("memory") as line:
        serve(line, answer(3 if cardinality.server_streaming else 1))
        line.route.on_check = refuse
        async with line.channel.request(CALL, cardinality, CallRequest, CallResponse) as stream:
            await stream.send_message(REQUEST, end=True)
            await wait_all_tasks_blocked()
            for _ in range(2):
                with pytest.raises(ProofFailed, match="not it"):
                    await stream.recv_message()
            with pytest.raises(ProofFailed, match="not it"):
                await stream.recv_initial_metadata()
            assert stream.initial_metadata is None
            assert stream.trailing_metadata is None
            await stream.cancel()
        assert line.route.calls[0].checked == [False]
        assert line.route.ends == [SENT_AND_ENDED]
        line.route.on_check = lambda: None
        await make(line, cardinality)


async def test_a_refused_answer_that_goes_on_is_reset() -> None:
    def refuse() -> None:
        raise ProofFailed("not it")

    def begin(server: H2Server, stream_id: int, _: bytes) -> None:
        server.h2.send_headers(stream_id, RESPONSE)
        server.h2.send_data(stream_id, message(bytes(ANSWER)))

    async with routed_line("memory") as line:
        server = serve(line, begin)
        line.route.on_check = refuse
        with pytest.raises(ProofFailed):
            await line.stub.call(REQUEST)
        await server.wait(lambda: server.sent_resets == {1: frames.ErrorCode.CANCEL})
        assert line.route.ends == [[(True, False)]]
        assert line.connection.accepts_calls


@pytest.mark.parametrize("trailers_only", [True, False])
async def test_a_status_is_checked_before_it_is_raised(trailers_only: bool) -> None:
    status = [("grpc-status", "5"), ("grpc-message", "nobody here")]

    def fail(server: H2Server, stream_id: int, _: bytes) -> None:
        if trailers_only:
            server.h2.send_headers(stream_id, [*RESPONSE, *status], end_stream=True)
        else:
            server.h2.send_headers(stream_id, RESPONSE)
            server.h2.send_headers(stream_id, status, end_stream=True)

    async with routed_line("memory") as line:
        serve(line, fail)
        with pytest.raises(GRPCError, match="nobody here") as raised:
            await line.stub.call(REQUEST)
        assert raised.value.status is Status.NOT_FOUND
        assert line.route.calls[0].checked == [trailers_only]
        assert line.route.ends == [SENT_AND_ENDED]


async def test_a_status_that_a_later_message_meets_is_checked_too() -> None:
    def refuse() -> None:
        raise ProofFailed("not it")

    async with routed_line("memory") as line:
        server = serve(line, H2Server.hang)
        line.route.on_check = refuse
        async with line.channel.request(CALL, Cardinality.STREAM_UNARY, CallRequest, CallResponse) as stream:
            await stream.send_message(REQUEST)
            await server.wait(lambda: bool(server.bodies.get(1)))
            server.h2.send_headers(1, [*RESPONSE, ("grpc-status", "5")], end_stream=True)
            await server.flush()
            await wait_all_tasks_blocked()
            with pytest.raises(ProofFailed):
                await stream.send_message(REQUEST)
            await stream.cancel()
        assert line.route.calls[0].checked == [True]


async def test_calls_wait_for_their_turn_within_their_deadline(autojump_clock: MockClock) -> None:
    async with routed_line("memory") as line:
        server = serve(line, H2Server.hang)
        async with trio.open_nursery() as nursery:

            async def first() -> None:
                with pytest.raises(TimeoutError):
                    await line.stub.call(REQUEST, timeout=10)

            nursery.start_soon(first)
            await server.wait(lambda: bool(server.bodies.get(1)))
            begun = trio.current_time()
            with pytest.raises(TimeoutError):
                await line.stub.call(REQUEST, timeout=5)
            assert trio.current_time() - begun == 5
        assert line.route.ends == [[(True, False)]]
        assert line.connection.accepts_calls


async def test_a_request_that_was_not_processed_begins_again() -> None:
    async with routed_line("memory") as line:
        refused: list[int] = []

        def refuse_once(server: H2Server, stream_id: int, body: bytes) -> None:
            if not refused:
                refused.append(stream_id)
                server.h2.reset_stream(stream_id, frames.ErrorCode.REFUSED_STREAM)
            else:
                answer(1)(server, stream_id, body)

        serve(line, refuse_once)
        assert await line.stub.call(REQUEST) == ANSWER
        assert line.route.ends == [[(False, True)], SENT_AND_ENDED]
        assert [call.checked for call in line.route.calls] == [[], [False]]


async def test_what_was_sent_and_who_ended_it_is_told(autojump_clock: MockClock) -> None:
    async with routed_line("memory") as line:
        server = serve(line, lambda server, stream_id, _: server.h2.reset_stream(stream_id, 2))
        with pytest.raises(CallInterrupted, match="INTERNAL_ERROR"):
            await line.stub.call(REQUEST)
        assert line.route.ends.pop() == SENT_AND_ENDED
        line.route.calls.clear()

        server.on_request = H2Server.hang
        server.acknowledging = False
        large = CallRequest(method_name="x" * 100_000)
        with pytest.raises(TimeoutError):
            await line.stub.call(large, timeout=0.1)
        assert line.route.ends == [[(False, False)]]  # of one message, without its end
        line.route.calls.clear()
        await server.acknowledge()

        with trio.move_on_after(0.1):
            async with line.channel.request(
                CALL, Cardinality.STREAM_STREAM, CallRequest, CallResponse
            ) as stream:
                await stream.send_message(REQUEST)
                await stream.recv_message()
        assert line.route.ends == [[(True, False)]]
        line.route.calls.clear()

        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(CallInterrupted, match="enough"):
                    await line.stub.call(REQUEST)

            server.bodies.clear()
            nursery.start_soon(call)
            await server.wait(lambda: bool(server.bodies))
            line.connection.abort("enough")
        assert line.route.ends == [[(True, False)]]


async def test_a_route_that_gives_a_connection_which_takes_no_calls_is_told_of_the_end() -> None:
    class Careless(FakeRoute):
        async def begin(self, path: str) -> Any:
            call = await super().begin(path)
            call.connection.abort("enough")
            return call

    async with routed_line("memory") as line:
        careless = Careless()
        careless.connection = line.connection
        channel = RoutedChannel(careless, peer=Peer(("node", 1)))
        stream = channel.request(CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse)
        async with stream:
            with pytest.raises(CallInterrupted, match="enough"):
                await stream.send_message(REQUEST)
        assert careless.ends == [[(False, False)]]


# Cancellation and KeyboardInterrupt


async def all_in_order(line: RoutedLine, _: bool) -> None:
    """Each call was ended once, the connection has no streams, and the next calls succeed."""
    assert [len(ends) for ends in line.route.ends] == [1] * len(line.route.calls)
    assert line.connection.accepts_calls
    assert line.connection.idle
    await unary(line)  # type: ignore[arg-type]
    await streaming(line)  # type: ignore[arg-type]
    assert [len(ends) for ends in line.route.ends] == [1] * len(line.route.calls)
    assert line.servers.all[0].h2.open_inbound_streams == 0


async def stream_of_requests(line: RoutedLine) -> None:
    """Make a call with several messages and one answer."""
    server = serve(line, answer(1))
    try:
        await make(line, Cardinality.STREAM_UNARY)
    finally:
        server.on_request = line.servers.answer


async def refused(line: RoutedLine) -> None:
    """Make a call that the server refuses twice."""
    refusals = iter((True, True))

    def refuse_twice(server: H2Server, stream_id: int, body: bytes) -> None:
        if next(refusals, False):
            server.h2.reset_stream(stream_id, frames.ErrorCode.REFUSED_STREAM)
        else:
            answer(1)(server, stream_id, body)

    server = serve(line, refuse_twice)
    try:
        await unary(line)  # type: ignore[arg-type]
    finally:
        server.on_request = line.servers.answer


SCENARIOS: dict[str, Callable[[Any], Awaitable[None]]] = {
    "unary": unary,
    "streaming": streaming,
    "abandoned": abandoned,
    "stream of requests": stream_of_requests,
    "refused": refused,
}
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


def line_for(kind: str) -> Any:
    return partial(routed_line, kind)


@every_kind
@every_scenario
async def test_a_call_cancelled_anywhere_is_ended_once_and_leaves_the_connection_usable(
    kind: str, scenario: Callable[[Any], Awaitable[None]]
) -> None:
    assert await cancel_everywhere(line_for(kind), scenario, all_in_order) >= 3


@every_scenario
def test_an_interrupt_anywhere_ends_a_call_once_and_leaves_the_connection_usable(
    scenario: Callable[[Any], Awaitable[None]],
) -> None:
    assert interrupt_everywhere(line_for("memory"), scenario, all_in_order) >= 3
    path = "trio_model_runner/channel"
    assert interrupt_every_line(line_for("memory"), scenario, all_in_order, path=path, stride=5) >= 10
