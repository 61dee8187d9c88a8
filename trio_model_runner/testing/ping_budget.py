"""How many pings a node accepts before it closes the connection.

Every deployed node is a gRPC server on the C core. Such a server counts pings that come too quickly while it
sends nothing itself, and answers one too many with GOAWAY. Clients that ping to find dead connections meet
this in production. In tests they meet it only if the test's server counts as well.
"""

from __future__ import annotations

import math

import attrs

__all__ = ["PingBudget"]

STRIKES_IDLE = 2
STRIKES_WITH_CALLS = 3
INTERVAL_IDLE = 7200.0  # seconds; a ping after that time is always accepted
INTERVAL_WITH_CALLS = 300.0


@attrs.define
class PingBudget:
    """The pings of one connection since its server last sent headers or data.

    Measured on release 0.4.2: the 4th ping in a row is too many on an idle connection, the 5th while a call
    is open; anything that the server sends for a call starts the count anew.
    """

    _strikes: int = attrs.field(default=0, init=False)
    _last: float = attrs.field(default=-math.inf, init=False)

    def spend(self, now: float, *, calls_open: bool) -> bool:
        """Count a ping that came at `now` (seconds, any clock) and say whether a node would accept it."""
        interval = INTERVAL_WITH_CALLS if calls_open else INTERVAL_IDLE
        too_soon = now < self._last + interval
        self._last = now
        if too_soon:
            self._strikes += 1
        return self._strikes <= (STRIKES_WITH_CALLS if calls_open else STRIKES_IDLE)

    def renew(self) -> None:
        """Start anew: the server sent headers or data."""
        self._strikes = 0
        self._last = -math.inf
