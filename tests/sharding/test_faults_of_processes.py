"""What happens when processes are killed, stopped or interrupted: shards, and the driver.

The nodes run in the test's process, and see who has called them. What takes long is on a clock that jumps, in
`test_faults`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import attrs
import pytest
import trio
from helpers.callers import MARKED, Callers
from helpers.coordinating import SERVICE, Model, until
from helpers.insides import counts_of
from helpers.processes import children_of, shard_processes

from trio_model_runner import Arguments, Join
from trio_model_runner.sharding import LocalEngine, ShardedCluster, local, shards
from trio_model_runner.testing import LocalCrunch

IDS = [f"model-{number}" for number in range(6)]
LOST = 1


@attrs.define(eq=False)
class Scene:
    """A crunch, and a cluster whose shards are processes.

    Attributes:
        joins: who has joined.
    """

    crunch: LocalCrunch
    callers: Callers
    cluster: ShardedCluster
    engine: LocalEngine
    joins: list[str]

    def of(self, shard: int) -> list[str]:
        return [each for each in IDS if self.callers.shards(each)[-1:] == [shard]]

    def send_signal(self, number: int) -> None:
        """Send a signal to the process of a shard."""
        (shard,) = [each for each in self.engine._shards if each._index == LOST]
        os.kill(shard.pid, number)

    async def all_ready(self) -> None:
        await until(self.cluster, lambda: len(self.cluster.models) == len(IDS))


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    joins: list[str] = []

    async def on_join(join: Join) -> None:
        joins.append(join.model.model_id)
        (await join.model.call("tick", Arguments("joined"))).unwrap()

    engine = LocalEngine(serve=MARKED)
    with trio.fail_after(60):
        async with LocalCrunch(dict.fromkeys(IDS, Model)) as crunch:
            callers = Callers(crunch)
            cluster = ShardedCluster(crunch.config(), SERVICE, shards=2, engine=engine, on_join=on_join)
            with callers.watching():
                async with cluster:
                    here = Scene(crunch, callers, cluster, engine, joins)
                    await here.all_ready()
                    assert here.of(LOST)
                    yield here
            callers.check()
    assert shard_processes() == set()


async def test_a_shard_that_is_killed_in_a_round() -> None:
    async with scene() as here:
        lost, results = here.of(LOST), []

        async def call() -> None:
            results.append(await here.cluster.call("sleep", Arguments(1.0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await here.crunch.node(lost[0]).wait_for_calls(2)
            here.send_signal(signal.SIGKILL)
        assert {model.model_id for model in results[0].failed} == set(lost)
        assert len(results[0].succeeded) == len(IDS) - len(lost)
        for result in results[0].failed.values():
            assert "connection lost: shard 1 was lost: ended with exit code -9 (SIGKILL)" in result.detail
            assert counts_of(result.model) == (0, 0, 0)
        await here.all_ready()
        assert len((await here.cluster.call("tick", Arguments("after"))).succeeded) == len(IDS)
        assert sorted(here.joins) == IDS
        assert [here.callers.shards(each) for each in lost] == [[LOST, 0]] * len(lost)


async def test_a_shard_that_was_stopped_past_its_lease_writes_nothing_any_more() -> None:
    async with scene() as here:
        lost = here.of(LOST)
        node = here.crunch.node(lost[0])
        node.pause()
        large = Arguments("large", "x" * 1_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(here.cluster.call, "tick", large, timeout=20.0))
            await here.crunch.node(lost[1]).wait_for_calls(2)
            here.send_signal(signal.SIGSTOP)
            node.resume()  # there would be room for the rest of the request now
            await until(here.cluster, lambda: lost[0] not in here.cluster.models)
        here.send_signal(signal.SIGCONT)
        await here.all_ready()
        assert len((await here.cluster.call("tick", Arguments("after"))).succeeded) == len(IDS)
        assert [call.args[0] for call in node.calls] == ["joined", "after"]
        assert [here.callers.shards(each) for each in lost] == [[LOST, 0]] * len(lost)
        assert sorted(here.joins) == IDS


@pytest.mark.parametrize("side", [socket.SHUT_WR, socket.SHUT_RD])
async def test_a_way_that_is_closed_in_one_direction_is_lost_in_both(side: int) -> None:
    """The pair of sockets can't be cut beneath both, as TCP can; but one end may close half of it."""
    async with scene() as here:
        lost = here.of(LOST)
        (shard,) = [each for each in here.engine._shards if each._index == LOST]
        results = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _() -> None:
                results.append(await here.cluster.call("sleep", Arguments(1.0)))

            await here.crunch.node(lost[0]).wait_for_calls(2)
            shard._stream._socket.shutdown(side)
        assert {model.model_id for model in results[0].failed} == set(lost)
        await shard.exited.wait()
        await here.all_ready()
        assert len((await here.cluster.call("tick", Arguments("after"))).succeeded) == len(IDS)
        assert sorted(here.joins) == IDS
        assert [here.callers.shards(each) for each in lost] == [[LOST, 0]] * len(lost)


