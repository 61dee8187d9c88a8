"""`models`, `announced`, `snapshot` and `wait_for_models`: a model is "ready" only while it is connected.

What a cluster gives is how things were at that moment, so it can be iterated over while models come and go.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from helpers.coordinating import Model, coordinating, until
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Cluster, DynamicSubclassService, ModelRunner, ModelState, Status
from trio_model_runner.config import Backoff
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch


class Waiter:
    """Waits until so many models are ready, and remembers whether they were."""

    def __init__(self, cluster: Cluster, count: int) -> None:
        self.came_back = False
        self._cluster = cluster
        self._count = count

    async def __call__(self) -> None:
        await self._cluster.wait_for_models(self._count)
        self.came_back = True


@pytest.mark.parametrize("stood", [0.0, 0.5, 1.9])
async def test_a_model_that_dies_soon_is_not_ready_while_it_waits_for_the_next_attempt(
    autojump_clock: MockClock, stood: float
) -> None:
    async with coordinating({"a": Model, "b": Model}, backoff=Backoff(initial=2.0)) as (crunch, cluster):
        model = cluster.models["a"]
        await trio.sleep(stood)
        crunch.node("a").kill()
        await wait_all_tasks_blocked()
        waiter = Waiter(cluster, 2)
        died_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter)
            for _ in range(18):  # of the 2 s until the next attempt
                assert model.state is ModelState.LOST
                assert set(cluster.models) == {"b"}
                assert set(cluster.announced) == {"a", "b"}
                assert cluster.snapshot().models == {"lost": 1, "ready": 1}
                assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
                assert not waiter.came_back
                await trio.sleep(0.1)
            crunch.node("a").restart()
        assert trio.current_time() == pytest.approx(died_at + 2.0, abs=0.1)
        assert cluster.models["a"] is model
        assert cluster.snapshot().models == {"ready": 2}


async def test_a_model_whose_connection_stood_long_is_not_ready_until_it_is_connected_again(
    autojump_clock: MockClock,
) -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        model, seen = cluster.models["a"], set()
        await trio.sleep(100)
        crunch.node("a").kill()
        await wait_all_tasks_blocked()
        for _ in range(50):
            seen.add(model.state)
            assert set(cluster.models) == {"b"}
            assert cluster.snapshot().models["ready"] == 1
            await trio.sleep(0.1)
        assert ModelState.READY not in seen
        crunch.node("a").restart()
        await cluster.wait_for_models(2)
        assert model.state is ModelState.READY


async def come_and_go(crunch: LocalCrunch, cluster: Cluster, number: int) -> None:
    """A model joins, one is redeployed, one crashes and comes back, and one is removed."""
    new, leaving, old = f"new-{number}", f"leaving-{number}", cluster.announced["redeployed"]
    await crunch.add(new, Model)
    await crunch.redeploy("redeployed", Model)
    await crunch.crash("crashing")
    await crunch.remove(leaving)
    await until(
        cluster,
        lambda: (
            new in cluster.models
            and cluster.models["redeployed"] is not old
            and not {"crashing", leaving} & cluster.models.keys()
        ),
    )
    await crunch.recover("crashing")
    await until(cluster, lambda: "crashing" in cluster.models)


@pytest.mark.parametrize("name", ["models", "announced"])
async def test_a_view_can_be_iterated_over_while_models_come_and_go(
    autojump_clock: MockClock, name: str
) -> None:
    ids = ["redeployed", "crashing", *(f"leaving-{number}" for number in range(4))]
    async with coordinating(dict.fromkeys(ids, Model)) as (crunch, cluster):
        view: Mapping[str, ModelRunner] = getattr(cluster, name)
        seen, numbers = [], itertools.count()
        for model_id, model in view.items():
            seen.append(model_id)
            if model_id.startswith("leaving"):
                await come_and_go(crunch, cluster, next(numbers))
            assert view[model_id] is model
            assert (await model.call("predict")).status in (Status.SUCCESS, Status.ABSENT)
        assert sorted(seen) == sorted(ids) == sorted(view)
        now = {"redeployed", "crashing", *(f"new-{number}" for number in range(4))}
        assert set(getattr(cluster, name)) == now


async def test_a_snapshot_has_a_row_for_each_model_if_asked(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model, "c": Model}) as (crunch, cluster):
        assert cluster.snapshot(models=True).model_rows[0]["last_status"] is None  # type: ignore[index]
        began = time.time() - 0.5
        await trio.sleep(5)
        await crunch.crash("c")
        await until(cluster, lambda: "c" not in cluster.models)
        for _ in range(2):
            await cluster.call("fail", models=["a"])
        await cluster.call("predict", models=["b", "c"])
        await cluster.call("hang", models=["b"], timeout=1.0)
        rows = {row["model_id"]: row for row in cluster.snapshot(models=True).to_dict()["model_rows"]}
        assert list(rows) == ["a", "b", "c"]
        for model_id, row in rows.items():
            assert cluster.announced[model_id].to_dict().items() <= row.items()
        assert (rows["a"]["last_status"], rows["a"]["busy_with"], rows["a"]["report"]) == (None, None, None)
        assert (rows["b"]["last_status"], rows["b"]["last_elapsed"]) == (
            "TIMEOUT",
            pytest.approx(1.0, abs=0.1),
        )
        assert rows["b"]["busy_with"] == "hang"
        assert rows["b"]["connected_since"] <= began < time.time()
        assert (rows["c"]["state"], rows["c"]["connected_since"]) == ("recovering", None)
        assert "model_rows" not in cluster.snapshot().to_dict()


async def test_a_row_has_the_counts_and_the_report_of_its_model(autojump_clock: MockClock) -> None:
    class Broken(Model):
        def predict(self, value: Any = None) -> Any:
            raise ValueError("\ud83d")

    models = {"a": Broken, "b": Model, "c": Model, "d": Model}
    async with coordinating(models, max_consecutive_failures=2) as (_, cluster):
        for _ in range(2):
            await cluster.call("predict")
        (row,) = (row for row in cluster.snapshot(models=True).model_rows or () if row["model_id"] == "a")
        assert (row["failures"], row["timeouts"], row["report"]) == (2, 0, None)
        await cluster.call("predict")
        await wait_all_tasks_blocked()
        told = cluster.snapshot(models=True).to_dict()
        assert told["model_rows"][0]["failures"] == 3
        report = {"code": "MULTIPLE_FAILED", "stage": "pending", "method": "predict"}
        assert told["model_rows"][0]["report"] == report
        assert report.items() <= told["reports"][0].items()
        assert json.loads(json.dumps(told, allow_nan=False, ensure_ascii=False).encode()) == told


async def test_changing_what_a_snapshot_told_changes_nothing_else(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model}) as (_, cluster):
        await cluster.call("predict")
        snapshot = cluster.snapshot(models=True)
        before, told = snapshot.to_dict(), snapshot.to_dict()
        told["last_round"]["counts"].clear()
        told["models"].clear()
        told["model_rows"][0].clear()
        told["reports"].append(1)
        assert snapshot.to_dict() == before


@pytest.mark.parametrize("name", ["models", "announced"])
async def test_a_view_can_not_be_changed(name: str) -> None:
    async with coordinating({"a": Model}) as (_, cluster):
        view: Any = getattr(cluster, name)
        with pytest.raises(TypeError):
            view["b"] = view["a"]
        with pytest.raises(TypeError):
            del view["a"]
        assert set(getattr(cluster, name)) == {"a"}


async def test_its_repr_says_how_a_cluster_is(autojump_clock: MockClock) -> None:
    async with LocalCrunch(
        {"a": Model(), "b": Model()}, network=MemoryNetwork(), crunch_id="birds"
    ) as crunch:
        config = crunch.config()
        cluster = Cluster(config, DynamicSubclassService("crunch.Model"))
        assert repr(cluster) == "<Cluster birds: not entered>"
        async with cluster, Cluster(config) as observer:
            assert repr(cluster) == "<Cluster birds: 2 of 2 models ready>"
            assert repr(observer) == "<Cluster birds: 2 of 2 models reachable>"
            await crunch.crash("a")
            await crunch.orchestrator.stop()
            await trio.sleep(1)
            assert repr(cluster) == "<Cluster birds: 1 of 2 models ready, orchestrator away>"
            await cluster.drain(1)
            assert repr(cluster) == "<Cluster birds: 1 of 2 models ready, orchestrator away, draining>"
        assert repr(cluster) == "<Cluster birds: left, draining>"
