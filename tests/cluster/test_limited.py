"""A cluster that is limited to some models lets all others be: their nodes are not even connected to."""

from __future__ import annotations

import trio
from helpers.coordinating import SERVICE, Model
from trio.testing import MockClock

from trio_model_runner import Cluster
from trio_model_runner.cluster.cluster import limit_to
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch


async def test_only_the_chosen_models_are_known_and_set_up(autojump_clock: MockClock) -> None:
    made: list[str] = []

    def maker(name: str) -> object:
        def make() -> Model:
            made.append(name)
            return Model()

        return make

    network = MemoryNetwork()
    async with LocalCrunch({"a": maker("a"), "b": maker("b")}, network=network) as crunch:
        cluster = Cluster(crunch.config(), SERVICE)
        limit_to(cluster, ["a", "c"])
        async with cluster:
            assert set(cluster.announced) == {"a"}
            await crunch.add("c", maker("c"))
            await crunch.add("d", maker("d"))
            await trio.sleep(1)
            results = await cluster.call("predict", models=["a", "b", "c"])
            assert set(results.by_id) == {"a", "c"}
            assert set(results.missing) == {"b"}
    assert made == ["a", "c"]
