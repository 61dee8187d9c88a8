"""Who is cut off, silent or late is mute before another calls its models, on a clock that jumps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import trio
from helpers.callers import current_shard
from helpers.insides import counts_of
from helpers.losing_shards import IDS, LOST, Scene, during, freeze, lose, scene
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments
from trio_model_runner.rpc.streams import Sender
from trio_model_runner.sharding.lease import HeldLease


@pytest.mark.parametrize("event", [freeze, lose])
async def test_who_is_cut_off_is_silent_before_another_calls(
    autojump_clock: object, event: Callable[[Scene], object]
) -> None:
    """Calls that wait for their turn are made as long as there is a lease, and not after that."""
    async with scene() as here:
        lost = here.of(LOST)
        async with trio.open_nursery() as nursery:
            for number in range(8):
                arguments = Arguments(0.6 + number / 1000)
                nursery.start_soon(functools.partial(here.call, "sleep", arguments, timeout=9.0))
            await trio.sleep(0.1)
            began = trio.current_time()
            event(here)
        await here.all_ready(within=3)
        for model_id in lost:
            times: dict[int, list[float]] = {LOST: [], 0: []}
            for request in here.callers.of(model_id):
                times[request.shard].append(request.time - began)
            assert 1.0 < times[LOST][-1] < 2.0
            assert 2.5 <= times[0][0] <= 4.0


async def test_a_shard_that_comes_back_is_not_let_in_again(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene() as here:
        lost, shard = here.of(LOST), here.engine.shards[LOST]
        shard.freeze()
        await trio.sleep(2.0)
        assert [each["state"] for each in here.cluster.snapshot().shards] == ["up", "silent"]
        await trio.sleep(1.5)
        shard.thaw()
        await here.all_ready(within=1)
        await shard.exited.wait()
        assert len((await here.call()).succeeded) == len(IDS)
        assert [here.callers.shards(each) for each in lost] == [[LOST, 0]] * len(lost)
        (row,) = [each for each in here.cluster.snapshot().shards if each["index"] == LOST]
        assert (row["state"], row["models"]) == ("lost", 0)
        assert "it has given no sign of life for 3 s" in caplog.text


async def test_late_renewals_neither_move_nor_mute(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene() as here:
        here.engine.shards[LOST].delay(1.5, from_driver=False)
        for _ in range(20):
            assert len((await here.call()).succeeded) == len(IDS)
        assert "no lease" not in caplog.text
        assert {each["state"] for each in here.cluster.snapshot().shards} == {"up"}
        here.callers.check(most_moves=0)


async def test_a_shard_that_hears_nothing_for_a_while_is_mute_and_keeps_its_models(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver hears it, so nothing moves. What it cuts off counts nothing against its models."""
    async with scene() as here:
        lost, shard = here.of(LOST), here.engine.shards[LOST]

        def fall_deaf(here: Scene) -> None:
            shard.delay(4.0, from_shard=False)

        results = await during(here, fall_deaf, 0.5, method="sleep", arguments=Arguments(6.0))
        assert {model.model_id for model in results.timed_out} == set(lost)
        for result in results.timed_out.values():
            assert result.detail.endswith(": its shard has not heard from the coordinator in time")
        assert trio.current_time() < 7
        results = await here.call(timeout=5.0)
        assert {model.model_id for model in results.timed_out} == set(lost)
        assert not any(result.sent for result in results.timed_out.values())
        shard.delay(0.0)
        await trio.sleep(5)
        assert len((await here.call()).succeeded) == len(IDS)
        for model in here.cluster.models.values():
            assert counts_of(model) == (0, 0, 0)
        assert not here.crunch.orchestrator.reports
        assert len(here.joins) == len(IDS)
        here.callers.check(most_moves=0)


async def test_results_that_come_too_late_are_dropped(autojump_clock: object) -> None:
    async with scene() as here:
        lost = here.of(LOST)
        here.engine.shards[LOST].delay(1.0, from_driver=False)
        results = await here.call(timeout=0.5)
        assert {model.model_id for model in results.timed_out} == set(lost)
        assert {result.detail for result in results.timed_out.values()} == {
            "its shard did not answer in time"
        }
        before = dict(results.by_id)
        here.engine.shards[LOST].delay(0.0)
        assert len((await here.call()).succeeded) == len(IDS)
        await trio.sleep(2)
        assert results.by_id == before
        assert not here.cluster._shards.rounds
        for model in here.cluster.models.values():
            assert counts_of(model) == (0, 0, 0)
        here.callers.check(most_moves=0)


@pytest.mark.parametrize("steps", range(12))
async def test_nothing_is_sent_after_everything_stood_still(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Shards that were stopped ask the clock before they write, and do not wait for a timer to fire."""
    send_data, grant, events = Sender._send_data, HeldLease.grant, []

    def note_data(sender: Sender, *args: Any) -> int:
        events.append((current_shard(), "data"))
        return send_data(sender, *args)

    def note_grant(lease: HeldLease, sequence: int) -> None:
        grant(lease, sequence)
        if lease.valid():
            events.append((current_shard(), "lease"))

    async with scene() as here:
        node = here.crunch.node(here.of(LOST)[0])
        node.pause()
        large = Arguments(next(here.numbers), "x" * 1_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.call, "tick", large)
            await wait_all_tasks_blocked()
            node.resume()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            monkeypatch.setattr(Sender, "_send_data", note_data)
            monkeypatch.setattr(HeldLease, "grant", note_grant)
            autojump_clock.jump(5.0)
        assert len((await here.call()).succeeded) == len(IDS)
        assert next(what for shard, what in events if shard == LOST) == "lease"
        for model in here.cluster.models.values():
            assert counts_of(model) == (0, 0, 0)
        here.callers.check(most_moves=0)


async def test_a_shard_that_ends_without_a_lease_does_not_take_its_models_along(
    autojump_clock: object,
) -> None:
    """The driver hears it all the time: at last, that it ends, and not that its models do."""
    async with scene() as here:
        lost, shard = here.of(LOST), here.engine.shards[LOST]
        shard.delay(1000.0, from_shard=False)
        await shard.exited.wait()
        await here.all_ready(within=5)
        assert [here.callers.shards(each) for each in lost] == [[LOST, 0]] * len(lost)
        assert len(here.joins) == len(IDS)
