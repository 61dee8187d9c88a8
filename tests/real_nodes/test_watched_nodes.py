"""Models that overrun on the real node: what is reported and what is not, and how long rounds last."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from helpers.insides import actor_of, counts_of, timeouts_of
from trio.testing import wait_all_tasks_blocked

from trio_model_runner import Arguments, ChangeKind, Cluster, ModelRunner, ModelState, PredictResult, Status
from trio_model_runner.config import Backoff, Health
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.testing import LocalCrunch

from .clusters import SERVICE, JoinLog, settings, statuses, take_instance_away
from .node_process import NodePool, NodeProcess
from .proxies import breakable
from .waiting import PATIENT, Release, wait_for_holding, wait_until

TIMEOUT = 0.6
MASS_WINDOW = 1.0
ALLOWED = 3  # timeouts
SLACK = 5.0
"""Seconds that a busy machine may add to what is bounded."""

HEALTH = Health(timeout=2.0, mass_window=MASS_WINDOW)
WELL = {"well 1": "SUCCESS", "well 2": "SUCCESS"}


@pytest.fixture(scope="module")
def well(shared_pool: NodePool) -> list[NodeProcess]:
    """Nodes to which nothing happens."""
    return shared_pool.start("steady", "steady", model_ids=list(WELL))


@pytest.fixture
def node(pool: NodePool) -> NodeProcess:
    (node,) = pool.start("stuck")
    return node


@attrs.define
class Game:
    """A cluster in which one model gets stuck, and two others don't."""

    crunch: LocalCrunch
    cluster: Cluster
    joins: JoinLog

    @property
    def stuck(self) -> ModelRunner:
        return self.cluster.announced["stuck"]

    @property
    def stuck_connection(self) -> Connection:
        node = actor_of(self.stuck).usable(joining=False)
        assert node is not None
        return node.connection

    async def play(
        self, method: str, value: str, timeout: float = TIMEOUT, **options: Any
    ) -> PredictResult[Any]:
        """What the model that gets stuck makes of a round; the others succeed."""
        results = await self.cluster.call(method, Arguments(value), timeout=timeout, **options)
        assert {name: status for name, status in statuses(results).items() if name != "stuck"} == WELL
        assert results.elapsed < timeout + SLACK
        result: PredictResult[Any] = results.by_id["stuck"]
        return result

    async def play_while(self, status: Status, value: str) -> PredictResult[Any]:
        """Play rounds, as long as they cost no time and end so; gives the first one that does not."""
        with trio.fail_after(PATIENT):
            while True:
                began = trio.current_time()
                result = await self.play("predict", value)
                if result.status is not status:
                    return result
                assert trio.current_time() - began < TIMEOUT
                await trio.sleep(0.05)

    async def joined_again(self) -> None:
        with trio.fail_after(PATIENT):
            await self.cluster.wait_for_models(3)


@contextlib.asynccontextmanager
async def playing(stuck: dict[str, Any], well: list[NodeProcess], **changes: Any) -> AsyncIterator[Game]:
    defaults = {"health": HEALTH, "max_consecutive_timeouts": ALLOWED, "setup_timeout": TIMEOUT}
    async with LocalCrunch() as crunch:
        crunch.orchestrator.announce(stuck, *(node.entry() for node in well))
        joins = JoinLog()
        async with Cluster(settings(crunch, **{**defaults, **changes}), SERVICE, on_join=joins) as cluster:
            yield Game(crunch, cluster, joins)


async def wait_for_report(game: Game) -> dict[str, Any]:
    with trio.fail_after(PATIENT):
        (report,) = await game.crunch.wait_for_reports()
    assert report["model_id"] == "stuck"
    return report


# Models that hang


@pytest.mark.parametrize("how", ["sleep", "spin", "backtrack 20"])
async def test_a_model_that_hangs_costs_two_rounds_and_is_reported(
    node: NodeProcess, well: list[NodeProcess], how: str
) -> None:
    async with playing(node.entry(), well) as game:
        began = trio.current_time()
        result = await game.play("predict", how)
        assert (result.status, result.detail) == (Status.TIMEOUT, "no answer before the deadline")
        result = await game.play("predict", how)
        assert result.status is Status.TIMEOUT
        assert not result.sent
        assert trio.current_time() - began >= 2 * TIMEOUT
        result = await game.play_while(Status.SKIPPED, how)
        assert result.status is Status.ABSENT
        assert "reported as MULTIPLE_TIMEOUT" in result.detail
        report = await wait_for_report(game)
        assert report["failure_code"] == "MULTIPLE_TIMEOUT"
        assert report["failure_reason"].startswith("still busy with predict, ")
        lasted = trio.current_time() - began
        assert lasted >= (ALLOWED + 1) * TIMEOUT + MASS_WINDOW
        assert lasted < (ALLOWED + 1) * TIMEOUT + MASS_WINDOW + SLACK
    assert len(game.joins.entries) == 3
    assert node.count_holdings() == 1


