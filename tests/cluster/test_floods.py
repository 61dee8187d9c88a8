"""Nodes that send too much for nothing: only their own results suffer, and they are given up and reported."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from helpers.coordinating import Model
from helpers.wrapped_stream import WrappedStream
from trio.testing import MockClock

from trio_model_runner import Cluster, ClusterConfig, DynamicSubclassService, ModelState, Status
from trio_model_runner.network import MemoryNetwork, Network
from trio_model_runner.rpc import frames
from trio_model_runner.testing import LocalCrunch

USELESS = frames.ping_frame(bytes(8), ack=True) * 1000
GOODBYE = frames.goaway_frame(2**31 - 1, 0)


class Flooded(WrappedStream):
    """A stream to a good node, on which something else comes instead after a number of pieces."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, pieces: int, beginning: bytes) -> None:
        super().__init__(stream)
        self._pieces = pieces
        self._beginning = beginning

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._pieces:
            self._pieces -= 1
            return bytes(await self._stream.receive_some(max_bytes))
        await trio.lowlevel.checkpoint()
        beginning, self._beginning = self._beginning, b""
        return beginning + USELESS


class FloodingNetwork(Network):
    """A network on which some nodes send too much, after a number of pieces of a connection."""

    def __init__(self, network: Network, pieces: Callable[[int], int], beginning: bytes = b"") -> None:
        self._network = network
        self._pieces = pieces
        self._beginning = beginning
        self.ports: set[int] = set()
        self.connections: list[float] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        stream = await self._network.connect(host, port)
        if port not in self.ports:
            return stream
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        self.connections.append(trio.current_time())
        return Flooded(stream, self._pieces(len(self.connections)), self._beginning)


async def play(
    network: FloodingNetwork, crunch: LocalCrunch, seconds: float
) -> tuple[dict[str, list[Status]], list[str], ModelState]:
    """Rounds for a time, or until somebody is reported: all statuses and texts, and what became of "bad"."""
    config: ClusterConfig = crunch.config(network=network)
    network.ports = {crunch.node("bad").port}
    statuses: dict[str, list[Status]] = {}
    texts = []
    async with Cluster(config, DynamicSubclassService("a.B")) as cluster:
        with trio.move_on_after(seconds):
            while not crunch.reports:
                results = await cluster.call("predict", timeout=1)
                for result in results.by_id.values():
                    statuses.setdefault(result.model.model_id, []).append(result.status)
                texts.append(results.by_id["bad"].detail)
                await trio.sleep(2)
        return statuses, texts, cluster.announced["bad"].state


WHEN: dict[str, Callable[[int], int]] = {
    "before it says anything": lambda number: 0,
    "before its Setup is answered": lambda number: 1,
    "in the first calls": lambda number: 6,
    "in later calls": lambda number: 20,
    "now and then": lambda number: 7 if number % 2 else 9,
}


@pytest.mark.parametrize("when", WHEN.values(), ids=WHEN)
@pytest.mark.parametrize("goodbye", [b"", GOODBYE], ids=["silent", "after a GOAWAY"])
async def test_a_model_whose_node_floods_is_given_up_and_reported_and_nobody_else_notices(
    autojump_clock: MockClock, when: Callable[[int], int], goodbye: bytes
) -> None:
    names = [*"abcd", "bad"]
    memory = MemoryNetwork()
    network = FloodingNetwork(memory, when, goodbye if when(1) else b"")
    async with LocalCrunch(dict.fromkeys(names, Model), network=memory) as crunch:
        statuses, texts, state = await play(network, crunch, 1200)
    bad = statuses.pop("bad")
    assert {status for each in statuses.values() for status in each} == {Status.SUCCESS}
    assert set(bad) <= {Status.SUCCESS, Status.ABSENT, Status.FAILED, Status.TIMEOUT}
    assert len(network.connections) <= (600 if goodbye else 10)  # one in 2 s, if each ends in peace
    [report] = crunch.reports
    assert report["failure_code"] == "CONNECTION_FAILED"
    reason = report["failure_reason"]
    assert reason.startswith("no connection after 5 attempts") or (goodbye and reason.startswith("unserved"))
    assert state is ModelState.FAILED
    if when(1) and not goodbye:
        assert len(network.connections) == 5
        assert "the server sent too much for nothing" in report["failure_reason"]
        assert any("the server sent too much for nothing" in text for text in texts)
