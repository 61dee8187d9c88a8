"""Writes events as lines, one each, for a pipe or a log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from ...instruments.record import LETTERS
from ..output import clean
from .fields import as_dict, number, word

__all__ = ["STATUS_OF", "describe", "round_in_words"]

STATUS_OF: Final = {letter: status for status, letter in LETTERS.items()}
"""The statuses by their letters in a record."""

_LONGEST: Final = 300  # characters of one text
_LONGEST_LINE: Final = 1000


def describe(event: Mapping[str, Any]) -> str | None:
    """An event in one printable line, with its time; None if there is nothing to say."""
    text = _text_of(event)
    if text is None:
        return None
    line = f"{_clock(number(event, 'at'))}  {text}"
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."


def _clock(at: float | None) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def _text_of(event: Mapping[str, Any]) -> str | None:
    match event.get("type"):
        case "snapshot":
            return _snapshot(as_dict(event.get("snapshot")))
        case "round":
            return _round(as_dict(event.get("round")))
        case "change":
            return _change(as_dict(event.get("change")))
        case "orchestrator" if event.get("connected") is True:
            return "the orchestrator is connected"
        case "orchestrator":
            return f"the orchestrator is away: {_shown(word(event, 'error')) or 'no reason known'}"
        case "report":
            return _report(event, as_dict(event.get("report")))
        case "silence":
            since = _clock(number(event, "since"))
            return f"nothing heard since {since}: the coordinator's event loop stands still, or it is stopped"
        case "end":
            return "the coordinator has ended"
        case _:
            return None


def _snapshot(snapshot: Mapping[str, Any]) -> str:
    models = as_dict(snapshot.get("models"))
    counts = ", ".join(f"{int(number(models, state) or 0)} {_shown(state)}" for state in models)
    connected = "connected" if snapshot.get("orchestrator_connected") is True else "away"
    return f"{_shown(word(snapshot, 'crunch_id'))}: {counts or 'no model runs'}; orchestrator {connected}"


def _round(row: Mapping[str, Any]) -> str:
    counts = Counter(letter for letter in word(row, "statuses") if letter in STATUS_OF)
    seconds, timeout = number(row, "seconds"), number(row, "timeout")
    head = f"round {_shown(str(row.get('id', '?')))}: {_shown(word(row, 'method'))}"
    return f"{head}: {round_in_words(counts, seconds, timeout)}"


def round_in_words(counts: Counter[str], seconds: float | None, timeout: float | None) -> str:
    """What came of a round: ``45 of 50 SUCCESS (3 TIMEOUT, 2 FAILED) in 2.001 s of 2 s``."""
    others = [
        f"{counts[letter]} {status}"
        for letter, status in STATUS_OF.items()
        if counts[letter] and letter != "S"
    ]
    text = f"{counts['S']} of {counts.total()} SUCCESS" + (f" ({', '.join(others)})" if others else "")
    if seconds is not None:
        text += f" in {seconds:.3f} s"
    return text if timeout is None else f"{text} of {timeout:g} s"


def _change(change: Mapping[str, Any]) -> str:
    model = as_dict(change.get("model"))
    text = f"{_shown(word(model, 'model_id'))} {_shown(word(change, 'kind'))}"
    error = _shown(word(change, "error"))
    return f"{text}: {error}" if error else text


def _report(event: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    model, code = _shown(word(report, "model_id")), _shown(word(report, "code"))
    reason = _shown(word(event, "why") or word(report, "reason"))
    return f"report {_shown(word(event, 'stage'))}: {model} {code}{f': {reason}' if reason else ''}"


def _shown(text: str) -> str:
    return clean(text[:_LONGEST])
