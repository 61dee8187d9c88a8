"""Worker threads for what would hold up the event loop.

While the event loop encodes or decodes one large value, no answer is read and no deadline is kept, for any
model. So large values go to worker threads, two at a time: with eight, the event loop waited for the
interpreter's lock three times as long, and nothing was done sooner. `values.effort` says which values are
large. Answers of more than a quarter of a megabyte have a thread of their own: else a few answers of hostile
models would keep all others waiting until the deadline.

A clock that jumps when nothing happens (`trio.testing.MockClock`, with autojump) does not see that a thread
is at work. It would jump to the deadline of the task that waits for the thread. So under such a clock
everything is done in the event loop, and takes no time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

import trio

from .abandoned import run_stoppable

__all__ = ["clock_jumps", "run_in_worker"]

_THREADS: Final = 2
_THREADS_APART: Final = 1

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_limiters = trio.lowlevel.RunVar[tuple[trio.CapacityLimiter, trio.CapacityLimiter]]("_limiters")


async def run_in_worker(function: Callable[[*Ts], T], *arguments: *Ts, apart: bool = False) -> T:
    """Run a function in a worker thread. The function must not use Trio.

    When this is cancelled, it ends at once. The thread goes on until the function ends, or until it calls
    `abandoned.stop_if_abandoned`. The function's value or exception is lost.

    Args:
        function: the function.
        arguments: the function's arguments.
        apart: use the thread for functions that may take long, so that others need not wait behind this one.

    Raises:
        BaseException: whatever the function raises.
    """
    if clock_jumps():
        await trio.lowlevel.checkpoint()
        return function(*arguments)
    try:
        limiters = _limiters.get()
    except LookupError:
        limiters = trio.CapacityLimiter(_THREADS), trio.CapacityLimiter(_THREADS_APART)
        _limiters.set(limiters)
    limiter = limiters[apart]
    return await trio.to_thread.run_sync(
        run_stoppable,
        trio.from_thread.check_cancelled,
        function,
        *arguments,
        limiter=limiter,
        abandon_on_cancel=True,
    )


def clock_jumps() -> bool:
    """Whether time jumps when all tasks wait, even if threads or processes are at work."""
    threshold: float = getattr(trio.lowlevel.current_clock(), "autojump_threshold", math.inf)
    return threshold < math.inf
