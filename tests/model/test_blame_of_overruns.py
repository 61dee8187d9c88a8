"""The table of blame, row by row, for calls that are cut off: what counts, and against which method."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import counts_of, is_ready, record_of, timeouts_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelRunner, ModelState, PredictResult, Status
from trio_model_runner.testing import Faults

MODELS = dict.fromkeys("abcdef", Model)
HUNG = Faults(delay=1e6)


async def result_of_a(cluster: Cluster, method: str = "predict", **options: Any) -> PredictResult[Any]:
    """Call all models; the result of the first one. All others succeed, at once."""
    results = await cluster.call(method, **options)
    assert {each.status for each in results.values() if each.model.model_id != "a"} == {Status.SUCCESS}
    return results.by_id["a"]


def timeouts_by_method(model: ModelRunner) -> dict[str, int]:
    standings = record_of(model).standings
    return {method: standing.timeouts for method, standing in standings.items() if standing.timeouts}


@pytest.mark.parametrize(("resumed_after", "timeouts"), [(1.3, 1), (1.7, 0)], ids=["a bit slow", "slow"])
async def test_a_timeout_on_a_slow_way_does_not_count(
    autojump_clock: MockClock, resumed_after: float, timeouts: int
) -> None:
    """The deadline is at 1 s, so a PING goes out then, and should be answered within half a second."""
    async with coordinating(MODELS, timeout=1) as (crunch, cluster), trio.open_nursery() as nursery:
        model, node = cluster.models["a"], crunch.node("a")
        node.faults.delay = 3.0

        @nursery.start_soon
        async def slow_down() -> None:
            await trio.sleep(0.5)
            node.pause()
            await trio.sleep(resumed_after - 0.5)
            node.resume()

        assert (await result_of_a(cluster)).status is Status.TIMEOUT
        await trio.sleep(5)
        assert timeouts_of(model) == timeouts
        assert record_of(model).standing("predict").hindered == 1 - timeouts
        node.faults.delay = 0.0
        assert (await result_of_a(cluster, sit_out=False)).status is Status.SUCCESS


async def test_a_timeout_without_a_witness_does_not_count(autojump_clock: MockClock) -> None:
    async with coordinating(MODELS, timeout=1) as (crunch, cluster):
        for _ in range(8):
            assert len((await cluster.call("hang", timeout=1)).timed_out) == len(MODELS)
            for node in map(crunch.node, MODELS):
                node.kill()
                node.restart()
            await trio.sleep(100)
        assert {counts_of(model) for model in cluster.announced.values()} == {(0, 0, 0)}
        assert crunch.reports == []


async def test_calls_of_any_method_are_windows_and_a_burst_is_one(autojump_clock: MockClock) -> None:
    async with coordinating(MODELS, timeout=1) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").next_faults(HUNG)
        assert (await result_of_a(cluster)).status is Status.TIMEOUT
        await trio.sleep(0.1)
        assert timeouts_by_method(model) == {"predict": 1}
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(cluster.call, "nothing")
                nursery.start_soon(cluster.call, "predict")
        await trio.sleep(0.5)
        assert timeouts_by_method(model) == {"predict": 2}
        await trio.sleep(10)  # nobody calls
        assert timeouts_by_method(model) == {"predict": 2}
        assert (await result_of_a(cluster, "nothing")).status is Status.SKIPPED
        await trio.sleep(2.5)
        assert timeouts_by_method(model) == {"predict": 3}


async def test_windows_need_a_witness_that_succeeded_meanwhile(autojump_clock: MockClock) -> None:
    async with coordinating(MODELS, timeout=1) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").next_faults(HUNG)
        begin = trio.current_time()
        assert (await cluster.models["b"].predict(1.5)).status is Status.SUCCESS
        await trio.sleep(1)
        assert (await model.predict(1.5)).status is Status.TIMEOUT
        for _ in range(8):
            await result_of_a(cluster, "nothing")
            await trio.sleep(2)
        assert timeouts_by_method(model) == {"predict": 1}  # that `nothing` succeeds shows nothing
        assert (await cluster.models["b"].predict(1.5)).status is Status.SUCCESS
        for _ in range(2):
            await result_of_a(cluster, "nothing")
            await trio.sleep(2.5)
        assert timeouts_by_method(model)["predict"] >= 3
        assert trio.current_time() - begin < 60


async def test_a_late_train_is_not_blamed_by_quick_predictions(autojump_clock: MockClock) -> None:
    async with coordinating(MODELS, timeout=1) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").next_faults(HUNG)
        trained = await result_of_a(cluster, "sleep", arguments=Arguments(0.5), timeout=100)
        assert trained.status is Status.TIMEOUT
        for after, timeouts in ((90, 1), (20, 2), (80, 2), (20, 3), (80, 3)):
            end = trio.current_time() + after
            while trio.current_time() < end:
                await result_of_a(cluster)
                await trio.sleep(1)
            assert timeouts_by_method(model) == {"sleep": timeouts}


async def test_a_model_that_is_late_sits_out_that_method_only(autojump_clock: MockClock) -> None:
    async with coordinating(MODELS, timeout=1) as (crunch, cluster):
        node = crunch.node("a")
        for timeouts in range(1, 4):
            node.next_faults(Faults(delay=1.5))
            assert (await result_of_a(cluster)).status is Status.TIMEOUT
            await trio.sleep(1)
            sat_out = (timeouts + 1) // 2
            assert counts_of(cluster.models["a"]) == (0, timeouts, sat_out)
            for _ in range(sat_out if timeouts < 3 else 0):
                assert (await result_of_a(cluster, "nothing")).status is Status.SUCCESS
                skipped = await result_of_a(cluster)
                assert (skipped.status, skipped.sent) == (Status.SKIPPED, False)
        await trio.sleep(60)  # this ends it in any case
        assert (await result_of_a(cluster)).status is Status.SUCCESS


async def test_an_overrun_outlives_its_connection(autojump_clock: MockClock) -> None:
    async with coordinating(MODELS, timeout=1) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        node.next_faults(HUNG)
        assert (await result_of_a(cluster)).status is Status.TIMEOUT
        await trio.sleep(0.5)
        assert timeouts_by_method(model) == {"predict": 1}
        node.break_connections()
        await until(cluster, lambda: model.state is ModelState.SETTING_UP)
        statuses = set()
        while not crunch.reports and trio.current_time() < 200:
            statuses.add((await result_of_a(cluster)).status)
            await trio.sleep(1)
        assert statuses == {Status.ABSENT}  # the Setup finds it busy
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("a", "MULTIPLE_TIMEOUT")
        assert trio.current_time() < 75


async def test_a_node_that_was_restarted_is_through(autojump_clock: MockClock) -> None:
    async with coordinating(MODELS, timeout=1) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        node.next_faults(HUNG)
        assert (await result_of_a(cluster)).status is Status.TIMEOUT
        await trio.sleep(0.5)
        node.kill()
        node.restart()
        await until(cluster, lambda: not is_ready(model))
        await until(cluster, lambda: is_ready(model))
        assert record_of(model).overrun is None
        assert (await result_of_a(cluster, "nothing")).status is Status.SUCCESS
        assert counts_of(model) == (0, 1, 1)  # of predict


async def test_a_node_that_others_keep_busy_costs_two_rounds_and_nothing_counts(
    autojump_clock: MockClock,
) -> None:
    async with (
        coordinating(MODELS, timeout=1) as (crunch, cluster),
        Cluster(crunch.config(), SERVICE) as stranger,
        trio.open_nursery() as nursery,
    ):
        model = cluster.models["a"]
        nursery.start_soon(stranger.models["a"].call, "sleep", Arguments(15.0))
        await crunch.node("a").wait_for_calls(1)
        begin, took, statuses = trio.current_time(), 0.0, []
        while trio.current_time() - begin < 14:
            before = trio.current_time()
            result = await result_of_a(cluster)
            took += trio.current_time() - before
            statuses.append(result.status)
            assert not result.sent
            await trio.sleep(0.5)
        assert took == pytest.approx(2, abs=0.1)
        assert statuses[:2] == [Status.TIMEOUT] * 2
        assert {*statuses[2:]} == {Status.SKIPPED}
        await trio.sleep(2.5)
        assert (await result_of_a(cluster)).status is Status.SUCCESS
        assert counts_of(model) == (0, 0, 0)
        await trio.sleep(100)
        assert crunch.reports == []
