"""What waits in HTTP/2 when a node's proof lapses is not sent: the node decides how long it waits there.

The node is h2's server over TLS, since grpcio's would not let its windows be closed.
"""

from __future__ import annotations

import ssl
import struct
import time
from functools import partial
from typing import Any

import grpclib.const
import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from helpers.secure_crunch import AUTHORITY, PARTICIPANT, SERVICE, answer, coordinating
from helpers.secure_nodes import HOTKEY, public_key_of

from trio_model_runner import Arguments, DynamicSubclassService, SecureCredentials, Status
from trio_model_runner.channel import CallInterrupted
from trio_model_runner.proto.commons import Status as NodeStatus
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, SetupResponse
from trio_model_runner.proto.grpc.health.v1 import HealthCheckResponse

LIFE = 0.5  # seconds, from each answer on
HOLDS = {"streams": {SettingCodes.MAX_CONCURRENT_STREAMS: 0}, "window": {SettingCodes.INITIAL_WINDOW_SIZE: 0}}
ANSWERS = {
    "Check": HealthCheckResponse(status=1),  # type: ignore[arg-type]
    "Setup": SetupResponse(status=NodeStatus(code="SUCCESS", message="Instance created successfully")),
    "Call": answer(),
}


class Visitor:
    """One connection to the node: what came on it, by method."""

    def __init__(self, stream: trio.SSLStream[Any]) -> None:
        self.stream = stream
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.methods: dict[int, str] = {}
        self.bodies: dict[int, bytes] = {}
        self.resets: list[str] = []
        self._sending = trio.Lock()

    async def flush(self) -> None:
        async with self._sending:
            await self.stream.send_all(self.h2.data_to_send())

    def told(self, word: bytes) -> bool:
        return any(word in body for body in self.bodies.values())


