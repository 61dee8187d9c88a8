"""Reports are kept until they are sent, each in a message of its own; closing is bounded."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from helpers.websocket_server import (
    RefusingNetwork,
    Session,
    StallingNetwork,
    answer_to,
    configured,
    entry,
    feeding,
    read_handshake,
    report_on,
    sent_report,
    serving,
)

from trio_model_runner.network import MemoryNetwork
from trio_model_runner.orchestrator import (
    Disconnected,
    FeedEvent,
    Init,
    OrchestratorFeed,
)
from trio_model_runner.orchestrator.websocket import WebSocket, WebSocketLost


async def test_a_report_is_sent_one_a_message(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, _):
        session = await server.session()
        await session.send("init", entry("1"), entry("2"))
        feed.report(report_on("1", "too slow"))
        feed.report(report_on("2"))
        assert await session.receive() == sent_report("1", "too slow")
        assert await session.receive() == sent_report("2")
        feed.report(report_on("1"))
        assert await session.receive() == sent_report("1")
        await trio.testing.wait_all_tasks_blocked()
        assert feed.pending_reports == 0


async def test_a_report_that_is_sent_is_logged_in_words(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, _):
        session = await server.session()
        await session.send("init", entry("1"))
        feed.report(report_on("1"))
        assert await session.receive() == sent_report("1")
        await trio.testing.wait_all_tasks_blocked()
    assert "reported model '1' as " in caplog.text
    assert "FailureReport(" not in caplog.text


async def test_reports_wait_for_the_init(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, _):
        feed.report(report_on("1"))
        session = await server.session()
        await trio.testing.wait_all_tasks_blocked()
        assert feed.pending_reports == 1
        await session.send("init", entry("1"))
        assert await session.receive() == sent_report("1")


async def test_reports_are_kept_while_the_orchestrator_is_away(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = MemoryNetwork()
    async with feeding(configured(network)) as (feed, _):
        feed.report(report_on("gone"))
        feed.report(report_on("redeployed"))
        feed.report(report_on("moved"))
        feed.report(report_on("stopped"))
        feed.report(report_on("withdrawn"))
        feed.report(report_on("same", "first"))
        feed.report(report_on("same", "second"))
        feed.report(report_on("old", deployment_id=None))
        feed.withdraw("withdrawn")
        feed.withdraw("unknown")
        await trio.sleep(100)
        assert feed.pending_reports == 6
        async with serving(network.listen(port=9091)) as server:
            session = await server.session()
            await session.send(
                "init",
                entry("redeployed", deployment_id="new"),
                entry("moved", ip="127.0.0.2"),
                entry("stopped", state="STOPPED"),
                entry("withdrawn"),
                entry("same", deployment_id="older"),
                entry("same"),
                entry("old", deployment_id=None),
            )
            assert await session.receive() == sent_report("same", "second")
            assert await session.receive() == sent_report("old")
            await trio.testing.wait_all_tasks_blocked()
            assert feed.pending_reports == 0
    for model_id in ("gone", "redeployed", "moved", "stopped"):
        assert f"model '{model_id}' is not reported: it does not run there any more" in caplog.text


async def test_a_report_lost_in_mid_send_is_sent_again(autojump_clock: trio.testing.MockClock) -> None:
    network = StallingNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, events):
        session = await server.session()
        await session.send("init", entry("1"))
        assert isinstance(await events.receive(), Init)
        network.streams[0].stall()
        feed.report(report_on("1"))
        assert await events.receive() == Disconnected(
            "no answer to a ping within 30 s (orchestrator.pong_timeout)"
        )
        assert feed.pending_reports == 1
        session = await server.session()
        await session.send("init", entry("1"))
        assert await session.receive() == sent_report("1")


async def test_a_connection_that_takes_no_report_is_made_anew(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(websocket: WebSocket, message: str) -> None:
        await trio.lowlevel.checkpoint()
        raise WebSocketLost("it takes nothing, though it can be read")

    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, events):
        session = await server.session()
        await session.send("init", entry("1"))
        await events.receive()
        with monkeypatch.context() as patch:
            patch.setattr(WebSocket, "send", fail)
            feed.report(report_on("1"))
            assert await events.receive() == Disconnected("it takes nothing, though it can be read")
        assert trio.current_time() == 0
        session = await server.session()
        await session.send("init", entry("1"))
        assert await session.receive() == sent_report("1")


async def test_a_newer_report_follows_one_that_is_being_sent(autojump_clock: trio.testing.MockClock) -> None:
    network = StallingNetwork()
    async with serving(network.listen(port=9091)) as server, feeding(configured(network)) as (feed, events):
        session = await server.session()
        await session.send("init", entry("1"))
        await events.receive()
        network.streams[0].stall()
        feed.report(report_on("1", "first"))
        await trio.testing.wait_all_tasks_blocked()
        feed.report(report_on("1", "second"))
        network.streams[0].released.set()
        assert await session.receive() == sent_report("1", "first")
        assert await session.receive() == sent_report("1", "second")
        await trio.testing.wait_all_tasks_blocked()
        assert feed.pending_reports == 0


async def test_closing_says_goodbye(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    codes: list[int] = []

    async def watch(session: Session) -> None:
        codes.append(await session.receive_close())

    async with serving(network.listen(port=9091)) as server, trio.open_nursery() as nursery:
        async with feeding(configured(network)) as (_, events):
            session = await server.session()
            nursery.start_soon(watch, session)
            await session.send("init")
            await events.receive()
        assert trio.current_time() == 0
        with pytest.raises(trio.WouldBlock):
            events.receive_nowait()
    assert codes == [1000]


async def test_a_report_made_just_before_closing_is_sent(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    received: list[Any] = []

    async def watch(session: Session) -> None:
        received.append(await session.receive())
        received.append(await session.receive())
        received.append(await session.receive_close())

    async with (
        serving(network.listen(port=9091)) as server,
        trio.open_nursery() as nursery,
        feeding(configured(network)) as (feed, events),
    ):
        session = await server.session()
        nursery.start_soon(watch, session)
        await session.send("init", entry("1"), entry("2"))
        await events.receive()
        await trio.testing.wait_all_tasks_blocked()
        feed.report(report_on("1"))
        feed.report(report_on("2"))
    assert received == [sent_report("1"), sent_report("2"), 1000]


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("pending", [False, True])
async def test_closing_is_bounded_when_the_server_is_stopped(
    autojump_clock: trio.testing.MockClock, stalls: bool, pending: bool
) -> None:
    network = StallingNetwork()
    async with serving(network.listen(port=9091)) as server:
        with trio.CancelScope(shield=True):
            async with feeding(configured(network)) as (feed, events):
                session = await server.session()
                await session.send("init", entry("1"))
                await events.receive()
                await trio.testing.wait_all_tasks_blocked()
                session.freeze()
                if stalls:
                    network.streams[0].stall()
                if pending:
                    feed.report(report_on("1"))
        assert trio.current_time() == 2


@pytest.mark.parametrize("pending", [False, True])
async def test_closing_does_not_wait_for_a_server_that_dies_meanwhile(
    autojump_clock: trio.testing.MockClock, pending: bool
) -> None:
    network = StallingNetwork()
    async with serving(network.listen(port=9091)) as server, trio.open_nursery() as nursery:
        async with feeding(configured(network)) as (feed, events):
            session = await server.session()
            await session.send("init", entry("1"))
            await events.receive()
            if pending:
                network.streams[0].stall()
                feed.report(report_on("1"))
            session.freeze()

            async def die() -> None:
                await trio.sleep(1)
                await session.stream.aclose()

            nursery.start_soon(die)
        assert trio.current_time() == 1
        assert feed.last_error is None


async def test_closing_meets_a_ping(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen(port=9091)
    async with trio.open_nursery() as nursery:
        async with feeding(configured(network)):
            stream = await listener.accept()
            await stream.send_all(answer_to(await read_handshake(stream)))
            await trio.testing.wait_all_tasks_blocked()

            async def ping_at_the_close_frame() -> None:
                assert (await stream.receive_some())[0] == 0x88
                await stream.send_all(b"\x89\x00")

            nursery.start_soon(ping_at_the_close_frame)
        assert trio.current_time() == 0


@pytest.mark.parametrize("wait", [0, 0.25, 3])
async def test_closing_while_there_is_no_connection_is_immediate(
    autojump_clock: trio.testing.MockClock, wait: float
) -> None:
    async with feeding(configured(RefusingNetwork())) as (feed, _):
        await trio.sleep(wait)
        started = trio.current_time()
        feed.report(report_on("1"))
    assert trio.current_time() == started


async def test_closing_during_the_handshake_is_immediate(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen(port=9091)
    async with feeding(configured(network)):
        stream = await listener.accept()
        await read_handshake(stream)
    assert trio.current_time() == 0
    assert await stream.receive_some() == b""


async def test_a_feed_may_be_closed_before_it_runs_and_twice(autojump_clock: trio.testing.MockClock) -> None:
    feed = OrchestratorFeed(configured(MemoryNetwork()))
    await feed.aclose()
    await feed.run(lambda event: None)
    await feed.aclose()


async def test_a_cancelled_feed_leaves_nothing_open(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen(port=9091)
    feed = OrchestratorFeed(configured(network))
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.run, lambda event: None)
            stream = await listener.accept()
            await stream.send_all(answer_to(await read_handshake(stream)))
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert await stream.receive_some() == b""


async def test_cancelling_the_closing_ends_the_feed(autojump_clock: trio.testing.MockClock) -> None:
    network = MemoryNetwork()
    async with serving(network.listen(port=9091)) as server, trio.open_nursery() as nursery:
        feed = OrchestratorFeed(configured(network))
        nursery.start_soon(feed.run, lambda event: None)
        session = await server.session()
        await trio.testing.wait_all_tasks_blocked()
        session.freeze()
        with trio.move_on_after(1) as scope:
            await feed.aclose()
        assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_no_keyboard_interrupt_is_raised_inside_the_feed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = StallingNetwork()
    protected: list[bool] = []
    feed = OrchestratorFeed(configured(network))

    def deliver(event: FeedEvent) -> None:
        protected.append(trio.lowlevel.currently_ki_protected())

    async with serving(network.listen(port=9091)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(feed.run, deliver)
        session = await server.session()
        await session.send("init", entry("1"))
        feed.report(report_on("1"))
        await session.receive()
        await trio.sleep(25)  # a ping
        await feed.aclose()
    assert protected == [True]
    assert len(network.streams[0].protected) >= 6
    assert all(network.streams[0].protected)
