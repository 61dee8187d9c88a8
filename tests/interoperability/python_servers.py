"""The service on Python's servers: grpcio's (threads, asyncio) and grpclib's; `service` says what it does."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpclib.server
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase

from .service import NO_LIMITS, SERVICE, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

__all__ = ["OPTIONS", "grpcio", "grpcio_aio", "grpclib_server"]

CODES = {code.value[0]: code for code in grpc.StatusCode}
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def options(limits: Limits) -> list[tuple[str, int]]:
    """What grpcio's servers are made with."""
    found = list(OPTIONS)
    if limits.streams:
        found.append(("grpc.max_concurrent_streams", limits.streams))
    if limits.age:
        found.append(("grpc.max_connection_age_ms", limits.milliseconds))
    return found


def handlers(service: Any) -> grpc.GenericRpcHandler:
    """What grpcio calls for the service's methods."""
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(service.echo),
        "Fail": grpc.unary_unary_rpc_method_handler(service.fail),
        "Expand": grpc.unary_stream_rpc_method_handler(service.expand),
        "Gather": grpc.stream_unary_rpc_method_handler(service.gather),
        "Chat": grpc.stream_stream_rpc_method_handler(service.chat),
        "Hang": grpc.unary_unary_rpc_method_handler(service.hang),
        "HasCancelled": grpc.unary_unary_rpc_method_handler(service.has_cancelled),
        "Retire": grpc.unary_unary_rpc_method_handler(service.retire),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def said(metadata: Any, remaining: float | None) -> tuple[list[Any], list[Any]]:
    """The initial and the trailing metadata of an echo."""
    initial = [("said", value) for key, value in metadata if key == "say"]
    trailing = [("said-bin", value) for key, value in metadata if key == "say-bin"]
    if remaining is not None and remaining < 1e6:
        initial.append(("remaining", str(round(remaining))))
    return initial, trailing


