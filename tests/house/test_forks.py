"""Children that were forked, such as a process pool's, hold nothing open for a coordinator that is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.played import listening, played

from trio_model_runner import forks
from trio_model_runner.instruments import RoundRecorder, StatusSocket

TESTS = Path(__file__).parents[1]

FORKING = """
import os, signal, sys, time, trio
sys.path[:0] = sys.argv[2:]
os.chdir(sys.argv[1])
from helpers.played import listening
from trio_model_runner.instruments import RoundRecorder, StatusSocket
from trio_model_runner.testing import LocalCrunch

def fork():
    child = os.fork()
    if not child:
        os.dup2(2, 1)  # or whoever reads this process's output would wait
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
"""

KILLED = """
async def main():
    async with listening(RoundRecorder("rounds.jsonl")), listening(StatusSocket("status.sock")):
        print("listens", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        fork()
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""

CRASHED = """
async def main():
    async with LocalCrunch({"a": object()}) as crunch:
        node = crunch.node("a")
        stream = await trio.open_tcp_stream(node.host, node.port)
        await stream.receive_some()
        fork()
        await crunch.crash("a")
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            print("broken", flush=True)
        await crunch.recover("a")
        await trio.open_tcp_stream(node.host, node.port)
    print("left", flush=True)

trio.run(main)
"""


@contextlib.contextmanager
def forking(program: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "ignore", "-c", FORKING + program, directory, TESTS, TESTS.parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    return map(str.strip, process.stdout)


async def test_after_a_kill_the_next_coordinator_starts_beside_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with forking(KILLED, tmp_path) as process, socket.socket(socket.AF_UNIX) as reader:
        said = lines(process)
        assert next(said) == "listens"
        reader.connect("status.sock")
        reader.settimeout(30)
        assert reader.recv(1 << 16)
        print(file=process.stdin, flush=True)
        child = int(next(said))
        try:
            assert process.wait(30) == -signal.SIGKILL
            assert not reader.recv(1 << 16)
            async with (
                listening(recorder := RoundRecorder("rounds.jsonl")),
                listening(StatusSocket("status.sock")),
            ):
                recorder.round_ended(None, played())
        finally:
            os.kill(child, signal.SIGKILL)
    assert (tmp_path / "rounds.jsonl").read_bytes().count(b"\n") == 1


def test_local_nodes_die_and_come_back_beside_a_child(tmp_path: Path) -> None:
    with forking(CRASHED, tmp_path) as process:
        said = lines(process)
        child = int(next(said))
        try:
            assert list(said) == ["broken", "left"]
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("descriptors_left", [True, False])
def test_in_a_child_the_null_device_is_in_their_place(
    descriptors_left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "_kept", weakref.WeakSet())
    ours, theirs = socket.socketpair()
    closed, other = socket.socketpair()
    with ours, theirs, other:
        for each in (ours, closed):
            forks.keep_from_children(each)
        closed.close()
        number = ours.fileno()
        if not descriptors_left:
            monkeypatch.setattr(os, "devnull", "/nowhere")
        forks._let_go()
        assert theirs.recv(1) == b""  # as if this were a child, and had the only copy
        assert not descriptors_left or os.path.samestat(os.fstat(number), Path("/dev/null").stat())
        assert descriptors_left or ours.detach() == number
