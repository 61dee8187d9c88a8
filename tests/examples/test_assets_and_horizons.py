"""Assets and horizons: whatever way it ends, each answer that has come is in the database, once."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.programs import running

from examples.assets_and_horizons import ASSETS, HORIZONS, Asking, Store
from trio_model_runner.testing import CrunchFactory, LocalCrunch

QUESTIONS = sorted(product(ASSETS, HORIZONS))


class Forecaster:
    """Answers questions with their horizon, until it has answered so many."""

    def __init__(self, answers: int = 1_000_000) -> None:
        self.answers = answers

    async def predict(self, asset: str, horizon: int, step: int) -> float:
        assert asset in ASSETS
        assert step == 60
        if self.answers == 0:
            await trio.sleep_forever()
        self.answers -= 1
        return float(horizon)


def read(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


async def test_every_answer_to_every_question_is_kept(local_crunch: CrunchFactory, path: Path) -> None:
    async def stop_later() -> None:
        await crunch.node("b").wait_for_calls(2 * len(QUESTIONS))
        await trio.sleep(1.0)
        send_sigterm()

    async with local_crunch({"a": Forecaster(), "b": Forecaster()}) as crunch:
        with closing(Store(str(path))) as store:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_later)
                await Asking(store, period=60.0).run(crunch.config())
    rows = read(path, "SELECT asset, horizon, count(*), sum(value) FROM answers GROUP BY asset, horizon")
    assert rows == [(asset, horizon, 4, 4.0 * horizon) for asset, horizon in QUESTIONS]
    assert read(path, "SELECT DISTINCT status, detail FROM answers") == [("SUCCESS", "")]
    (first, count), (second, _) = read(path, "SELECT asked_at, count(*) FROM answers GROUP BY asked_at")
    assert count == 2 * len(QUESTIONS)
    assert first <= second  # POSIX time: the clock that jumps is another one


@pytest.mark.parametrize("way", ["SIGTERM", "cancel"])
async def test_what_has_come_is_kept_when_it_is_stopped_in_the_middle(
    local_crunch: CrunchFactory, path: Path, way: str
) -> None:
    async def stop_in_the_middle() -> None:
        await crunch.node("hangs").wait_for_calls(11)
        await crunch.settle()
        send_sigterm() if way == "SIGTERM" else nursery.cancel_scope.cancel()

    async with local_crunch({"quick": Forecaster(), "hangs": Forecaster(answers=10)}) as crunch:
        with closing(Store(str(path))) as store:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop_in_the_middle)
                await Asking(store, period=60.0).run(crunch.config(timeout=60.0))
        crunch.assert_no_reports()
    came = read(path, "SELECT model_id, count(*) FROM answers WHERE status = 'SUCCESS' GROUP BY model_id")
    assert came == [("hangs", 10), ("quick", len(QUESTIONS))]
    others = read(
        path, "SELECT model_id, status, count(*) FROM answers WHERE status != 'SUCCESS' GROUP BY 1, 2"
    )
    assert others == ([("hangs", "TIMEOUT", len(QUESTIONS) - 10)] if way == "SIGTERM" else [])


async def test_as_a_program_it_ends_with_sigterm_when_all_is_written(path: Path) -> None:
    async with LocalCrunch({"a": Forecaster()}, crunch_id="condor") as crunch:
        async with running("assets_and_horizons.py", crunch, str(path)) as program:
            await crunch.node("a").wait_for_calls(len(QUESTIONS))
            program.terminate()
            await program.wait()
        assert program.returncode == 0, program.output
    assert read(path, "SELECT status, count(*) FROM answers") == [("SUCCESS", len(QUESTIONS))]
