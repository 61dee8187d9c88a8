"""What happens to a cluster's models, told to all who listen.

Each listener has a queue of its own, so a slow listener never blocks the cluster. If its queue overflows, the
listener has missed changes. Then it gets a RESYNC, and the whole picture again if it had asked for one.
"""

from __future__ import annotations

import contextlib
import enum
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..signal import Signal
from ..text import readable_error

if TYPE_CHECKING:
    from ..model.handle import ModelRunner

__all__ = ["Broadcast", "Change", "ChangeKind", "ChangeListener"]

_MAX_QUEUED: Final = 10_000

_LONGEST_ERROR: Final = 2000  # characters


class ChangeKind(enum.StrEnum):
    """What happened.

    Attributes:
        ANNOUNCED: the orchestrator says that a model runs or recovers.
        JOINED: a model is ready, for the first time or again; or reachable, if the cluster only observes.
        LOST: the connection to a model that was ready is gone, and is being made again: see `Change.error`.
            JOINED follows, or FAILED.
        REDEPLOYED: a new deployment is ready, and has taken the place of `Change.previous`.
        UPDATED: the orchestrator says something new about a model: see its `infos`.
        HELD: a report about a model is held, since the model is not alone with its trouble: see
            `Change.error`. It is not sent, unless something new happens.
        LEFT: a model is gone, or a deployment that was not ready yet.
        FAILED: a model crashed, or is given up until it is announced again: see `Change.error`.
        RESYNC: changes were missed. A listener with ``initial=True`` gets the whole picture next.
    """

    ANNOUNCED = "announced"
    JOINED = "joined"
    LOST = "lost"
    REDEPLOYED = "redeployed"
    UPDATED = "updated"
    HELD = "held"
    LEFT = "left"
    FAILED = "failed"
    RESYNC = "resync"


@attrs.frozen
class Change:
    """Something that happened to a model.

    Attributes:
        kind: what happened.
        model: the model; None for RESYNC.
        previous: for REDEPLOYED, the deployment that was replaced.
        error: for FAILED and LOST, the reason; for HELD, what would have been reported.
    """

    kind: ChangeKind
    model: ModelRunner | None = None
    previous: ModelRunner | None = None
    error: BaseException | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return this change as strict JSON: ``json.dumps(..., allow_nan=False)`` takes it.

        Keys: ``kind`` (such as "joined"), ``model`` and ``previous`` (each None, or as `ModelRunner.to_dict`
        has it: the model as it is now), and ``error`` (its text of at most 2,000 characters, or None).
        """
        return {
            "kind": self.kind.value,
            "model": None if self.model is None else self.model.to_dict(),
            "previous": None if self.previous is None else self.previous.to_dict(),
            "error": readable_error(self.error, _LONGEST_ERROR),
        }


class ChangeListener:
    """An async iterator over changes. It ends when the cluster's block is left."""

    def __init__(self, picture: Callable[[], Iterable[Change]] | None) -> None:
        self._picture = picture
        self._queue: deque[Change] = deque(picture() if picture is not None else ())
        self._limit = len(self._queue) + _MAX_QUEUED
        self._missed = False
        self._ended = False
        self._news = Signal()

    if not TYPE_CHECKING:  # type checkers know by themselves that this is wrong

        def __iter__(self):
            raise RuntimeError("use `async for ... in changes:`, not `for`")

    def __aiter__(self) -> ChangeListener:
        return self

    @enable_ki_protection
    async def __anext__(self) -> Change:
        await trio.lowlevel.checkpoint()
        await self._news.wait_until(lambda: bool(self._queue) or self._missed or self._ended)
        if self._missed:
            self._missed = False
            self._queue.clear()
            if self._picture is not None:
                self._queue.extend(self._picture())
            self._limit = len(self._queue) + _MAX_QUEUED  # the picture itself is no backlog
            return Change(ChangeKind.RESYNC)
        if not self._queue:
            raise StopAsyncIteration
        return self._queue.popleft()

    def tell(self, change: Change) -> None:
        """Queue a change."""
        if len(self._queue) >= self._limit:
            self._missed = True
        else:
            self._queue.append(change)
        self._news.send()

    def end(self) -> None:
        """End the iteration after the changes in the queue."""
        self._ended = True
        self._news.send()


class Broadcast:
    """All listeners of one cluster."""

    def __init__(self) -> None:
        self._listeners: set[ChangeListener] = set()

    def tell(self, change: Change) -> None:
        """Queue a change for every listener."""
        for listener in self._listeners:
            listener.tell(change)

    @contextlib.contextmanager
    def listening(self, picture: Callable[[], Iterable[Change]] | None) -> Iterator[ChangeListener]:
        """Make a listener that is told of changes while the block lasts.

        Args:
            picture: gives the present state as changes, for a listener that wants it first; else None.
        """
        listener = ChangeListener(picture)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            listener.end()

    def end(self) -> None:
        """End the iteration of every listener."""
        for listener in self._listeners:
            listener.end()
