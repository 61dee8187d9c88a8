"""A shard that says who has sent its requests, and raises when the driver sends it a certain word."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Final

from helpers.callers import marked_shard

__all__ = ["BREAK", "FRAGILE", "fragile_shard", "threads_of_shards"]

FRAGILE: Final = "helpers.fragile_shard:fragile_shard"
BREAK: Final = "break the shard"


async def fragile_shard(
    first_message: bytes,
    send: Callable[[bytes], Awaitable[None]],
    receive: Callable[[], Awaitable[bytes]],
) -> None:
    """Be a `helpers.callers.marked_shard` that can't read a message with the word `BREAK` in it."""

    async def receive_and_look() -> bytes:
        message = await receive()
        return b"?" if BREAK.encode() in message else message

    await marked_shard(first_message, send, receive_and_look)


def threads_of_shards() -> int:
    """How many shards this process has, if it is a Dask worker."""
    return sum(each.name.startswith("shard-") for each in threading.enumerate())
