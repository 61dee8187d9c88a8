"""The other side for tests of `rpc`: h2's server, without I/O (`Exchange`) and on a stream (`H2Server`)."""

from __future__ import annotations

import ssl
import struct
from collections import deque
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import trio
import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingReceived,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
)

from trio_model_runner.network import MemoryNetwork, TCPNetwork
from trio_model_runner.network.tls import TLSNetwork
from trio_model_runner.rpc import events
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.frames import CONNECTION_PREFACE, FRAME_HEADER, FRAME_HEADER_LENGTH
from trio_model_runner.rpc.http2 import Http2Client, Http2Stream
from trio_model_runner.rpc.protocol import request_fields
from trio_model_runner.rpc.reader import SocketHub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from trio_model_runner.network import Network
    from trio_model_runner.rpc.connection import Connection

FIELDS = request_fields("/package.Service/Method", scheme="http", authority="node")
RESPONSE = ((":status", "200"), ("content-type", "application/grpc"))
TRAILERS = (("grpc-status", "0"),)


def parse_frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """The type, flags, stream id and payload of each frame in `data`, which must end with a whole one."""
    found = []
    while data:
        high, low, kind, flags, stream_id = FRAME_HEADER.unpack_from(data)
        end = FRAME_HEADER_LENGTH + (high << 8 | low)
        assert len(data) >= end
        found.append((kind, flags, stream_id, data[FRAME_HEADER_LENGTH:end]))
        data = data[end:]
    return found


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    length = len(payload)
    return FRAME_HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def message(data: bytes) -> bytes:
    """A gRPC message."""
    return struct.pack(">BL", 0, len(data)) + data


def h2_server() -> H2Connection:
    """h2's server; what it says first waits in its `data_to_send`."""
    server = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
    server.initiate_connection()
    return server


def single_frames(data: bytes) -> Iterator[bytes]:
    """What a client sends, cut into frames: h2 looks up its frame size limit once per `receive_data`."""
    if data.startswith(CONNECTION_PREFACE):
        yield CONNECTION_PREFACE
        data = data[len(CONNECTION_PREFACE) :]
    for parts in parse_frames(data):
        yield frame(*parts)


