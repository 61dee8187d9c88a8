"""A node that hangs, dies or refuses costs no other model anything, and is tried again as it should be."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import actor_of, counts_of, timeouts_of
from trio.testing import MockClock

from trio_model_runner import (
    Arguments,
    Cluster,
    ModelState,
    Status,
)
from trio_model_runner.config import Health
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.rpc.frames import ErrorCode
from trio_model_runner.testing import Faults, LocalCrunch


async def test_a_setup_that_hangs_delays_nobody_else(autojump_clock: MockClock) -> None:
    async with LocalCrunch({str(n): Model() for n in range(20)}, network=MemoryNetwork()) as crunch:
        crunch.node("7").faults.hang_setup = True
        async with Cluster(crunch.config(startup_timeout=1), SERVICE) as cluster:
            results = await cluster.call("predict")
            assert trio.current_time() == pytest.approx(1, abs=0.01)
            assert (len(results), len(results.succeeded)) == (20, 19)
            assert results.by_id["7"].status is Status.ABSENT
            await crunch.add("new", Model())
            await cluster.wait_for_models(20)
            assert trio.current_time() == pytest.approx(1, abs=0.01)


async def test_a_hung_model_costs_the_others_nothing(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}, timeout=3) as (_, cluster):
        arguments = {"a": Arguments(100.0), "b": Arguments(0.5)}
        before = trio.current_time()
        async with cluster.as_completed("sleep", lambda model: arguments[model.model_id]) as results:
            first = await results.__anext__()
            assert (first.model.model_id, first.value) == ("b", "awake")
            assert trio.current_time() - before == pytest.approx(0.5, abs=1e-6)
            assert first.elapsed == pytest.approx(0.5, abs=1e-6)
            second = await results.__anext__()
        assert trio.current_time() - before == pytest.approx(3, abs=1e-6)
        assert (second.status, second.elapsed) == (Status.TIMEOUT, pytest.approx(3, abs=1e-6))
        assert isinstance(second.error, TimeoutError)
        assert (await cluster.call("predict")).by_id["b"].status is Status.SUCCESS


async def test_a_node_that_never_speaks_is_given_up(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        await trio.sleep(20)
        crunch.node("a").faults.silent = True
        crunch.node("a").break_connections()
        await until(cluster, lambda: "a" not in cluster.models)
        assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
        await until(cluster, lambda: cluster.announced["a"].state is ModelState.FAILED)
        assert "no HTTP/2 SETTINGS within 10 s" in str(cluster.announced["a"].error)
        # The first connection carried nothing, and stood for less than a minute: it was the first attempt.
        assert trio.current_time() == pytest.approx(20 + 4 * 10 + 2 + 4 + 8 + 16, abs=0.1)
        crunch.node("a").faults.silent = False
        crunch.announce("a")
        await cluster.wait_for_models()


async def test_a_node_that_dies_in_every_setup_is_given_up(autojump_clock: MockClock) -> None:
    async with LocalCrunch({"a": Model()}, network=MemoryNetwork()) as crunch:
        crunch.node("a").faults.setup_delay = 50
        async with (
            Cluster(crunch.config(startup_timeout=0), SERVICE) as cluster,
            trio.open_nursery() as nursery,
        ):

            @nursery.start_soon
            async def die() -> None:
                while True:
                    await trio.sleep(7)
                    crunch.node("a").kill()
                    crunch.node("a").restart()

            await until(cluster, lambda: cluster.announced["a"].state is ModelState.FAILED)
            nursery.cancel_scope.cancel()
        assert trio.current_time() < 120


async def test_a_connection_lost_in_mid_call_is_nobodys_fault(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, health=Health(require_witness=False)) as (crunch, cluster):
        await trio.sleep(70)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def break_it() -> None:
                await crunch.node("a").wait_for_calls(1)
                crunch.node("a").break_connections()

            result = (await cluster.call("sleep", Arguments(1.0))).by_id["a"]
        assert (result.status, counts_of(cluster.announced["a"])) == (Status.FAILED, (0, 0, 0))
        assert trio.current_time() == pytest.approx(70, abs=0.01)
        await cluster.wait_for_models()  # it had stood for a while: no need to wait
        assert trio.current_time() < 71.2
        assert crunch.node("a").call_count == 1


async def test_a_busy_node_is_asked_again_until_it_is_free(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating({"a": Model()}, health=Health(require_witness=False)) as (crunch, cluster):
        node = crunch.node("a")
        node.faults.busy = True
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def free() -> None:
                await trio.sleep(5)
                node.faults.busy = False

            result = (await cluster.call("tick", Arguments(1))).by_id["a"]
        assert result.status is Status.SUCCESS
        assert node.call_count == 1
        assert trio.current_time() == pytest.approx(5, abs=0.1)
        node.faults.busy = True
        for _ in range(2):
            before = trio.current_time()
            result = (await cluster.call("tick", Arguments(2), timeout=3)).by_id["a"]
            assert (result.status, result.sent) == (Status.TIMEOUT, False)
            assert trio.current_time() - before == pytest.approx(3, abs=1e-6)
            await trio.sleep(1)
        assert node.call_count == 1
        assert counts_of(cluster.models["a"]) == (0, 0, 0)  # it is not our call that keeps it busy
        assert ["another coordinator calls 'a'" in each.message for each in caplog.records] == [True]


async def test_a_node_without_an_instance_is_set_up_and_called_once() -> None:
    joins: list[tuple[str, bool]] = []

    async def on_join(join: Any) -> None:
        await trio.lowlevel.checkpoint()
        joins.append((str(join.reason), join.fresh))

    health = Health(require_witness=False)
    async with coordinating({"a": Model}, on_join=on_join, health=health) as (crunch, cluster):
        await cluster.call("tick", Arguments(1))
        # Private: nodes have no way to lose their instance alone.
        crunch.node("a")._model.forget()
        result = (await cluster.call("tick", Arguments(2))).by_id["a"]
        assert result.value == 1  # the new instance's first
        assert crunch.node("a").instance.ticks == [2]
        assert joins == [("joined", True), ("restarted", True)]
        # An instance that is there after all needs no catching up.
        crunch.node("a").next_faults(Faults(call_status=("FAILED_PRECONDITION", "not yet")))
        assert (await cluster.call("tick", Arguments(3))).by_id["a"].value == 2
        assert len(joins) == 2
        # One that never has one does not serve us; what counts is that it goes on so.
        crunch.node("a").next_faults(Faults(call_status=("FAILED_PRECONDITION", "never")), times=2)
        assert (await cluster.call("tick", Arguments(4))).by_id["a"].status is Status.FAILED
        standing = actor_of(cluster.announced["a"]).conduct.record.standing("tick")
        assert (standing.failures, standing.hindered) == (0, 1)
        assert crunch.node("a").instance.ticks == [2, 3]


async def test_a_node_that_says_goaway_ends_its_calls_first(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def say_goaway() -> None:
                await crunch.node("a").wait_for_calls(1)
                crunch.node("a").goaway()

            result = (await cluster.call("sleep", Arguments(1.0))).by_id["a"]
        assert result.value == "awake"
        await cluster.wait_for_models()
        assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS


async def test_a_dead_connection_is_told_from_a_slow_model(autojump_clock: MockClock) -> None:
    models = {"slow": Model(), "dead": Model()}
    health = Health(require_witness=False)
    async with coordinating(models, timeout=2, health=health) as (crunch, cluster):
        slow, dead = (cluster.models[model_id] for model_id in ("slow", "dead"))
        crunch.node("dead").pause()
        assert len((await cluster.call("sleep", Arguments(60.0))).timed_out) == 2
        await until(cluster, lambda: not actor_of(dead).ready)
        assert trio.current_time() == pytest.approx(2 + 5, abs=0.01)
        assert "PING" in str(dead.error)
        assert (timeouts_of(slow), timeouts_of(dead)) == (1, 0)
        crunch.node("dead").resume()
        await until(cluster, lambda: actor_of(dead).ready)
        assert counts_of(dead) == (0, 0, 0)
        assert (await dead.call("sleep", Arguments(0.5))).status is Status.SUCCESS


async def test_an_overrun_that_the_node_noticed_first_is_one_overrun(autojump_clock: MockClock) -> None:
    health = Health(require_witness=False)
    async with coordinating({"a": Model()}, timeout=2, health=health) as (crunch, cluster):
        crunch.node("a").next_faults(Faults(grpc_error=(GRPCStatus.DEADLINE_EXCEEDED, "Deadline Exceeded")))
        model = cluster.models["a"]
        assert (await model.predict()).status is Status.TIMEOUT
        assert actor_of(model).conduct.record.overrun is not None
        await trio.sleep(0.1)  # it has said that it is through
        assert actor_of(model).conduct.record.overrun is None
        assert counts_of(model) == (0, 1, 1)


async def disturb(crunch: LocalCrunch, model_id: str, chance: random.Random) -> None:
    node = crunch.node(model_id)
    match chance.randrange(7):
        case 0:
            await crunch.crash(model_id, announce=chance.random() < 0.5)
            await trio.sleep(chance.random())
            await crunch.recover(model_id)
        case 1:
            await crunch.redeploy(model_id, Model)
            await trio.sleep(chance.random())
            await crunch.retire(model_id)
        case 2:
            node.break_connections()
        case 3:
            node.pause()
            await trio.sleep(chance.random() * 8)
            node.resume()
        case 4:
            node.goaway()
        case 5:
            node.faults.drop_after_request = True
            await trio.sleep(chance.random())
            node.faults.drop_after_request = False
        case 6:
            crunch.orchestrator.kill()
            crunch.orchestrator.start()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_every_member_has_exactly_one_result(
    autojump_clock: MockClock, seed: int
) -> None:
    chance = random.Random(seed)
    ids = [str(number) for number in range(6)]
    calls = [
        ("predict", Arguments()),
        ("tick", Arguments(1)),
        ("sleep", Arguments(0.9)),
        ("fail", Arguments()),
    ]

    async def play(cluster: Cluster) -> None:
        while True:
            members = set(cluster.announced.values())
            results = await cluster.call(*chance.choice(calls))
            assert set(results) == members
            await trio.sleep(chance.random() / 4)

    models = dict.fromkeys(ids, Model)
    async with coordinating(models, timeout=1, report_failures=False) as (crunch, cluster):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(play, cluster)
            for _ in range(25):
                await disturb(crunch, chance.choice(ids), chance)
                await trio.sleep(chance.random())
            nursery.cancel_scope.cancel()
        await trio.sleep(60)
        for model_id in ids:
            crunch.announce(model_id)
        await cluster.wait_for_models(len(ids))
        for _ in range(10):  # some sit out
            results = await cluster.call("predict", timeout=10)
        assert len(results.succeeded) == len(ids)
        # Private: a place in a queue that was forgotten shows in no other way.
        assert {len(actor_of(model)._queue) for model in cluster.models.values()} == {0}


async def test_what_may_pass_by_itself_is_tried_again(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model(), "c": Model()}, report_failures=False) as (
        crunch,
        cluster,
    ):
        model = cluster.models["a"]
        crunch.node("a").kill()
        await until(cluster, lambda: model.state is ModelState.FAILED)
        await trio.sleep(3600)
        crunch.node("a").restart()
        await until(cluster, lambda: actor_of(model).ready)
        assert crunch.reports == []


async def test_who_can_not_be_reached_and_is_reported_waits_for_a_word(autojump_clock: MockClock) -> None:
    models = {"a": Model(), "b": Model(), "c": Model()}
    async with coordinating(models) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").kill()
        (report,) = await crunch.wait_for_reports()
        assert report["failure_code"] == "CONNECTION_FAILED"
        crunch.node("a").restart()
        await trio.sleep(3600)
        assert model.state is ModelState.FAILED
        crunch.announce("a")
        await until(cluster, lambda: actor_of(model).ready)


async def test_a_node_that_objects_to_pings_is_asked_half_as_often(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").goaway(error_code=ErrorCode.ENHANCE_YOUR_CALM, debug_data=b"too_many_pings")
        await until(cluster, lambda: not actor_of(model).ready)
        await until(cluster, lambda: actor_of(model).ready)
        # Private: it would show only after hours of silence.
        assert actor_of(model)._steps.keepalive_interval == 2 * cluster.config.keepalive.interval
