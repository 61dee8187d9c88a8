"""Wherever a cluster with instruments is cancelled or interrupted, they end, and leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from helpers.checkpoints import cancel_everywhere, interrupt_everywhere
from helpers.coordinating import SERVICE, Model
from prometheus_client import CollectorRegistry
from trio.testing import MockClock

from trio_model_runner import Cluster
from trio_model_runner.instruments import (
    Instrument,
    ObservedCluster,
    PrometheusInstrument,
    RoundRecorder,
    StatusSocket,
)
from trio_model_runner.instruments.record_file import RecordFile
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch

RECORD, SOCKET = Path("rounds.jsonl"), Path("status.sock")


class Counting(Instrument):
    """Counts what must come in pairs."""

    def __init__(self) -> None:
        self.living = 0
        self.rounds = 0

    @asynccontextmanager
    async def running(self, cluster: ObservedCluster) -> AsyncIterator[None]:
        self.living += 1
        try:
            yield
        finally:
            self.living -= 1

    def round_started(self, start: Any) -> None:
        self.rounds += 1

    def round_ended(self, token: Any, round: Any) -> None:  # noqa: A002
        self.rounds -= 1


@attrs.define
class Scene:
    crunch: LocalCrunch
    counting: Counting


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with LocalCrunch({"a": Model, "b": Model}, network=MemoryNetwork()) as crunch:
        yield Scene(crunch, Counting())


async def live(scene: Scene) -> None:
    registry = CollectorRegistry()
    instruments = [
        RoundRecorder(RECORD),
        StatusSocket(SOCKET),
        PrometheusInstrument(registry),
        scene.counting,
    ]
    async with Cluster(scene.crunch.config(), SERVICE, instruments=instruments) as cluster:
        await cluster.call("predict")
        async with cluster.as_completed("predict") as results:
            async for _ in results:
                pass
        await cluster.models["a"].predict()


async def wait_unlocked() -> None:
    """A thread that nobody waits for any more may still have the file; it gives it back."""
    file = RecordFile(RECORD, 1, 0)
    for _ in range(1000):
        try:
            file.open()
        except BlockingIOError:
            time.sleep(0.01)  # noqa: ASYNC251 - trio's clock may jump
        else:
            file.close()
            return
    raise AssertionError("it is still locked")


async def check_nothing_is_left(scene: Scene, _: bool) -> None:
    assert not SOCKET.exists()  # noqa: ASYNC240
    await wait_unlocked()
    assert RECORD.read_bytes().endswith(b"\n") or not RECORD.read_bytes()  # noqa: ASYNC240
    assert (scene.counting.living, scene.counting.rounds) == (0, 0)


async def test_cancelled_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await cancel_everywhere(scene, live, check_nothing_is_left, stride=7) > 30


def test_interrupted_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert interrupt_everywhere(scene, live, check_nothing_is_left, stride=9) > 20
