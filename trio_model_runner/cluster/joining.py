"""`on_join`: the coordinator catches a model up before the model takes part in rounds.

A model that has just joined has no history. Two guarantees make it possible to give it exactly the calls that
it missed, none of them twice. A round chooses its members before its first checkpoint. And there is no
checkpoint between the end of `on_join` and the moment when the model is ready. So a loop that looks for what
is missing can't miss a tick that comes meanwhile: nothing happens between its last look and that moment.

What is missing is for the coordinator to know. A model may have its history, although it joins for the first
time in this process, or comes back after it had stopped: `Join.fresh` says whether its instance is new. The
README has the loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from trio.lowlevel import disable_ki_protection

from ..model.callbacks import call_interruptibly

__all__ = ["call_on_join"]

J = TypeVar("J")


async def call_on_join(on_join: Callable[[J], Awaitable[None]], join: J, timeout: float) -> None:
    """Run the coordinator's code for one model.

    Raises:
        TimeoutError: the code took longer than `timeout` seconds.
        Exception: the code raised it.
    """
    with trio.move_on_after(timeout) as scope:
        is_async = inspect.iscoroutinefunction(on_join)
        awaitable = on_join(join) if is_async else call_interruptibly(on_join, join)
        if not inspect.isawaitable(awaitable):
            raise TypeError(f"on_join: must be an async function, and returned {type(awaitable).__name__}")
        try:
            await disable_ki_protection(_wait_for)(awaitable)
        finally:
            if inspect.iscoroutine(awaitable):
                awaitable.close()  # if Ctrl-C came before it began, Python would warn that nobody awaited it
    if scope.cancelled_caught:
        raise TimeoutError(f"on_join took longer than {timeout:g} s (on_join_timeout)")


async def _wait_for(awaitable: Awaitable[None]) -> None:
    await awaitable
