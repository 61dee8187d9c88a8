"""A cluster that only observes, beside the node software that is deployed."""

from __future__ import annotations

import trio

from trio_model_runner import Cluster, ModelState
from trio_model_runner.config import Keepalive
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthStub

from .clusters import announced, settings
from .node_process import NodePool
from .waiting import PATIENT


async def test_nodes_are_reachable_whatever_their_models_are_and_none_is_set_up(pool: NodePool) -> None:
    nodes = pool.start("steady", "broken", "empty")
    async with announced(nodes) as crunch:
        config = settings(crunch, keepalive=Keepalive(interval=0.1, timeout=PATIENT))
        async with Cluster(config) as cluster:
            assert cluster.snapshot().models == {"reachable": 3}
            await trio.sleep(2)  # of twenty health checks, which no node takes for too many PINGs
            assert cluster.snapshot().models == {"reachable": 3}
            answer = await HealthStub(cluster.models["steady"].channel).check(
                HealthCheckRequest(), timeout=PATIENT
            )
            assert answer.status == 1
            nodes[0].kill()
            with trio.fail_after(PATIENT):
                while cluster.announced["steady"].state is ModelState.REACHABLE:
                    await cluster._fleet.changed.wait()
            assert set(cluster.models) == {"broken", "empty"}
    assert "Setup" not in "".join(node.output for node in nodes)
    assert crunch.reports == []
