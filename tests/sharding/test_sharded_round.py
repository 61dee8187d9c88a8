"""How a round over shards ends: what came in time is never lost, and nobody is waited for in vain."""

from __future__ import annotations

import pytest
import trio
from helpers.coordinating import until
from helpers.losing_shards import IDS, LOST, Scene, freeze, scene

from trio_model_runner import Arguments, PredictionRound, Status
from trio_model_runner.sharding import sharded_round
from trio_model_runner.sharding.columns import Columns
from trio_model_runner.sharding.messages import WireArguments
from trio_model_runner.sharding.wire_values import arguments_to_wire

NO_ANSWER = "no answer before the deadline"
NOT_HEARD = "its shard did not answer in time"


async def timed(here: Scene, method: str, *values: object, timeout: float) -> tuple[PredictionRound, float]:
    """Make a round; return it, and how many seconds it took."""
    began = trio.current_time()
    results = await here.call(method, Arguments(*values), timeout=timeout)
    return results, trio.current_time() - began


@pytest.mark.parametrize("busy", [0.0, 0.009, 0.025])
async def test_the_last_batch_of_a_busy_shard_is_waited_for(autojump_clock: object, busy: float) -> None:
    async with scene() as here:
        here.engine.shards[LOST].delay(busy, from_driver=False)
        results, seconds = await timed(here, "hang", timeout=0.5)
        assert {result.detail for result in results.values()} == {NO_ANSWER}
        assert seconds == pytest.approx(0.49 + busy, abs=0.004)  # no longer than it must


@pytest.mark.parametrize("busy", [0.0, 0.04, 0.065])
async def test_an_answer_of_50_ms_before_the_deadline_is_never_lost(
    autojump_clock: object, busy: float
) -> None:
    async with scene() as here:
        here.engine.shards[LOST].delay(busy, from_driver=False)
        results, seconds = await timed(here, "sleep", 0.45, timeout=0.5)
        assert len(results.succeeded) == len(IDS)
        assert seconds < 0.521


async def test_a_slow_moment_of_the_way_costs_later_rounds_nothing(autojump_clock: object) -> None:
    async with scene() as here:
        for way, seconds in ((0.001, 1.0), (0.3, 1.2), (0.001, 0.6)):
            here.engine.shards[LOST].delay(way)
            await trio.sleep(seconds)
        assert here.cluster.snapshot().shards[LOST]["round_trip"] > 0.3
        results, _ = await timed(here, "sleep", 0.45, timeout=0.5)
        assert len(results.succeeded) == len(IDS)


async def test_a_late_shard_costs_a_round_20_ms_and_a_silent_one_nothing(autojump_clock: object) -> None:
    async with scene() as here:
        lost = set(here.of(LOST))
        freeze(here)
        for state, longest in (("up", 0.5201), ("silent", 0.5001)):
            results, seconds = await timed(here, "hang", timeout=0.5)
            details = {result.detail for name, result in results.by_id.items() if name in lost}
            assert details == {NOT_HEARD}, state
            assert longest - 0.001 < seconds < longest
            await trio.sleep(0.6)
        await until(here.cluster, lambda: len(here.cluster.models) < len(IDS))
        await here.all_ready(within=3)


async def test_a_deadline_around_a_round_that_passes_meanwhile_costs_no_results(
    autojump_clock: object,
) -> None:
    async with scene() as here:
        here.engine.shards[LOST].delay(0.025, from_driver=False)
        with trio.move_on_after(0.5) as scope:
            results, seconds = await timed(here, "hang", timeout=60.0)
        assert not scope.cancelled_caught
        assert 0.5 < seconds < 0.52
        assert {result.status for result in results.values()} == {Status.TIMEOUT}
        for result in results.values():
            assert result.detail.endswith(
                "its round ended just before the deadline of an enclosing cancel scope"
            )


async def test_a_round_that_is_drained_has_what_shards_say_of_it(autojump_clock: object) -> None:
    async with scene() as here:
        rounds: list[PredictionRound] = []

        async def call() -> None:
            rounds.append((await timed(here, "sleep", 0.1, timeout=60.0))[0])

        here.engine.shards[LOST].delay(0.01, from_driver=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.sleep(0.105)
            await here.cluster.drain(0.0)
        assert len(rounds[0].succeeded) == len(IDS)


async def test_a_member_without_a_result_is_a_bug_that_raises(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene() as here:
        with monkeypatch.context() as patched:
            patched.setattr(Columns, "add", lambda *_: None)
            with pytest.raises(RuntimeError, match=r"^round \d+ has 0 results of 8 members$"):
                await here.call()
        assert len((await here.call()).succeeded) == len(IDS)


async def test_arguments_are_encoded_once_for_all_shards(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []

    def count(arguments: Arguments) -> WireArguments:
        encoded.append(arguments)
        return arguments_to_wire(arguments)

    async with scene() as here:
        monkeypatch.setattr(sharded_round, "arguments_to_wire", count)
        assert len((await here.call()).succeeded) == len(IDS)
    assert len(encoded) == 1
