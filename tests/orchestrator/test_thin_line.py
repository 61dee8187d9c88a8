"""A line to the orchestrator that is slow is not dead: each byte puts off the end of the wait for a pong."""

from __future__ import annotations

import math

import attrs
import pytest
import trio
from helpers.resyncing import OFTEN, ids
from helpers.thin_line import ThinNetwork
from helpers.websocket_server import EXACT, configured, entry, feeding, serving
from trio.testing import MockClock

from trio_model_runner import Cluster, DynamicSubclassService, OrchestratorUnavailable
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.orchestrator import Disconnected, Init

RATE = 10_000
LONGEST_SILENCE = EXACT.ping_interval + EXACT.pong_timeout
"""When a connection on which nothing comes has been given up, in seconds after the last byte."""

QUIET = attrs.evolve(EXACT, resync_interval=math.inf)
LIST = [entry(f"{number:04}", filling="x" * 800) for number in range(900)]
"""Nearly a million bytes, which take about 90 s."""


async def test_a_list_that_takes_long_on_the_line_arrives_on_the_first_connection(
    autojump_clock: MockClock,
) -> None:
    memory = MemoryNetwork()
    network = ThinNetwork(memory, RATE)
    async with (
        serving(memory.listen(port=9091)) as server,
        feeding(configured(network, QUIET)) as (_, events),
    ):
        begun = trio.current_time()
        session = await server.session()
        await session.send("init", *LIST)
        with trio.fail_after(200):
            event = await events.receive()
        assert isinstance(event, Init)
        assert len(event.entries) == len(LIST)
        assert 85 < trio.current_time() - begun < 110
        await trio.sleep(1000)
        await session.send("update", entry("1"))
        assert ids(await events.receive()) == ["1"]
        assert network.connections == 1


@pytest.mark.parametrize("seconds", [0, 30, 90])
async def test_a_line_that_brings_no_byte_any_more_is_given_up_in_time(
    autojump_clock: MockClock, seconds: float
) -> None:
    """The line dies before the list, in the midst of it, or after it."""
    memory = MemoryNetwork()
    network = ThinNetwork(memory, RATE)
    async with (
        serving(memory.listen(port=9091)) as server,
        feeding(configured(network, QUIET)) as (feed, events),
    ):
        with trio.fail_after(300):
            session = await server.session()
            await trio.sleep(1)
            silent_at = trio.current_time() + seconds
            if seconds < 90:  # the beginning of a frame of a million bytes
                text = b"x" * (seconds * RATE)
                await session.stream.send_all(b"\x81\x7f" + (10**6).to_bytes(8, "big") + text)
            else:
                await session.send("init", *LIST)
                assert isinstance(await events.receive(), Init)
                silent_at = trio.current_time()
            memory.cut_everything()
            while feed.last_error is None:  # noqa: ASYNC110 - nothing sets an event
                await trio.sleep(0.5)
        assert feed.last_error == "no answer to a ping within 30 s (orchestrator.pong_timeout)"
        assert trio.current_time() - silent_at <= LONGEST_SILENCE + 1
        if seconds >= 90:
            assert await events.receive() == Disconnected(
                "no answer to a ping within 30 s (orchestrator.pong_timeout)"
            )


async def test_a_list_that_is_fetched_anew_may_take_long_too(autojump_clock: MockClock) -> None:
    memory = MemoryNetwork()
    network = ThinNetwork(memory, RATE)
    async with (
        serving(memory.listen(port=9091)) as server,
        feeding(configured(network, OFTEN)) as (_, events),
    ):
        first = await server.session()
        await first.send("init", entry("1"))
        assert isinstance(await events.receive(), Init)
        second = await server.session()
        begun = trio.current_time()
        await second.send("init", *LIST)
        with trio.fail_after(200):
            event = await events.receive()
        assert isinstance(event, Init)
        assert event.corrects
        assert 85 < trio.current_time() - begun < 110
        assert network.connections == 2


async def test_the_wait_for_the_first_list_has_its_own_end(autojump_clock: MockClock) -> None:
    """`orchestrator_timeout` counts from the beginning, whatever comes meanwhile."""
    memory = MemoryNetwork()
    network = ThinNetwork(memory, RATE / 100)
    service = DynamicSubclassService("module.Class")
    async with serving(memory.listen(port=9091)) as server, trio.open_nursery() as nursery:

        async def send_lists() -> None:
            while True:
                await (await server.session()).send("init", *LIST[:9])

        nursery.start_soon(send_lists)
        config = attrs.evolve(configured(network, QUIET), startup_timeout=0)
        begun = trio.current_time()
        with pytest.raises(
            OrchestratorUnavailable, match=r"no list of models from the orchestrator .* in 60 s"
        ):
            async with Cluster(config, service):
                pytest.fail("it was entered")
        assert trio.current_time() - begun <= 63
        async with Cluster(attrs.evolve(config, orchestrator_timeout=120), service) as cluster:
            assert len(cluster.announced) == 9
        nursery.cancel_scope.cancel()
