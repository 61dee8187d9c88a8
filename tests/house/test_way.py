"""A call's way, from `Cluster.call` to the socket and back, leads through few files.

Whoever looks for a fault in a call reads these files. `trio_model_runner.cluster` describes the way in ten
lines. The goal is 20 files; the way may not grow beyond what it has reached. It did by two: `stream_frames`
is what `http2` knew of single streams, and `results` is seen since it has a converter of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import trio_model_runner
from trio_model_runner import Cluster, ClusterConfig, DynamicSubclassService

FILES = 23
PACKAGE = Path(trio_model_runner.__file__).parent

CRUNCH = """
import sys, trio
from trio_model_runner.testing import LocalCrunch

class Model:
    def predict(self):
        return 1.5

async def main():
    async with LocalCrunch(dict.fromkeys("abc", Model)) as crunch:
        print(crunch.orchestrator.port, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)

trio.run(main)
"""
"""A crunch in a process of its own, where nothing of it is seen. It ends when its standard input does."""


@pytest.fixture
def crunch_port() -> Iterator[int]:
    command = [sys.executable, "-c", CRUNCH]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate()


@contextmanager
def files_passed() -> Iterator[set[str]]:
    """The files of ours of which a function is called in this block."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            seen.add(frame.f_code.co_filename)

    files: set[str] = set()
    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)
        paths = (Path(name) for name in seen)
        files.update(str(path.relative_to(PACKAGE)) for path in paths if path.is_relative_to(PACKAGE))


async def test_a_call_passes_few_files(crunch_port: int) -> None:
    config = ClusterConfig("local", "127.0.0.1", crunch_port)
    rounds: list[set[str]] = []
    async with Cluster(config, DynamicSubclassService("module.Class")) as cluster:
        await cluster.call("predict")  # which fills the caches
        for _ in range(15):  # of which the one with the least is not mixed up with anything else that happens
            with files_passed() as files:
                results = await cluster.call("predict")
            assert [result.value for result in results.values()] == [1.5] * 3
            rounds.append(files)
    way = min(rounds, key=len)
    assert {"cluster/cluster.py", "model/call.py", "rpc/connection.py", "rpc/writer.py"} < way
    if len(way) > FILES:
        pytest.fail(f"{len(way)} files instead of {FILES}:\n" + "\n".join(sorted(way)))
