"""What the door says is true: its example runs, all names are there, and what an extra brings is named."""

# ruff: noqa: ASYNC240 - files of a test

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.documents import block
from trio.testing import MockClock

from trio_model_runner import instruments
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch


class Bird:
    def predict(self) -> float:
        raise ValueError("no feathers")


async def test_the_example_runs(
    tmp_path: Path,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block("instruments/__init__.py"), names)
    async with LocalCrunch({"a": Bird(), "b": Bird()}, network=MemoryNetwork()) as crunch:
        await names["play"](crunch.config())
    assert capsys.readouterr().out.count("half of the models are away: round") == 3
    rows = [json.loads(line) for line in Path("rounds.jsonl").read_text().splitlines()]
    assert [row["statuses"] for row in rows] == ["FF"] * 3
    assert not Path("status.sock").exists()


def test_all_names_are_there() -> None:
    for name in instruments.__all__:
        assert getattr(instruments, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Recorder'"):
        _ = instruments.Recorder  # type: ignore[attr-defined]


WITHOUT = """
import sys
sys.modules["opentelemetry"] = sys.modules["prometheus_client"] = None
from trio_model_runner import instruments
for name in ("PrometheusInstrument", "OpenTelemetryInstrument"):
    try:
        getattr(instruments, name)
    except ImportError as error:
        print(error)
"""


def test_without_the_extras_the_rest_can_be_used_and_they_are_named() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert "PrometheusInstrument needs prometheus-client, which is not installed" in first
    assert "this package's extra 'otel'" in second
