"""Real reader processes, and all that can happen to one."""

from __future__ import annotations

import logging
import mmap
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest
import trio
from helpers.processes import reader_processes
from helpers.strangers_frames import parquet_of
from trio.testing import MockClock

from trio_model_runner.errors import ReadersUnavailable
from trio_model_runner.frame_readers import process, readers
from trio_model_runner.frame_readers.readers import FrameReaders
from trio_model_runner.values.encoded import DataType, Encoded

MIB = 2**20
TABLE = pyarrow.table({"a": [1, 2, 3], "b": ["x", None, "z"]})


def words(text: str) -> Encoded:
    return Encoded(DataType.ARROW, text.encode())


HONEST = parquet_of(TABLE)


@pytest.fixture
def unreliable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PROGRAM", "helpers.unreliable_reader")


@asynccontextmanager
async def reading(max_frame_bytes: int = 64 * MIB) -> AsyncIterator[FrameReaders]:
    frame_readers = FrameReaders(max_frame_bytes)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(frame_readers.run)
            yield frame_readers
            nursery.cancel_scope.cancel()
    assert reader_processes() == set()


def environment_of(reader: int) -> bytes:
    return Path(f"/proc/{reader}/environ").read_bytes()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells of processes
        await trio.sleep(0.01)


async def outcome(frame_readers: FrameReaders, frame: Encoded) -> str:
    try:
        return str((await frame_readers.read(frame, "arrow")).num_rows)
    except (ValueError, ReadersUnavailable) as error:
        return f"{type(error).__name__}: {error}"


async def read_of(frame_readers: FrameReaders, frame: Encoded, sender: int) -> None:
    with suppress(ValueError, ReadersUnavailable):
        await frame_readers.read(frame, "arrow", sender)


async def outcomes(frame_readers: FrameReaders, *frames: Encoded) -> list[str]:
    found = [""] * len(frames)

    async def note(index: int, frame: Encoded) -> None:
        found[index] = await outcome(frame_readers, frame)

    async with trio.open_nursery() as nursery:
        for index, frame in enumerate(frames):
            nursery.start_soon(note, index, frame)
    return found


async def test_frames_are_read_elsewhere() -> None:
    assert reader_processes() == set()
    async with reading() as frame_readers:
        assert reader_processes() == set()  # before the first frame there is none
        table = await frame_readers.read(HONEST, "arrow")
        assert isinstance(table, pyarrow.Table)
        assert table.to_pydict() == TABLE.to_pydict()
        frame = await frame_readers.read(HONEST, "pandas")
        pandas.testing.assert_frame_equal(frame, TABLE.to_pandas())
        assert reader_processes()


async def test_many_frames_and_large_ones_come_back_as_they_were() -> None:
    large = parquet_of(pyarrow.table({"a": [float(value) for value in range(10**6)]}))
    async with reading() as frame_readers:
        found = await outcomes(frame_readers, *[HONEST, large] * 3, *[HONEST] * 300)
        assert found == ["3", "1000000"] * 3 + ["3"] * 300
        await until(lambda: len(reader_processes()) == 3)


async def test_what_can_t_be_read_is_refused_in_the_reader_s_words() -> None:
    async with reading() as frame_readers:
        assert (await outcome(frame_readers, words("nonsense"))).startswith("ValueError: Arrow that can't be")


@pytest.mark.usefixtures("unreliable")
@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("abort", "the process that reads it ends by SIGABRT"),
        ("be_killed SIGSEGV", "the process that reads it ends by SIGSEGV"),
        ("leave 3", "the process that reads it ends with exit code 3"),
        ("spin", "it takes more than 1.0 s of a processor's time"),
        ("say nonsense", "the process that reads it ends since it said what no reader says"),
    ],
)
async def test_a_frame_that_ends_its_reader_is_refused_and_no_other(frame: str, reason: str) -> None:
    async with reading() as frame_readers:
        found = await outcomes(frame_readers, *[HONEST] * 20, words(frame), *[HONEST] * 20)
        assert found.count("3") == 40
        assert found[20] == f"ValueError: ARROW of {len(frame)} bytes that can't be read: {reason}"
        assert await outcome(frame_readers, HONEST) == "3"


@pytest.mark.usefixtures("unreliable")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
async def test_a_frame_is_not_to_blame_for_who_kills_its_reader(name: str) -> None:
    async with reading() as frame_readers:
        found = await outcomes(frame_readers, words(f"be_killed {name}"), HONEST)
        text = f"ReadersUnavailable: the process that read the frame ended by {name}"
        assert found == [text, "3"]


@pytest.mark.usefixtures("unreliable")
@pytest.mark.parametrize("end", ["abort", "be_killed SIGKILL"])
async def test_a_frame_is_read_again_if_its_reader_ends_for_once(end: str, tmp_path: Path) -> None:
    async with reading() as frame_readers:
        assert await outcome(frame_readers, HONEST) == "3"
        frame = words(f"once {tmp_path}/tried {end}")
        assert await outcome(frame_readers, frame) == "ValueError: not again"


@pytest.mark.usefixtures("unreliable")
async def test_nobody_waits_for_a_slow_frame(tmp_path: Path) -> None:
    slow = [words(f"wait {tmp_path}/go") for _ in range(5)]
    async with reading() as frame_readers:
        waiting: list[str] = []

        async def wait() -> None:
            waiting.extend(await outcomes(frame_readers, *slow))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            for _ in range(3):
                assert await outcomes(frame_readers, *[HONEST] * 50) == ["3"] * 50
            assert not waiting
            await until(lambda: len(reader_processes()) == 8)
            (tmp_path / "go").touch()
        assert waiting == ["ValueError: waited"] * 5
        assert await outcomes(frame_readers, *[HONEST] * 50) == ["3"] * 50
        await until(lambda: len(reader_processes()) == 3)  # those that were slow go, and another one comes


