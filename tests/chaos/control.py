"""The control channel of a child process: JSON objects, one a line, both ways."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

import trio

__all__ = ["ControlChannel"]


class ControlChannel:
    """One end of it."""

    def __init__(self, end: socket.socket) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(end))
        self._sending = trio.Lock()

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message; short ones don't wait for a reader that stands still."""
        async with self._sending:
            await self._stream.send_all(json.dumps(message).encode() + b"\n")

    async def receive_all(self) -> AsyncGenerator[dict[str, Any], None]:
        """Each message, until the other end is gone."""
        unread = b""
        while True:
            try:
                data = await self._stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                yield json.loads(line)

    async def aclose(self) -> None:
        """Close this end."""
        await self._stream.aclose()
