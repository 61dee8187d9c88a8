"""What is done about models whose reports are held, or are to be confirmed before they are sent."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
import trio
from helpers.coordinating import Model, coordinating, until
from helpers.insides import record_of
from trio.testing import MockClock

from trio_model_runner import ChangeKind, ModelState
from trio_model_runner.cluster.actors import Actors
from trio_model_runner.testing import LocalCrunch

SIX = dict.fromkeys("abcdef", Model)


def fail(crunch: LocalCrunch, *model_ids: str) -> None:
    for model_id in model_ids:
        crunch.node(model_id).faults.call_status = ("MODEL_FAILED", "no feathers")


async def test_what_is_held_is_a_change_once_and_in_the_log_every_hour(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "trio_model_runner.cluster")
    async with coordinating(SIX) as (crunch, cluster), cluster.changes() as changes:
        held: Counter[str] = Counter()

        async def listen() -> None:
            async for change in changes:
                if change.kind is ChangeKind.HELD and change.model is not None:
                    held[change.model.model_id] += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            fail(crunch, *"abcd")
            began = trio.current_time()
            while trio.current_time() - began < 3 * 3600 - 300:
                await cluster.call("predict")
                await trio.sleep(100)
            nursery.cancel_scope.cancel()
        assert +held == Counter("abcd")
        assert cluster.snapshot().reports_held == 4
        assert crunch.reports == []
    said = [each for each in caplog.records if "not reported, since too many have trouble" in each.message]
    # At once, when the first of them are held; then after an hour, and after two.
    at_once = [each for each in said if each.message.startswith(("1 model is", "2 models", "3 models"))]
    hourly = [each for each in said if each.message.startswith("4 models are")]
    assert len(hourly) + len(at_once) == len(said)
    assert 2 <= len(hourly) <= 3


async def test_at_most_ten_that_are_held_are_tried_at_the_same_time(autojump_clock: MockClock) -> None:
    models = {f"m{number}": Model for number in range(16)}
    async with coordinating(models) as (crunch, cluster):
        for model_id in models:
            if model_id != "m0":
                crunch.node(model_id).kill()
        await trio.sleep(200)
        assert cluster.snapshot().reports_held == 15
        for model_id in models:
            if model_id != "m0":
                node = crunch.node(model_id)
                node.faults.silent = True  # it takes 10 s to find that out
                node.restart()
        resources = cluster._resources  # private: who waits for whom shows nowhere else
        at_once: set[int] = set()
        for _ in range(1200):
            await trio.sleep(0.5)
            at_once.add(int(resources.held_limiter.borrowed_tokens))
            assert resources.connect_limiter.borrowed_tokens == 0
        assert max(at_once) == 10
        await crunch.add("new", Model())  # it waits for none of them
        with trio.fail_after(1):
            await until(cluster, lambda: "new" in cluster.models)


async def test_the_last_attempt_may_fail_after_all_have_answered(autojump_clock: MockClock) -> None:
    """All members answer at once, but it takes 10 s until the attempt has failed. Then it is reported."""
    async with coordinating(SIX) as (crunch, _):
        node = crunch.node("a")
        node.faults.silent = True
        node.break_connections()
        began = trio.current_time()
        (report,) = await crunch.wait_for_reports()
        assert (report["model_id"], report["failure_code"]) == ("a", "CONNECTION_FAILED")
        assert trio.current_time() - began < 250


async def test_before_it_is_reported_the_model_is_tried_at_once(autojump_clock: MockClock) -> None:
    async with coordinating(SIX) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").kill()
        await until(cluster, lambda: model.state is ModelState.FAILED)
        due_at = trio.current_time()
        await trio.sleep(59)
        assert crunch.reports == []
        await trio.sleep(2)
        assert len(crunch.reports) == 1
        record = record_of(model)
        assert record.tried_at == pytest.approx(due_at + 60, abs=0.1)


async def test_who_was_lost_unnoticed_is_found_before_a_report(autojump_clock: MockClock) -> None:
    """Three idle connections are dead, too; only a question to all members shows that in time."""
    async with coordinating(SIX) as (crunch, cluster):
        await trio.sleep(100)
        crunch.node("a").kill()
        await trio.sleep(85)
        assert crunch.reports == []
        for model_id in "bcd":
            crunch.node(model_id).pause()
        await trio.sleep(60)
        assert crunch.reports == []
        assert cluster.snapshot().reports_held >= 1


async def test_while_reporting_is_off_a_model_is_named_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trio_model_runner.cluster")
    async with coordinating(SIX, report_failures=False) as (crunch, cluster):
        fail(crunch, "a")
        for _ in range(20):
            await cluster.call("predict")
        assert "a" in cluster.models
    assert ["reporting is off" in each.message for each in caplog.records].count(True) == 1


async def test_who_is_tried_again_in_vain_is_given_up_once(autojump_clock: MockClock) -> None:
    async with (
        coordinating(SIX, report_failures=False) as (crunch, cluster),
        cluster.changes() as changes,
        trio.open_nursery() as nursery,
    ):
        failed: Counter[str] = Counter()

        @nursery.start_soon
        async def listen() -> None:
            async for change in changes:
                if change.kind is ChangeKind.FAILED and change.model is not None:
                    failed[change.model.model_id] += 1

        crunch.node("a").kill()
        await trio.sleep(1000)
        assert failed == Counter("a")
        nursery.cancel_scope.cancel()


async def test_what_is_known_elsewhere_is_asked_for_before_a_decision(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where actors are elsewhere, the judge may not know all yet. Without a report, nobody is asked."""
    asked: list[int] = []

    async def ask(_: Actors) -> None:
        await trio.sleep(3)
        asked.append(cluster._fleet.reporting.pending)  # private: nobody else sees this moment

    async with coordinating(SIX) as (crunch, cluster):
        monkeypatch.setattr(type(cluster._fleet.actors), "bring_up_to_date", ask)
        await cluster.call("predict")
        assert not asked
        crunch.node("a").kill()
        await crunch.wait_for_reports()
        assert asked[-1] == 1  # the report was still waiting when the last answer came
