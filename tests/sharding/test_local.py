"""Shards that are processes: how they start and end, whatever happens to them or to their driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from helpers.checkpoints import interrupt_every_line
from helpers.processes import shard_processes
from helpers.served_shards import SCRIPTED

from trio_model_runner.sharding import local
from trio_model_runner.sharding.engine import ShardLost
from trio_model_runner.sharding.local import LocalEngine, LocalShard

DRIVER = """
import sys, trio
from trio_model_runner.sharding import local
from helpers.served_shards import SCRIPTED

if sys.argv[2:]:
    local._PROGRAM = sys.argv[2]

async def main():
    engine = local.LocalEngine(serve=SCRIPTED)
    async with engine.running():
        shard = await engine.launch(0, sys.argv[1].encode())
        print((await shard.receive()).decode(), flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@asynccontextmanager
async def launched(first_message: bytes, serve: str = SCRIPTED) -> AsyncIterator[LocalShard]:
    engine = LocalEngine(serve=serve)
    with trio.fail_after(60):
        async with engine.running():
            shard = await engine.launch(0, first_message)
            assert isinstance(shard, LocalShard)
            yield shard
    assert shard_processes() == set()


async def refused(serve: str = SCRIPTED) -> str:
    with pytest.raises(ShardLost) as caught:
        async with launched(b"echo", serve):
            pass
    assert shard_processes() == set()
    return str(caught.value)


async def test_a_killed_shard_is_known_at_once() -> None:
    async with launched(b"echo") as shard:
        await shard.receive()
        os.kill(shard.pid, signal.SIGKILL)
        with pytest.raises(ShardLost, match=r"shard 0 ended with exit code -9 \(SIGKILL\)$"):
            await shard.receive()
        assert shard.exited.is_set()


async def test_the_error_says_with_what_it_ended() -> None:
    async with launched(b"exit 3") as shard:
        assert await shard.receive() == b"last words"
        with pytest.raises(ShardLost, match=r"shard 0 ended with exit code 3$"):
            await shard.receive()


async def test_ctrl_c_does_not_reach_it() -> None:
    async with launched(b"echo") as shard:
        assert await shard.receive() == b""
        assert os.getsid(shard.pid) == shard.pid
        os.kill(shard.pid, signal.SIGINT)
        await shard.send(b"still there")
        assert await shard.receive() == b"still there"


async def test_what_the_driver_blocks_or_ignores_does_not_keep_it() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        async with launched(b"echo") as shard:
            await shard.receive()
            os.kill(shard.pid, signal.SIGTERM)
            with pytest.raises(ShardLost, match="SIGTERM"):
                await shard.receive()
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def test_what_it_prints_is_kept_and_shown_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    async with launched(b"talk") as shard:
        await shard.receive()
        await shard.aclose()
        assert len(shard.output) == 2**16
        assert shard.output.endswith("x\nat the end\n")
    assert capfd.readouterr() == ("", "")


async def test_why_it_can_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No module named 'no'" in await refused("no.such:thing")
    monkeypatch.setattr(local, "_PROGRAM", "helpers.no_such_program")
    assert "No module named helpers.no_such_program" in await refused()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "shard 0 can't be started: [Errno 2] No such file or directory" in await refused()
    monkeypatch.setattr(sys, "executable", "")
    assert "sys.executable" in await refused()


async def test_one_that_does_not_start_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_START_SECONDS", 0.0)
    assert await refused() == "shard 0 did not start within 0 s"


async def test_a_launch_may_be_cancelled() -> None:
    engine = LocalEngine(serve=SCRIPTED)
    async with engine.running():
        for seconds in (0.0, 0.01, 0.03):
            with trio.move_on_after(seconds):
                shard = await engine.launch(0, b"echo")
                await shard.aclose()  # this process stood still for so long
            assert shard_processes() == set()


async def test_a_frozen_shard_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_END_SECONDS", 0.1)
    async with launched(b"echo") as shard:
        await shard.receive()
        os.kill(shard.pid, signal.SIGSTOP)
        await shard.send(b"this fits")
        with trio.move_on_after(0.1) as scope:
            await shard.send(b"x" * 20_000_000)
        assert scope.cancelled_caught
        with pytest.raises(ShardLost, match="a message was cut short"):
            await shard.send(b"x")
        assert not shard.exited.is_set()
        await shard.aclose()
        assert shard.exited.is_set()


async def test_half_a_message_ends_the_way_for_both() -> None:
    async with launched(b"repeat") as shard:
        os.kill(shard.pid, signal.SIGSTOP)
        await shard.send(b"whole")
        with trio.move_on_after(0.1):
            await shard.send(b"x" * 20_000_000)
        os.kill(shard.pid, signal.SIGCONT)
        assert [await shard.receive() for _ in range(2)] == [b"whole"] * 2
        with pytest.raises(ShardLost):
            await shard.receive()


async def test_it_finds_the_driver_s_modules_and_not_its_main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trio.py").write_text("raise RuntimeError('a file beside the program')")
    monkeypatch.chdir(tmp_path)
    async with launched(b"echo") as shard:
        assert await shard.receive() == b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["until_lost {file}"], "the connection was closed"),
        (["until_cancelled {file}", "helpers.impatient_shard"], "cancelled"),
        (["stubborn", "helpers.impatient_shard"], None),
        (["stuck", "helpers.impatient_shard"], None),
    ],
)
async def test_no_shard_outlives_its_driver(words: list[str], said: str | None, tmp_path: Path) -> None:
    file = tmp_path / "said"
    driver = await trio.lowlevel.open_process(
        [sys.executable, "-c", DRIVER, words[0].format(file=file), *words[1:]],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert driver.stdout is not None
    with trio.fail_after(60):
        shard = os.pidfd_open(int(await driver.stdout.receive_some()))
        driver.kill()
        await driver.wait()
        await trio.lowlevel.wait_readable(shard)
    os.close(shard)
    await driver.stdout.aclose()
    assert (file.read_text() if file.exists() else None) == said


def test_ctrl_c_at_any_moment_leaves_no_process() -> None:
    @asynccontextmanager
    async def nothing() -> AsyncIterator[None]:
        yield

    async def scenario(_: None) -> None:
        async with launched(b"echo") as shard:
            await shard.receive()
            await shard.aclose()

    async def check(_: None, interrupted: bool) -> None:
        assert shard_processes() == set()

    assert interrupt_every_line(nothing, scenario, check, path="trio_model_runner/sharding", stride=17) > 5
