"""Cancel or interrupt something everywhere: after the first step of the whole program, the second, and so on.

A Trio program can be cancelled only where a task waits, and what it then leaves behind depends on how far all
other tasks have come. So a scenario is run again and again on a fresh subject, and cancelled after one step
more each time, whichever task made that step, until it ends before it is cancelled. After each run a check
says whether what is left is sound.

KeyboardInterrupt comes out of the same places when Trio delivers it to the main task at a checkpoint, and out
of any line of code that is not protected from it. So `interrupt_everywhere` raises a SIGINT after each step,
and `interrupt_every_line` before each line that the library executes, again and again.
"""

from __future__ import annotations

import itertools
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

__all__ = ["cancel_everywhere", "interrupt_every_line", "interrupt_everywhere"]

T = TypeVar("T")


class _AfterSteps(trio.abc.Instrument):
    """Does something after so many steps of any tasks."""

    def __init__(self, steps: int, act: Callable[[], object]) -> None:
        self.left = steps
        self._act = act

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._act()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the steps made inside."""
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)


class _BeforeLines:
    """Raises a SIGINT before the line of that number, of those that files under a path execute."""

    def __init__(self, number: int, path: str) -> None:
        self.left = number
        self._path = path

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the lines executed inside, in this thread."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: Any, event: str, argument: Any) -> Any:
        return self._line if self._path in frame.f_code.co_filename else None

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "line":
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self._line


async def cancel_everywhere(
    subject: Callable[[], AbstractAsyncContextManager[T]],
    scenario: Callable[[T], Awaitable[object]],
    check: Callable[[T, bool], Awaitable[object]],
    *,
    stride: int = 1,
) -> int:
    """Cancel `scenario` after each of its steps, or each `stride`-th.

    Args:
        subject: makes what the scenario works on, anew for each run.
        scenario: what is cancelled.
        check: asserts that all is well, given the subject and whether the scenario was cut short; it runs
            after the scenario, uncancelled.
        stride: how many steps there are from one point to the next.

    Returns:
        The number of points at which it was cancelled, which is printed, too.
    """
    for points in itertools.count(0):
        async with subject() as instance:
            with trio.CancelScope() as scope:
                canceller = _AfterSteps(points * stride + 1, scope.cancel)
                with canceller.counting():
                    await scenario(instance)
            await check(instance, scope.cancelled_caught)
        if canceller.left > 0:
            print(f"cancelled at {points} points")
            return points
    raise AssertionError("unreachable")


def interrupt_everywhere(
    subject: Callable[[], AbstractAsyncContextManager[T]],
    scenario: Callable[[T], Awaitable[object]],
    check: Callable[[T, bool], Awaitable[object]],
    *,
    stride: int = 1,
) -> int:
    """Raise a SIGINT after each step of `scenario`, or each `stride`-th, in a Trio run of its own each time.

    For the arguments and the result see `cancel_everywhere`.
    """

    def interrupter(steps: int) -> _AfterSteps:
        return _AfterSteps(steps, lambda: signal.raise_signal(signal.SIGINT))

    return _interrupt(subject, scenario, check, interrupter, stride)


def interrupt_every_line(
    subject: Callable[[], AbstractAsyncContextManager[T]],
    scenario: Callable[[T], Awaitable[object]],
    check: Callable[[T, bool], Awaitable[object]],
    *,
    path: str,
    stride: int = 1,
) -> int:
    """Raise a SIGINT before each line that `scenario` has files under `path` execute, or each `stride`-th.

    For the other arguments and the result see `cancel_everywhere`.
    """
    return _interrupt(subject, scenario, check, lambda n: _BeforeLines(n, path), stride)


def _interrupt(
    subject: Callable[[], AbstractAsyncContextManager[T]],
    scenario: Callable[[T], Awaitable[object]],
    check: Callable[[T, bool], Awaitable[object]],
    interrupter: Callable[[int], Any],
    stride: int,
) -> int:
    async def run(interrupting: Any) -> None:
        async with subject() as instance:
            interrupted = False
            try:
                with interrupting.counting():
                    await scenario(instance)
                    if interrupting.left <= 0:
                        await trio.lowlevel.checkpoint()  # the interrupt may still wait for one
            except KeyboardInterrupt:
                interrupted = True
            except BaseExceptionGroup as group:
                _, others = group.split(KeyboardInterrupt)
                if others is not None:
                    raise others from None
                interrupted = True
            assert interrupted == (interrupting.left <= 0), "an interrupt was lost"
            await check(instance, interrupted)

    for points in itertools.count(0):
        interrupting = interrupter(points * stride + 1)
        trio.run(run, interrupting)
        if interrupting.left > 0:
            print(f"interrupted at {points} points")
            return points
    raise AssertionError("unreachable")
