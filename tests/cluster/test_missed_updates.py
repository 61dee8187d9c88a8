"""A cluster that missed updates is right after the next list, which leaves alone what was known."""

from __future__ import annotations

import contextlib
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, until
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, wrap_client_stream

from trio_model_runner import ChangeKind, Cluster, Join, ModelState, Status
from trio_model_runner.config import OrchestratorConfig
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_model_runner.cluster.changes import ChangeListener
    from trio_model_runner.testing import LocalOrchestrator

INTERVAL = 600.0


@contextlib.asynccontextmanager
async def visit(orchestrator: LocalOrchestrator, network: Any) -> AsyncIterator[None]:
    """Be another client."""

    async def read() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.get_message()

    stream = await network.connect(orchestrator.host, orchestrator.port)
    async with stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, orchestrator.host, "/local")
        nursery.start_soon(read)
        yield
        await connection.aclose()
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def visited(*models: str, interval: float = INTERVAL, on_join: Any = None) -> AsyncIterator[Any]:
    """A cluster whose orchestrator has an older client, and sends updates to one after the other."""
    async with (
        LocalCrunch(dict.fromkeys(models, Model), network=MemoryNetwork()) as crunch,
        visit(crunch.orchestrator, crunch.network),
    ):
        crunch.orchestrator.seconds_per_client = 0.1
        config = crunch.config(orchestrator=OrchestratorConfig(resync_interval=interval))
        async with Cluster(config, SERVICE, on_join=on_join) as cluster:
            yield crunch, cluster


@contextlib.asynccontextmanager
async def losing_updates(crunch: LocalCrunch) -> AsyncIterator[None]:
    """The cluster loses the updates of what is done inside."""
    yield
    await trio.sleep(0.05)  # the older client has it
    async with visit(crunch.orchestrator, crunch.network):
        await trio.sleep(0.3)


async def next_list(interval: float = INTERVAL) -> None:
    """Wait until a list was fetched anew, and the models that it names have come up."""
    await trio.sleep(1.1 * interval + 10)


async def drained(changes: ChangeListener) -> list[tuple[ChangeKind, str]]:
    """What a listener has not read yet."""
    read = []
    with trio.move_on_after(1):
        async for change in changes:
            assert change.model is not None
            read.append((change.kind, change.model.model_id))
    return read


async def test_what_was_missed_is_mended_by_the_next_list(autojump_clock: MockClock) -> None:
    async with visited("stays", "goes", "changes", "new node") as (crunch, cluster):
        since = cluster.snapshot().orchestrator_since
        before = dict(cluster.models)
        async with losing_updates(crunch):
            await crunch.add("comes", Model)
        async with losing_updates(crunch):
            await crunch.remove("goes")
        async with losing_updates(crunch):
            crunch.announce("changes", infos={"model_name": "another"})
        async with losing_updates(crunch):
            await crunch.redeploy("new node", Model)
        await trio.sleep(20)
        assert set(cluster.announced) == {"stays", "goes", "changes", "new node"}
        assert cluster.models["new node"] is before["new node"]
        async with cluster.changes() as changes:
            await next_list()
            kinds = await drained(changes)
        assert set(cluster.models) == {"stays", "changes", "comes", "new node"}
        assert cluster.models["changes"].name == "another"
        assert cluster.models["new node"] is not before["new node"]
        assert cluster.models["stays"] is before["stays"]
        assert sorted(kinds) == sorted(
            [
                (ChangeKind.FAILED, "goes"),  # its node is gone, and nobody has said so
                (ChangeKind.LEFT, "goes"),
                (ChangeKind.ANNOUNCED, "comes"),
                (ChangeKind.JOINED, "comes"),
                (ChangeKind.UPDATED, "changes"),
                (ChangeKind.ANNOUNCED, "new node"),
                (ChangeKind.REDEPLOYED, "new node"),
            ]
        )
        assert len((await cluster.call("predict")).succeeded) == 4
        assert cluster.snapshot().orchestrator_since == since


async def test_a_crash_that_was_missed(autojump_clock: MockClock) -> None:
    async with visited("a", "b") as (crunch, cluster):
        model = cluster.models["a"]
        async with losing_updates(crunch):
            await crunch.crash("a")
        await trio.sleep(1)
        assert model.state is ModelState.CONNECTING or model.state is ModelState.LOST
        await next_list()
        assert set(cluster.announced) == {"b"}  # it is not listed
        await crunch.recover("a")
        await cluster.wait_for_models(2)
        assert cluster.models["a"] is not model


async def test_a_recovery_that_was_missed(autojump_clock: MockClock) -> None:
    async with visited("a", "b") as (crunch, cluster):
        model = cluster.models["a"]
        await crunch.crash("a")
        await trio.sleep(1)
        assert model.state is ModelState.RECOVERING
        async with losing_updates(crunch):
            await crunch.recover("a")
        await trio.sleep(60)
        assert model.state is ModelState.RECOVERING
        await next_list()
        assert cluster.models["a"] is model


