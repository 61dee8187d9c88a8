"""The attempts to connect to one model: how many are left, and how long to wait before the next."""

from __future__ import annotations

from ..config import Backoff

__all__ = ["Attempts"]


class Attempts:
    """Counts attempts, as `Backoff` has it. They are counted from the first again after `start_over`.

    Args:
        backoff: how many there are, and the waits between them.

    Attributes:
        wait: how long to wait before the next attempt, seconds.
    """

    def __init__(self, backoff: Backoff) -> None:
        self.wait = 0.0
        self._backoff = backoff
        self._waits = backoff.delays()

    def start_over(self) -> None:
        """Count from the first again."""
        self._waits = self._backoff.delays()

    def next(self, stood: float) -> bool:
        """Whether there is another attempt, now that a connection has ended or could not be made.

        The wait before it is in `wait` then. A connection that stood long enough was no failed attempt: the
        next one is made at once, and is the first.

        Args:
            stood: how long the connection carried calls, seconds.
        """
        if stood >= self._backoff.initial:
            self.start_over()
            self.wait = 0.0
            return True
        wait = next(self._waits, None)
        self.wait = wait or 0.0
        return wait is not None
