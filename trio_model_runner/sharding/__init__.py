"""The models of one crunch on several processes: one driver, and shards that an engine launches.

`README.md` says when to use it, how, and what fails how.

The driver is the coordinator's process. It alone has the orchestrator's feed, decides which deployments are
in use, runs `on_join`, judges and reports. A shard has connections to a part of the models, and makes calls
on them. The driver is an ordinary `cluster.fleet.Fleet` whose actors are elsewhere, and a shard runs ordinary
actors without an orchestrator; between them are small messages. Nothing here may know gRPC, but for the
classes of its errors in `told_errors`.

Read in this order: `messages` has all that driver and shards say to each other, and `wire` the bytes of it:
`wire_fields` has its small fields, `wire_columns` what is large or many, and `wire_json` is strict JSON.
`wire_values` makes plain values of services, settings and arguments, for these messages, and `told_errors`
names and texts of exceptions.
`engine` is what launches shards. `lease` says until when a shard may call its models.

`shard` is the whole of a shard. `shard_supervisor` has its models, and `shard_rounds` plays the rounds that
the driver asks for. `shard_results` makes columns of what came, `shard_judge` passes on what counts, and
`shard_outbox` sends all that is said.

`sharded_cluster` is what a coordinator uses. `shards` launches shards, watches their leases and gives them
models; a `remote_actor` stands for each, and `catching_up` has its joins. `shard_link` carries what is said,
and `shard_listener` takes what comes to where it belongs. `sharded_round` is one round: `round_values` has
what can't wait, and `columns` the results.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .engine import Engine, Shard, ShardLost

if TYPE_CHECKING:
    from .dask import DaskEngine
    from .local import LocalEngine
    from .sharded_cluster import ShardedCluster

__all__ = ["DaskEngine", "Engine", "LocalEngine", "Shard", "ShardLost", "ShardedCluster"]

_MODULE_OF = {"DaskEngine": "dask", "LocalEngine": "local", "ShardedCluster": "sharded_cluster"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a shard needs no cluster."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
