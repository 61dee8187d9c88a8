from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import grpclib.client
import pytest
import trio
from grpclib.const import Cardinality
from grpclib.const import Status as GrpcStatus
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.events import (
    RecvInitialMetadata,
    RecvMessage,
    RecvTrailingMetadata,
    SendMessage,
    SendRequest,
    listen,
)
from grpclib.exceptions import GRPCError, ProtocolError
from grpclib.metadata import Deadline
from h2_server import RESPONSE, TRAILERS, Address, H2Server, frame, message, serving
from trio.testing import wait_all_tasks_blocked

from trio_model_runner.proto import InferRequest as FirstInferRequest
from trio_model_runner.proto import InferResponse as FirstInferResponse
from trio_model_runner.proto.commons import Status, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub
from trio_model_runner.proto.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
    HealthStub,
)
from trio_model_runner.rpc import Channel
from trio_model_runner.rpc.connection import CallInterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from trio_model_runner.rpc.connection import Connection

SERVICE = "dynamic_subclass.DynamicSubclassService"
CALL = f"/{SERVICE}/Call"
ANSWER = CallResponse(
    status=Status(code="SUCCESS", message="fine"),
    method_response=Variant(type=VariantType.JSON, value=b'{"a": 1}'),
)
NOT_OK = [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK]

Behaviour = "Callable[[Any, grpc.ServicerContext], Any]"


def unary(behaviour: Behaviour) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        behaviour, request_deserializer=CallRequest.FromString, response_serializer=bytes
    )


@contextmanager
def grpcio_server(service: str = SERVICE, **handlers: grpc.RpcMethodHandler) -> Iterator[int]:
    """A server of grpcio's with threads; its port."""
    with ThreadPoolExecutor(8) as executor:
        server = grpc.server(executor)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


@contextmanager
def grpcio_aio_server(service: str = SERVICE, **handlers: grpc.RpcMethodHandler) -> Iterator[int]:
    """An asyncio server of grpcio's, on a loop in a thread of its own; its port."""
    ports: list[int] = []
    started = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        started.set()
        await stop.wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    try:
        yield ports[0]
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@asynccontextmanager
async def h2_channel(
    *servers: H2Server, kind: str = "memory", **options: Any
) -> AsyncIterator[tuple[Channel, DynamicSubclassServiceStub]]:
    """A channel to these servers of h2's, of which each serves one connection, in this order."""
    waiting = list(servers)

    async def serve(stream: trio.abc.Stream) -> None:
        await waiting.pop(0)(stream)

    async with (
        serving(kind, serve) as address,
        Channel(address.host, address.port, network=address.network, **options) as channel,
    ):
        yield channel, DynamicSubclassServiceStub(channel)


def answering(server: H2Server, stream_id: int, body: bytes) -> None:
    server.answer(stream_id, message(bytes(ANSWER)))


def answering_server() -> H2Server:
    return server_that(answering)


def server_that(on_request: Callable[[H2Server, int, bytes], None]) -> H2Server:
    server = H2Server()
    server.on_request = on_request
    return server


def hanging_server() -> H2Server:
    return server_that(H2Server.hang)


async def in_thread(event: threading.Event) -> None:
    assert await trio.to_thread.run_sync(event.wait, 30)


# Unary calls


async def test_a_stub_calls_a_threaded_server():
    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        return CallResponse(status=Status(code="SUCCESS", message=request.method_name))

    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port) as channel:
            stub = DynamicSubclassServiceStub(channel)
            response = await stub.call(CallRequest(method_name="predict"), timeout=30)
    assert response == CallResponse(status=Status(code="SUCCESS", message="predict"))


async def test_a_stub_calls_an_asyncio_server():
    async def call(request: CallRequest, context: grpc.aio.ServicerContext) -> CallResponse:
        await asyncio.sleep(0)
        return CallResponse(status=Status(code="SUCCESS", message=request.method_name))

    with grpcio_aio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port) as channel:
            stub = DynamicSubclassServiceStub(channel)
            response = await stub.call(CallRequest(method_name="predict"), timeout=30)
    assert response == CallResponse(status=Status(code="SUCCESS", message="predict"))


