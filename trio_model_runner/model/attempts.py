"""The attempts to connect to one model: how many are left, and how long to wait before the next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from ..backoff import growing_waits
from ..config import Backoff

__all__ = ["Attempts"]

_REPLACEMENTS_AT_ONCE: Final = 3
_LONGEST_RETRY: Final = 300.0  # seconds

_FLOOD_REMEMBERED: Final = 900.0
"""Seconds after a flood in which no good connection makes the attempts count from the first again."""


class Attempts:
    """Counts attempts, as `Backoff` has it. They are counted from the first again after `start_over`.

    When all have failed, each further attempt is the last one: `retry_wait` says how long to wait before it.

    Args:
        backoff: how many there are, and the waits between them.

    Attributes:
        wait: how long to wait before the next attempt, seconds.
        held: the report that the model can't be reached is held. Then it is tried again with growing waits.
        exhausted: all have failed, so the model was given up, though it may be tried again just now.
    """

    def __init__(self, backoff: Backoff) -> None:
        self.wait = 0.0
        self.held = False
        self.exhausted = False
        self._backoff = backoff
        self._waits: Iterator[float] | None = None  # made when an attempt has failed
        self._retry_waits: Iterator[float] | None = None
        self._replacements = float(_REPLACEMENTS_AT_ONCE)
        self._replaced_at = 0.0
        self._flooded_until = -math.inf

    def start_over(self) -> None:
        """Count from the first again, as if nothing had happened."""
        self._flooded_until = -math.inf
        self._start_over()

    def _start_over(self) -> None:
        self._waits = self._retry_waits = None
        self.held = self.exhausted = False

    def next(self) -> bool:
        """Whether there is another attempt, now that one has failed. The wait before it is in `wait` then."""
        if self._waits is None:
            self._waits = self._backoff.delays()
        wait = next(self._waits, None)
        self.wait = wait or 0.0
        self.exhausted = wait is None
        return not self.exhausted

    def note_flood(self, now: float) -> None:
        """The node has sent too much for nothing: for a while, each connection that ends has failed."""
        self._flooded_until = now + _FLOOD_REMEMBERED

    def flooded(self, now: float) -> bool:
        """Whether that was not long ago."""
        return now < self._flooded_until

    def next_after(self, now: float, *, peaceful: bool, answered: bool, good: bool) -> bool:
        """The same, now that a connection has ended which the model was set up on.

        Args:
            now: the time.
            peaceful: its node retired it in peace.
            answered: it carried a call.
            good: a call succeeded on it, or it stood long enough. Then the next attempt is made at once, and
                is the first, unless its node retired it: that node would have it made again for ever.
        """
        if self.flooded(now):
            return self.next()
        if peaceful and answered:  # no failed attempt
            self._start_over()
            self.wait = next(self._backoff.delays(), 0.0)
            return True
        if good and not peaceful:
            self._start_over()
            self.wait = 0.0
            return True
        return self.next()

    def may_replace(self, now: float) -> bool:
        """Whether a connection that its node has retired in peace is replaced at once.

        Three may be at such a time, and one more for each `Backoff.initial` that has passed. So a node that
        retires each connection after one call can't keep this process busy. None is soon after a flood.
        """
        return not self.flooded(now) and self._replacements_at(now) >= 1

    def replace(self, now: float) -> None:
        """Note that a connection is replaced at once. Attempts are counted from the first again."""
        self._start_over()
        self._replacements = self._replacements_at(now) - 1
        self._replaced_at = now

    def _replacements_at(self, now: float) -> float:
        gained = max(0.0, now - self._replaced_at) / self._backoff.initial
        return min(self._replacements + gained, _REPLACEMENTS_AT_ONCE)

    def retry_wait(self) -> float:
        """Seconds to wait before the next attempt of a model that was given up."""
        if not self.held:
            return self._backoff.maximum
        if self._retry_waits is None:
            self._retry_waits = self._growing()
        return next(self._retry_waits)

    def _growing(self) -> Iterator[float]:
        longest = max(_LONGEST_RETRY, self._backoff.maximum)
        return growing_waits(self._backoff.maximum, maximum=longest, jitter=self._backoff.jitter)
