"""Cancel something everywhere: after the first step of the whole program, after the second, and so on.

A Trio program can be cancelled only where a task waits, and what it then leaves behind depends on how far all
other tasks have come. So a scenario is run again and again on a fresh subject, and cancelled after one step
more each time, whichever task made that step, until it ends before it is cancelled. After each run a check
says whether what is left is sound.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

__all__ = ["cancel_everywhere"]

T = TypeVar("T")


class _CancelAfter(trio.abc.Instrument):
    """Cancels a scope after so many steps of any tasks."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self._scope = scope
        self.left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._scope.cancel()


async def cancel_everywhere(
    subject: Callable[[], AbstractAsyncContextManager[T]],
    scenario: Callable[[T], Awaitable[object]],
    check: Callable[[T, bool], Awaitable[object]],
) -> int:
    """Cancel `scenario` after each of its steps.

    Args:
        subject: makes what the scenario works on, anew for each run.
        scenario: what is cancelled.
        check: asserts that all is well, given the subject and whether the scenario was cut short; it runs
            after the scenario, uncancelled.

    Returns:
        The number of points at which it was cancelled.
    """
    for steps in itertools.count(1):
        async with subject() as instance:
            with trio.CancelScope() as scope:
                canceller = _CancelAfter(scope, steps)
                trio.lowlevel.add_instrument(canceller)
                try:
                    await scenario(instance)
                finally:
                    trio.lowlevel.remove_instrument(canceller)
            await check(instance, scope.cancelled_caught)
        if canceller.left > 0:
            return steps - 1
    raise AssertionError("unreachable")
