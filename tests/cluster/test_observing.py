"""A cluster without a service only observes: it learns who can be reached, and disturbs nobody."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from helpers.coordinating import Model, until
from trio.testing import MockClock

from trio_model_runner import (
    ChangeKind,
    Cluster,
    ClusterConfig,
    FailureCode,
    ModelRunner,
    ModelState,
)
from trio_model_runner.cluster.changes import ChangeListener
from trio_model_runner.config import Keepalive
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthStub
from trio_model_runner.testing import LocalCrunch


@contextlib.asynccontextmanager
async def observing(models: dict[str, Any], **settings: Any) -> AsyncIterator[tuple[LocalCrunch, Cluster]]:
    async with (
        LocalCrunch(models, network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(**settings)) as cluster,
    ):
        yield crunch, cluster


async def test_its_models_are_reachable_and_none_of_them_is_set_up(autojump_clock: MockClock) -> None:
    made: list[str] = []

    def make() -> Model:
        made.append("an instance")
        return Model()

    async with observing({"a": make, "b": make}) as (_, cluster):
        assert {model.state for model in cluster.announced.values()} == {ModelState.REACHABLE}
        assert set(cluster.models) == {"a", "b"}
        assert cluster.snapshot().models == {"reachable": 2}
        await cluster.wait_for_models(2)
        await trio.sleep(3600)
        assert cluster.snapshot().models == {"reachable": 2}
    assert made == []


Attempt = Callable[[Cluster, ModelRunner], Awaitable[object]]


async def complete(cluster: Cluster, model: ModelRunner) -> None:
    async with cluster.as_completed("predict"):
        pass


@pytest.mark.parametrize(
    "attempt",
    [
        lambda cluster, model: cluster.call("predict"),
        lambda cluster, model: cluster.predict(1.5),
        complete,
        lambda cluster, model: cluster.report_failure(model, FailureCode.LOW_PERFORMANCE),
        lambda cluster, model: model.call("predict"),
        lambda cluster, model: model.predict(),
        lambda cluster, model: model.reset(),
    ],
    ids=["call", "predict", "as_completed", "report_failure", "model.call", "model.predict", "model.reset"],
)
async def test_whatever_calls_or_reports_says_that_it_only_observes(
    autojump_clock: MockClock, attempt: Attempt
) -> None:
    async with observing({"a": Model}) as (crunch, cluster):
        with pytest.raises(RuntimeError, match="this Cluster only observes"):
            await attempt(cluster, cluster.announced["a"])
        assert crunch.reports == []


async def test_on_join_is_refused_since_nothing_joins() -> None:
    async def on_join(join: Any) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match=r"^on_join: needs a service"):
        Cluster(ClusterConfig("birds"), on_join=on_join)


async def test_nobody_is_reported_however_long_a_node_is_away(autojump_clock: MockClock) -> None:
    models = {"a": Model, "b": Model, "c": Model}
    async with observing(models, max_consecutive_failures=0) as (crunch, cluster):
        assert not cluster.config.report_failures
        crunch.node("a").kill()
        await trio.sleep(3600)
        assert cluster.announced["a"].state in (ModelState.FAILED, ModelState.CONNECTING)
        assert set(cluster.models) == {"b", "c"}
        crunch.node("a").restart()
        await cluster.wait_for_models(3)
        assert crunch.reports == []


async def test_changes_tell_who_can_be_reached(autojump_clock: MockClock) -> None:
    seen: list[ChangeKind] = []

    async def listen(changes: ChangeListener) -> None:
        seen.extend([change.kind async for change in changes])

    async with (
        trio.open_nursery() as nursery,
        observing({"a": Model}) as (crunch, cluster),
        cluster.changes(initial=True) as changes,
    ):
        nursery.start_soon(listen, changes)
        await trio.sleep(100)
        crunch.node("a").kill()
        await trio.sleep(1)
        crunch.node("a").restart()
        await cluster.wait_for_models(1)
        await crunch.redeploy("a", Model)
        await trio.sleep(1)
        await crunch.remove("a")  # whose node says goodbye before the orchestrator has a word of it
        await trio.sleep(1)
    first = [ChangeKind.ANNOUNCED, ChangeKind.JOINED, ChangeKind.LOST, ChangeKind.JOINED]
    assert seen == [*first, ChangeKind.ANNOUNCED, ChangeKind.REDEPLOYED, ChangeKind.LOST, ChangeKind.LEFT]


async def test_a_redeployment_has_no_gap(autojump_clock: MockClock) -> None:
    async with observing({"a": Model}) as (crunch, cluster):
        before = cluster.models["a"]
        await crunch.redeploy("a", Model)
        await until(cluster, lambda: cluster.models["a"] is not before)
        assert cluster.models["a"].state is ModelState.REACHABLE
        assert before.state is ModelState.GONE


async def test_a_node_that_falls_silent_is_noticed_by_the_next_health_check(
    autojump_clock: MockClock,
) -> None:
    keepalive = Keepalive(interval=100.0, timeout=5.0)
    async with observing({"a": Model}, keepalive=keepalive) as (crunch, cluster):
        await trio.sleep(350)  # of three health checks that are answered
        with crunch.network.cut(crunch.node("a")):
            await trio.sleep(40)
            assert set(cluster.models) == {"a"}  # nobody has asked yet
            await trio.sleep(20)
            assert set(cluster.models) == set()
            error = cluster.announced["a"].error
            assert str(error) == "the health check was not answered within 5 s"
        await cluster.wait_for_models(1)
        assert cluster.announced["a"].error is None


async def test_the_channel_of_a_model_asks_for_its_health(autojump_clock: MockClock) -> None:
    async with observing({"a": Model}) as (_, cluster):
        answer = await HealthStub(cluster.models["a"].channel).check(HealthCheckRequest(), timeout=2.0)
        assert answer.status == 1
