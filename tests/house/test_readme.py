"""The README is true: its examples are Python, its tables have every setting, its test command is that of CI.

Its example of a test runs in `testing/test_chapter.py`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import attrs
import pytest

import trio_model_runner
from trio_model_runner.config import Backoff, ClusterConfig, Health, Keepalive, Limits, OrchestratorConfig
from trio_model_runner.values.failure_codes import FailureCode
from trio_model_runner.values.results import Status

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PARTS = {
    "backoff": Backoff,
    "orchestrator": OrchestratorConfig,
    "health": Health,
    "limits": Limits,
    "keepalive": Keepalive,
}


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_the_examples_are_python(code: str) -> None:
    compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_test_command_is_what_ci_runs() -> None:
    (command,) = re.findall(r"^python3 -m venv .*pytest -n 3$", README, re.MULTILINE)
    words = (ROOT / ".ci" / "run").read_text().replace("--quiet --disable-pip-version-check ", "")
    assert command in re.sub(r"timeout .* (?=\S+/python -m pytest)", "", words)


def rows_of_part(part: str) -> str:
    begin = README.index(f"| **`{part}`** |")
    end = README.find("| **`", begin + 1)
    return README[begin : end if end >= 0 else README.index("## Statuses")]


@pytest.mark.parametrize(("part", "kind"), PARTS.items(), ids=PARTS)
def test_every_setting_of_a_part_is_explained(part: str, kind: type) -> None:
    rows = rows_of_part(part)
    missing = {field.name for field in attrs.fields(kind)} - set(re.findall(r"`\.(\w+)`", rows))
    assert not missing


def test_every_setting_is_explained() -> None:
    table = README[README.index("| field | default |") : README.index("## Statuses")]
    missing = {field.name for field in attrs.fields(ClusterConfig)} - set(re.findall(r"`(\w+)`", table))
    assert not missing


def test_defaults_of_counts_and_sizes_are_right() -> None:
    found = dict(re.findall(r"^\| `\.(\w+)` \| ([\d,.]+) \|", rows_of_part("limits"), re.MULTILINE))
    assert {name: int(value.replace(",", "")) for name, value in found.items()} == attrs.asdict(Limits())


def test_every_status_and_report_is_explained() -> None:
    assert all(f"`{status}`" in README for status in Status)
    assert all(code in README for code in FailureCode)


def test_public_names_are_there_and_listed() -> None:
    for name in trio_model_runner.__all__:
        assert getattr(trio_model_runner, name).__name__ == name
    assert set(trio_model_runner.__all__) <= set(dir(trio_model_runner))
    with pytest.raises(AttributeError, match="has no attribute 'Clutser'"):
        _ = trio_model_runner.Clutser
