"""A call that ends before its own time says what ended it, and after how many seconds; nobody is blamed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from helpers.coordinating import Model, coordinating
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, PredictionRound, PredictResult, Status
from trio_model_runner.config import Limits


async def hang(cluster: Cluster, timeout: float) -> PredictResult[Any]:
    result = (await cluster.call("hang", timeout=timeout)).by_id["a"]
    assert result.status is Status.TIMEOUT
    assert str(result.error) == result.detail
    return result


@pytest.mark.parametrize(
    ("timeout", "after"), [(20.0, "1.5 of 20 s"), (math.inf, "1.5 s")], ids=["20 s", "no limit"]
)
async def test_a_drain_is_named(autojump_clock: MockClock, timeout: float, after: str) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster), trio.open_nursery() as nursery:
        details: list[str] = []

        @nursery.start_soon
        async def call() -> None:
            details.append((await hang(cluster, timeout)).detail)

        await crunch.node("a").wait_for_calls(1)
        await trio.sleep(1.0)
        await cluster.drain(0.5)
        assert details == [f"cut off after {after}: drain() ended its round"]


async def test_an_enclosing_scope_is_named(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        with trio.move_on_after(1.505):
            result = await hang(cluster, 20.0)
        text = "its round ended just before the deadline of an enclosing cancel scope"
        assert result.detail == f"cut off after 1.5 of 20 s: {text}"


async def test_its_own_deadline_is_no_cut(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        with trio.move_on_after(3.0):
            assert (await hang(cluster, 2.0)).detail == "no answer before the deadline"


async def test_a_busy_program_is_named(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def keep_the_event_loop_busy() -> None:
            await crunch.node("a").wait_for_calls(1)
            autojump_clock.jump(4.25)  # as if something in this program had blocked meanwhile

        result = await hang(cluster, 2.0)
        assert result.detail.startswith("no answer before the deadline, at which this program was busy: it ")


async def test_a_full_queue_names_the_setting_and_how_many_wait(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, limits=Limits(max_queued_calls=2)) as (_, cluster):
        rounds = await calls_at_once(cluster, 4)
    (skipped,) = [each.by_id["a"] for each in rounds if each.skipped]
    text = "2 calls wait for this model already, as many as limits.max_queued_calls allows"
    assert (skipped.status, skipped.detail) == (Status.SKIPPED, text)


@pytest.mark.parametrize("limits", [Limits(), Limits(max_queued_calls=None)], ids=["default", "off"])
async def test_twelve_assets_by_four_horizons_are_answered(autojump_clock: MockClock, limits: Limits) -> None:
    async with coordinating({"a": Model()}, limits=limits) as (_, cluster):
        rounds = await calls_at_once(cluster, 12 * 4)
    assert all(each.succeeded for each in rounds)


async def calls_at_once(cluster: Cluster, count: int) -> list[PredictionRound[Any]]:
    rounds: list[PredictionRound[Any]] = []

    async def call() -> None:
        rounds.append(await cluster.call("sleep", Arguments(0.001)))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(call)
    return rounds
