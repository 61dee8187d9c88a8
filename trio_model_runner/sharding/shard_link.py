"""The driver's way to one shard: what is to be said goes out in order, and what comes is handed on in order.

One task sends and one receives. Nothing that is said waits here: it is queued. A round's message is made when
it is its turn, so that it says how much time is left then; it has its place from the moment at which its
round began. What must not wait behind a large round goes first: a shard lives by it.

This module must not know what messages lead to, nor when a shard counts as lost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Protocol

import trio
from trio.lowlevel import enable_ki_protection

from ..groups import first_of, one_by_itself
from ..signal import Signal
from .engine import ShardLost
from .messages import Ended, FromDriver, FromShard
from .wire import WireError, decode_from_shard, encode

if TYPE_CHECKING:
    from .engine import Shard
    from .remote_actor import RemoteActor

__all__ = ["Place", "ShardLink", "raise_lost"]

_CLOSING: Final = 10.0  # seconds; an engine bounds itself, within some
_ROUND_TRIPS: Final = 8  # so many of the last ones are kept; there are two or three in a second


def raise_lost(group: BaseExceptionGroup[BaseException]) -> None:
    """If shards are lost, and nothing else has happened, raise the first `ShardLost` by itself."""
    lost, others = group.split(ShardLost)
    if lost is not None and (others is None or others.split(trio.Cancelled)[1] is None):
        raise first_of(lost) from None


class Place(Protocol):
    """The place of something that is to be said, and may not be ready yet."""

    @property
    def ready(self) -> bool:
        """Whether it can be said now; what comes after it waits."""

    def make(self) -> Iterable[bytes]:
        """The messages, now that it is its turn; none if it need not be said any more."""


class _Said:
    """A message that is ready."""

    __slots__ = ("_message",)
    ready = True

    def __init__(self, message: FromDriver) -> None:
        self._message = message

    def make(self) -> Iterable[bytes]:
        return (encode(self._message),)


class ShardLink:
    """The way to one shard.

    Args:
        index: the shard's number.

    Attributes:
        index: the same.
        actors: the actors that it has, by number.
        lost: why it is lost; None as long as it is not.
        up: it has answered the first message, and has a lease.
        round_trip: seconds that the last renewal took, there and back; None before the first.
        leaving: around all that is said, until the shard has had its time to leave.
        silence: around the wait until it calls no models any more, once it is lost.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.actors: dict[int, RemoteActor] = {}
        self.lost: str | None = None
        self.up = False
        self.round_trip: float | None = None
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self.leaving = trio.CancelScope()
        self.silence = trio.CancelScope()
        self._queue: deque[Place] = deque()
        self._urgent: deque[FromDriver] = deque()
        self._news = Signal()
        self._shard: Shard | None = None
        self._leave_by = math.inf
        self._closing = trio.CancelScope(shield=True)

    @property
    def shard(self) -> Shard:
        """What the engine has launched."""
        assert self._shard is not None
        return self._shard

    @shard.setter
    def shard(self, shard: Shard) -> None:
        self._shard = shard

    @property
    def usable(self) -> bool:
        """Whether models may be on it."""
        return self.up and self.lost is None

    @property
    def way_back(self) -> float:
        """Seconds that a message of the shard takes, unless one of the two is busy; 0.0 if nobody knows yet.

        It is half of the least of the last round trips: one that was slow says only that somebody was busy.
        """
        return min(self._round_trips, default=0.0) / 2

    def note_round_trip(self, seconds: float) -> None:
        """A renewal took so long, there and back."""
        self.round_trip = seconds
        self._round_trips.append(seconds)

    def say(self, message: FromDriver) -> None:
        """Send a message, after those before it."""
        self.take_place(_Said(message))

    def take_place(self, place: Place) -> None:
        """Send something after what is before it, when it is ready."""
        if self.lost is None:
            self._queue.append(place)
            self._news.send()

    def say_first(self, message: FromDriver) -> None:
        """Send a message as soon as possible."""
        if self.lost is None:
            self._urgent.append(message)
            self._news.send()

    def look_again(self) -> None:
        """Something in the queue may be ready now."""
        self._news.send()

    def close_queue(self) -> None:
        """Nothing is said any more."""
        self._queue.clear()
        self._urgent.clear()

    @enable_ki_protection
    async def run(self, take: Callable[[FromShard], None], watch: Callable[[], object]) -> None:
        """Carry messages until the shard says that it has ended.

        Args:
            take: takes each message of the shard, at once.
            watch: an async function that raises `ShardLost` when it is lost for another reason.

        Raises:
            ShardLost: it is lost; the text says why.
        """
        with one_by_itself():
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    nursery.start_soon(watch)  # type: ignore[arg-type]
                    await self._receive(take)
                    nursery.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                raise_lost(group)
                raise

    def begin_leaving(self, deadline: float) -> None:
        """It has so much time to leave, on Trio's clock, seconds."""
        self.leaving.deadline = min(deadline, self._leave_by)

    def leave_by(self, time: float) -> None:
        """Once it is left or closed, have that end by then."""
        self._leave_by = min(self._leave_by, time)
        self._closing.deadline = min(self._closing.deadline, self._leave_by)
        if self.leaving.deadline < math.inf:
            self.begin_leaving(self.leaving.deadline)

    @enable_ki_protection
    async def aclose(self, *, hurry: bool = False) -> None:
        """Close it, and end the process; with `hurry`, do not wait until it ends by itself."""
        deadline = -math.inf if hurry else min(trio.current_time() + _CLOSING, self._leave_by)
        with trio.CancelScope(shield=True, deadline=deadline) as self._closing:
            await self.shard.aclose()

    async def _receive(self, take: Callable[[FromShard], None]) -> None:
        while True:
            data = await self.shard.receive()
            try:
                message = decode_from_shard(data)
            except WireError as error:
                raise ShardLost(f"it sent what can't be read: {error}") from error
            take(message)
            if isinstance(message, Ended):
                if message.error is None:
                    return
                last_line = message.error.strip().rpartition("\n")[2]
                raise ShardLost(f"it has raised {last_line}")

    @enable_ki_protection
    async def _send(self) -> None:
        while True:
            await self._news.wait_until(self._can_send)
            messages = [encode(self._urgent.popleft())] if self._urgent else self._queue.popleft().make()
            for each in messages:
                await self.shard.send(each)

    def _can_send(self) -> bool:
        return bool(self._urgent) or bool(self._queue and self._queue[0].ready)
