"""An HTTP/2 client on h2 for tests that want to see every frame that a local node sends."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs
import h2.config
import h2.connection
import h2.events
import trio
from grpclib.const import Status

from trio_model_runner.proto.commons import Argument, Variant
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, SetupRequest, SetupResponse
from trio_model_runner.values.data import DataType, decode_data, encode

if TYPE_CHECKING:
    from trio_model_runner.network import Network
    from trio_model_runner.testing import LocalNode

SERVICE = "/dynamic_subclass.DynamicSubclassService"


@attrs.define
class Answer:
    headers: dict[str, str] = attrs.Factory(dict)
    body: bytes = b""
    trailers: dict[str, str] = attrs.Factory(dict)
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> tuple[str, str]:
        trailers = self.trailers or self.headers
        return Status(int(trailers["grpc-status"])).name, trailers["grpc-message"]

    @property
    def value(self) -> Any:
        response = CallResponse().parse(self.body[5:])
        assert response.status.code == "SUCCESS", response
        variant = response.method_response
        return decode_data(variant.value, DataType(int(variant.type)))


class Client:
    """An HTTP/2 client that is one task: whoever waits for something reads for all."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.answers: defaultdict[int, Answer] = defaultdict(Answer)
        self.bodies: dict[int, bytes] = {}
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.settings: Any = None
        self.pongs = 0
        self.window_updates = 0
        self.closed = False

    async def send(self, path: str, message: Any, **headers: str) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        fixed = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "node", "te": "trailers"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.h2.send_headers(
            stream_id, [*fixed.items(), ("content-type", "application/grpc"), *named.items()]
        )
        content = bytes(message)
        self.bodies[stream_id] = b"\0" + len(content).to_bytes(4, "big") + content
        await self.flush()
        return stream_id

    async def flush(self) -> None:
        for stream_id, body in list(self.bodies.items()):
            window = self.h2.local_flow_control_window(stream_id)
            room = min(window, self.h2.max_outbound_frame_size, len(body))
            while room > 0:
                self.h2.send_data(stream_id, body[:room], end_stream=room == len(body))
                body = body[room:]
                window = self.h2.local_flow_control_window(stream_id)
                room = min(window, self.h2.max_outbound_frame_size, len(body))
            self.bodies[stream_id] = body
            if not body:
                del self.bodies[stream_id]
        await self.stream.send_all(self.h2.data_to_send())

    async def receive(self) -> bool:
        with trio.fail_after(1_000_000):  # rather than wait for ever on a clock that jumps
            data = await self.stream.receive_some()
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(bytes(data)):
            self.take(event)
        if self.goaway is None:
            await self.flush()
        return True

    def take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.answers[event.stream_id].headers = dict(event.headers)
            case h2.events.TrailersReceived():
                self.answers[event.stream_id].trailers = dict(event.headers)
            case h2.events.DataReceived():
                self.answers[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self.answers[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.answers[event.stream_id].reset = event.error_code
                self.answers[event.stream_id].ended = True
            case h2.events.ConnectionTerminated():
                self.goaway = event
            case h2.events.RemoteSettingsChanged():
                self.settings = event.changed_settings
            case h2.events.PingAckReceived():
                self.pongs += 1
            case h2.events.WindowUpdated():
                self.window_updates += 1

    async def wait(self, stream_id: int) -> Answer:
        while not self.answers[stream_id].ended and await self.receive():
            pass
        return self.answers[stream_id]

    async def wait_closed(self) -> None:
        while await self.receive():
            pass

    async def request(self, path: str, message: Any, **headers: str) -> Answer:
        return await self.wait(await self.send(path, message, **headers))

    async def setup(self) -> str:
        answer = await self.request(f"{SERVICE}/Setup", SetupRequest("any.Name"))
        return str(SetupResponse().parse(answer.body[5:]).status.message)

    async def call(self, method: str, *args: Any, **headers: str) -> Answer:
        return await self.request(f"{SERVICE}/Call", call_request(method, *args), **headers)

    async def send_call(self, method: str, *args: Any, **headers: str) -> int:
        return await self.send(f"{SERVICE}/Call", call_request(method, *args), **headers)

    async def reset(self, stream_id: int) -> None:
        self.h2.reset_stream(stream_id, 8)
        await self.flush()

    async def ping(self) -> None:
        self.h2.ping(b"12345678")
        await self.flush()


def call_request(method: str, *args: Any) -> CallRequest:
    encoded = [encode(value) for value in args]
    variants = [Variant(type=int(value.data_type), value=value.data) for value in encoded]
    return CallRequest(method, [Argument(index + 1, variant) for index, variant in enumerate(variants)])


async def connect(node: LocalNode, network: Network) -> Client:
    client = Client(await network.connect(node.host, node.port))
    await client.flush()
    return client
