"""Reports about models that have left: stopped by the orchestrator, or replaced by another deployment."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import is_ready
from helpers.websocket_server import StallingNetwork
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState
from trio_model_runner.model.lifecycle import Event, Lifecycle, Step
from trio_model_runner.testing import LocalCrunch

MODELS = dict.fromkeys("abcdef", Model)


async def make_due(crunch: LocalCrunch, cluster: Cluster) -> None:
    """Let a fail too often."""
    crunch.node("a").faults.call_status = ("MODEL_FAILED", "no feathers")
    for _ in range(4):
        await cluster.call("predict")
    assert cluster.snapshot().reports_pending == 1


async def test_a_model_that_is_stopped_while_its_report_waits_is_not_reported(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(MODELS) as (crunch, cluster):
        await make_due(crunch, cluster)
        old = cluster.models["a"]
        await trio.sleep(30)
        await crunch.remove("a")
        await until(cluster, lambda: old.state is ModelState.GONE)
        snapshot = cluster.snapshot()
        assert (snapshot.reports_pending, snapshot.reports) == (0, ())
        await trio.sleep(1000)
        assert crunch.reports == []


async def test_a_model_that_comes_back_after_it_was_stopped_begins_anew(autojump_clock: MockClock) -> None:
    async with coordinating(MODELS) as (crunch, cluster):
        await make_due(crunch, cluster)
        await crunch.remove("a")
        await trio.sleep(1)
        await crunch.add("a", Model())
        await cluster.wait_for_models(6)
        assert (await cluster.call("predict")).by_id["a"].value == 1.5
        await trio.sleep(1000)
        assert crunch.reports == []
        await make_due(crunch, cluster)  # four again


async def test_a_coordinator_does_not_report_who_was_stopped(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating(MODELS) as (crunch, cluster):
        old = cluster.models["a"]
        await crunch.remove("a")
        await until(cluster, lambda: old.state is ModelState.GONE)
        await cluster.report_failure(old, "LOW_PERFORMANCE")
        await trio.sleep(100)
        assert crunch.reports == []
        assert "this deployment has left" in caplog.text


async def test_a_coordinator_does_not_report_who_only_finishes_its_calls(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating(MODELS) as (crunch, cluster), trio.open_nursery() as nursery:
        old = cluster.models["a"]
        nursery.start_soon(old.call, "sleep", Arguments(20.0))
        await crunch.node("a").wait_for_calls(1)
        await crunch.redeploy("a", Model)
        await until(cluster, lambda: cluster.models.get("a") not in (old, None))
        assert old.state is ModelState.RETIRING
        await cluster.report_failure(old, "LOW_PERFORMANCE")
        await trio.sleep(100)
        assert crunch.reports == []
        assert "this deployment has left" in caplog.text
        assert cluster.models["a"].state is ModelState.READY
        nursery.cancel_scope.cancel()


async def test_who_was_stopped_is_counted_in_no_crowd(autojump_clock: MockClock) -> None:
    """Three models that failed are gone: whoever fails next is alone."""
    async with coordinating(MODELS) as (crunch, cluster):
        for model_id in "def":
            crunch.node(model_id).faults.call_status = ("MODEL_FAILED", "no feathers")
        crunch.node("a").faults.call_status = ("MODEL_FAILED", "no feathers")
        for _ in range(4):
            await cluster.call("predict")
        await trio.sleep(1)
        assert cluster.snapshot().reports_held == 4
        gone = [cluster.announced[model_id] for model_id in "def"]
        for model_id in "def":
            await crunch.remove(model_id)
        await until(cluster, lambda: all(each.state is ModelState.GONE for each in gone))
        # Private: records of models that have left would be counted.
        assert {record.model_id for record in cluster._fleet.judge.records} == {*"abc"}
        await cluster.call("predict")
        (report,) = await crunch.wait_for_reports()
        assert report["model_id"] == "a"
        assert not is_ready(cluster.announced["a"])


def test_who_only_finishes_its_calls_goes_when_an_answer_is_not_its_nodes() -> None:
    life = Lifecycle()
    for event in (Event.BEGUN, Event.CONNECTED, Event.SET_UP, Event.REPLACED):
        assert life.happened(event)
    assert life.state is ModelState.RETIRING
    assert life.happened(Event.DISTRUSTED)
    assert (life.state, life.step) == (ModelState.GONE, Step.END)


async def test_who_is_replaced_while_its_report_waits_has_none_while_it_finishes_its_calls(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(MODELS) as (crunch, cluster), trio.open_nursery() as nursery:
        await make_due(crunch, cluster)
        old = cluster.models["a"]
        crunch.node("a").faults.call_status = None
        nursery.start_soon(partial(old.call, "sleep", Arguments(50.0), timeout=100))
        await trio.sleep(1)
        await crunch.redeploy("a", Model)
        await until(cluster, lambda: cluster.models.get("a") not in (old, None))
        assert old.state is ModelState.RETIRING
        assert cluster.snapshot().reports == ()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("redeployed", [False, True])
async def test_a_report_that_can_not_be_sent_yet_ends_with_its_deployment(
    autojump_clock: MockClock, redeployed: bool
) -> None:
    """The orchestrator knows a model by its id and its host, where the next deployment may be."""
    network = StallingNetwork()
    async with (
        LocalCrunch(MODELS, network=network) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        old, line = cluster.models["a"], network.streams[0]
        line.stall()
        await cluster.report_failure(cluster.models["b"], "LOW_PERFORMANCE")
        await trio.sleep(1)
        await cluster.report_failure(old, "LOW_PERFORMANCE")
        assert cluster.snapshot().reports_unsent == 2
        if redeployed:
            await crunch.redeploy("a", Model)
            await until(cluster, lambda: cluster.models.get("a") not in (old, None))
        else:
            await crunch.remove("a")
            await until(cluster, lambda: old.state is ModelState.GONE)
        assert cluster.snapshot().reports_unsent == 1
        line.released.set()
        await trio.sleep(5)
        assert [report["model_id"] for report in crunch.reports] == ["b"]