@pytest.mark.parametrize("seed", range(8))
async def test_a_crunch_that_comes_and_goes_is_known_after_the_next_list(
    autojump_clock: MockClock, seed: int
) -> None:
    rng = random.Random(seed)

    async def pay_visits() -> None:
        while True:
            await trio.sleep(rng.expovariate(2))
            async with visit(crunch.orchestrator, crunch.network):
                await trio.sleep(rng.expovariate(2))

    async with visited("0") as (crunch, cluster):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(pay_visits)
            for number in range(1, 60):
                await crunch.add(str(number), Model)
                if rng.random() < 0.3:
                    await crunch.remove(rng.choice(crunch.deployments).model_id)
                await trio.sleep(rng.expovariate(3))
            nursery.cancel_scope.cancel()
        listed = {each["model_id"] for each in crunch.orchestrator.entries}
        assert set(cluster.announced) != listed  # or this shows nothing
        await next_list()
        assert set(cluster.models) == listed


async def test_a_model_that_was_reported_stays_out_until_its_entry_changes(autojump_clock: MockClock) -> None:
    async with visited("a", "b") as (crunch, cluster):
        model = cluster.models["a"]
        await cluster.report_failure(model, "LOW_PERFORMANCE")
        await crunch.wait_for_reports()
        for _ in range(3):
            await next_list()
            assert model.state is ModelState.FAILED
        assert len(crunch.reports) == 1
        async with losing_updates(crunch):
            crunch.announce("a", infos={"model_name": "mended"})
        assert model.state is ModelState.FAILED
        await next_list()
        assert cluster.models["a"] is model
        assert model.name == "mended"


async def test_a_model_that_was_given_up_stays_out(autojump_clock: MockClock) -> None:
    async def on_join(join: Join) -> None:
        joined.append(join.model.model_id)
        if join.model.model_id == "a":
            raise ValueError("mine")

    joined: list[str] = []
    async with visited("a", "b", on_join=on_join) as (crunch, cluster):
        assert sorted(joined) == ["a", "b"]
        await next_list()
        assert sorted(joined) == ["a", "b"]
        crunch.announce("a")
        await trio.sleep(1)
        assert sorted(joined) == ["a", "a", "b"]
        assert cluster.announced["a"].state is ModelState.FAILED


async def test_counts_are_not_cleared_and_reports_not_withdrawn(autojump_clock: MockClock) -> None:
    async with visited("a", "b", "c", "d", interval=10) as (crunch, cluster):
        crunch.node("a").faults.call_status = ("MODEL_FAILED", "no feathers")
        for _ in range(2):
            assert (await cluster.call("predict")).by_id["a"].status is Status.FAILED
            await next_list(10)
        assert (await cluster.call("predict")).by_id["a"].status is Status.FAILED
        assert cluster.snapshot().reports_pending == 0
        await cluster.call("predict")  # the one too many, if the others still count
        assert cluster.snapshot().reports_pending == 1
        await next_list(10)
        assert cluster.snapshot().reports_pending == 1
        (report,) = await crunch.wait_for_reports()
        assert report["model_id"] == "a"


async def test_attempts_to_connect_are_not_counted_anew(autojump_clock: MockClock) -> None:
    async with visited("a", "b", interval=1) as (crunch, cluster):
        model = cluster.models["a"]
        await trio.sleep(60)
        crunch.node("a").kill()
        killed = trio.current_time()
        with trio.fail_after(60):
            await until(cluster, lambda: model.state is ModelState.FAILED)
        assert trio.current_time() == pytest.approx(killed + 2 + 4 + 8 + 16, abs=0.1)


async def test_a_model_that_joins_goes_on_joining(autojump_clock: MockClock) -> None:
    joined: list[Any] = []

    async def on_join(join: Join) -> None:
        joined.append(join.model)
        await trio.sleep(50)

    async with LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch:
        config = crunch.config(startup_timeout=0, orchestrator=OrchestratorConfig(resync_interval=5))
        async with Cluster(config, SERVICE, on_join=on_join) as cluster:
            await trio.sleep(45)
            assert cluster.announced["a"].state is ModelState.JOINING
            await trio.sleep(6)
            assert cluster.models["a"] is joined[0]
            assert len(joined) == 1


async def test_a_quiet_cluster_notices_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with visited("a", "b") as (crunch, cluster):
        before = cluster.snapshot()
        await trio.sleep(10)
        caplog.clear()
        async with cluster.changes() as changes:
            for _ in range(20):
                await next_list()
                assert crunch.orchestrator.connections <= 3
            assert await drained(changes) == []
        assert cluster.snapshot() == before
        assert caplog.records == []
