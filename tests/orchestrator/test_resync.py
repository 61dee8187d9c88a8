"""The list is fetched anew on a second connection, which takes the first one's place, or the first stays."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
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

from trio_model_runner.config import ClusterConfig, OrchestratorConfig
from trio_model_runner.network import MemoryNetwork, TCPNetwork
from trio_model_runner.orchestrator import Disconnected, FeedEvent, Init, OrchestratorFeed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

INTERVAL = 100.0
OFTEN = attrs.evolve(EXACT, resync_interval=INTERVAL)
SOON = attrs.evolve(EXACT, resync_interval=0.001)  # for real time


class Refusing(StallingNetwork):
    """A network that can refuse, or never answer, from the second connection on."""

    error: str | None = None
    hangs = False
    deaf = False

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        if self.error is not None:
            await trio.lowlevel.checkpoint()
            raise OSError(self.error)
        if self.hangs:
            await trio.sleep_forever()
        stream = await super().connect(host, port)
        if self.deaf:
            self.streams[-1].stall()  # the server gets no handshake
        return stream

    @property
    def open(self) -> int:
        """How many of our ends are not closed."""
        # Private to trio: a memory stream does not say that it is closed.
        return sum(not stream.stream.receive_stream._closed for stream in self.streams)  # type: ignore[attr-defined]


@attrs.define
class Stage:
    """A feed that is connected, and lists model 1."""

    network: Refusing
    server: WebSocketServer
    feed: OrchestratorFeed
    events: Events
    first: Session

    async def event(self) -> FeedEvent:
        """The next event, which is there already or comes without waiting for time to pass."""
        await wait_all_tasks_blocked()
        return self.events.receive_nowait()

    async def nothing_more(self) -> None:
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            self.events.receive_nowait()

    async def swap(self, *entries: Any) -> Session:
        """Let a second connection take the place of the one in use; give it."""
        session = await self.server.session()
        await session.send("init", *entries)
        event = await self.event()
        assert isinstance(event, Init)
        assert event.corrects
        return session

    async def still_works(self) -> None:
        """The first connection brings events and takes reports, as if nothing had happened."""
        await self.first.send("update", entry("2"))
        assert ids(await self.event()) == ["2"]
        self.feed.report(report_on("1"))
        assert await self.first.receive() == sent_report("1")
        assert self.feed.connected
        assert self.feed.last_error is None
        await self.nothing_more()


@contextlib.asynccontextmanager
async def connected(orchestrator: OrchestratorConfig = OFTEN) -> AsyncIterator[Stage]:
    network = Refusing()
    async with (
        serving(network.listen(port=9091)) as server,
        feeding(configured(network, orchestrator)) as (feed, events),
    ):
        first = await server.session()
        await first.send("init", entry("1"))
        stage = Stage(network, server, feed, events, first)
        assert not (await events.receive()).corrects  # type: ignore[union-attr]
        yield stage


def ids(event: FeedEvent) -> list[str]:
    assert not isinstance(event, Disconnected)
    return [each.model_id for each in event.entries]


async def closing_code(session: Session, codes: list[tuple[float, int]]) -> None:
    code = await session.receive_close()
    codes.append((trio.current_time(), code))


async def test_a_second_connection_takes_the_place_of_the_first(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, nursery: trio.Nursery
) -> None:
    async with connected() as stage:
        since, codes = stage.feed.since, []  # type: ignore[var-annotated]
        second = await stage.server.session()
        opened = trio.current_time()
        assert 0.9 * INTERVAL <= opened <= 1.1 * INTERVAL
        await stage.nothing_more()
        await second.send("init", entry("1"), entry("2"))
        event = await stage.event()
        assert isinstance(event, Init)
        assert event.corrects
        assert ids(event) == ["1", "2"]
        nursery.start_soon(closing_code, stage.first, codes)
        await second.send("update", entry("3"))
        assert ids(await stage.event()) == ["3"]
        await stage.first.send("update", entry("3"))
        await trio.sleep(4.9)
        assert codes == []
        await trio.sleep(0.2)
        assert codes == [(opened + 5, 1000)]
        assert stage.network.open == 1
        await second.send("update", entry("4"))
        assert ids(await stage.event()) == ["4"]
        await stage.nothing_more()
        assert stage.feed.connected
        assert stage.feed.since == since
        third = await stage.swap(entry("1"))
        assert 0.9 * INTERVAL <= trio.current_time() - opened - 5 <= 1.1 * INTERVAL
        await third.send("update", entry("5"))
        assert ids(await stage.event()) == ["5"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_interval_varies_and_may_be_infinite(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        times = [trio.current_time()]
        for _ in range(20):
            await stage.swap()
            times.append(trio.current_time())
            await trio.sleep(6)
        waits = [later - before for before, later in itertools.pairwise(times)]
        assert max(waits) - min(waits) > 1
    async with connected(attrs.evolve(EXACT, resync_interval=math.inf)) as stage:
        with trio.move_on_after(20 * INTERVAL) as scope:
            await stage.server.session()
        assert scope.cancelled_caught


async def test_what_comes_on_both_counts_once(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        second = await stage.server.session()
        await stage.first.send("update", entry("2"))
        assert ids(await stage.event()) == ["2"]
        await second.send("init", entry("1"))
        assert ids(await stage.event()) == ["1", "2"]
        await second.send("update", entry("2"))
        await stage.first.send("update", entry("3"))
        await second.send("update", entry("3"))
        assert ids(await stage.event()) == ["3"]
        await stage.nothing_more()
        await trio.sleep(6)
        await second.send("update", entry("2"))  # said anew
        assert ids(await stage.event()) == ["2"]
        with trio.move_on_after(0.8 * INTERVAL) as scope:
            await stage.server.session()
        assert scope.cancelled_caught


@pytest.mark.parametrize("in_time", [True, False])
async def test_what_is_heard_on_the_old_one_only_makes_the_list_be_fetched_again(
    autojump_clock: MockClock, in_time: bool
) -> None:
    async with connected() as stage:
        second = await stage.swap(entry("1"))
        swapped = trio.current_time()
        if not in_time:
            await trio.sleep(4.9)
        await stage.first.send("update", entry("2"))
        await stage.nothing_more()
        if not in_time:
            await trio.sleep(4.9)  # too late for the overlap
        else:
            await trio.sleep(4)
            await second.send("update", entry("3"))
            assert ids(await stage.event()) == ["3"]
        third = await stage.swap(entry("1"), entry("2"), entry("3"))
        assert trio.current_time() <= swapped + 5 + 5.5
        await third.send("update", entry("4"))
        assert ids(await stage.event()) == ["4"]
        await trio.sleep(6)
        with trio.move_on_after(0.8 * INTERVAL) as scope:
            await stage.server.session()
        assert scope.cancelled_caught


async def test_messages_that_say_nothing_are_no_trouble_on_either(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        second = await stage.server.session()
        for session in (stage.first, second):
            await session.connection.send_message("nonsense")
        await second.send("update", entry("early"))
        await stage.nothing_more()
        await second.send("init")
        assert await stage.event() == Init((), corrects=True)
        await stage.first.send("init", entry("9"))  # nobody asked
        await second.send("init", entry("2"))
        assert ids(await stage.event()) == ["2"]
        await stage.nothing_more()


# The second connection fails.

STEPS = {
    "refused": "nobody there",
    "never answered": "no connection to localhost:9091 within 10 s",
    "rejected": "HTTP status 503: 'one is enough'",
    "closed": "the connection was closed with code 1001 (GOING_AWAY): 'full'",
    "broken": "the connection was lost",
    "error": "the orchestrator refuses us: 'one is enough'",
    "no init": "no init within 40 s",
    "frozen": "no init within 40 s",
}


async def fail_second(stage: Stage, step: str) -> None:
    """Let second connections fail at a step, from now on until this is cancelled."""
    if step == "refused":
        stage.network.error = "nobody there"
    elif step == "never answered":
        stage.network.hangs = True
    elif step == "rejected":
        stage.server.rejection = 503, b"one is enough"
    while True:
        session = await stage.server.session()
        if step == "closed":
            await session.connection.aclose(1001, "full")
        elif step == "broken":
            await session.stream.aclose()
        elif step == "error":
            await session.connection.send_message('{"error": "one is enough"}')
            await session.connection.aclose()
        elif step == "frozen":
            session.freeze()
        elif step == "no init":
            await session.connection.send_message("nonsense")


@pytest.mark.parametrize("step", STEPS)
async def test_if_the_second_fails_the_first_stays_and_it_is_tried_again_later(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    async with connected() as stage:
        since = stage.feed.since
        async with trio.open_nursery() as failing:
            failing.start_soon(fail_second, stage, step)
            await trio.sleep(INTERVAL * 1.1 + 43)  # the first attempt is over
            await stage.still_works()
            await trio.sleep(1000)
            await stage.still_works()
            failing.cancel_scope.cancel()
        stage.network.error, stage.network.hangs, stage.server.rejection = None, False, None
        await stage.swap(entry("7"))
        await trio.sleep(10)
        assert stage.network.open == 1
        assert stage.feed.since == since
    said = [r for r in caplog.records if "is not fetched anew" in r.message and r.levelno == logging.WARNING]
    assert len(said) == 1
    assert STEPS[step] in said[0].message


async def test_a_second_connection_that_fails_is_closed_properly(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async with connected() as stage:
        second = await stage.server.session()
        opened, codes = trio.current_time(), []  # type: ignore[var-annotated]
        nursery.start_soon(closing_code, second, codes)
        await trio.sleep(50)
        assert codes == [(opened + 40, 1000)]
        await stage.still_works()


async def test_a_list_that_comes_while_the_second_is_closed_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with connected() as stage:
        second = await stage.server.session()
        await trio.sleep(39.99)
        second.freeze()  # our close frame is not answered
        await trio.sleep(0.02)
        await second.send("init", entry("late"))
        await stage.still_works()


async def test_attempts_that_fail_come_less_and_less_often(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        times = []
        for _ in range(12):
            await (await stage.server.session()).stream.aclose()
            times.append(trio.current_time())
        waits = [later - before for before, later in itertools.pairwise(times)]
        assert waits[:5] == pytest.approx([5, 10, 20, 40, 80], rel=0.1)
        assert waits[5:] == pytest.approx([INTERVAL] * 6, rel=0.1)


# One of the two is lost.


@pytest.mark.parametrize("step", ["connecting", "shaking hands", "waiting for the init"])
async def test_the_first_is_lost_while_the_second_comes(autojump_clock: MockClock, step: str) -> None:
    async with connected() as stage:
        if step == "connecting":
            stage.network.hangs = True
            await trio.sleep(1.1 * INTERVAL + 1)
        elif step == "shaking hands":
            stage.network.deaf = True
            await trio.sleep(0.9 * INTERVAL)
            while len(stage.network.streams) == 1:  # noqa: ASYNC110
                await trio.sleep(0.1)
        else:
            await stage.server.session()
        stage.network.hangs = stage.network.deaf = False
        lost = trio.current_time()
        await stage.first.stream.aclose()
        assert await stage.event() == Disconnected("the connection was lost")
        assert not stage.feed.connected
        assert stage.network.open == 0
        await stage.nothing_more()
        session = await stage.server.session()
        assert trio.current_time() == lost + 0.5
        await session.send("init", entry("3"))
        event = await stage.event()
        assert isinstance(event, Init)
        assert not event.corrects
        stage.feed.report(report_on("3"))
        assert await session.receive() == sent_report("3")


async def test_the_first_is_lost_after_the_swap(autojump_clock: MockClock, caplog: Any) -> None:
    async with connected() as stage:
        second = await stage.swap(entry("1"))
        await stage.first.stream.aclose()
        await trio.sleep(1)
        await second.send("update", entry("2"))
        assert ids(await stage.event()) == ["2"]
        assert stage.feed.connected
        assert stage.feed.last_error is None
        await trio.sleep(60)
        await stage.nothing_more()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_second_is_lost_after_the_swap(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        second = await stage.swap(entry("1"))
        lost = trio.current_time()
        await second.stream.aclose()
        assert await stage.event() == Disconnected("the connection was lost")
        assert trio.current_time() == lost
        assert stage.network.open == 0
        await (await stage.server.session()).send("init", entry("2"))
        event = await stage.event()
        assert isinstance(event, Init)
        assert not event.corrects


# Reports.


async def test_reports_go_on_the_connection_in_use_and_once(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        second = await stage.server.session()
        stage.feed.report(report_on("1"))
        assert await stage.first.receive() == sent_report("1")
        await second.send("init", entry("2"))
        await stage.event()
        stage.feed.report(report_on("2"))
        assert await second.receive() == sent_report("2")
        for session in (stage.first, second):
            with trio.move_on_after(3) as scope:
                await session.receive()
            assert scope.cancelled_caught
        assert stage.feed.pending_reports == 0


async def test_a_report_that_the_first_does_not_take_goes_on_the_second(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        second = await stage.server.session()
        stage.network.streams[0].stall()
        stage.feed.report(report_on("1", "first"))
        await wait_all_tasks_blocked()
        await second.send("init", entry("1"))
        await stage.event()
        stage.feed.report(report_on("1", "second"))
        assert await second.receive() == sent_report("1", "first")
        assert await second.receive() == sent_report("1", "second")
        await wait_all_tasks_blocked()
        assert stage.feed.pending_reports == 0
        await stage.nothing_more()


async def test_what_does_not_run_any_more_is_not_reported(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected() as stage:
        second = await stage.server.session()
        stage.network.streams[0].stall()
        stage.feed.report(report_on("2"))
        stage.feed.report(report_on("1"))
        await second.send("init", entry("1"), entry("2", ip="127.0.0.9"))
        await stage.event()
        assert "not reporting FailureReport(model_id='2'" in caplog.text
        assert stage.feed.pending_reports == 1


# The end.


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


async def test_no_keyboard_interrupt_is_raised_inside(autojump_clock: MockClock) -> None:
    protected: list[bool] = []
    network = StallingNetwork()
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
    assert protected == [True, True]
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
