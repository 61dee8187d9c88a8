"""While the list is fetched anew: the end at any time, updates at any time, and real sockets."""

from __future__ import annotations

import contextlib
import functools
import math
import random
import ssl
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio_websocket
import trustme
from helpers.checkpoints import cancel_everywhere
from helpers.remains import our_tasks
from helpers.resyncing import INTERVAL, OFTEN, Refusing, closing_code, ids
from helpers.websocket_server import (
    EXACT,
    Events,
    Session,
    StallingNetwork,
    WebSocketServer,
    configured,
    entry,
    feeding,
    report_on,
    sent_report,
    serving,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.config import ClusterConfig
from trio_model_runner.network import MemoryNetwork, TCPNetwork
from trio_model_runner.orchestrator import FeedEvent, Init, OrchestratorFeed, line
from trio_model_runner.orchestrator.overlap import Overlap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SOON = attrs.evolve(EXACT, resync_interval=0.001)  # for real time


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
async def test_closing_closes_both(
    autojump_clock: MockClock, nursery: trio.Nursery, frozen: bool, swapped: bool
) -> None:
    codes: list[tuple[float, int]] = []
    network = Refusing()
    async with serving(network.listen(port=9091)) as server:
        async with feeding(configured(network, OFTEN)) as (_, events):
            first = await server.session()
            await first.send("init", entry("1"))
            second = await server.session()
            if swapped:
                await second.send("init", entry("1"))
            await wait_all_tasks_blocked()
            for session in (first, second):
                if frozen:
                    session.freeze()
                else:
                    nursery.start_soon(closing_code, session, codes)
            await wait_all_tasks_blocked()
            closed = trio.current_time()
        assert trio.current_time() == closed + 2 * frozen
        await wait_all_tasks_blocked()
        assert [code for _, code in codes] == [] if frozen else [1000, 1000]
        assert network.open == 0
        assert our_tasks() == []
        assert isinstance(events.receive_nowait(), Init)


async def test_no_second_connection_is_made_while_the_feed_is_closed(autojump_clock: MockClock) -> None:
    network = Refusing()
    async with serving(network.listen(port=9091)) as server:
        async with feeding(configured(network, attrs.evolve(EXACT, resync_interval=1))):
            session = await server.session()
            await session.send("init", entry("1"))
            await wait_all_tasks_blocked()
            session.freeze()
            await trio.sleep(0.5)
        assert trio.current_time() == 2.5
        assert len(network.streams) == 1


class Life:
    """A feed that is connected and meets a swap, to be cut off anywhere."""

    def __init__(self, network: Refusing, server: WebSocketServer) -> None:
        self.network = network
        self.server = server

    async def run(self, *, closing: bool) -> None:
        events: list[FeedEvent] = []
        feed = OrchestratorFeed(configured(self.network, OFTEN))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.run, events.append)
            first = await self.server.session()
            await first.send("init", entry("1"))
            second = await self.server.session()
            await first.send("update", entry("2"))
            feed.report(report_on("1"))
            await second.send("init", entry("1"), entry("2"))
            await second.send("update", entry("3"))
            await trio.sleep(7)
            if closing:
                await feed.aclose()
            nursery.cancel_scope.cancel()
        assert len(events) == 4


@contextlib.asynccontextmanager
async def a_life() -> AsyncIterator[Life]:
    network = Refusing()
    async with serving(network.listen(port=9091)) as server:
        yield Life(network, server)


async def nothing_is_left(life: Life, _: bool) -> None:
    await wait_all_tasks_blocked()
    assert life.network.open == 0
    assert our_tasks() == []


@pytest.mark.parametrize("closing", [False, True])
async def test_a_cancellation_anywhere_leaves_nothing(autojump_clock: MockClock, closing: bool) -> None:
    points = await cancel_everywhere(
        a_life, functools.partial(Life.run, closing=closing), nothing_is_left, stride=3
    )
    assert points > 30


@pytest.mark.parametrize("after", [0, 0.5, 4.99, 5, 5.5])
@pytest.mark.parametrize("init", [False, True])
async def test_closing_at_any_time_is_bounded_and_leaves_nothing(
    autojump_clock: MockClock, after: float, init: bool
) -> None:
    async with a_life() as life:
        async with feeding(configured(life.network, OFTEN)) as (feed, _):
            first = await life.server.session()
            await first.send("init", entry("1"))
            second = await life.server.session()
            if init:
                await second.send("init", entry("1"))
            await trio.sleep(after)
            for session in (first, second):
                session.freeze()
            for stream in life.network.streams:
                stream.stall()
            feed.report(report_on("1"))
            closed = trio.current_time()
        assert trio.current_time() <= closed + 2
        await nothing_is_left(life, False)


