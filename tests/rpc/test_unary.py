"""`rpc.call.UnaryCall` against a real gRPC server, and against what no decent server would do."""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from helpers.h2_server import RESPONSE, TRAILERS, H2Server, connected, message
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.network import TCPNetwork
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.rpc.protocol import request_fields
from trio_model_runner.rpc.receiver import CallInterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

MAX = 64 << 20
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


class Node(grpc.GenericRpcHandler):
    """Methods for every kind of answer.

    Attributes:
        metadata: what came with each call, by method.
        remaining: the seconds that each call was told it has, by method.
        started: set when `hang` was called.
        cancelled: set when a call of `hang` was cancelled.
    """

    def __init__(self) -> None:
        self.metadata: dict[str, dict[str, Any]] = {}
        self.remaining: dict[str, float] = defaultdict(float)
        self.started = threading.Event()
        self.cancelled = threading.Event()

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        self.metadata[name] = dict(details.invocation_metadata)
        handler = getattr(self, name, None)
        if handler is None:
            return None
        if name.startswith("stream"):
            return grpc.unary_stream_rpc_method_handler(handler)
        return grpc.unary_unary_rpc_method_handler(handler)

    def echo(self, request: bytes, context: Any) -> bytes:
        self.remaining["echo"] = context.time_remaining()
        context.send_initial_metadata([("x-first", "1"), ("x-second", "2")])
        return request

    def size(self, request: bytes, context: Any) -> bytes:
        return bytes(int(request))

    def length(self, request: bytes, context: Any) -> bytes:
        return b"%d" % len(request)

    def fail(self, request: bytes, context: Any) -> bytes:
        context.abort(CODES[request[0]], "Wärum nicht? 100%")
        raise AssertionError

    def fail_late(self, request: bytes, context: Any) -> bytes:
        context.send_initial_metadata([("x-first", "1")])
        context.abort(grpc.StatusCode.INTERNAL, "too late")
        raise AssertionError

    def hang(self, request: bytes, context: Any) -> bytes:
        context.add_callback(self.cancelled.set)
        self.started.set()
        self.cancelled.wait(30)
        return b""

    def stream_none(self, request: bytes, context: Any) -> Iterator[bytes]:
        return iter(())

    def stream_two(self, request: bytes, context: Any) -> Iterator[bytes]:
        yield request
        yield request


@pytest.fixture(scope="module")
def node() -> Iterator[tuple[Node, int]]:
    handlers = Node()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handlers], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield handlers, port
    server.stop(0).wait()


def unary(
    connection: Connection, method: str, *buffers: bytes, max_message_bytes: int = MAX, **more: Any
) -> UnaryCall:
    fields = request_fields(f"/test.Node/{method}", scheme="http", authority="node")
    return UnaryCall(connection, fields, buffers, max_message_bytes=max_message_bytes, **more)


@asynccontextmanager
async def connection_to(port: int) -> AsyncIterator[Connection]:
    async with trio.open_nursery() as nursery:
        connection = await open_connection(nursery, TCPNetwork(), "127.0.0.1", port)
        try:
            yield connection
        finally:
            assert connection.idle
            await connection.aclose()


async def failure(call: UnaryCall) -> tuple[Status, str | None]:
    with pytest.raises(GRPCError) as raised:
        await call.perform(60)
    assert call.ended_at is not None
    return raised.value.status, raised.value.message


