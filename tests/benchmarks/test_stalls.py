"""`stalls.py` runs. What it measures is not looked at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(
    str(Path(__file__).parent)
)  # the benchmarks are scripts, which import each other by bare names

import stalls


async def test_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["nothing", "inline_as_floats", "as_set_of_one_hash"]
    await stalls.main(kinds, repeat=1)
    *_, rows = capsys.readouterr().out.partition("|---|\n")
    assert [row.split(" | ")[0] for row in rows.splitlines()] == [f"| {kind}" for kind in kinds]
    assert rows.count("| a value") == 2
    assert rows.count("has more than 100 items") == 1
