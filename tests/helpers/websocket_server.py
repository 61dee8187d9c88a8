"""The orchestrator's side of a WebSocket, played by a test, and feeds to talk to it."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

import trio
import trio_websocket
from wsproto.utilities import generate_accept_token

from trio_model_runner.config import ClusterConfig, OrchestratorConfig
from trio_model_runner.network import MemoryNetwork, Network
from trio_model_runner.orchestrator import FailureReport, FeedEvent, OrchestratorFeed
from trio_model_runner.values.failure_codes import FailureCode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Events = trio.MemoryReceiveChannel[FeedEvent]
Connection = trio_websocket.WebSocketConnection


EXACT = OrchestratorConfig(reconnect_jitter=0)


def entry(model_id: str, **fields: Any) -> dict[str, Any]:
    """What an orchestrator of today sends about a running model."""
    return {
        "deployment_id": f"deployment-of-{model_id}",
        "model_id": model_id,
        "state": "RUNNING",
        "ip": "127.0.0.1",
        "port": 50051,
        "infos": {"model_name": f"model-{model_id}", "cruncher_id": "7", "cruncher_name": "ada"},
    } | fields


class Session:
    """One client's connection."""

    def __init__(self, stream: trio.abc.Stream, path: str, connection: Connection, reader: trio.CancelScope):
        self.stream = stream
        self.path = path
        self.connection = connection
        self._reader = reader

    async def send(self, event: str, *entries: Any) -> None:
        await self.connection.send_message(json.dumps({"event": event, "data": entries}))

    async def receive(self) -> Any:
        return json.loads(await self.connection.get_message())

    async def receive_close(self) -> int:
        """Read on until the client closes, and return the code."""
        while True:
            try:
                await self.connection.get_message()
            except trio_websocket.ConnectionClosed as closed:
                return closed.reason.code if closed.reason else 0

    def freeze(self) -> None:
        """Never react again, as a stopped process."""
        self._reader.cancel()


class WebSocketServer:
    """Accepts clients, and hands them over as sessions.

    Attributes:
        rejection: the HTTP status and the body with which clients are refused, if set.
    """

    def __init__(self) -> None:
        self.rejection: tuple[int, bytes] | None = None
        self._send, self._receive = trio.open_memory_channel[Session](math.inf)

    async def session(self) -> Session:
        return await self._receive.receive()

    async def serve(self, listener: trio.abc.Listener[Any]) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._serve_client, await listener.accept())

    async def _serve_client(self, stream: trio.abc.Stream) -> None:
        async with stream:
            async with trio.open_nursery() as nursery:
                request = await trio_websocket.wrap_server_stream(nursery, stream)
                if self.rejection is None:
                    path = request.path
                    session = Session(stream, path, await request.accept(), nursery.cancel_scope)
                    self._send.send_nowait(session)
                    await trio.sleep_forever()
                status, body = self.rejection
                await request.reject(status, body=body)
            if self.rejection is None:
                await trio.sleep_forever()  # frozen, but open


@contextlib.asynccontextmanager
async def serving(listener: trio.abc.Listener[Any]) -> AsyncIterator[WebSocketServer]:
    server = WebSocketServer()
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(server.serve, listener)
        yield server
        nursery.cancel_scope.cancel()


async def read_handshake(stream: trio.abc.ReceiveStream) -> bytes:
    """Read a client's handshake, as bytes."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        data = await stream.receive_some()
        assert data
        request += data
    return request


def answer_to(request: bytes) -> bytes:
    """The answer that opens a WebSocket, as bytes."""
    headers = dict(line.split(b": ", 1) for line in request.strip().split(b"\r\n")[1:])
    accept = generate_accept_token(headers[b"Sec-WebSocket-Key"])
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


@contextlib.asynccontextmanager
async def feeding(config: ClusterConfig) -> AsyncIterator[tuple[OrchestratorFeed, Events]]:
    """Run a feed; leaving the block closes it, and shows that it then ends."""
    feed = OrchestratorFeed(config)
    send, receive = trio.open_memory_channel[FeedEvent](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run, send.send_nowait)
        yield feed, receive
        await feed.aclose()


def configured(network: Network, orchestrator: OrchestratorConfig = EXACT, port: int = 9091) -> ClusterConfig:
    return ClusterConfig("bird-game", port=port, network=network, orchestrator=orchestrator)


def report_on(model_id: str, reason: str | None = None, **fields: Any) -> FailureReport:
    known: dict[str, Any] = {"deployment_id": f"deployment-of-{model_id}", "host": "127.0.0.1"}
    return FailureReport(model_id=model_id, code=FailureCode.MULTIPLE_FAILED, reason=reason, **known | fields)


def sent_report(model_id: str, reason: str | None = None) -> dict[str, Any]:
    report = {"failure_code": "MULTIPLE_FAILED", "failure_reason": reason, "ip": "127.0.0.1"}
    return {"event": "report_failure", "data": [{"model_id": model_id} | report]}


class RefusingNetwork(Network):
    """Nobody answers, and the attempts are counted."""

    def __init__(self) -> None:
        self.attempts: list[float] = []

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        await trio.lowlevel.checkpoint()
        self.attempts.append(trio.current_time())
        raise OSError("nobody there")


class StallingStream(trio.abc.HalfCloseableStream):
    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.released = trio.Event()
        self.released.set()
        self.protected: list[bool] = []

    def stall(self) -> None:
        """Take nothing until `released` is set."""
        self.released = trio.Event()

    async def send_all(self, data: Any) -> None:
        self.protected.append(trio.lowlevel.currently_ki_protected())
        await self.released.wait()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.protected.append(trio.lowlevel.currently_ki_protected())
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


class StallingNetwork(MemoryNetwork):
    """A network whose streams can stop taking anything."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[StallingStream] = []

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        stream = StallingStream(await super().connect(host, port))
        self.streams.append(stream)
        return stream
