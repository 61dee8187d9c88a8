"""What happens between rounds, in a line each: who joined, crashed, came back, was replaced or given up.

The lines come from two sources, the cluster's changes and its log. Both speak at any moment, also while a
table is being drawn; so they are collected here, and written when there is room for them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final

import attrs
import trio
from rich.text import Text

from ..cluster.changes import Change, ChangeKind, ChangeListener
from ..signal import Signal
from ..values.results import ModelState
from .log import log_to
from .output import clean
from .table import fit

__all__ = ["EventLine", "EventLog", "quiet_logging", "shorter"]


_SAID_SHORTER: Final = {
    "MODEL_FAILED: The model raised an exception: ": "raised: ",
    "Setup: SETUP_FAILED: ": "Setup failed: ",
    "the node was busy until the deadline": "still busy at the deadline",
    "the connection broke: ": "lost: ",
    "the answer does not fit: ": "",
}


def shorter(detail: str) -> str:
    """Say what a result's detail says in fewer words, for a narrow column."""
    for said, short in _SAID_SHORTER.items():
        detail = detail.replace(said, short)
    return re.sub(r"\[Errno \d+\] ", "", detail)


@attrs.frozen
class EventLine:
    """One thing that happened.

    Attributes:
        sign: one character for the kind of event.
        style: the style of the sign.
        name: the model's name; empty if it is about no model.
        text: what happened.
        kind: the kind of the `Change` that it is about, or None.
    """

    sign: str
    style: str
    name: str
    text: str
    kind: ChangeKind | None = None

    def render(self, names: int, width: int, *, ascii_only: bool = False) -> Text:
        """Lay it out in `width` cells, of which the name gets `names`."""
        line = Text.assemble((self.sign, self.style), " ")
        if self.name:
            line.append(f"{fit(clean(self.name), names, ascii_only=ascii_only):<{names}}  ")
        line.append(fit(clean(self.text), max(8, width - line.cell_len), ascii_only=ascii_only))
        return line


class EventLog:
    """Collects what happens in a cluster, until `take`.

    Args:
        caught_up: by model id, how many ticks a model was told when it joined; only models that were told
            any.
    """

    def __init__(self, caught_up: Mapping[str, int]) -> None:
        self._caught_up = caught_up
        self._lines: list[EventLine] = []
        self._seen: set[tuple[ChangeKind, str]] = set()
        self._joined: set[str] = set()
        self._noted = Signal()

    async def listen(self, changes: ChangeListener) -> None:
        """Collect until the cluster is left."""
        async for change in changes:
            self._note(change)
            self._noted.send()

    async def wait_for(self, kind: ChangeKind, model_id: str) -> None:
        """Wait until such a change of a model has come since `forget`."""
        await trio.lowlevel.checkpoint()
        await self._noted.wait_until(lambda: (kind, model_id) in self._seen)

    def forget(self) -> None:
        """Let `wait_for` wait for changes from now on."""
        self._seen.clear()

    def add(self, line: EventLine) -> None:
        """Add a line from elsewhere."""
        self._lines.append(line)

    def take(self) -> list[EventLine]:
        """Return what was collected, and forget it."""
        lines, self._lines = self._lines, []
        return lines

    def _note(self, change: Change) -> None:
        model = change.model
        if model is None:
            return
        self._seen.add((change.kind, model.model_id))
        ticks = self._caught_up.get(model.model_id, 0)
        told = f" was told the {ticks} {'tick' if ticks == 1 else 'ticks'} so far" if ticks else ""
        match change.kind:
            case ChangeKind.JOINED:
                again = "is back" if model.model_id in self._joined else "joined"
                self._joined.add(model.model_id)
                sign, style, text = "+", "green", again + (told and f", and{told}")
            case ChangeKind.REDEPLOYED:
                sign, style, text = "~", "cyan", "replaced by a new deployment" + (told and f", which{told}")
            case ChangeKind.LEFT:
                sign, style, text = "-", "bright_black", "left"
            case ChangeKind.FAILED if model.state is ModelState.RECOVERING:
                sign, style, text = "!", "yellow", "crashed, and is being restarted"
            case ChangeKind.FAILED:
                sign, style, text = "!", "red", f"given up: {shorter(str(change.error))}"
            case _:
                return
        self.add(EventLine(sign, style, model.name or model.model_id, text, change.kind))


class _ErrorLines(logging.Handler):
    """Makes events of logged errors. For all below errors, there are changes."""

    def __init__(self, events: EventLog) -> None:
        super().__init__(logging.ERROR)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Add one."""
        self._events.add(EventLine("!", "red", "", record.getMessage()))


def quiet_logging(events: EventLog) -> AbstractContextManager[None]:
    """Keep the library's log out of what is written, and show its errors as events."""
    return log_to(_ErrorLines(events))
