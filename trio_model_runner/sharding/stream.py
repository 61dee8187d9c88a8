"""Whole messages over a socket: a length of eight bytes, and the message.

Driver and shard use the same. It knows nothing of processes, nor of what the messages say.
"""

from __future__ import annotations

import contextlib
import struct
from typing import Final

import trio

from .engine import ShardLost

__all__ = ["MAX_MESSAGE_BYTES", "MessageStream"]

MAX_MESSAGE_BYTES: Final = 2**31
"""The longest message that is sent or taken: a mistake shall not take all memory. Both ends are ours."""

_HEAD: Final = struct.Struct("<Q")
_READ_BYTES: Final = 2**18
_LARGE_BYTES: Final = 2**18
"""A longer message is read straight into its place."""


class MessageStream:
    """Messages over a connected stream socket, which this closes.

    One task sends at a time, and one receives.
    """

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket
        self._torn = False
        self._received = bytearray()
        self._large: bytearray | None = None
        self._filled = 0

    @trio.lowlevel.enable_ki_protection
    async def send(self, message: bytes) -> None:
        """Send a message. If this is cancelled in the middle of one, no other can follow.

        Raises:
            ShardLost: the other side is gone, or a message was cut short before.
            ValueError: the message is too long.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise ValueError(f"a message of {len(message)} bytes, more than {MAX_MESSAGE_BYTES}")
        if self._torn:
            raise ShardLost("a message was cut short")
        start = _HEAD.pack(len(message)) + message[:_LARGE_BYTES]
        begun = False
        try:
            for part in (memoryview(start), memoryview(message)[_LARGE_BYTES:]):
                while part:
                    part = part[await self._socket.send(part) :]
                    begun = True
            begun = False
        except (OSError, trio.ClosedResourceError) as error:
            raise ShardLost(f"the connection is gone: {error}") from error
        finally:
            if begun:
                self._tear()

    def _tear(self) -> None:
        """Half a message was sent: let the other side know that no more will come."""
        self._torn = True
        with contextlib.suppress(OSError):  # it is gone, or closed
            self._socket.shutdown(trio.socket.SHUT_WR)

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> bytes:
        """The next message. If this is cancelled, nothing is lost.

        Raises:
            ShardLost: the other side is gone, and all whole messages were received.
        """
        await trio.lowlevel.checkpoint()
        while (message := self._next()) is None:
            try:
                await self._receive_some()
            except (OSError, trio.ClosedResourceError) as error:
                raise ShardLost(f"the connection is gone: {error}") from error
        return message

    def _next(self) -> bytes | None:
        """Take the next message out of what was received, if it is complete."""
        if self._large is not None:
            if self._filled < len(self._large):
                return None
            large, self._large = self._large, None
            return bytes(large)
        if len(self._received) < _HEAD.size:
            return None
        (length,) = _HEAD.unpack_from(self._received)
        if length > MAX_MESSAGE_BYTES:
            raise ShardLost(f"a message of {length} bytes was announced, more than {MAX_MESSAGE_BYTES}")
        end = _HEAD.size + length
        if len(self._received) < end:
            if length > _LARGE_BYTES:
                self._filled = len(self._received) - _HEAD.size
                self._large = bytearray(length)
                self._large[: self._filled] = memoryview(self._received)[_HEAD.size :]
                self._received = bytearray()
            return None
        message = bytes(memoryview(self._received)[_HEAD.size : end])
        del self._received[:end]
        return message

    async def _receive_some(self) -> None:
        if self._large is not None:
            count = await self._socket.recv_into(memoryview(self._large)[self._filled :])
            self._filled += count
        else:
            data = await self._socket.recv(_READ_BYTES)
            self._received += data
            count = len(data)
        if not count:
            raise ShardLost("the connection was closed")

    def close(self) -> None:
        """Close the socket. Whoever sends or receives gets a `ShardLost`."""
        self._socket.close()
