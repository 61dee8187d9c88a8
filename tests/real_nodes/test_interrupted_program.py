"""A coordinator's program of its own, interrupted with Ctrl-C at awkward moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_model_runner
from trio_model_runner.testing import LocalCrunch

from .clusters import announced
from .node_process import NodePool, NodeProcess
from .waiting import Release, wait_for_holding, wait_until

EXIT_TIMEOUT = 2.0 + 5.0
"""Seconds: what leaving the cluster may take, and what a busy machine may add."""

PROGRAM = """
import stat, sys
import trio
from trio_model_runner import Arguments, Cluster, ClusterConfig, DynamicSubclassService

async def on_join(join):
    if sys.argv[2] == "joining":
        await join.model.call("hold", Arguments(sys.argv[3]), timeout=50)

async def main():
    config = ClusterConfig("local", "127.0.0.1", int(sys.argv[1]), timeout=50, startup_timeout=50)
    async with Cluster(config, DynamicSubclassService("tracker.Tracker"), on_join=on_join) as cluster:
        print("entered", flush=True)
        if sys.argv[2] == "between rounds":
            await trio.sleep_forever()
        if sys.argv[2] == "busy loop":
            while True:
                await cluster.call("pid")
        if sys.argv[2] == "one by one":
            async with cluster.as_completed("hold", Arguments(sys.argv[3])) as results:
                async for result in results:
                    print(result)
        print(await cluster.call("hold", Arguments(sys.argv[3])))
"""

CAUGHT = """
import os
try:
    trio.run(main)
except KeyboardInterrupt:
    descriptors = [descriptor for descriptor in range(3, 256) if os.path.exists(f"/dev/fd/{descriptor}")]
    print("open sockets:", sum(stat.S_ISSOCK(os.fstat(each).st_mode) for each in descriptors))
"""

NOT_CAUGHT = """
trio.run(main)
"""


@pytest.fixture(scope="module")
def nodes(shared_pool: NodePool) -> list[NodeProcess]:
    return shared_pool.start("steady", "unfinished")


class Program:
    """A program that runs until it is interrupted."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.output = ""
        self.errors = ""

    async def read_output(self) -> None:
        assert self.process.stdout is not None
        async for data in self.process.stdout:
            self.output += data.decode()

    async def read_errors(self) -> None:
        assert self.process.stderr is not None
        async for data in self.process.stderr:
            self.errors += data.decode()

    async def wait_for_output(self, text: str) -> None:
        await wait_until(lambda: text in self.output or self.process.poll() is not None)
        assert text in self.output, self.errors

    async def interrupt(self) -> None:
        """Interrupt it as a terminal does, and wait until it has ended."""
        self.process.send_signal(signal.SIGINT)
        with trio.fail_after(EXIT_TIMEOUT):
            await self.process.wait()


async def start(
    nursery: trio.Nursery, crunch: LocalCrunch, directory: Path, text: str, *more: str
) -> Program:
    path = directory / "coordinator.py"
    path.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": str(Path(trio_model_runner.__file__).parents[1])}
    command = [sys.executable, "-X", "dev", str(path), str(crunch.orchestrator.port), *more]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    program = Program(await trio.lowlevel.open_process(command, env=environment, **pipes))
    nursery.start_soon(program.read_output)
    nursery.start_soon(program.read_errors)
    return program


@pytest.mark.parametrize("moment", ["joining", "between rounds", "in a round", "busy loop", "one by one"])
@pytest.mark.parametrize("end", [CAUGHT, NOT_CAUGHT], ids=["caught", "not caught"])
async def test_an_interrupted_program_ends_at_once_with_nothing_but_that(
    nodes: list[NodeProcess], tmp_path: Path, release: Release, moment: str, end: str
) -> None:
    holdings = [node.count_holdings() for node in nodes]
    async with announced(nodes) as crunch:
        async with trio.open_nursery() as nursery:
            program = await start(nursery, crunch, tmp_path, PROGRAM + end, moment, release.path)
            try:
                if moment in ("between rounds", "busy loop"):
                    await program.wait_for_output("entered")
                else:
                    for node, times in zip(nodes, holdings, strict=True):
                        await wait_for_holding([node], times + 1)
                await program.interrupt()
            finally:
                program.process.kill()
        await wait_until(lambda: crunch.orchestrator.connections == 0)
    lines = program.errors.splitlines()
    if end is CAUGHT:
        assert program.process.returncode == 0, program.errors
        assert lines == []
        assert program.output.endswith("open sockets: 0\n")
    else:
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1] == "KeyboardInterrupt"
        assert program.errors.count("Traceback") == 1, program.errors
        assert "Error" not in program.errors
        assert "Warning" not in program.errors


async def test_a_program_interrupted_while_it_enters(
    nodes: list[NodeProcess], pool: NodePool, tmp_path: Path
) -> None:
    hanging = pool.create("hanging")
    hanging.start()
    await trio.to_thread.run_sync(hanging.wait_ready)
    async with announced([*nodes, hanging]) as crunch, trio.open_nursery() as nursery:
        program = await start(nursery, crunch, tmp_path, PROGRAM + CAUGHT, "entering")
        try:
            await wait_for_holding([hanging])
            await program.interrupt()
        finally:
            program.process.kill()
    assert (program.output, program.errors) == ("open sockets: 0\n", "")