async def test_a_call_brings_back_message_and_metadata(node: tuple[Node, int]) -> None:
    handlers, port = node
    async with connection_to(port) as connection:
        call = unary(connection, "echo", b"hel", b"", b"lo", volatile=((b"x-token", b"secret"),))
        assert (call.sent, call.ended_at) == (False, None)
        before = trio.current_time()
        answer = await call.perform(1000)
        assert call.ended_at is not None
        assert before <= call.ended_at <= trio.current_time()
        assert call.sent
    assert answer.message == b"hello"
    assert dict(answer.metadata).items() >= {"x-first": "1", "x-second": "2"}.items()
    assert handlers.metadata["echo"]["x-token"] == "secret"
    assert 900 < handlers.remaining["echo"] <= 1000


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_384, 65_535, 1_000_000, 8 << 20])
async def test_messages_of_any_size_go_both_ways(node: tuple[Node, int], size: int) -> None:
    async with connection_to(node[1]) as connection:
        body = (bytes(range(256)) * (size // 256 + 1))[:size]
        assert (await unary(connection, "echo", body).perform(60)).message == body


async def test_many_calls_at_once_get_each_their_own_answer(node: tuple[Node, int]) -> None:
    answers: dict[int, bytes] = {}

    async def one(connection: Connection, number: int) -> None:
        size = number * 4001
        answers[number] = (await unary(connection, "size", b"%d" % size).perform(60)).message

    async with connection_to(node[1]) as connection, trio.open_nursery() as nursery:
        for number in range(150):  # more than the server's threads
            nursery.start_soon(one, connection, number)
    assert {number: len(answer) for number, answer in answers.items()} == {n: n * 4001 for n in range(150)}


@pytest.mark.parametrize("index", range(len(CODES)), ids=[code.name for code in CODES])
async def test_a_status_is_raised(node: tuple[Node, int], index: int) -> None:
    async with connection_to(node[1]) as connection:
        status = Status(CODES[index].value[0])
        assert await failure(unary(connection, "fail", bytes((index,)))) == (status, "Wärum nicht? 100%")


async def test_a_status_after_the_headers_and_one_without_handler(node: tuple[Node, int]) -> None:
    async with connection_to(node[1]) as connection:
        assert await failure(unary(connection, "fail_late")) == (Status.INTERNAL, "too late")
        status, _ = await failure(unary(connection, "no_such_method", bytes(1 << 20)))
        assert status is Status.UNIMPLEMENTED
        assert (await unary(connection, "length", b"abc").perform(60)).message == b"3"


async def test_an_answer_over_the_limit_is_refused_and_the_connection_goes_on(node: tuple[Node, int]) -> None:
    async with connection_to(node[1]) as connection:
        at_limit = unary(connection, "size", b"1000000", max_message_bytes=1_000_000)
        assert len((await at_limit.perform(60)).message) == 1_000_000
        over = unary(connection, "size", b"8000000", max_message_bytes=1_000_000)
        text = "the answer has 8000000 bytes, more than max_message_bytes, 1000000"
        assert await failure(over) == (Status.RESOURCE_EXHAUSTED, text)
        assert over._cutter.gathered == 0
        assert (await unary(connection, "length", b"abc").perform(60)).message == b"3"


async def test_an_answer_must_be_exactly_one_message(node: tuple[Node, int]) -> None:
    async with connection_to(node[1]) as connection:
        for method, body in [("stream_none", b""), ("stream_two", b"a"), ("stream_two", bytes(70_000))]:
            status, text = await failure(unary(connection, method, body))
            assert status is Status.INTERNAL
            assert "one message" in (text or "")
        assert (await unary(connection, "length", b"abc").perform(60)).message == b"3"


async def test_a_cancelled_call_is_cancelled_on_the_server(node: tuple[Node, int]) -> None:
    handlers, port = node
    async with connection_to(port) as connection:
        call = unary(connection, "hang")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.perform, 60)
            assert await trio.to_thread.run_sync(handlers.started.wait, 30)
            nursery.cancel_scope.cancel()
        assert await trio.to_thread.run_sync(handlers.cancelled.wait, 30)
        assert (call.sent, call.ended_at) == (True, None)
        assert (await unary(connection, "length", b"abc").perform(60)).message == b"3"


async def test_a_call_in_a_cancelled_scope_is_never_sent(node: tuple[Node, int]) -> None:
    handlers, port = node
    async with connection_to(port) as connection:
        handlers.metadata.clear()
        with trio.CancelScope() as scope:
            scope.cancel()
            call = unary(connection, "echo")
            await call.perform(60)
        assert scope.cancelled_caught
        assert not call.sent
        await unary(connection, "length").perform(60)
        assert handlers.metadata.keys() == {"length"}


# What only a strange server does


def respond(*parts: bytes, trailers: Sequence[tuple[str, str]] | None = TRAILERS) -> Callable[..., None]:
    """What sends these DATA frames, and these trailers if any."""

    def on_request(server: H2Server, stream_id: int, _: bytes) -> None:
        server.h2.send_headers(stream_id, RESPONSE)
        for part in parts:
            server.h2.send_data(stream_id, part)
        if trailers is None:
            server.h2.end_stream(stream_id)
        else:
            server.h2.send_headers(stream_id, trailers, end_stream=True)

    return on_request


STRANGE = {
    "compressed": (respond(b"\x01" + message(b"abc")[1:]), "compressed"),
    "a message and a half": (respond(message(b"abc"), message(b"def")[:4]), "more than one message"),
    "two messages at once": (respond(message(b"abc") * 2), "not exactly one message"),
    "a piece of a prefix": (respond(b"\x00\x00"), "not exactly one message"),
    "a piece of a message": (respond(message(b"abc")[:-1]), "not exactly one message"),
    "nothing at all": (respond(), "not exactly one message"),
    "no trailers": (respond(message(b"abc"), trailers=None), "no grpc-status"),
    "no status": (respond(message(b"abc"), trailers=[("x", "y")]), "no grpc-status"),
}


@pytest.mark.parametrize(("on_request", "text"), STRANGE.values(), ids=STRANGE)
async def test_a_strange_answer_is_an_error_and_the_connection_goes_on(on_request: Any, text: str) -> None:
    async with connected("memory") as (connection, server):
        server.on_request = on_request
        status, found = await failure(unary(connection, "echo"))
        assert status in (Status.INTERNAL, Status.UNKNOWN)
        assert text in (found or "")
        server.on_request = H2Server.echo
        assert (await unary(connection, "echo", b"abc").perform(60)).message == b"abc"


def refuse(*, trailers_only: bool) -> Callable[..., None]:
    status = [("grpc-status", "8"), ("grpc-message", "Server busy")]

    def on_request(server: H2Server, stream_id: int, _: bytes) -> None:
        if not trailers_only:
            server.h2.send_headers(stream_id, RESPONSE)
        server.h2.send_headers(stream_id, [*RESPONSE, *status] if trailers_only else status, end_stream=True)

    return on_request


@pytest.mark.parametrize("trailers_only", [True, False])
async def test_a_status_alone_is_told_from_one_after_headers(trailers_only: bool) -> None:
    async with connected("memory") as (connection, server):
        server.on_request = refuse(trailers_only=trailers_only)
        call = unary(connection, "echo")
        assert await failure(call) == (Status.RESOURCE_EXHAUSTED, "Server busy")
        assert call.trailers_only is trailers_only


async def test_an_answer_may_come_in_any_pieces_and_empty_ones_cost_nothing() -> None:
    async with connected("memory") as (connection, server):
        whole = message(bytes(range(100)))
        server.on_request = respond(*([b""] * 1000), *(whole[i : i + 1] for i in range(len(whole))), b"")
        call = unary(connection, "echo")
        assert (await call.perform(60)).message == bytes(range(100))
        assert sys.getsizeof(call._cutter._gathered) < 1000


async def test_a_message_may_be_memory_that_is_not_copied() -> None:
    async with connected("memory") as (connection, _):
        body = memoryview(bytes(range(256)) * 1000)[100:]
        fields = request_fields("/test.Node/echo", scheme="http", authority="node")
        call = UnaryCall(connection, fields, [body, b"end"], max_message_bytes=MAX)
        assert (await call.perform(60)).message == bytes(body) + b"end"


async def test_a_request_is_sent_only_when_all_of_it_is_out() -> None:
    async with connected("tcp", H2Server(acknowledging=False)) as (connection, server):
        call = unary(connection, "echo", bytes(100_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.perform, 60)
            await server.wait(lambda: len(server.bodies.get(1, b"")) == 65_535)
            assert not call.sent
            await server.acknowledge()
        assert call.sent


async def test_an_answer_before_the_request_is_sent_ends_the_call() -> None:
    async with connected("memory", H2Server(acknowledging=False)) as (connection, server):
        call = unary(connection, "echo", bytes(100_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failure, call)
            await server.wait(lambda: bool(server.bodies.get(1)))
            server.h2.send_headers(1, [*RESPONSE, ("grpc-status", "8")], end_stream=True)
            await server.flush()
        await server.wait(lambda: server.sent_resets == {1: 0})
        assert not call.sent
        assert connection.idle


async def test_a_reset_call_is_interrupted_and_a_refused_one_was_not_processed() -> None:
    async with connected("memory") as (connection, server):
        for code, unprocessed in [(7, True), (2, False)]:
            server.on_request = lambda server, stream_id, _, code=code: server.h2.reset_stream(
                stream_id, code
            )
            call = unary(connection, "echo")
            with pytest.raises(CallInterrupted) as raised:
                await call.perform(60)
            assert (raised.value.unprocessed, raised.value.connection_lost) == (unprocessed, False)
            assert call.ended_at is not None


async def test_the_end_is_timed_when_the_answer_comes(autojump_clock: MockClock) -> None:
    async with connected("memory") as (connection, server):
        server.on_request = H2Server.hang
        call, start = unary(connection, "echo"), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.perform, 60)
            await server.wait(lambda: bool(server.bodies))
            await trio.sleep(7)
            server.answer(1, message(b""))
            await server.flush()
            await wait_all_tasks_blocked()
            await trio.sleep(3)
        assert call.ended_at == start + 7


async def test_an_answer_that_came_just_before_the_cancellation_is_not_lost() -> None:
    async with connected("memory") as (connection, server):
        server.on_request = H2Server.hang
        call, answers = unary(connection, "echo"), []

        async def perform() -> None:
            answers.append(await call.perform(60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(perform)
            await server.wait(lambda: bool(server.bodies))
            call.headers_received(RESPONSE, end_stream=False)
            call.data_received(message(b"abc"), 8, end_stream=False)
            call.headers_received(TRAILERS, end_stream=True)
            nursery.cancel_scope.cancel()
        assert [answer.message for answer in answers] == [b"abc"]


async def test_the_first_reason_to_refuse_an_answer_stays() -> None:
    async with connected("memory") as (connection, _):
        call = unary(connection, "echo")
        call.begin(60, lambda _: None, None)
        for reason in ("first", "second"):
            call.refuse(GRPCError(Status.INTERNAL, reason))
        with pytest.raises(GRPCError, match="first"):
            call.answer()