class Exchange:
    """A client and h2's server, with the bytes between them in the test's hands.

    Attributes:
        bodies: what the server has of each request, by stream id.
        ended: the requests that the server has all of.
        resets: the error codes of the client's RST_STREAM frames, by stream id.
        events: all that the client reported.
        answers: what the client has of each response, by stream.
        acknowledging: whether the server gives windows back as it reads.
        settings_underway: how many of the server's SETTINGS the client has not acknowledged.
    """

    def __init__(self, *, settings: dict[int, int] | None = None, **options: Any) -> None:
        self.client = Http2Client(**options)
        self.server = h2_server()
        self.settings_underway = 1
        if settings:
            self.change_settings(settings)
        self.bodies: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[ConnectionTerminated] = []
        self.events: list[events.Event] = []
        self.answers: dict[Http2Stream, bytearray] = {}
        self.acknowledging = True
        self._unacknowledged: list[tuple[int, int]] = []

    def request(self, *pieces: bytes, fields: Any = FIELDS, volatile: Any = ()) -> Http2Stream:
        """Queue a whole request."""
        stream = self.client.open_stream(fields, volatile)
        self.client.send_data(stream, pieces, end_stream=True)
        return stream

    def change_settings(self, changes: dict[int, int]) -> None:
        """Have the server send these SETTINGS."""
        self.server.update_settings(changes)
        self.settings_underway += 1

    def to_server(self, limit: int = 256 << 10) -> bool:
        """Bring to the server what the client has to send now; whether there was anything."""
        data = b"".join(self.client.data_to_send(limit))
        for event in [event for part in single_frames(data) for event in self.server.receive_data(part)]:
            match event:
                case RequestReceived():
                    self.bodies[event.stream_id] = bytearray()
                case DataReceived():
                    self.bodies[event.stream_id] += event.data
                    self._unacknowledged.append((event.flow_controlled_length, event.stream_id))
                case StreamEnded():
                    self.ended.add(event.stream_id)
                case StreamReset():
                    self.resets[event.stream_id] = int(event.error_code)
                case ConnectionTerminated():
                    self.goaways.append(event)
                case SettingsAcknowledged():
                    self.settings_underway -= 1
        if self.acknowledging:
            self.acknowledge()
        return bool(data)

    def acknowledge(self) -> None:
        """Have the server give back the windows of what it has read."""
        for length, stream_id in self._unacknowledged:
            if length:
                self.server.acknowledge_received_data(length, stream_id)
        self._unacknowledged.clear()

    def to_client(self, data: bytes | None = None) -> list[events.Event]:
        """Bring to the client what the server has to send now, or other bytes."""
        received = self.client.receive(self.server.data_to_send() if data is None else data)
        self.events += received
        for event in received:
            if isinstance(event, events.DataReceived):
                self.answers.setdefault(event.stream, bytearray()).extend(event.data)
                self.client.acknowledge(event.stream, event.flow_controlled_length)
        return received

    def settle(self) -> None:
        """Go on until neither has anything more to say."""
        while True:
            self.to_client()
            if not self.to_server() and not self.server._data_to_send:
                return

    def of(self, kind: type[Any]) -> list[Any]:
        """The client's events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


class H2Server:
    """h2's server on a stream: it echoes unary gRPC requests, unless told otherwise.

    Attributes:
        on_request: called with the server, a stream id and the request's body when that has ended.
        acknowledging: whether windows are given back.
        answering_pings: h2 answers by itself; False throws its answers away.
        requests: the request headers, by stream id.
        bodies: what has come of the requests' bodies, by stream id.
        sent_resets: the error codes of the client's RST_STREAM frames, by stream id.
    """

    def __init__(self, *, acknowledging: bool = True, answering_pings: bool = True) -> None:
        self.h2 = h2_server()
        self.stream: trio.abc.Stream | None = None
        self.on_request: Callable[[H2Server, int, bytes], None] = H2Server.echo
        self.acknowledging = acknowledging
        self.answering_pings = answering_pings
        self.requests: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.sent_resets: dict[int, int] = {}
        self.goaways: list[int] = []
        self.pings = 0
        self.ended = trio.Event()
        self.changed = trio.Event()
        self._unacknowledged: list[tuple[int, int]] = []
        self._answers: dict[int, deque[bytes]] = {}
        self._sending = trio.Lock()

    @staticmethod
    def echo(server: H2Server, stream_id: int, body: bytes) -> None:
        """Answer with the request's message."""
        server.answer(stream_id, body)

    @staticmethod
    def hang(server: H2Server, stream_id: int, body: bytes) -> None:
        """Don't answer."""

    def answer(self, stream_id: int, body: bytes) -> None:
        """Answer with `body` and the status OK, as fast as windows allow."""
        self.h2.send_headers(stream_id, RESPONSE)
        self._answers[stream_id] = deque([body])
        self._pump()

    async def flush(self, data: bytes = b"") -> None:
        """Send what h2 has to say, and then `data`."""
        assert self.stream is not None
        async with self._sending:
            await self.stream.send_all(self.h2.data_to_send() + data)

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until something that the client sent makes `condition` true."""
        while not condition():
            self.changed = trio.Event()
            await self.changed.wait()

    async def acknowledge(self) -> None:
        """Give back all windows, now and from now on."""
        self.acknowledging = True
        self._acknowledge()
        await self.flush()

    async def __call__(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until its client closes it."""
        self.stream = stream
        try:
            async with stream:
                await self.flush()
                async for data in stream:
                    received = self.h2.receive_data(bytes(data))
                    for event in received:
                        self._handle(event)
                    for event in received:
                        if isinstance(event, StreamEnded) and event.stream_id not in self.sent_resets:
                            self.on_request(self, event.stream_id, bytes(self.bodies[event.stream_id]))
                    if self.acknowledging:
                        self._acknowledge()
                    self._pump()
                    self.changed.set()
                    await self.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.ended.set()
            self.changed.set()

    def _handle(self, event: Any) -> None:
        match event:
            case RequestReceived():
                self.requests[event.stream_id] = dict(event.headers)
                self.bodies[event.stream_id] = bytearray()
            case DataReceived():
                self.bodies[event.stream_id] += event.data
                self._unacknowledged.append((event.flow_controlled_length, event.stream_id))
            case StreamReset():
                self.sent_resets[event.stream_id] = int(event.error_code)
                self._answers.pop(event.stream_id, None)
            case ConnectionTerminated():
                self.goaways.append(int(event.error_code))
            case PingReceived():
                self.pings += 1
                if not self.answering_pings:
                    self.h2.data_to_send()

    def _acknowledge(self) -> None:
        for length, stream_id in self._unacknowledged:
            if length:
                self.h2.acknowledge_received_data(length, stream_id)
        self._unacknowledged.clear()

    def _pump(self) -> None:
        for stream_id, parts in list(self._answers.items()):
            while parts:
                room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
                part = parts.popleft()
                if not part:
                    continue
                if room <= 0:
                    parts.appendleft(part)
                    break
                self.h2.send_data(stream_id, part[:room])
                parts.appendleft(part[room:])
            if not parts:
                del self._answers[stream_id]
                self.h2.send_headers(stream_id, TRAILERS, end_stream=True)


