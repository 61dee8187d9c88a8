"""`PredictResult.sent`: False is certain, so that a coordinator knows which models have which history."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import Model, coordinating
from helpers.insides import counts_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState, PredictResult, Status
from trio_model_runner.config import Health
from trio_model_runner.testing import Faults, LocalCrunch


async def call(cluster: Cluster, method: str = "predict", *values: Any, **options: Any) -> PredictResult[Any]:
    return (await cluster.call(method, Arguments(*values), **options)).by_id["a"]


REACHED = {
    "an answer": (Faults(), Status.SUCCESS),
    "a failure": (Faults(call_status=("MODEL_FAILED", "no")), Status.FAILED),
    "an error": (Faults(grpc_error=(GRPCStatus.INTERNAL, "no")), Status.FAILED),
    "another method's": (Faults(call_status=("BAD_IMPLEMENTATION", "no")), Status.FAILED),
    "no answer that can be read": (Faults(raw_answer=b"\xff\xff"), Status.FAILED),
    "a lost connection": (Faults(drop_after_request=True), Status.FAILED),
    "no answer in time": (Faults(delay=50.0), Status.TIMEOUT),
}


@pytest.mark.parametrize(("faults", "status"), REACHED.values(), ids=REACHED.keys())
async def test_what_may_have_reached_the_model_was_sent(
    autojump_clock: MockClock, faults: Faults, status: Status
) -> None:
    async with coordinating({"a": Model()}, timeout=5) as (crunch, cluster):
        crunch.node("a").faults = faults
        result = await call(cluster)
        assert (result.status, result.sent) == (status, True)
        assert result.to_dict()["sent"] is True


async def test_what_was_never_written_was_not_sent(autojump_clock: MockClock) -> None:
    def no_arguments(_: Any) -> Arguments:
        raise KeyError("mine")

    async with coordinating({"a": Model()}, timeout=5) as (crunch, cluster), trio.open_nursery() as nursery:
        failed = (await cluster.call("predict", no_arguments)).by_id["a"]
        assert (failed.status, failed.sent) == (Status.FAILED, False)
        nursery.start_soon(call, cluster, "sleep", 3.0)
        await crunch.node("a").wait_for_calls(1)
        waited = await call(cluster, timeout=1.0)
        assert (waited.status, waited.sent) == (Status.TIMEOUT, False)
        await trio.sleep(5)
        await call(cluster, "hang", timeout=1.0)
        behind = await call(cluster, timeout=1.0)
        assert (behind.status, behind.sent) == (Status.TIMEOUT, False)
        skipped = await call(cluster, timeout=1.0)
        assert (skipped.status, skipped.sent) == (Status.SKIPPED, False)
        crunch.node("a").kill()
        await trio.sleep(0.1)
        assert cluster.announced["a"].state is not ModelState.READY
        absent = await call(cluster)
        assert (absent.status, absent.sent) == (Status.ABSENT, False)


async def test_what_a_busy_node_refused_until_the_deadline_was_not_sent(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, timeout=5) as (_, cluster):
        cut_off = await call(cluster, "hang")
        assert (cut_off.status, cut_off.sent) == (Status.TIMEOUT, True)
        busy = await call(cluster, sit_out=False)
        assert (busy.status, busy.sent) == (Status.TIMEOUT, False)


async def test_what_a_node_without_an_instance_was_asked_was_not_sent(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        crunch.node("a").faults.call_status = ("FAILED_PRECONDITION", "no instance")
        result = await call(cluster)
        assert (result.status, result.sent) == (Status.FAILED, False)


async def test_with_sit_out_false_models_are_called_that_sit_out(autojump_clock: MockClock) -> None:
    health = Health(require_witness=False)
    async with coordinating({"a": Model()}, timeout=1, health=health) as (crunch, cluster):
        crunch.node("a").faults.delay = 1.5
        for status in (Status.TIMEOUT, Status.SKIPPED, Status.TIMEOUT):
            assert (await call(cluster)).status is status
            await trio.sleep(1)
        assert counts_of(cluster.models["a"]) == (0, 2, 1)
        crunch.node("a").faults.delay = 0.0
        assert (await call(cluster, sit_out=False)).status is Status.SUCCESS
        assert (await call(cluster)).status is Status.SUCCESS  # a success ends the sitting out


async def test_what_on_join_raises_is_logged_and_is_in_results(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_join(_: Any) -> None:
        raise KeyError("BTC")

    crunch: LocalCrunch
    async with coordinating({"a": Model()}, on_join=on_join) as (crunch, cluster):
        result = await call(cluster)
        assert (result.status, result.sent, type(result.error)) == (Status.ABSENT, False, KeyError)
        assert result.error is cluster.announced["a"].error
        assert result.error is not None
        assert result.error.__traceback__ is not None
        (record,) = [record for record in caplog.records if record.exc_info]
        assert (record.levelname, "'a'" in record.message) == ("ERROR", True)
        assert record.exc_info is not None
        assert record.exc_info[0] is KeyError
        assert crunch.node("a").call_count == 0


async def test_a_request_that_was_cut_in_the_middle_was_not_sent(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, timeout=5) as (crunch, cluster), trio.open_nursery() as nursery:
        node = crunch.node("a")
        node.pause()

        @nursery.start_soon
        async def lose() -> None:
            await trio.sleep(0.5)
            node.kill()

        result = await call(cluster, "tick", "z" * 30_000_000)
        assert (result.status, result.sent) == (Status.FAILED, False)