async def test_a_constructor_that_hangs_is_reported_and_never_given_up_before(
    pool: NodePool, well: list[NodeProcess]
) -> None:
    (node,) = await trio.to_thread.run_sync(pool.start, "hanging")
    for each in well:  # only a node that makes an instance is a witness
        await trio.to_thread.run_sync(take_instance_away, each)
    entry = node.entry() | {"model_id": "stuck"}
    async with playing(entry, well, startup_timeout=0) as game:
        began = trio.current_time()
        await wait_for_holding([node])
        with trio.fail_after(PATIENT):
            await game.cluster.wait_for_models(2)
            while game.stuck.state is not ModelState.FAILED:
                assert (await game.play("predict", "well")).status is Status.ABSENT
                if game.stuck.state is ModelState.FAILED:  # its report may still be on its way
                    assert "reported as MULTIPLE_TIMEOUT" in str(game.stuck.error)
                else:
                    assert game.stuck.state is ModelState.SETTING_UP
                await trio.sleep(0.05)
        report = await wait_for_report(game)
        assert report["failure_code"] == "MULTIPLE_TIMEOUT"
        assert report["failure_reason"].startswith("still busy with Setup, ")
        assert trio.current_time() - began >= (ALLOWED + 1) * TIMEOUT + MASS_WINDOW
    assert node.count_holdings() == 1


