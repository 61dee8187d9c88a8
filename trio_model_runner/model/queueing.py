"""One call at a time on each model, first come, first served.

A node runs one request and refuses the next one meanwhile. So calls of several rounds wait here. A place is
taken at once, without a checkpoint: a round that started first comes first, however Trio schedules its tasks.
"""

from __future__ import annotations

import math

import trio

from ..signal import Signal

__all__ = ["CallQueue", "QueueFullError", "Turn"]


class QueueFullError(Exception):
    """Too many calls wait for this model already."""


class Turn:
    """A place in a `CallQueue`. The task that took it must call `leave` once, whatever happens.

    After that it is the queue's again, which gives it to another call.

    Attributes:
        behind: how many places were taken before it when it was taken.
    """

    __slots__ = ("_came", "_queue", "behind")

    def __init__(self, queue: CallQueue) -> None:
        self.behind = 0
        self._queue = queue
        self._came: trio.Event | None = None  # made when somebody waits, and set once

    @property
    def first(self) -> bool:
        """Whether no earlier place is taken any more."""
        return self._queue._turns[0] is self

    async def wait(self) -> None:
        """Wait until all earlier places are given up. This is no checkpoint if there are none."""
        while not self.first:
            if self._came is None:
                self._came = trio.Event()
            await self._came.wait()

    def leave(self) -> None:
        """Give up the place. If it was the first one, the next one is the first now."""
        turns = self._queue._turns
        was_first = turns[0] is self
        turns.remove(self)
        if was_first and turns and turns[0]._came is not None:
            turns[0]._came.set()
        if not turns:
            self._queue._emptied.send()
        self._came = None
        self._queue._spare = self


class CallQueue:
    """The calls on one model. The first one runs, and the others wait.

    Args:
        limit: how many calls may wait behind the one that runs; None is no limit.
    """

    __slots__ = ("_emptied", "_limit", "_spare", "_turns")

    def __init__(self, limit: int | None) -> None:
        self._limit = math.inf if limit is None else limit
        self._turns: list[Turn] = []  # an empty deque has 0.6 KB
        self._emptied = Signal()
        self._spare: Turn | None = None  # or each open call would be one more object to collect as garbage

    def __len__(self) -> int:
        return len(self._turns)

    def take_turn(self) -> Turn:
        """Take the last place.

        Raises:
            QueueFullError: there are too many already.
        """
        if len(self._turns) > self._limit:
            waiting = len(self._turns) - 1
            raise QueueFullError(
                f"{waiting} calls wait for this model already, as many as limits.max_queued_calls allows"
            )
        turn = self._spare or Turn(self)
        self._spare = None
        turn.behind = len(self._turns)
        self._turns.append(turn)
        return turn

    async def wait_empty(self) -> None:
        """Wait until no place is taken. This is no checkpoint if none is."""
        await self._emptied.wait_until(lambda: not self._turns)
