"""Calls with streams of messages, each way and both: order, flow control, early ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
import trio
from grpclib.const import Cardinality
from grpclib.const import Status as GrpcStatus
from grpclib.exceptions import GRPCError
from helpers.channel_servers import (
    ANSWER,
    CALL,
    SERVICE,
    answering,
    grpcio_server,
    h2_channel,
    hanging_server,
    server_that,
)
from helpers.h2_server import RESPONSE, H2Server, message
from trio.testing import wait_all_tasks_blocked

from trio_model_runner.channel import Channel
from trio_model_runner.proto import InferRequest as FirstInferRequest
from trio_model_runner.proto import InferResponse as FirstInferResponse
from trio_model_runner.proto.commons import Status
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub
from trio_model_runner.proto.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthCheckResponseServingStatus,
    HealthStub,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


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
                    received.append(answer.status)  # noqa: PERF401 - keeps what came before the error

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