class HoldingNode:
    """A node whose first connection has proofs that live for `life`; the next ones have good proofs.

    Args:
        hold: the settings by which the first connection takes nothing more.
        after: the method whose answer they go with.
    """

    def __init__(self, hold: dict[Any, int], after: str) -> None:
        self._hold, self._after = hold, after
        certificate = AUTHORITY.issue_cert("model-node-7.crunchdao.internal")
        self._key = public_key_of(certificate.cert_chain_pems[0].bytes())
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        AUTHORITY.configure_trust(self._context)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.set_alpn_protocols(["h2"])
        self.visitors: list[Visitor] = []
        self.life = LIFE
        self.answering: Any = lambda visitor, stream_id, method: True
        self.news = trio.Event()

    async def start(self, nursery: trio.Nursery) -> dict[str, Any]:
        """Serve; what an orchestrator says of it."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, self._serve, listeners)
        infos = {"cruncher_wallet_pubkey": PARTICIPANT.address, "cruncher_hotkey": HOTKEY}
        where = {"ip": "127.0.0.1", "port": listeners[0].socket.getsockname()[1]}
        return {"deployment_id": "d", "model_id": "7", "state": "RUNNING", "infos": infos, **where}

    async def wait(self, condition: Any) -> None:
        with trio.fail_after(20):
            while not condition():
                self.news = trio.Event()
                await self.news.wait()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        visitor = Visitor(trio.SSLStream(stream, self._context, server_side=True, https_compatible=True))
        self.visitors.append(visitor)
        try:
            visitor.h2.initiate_connection()
            await visitor.flush()
            while data := await visitor.stream.receive_some(1 << 16):
                for event in visitor.h2.receive_data(data):
                    self._handle(visitor, event)
                await visitor.flush()
                self.news.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.news.set()
            await trio.aclose_forcefully(visitor.stream)

    def _handle(self, visitor: Visitor, event: Any) -> None:
        match event:
            case RequestReceived():
                path = dict(event.headers)[":path"]
                visitor.methods[event.stream_id] = path.rpartition("/")[2]
                visitor.bodies[event.stream_id] = b""
            case DataReceived():
                visitor.bodies[event.stream_id] += event.data
            case StreamReset():
                visitor.resets.append(visitor.methods[event.stream_id])
            case StreamEnded():
                method = visitor.methods[event.stream_id]
                if self.answering(visitor, event.stream_id, method):
                    self.answer(visitor, event.stream_id)

    def answer(self, visitor: Visitor, stream_id: int) -> None:
        method, first = visitor.methods[stream_id], visitor is self.visitors[0]
        life = {"expires_at": time.time() + self.life} if first else {}
        proof = PARTICIPANT.delegate(self._key, model_id="7", **life)
        head = ((":status", "200"), ("content-type", "application/grpc"), *proof)
        body = bytes(ANSWERS[method])
        visitor.h2.send_headers(stream_id, head)
        visitor.h2.send_data(stream_id, struct.pack(">BL", 0, len(body)) + body)
        visitor.h2.send_headers(stream_id, (("grpc-status", "0"),), end_stream=True)
        if first and method == self._after:
            visitor.h2.update_settings(self._hold)


async def tell(cluster: Any, results: list[Any], done: trio.Event | None = None) -> None:
    results.append((await cluster.call("predict", Arguments("secret"), timeout=20)).by_id["7"])
    if done is not None:
        done.set()


@pytest.mark.parametrize("hold", HOLDS)
async def test_a_call_that_waits_when_the_proof_expires_is_not_sent_there(
    credentials: SecureCredentials, nursery: trio.Nursery, hold: str
) -> None:
    node, results = HoldingNode(HOLDS[hold], "Setup"), list[Any]()
    entry = await node.start(nursery)
    async with coordinating(entry, credentials=credentials, clock_leeway=0.0) as scene:
        await tell(scene.cluster, results)
        (result,) = results
        if hold == "streams":
            assert result.unwrap() == "here"
        else:  # its headers were sent, so nobody can say that nothing came of it
            assert (result.status, result.sent) == (Status.FAILED, False)
            await node.wait(lambda: node.visitors[0].resets == ["Call"])
            await tell(scene.cluster, results)
            assert results[1].unwrap() == "here"
        assert [visitor.told(b"secret") for visitor in node.visitors] == [False, True]
        assert scene.cluster.snapshot().reports_pending == 0


@pytest.mark.parametrize("hold", HOLDS)
async def test_a_setup_that_waits_when_the_proof_expires_is_not_sent_there(
    credentials: SecureCredentials, nursery: trio.Nursery, hold: str
) -> None:
    node, results = HoldingNode(HOLDS[hold], "Check"), list[Any]()
    entry = await node.start(nursery)
    service = DynamicSubclassService("crunch.Classified")
    async with coordinating(entry, credentials=credentials, clock_leeway=0.0, service=service) as scene:
        await tell(scene.cluster, results)
        assert results[0].unwrap() == "here"
        assert [visitor.told(b"Classified") for visitor in node.visitors] == [False, True]


async def test_a_call_that_was_handed_over_goes_on_while_another_is_held_back(
    credentials: SecureCredentials, nursery: trio.Nursery
) -> None:
    node, results, done = HoldingNode({}, "Setup"), list[Any](), trio.Event()
    node.answering = lambda visitor, stream_id, method: method != "Call"
    entry = await node.start(nursery)
    async with coordinating(entry, credentials=credentials, clock_leeway=0.0, service=SERVICE) as scene:
        first = node.visitors[0]
        nursery.start_soon(tell, scene.cluster, results, done)
        await node.wait(lambda: first.told(b"secret"))
        channel = scene.cluster.models["7"].channel
        streaming = partial(channel.request, "/other.Service/Stream", grpclib.const.Cardinality.STREAM_UNARY)
        async with streaming(CallRequest, CallResponse, timeout=20) as stream:
            await stream.send_message(CallRequest("begun"))
            await node.wait(lambda: first.told(b"begun"))
            with pytest.raises(CallInterrupted, match="the node's proof holds no longer"):
                await stream.recv_message()
            with pytest.raises(CallInterrupted, match="the node's proof holds no longer"):
                await stream.send_message(CallRequest("afterwards"))
            await stream.cancel()
        await node.wait(lambda: first.resets == ["Stream"])
        node.life = 3600
        (stream_id,) = [key for key, method in first.methods.items() if method == "Call"]
        node.answer(first, stream_id)
        await first.flush()
        with trio.fail_after(20):
            await done.wait()
        assert results[0].unwrap() == "here"
        assert not any(visitor.told(b"afterwards") for visitor in node.visitors)