async def test_many_calls_at_once_share_one_connection():
    peers = set()

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        peers.add(context.peer())
        return CallResponse(status=Status(message=request.method_name))

    answers = {}

    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port) as channel, trio.open_nursery() as nursery:
            stub = DynamicSubclassServiceStub(channel)

            async def make(name: str) -> None:
                answers[name] = (await stub.call(CallRequest(method_name=name))).status.message

            for number in range(50):
                nursery.start_soon(make, str(number))
    assert answers == {str(number): str(number) for number in range(50)}
    assert len(peers) == 1


async def test_a_large_message_goes_both_ways():
    value = bytes(5 << 20)

    def call(request: CallRequest, context: grpc.ServicerContext) -> bytes:
        return bytes(CallResponse(method_response=Variant(value=value)))

    options = {"timeout": 60}
    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port, max_message_bytes=6 << 20) as channel:
            stub = DynamicSubclassServiceStub(channel)
            response = await stub.call(CallRequest(method_name="x" * (3 << 20)), **options)
    assert response.method_response.value == value


async def test_metadata_goes_both_ways():
    received = []

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        received.extend(context.invocation_metadata())
        context.send_initial_metadata((("who", "node"), ("key-bin", b"\x00\xff")))
        context.set_trailing_metadata((("took", "long"), ("sum-bin", b"\x01\x02\x03")))
        return ANSWER

    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port) as channel:
            metadata = {"token": "secret", "blob-bin": b"\xfe\x00\x01"}
            async with channel.request(
                CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse, metadata=metadata
            ) as stream:
                assert stream.initial_metadata is None
                await stream.send_message(CallRequest(), end=True)
                assert await stream.recv_message() == ANSWER
                assert stream.peer.addr() == ("127.0.0.1", port)
            assert dict(stream.initial_metadata) == {"who": "node", "key-bin": b"\x00\xff"}
            assert stream.trailing_metadata["took"] == "long"
            assert stream.trailing_metadata["sum-bin"] == b"\x01\x02\x03"
    assert ("token", "secret") in received
    assert ("blob-bin", b"\xfe\x00\x01") in received


@pytest.mark.parametrize("status", NOT_OK, ids=lambda status: status.name)
async def test_every_status_is_a_grpc_error(status):
    text = "na\u00efve: 100% wrong\n\u2192 \U0001f600"

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        context.abort(status, text)

    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port) as channel:
            with pytest.raises(GRPCError) as caught:
                await DynamicSubclassServiceStub(channel).call(CallRequest())
    assert caught.value.status is GrpcStatus(status.value[0])
    assert caught.value.message == text


async def test_an_unknown_method_is_unimplemented():
    with grpcio_server() as port:
        async with Channel("127.0.0.1", port) as channel:
            with pytest.raises(GRPCError) as caught:
                await DynamicSubclassServiceStub(channel).call(CallRequest())
    assert caught.value.status is GrpcStatus.UNIMPLEMENTED


async def test_details_of_a_status_are_decoded_where_a_codec_is_given():
    class Details(StatusDetailsCodecBase):
        def encode(self, status: Any, message: Any, details: Any) -> bytes:
            raise NotImplementedError

        def decode(self, status: GrpcStatus, message: str | None, data: bytes) -> Any:
            return [status, message, data]

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x05"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "gone")

    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port, status_details_codec=Details()) as channel:
            with pytest.raises(GRPCError) as caught:
                await DynamicSubclassServiceStub(channel).call(CallRequest())
    assert caught.value.details == [GrpcStatus.NOT_FOUND, "gone", b"\x08\x05"]


