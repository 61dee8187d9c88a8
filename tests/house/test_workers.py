"""Worker threads: what is done in them, and where there are none."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pandas
import pyarrow
import pytest
import trio
import trio.testing
from helpers.coordinating import SERVICE, Model, coordinating
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, Encoded, Status
from trio_model_runner.abandoned import run_stoppable, stop_if_abandoned
from trio_model_runner.model import round_spec
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.values.data import decode_encoded
from trio_model_runner.values.frames.slicing import objects_of
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


async def test_what_takes_long_keeps_nobody_else_waiting() -> None:
    release = threading.Event()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(partial(run_in_worker, release.wait, 30, apart=True))
            await trio.testing.wait_all_tasks_blocked()
            assert await run_in_worker(sum, [1, 2]) == 3
            release.set()


@pytest.mark.parametrize("apart", [False, True])
async def test_work_that_asks_ends_once_nobody_wants_it(apart: bool) -> None:
    started, ended = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    def ask_without_end() -> None:
        try:
            while True:
                stop_if_abandoned()
                started.set()
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run_in_worker, ask_without_end, apart=apart))
            await trio.to_thread.run_sync(started.wait)
            nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(ended.wait, 30)
        assert [type(error) for error in raised] == [trio.Cancelled]
        assert await run_in_worker(sum, [1, 2], apart=apart) == 3


async def test_work_in_other_threads_is_not_stopped() -> None:
    cancelled = threading.Event()
    asked = []

    def ask_late() -> None:
        cancelled.wait(30)
        stop_if_abandoned()
        asked.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, ask_late)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        cancelled.set()
    assert asked == [True]


def test_a_frame_s_objects_are_no_longer_made_once_nobody_wants_them() -> None:
    class Unwanted(BaseException):
        """Like `trio.Cancelled`, which nobody may catch."""

    asked = iter(range(2))

    def stop_at_last() -> None:
        if next(asked) == 1:
            raise Unwanted

    column = pyarrow.chunked_array([[[1]] * 50_000])
    with pytest.raises(Unwanted):
        run_stoppable(stop_at_last, objects_of, pyarrow, column)


async def test_huge_answers_cost_other_models_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    decoding, release = threading.Event(), threading.Event()

    def decode_when_released(encoded: Encoded, **kwargs: Any) -> Any:
        if len(encoded.data) > 2**20:
            decoding.set()
            release.wait(5)
        return decode_encoded(encoded, **kwargs)

    class Huge(Model):
        def predict(self, value: Any = 1.5) -> Any:
            return ["x" * 1000] * 2000

    class Large(Model):
        async def predict(self, value: Any = 1.5) -> Any:
            await trio.to_thread.run_sync(decoding.wait)
            return ["x" * 1000] * 100

    monkeypatch.setattr(round_spec, "decode_encoded", decode_when_released)
    models = {**dict.fromkeys("abcd", Huge), "e": Large}
    async with (
        LocalCrunch(models) as crunch,
        Cluster(crunch.config(), SERVICE) as cluster,
        cluster.as_completed("predict", timeout=30) as results,
    ):
        assert (await anext(results)).model.model_id == "e"
        release.set()
        assert {result.status async for result in results} == {Status.SUCCESS}


async def test_large_values_are_on_time_under_a_clock_that_jumps(autojump_clock: MockClock) -> None:
    for value in (LARGE, {"points": LARGE}, pandas.DataFrame({"x": [1, 2, 3]})):
        async with coordinating({"a": Model(), "b": Model()}, frames="pandas") as (_, cluster):
            before = trio.current_time()
            arguments = Arguments(value)
            every: list[Any] = list((await cluster.call("predict", arguments)).values())
            every += (await cluster.call("predict", lambda _: Arguments(value))).values()  # noqa: B023 - called in this turn only
            assert [result.status for result in every] == [Status.SUCCESS] * 4
            assert trio.current_time() == before
