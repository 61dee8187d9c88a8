"""Models that move, or can't be reached for a while: when they are tried again, and what is known of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.lowlevel
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import actor_of, timeouts_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState, Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.testing import LocalCrunch

SIX = dict.fromkeys("abcdef", Model)


class NotingNetwork(MemoryNetwork):
    """Notes where connections are made to."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: list[str] = []

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        self.hosts.append(host)
        return await super().connect(host, port)


async def test_who_moves_while_it_is_away_has_all_attempts_there(autojump_clock: MockClock) -> None:
    network = NotingNetwork()
    async with (
        LocalCrunch(SIX, network=network) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        model = cluster.models["a"]
        channel = model.channel
        crunch.node("a").kill()
        await trio.sleep(10)  # some of the attempts have failed
        assert model.state is not ModelState.READY
        crunch.announce("a", ip="elsewhere")
        await trio.lowlevel.checkpoint()
        await until(cluster, lambda: model.host == "elsewhere")
        assert actor_of(model).conduct.record.host == "elsewhere"
        assert model.channel is not channel
        await until(cluster, lambda: model.state is ModelState.FAILED)
        assert network.hosts.count("elsewhere") == cluster.config.backoff.attempts


async def test_what_is_held_again_while_it_waits_waits_no_longer(autojump_clock: MockClock) -> None:
    async with coordinating(SIX) as (crunch, cluster):
        for model_id in "abcd":
            crunch.node(model_id).kill()
        await until(cluster, lambda: cluster.announced["a"].state is ModelState.FAILED)
        await trio.sleep(61)
        assert cluster.snapshot().reports_held == 4
        crunch.node("a").restart()
        for _ in range(80):
            actor_of(cluster.announced["a"]).try_later()
            await trio.sleep(5)
        assert "a" in cluster.models


async def test_without_an_answer_to_a_ping_the_connection_counts_as_lost_at_once(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(SIX) as (crunch, cluster):
        await trio.sleep(100)
        actor = actor_of(cluster.models["a"])
        crunch.node("a").pause()
        asked_at = trio.current_time()
        await actor.answers_ping(2)
        record = actor.conduct.record
        assert not record.connected
        assert record.lost_at == pytest.approx(asked_at + 2)
        assert record.stood >= 100
        await until(cluster, lambda: actor.state is not ModelState.READY)
        assert "no answer to a PING within 2 s" in str(cluster.announced["a"].error)


async def test_who_bears_no_more_pings_is_asked_none(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinged: list[Any] = []

    async def ping(connection: Connection, *args: Any) -> bool:
        await trio.lowlevel.checkpoint()
        pinged.append(connection)
        return False

    async with coordinating(SIX) as (_, cluster):
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "may_ping", False)
            patch.setattr(Connection, "ping", ping)
            await actor_of(cluster.models["a"]).answers_ping(2)
        assert not pinged
        assert cluster.models["a"].state is ModelState.READY


async def test_who_our_code_keeps_out_is_not_lost(autojump_clock: MockClock) -> None:
    """Else three of them would keep the one from being reported that is really lost."""

    async def on_join(join: Any) -> None:
        await trio.lowlevel.checkpoint()
        if join.model.model_id in "bcd":
            raise ValueError("of ours")

    async with LocalCrunch(SIX, network=MemoryNetwork()) as crunch:
        crunch.node("a").kill()
        async with Cluster(crunch.config(startup_timeout=1), SERVICE, on_join=on_join) as cluster:
            kept = [cluster.announced[model_id] for model_id in "bcd"]
            await until(cluster, lambda: all(each.state is ModelState.FAILED for each in kept))
            for each in kept:
                record = actor_of(each).conduct.record
                assert (record.tried_at, record.lost_at) == (-math.inf, -math.inf)
            (report,) = await crunch.wait_for_reports()
            assert (report["model_id"], report["failure_code"]) == ("a", "CONNECTION_FAILED")


@pytest.mark.parametrize("ours", [False, True])
async def test_who_others_keep_busy_at_setup_is_hindered_and_who_we_keep_busy_is_not(
    autojump_clock: MockClock, ours: bool
) -> None:
    async with LocalCrunch(SIX, network=MemoryNetwork()) as crunch:
        faults = crunch.node("a").faults
        if ours:
            faults.hang_setup = True
        else:
            faults.setup_error = (GRPCStatus.RESOURCE_EXHAUSTED, "Server busy")
        async with Cluster(crunch.config(startup_timeout=1, setup_timeout=3), SERVICE) as cluster:
            await trio.sleep(4)
            model = cluster.announced["a"]
            overrun = actor_of(model).conduct.record.overrun
            assert overrun is not None
            assert overrun.ours is ours
            assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
            assert actor_of(model).conduct.record.standing("predict").hindered == (0 if ours else 1)


async def test_a_call_without_a_deadline_that_is_cut_short_counts_from_then_on(
    autojump_clock: MockClock,
) -> None:
    """It has the longest windows, and needs a witness as any other."""
    async with coordinating(SIX, max_consecutive_timeouts=0) as (crunch, cluster):
        model = cluster.models["a"]
        with trio.move_on_after(5):
            await model.call("hang", timeout=math.inf)
        for _ in range(20):
            await cluster.call("predict", timeout=1)
            await trio.sleep(1)
        overrun = actor_of(model).conduct.record.overrun
        assert overrun is not None
        assert overrun.counts_from == overrun.since == pytest.approx(5, abs=0.01)
        assert overrun.window_ends == [pytest.approx(305, abs=0.01)]
        assert timeouts_of(model) == 0
        await trio.sleep(100)
        assert crunch.reports == []


async def test_a_call_that_is_cut_short_overruns_only_from_its_own_deadline_on(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(SIX) as (_, cluster):
        model = cluster.models["a"]
        called_at = trio.current_time()
        with trio.move_on_after(1):
            await model.call("hang", timeout=30)
        overrun = actor_of(model).conduct.record.overrun
        assert overrun is not None
        assert overrun.since == pytest.approx(called_at + 30, abs=0.01)
        await trio.sleep(10)
        # A call of 5 s would be skipped if the overrun had lasted for 5 s; but it has not begun yet.
        result = await model.call("predict", Arguments(1.0), timeout=5)
        assert result.status is Status.TIMEOUT
        await trio.sleep(25)
        assert (await model.call("predict", Arguments(1.0), timeout=5)).status is Status.SKIPPED