class Threaded:
    """The service in threads."""

    def __init__(self) -> None:
        self.cancelled = threading.Semaphore(0)
        self.stop: Callable[[], Any]

    def echo(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        initial, trailing = said(context.invocation_metadata(), context.time_remaining())
        context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailing)
        return request

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata([("why", "asked to")])
        context.abort(CODES[int(dict(context.invocation_metadata())["code"])], request.decode())
        raise AssertionError

    def expand(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        done = threading.Event()
        context.add_callback(lambda: None if done.is_set() else self.cancelled.release())
        for _ in range(int(dict(context.invocation_metadata())["count"])):
            yield request
        done.set()

    def gather(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b"".join(requests)

    def chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        metadata = context.invocation_metadata()
        initial, trailing = said(metadata, context.time_remaining())
        context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailing)
        for request in requests:
            if "code" in dict(metadata):
                self.fail(request, context)
            yield request

    def hang(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        cancelled = threading.Event()
        if context.add_callback(cancelled.set):  # else it was cancelled before it began
            cancelled.wait(60)
        self.cancelled.release()
        return b""

    def has_cancelled(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        assert self.cancelled.acquire(timeout=60)
        return b""

    def retire(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.stop()
        return b""


class Asynchronous:
    """The service on asyncio, for grpcio."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Semaphore(0)
        self.stop: Callable[[], Any]

    async def echo(self, request: bytes, context: Any) -> bytes:
        initial, trailing = said(context.invocation_metadata(), context.time_remaining())
        await context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailing)
        return request

    async def fail(self, request: bytes, context: Any) -> bytes:
        code = CODES[int(dict(context.invocation_metadata())["code"])]
        await context.abort(code, request.decode(), (("why", "asked to"),))
        raise AssertionError

    async def expand(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            for _ in range(int(dict(context.invocation_metadata())["count"])):
                yield request
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.release()
            raise

    async def gather(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        metadata = context.invocation_metadata()
        initial, trailing = said(metadata, context.time_remaining())
        await context.send_initial_metadata(initial)
        context.set_trailing_metadata(trailing)
        async for request in requests:
            if "code" in dict(metadata):
                await self.fail(request, context)
            yield request

    async def hang(self, request: bytes, context: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise
        raise AssertionError

    async def has_cancelled(self, request: bytes, context: Any) -> bytes:
        await self.cancelled.acquire()
        return b""

    async def retire(self, request: bytes, context: Any) -> bytes:
        self.stopping = asyncio.create_task(self.stop())
        return b""


class BytesCodec(CodecBase):
    """Messages are bytes."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return message

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class Grpclib:
    """The service on asyncio, for grpclib."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Semaphore(0)

    @staticmethod
    def said(stream: Any) -> tuple[list[Any], list[Any]]:
        deadline = stream.deadline
        metadata = list(stream.metadata.items())
        return said(metadata, None if deadline is None else deadline.time_remaining())

    async def echo(self, stream: Any) -> None:
        initial, trailing = self.said(stream)
        message = await stream.recv_message()
        await stream.send_initial_metadata(metadata=initial)
        await stream.send_message(message)
        await stream.send_trailing_metadata(metadata=trailing)

    async def fail(self, stream: Any) -> None:
        await self.refuse(stream, await stream.recv_message())

    @staticmethod
    async def refuse(stream: Any, message: bytes) -> None:
        status = Status(int(stream.metadata["code"]))
        await stream.send_trailing_metadata(
            status=status, status_message=message.decode(), metadata={"why": "asked to"}
        )

    async def expand(self, stream: Any) -> None:
        message = await stream.recv_message()
        try:
            for _ in range(int(stream.metadata["count"])):
                await stream.send_message(message)
        except asyncio.CancelledError:
            self.cancelled.release()
            raise

    async def gather(self, stream: Any) -> None:
        await stream.send_message(b"".join([message async for message in stream]))

    async def chat(self, stream: Any) -> None:
        initial, trailing = self.said(stream)
        await stream.send_initial_metadata(metadata=initial)
        async for message in stream:
            if "code" in stream.metadata:
                await self.refuse(stream, message)
                return
            await stream.send_message(message)
        await stream.send_trailing_metadata(metadata=trailing)

    async def hang(self, stream: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise

    async def has_cancelled(self, stream: Any) -> None:
        await stream.recv_message()
        await self.cancelled.acquire()
        await stream.send_message(b"")

    def __mapping__(self) -> dict[str, Handler]:
        methods = {
            "Echo": (self.echo, Cardinality.UNARY_UNARY),
            "Fail": (self.fail, Cardinality.UNARY_UNARY),
            "Expand": (self.expand, Cardinality.UNARY_STREAM),
            "Gather": (self.gather, Cardinality.STREAM_UNARY),
            "Chat": (self.chat, Cardinality.STREAM_STREAM),
            "Hang": (self.hang, Cardinality.UNARY_UNARY),
            "HasCancelled": (self.has_cancelled, Cardinality.UNARY_UNARY),
        }
        return {
            f"/{SERVICE}/{name}": Handler(method, cardinality, bytes, bytes)
            for name, (method, cardinality) in methods.items()
        }


@contextmanager
def grpcio(limits: Limits = NO_LIMITS) -> Iterator[int]:
    """Grpcio's server with threads; its port."""
    with ThreadPoolExecutor(60) as executor:
        server, service = grpc.server(executor, options=options(limits)), Threaded()
        service.stop = lambda: server.stop(60)
        server.add_generic_rpc_handlers((handlers(service),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()


@contextmanager
def in_asyncio(start: Callable[[], Awaitable[tuple[int, Callable[[], Awaitable[Any]]]]]) -> Iterator[int]:
    """A server on an asyncio loop in a thread of its own, that `start` gives with what stops it; its port."""
    started = threading.Event()
    found: list[Any] = []

    async def serve() -> None:
        port, stop = await start()
        over = asyncio.Event()
        found.extend((port, asyncio.get_running_loop(), over))
        started.set()
        await over.wait()
        await stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    port, loop, over = found
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


@contextmanager
def grpcio_aio(limits: Limits = NO_LIMITS) -> Iterator[int]:
    """Grpcio's server on asyncio; its port."""

    async def start() -> tuple[int, Callable[[], Awaitable[Any]]]:
        server, service = grpc.aio.server(options=options(limits)), Asynchronous()
        service.stop = lambda: server.stop(60)
        server.add_generic_rpc_handlers((handlers(service),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return port, lambda: server.stop(None)

    with in_asyncio(start) as port:
        yield port


@contextmanager
def grpclib_server(limits: Limits = NO_LIMITS) -> Iterator[int]:
    """Grpclib's server, which knows no limits; its port."""
    assert limits == NO_LIMITS

    async def start() -> tuple[int, Callable[[], Awaitable[Any]]]:
        server = grpclib.server.Server([Grpclib()], codec=BytesCodec())
        await server.start("127.0.0.1", 0)
        assert server._server is not None  # private to grpclib, which does not say what port it got

        async def stop() -> None:
            server.close()
            await server.wait_closed()

        return server._server.sockets[0].getsockname()[1], stop

    with in_asyncio(start) as port:
        yield port
