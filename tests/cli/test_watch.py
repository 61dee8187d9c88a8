"""`watch` shows what a crunch does: as a screen, as lines, as JSON; whatever its source says."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.status_sockets import round_event, serving_lines, snapshot_event
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from trio.testing import MockClock

from trio_model_runner import Cluster, DynamicSubclassService
from trio_model_runner.cli.watching.lines import describe
from trio_model_runner.cli.watching.picture import Picture
from trio_model_runner.cli.watching.record_source import Follower, events_of_record
from trio_model_runner.cli.watching.screen import draw
from trio_model_runner.cli.watching.socket_source import JSONLines, events_of, events_of_socket
from trio_model_runner.instruments import RoundRecorder, StatusSocket
from trio_model_runner.testing import LocalCrunch

COMMAND = [sys.executable, "-W", "error", "-m", "trio_model_runner", "watch"]


def model(model_id: str, state: str = "ready", error: str | None = None, name: str = "") -> dict[str, Any]:
    return {"model_id": model_id, "name": name, "state": state, "error": error}


def picture_of(*events: Any) -> Picture:
    picture = Picture()
    for event in events:
        picture.apply(event)
    return picture


def drawn(picture: Picture, width: int = 100, rows: int = 20, *, now: float | None = None) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    console.print(draw(picture, width=width, rows=rows, now=time.time() if now is None else now, hint="hint"))
    return file.getvalue().splitlines()


# The picture


def test_the_worst_come_first_and_who_is_well_may_be_left_out() -> None:
    picture = picture_of(
        snapshot_event(model("a"), model("b"), model("c", "failed", "no connection"), model("d")),
        round_event({"a": "S", "b": "T", "c": "A", "d": "S"}, details={"b": "no answer"}),
        round_event({"a": "S", "b": "S", "c": "A", "d": "F"}, details={"d": "raised"}),
    )
    assert [view.model_id for view in picture.worst()] == ["c", "d", "b", "a"]
    lines = drawn(picture, rows=3)
    assert lines[0].startswith("bird-game  orchestrator connected  4 models: 3 ready, 1 failed")
    assert lines[1].startswith(
        "round 7: predict: 2 of 4 SUCCESS (1 FAILED, 1 ABSENT) in 0.500 s of 2 s, 0 s ago"
    )
    assert re.match(r"c +failed +AA +no connection", lines[3])
    assert re.match(r"d +ready +\.F +raised", lines[4])
    assert re.match(r"b +ready +T\. +0\.250", lines[5])
    assert lines[6].startswith("… and 1 more, all well")


@pytest.mark.parametrize("width", [64, 80, 120])
def test_in_a_narrow_terminal_titles_are_whole_and_what_is_alarming_is_first(width: int) -> None:
    states = ["ready"] * 20 + ["failed", "connecting", "recovering", "set up", "joining"] * 3
    rows = [model(f"a-model-with-a-long-id-{number}", state) for number, state in enumerate(states)]
    picture = picture_of(snapshot_event(*rows, reports_pending=1, reports_held=2))
    lines = drawn(picture, width)
    assert re.fullmatch(r"model +state +(last )?rounds +seconds +trouble", lines[2].strip())
    assert lines[0].startswith("bird-game  orchestrator connected  reports: 1 pending, 2 held")
    assert ("35 models: 20 ready, 3 failed" in lines[0]) == (width == 120)
    assert len(lines[0]) <= width


def test_what_the_coordinator_knows_is_shown_before_any_round_is_seen() -> None:
    report = {"code": "MULTIPLE_TIMEOUT", "stage": "pending", "method": "predict"}
    known = {"last_status": "TIMEOUT", "last_elapsed": 2.0, "busy_with": "predict", "report": report}
    picture = picture_of(snapshot_event(model("a"), model("b") | known))
    assert re.match(
        r"b +ready +T +2\.000  still busy with predict; report pending: MULTIPLE_TIMEOUT",
        drawn(picture, 120)[3],
    )
    change = {"type": "change", "change": {"kind": "updated", "model": model("b")}}
    picture.apply(change)
    assert "still busy" in drawn(picture)[3]


def test_it_says_that_no_model_runs() -> None:
    event = snapshot_event(models={})
    assert "no model runs" in drawn(picture_of(event))[0]
    assert "bird-game: no model runs; orchestrator connected" in (describe(event) or "")


def test_models_that_have_left_are_forgotten() -> None:
    change = {"type": "change", "change": {"kind": "left", "model": model("b", "gone")}}
    picture = picture_of(snapshot_event(model("a"), model("b"), model("c")), change)
    assert set(picture.models) == {"a", "c"}
    picture.apply(snapshot_event(model("c"), model("d")))
    assert set(picture.models) == {"c", "d"}


def test_it_says_when_nothing_is_heard_and_when_the_orchestrator_is_away() -> None:
    picture = picture_of(
        snapshot_event(model("a")), {"type": "orchestrator", "connected": False, "error": "refused"}
    )
    assert "orchestrator AWAY: refused" in drawn(picture)[0]
    picture.apply({"type": "silence", "at": 1021.0, "since": 1000.0})
    assert "NOTHING HEARD FOR 60 s" in drawn(picture, now=1060.0)[0]
    picture.apply({"type": "orchestrator", "connected": True, "error": None})
    assert "NOTHING" not in drawn(picture)[0]
    picture.apply({"type": "end", "at": 1070.0})
    assert "the coordinator has ended" in drawn(picture)[0]


@pytest.mark.parametrize("said", [[], [snapshot_event(model("a"))], [b"no JSON\n"]])
async def test_a_coordinator_that_stands_still_is_an_alarm(
    tmp_path: Path, autojump_clock: MockClock, said: list[Any]
) -> None:
    """Also one that accepts, and says nothing at all."""
    heard: list[dict[str, Any]] = []
    async with serving_lines(tmp_path / "s", *said, hold=True) as path:
        with trio.move_on_after(100):
            await events_of_socket(path, heard.append)
    events = [event for event in said if isinstance(event, dict)]
    assert [event["type"] for event in heard] == [*(event["type"] for event in events), "silence"]
    assert "nothing heard since" in (describe(heard[-1]) or "")
    assert "NOTHING HEARD FOR" in drawn(picture_of(*heard))[0]


async def test_who_speaks_every_ten_seconds_does_not_stand_still(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    heard = []

    async def speak() -> None:
        async with theirs:
            for seconds in (10, 20, 10, 30, 10):
                await trio.sleep(seconds)
                await theirs.send_all(b'{"type": "round"}\n')

    async with trio.open_nursery() as nursery, aclosing(events_of(ours, patience=21.0)) as events:
        nursery.start_soon(speak)
        heard = [event["type"] async for event in events]
    assert heard == ["round", "round", "round", "silence", "round", "round"]


NASTY = "\x1b[31m\n\r\u202e\u2066\x07鳥" + "x" * 5000


@pytest.mark.parametrize("width", [56, 80, 200])
def test_nothing_from_outside_garbles_the_screen_or_a_line(width: int) -> None:
    events = [
        snapshot_event(
            model(NASTY, "failed", NASTY, NASTY), model("b", NASTY), crunch_id=NASTY, models={NASTY: 1}
        ),
        round_event({NASTY: "F", "b": "T"}, details={NASTY: NASTY, "b": NASTY}, method=NASTY, id=NASTY),
        {"type": "orchestrator", "connected": False, "error": NASTY},
        {"type": "change", "change": {"kind": NASTY, "model": model(NASTY), "error": NASTY}},
        {"type": "report", "stage": NASTY, "why": NASTY, "report": {"model_id": NASTY, "code": NASTY}},
    ]
    lines = drawn(picture_of(*events), width=width)
    assert all(line.isprintable() and cell_len(line) <= width for line in lines)
    assert len(lines) == 6
    described = [describe(event) or "" for event in events]
    assert all(line.isprintable() and len(line) < 1100 for line in described)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "snapshot", "round", "change", "model", "model_ids", "statuses", "at"])
            | st.sampled_from(
                ["elapsed", "details", "models", "model_rows", "model_id", "state", "kind", "seconds"]
            ),
            inner | st.sampled_from(["snapshot", "round", "change", "orchestrator", "report", "STF", "left"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


EVENTS = st.dictionaries(st.sampled_from(["type", "snapshot", "round", "change", "at"]), JSON)


@given(st.lists(EVENTS, max_size=3))
def test_any_json_is_borne(events: list[dict[str, Any]]) -> None:
    kinds = ("snapshot", "round", "change", "orchestrator", "report", "end")
    rows = [event | {"type": kind} for event in events for kind in kinds]
    assert all((describe(row) or "").isprintable() for row in rows)
    drawn(picture_of(*rows, round_event({"a": "S"})))


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_are_cut_anywhere(noise: list[bytes], step: int) -> None:
    rows = [{"a": 1}, {"b": "鳥"}]
    data = b"\n".join([*noise, *(json.dumps(row).encode() for row in rows), b'{"torn'])
    lines = JSONLines()
    found = [row for start in range(0, len(data), step) for row in lines.feed(data[start : start + step])]
    assert [row for row in found if row in rows][-2:] == rows


# A record


def record_line(number: int) -> bytes:
    return json.dumps(round_event({"a": "S"}, id=number)["round"]).encode() + b"\n"


def test_a_record_is_followed_through_torn_lines_and_new_files(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"

    def seen() -> list[int]:
        return [event["round"]["id"] for event in follower.look()]

    path.write_bytes(record_line(1) + record_line(2)[:20])
    follower = Follower(str(path))
    with contextlib.closing(follower):
        assert seen() == [1]
        with path.open("ab") as file:
            file.write(record_line(2)[20:])
        assert seen() == [2]
        with path.open("ab") as file:
            file.write(record_line(3) + b'{"torn')
        path.rename(tmp_path / "rounds.jsonl.1")
        assert seen() == [3]  # of the old file
        assert seen() == []
        path.write_bytes(record_line(4))
        assert seen() == [4]
        path.write_bytes(b"")
        assert seen() == []
        path.write_bytes(record_line(5))
        assert seen() == [5]


def test_of_a_long_record_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_model_runner.cli.watching.record_source._LAST_BYTES", 1000)
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(b"".join(map(record_line, range(100))))
    follower = Follower(str(path))
    with contextlib.closing(follower):
        assert 0 < len(follower.look()) <= 1000 // len(record_line(1))


# As a command


async def watched(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    ended = await trio.run_process(
        [*COMMAND, *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


async def test_in_a_pipe_events_are_lines(tmp_path: Path) -> None:
    events = [snapshot_event(model("a")), round_event({"a": "S"}), {"type": "new in 2027"}, snapshot_event()]
    async with serving_lines(tmp_path / "s", *events, {"type": "end", "at": 1.0}) as path:
        code, out, err = await watched(path)
    assert (code, err) == (0, "")
    assert [line[10:] for line in out.splitlines()] == [
        "bird-game: 1 ready; orchestrator connected",
        "round 7: predict: 1 of 1 SUCCESS in 0.500 s of 2 s",
        "the coordinator has ended",
    ]


async def test_json_is_what_came_and_a_lost_coordinator_is_a_finding(tmp_path: Path) -> None:
    events = [snapshot_event(model("a")), {"type": "new in 2027", "x": [1]}]
    async with serving_lines(tmp_path / "s", *events) as path:
        code, out, err = await watched(path, "--json")
    assert code == 1
    assert [json.loads(line) for line in out.splitlines()] == events
    assert err.startswith("the coordinator was lost")


async def test_observing_warns_of_what_it_costs_and_tells_who_can_be_reached() -> None:
    async with LocalCrunch({"a": object, "b": object}, crunch_id="birds") as crunch:
        port = str(crunch.orchestrator.port)
        process = await trio.lowlevel.open_process(
            [*COMMAND, "--observe", "--crunch-id", "birds", "--port", port, "--host", "127.0.0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = b""
        with trio.fail_after(30):
            while b"2 reachable" not in said:
                said += await process.stdout.receive_some()
            await crunch.remove("b")
            while b"b left" not in said:
                said += await process.stdout.receive_some()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 143
        warning = await process.stderr.receive_some()
        assert warning.startswith(b"warning: --observe is one client more")
        assert b"Traceback" not in warning


@pytest.mark.parametrize("arguments", [[], ["s", "--observe"], ["--record", "x", "--observe"]])
def test_one_source_must_be_given(arguments: list[str]) -> None:
    from click.testing import CliRunner

    from trio_model_runner.cli.commands import commands

    ended = CliRunner().invoke(commands, ["watch", *arguments])
    assert ended.exit_code == 2
    assert "give one of SOCKET, --record FILE and --observe" in ended.output


@pytest.mark.parametrize("source", [["s"], ["--record", "x"]])
@pytest.mark.parametrize("option", [["--host", "b"], ["--config", "c"], ["--no-tls"], ["--credentials", "d"]])
def test_settings_are_for_observing_alone(source: list[str], option: list[str]) -> None:
    from click.testing import CliRunner

    from trio_model_runner.cli.commands import commands

    ended = CliRunner().invoke(commands, ["watch", *source, *option])
    assert ended.exit_code == 2
    assert "the options for settings are for --observe" in ended.output


@contextlib.contextmanager
def terminal(width: int, height: int) -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    try:
        yield ours, theirs
    finally:
        os.close(ours)


@pytest.mark.parametrize("color", [True, False])
async def test_on_a_terminal_it_is_a_screen_that_ctrl_c_leaves_clean(tmp_path: Path, color: bool) -> None:
    events = [snapshot_event(model("a"), model("b", "failed", "gone")), round_event({"a": "S", "b": "A"})]
    environment = {**os.environ, "TERM": "xterm-256color"} | ({} if color else {"NO_COLOR": "1"})
    async with serving_lines(tmp_path / "s", *events, hold=True) as path:
        with terminal(80, 10) as (ours, theirs):
            process = await trio.lowlevel.open_process(
                [*COMMAND, path], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
            )
            os.close(theirs)
            shown = await read_until(ours, b"gone")
            process.send_signal(signal.SIGINT)
            rest = await read_until(ours, None)
            assert await process.wait() == 130
    assert shown.startswith(b"\x1b[?1049h")  # the other screen
    assert rest.endswith(b"\x1b[?25h\x1b[?1049l")  # the cursor and the old screen are there again
    assert (b"\x1b[31mfailed" in shown) is color
    assert b"failed" in shown
    assert b"Traceback" not in shown + rest


@pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="started by nohup")
async def test_ctrl_z_and_a_hangup_give_the_terminal_back(tmp_path: Path) -> None:
    async with serving_lines(tmp_path / "s", snapshot_event(model("owl")), hold=True) as path:
        with terminal(80, 10) as (ours, theirs):
            process = await trio.lowlevel.open_process(
                [*COMMAND, path], stdin=theirs, stdout=theirs, stderr=theirs,
                env={**os.environ, "TERM": "xterm-256color"},
            )  # fmt: skip
            os.close(theirs)
            try:
                await read_until(ours, b"owl")
                process.send_signal(signal.SIGTSTP)
                await read_until(ours, b"\x1b[?1049l")
                await until_stopped(process.pid)  # SIGCONT before SIGSTOP would leave it stopped for ever
                process.send_signal(signal.SIGCONT)
                await read_until(ours, b"owl")
                process.send_signal(signal.SIGHUP)
                assert (await read_until(ours, None)).endswith(b"\x1b[?25h\x1b[?1049l")
                assert await process.wait() == 129
            finally:
                process.kill()  # one that is left would fail the next test
                with trio.CancelScope(shield=True):
                    await process.wait()


async def until_stopped(pid: int) -> None:
    """Wait until a process of ours has been stopped by a signal."""
    wait = functools.partial(os.waitid, os.P_PID, pid, os.WSTOPPED)
    with trio.fail_after(30):
        await trio.to_thread.run_sync(wait, abandon_on_cancel=True)


async def read_until(file: int, what: bytes | None) -> bytes:
    """What comes from a terminal, until something is in it, or for None until it is closed."""
    data = b""
    with trio.fail_after(30):
        while what is None or what not in data:
            if not select.select([file], [], [], 0)[0]:
                await trio.sleep(0.01)
                continue
            try:
                piece = os.read(file, 1 << 16)
            except OSError:
                piece = b""
            if not piece:
                break
            data += piece
    return data


async def test_a_reader_who_has_gone_is_no_traceback(tmp_path: Path) -> None:
    events = [snapshot_event(model("a")), *(round_event({"a": "S"}) for _ in range(2000))]
    async with serving_lines(tmp_path / "s", *events, hold=True) as path:
        read_end, write_end = os.pipe()
        os.close(read_end)
        try:
            ended = await trio.run_process(
                [*COMMAND, path], stdout=write_end, capture_stderr=True, check=False
            )
        finally:
            os.close(write_end)
    assert (ended.returncode, ended.stderr.decode()) == (1, "")


def test_the_rows_are_those_of_a_real_snapshot() -> None:
    async def main() -> dict[str, Any]:
        async with LocalCrunch({"a": object}) as crunch, Cluster(crunch.config()) as cluster:
            row = cluster.snapshot().to_dict()
            row["model_rows"] = [each.to_dict() for each in cluster.announced.values()]
            return row

    picture = picture_of({"type": "snapshot", "snapshot": trio.run(main)})
    assert picture.models["a"].state == "reachable"


class Seeing:
    """Puts events into a picture, and wakes up whoever waits for one of a type."""

    def __init__(self) -> None:
        self.picture = Picture()
        self.seen = {kind: trio.Event() for kind in ("snapshot", "round", "end")}

    def tell(self, event: dict[str, Any]) -> None:
        self.picture.apply(event)
        if event["type"] in self.seen:
            self.seen[event["type"]].set()


async def test_a_real_status_socket_and_a_real_record_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    from_socket, from_record = Seeing(), Seeing()
    instruments = [StatusSocket("status.sock"), RoundRecorder("rounds.jsonl")]
    async with LocalCrunch({"a": object}, crunch_id="birds") as crunch, trio.open_nursery() as nursery:
        config, service = crunch.config(), DynamicSubclassService("a.B")
        with trio.fail_after(30):
            async with Cluster(config, service, instruments=instruments) as cluster:
                nursery.start_soon(events_of_socket, "status.sock", from_socket.tell)
                await from_socket.seen["snapshot"].wait()
                await cluster.call("__repr__")
                nursery.start_soon(events_of_record, "rounds.jsonl", from_record.tell)
                await from_socket.seen["round"].wait()
                await from_record.seen["round"].wait()
            await from_socket.seen["end"].wait()
        nursery.cancel_scope.cancel()
    assert from_socket.picture.models["a"].state == "ready"
    assert from_socket.picture.ended
    for picture in (from_socket.picture, from_record.picture):
        assert picture.crunch_id == "birds"
        assert picture.last_round is not None
        assert (picture.last_round.method, dict(picture.last_round.counts)) == ("__repr__", {"S": 1})
        assert list(picture.models["a"].statuses) == ["S"]