async def test_an_answer_over_the_limit_is_refused_before_it_has_come():
    def begin(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, RESPONSE)
        server.h2.send_data(stream_id, message(bytes(11))[:6])

    server = server_that(begin)
    async with h2_channel(server, max_message_bytes=10) as (_, stub):
        with pytest.raises(GRPCError, match="more than 10") as caught:
            await stub.call(CallRequest())
        await server.wait(lambda: bool(server.sent_resets))
    assert caught.value.status is GrpcStatus.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no message"),
        (message(b"")[:3], "middle of a message"),
        (message(bytes(ANSWER))[:-1], "middle of a message"),
        (message(bytes(ANSWER)) * 2, "more than one message"),
        (b"\x01" + message(bytes(ANSWER))[1:], "compressed"),
        (message(b"\x0a\x05abc"), "can't be read"),
        (message(b"\x0b"), "can't be read"),
    ],
)
async def test_an_answer_that_is_not_one_message_is_a_grpc_error(body, reason):
    server = server_that(lambda server, stream_id, _: server.answer(stream_id, body))
    async with h2_channel(server) as (_, stub):
        with pytest.raises(GRPCError, match=reason) as caught:
            await stub.call(CallRequest())
    assert caught.value.status is GrpcStatus.INTERNAL


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ([(":status", "503")], GrpcStatus.UNAVAILABLE, "503"),
        ([(":status", "200"), ("content-type", "text/html")], GrpcStatus.UNKNOWN, "text/html"),
        ([*RESPONSE], GrpcStatus.UNKNOWN, "no grpc-status"),
        ([*RESPONSE, ("x-bin", "a"), *TRAILERS], GrpcStatus.INTERNAL, "metadata can't be read"),
        ([*RESPONSE, *TRAILERS], GrpcStatus.INTERNAL, "no message"),
        ([*RESPONSE, ("grpc-status", "99")], GrpcStatus.UNKNOWN, "99"),
    ],
)
async def test_headers_that_are_not_an_answers_are_a_grpc_error(headers, status, reason):
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, headers, end_stream=True)

    async with h2_channel(server_that(respond)) as (_, stub):
        with pytest.raises(GRPCError, match=reason) as caught:
            await stub.call(CallRequest())
    assert caught.value.status is status


# Deadlines


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
    assert len(peers) == 3
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


async def test_an_answer_that_has_come_when_the_deadline_passes_is_delivered(mock_clock):
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        answering(server, stream_id, body)
        deliver = server.stream.send_stream.send_all_hook

        async def deliver_and_jump() -> None:
            await deliver()
            mock_clock.jump(1000)  # before any other task has run

        server.stream.send_stream.send_all_hook = deliver_and_jump

    async with h2_channel(server_that(respond)) as (_, stub):
        assert await stub.call(CallRequest(), timeout=10) == ANSWER
        assert trio.current_time() >= 1000


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


# Cancellation


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


# The connection's life


async def test_nobody_listening_is_an_os_error():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    async with Channel("127.0.0.1", port) as channel:
        with pytest.raises(OSError, match="connect"):
            await DynamicSubclassServiceStub(channel).call(CallRequest())


async def test_concurrent_first_calls_share_one_connection_and_on_connect_comes_first():
    happened: list[str] = []
    prepared = trio.Event()

    async def on_connect(connection: Connection) -> None:
        happened.append("on_connect begins")
        await prepared.wait()
        happened.append("on_connect ends")

    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        happened.append("call")
        answering(server, stream_id, body)

    server = server_that(respond)
    async with h2_channel(server, on_connect=on_connect) as (_, stub), trio.open_nursery() as nursery:
        given_up = trio.CancelScope()

        async def give_up() -> None:
            with given_up:
                await stub.call(CallRequest())

        nursery.start_soon(give_up)
        for _ in range(3):
            nursery.start_soon(stub.call, CallRequest())
        await wait_all_tasks_blocked()
        given_up.cancel()
        await wait_all_tasks_blocked()
        prepared.set()
    assert happened == ["on_connect begins", "on_connect ends", "call", "call", "call"]


async def test_what_on_connect_raises_goes_to_the_calls_that_wait_and_the_next_one_tries_again():
    problems = [LookupError("not yet"), None]

    async def on_connect(connection: Connection) -> None:
        await trio.lowlevel.checkpoint()
        problem = problems.pop(0)
        if problem is not None:
            raise problem

    first, second = answering_server(), answering_server()
    async with h2_channel(first, second, on_connect=on_connect) as (_, stub):
        with pytest.raises(LookupError, match="not yet"):
            await stub.call(CallRequest())
        assert await stub.call(CallRequest()) == ANSWER
        await first.ended.wait()
    assert first.goaways
    assert not first.bodies


@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_a_lost_connection_interrupts_its_calls_and_the_next_call_makes_a_new_one(kind):
    connections = []

    async def on_connect(connection: Connection) -> None:
        connections.append(connection)
        await trio.lowlevel.checkpoint()

    first, second = hanging_server(), answering_server()
    async with h2_channel(first, second, kind=kind, on_connect=on_connect) as (_, stub):
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                with pytest.raises(CallInterrupted) as caught:
                    await stub.call(CallRequest())
                assert caught.value.connection_lost
                assert not caught.value.unprocessed

            nursery.start_soon(call)
            await first.wait(lambda: 1 in first.bodies)
            await first.stream.aclose()
        assert await stub.call(CallRequest()) == ANSWER
    assert len(connections) == 2


