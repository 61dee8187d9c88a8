"""The record of rounds: whole lines, whatever the disk, the directory or another process does."""

# ruff: noqa: ASYNC240 - files of a test

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest
import trio
from helpers.coordinating import Model, coordinating
from helpers.documents import block
from helpers.played import listening, played
from trio.testing import MockClock

from trio_model_runner import ConfigError
from trio_model_runner.instruments import RoundRecorder
from trio_model_runner.instruments.record_file import RecordFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rounds.jsonl"


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


async def test_each_round_is_a_line(path: Path, autojump_clock: MockClock) -> None:
    models = {"a": Model, "b": Model}
    recorder = RoundRecorder(path, values=True)
    async with coordinating(models, instruments=[recorder]) as (crunch, cluster):
        crunch.node("b").faults.call_status = ("MODEL_FAILED", "no feathers")
        await cluster.call("predict")
        await cluster.models["a"].predict()  # which is no round
        async with cluster.as_completed("tick") as results:
            async for _ in results:
                pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.call, "hang")
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        ids = [model.deployment_id for model in cluster.announced.values()]
    first, second = rows(path)
    assert first["crunch_id"] == crunch.config().crunch_id
    assert (first["method"], second["method"]) == ("predict", "tick")
    assert (first["model_ids"], first["deployment_ids"]) == (["a", "b"], ids)
    assert (first["statuses"], first["sent"], first["values"]) == ("SF", "11", [1.5, None])
    assert "no feathers" in first["details"]["b"]
    assert recorder.dropped == 0
    assert path.stat().st_mode & 0o007 == 0


