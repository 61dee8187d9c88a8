"""What the list of troubles quotes is what users are told: most of its texts are caused here."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers.causing import CALLS, MISTAKES
from helpers.causing_entering import ENTERING
from helpers.causing_events import Said
from helpers.causing_log_lines import LOG_LINES
from helpers.causing_results import RESULTS
from helpers.coordinating import Model, coordinating
from helpers.troubles import is_in, quotes
from trio.testing import MockClock

from trio_model_runner.config import Limits

EVENTS = {**ENTERING, **RESULTS, **LOG_LINES}


def check(texts: Iterable[str], said: str) -> None:
    """What was said has these texts, and the list quotes them."""
    assert [text for text in texts if not is_in(text, said)] == [], said
    assert [text for text in texts if text not in quotes()] == []


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TRIO_MODEL_RUNNER_"):
            monkeypatch.delenv(name)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its text is looked at
        MISTAKES[text](tmp_path)
    check([text], str(caught.value))


async def test_calls(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, limits=Limits(max_message_bytes=1024)) as (_, cluster):
        for text, call in CALLS.items():
            with pytest.raises((TypeError, ValueError, RuntimeError, Warning)) as caught:
                await call(cluster)
            check([text], str(caught.value))


@pytest.mark.parametrize("texts", EVENTS, ids=[event.__name__ for event in EVENTS.values()])
async def test_events(
    texts: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO, "trio_model_runner")
    said = Said(tmp_path)
    await EVENTS[texts](said)
    check(texts, "\n".join([*said.texts, *caplog.messages]))
