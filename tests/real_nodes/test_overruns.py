"""Models that take longer than they may, and coordinators that don't wait for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_model_runner import Arguments, Cluster, ClusterDraining, Status

from .clusters import SERVICE, JoinLog, announced, hold_only, joined_by, settings, statuses
from .node_process import NodePool, NodeProcess
from .waiting import PATIENT, Release, wait_for_holding


@pytest.fixture(scope="module")
def nodes(shared_pool: NodePool) -> list[NodeProcess]:
    return shared_pool.start("steady", "unfinished")


async def test_a_model_that_overruns_is_waited_for_then_skipped_sits_out_and_is_well_again(
    nodes: list[NodeProcess], release: Release
) -> None:
    async with joined_by(nodes) as cluster:
        before: list[str] = (await cluster.call("ticks", models=["steady"])).by_id["steady"].unwrap()
        results = await cluster.call("hold", hold_only("steady", release), timeout=0.5)
        assert statuses(results) == {"steady": "TIMEOUT", "unfinished": "SUCCESS"}
        assert results.by_id["steady"].detail == "no answer before the deadline"
        assert results.by_id["steady"].elapsed > 0.25  # from handing it over, not from the round's start
        results = await cluster.call("tick", Arguments("waits"), timeout=0.5)
        assert statuses(results) == {"steady": "TIMEOUT", "unfinished": "SUCCESS"}
        assert results.by_id["steady"].detail.startswith("the deadline passed while waiting")
        assert not results.by_id["steady"].sent
        results = await cluster.call("tick", Arguments("skipped"), timeout=0.5)
        assert statuses(results) == {"steady": "SKIPPED", "unfinished": "SUCCESS"}
        assert results.by_id["steady"].detail.startswith("still busy with hold, sent 1.")

        async with trio.open_nursery() as nursery:  # this one finds the node busy first
            nursery.start_soon(cluster.call, "tick", Arguments("well again"))
            await wait_all_tasks_blocked()
            release.now()
        ticks = (await cluster.call("ticks", models=["steady"])).by_id["steady"].value
        assert ticks == [*before, "well again"]  # other methods are not sat out
        results = await cluster.call("hold")
        assert statuses(results) == {"steady": "SKIPPED", "unfinished": "SUCCESS"}
        assert results.by_id["steady"].detail.startswith("sits out hold after ")
        assert statuses(await cluster.call("hold")) == {"steady": "SUCCESS", "unfinished": "SUCCESS"}


async def test_a_long_overrun_costs_no_connection(nodes: list[NodeProcess], release: Release) -> None:
    """The node is asked again and again whether it is through, with PINGs, and nodes count those."""
    log = JoinLog()
    async with announced(nodes) as crunch:
        config = settings(crunch, max_consecutive_timeouts=None)
        async with Cluster(config, SERVICE, on_join=log) as cluster:
            joined = list(log.entries)
            for _ in range(20):  # in which it is asked at least once
                results = await cluster.call("hold", hold_only("steady", release), timeout=0.1, sit_out=False)
                assert statuses(results) == {"steady": "TIMEOUT", "unfinished": "SUCCESS"}
            release.now()
            with trio.fail_after(PATIENT):
                while (await cluster.call("hold")).by_id["steady"].status is not Status.SUCCESS:
                    pass
        assert log.entries == joined


async def test_many_overruns_cost_no_connection(nodes: list[NodeProcess], tmp_path: Path) -> None:
    log = JoinLog()
    async with announced(nodes) as crunch:
        config = settings(crunch, max_consecutive_timeouts=None)
        async with Cluster(config, SERVICE, on_join=log) as cluster:
            joined = list(log.entries)
            for number in range(6):
                directory = tmp_path / str(number)
                directory.mkdir()
                held = Release(directory)
                options: Any = {"timeout": 0.1, "sit_out": False}
                results = await cluster.call("hold", hold_only("steady", held), **options)
                assert statuses(results) == {"steady": "TIMEOUT", "unfinished": "SUCCESS"}
                held.now()
                assert statuses(await cluster.call("tick", Arguments(number)))["steady"] == "SUCCESS"
        assert log.entries == joined


async def test_results_come_while_a_model_still_runs(nodes: list[NodeProcess], release: Release) -> None:
    seen = []
    async with (
        joined_by(nodes) as cluster,
        cluster.as_completed("hold", hold_only("steady", release)) as results,
    ):
        async for result in results:
            seen.append((result.model.model_id, result.status))
            release.now()
    assert seen == [("unfinished", Status.SUCCESS), ("steady", Status.SUCCESS)]


async def test_an_enclosing_deadline_keeps_the_answers(nodes: list[NodeProcess], release: Release) -> None:
    async with joined_by(nodes, scope_margin=PATIENT) as cluster:
        with trio.move_on_after(PATIENT + 0.5) as scope:
            results = await cluster.call("hold", hold_only("steady", release))
        assert not scope.cancelled_caught
        assert statuses(results) == {"steady": "TIMEOUT", "unfinished": "SUCCESS"}
        release.now()
        assert statuses(await cluster.call("hold")) == {"steady": "SUCCESS", "unfinished": "SUCCESS"}


async def test_a_cancelled_call_leaves_the_connection_usable(
    nodes: list[NodeProcess], release: Release
) -> None:
    log = JoinLog()
    async with announced(nodes) as crunch, Cluster(settings(crunch), SERVICE, on_join=log) as cluster:
        joined = list(log.entries)
        holdings = nodes[0].count_holdings()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.call, "hold", hold_only("steady", release))
            await wait_for_holding(nodes[:1], holdings + 1)
            nursery.cancel_scope.cancel()
        release.now()
        assert statuses(await cluster.call("hold")) == {"steady": "SUCCESS", "unfinished": "SUCCESS"}
        assert log.entries == joined


async def test_drain_ends_a_round_that_still_runs(nodes: list[NodeProcess], release: Release) -> None:
    ended = []

    async def play(cluster: Cluster) -> None:
        ended.append(statuses(await cluster.call("hold", hold_only("steady", release))))

    async with joined_by(nodes) as cluster, trio.open_nursery() as nursery:
        holdings = nodes[0].count_holdings()
        nursery.start_soon(play, cluster)
        await wait_for_holding(nodes[:1], holdings + 1)
        with trio.fail_after(PATIENT):
            await cluster.drain(0.1)
        assert ended == [{"steady": "TIMEOUT", "unfinished": "SUCCESS"}]
        with pytest.raises(ClusterDraining):
            await cluster.call("hold")
    release.now()


async def test_an_exception_leaves_as_itself_and_ends_the_round(
    nodes: list[NodeProcess], release: Release
) -> None:
    ended = []

    async def play(cluster: Cluster) -> None:
        ended.append(statuses(await cluster.call("hold", hold_only("steady", release))))

    async def leave_early(nursery: trio.Nursery) -> None:
        async with joined_by(nodes) as cluster:
            holdings = nodes[0].count_holdings()
            nursery.start_soon(play, cluster)
            await wait_for_holding(nodes[:1], holdings + 1)
            raise KeyError("mine")

    with trio.fail_after(PATIENT):
        async with trio.open_nursery() as nursery:
            with pytest.raises(KeyError, match="mine"):
                await leave_early(nursery)
    assert ended == [{"steady": "FAILED", "unfinished": "SUCCESS"}]
    async with joined_by(nodes, startup_timeout=0) as cluster:
        release.now()
        with trio.fail_after(PATIENT):
            await cluster.wait_for_models(2)  # the Setup of one finds its node busy
        assert statuses(await cluster.call("hold")) == {"steady": "SUCCESS", "unfinished": "SUCCESS"}
