"""The list is fetched anew on a second connection, which takes the first one's place, or the first stays."""

from __future__ import annotations

import itertools
import logging
import math
from typing import Any

import attrs
import pytest
import trio
from helpers.resyncing import INTERVAL, OFTEN, Refusing, Stage, closing_code, connected, ids
from helpers.websocket_server import (
    EXACT,
    configured,
    entry,
    feeding,
    report_on,
    sent_report,
    serving,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.config import OrchestratorConfig
from trio_model_runner.errors import ConfigError
from trio_model_runner.orchestrator import Disconnected, Init


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
        assert max(waits[1:]) - min(waits[1:]) > 1
    async with connected(attrs.evolve(EXACT, resync_interval=math.inf)) as stage:
        with trio.move_on_after(20 * INTERVAL) as scope:
            await stage.server.session()
        assert scope.cancelled_caught


def test_the_interval_is_ten_minutes_unless_it_is_set() -> None:
    assert OrchestratorConfig().resync_interval == 600
    with pytest.raises(ConfigError, match=r"orchestrator\.resync_interval"):
        OrchestratorConfig(resync_interval=0)


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


async def test_what_is_said_again_when_there_is_one_counts_again(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        second = await stage.server.session()
        await stage.first.send("update", entry("2"))
        assert ids(await stage.event()) == ["2"]
        await second.send("init", entry("1"), entry("2"))
        assert ids(await stage.event()) == ["1", "2"]
        await trio.sleep(6)
        await second.send("update", entry("2"))
        assert ids(await stage.event()) == ["2"]


async def test_there_is_no_second_before_the_first_has_a_list(autojump_clock: MockClock) -> None:
    network = Refusing()
    async with (
        serving(network.listen(port=9091)) as server,
        feeding(configured(network, OFTEN)) as (_, events),
    ):
        first = await server.session()
        await trio.sleep(3 * INTERVAL)
        assert len(network.streams) == 1
        await first.send("init", entry("1"))
        assert ids(await events.receive()) == ["1"]
        await server.session()
        assert 3.9 * INTERVAL <= trio.current_time() <= 4.1 * INTERVAL


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
        event = await stage.event()
        assert isinstance(event, Init)
        assert ids(event) == ["2"]
        assert not event.corrects
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


async def test_what_the_second_was_refused_for_is_not_said_of_the_first(autojump_clock: MockClock) -> None:
    async with connected() as stage:
        second = await stage.server.session()
        await second.connection.send_message('{"error": "one is enough"}')
        await second.connection.aclose()
        await stage.still_works()
        await stage.first.stream.aclose()
        assert await stage.event() == Disconnected("the connection was lost")


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
            while len(stage.network.streams) == 1:  # noqa: ASYNC110 - nothing sets an event
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
        assert "model '2' is not reported: it does not run there any more" in caplog.text
        assert stage.feed.pending_reports == 1
