"""Several errors at once, on the connection to the orchestrator: none ends the cluster, and no bug is lost.

One task listens, and one sends pings. When the connection is lost, both can raise at the same moment; then
what comes out of their nursery is a group of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from helpers.coordinating import Model, coordinating
from helpers.websocket_server import configured, entry, feeding, serving
from trio.testing import MockClock

from trio_model_runner import Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.orchestrator import Disconnected, FeedEvent, Init, OrchestratorFeed
from trio_model_runner.orchestrator.websocket import WebSocket, WebSocketLost


class BothAtOnce:
    """The first connection's listener, once it has heard the list, and its ping raise at the same moment.

    Args:
        heard: what the listener raises; None to let it return a message.
        pinged: what the ping raises.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, heard: Exception | None, pinged: Exception) -> None:
        self._now = trio.Event()
        self._both_wait = trio.Event()
        self._waiting = 0
        self._heard = heard
        self._pinged = pinged
        self._receive = WebSocket.receive
        self._ping = WebSocket.ping
        self._first: WebSocket | None = None
        this = self

        async def receive(websocket: WebSocket) -> Any:
            return await this.receive(websocket)

        async def ping(websocket: WebSocket) -> None:
            await this.ping(websocket)

        monkeypatch.setattr(WebSocket, "receive", receive)
        monkeypatch.setattr(WebSocket, "ping", ping)

    async def receive(self, websocket: WebSocket) -> Any:
        if self._first is None:
            self._first = websocket
            return await self._receive(websocket)
        if websocket is not self._first:
            return await self._receive(websocket)
        await self._wait()
        if self._heard is None:
            return '{"event": "update", "data": []}'
        raise self._heard

    async def ping(self, websocket: WebSocket) -> None:
        if websocket is not self._first:
            await self._ping(websocket)
            return
        await self._wait()
        raise self._pinged

    async def _wait(self) -> None:
        self._waiting += 1
        if self._waiting == 2:
            self._both_wait.set()
        await self._now.wait()

    async def let_go(self) -> None:
        """Wait until both wait, and let both raise."""
        await self._both_wait.wait()
        self._now.set()


def lost(text: str) -> WebSocketLost:
    return WebSocketLost(text)


async def test_a_connection_that_two_tasks_find_lost_is_lost_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = BothAtOnce(monkeypatch, lost("heard"), lost("pinged"))
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, events):
        await (await server.session()).send("init", entry("1"))
        assert isinstance(await events.receive(), Init)
        await both.let_go()
        event = await events.receive()
        assert isinstance(event, Disconnected)
        assert event.error in ("heard", "pinged")
        assert feed.last_error == event.error
        await (await server.session()).send("init", entry("2"))
        again = await events.receive()
        assert isinstance(again, Init)
        assert [each.model_id for each in again.entries] == ["2"]


async def test_it_does_not_end_the_cluster(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    both = BothAtOnce(monkeypatch, lost("heard"), lost("pinged"))
    async with coordinating({"a": Model()}) as (crunch, cluster):
        await both.let_go()
        await trio.sleep(1)
        assert "the orchestrator is away: " in caplog.text
        await crunch.add("b", Model())
        await cluster.wait_for_models(2)
        assert {each.status for each in (await cluster.call("predict")).values()} == {Status.SUCCESS}


async def run_feed(both: BothAtOnce, deliver: Callable[[FeedEvent], None]) -> BaseException:
    """What a feed raises when both happens at once."""
    network = MemoryNetwork()
    caught: list[BaseException] = []
    async with serving(network.listen(port=9091)) as server:
        feed = OrchestratorFeed(configured(network))

        async def run() -> None:
            try:
                await feed.run(deliver)
            except Exception as error:
                caught.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await (await server.session()).send("init", entry("1"))
            await both.let_go()
        await feed.aclose()
    (error,) = caught
    return error


def raise_at_update(event: FeedEvent) -> None:
    """A bug of ours, after the list has come."""
    if isinstance(event, Init):
        return
    raise ZeroDivisionError("of ours")


async def test_a_bug_beside_a_lost_connection_comes_out_as_itself(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = BothAtOnce(monkeypatch, None, lost("pinged"))
    error = await run_feed(both, raise_at_update)
    assert isinstance(error, ZeroDivisionError)


async def test_of_two_bugs_at_once_none_is_lost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = BothAtOnce(monkeypatch, None, KeyError("of ours, too"))
    error = await run_feed(both, raise_at_update)
    assert isinstance(error, ExceptionGroup)
    assert error.subgroup(ZeroDivisionError) is not None
    assert error.subgroup(KeyError) is not None
