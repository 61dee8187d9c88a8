"""`channel.Channel` against grpcio's servers and h2's: unary calls, metadata, statuses, events, misuse."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
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
from helpers.channel_servers import (
    ANSWER,
    CALL,
    answering_server,
    grpcio_aio_server,
    grpcio_server,
    h2_channel,
    hanging_server,
    server_that,
    unary,
)
from helpers.h2_server import RESPONSE, TRAILERS, H2Server, message

from trio_model_runner.channel import Channel
from trio_model_runner.proto.commons import Status, Variant
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub

if TYPE_CHECKING:
    pass

NOT_OK = [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK]


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
        with pytest.raises(GRPCError, match="more than max_message_bytes, 10") as caught:
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


async def test_leaving_a_call_whose_request_was_not_ended_is_a_protocol_error():
    async with h2_channel(server := answering_server()) as (channel, _):
        request = partial(channel.request, CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse)
        with pytest.raises(ProtocolError, match="not ended"):  # noqa: PT012 - leaving the block is what raises
            async with request() as stream:
                await stream.send_request()
                await server.wait(lambda: 1 in server.bodies)
        async with request():
            pass
        await server.wait(lambda: bool(server.sent_resets))
    assert server.sent_resets == {1: 8}
