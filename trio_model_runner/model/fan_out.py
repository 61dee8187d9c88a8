"""Calls side by side, under one deadline: each of them has its result when this is done.

Most calls need nothing but to be sent, and an answer. They are sent one after the other, at once; then the
round's own task waits for answers, for all of them together. Only a call that must wait for something else
gets a task, in a nursery that ends with the round.

An answer is concluded in the round's task, not where it is read: whatever the coordinator's code does with
it then, no connection's reader is in the way, and the context is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from trio.lowlevel import enable_ki_protection

from ..groups import one_by_itself
from ..rpc.reader import let_readers_catch_up
from ..signal import Signal
from .call import Call

__all__ = ["fan_out"]


async def fan_out(calls: Sequence[Call], cutoff: trio.CancelScope) -> None:
    """Make calls side by side; when this returns, each has its result.

    What the kernel holds when they are cut off is still read, since it may be an answer that only our
    own event loop was late for.

    Args:
        calls: new calls, of the same round.
        cutoff: a new cancel scope whose deadline cuts them off. Moved before the calls' own deadline, it
            cuts them off without blaming anybody.
    """
    open_calls = [call for call in calls if call.result is None]
    if not open_calls:
        await trio.lowlevel.checkpoint()
        return
    with one_by_itself():
        async with trio.open_nursery() as nursery:
            await _FanOut(open_calls, nursery).run(cutoff)
    seconds_late = trio.current_time() - cutoff.deadline
    for call in open_calls:
        if call.result is None:
            call.expire(seconds_late=seconds_late, cut_short=cutoff.deadline < call.deadline)


class _FanOut:
    """The calls of one round while they are made.

    Args:
        calls: new calls.
        nursery: where those run that need a task.
    """

    def __init__(self, calls: Sequence[Call], nursery: trio.Nursery) -> None:
        self._calls = calls
        self._nursery = nursery
        self._remaining = len(calls)
        self._without_task = set(calls)
        self._answered: list[Call] = []
        self._news = Signal()

    async def run(self, cutoff: trio.CancelScope) -> None:
        """Make all calls, until they have their results or are cut off."""
        try:
            with cutoff:
                await trio.lowlevel.checkpoint_if_cancelled()  # or requests would be sent only to be reset
                for call in self._calls:
                    if not call.begin(self._note_answer):
                        self._give_task(call)
                while self._remaining and trio.current_time() < cutoff.deadline:
                    await self._news.wait_until(self._has_news)
                    self._conclude()
            if self._remaining:
                # What is left takes no time. A deadline around us that passes meanwhile may cost no results.
                self._nursery.cancel_scope.shield = True
                await let_readers_catch_up()
                self._conclude()
                self._nursery.cancel_scope.cancel()
        finally:
            for call in self._without_task:
                call.leave()

    def _has_news(self) -> bool:
        return bool(self._answered) or not self._remaining

    def _note_answer(self, call: Call) -> None:
        self._answered.append(call)
        self._news.send()

    def _conclude(self) -> None:
        """Make the results of the answers that have come."""
        answered, self._answered = self._answered, []
        for call in answered:
            if call.conclude():
                self._remaining -= 1
            else:
                self._give_task(call)

    def _give_task(self, call: Call) -> None:
        self._without_task.remove(call)
        self._nursery.start_soon(self._perform, call)

    @enable_ki_protection
    async def _perform(self, call: Call) -> None:
        await call.perform()
        self._remaining -= 1
        if not self._remaining:
            self._news.send()