async def test_a_stopped_shard_holds_up_nobody_who_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_END_SECONDS", 60.0)
    monkeypatch.setattr(shards, "_LEAVING", 0.2)
    async with scene() as here:
        here.send_signal(signal.SIGSTOP)
        began = trio.current_time()
    assert trio.current_time() - began < 8.0


DRIVER = """
import itertools, os, sys, time, trio
from helpers.callers import MARKED
from helpers.coordinating import SERVICE
from trio_model_runner import Arguments, ClusterConfig
from trio_model_runner.sharding import LocalEngine, ShardedCluster

async def main():
    config = ClusterConfig("local", host=sys.argv[1], port=int(sys.argv[2]))
    print("entering", flush=True)
    async with ShardedCluster(config, SERVICE, shards=2, engine=LocalEngine(serve=MARKED)) as cluster:
        if "fork" in sys.argv and not (child := os.fork()):
            time.sleep(20)
            os._exit(0)
        for number in itertools.count():
            results = await cluster.call(sys.argv[3], Arguments(number), timeout=2.0)
            print(len(results.succeeded), len(cluster.models), flush=True)
            await trio.sleep(0.1)

trio.run(main)
"""


@attrs.define(eq=False)
class Driven:
    """A crunch, and another process that coordinates it."""

    crunch: LocalCrunch
    callers: Callers
    process: trio.Process

    async def read(self) -> str:
        """The next lines that it prints; "" if it has ended."""
        assert self.process.stdout is not None
        return (await self.process.stdout.receive_some()).decode()

    async def wait_round(self, count: int = len(IDS)) -> None:
        """Wait until it has made a round in which so many models have answered."""
        while f"{count} {len(IDS)}\n" not in await self.read():
            pass


@asynccontextmanager
async def driven(method: str = "tick", *more: str) -> AsyncIterator[Driven]:
    with trio.fail_after(60):
        async with LocalCrunch(dict.fromkeys(IDS, Model)) as crunch:
            callers = Callers(crunch)
            address = [crunch.orchestrator.host, str(crunch.orchestrator.port)]
            with callers.watching():
                process = await trio.lowlevel.open_process(
                    [sys.executable, "-c", DRIVER, *address, method, *more],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
                try:
                    yield Driven(crunch, callers, process)
                finally:
                    process.kill()
                    await process.wait()
                    for pipe in (process.stdout, process.stderr):
                        assert pipe is not None
                        await pipe.aclose()
            callers.check(most_moves=0)


@contextmanager
def ends_of(processes: set[int]) -> Iterator[list[int]]:
    """Descriptors that can be read from when the processes have ended."""
    descriptors = [os.pidfd_open(each) for each in processes]
    try:
        yield descriptors
    finally:
        for each in descriptors:
            os.close(each)


async def test_a_driver_that_was_stopped_goes_on_with_all_shards() -> None:
    async with driven() as here:
        await here.wait_round()
        here.process.send_signal(signal.SIGSTOP)
        await trio.sleep(4.0)  # past all leases
        counts = [here.crunch.node(each).call_count for each in IDS]
        await trio.sleep(0.5)
        assert counts == [here.crunch.node(each).call_count for each in IDS]
        here.process.send_signal(signal.SIGCONT)
        await here.wait_round()
        await here.wait_round()


@pytest.mark.parametrize("how", [(), ("fork",)])
async def test_a_driver_that_is_killed_leaves_neither_shards_nor_connections(how: tuple[str, ...]) -> None:
    """Also not if it has forked a child, as for a process pool, that lives on for 20 s."""
    async with driven("sleep", *how) as here:
        await here.crunch.node(IDS[0]).wait_for_calls(2)
        shards = children_of(here.process.pid) - children_of(here.process.pid, b"itertools")
        with ends_of(shards) as ends, trio.fail_after(15):
            assert len(ends) == 2
            assert len(children_of(here.process.pid)) == 2 + len(how)
            here.process.kill()
            for end in ends:
                await trio.lowlevel.wait_readable(end)
        while any(here.crunch.node(each).connections for each in IDS):  # noqa: ASYNC110 - nobody is told
            await trio.sleep(0.01)