async def test_a_killed_server_interrupts_its_calls():
    program = (
        "import grpc, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "server = grpc.server(ThreadPoolExecutor(1))\n"
        "def call(request, context):\n"
        "    print('called', flush=True)\n"
        "    time.sleep(600)\n"
        "handler = grpc.unary_unary_rpc_method_handler(call)\n"
        f"handlers = grpc.method_handlers_generic_handler({SERVICE!r}, {{'Call': handler}})\n"
        "server.add_generic_rpc_handlers((handlers,))\n"
        "print(server.add_insecure_port('127.0.0.1:0'), flush=True)\n"
        "server.start()\n"
        "server.wait_for_termination()\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", program], stdout=subprocess.PIPE
    ) as process:
        try:
            port = int(await trio.to_thread.run_sync(process.stdout.readline))
            async with Channel("127.0.0.1", port) as channel, trio.open_nursery() as nursery:
                stub = DynamicSubclassServiceStub(channel)

                async def call() -> None:
                    with pytest.raises(CallInterrupted) as caught:
                        await stub.call(CallRequest())
                    assert caught.value.connection_lost

                nursery.start_soon(call)
                assert await trio.to_thread.run_sync(process.stdout.readline) == b"called\n"
                process.kill()
        finally:
            process.kill()


def send_goaway(server: H2Server, stream_id: int, body: bytes) -> None:
    server.h2.close_connection(last_stream_id=stream_id - 2 if stream_id > 1 else 0)


def refuse(server: H2Server, stream_id: int, body: bytes) -> None:
    server.h2.reset_stream(stream_id, 7)


@pytest.mark.parametrize("respond", [send_goaway, refuse])
async def test_a_unary_call_that_was_certainly_not_processed_is_sent_once_more(respond):
    first, second = H2Server(), answering_server()

    def respond_once(server: H2Server, stream_id: int, body: bytes) -> None:
        server.on_request = answering
        respond(server, stream_id, body)

    first.on_request = respond_once
    async with h2_channel(first, second) as (_, stub):
        assert await stub.call(CallRequest(method_name="tick")) == ANSWER
    bodies = [*first.bodies.values(), *second.bodies.values()]
    assert bodies == [message(bytes(CallRequest(method_name="tick")))] * 2


async def test_a_call_that_is_refused_twice_is_given_up():
    async with h2_channel(server := server_that(refuse)) as (_, stub):
        with pytest.raises(CallInterrupted, match="REFUSED_STREAM") as caught:
            await stub.call(CallRequest())
        assert caught.value.unprocessed
        assert len(server.bodies) == 2


async def test_a_call_that_was_reset_is_not_sent_again():
    server = server_that(lambda server, stream_id, body: server.h2.reset_stream(stream_id, 2))
    async with h2_channel(server) as (_, stub):
        with pytest.raises(CallInterrupted, match="INTERNAL_ERROR"):
            await stub.call(CallRequest())
        assert len(server.bodies) == 1


async def test_a_connection_that_says_goaway_ends_after_its_last_call():
    first, second = hanging_server(), answering_server()
    async with h2_channel(first, second) as (_, stub), trio.open_nursery() as nursery:
        answers = []

        async def call() -> None:
            answers.append(await stub.call(CallRequest()))

        nursery.start_soon(call)
        await first.wait(lambda: 1 in first.bodies)
        await wait_all_tasks_blocked()
        await first.flush(frame(7, 0, 0, b"\x00\x00\x00\x01" + bytes(4)))
        await wait_all_tasks_blocked()
        assert await stub.call(CallRequest()) == ANSWER
        assert not answers
        answering(first, 1, b"")
        await first.flush()
        await first.ended.wait()
        await wait_all_tasks_blocked()
        assert answers == [ANSWER]
        assert await stub.call(CallRequest()) == ANSWER
    assert len(second.bodies) == 2


async def test_connections_that_die_at_once_are_not_tried_for_ever():
    async def die(connection: Connection) -> None:
        connection.abort("it died")
        await trio.lowlevel.checkpoint()

    async with h2_channel(*(hanging_server() for _ in range(3)), on_connect=die) as (_, stub):
        with pytest.raises(ConnectionError, match="it died"):
            await stub.call(CallRequest())


# Closing


