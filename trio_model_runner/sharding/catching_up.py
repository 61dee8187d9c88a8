"""How the coordinator catches up one model whose actor is in a shard, and what is known for that.

`on_join` runs in the driver, and is told why the model joins and whether its instance is new. A shard can't
say that alone: each one knows only the instances that it has seen itself. So what is known of the model's
instances is kept here, through all shards that have the model. This module must not know shards, ways or
messages: it is told the states that the model goes through, and that nobody has the model at the moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..model.lifecycle import JoinReason
from ..values.results import ModelState

if TYPE_CHECKING:
    from ..model.handle import ModelRunner
    from ..model.supervisor import Supervisor

__all__ = ["CatchingUp"]


class CatchingUp:
    """Has the coordinator catch one model up, once for each time that it is set up.

    Args:
        supervisor: runs all models, and `on_join`.
        model: the model.

    Attributes:
        done: the model has its history, and no Setup was asked for since.
        error: what `on_join` raised the last time; None if it raised nothing, or runs.
    """

    def __init__(self, supervisor: Supervisor, model: ModelRunner) -> None:
        self.done = False
        self.error: Exception | None = None
        self._supervisor = supervisor
        self._model = model
        self._was_ready = False
        self._seen = False  # an instance of it was
        self._setup_unread = False  # a Setup may have made an instance, and nobody has read the answer
        self._scope = trio.CancelScope()

    def note_state(self, previous: ModelState, state: ModelState) -> None:
        """The model has gone on from one state to another. If it was joining, `on_join` is cancelled."""
        if previous is ModelState.JOINING:
            self._scope.cancel()
        if state is ModelState.READY:
            self._was_ready = self.done = self._seen = True
        elif state in (ModelState.SETTING_UP, ModelState.JOINING):
            self.done = False

    def note_crash(self) -> None:
        """The instance that was seen is gone."""
        self._seen = False

    def note_untold(self) -> None:
        """A new instance was not to be caught up at that moment: the coordinator does not know of it."""
        self._setup_unread = True

    def note_loss(self, state: ModelState) -> None:
        """Nobody has the model any more, which was in this state. If `on_join` runs, it is cancelled."""
        self._setup_unread = self._setup_unread or (state is ModelState.SETTING_UP and not self._seen)
        self._scope.cancel()

    async def run(self, reason: JoinReason, *, fresh: bool) -> bool:
        """Have the model caught up; `error` then says how that went. There is no checkpoint after `on_join`.

        Args:
            reason: why it joins, as far as its shard knows.
            fresh: its instance is new, as far as its shard knows.

        Returns:
            Whether the model was joining until the end. If not, nothing must follow.
        """
        if self._was_ready:
            reason = JoinReason.RESTARTED
        fresh = fresh or self._setup_unread
        self._seen, self._setup_unread, self.error = True, False, None
        with trio.CancelScope() as scope:
            self._scope = scope
            try:
                await self._supervisor.join(self._model, reason, fresh=fresh)
            except Exception as error:  # the coordinator's code: any error keeps just this model out
                self.error = error
        return not scope.cancel_called
