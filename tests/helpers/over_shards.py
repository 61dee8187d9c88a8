"""What holds for a `Cluster` holds for a `ShardedCluster`: tests of the one run over the other, too.

A `ShardedCluster` over two shards in this process is put in the place of `Cluster`, and nothing else in a
test changes. `FILES` says which files' tests run so, and which of them can't, for what reason. A room's
conftest takes part by importing `kind_of_cluster` and `pytest_generate_tests`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

import pytest

from trio_model_runner import Cluster, ClusterConfig
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.services import NodeService
from trio_model_runner.sharding.sharded_cluster import ShardedCluster
from trio_model_runner.testing.shard_engine import InProcessEngine

__all__ = ["FILES", "OverShards", "kind_of_cluster", "over_shards", "pytest_generate_tests"]

_MARGIN = "a shard stops 10 ms sooner, so that what it has arrives in time"
_INSIDES = "it looks into an actor, which is elsewhere"

FILES: Final[Mapping[str, Mapping[str, str]]] = {
    "test_rounds": {
        "test_each_queued_call_keeps_its_own_deadline": _MARGIN,
        "test_a_nearer_deadline_around_a_round_costs_no_answers": _MARGIN,
        "test_a_node_that_tells_of_our_deadline_first_changes_nothing": "driver and shard end at one instant",
    },
    "test_cluster": {},
    "test_joining": {
        "test_a_call_that_waited_while_its_model_joined_asks_for_its_arguments_anew": (
            "the shard has noticed the loss before it hears of the round"
        ),
    },
    "test_changes": {},
    "test_cut_short": {
        "test_a_drain_is_named": _MARGIN,
        "test_an_enclosing_scope_is_named": _MARGIN,
    },
}
"""By file, the tests in it that can't run over shards, and why."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    but = FILES.get(metafunc.module.__name__.rpartition(".")[2])
    if but is not None and metafunc.function.__name__ not in but:
        metafunc.parametrize("kind_of_cluster", ["cluster", "shards"], indirect=True)


@pytest.fixture(autouse=True)
def kind_of_cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a test run over shards if it is its turn."""
    if getattr(request, "param", "cluster") == "cluster":
        yield
        return
    with over_shards(request.module):
        yield


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
