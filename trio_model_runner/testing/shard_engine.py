"""An engine whose shards are tasks of the same Trio run, for tests of `ShardedCluster` on a clock that jumps.

What can happen to a shard and to its way is a method each. What is said is none of its business, as for all
engines.
"""

from __future__ import annotations

import contextlib
import functools
import math
import pkgutil
from collections import deque
from collections.abc import AsyncIterator
from itertools import takewhile
from typing import Final

import trio

from ..groups import open_nursery_for_body
from ..network import Network
from ..sharding.engine import SERVE, Serve, Shard, ShardLost, close_all
from ..signal import Signal
from ..text import named_error

__all__ = ["InProcessEngine", "InProcessShard"]

_MESSAGES: Final = 64
"""So many wait on a way, at most. Then `send` waits."""

_END_SECONDS: Final = 2.0
"""For a shard that was closed to end by itself. Then it is cancelled."""


class InProcessEngine:
    """Launches each shard as a task. What a shard logs is in the log at once, without the shard's number.

    Args:
        serve: what a shard runs; None for the ordinary one.
        network: what shards of the ordinary kind connect through, such as a `MemoryNetwork`; None takes the
            one of the settings.

    Attributes:
        shards: the last one that was launched for each index.
        refusal: why no shard can be launched; None if they can. A test may set it at any time.
    """

    def __init__(self, serve: Serve | None = None, *, network: Network | None = None) -> None:
        self.has_network = network is not None
        self._serve: Serve = serve or functools.partial(
            pkgutil.resolve_name(SERVE), network=network, forwards_log=False
        )
        self._nursery: trio.Nursery | None = None
        self._launched: list[InProcessShard] = []
        self.shards: dict[int, InProcessShard] = {}
        self.refusal: str | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """See `sharding.engine.Engine`. Shards that were not closed are closed when this is left."""
        async with open_nursery_for_body() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                self._nursery = None
                await close_all(self._launched)  # noqa: ASYNC102 - which shields and bounds itself

    async def launch(self, index: int, first_message: bytes) -> Shard:
        """See `sharding.engine.Engine`."""
        if self._nursery is None:
            raise RuntimeError("shards are launched inside `async with engine.running()`")
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise ShardLost(f"shard {index} can't be started: {self.refusal}")
        shard = self.shards[index] = InProcessShard(index)
        self._launched = [*(each for each in self._launched if not each.exited.is_set()), shard]
        self._nursery.start_soon(shard.run, self._serve, first_message)
        return shard


class InProcessShard:
    """A shard, and what can happen to it; see `sharding.engine.Shard`. `InProcessEngine` makes these.

    Attributes:
        error: what it has raised.
    """

    def __init__(self, index: int) -> None:
        self.exited = trio.Event()
        self.error: Exception | None = None
        self._index = index
        self._down = _Way()
        self._up = _Way()
        self._scope = trio.CancelScope(shield=True)

    async def run(self, serve: Serve, first_message: bytes) -> None:
        """Serve the shard. What it raises ends the shard, and nothing else."""
        reason = f"shard {self._index} has ended"
        try:
            with self._scope:
                await serve(first_message, self._up.send, self._down.receive)
        except Exception as error:
            self.error = error
            reason = f"shard {self._index} ended: {named_error(error)}"
        finally:
            self._lose(reason)
            self.exited.set()

    async def send(self, message: bytes) -> None:
        """See `sharding.engine.Shard`."""
        await self._down.send(message)

    async def receive(self) -> bytes:
        """See `sharding.engine.Shard`."""
        return await self._up.receive()

    async def aclose(self) -> None:
        """See `sharding.engine.Shard`."""
        self._lose(f"shard {self._index} was closed")
        try:
            with trio.move_on_after(_END_SECONDS):
                await self.exited.wait()
        finally:
            self._scope.cancel()
            with trio.move_on_after(_END_SECONDS, shield=True):
                await self.exited.wait()

    def kill(self) -> None:
        """End it as SIGKILL does: the way is lost, its tasks are cancelled.

        `exited` is set when they have ended, which is at once but for what they shield.
        """
        self._lose(f"shard {self._index} was killed")
        self._scope.cancel()

    def freeze(self) -> None:
        """Hold all messages, both ways, until `thaw`. Its tasks go on: that of SIGSTOP is beyond this."""
        self._hold(True)

    def thaw(self) -> None:
        """Let the messages go that `freeze` held."""
        self._hold(False)

    def cut(self) -> None:
        """Lose the way, both ways, with what is on it. The shard lives, and `exited` is not set."""
        self._lose(f"the connection to shard {self._index} is gone")

    def delay(self, seconds: float, *, from_driver: bool = True, from_shard: bool = True) -> None:
        """Have each message that is sent from now on arrive so much later, both ways or one.

        Args:
            seconds: how much.
            from_driver: what the driver says is late.
            from_shard: what the shard says is late.
        """
        self._down.delay = seconds if from_driver else 0.0
        self._up.delay = seconds if from_shard else 0.0

    def _hold(self, held: bool) -> None:
        for way in (self._down, self._up):
            way.hold(held)

    def _lose(self, reason: str) -> None:
        for way in (self._down, self._up):
            way.lose(reason)


class _Way:
    """The messages on the way in one direction.

    Attributes:
        delay: how long a message takes, seconds.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self._messages: deque[tuple[float, bytes]] = deque()
        self._held = False
        self._lost: str | None = None
        self._changed = Signal()

    async def send(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        await self._changed.wait_until(lambda: self._lost is not None or len(self._messages) < _MESSAGES)
        if self._lost is not None:
            raise ShardLost(self._lost)
        self._messages.append((trio.current_time() + self.delay, bytes(message)))
        self._changed.send()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._has_arrived():
            if self._lost is not None:
                raise ShardLost(self._lost)
            arrives = self._messages[0][0] if self._messages and not self._held else math.inf
            with trio.move_on_at(arrives):
                await self._changed.wait()
        _, message = self._messages.popleft()
        self._changed.send()
        return message

    def _has_arrived(self) -> bool:
        return bool(self._messages) and not self._held and self._has_come(self._messages[0])

    def _has_come(self, message: tuple[float, bytes]) -> bool:
        return message[0] <= trio.current_time()

    def hold(self, held: bool) -> None:
        self._held = held
        self._changed.send()

    def lose(self, reason: str) -> None:
        """Lose the way, and what has not arrived by now."""
        if self._lost is None:
            arrived = [] if self._held else list(takewhile(self._has_come, self._messages))
            self._messages = deque(arrived)
            self._held = False
            self._lost = reason
            self._changed.send()
