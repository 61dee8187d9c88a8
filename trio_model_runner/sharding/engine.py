"""What launches shards, and carries bytes to and from them.

An engine launches processes, and says when one is known to have ended. What driver and shards say to each
other is none of its business, and it decides nothing: neither whether a shard still works (leases do), nor
what happens to its models. `local` has the engine of this machine, `dask` the one of a Dask cluster.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias

import trio

from ..errors import TrioModelRunnerError

__all__ = ["SERVE", "Engine", "Serve", "Shard", "ShardLost", "close_all"]

Serve: TypeAlias = Callable[
    [bytes, Callable[[bytes], Awaitable[None]], Callable[[], Awaitable[bytes]]], Awaitable[None]
]
"""The whole of a shard: it is given the first message, and what sends and receives the others.

These raise `ShardLost` once the driver is gone; then it has 30 s, after which it is cancelled.
"""

SERVE: Final = "trio_model_runner.sharding.shard:serve_shard"
"""Where the `Serve` of a shard is, by name, since it is another process that calls it."""


class ShardLost(TrioModelRunnerError):
    """The way to a shard is gone for good. Whether its process still runs, `Shard.exited` says."""


class Shard(Protocol):
    """One launched shard, as the driver holds it.

    Attributes:
        exited: set only when the process is known to be gone: then it calls no models any more.
    """

    exited: trio.Event

    async def send(self, message: bytes) -> None:
        """Send a message. Messages arrive in order, each whole, or not at all.

        Only one task sends at a time.

        Raises:
            ShardLost: the way is gone.
        """

    async def receive(self) -> bytes:
        """The next message of the shard.

        Raises:
            ShardLost: the way is gone, and all that came before was received.
        """

    async def aclose(self) -> None:
        """Close the way, and end the process if it has not ended by itself: bounded, within some seconds.

        It may be called while others send or receive, who get a `ShardLost`.
        """


class Engine(Protocol):
    """Launches shards.

    Attributes:
        has_network: its shards use a network of the engine's, and not the one in the settings.
    """

    has_network: bool

    def running(self) -> AbstractAsyncContextManager[None]:
        """What must be open around all shards, such as a connection to a scheduler.

        It is entered before the first launch, and left after the last shard was closed.
        """

    async def launch(self, index: int, first_message: bytes) -> Shard:
        """Launch a shard, and hand it its first message.

        Args:
            index: the shard's number, from 0; a later launch of the same index takes a lost one's place.
            first_message: what the shard receives first.

        Raises:
            ShardLost: it could not be launched; the text says why.
        """


@trio.lowlevel.enable_ki_protection
async def close_all(shards: Iterable[Shard]) -> None:
    """Close all these, at the same time. This is for a ``finally``, and so raises no `trio.Cancelled`.

    That would replace the exception that is on its way out there. If this is cancelled before, it is quick;
    in any case it is bounded, as `Shard.aclose` is.
    """
    cancelled = trio.current_effective_deadline() == -math.inf
    with trio.CancelScope(shield=True) as scope:
        if cancelled:
            scope.cancel()
        async with trio.open_nursery() as nursery:
            for shard in shards:
                nursery.start_soon(shard.aclose)