async def test_no_keyboard_interrupt_is_raised_inside(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected: list[bool] = []

    class WatchedOverlap(Overlap):
        def __init__(self) -> None:
            super().__init__()
            protected.append(trio.lowlevel.currently_ki_protected())

    class WatchedNetwork(StallingNetwork):
        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            protected.append(trio.lowlevel.currently_ki_protected())
            return await super().connect(host, port)

    monkeypatch.setattr(line, "Overlap", WatchedOverlap)
    network = WatchedNetwork()
    feed = OrchestratorFeed(configured(network, OFTEN))

    def deliver(event: FeedEvent) -> None:
        protected.append(trio.lowlevel.currently_ki_protected())

    async with serving(network.listen(port=9091)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(feed.run, deliver)
        await (await server.session()).send("init", entry("1"))
        second = await server.session()
        await second.send("init", entry("1"))
        await wait_all_tasks_blocked()
        feed.report(report_on("1"))
        await second.receive()
        await trio.sleep(30)
        await feed.aclose()
    assert protected == [True] * 6  # twice: an overlap, a connection and a list
    for stream in network.streams:
        assert len(stream.protected) >= 5
        assert all(stream.protected)


async def test_a_bug_of_ours_comes_out_as_itself(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    feed = OrchestratorFeed(configured(network, OFTEN))

    def deliver(event: FeedEvent) -> None:
        if isinstance(event, Init) and event.corrects:
            raise ZeroDivisionError("of ours")

    async def send_inits(server: WebSocketServer) -> None:
        while True:
            await (await server.session()).send("init")

    async with serving(network.listen(port=9091)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(send_inits, server)
        with pytest.raises(ZeroDivisionError, match="of ours"):
            await feed.run(deliver)
        nursery.cancel_scope.cancel()


# Whatever the times are.


class RandomServer:
    """Lists models and tells of new ones, each client at its own times."""

    def __init__(self, server: WebSocketServer, rng: random.Random) -> None:
        self.listed: list[str] = []
        self.clients = 0
        self._server = server
        self._rng = rng
        self._outboxes: list[trio.MemorySendChannel[str]] = []

    async def run(self, nursery: trio.Nursery) -> None:
        while True:
            session = await self._server.session()
            outbox, inbox = trio.open_memory_channel[str](math.inf)
            self._outboxes.append(outbox)
            nursery.start_soon(self._tell, session, inbox, self.listed.copy())

    async def _tell(self, session: Session, inbox: trio.MemoryReceiveChannel[str], listed: list[str]) -> None:
        self.clients += 1
        with contextlib.suppress(trio_websocket.ConnectionClosed):
            await trio.sleep(self._rng.expovariate(2))
            await session.send("init", *map(entry, listed))
            async for model_id in inbox:
                await trio.sleep(self._rng.expovariate(8))
                await session.send("update", entry(model_id))

    def add(self, model_id: str) -> None:
        self.listed.append(model_id)
        for outbox in self._outboxes:
            outbox.send_nowait(model_id)


@pytest.mark.parametrize("seed", range(30))
async def test_nothing_is_lost_or_doubled_whenever_updates_come(autojump_clock: MockClock, seed: int) -> None:
    rng = random.Random(seed)
    network = MemoryNetwork()
    async with (
        serving(network.listen(port=9091)) as websockets,
        feeding(configured(network, OFTEN)) as (_, events),
        trio.open_nursery() as nursery,
    ):
        server = RandomServer(websockets, rng)
        nursery.start_soon(server.run, nursery)
        await trio.sleep(0.9 * INTERVAL)
        for number in range(200):
            await trio.sleep(rng.expovariate(5))
            server.add(str(number))
        await trio.sleep(3 * INTERVAL)
        assert server.clients >= 3
        nursery.cancel_scope.cancel()
    assert told_once(events) == set(server.listed)


def told_once(events: Events) -> set[str]:
    """All models that events name; none is named twice, but by lists, which must have those named before."""
    known: set[str] = set()
    with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            event = events.receive_nowait()
            named = set(ids(event))
            assert known <= named if isinstance(event, Init) else not known & named
            known |= named
    return known


# Real time, sockets and certificates.


@pytest.mark.parametrize("encrypted", [False, True])
async def test_over_tcp_and_tls(encrypted: bool, tmp_path: Path) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    settings: dict[str, Any] = {}
    listening: trio.abc.Listener[Any] = listener
    if encrypted:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        listening = trio.SSLListener(listener, context, https_compatible=True)
        settings = {"tls_ca_file": tmp_path / "authority.pem"}
    config = ClusterConfig("c", "localhost", port, network=TCPNetwork(), orchestrator=SOON, **settings)
    with trio.fail_after(30):
        async with serving(listening) as server, feeding(config) as (feed, events):
            first = await server.session()
            await first.send("init", entry("1"))
            assert isinstance(await events.receive(), Init)
            second = await server.session()
            assert isinstance(second.stream, trio.SSLStream) == encrypted
            await first.send("update", entry("2"))
            assert ids(await events.receive()) == ["2"]
            await second.send("init", entry("1"))
            event = await events.receive()
            assert isinstance(event, Init)
            assert event.corrects
            assert ids(event) == ["1", "2"]
            await second.send("update", entry("2"))
            await second.send("update", entry("3"))
            assert ids(await events.receive()) == ["3"]
            feed.report(report_on("1"))
            assert await second.receive() == sent_report("1")
            assert await first.receive_close() == 1000  # after five seconds
            await second.send("update", entry("4"))
            assert ids(await events.receive()) == ["4"]