async def test_a_model_that_holds_the_interpreter_for_long_is_well_again_and_not_reported(
    node: NodeProcess, well: list[NodeProcess], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    health = attrs.evolve(HEALTH, mass_window=PATIENT)
    async with playing(node.entry(), well, health=health) as game:
        assert (await game.play("predict", f"block {pipe}")).status is Status.TIMEOUT
        assert (await game.play("predict", "well")).status is Status.TIMEOUT
        due: Sequence[Mapping[str, Any]] = ()
        with trio.fail_after(PATIENT):
            while not due:
                result = await game.play("predict", "well")
                assert result.status is Status.SKIPPED
                assert result.detail.startswith("still busy with predict, sent ")
                due = game.cluster.snapshot().reports
                await trio.sleep(0.05)
        assert [(row["model_id"], row["code"]) for row in due] == [("stuck", "MULTIPLE_TIMEOUT")]
        connection = game.stuck_connection
        assert 1 <= connection.pings_without_answer <= 3  # only PINGs are answered, and only a few sent

        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        result = await game.play("tick", "when it is through", timeout=PATIENT)
        assert result.status is Status.SUCCESS
        for _ in range(2):  # half of 3 timeouts, rounded up; and of this method alone
            result = await game.play("predict", "well")
            assert result.status is Status.SKIPPED
            assert result.detail.startswith("sits out predict after ")
        assert (await game.play("predict", "well")).unwrap() == "well"
        assert game.cluster.snapshot().reports == ()
        assert counts_of(game.stuck) == (0, 0, 0)
        assert (await game.stuck.call("ticks")).unwrap() == ["when it is through"]
        assert game.crunch.reports == []
    assert len(game.joins.entries) == 3  # and the connection stood all the time


# Nodes that are frozen, or start again


async def test_a_node_frozen_in_mid_call_is_not_blamed_and_goes_on(
    node: NodeProcess, well: list[NodeProcess], release: Release
) -> None:
    async with playing(node.entry(), well) as game:
        assert (await game.play("tick", "before")).status is Status.SUCCESS
        results: list[PredictResult[Any]] = []

        async def train() -> None:
            results.append(await game.play("train", release.path, timeout=2 * TIMEOUT))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(train)
            await wait_for_holding([node])
            node.freeze()
        assert results[0].status is Status.TIMEOUT
        assert (await game.play("predict", "well")).status is Status.TIMEOUT
        result = await game.play_while(Status.SKIPPED, "well")
        assert result.status in (Status.TIMEOUT, Status.ABSENT)  # by and by the connection is given up
        await wait_until(lambda: game.stuck.state is not ModelState.READY)
        result = await game.play("predict", "well")
        assert result.status is Status.ABSENT
        assert counts_of(game.stuck) == (0, 0, 0)

        release.now()
        node.thaw()
        await game.joined_again()
        assert (await game.stuck.call("ticks")).unwrap() == ["before"]
        assert game.crunch.reports == []
    assert len(game.joins.entries) == 3  # it had kept its instance


async def test_a_node_frozen_for_ever_is_reported_as_unreachable(
    node: NodeProcess, well: list[NodeProcess]
) -> None:
    backoff = Backoff(attempts=2, initial=0.05, maximum=0.1, connect_timeout=0.5)
    async with playing(node.entry(), well, backoff=backoff) as game:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(game.play, "predict", "sleep")
            await wait_for_holding([node])
            node.freeze()
        report = await wait_for_report(game)
        assert report["failure_code"] == "CONNECTION_FAILED"
        assert report["failure_reason"].startswith("no connection after 2 attempts: ")
        assert timeouts_of(game.stuck) == 0


async def test_a_node_that_is_killed_in_mid_overrun_and_started_again_is_set_up_and_called(
    node: NodeProcess, well: list[NodeProcess]
) -> None:
    async with playing(node.entry(), well) as game:
        assert (await game.play("predict", "sleep")).status is Status.TIMEOUT
        await wait_until(lambda: timeouts_of(game.stuck) == 1)
        node.kill()
        await wait_until(lambda: game.stuck.state is not ModelState.READY)
        assert (await game.play("predict", "well")).status is Status.ABSENT
        node.start()
        await game.joins.wait_for(4)
        assert game.joins.entries[3] == ("stuck", "restarted", True)
        await game.joined_again()
        result = await game.play("predict", "well")
        assert result.status is Status.SKIPPED
        assert result.detail.startswith("sits out predict after ")
        assert (await game.play("predict", "well")).unwrap() == "well"
        assert counts_of(game.stuck) == (0, 0, 0)
        assert game.crunch.reports == []


# Connections that break


async def test_a_train_goes_on_over_a_broken_connection_and_is_not_blamed(
    node: NodeProcess, well: list[NodeProcess], release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    results: list[PredictResult[Any]] = []
    health = attrs.evolve(HEALTH, unserved=MASS_WINDOW)
    async with breakable(node) as line, playing(line.entry(), well, health=health) as game:

        async def train() -> None:
            results.append(await game.play("train", release.path, timeout=PATIENT))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(train)
            await wait_for_holding([node])
            line.cut()
        assert results[0].status is Status.FAILED
        assert results[0].sent
        await wait_until(lambda: game.stuck.state is ModelState.SETTING_UP)  # Setup says busy
        began = trio.current_time()
        while trio.current_time() < began + 4 * TIMEOUT + MASS_WINDOW:
            result = await game.play("predict", "well")
            assert result.status is Status.ABSENT
            assert game.stuck.state is ModelState.SETTING_UP
            await trio.sleep(0.05)
        assert line.connections == 2
        assert counts_of(game.stuck) == (0, 0, 0)
        assert game.cluster.snapshot().reports == ()

        release.now()
        await game.joined_again()
        assert (await game.play("predict", "well")).unwrap() == "well"
        assert game.crunch.reports == []
    assert len(game.joins.entries) == 3  # it had kept its instance
    assert node.count_holdings() == 1
    assert "another coordinator" not in caplog.text


async def test_a_model_that_hangs_is_reported_over_a_new_connection(
    node: NodeProcess, well: list[NodeProcess]
) -> None:
    async with breakable(node) as line, playing(line.entry(), well) as game:
        assert (await game.play("predict", "sleep")).status is Status.TIMEOUT
        line.cut()
        await wait_until(lambda: game.stuck.state is ModelState.SETTING_UP)
        with trio.fail_after(PATIENT):
            while game.stuck.state is ModelState.SETTING_UP:
                assert (await game.play("predict", "sleep")).status is Status.ABSENT
                await trio.sleep(0.05)
        report = await wait_for_report(game)
        assert report["failure_code"] == "MULTIPLE_TIMEOUT"
        assert report["failure_reason"].startswith("still busy with predict, ")
        assert line.connections == 2
    assert node.count_holdings() == 1


# Resets and redeployments


async def test_a_reset_waits_for_an_overrun(
    node: NodeProcess, well: list[NodeProcess], release: Release
) -> None:
    async with playing(node.entry(), well) as game:
        assert (await game.play("train", release.path)).status is Status.TIMEOUT
        result = await game.stuck.reset(timeout=TIMEOUT)
        assert (result.status, result.sent) == (Status.TIMEOUT, False)
        assert len(game.joins.entries) == 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(game.stuck.reset)
            await wait_all_tasks_blocked()
            release.now()
        assert game.joins.entries[3:] == [("stuck", "restarted", True)]
        assert (await game.play("predict", "well")).unwrap() == "well"
        assert game.crunch.reports == []


async def test_a_redeployment_takes_the_place_of_a_model_that_hangs(
    node: NodeProcess, pool: NodePool, well: list[NodeProcess]
) -> None:
    (replacement,) = await trio.to_thread.run_sync(pool.start, "stuck")
    async with playing(node.entry(), well) as game, game.cluster.changes() as changes:
        old = game.stuck
        assert (await game.play("predict", "sleep")).status is Status.TIMEOUT
        await wait_until(lambda: timeouts_of(old) == 1)
        game.crunch.orchestrator.announce(replacement.entry())
        with trio.fail_after(PATIENT):
            while game.cluster.models["stuck"] is old:
                assert (await game.play("predict", "well")).status in (Status.TIMEOUT, Status.SKIPPED)
                await trio.sleep(0.05)
            async for change in changes:
                if change.kind is ChangeKind.REDEPLOYED:
                    break
        assert (change.previous, change.model) == (old, game.stuck)
        assert (await game.play("predict", "well")).unwrap() == "well"  # which sits out nothing
        assert counts_of(game.stuck) == (0, 0, 0)
        await wait_until(lambda: old.state is ModelState.GONE)
        assert game.joins.entries[3:] == [("stuck", "redeployed", True)]
        assert game.crunch.reports == []
    assert node.count_holdings() == 1
