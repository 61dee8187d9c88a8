"""The programs in `examples`, run as a user would, against a crunch on sockets of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from trio_model_runner.signal import Signal
from trio_model_runner.testing import LocalCrunch

__all__ = ["EXAMPLES", "Program", "running"]

EXAMPLES = Path(__file__).parents[1] / "examples"


class Program:
    """A process, and what it has written so far.

    Attributes:
        process: the process.
        output: what it wrote to stdout and stderr.
        written: is sent when it has written something, or has ended.
    """

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.output = ""
        self.written = Signal()
        self._ended = trio.Event()

    async def read(self) -> None:
        """Keep what it writes until it ends."""
        assert self.process.stdout is not None
        async for chunk in self.process.stdout:
            self.output += chunk.decode()
            self.written.send()
        self._ended.set()
        self.written.send()

    @property
    def returncode(self) -> int | None:
        """How it ended."""
        return self.process.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    async def wait(self) -> None:
        """Wait until it has ended, and all is read that it wrote."""
        await self.process.wait()
        await self._ended.wait()


@asynccontextmanager
async def running(
    name: str, crunch: LocalCrunch, *arguments: str, **variables: str
) -> AsyncIterator[Program]:
    """Run a program while the block lasts; it finds the crunch by its environment, as in a container."""
    environment = {
        **os.environ,
        "TRIO_MODEL_RUNNER_CRUNCH_ID": crunch.crunch_id,
        "TRIO_MODEL_RUNNER_HOST": crunch.orchestrator.host,
        "TRIO_MODEL_RUNNER_PORT": str(crunch.orchestrator.port),
        **variables,
    }
    run = partial(
        trio.run_process,
        [sys.executable, str(EXAMPLES / name), *arguments],
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with trio.open_nursery() as nursery:
        program = Program(await nursery.start(run))
        async with trio.open_nursery() as reading:
            reading.start_soon(program.read)
            yield program
            if program.returncode is None:
                program.terminate()
            await program.wait()
