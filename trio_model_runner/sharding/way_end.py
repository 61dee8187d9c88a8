"""One end of a way whose messages have numbers: what is sent and what came, until the way is lost.

`dask` has one end, and `dask_actor` the other. How batches get across is theirs to know.
"""

from __future__ import annotations

import trio

from ..signal import Signal
from .engine import ShardLost
from .sequence import Incoming, Outgoing

__all__ = ["WayEnd"]


class WayEnd:
    """One end of a way. Those who carry its batches inherit it."""

    def __init__(self) -> None:
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self._changed = Signal()
        self._lost: str | None = None  # why, in words

    async def send(self, message: bytes) -> None:
        """See `engine.Shard`. It does not wait until the message has arrived."""
        await trio.lowlevel.checkpoint()
        await self._changed.wait_until(lambda: self._lost is not None or self._outgoing.has_room)
        if self._lost is not None:
            raise ShardLost(self._lost)
        self._outgoing.add(message)
        self._changed.send()

    async def receive(self) -> bytes:
        """See `engine.Shard`."""
        await trio.lowlevel.checkpoint()
        await self._changed.wait_until(lambda: self._lost is not None or bool(self._incoming))
        if not self._incoming:
            assert self._lost is not None
            raise ShardLost(self._lost)
        message = self._incoming.read()
        self._changed.send()
        return message
