"""Worker threads: what is done in them, and where there are none."""

from __future__ import annotations

import threading
from typing import Any

import pandas
import pytest
import trio
from coordinating import Model, coordinating
from trio.testing import MockClock

from trio_model_runner import Arguments, Status
from trio_model_runner.workers import run_in_worker

LARGE = [1.5] * 50_000
"""800 kB as JSON, and more than is encoded or decoded in the event loop."""


@pytest.mark.parametrize("clock", [None, MockClock(rate=1.0)])
def test_a_clock_that_does_not_jump_leaves_it_to_a_thread(clock: MockClock | None) -> None:
    thread = trio.run(run_in_worker, threading.current_thread, clock=clock)
    assert thread is not threading.current_thread()


async def test_a_clock_that_jumps_stands_still_meanwhile(autojump_clock: MockClock) -> None:
    before = trio.current_time()
    with trio.fail_after(1):
        assert await run_in_worker(sum, [1, 2]) == 3
    assert trio.current_time() == before


async def test_large_values_are_on_time_under_a_clock_that_jumps(autojump_clock: MockClock) -> None:
    for value in (LARGE, {"points": LARGE}, pandas.DataFrame({"x": [1, 2, 3]})):
        async with coordinating({"a": Model(), "b": Model()}, frames="pandas") as (_, cluster):
            before = trio.current_time()
            arguments = Arguments(value)
            every: list[Any] = list((await cluster.call("predict", arguments)).values())
            every += (await cluster.call("predict", lambda _: Arguments(value))).values()  # noqa: B023
            assert [result.status for result in every] == [Status.SUCCESS] * 4
            assert trio.current_time() == before
