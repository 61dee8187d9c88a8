"""Streams to a UNIX socket."""

from __future__ import annotations

import attrs
import trio

from .base import Network

__all__ = ["UnixNetwork"]


@attrs.frozen
class UnixNetwork(Network):
    """A UNIX socket: one server on this machine. Host and port are ignored.

    Attributes:
        path: where the socket is.
    """

    path: str

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        """Connect to the socket; see `Network.connect`."""
        try:
            return await trio.open_unix_socket(self.path)
        except OSError as error:
            error.filename = self.path  # the error must say what was not found
            raise
