"""The search for frames that arrive changed: it finds what it is there for."""

from __future__ import annotations

import collections
import sys
from pathlib import Path

import pandas
import pytest
from fuzzing import sent_frames
from helpers.frame_trips import NodeReader
from hypothesis import strategies as st

from trio_model_runner.values.frames import sent_tables

BOOLEANS = pandas.DataFrame([[1.5, 2]], columns=[True, False])
TEXTS = pandas.DataFrame([[1.5, 2]], columns=["a", "b"])


def test_outcomes_are_counted_and_another_interpreter_reads_what_is_sent() -> None:
    counts: collections.Counter[str] = collections.Counter()
    node = NodeReader(Path(sys.executable))
    try:
        sent_frames.send_some(st.sampled_from([BOOLEANS, TEXTS]), 1, counts, node)
    finally:
        node.close()
    assert set(counts) == {"pandas sent", "pandas refused"}


def test_a_frame_that_arrives_changed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_tables, "refuse_changed_labels", lambda *_: None)
    with pytest.raises(AssertionError):
        sent_frames.send_some(st.just(BOOLEANS), 1, collections.Counter(), None)
