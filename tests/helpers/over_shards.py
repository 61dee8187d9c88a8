"""What holds for a `Cluster` holds for a `ShardedCluster`: tests of the one run over the other, too.

A `ShardedCluster` over two shards in this process is put in the place of `Cluster`, and nothing else in a
test changes. `FILES` says which files' tests run so, and which of them can't, for what reason. A room's
conftest takes part by importing `kind_of_cluster` and `pytest_generate_tests`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

import pytest

from trio_model_runner import Cluster, ClusterConfig
from trio_model_runner.services import NodeService
from trio_model_runner.sharding.sharded_cluster import ShardedCluster
from trio_model_runner.testing.shard_engine import InProcessEngine

__all__ = ["FILES", "LONG_FILES", "OverShards", "kind_of_cluster", "over_shards", "pytest_generate_tests"]

_MARGIN = "a shard stops 10 ms sooner, so that what it has arrives in time"
_INSIDES = "it looks into what is elsewhere"
_LATER = "the shard knows that a model is not ready before the driver does"
_NONE = "it makes no cluster"
_MADE_ANEW = "an error is another object in the shard and in the driver"
_ERROR = "what `on_join` raised is a ModelError in results, not itself"

FILES: Final[Mapping[str, Mapping[str, str]]] = {
    "test_rounds": {
        "test_each_queued_call_keeps_its_own_deadline": _MARGIN,
        "test_a_nearer_deadline_around_a_round_costs_no_answers": _MARGIN,
        "test_a_node_that_tells_of_our_deadline_first_changes_nothing": "driver and shard end at one instant",
    },
    "test_cluster": {},
    "test_joining": {
        "test_a_call_that_waited_while_its_model_joined_asks_for_its_arguments_anew": _LATER,
    },
    "test_changes": {
        "test_a_change_s_error_is_readable_text": _NONE,
        "test_the_picture_of_a_large_fleet_is_no_backlog": _NONE,
        "test_two_tasks_that_listen_to_one_listener_both_wake_and_both_hear_of_the_end": _NONE,
        "test_waiting_for_a_change_can_be_cancelled_without_losing_any": _NONE,
        "test_who_is_too_slow_is_told_so_and_gets_the_picture_anew": _NONE,
    },
    "test_views": {"test_its_repr_says_how_a_cluster_is": "it has the name of the class"},
    "test_hooks": {},
    "test_cut_short": {
        "test_a_drain_is_named": _MARGIN,
        "test_an_enclosing_scope_is_named": _MARGIN,
    },
    "test_foreign_models": {},
    "test_exception_groups": {},
    "test_stopped_models": {
        "test_who_only_finishes_its_calls_goes_when_an_answer_is_not_its_nodes": _NONE,
    },
    "test_wrong_arguments": {},
    "test_rounds_memory": {},
    "test_cluster_exit": {
        "test_a_bug_of_ours_comes_out_of_the_block_as_itself": "it ends a shard",
        "test_a_bug_in_a_call_comes_out_of_the_call_as_itself": "it is a shard's",
    },
    "test_outside_trio": {"test_the_chapter_that_errors_name_is_there": _NONE},
    "test_late_proofs": {
        "test_a_proof_that_came_late_is_waited_for_from_then_on": _NONE,
        "test_who_had_trouble_long_before_the_proof_is_no_crowd_if_it_is_over": _NONE,
    },
    "test_limited": {},
    "test_reset": {"test_a_model_whose_on_join_fails_after_a_reset_has_failed": _ERROR},
    "test_sent": {
        "test_what_on_join_raises_is_logged_and_is_in_results": _ERROR,
        "test_what_was_never_written_was_not_sent": _MARGIN,
    },
}
"""By file, the tests in it that can't run over shards, and why."""

LONG_FILES: Final[Mapping[str, Mapping[str, str]]] = {
    "test_blame": {},
    "test_blame_of_overruns": {},
    "test_deployments": {
        "test_nonsense_costs_nothing_of_what_is_said_beside_it": _INSIDES,
        "test_so_many_connect_at_a_time_and_no_more": "so many connect from each shard",
        "test_ten_thousand_models_come_and_go_with_one_init_each": "it takes too long",
    },
    "test_done_when": {},
    "test_false_reports": {"test_a_call_that_times_out_just_after_the_report_adds_none": _MARGIN},
    "test_goodbyes": {},
    "test_held_reports": {
        "test_at_most_ten_that_are_held_are_tried_at_the_same_time": _INSIDES,
        "test_what_is_held_is_a_change_once_and_in_the_log_every_hour": "leases are renewed for hours",
    },
    "test_floods": {},
    "test_histories": {},
    "test_missed_updates": {"test_a_quiet_cluster_notices_nothing": "a snapshot has leases, which run"},
    "test_observing": {"test_the_channel_of_a_model_asks_for_its_health": "there are no channels"},
    "test_proxies": {},
    "test_reset_in_trouble": {
        "test_a_reset_cancelled_anywhere_leaves_the_model_usable": _LATER,
        "test_a_reset_cancelled_in_the_queue_leaves_its_place": _INSIDES,
        "test_a_reset_that_the_model_does_not_survive_has_failed": _MADE_ANEW,
    },
}
"""The same of files that take long: they run if OVER_SHARDS=all is in the environment."""

LONG_TESTS: Final = frozenset({"test_many_join_while_ticks_come_and_each_has_every_tick_once"})
"""Tests of `FILES` that take long: likewise."""

MAY_MAKE_NONE: Final = frozenset(
    {
        "test_asyncio_is_told_that_it_is_not_trio",
        "test_what_is_made_wrongly",
        "test_where_nothing_runs_the_way_in_is_named",
    }
)
"""Tests that make a cluster with some of their parameters. All others must make one each time."""

_ALL = os.environ.get("OVER_SHARDS") == "all"


def _can_run_over_shards(file: str, test: str) -> bool:
    files = {**FILES, **LONG_FILES} if _ALL else FILES
    return file in files and test not in files[file] and (_ALL or test not in LONG_TESTS)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have tests run twice that can run over shards."""
    if _can_run_over_shards(metafunc.module.__name__.rpartition(".")[2], metafunc.function.__name__):
        metafunc.parametrize("kind_of_cluster", ["cluster", "shards"], indirect=True)


@pytest.fixture(autouse=True)
def kind_of_cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a test run over shards if it is its turn."""
    if getattr(request, "param", "cluster") == "cluster":
        yield
        return
    made = OverShards.made
    with over_shards(request.module):
        yield
    if request.function.__name__ not in MAY_MAKE_NONE:
        assert OverShards.made > made, "no cluster was made over shards: nothing is shown of them"


class OverShards(ShardedCluster):
    """A `ShardedCluster` that is made as a `Cluster` is: over two shards in this process.

    Attributes:
        made: so many were made, or refused.
    """

    made = 0

    def __init__(self, config: ClusterConfig, service: NodeService | None = None, **settings: Any) -> None:
        OverShards.made += 1
        network = config.network if isinstance(config, ClusterConfig) else None
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
