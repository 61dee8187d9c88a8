"""What all engines have in common: how messages travel, how a way ends, and that nothing is left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from helpers.dask_cluster import DaskCluster
from helpers.processes import shard_processes
from helpers.remains import our_tasks
from helpers.served_shards import SCRIPTED, scripted
from trio.testing import wait_all_tasks_blocked

from trio_model_runner.sharding import dask, local
from trio_model_runner.sharding.dask import DaskEngine
from trio_model_runner.sharding.engine import Engine, Shard, ShardLost
from trio_model_runner.sharding.local import LocalEngine
from trio_model_runner.testing import shard_engine
from trio_model_runner.testing.shard_engine import InProcessEngine

POOLS = ("Trio thread", "Dask-Offload")
"""Threads that wait for the next who needs one."""

ENGINES = ("local", "in process", "dask")


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest) -> Callable[[], Engine]:
    """Makes an engine of each kind."""
    if request.param == "local":
        return lambda: LocalEngine(serve=SCRIPTED)
    if request.param == "in process":
        return lambda: InProcessEngine(scripted)
    cluster: DaskCluster = request.getfixturevalue("dask_cluster")
    return lambda: DaskEngine(cluster.address, security=cluster.security, serve=SCRIPTED)


@pytest.fixture
async def engine(make: Callable[[], Engine]) -> AsyncIterator[Engine]:
    """One that runs. After it nothing is left."""
    async with running(make()) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those that don't end by themselves."""
    for module in (local, shard_engine, dask):
        monkeypatch.setattr(module, "_END_SECONDS", 0.1)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    before = what_is_there()
    with trio.fail_after(60):
        async with engine.running():
            yield engine
        assert what_is_there() == before


def what_is_there() -> dict[str, object]:
    return {
        "processes": shard_processes(),
        "descriptors": len([*Path("/proc/self/fd").iterdir()]),
        "threads": {each for each in threading.enumerate() if not each.name.startswith(POOLS)},
        "tasks": our_tasks(),
    }


async def until_lost(shard: Shard) -> list[bytes]:
    """All that it says."""
    said = []
    with suppress(ShardLost):
        while True:
            said.append(await shard.receive())
    return said


async def test_messages_arrive_whole_and_in_order(engine: Engine) -> None:
    shard = await engine.launch(0, b"echo first")
    assert await shard.receive() == b"first"
    messages = [b"", b"a", *(os.urandom(length) for length in (7, 8, 9, 2**18 - 1, 2**18, 2**18 + 1, 0, 1))]
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            for message in messages:
                await shard.send(message)

        assert [await shard.receive() for _ in messages] == messages
    assert not shard.exited.is_set()


async def test_a_message_may_be_large(engine: Engine) -> None:
    shard = await engine.launch(0, b"echo " + b"f" * 2**20)
    assert len(await shard.receive()) == 2**20
    large = os.urandom(20_000_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shard.send, large)
        assert await shard.receive() == large


async def test_messages_go_both_ways_at_once(engine: Engine) -> None:
    shard = await engine.launch(0, b"repeat")
    messages = [bytes([number]) * 100_000 for number in range(100)]

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            for message in messages:
                await shard.send(message)

        said = [await shard.receive() for _ in range(200)]
    assert said == [message for message in messages for _ in range(2)]


async def test_what_was_said_before_the_end_is_received(engine: Engine) -> None:
    shard = await engine.launch(0, b"count 1000")
    assert await until_lost(shard) == [str(number).encode() for number in range(1000)]
    await shard.exited.wait()
    assert await until_lost(shard) == []
    with pytest.raises(ShardLost, match="shard 0"):
        await shard.send(b"x")
    with pytest.raises(ShardLost, match="shard 0"):
        await shard.send(b"x" * 2**20)


async def test_what_a_shard_raises_is_said(engine: Engine) -> None:
    shard = await engine.launch(3, b"raise what is wrong")
    assert await shard.receive() == b"last words"
    with pytest.raises(ShardLost, match=r"(?s)shard 3 ended.*ValueError: what is wrong"):
        await shard.receive()
    await shard.exited.wait()


async def test_a_shard_that_does_not_read_makes_the_driver_wait(engine: Engine) -> None:
    shard = await engine.launch(0, b"deaf")
    sent = 0
    with trio.move_on_after(0.5):
        for _ in range(2000):
            await shard.send(b"x" * 100_000)
            sent += 1
    assert sent < 2000
    await shard.receive()
    await shard.aclose()
    assert shard.exited.is_set()


async def test_waiting_for_a_message_may_be_cancelled(engine: Engine) -> None:
    shard = await engine.launch(0, b"echo first")
    assert await shard.receive() == b"first"
    for number in range(50):
        with trio.move_on_after(0.001):
            await shard.receive()
            raise AssertionError("nothing was said")
        await shard.send(b"%d" % number)
        received = []
        while not received:
            with trio.move_on_after(0.0001):
                received.append(await shard.receive())
        assert received == [b"%d" % number]


async def test_sending_may_be_cancelled_before_it_begins(engine: Engine) -> None:
    shard = await engine.launch(0, b"echo first")
    with trio.CancelScope() as scope:
        scope.cancel()
        await shard.send(b"never")
    assert scope.cancelled_caught
    await shard.send(b"second")
    assert [await shard.receive() for _ in range(2)] == [b"first", b"second"]


@pytest.mark.parametrize("first", [b"echo", b"deaf"])
async def test_closing_ends_it_for_all_who_wait(engine: Engine, first: bytes) -> None:
    shard = await engine.launch(0, first)
    await shard.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_lost, shard)
        await wait_all_tasks_blocked()
        await shard.aclose()
    assert shard.exited.is_set()
    await shard.aclose()
    with pytest.raises(ShardLost, match="shard 0 was closed"):
        await shard.send(b"x")
    with pytest.raises(ShardLost, match="shard 0 was closed"):
        await shard.receive()


async def test_two_may_close_it_at_once_and_be_cancelled(engine: Engine) -> None:
    shard = await engine.launch(0, b"deaf")
    await shard.receive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shard.aclose)
        nursery.start_soon(shard.aclose)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert shard.exited.is_set()


async def test_another_may_take_the_place_of_one_that_lives(engine: Engine) -> None:
    first = await engine.launch(7, b"echo a")
    second = await engine.launch(7, b"echo b")
    assert [await shard.receive() for shard in (first, second)] == [b"a", b"b"]
    await first.aclose()
    await second.send(b"c")
    assert await second.receive() == b"c"


async def test_what_was_not_closed_is_closed_in_the_end(make: Callable[[], Engine]) -> None:
    async with running(make()) as engine:
        shards = [await engine.launch(index, first) for index, first in enumerate([b"echo a", b"count 3"])]
        await shards[1].exited.wait()
    assert all(shard.exited.is_set() for shard in shards)


async def test_a_cancelled_driver_leaves_nothing(make: Callable[[], Engine]) -> None:
    with trio.CancelScope() as scope:
        async with running(make()) as engine:
            shard = await engine.launch(0, b"deaf")
            await shard.receive()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert shard.exited.is_set()


async def test_what_the_body_raises_leaves_as_it_is(make: Callable[[], Engine]) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with running(make()):
            raise error
    assert caught.value is error


async def test_shards_are_launched_inside(make: Callable[[], Engine]) -> None:
    with pytest.raises(RuntimeError, match=r"engine\.running"):
        await make().launch(0, b"echo")
