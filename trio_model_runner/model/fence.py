"""Holds requests back where they may be forbidden at any moment, as in a shard without a lease.

The connection asks before it writes anything of a request. What is held back goes out when requests are
allowed again, on whatever connection it waits. Meanwhile no time runs for requests that bring a model up: a
node that was not asked has not failed to answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

import trio

if TYPE_CHECKING:
    from ..rpc.connection import Connection
    from ..rpc.streams import MaySend

__all__ = ["Fence"]


class Fence:
    """Says whether requests may go out. It is closed at first.

    Args:
        may_send: whether anything of a request may be sent at this moment. This may say no before `close`.

    Attributes:
        may_send: the same.
    """

    def __init__(self, may_send: MaySend) -> None:
        self.may_send = may_send
        self._closed = True
        self._connections: WeakSet[Connection] = WeakSet()
        self._limits: dict[trio.CancelScope, float] = {}

    def add(self, connection: Connection) -> None:
        """Requests on this connection may be held back."""
        connection.fence_off(self.may_send)
        self._connections.add(connection)

    @contextmanager
    def time_limit(self, seconds: float) -> Iterator[trio.CancelScope]:
        """What `trio.move_on_after` gives; all its time begins anew when the fence is opened."""
        with trio.move_on_after(math.inf if self._closed else seconds) as scope:
            self._limits[scope] = seconds
            try:
                yield scope
            finally:
                del self._limits[scope]

    def close(self) -> None:
        """Requests are forbidden: let no time run."""
        self._closed = True
        for scope in self._limits:
            scope.deadline = math.inf

    def open(self) -> None:
        """Requests are allowed again: send what was held back."""
        self._closed = False
        now = trio.current_time()
        for scope, seconds in self._limits.items():
            scope.deadline = now + seconds
        for connection in list(self._connections):
            connection.send_held_back()
