"""Servers for tests of `channel.Channel`: grpcio's, and h2's where a test needs to break the rules."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import trio

from helpers.h2_server import H2Server, message, serving
from trio_model_runner.channel import Channel
from trio_model_runner.proto.commons import Status, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


SERVICE = "dynamic_subclass.DynamicSubclassService"
CALL = f"/{SERVICE}/Call"
ANSWER = CallResponse(
    status=Status(code="SUCCESS", message="fine"),
    method_response=Variant(type=VariantType.JSON, value=b'{"a": 1}'),
)

Behaviour = "Callable[[Any, grpc.ServicerContext], Any]"


def unary(behaviour: Behaviour) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        behaviour, request_deserializer=CallRequest.FromString, response_serializer=bytes
    )


@contextmanager
def grpcio_server(
    service: str = SERVICE, *, address: str = "127.0.0.1:0", **handlers: grpc.RpcMethodHandler
) -> Iterator[int]:
    """A server of grpcio's with threads; its port."""
    with ThreadPoolExecutor(8) as executor:
        server = grpc.server(executor)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = server.add_insecure_port(address)
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
