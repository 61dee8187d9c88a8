"""Models that fail, each in its own way, and what that is for the others: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from trio_model_runner import Arguments, Cluster, DynamicSubclassService, ModelState, Status
from trio_model_runner.config import Health

from .clusters import SERVICE, announced, joined_by, settings, statuses, take_instance_away
from .waiting import PATIENT, wait_for_holding, wait_until

if TYPE_CHECKING:
    from .node_process import NodePool, NodeProcess


@pytest.fixture(scope="module")
def nodes(shared_pool: NodePool) -> dict[str, NodeProcess]:
    tempers = ("steady", "unfinished", "raising", "broken", "hanging", "empty")
    started = [*shared_pool.start(*tempers), *shared_pool.start("steady", model_ids=["steady too"])]
    return {node.model_id: node for node in started}


async def test_models_that_can_not_be_set_up_keep_no_other_waiting(nodes: dict[str, NodeProcess]) -> None:
    five = [node for node in nodes.values() if node.model_id not in ("empty", "steady too")]
    async with joined_by(five, startup_timeout=0) as cluster:
        with trio.fail_after(PATIENT):
            await cluster.wait_for_models(3)
            await wait_until(lambda: cluster.announced["broken"].state is ModelState.FAILED)
            await wait_for_holding([nodes["hanging"]])
        assert cluster.announced["hanging"].state is ModelState.SETTING_UP
        results = await cluster.call("hold")
        assert statuses(results) == {
            "steady": "SUCCESS",
            "unfinished": "SUCCESS",
            "raising": "SUCCESS",
            "broken": "ABSENT",
            "hanging": "ABSENT",
        }
        assert "Setup: SETUP_FAILED: the weights are missing" in results.by_id["broken"].detail


async def test_a_model_that_raises_fails_with_its_text(nodes: dict[str, NodeProcess]) -> None:
    async with joined_by([nodes["steady"], nodes["raising"], nodes["unfinished"]]) as cluster:
        results = (await cluster.call("tick", Arguments({"price": 1.5}))).by_id
        assert results["raising"].status is Status.FAILED
        text = "MODEL_FAILED: The model raised an exception: can't take {'price': 1.5}: Grüße 世界"
        assert results["raising"].detail == text
        assert results["steady"].status is results["unfinished"].status is Status.SUCCESS
        assert (await cluster.call("hold")).by_id["raising"].value == "held"


async def test_a_model_that_exits_never_answers_and_is_there_again(nodes: dict[str, NodeProcess]) -> None:
    alone = Health(require_witness=False)
    async with joined_by([nodes["steady"], nodes["raising"]], health=alone) as cluster:
        results = await cluster.call("refuse", models=["raising"], timeout=0.5)
        assert statuses(results) == {"raising": "TIMEOUT"}
        assert statuses(await cluster.call("hold")) == {"steady": "SUCCESS", "raising": "SUCCESS"}
        assert statuses(await cluster.call("refuse", models=["raising"])) == {"raising": "SKIPPED"}
        assert statuses(await cluster.call("hold")) == {"steady": "SUCCESS", "raising": "SUCCESS"}


async def reported(nodes: list[NodeProcess], method: str = "") -> dict[str, Any]:
    """What is reported first of these nodes, which have no instance before."""
    for node in nodes:
        await trio.to_thread.run_sync(take_instance_away, node)
    async with announced(nodes) as crunch:
        health = Health(mass_window=0.5)
        async with Cluster(settings(crunch, health=health), SERVICE) as cluster:
            if method:
                await cluster.call(method)
            with trio.fail_after(PATIENT):
                (report,) = await crunch.wait_for_reports()
        return report


async def test_a_constructor_that_raises_is_reported(nodes: dict[str, NodeProcess]) -> None:
    assert await reported([nodes["steady"], nodes["broken"]]) == {
        "model_id": "broken",
        "failure_code": "MULTIPLE_FAILED",
        "failure_reason": "Setup: SETUP_FAILED: the weights are missing",
        "ip": "127.0.0.1",
    }


async def test_code_without_a_subclass_is_reported_as_such(nodes: dict[str, NodeProcess]) -> None:
    assert await reported([nodes["steady"], nodes["unfinished"], nodes["empty"]]) == {
        "model_id": "empty",
        "failure_code": "BAD_IMPLEMENTATION",
        "failure_reason": (
            "Setup: BAD_IMPLEMENTATION: No Inherited class found from <class 'tracker.Tracker'>."
        ),
        "ip": "127.0.0.1",
    }


async def test_a_method_that_only_another_model_has_is_reported(nodes: dict[str, NodeProcess]) -> None:
    assert await reported([nodes["steady"], nodes["steady too"], nodes["unfinished"]], "calibrate") == {
        "model_id": "unfinished",
        "failure_code": "BAD_IMPLEMENTATION",
        "failure_reason": 'BAD_IMPLEMENTATION: Method "calibrate" not found in class "Unfinished"',
        "ip": "127.0.0.1",
    }


@pytest.mark.parametrize("class_name", ["trakcer.Tracker", "tracker.Trakcer"])
async def test_a_misspelt_class_is_nobodys_fault(nodes: dict[str, NodeProcess], class_name: str) -> None:
    untouched = [nodes["broken"], nodes["empty"]]  # which have no instance that would make do
    async with announced(untouched) as crunch:
        async with Cluster(settings(crunch), DynamicSubclassService(class_name)) as cluster:
            results = await cluster.call("hold")
            assert statuses(results) == {"broken": "ABSENT", "empty": "ABSENT"}
            assert all("rakcer" in result.detail for result in results.values())
            assert cluster.snapshot().reports_pending == 2  # for want of a proof that there is such a class
        assert crunch.reports == []
