"""Shards as tasks: what a test can do to one, on a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from helpers.checkpoints import cancel_everywhere
from helpers.remains import our_tasks
from helpers.served_shards import scripted
from trio.testing import MockClock

from trio_model_runner.sharding.engine import ShardLost
from trio_model_runner.testing.shard_engine import InProcessEngine, InProcessShard


@asynccontextmanager
async def launched(first_message: bytes) -> AsyncIterator[InProcessShard]:
    engine = InProcessEngine(scripted)
    async with engine.running():
        shard = await engine.launch(4, first_message)
        assert engine.shards[4] is shard
        yield engine.shards[4]


async def test_a_killed_one_is_gone_at_once(autojump_clock: MockClock) -> None:
    async with launched(b"deaf") as shard:
        await shard.receive()
        before = trio.current_time()
        shard.kill()
        with pytest.raises(ShardLost, match="shard 4 was killed"):
            await shard.receive()
        await shard.exited.wait()
        assert trio.current_time() == before


async def test_what_came_before_the_kill_is_received(autojump_clock: MockClock) -> None:
    async with launched(b"count 5") as shard:
        await trio.testing.wait_all_tasks_blocked()
        shard.kill()
        assert [await shard.receive() for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        with pytest.raises(ShardLost, match="shard 4 has ended"):
            await shard.receive()


async def test_one_that_shields_itself_has_not_exited_until_it_has(autojump_clock: MockClock) -> None:
    async with launched(b"stubborn 1") as shard:
        await shard.receive()
        before = trio.current_time()
        shard.kill()
        await shard.exited.wait()
        assert trio.current_time() - before == pytest.approx(1.0)


async def test_frozen_messages_wait_both_ways(autojump_clock: MockClock) -> None:
    async with launched(b"echo a") as shard:
        assert await shard.receive() == b"a"
        shard.freeze()
        await shard.send(b"b")
        with trio.move_on_after(10):
            await shard.receive()
            raise AssertionError("it is frozen")
        before = trio.current_time()
        shard.thaw()
        assert await shard.receive() == b"b"
        assert trio.current_time() == before


async def test_a_cut_one_lives(autojump_clock: MockClock) -> None:
    async with launched(b"echo a") as shard:
        assert await shard.receive() == b"a"
        shard.delay(1.0)
        await shard.send(b"b")
        shard.cut()
        for use in (shard.receive(), shard.send(b"x")):
            with pytest.raises(ShardLost, match="the connection to shard 4 is gone"):
                await use
    async with launched(b"deaf") as shard:
        await shard.receive()
        shard.cut()
        await trio.sleep(100)
        assert not shard.exited.is_set()


async def test_delayed_messages_arrive_in_order(autojump_clock: MockClock) -> None:
    async with launched(b"echo a") as shard:
        assert await shard.receive() == b"a"
        before = trio.current_time()
        shard.delay(1.5)
        await shard.send(b"b")
        shard.delay(0.0)
        await shard.send(b"c")
        assert [await shard.receive() for _ in range(2)] == [b"b", b"c"]
        assert trio.current_time() - before == pytest.approx(1.5)


async def test_what_it_raises_is_kept(autojump_clock: MockClock) -> None:
    async with launched(b"raise this") as shard:
        await shard.exited.wait()
        assert repr(shard.error) == "ValueError('this')"


async def test_a_cancelled_driver_is_gone_for_its_shards(autojump_clock: MockClock) -> None:
    said = []

    async def serve(first_message: bytes, send: object, receive: Callable[[], Awaitable[bytes]]) -> None:
        try:
            await receive()
        except BaseException as error:
            said.append(type(error))
            raise

    engine = InProcessEngine(serve)
    with trio.CancelScope() as scope:
        async with engine.running():
            await engine.launch(0, b"")
            scope.cancel()
            await trio.sleep_forever()
    assert said == [ShardLost]


async def test_launches_may_fail(autojump_clock: MockClock) -> None:
    engine = InProcessEngine(scripted)
    async with engine.running():
        engine.refusal = "no room"
        with pytest.raises(ShardLost, match="shard 0 can't be started: no room"):
            await engine.launch(0, b"echo")
        engine.refusal = None
        await engine.launch(0, b"echo")


async def test_it_may_be_cancelled_everywhere(autojump_clock: MockClock) -> None:
    @asynccontextmanager
    async def running() -> AsyncIterator[InProcessEngine]:
        before = our_tasks()
        engine = InProcessEngine(scripted)
        async with engine.running():
            yield engine
        assert all(shard.exited.is_set() for shard in engine.shards.values())
        assert our_tasks() == before

    async def scenario(engine: InProcessEngine) -> None:
        shard = await engine.launch(0, b"echo a")
        await shard.receive()
        await shard.send(b"b")
        await shard.receive()
        await shard.aclose()
        with pytest.raises(ShardLost):
            await shard.receive()

    async def check(engine: InProcessEngine, cut_short: bool) -> None:
        shard = await engine.launch(1, b"echo b")
        assert await shard.receive() == b"b"

    assert await cancel_everywhere(running, scenario, check) > 5