@pytest.mark.usefixtures("unreliable")
async def test_those_who_kept_readers_for_long_never_have_all_of_them(tmp_path: Path) -> None:
    async with reading() as frame_readers:
        assert await outcome(frame_readers, HONEST) == "3"
        for attempt in range(3):
            async with trio.open_nursery() as nursery:
                for sender in range(12):
                    slow = words(f"wait {tmp_path}/{attempt}")
                    nursery.start_soon(read_of, frame_readers, slow, sender)
                if attempt == 0:
                    await trio.sleep(1)  # nothing is known of them yet, and they may have all readers
                else:
                    assert await outcomes(frame_readers, *[HONEST] * 20) == ["3"] * 20
                nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("unreliable")
async def test_a_reader_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.ReaderProcess, "longest_wait", 0.05)
    async with reading() as frame_readers:
        found = await outcomes(frame_readers, words("be_killed SIGSTOP"), HONEST)
        text = "ReadersUnavailable: the process that read the frame ended since it stood still"
        assert found == [text, "3"]


@pytest.mark.usefixtures("unreliable")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory so")
async def test_a_reader_has_memory_for_the_largest_frame_and_not_much_more() -> None:
    async with reading(16 * MIB) as frame_readers:
        assert await outcome(frame_readers, words(f"allocate {64 * MIB}")) == "ValueError: allocated"
        found = await outcome(frame_readers, words(f"allocate {400 * MIB}"))
        assert found != "ValueError: allocated"
        assert found.startswith("ValueError: ")


async def test_whoever_gives_up_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PROGRAM", "helpers.unreliable_reader")
    async with reading() as frame_readers:
        assert await outcome(frame_readers, HONEST) == "3"
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(outcome, frame_readers, words(f"wait {tmp_path}/never"))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert await outcome(frame_readers, HONEST) == "3"


async def test_an_answer_that_has_no_room_here_is_our_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    large = parquet_of(pyarrow.table({"a": [float(value) for value in range(10**6)]}))
    monkeypatch.setattr(mmap, "mmap", no_room)
    async with reading() as frame_readers:
        found = await outcome(frame_readers, large)
        assert found.startswith("ReadersUnavailable: what the reader answered has no room here")
        assert await outcome(frame_readers, HONEST) == "3"


@pytest.mark.usefixtures("unreliable")
async def test_a_reader_goes_no_further_once_nobody_waits_for_its_frame() -> None:
    async with reading() as frame_readers:
        assert await outcome(frame_readers, HONEST) == "3"
        before = reader_processes()
        with trio.move_on_after(0.3):
            await outcome(frame_readers, words("be_killed SIGSTOP"))
        await until(lambda: not before <= reader_processes())
        assert await outcomes(frame_readers, *[HONEST] * 50) == ["3"] * 50


async def test_a_reader_that_says_it_took_too_long_too_soon_was_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "PROGRAM", "helpers.unreliable_reader")
    async with reading() as frame_readers:
        found = await outcome(frame_readers, words("be_killed SIGPROF"))
        assert found == "ReadersUnavailable: the process that read the frame ended by SIGPROF"


async def test_nothing_beside_the_coordinator_s_program_is_executed_and_no_directory_need_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(9)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend("")
    monkeypatch.chdir(gone)
    gone.rmdir()
    async with reading() as frame_readers:
        assert await outcome(frame_readers, HONEST) == "3"


async def test_readers_that_can_t_start_are_nobody_s_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "PROGRAM", "no.such.program")
    async with reading() as frame_readers:
        found = await outcomes(frame_readers, HONEST, words("abort"))
        text = (
            "ReadersUnavailable: no reader process works here: it ended with exit code 1 when it was started"
        )
        assert found == [text] * 2
        assert await outcome(frame_readers, HONEST) == text
        monkeypatch.undo()
        assert await outcome(frame_readers, HONEST) == "3"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.name for record in errors] == ["trio_model_runner.frame_readers"]


async def test_no_program_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async with reading() as frame_readers:
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        assert "it can't be started" in await outcome(frame_readers, HONEST)
        monkeypatch.setattr(sys, "executable", "")
        assert "sys.executable" in await outcome(frame_readers, HONEST)


async def test_a_reader_knows_no_secrets_and_imports_nothing_from_where_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_COORDINATOR", "password")
    (tmp_path / "pyarrow.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    async with reading() as frame_readers:
        assert await outcome(frame_readers, HONEST) == "3"
        for reader in reader_processes():
            assert b"password" not in environment_of(reader)


async def test_ctrl_c_in_the_terminal_is_not_the_readers_affair() -> None:
    """It goes to all processes of a session."""
    async with reading() as frame_readers:
        assert await outcome(frame_readers, HONEST) == "3"
        assert all(os.getsid(reader) != os.getsid(0) for reader in reader_processes())


async def test_under_a_clock_that_jumps_frames_are_read_here(autojump_clock: MockClock) -> None:
    frame_readers = readers.FrameReaders(64 * MIB)
    table = await frame_readers.read(HONEST, "arrow")
    assert table.to_pydict() == TABLE.to_pydict()
    with pytest.raises(ValueError, match="can't be read"):
        await frame_readers.read(words("nonsense"), "arrow")
    assert reader_processes() == set()
