"""Who is reported when a model's witnesses are on another shard, and when a shard's models fail together."""

from __future__ import annotations

import pytest
import trio
from helpers.coordinating import SERVICE, Model
from trio.testing import MockClock

from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding import ShardedCluster
from trio_model_runner.sharding.placement import place
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine


def ids_on(shard: int, count: int) -> list[str]:
    """Ids of models that this shard of two has."""
    ids = (f"m{number}" for number in range(1000))
    return [each for each in ids if place(each, [0, 1]) == shard][:count]


@pytest.mark.parametrize(
    ("failing", "healthy_beside", "healthy_elsewhere", "reported"),
    [(1, 0, 3, 1), (2, 8, 8, 2), (3, 0, 12, 0), (1, 3, 0, 1)],
    ids=["witness elsewhere only", "a few of many", "all of one shard", "the other shard is empty"],
)
async def test_who_is_reported(
    autojump_clock: MockClock, failing: int, healthy_beside: int, healthy_elsewhere: int, reported: int
) -> None:
    here, there = ids_on(0, failing + healthy_beside), ids_on(1, healthy_elsewhere)
    network = MemoryNetwork()
    async with (
        LocalCrunch(dict.fromkeys([*here, *there], Model), network=network) as crunch,
        ShardedCluster(
            crunch.config(), SERVICE, shards=2, engine=InProcessEngine(network=network)
        ) as cluster,
    ):
        assert [each["models"] for each in cluster.snapshot().shards] == [len(here), len(there)]
        for model_id in here[:failing]:
            crunch.node(model_id).faults.call_status = "MODEL_FAILED", "no feathers"
        for _ in range(5):
            await cluster.call("predict")
        if reported:
            await crunch.wait_for_reports(reported)
        else:
            await trio.sleep(200)
        for _ in range(5):
            await cluster.call("predict")
        await trio.sleep(200)
        assert sorted(str(each["model_id"]) for each in crunch.reports) == sorted(here[:reported])
        assert cluster.snapshot().reports_held == (0 if reported else failing)
