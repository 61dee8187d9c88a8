"""Ctrl-C in a terminal where a coordinator runs over processes: one traceback, no process left, and soon.

The driver's patience with shards is endless here, so that a test hangs where a bound is missing. It is a
process of its own; the nodes are in the test's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import pytest
import trio
from helpers.coordinating import Model
from helpers.processes import children_of

from trio_model_runner.testing import LocalCrunch

IDS = [f"model-{number}" for number in range(4)]

DRIVER = """
import sys, trio
from helpers.coordinating import SERVICE
from trio_model_runner import ClusterConfig
from trio_model_runner.sharding import ShardedCluster, local, shards

local._END_SECONDS = shards._LEAVING = 600.0
moment = sys.argv[3]

async def on_join(join):
    if moment == "joining":
        print("now", flush=True)
        await join.model.call("hang", timeout=600)

async def main():
    config = ClusterConfig("local", host=sys.argv[1], port=int(sys.argv[2]), startup_timeout=600)
    if moment == "launching":
        print("now", flush=True)
    async with ShardedCluster(config, SERVICE, shards=2, on_join=on_join) as cluster:
        print("now", flush=True)
        if moment == "in a round":
            await cluster.call("hang", timeout=600)
        if moment != "leaving":
            await trio.sleep_forever()

async def beside():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(main)

trio.run(beside if sys.argv[4:] else main)
"""


@attrs.define(eq=False)
class Driven:
    """A driver at some moment.

    Attributes:
        process: the driver.
        shards: its shards, by their processes' numbers.
    """

    process: trio.Process
    shards: set[int]

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def stop_a_shard(self) -> None:
        os.kill(min(self.shards), signal.SIGSTOP)

    async def end(self) -> str:
        """Wait until it and all its shards have ended; return what it has written to stderr."""
        assert self.process.stderr is not None
        ends = []
        for each in self.shards:
            with suppress(ProcessLookupError):
                ends.append(os.pidfd_open(each))
        said = b""
        while more := await self.process.stderr.receive_some():
            said += more
        await self.process.wait()
        for end in ends:
            await trio.lowlevel.wait_readable(end)
            os.close(end)
        return said.decode()


@asynccontextmanager
async def driven(moment: str, *more: str) -> AsyncIterator[Driven]:
    with trio.fail_after(60):
        async with LocalCrunch(dict.fromkeys(IDS, Model)) as crunch:
            address = [crunch.orchestrator.host, str(crunch.orchestrator.port)]
            process = await trio.lowlevel.open_process(
                [sys.executable, "-c", DRIVER, *address, moment, *more],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            assert process.stdout is not None
            assert process.stderr is not None
            children: set[int] = set()
            try:
                assert await process.stdout.receive_some()
                while len(children := children_of(process.pid)) < 2:  # noqa: ASYNC110 - nobody is told
                    await trio.sleep(0.01)
                if moment == "in a round":
                    await crunch.node(IDS[0]).wait_for_calls(1)
                yield Driven(process, children)
            finally:
                process.kill()
                for each in children:
                    with suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
                await process.wait()
                await process.stdout.aclose()
                await process.stderr.aclose()


def check_one_traceback(said: str) -> None:
    assert said.startswith("Traceback"), said
    assert said.rstrip().endswith("KeyboardInterrupt"), said
    assert said.count("Traceback") == 1, said


@pytest.mark.parametrize(
    ("moment", "stopped"),
    [("launching", False), ("joining", True), ("in a round", True), ("idle", False), ("leaving", True)],
)
async def test_ctrl_c_at_any_moment(moment: str, stopped: bool) -> None:
    """Also beside a shard that is stopped: that one can't say goodbye, and is ended."""
    async with driven(moment) as here:
        if stopped:
            here.stop_a_shard()
        here.interrupt()
        check_one_traceback(await here.end())


async def test_a_second_ctrl_c_says_no_more() -> None:
    async with driven("in a round") as here:
        here.stop_a_shard()
        here.interrupt()
        await trio.sleep(0.1)
        here.interrupt()
        check_one_traceback(await here.end())


async def test_ctrl_c_that_comes_to_another_task_ends_a_stopped_shard_as_well() -> None:
    """The main task waits in a nursery of its own, and cancels the one that has the cluster."""
    async with driven("idle", "beside") as here:
        here.stop_a_shard()
        here.interrupt()
        said = await here.end()
        assert "KeyboardInterrupt" in said
        assert "ShardLost" not in said
