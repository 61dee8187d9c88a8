"""A shard as it always is, which also notes how long its part of a round took, in a file for the driver.

The time is from when the shard has the message that begins the round until its last results are on their way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from trio_model_runner.sharding.shard import serve_shard as serve_ordinary_shard

__all__ = ["PATH_VARIABLE", "serve_shard"]

PATH_VARIABLE: Final = "SHARDING_PROBE"
_ROUND_BEGIN: Final = 0x05
_RESULTS: Final = 0x84
"""The first bytes of these messages; see `wire`."""


async def serve_shard(
    first_message: bytes,
    send: Callable[[bytes], Awaitable[None]],
    receive: Callable[[], Awaitable[bytes]],
) -> None:
    """See `engine.Serve`."""
    began = 0.0
    path = Path(os.environ[PATH_VARIABLE], str(os.getpid()))

    async def receive_and_look() -> bytes:
        nonlocal began
        message = await receive()
        if message[0] == _ROUND_BEGIN:
            began = time.perf_counter()
        return message

    async def send_and_look(message: bytes) -> None:
        if message[0] == _RESULTS:  # the last one stays
            path.write_text(repr(time.perf_counter() - began))  # noqa: ASYNC240 - in memory
        await send(message)

    await serve_ordinary_shard(first_message, send_and_look, receive_and_look)
