"""One service on four implementations of gRPC: grpcio's (threads, asyncio), grpclib's and Node's grpc-js.

The service takes any bytes for messages, and is told what to do by metadata:

- `Echo` answers with the request; initial metadata "said" is the request's "say", trailing metadata
  "said-bin" its "say-bin"; "remaining" are the seconds until the deadline, if there is one.
- `Fail` fails with the status "code", the request as its message, and trailing metadata "why".
- `Expand` sends the request "count" times.
- `Gather` answers with all that was sent, `Chat` with each message as it comes.
- `Hang` never answers; `HasCancelled` answers when a call of `Hang` or `Expand` was cancelled, once for each.
- `Retire` stops the server gracefully, which grpclib's can't.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpclib.server
import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import CodecBase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

SERVICE = "test.Interoperability"
GRPC_JS_VERSION = "1.14.7"
CODES = {code.value[0]: code for code in grpc.StatusCode}
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


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
        yield from requests

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
        async for request in requests:
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

    async def echo(self, stream: Any) -> None:
        deadline = stream.deadline
        metadata = list(stream.metadata.items())
        initial, trailing = said(metadata, None if deadline is None else deadline.time_remaining())
        message = await stream.recv_message()
        await stream.send_initial_metadata(metadata=initial)
        await stream.send_message(message)
        await stream.send_trailing_metadata(metadata=trailing)

    async def fail(self, stream: Any) -> None:
        message = (await stream.recv_message()).decode()
        status = Status(int(stream.metadata["code"]))
        await stream.send_trailing_metadata(
            status=status, status_message=message, metadata={"why": "asked to"}
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
        async for message in stream:
            await stream.send_message(message)

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
def grpcio() -> Iterator[int]:
    """Grpcio's server with threads; its port."""
    with ThreadPoolExecutor(60) as executor:
        server, service = grpc.server(executor, options=OPTIONS), Threaded()
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
def grpcio_aio() -> Iterator[int]:
    """Grpcio's server on asyncio; its port."""

    async def start() -> tuple[int, Callable[[], Awaitable[Any]]]:
        server, service = grpc.aio.server(options=OPTIONS), Asynchronous()
        service.stop = lambda: server.stop(60)
        server.add_generic_rpc_handlers((handlers(service),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return port, lambda: server.stop(None)

    with in_asyncio(start) as port:
        yield port


@contextmanager
def grpclib_server() -> Iterator[int]:
    """Grpclib's server; its port."""

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


def unavailable(reason: str) -> None:
    """Skip what needs Node, but on CI, which has it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def grpc_js() -> Path:
    """Where the package is, installed the first time; several at once don't disturb each other."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        unavailable("there is no Node here, for the server of @grpc/grpc-js")
    cache = Path(__file__).parents[2] / ".cache"
    installed = cache / f"grpc-js-{GRPC_JS_VERSION}"
    if not installed.exists():
        cache.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            making = Path(directory) / "making"
            making.mkdir()
            (making / "package.json").write_text(
                json.dumps({"private": True, "dependencies": {"@grpc/grpc-js": GRPC_JS_VERSION}})
            )
            command = [str(npm), "install", "--no-audit", "--no-fund", "--loglevel=error"]
            done = subprocess.run(
                command, cwd=making, capture_output=True, text=True, timeout=100, check=False
            )
            if done.returncode:
                unavailable(f"npm could not install @grpc/grpc-js: {done.stderr.strip()[-500:]}")
            try:
                making.rename(installed)
            except OSError:
                assert installed.exists()  # somebody else was faster
    return installed / "node_modules" / "@grpc" / "grpc-js"


@contextmanager
def node() -> Iterator[int]:
    """Node's server, in a process of its own; its port."""
    script = Path(__file__).with_name("server.js")
    with subprocess.Popen(
        ["node", str(script), str(grpc_js())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            finally:
                process.kill()


SERVERS = {"grpcio": grpcio, "grpcio.aio": grpcio_aio, "grpclib": grpclib_server, "grpc-js": node}
