"""Networks that are cut, in many ways: nobody is reported for that, and whoever is away alone is."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model
from trio.testing import MockClock

from trio_model_runner import Change, ChangeKind, Cluster, ModelState, Status
from trio_model_runner.cluster.changes import ChangeListener
from trio_model_runner.config import Limits
from trio_model_runner.network import Direction, MemoryNetwork
from trio_model_runner.testing import LocalCrunch

WINDOW = 60.0


def host(index: int) -> str:
    """A host in a network of its own."""
    return f"10.{index // 250}.{index % 250}.1"


@asynccontextmanager
async def a_fleet(size: int, **settings: Any) -> AsyncIterator[tuple[MemoryNetwork, LocalCrunch, Cluster]]:
    """A fleet on hosts of different networks, whose connections have stood for longer than a minute."""
    network = MemoryNetwork()
    async with LocalCrunch({}, network=network) as crunch:
        for index in range(size):
            await crunch.add(f"m{index}", Model, host=host(index))
        async with Cluster(crunch.config(timeout=1.0, startup_timeout=600, **settings), SERVICE) as cluster:
            await call_for(cluster, WINDOW + 10, every=10)
            yield network, crunch, cluster


async def call_for(cluster: Cluster, seconds: float, every: float = 5.0) -> None:
    """Make a round every few seconds."""
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        await cluster.call("predict")
        await trio.sleep(every)


@pytest.mark.parametrize(("size", "cut"), [(3, 3), (10, 4), (30, 10)])
@pytest.mark.parametrize(
    ("seconds", "direction"),
    [
        (40, Direction.BOTH),
        (100, Direction.BOTH),
        (100, Direction.TO_SERVER),
        (100, Direction.TO_CLIENT),
        (240, Direction.BOTH),
    ],
)
async def test_many_that_are_cut_off_together_are_not_reported(
    autojump_clock: MockClock, size: int, cut: int, seconds: float, direction: Direction
) -> None:
    async with a_fleet(size) as (network, crunch, cluster):
        with network.cut(*map(host, range(cut)), direction=direction):
            await call_for(cluster, seconds)
            assert crunch.reports == []
        await call_for(cluster, 400, every=20)
        assert crunch.reports == []
        assert len(cluster.models) == size


async def test_a_tenth_of_a_large_fleet_is_the_network(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With so few connects at a time, fewer models are given up in a minute than half of them."""
    caplog.set_level(logging.WARNING)
    limits = Limits(max_simultaneous_connects=20)  # as 100 are for 1,500 models
    async with a_fleet(300, limits=limits) as (network, crunch, cluster):
        with network.cut(*map(host, range(250))):
            await call_for(cluster, 600, every=60)
            assert crunch.reports == []
            assert cluster.snapshot().reports_held > 0
        await call_for(cluster, 600, every=200)
        assert crunch.reports == []
        assert len(cluster.models) == 300
        assert len([each for each in caplog.messages if "connections to" in each]) < 10


async def test_one_that_is_cut_off_alone_is_reported_while_it_is_away(autojump_clock: MockClock) -> None:
    async with a_fleet(10) as (network, crunch, cluster):
        begin = trio.current_time()
        with network.cut(host(0)):
            while not crunch.reports:
                await call_for(cluster, 1)
            assert [report["failure_code"] for report in crunch.reports] == ["CONNECTION_FAILED"]
            assert trio.current_time() - begin < 85 + WINDOW + 30
        await call_for(cluster, 300)
        assert len(crunch.reports) == 1


async def test_one_that_comes_back_before_it_is_reported_is_not(autojump_clock: MockClock) -> None:
    async with a_fleet(10) as (network, crunch, cluster):
        with network.cut(host(0)):
            await call_for(cluster, 100)
            assert cluster.snapshot().reports_pending == 1
            assert cluster.announced["m0"].state in (ModelState.FAILED, ModelState.CONNECTING)
        await call_for(cluster, 300)
        assert crunch.reports == []
        assert cluster.announced["m0"].state is ModelState.READY


