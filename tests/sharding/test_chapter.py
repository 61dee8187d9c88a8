"""What the README of sharding shows works as it stands: its programs, and the commands for a Dask cluster."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from helpers.documents import block

from trio_model_runner.signal import Signal
from trio_model_runner.testing import LocalCrunch

ON_ONE_MACHINE = "sharding/README.md#on-one-machine"
ON_DASK = "sharding/README.md#on-a-dask-cluster"
PROGRAM_ON_DASK = "sharding/README.md#on-a-dask-cluster/4"
PATIENT = 60.0
MODELS = [f"model-{number}" for number in range(6)]


class Bird:
    def predict(self, horizon: int) -> float:
        return 19.2 + horizon


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


async def run_program(code: str, crunch: LocalCrunch, directory: Path) -> list[str]:
    """Save a program, and run it as the README says; the lines that it prints."""
    (directory / "birds.py").write_text(code)
    (directory / "config.toml").write_text(
        f'[trio-model-runner]\ncrunch_id = "{crunch.crunch_id}"\nport = {crunch.orchestrator.port}\n'
    )
    _, *arguments = shlex.split(block(f"{ON_ONE_MACHINE}/2"))
    done = await trio.run_process(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env=environment(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().splitlines()


def is_full(line: str) -> bool:
    return bool(re.fullmatch(r"round \d+: predict: 6 of 6 SUCCESS in \S+ s of \S+ s", line))


async def test_the_program_for_one_machine_runs(tmp_path: Path) -> None:
    with trio.fail_after(PATIENT):
        async with LocalCrunch(dict.fromkeys(MODELS, Bird)) as crunch:
            lines = await run_program(block(ON_ONE_MACHINE), crunch, tmp_path)
    assert is_full(lines[0])
    # A shard on a machine that stood still seems silent.
    shards = [re.fullmatch(r"shard (\d) (?:up|silent) (\d+) models", line) for line in lines[1:]]
    assert [each[1] for each in shards if each] == ["0", "1"]
    assert sum(int(each[2]) for each in shards if each) == len(MODELS)


async def test_the_commands_for_dask_make_a_cluster_that_the_program_uses(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    def shown(number: int) -> str:
        name = ON_DASK if number == 1 else f"{ON_DASK}/{number}"
        return block(name).replace("8786", str(port))

    await trio.run_process(
        ["sh", "-e", "-c", shown(1)], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with trio.fail_after(PATIENT):
        async with (
            LocalCrunch(dict.fromkeys(MODELS, Bird)) as crunch,
            running(shown(2), tmp_path) as scheduler,
            running(shown(3), tmp_path) as worker,
            running(shown(3), tmp_path) as other_worker,
        ):
            await scheduler.wait_until_it_says("Scheduler at:")
            await worker.wait_until_it_says("Registered to:")
            await other_worker.wait_until_it_says("Registered to:")
            (line,) = await run_program(shown(4), crunch, tmp_path)
    assert is_full(line)


class Running:
    """A command of Dask's that runs."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = b""
        self._news = Signal()

    async def read(self) -> None:
        assert self._process.stdout is not None
        async for data in self._process.stdout:
            self._said += data
            self._news.send()
        await self._process.wait()
        self._news.send()

    async def wait_until_it_says(self, text: str) -> None:
        await self._news.wait_until(
            lambda: text.encode() in self._said or self._process.returncode is not None
        )
        assert text.encode() in self._said, self._said.decode()


@asynccontextmanager
async def running(command: str, directory: Path) -> AsyncIterator[Running]:
    """Run a command of Dask's while the block lasts."""
    name, *arguments = shlex.split(command)
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", name, *arguments],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        async with trio.open_nursery() as nursery:
            program = Running(process)
            nursery.start_soon(program.read)
            yield program
            nursery.cancel_scope.cancel()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def test_the_names_are_there_without_dask_and_cost_nothing_to_those_who_need_none() -> None:
    program = """
import sys
sys.modules["distributed"] = None  # as if it were not installed
import trio_model_runner
from trio_model_runner import Cluster
assert not any(name.startswith("trio_model_runner.sharding") for name in sys.modules)
from trio_model_runner.sharding import DaskEngine, Engine, LocalEngine, Shard, ShardedCluster, ShardLost
try:
    DaskEngine("tls://127.0.0.1:8786")
except trio_model_runner.ConfigError as error:
    assert "needs distributed" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], env=environment(), timeout=60, check=True)
