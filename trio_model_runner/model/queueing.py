"""One call at a time on each model, first come, first served.

A node runs one request and refuses the next, so calls of several rounds wait here instead. A place is taken
at once, without a checkpoint: a round that started first comes first, however Trio schedules its tasks.
"""

from __future__ import annotations

from collections import deque

import trio

__all__ = ["CallQueue", "QueueFullError", "Turn"]


class QueueFullError(Exception):
    """So many calls wait that one more would only wait in vain."""


class Turn:
    """A place in a `CallQueue`. Whoever took it must `leave`, whatever happens."""

    __slots__ = ("_came", "_queue")

    def __init__(self, queue: CallQueue) -> None:
        self._queue = queue
        self._came: trio.Event | None = None

    @property
    def first(self) -> bool:
        """Whether nobody who came before is still there."""
        return self._queue._turns[0] is self

    async def wait(self) -> None:  # noqa: ASYNC910 - see the docstring
        """Wait until everybody who came before has left; no checkpoint if nobody is there."""
        while not self.first:
            if self._came is None:
                self._came = trio.Event()
            await self._came.wait()

    def leave(self) -> None:
        """Give up the place, and let the next one come if it was the first."""
        turns = self._queue._turns
        was_first = turns[0] is self
        turns.remove(self)
        if was_first and turns and turns[0]._came is not None:
            turns[0]._came.set()
        if not turns and self._queue._emptied is not None:
            self._queue._emptied.set()
            self._queue._emptied = None


class CallQueue:
    """The calls that one model has before it, of which the first one runs.

    Args:
        limit: how many may wait behind the one that runs.
    """

    __slots__ = ("_emptied", "_limit", "_turns")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._turns: deque[Turn] = deque()
        self._emptied: trio.Event | None = None

    def __len__(self) -> int:
        return len(self._turns)

    def take_turn(self) -> Turn:
        """Take the last place.

        Raises:
            QueueFullError: there are too many already.
        """
        if len(self._turns) > self._limit:
            raise QueueFullError(f"{len(self._turns)} calls wait for this model already")
        turn = Turn(self)
        self._turns.append(turn)
        return turn

    async def wait_empty(self) -> None:  # noqa: ASYNC910 - see the docstring
        """Wait until nobody is there; no checkpoint if nobody is."""
        while self._turns:
            if self._emptied is None:
                self._emptied = trio.Event()
            await self._emptied.wait()
