"""Worker threads for what would hold up the event loop.

While the event loop encodes or decodes one large value, no answer is read and no deadline is kept, for any
model. So large values go to a worker thread, as many at a time as there are processors: more would only
take the interpreter's lock from the event loop more often. What is large, `values` says.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

import trio

__all__ = ["INLINE_BYTES", "run_in_worker"]

INLINE_BYTES: Final = 1 << 16

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_limiter = trio.lowlevel.RunVar[trio.CapacityLimiter]("_limiter")


async def run_in_worker(function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Run a function that neither waits nor touches Trio in a worker thread.

    Cancelled, this returns at once; the thread goes on for as long as the function takes, and what that
    returns or raises is lost.

    Raises:
        BaseException: whatever the function raises.
    """
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(os.cpu_count() or 1)
        _limiter.set(limiter)
    return await trio.to_thread.run_sync(function, *arguments, limiter=limiter, abandon_on_cancel=True)
