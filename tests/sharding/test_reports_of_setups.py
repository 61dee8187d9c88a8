"""A Setup that failed is tried again only if nobody is told of it, wherever the model's actor is."""

from __future__ import annotations

import pytest
import trio
from helpers.coordinating import SERVICE, Model, until
from helpers.over_shards import OverShards

from trio_model_runner import Cluster
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.values.results import ModelState


@pytest.mark.parametrize("make", [Cluster, OverShards])
@pytest.mark.parametrize("others", [5, 0])
async def test_a_setup_that_failed_is_tried_again_only_if_it_is_not_reported(
    autojump_clock: object, make: type[Cluster], others: int
) -> None:
    """Only the driver has the witnesses, so only it knows what is due; without others there is none."""
    models = dict.fromkeys("bcdefg"[:others], Model)
    async with (
        LocalCrunch(models, network=MemoryNetwork()) as crunch,
        make(crunch.config(), SERVICE) as cluster,
    ):
        await until(cluster, lambda: len(cluster.models) == others)
        node = await crunch.add("a", Model, announce=False)
        node.faults.setup_status = ("SETUP_FAILED", "no weights")
        crunch.announce("a")
        await until(cluster, lambda: len(cluster.announced) > others)
        model = cluster.announced["a"]
        await until(cluster, lambda: model.state is ModelState.FAILED)
        node.faults.setup_status = None
        await trio.sleep(50)
        if others:
            assert model.state is ModelState.FAILED
            assert str(model.error) == "Setup: SETUP_FAILED: no weights"
        else:
            assert model.state is ModelState.READY
        await trio.sleep(30)
        assert [report["model_id"] for report in crunch.reports] == ["a"] * bool(others)
