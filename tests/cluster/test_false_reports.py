"""Reports that must not be sent: about another deployment, about a dead connection, twice, or by us alone."""

from __future__ import annotations

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import is_ready, timeouts_of
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Cluster, ModelState, Status
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

MODELS = [*"abcdef"]


async def fail_too_often(crunch: LocalCrunch, cluster: Cluster, model_id: str) -> None:
    crunch.node(model_id).faults.call_status = ("MODEL_FAILED", "no feathers")
    for _ in range(4):
        assert [model.model_id for model in (await cluster.call("predict")).failed] == [model_id]
    assert cluster.snapshot().reports_pending == 1


async def test_who_moves_is_not_reported_where_it_was(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The orchestrator knows a model by its host, where another one may be by now."""
    async with coordinating(dict.fromkeys(MODELS, Model)) as (crunch, cluster):
        old = cluster.models["a"]
        await fail_too_often(crunch, cluster, "a")
        node = await crunch.redeploy("a", Model, host="elsewhere", announce=False)
        node.faults.setup_delay = 100
        crunch.announce("a", deployment_id=old.deployment_id)
        await trio.sleep(50)
        assert cluster.models["a"] is old
        assert len((await cluster.call("predict")).failed) == 1
        await cluster.report_failure(old, "LOW_PERFORMANCE")
        assert "has left" in caplog.text
        await until(cluster, lambda: cluster.models["a"] is not old)
        await trio.sleep(1000)
        assert crunch.reports == []
        await fail_too_often(crunch, cluster, "a")
        (report,) = await crunch.wait_for_reports()
        assert report["ip"] == "elsewhere"


async def test_who_an_init_no_longer_lists_is_not_reported(autojump_clock: MockClock) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model)) as (crunch, cluster):
        await fail_too_often(crunch, cluster, "a")
        crunch.orchestrator.kill()
        await crunch.remove("a")
        await trio.sleep(30)
        crunch.orchestrator.start()
        await trio.sleep(1000)
        assert crunch.reports == []


async def test_a_connection_that_dies_after_its_pings_were_spent_is_no_slow_model(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model), timeout=1) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        node.faults.delay = 1.5
        for counted, dead in ((1, False), (2, False), (3, False), (3, True)):
            if dead:
                node.pause()
            results = await cluster.call("predict", sit_out=False)
            assert [each.model_id for each in results.timed_out] == ["a"]
            await trio.sleep(6)
            assert timeouts_of(model) == counted
        assert not is_ready(model)
        assert "PING" in str(model.error)
        node.resume()
        node.faults.delay = 0
        await until(cluster, lambda: is_ready(model))
        await trio.sleep(1000)
        assert crunch.reports == []


@pytest.mark.parametrize("late", [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02])
async def test_a_call_that_times_out_just_after_the_report_adds_none(
    autojump_clock: MockClock, late: float
) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model)) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        node.faults.delay = 1.5
        for pending in (0, 0, 0, 1):
            await trio.sleep(6)
            await cluster.call("predict", timeout=1, sit_out=False)
            await wait_all_tasks_blocked()  # the node is asked for a sign of life
            assert cluster.snapshot().reports_pending == pending
        reported_at = trio.current_time() + cluster.config.health.mass_window
        await trio.sleep(6)
        node.faults.delay = 100
        timeout = reported_at + late - trio.current_time()
        results = await cluster.call("predict", timeout=timeout, sit_out=False)
        assert results.by_id["a"].status in (Status.FAILED, Status.TIMEOUT)
        assert trio.current_time() >= reported_at
        assert model.state is ModelState.FAILED
        await trio.sleep(1000)
        assert [report["failure_code"] for report in crunch.reports] == ["MULTIPLE_TIMEOUT"]


async def test_setups_that_fail_all_at_once_are_tried_again(autojump_clock: MockClock) -> None:
    """Nobody is reported, so nobody would announce them again."""
    async with LocalCrunch(dict.fromkeys(MODELS, Model), network=MemoryNetwork()) as crunch:
        for model_id in MODELS:
            crunch.node(model_id).faults.setup_status = ("SETUP_FAILED", "the disk that all share is full")
        async with Cluster(crunch.config(), SERVICE) as cluster:
            await trio.sleep(1000)
            assert not cluster.models
            for model_id in MODELS:
                crunch.node(model_id).faults.setup_status = None
            await cluster.wait_for_models(len(MODELS))
            await trio.sleep(1000)
            assert crunch.reports == []


async def test_who_is_reported_is_not_tried_again_though_it_was_to_be(autojump_clock: MockClock) -> None:
    async with LocalCrunch(dict.fromkeys(MODELS, Model), network=MemoryNetwork()) as crunch:
        for model_id in MODELS:
            crunch.node(model_id).faults.setup_status = ("SETUP_FAILED", "the disk that all share is full")
        async with Cluster(crunch.config(), SERVICE) as cluster:
            await trio.sleep(1)
            assert {model.state for model in cluster.announced.values()} == {ModelState.FAILED}
            assert cluster.snapshot().reports_pending == 0  # no node has made an instance
            await cluster.report_failure(cluster.announced["a"], "LOW_PERFORMANCE")
            for model_id in MODELS:
                crunch.node(model_id).faults.setup_status = None
            await trio.sleep(1000)
            assert set(cluster.models) == set(MODELS) - {"a"}
            assert [report["model_id"] for report in crunch.reports] == ["a"]


async def test_a_kept_report_is_not_sent_about_who_was_replaced_meanwhile(autojump_clock: MockClock) -> None:
    """The orchestrator still lists both, at one host, so it might stop the new one."""
    async with coordinating(dict.fromkeys(MODELS, Model)) as (crunch, cluster):
        old = cluster.models["a"]
        crunch.orchestrator.kill()
        await trio.sleep(1)
        await cluster.report_failure(old, "LOW_PERFORMANCE")
        assert cluster.snapshot().reports_unsent == 1
        node = await crunch.redeploy("a", Model)
        crunch.orchestrator.start()
        await until(cluster, lambda: "a" in cluster.models)
        await trio.sleep(1000)
        assert crunch.reports == []
        assert cluster.models["a"].port == node.port


async def test_a_method_that_only_its_own_last_deployment_had_is_not_missing(
    autojump_clock: MockClock,
) -> None:
    class Guessing(Model):
        def guess(self) -> int:
            return 5

    async with coordinating({**dict.fromkeys(MODELS, Model), "a": Guessing}) as (crunch, cluster):
        old = cluster.models["a"]
        assert (await cluster.call("guess", models=["a"])).by_id["a"].value == 5
        await crunch.redeploy("a", Model)
        await until(cluster, lambda: cluster.models["a"] is not old)
        assert (await cluster.call("guess", models=["a"])).by_id["a"].status is Status.FAILED
        await trio.sleep(1000)
        assert crunch.reports == []
        assert cluster.snapshot().reports_pending == 1


async def test_a_frozen_node_is_not_reported_as_slow(autojump_clock: MockClock) -> None:
    async with coordinating({each: Model() for each in "abcd"}, timeout=0.5) as (crunch, cluster):
        crunch.node("a").pause()
        for _ in range(14):
            await cluster.call("predict")
        await trio.sleep(200)
        assert [report["failure_code"] for report in crunch.reports] == ["CONNECTION_FAILED"]


async def test_a_crash_that_is_being_repaired_ends_a_verdict(autojump_clock: MockClock) -> None:
    async with coordinating({each: Model() for each in "abcd"}) as (crunch, cluster):
        crunch.node("a").kill()
        await trio.sleep(40)
        assert cluster.announced["a"].state is ModelState.FAILED
        crunch.announce("a", "RECOVERING")
        await trio.sleep(100)
        assert cluster.announced["a"].state is ModelState.RECOVERING
        assert crunch.reports == []


async def test_an_announcement_during_the_last_attempt_makes_it_the_first(autojump_clock: MockClock) -> None:
    async with coordinating({each: Model() for each in "abcd"}) as (crunch, cluster):
        crunch.node("a").kill()
        await trio.sleep(29)
        assert cluster.announced["a"].state is ModelState.CONNECTING
        crunch.announce("a", "RUNNING")
        await trio.sleep(2)
        crunch.node("a").restart()
        await trio.sleep(100)
        assert cluster.announced["a"].state is ModelState.READY
        assert crunch.reports == []


async def test_a_report_that_is_due_is_not_sent_while_another_deployment_comes_up_at_the_same_host(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(dict.fromkeys(MODELS, Model)) as (crunch, cluster):
        await fail_too_often(crunch, cluster, "a")
        node = await crunch.redeploy("a", Model, announce=False)
        node.faults.setup_delay = 100
        crunch.announce("a")
        await trio.sleep(90)
        assert crunch.reports == []
        await until(cluster, lambda: cluster.models["a"].port == node.port)
        await trio.sleep(100)
        assert crunch.reports == []
