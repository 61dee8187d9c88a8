"""`status` says in one line whether a coordinator is well, by its StatusSocket."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.status_sockets import serving_lines, snapshot_event
from rich.console import Console
from trio.testing import MockClock

from trio_model_runner import Cluster, DynamicSubclassService
from trio_model_runner.cli import status_command
from trio_model_runner.cli.running import Failure
from trio_model_runner.instruments import StatusSocket
from trio_model_runner.testing import LocalCrunch


async def status_of(path: str, max_age: float = 30.0, *, as_json: bool = False) -> tuple[int, str]:
    file = io.StringIO()
    console = Console(file=file, width=40, highlight=False, markup=False, emoji=False)
    event = await status_command.first_snapshot(path)
    code = status_command.show_status(console, event, max_age, as_json=as_json)
    return code, file.getvalue()


@pytest.mark.parametrize(
    ("changes", "max_age", "code", "text"),
    [
        ({}, 30.0, 0, "ok: bird-game; 2 ready, 1 failed; last round 0."),
        ({"last_round_at": 1e9}, 30.0, 1, "which is more than 30 s; 2 ready"),
        ({"last_round_at": None}, 30.0, 1, "NOT WELL: bird-game; no round has ended yet; 2 ready"),
        ({"last_round_at": None}, float("inf"), 0, "ok: bird-game; 2 ready, 1 failed\n"),
        (
            {"orchestrator_connected": False, "orchestrator_error": "\x1b[31mrefused\nx" + "y" * 900},
            30.0,
            1,
            "the orchestrator is away: \\x1b[31mrefused xyyy",
        ),
    ],
)
async def test_it_is_one_line_and_a_code(
    tmp_path: Path, changes: dict[str, Any], max_age: float, code: int, text: str
) -> None:
    event = snapshot_event(models={"failed": 1, "ready": 2}, **changes)
    async with serving_lines(tmp_path / "s", {"type": "unknown"}, b"no json\n", event, hold=True) as path:
        ended_with, out = await status_of(path, max_age)
    assert (ended_with, text in out) == (code, True), out
    assert out.count("\n") == 1
    assert out[:-1].isprintable()


async def test_what_a_stranger_says_is_bounded(tmp_path: Path) -> None:
    states = {f"{number}" * 1000: 1e300 for number in range(1000)}
    event = snapshot_event(models=states, crunch_id="c" * 100_000, last_round_at=1e300)
    async with serving_lines(tmp_path / "s", event) as path:
        _, out = await status_of(path)
    assert out.count("\n") == 1
    assert len(out) < 1000


async def test_a_real_status_socket_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    async with (
        LocalCrunch({"a": object}, crunch_id="birds") as crunch,
        Cluster(
            crunch.config(), DynamicSubclassService("a.B"), instruments=[StatusSocket("status.sock")]
        ) as cluster,
    ):
        code, out = await status_of("status.sock")
        assert (code, out) == (1, "NOT WELL: birds; no round has ended yet; 1 ready\n")
        await cluster.call("__repr__")
        code, out = await status_of("status.sock")
        assert (code, out.startswith("ok: birds; 1 ready; last round 0.")) == (0, True)


async def test_json_has_the_same(tmp_path: Path) -> None:
    event = snapshot_event(models={"ready": 2}, last_round_at=time.time() - 100)
    async with serving_lines(tmp_path / "s", event) as path:
        code, out = await status_of(path, as_json=True)
    row = json.loads(out)
    assert code == 1
    assert row["ok"] is False
    assert row["models"] == {"ready": 2}
    assert 99 < row["last_round_age"] < 200


@pytest.mark.parametrize(
    ("exists", "reason"),
    [
        (None, "there is no such socket"),
        ("file", "is no socket"),
        ("directory", "is no socket"),
        ("left", "nobody"),
    ],
)
async def test_where_no_coordinator_runs_it_says_so(tmp_path: Path, exists: str | None, reason: str) -> None:
    path = tmp_path / "s"
    if exists == "file":
        path.touch()
    if exists == "directory":
        path.mkdir()
    if exists == "left":
        async with serving_lines(path):
            pass
    with pytest.raises(Failure, match=reason) as caught:
        await status_of(str(path))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("path", "advice"),
    [("", "name the socket of the coordinator's StatusSocket"), ("x" * 200, "use a relative one")],
)
async def test_what_no_socket_can_be_called_is_refused_with_advice(path: str, advice: str) -> None:
    with pytest.raises(Failure, match=advice) as caught:
        await status_of(path)
    assert repr(path) in str(caught.value)
    assert caught.value.exit_code == 2


async def test_a_coordinator_that_says_nothing_stands_still(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with serving_lines(tmp_path / "s", hold=True) as path:
        with pytest.raises(Failure, match="stands still"):
            await status_of(path)


async def test_who_is_sent_away_is_told_why(tmp_path: Path) -> None:
    async with serving_lines(tmp_path / "s") as path:
        with pytest.raises(Failure, match="too many readers"):
            await status_of(path)
