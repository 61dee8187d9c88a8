"""The table of blame, row by row, from what a node does to what the orchestrator is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import Model, coordinating, until
from helpers.insides import failures_of, record_of, timeouts_of
from trio.testing import MockClock

from trio_model_runner import (
    Arguments,
    ChangeKind,
    Cluster,
    DataType,
    Encoded,
    ModelRunner,
    ModelState,
    Status,
)
from trio_model_runner.config import Backoff, Health
from trio_model_runner.rpc.frames import ErrorCode, rst_stream_frame
from trio_model_runner.testing import Faults

MODELS = [*"abcdef"]


def many(model: Any = Model) -> dict[str, Any]:
    """So many that one is no mass."""
    return dict.fromkeys(MODELS, model)


FAILING = Faults(call_status=("MODEL_FAILED", "no feathers"))


async def call_often(cluster: Cluster, times: int, method: str = "predict", **settings: Any) -> list[Status]:
    """Call all models, with time in between; the statuses of the first one."""
    statuses = []
    for _ in range(times):
        statuses.append((await cluster.call(method, **settings)).by_id["a"].status)
        await trio.sleep(1)
    return statuses


def counts(cluster: Cluster) -> tuple[int, int]:
    model = cluster.announced["a"]
    return failures_of(model), timeouts_of(model)


FAILURES = {
    "a value that can't be decoded": Faults(raw_answer=b"\x0a\x09\x0a\x07SUCCESS\x12\x05\x10\x01\x1a\x01x"),
    "no such message": Faults(raw_answer=b"\xff\xff\xff"),
    "no message at all": Faults(raw_body=b""),
    "MODEL_FAILED": Faults(call_status=("MODEL_FAILED", "no feathers")),
    "UNKNOWN": Faults(call_status=("UNKNOWN", "")),
    "another code": Faults(call_status=("TIRED", "")),
    "INTERNAL": Faults(grpc_error=(GRPCStatus.INTERNAL, "")),
    "gRPC UNKNOWN": Faults(grpc_error=(GRPCStatus.UNKNOWN, "Exception calling application: x")),
    "too large an answer": Faults(grpc_error=(GRPCStatus.RESOURCE_EXHAUSTED, "Sent message larger than max")),
}


@pytest.mark.parametrize("faults", FAILURES.values(), ids=FAILURES.keys())
async def test_the_fourth_failure_is_reported_after_a_minute(
    autojump_clock: MockClock, faults: Faults
) -> None:
    async with coordinating(many()) as (crunch, cluster):
        crunch.node("a").faults = faults
        assert await call_often(cluster, 3) == [Status.FAILED] * 3
        assert cluster.snapshot().reports_pending == 0
        assert await call_often(cluster, 1) == [Status.FAILED]
        assert cluster.snapshot().reports_pending == 1
        await trio.sleep(58)
        assert crunch.reports == []
        (report,) = await crunch.wait_for_reports()
        assert trio.current_time() == pytest.approx(63, abs=0.1)
        assert (report["model_id"], report["failure_code"]) == ("a", "MULTIPLE_FAILED")
        assert report["failure_reason"]
        assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
        assert cluster.announced["a"].state is ModelState.FAILED
        crunch.node("a").faults = Faults()
        crunch.announce("a")
        await until(cluster, lambda: "a" in cluster.models)
        assert counts(cluster) == (0, 0)
        await trio.sleep(1000)
        assert len(crunch.reports) == 1


async def test_a_success_in_time_acquits(autojump_clock: MockClock) -> None:
    async with coordinating(many()) as (crunch, cluster):
        crunch.node("a").faults = FAILING
        await call_often(cluster, 4)
        assert cluster.snapshot().reports_pending == 1
        crunch.node("a").faults = Faults()
        await call_often(cluster, 1)
        assert (cluster.snapshot().reports_pending, counts(cluster)) == (0, (0, 0))
        await trio.sleep(1000)
        assert crunch.reports == []


EXCUSED = {
    "INVALID_ARGUMENT": Faults(call_status=("INVALID_ARGUMENT", "")),
    "UNIMPLEMENTED": Faults(grpc_error=(GRPCStatus.UNIMPLEMENTED, "Method not found!")),
    "UNAUTHENTICATED": Faults(grpc_error=(GRPCStatus.UNAUTHENTICATED, "who?")),
    "PERMISSION_DENIED": Faults(grpc_error=(GRPCStatus.PERMISSION_DENIED, "no")),
    "UNAVAILABLE": Faults(grpc_error=(GRPCStatus.UNAVAILABLE, "upstream connect error")),
    "a lost connection": Faults(drop_after_request=True),
}


@pytest.mark.parametrize("faults", EXCUSED.values(), ids=EXCUSED.keys())
async def test_what_is_not_the_models_doing_is_never_reported(
    autojump_clock: MockClock, faults: Faults
) -> None:
    async with coordinating(many()) as (crunch, cluster):
        crunch.node("a").faults = faults
        for _ in range(8):
            await trio.sleep(65)  # a connection that has stood for so long is made anew at once
            assert (await cluster.call("predict")).by_id["a"].status is Status.FAILED
        assert counts(cluster) == (0, 0)
        await trio.sleep(100)
        assert crunch.reports == []


def raise_key_error(_: Any) -> Any:
    raise KeyError("mine")


@pytest.mark.parametrize(
    "settings",
    [
        {"arguments": raise_key_error},
        {"arguments": lambda _: 5},
        {"arguments": lambda _: Arguments(object())},
        {"returns": raise_key_error},
        {"returns": dict[str, int]},
    ],
)
async def test_the_coordinators_own_errors_are_never_reported(
    autojump_clock: MockClock, settings: dict[str, Any]
) -> None:
    async with coordinating(many()) as (crunch, cluster):
        for _ in range(8):
            results = await cluster.call("predict", **settings)
            assert len(results.failed) == len(MODELS)
            assert all(result.error is not None for result in results.values())
        assert len((await cluster.call("predict")).succeeded) == len(MODELS)
        await trio.sleep(100)
        assert crunch.reports == []
        assert cluster.snapshot().reports_held == 0


async def test_one_models_arguments_that_raise_leave_the_others_alone() -> None:
    def arguments(model: ModelRunner) -> Arguments:
        return Arguments({"a": 1}[model.model_id])

    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        results = (await cluster.call("predict", arguments)).by_id
        assert results["a"].value == 1
        assert (results["b"].status, type(results["b"].error)) == (Status.FAILED, KeyError)
        assert crunch.node("b").call_count == 0


async def test_a_frame_that_nobody_here_can_read_is_our_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pyarrow(*_: Any) -> Any:
        raise ImportError("pyarrow is needed for data frames")

    monkeypatch.setattr("trio_model_runner.frame_readers.readers._is_imported", lambda _: False)
    monkeypatch.setattr("trio_model_runner.frame_readers.readers.import_pyarrow", no_pyarrow)
    monkeypatch.setattr(
        "trio_model_runner.testing.served_model.encode_result", lambda _: Encoded(DataType.PARQUET, b"x")
    )
    async with coordinating({"a": Model()}, health=Health(require_witness=False)) as (_, cluster):
        result = (await cluster.call("predict")).by_id["a"]
        assert (result.status, "pyarrow" in result.detail, counts(cluster)) == (Status.FAILED, True, (0, 0))


async def test_the_fourth_timeout_is_reported_and_calls_sat_out_do_not_count(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(many(), timeout=1) as (crunch, cluster):
        crunch.node("a").faults.delay = 1.5
        statuses = []
        while not crunch.reports and len(statuses) < 100:
            statuses += await call_often(cluster, 1)
        made = [Status.TIMEOUT, Status.SKIPPED] * 2 + [Status.TIMEOUT] + [Status.SKIPPED] * 2
        assert statuses[:9] == [*made, Status.TIMEOUT, Status.SKIPPED]
        (report,) = crunch.reports
        assert report["failure_code"] == "MULTIPLE_TIMEOUT"


async def test_waiting_behind_our_own_call_is_not_the_models_timeout(autojump_clock: MockClock) -> None:
    async with coordinating(many(), timeout=1) as (_, cluster):
        model = cluster.models["a"]
        assert (await cluster.models["b"].call("sleep", Arguments(0.5))).status is Status.SUCCESS
        assert (await model.call("sleep", Arguments(4.0))).status is Status.TIMEOUT
        await trio.sleep(0.1)
        assert timeouts_of(model) == 1
        waited = await model.predict()
        assert (waited.status, waited.sent) == (Status.TIMEOUT, False)
        for _ in range(2):
            assert (await model.predict()).status is Status.SKIPPED
        record = record_of(model)
        assert record.standing("predict").timeouts == 0
        assert record.standing("sleep").timeouts == 1  # nobody has slept since then
        await trio.sleep(2.5)
        assert (await model.predict()).status is Status.SUCCESS


async def test_a_missing_method_is_reported_once_another_model_has_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Other(Model):
        def guess(self) -> int:
            return 5

    async with coordinating({**many(Other), "a": Model}) as (crunch, cluster):
        assert await call_often(cluster, 1, "gess") == [Status.FAILED]
        assert [record.levelno for record in caplog.records if "gess" in record.message] == [logging.ERROR]
        assert await call_often(cluster, 5, "guess", models=["a"], optional=True) == [Status.FAILED] * 5
        await trio.sleep(100)
        assert await call_often(cluster, 1, "guess", models=["a"]) == [Status.FAILED]
        await trio.sleep(100)
        assert (crunch.reports, counts(cluster)) == ([], (0, 0))
        await cluster.call("guess")  # now it is known that there is such a method
        begin = trio.current_time()
        await call_often(cluster, 5)  # what the model can do is no answer to what it can't
        (report,) = await crunch.wait_for_reports()
        assert trio.current_time() - begin == pytest.approx(60, abs=0.1)
        assert (report["model_id"], report["failure_code"]) == ("a", "BAD_IMPLEMENTATION")
        assert "guess" in report["failure_reason"]


async def test_a_missing_method_is_not_reported_while_as_many_lack_it_as_have_it(
    autojump_clock: MockClock,
) -> None:
    class Other(Model):
        def guess(self) -> int:
            return 5

    models = {**many(), **dict.fromkeys("def", Other)}
    async with coordinating(models) as (crunch, cluster):
        assert len((await cluster.call("guess")).failed) == 3
        await trio.sleep(1000)
        assert (crunch.reports, cluster.snapshot().reports_held) == ([], 0)
        await crunch.add("g", Other)
        await cluster.wait_for_models(7)
        await cluster.call("guess", models=["g"])
        await trio.sleep(59)
        assert crunch.reports == []
        reports = await crunch.wait_for_reports(3)
        assert {report["failure_code"] for report in reports} == {"BAD_IMPLEMENTATION"}


async def test_a_method_that_nobody_has_is_never_reported(autojump_clock: MockClock) -> None:
    async with coordinating(many()) as (crunch, cluster):
        for _ in range(10):
            assert len((await cluster.call("prdict")).failed) == len(MODELS)
            await trio.sleep(30)
        assert (crunch.reports, cluster.snapshot().reports_held) == ([], 0)


async def test_a_call_that_the_node_resets_is_a_failure(autojump_clock: MockClock) -> None:
    async with coordinating(many()) as (crunch, cluster), trio.open_nursery() as nursery:
        node = crunch.node("a")
        node.faults.delay = 5.0

        @nursery.start_soon
        async def reset() -> None:
            await node.wait_for_calls(1)
            node.send_raw(rst_stream_frame(3, ErrorCode.INTERNAL_ERROR))  # Setup had stream 1

        result = (await cluster.call("predict")).by_id["a"]
        assert (result.status, result.detail) == (Status.FAILED, "the server reset the call: INTERNAL_ERROR")
        assert counts(cluster) == (1, 0)


async def test_when_half_fail_together_none_is_reported(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating(many()) as (crunch, cluster):
        for model_id in "abc":
            crunch.node(model_id).faults = FAILING
        for _ in range(4):
            assert len((await cluster.call("predict")).failed) == 3
            await trio.sleep(10)
        assert cluster.snapshot().reports_held == 3
        assert any(
            record.levelno == logging.ERROR and "3 models" in record.message for record in caplog.records
        )
        await trio.sleep(1000)
        assert crunch.reports == []
        assert len(cluster.models) == len(MODELS)


async def test_of_two_members_one_is_reported_after_a_minute_too(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        crunch.node("a").faults = FAILING
        await call_often(cluster, 4)
        assert crunch.reports == []
        (report,) = await crunch.wait_for_reports()
        assert report["model_id"] == "a"
        assert trio.current_time() == pytest.approx(63, abs=0.1)


async def test_a_crunch_of_one_has_no_witness_unless_it_needs_none(autojump_clock: MockClock) -> None:
    for health, reports in ((Health(), 0), (Health(require_witness=False), 1)):
        async with coordinating({"a": Model()}, health=health) as (crunch, cluster):
            await call_often(cluster, 8, "fail")
            await trio.sleep(100)
            assert len(crunch.reports) == reports


async def test_with_reporting_off_models_stay(autojump_clock: MockClock) -> None:
    async with coordinating(many(), report_failures=False) as (crunch, cluster):
        crunch.node("a").faults = FAILING
        assert await call_often(cluster, 10) == [Status.FAILED] * 10
        assert counts(cluster)[0] == 3  # back to the limit, each time
        await trio.sleep(100)
        assert (crunch.reports, len(cluster.models)) == ([], len(MODELS))


@pytest.mark.parametrize("setting", ["max_consecutive_failures", "max_consecutive_timeouts"])
async def test_limits_can_be_off(autojump_clock: MockClock, setting: str) -> None:
    async with coordinating(many(), timeout=1, **{setting: "off"}) as (crunch, cluster):
        failing = setting == "max_consecutive_failures"
        crunch.node("a").faults = FAILING if failing else Faults(delay=1.5)
        await call_often(cluster, 20)
        assert counts(cluster)[not failing] > 3
        await trio.sleep(100)
        assert crunch.reports == []


async def test_who_left_is_not_reported(autojump_clock: MockClock) -> None:
    async with coordinating(many(), timeout=200) as (crunch, cluster):
        crunch.node("a").faults = FAILING
        await call_often(cluster, 4)
        crunch.node("a").faults = Faults()
        assert cluster.snapshot().reports_pending == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.call, "sleep", Arguments(120.0))
            await crunch.node("a").wait_for_calls(1)
            await crunch.redeploy("a", Model())  # on the same host, so it would be the one to be stopped
        assert crunch.reports == []
        crunch.node("a").faults = FAILING
        await call_often(cluster, 4)
        assert cluster.snapshot().reports_pending == 1
        await crunch.remove("a")
        await trio.sleep(100)
        assert crunch.reports == []


async def test_who_could_not_be_reached_while_the_orchestrator_was_away_is_tried_once_more(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(many(), backoff=Backoff(attempts=2)) as (crunch, cluster):
        await trio.sleep(10)
        crunch.orchestrator.kill()
        crunch.node("a").kill()
        await trio.sleep(100)
        assert cluster.announced["a"].state is ModelState.FAILED
        crunch.node("a").restart()
        async with cluster.changes() as changes:
            crunch.orchestrator.start()
            async for change in changes:
                if change.kind is ChangeKind.JOINED:
                    break
        await trio.sleep(100)
        assert crunch.reports == []
        assert len(cluster.models) == len(MODELS)
