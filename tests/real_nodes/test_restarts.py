"""Nodes that die, freeze, lose their instance and move, and an orchestrator that goes away."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from trio_model_runner import Arguments, ChangeKind, Cluster, Join, ModelState, Status
from trio_model_runner.config import Health

from .clusters import (
    SERVICE,
    JoinLog,
    announced,
    hold_only,
    settings,
    statuses,
    take_instance_away,
)
from .node_process import NodePool, NodeProcess
from .waiting import PATIENT, Release, wait_for_holding, wait_until

SLACK = 5.0
"""Seconds that a busy machine may add to what is bounded."""


@pytest.fixture(scope="module")
def other(shared_pool: NodePool) -> NodeProcess:
    """The node to which nothing happens."""
    (node,) = shared_pool.start("unfinished")
    return node


@pytest.fixture
def victim(pool: NodePool) -> NodeProcess:
    (node,) = pool.start("steady")
    return node


def value_of(results: Any) -> Any:
    return results.by_id["steady"].unwrap()


async def test_a_node_killed_in_mid_call_is_set_up_again(
    victim: NodeProcess, other: NodeProcess, release: Release
) -> None:
    results: list[Any] = []

    async def play(cluster: Cluster) -> None:
        results.append(await cluster.call("hold", hold_only("steady", release)))

    log = JoinLog()
    async with announced([victim, other]) as crunch:
        async with Cluster(settings(crunch), SERVICE, on_join=log) as cluster:
            assert ("steady", "joined", True) in log.entries
            runner = cluster.models["steady"]
            with trio.fail_after(PATIENT - 5):  # before the round's own deadline
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(play, cluster)
                    await wait_for_holding([victim])
                    victim.kill()
            assert statuses(results[0]) == {"steady": "FAILED", "unfinished": "SUCCESS"}
            meanwhile = await cluster.call("hold")
            assert statuses(meanwhile) == {"steady": "ABSENT", "unfinished": "SUCCESS"}

            victim.start()
            await log.wait_for(3)
            assert log.entries[2:] == [("steady", "restarted", True)]
            with trio.fail_after(PATIENT):
                await cluster.wait_for_models(2)
            assert value_of(await cluster.call("pid")) == victim.pid
            assert value_of(await cluster.call("constructor", models=["steady"]))["start"] == 3
            assert cluster.models["steady"] is runner
        assert crunch.reports == []


async def test_a_frozen_node_delays_neither_rounds_nor_leaving(
    victim: NodeProcess, other: NodeProcess
) -> None:
    async with announced([victim, other]) as crunch:
        async with Cluster(settings(crunch), SERVICE) as cluster:
            assert statuses(await cluster.call("hold")) == {"steady": "SUCCESS", "unfinished": "SUCCESS"}
            victim.freeze()
            for expected in ("TIMEOUT", "TIMEOUT", "SKIPPED", "SKIPPED"):
                results = await cluster.call("hold", timeout=0.5)
                assert statuses(results) == {"steady": expected, "unfinished": "SUCCESS"}
                assert results.elapsed < 0.5 + SLACK
            began = trio.current_time()
        assert trio.current_time() - began < cluster.config.shutdown_grace + SLACK


async def test_a_thawed_node_is_reconnected_with_its_history(victim: NodeProcess, other: NodeProcess) -> None:
    log = JoinLog()
    async with announced([victim, other]) as crunch:
        config = settings(crunch, health=Health(timeout=0.2))
        async with Cluster(config, SERVICE, on_join=log) as cluster:
            await cluster.call("tick", Arguments(1))
            victim.freeze()
            assert statuses(await cluster.call("hold", timeout=0.5))["steady"] == "TIMEOUT"
            # A connection on which not even a PING is answered is given up, and the model not blamed.
            await wait_until(lambda: cluster.announced["steady"].state is not ModelState.READY)
            assert statuses(await cluster.call("hold")) == {"steady": "ABSENT", "unfinished": "SUCCESS"}
            victim.thaw()
            with trio.fail_after(PATIENT):
                await cluster.wait_for_models(2)
            assert value_of(await cluster.call("ticks")) == [1]
        assert len(log.entries) == 2


async def test_a_redeployed_model_is_swapped_without_a_gap(
    pool: NodePool, victim: NodeProcess, other: NodeProcess
) -> None:
    log = JoinLog()
    pids: list[int] = []
    replacement = pool.create("steady")
    replacement.start()
    await trio.to_thread.run_sync(replacement.wait_ready)

    async def play_on(cluster: Cluster) -> None:
        while pids[-1:] != [replacement.pid]:
            results = await cluster.call("pid")
            assert statuses(results) == {"steady": "SUCCESS", "unfinished": "SUCCESS"}
            pids.append(value_of(results))

    async with (
        announced([victim, other]) as crunch,
        Cluster(settings(crunch), SERVICE, on_join=log) as cluster,
        cluster.changes() as changes,
    ):
        old = cluster.models["steady"]
        with trio.fail_after(PATIENT):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(play_on, cluster)
                await wait_until(lambda: len(pids) >= 3)
                crunch.orchestrator.announce(replacement.entry())
            async for change in changes:
                if change.kind is ChangeKind.REDEPLOYED:
                    break
        new = cluster.models["steady"]
        assert (change.previous, change.model) == (old, new)
        assert pids == [victim.pid] * (len(pids) - 1) + [replacement.pid]
        assert log.entries[2:] == [("steady", "redeployed", True)]

        crunch.orchestrator.announce(victim.entry("STOPPED"))
        victim.kill()
        crunch.orchestrator.announce(victim.entry())  # it was replaced, and does not come back
        assert value_of(await cluster.call("pid")) == replacement.pid
        assert cluster.announced["steady"] is new


async def test_a_restarted_orchestrator_is_believed_anew(
    pool: NodePool, victim: NodeProcess, other: NodeProcess
) -> None:
    replacement = pool.create("steady")
    replacement.start()
    await trio.to_thread.run_sync(replacement.wait_ready)
    async with announced([victim, other]) as crunch, Cluster(settings(crunch), SERVICE) as cluster:
        await crunch.orchestrator.stop()
        await wait_until(lambda: not cluster.snapshot().orchestrator_connected)
        assert statuses(await cluster.call("hold")) == {"steady": "SUCCESS", "unfinished": "SUCCESS"}
        crunch.orchestrator.announce(other.entry("STOPPED"), replacement.entry())
        crunch.orchestrator.start()
        await wait_until(lambda: "unfinished" not in cluster.announced)
        with trio.fail_after(PATIENT):
            while value_of(await cluster.call("pid")) != replacement.pid:
                pass
        assert cluster.snapshot().orchestrator_connected


async def test_a_model_that_lost_its_instance_catches_up_and_gets_the_call_once(
    victim: NodeProcess, other: NodeProcess
) -> None:
    joins: list[tuple[str, str, bool]] = []

    async def on_join(join: Join) -> None:
        joins.append((join.model.model_id, str(join.reason), join.fresh))
        (await join.model.call("tick", Arguments("caught up"))).unwrap()

    async with (
        announced([victim, other]) as crunch,
        Cluster(settings(crunch), SERVICE, on_join=on_join) as cluster,
    ):
        await trio.to_thread.run_sync(take_instance_away, victim)
        results = await cluster.call("predict", Arguments(4.0), models=["steady"])
        assert results.by_id["steady"].value == 4.0
    assert joins.count(("steady", "joined", True)) == joins.count(("steady", "restarted", True)) == 1
    assert len(joins) == 3
    events = [
        name
        for line in victim.output.splitlines()
        for name in ("Setup successfully complete", 'Call to method "tick"', 'Call to method "predict"')
        if name in line
    ]
    catching_up = ["Setup successfully complete", 'Call to method "tick"']
    assert events == [*catching_up, *catching_up, 'Call to method "predict"']


async def test_a_node_that_says_it_crashes_is_let_go_and_taken_back(
    victim: NodeProcess, other: NodeProcess
) -> None:
    log = JoinLog()
    async with announced([victim, other]) as crunch:
        async with Cluster(settings(crunch), SERVICE, on_join=log) as cluster:
            crunch.orchestrator.announce(victim.entry("RECOVERING"))
            await wait_until(lambda: cluster.announced["steady"].state is ModelState.RECOVERING)
            assert statuses(await cluster.call("hold")) == {"steady": "ABSENT", "unfinished": "SUCCESS"}
            crunch.orchestrator.announce(victim.entry())
            with trio.fail_after(PATIENT):
                await cluster.wait_for_models(2)
            result = (await cluster.call("pid")).by_id["steady"]
            assert (result.status, result.value) == (Status.SUCCESS, victim.pid)
        assert len(log.entries) == 2  # it had kept its instance


async def test_a_port_where_nobody_listens_is_reported(pool: NodePool, other: NodeProcess) -> None:
    nobody = pool.create("steady")
    async with announced([nobody, other]) as crunch:
        config = settings(crunch, health=Health(mass_window=0.5))
        config = attrs.evolve(config, backoff=attrs.evolve(config.backoff, attempts=3))
        async with Cluster(config, SERVICE):
            with trio.fail_after(PATIENT):
                (report,) = await crunch.wait_for_reports()
    assert report["model_id"] == "steady"
    assert report["failure_code"] == "CONNECTION_FAILED"
    assert report["failure_reason"].startswith("no connection after 3 attempts: ")
    assert str(nobody.port) in report["failure_reason"]
