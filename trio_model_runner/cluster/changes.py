"""What happens to a cluster's models, told to whoever listens.

A listener has a queue of its own, so a slow one never blocks the cluster. One that is so slow that its queue
overflows has missed something: it is told so (RESYNC), and gets the whole picture anew if it asked for it.
"""

from __future__ import annotations

import contextlib
import enum
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..signal import Signal

if TYPE_CHECKING:
    from ..model.handle import ModelRunner

__all__ = ["Broadcast", "Change", "ChangeKind", "ChangeListener"]

_MAX_QUEUED: Final = 10_000


class ChangeKind(enum.StrEnum):
    """What happened.

    Attributes:
        ANNOUNCED: the orchestrator says that a model runs or recovers.
        JOINED: a model is ready, for the first time or again; that it lost its connection has no change of
            its own.
        REDEPLOYED: a new deployment, which is ready, has taken the place of `Change.previous`.
        UPDATED: the orchestrator says something new about a model: see its `infos`; or with an error, it
            was not reported, since too many would have been at once.
        LEFT: a model, or a deployment that was coming up, is gone.
        FAILED: a model crashed or is given up, until it is announced again: see `Change.error`.
        RESYNC: changes were missed. Where the listener asked for what is there, that follows anew.
    """

    ANNOUNCED = "announced"
    JOINED = "joined"
    REDEPLOYED = "redeployed"
    UPDATED = "updated"
    LEFT = "left"
    FAILED = "failed"
    RESYNC = "resync"


@attrs.frozen
class Change:
    """Something that happened to a model.

    Attributes:
        kind: what.
        model: to whom; None for RESYNC.
        previous: whom it replaces, for REDEPLOYED.
        error: why, for FAILED; what would have been reported, for UPDATED.
    """

    kind: ChangeKind
    model: ModelRunner | None = None
    previous: ModelRunner | None = None
    error: BaseException | None = None


class ChangeListener:
    """An async iterator over changes, which ends when the cluster is left."""

    def __init__(self, picture: Callable[[], Iterable[Change]] | None) -> None:
        self._picture = picture
        self._queue: deque[Change] = deque(picture() if picture is not None else ())
        self._limit = len(self._queue) + _MAX_QUEUED
        self._missed = False
        self._ended = False
        self._news = Signal()

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
            self._limit = len(self._queue) + _MAX_QUEUED  # the picture of a large fleet is no backlog
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
        """Let the iteration end after what is queued."""
        self._ended = True
        self._news.send()


class Broadcast:
    """All who listen."""

    def __init__(self) -> None:
        self._listeners: set[ChangeListener] = set()

    def tell(self, change: Change) -> None:
        """Tell everybody."""
        for listener in self._listeners:
            listener.tell(change)

    @contextlib.contextmanager
    def listening(self, picture: Callable[[], Iterable[Change]] | None) -> Iterator[ChangeListener]:
        """Tell a new listener, too, while this lasts.

        Args:
            picture: gives what is there now, for a listener that wants it first; else None.
        """
        listener = ChangeListener(picture)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def end(self) -> None:
        """There will be no more changes."""
        for listener in self._listeners:
            listener.end()
