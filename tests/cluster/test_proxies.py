"""Proxies before nodes answer with pages of HTTP: no model is blamed for what its proxy says."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import trio
from helpers.coordinating import Model
from helpers.h2_server import H2Server, message
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, DynamicSubclassService, Status
from trio_model_runner.network import MemoryNetwork, Network
from trio_model_runner.proto.commons import Status as NodeStatus
from trio_model_runner.proto.dynamic_subclass import SetupResponse
from trio_model_runner.testing import LocalCrunch

HTML = b"<html><body>nginx</body></html>"


class ProxiedNetwork(Network):
    """A network on which some ports lead to a proxy."""

    def __init__(self, network: MemoryNetwork, proxy: int, ports: Collection[int]) -> None:
        self._network = network
        self._proxy = proxy
        self._ports = ports
        self.connections = 0

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        if port not in self._ports:
            return await self._network.connect(host, port)
        self.connections += 1
        return await self._network.connect("proxy", self._proxy)


def proxy_that_answers(status: str, body: bytes) -> H2Server:
    """A proxy before a node whose Setup succeeds, and whose calls the proxy answers itself."""

    def respond(server: H2Server, stream_id: int, _: bytes) -> None:
        if server.requests[stream_id][":path"].endswith("/Setup"):
            server.answer(stream_id, message(bytes(SetupResponse(status=NodeStatus(code="SUCCESS")))))
            return
        headers = [(":status", status), ("content-type", "text/html"), ("server", "nginx")]
        server.h2.send_headers(stream_id, headers, end_stream=not body)
        if body:
            server.h2.send_data(stream_id, body, end_stream=True)

    server = H2Server()
    server.on_request = respond
    return server


@pytest.mark.parametrize("body", [b"", HTML], ids=["no body", "a body"])
@pytest.mark.parametrize(
    "status", ["200", "400", "401", "403", "404", "413", "429", "500", "502", "503", "504"]
)
async def test_two_healthy_models_behind_a_proxy_that_answers_itself_are_not_reported_for_their_answers(
    autojump_clock: MockClock, status: str, body: bytes
) -> None:
    memory = MemoryNetwork()
    async with (
        LocalCrunch(dict.fromkeys("abcdef", Model), network=memory) as crunch,
        trio.open_nursery() as nursery,
    ):
        listener = memory.listen("proxy")
        nursery.start_soon(trio.serve_listeners, lambda s: proxy_that_answers(status, body)(s), [listener])
        ports = {crunch.node("a").port, crunch.node("b").port}
        network = ProxiedNetwork(memory, listener.port, ports)
        async with Cluster(crunch.config(network=network), DynamicSubclassService("a.B")) as cluster:
            for _ in range(20):
                results = await cluster.call("predict", Arguments(1.5), timeout=1)
                assert len(results.succeeded) == 4
                for model in "ab":
                    result = results.by_id[model]
                    assert result.status in (Status.FAILED, Status.ABSENT)
                    assert repr(status) in result.detail or "text/html" in result.detail
                await trio.sleep(5)
            await trio.sleep(200)
        assert crunch.reports == []
        nursery.cancel_scope.cancel()
