"""How far a connection has come."""

from __future__ import annotations

import enum

__all__ = ["State"]


class State(enum.IntEnum):
    """How far a connection has come. It never goes back."""

    STARTING = enum.auto()
    """The server's SETTINGS have not come. Calls are taken, and sent."""

    OPEN = enum.auto()
    """Calls are taken."""

    RETIRING = enum.auto()
    """No new calls are taken; those that are open may end."""

    CLOSING = enum.auto()
    """All calls are reset, and a GOAWAY is on its way to the server."""

    ENDING = enum.auto()
    """Nothing more can be read. The reader's task is about to say why."""

    LOST = enum.auto()
    """It is gone, and everybody who waits on it knows."""
