"""Strangers' frames in the answers of one model: what becomes of them, and that nobody else notices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
import trio
from helpers.coordinating import coordinating
from helpers.insides import failures_of, timeouts_of
from helpers.processes import reader_processes
from helpers.strangers_frames import FRAMES, arrow_of, parquet_of

from trio_model_runner import (
    Arguments,
    DataType,
    Encoded,
    InvalidAnswer,
    PredictionRound,
    PredictResult,
    ReadersUnavailable,
    Status,
)
from trio_model_runner.config import Health
from trio_model_runner.frame_readers import process

HONEST = pyarrow.table({"a": [1.0, 2.0], "b": ["x", "y"]})
REFUSED = ("list_view", "list_view_in_map", "many_columns", "deep_type", "long_name", "broken")
READ = ("wide_labels", "deep_attributes")
BOTH_WAYS = ("bomb", "many_lists")


class Node:
    """Answers an honest frame."""

    def __init__(self, *_: Any) -> None:
        pass

    def frame(self, _: str) -> Encoded:
        return parquet_of(HONEST)


class Stranger(Node):
    """Answers the frame that it is asked for."""

    def frame(self, name: str) -> Encoded:
        return FRAMES[name]() if name in FRAMES else Encoded(DataType.ARROW, name.encode())


MODELS = {"stranger": Stranger, "a": Node, "b": Node}
ALONE = Health(require_witness=False)  # so that everything counts


def by_id(results: PredictionRound[Any]) -> dict[str, PredictResult[Any]]:
    return dict(results.by_id)


@pytest.mark.parametrize("frames", ["arrow", "pandas"])
async def test_a_stranger_s_frame_is_its_own_result_and_nobody_else_s(frames: Any) -> None:
    async with coordinating(MODELS, frames=frames, timeout=20) as (_, cluster):
        for name in (*REFUSED, *READ, *BOTH_WAYS):
            results = by_id(await cluster.call("frame", Arguments(name)))
            stranger = results.pop("stranger")
            assert {result.status for result in results.values()} == {Status.SUCCESS}
            if name in REFUSED:
                assert isinstance(stranger.error, InvalidAnswer), name
            elif name in READ:
                assert stranger.status is Status.SUCCESS, name
            if frames == "pandas" and stranger.status is Status.SUCCESS:
                assert stranger.value.attrs == {}
                stranger.value.head()


async def test_pandas_frames_and_tables_come_as_they_always_did() -> None:
    for frames, kind in (("arrow", pyarrow.Table), ("pandas", pandas.DataFrame)):
        async with coordinating(MODELS, frames=frames) as (_, cluster):
            value = by_id(await cluster.call("frame", Arguments("honest")))["a"].value
            assert type(value) is kind
            assert value.equals(HONEST if frames == "arrow" else HONEST.to_pandas())


async def test_without_isolation_the_types_are_as_few_and_there_is_no_process() -> None:
    async with coordinating(MODELS, isolate_frames=False) as (_, cluster):
        results = by_id(await cluster.call("frame", Arguments("list_view")))
        assert results["a"].status is Status.SUCCESS
        assert isinstance(results["stranger"].error, InvalidAnswer)
        assert reader_processes() == set()


async def test_readers_end_with_the_block_also_if_it_is_cancelled() -> None:
    async with coordinating(MODELS) as (_, cluster):
        await cluster.call("frame", Arguments("honest"))
        assert reader_processes()
    assert reader_processes() == set()
    with trio.CancelScope() as scope:
        async with coordinating(MODELS) as (_, cluster):
            await cluster.call("frame", Arguments("honest"))
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert reader_processes() == set()


async def test_a_frame_that_kills_its_reader_counts_and_one_that_was_killed_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "PROGRAM", "helpers.unreliable_reader")
    async with coordinating(MODELS, health=ALONE, timeout=30) as (_, cluster):
        model = cluster.models["stranger"]
        result = by_id(await cluster.call("frame", Arguments("be_killed SIGKILL")))["stranger"]
        assert (result.status, type(result.error)) == (Status.FAILED, ReadersUnavailable)
        assert failures_of(model) == 0
        result = by_id(await cluster.call("frame", Arguments("abort")))["stranger"]
        assert (result.status, type(result.error)) == (Status.FAILED, InvalidAnswer)
        assert failures_of(model) == 1


async def test_the_deadline_is_kept_and_our_reading_is_nobody_s_timeout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "PROGRAM", "helpers.unreliable_reader")
    async with coordinating(MODELS, health=ALONE, timeout=30) as (_, cluster):
        # The first round starts the readers, which takes a moment.
        results = by_id(await cluster.call("frame", Arguments(f"wait {tmp_path}/never"), timeout=5))
        assert [results[name].status for name in "ab"] == [Status.SUCCESS] * 2
        assert results["stranger"].status is Status.TIMEOUT
        assert "not decoded" in results["stranger"].detail
        assert timeouts_of(cluster.models["stranger"]) == 0


PROGRAM = """
import sys, trio
from helpers.coordinating import coordinating
from helpers.processes import reader_processes
from frame_readers.test_in_a_cluster import MODELS, Arguments

async def main():
    async with coordinating(MODELS) as (_, cluster):
        while True:
            await cluster.call("frame", Arguments("honest"))
            if len(readers := reader_processes()) >= 3:
                print(*readers, flush=True)
            await trio.sleep(0.01)

trio.run(main)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_readers_end_with_their_coordinator(name: str) -> None:
    """They see the end of their standard input, if nobody ends them."""
    command = [sys.executable, "-c", PROGRAM]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as coordinator:
        assert coordinator.stdout is not None
        readers = list(map(int, coordinator.stdout.readline().split()))
        coordinator.send_signal(signal.Signals[name])
        _, errors = coordinator.communicate(timeout=30)
    assert len(readers) >= 3
    assert errors.decode().rstrip().endswith("KeyboardInterrupt" if name == "SIGINT" else "")
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{reader}/fd").is_dir() and is_reader(reader) for reader in readers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_reader(pid: int) -> bool:
    try:
        return b"frame_readers" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def test_an_arrow_stream_is_read_as_a_parquet_file_is() -> None:
    class Streaming(Node):
        def frame(self, _: str) -> Encoded:
            return arrow_of(HONEST)

    async with coordinating({"a": Streaming}) as (_, cluster):
        result = by_id(await cluster.call("frame", Arguments("")))["a"]
        assert result.value.equals(HONEST)