async def test_leaving_the_block_says_goaway_and_ends_calls_elsewhere():
    server = hanging_server()
    errors = []
    async with trio.open_nursery() as nursery:

        async def call(stub: DynamicSubclassServiceStub) -> None:
            with pytest.raises(CallInterrupted, match="closed") as caught:
                await stub.call(CallRequest())
            errors.append(caught.value)

        async with h2_channel(server) as (channel, stub):
            nursery.start_soon(call, stub)
            await server.wait(lambda: 1 in server.bodies)
            await channel.aclose()
            await server.ended.wait()
            with pytest.raises(trio.ClosedResourceError):
                await stub.call(CallRequest())
            await channel.aclose()
            channel.close()
    assert len(errors) == 1
    assert server.sent_resets == {1: 8}
    assert server.goaways == [0]


@pytest.mark.parametrize(
    "exception", [ValueError("mine"), KeyboardInterrupt(), ExceptionGroup("g", [OSError()])]
)
async def test_what_the_body_raises_leaves_the_block_as_it_is(exception):
    server = answering_server()

    async def body(address: Address) -> None:
        async with Channel(address.host, address.port, network=address.network) as channel:
            await DynamicSubclassServiceStub(channel).call(CallRequest())
            raise exception

    async with serving("memory", server) as address:
        with pytest.raises(type(exception)) as caught:
            await body(address)
        await server.ended.wait()
    assert caught.value is exception
    assert server.goaways == [0]


async def test_cancelling_the_body_still_says_goodbye():
    server = hanging_server()
    async with serving("memory", server) as address:
        with trio.CancelScope() as scope:
            async with Channel(address.host, address.port, network=address.network) as channel:
                stub = DynamicSubclassServiceStub(channel)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stub.call, CallRequest())
                    await server.wait(lambda: 1 in server.bodies)
                    scope.cancel()
        assert scope.cancelled_caught
        await server.ended.wait()
    assert server.sent_resets == {1: 8}
    assert server.goaways == [0]


async def test_close_is_abrupt():
    server = hanging_server()
    async with h2_channel(server) as (channel, stub), trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(CallInterrupted, match="the channel was closed"):
                await stub.call(CallRequest())

        nursery.start_soon(call)
        await server.wait(lambda: 1 in server.bodies)
        channel.close()
        await server.ended.wait()
    assert not server.goaways


async def test_closing_ends_calls_that_wait_for_a_connection(autojump_clock):
    async def never_speak(stream: trio.abc.Stream) -> None:
        async with stream:
            await trio.sleep_forever()

    async with serving("memory", never_speak) as address, trio.open_nursery() as nursery:
        async with Channel(address.host, address.port, network=address.network) as channel:

            async def call() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await DynamicSubclassServiceStub(channel).call(CallRequest())

            nursery.start_soon(call)
            await wait_all_tasks_blocked()
            begun = trio.current_time()
        assert trio.current_time() == begun


