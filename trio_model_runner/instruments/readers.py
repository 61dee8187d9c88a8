"""The readers of a status socket: each gets the same lines, and none can hold up the others.

A line is made once for all. A reader that is too far behind is dropped: what it has not read would fill this
process's memory. What readers send is read, and thrown away. One that ends its sending may have left, or may
still read: the socket tells which.
"""

from __future__ import annotations

import contextlib
import select
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from ..forks import keep_from_children
from ..signal import Signal

__all__ = ["Readers"]

_MOST_READERS: Final = 32
_MOST_BEHIND: Final = 16 << 20  # bytes
_CHUNK: Final = 4096


class _Reader:
    """One reader, and the lines that it has not been sent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.scope = trio.CancelScope()
        keep_from_children(stream.socket)  # or it would not hear of the end while a child lives
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._behind = 0
        self._ending = False
        self._news = Signal()

    def tell(self, line: bytes) -> None:
        """Queue a line. A reader that is too far behind is dropped."""
        if self._behind > _MOST_BEHIND:
            self.scope.cancel()
            return
        self._lines.append(line)
        self._behind += len(line)
        self._news.send()

    def end(self) -> None:
        """Queue no more; it is done when it has what is queued."""
        self._ending = True
        self._news.send()

    async def run(self) -> None:
        """Send lines, until the reader leaves, is dropped, or has them all."""
        with self.scope:
            async with self._stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._throw_away, nursery.cancel_scope)
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it has left
                    await self._send()
                nursery.cancel_scope.cancel()

    async def _send(self) -> None:
        while True:
            await self._news.wait_until(lambda: bool(self._lines) or self._ending)
            if not self._lines:
                return
            line = self._lines.popleft()
            await self._stream.send_all(line)
            self._behind -= len(line)

    async def _throw_away(self, whole: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await self._stream.receive_some(_CHUNK):
                pass
            if not self._has_left():
                return  # if it leaves later, the next line can't be sent, and there is one every 10 s
        whole.cancel()

    def _has_left(self) -> bool:
        """Whether both ways are closed, after the end of what it sent: unix(7) says so by POLLHUP."""
        poll = select.poll()
        poll.register(self._stream.socket.fileno(), 0)
        return bool(poll.poll(0))


class Readers:
    """All readers of one socket.

    Args:
        first_line: makes the line that each reader gets first.
    """

    def __init__(self, first_line: Callable[[], bytes]) -> None:
        self._first_line = first_line
        self._readers: set[_Reader] = set()
        self._left = Signal()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._readers)

    def tell(self, line: bytes) -> None:
        """Send a line to all."""
        for reader in self._readers:
            reader.tell(line)

    async def take(self, stream: trio.SocketStream) -> None:
        """Serve a new reader, until it leaves or is dropped. One too many is sent away."""
        if len(self._readers) >= _MOST_READERS:
            await trio.aclose_forcefully(stream)
            return
        reader = _Reader(stream)
        reader.tell(self._first_line())  # no checkpoint before it is one of all, or it would miss a line
        self._readers.add(reader)
        try:
            await reader.run()
        finally:
            self._readers.discard(reader)
            self._left.send()

    async def end(self, last_line: bytes) -> None:
        """Send a last line, and wait until all have it."""
        for reader in self._readers:
            reader.tell(last_line)
            reader.end()
        await self._left.wait_until(lambda: not self._readers)
