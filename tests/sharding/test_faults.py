"""What happens to a cluster when one of its shards is killed or broken, on a clock that jumps.

The nodes are the oracle: what they have seen says who has called whom, and how often.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from helpers.callers import current_shard
from helpers.coordinating import SERVICE, Model, until
from helpers.insides import counts_of
from helpers.losing_shards import IDS, LOST, Scene, check_lost, cut, during, freeze, kill, scene
from helpers.remains import our_tasks

from trio_model_runner import Arguments, Join, ModelState, Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding import wire
from trio_model_runner.sharding.engine import ShardLost
from trio_model_runner.sharding.lease import WatchedLease
from trio_model_runner.sharding.messages import VERSION, ShardReady
from trio_model_runner.sharding.remote_actor import RemoteActor
from trio_model_runner.sharding.shard_link import ShardLink
from trio_model_runner.sharding.shard_results import Batches
from trio_model_runner.sharding.sharded_cluster import ShardedCluster
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine


async def test_a_shard_that_is_killed_before_it_hears_of_a_round(autojump_clock: object) -> None:
    async with scene() as here:
        lost, joined = here.of(LOST), len(here.joins)
        here.engine.shards[LOST].delay(0.5)
        results = await during(here, kill, 0.1)
        check_lost(here, results, lost)
        await here.all_ready(within=1)
        assert len((await here.call()).succeeded) == len(IDS)
        for model_id in lost:
            # The second round, and the join before.
            assert len(here.crunch.node(model_id).calls) == 2
            assert here.callers.shards(model_id) == [LOST, 0]
        assert len(here.joins) == joined


async def test_models_of_a_lost_shard_are_lost_until_another_has_them(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene() as here:
        lost, states = here.of(LOST), set()
        kill(here)
        with trio.fail_after(1):
            while len(here.cluster.models) == len(IDS):
                await here.cluster._fleet.changed.wait()  # private: see `until`
            states = {here.cluster.announced[each].state for each in lost}
            details = [str(here.cluster.announced[each].error) for each in lost]
            results = await here.call(models=lost)
        assert states == {ModelState.LOST}
        assert all(each.startswith(f"shard {LOST} was lost: ") for each in details)
        assert {(result.status, result.sent) for result in results.values()} == {(Status.ABSENT, False)}
        assert caplog.text.count(f"shard {LOST} was lost: ") == 1
        await here.all_ready(within=1)


async def test_a_shard_that_is_killed_while_it_sends(autojump_clock: object) -> None:
    async with scene(most_moves=2) as here:  # what was written before reaches the nodes when they go on
        lost = here.of(LOST)
        for model_id in lost:
            here.crunch.node(model_id).pause()
        arguments = Arguments(next(here.numbers), "x" * 1_000_000)
        results = await during(here, kill, 0.1, arguments=arguments)
        check_lost(here, results, lost)
        for model_id in lost:
            here.crunch.node(model_id).resume()
        await here.all_ready(within=3)
        for model_id in lost:
            assert all(len(call.args) == 1 for call in here.crunch.node(model_id).calls)
        assert len((await here.call()).succeeded) == len(IDS)


async def be_busy(_: object) -> None:
    await trio.sleep(1.0)


@pytest.mark.parametrize("event", [kill, cut, freeze])
async def test_a_moved_model_waits_for_its_old_call(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, event: Callable[[Scene], object]
) -> None:
    """Its node says that it is busy: that is the old call, and nothing counts against the model."""
    async with scene() as here:
        lost, joined = here.of(LOST), len(here.joins)
        began = trio.current_time()
        results = await during(here, event, 0.5, method="sleep", arguments=Arguments(8.0), timeout=9.0)
        check_lost(here, results, lost)
        assert len(results.succeeded) == len(IDS) - len(lost)
        await here.all_ready(within=3)
        assert trio.current_time() - began > 8.0
        assert len((await here.call()).succeeded) == len(IDS)
        for model_id in lost:
            assert here.callers.shards(model_id) == [LOST, 0]
            methods = [call.method for call in here.crunch.node(model_id).calls]
            assert methods == ["tick", "sleep", "tick"]
            assert counts_of(here.cluster.models[model_id]) == (0, 0, 0)
        assert len(here.joins) == joined
        await trio.sleep(100)
        assert not here.crunch.orchestrator.reports
        assert "another coordinator" not in caplog.text
        node = here.crunch.node(lost[0])  # now it would be one
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run_exclusively, be_busy)
            await here.call()
        assert f"another coordinator calls {lost[0]!r}" in caplog.text


async def test_a_new_instance_joins_on_the_other_shard(autojump_clock: object) -> None:
    async with scene() as here:
        fresh, *others = here.of(LOST)
        del here.joins[:]
        here.engine.shards[LOST].kill()
        await here.crunch.crash(fresh, announce=False)
        await here.crunch.recover(fresh, announce=False)
        await until(here.cluster, lambda: len(here.cluster.models) < len(IDS))
        await here.all_ready(within=3)
        assert here.joins == [(fresh, True)]
        assert others


async def test_a_model_whose_join_is_cut_off_joins_again_elsewhere(autojump_clock: object) -> None:
    async with scene() as here:
        model_id = here.of(LOST)[0]
        del here.joins[:]
        ended: list[str] = []

        async def slowly(join: Join) -> None:
            here.joins.append((join.model.model_id, join.fresh))
            (await join.model.call("sleep", Arguments(2.0 + len(here.joins) / 1000))).unwrap()
            ended.append(join.model.model_id)

        here.catch_up = slowly
        await here.crunch.crash(model_id)
        await here.crunch.recover(model_id)
        await here.crunch.node(model_id).wait_for_calls(2)
        kill(here)
        await here.all_ready(within=10)
        assert [each for each, _ in here.joins] == [model_id, model_id]
        assert ended == [model_id]
        assert here.callers.shards(model_id) == [LOST, 0]


async def test_a_shard_that_says_what_can_not_be_read_is_lost(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene() as here:
        await here.engine.shards[LOST]._up.send(b"\xff")
        await trio.sleep(1)
        assert len((await here.call()).succeeded) == len(IDS)
        assert "shard 1 was lost: it sent what can't be read" in caplog.text


@pytest.mark.parametrize("fails", ["raises", "ends", "is killed"])
async def test_a_shard_that_is_lost_while_it_is_launched(autojump_clock: object, fails: str) -> None:
    async def serve(first: bytes, send: Any, receive: Any) -> None:
        index = wire.decode_from_driver(first).index
        if index != LOST:
            await send(wire.encode(ShardReady(VERSION, "here", 1)))
            await receive()
        elif fails == "raises":
            raise KeyError("a bug")
        elif fails == "is killed":
            engine.shards[LOST].kill()
            await trio.sleep_forever()

    engine = InProcessEngine(serve)
    engine.has_network = True
    async with LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch:
        with pytest.raises(ShardLost, match="shard 1 could not be launched: "):
            async with ShardedCluster(crunch.config(), SERVICE, shards=2, engine=engine):
                raise AssertionError
        assert all(shard.exited.is_set() for shard in engine.shards.values())
        assert our_tasks() == []


async def test_an_exception_in_a_shard(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collect = Batches.collect

    def fail(batches: Batches, *args: Any) -> Any:
        if current_shard() == LOST:
            raise KeyError("a bug of ours")
        return collect(batches, *args)

    async with scene() as here:
        lost, joined = here.of(LOST), len(here.joins)
        monkeypatch.setattr(Batches, "collect", fail)
        check_lost(here, await here.call(), lost)
        await until(here.cluster, lambda: len(here.cluster.models) == len(IDS))
        assert len((await here.call()).succeeded) == len(IDS)
        assert len(here.joins) == joined
        raised, told = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert "Traceback" in raised
        assert "KeyError: 'a bug of ours'" in raised
        assert told.startswith(f"shard {LOST} was lost: it has raised KeyError: 'a bug of ours'; its models:")


async def test_what_the_orchestrator_says_during_a_move_holds(autojump_clock: object) -> None:
    async with scene() as here:
        crunch, lost = here.crunch, here.of(LOST)
        assert len(lost) >= 3
        crashed, redeployed, stopped = lost[:3]
        del here.joins[:]
        here.engine.shards[LOST].freeze()
        await until(here.cluster, lambda: len(here.cluster.models) < len(IDS))
        await crunch.crash(crashed)
        await crunch.redeploy(redeployed, Model)
        await crunch.remove(stopped)
        crunch.orchestrator.kill()
        await trio.sleep(1)
        await crunch.recover(crashed)
        crunch.orchestrator.start()
        with trio.fail_after(10):
            await until(here.cluster, lambda: len(here.cluster.models) == len(IDS) - 1)
            await until(here.cluster, lambda: here.cluster.models[redeployed].deployment_id == "deployment-9")
        assert stopped not in here.cluster.announced
        assert sorted(here.joins) == sorted([(crashed, True), (redeployed, True)])
        assert len((await here.call()).succeeded) == len(IDS) - 1


async def test_all_shards_are_lost_in_a_round(autojump_clock: object) -> None:
    with pytest.raises(ShardLost, match="all shards are lost, and with them all models; the last: "):  # noqa: PT012 - it comes out of the block
        async with scene() as here, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: here.call("hang"))
            await trio.sleep(0.1)
            for shard in here.engine.shards.values():
                shard.kill()
            await trio.sleep_forever()


@pytest.mark.parametrize(
    ("owner", "name", "stays"),
    [
        (WatchedLease, "note_renewal", 2.0),
        (RemoteActor, "lose_shard", 2.0),
        (ShardLink, "aclose", 2.0),
        (ShardLink, "aclose", 0.0),
    ],
)
async def test_an_exception_of_the_driver_ends_the_block(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, stays: float
) -> None:
    """It leaves by itself, also when the block is just being left."""

    def fail(*_: Any, **__: Any) -> None:
        monkeypatch.undo()
        raise KeyError("a bug of ours")

    with pytest.raises(KeyError, match="a bug of ours"):  # noqa: PT012 - it comes out of the block
        async with scene(most_moves=2) as here:
            engine = here.engine
            monkeypatch.setattr(owner, name, fail)
            kill(here)
            await trio.sleep(stays)
    assert all(shard.exited.is_set() for shard in engine.shards.values())
    assert our_tasks() == []


async def test_an_exception_of_the_coordinator_leaves_as_it_is(autojump_clock: object) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it comes out of the block
        async with scene() as here:
            engine = here.engine
            raise ZeroDivisionError
    assert all(shard.exited.is_set() for shard in engine.shards.values())
