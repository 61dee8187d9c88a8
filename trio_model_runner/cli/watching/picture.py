"""The picture of a crunch that events make: what each model does, and what is worst.

It takes any JSON object as an event, bears unknown ones, and forgets models that have left. Nothing here
knows terminals, clocks or where events come from.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ...instruments.record import LETTERS
from .fields import as_dict, as_list, as_number, number, texts, word

__all__ = ["REMEMBERED_ROUNDS", "LastRound", "ModelView", "Picture"]

REMEMBERED_ROUNDS: Final = 30
"""So many statuses of each model are kept."""

_MOST_MODELS: Final = 20_000
_WELL: Final = frozenset({"ready", "reachable", "replacing"})
_LEFT: Final = frozenset({"gone", "retiring"})
_LETTER_OF: Final = {status.value: letter for status, letter in LETTERS.items()}
_LETTERS: Final = frozenset(_LETTER_OF.values())


@attrs.define
class ModelView:
    """What is known of one model.

    Attributes:
        model_id: its id.
        name: its name, or "".
        state: its state, as `ModelState` has it, or "".
        error: why it is not ready, or "".
        statuses: a letter for each of its last rounds, oldest first.
        elapsed: seconds that its last answer took, or None.
        detail: what its last call came to in words, or "".
        note: what else the coordinator says of it, or "".
    """

    model_id: str
    name: str = ""
    state: str = ""
    error: str = ""
    statuses: deque[str] = attrs.field(factory=lambda: deque(maxlen=REMEMBERED_ROUNDS))
    elapsed: float | None = None
    detail: str = ""
    note: str = ""

    @property
    def severity(self) -> tuple[int, int, str]:
        """Sorts models, the worst first: who is away, then who fails now, then who failed most."""
        away = bool(self.state) and self.state not in _WELL
        latest = self.statuses[-1] if self.statuses else "S"
        bad = sum(status != "S" for status in self.statuses)
        return (0 if away else 1 if latest != "S" else 2, -bad, self.model_id)

    @property
    def well(self) -> bool:
        """Whether there is nothing to say about it."""
        in_state = not self.state or self.state in _WELL
        return in_state and not self.note and all(status == "S" for status in self.statuses)

    @property
    def trouble(self) -> str:
        """What is wrong with it, in words, or ""."""
        if self.state and self.state not in _WELL and self.error:
            return self.error
        detail = self.detail if self.statuses and self.statuses[-1] != "S" else ""
        return "; ".join(filter(None, (self.note, detail)))


@attrs.frozen
class LastRound:
    """The round that ended last.

    Attributes:
        number: its id.
        method: what was called.
        seconds: how long it took, or None.
        timeout: how long it could have taken, or None.
        counts: how many results had which letter.
        started: POSIX seconds, or None.
    """

    number: str
    method: str
    seconds: float | None
    timeout: float | None
    counts: Counter[str]
    started: float | None


class Picture:
    """What is known of the crunch.

    Attributes:
        crunch_id: which, or "".
        connected: whether the orchestrator is connected; None if nobody said.
        orchestrator_error: why it is not, or "".
        models: by model id.
        rounds: how many rounds were seen.
        last_round: the last one, or None.
        last_round_at: when a round ended last, POSIX seconds, or None.
        reports: how many reports are pending, and how many held.
        draining: whether the coordinator takes no new calls.
        ended: whether the coordinator has left its block.
        silent_since: since when the coordinator has said nothing, POSIX seconds; None if it speaks.
    """

    def __init__(self) -> None:
        self.crunch_id = ""
        self.connected: bool | None = None
        self.orchestrator_error = ""
        self.models: dict[str, ModelView] = {}
        self.rounds = 0
        self.last_round: LastRound | None = None
        self.last_round_at: float | None = None
        self.reports = (0, 0)
        self.draining = False
        self.ended = False
        self.silent_since: float | None = None

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take an event; one that is unknown changes nothing."""
        at = number(event, "at")
        self.silent_since = number(event, "since") if event.get("type") == "silence" else None
        match event.get("type"):
            case "snapshot":
                self._take_snapshot(event, as_dict(event.get("snapshot")))
            case "round":
                self._take_round(as_dict(event.get("round")), at)
            case "change":
                self._take_change(as_dict(event.get("change")))
            case "orchestrator":
                self.connected = event.get("connected") is True
                self.orchestrator_error = word(event, "error")
            case "end":
                self.ended = True
            case _:
                pass

    def worst(self) -> list[ModelView]:
        """All models, those first that need a look."""
        return sorted(self.models.values(), key=lambda view: view.severity)

    def count_states(self) -> Counter[str]:
        """How many models are in each state."""
        return Counter(view.state for view in self.models.values() if view.state)

    def _take_snapshot(self, event: Mapping[str, Any], snapshot: Mapping[str, Any]) -> None:
        self.crunch_id = word(snapshot, "crunch_id") or self.crunch_id
        self.connected = snapshot.get("orchestrator_connected") is True
        self.orchestrator_error = word(snapshot, "orchestrator_error")
        self.draining = snapshot.get("draining") is True
        counts = (number(snapshot, "reports_pending"), number(snapshot, "reports_held"))
        self.reports = (int(counts[0] or 0), int(counts[1] or 0))
        self.last_round_at = number(event, "last_round_at")
        rows = [as_dict(row) for row in as_list(snapshot.get("model_rows"))]
        there = {word(row, "model_id") for row in rows}
        for model_id in self.models.keys() - there:
            del self.models[model_id]
        for row in rows:
            self._take_model(row)

    def _take_model(self, row: Mapping[str, Any]) -> None:
        view = self._view(word(row, "model_id"))
        if view is not None:
            view.name, view.state, view.error = word(row, "name"), word(row, "state"), word(row, "error")
            if "report" in row or "busy_with" in row:  # a row of a snapshot, and not of a change
                view.note = _note(row)
            letter = _LETTER_OF.get(word(row, "last_status"))
            if letter is not None and not view.statuses:  # of a round before this was looked at
                view.statuses.append(letter)
                view.elapsed = number(row, "last_elapsed")

    def _take_change(self, change: Mapping[str, Any]) -> None:
        model = as_dict(change.get("model"))
        if change.get("kind") == "left" or model.get("state") in _LEFT:
            self.models.pop(word(model, "model_id"), None)
        else:
            self._take_model(model)

    def _take_round(self, row: Mapping[str, Any], at: float | None) -> None:
        ids, statuses = texts(row.get("model_ids")), word(row, "statuses")
        elapsed, details = as_list(row.get("elapsed")), as_dict(row.get("details"))
        self.rounds += 1
        self.crunch_id = word(row, "crunch_id") or self.crunch_id
        self.last_round_at = at if at is not None else self.last_round_at
        self.last_round = LastRound(
            number=str(row.get("id", ""))[:20],
            method=word(row, "method"),
            seconds=number(row, "seconds"),
            timeout=number(row, "timeout"),
            counts=Counter(letter for letter in statuses if letter in _LETTERS),
            started=number(row, "started"),
        )
        for place, (model_id, letter) in enumerate(zip(ids, statuses, strict=False)):
            view = self._view(model_id)
            if view is None or letter not in _LETTERS:
                continue
            view.statuses.append(letter)
            view.elapsed = as_number(elapsed[place]) if place < len(elapsed) else None
            view.detail = word(details, model_id)

    def _view(self, model_id: str) -> ModelView | None:
        view = self.models.get(model_id)
        if view is None and model_id and len(self.models) < _MOST_MODELS:
            view = self.models[model_id] = ModelView(model_id)
        return view


def _note(row: Mapping[str, Any]) -> str:
    """What a snapshot says of a model beside its state."""
    report, busy_with = as_dict(row.get("report")), word(row, "busy_with")
    parts = [f"still busy with {busy_with}" if busy_with else ""]
    if code := word(report, "code"):
        parts.append(f"report {word(report, 'stage')}: {code}")
    return "; ".join(filter(None, parts))
