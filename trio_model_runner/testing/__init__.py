"""A crunch to test coordinators against: an orchestrator and model nodes that serve ordinary Python objects.

A test gives the models as objects and runs the real `Cluster` against them. It may run in memory and on a
clock that jumps; then a test of a ten-second timeout takes no time::

    import trio
    from trio_model_runner import Cluster, DynamicSubclassService, Status
    from trio_model_runner.network import MemoryNetwork
    from trio_model_runner.testing import Faults, LocalCrunch

    class Steady:
        def predict(self):
            return 1.5

    class Slow:
        async def predict(self):
            await trio.sleep(60)

    async def test_a_slow_model_times_out(autojump_clock):
        async with LocalCrunch({"steady": Steady(), "slow": Slow()}, network=MemoryNetwork()) as crunch:
            async with Cluster(crunch.config(timeout=10.0), DynamicSubclassService("any.Name")) as cluster:
                results = (await cluster.call("predict")).by_id
                assert results["steady"].value == 1.5
                assert results["slow"].status is Status.TIMEOUT

                crunch.node("steady").next_faults(Faults(call_status=("MODEL_FAILED", "no more")))
                assert (await cluster.call("predict")).by_id["steady"].status is Status.FAILED
                await crunch.crash("steady")  # and crunch.recover, redeploy, retire, add, remove

What there is:

- `LocalCrunch`: the orchestrator and the nodes, and what happens to deployed models, each a method.
- `LocalNode`: one node, as `LocalCrunch.node` returns it. It records what it was asked, and has `faults`.
- `Faults`: what a node does wrong at Setups and calls. What the network does wrong is `MemoryNetwork.cut`.
- `LocalOrchestrator`: the WebSocket server, as `LocalCrunch.orchestrator`. It records what was reported, and
  can go away, fall silent, or send nonsense.
- `Service`: the gRPC services that nodes can serve.
- `CallRecord`, `SetupRecord`, `Deployment`: what `LocalNode` and `LocalCrunch` record.
- `GRPCServer`, `ServerCall`: the server below the nodes, for tests that need one without a model.

Read `crunch` first, then `node` and `orchestrator`; `endpoint` and `grpc_server` are below these. Nothing
here may know the cluster: it speaks with nodes and orchestrator only through the network.
"""

from __future__ import annotations

try:
    import h2 as h2  # the local nodes' HTTP/2
except ImportError as error:
    raise ImportError(
        "trio_model_runner.testing needs h2, which is not installed: pip install '.[testing]' in a clone",
        name="h2",
    ) from error

from .crunch import Deployment, LocalCrunch
from .faults import Faults
from .grpc_server import GRPCServer, ServerCall
from .node import LocalNode
from .node_services import Service
from .orchestrator import LocalOrchestrator
from .served_model import CallRecord, SetupRecord

__all__ = [
    "CallRecord",
    "Deployment",
    "Faults",
    "GRPCServer",
    "LocalCrunch",
    "LocalNode",
    "LocalOrchestrator",
    "ServerCall",
    "Service",
    "SetupRecord",
]
