"""What orchestrators of all ages say, and in what order, ends with the fleet that is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import actor_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, Status
from trio_model_runner.config import Limits
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch


async def test_one_init_lists_two_deployments_and_the_newer_stays(autojump_clock: MockClock) -> None:
    async with LocalCrunch({"a": Model, "b": Model}, network=MemoryNetwork()) as crunch:
        newer = await crunch.redeploy("a", Model)
        newer.faults.setup_delay = 30
        async with Cluster(crunch.config(startup_timeout=5), SERVICE) as cluster:
            older = cluster.models["a"]
            assert older.port != newer.port
            assert len((await cluster.call("predict")).succeeded) == 2
            await until(cluster, lambda: cluster.models["a"] is not older)
            assert cluster.models["a"].port == newer.port
            assert len((await cluster.call("predict")).succeeded) == 2


async def test_a_replaced_one_finishes_its_calls_and_takes_no_new_ones(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model}) as (crunch, cluster):
        old = cluster.models["a"]
        statuses: list[Status] = []

        async def sleep() -> None:
            statuses.append((await old.call("sleep", Arguments(3.0))).status)

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(sleep)
            await crunch.node("a").wait_for_calls(1)
            await crunch.redeploy("a", Model)
            await until(cluster, lambda: cluster.models.get("a") not in (None, old))
            result = await old.call("predict")
            assert (result.status, result.detail) == (Status.ABSENT, "replaced by another deployment")
        assert statuses == [Status.SUCCESS] * 2


async def test_the_old_one_stops_while_the_new_one_comes_up(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        old = crunch.deployments[0]
        node = await crunch.redeploy("a", Model, announce=False)
        node.faults.setup_delay = 30
        crunch.announce("a")
        await trio.sleep(1)
        crunch.orchestrator.announce(old.entry("STOPPED"))
        await until(cluster, lambda: "a" not in cluster.models)
        assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
        crunch.orchestrator.announce({**old.entry("RUNNING"), "infos": {"model_name": "late news"}})
        await until(cluster, lambda: "a" in cluster.models)
        await trio.sleep(60)
        assert cluster.models["a"].port == node.port
        assert cluster.models["a"].name == "a"


async def test_the_oldest_orchestrators_are_understood(autojump_clock: MockClock) -> None:
    async with coordinating({}) as (crunch, cluster):
        node = await crunch.add("a", Model, host="node-7.example", announce=False)
        entry: dict[str, Any] = {"model_id": "a", "model_name": "swift", "ip": node.host}
        crunch.orchestrator.announce({**entry, "state": "RUNNING", "port": str(node.port)})
        await cluster.wait_for_models()
        model = cluster.models["a"]
        assert (model.deployment_id, model.name, model.port) == (None, "swift", node.port)
        assert (await cluster.call("predict")).by_id["a"].value == 1.5
        crunch.orchestrator.announce({"model_id": "a", "state": "RECOVERING", "ip": None, "port": None})
        await until(cluster, lambda: not cluster.models)
        assert set(cluster.announced) == {"a"}
        crunch.orchestrator.announce({**entry, "state": "RUNNING", "port": node.port})
        await cluster.wait_for_models()
        crunch.orchestrator.announce({"model_id": "a", "state": "STOPPED", "ip": "", "port": 0})
        await until(cluster, lambda: not cluster.announced)


async def test_nonsense_costs_nothing_of_what_is_said_beside_it(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model}) as (crunch, cluster):
        # Private: that the very same connection is used shows in no other way.
        node_of_a = actor_of(cluster.models["a"])._steps.node
        node = await crunch.add("b", Model, announce=False)
        for text in ("{", "[]", '"init"', '{"event": "party"}', '{"event": "update", "data": 5}'):
            crunch.orchestrator.send_text(text)
        good = crunch.deployments[1].entry("RUNNING")
        bad = [5, None, {}, {**good, "port": 70000}, {**good, "state": "DANCING"}, {**good, "model_id": 5}]
        crunch.orchestrator.send_text(json.dumps({"event": "update", "data": [*bad, good, *bad]}))
        await cluster.wait_for_models(2)
        assert cluster.models["b"].port == node.port
        assert actor_of(cluster.models["a"])._steps.node is node_of_a is not None
        assert cluster.snapshot().orchestrator_connected


async def test_ten_thousand_models_come_and_go_with_one_init_each(autojump_clock: MockClock) -> None:
    count = 10_000
    async with coordinating({}, orchestrator_timeout=5) as (crunch, cluster):
        entries = [
            {
                "deployment_id": f"deployment-{number:040}",
                "model_id": f"model-{number:040}",
                "state": "RECOVERING",  # so nobody is called at its door
                "ip": "",
                "port": 0,
                "infos": {"model_name": f"{number:060}", "cruncher_id": f"{number:080}"},
            }
            for number in range(count)
        ]
        text = json.dumps({"event": "init", "data": entries})
        assert len(text) > 3_000_000
        began = trio.current_time()
        crunch.orchestrator.send_text(text)
        await until(cluster, lambda: len(cluster.announced) == count)
        assert len((await cluster.call("predict")).absent) == count
        crunch.orchestrator.send_text('{"event": "init", "data": []}')
        await until(cluster, lambda: not cluster.announced)
        assert trio.current_time() == began
        # Private: a deployment that was forgotten here would never be freed.
        assert not cluster._fleet._living


async def test_so_many_connect_at_a_time_and_no_more(autojump_clock: MockClock) -> None:
    class Narrow(MemoryNetwork):
        now = most = 0

        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            self.now += 1
            self.most = max(self.now, self.most)
            try:
                await trio.sleep(1)
                return await super().connect(host, port)
            finally:
                self.now -= 1

    network = Narrow()
    async with LocalCrunch({str(number): Model for number in range(20)}, network=network) as crunch:
        settings = {"startup_timeout": 60, "limits": Limits(max_simultaneous_connects=4)}
        network.most = 0
        async with Cluster(crunch.config(**settings), SERVICE) as cluster:
            assert len(cluster.models) == 20
            assert network.most == 4
            assert trio.current_time() == pytest.approx(1 + 5, abs=0.1)
            assert len((await cluster.call("tick", Arguments(1))).succeeded) == 20
