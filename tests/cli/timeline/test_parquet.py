"""The record as a Parquet table: pandas reads back what the rounds were, and half a table has no name."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.records import Crunch, line

from trio_model_runner.cli import commands
from trio_model_runner.cli.timeline import parquet
from trio_model_runner.cli.timeline.record import Round

LINES = [
    line(
        id=1,
        statuses="SFTKA",
        details={"m1": "no\nnest"},
        values=[[1.5], None, None, None, None],
        started=7.25,
    ),
    line(
        id="x",
        method="tick",
        statuses="S",
        model_ids=["lone \ud800 half"],
        deployment_ids=[None],
        timeout=None,
    ),
    line(id=3, statuses=""),
]


def convert(tmp_path: Path, *arguments: str, lines: list[str] = LINES) -> pd.DataFrame:
    (tmp_path / "rounds.jsonl").write_text("".join(f"{each}\n" for each in lines))
    paths = [str(tmp_path / "rounds.jsonl"), "--parquet", str(tmp_path / "out")]
    ended = CliRunner().invoke(commands.commands, ["timeline", *paths, *arguments])
    assert (ended.exit_code, ended.stdout) == (0, ""), ended.output
    assert not (tmp_path / "out.part").exists()
    frame = pd.read_parquet(tmp_path / "out")
    assert ended.stderr.startswith(f"{len(frame):,} results are in ")
    return frame


def test_a_row_is_a_result(tmp_path: Path) -> None:
    frame = convert(tmp_path)
    assert list(frame.columns) == parquet.SCHEMA.names
    assert list(frame["status"]) == ["SUCCESS", "FAILED", "TIMEOUT", "SKIPPED", "ABSENT", "SUCCESS"]
    assert list(frame["model_id"]) == ["m0", "m1", "m2", "m3", "m4", "lone \\ud800 half"]
    assert list(frame["method"]) == ["predict"] * 5 + ["tick"]
    assert list(frame["sent"]) == [True, True, True, False, False, True]
    assert frame["started"][0] == pd.Timestamp(7.25, unit="s", tz="UTC")
    assert list(frame["elapsed"][:3]) == [0.25] * 3
    missing = {name: list(frame[name].isna()) for name in ("round", "elapsed", "detail", "value", "timeout")}
    assert missing == {
        "round": [False] * 5 + [True],
        "elapsed": [False, False, False, True, True, False],
        "detail": [True, False, True, True, True, True],
        "value": [False, True, True, True, True, True],
        "timeout": [False] * 5 + [True],
    }
    assert (frame["detail"][1], json.loads(frame["value"][0])) == ("no\nnest", [1.5])


def test_it_can_be_of_one_method(tmp_path: Path) -> None:
    assert len(convert(tmp_path, "--method", "tick")) == 1


def test_many_row_groups_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS", 100)
    frame = convert(tmp_path, lines=list(Crunch(60, 20, each=1).lines()))
    counts = frame.groupby("round").size()
    assert (len(counts), counts.max(), counts.min()) == (60, 20, 19)  # one joins late


def test_half_a_table_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("the last one")
    fields = json.loads(line(statuses="S"))
    told = Round(**{name: fields.get(name) for name in Round.__annotations__})

    def write_half() -> None:
        with parquet.Table(tmp_path / "out") as table:
            table.add(told)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "the last one"
