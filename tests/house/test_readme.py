"""The README is so: its programs run and stop, its commands say what is so, and its tests are those of CI.

Its chapters on histories, tests and other loops run in `cluster/` and `testing/`; see `test_documents.py`.
"""

# ruff: noqa: ASYNC240 - files of a test

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.documents import ROOT, block, chapter, documents

import trio_model_runner
from trio_model_runner import ClusterConfig
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.values.failure_codes import FailureCode
from trio_model_runner.values.results import Status

README = documents()["README.md"]
PACKAGE = Path(trio_model_runner.__file__).parent


class Bird:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def tick(self, payload: Any) -> None:
        self.seen.append(payload)

    async def predict(self) -> float:
        await trio.sleep(0.3)
        return 1.5


def test_the_test_command_is_what_ci_runs() -> None:
    (command,) = re.findall(r"^python3 -m venv .*pytest -n 3$", README, re.MULTILINE)
    words = (ROOT / ".ci" / "run").read_text().replace("--quiet --disable-pip-version-check ", "")
    assert command in re.sub(r"timeout .* (?=\S+/python -m pytest)", "", words)


def test_every_status_and_report_is_explained() -> None:
    statuses = re.findall(r"^- `([A-Z]+)`: ", chapter("README.md", "Statuses"), re.MULTILINE)
    assert statuses == [*Status]
    assert set(re.findall(r"`([A-Z]+_[A-Z]+)`", chapter("README.md", "Blame"))) == {*FailureCode}
    config = ClusterConfig("x")
    assert config.max_consecutive_failures == config.max_consecutive_timeouts == 3
    assert "(3, of one method)" in chapter("README.md", "Blame")


def test_it_can_be_read_in_ten_minutes() -> None:
    assert len(README.splitlines()) <= 240
    assert max(len(line) for line in README.splitlines() if not line.startswith("|")) <= 120


def test_the_door_from_asyncio_has_what_its_runners_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    brought = {re.split(r"[<>=]", each)[0] for each in extras["compat"]}
    assert brought == {"anyio", "pandas", "pyarrow"}  # frames="pandas" is refused without the last two


def test_public_names_are_there_and_listed() -> None:
    for name in trio_model_runner.__all__:
        assert getattr(trio_model_runner, name).__name__ == name
    assert set(trio_model_runner.__all__) <= set(dir(trio_model_runner))
    with pytest.raises(AttributeError, match="has no attribute 'Clutser'"):
        _ = trio_model_runner.Clutser


# Its programs, as a reader runs them


def environment(**variables: str) -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path[1:]]), **variables}


def test_the_coordinator_prints_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "coordinator.py").write_text(block("README.md#a-coordinator"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "coordinator.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    first, *rest = re.sub(r" in \S+ s", " in ... s", done.stdout).splitlines()
    assert rest[:2] == ["robin SUCCESS 22.2 ", "wren SUCCESS 22.2 "]
    shown = re.findall(r"# ((?:round|snail) .*)", block("README.md#a-coordinator"))
    assert [first, *rest[2:]] == [re.sub(r" in \S+ s", " in ... s", line) for line in shown]


@asynccontextmanager
async def service_running(
    directory: Path, crunch: LocalCrunch, program: str = block("README.md#stopping")
) -> AsyncIterator[trio.Process]:
    (directory / "history.py").write_text(block("README.md#models-that-join-late"))
    (directory / "service.py").write_text(program)
    (directory / "config.toml").write_text(
        f'[trio-model-runner]\ncrunch_id = "{crunch.crunch_id}"\nport = {crunch.orchestrator.port}\n'
    )
    command = [sys.executable, "-W", "error", "-u", "service.py", "config.toml"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = await trio.lowlevel.open_process(command, cwd=directory, env=environment(), **pipes)
    try:
        with trio.fail_after(60):
            yield process
    finally:
        process.kill()
        await process.wait()


async def read_all(process: trio.Process) -> bytes:
    assert process.stdout is not None
    return b"".join([data async for data in process.stdout])


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_the_service_lets_its_round_end_and_says_goodbye(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    async with (
        LocalCrunch({"a": Bird(), "b": Bird()}) as crunch,
        service_running(tmp_path, crunch) as process,
    ):
        await crunch.node("a").wait_for_calls(4)  # the second prediction is under way
        process.send_signal(signal_number)
        output = await read_all(process)
        assert await process.wait() == 0
        seen = crunch.node("a").instance.seen
    lines = output.decode().splitlines()
    assert [line.partition(" in ")[0] for line in lines] == [
        "round 2: predict: 2 of 2 SUCCESS",
        "round 4: predict: 2 of 2 SUCCESS",
    ]
    assert seen == [{"dove_location": 19.2}] * 2


async def test_the_service_leaves_while_it_is_entered(tmp_path: Path) -> None:
    async with LocalCrunch({"a": Bird()}) as crunch:
        crunch.node("a").faults.hang_setup = True
        async with service_running(tmp_path, crunch) as process:
            await crunch.orchestrator.wait_for_connections()
            process.send_signal(signal.SIGTERM)
            output = await read_all(process)
            assert (await process.wait(), output) == (0, b"")


async def test_the_commands_show_the_service_and_its_metrics_are_scraped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the chapter runs while the program of the one before does, with what the text adds."""
    monkeypatch.chdir(tmp_path)
    text = chapter("README.md", "At three in the morning")
    assert "`PrometheusInstrument()`" in text
    assert "`prometheus_client.start_http_server(9100)`" in text
    program = block("README.md#stopping")
    program = program.replace("import sys\n", "import sys\n\nimport prometheus_client\n")
    program = program.replace("StatusSocket\n", "PrometheusInstrument, StatusSocket\n")
    program = program.replace("instruments = [", "instruments = [PrometheusInstrument(), ")
    program = program.replace("trio.run(", f"{SERVE_METRICS}trio.run(")
    said = {}
    async with (
        LocalCrunch({"a": Bird(), "b": Bird()}, crunch_id="bird-game") as crunch,
        service_running(tmp_path, crunch, program) as process,
    ):
        await crunch.node("a").wait_for_calls(4)
        assert process.stdout is not None
        port = int((await process.stdout.receive_some()).split()[0])
        for command in block("README.md#at-three-in-the-morning").splitlines():
            words = command.split()[1:]
            said[words[0]] = await run_command(words, until="ready" if words[0] == "watch" else "")
        url = f"http://127.0.0.1:{port}/metrics"
        page = await trio.to_thread.run_sync(lambda: urllib.request.urlopen(url).read().decode())
    assert [*said] == ["watch", "status", "timeline"]
    assert "2 ready" in said["watch"]
    assert said["status"].startswith("ok: bird-game; 2 ready; last round ")
    assert Path("rounds.html").exists()
    assert re.search(r'^trio_model_runner_results_total{.*method="predict",.*} [1-9]', page, re.MULTILINE)


SERVE_METRICS = """server, _ = prometheus_client.start_http_server(0)
print(server.server_port)
"""


async def run_command(words: list[str], until: str) -> str:
    """What a command says: all of it, or up to something."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [sys.executable, "-u", "-m", "trio_model_runner", *words]
    process = await trio.lowlevel.open_process(command, env=environment(), **pipes)
    output = b""
    assert process.stdout is not None
    async for data in process.stdout:
        output += data
        if until and until.encode() in output:
            process.send_signal(signal.SIGINT)
    await process.wait()
    return output.decode()