async def test_closing_takes_no_longer_than_grace_where_the_server_does_not_read(autojump_clock):
    async def stop_reading(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        await trio.sleep_forever()

    async with serving("tcp", stop_reading) as address:
        async with Channel(address.host, address.port, network=address.network, grace=3) as channel:
            await channel.connect()
            begun = trio.current_time()
        assert trio.current_time() <= begun + 3


async def test_a_channel_outside_its_block_is_refused():
    channel = Channel("localhost", 1)
    with pytest.raises(RuntimeError, match="async with"):
        await DynamicSubclassServiceStub(channel).call(CallRequest())
    async with channel:
        pass
    with pytest.raises(RuntimeError, match="once"):
        async with channel:
            pass
    with pytest.raises(trio.ClosedResourceError):
        await DynamicSubclassServiceStub(channel).call(CallRequest())


def test_a_channel_is_one_of_grpclibs_and_needs_no_loop_to_be_forgotten():
    channel = Channel("::1", 50051)
    assert isinstance(channel, grpclib.client.Channel)
    assert repr(channel) == "Channel('::1', 50051)"
    del channel


def test_the_connection_is_imported_without_asyncio():
    program = (
        "import sys, trio_model_runner.rpc.connection; "
        "assert not {'asyncio', 'grpclib.client'} & set(sys.modules); "
        "from trio_model_runner.rpc import Channel; "
        "assert 'grpclib.client' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# Events


async def test_listeners_hear_of_calls_and_may_change_them():
    heard = []
    received = []

    async def on_send_request(event: SendRequest) -> None:
        await trio.lowlevel.checkpoint()
        heard.append((event.method_name, event.content_type))
        event.metadata["added"] = "here"

    async def on_send_message(event: SendMessage) -> None:
        await trio.lowlevel.checkpoint()
        event.message = CallRequest(method_name="changed")

    async def on_initial(event: RecvInitialMetadata) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(event.metadata["who"])

    async def on_message(event: RecvMessage) -> None:
        await trio.lowlevel.checkpoint()
        event.message = event.message.status

    async def on_trailing(event: RecvTrailingMetadata) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(event.status)

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        received.append((request.method_name, dict(context.invocation_metadata())["added"]))
        context.send_initial_metadata((("who", "node"),))
        return ANSWER

    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port) as channel:
            listen(channel, SendRequest, on_send_request)
            listen(channel, SendMessage, on_send_message)
            listen(channel, RecvInitialMetadata, on_initial)
            listen(channel, RecvMessage, on_message)
            listen(channel, RecvTrailingMetadata, on_trailing)
            assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == ANSWER.status
    assert heard == [(CALL, "application/grpc"), "node", GrpcStatus.OK]
    assert received == [("changed", "here")]


# Bad input


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"grpc-timeout": "1S"}, ValueError),
        ({"Upper": "case"}, ValueError),
        ({"line": "a\r\nb"}, ValueError),
        ({"key-bin": "text"}, TypeError),
        ({"key": b"bytes"}, TypeError),
    ],
)
async def test_bad_metadata_is_refused_before_anything_is_sent(metadata, error):
    async with h2_channel(answering_server()) as (channel, stub):
        with pytest.raises(error, match="Invalid metadata"):
            await stub.call(CallRequest(), metadata=metadata)
        assert not channel._connections


async def test_a_message_of_another_type_is_refused_before_anything_is_sent():
    async with h2_channel(server := answering_server()) as (channel, stub):
        with pytest.raises(TypeError, match="must be a CallRequest"):
            async with channel.request(CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse) as stream:
                await stream.send_message(Status())
        assert await stub.call(CallRequest()) == ANSWER
    assert server.bodies == {1: message(bytes(CallRequest()))}


async def test_methods_out_of_order_are_protocol_errors():
    async with h2_channel(hanging_server(), answering_server()) as (channel, _):
        request = partial(channel.request, CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse)
        async with request() as stream:
            for method in (stream.recv_initial_metadata, stream.recv_message, stream.cancel, stream.end):
                with pytest.raises(ProtocolError):
                    await method()
            with pytest.raises(ProtocolError):
                await stream.send_request(end=True)
            await stream.send_request()
            with pytest.raises(ProtocolError):
                await stream.send_request()
            with pytest.raises(ProtocolError):
                await stream.recv_trailing_metadata()
            await stream.send_message(CallRequest())
            with pytest.raises(ProtocolError):
                await stream.send_message(CallRequest())
            await stream.cancel()
            with pytest.raises(ProtocolError):
                await stream.cancel()


# Streams of messages


async def test_a_stream_of_answers_ends_with_its_status():
    def watch(request: HealthCheckRequest, context: grpc.ServicerContext) -> Iterator[HealthCheckResponse]:
        for status in (1, 2, 3):
            yield HealthCheckResponse(status=HealthCheckResponseServingStatus(status))
        if request.service:
            context.abort(grpc.StatusCode.DATA_LOSS, "lost")

    handler = grpc.unary_stream_rpc_method_handler(watch, HealthCheckRequest.FromString, bytes)
    with grpcio_server("grpc.health.v1.Health", Watch=handler) as port:
        async with Channel("127.0.0.1", port) as channel:
            stub = HealthStub(channel)
            assert [answer.status async for answer in stub.watch(HealthCheckRequest())] == [1, 2, 3]
            received = []

            async def watch() -> None:
                async for answer in stub.watch(HealthCheckRequest(service="x")):
                    received.append(answer.status)  # noqa: PERF401

            with pytest.raises(GRPCError) as caught:
                await watch()
    assert received == [1, 2, 3]
    assert caught.value.status is GrpcStatus.DATA_LOSS


