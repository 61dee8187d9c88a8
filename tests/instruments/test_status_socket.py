"""The status socket: what its readers get, and that neither they nor what lies at its path do harm."""

# ruff: noqa: ASYNC240 - files of a test

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.coordinating import Model, coordinating
from helpers.played import listening, played
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import ConfigError
from trio_model_runner.instruments import StatusSocket, readers, unix_listener


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # a path of pytest's may be longer than a socket's
    return Path("status.sock")


class Reader:
    """Reads lines one by one."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def next(self, kind: str | None = None) -> Any:
        """The next line, of some kind; EndOfChannel after the last, also if it is half a line."""
        while True:
            line, end, rest = self._data.partition(b"\n")
            if not end:
                chunk = await self.stream.receive_some()
                if not chunk:
                    raise trio.EndOfChannel
                self._data += chunk
                continue
            self._data = rest
            read = json.loads(line)
            if kind in (None, read["type"]):
                return read


Reading = Callable[[Path], Awaitable[Reader]]


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    async with AsyncExitStack() as streams:

        async def connect(path: Path) -> Reader:
            return Reader(await streams.enter_async_context(await trio.open_unix_socket(str(path))))

        yield connect


async def test_readers_get_a_snapshot_and_then_what_happens(
    path: Path, reading: Reading, autojump_clock: MockClock
) -> None:
    models = {"a": Model, "b": Model}
    async with coordinating(models, instruments=[StatusSocket(path)]) as (crunch, cluster):
        reader = await reading(path)
        first = await reader.next()
        assert (first["type"], first["v"], first["pid"], first["last_round_at"]) == (
            "snapshot",
            1,
            os.getpid(),
            None,
        )
        assert first["snapshot"].keys() == cluster.snapshot(models=True).to_dict().keys()
        assert [row["model_id"] for row in first["snapshot"]["model_rows"]] == ["a", "b"]
        assert first["at"] > 1.7e9

        results = await cluster.call("predict")
        line = await reader.next()
        assert line["type"] == "round"
        assert (line["round"]["v"], line["round"]["id"], line["round"]["statuses"]) == (
            1,
            int(results.id),
            "SS",
        )
        assert "values" not in line["round"]

        await cluster.models["a"].predict()  # which is no round
        await crunch.crash("b")
        line = await reader.next()
        assert (line["type"], line["change"]["kind"]) == ("change", "lost")
        assert line["change"]["model"]["model_id"] == "b"
        assert (await reader.next("change"))["change"]["kind"] == "failed"

        await cluster.report_failure(cluster.models["a"], "LOW_PERFORMANCE", "worse")
        line = await reader.next("report")
        assert (line["stage"], line["why"]) == ("sent", None)
        assert (line["report"]["model_id"], line["report"]["code"]) == ("a", "LOW_PERFORMANCE")
        crunch.orchestrator.kill()
        line = await reader.next("orchestrator")
        assert line["connected"] is False
        assert line["error"]
        crunch.orchestrator.start()
        assert (await reader.next("orchestrator"))["connected"] is True

        other = await reading(path)
        second = await other.next()
        assert second["type"] == "snapshot"
        assert first["at"] <= second["last_round_at"] <= second["at"]
        assert sum(second["snapshot"]["models"].values()) == 1
    for each in (reader, other):
        assert (await each.next("end"))["at"] >= second["at"]
        with pytest.raises(trio.EndOfChannel):
            await each.next()
    assert not path.exists()


async def test_a_snapshot_comes_every_ten_seconds(
    path: Path, reading: Reading, autojump_clock: MockClock
) -> None:
    async with listening(StatusSocket(path)):
        reader = await reading(path)
        began = trio.current_time()
        assert [(await reader.next())["type"] for _ in range(4)] == ["snapshot"] * 4
        assert trio.current_time() - began == pytest.approx(30)


@pytest.mark.parametrize("jump", [-86_400, 86_400])
async def test_a_clock_that_is_set_makes_no_round_older_or_newer(
    path: Path, jump: int, reading: Reading, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with listening(instrument := StatusSocket(path)):
        instrument.round_ended(None, played())
        clock = time.time
        monkeypatch.setattr(time, "time", lambda: clock() + jump)
        first = await (await reading(path)).next()
        assert 0 <= first["at"] - first["last_round_at"] < 3600


async def test_what_readers_send_is_thrown_away(
    path: Path, reading: Reading, autojump_clock: MockClock
) -> None:
    async with listening(instrument := StatusSocket(path)):
        reader = await reading(path)
        await reader.stream.send_all(b'{"type":"report","model_id":"a"}\n' * 10_000)
        await wait_all_tasks_blocked()
        instrument.round_ended(None, played())
        assert [(await reader.next())["type"] for _ in range(2)] == ["snapshot", "round"]


async def test_a_reader_that_leaves_is_forgotten(
    path: Path, reading: Reading, autojump_clock: MockClock
) -> None:
    async with listening(instrument := StatusSocket(path)):
        several = [await reading(path) for _ in range(2)]
        for reader in several:
            await reader.next()
        await several[0].stream.aclose()
        await wait_all_tasks_blocked()
        for _ in range(3):
            instrument.round_ended(None, played())
            assert (await several[1].next())["type"] == "round"


async def test_a_reader_that_only_reads_has_all_until_the_end(
    path: Path, reading: Reading, autojump_clock: MockClock
) -> None:
    async with listening(instrument := StatusSocket(path)):
        before, after, gone = [await reading(path) for _ in range(3)]
        await before.stream.send_eof()
        for reader in (after, gone):
            await reader.next("snapshot")
            await reader.stream.send_eof()
        await wait_all_tasks_blocked()
        await gone.stream.aclose()
        instrument.round_ended(None, played())
        assert [(await before.next())["type"] for _ in range(2)] == ["snapshot", "round"]
        assert (await after.next())["type"] == "round"
        await wait_all_tasks_blocked()
        assert len(instrument._readers._readers) == 2
    for reader in (before, after):
        assert (await reader.next())["type"] == "end"
        with pytest.raises(trio.EndOfChannel):
            await reader.next()


async def test_a_slow_reader_is_dropped_and_no_other(
    path: Path, reading: Reading, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(readers, "_MOST_BEHIND", 2_000_000)
    large = played("S" * 2000)
    async with listening(instrument := StatusSocket(path)):
        slow, good = await reading(path), await reading(path)
        assert (await good.next())["type"] == "snapshot"
        for _ in range(50):
            instrument.round_ended(None, large)
            assert (await good.next())["type"] == "round"
        with pytest.raises(trio.EndOfChannel):
            await slow.next("end")
    assert (await good.next())["type"] == "end"


async def test_one_reader_too_many_is_sent_away(
    path: Path, reading: Reading, autojump_clock: MockClock
) -> None:
    async with listening(StatusSocket(path)):
        several = [await reading(path) for _ in range(33)]
        for reader in several[:32]:
            await reader.next()
        assert await several[32].stream.receive_some() == b""
        await several[0].stream.aclose()
        await wait_all_tasks_blocked()
        assert (await (await reading(path)).next())["type"] == "snapshot"


@pytest.mark.parametrize("umask", [0o000, 0o777])
async def test_only_this_user_can_connect(path: Path, umask: int, autojump_clock: MockClock) -> None:
    before = os.umask(umask)
    try:
        async with listening(StatusSocket(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_it_is_never_open_to_others(
    path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    modes: list[int] = []
    before = os.umask(0)
    monkeypatch.setattr(Path, "chmod", lambda path, _: modes.append(path.stat().st_mode))
    try:
        async with listening(StatusSocket(path)):
            assert [stat.S_IMODE(mode) for mode in modes] == [0o600]
    finally:
        os.umask(before)


LISTENING = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("status.sock")
listener.listen()
print("listening", flush=True)
sys.stdin.read()
"""

