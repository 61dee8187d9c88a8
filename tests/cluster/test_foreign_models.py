"""A model of another cluster is refused wherever one is taken; nothing is sent to it, nor reported of it.

Its node may speak another language, and the orchestrator that this cluster reports to does not know it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating
from trio.testing import wait_all_tasks_blocked

from trio_model_runner import Cluster, ModelRunner, Status, TrainInferService
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing import Service as ServiceName


@attrs.define
class Two:
    """Two crunches, whose nodes speak different languages, with a cluster each."""

    crunches: tuple[LocalCrunch, LocalCrunch]
    ours: Cluster
    theirs: Cluster

    @property
    def foreign(self) -> ModelRunner:
        return self.theirs.models["x"]

    async def check_nothing_happened(self) -> None:
        await wait_all_tasks_blocked()
        for crunch in self.crunches:
            assert crunch.reports == []
            assert [each.node.call_count for each in crunch.deployments] == [0] * len(crunch.deployments)
        assert set(self.theirs.models) == {"x"}
        assert self.ours.snapshot().last_round is None
        # Our own are not hindered: no place in a queue was kept.
        assert len((await self.ours.call("predict")).succeeded) == 2


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    network, services = MemoryNetwork(), (ServiceName.TRAIN_INFER,)
    async with (
        LocalCrunch({"x": Model, "y": Model}, network=network, crunch_id="ours") as first,
        LocalCrunch({"x": Model}, network=network, crunch_id="theirs", services=services) as second,
        Cluster(first.config(), SERVICE) as ours,
        Cluster(second.config(), TrainInferService()) as theirs,
    ):
        yield Two((first, second), ours, theirs)


async def iterate(cluster: Cluster, models: Any) -> None:
    async with cluster.as_completed("predict", models=models):
        raise AssertionError("it began")


WAYS: dict[str, Callable[[Cluster, Any], Awaitable[object]]] = {
    "call": lambda cluster, models: cluster.call("predict", models=models),
    "predict": lambda cluster, models: cluster.predict(1, models=models),
    "as_completed": iterate,
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_round_refuses_a_foreign_model(two: Two, way: str) -> None:
    for models in ([two.foreign], [*two.ours.models.values(), two.foreign], ["y", two.foreign, "y"]):
        with pytest.raises(ValueError, match=r"^models: .*'x' is another cluster's model"):
            await WAYS[way](two.ours, models)
    await two.check_nothing_happened()


async def test_a_foreign_model_is_not_reported(two: Two) -> None:
    with pytest.raises(ValueError, match=r"^model: .*'x' is another cluster's model"):
        await two.ours.report_failure(two.foreign, "LOW_PERFORMANCE", "oops")
    await two.check_nothing_happened()


async def test_the_id_of_a_foreign_model_is_our_own_model(two: Two) -> None:
    results = await two.ours.call("predict", models=[two.foreign.model_id])
    assert [*results] == [two.ours.models["x"]]


@asynccontextmanager
async def left_behind() -> AsyncIterator[tuple[LocalCrunch, ModelRunner]]:
    """A crunch, and a model of a cluster that was closed."""
    async with LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch:
        async with Cluster(crunch.config(), SERVICE) as closed:
            model = closed.models["a"]
        yield crunch, model


async def test_a_model_of_a_closed_cluster_is_foreign_to_the_next_one() -> None:
    async with left_behind() as (crunch, model), Cluster(crunch.config(), SERVICE) as cluster:
        for way in WAYS.values():
            with pytest.raises(ValueError, match=r"^models: .*another cluster's"):
                await way(cluster, [model])
        with pytest.raises(ValueError, match=r"^model: .*another cluster's"):
            await cluster.report_failure(model, "LOW_PERFORMANCE")
        await wait_all_tasks_blocked()
        assert crunch.node("a").call_count == 0
        assert crunch.reports == []
        assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS


async def test_a_model_of_a_closed_cluster_can_not_be_called() -> None:
    async with left_behind() as (crunch, model):
        for call in (model.call("predict"), model.predict(1), model.reset()):
            with pytest.raises(trio.ClosedResourceError):
                await call
        assert crunch.node("a").call_count == 0


async def test_a_model_of_this_cluster_that_has_left_is_not_foreign() -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        model = cluster.models["a"]
        await crunch.remove("a")
        await wait_all_tasks_blocked()
        result = (await cluster.call("predict", models=[model]))[model]
        assert result.status is Status.ABSENT
