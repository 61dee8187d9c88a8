"""Models that hang, are slow, or escape blame: each is reported within a bound.

Their innocent doubles are not.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import Model, coordinating
from helpers.insides import standings_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState, Status, TrainInferService
from trio_model_runner.config import Health
from trio_model_runner.proto.commons import Status as StatusMessage
from trio_model_runner.proto.dynamic_subclass import SetupResponse
from trio_model_runner.testing import Faults, LocalCrunch
from trio_model_runner.testing import Service as ServiceName

WINDOW = 60.0
UNSERVED = 120.0
"""Instead of 900 s, or these tests would take minutes."""


QUICK: dict[str, Any] = {"health": Health(unserved=UNSERVED)}


class Hung(Model):
    """Hangs in `predict`."""

    async def predict(self, value: Any = 1.5) -> Any:
        await trio.sleep_forever()


class Slow(Model):
    """Takes ten times as long as it may."""

    async def predict(self, value: Any = 1.5) -> Any:
        await trio.sleep(10)
        return value


class Raising(Model):
    def predict(self, value: Any = 1.5) -> Any:
        raise ValueError("no feathers")


async def play_until_reported(
    crunch: LocalCrunch, cluster: Cluster, most: float, gap: float = 0.5, method: str = "predict"
) -> float:
    """Make rounds until a model is reported. The seconds that took.

    Once a report is pending, what is left is the window; there are fewer rounds in it, and each costs time.
    """
    begin = trio.current_time()
    while not crunch.reports and trio.current_time() - begin < most:
        await cluster.call(method)
        with trio.move_on_after(max(gap, 5) if cluster.snapshot().reports_pending else gap):
            await crunch.wait_for_reports()
    return trio.current_time() - begin


def fleet(size: int, bad: Any) -> dict[str, Any]:
    return {"bad": bad, **{f"m{index}": Model for index in range(size - 1)}}


@pytest.mark.parametrize("size", [2, 3, 10, 30])
@pytest.mark.parametrize(
    ("bad", "code"),
    [(Hung, "MULTIPLE_TIMEOUT"), (Slow, "MULTIPLE_TIMEOUT"), (Raising, "MULTIPLE_FAILED")],
)
async def test_who_is_bad_alone_is_reported_as_soon_as_in_the_field(
    autojump_clock: MockClock, bad: Any, code: str, size: int
) -> None:
    """The field's client reports the fourth timeout, and counts the calls that are sat out."""
    async with coordinating(fleet(size, bad), timeout=1.0, **QUICK) as (crunch, cluster):
        took = await play_until_reported(crunch, cluster, 200)
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("bad", code)
        assert took < 1.2 * 4 * 1.5 + WINDOW + 1


async def test_a_hung_model_costs_two_rounds(autojump_clock: MockClock) -> None:
    async with coordinating(fleet(6, Hung), timeout=1.0, **QUICK) as (crunch, cluster):
        results = []
        while not crunch.reports:
            results.append(await cluster.call("predict"))
            await trio.sleep(0.3)
        assert [each.by_id["bad"].status for each in results[:3]] == [
            Status.TIMEOUT,
            Status.TIMEOUT,
            Status.SKIPPED,
        ]
        assert sum(each.elapsed > 0.9 for each in results) == 2
        assert crunch.node("bad").call_count == 1
        detail = results[2].by_id["bad"].detail
        assert detail.startswith("still busy with predict, sent ")


Escape = Callable[[LocalCrunch], Awaitable[None]]


async def restarts_before_the_deadline(crunch: LocalCrunch) -> None:
    await trio.sleep(0.5)
    crunch.node("bad").kill()
    crunch.node("bad").restart()


async def restarts_after_it(crunch: LocalCrunch) -> None:
    await trio.sleep(1.05)
    crunch.node("bad").kill()
    crunch.node("bad").restart()


async def restarts_much_later(crunch: LocalCrunch) -> None:
    await trio.sleep(4.0)
    crunch.node("bad").kill()
    crunch.node("bad").restart()


async def drops_the_connection(crunch: LocalCrunch) -> None:
    await trio.sleep(0.5)
    crunch.node("bad").break_connections()


async def drops_the_connection_after_it(crunch: LocalCrunch) -> None:
    await trio.sleep(1.05)
    crunch.node("bad").break_connections()


