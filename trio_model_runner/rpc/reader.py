"""Reads from a connection's byte stream.

On a plain socket this waits first and reads then, with the descriptor's own system call. Trio's
`SocketStream` tries to read first, since most programs find something there. Between two answers of a model
lie seconds, so that here the first try is always in vain; with the schedule point that Trio owes to the
read that succeeds, that was a tenth of all that a call costs.
"""

from __future__ import annotations

import os
from typing import Final

import trio

__all__ = ["Reader"]

_SIZE: Final = 64 << 10


class Reader:
    """Gets what arrives on a byte stream.

    Args:
        stream: where from.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None

    async def receive(self) -> bytes:
        """Wait for bytes and return what is there; nothing at the stream's end.

        Raises:
            trio.BrokenResourceError: the stream is broken; the cause says how.
            trio.ClosedResourceError: the stream was closed meanwhile.
        """
        if self._socket is None:
            return bytes(await self._stream.receive_some(_SIZE))
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), _SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"the connection broke: {error}") from error
