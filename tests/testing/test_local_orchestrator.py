"""The local orchestrator: what it says to whom, what it keeps, how it goes, and what it can lose."""

from __future__ import annotations

import json

import pytest
import trio
from helpers.local_feed import REPORT, Model, connect, crunch_and_feed
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed

from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch


async def test_reports_are_kept_to_the_letter():
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.report(**REPORT)
        await feed.report(**REPORT, extra="kept too")
        assert await crunch.wait_for_reports(2) == [REPORT, {**REPORT, "extra": "kept too"}]
        assert json.loads(crunch.orchestrator.messages[0]) == {"event": "report_failure", "data": [REPORT]}


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        '{"event": "hello", "data": []}',
        '{"event": "report_failure", "data": [{"model_id": "one", "failure_code": "X"}]}',
        '{"event": "report_failure", "data": [7]}',
        b"\xff",
    ],
)
async def test_a_message_that_kills_a_real_handler_closes_the_connection(message):
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.event()
        await feed.connection.send_message(message)
        with pytest.raises(ConnectionClosed) as caught:
            await feed.event()
        assert caught.value.reason.code == 1011
        assert crunch.orchestrator.messages == [message]
        assert crunch.reports == []
        async with connect(crunch.orchestrator, crunch.network) as other:
            assert await other.states() == [("init", "one", "RUNNING")]


@pytest.mark.parametrize("path", ["", "other"])
async def test_an_unknown_crunch_is_told_so(path):
    async with LocalCrunch({"one": Model}, network=MemoryNetwork()) as crunch:
        async with connect(crunch.orchestrator, crunch.network, path) as feed:
            assert list(json.loads(await feed.connection.get_message())) == ["error"]
            with pytest.raises(ConnectionClosed):
                await feed.event()
        assert crunch.orchestrator.connections == 0


async def test_an_orchestrator_goes_with_a_close_frame_and_comes_back_with_its_book(autojump_clock):
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.event()
        started = trio.current_time()
        await crunch.orchestrator.stop()
        assert trio.current_time() == started  # it waited for the close frames and for nothing more
        with pytest.raises(ConnectionClosed) as caught:
            await feed.event()
        assert caught.value.reason.code == 1001
        with pytest.raises(OSError, match="refused"):
            await crunch.network.connect(crunch.orchestrator.host, crunch.orchestrator.port)
        await crunch.add("two", Model)
        crunch.orchestrator.start()
        async with connect(crunch.orchestrator, crunch.network) as feed:
            assert await feed.states() == [("init", "one", "RUNNING"), ("init", "two", "RUNNING")]


async def test_an_orchestrator_may_go_without_a_word(autojump_clock):
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.event()
        crunch.orchestrator.kill()
        with pytest.raises(ConnectionClosed) as caught:
            await feed.event()
        assert caught.value.reason.code == 1006


async def test_a_silent_orchestrator_answers_no_ping_and_catches_up(autojump_clock):
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.event()
        await feed.connection.ping()
        crunch.orchestrator.pause()
        await crunch.add("two", Model)
        with trio.move_on_after(100) as scope:
            await feed.connection.ping()
        assert scope.cancelled_caught
        crunch.orchestrator.resume()
        assert await feed.states() == [("update", "two", "RUNNING")]


async def test_an_orchestrator_that_is_silent_can_still_be_stopped(autojump_clock):
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.event()
        crunch.orchestrator.pause()
        await crunch.orchestrator.stop()
        crunch.orchestrator.resume()
        with pytest.raises(ConnectionClosed):
            await feed.event()


async def test_anything_can_be_sent_to_coordinators():
    async with crunch_and_feed("one") as (crunch, feed):
        await feed.event()
        crunch.orchestrator.send_text("nonsense")
        assert await feed.connection.get_message() == "nonsense"
        crunch.orchestrator.greeting = ["first", "second"]
        async with connect(crunch.orchestrator, crunch.network) as other:
            assert [await other.connection.get_message() for _ in range(2)] == ["first", "second"]
        crunch.orchestrator.greeting = []
        async with connect(crunch.orchestrator, crunch.network) as other:
            await crunch.orchestrator.wait_for_connections(2)
            crunch.orchestrator.send_text("third")
            assert await other.connection.get_message() == "third"


async def test_an_orchestrator_can_lose_updates_when_clients_come_and_go(autojump_clock):
    async with (
        crunch_and_feed("one") as (crunch, first),
        connect(crunch.orchestrator, crunch.network) as second,
    ):
        await first.event()
        await second.event()
        crunch.orchestrator.seconds_per_client = 1.0
        started = trio.current_time()
        await crunch.add("two", Model)
        assert await first.states() == [("update", "two", "RUNNING")]
        assert await second.states() == [("update", "two", "RUNNING")]
        assert trio.current_time() == started + 1
        await trio.sleep(1)

        await crunch.add("three", Model)
        assert await first.states() == [("update", "three", "RUNNING")]
        async with connect(crunch.orchestrator, crunch.network) as third:  # comes meanwhile
            models = [model_id for _, model_id, _ in await third.states()]
            assert models == ["one", "two", "three"]
            await trio.sleep(1)
            await crunch.remove("three")
            for feed in (first, second, third):
                assert await feed.states() == [("update", "three", "STOPPED")]
            await trio.sleep(1)
            await crunch.remove("two")
            assert await first.states() == [("update", "two", "STOPPED")]
        await trio.sleep(1)  # it has gone meanwhile
        await crunch.add("four", Model)
        await crunch.add("five", Model)
        assert await first.states() == [("update", "four", "RUNNING")]
        assert await second.states() == [("update", "four", "RUNNING")]
        assert await first.states() == [("update", "five", "RUNNING")]
        crunch.orchestrator.send_text("at once")
        assert await first.connection.get_message() == "at once"


async def test_an_orchestrator_that_sends_to_all_at_once_loses_nothing(autojump_clock):
    async with crunch_and_feed("one") as (crunch, first):
        await first.event()
        async with connect(crunch.orchestrator, crunch.network) as second:
            await second.event()
            await crunch.add("two", Model)
            async with connect(crunch.orchestrator, crunch.network):
                assert await first.states() == [("update", "two", "RUNNING")]
                assert await second.states() == [("update", "two", "RUNNING")]


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01", b"\xff" * 2000])
async def test_no_client_brings_the_orchestrator_down(autojump_clock, data):
    async with LocalCrunch({"one": Model}, network=MemoryNetwork()) as crunch:
        rude = await crunch.network.connect(crunch.orchestrator.host, crunch.orchestrator.port)
        await rude.send_all(data)
        await wait_all_tasks_blocked()
        await rude.aclose()
        await trio.sleep(60)
        async with connect(crunch.orchestrator, crunch.network) as feed:
            assert await feed.states() == [("init", "one", "RUNNING")]
