"""How loud to log a trouble that may last: one warning for each reason, and no more.

A night without the orchestrator has thousands of attempts. This knows reasons only, not what is attempted.
"""

from __future__ import annotations

import logging

__all__ = ["LastingTrouble"]


class LastingTrouble:
    """Remembers the last reason."""

    def __init__(self) -> None:
        self._reason: str | None = None

    def level(self, reason: str) -> int:
        """The level to log a reason at: WARNING for a new one, DEBUG for the same again."""
        level = logging.DEBUG if reason == self._reason else logging.WARNING
        self._reason = reason
        return level

    def end(self) -> None:
        """Note that all is well again: the next reason is new, whatever it is."""
        self._reason = None
