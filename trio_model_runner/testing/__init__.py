"""A crunch to test coordinators against: an orchestrator and model nodes that serve ordinary Python objects.

A test gives the models as objects and runs the real `Cluster` against them. README.md, beside this file, has
a test of each kind. It may run in memory and on a clock that jumps; then a test of a ten-second timeout takes
no time::

    import trio
    from trio_model_runner import Cluster, DynamicSubclassService, Status
    from trio_model_runner.testing import Faults

    class Steady:
        def predict(self):
            return 1.5

    class Slow:
        async def predict(self):
            await trio.sleep(60)

    async def test_a_slow_model_times_out(local_crunch):
        async with local_crunch({"steady": Steady(), "slow": Slow()}) as crunch:
            async with Cluster(crunch.config(timeout=10.0), DynamicSubclassService("any.Name")) as cluster:
                results = (await cluster.call("predict")).by_id
                assert results["steady"].value == 1.5
                assert results["slow"].status is Status.TIMEOUT

                crunch.node("steady").next_faults(Faults(call_status=("MODEL_FAILED", "no more")))
                assert (await cluster.call("predict")).by_id["steady"].status is Status.FAILED
                await crunch.crash("steady")  # and crunch.recover, redeploy, retire, add, remove

What there is:

- `local_crunch`: the fixture, which pytest knows by itself. It makes a `LocalCrunch` in memory.
- `LocalCrunch`: the orchestrator and the nodes, and what happens to deployed models, each a method.
- `MemoryCrunch`: the same in memory, as the fixture makes it; its `network` is always a `MemoryNetwork`.
- `LocalNode`: one node, as `LocalCrunch.node` returns it. It records what it was asked, and has `faults`.
- `Faults`: what a node does wrong at Setups and calls. What the network does wrong is `MemoryNetwork.cut`.
- `LocalOrchestrator`: the WebSocket server, as `LocalCrunch.orchestrator`. It records what was reported, and
  can go away, fall silent, or send nonsense. `OrchestratorEntry` is what it announces.
- `Report`: what was reported, as `LocalCrunch.reports` has it.
- `Service`: the gRPC services that nodes can serve.
- `CallRecord`, `SetupRecord`, `Deployment`: what `LocalNode` and `LocalCrunch` record.
- `GRPCServer`, `ServerCall`: the server below the nodes, for tests that need one without a model.
- `InProcessEngine`: launches the shards of a `ShardedCluster` as tasks of the test's own Trio run. Each is an
  `InProcessShard`, which can be killed, frozen, delayed, and cut off.
- `CrunchFactory`: the type of `local_crunch`, for annotations.

Names are imported when they are first used, since pytest imports this package everywhere for the fixture's
sake. Read `crunch` first, then `node` and `orchestrator`; `endpoint` and `grpc_server` are below these.
`security` has what proves who is who, with `authority` and `wallet`; `reports` says why a report is missing;
`pytest_plugin` is the fixture. Nothing here may know the cluster, but for that text: it speaks with nodes and
orchestrator only through the network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .crunch import LocalCrunch
    from .deployment import Deployment
    from .entries import OrchestratorEntry
    from .faults import Faults
    from .grpc_server import GRPCServer, ServerCall
    from .memory_crunch import MemoryCrunch
    from .node import LocalNode
    from .node_services import Service
    from .orchestrator import LocalOrchestrator
    from .pytest_plugin import CrunchFactory
    from .report import Report
    from .served_model import CallRecord, SetupRecord
    from .shard_engine import InProcessEngine, InProcessShard

__all__ = [
    "CallRecord",
    "CrunchFactory",
    "Deployment",
    "Faults",
    "GRPCServer",
    "InProcessEngine",
    "InProcessShard",
    "LocalCrunch",
    "LocalNode",
    "LocalOrchestrator",
    "MemoryCrunch",
    "OrchestratorEntry",
    "Report",
    "ServerCall",
    "Service",
    "SetupRecord",
]

_MODULES = {
    "crunch": ("LocalCrunch",),
    "deployment": ("Deployment",),
    "entries": ("OrchestratorEntry",),
    "faults": ("Faults",),
    "grpc_server": ("GRPCServer", "ServerCall"),
    "memory_crunch": ("MemoryCrunch",),
    "node": ("LocalNode",),
    "node_services": ("Service",),
    "orchestrator": ("LocalOrchestrator",),
    "pytest_plugin": ("CrunchFactory",),
    "report": ("Report",),
    "served_model": ("CallRecord", "SetupRecord"),
    "shard_engine": ("InProcessEngine", "InProcessShard"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "h2":
            raise
        raise ImportError(
            "trio_model_runner.testing needs h2, which is not installed: pip install '.[testing]' in a clone",
            name="h2",
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