@pytest.mark.parametrize(
    "escape",
    [
        restarts_before_the_deadline,
        restarts_after_it,
        restarts_much_later,
        drops_the_connection,
        drops_the_connection_after_it,
    ],
)
async def test_who_escapes_whenever_it_hangs_is_reported_all_the_same(
    autojump_clock: MockClock, escape: Escape
) -> None:
    async with (
        coordinating(fleet(6, Hung), timeout=1.0, **QUICK) as (crunch, cluster),
        trio.open_nursery() as nursery,
    ):

        @nursery.start_soon
        async def keep_escaping() -> None:
            node = crunch.node("bad")
            while True:
                await node.wait_for_calls(node.call_count + 1)
                await escape(crunch)

        took = await play_until_reported(crunch, cluster, 2000)
        nursery.cancel_scope.cancel()
        assert [report["model_id"] for report in crunch.reports] == ["bad"]
        assert took < UNSERVED + WINDOW + 30


@pytest.mark.parametrize(
    "faults",
    [
        Faults(busy=True),
        Faults(grpc_error=(GRPCStatus.UNAVAILABLE, "no healthy upstream")),
        Faults(call_status=("FAILED_PRECONDITION", "no instance")),
        Faults(drop_after_request=True),
    ],
    ids=["busy", "unavailable", "no instance", "drops"],
)
async def test_who_answers_only_what_is_no_blame_is_unserved(
    autojump_clock: MockClock, faults: Faults
) -> None:
    async with coordinating(fleet(6, Model), timeout=1.0, **QUICK) as (crunch, cluster):
        crunch.node("bad").faults = faults
        took = await play_until_reported(crunch, cluster, 2000, gap=2)
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("bad", "CONNECTION_FAILED")
        assert UNSERVED < took < UNSERVED + WINDOW + 30


async def test_all_that_are_unserved_together_are_not_reported(autojump_clock: MockClock) -> None:
    async with coordinating(fleet(12, Model), timeout=1.0, **QUICK) as (crunch, cluster):
        for model_id in ("bad", "m0", "m1", "m2"):
            crunch.node(model_id).faults.grpc_error = (GRPCStatus.UNAVAILABLE, "no healthy upstream")
        await play_until_reported(crunch, cluster, 600, gap=5)
        assert crunch.reports == []
        held = [report for report in cluster.snapshot().reports if report["stage"] == "held"]
        assert {report["model_id"] for report in held} == {"bad", "m0", "m1", "m2"}


async def test_a_success_now_and_then_is_service(autojump_clock: MockClock) -> None:
    async with coordinating(fleet(6, Model), timeout=1.0, **QUICK) as (crunch, cluster):
        for _ in range(6):
            crunch.node("bad").faults = Faults(grpc_error=(GRPCStatus.UNAVAILABLE, "restarting"))
            await play_until_reported(crunch, cluster, 80, gap=5)
            crunch.node("bad").faults = Faults()
            await trio.sleep(30)
            assert len((await cluster.call("predict")).succeeded) == 6
        assert crunch.reports == []


async def test_a_train_that_outlives_its_connection_is_no_hang(autojump_clock: MockClock) -> None:
    class Training(Model):
        async def train(self) -> None:
            await trio.sleep(400)

    async with coordinating(dict.fromkeys("abcd", Training), timeout=1.0) as (crunch, cluster):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: cluster.call("train", timeout=500))
            await trio.sleep(5)
            crunch.node("a").break_connections()
            await trio.sleep(5)
            assert cluster.announced["a"].state is ModelState.SETTING_UP
            await play_until_reported(crunch, cluster, 380, gap=5)
        await trio.sleep(30)
        assert len((await cluster.call("predict")).succeeded) == 4
        assert crunch.reports == []


async def test_a_late_train_is_not_blamed_by_quick_predictions(autojump_clock: MockClock) -> None:
    class Training(Model):
        async def train(self, seconds: float) -> None:
            await trio.sleep(seconds)

    async with coordinating(dict.fromkeys(["bad", *"abcde"], Training), timeout=1.0) as (crunch, cluster):

        def seconds(model: Any) -> Arguments:
            return Arguments(1500.0 if model.model_id == "bad" else 1.0)

        await cluster.call("train", seconds, timeout=300)
        await play_until_reported(crunch, cluster, 880, gap=2)
        assert crunch.reports == []
        (bad,) = (standing for standing in standings_of(cluster.models["bad"]) if standing.method == "train")
        assert bad.timeouts == 3  # its own, and a window every 300 s


