"""Who joins late is caught up: `on_join` runs when it must, and a model gets every tick exactly once."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating, until
from trio.testing import MockClock

from trio_model_runner import (
    Arguments,
    Change,
    ChangeKind,
    Cluster,
    Join,
    ModelState,
    Status,
)
from trio_model_runner.config import Limits
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.orchestrator import Entry, RunState, Update
from trio_model_runner.rpc.frames import ErrorCode, goaway_frame
from trio_model_runner.testing import LocalCrunch


class Coordinator:
    """Sends ticks to all models, and catches up who joins, as the documentation has it.

    Attributes:
        history: all ticks.
        joins: who joined, why, and as a new instance or not.
        overtaken: how many of them had to be sent ticks that came during the join.
    """

    def __init__(self) -> None:
        self.history: list[int] = []
        self.joins: list[tuple[str, str, bool]] = []
        self.overtaken = 0

    async def on_join(self, join: Join) -> None:
        self.joins.append((join.model.model_id, str(join.reason), join.fresh))
        sent = 0
        while sent < len(self.history):
            new, sent = self.history[sent:], len(self.history)
            (await join.model.call("tick", Arguments(*new))).unwrap()
            self.overtaken += sent < len(self.history)

    async def tick(self, cluster: Cluster) -> None:
        self.history.append(len(self.history))
        await cluster.call("tick", Arguments(self.history[-1]))


class Unhurried(Model):
    """Takes some time for its history, so that ticks come meanwhile."""

    async def tick(self, *values: Any) -> int:  # type: ignore[override]
        self.ticks += values
        await trio.sleep(BEAT)
        return len(self.ticks)


BEAT = 1 / 128
"""Seconds; a power of two, so that sums of it are exact, and what falls on one beat happens at once."""


@pytest.mark.parametrize("seed", range(2))
async def test_many_join_while_ticks_come_and_each_has_every_tick_once(
    autojump_clock: MockClock, seed: int
) -> None:
    """Eighty models join within 64 beats, so several at a beat, while about thirty ticks come.

    The number of models matters less than how often a tick meets a join that is under way: about one in four
    joins does. Setups, answers and ticks keep to the same beats, and a tick comes a few steps after one, as
    the end of a join does.
    """
    chance = random.Random(seed)
    coordinator = Coordinator()
    async with LocalCrunch({str(n): Unhurried for n in range(80)}, network=MemoryNetwork()) as crunch:
        for deployment in crunch.deployments:
            deployment.node.faults.setup_delay = chance.randrange(64) * BEAT
        config = crunch.config(startup_timeout=0, limits=Limits(max_simultaneous_connects=80))
        async with Cluster(config, SERVICE, on_join=coordinator.on_join) as cluster:
            while len(cluster.models) < 80:
                await coordinator.tick(cluster)
                await trio.sleep(chance.randrange(4) * BEAT)
                await steps(chance.randrange(16))
            await coordinator.tick(cluster)
            assert len(coordinator.history) > 10
            assert len(coordinator.joins) == 80
            assert coordinator.overtaken > 10
            for deployment in crunch.deployments:
                assert deployment.node.instance.ticks == coordinator.history


async def test_a_tick_after_any_step_of_a_join_comes_once(autojump_clock: MockClock) -> None:
    """One model after the other joins, and a tick comes later each time, until it comes after the join.

    Each number of steps has four tries, since Trio chooses at random which task goes first in a step.
    """
    coordinator = Coordinator()
    async with coordinating({}, on_join=coordinator.on_join, startup_timeout=0) as (crunch, cluster):
        for number in itertools.count():
            model_id = str(number)
            coordinator.history[:] = [0]  # so that there is something to catch up with
            node = await crunch.add(model_id, Model)
            await steps(number // 4)
            joined = model_id in cluster.models
            await coordinator.tick(cluster)
            await until(cluster, lambda: model_id in cluster.models)  # noqa: B023 - called in this turn only
            assert node.instance.ticks == coordinator.history == [0, 1]
            await crunch.remove(model_id)
            await until(cluster, lambda: model_id not in cluster.announced)  # noqa: B023 - the same
            if joined:
                break
    assert coordinator.overtaken > 0


async def steps(number: int) -> None:
    """Let every task that can run make so many steps."""
    for _ in range(number):
        await trio.lowlevel.checkpoint()


async def test_models_crash_and_come_back_and_each_has_every_tick_once(autojump_clock: MockClock) -> None:
    chance = random.Random(2)
    coordinator = Coordinator()
    models = {str(number): Unhurried for number in range(4)}
    async with coordinating(models, on_join=coordinator.on_join) as (crunch, cluster):

        async def crash(model_id: str) -> None:
            for _ in range(15):
                await trio.sleep(chance.random() / 5)
                await crunch.crash(model_id)
                await trio.sleep(chance.random() / 20)
                await crunch.recover(model_id)
                await until(cluster, lambda: model_id in cluster.models)
            done.add(model_id)

        done: set[str] = set()
        async with trio.open_nursery() as nursery:
            for model_id in models:
                nursery.start_soon(crash, model_id)
            while len(done) < len(models):
                await coordinator.tick(cluster)
                await trio.sleep(chance.random() / 20)
        assert len(coordinator.joins) > 60
        for model_id in models:
            assert crunch.node(model_id).instance.ticks == coordinator.history


async def test_who_loses_its_history_gets_it_again(autojump_clock: MockClock) -> None:
    coordinator = Coordinator()
    async with coordinating({"a": Model, "b": Model}, on_join=coordinator.on_join) as (crunch, cluster):
        await coordinator.tick(cluster)
        await trio.sleep(5)
        assert sorted(coordinator.joins) == [("a", "joined", True), ("b", "joined", True)]
        coordinator.joins.clear()

        crunch.node("a").break_connections()
        await until(cluster, lambda: "a" not in cluster.models)
        await cluster.wait_for_models(2)
        assert coordinator.joins == []  # the instance is the same

        await crunch.crash("a")
        await coordinator.tick(cluster)
        await crunch.recover("a")
        await cluster.wait_for_models(2)
        assert coordinator.joins == [("a", "restarted", True)]

        await crunch.redeploy("a", Model)
        old = cluster.models["a"]
        await until(cluster, lambda: cluster.models["a"] is not old)
        assert coordinator.joins[1:] == [("a", "redeployed", True)]
        await coordinator.tick(cluster)
        assert crunch.node("a").instance.ticks == coordinator.history == [0, 1, 2]


async def test_who_had_an_instance_already_joins_without_a_fresh_one(autojump_clock: MockClock) -> None:
    coordinator = Coordinator()
    async with LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch:
        for fresh in (True, False):
            async with Cluster(crunch.config(), SERVICE, on_join=coordinator.on_join):
                assert coordinator.joins.pop() == ("a", "joined", fresh)


async def test_a_join_has_what_it_needs(autojump_clock: MockClock) -> None:
    joined: list[Join] = []

    async def on_join(join: Join) -> None:
        joined.append(join)
        assert join.model.state is ModelState.JOINING
        assert join.model.model_id not in join.cluster.models
        assert (await join.model.predict(5)).value == 5
        assert (await join.model.call("predict", Arguments(6))).value == 6
        rounds = await join.cluster.call("predict")  # a round takes it for what it is
        assert rounds[join.model].status is Status.ABSENT

    async with coordinating({"a": Model(), "b": Model()}, on_join=on_join) as (_, cluster):
        assert {join.model for join in joined} == set(cluster.models.values())
        assert all(join.cluster is cluster for join in joined)


async def expect_failed(cluster: Cluster, model_id: str) -> Change:
    with trio.fail_after(3600):
        async with cluster.changes() as changes:
            async for change in changes:
                if change.kind is ChangeKind.FAILED and change.model is cluster.announced[model_id]:
                    return change
    raise AssertionError


async def test_a_join_that_raises_keeps_the_model_out(autojump_clock: MockClock) -> None:
    troubles: list[Exception] = [KeyError("mine"), ExceptionGroup("ours", [KeyError("one"), KeyError("two")])]

    async def on_join(join: Join) -> None:
        await trio.sleep(1)
        if troubles and join.model.model_id == "a":
            raise troubles[0]

    async with coordinating({"b": Model(), "c": Model()}, on_join=on_join) as (crunch, cluster):
        await crunch.add("a", Model())
        while troubles:
            change = await expect_failed(cluster, "a")
            assert change.error is troubles[0] is cluster.announced["a"].error
            result = (await cluster.call("predict")).by_id["a"]
            assert (result.status, str(change.error) in result.detail) == (Status.ABSENT, True)
            await trio.sleep(1000)
            del troubles[0]
            crunch.announce("a")
        await until(cluster, lambda: "a" in cluster.models)
        assert crunch.reports == []


async def test_a_join_that_takes_too_long_keeps_the_model_out(autojump_clock: MockClock) -> None:
    async def on_join(join: Join) -> None:
        await trio.sleep_forever()

    settings = {"on_join_timeout": 30, "startup_timeout": 5}
    async with coordinating({"a": Model()}, on_join=on_join, **settings) as (crunch, cluster):
        change = await expect_failed(cluster, "a")
        assert isinstance(change.error, TimeoutError)
        assert "30 s" in str(change.error)
        assert trio.current_time() == pytest.approx(30, abs=0.01)
        await trio.sleep(1000)
        assert crunch.reports == []


async def test_a_connection_lost_in_a_join_makes_it_join_again(autojump_clock: MockClock) -> None:
    joins = 0

    async def on_join(join: Join) -> None:
        nonlocal joins
        joins += 1
        if joins == 1:
            crunch.node("a").break_connections()
        (await join.model.call("tick")).unwrap()

    async with (
        LocalCrunch({"a": Model()}, network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(), SERVICE, on_join=on_join) as cluster,
    ):
        assert set(cluster.models) == {"a"}
        assert joins == 2
        assert trio.current_time() == pytest.approx(2, abs=0.01)  # the first wait between attempts


async def test_calls_of_a_join_do_not_wait_behind_a_round(autojump_clock: MockClock) -> None:
    async def on_join(join: Join) -> None:
        if str(join.reason) == "restarted":
            (await join.model.call("tick", Arguments(7), timeout=1)).unwrap()

    async with coordinating({"a": Model}, on_join=on_join) as (crunch, cluster):
        crunch.node("a")._model.forget()  # private: the instance goes, and the connection stays
        # This waits with its turn until the model is set up and has joined again.
        assert (await cluster.call("tick", Arguments(8))).by_id["a"].value == 2
        assert crunch.node("a").instance.ticks == [7, 8]


@pytest.mark.parametrize("ending", ["returns", "raises"])
async def test_a_word_from_the_orchestrator_in_the_last_moment_of_a_join(
    autojump_clock: MockClock, ending: str
) -> None:
    async def on_join(join: Join) -> None:
        await trio.lowlevel.checkpoint()
        if join.model.model_id == "a":
            entry = Entry("a", join.model.deployment_id, RunState.STOPPED)
            join.cluster._fleet.deliver(Update((entry,)))  # private: at this very step of the join
            if ending == "raises":
                raise KeyError("mine")

    async with coordinating({"a": Model(), "b": Model()}, on_join=on_join) as (_, cluster):
        assert set(cluster.models) == set(cluster.announced) == {"b"}


async def test_who_crashes_or_goes_in_a_join_is_let_go(autojump_clock: MockClock) -> None:
    cancelled = 0

    async def on_join(join: Join) -> None:
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled += 1
            raise

    async with coordinating({"a": Model(), "b": Model()}, on_join=on_join, startup_timeout=1) as (
        crunch,
        cluster,
    ):
        await crunch.remove("a")
        await until(cluster, lambda: "a" not in cluster.announced)
        await crunch.crash("b")
        await until(cluster, lambda: cluster.announced["b"].state is ModelState.RECOVERING)
        await trio.testing.wait_all_tasks_blocked()
        assert cancelled == 2


async def test_a_report_from_inside_a_join(autojump_clock: MockClock) -> None:
    async def on_join(join: Join) -> None:
        await join.cluster.report_failure(join.model, "LOW_PERFORMANCE", "too bad to join")

    async with coordinating({"a": Model()}, on_join=on_join) as (crunch, cluster):
        await crunch.wait_for_reports()
        assert cluster.announced["a"].state is ModelState.FAILED


async def test_a_node_that_says_goaway_in_a_join_is_joined_again(autojump_clock: MockClock) -> None:
    joins = 0

    async def on_join(join: Join) -> None:
        nonlocal joins
        joins += 1
        if joins == 1:  # it has not hung up yet
            crunch.node("a").send_raw(goaway_frame(99, ErrorCode.NO_ERROR))
            await trio.testing.wait_all_tasks_blocked()
        (await join.model.call("tick")).unwrap()

    async with (
        LocalCrunch({"a": Model()}, network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(), SERVICE, on_join=on_join) as cluster,
    ):
        await cluster.wait_for_models()
        assert joins == 2


async def test_an_instance_that_was_made_just_before_the_news_of_a_crash_is_caught_up(
    autojump_clock: MockClock,
) -> None:
    coordinator = Coordinator()
    async with coordinating({"a": Model}, on_join=coordinator.on_join) as (crunch, cluster):
        await coordinator.tick(cluster)
        await crunch.crash("a", announce=False)
        node = await crunch.recover("a", announce=False)
        node.faults.setup_delay = 5.0
        await until(cluster, lambda: cluster.announced["a"].state is ModelState.SETTING_UP)
        await trio.sleep(1.0)
        crunch.announce("a", "RECOVERING")  # so nobody reads the answer to the Setup
        crunch.announce("a")
        await cluster.wait_for_models(1)
        assert coordinator.joins == [("a", "joined", True), ("a", "restarted", True)]


async def test_a_call_that_waited_while_its_model_joined_asks_for_its_arguments_anew(
    autojump_clock: MockClock,
) -> None:
    joins: list[Join] = []

    async def on_join(join: Join) -> None:
        joins.append(join)

    async with coordinating({"a": Model}, on_join=on_join) as (crunch, cluster):
        node = crunch.node("a")
        node.goaway()
        node.kill()
        node.restart()
        round_ = await cluster.call("predict", lambda _: Arguments(len(joins)))
        assert [join.fresh for join in joins] == [True, True]
        assert round_.by_id["a"].value == 2
