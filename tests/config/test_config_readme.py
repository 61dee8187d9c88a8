"""`config/README.md` has every setting, with its default."""

from __future__ import annotations

import re

import attrs
import pytest
from helpers.documents import chapter

from trio_model_runner.config import Backoff, ClusterConfig, Health, Keepalive, Limits, OrchestratorConfig

TABLE = chapter("config/README.md", "All settings")
PARTS = {
    "backoff": Backoff,
    "orchestrator": OrchestratorConfig,
    "health": Health,
    "limits": Limits,
    "keepalive": Keepalive,
}


def rows_of_part(part: str) -> str:
    return TABLE.partition(f"| **`{part}`** |")[2].partition("| **`")[0]


@pytest.mark.parametrize(("part", "kind"), PARTS.items(), ids=PARTS)
def test_every_setting_of_a_part_is_explained(part: str, kind: type) -> None:
    assert {field.name for field in attrs.fields(kind)} == set(re.findall(r"`\.(\w+)`", rows_of_part(part)))


def test_every_setting_is_explained() -> None:
    missing = {field.name for field in attrs.fields(ClusterConfig)} - set(re.findall(r"`(\w+)`", TABLE))
    assert not missing


def test_defaults_are_right() -> None:
    for names, values in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", TABLE, re.MULTILINE):
        check_defaults(re.findall(r"\w+", names), values, ClusterConfig("x"))
    for part, kind in PARTS.items():
        rows = re.findall(r"^\| ((?:`\.\w+`(?:, )?)+) \| ([^|]+) \|", rows_of_part(part), re.MULTILINE)
        assert rows
        for names, values in rows:
            check_defaults(re.findall(r"\w+", names), values, kind())


def check_defaults(names: list[str], values: str, settings: object) -> None:
    shown = re.split(r", (?=\S)", values)
    assert len(shown) == len(names), (names, values)
    for name, value in zip(names, shown, strict=True):
        default = getattr(settings, name)
        if isinstance(default, bool):
            assert value == str(default).lower(), name
        elif isinstance(default, int | float):
            assert float(value.replace(",", "")) == default, name
        elif isinstance(default, str) and value != "required":
            assert value == f'`"{default}"`', name
