"""Assertions on reports: what they take, and what a failing test says of reports that are not there."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating

from trio_model_runner import Cluster, FailureCode
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = {"a": Model, "b": Model, "c": Model}
RAISED = "MODEL_FAILED: The model raised an exception: no feathers"


class Broken:
    def predict(self) -> None:
        raise ValueError("no feathers")


def said(function: Callable[[], Any]) -> str:
    with pytest.raises(AssertionError) as caught:
        function()
    return str(caught.value)


def lines(text: str) -> str:
    return textwrap.dedent(text).strip()


async def test_a_report_is_what_was_sent_and_has_attributes(autojump_clock: Any) -> None:
    async with coordinating(MODELS) as (crunch, cluster):
        await cluster.report_failure(cluster.models["a"], FailureCode.LOW_PERFORMANCE, "too late")
        report = await crunch.wait_for_report("a")
        assert crunch.reports == [report]
        assert crunch.reports[0]["failure_code"] == "LOW_PERFORMANCE"
        assert json.loads(json.dumps(report)) == {
            "model_id": "a",
            "failure_code": "LOW_PERFORMANCE",
            "failure_reason": "too late",
            "ip": "127.0.0.1",
        }
        assert (report.model_id, report.code, report.reason, report.host) == (
            "a",
            FailureCode.LOW_PERFORMANCE,
            "too late",
            "127.0.0.1",
        )
        assert crunch.assert_reported("a") is report
        assert crunch.assert_reported("a", "LOW_PERFORMANCE") is report
        assert type(report.code) is FailureCode
        report["failure_code"], report["failure_reason"] = "NEW_CODE", None
        assert (report.code, report.reason) == ("NEW_CODE", None)


async def test_what_was_reported_instead_is_shown(autojump_clock: Any) -> None:
    async with coordinating(MODELS) as (crunch, cluster):
        crunch.assert_no_reports()
        await cluster.report_failure(cluster.models["a"], FailureCode.LOW_PERFORMANCE, "too late")
        await crunch.wait_for_report("a")
        text = lines(
            """
            reported:
              a as LOW_PERFORMANCE: too late
            pending: nothing
            held: nothing
              (what has no witness, or is not repeated often enough, does not count: model/README.md)
            models:
              a: failed (reported as LOW_PERFORMANCE: too late)
              b: ready
              c: ready
            """
        )
        begin = "reports where none was expected: 1 sent, 0 pending\n"
        assert said(crunch.assert_no_reports) == begin + text
        assert said(lambda: crunch.assert_reported("b")) == f"b was not reported\n{text}"
        begin = "a was not reported as MULTIPLE_FAILED\n"
        assert said(lambda: crunch.assert_reported("a", FailureCode.MULTIPLE_FAILED)) == begin + text


async def test_what_is_pending_is_shown_with_its_reasons_and_is_no_report_yet(autojump_clock: Any) -> None:
    async with coordinating({**MODELS, "broken": Broken}) as (crunch, cluster):
        for _ in range(4):
            await cluster.call("predict")
        await trio.testing.wait_all_tasks_blocked()
        text = said(crunch.assert_no_reports)
        assert text.startswith(
            "reports where none was expected: 0 sent, 1 pending\nreported: nothing\npending:\n"
        )
        counts = "predict: 4 failures and 0 timeouts since its last success; witness: "
        assert f"  broken as MULTIPLE_FAILED: {RAISED}" in text
        assert counts in text
        assert said(lambda: crunch.assert_reported("broken")) == (
            "broken was not reported\n" + text.partition("\n")[2]
        )
        assert (await crunch.wait_for_report("broken", "MULTIPLE_FAILED")).reason == RAISED


async def test_what_is_held_is_shown_and_is_no_report(autojump_clock: Any) -> None:
    models = {**MODELS, **dict.fromkeys(("x", "y", "z"), Broken)}
    async with coordinating(models) as (crunch, cluster):
        for _ in range(4):
            await cluster.call("predict")
        with pytest.raises(AssertionError) as caught:
            await crunch.wait_for_report("x", timeout=120)
        text = str(caught.value)
        assert text.startswith(
            "x was not reported within 120 s\nreported: nothing\npending: nothing\nheld, since"
        )
        assert text.count(f"  x as MULTIPLE_FAILED: {RAISED}") == 1
        crunch.assert_no_reports()


async def test_a_method_that_nobody_has_is_no_report(autojump_clock: Any) -> None:
    async with coordinating(MODELS) as (crunch, cluster):
        await cluster.call("predcit")
        text = said(lambda: crunch.assert_reported("a"))
        assert "unproved, since not enough other models have that method:\n" in text
        assert '  a as BAD_IMPLEMENTATION: BAD_IMPLEMENTATION: Method "predcit" not found' in text
        crunch.assert_no_reports()


async def test_only_this_crunchs_clusters_are_asked(autojump_clock: Any) -> None:
    unknown = "pending and held: not known, since there is no Cluster with this crunch's config()"
    async with LocalCrunch(MODELS, network=MemoryNetwork()) as crunch:
        assert said(lambda: crunch.assert_reported("a")).splitlines()[1:] == ["reported: nothing", unknown]
        async with coordinating({"other": Model}):
            assert unknown in said(lambda: crunch.assert_reported("a"))
        async with Cluster(crunch.config(report_failures=False), SERVICE):
            assert "  (report_failures is False)" in said(lambda: crunch.assert_reported("a"))


async def test_reports_that_wait_for_the_orchestrator_are_shown(autojump_clock: Any) -> None:
    async with coordinating(MODELS) as (crunch, cluster):
        crunch.orchestrator.kill()
        await trio.testing.wait_all_tasks_blocked()
        await cluster.report_failure(cluster.models["a"], "LOW_PERFORMANCE")
        with pytest.raises(AssertionError, match="not sent, since the orchestrator is away: 1"):
            await crunch.wait_for_report("a", timeout=60)
        crunch.orchestrator.start()
        await crunch.wait_for_report("a")


async def test_a_code_that_there_is_not_is_refused() -> None:
    async with LocalCrunch(network=MemoryNetwork()) as crunch:
        with pytest.raises(ValueError, match=r"code: must be one of CONNECTION_FAILED, .* got 'TIMEOUT'"):
            crunch.assert_reported("a", "TIMEOUT")
        with pytest.raises(ValueError, match=r"code: must be one of CONNECTION_FAILED, .* got 'TIMEOUT'"):
            await crunch.wait_for_report("a", "TIMEOUT")
