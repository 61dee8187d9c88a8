"""Programs that end without `close`: at once, with nothing of ours on stderr, and with all peers told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.cluster_scenarios import Witness
from helpers.coordinating import Model

import trio_model_runner
from trio_model_runner.testing import LocalCrunch

PROGRAM = """
import asyncio, sys, threading
from trio_model_runner.compat import DynamicSubclassModelConcurrentRunner

runner = DynamicSubclassModelConcurrentRunner(60, "local", "127.0.0.1", int(sys.argv[1]), "crunch.Model")

async def main():
    await runner.init()
    syncing = asyncio.create_task(runner.sync())
    print("entered", flush=True)
    assert len(await runner.call("predict")) == 2
    await end()

async def hang():
    await runner.call("hang")

async def leave():
    sys.exit(3)

async def fail():
    asyncio.get_running_loop().kept = asyncio.create_task(hang())
    await asyncio.sleep(0.1)
    raise ValueError("the coordinator's own")
"""

HELD_UP = """
import os, signal
from trio_model_runner.cluster.cluster import Cluster

leave = Cluster.__aexit__

async def leave_late(*arguments):
    import trio
    print("held up", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    with trio.CancelScope(shield=True):
        await trio.sleep(0.5)
    return await leave(*arguments)

Cluster.__aexit__ = leave_late
"""

RUN = """
try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
print([thread.name for thread in threading.enumerate()])
"""

DROPPED = """
async def only_begin():
    await runner.init()
    print("entered", flush=True)

loop = asyncio.new_event_loop()
loop.run_until_complete(only_begin())
loop.close()  # and neither its tasks nor its generators
"""


FORKED = """
import os

async def use_there():
    async def call():
        await runner.call("predict")

    assert len(runner.model_cluster.models_run) == 0
    for use in (runner.init, runner.sync, call):
        try:
            await use()
        except RuntimeError as error:
            assert "forked: make another one" in str(error), error
        else:
            raise AssertionError(use)
    await runner.close()

async def begin():
    await runner.init()
    print("entered", flush=True)

loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
child = os.fork()
if child == 0:
    asyncio.run(use_there())  # and not in the other loop, whose sockets are the parent's, too
else:
    assert os.waitpid(child, 0)[1] == 0
    assert len(loop.run_until_complete(runner.call("predict"))) == 2
    loop.close()
"""


async def run(program: str, port: int, *, interrupt: Any = None) -> tuple[int, str, str]:
    """Run a program to its end: its exit code, output and errors.

    Args:
        program: its text.
        port: the orchestrator's.
        interrupt: waits until it is to be interrupted; None does not.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *sys.path[1:]]))}
    command = [sys.executable, "-W", "error", "-c", program, str(port)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = await trio.lowlevel.open_process(command, env=environment, **pipes)
    texts = {"stdout": b"", "stderr": b""}

    async def read(name: str) -> None:
        async for data in getattr(process, name):
            texts[name] += data

    async with trio.open_nursery() as nursery:
        try:
            nursery.start_soon(read, "stdout")
            nursery.start_soon(read, "stderr")
            if interrupt is not None:
                await interrupt()
                process.send_signal(signal.SIGINT)
            await process.wait()
        finally:
            process.kill()
    assert process.returncode is not None
    return process.returncode, texts["stdout"].decode(), texts["stderr"].decode()


ROOT = Path(trio_model_runner.__file__).parents[1]


async def check_told(crunch: LocalCrunch, witness: Witness) -> None:
    while crunch.orchestrator.connections:  # noqa: ASYNC110 - the end of one is nobody's event
        await trio.sleep(0.01)
    for connection in witness.called:
        await connection.ended.wait()
    witness.check_goodbyes()
    assert [each.closed and each.closed.code for each in witness.websockets] == [1000]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("end = hang" + RUN, 0, "entered\n['MainThread']\n"),
        ("end = leave" + RUN, 3, "entered\n"),
        ("end = fail" + RUN, 1, "entered\n"),
        (DROPPED, 0, "entered\n"),
        (FORKED, 0, "entered\n"),
    ],
    ids=["interrupted", "exit", "exception", "dropped loop", "forked"],
)
async def test_all_are_told_and_nothing_is_said(end: str, code: int, said: str) -> None:
    async def both_hang() -> None:
        for model_id in "ab":
            await crunch.node(model_id).wait_for_calls(2)

    witness = Witness()
    async with witness.watching(), LocalCrunch(dict.fromkeys("ab", Model)) as crunch:
        interrupt = both_hang if "hang" in end else None
        ended, output, errors = await run(PROGRAM + end, crunch.orchestrator.port, interrupt=interrupt)
        assert (ended, output) == (code, said), errors
        if code == 1:
            assert errors.count("Traceback") == 1, errors
            assert errors.endswith("ValueError: the coordinator's own\n")
        else:
            assert errors == ""
        await check_told(crunch, witness)


async def test_a_second_interrupt_ends_the_wait_without_a_word() -> None:
    """The first cancels the call; the second comes while the nodes are told, which is held up."""

    async def both_hang() -> None:
        for model_id in "ab":
            await crunch.node(model_id).wait_for_calls(2)

    async with LocalCrunch(dict.fromkeys("ab", Model)) as crunch:
        program = PROGRAM + HELD_UP + "end = hang" + RUN
        code, output, errors = await run(program, crunch.orchestrator.port, interrupt=both_hang)
        assert (code, errors) == (0, "")
        assert output == "entered\nheld up\n['MainThread', 'trio_model_runner.compat']\n"


async def test_an_interrupt_while_it_begins() -> None:
    async def begun() -> None:
        await crunch.orchestrator.wait_for_connections(1)

    witness = Witness()
    async with witness.watching(), LocalCrunch(dict.fromkeys("ab", Model)) as crunch:
        crunch.orchestrator.greeting = []  # no list of models comes
        _, output, errors = await run(PROGRAM + RUN, crunch.orchestrator.port, interrupt=begun)
        assert (output, errors) == ("['MainThread']\n", "")
        await check_told(crunch, witness)
