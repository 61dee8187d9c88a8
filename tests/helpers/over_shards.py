"""Puts a `ShardedCluster` over shards in this process in the place of `Cluster`, for tests of that."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

from trio_model_runner import Cluster, ClusterConfig
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.services import NodeService
from trio_model_runner.sharding.sharded_cluster import ShardedCluster
from trio_model_runner.testing.shard_engine import InProcessEngine

__all__ = ["OverShards", "over_shards"]


class OverShards(ShardedCluster):
    """A `ShardedCluster` that is made as a `Cluster` is: over two shards in this process."""

    def __init__(self, config: ClusterConfig, service: NodeService | None = None, **settings: Any) -> None:
        network = config.network if isinstance(config, ClusterConfig) else None
        if not isinstance(network, MemoryNetwork):
            network = None
        super().__init__(config, service, shards=2, engine=InProcessEngine(network=network), **settings)


@contextmanager
def over_shards(*modules: ModuleType) -> Iterator[None]:
    """Have these modules, and all helpers, make clusters over shards."""
    helpers = {module for name, module in sys.modules.items() if name.startswith("helpers.")}
    helpers.discard(sys.modules[__name__])  # it knows both
    making = [each for each in {*modules, *helpers} if vars(each).get("Cluster") is Cluster]
    with ExitStack() as changed:
        for module in making:
            changed.enter_context(patch.object(module, "Cluster", OverShards))
        yield
