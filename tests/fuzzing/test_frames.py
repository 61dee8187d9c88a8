"""The fuzzer itself: it finds what it is there for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzzing import frames

from trio_model_runner import DataType, Encoded


def kept(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.iterdir()]


async def test_a_short_run_finds_no_fault(tmp_path: Path) -> None:
    fuzzer = frames.Fuzzer(random.Random(11), tmp_path, ["arrow", "pandas"])
    await fuzzer.run(1.0)
    assert fuzzer.faults == []
    assert "refused" in fuzzer.summary()


async def test_what_is_no_value_error_is_a_fault_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr(frames, "use", fail)
    fuzzer = frames.Fuzzer(random.Random(11), tmp_path, ["arrow"])
    await fuzzer.run(0.5)
    assert "RecursionError: deep" in fuzzer.faults[0]
    assert kept(tmp_path)


def test_a_frame_that_ended_its_reader_is_counted_and_kept(tmp_path: Path) -> None:
    fuzzer = frames.Fuzzer(random.Random(11), tmp_path, ["arrow"])
    frame = Encoded(DataType.ARROW, b"x")
    fuzzer.count_refusal(
        frame, "ARROW of 1 bytes that can't be read: the process that reads it ends by SIGABRT"
    )
    assert "1 ended the reader: the process that reads it ends by SIGABRT" in fuzzer.summary()
    assert kept(tmp_path) == [b"x"]