async def test_a_round_of_which_no_line_can_be_made_is_counted(
    path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = RoundRecorder(path)
    async with listening(recorder):
        with pytest.raises(AttributeError):
            recorder.round_ended(None, object())  # type: ignore[arg-type]
        recorder.round_ended(None, played())
    assert (recorder.dropped, len(rows(path))) == (1, 1)
    assert "1 rounds were not recorded" in caplog.text


async def record(path: Path, *rounds: Any, **settings: Any) -> RoundRecorder:
    recorder = RoundRecorder(path, **settings)
    async with listening(recorder):
        for each in rounds:
            recorder.round_ended(None, each)
    return recorder


def medians_of_pandas() -> dict[str, float]:
    """What pandas makes of `rounds.jsonl` here, by the code in the README."""
    names: dict[str, Any] = {}
    exec(block("instruments/README.md#the-record/2"), names)
    medians: dict[str, float] = names["medians"].to_dict()
    return medians


def timeouts_of_duckdb() -> dict[str, int]:
    """What DuckDB makes of `rounds.jsonl` here and its older parts, by the query in the README."""
    return dict(duckdb.sql(block("instruments/README.md#the-record/3")).fetchall())


@pytest.mark.parametrize("data", [b"", b'{"v":1,"crun', None], ids=["none", "half a line", "of no models"])
async def test_pandas_and_duckdb_read_a_record_of_no_rounds(
    path: Path, data: bytes | None, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.chdir(path.parent)
    await record(path, *([played("")] if data is None else []))
    path.write_bytes(data if data is not None else path.read_bytes())
    assert (medians_of_pandas(), timeouts_of_duckdb()) == ({}, {})


async def test_pandas_and_duckdb_read_it_as_the_readme_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    await record(path, played("SST"), played("SKS"), max_bytes=1)  # so that each has a file
    await record(path, played("TSA"), played("TSS"))
    assert {each.name for each in path.parent.iterdir()} == {path.name, f"{path.name}.1.gz"}
    with path.open("ab") as file:
        file.write(b'{"v":1,"crunch_id":"bird-game","id":7,"stat')  # while a line is written
    assert medians_of_pandas() == pytest.approx({"m1": 0.2469, "m2": 0.3704})
    assert timeouts_of_duckdb() == {"m0": 2, "m1": 0, "m2": 1}
    ((rounds, dropped),) = duckdb.sql(
        "SELECT count(*), count(*) FILTER (timeout IS NULL) FROM read_json('rounds.jsonl.1.gz')"
    ).fetchall()
    assert (rounds, dropped) == (2, 0)


@pytest.mark.parametrize("half", [b'{"v":1,"mod', b'{"x":"' + b"x" * 200_000, b"\0" * 70_000])
@pytest.mark.parametrize("before", [b"", b'{"v":1}\n', b'{"v":1}\n' * 20_000])
async def test_half_a_line_is_cut_off_when_the_next_recorder_begins(
    path: Path, before: bytes, half: bytes, autojump_clock: MockClock
) -> None:
    path.write_bytes(before + half)
    await record(path, played("S"))
    data = path.read_bytes()
    assert data.startswith(before + b'{"v":1,"crunch_id":"bird-game"')
    assert data.count(b"\n") == before.count(b"\n") + 1


async def test_large_files_are_compressed_and_the_oldest_removed(
    path: Path, autojump_clock: MockClock
) -> None:
    recorder = RoundRecorder(path, max_bytes=1, keep=2)
    async with listening(recorder):
        for number in range(5):
            recorder.round_ended(None, played("S", round_id=str(number)))
            await trio.sleep(1)
    assert path.read_bytes() == b""
    packed = {each.name: json.loads(gzip.decompress(each.read_bytes())) for each in path.parent.glob("*.gz")}
    assert {name: row["id"] for name, row in packed.items()} == {
        f"{path.name}.1.gz": 4,
        f"{path.name}.2.gz": 3,
    }
    assert not any(".part" in each.name for each in path.parent.iterdir())


async def test_a_rotation_that_fails_is_said_once_and_tried_once_a_minute(
    path: Path,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries, tidy = [], RecordFile.tidy

    def note(file: RecordFile) -> None:
        tries.append(trio.current_time())
        tidy(file)

    monkeypatch.setattr(RecordFile, "tidy", note)
    in_the_way = Path(f"{path}.1.gz.part")
    in_the_way.mkdir()
    async with listening(recorder := RoundRecorder(path, max_bytes=1, keep=99)):
        for number in range(150):
            recorder.round_ended(None, played("S", round_id=str(number)))
            await trio.sleep(1)
        assert tries == [0, 0, 60, 120]  # the first one is before any round
        in_the_way.rmdir()
        for number in range(150, 200):
            recorder.round_ended(None, played("S", round_id=str(number)))
            await trio.sleep(1)
    assert texts(caplog) == [
        f"RoundRecorder('{path}'): can't be rotated, and grows: [Errno 21] Is a directory: '{in_the_way}'",
        f"RoundRecorder('{path}'): it can be rotated again",
    ]
    parts = [Path(f"{path}.{number}.gz") for number in range(21, 0, -1)]
    lines = b"".join(gzip.decompress(part.read_bytes()) for part in parts).splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(200))


def test_a_rotation_that_fails_again_and_again_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, rename = RecordFile(path, 1, 3), Path.rename
    file.open()
    for number in range(3):
        file.write([b"%d\n" % number])
        file.tidy()

    def refuse(source: Path, target: Path) -> Path:
        if source == path:
            raise PermissionError
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    file.write([b"3\n"])
    for _ in range(4):
        with pytest.raises(PermissionError):
            file.tidy()
    monkeypatch.undo()
    file.tidy()
    file.close()
    parts = [gzip.decompress(Path(f"{path}.{number}.gz").read_bytes()) for number in (1, 2, 3)]
    assert parts == [b"3\n", b"2\n", b"1\n"]


def test_a_file_that_another_program_put_there_is_not_rotated(path: Path) -> None:
    file = RecordFile(path, 1, 3)
    file.open()
    file.write([b"1\n"])
    path.rename(path.with_name("moved"))
    path.write_bytes(b"theirs\n")
    file.tidy()
    file.close()
    assert {each.name for each in path.parent.iterdir()} == {path.name, "moved"}


async def test_what_a_link_shows_is_rotated_and_the_link_stays(
    path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    target = path.parent / "large" / "record"
    target.parent.mkdir()
    path.symlink_to(target)  # which is not there yet
    async with listening(recorder := RoundRecorder(path.name, max_bytes=1)):
        with pytest.raises(ConfigError, match="another recorder writes this file"):
            async with listening(RoundRecorder(target)):
                raise AssertionError
        path.unlink()  # it leads elsewhere now, which is for the next one that opens it
        path.symlink_to(path.parent / "elsewhere")
        recorder.round_ended(None, played("S", round_id="1"))
        await trio.sleep(1)
        recorder.round_ended(None, played("S", round_id="2"))
        await trio.sleep(1)
        moved = target.rename(target.parent / "moved")
        target.symlink_to(moved)
        recorder.round_ended(None, played("S", round_id="3"))
    assert path.is_symlink()
    assert {each.name for each in path.parent.iterdir()} == {path.name, target.parent.name}
    names = ["moved", "moved.1.gz", "record", "record.1.gz", "record.2.gz"]
    assert sorted(each.name for each in target.parent.iterdir()) == names
    assert target.is_symlink()


async def test_it_stays_where_it_was_opened(
    path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path.parent / "first").mkdir()
    recorder = RoundRecorder(path.name, max_bytes=400)
    monkeypatch.chdir(path.parent / "first")  # which is the current one when it is opened
    async with listening(recorder):
        monkeypatch.chdir(path.parent)
        for number in range(3):
            recorder.round_ended(None, played("S", round_id=str(number)))
            await trio.sleep(1)
    assert [each.name for each in path.parent.iterdir()] == ["first"]
    here = path.parent / "first"
    assert {each.name for each in here.iterdir()} == {path.name, f"{path.name}.1.gz"}
    os.mkfifo(here / "pipe")
    reading = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.chdir(here)
    async with listening(piping := RoundRecorder("pipe")):
        monkeypatch.chdir(path.parent)
        piping.round_ended(None, played("S"))
    assert json.loads(os.read(reading, 10_000))["id"] == 7
    os.close(reading)
    gone = path.parent / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="can't be opened: No such file or directory"):
        async with listening(recorder):
            raise AssertionError


async def test_a_pipe_is_written_and_never_rotated(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    reading, writing = os.pipe()  # as /dev/stdout may be one
    try:
        await record(Path(f"/dev/fd/{writing}"), played("S"), max_bytes=1)
        assert json.loads(os.read(reading, 10_000))["id"] == 7
        assert texts(caplog) == []
    finally:
        os.close(reading)
        os.close(writing)


async def test_without_rotated_files_to_keep_it_begins_anew(path: Path, autojump_clock: MockClock) -> None:
    await record(path, played("S"), max_bytes=1, keep=0)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b""


async def test_what_was_rotated_and_not_compressed_is_not_lost(path: Path, autojump_clock: MockClock) -> None:
    # A process was killed in the middle of that.
    Path(f"{path}.rotating").write_bytes(b'{"id":1}\n')
    Path(f"{path}.1.gz.part").write_bytes(b"\x1f\x8b half")
    await record(path, played("S"))
    assert gzip.decompress(Path(f"{path}.1.gz").read_bytes()) == b'{"id":1}\n'
    assert {each.name for each in path.parent.iterdir()} == {path.name, f"{path.name}.1.gz"}


async def test_what_another_program_rotated_is_left_alone(path: Path, autojump_clock: MockClock) -> None:
    Path(f"{path}.1").write_bytes(b"by logrotate")
    Path(f"{path}.1.gz").write_bytes(gzip.compress(b"before"))
    await record(path, played("S"))
    assert Path(f"{path}.1").read_bytes() == b"by logrotate"
    assert gzip.decompress(Path(f"{path}.1.gz").read_bytes()) == b"before"


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "trio_model_runner.instruments"]


async def test_a_full_disk_is_said_once_and_costs_no_round(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = RoundRecorder("/dev/full")
    async with coordinating({"a": Model}, instruments=[recorder]) as (_, cluster):
        for _ in range(3):
            assert len((await cluster.call("predict")).succeeded) == 1
            await trio.sleep(10)
    assert texts(caplog) == [
        "RoundRecorder('/dev/full'): rounds can't be written, and wait: No space left on device",
        "RoundRecorder('/dev/full'): 3 rounds were not recorded",
    ]
    assert recorder.dropped == 3


FULL = """
import resource, signal, sys
from trio_model_runner.instruments.record_file import RecordFile
from pathlib import Path

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = RecordFile(Path(sys.argv[1]), 2**30, 1)
file.open()
file.write([b"x" * 999 + b"\\n"])
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
for lines in ([b"y" * 999 + b"\\n"], [b"z" * 99 + b"\\n"] * 9):
    try:
        file.write(lines)
    except OSError as error:
        print(error.strerror)
file.write([b"w" * 99 + b"\\n"])
"""


def test_what_was_half_written_when_the_disk_was_full_is_cut_off(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["File too large"] * 2, done.stderr
    assert path.read_bytes() == b"x" * 999 + b"\n" + b"w" * 99 + b"\n"


ENDLESS = """
import itertools, sys, trio
sys.path[:0] = sys.argv[2:]
from helpers.played import listening, played
from trio_model_runner.instruments import RoundRecorder

async def main():
    recorder = RoundRecorder(sys.argv[1], max_bytes=200_000, keep=3)
    async with listening(recorder):
        for number in itertools.count():
            recorder.round_ended(None, played("SSTFKA" * 100, round_id=str(number)))
            await trio.sleep(0.001)

trio.run(main)
"""


async def test_one_that_is_killed_leaves_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    tests = Path(__file__).parents[1]
    begun = Path(f"{path}.2.gz")
    for wait in (0.0, 0.02, 0.04):
        begun.unlink(missing_ok=True)
        command = [sys.executable, "-c", ENDLESS, path, tests]
        with subprocess.Popen(command, cwd=tests.parent) as process:  # noqa: ASYNC220 - it is made at once
            try:
                with trio.fail_after(60):
                    while not begun.exists():
                        assert process.poll() is None
                        await trio.sleep(0.01)
                    await trio.sleep(wait)  # so that it is killed while it does this or that
            finally:
                process.send_signal(signal.SIGKILL)
        path.touch()  # it may have been killed between one file and the next
        assert medians_of_pandas().keys() <= {f"m{number}" for number in range(600)}
        assert len(timeouts_of_duckdb()) == 600
        await record(path, played("S", round_id="1000000"))
        assert rows(path)[-1]["id"] == 1000000
        ids = [row["id"] for row in rows(path)[:-1]]
        assert ids == list(range(ids[0], ids[0] + len(ids))) if ids else True
        for packed in path.parent.glob("*.gz"):
            for line in gzip.decompress(packed.read_bytes()).splitlines():
                json.loads(line)
        assert {each.suffix for each in path.parent.iterdir()} <= {".jsonl", ".gz"}


async def test_a_directory_that_goes_and_comes_back_loses_nothing_that_fits_into_memory(
    path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = path.parent.with_name("elsewhere")
    recorder = RoundRecorder(path)
    async with listening(recorder):
        recorder.round_ended(None, played("S", round_id="1"))
        await trio.sleep(1)
        path.parent.rename(elsewhere)
        recorder.round_ended(None, played("S", round_id="2"))
        await trio.sleep(5)
        path.parent.mkdir()
        recorder.round_ended(None, played("S", round_id="3"))
        await trio.sleep(5)
    assert [row["id"] for row in rows(elsewhere / path.name)] == [1]
    assert [row["id"] for row in rows(path)] == [2, 3]
    assert texts(caplog) == [
        f"RoundRecorder('{path}'): rounds can't be written, and wait: No such file or directory",
        f"RoundRecorder('{path}'): rounds are recorded again; 0 are missing",
    ]


async def test_one_that_is_moved_away_is_followed_by_a_new_one(path: Path, autojump_clock: MockClock) -> None:
    recorder = RoundRecorder(path)
    async with listening(recorder):
        recorder.round_ended(None, played("S", round_id="1"))
        await trio.sleep(1)
        path.rename(path.with_name("moved"))
        recorder.round_ended(None, played("S", round_id="2"))
    assert [row["id"] for row in rows(path)] == [2]


async def test_two_recorders_of_one_file_are_an_error(path: Path, autojump_clock: MockClock) -> None:
    first, second = RoundRecorder(path), RoundRecorder(path)
    async with coordinating({"a": Model}, instruments=[first]) as (_, cluster):
        with pytest.raises(ConfigError, match="another recorder writes this file"):
            async with coordinating({"a": Model}, instruments=[second]):
                raise AssertionError
        with pytest.raises(ConfigError, match="listens to another cluster"):
            async with coordinating({"a": Model}, instruments=[first]):
                raise AssertionError
        await cluster.call("predict")
    assert len(rows(path)) == 1
    async with listening(second), listening(RoundRecorder(path.with_name("other"))):
        second.round_ended(None, played())
    assert len(rows(path)) == 2


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"path": 7}, "path: must be the path of a file, got 7"),
        ({"path": ""}, "path: must be the path of a file"),
        ({"path": "a\0b"}, "path: must be the path of a file"),
        ({"path": "\ud800"}, "path: must be the path of a file"),
        ({"path": "rounds", "max_bytes": 0}, "max_bytes: must be a whole number, 1 at least, got 0"),
        ({"path": "rounds", "keep": True}, "keep: must be a whole number, 0 at least"),
    ],
)
def test_wrong_settings_are_refused(setting: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        RoundRecorder(**setting)


async def test_one_that_can_not_be_opened_is_an_error_at_the_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    for path, reason in (
        (tmp_path / "no" / "where", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigError, match=rf"can't be opened: {reason}"):
            async with coordinating({"a": Model}, instruments=[RoundRecorder(path)]):
                raise AssertionError


async def test_what_waits_for_a_slow_disk_is_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on, write = threading.Event(), RecordFile.write

    def wait_and_write(file: RecordFile, lines: list[bytes]) -> None:
        go_on.wait(60)
        write(file, lines)

    monkeypatch.setattr(RecordFile, "write", wait_and_write)
    recorder, large = RoundRecorder(path), played("S" * 20_000)
    async with listening(recorder):
        for _ in range(50):
            recorder.round_ended(None, large)
            await trio.lowlevel.checkpoint()
        assert 0 < recorder.dropped < 50
        go_on.set()
    assert len(rows(path)) == 50 - recorder.dropped
    assert texts(caplog) == [f"RoundRecorder('{path}'): {recorder.dropped} rounds were not recorded"]


@pytest.mark.parametrize("where", ["write", "_is_at_path"])
async def test_a_disk_that_hangs_holds_up_nobody_who_leaves(
    path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, done, function = threading.Event(), threading.Event(), getattr(RecordFile, where)

    def hang(*arguments: Any) -> Any:
        go_on.wait(60)
        try:
            return function(*arguments)
        finally:
            done.set()

    recorder = RoundRecorder(path)
    async with coordinating({"a": Model}, shutdown_grace=0.1, instruments=[recorder]) as (_, cluster):
        monkeypatch.setattr(RecordFile, where, hang)
        await cluster.call("predict")
    assert recorder.dropped == 1
    assert not done.is_set()
    go_on.set()
    await trio.to_thread.run_sync(done.wait, 60)
    monkeypatch.undo()
    assert (rows(path) == []) is (where == "write")  # what had not begun then does not begin later
    with trio.fail_after(60):
        while True:
            try:
                async with listening(RoundRecorder(path)):  # whose lock the thread gives back
                    break
            except ConfigError:
                await trio.sleep(0.01)


def test_a_copy_of_its_descriptor_holds_no_lock_when_it_is_closed(path: Path) -> None:
    """As a child has one that was forked behind Python's back."""
    first, second = RecordFile(path, 1000, 1), RecordFile(path, 1000, 1)
    first.open()
    copy = os.dup(first.fileno())
    with pytest.raises(BlockingIOError):
        second.open()
    first.close()
    second.open()
    second.close()
    os.close(copy)
