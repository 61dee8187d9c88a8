"""A reset that is interrupted, doubled, drained or overtaken leaves the model as usable as it was."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest
import trio
from helpers.checkpoints import cancel_everywhere
from helpers.coordinating import Model, coordinating, until
from helpers.insides import counts_of, queued_of
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterDraining,
    Join,
    ModelRunner,
    ModelState,
    PredictResult,
    Status,
)
from trio_model_runner.config import Health
from trio_model_runner.model.handle import operator_of
from trio_model_runner.testing import LocalCrunch

Subject = tuple[LocalCrunch, Cluster]
Results = list[PredictResult[Any]]


async def catch_up(join: Join) -> None:
    (await join.model.call("nothing")).unwrap()


def a_model() -> AbstractAsyncContextManager[Subject]:
    return coordinating({"a": Model}, on_join=catch_up, health=Health(require_witness=False))


async def usable(cluster: Cluster) -> None:
    """The model is ready again, carries calls, and nobody has kept a place among them."""
    with trio.fail_after(60):
        await cluster.wait_for_models()
    model = cluster.models["a"]
    assert (await model.call("predict", timeout=5)).status is Status.SUCCESS
    # Private: a place that was forgotten shows in no other way. Over shards, it is in another process.
    operator: Any = operator_of(model)
    assert not getattr(operator, "_queue", ())
    assert not getattr(operator, "_joining_queue", ())
    assert not cluster._caller._rounds
    assert counts_of(model) == (0, 0, 0)


async def test_a_reset_of_a_draining_cluster_is_refused_and_does_nothing() -> None:
    async with coordinating({"a": Model}) as (crunch, cluster):
        model, setups = cluster.models["a"], len(crunch.node("a").setups)
        await cluster.drain(1)
        with pytest.raises(ClusterDraining):
            await model.reset()
        await wait_all_tasks_blocked()
        assert len(crunch.node("a").setups) == setups
        assert (model.state, queued_of(model)) == (ModelState.READY, 0)


async def test_draining_ends_a_reset_that_waits_for_its_turn(autojump_clock: MockClock) -> None:
    results: Results = []
    async with coordinating({"a": Model}) as (crunch, cluster), trio.open_nursery() as nursery:
        model = cluster.models["a"]
        setups = len(crunch.node("a").setups)
        nursery.start_soon(model.call, "sleep", Arguments(50.0))
        await crunch.node("a").wait_for_calls(1)
        nursery.start_soon(reset, model, results)
        await wait_all_tasks_blocked()
        await cluster.drain(2)
        assert trio.current_time() == pytest.approx(2, abs=0.1)
        await wait_all_tasks_blocked()
        (result,) = results
        assert result.status is Status.TIMEOUT
        assert len(crunch.node("a").setups) == setups


async def reset(model: ModelRunner, results: Results) -> None:
    results.append(await model.reset())


async def test_a_reset_cancelled_anywhere_leaves_the_model_usable(autojump_clock: MockClock) -> None:
    async def scenario(subject: Subject) -> None:
        assert (await subject[1].models["a"].reset()).status is Status.SUCCESS

    async def check(subject: Subject, _: bool) -> None:
        await usable(subject[1])

    assert await cancel_everywhere(a_model, scenario, check) > 20


async def test_a_reset_cancelled_in_the_queue_leaves_its_place(autojump_clock: MockClock) -> None:
    async with a_model() as (crunch, cluster), trio.open_nursery() as nursery:
        model = cluster.models["a"]
        nursery.start_soon(model.call, "sleep", Arguments(5.0))
        await crunch.node("a").wait_for_calls(2)
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_later, scope)
            await model.reset()
        assert scope.cancelled_caught
        assert queued_of(model) == 1
        assert (await model.call("predict")).status is Status.SUCCESS
        assert trio.current_time() == pytest.approx(5, abs=0.1)
        await usable(cluster)


async def cancel_later(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_a_reset_ends_before_a_deadline_around_it(autojump_clock: MockClock) -> None:
    async with a_model() as (crunch, cluster), trio.open_nursery() as nursery:
        model = cluster.models["a"]
        nursery.start_soon(model.call, "sleep", Arguments(5.0))
        await crunch.node("a").wait_for_calls(2)
        with trio.move_on_after(1) as scope:
            result = await model.reset()
        assert not scope.cancelled_caught
        assert result.status is Status.TIMEOUT
        await usable(cluster)


async def test_two_resets_at_once_both_succeed_one_after_the_other(autojump_clock: MockClock) -> None:
    results: Results = []
    async with a_model() as (crunch, cluster):
        setups = len(crunch.node("a").setups)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(reset, cluster.models["a"], results)
        assert [result.status for result in results] == [Status.SUCCESS] * 2
        assert len(crunch.node("a").setups) == setups + 2
        await usable(cluster)


async def test_a_round_beside_a_reset_is_complete(autojump_clock: MockClock) -> None:
    results: Results = []
    async with coordinating({"a": Model, "b": Model}) as (_, cluster), trio.open_nursery() as nursery:
        nursery.start_soon(reset, cluster.models["a"], results)
        for _ in range(10):
            played = await cluster.call("predict")
            assert {each.status for each in played.values()} <= {Status.SUCCESS, Status.ABSENT}
            assert played.by_id["b"].status is Status.SUCCESS
            assert len(played) == 2
        await until(cluster, lambda: len(cluster.models) == 2)
    assert [result.status for result in results] == [Status.SUCCESS]


@pytest.mark.parametrize("waiting", [True, False], ids=["it waits", "it joins again"])
async def test_a_reset_of_a_model_that_is_replaced_meanwhile_ends(
    autojump_clock: MockClock, waiting: bool
) -> None:
    """The old deployment finishes what it was at, and goes."""
    results: Results = []
    slow = False

    async def on_join(join: Join) -> None:
        if slow and join.reason == "restarted":
            await trio.sleep(20)

    async with coordinating({"a": Model}, on_join=on_join) as (crunch, cluster):
        old = cluster.models["a"]
        slow = True
        async with trio.open_nursery() as nursery:
            if waiting:
                nursery.start_soon(partial(old.call, "sleep", Arguments(5.0)))
                await crunch.node("a").wait_for_calls(1)
            nursery.start_soon(reset, old, results)
            await trio.sleep(1)
            assert old.state is (ModelState.READY if waiting else ModelState.JOINING)
            await crunch.redeploy("a", Model)
            await until(cluster, lambda: cluster.announced["a"] is not old and "a" in cluster.models)
        (result,) = results
        assert result.model is old
        assert result.status is Status.FAILED
        assert "replaced by another deployment" in result.detail
        await until(cluster, lambda: old.state is ModelState.GONE)
        await usable(cluster)
        assert crunch.reports == []


async def test_a_model_that_dies_while_it_is_reset_is_set_up_again(autojump_clock: MockClock) -> None:
    results: Results = []
    async with a_model() as (crunch, cluster):
        crunch.node("a").faults.setup_delay = 2.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reset, cluster.models["a"], results)
            await trio.sleep(1)
            crunch.node("a").kill()
            await trio.sleep(1)
            crunch.node("a").restart()
        assert [result.status for result in results] == [Status.SUCCESS]
        await usable(cluster)


async def test_a_reset_that_the_model_does_not_survive_has_failed(autojump_clock: MockClock) -> None:
    results: Results = []
    async with a_model() as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").faults.setup_status = ("SETUP_FAILED", "no weights")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reset, model, results)
        (result,) = results
        assert (result.status, model.state) == (Status.FAILED, ModelState.FAILED)
        assert "no weights" in result.detail
        assert result.error is model.error
