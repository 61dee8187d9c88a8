"""A cluster over shards: the whole, in one process or over several, and what happens when shards are lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, until
from helpers.fake_shards import HANGS, sharded
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, Cluster, ClusterConfig, PredictionRound, Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding.engine import ShardLost
from trio_model_runner.sharding.messages import RoundBegin, RoundCut
from trio_model_runner.sharding.sharded_cluster import ShardedCluster
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine

MODELS = "abcdef"


@asynccontextmanager
async def whole(
    on_join: Any = None, **settings: Any
) -> AsyncIterator[tuple[LocalCrunch, Cluster, InProcessEngine]]:
    network = MemoryNetwork()
    engine = InProcessEngine(network=network)
    async with (
        LocalCrunch(dict.fromkeys(MODELS, Model), network=network) as crunch,
        ShardedCluster(
            crunch.config(**settings), SERVICE, shards=2, engine=engine, on_join=on_join
        ) as cluster,
    ):
        yield crunch, cluster, engine


async def test_a_round_over_processes_is_a_round() -> None:
    async with (
        LocalCrunch(dict.fromkeys(MODELS, Model)) as crunch,
        ShardedCluster(crunch.config(), SERVICE, shards=2) as cluster,
    ):
        results = await cluster.call("predict", Arguments({"price": 5}))
        assert [result.value for result in results.values()] == [{"price": 5}] * len(MODELS)
        assert (await cluster.models["a"].predict(7)).value == 7
        assert sum(each["models"] for each in cluster.snapshot().shards) == len(MODELS)


async def test_functions_and_types_are_the_coordinators(autojump_clock: MockClock) -> None:
    def arguments(model: Any) -> Arguments:
        if model.model_id == "a":
            raise KeyError("no price")
        return Arguments("x" if model.model_id == "b" else 1.5)

    async with whole() as (_, cluster, _):
        results = await cluster.call("predict", arguments, returns=float)
        assert {each: result.status for each, result in results.by_id.items() if each in "ab"} == {
            "a": Status.FAILED,
            "b": Status.FAILED,
        }
        assert isinstance(results.by_id["a"].error, KeyError)
        assert len(results.succeeded) == 4


async def test_a_killed_shards_models_go_to_the_other_and_need_not_join_again(
    autojump_clock: MockClock,
) -> None:
    joined: list[str] = []

    async def on_join(join: Any) -> None:
        joined.append(join.model.model_id)
        await trio.lowlevel.checkpoint()

    async with whole(on_join) as (crunch, cluster, engine):
        assert sorted(joined) == [*MODELS]
        rounds: list[PredictionRound[Any]] = []

        async def call() -> None:
            rounds.append(await cluster.call("sleep", Arguments(1.0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await crunch.node("a").wait_for_calls(1)
            engine.shards[0].kill()
        lost = rounds[0].failed
        assert 0 < len(lost) < len(MODELS)
        assert len(rounds[0].succeeded) == len(MODELS) - len(lost)
        for result in lost.values():
            assert result.detail.startswith("connection lost: shard 0 was lost: ")
        await cluster.wait_for_models(len(MODELS))
        await trio.sleep(2)  # their nodes are through with the old calls
        assert len((await cluster.call("predict")).succeeded) == len(MODELS)
        assert sorted(joined) == [*MODELS]
        assert [each["state"] for each in cluster.snapshot().shards] == ["lost", "up"]


async def test_models_of_a_shard_that_may_live_move_when_its_lease_has_run_out(
    autojump_clock: MockClock,
) -> None:
    async with sharded(MODELS) as (_, cluster, fake):
        began = trio.current_time()
        fake.engine.shards[1].freeze()
        await until(cluster, lambda: len(cluster.models) < len(MODELS))
        assert 2.0 <= trio.current_time() - began <= 3.0
        await cluster.wait_for_models(len(MODELS))
        assert {index for index, _ in fake.started()[-2:]} == {0}


async def test_without_shards_the_block_ends(autojump_clock: MockClock) -> None:
    with pytest.raises(ShardLost, match="all shards are lost"):  # noqa: PT012 - it comes out of the block
        async with sharded("a", shards=1) as (_, _, fake):
            fake.engine.shards[0].kill()
            await trio.sleep_forever()


async def test_a_shard_that_can_not_be_launched_comes_out_of_entering(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    engine = InProcessEngine(network=network)
    engine.refusal = "no room"
    async with LocalCrunch({"a": Model}, network=network) as crunch:
        with pytest.raises(ShardLost, match="no room"):
            async with ShardedCluster(crunch.config(), SERVICE, shards=2, engine=engine):
                raise AssertionError


async def test_a_stuck_shard_delays_nobody(autojump_clock: MockClock) -> None:
    async with sharded(MODELS) as (_, cluster, fake):
        fake.engine.shards[1].freeze()
        began = trio.current_time()
        results = await cluster.call("predict", timeout=1.0)
        assert trio.current_time() - began == pytest.approx(1.02)  # see `sharded_round._GRACE`
        assert {result.detail for result in results.timed_out.values()} == {
            "its shard did not answer in time"
        }
        assert 0 < len(results.succeeded) < len(MODELS)


async def test_leaving_a_round_cuts_it_in_the_shards(autojump_clock: MockClock) -> None:
    async with sharded(MODELS) as (_, cluster, fake):
        fake.answer = lambda model_id, method: HANGS
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cluster.call, "predict")
                await wait_all_tasks_blocked()
                scope.cancel()
        await wait_all_tasks_blocked()
        cuts = [said for _, said in fake.said if isinstance(said, RoundCut)]
        assert [(each.seconds, each.wanted) for each in cuts] == [(0.0, False)] * 2
        assert not cluster._shards.rounds  # type: ignore[attr-defined]  # or they would be kept for ever


async def test_what_has_no_time_left_is_not_sent(autojump_clock: MockClock) -> None:
    async with sharded(MODELS) as (_, cluster, fake):
        with trio.move_on_after(cluster.config.scope_margin / 2):
            assert len((await cluster.call("predict")).timed_out) == len(MODELS)
        assert not [said for _, said in fake.said if isinstance(said, RoundBegin)]


async def test_results_are_the_same_whenever_they_are_looked_at(autojump_clock: MockClock) -> None:
    async with sharded(MODELS) as (_, cluster, fake):
        fake.answer = lambda model_id, method: {"a": HANGS, "b": Status.FAILED}.get(model_id, [1, "x"])
        results = await cluster.call("predict", timeout=1)
        assert str(results).startswith("round 1: predict: 4 of 6 SUCCESS (1 FAILED, 1 TIMEOUT) in 1.020 s")
        assert list(results) == [cluster.announced[each] for each in MODELS]
        assert len(results.failed) == 1
        assert [model.model_id for model in results.succeeded] == [*"cdef"]
        first = results[cluster.models["c"]]
        assert first.value == [1, "x"]
        assert results.by_id["c"] is results.succeeded[cluster.models["c"]] is first
        assert cluster.models["a"] not in results.succeeded
        with pytest.raises(KeyError):
            results.succeeded[cluster.models["a"]]
        assert results.failed == {cluster.models["b"]: results.by_id["b"]}
        assert results.to_dict()["counts"]["SUCCESS"] == 4


async def test_channels_are_elsewhere(autojump_clock: MockClock) -> None:
    async with sharded("a") as (_, cluster, _):
        with pytest.raises(RuntimeError, match="another process"):
            _ = cluster.models["a"].channel


@pytest.mark.parametrize("shards", [0, -1, 1.5])
def test_there_is_at_least_one_shard(shards: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="shards: must be"):
        ShardedCluster(ClusterConfig("x", host="nowhere", port=1), SERVICE, shards=shards)
