"""The deadline of one call, and that of the cancel scopes around it.

A server knows our deadline, for the request told it the seconds that were left. So at that moment both sides
end the call, and its answer DEADLINE_EXCEEDED may come first: its timer is not ours, its clock runs at its
own pace, and our event loop may have been busy when the deadline passed. Such an answer is no news of the
server: it says what we were about to say. gRPC, where client and server each decide for themselves, has one
status for both. Trio has not: the deadline of a call is a `TimeoutError`, that of a scope is a cancellation,
which ends the scope and nothing else. So a call waits for a deadline that is as good as here, and lets that
happen.

Whose deadline the server was told does not matter. A scope may have been moved since, or left, or be shielded
from: what counts is what would end the call in the next moment. An answer DEADLINE_EXCEEDED at any other time
is about a deadline of the server's own, and is a status like any other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import attrs
import trio

__all__ = ["SERVER_EARLY_SECONDS", "CallDeadline"]

SERVER_EARLY_SECONDS: Final = 0.01
"""How long before our deadline a server may say that it has passed.

grpcio's servers said it 0.4 to 10 ms after it, in 16,000 calls. But a timer that counts in a kernel's ticks
may ring up to 4 ms early, as may one that reads a clock in whole milliseconds; and clocks that differ by 100
parts in a million are 6 ms apart after a minute. To wait too long costs these milliseconds, no more.
"""


@attrs.frozen
class CallDeadline:
    """When a call must be over.

    Attributes:
        at: a time on Trio's clock in seconds; `math.inf` for never.
        method_name: of which call, for messages.
    """

    at: float
    method_name: str

    @property
    def nearest(self) -> float:
        """When this task's wait would end now: here, or by a scope around it. `math.inf` for never."""
        return min(self.at, trio.current_effective_deadline())

    def error(self) -> TimeoutError:
        """What is raised when it has passed."""
        return TimeoutError(f"{self.method_name}: the deadline passed")

    @contextlib.contextmanager
    def limiting(self, cause: Exception | None = None) -> Iterator[None]:
        """End what waits in the block at the deadline.

        Args:
            cause: what went wrong before, if something did.

        Raises:
            TimeoutError: it has passed.
        """
        with trio.move_on_at(self.at) as scope:
            yield
        if scope.cancelled_caught:
            raise self.error() from cause

    async def meet(self, error: Exception, *, early: float = 0.0) -> None:
        """Let the nearest deadline end the call instead of an error that comes with it; nothing otherwise.

        Args:
            error: how the call has ended.
            early: seconds that may be left until the deadline. They are waited for.

        Raises:
            TimeoutError: it was the call's own deadline.
            trio.Cancelled: it was the deadline of a scope around the call.
        """
        nearest = self.nearest
        if nearest - trio.current_time() > early:
            return
        await trio.sleep_until(nearest)
        if trio.current_time() >= self.at:
            raise self.error() from error
