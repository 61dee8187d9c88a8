"""Until when a shard may call its models, and when the driver may give them to another shard.

Two shards that call the same model at once would make it wrong, and nobody would see it. That a process is
silent does not say that it has ended: it may be stopped, or the way may be cut. So a shard calls models only
while it has a **lease**. It renews the lease again and again, and the driver acknowledges that. The lease
lasts for `Hello.lease` seconds from the time at which the shard *sent* the renewal; the driver waits for a
second longer from the time at which it *received* it. The send comes before the receipt. So a shard falls
silent before the driver gives its models away, whatever the two clocks say.

A timer is no fence: a task that slept when its process was stopped writes before the timer is looked at. So
`HeldLease.valid` reads the clock, and is asked before each request that is written. The clock goes on while
the machine sleeps (CLOCK_BOOTTIME).

There is no I/O here, and no task.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

__all__ = ["GRACE", "HeldLease", "OwnGaps", "WatchedLease", "boot_time"]

GRACE: Final = 1.0
"""Seconds that the driver waits longer than the lease lasts."""

_LONGEST_DELAY: Final = 0.5
"""Seconds. The driver was away itself if it is later than that."""

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", None)  # Linux has it


def boot_time() -> float:
    """Seconds since some moment; it goes on while the machine sleeps, where the system has such a clock."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


class HeldLease:
    """The lease that a shard holds.

    Args:
        duration: seconds that it lasts from the sending of the renewal.
        clock: see `boot_time`; tests have their own.

    Attributes:
        round_trip: seconds from the last renewal that was granted until the grant came; 0.0 before the first.
    """

    def __init__(self, duration: float, clock: Callable[[], float] = boot_time) -> None:
        self._duration = duration
        self._clock = clock
        self._sent: dict[int, float] = {}  # the oldest first
        self._sequence = 0
        self._until = -math.inf
        self._began = clock()
        self.round_trip = 0.0

    def renew(self) -> int:
        """Note that a renewal is sent now; return its number."""
        self._sequence += 1
        self._sent[self._sequence] = self._clock()
        return self._sequence

    def grant(self, sequence: int) -> None:
        """Note that the driver has received a renewal. One that it can't have received changes nothing."""
        sent_at = self._sent.get(sequence)
        if sent_at is None:
            return
        self.round_trip = self._clock() - sent_at
        for earlier in [each for each in self._sent if each <= sequence]:
            del self._sent[earlier]
        self._until = max(self._until, sent_at + self._duration)

    def valid(self) -> bool:
        """Whether models may be called now."""
        return self._clock() < self._until

    @property
    def remaining(self) -> float:
        """Seconds that it lasts; 0.0 without one."""
        return max(0.0, self._until - self._clock())

    @property
    def lost_for(self) -> float:
        """Seconds since it ended, or since this was made if there never was one; 0.0 while it lasts."""
        return max(0.0, self._clock() - max(self._until, self._began))


class WatchedLease:
    """A shard's lease, as the driver sees it.

    Args:
        duration: seconds that it lasts, as the shard was told.
        now: the driver's time, seconds. The lease starts now.
    """

    def __init__(self, duration: float, now: float) -> None:
        self._duration = duration + GRACE
        self._from = now

    def note_renewal(self, now: float) -> None:
        """A renewal has been received."""
        self._from = max(self._from, now)

    @property
    def expires_at(self) -> float:
        """When the shard has fallen silent for certain, so that its models may be called by another."""
        return self._from + self._duration

    def is_silent(self, now: float) -> bool:
        """Whether the renewals of a shard stay away: there was none for `GRACE` seconds."""
        return now - self._from > GRACE


class OwnGaps:
    """Notices that the driver itself was away, since then the silence of shards says nothing.

    A driver that was stopped, or busy for seconds, finds renewals in its sockets that it has not read yet.

    Args:
        now: the driver's time, seconds.
    """

    def __init__(self, now: float) -> None:
        self._expected = now

    def expect(self, at: float) -> None:
        """The driver will look at its leases at this time."""
        self._expected = at

    def was_away(self, now: float) -> bool:
        """Whether it is far later than it was to be."""
        return now - self._expected > _LONGEST_DELAY
