"""Whether an instance is new, where the answer that said so was lost; and what a Setup's deadline means."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import SERVICE, Model, until
from helpers.insides import actor_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState
from trio_model_runner.model.policy import SETUP
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch


async def test_an_instance_is_new_until_an_answer_has_said_that_it_is_there(
    autojump_clock: MockClock,
) -> None:
    """The connection is lost twice in the middle of a Setup: before any answer, and when it is known."""
    joins: list[tuple[str, bool]] = []

    async def on_join(join: Any) -> None:
        await trio.lowlevel.checkpoint()
        joins.append((str(join.reason), join.fresh))

    async with LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch:
        node = crunch.node("a")
        node.faults.setup_delay = 5
        async with Cluster(crunch.config(startup_timeout=0), SERVICE, on_join=on_join) as cluster:
            model = cluster.announced["a"]
            await until(cluster, lambda: model.state is ModelState.SETTING_UP)
            await trio.sleep(2)
            node.break_connections()  # the node goes on, and makes its instance
            await until(cluster, lambda: model.state is ModelState.READY)
            assert joins == [("joined", True)]
            node.break_connections()
            await until(cluster, lambda: model.state is ModelState.SETTING_UP)
            await trio.sleep(2)
            node.break_connections()
            await until(cluster, lambda: model.state is not ModelState.SETTING_UP)
            await until(cluster, lambda: model.state is ModelState.READY)
            assert joins == [("joined", True)]


async def test_two_setups_that_are_lost_are_remembered_as_one(autojump_clock: MockClock) -> None:
    joins: list[bool] = []

    async def on_join(join: Any) -> None:
        await trio.lowlevel.checkpoint()
        joins.append(join.fresh)

    async with LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch:
        node = crunch.node("a")
        node.faults.setup_delay = 5
        async with Cluster(crunch.config(startup_timeout=0), SERVICE, on_join=on_join) as cluster:
            model = cluster.announced["a"]
            await until(cluster, lambda: model.state is ModelState.SETTING_UP)
            await trio.sleep(2)
            node.break_connections()
            await until(cluster, lambda: model.state is not ModelState.SETTING_UP)
            await until(cluster, lambda: model.state is ModelState.SETTING_UP)
            await trio.sleep(0.2)  # the node is busy; the Setup that was sent now has no effect
            node.break_connections()
            await until(cluster, lambda: model.state is ModelState.READY)
            assert joins == [True]


@pytest.mark.parametrize(("share", "overran"), [(0.8, False), (0.95, True)])
async def test_a_deadline_that_has_passed_too_early_is_not_ours(
    autojump_clock: MockClock, share: float, overran: bool
) -> None:
    async with LocalCrunch(dict.fromkeys("abcd", Model), network=MemoryNetwork()) as crunch:
        faults = crunch.node("a").faults
        faults.setup_delay = share * 10
        faults.setup_error = (GRPCStatus.DEADLINE_EXCEEDED, "Deadline Exceeded")
        async with Cluster(crunch.config(startup_timeout=0, setup_timeout=10), SERVICE) as cluster:
            model = cluster.announced["a"]
            await trio.sleep(9.9)
            standing = actor_of(model).conduct.record.standing(SETUP)
            assert (standing.failures, standing.timeouts) == ((0, 1) if overran else (1, 0))
            assert model.state is (ModelState.SETTING_UP if overran else ModelState.FAILED)


async def test_an_instance_that_was_lost_is_new_again(autojump_clock: MockClock) -> None:
    """The node says that it has none; then the connection is lost while it makes the next."""
    joins: list[tuple[str, bool]] = []

    async def on_join(join: Any) -> None:
        await trio.lowlevel.checkpoint()
        joins.append((str(join.reason), join.fresh))

    async with (
        LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(), SERVICE, on_join=on_join) as cluster,
        trio.open_nursery() as nursery,
    ):
        node, model = crunch.node("a"), cluster.models["a"]
        assert joins == [("joined", True)]
        # Private: nodes have no way to lose their instance alone.
        node._model.forget()
        node.faults.setup_delay = 5
        nursery.start_soon(model.predict, 1.0)
        await until(cluster, lambda: model.state is ModelState.SETTING_UP)
        await trio.sleep(2)
        node.break_connections()
        await until(cluster, lambda: model.state is ModelState.READY)
        assert joins == [("joined", True), ("restarted", True)]
        nursery.cancel_scope.cancel()


async def test_an_instance_that_was_not_caught_up_to_the_end_is_not_called_before_it_is(
    autojump_clock: MockClock,
) -> None:
    """Its connection is lost in the middle of `on_join`: the instance is not new any more, and is behind."""
    joins: list[tuple[str, bool]] = []
    caught_up = 0

    async def on_join(join: Any) -> None:
        nonlocal caught_up
        joins.append((str(join.reason), join.fresh))
        await trio.sleep(1)
        (await join.model.call("tick", Arguments(1))).unwrap()
        caught_up += 1

    async with LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch:
        node = crunch.node("a")
        async with Cluster(crunch.config(), SERVICE, on_join=on_join) as cluster:
            model = cluster.models["a"]
            node.kill()
            await until(cluster, lambda: model.state is not ModelState.READY)
            node.restart()
            await until(cluster, lambda: model.state is ModelState.JOINING)
            await trio.sleep(0.5)
            node.break_connections()
            await until(cluster, lambda: model.state is ModelState.READY)
            assert joins == [("joined", True), ("restarted", True), ("restarted", False)]
            assert caught_up == 2
            node.break_connections()
            await until(cluster, lambda: model.state is not ModelState.READY)
            await until(cluster, lambda: model.state is ModelState.READY)
            assert len(joins) == 3
