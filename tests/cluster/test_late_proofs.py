"""A missing method, or class, whose proof comes late: that more models have it than lack it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model
from helpers.court import LETTERS, NOTHING, Court, held, of, pending, released
from trio.testing import MockClock

from trio_model_runner import Cluster, Status
from trio_model_runner.model.policy import Outcome
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

MISSING, FAILED, OK = Outcome.BAD_IMPLEMENTATION, Outcome.MODEL_FAILED, Outcome.SUCCEEDED


class Forecaster(Model):
    """Has one method more."""

    def forecast(self) -> float:
        return 1.0


async def test_a_proof_that_comes_late_makes_a_missing_method_due(autojump_clock: MockClock) -> None:
    """Nothing else happens meanwhile: the proof itself must wake whoever reports."""
    models: dict[str, Any] = {"a": Model, "b": Forecaster, "c": Forecaster}
    async with (
        LocalCrunch(models, network=MemoryNetwork()) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
    ):
        assert (await cluster.models["a"].call("forecast")).status is Status.FAILED
        await trio.sleep(100)
        assert cluster.snapshot().reports[0]["stage"] == "unproved"
        assert (await cluster.models["b"].call("forecast")).status is Status.SUCCESS
        await trio.sleep(1)
        assert cluster.snapshot().reports[0]["stage"] == "unproved"  # one has it, and one lacks it
        assert (await cluster.models["c"].call("forecast")).status is Status.SUCCESS
        await trio.sleep(1)
        assert cluster.snapshot().reports[0]["stage"] == "pending"
        await trio.sleep(58)
        assert crunch.reports == []
        await trio.sleep(2)
        (report,) = crunch.reports
        assert (report["model_id"], report["failure_code"]) == ("a", "BAD_IMPLEMENTATION")


async def test_a_proof_that_comes_late_makes_a_missing_class_due(autojump_clock: MockClock) -> None:
    async with LocalCrunch({"a": Model}, network=MemoryNetwork()) as crunch:
        crunch.node("a").faults.setup_status = ("BAD_IMPLEMENTATION", "no such class")
        async with Cluster(crunch.config(startup_timeout=1), SERVICE) as cluster:
            await trio.sleep(100)
            assert cluster.snapshot().reports[0]["stage"] == "unproved"
            await crunch.add("b", Model())
            await crunch.add("c", Model())
            await cluster.wait_for_models(2)
            await trio.sleep(1)
            assert cluster.snapshot().reports[0]["stage"] == "pending"
            await trio.sleep(60)
            (report,) = crunch.reports
            assert (report["model_id"], report["failure_code"]) == ("a", "BAD_IMPLEMENTATION")


@pytest.mark.parametrize("still", ["", "bcd"])
def test_who_had_trouble_long_before_the_proof_is_no_crowd_if_it_is_over(still: str) -> None:
    """At first three others failed, too. After 80 s, all but those in `still` succeed."""
    court = Court(LETTERS[:8])
    court.note("a", MISSING, 0)
    for model in "bcd":
        court.note(model, FAILED, 0)
    assert of(court.decide(0)) == held("b", "c", "d")
    for model in "bcdefgh":
        if model not in still:
            court.note(model, OK, 80)
    assert of(court.decide(80)) == (held("a") if still else pending("a"))
    assert of(court.decide(139.9)) == NOTHING
    assert of(court.decide(140)) == (NOTHING if still else released("a"))


def test_a_proof_that_came_late_is_waited_for_from_then_on() -> None:
    """It is not a minute since the call, but since the proof; a mass 80 s before that is long past."""
    court = Court(LETTERS[:10])
    court.note("a", MISSING, 0)
    for model in "bcd":  # they were lost together, and are back
        court.judge.note_loss(court.record(model), stood=1000, peaceful=False, now=0)
        court.judge.note_setup(court.record(model), created=False, now=10)
    for model in "bcde":
        court.note(model, OK, 80)
    assert of(court.decide(80)) == pending("a")
    assert court.judge.reports.next_decision(80) == 140
    assert of(court.decide(139)) == NOTHING
    assert of(court.decide(140)) == released("a")
