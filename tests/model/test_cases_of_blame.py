"""Whole stories of blame, each of which went wrong once: who is reported, when, and what it costs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.insides import actor_of, counts_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState, PredictResult, Status
from trio_model_runner.config import Limits
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import Faults, LocalCrunch

ONE_AMONG_SIX = dict.fromkeys("abcdef", Model)
UNAVAILABLE = Faults(grpc_error=(GRPCStatus.UNAVAILABLE, "upstream connect error"))


async def result_of_a(cluster: Cluster, method: str = "predict", *values: Any) -> PredictResult[Any]:
    """Call all models; the result of the first one. All others succeed, at once."""
    results = await cluster.call(method, Arguments(*values))
    assert {each.status for each in results.values() if each.model.model_id != "a"} == {Status.SUCCESS}
    return results.by_id["a"]


async def test_a_model_that_hangs_costs_two_rounds_and_is_reported_in_70_s(autojump_clock: MockClock) -> None:
    class Hung(Model):
        async def predict(self, _: Any = None) -> None:
            await trio.sleep_forever()

    async with coordinating({**ONE_AMONG_SIX, "a": Hung}, timeout=1) as (crunch, cluster):
        statuses, took = [], 0.0
        while not crunch.reports:
            before = trio.current_time()
            result = await result_of_a(cluster)
            took += trio.current_time() - before
            statuses.append(result.status)
            await trio.sleep(0.5)
        assert trio.current_time() < 70
        assert took == pytest.approx(2, abs=0.01)
        assert statuses[:2] == [Status.TIMEOUT] * 2
        assert {*statuses[2:]} == {Status.SKIPPED}
        assert result.detail.startswith("still busy with predict, sent 6")
        assert len(crunch.node("a").calls) == 1
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("a", "MULTIPLE_TIMEOUT")
        assert cluster.announced["a"].state is ModelState.FAILED


@pytest.mark.parametrize("limit", [3, "off"])
@pytest.mark.parametrize("pause", [0.5, 0.0])
async def test_a_late_predict_costs_no_tick(autojump_clock: MockClock, limit: Any, pause: float) -> None:
    class LateOnce(Model):
        predictions = 0

        async def predict(self, _: Any = None) -> float:
            self.predictions += 1
            if self.predictions == 2:
                await trio.sleep(0.6)
            return 1.0

    models = {"a": LateOnce, "b": Model}
    async with coordinating(models, timeout=0.5, max_consecutive_timeouts=limit) as (crunch, cluster):
        predictions = []
        for number in range(6):
            assert (await result_of_a(cluster, "tick", number)).status is Status.SUCCESS
            predictions.append((await result_of_a(cluster)).status)
            await trio.sleep(pause)
        assert crunch.node("a").instance.ticks == [0, 1, 2, 3, 4, 5]
        late = [Status.SUCCESS, Status.TIMEOUT, Status.SKIPPED]
        assert predictions == [*late, Status.SUCCESS, Status.SUCCESS, Status.SUCCESS]
        assert counts_of(cluster.models["a"]) == (0, 0, 0)


@pytest.mark.parametrize("back", [True, False])
async def test_a_node_that_is_away_for_40_s_is_not_reported_and_one_that_stays_away_is(
    autojump_clock: MockClock, back: bool
) -> None:
    async with coordinating(ONE_AMONG_SIX, timeout=1) as (crunch, cluster):
        await crunch.crash("a", announce=False)
        for _ in range(40):
            assert (await result_of_a(cluster)).status is not Status.SUCCESS
            await trio.sleep(1)
        assert cluster.snapshot().reports_pending == 1
        if not back:
            (report,) = await crunch.wait_for_reports()
            assert (report["model_id"], report["failure_code"]) == ("a", "CONNECTION_FAILED")
            assert trio.current_time() == pytest.approx(90, abs=2)
            return
        await crunch.recover("a", announce=False)
        await cluster.wait_for_models(len(ONE_AMONG_SIX))
        assert trio.current_time() < 40 + 20
        assert (await result_of_a(cluster)).status is Status.SUCCESS
        assert cluster.snapshot().reports_pending == 0
        await trio.sleep(1000)
        assert crunch.reports == []
        assert cluster.models["a"].state is ModelState.READY


async def test_a_model_that_only_its_way_keeps_from_answering_has_no_timeouts(
    autojump_clock: MockClock,
) -> None:
    """Nobody can reach its node for 4 s, then for 0.3 s all can, and then nobody can."""
    async with coordinating(ONE_AMONG_SIX, timeout=1) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        node.pause()

        async def call_until(time: float, pause: float) -> None:
            while trio.current_time() < time and not crunch.reports:
                await result_of_a(cluster)
                await trio.sleep(pause)

        await call_until(4, 0.1)
        assert cluster.snapshot().reports_pending == 0
        node.resume()
        await trio.sleep(0.3)
        node.pause()
        await call_until(130, 0.5)
        assert (crunch.reports, counts_of(model)) == ([], (0, 0, 0))
        await call_until(1000, 5)
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("a", "CONNECTION_FAILED")


@pytest.mark.parametrize("late_again", [False, True])
async def test_what_is_due_falls_back_to_the_limit_when_the_connection_is_lost(
    autojump_clock: MockClock, late_again: bool
) -> None:
    async with coordinating(ONE_AMONG_SIX, timeout=1) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        node.faults.delay = 1.5
        while cluster.snapshot().reports_pending == 0:
            await result_of_a(cluster)
            await trio.sleep(1)
        assert counts_of(model)[1] == 4
        node.break_connections()
        await until(cluster, lambda: not actor_of(model).ready)
        await until(cluster, lambda: actor_of(model).ready)
        assert cluster.snapshot().reports_pending == 0
        assert counts_of(model)[1] == 3
        begin = trio.current_time()
        if not late_again:
            node.faults.delay = 0.0
            await trio.sleep(1000)
            assert crunch.reports == []
            return
        while not crunch.reports:
            await result_of_a(cluster)
            await trio.sleep(1)
        assert crunch.reports[0]["failure_code"] == "MULTIPLE_TIMEOUT"
        assert 60 < trio.current_time() - begin < 75


async def test_unavailable_is_about_the_way_and_the_connection_is_made_anew(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(ONE_AMONG_SIX) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        await trio.sleep(100)
        node.faults = UNAVAILABLE
        for _ in range(4):
            connection = actor_of(model).usable(joining=False)
            assert (await result_of_a(cluster)).status is Status.FAILED
            await until(cluster, lambda: actor_of(model).ready)
            assert actor_of(model).usable(joining=False) is not connection
            await trio.sleep(20)
        assert counts_of(model) == (0, 0, 0)
        assert model.state is ModelState.READY
        await trio.sleep(1000)
        assert crunch.reports == []


async def test_who_is_unavailable_for_a_quarter_of_an_hour_is_reported(autojump_clock: MockClock) -> None:
    async with coordinating(ONE_AMONG_SIX) as (crunch, cluster):
        crunch.node("a").faults = UNAVAILABLE
        while not crunch.reports and trio.current_time() < 2000:
            assert (await result_of_a(cluster)).status is not Status.SUCCESS
            await trio.sleep(20)
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("a", "CONNECTION_FAILED")
        assert "unserved" in report["failure_reason"]
        assert trio.current_time() == pytest.approx(960, abs=25)


# The coordinator's mistakes.


class Demanding(Model):
    """Needs an argument that the coordinator forgets."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon

    def tick(self, *values: Any, **performance_metrics: Any) -> int:
        if not performance_metrics:
            raise TypeError("missing 1 required argument: 'performance_metrics'")
        return len(values)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_forgotten_argument_of_the_constructor_is_nobodys_fault_but_ours(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        LocalCrunch({}, network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        for model_id in "abcde":
            await crunch.add(model_id, Demanding)
            await trio.sleep(100)
        assert {model.state for model in cluster.announced.values()} <= {
            ModelState.FAILED,
            ModelState.CONNECTING,
        }
        (error,) = errors(caplog)
        assert "Setup" in error
        assert "it may be us" in error
        # One model needs no argument: now it is known that there are such models, but too many are not.
        await crunch.add("f", Model)
        await trio.sleep(1000)
        assert crunch.reports == []
        assert len(cluster.models) == 1


async def test_a_forgotten_argument_of_a_method_is_nobodys_fault_but_ours(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Ticking(Demanding):
        def __init__(self) -> None:
            super().__init__(1)

    async with coordinating({"a": Ticking, "b": Ticking}) as (crunch, cluster):
        for _ in range(6):
            assert len((await cluster.call("tick", Arguments({}))).failed) == 2
            await trio.sleep(1)
        await trio.sleep(1000)
        assert crunch.reports == []
        assert {counts_of(model) for model in cluster.models.values()} == {(0, 0, 0)}
        (error,) = errors(caplog)
        assert "tick" in error
        assert "it may be us" in error


async def test_a_predict_that_always_fails_is_not_saved_by_ticks_that_succeed(
    autojump_clock: MockClock,
) -> None:
    class Failing(Model):
        def predict(self, _: Any = None) -> None:
            raise RuntimeError("no")

    async with coordinating({**dict.fromkeys("abcd", Model), "a": Failing}) as (crunch, cluster):
        for _ in range(30):
            assert (await result_of_a(cluster, "tick", 1)).status is Status.SUCCESS
            assert (await result_of_a(cluster)).status is Status.FAILED
            await trio.sleep(1)
        (report,) = await crunch.wait_for_reports()
        assert (report["model_id"], report["failure_code"]) == ("a", "MULTIPLE_FAILED")
        assert trio.current_time() == pytest.approx(63, abs=0.1)


async def call_until_drained(crunch: LocalCrunch, cluster: Cluster) -> PredictResult[Any]:
    """The result of a call that takes 3 s and may take longer, on a cluster that is drained after 0.5 s."""
    crunch.node("a").faults.delay = 3.0
    results = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def call() -> None:
            results.append(await result_of_a(cluster))

        await crunch.node("a").wait_for_calls(1)
        await cluster.drain(0.5)
    (result,) = results
    return result


async def test_a_call_that_is_cut_off_before_its_time_does_not_count(autojump_clock: MockClock) -> None:
    async with coordinating(ONE_AMONG_SIX) as (crunch, cluster):
        drained = await call_until_drained(crunch, cluster)
        assert drained.status is Status.TIMEOUT
        await trio.sleep(5)
        assert counts_of(cluster.models["a"]) == (0, 0, 0)
    async with coordinating(ONE_AMONG_SIX) as (crunch, cluster):
        crunch.node("a").faults.delay = 3.0
        for _ in range(8):
            with trio.move_on_after(1):
                enclosed = await result_of_a(cluster)
            assert enclosed.status is Status.TIMEOUT
            await trio.sleep(5)
        assert counts_of(cluster.models["a"]) == (0, 0, 0)
        await trio.sleep(100)
        assert crunch.reports == []


async def test_more_calls_at_once_than_may_wait_are_skipped_and_blame_nobody(
    autojump_clock: MockClock,
) -> None:
    async def ask(cluster: Cluster, statuses: list[Status]) -> None:
        statuses.append((await cluster.call("sleep", Arguments(0.001))).by_id["a"].status)

    for limit, skipped in ((32, 15), (47, 0)):
        limits = Limits(max_queued_calls=limit)
        async with coordinating({"a": Model()}, limits=limits) as (_, cluster):
            statuses: list[Status] = []
            async with trio.open_nursery() as nursery:
                for _ in range(12 * 4):
                    nursery.start_soon(ask, cluster, statuses)
            assert statuses.count(Status.SKIPPED) == skipped
            assert statuses.count(Status.SUCCESS) == 48 - skipped
            standing = actor_of(cluster.models["a"]).conduct.record.standing("sleep")
            assert (standing.failures, standing.timeouts, standing.hindered) == (0, 0, 0)