async def test_a_model_that_hung_before_this_coordinator_began_is_reported(autojump_clock: MockClock) -> None:
    async with coordinating(fleet(6, Hung), timeout=1.0, **QUICK) as (crunch, cluster):
        await cluster.call("predict")
        async with Cluster(crunch.config(timeout=1.0, **QUICK), cluster._resources.service) as again:
            took = await play_until_reported(crunch, again, 2000, gap=5)
            assert [report["failure_code"] for report in crunch.reports] == ["CONNECTION_FAILED"]
            assert took < UNSERVED + WINDOW + 30


async def test_a_hang_in_a_call_without_a_deadline_is_counted(autojump_clock: MockClock) -> None:
    async with coordinating(fleet(6, Hung), timeout=1.0) as (crunch, cluster):
        with trio.move_on_after(2):
            await cluster.models["bad"].call("predict", timeout=math.inf)
        took = await play_until_reported(crunch, cluster, 2000, gap=5)
        assert [report["failure_code"] for report in crunch.reports] == ["MULTIPLE_TIMEOUT"]
        assert took < 4 * 300 + WINDOW + 30


async def test_one_long_call_does_not_hide_a_hang(autojump_clock: MockClock) -> None:
    async with coordinating(fleet(6, Hung), timeout=1.0) as (crunch, cluster), trio.open_nursery() as nursery:
        await cluster.call("predict")
        nursery.start_soon(lambda: cluster.call("nothing", timeout=3600))
        took = await play_until_reported(crunch, cluster, 3000, gap=5)
        nursery.cancel_scope.cancel()
        assert [report["failure_code"] for report in crunch.reports] == ["MULTIPLE_TIMEOUT"]
        assert took < 300 + 4 * 6 + WINDOW + 30


async def test_resets_by_the_coordinator_are_no_escape(autojump_clock: MockClock) -> None:
    class Slow3(Model):
        async def predict(self, value: Any = 1.5) -> Any:
            await trio.sleep(3)
            return value

    async with coordinating(fleet(6, Slow3), timeout=1.0) as (crunch, cluster):
        begin = reset_at = trio.current_time()
        while not crunch.reports and trio.current_time() - begin < 600:
            await cluster.call("predict")
            await trio.sleep(0.5)
            if trio.current_time() - reset_at > 30 and "bad" in cluster.models:
                reset_at = trio.current_time()
                await cluster.models["bad"].reset(timeout=10)
        assert [report["failure_code"] for report in crunch.reports] == ["MULTIPLE_TIMEOUT"]


async def test_a_node_that_is_busy_and_says_that_it_has_no_instance_is_asked_seldom(
    autojump_clock: MockClock,
) -> None:
    """A node may look at the class name before it looks whether it is busy."""
    async with coordinating(fleet(6, Hung), timeout=1.0) as (crunch, cluster):
        node, questions = crunch.node("bad"), 0
        run_exclusively = node.run_exclusively

        async def answer(work: Any) -> Any:
            nonlocal questions
            questions += 1
            if node.busy and questions % 2 == 0:
                return SetupResponse(status=StatusMessage("INVALID_ARGUMENT", "no class name"))
            return await run_exclusively(work)

        node.run_exclusively = answer  # type: ignore[method-assign]
        await play_until_reported(crunch, cluster, 60)
        assert questions < 300


async def test_pings_do_not_cost_the_connection_where_there_is_no_other_question(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The services that infer can't be asked whether they are busy."""

    class Inferring:
        async def infer(self, value: float) -> float:
            await trio.sleep(value)
            return value

    def value(model: Any) -> Arguments:
        return Arguments(3.0 if model.model_id == "bad" else 0.1)

    async with coordinating(
        dict.fromkeys(["bad", *"abcde"], Inferring),
        service=TrainInferService(),
        services=(ServiceName.TRAIN_INFER,),
        timeout=1.0,
    ) as (crunch, cluster):
        begin = trio.current_time()
        while not crunch.reports and trio.current_time() - begin < 300:
            await cluster.call("Infer", value)
            await trio.sleep(4)
        assert [report["failure_code"] for report in crunch.reports] == ["MULTIPLE_TIMEOUT"]
        assert "too_many_pings" not in caplog.text
