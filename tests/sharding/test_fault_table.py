"""`sharding/README.md` says what fails how. Each row of its table is shown by tests; these are they."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

import trio_model_runner

ROOT: Final = Path(__file__).parents[1]

SHOWN_BY: Final[Mapping[str, Sequence[str]]] = {
    "a shard's process is killed, or raises": [
        "sharding/test_faults_of_processes.py::test_a_shard_that_is_killed_in_a_round",
        "sharding/test_faults.py::test_a_shard_that_is_killed_before_it_hears_of_a_round",
        "sharding/test_faults.py::test_a_shard_that_is_killed_while_it_sends",
        "sharding/test_faults.py::test_an_exception_in_a_shard",
        "sharding/test_faults.py::test_models_of_a_lost_shard_are_lost_until_another_has_them",
    ],
    "a shard stands still, or can't be reached": [
        "sharding/test_faults_of_leases.py::test_who_is_cut_off_is_silent_before_another_calls",
        "sharding/test_faults_of_leases.py::test_a_shard_that_comes_back_is_not_let_in_again",
        "sharding/test_faults_of_processes.py::test_a_shard_that_was_stopped_past_its_lease_writes_nothing_any_more",
        "sharding/test_sharded_cluster.py::test_a_stuck_shard_delays_nobody",
    ],
    "a Dask worker is killed": [
        "sharding/test_faults_on_dask.py::test_a_worker_that_is_killed_while_calls_are_sent",
        "sharding/test_dask.py::test_a_lost_worker_is_no_ended_shard",
        "sharding/test_faults_of_leases.py::test_who_is_cut_off_is_silent_before_another_calls",
    ],
    "the Dask scheduler ends, or the driver's connection to it breaks": [
        "sharding/test_faults_on_dask.py::test_without_the_scheduler_all_shards_are_lost",
        "sharding/test_faults_on_dask.py::test_if_the_driver_loses_the_scheduler_the_workers_end_their_shards",
    ],
    "a shard is too busy to send in time, as when many of its models hang": [
        "sharding/test_faults_of_leases.py::test_results_that_come_too_late_are_dropped",
        "sharding/test_sharded_round.py::test_an_answer_of_50_ms_before_the_deadline_is_never_lost",
    ],
    "all shards are lost": ["sharding/test_faults.py::test_all_shards_are_lost_in_a_round"],
    "a shard can't be launched": [
        "sharding/test_faults.py::test_a_shard_that_is_lost_while_it_is_launched",
        "sharding/test_local.py::test_why_it_can_not_start_is_said",
    ],
    "the driver is killed": [
        "sharding/test_faults_of_processes.py::test_a_driver_that_is_killed_leaves_neither_shards_nor_connections",
        "sharding/test_dask.py::test_a_shard_ends_with_its_driver",
        "sharding/test_shard.py::test_it_is_mute_and_ends_when_the_way_is_lost",
        "sharding/test_shard.py::test_it_ends_without_a_lease_for_long",
    ],
    "the driver stands still for more than 2 s": [
        "sharding/test_faults_of_processes.py::test_a_driver_that_was_stopped_goes_on_with_all_shards",
        "sharding/test_faults_of_leases.py::test_nothing_is_sent_after_everything_stood_still",
        "sharding/test_shard.py::test_it_calls_only_with_a_lease",
        "sharding/test_lease.py::test_the_driver_notices_that_it_was_away_itself",
    ],
    "the orchestrator is away": [  # the first runs over shards, too
        "cluster/test_changes.py::test_the_orchestrator_goes_and_nobody_loses_a_connection",
        "sharding/test_faults.py::test_what_the_orchestrator_says_during_a_move_holds",
    ],
    "Ctrl-C, SIGTERM": [
        "sharding/test_ctrl_c.py::test_ctrl_c_at_any_moment",
        "sharding/test_ctrl_c.py::test_a_second_ctrl_c_says_no_more",
        "sharding/test_faults_interrupts.py::test_ctrl_c_after_any_step",
        "examples/test_bird_game.py::test_as_a_program_it_is_ended_by_sigterm_with_nothing_left_to_say",
    ],
}
"""The tests that show a row, by its first cell."""


def rows() -> list[str]:
    text = (Path(trio_model_runner.__file__).parent / "sharding" / "README.md").read_text()
    chapter = text.partition("\n## What fails how\n")[2].partition("\n## ")[0]
    first_cells = [
        line.split(" | ")[0].removeprefix("| ") for line in chapter.splitlines() if line[:1] == "|"
    ]
    return first_cells[2:]  # below the heads


def test_every_row_is_shown() -> None:
    assert rows() == list(SHOWN_BY)


@pytest.mark.parametrize("row", SHOWN_BY)
def test_the_tests_that_show_it_are_there(row: str) -> None:
    for name in SHOWN_BY[row]:
        file, _, test = name.partition("::")
        tree = ast.parse((ROOT / file).read_text())
        assert test in {
            each.name for each in ast.walk(tree) if isinstance(each, ast.AsyncFunctionDef | ast.FunctionDef)
        }
