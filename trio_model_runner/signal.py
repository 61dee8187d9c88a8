"""An event that happens again and again, where `trio.Event` happens once.

The usual way to wait for the next time is to replace a `trio.Event` by a new one. If two tasks wait, or if
the event is replaced at the wrong moment, a wake-up is lost: a task waits for an event that nobody will set.
A `Signal` is never replaced. It remembers nothing: its owner keeps what has happened, and a task that waits
looks there::

    async def receive(self) -> Item:
        await self._arrived.wait_until(lambda: bool(self._items))
        return self._items.popleft()
"""

from __future__ import annotations

from collections.abc import Callable

import trio

__all__ = ["Signal"]


class Signal:
    """Wakes all tasks that wait for it at the moment when it is sent."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        # Made when somebody waits: a lot is three objects, and each garbage collection visits them.
        self._waiting: trio.lowlevel.ParkingLot | None = None

    def send(self) -> None:
        """Wake all tasks that wait now."""
        if self._waiting is not None:
            self._waiting.unpark_all()
            self._waiting = None

    async def wait(self) -> None:
        """Wait until the signal is sent the next time."""
        if self._waiting is None:
            self._waiting = trio.lowlevel.ParkingLot()
        await self._waiting.park()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds. It is looked at now, and each time when the signal is sent.

        This is no checkpoint if the condition holds already.
        """
        while not condition():
            await self.wait()
