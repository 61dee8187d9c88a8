"""A Cluster where it can't be used, or no more: the error says which of these it is, and what to do."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating
from helpers.documents import block, chapter
from trio.testing import MockClock

from trio_model_runner import Cluster, ClusterConfig
from trio_model_runner.channel import Channel
from trio_model_runner.cluster.losses import Losses
from trio_model_runner.testing import LocalCrunch

CHAPTER = 'see "Outside Trio" in the README'


def new_cluster() -> Cluster:
    return Cluster(ClusterConfig("bird-game"), SERVICE)


async def enter() -> None:
    async with new_cluster():
        raise AssertionError


async def enter_a_channel() -> None:
    async with Channel():
        raise AssertionError


async def call_one_that_was_not_entered() -> None:
    await new_cluster().call("predict")


ENTRIES: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "entering": enter,
    "a channel": enter_a_channel,
    "calling": call_one_that_was_not_entered,
}


@pytest.mark.parametrize("use", ENTRIES.values(), ids=ENTRIES)
def test_asyncio_is_told_that_it_is_not_trio(use: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(RuntimeError, match=rf"^a C\w+ needs Trio, and this is asyncio; {CHAPTER}$"):
        asyncio.run(use())


@pytest.mark.parametrize("use", ENTRIES.values(), ids=ENTRIES)
def test_where_nothing_runs_the_way_in_is_named(use: Callable[[], Coroutine[Any, Any, None]]) -> None:
    coroutine = use()
    with pytest.raises(RuntimeError, match=rf"none runs here: start the program by trio\.run.*{CHAPTER}$"):
        coroutine.send(None)


def test_the_chapter_that_errors_name_is_there() -> None:
    assert chapter("README.md", "Outside Trio")


@pytest.mark.parametrize("name", ["cluster/README.md#outside-trio", "cluster/README.md#outside-trio/2"])
def test_the_chapters_program_runs(name: str) -> None:
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ended = threading.Event()

    async def serve_models() -> None:
        async with LocalCrunch({"a": Model()}) as crunch:
            ready.put(crunch.config())
            await trio.to_thread.run_sync(ended.wait)

    thread = threading.Thread(target=trio.run, args=(serve_models,))
    thread.start()
    names: dict[str, Any] = {"trio": trio, "Cluster": Cluster, "service": SERVICE}
    names["config"] = ready.get()
    try:
        exec(block(name), names)
    finally:
        ended.set()
        thread.join()
    assert names["results"].by_id["a"].value == 1.5


def test_a_plain_with_is_told_the_right_one() -> None:
    with pytest.raises(RuntimeError, match=r"^use 'async with Cluster"), new_cluster():  # type: ignore[attr-defined]
        pass


async def test_the_block_must_be_entered_and_only_once(autojump_clock: MockClock) -> None:
    with pytest.raises(trio.ClosedResourceError, match=r"was not entered: use it in `async with Cluster"):
        await new_cluster().call("predict")
    async with coordinating({"a": Model()}) as (_, cluster):
        with pytest.raises(RuntimeError, match="can be entered only once: make a new one"):
            await cluster.__aenter__()
    for use in (cluster.call("predict"), cluster.wait_for_models(), cluster.drain(1.0)):
        with pytest.raises(trio.ClosedResourceError, match=r"block was left$") as caught:
            await use
        assert caught.value.__cause__ is None


async def test_another_threads_trio_is_told_whose_cluster_it_is(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):

        def call_from_another_run() -> None:
            with pytest.raises(RuntimeError, match="belongs to another Trio run"):
                trio.run(cluster.call, "predict")

        await trio.to_thread.run_sync(call_from_another_run)
        assert (await cluster.call("predict")).by_id["a"].value == 1.5


async def test_a_crash_of_ours_is_the_cause_of_what_other_tasks_are_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = LookupError("a bug")
    may_crash = trio.Event()

    async def run_and_crash(self: Losses) -> None:
        await may_crash.wait()
        raise crash

    monkeypatch.setattr(Losses, "run", run_and_crash)
    told: list[trio.ClosedResourceError] = []
    async with LocalCrunch({"a": Model()}) as crunch:
        cluster = Cluster(crunch.config(), SERVICE)

        async def wait_for_two() -> None:
            with pytest.raises(trio.ClosedResourceError, match="LookupError: see the cause") as caught:
                await cluster.wait_for_models(2)
            told.append(caught.value)

        async def run_until_the_crash(nursery: trio.Nursery) -> None:
            async with cluster:
                nursery.start_soon(wait_for_two)
                may_crash.set()
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            with pytest.raises(LookupError):
                await run_until_the_crash(nursery)
        with pytest.raises(trio.ClosedResourceError) as later:
            await cluster.call("predict")
    assert [error.__cause__ for error in (*told, later.value)] == [crash, crash]