async def test_our_own_link_may_be_down(autojump_clock: MockClock) -> None:
    async with a_fleet(10) as (network, crunch, cluster):
        with network.cut_everything():
            await call_for(cluster, 180)
        await call_for(cluster, 300)
        assert crunch.reports == []
        assert len(cluster.models) == 10


async def test_idle_connections_that_were_cut_are_found_before_a_report(autojump_clock: MockClock) -> None:
    """Nine of ten carry no call meanwhile, so only a PING shows that they are cut off, too."""
    async with a_fleet(30) as (network, crunch, cluster):
        with network.cut(*map(host, range(10))):
            for _ in range(60):
                await cluster.call("predict", models=["m0"])
                await trio.sleep(5)
            assert crunch.reports == []
            assert cluster.snapshot().reports_held > 0
            assert len(cluster.models) <= 20


async def test_three_at_one_host_die_with_it(autojump_clock: MockClock) -> None:
    async with a_fleet(40) as (_, crunch, cluster):
        for index in range(3):
            await crunch.add(f"n{index}", Model, host="172.16.5.9")
        await call_for(cluster, WINDOW + 10, every=10)
        for index in range(3):
            crunch.node(f"n{index}").kill()
        await call_for(cluster, 300, every=10)
        assert crunch.reports == []
        assert cluster.snapshot().reports_held == 3


async def test_who_comes_back_late_from_a_mass_is_reported_as_unserved(autojump_clock: MockClock) -> None:
    async with a_fleet(10) as (network, crunch, cluster):
        with network.cut(*map(host, range(4))):
            await call_for(cluster, 200)
        crunch.node("m0").kill()
        begin = trio.current_time()
        await call_for(cluster, 600)
        assert [report["model_id"] for report in crunch.reports] in ([], ["m0"])
        while not crunch.reports:
            await call_for(cluster, 5)
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("m0", "CONNECTION_FAILED")
        assert trio.current_time() - begin < 900 + WINDOW + 20


async def test_dead_nodes_of_the_first_list_are_no_silence(autojump_clock: MockClock) -> None:
    """Three of thirty were never reached: nobody can know, until the others have been served for long."""
    network = MemoryNetwork()
    async with LocalCrunch({}, network=network) as crunch:
        for index in range(30):
            node = await crunch.add(f"m{index}", Model, host=host(index))
            if index < 3:
                node.kill()
        async with Cluster(crunch.config(timeout=1.0), SERVICE) as cluster:
            await call_for(cluster, 600, every=10)
            assert crunch.reports == []
            await call_for(cluster, 500, every=10)
            assert {report["model_id"] for report in crunch.reports} == {"m0", "m1", "m2"}


async def test_a_certificate_of_ours_that_all_nodes_refuse_blames_nobody(autojump_clock: MockClock) -> None:
    """Under TLS 1.3 that looks like a hang-up: each node ends the connection before its SETTINGS."""
    async with LocalCrunch({}, network=MemoryNetwork()) as crunch:
        for index in range(10):
            node = await crunch.add(f"m{index}", Model, host=host(index))
            node.faults.garbage = b""
        async with Cluster(crunch.config(timeout=1.0), SERVICE) as cluster:
            await call_for(cluster, 2000, every=20)
            assert crunch.reports == []


async def test_losses_are_told(autojump_clock: MockClock) -> None:
    async with a_fleet(10) as (network, _, cluster), cluster.changes() as changes:
        with network.cut(*map(host, range(5))):
            await call_for(cluster, 20)
        await call_for(cluster, 100)
        kinds = [change.kind async for change in limited(changes, 10)]
        assert kinds == [ChangeKind.LOST] * 5 + [ChangeKind.JOINED] * 5
        assert {result.status for result in (await cluster.call("predict")).values()} == {Status.SUCCESS}


async def limited(changes: ChangeListener, count: int) -> AsyncIterator[Change]:
    """The first changes of many."""
    for _ in range(count):
        yield await changes.__anext__()