async def test_a_stream_of_requests_has_one_answer():
    def gather(requests: Iterator[CallRequest], context: grpc.ServicerContext) -> CallResponse:
        return CallResponse(status=Status(message=" ".join(request.method_name for request in requests)))

    handler = grpc.stream_unary_rpc_method_handler(gather, CallRequest.FromString, bytes)
    with grpcio_server(Gather=handler) as port:
        async with Channel("127.0.0.1", port) as channel:
            stub = DynamicSubclassServiceStub(channel)
            requests = [CallRequest(method_name=name) for name in "abc"]
            answer = await stub._stream_unary(f"/{SERVICE}/Gather", requests, CallRequest, CallResponse)
            assert answer.status.message == "a b c"
            async with channel.request(
                f"/{SERVICE}/Gather", Cardinality.STREAM_UNARY, CallRequest, CallResponse
            ) as stream:
                await stream.send_request(end=True)
                assert (await stream.recv_message()).status.message == ""


async def test_streams_go_both_ways_at_once():
    def echo(
        requests: Iterator[FirstInferRequest], context: grpc.ServicerContext
    ) -> Iterator[FirstInferResponse]:
        for request in requests:
            yield FirstInferResponse(prediction=request.argument)

    handler = grpc.stream_stream_rpc_method_handler(echo, FirstInferRequest.FromString, bytes)
    with grpcio_server("ModelRunner", InferStream=handler) as port:
        async with (
            Channel("127.0.0.1", port) as channel,
            channel.request(
                "/ModelRunner/InferStream", Cardinality.STREAM_STREAM, FirstInferRequest, FirstInferResponse
            ) as stream,
        ):
            for number in range(20):
                await stream.send_message(FirstInferRequest(argument=b"%d" % number))
                assert (await stream.recv_message()).prediction == b"%d" % number
            await stream.end()
            assert [message async for message in stream] == []


async def test_a_reader_that_waits_holds_the_server_back_and_misses_nothing():
    part = message(
        bytes(HealthCheckResponse(status=HealthCheckResponseServingStatus.SERVING))
        + b"\x12\x80\x40"
        + bytes(8192)
    )
    server = server_that(lambda server, stream_id, body: server.answer(stream_id, part * 500))
    async with h2_channel(server) as (channel, _):
        received = 0
        async for _answer in HealthStub(channel).watch(HealthCheckRequest()):
            if not received:
                await wait_all_tasks_blocked()
                assert len(server._answers[1][0]) > 2 << 20  # of 4 MiB, a window of 1 MiB
            received += 1
    assert received == 500


async def test_a_writer_waits_for_a_server_that_does_not_read():
    server = H2Server(acknowledging=False)
    server.on_request = answering
    async with h2_channel(server) as (channel, _):
        sent = 0
        async with channel.request(CALL, Cardinality.STREAM_UNARY, CallRequest, CallResponse) as stream:

            async def send() -> None:
                nonlocal sent
                for _ in range(100):
                    await stream.send_message(CallRequest(method_name="x" * 10_000))
                    sent += 1
                await stream.end()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await wait_all_tasks_blocked()
                assert sent < 20
                await server.acknowledge()
            assert sent == 100
            assert await stream.recv_message() == ANSWER


async def test_a_stream_that_is_left_early_is_cancelled():
    server = hanging_server()
    async with h2_channel(server) as (channel, _):
        async with channel.request(CALL, Cardinality.UNARY_STREAM, CallRequest, CallResponse) as stream:
            await stream.send_message(CallRequest())
            await server.wait(lambda: 1 in server.bodies)
            server.h2.send_headers(1, RESPONSE)
            server.h2.send_data(1, message(bytes(ANSWER)))
            await server.flush()
            async for answer in stream:
                assert answer == ANSWER
                break
        await server.wait(lambda: bool(server.sent_resets))
    assert server.sent_resets == {1: 8}


async def test_a_status_that_comes_early_ends_a_stream_of_requests():
    async with h2_channel(server := hanging_server()) as (channel, _):

        async def send_for_ever() -> None:
            async with channel.request(CALL, Cardinality.STREAM_UNARY, CallRequest, CallResponse) as stream:
                await stream.send_request()
                await server.wait(lambda: 1 in server.bodies)
                server.h2.send_headers(1, [*RESPONSE, ("grpc-status", "9")], end_stream=True)
                await server.flush()
                while True:
                    await stream.send_message(CallRequest())

        with pytest.raises(GRPCError) as caught:
            await send_for_ever()
    assert caught.value.status is GrpcStatus.FAILED_PRECONDITION