_IN_A_HUB = " in a hub"


class Address:
    """Where a server of a test listens."""

    def __init__(self, network: Network, host: str, port: int) -> None:
        self.network = network
        self.host = host
        self.port = port


@cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server called "node", and for its clients."""
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.set_alpn_protocols(["h2"])
    authority.issue_cert("node").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    return server_side, client_side


async def serve_tls(
    serve: Callable[[Any], Awaitable[object]], context: ssl.SSLContext, stream: trio.abc.Stream
) -> None:
    """Serve a connection over TLS; it may break before it has begun."""
    await serve(trio.SSLStream(stream, context, server_side=True, https_compatible=True))


@asynccontextmanager
async def serving(kind: str, serve: Callable[[Any], Awaitable[object]]) -> AsyncIterator[Address]:
    """Serve connections: in "memory", there with "tls", over "tcp", there with "tls on tcp"."""
    listeners: list[Any]
    if kind in ("memory", "tls"):
        network = MemoryNetwork()
        listeners = [network.listen("node")]
        address = Address(network, "node", listeners[0].port)
    else:
        listeners = list(await trio.open_tcp_listeners(0, host="127.0.0.1"))
        address = Address(TCPNetwork(), "127.0.0.1", listeners[0].socket.getsockname()[1])
    if kind in ("tls", "tls on tcp"):
        server_side, client_side = tls_contexts()
        address.network = TLSNetwork(client_side, address.network, server_hostname="node")
        serve = partial(serve_tls, serve, server_side)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        yield address
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(kind: str, server: H2Server | None = None) -> AsyncIterator[tuple[Connection, H2Server]]:
    """A connection to a server, closed in the end, and with nothing left running.

    Args:
        kind: one of those of `serving`; with " in a hub" behind it, a `SocketHub` reads and writes.
        server: the server; a new one if None.
    """
    server = server or H2Server()
    hub = SocketHub() if kind.endswith(_IN_A_HUB) else None
    async with (
        serving(kind.removesuffix(_IN_A_HUB), server) as address,
        trio.open_nursery() as hubs,
        trio.open_nursery() as nursery,
    ):
        if hub is not None:
            hubs.start_soon(hub.run)
        connection = await open_connection(nursery, address.network, address.host, address.port, hub=hub)
        try:
            yield connection, server
        finally:
            await connection.aclose()
            hubs.cancel_scope.cancel()


def use_up_stream_ids(connection: Connection) -> None:
    """Have the next call get the last stream id. The way there would be 2**30 calls: too long for a test."""
    connection._http2._sender.next_stream_id = 2**31 - 1


async def call(connection: Connection, data: bytes = b"hello", *, timeout: float = 60.0) -> bytes:
    """Make a unary call and return the answer's message."""
    unary = UnaryCall(connection, FIELDS, [data], max_message_bytes=64 << 20)
    return (await unary.perform(timeout)).message