LISTENING_AS_WE_DO = """
import sys
from pathlib import Path
from trio_model_runner.instruments.unix_listener import listening
with listening(Path("status.sock")):
    print("listening", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("program", [LISTENING, LISTENING_AS_WE_DO], ids=["another program", "one of ours"])
async def test_a_dead_processs_socket_is_replaced_and_a_living_ones_is_not(
    path: Path, program: str, reading: Reading, autojump_clock: MockClock
) -> None:
    command = [sys.executable, "-c", program]
    with subprocess.Popen(  # noqa: ASYNC220 - it is made at once
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        with pytest.raises(ConfigError, match=r"another process listens at 'status\.sock'"):
            async with coordinating({"a": Model}, instruments=[StatusSocket(path)]):
                raise AssertionError
        assert path.is_socket()
        process.kill()
    assert path.is_socket()
    async with listening(StatusSocket(path)):
        assert (await (await reading(path)).next())["type"] == "snapshot"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("when", ["it is looked at", "it is bound"])
def test_one_that_starts_while_another_one_starts_is_refused(
    path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    def begin_another(*arguments: Any) -> None:
        monkeypatch.undo()
        monkeypatch.chdir(directory)
        with pytest.raises(ConfigError, match="another process listens"), unix_listener.listening(path):
            raise AssertionError
        function(*arguments)

    directory, name = Path.cwd(), {"it is looked at": "_remove_stale", "it is bound": "chmod"}[when]
    where: Any = Path if name == "chmod" else unix_listener
    function = getattr(where, name)
    monkeypatch.setattr(where, name, begin_another)
    with unix_listener.listening(path), socket.socket(socket.AF_UNIX) as reader:
        reader.connect(str(path))
    assert list(Path().iterdir()) == []


def test_a_lock_that_its_owner_has_just_removed_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, flock = Path(f"{path}.lock"), fcntl.flock

    def remove_and_lock(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        lock.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)
    with unix_listener.listening(path):
        assert lock.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ConfigError, match="another process listens"), unix_listener.listening(path):
            raise AssertionError
    assert list(Path().iterdir()) == []


def test_what_is_no_lock_of_ours_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Path(f"{path}.lock")
    made: tuple[tuple[Callable[[], Any], str], ...] = (
        (lambda: lock.write_text("precious"), "is there already, and no lock file of ours"),
        (lambda: lock.symlink_to("elsewhere"), "can't lock '.*': Too many levels of symbolic links"),
        (lambda: os.mkfifo(lock), "is there already, and no lock file of ours"),
    )
    for make, text in made:
        make()
        with pytest.raises(ConfigError, match=text), unix_listener.listening(path):
            raise AssertionError
        assert [*Path().iterdir()] == [lock]
        lock.unlink()

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    text = r"file system of 'status\.sock' has no locks \(No locks available\)"
    with pytest.raises(ConfigError, match=text), unix_listener.listening(path):
        raise AssertionError
    assert not path.exists()


async def test_it_stays_where_it_was_opened(path: Path, reading: Reading, autojump_clock: MockClock) -> None:
    directory = Path.cwd()
    (directory / "elsewhere").mkdir()
    async with listening(StatusSocket(path)):
        os.chdir("elsewhere")
        path.write_text("precious")
        assert (await (await reading(Path("..") / path)).next())["type"] == "snapshot"
    assert [each.name for each in directory.iterdir()] == ["elsewhere"]
    assert path.read_text() == "precious"


async def test_two_in_one_process_are_an_error_too(path: Path, autojump_clock: MockClock) -> None:
    async with listening(first := StatusSocket(path)):
        for second in (StatusSocket(path), first):
            with pytest.raises(ConfigError, match=r"another (process listens|cluster)"):
                async with listening(second):
                    raise AssertionError
        assert path.is_socket()


async def test_what_is_no_socket_is_never_removed(path: Path, autojump_clock: MockClock) -> None:
    path.write_text("precious")
    with pytest.raises(ConfigError, match=r"'status\.sock' is there already, and no socket"):
        async with listening(StatusSocket(path)):
            raise AssertionError
    assert path.read_text() == "precious"
    path.unlink()
    path.symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="no socket"):
        async with listening(StatusSocket(path)):
            raise AssertionError


async def test_a_socket_that_was_replaced_is_left_to_its_owner(path: Path, autojump_clock: MockClock) -> None:
    async with listening(StatusSocket(path)):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.is_socket()
    other.close()


async def test_without_a_directory_it_says_so(path: Path, autojump_clock: MockClock) -> None:
    with pytest.raises(ConfigError, match=r"can't listen at 'no/status\.sock': No such file or directory"):
        async with listening(StatusSocket(Path("no") / path)):
            raise AssertionError


async def test_the_path_has_a_longest_length(path: Path, reading: Reading, autojump_clock: MockClock) -> None:
    longest = "x" * 107
    async with listening(StatusSocket(longest)):
        assert (await (await reading(Path(longest))).next())["type"] == "snapshot"
    for wrong in ("x" * 108, "ä" * 54, Path("x") / ("y" * 200)):
        with pytest.raises(ConfigError, match="at most 107 bytes, this one"):
            StatusSocket(wrong)
    with pytest.raises(ConfigError, match="must be the path of a file"):
        StatusSocket(None)  # type: ignore[arg-type]


async def test_without_readers_nothing_is_made(path: Path, autojump_clock: MockClock) -> None:
    async with listening(instrument := StatusSocket(path)):
        instrument.round_ended(None, played())
        instrument.orchestrator_changed(True, None)
        assert not instrument._readers
