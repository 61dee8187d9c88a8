"""Writes lost connections to the log: one warning for all that are lost, or are back, at about the same time.

If a network fails, hundreds of connections end within a second. A line for each would hide everything else in
the log, and without a line nobody would know. So what happens within a second becomes one line.
"""

from __future__ import annotations

import logging
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

from ..groups import describe
from ..model.handle import ModelRunner
from ..model.lifecycle import UP
from ..signal import Signal
from ..text import quoted
from ..values.results import ModelState

__all__ = ["Losses"]

_SECONDS_GATHERED: Final = 1.0
_MOST_NAMED: Final = 5

logger = logging.getLogger("trio_model_runner.cluster")


class Losses:
    """The lost connections of one cluster, as far as the log does not have them yet."""

    def __init__(self) -> None:
        self._lost: dict[ModelRunner, str] = {}
        self._back: dict[ModelRunner, None] = {}
        self._told: set[ModelRunner] = set()
        self._news = Signal()

    def note_loss(self, model: ModelRunner) -> None:
        """Note that a model which was ready has lost its connection."""
        if model in self._back:  # the log says that it is lost, so nothing is new
            del self._back[model]
            self._told.add(model)
            return
        self._lost[model] = "" if model.error is None else describe(model.error)
        self._news.send()

    def note_ready(self, model: ModelRunner) -> None:
        """Note that a model is ready. This is news only if its loss is in the log."""
        if model in self._told:
            self._told.discard(model)
            self._back[model] = None
            self._news.send()

    def forget(self, model: ModelRunner) -> None:
        """Expect no return: the model is gone."""
        self._told.discard(model)

    @enable_ki_protection
    async def run(self) -> None:
        """Write to the log until this is cancelled; what is not written yet is written then."""
        try:
            while True:
                await self._news.wait_until(lambda: bool(self._lost or self._back))
                await trio.sleep(_SECONDS_GATHERED)
                self._write()
        finally:
            self._write()

    def _write(self) -> None:
        lost, self._lost = self._lost, {}
        back, self._back = self._back, {}
        if back:
            logger.warning("%s back: %s", _count(back), _names(back))
        if lost:
            self._told.update(model for model in lost if model.state is not ModelState.GONE)
            first_reason = quoted(next(iter(lost.values())) or "its node has no instance")
            logger.warning("%s lost: %s (the first: %s)", _count(lost), _names(lost), first_reason)
        for model in [model for model in lost if model.state in UP]:
            self.note_ready(model)


def _count(models: dict[ModelRunner, str] | dict[ModelRunner, None]) -> str:
    if len(models) == 1:
        return "the connection to 1 model is"
    return f"the connections to {len(models)} models are"


def _names(models: dict[ModelRunner, str] | dict[ModelRunner, None]) -> str:
    names = sorted(model.model_id for model in models)[:_MOST_NAMED]
    return ", ".join(map(quoted, names)) + (", ..." if len(models) > _MOST_NAMED else "")
