"""gRPC's messages, each behind its length, in a body that comes in pieces which know nothing of them."""

from __future__ import annotations

import struct
from collections import deque
from typing import Final, cast

from grpclib.const import Status
from grpclib.exceptions import GRPCError

__all__ = ["MESSAGE_PREFIX", "MESSAGE_PREFIX_LENGTH", "MessageCutter", "message_length", "message_prefix"]

MESSAGE_PREFIX: Final = struct.Struct(">BL")
"""What precedes a message: whether it is compressed, and its length in bytes."""

MESSAGE_PREFIX_LENGTH: Final = MESSAGE_PREFIX.size


def message_prefix(length: int) -> bytes:
    """What precedes a message of `length` bytes that is not compressed."""
    return MESSAGE_PREFIX.pack(0, length)


def message_length(data: bytes | bytearray, max_message_bytes: int) -> int:
    """The length of the message that begins with the prefix in `data`, bytes, without the prefix.

    Raises:
        GRPCError: the message is compressed, which nobody asked for, or larger than `max_message_bytes`.
    """
    compressed, length = MESSAGE_PREFIX.unpack_from(data)
    if compressed:
        raise GRPCError(Status.INTERNAL, "the answer is compressed, which it was not asked to be")
    if length > max_message_bytes:
        text = f"the answer has {length} bytes, more than max_message_bytes, {max_message_bytes}"
        raise GRPCError(Status.RESOURCE_EXHAUSTED, text)
    return int(length)


class MessageCutter:
    """Cuts the body of one response into messages.

    A message that is too large is refused from its length prefix, before it is gathered. So what is held is
    never more than the whole messages that nobody has taken, and one more.

    Args:
        max_message_bytes: the largest message taken, bytes.
        single: the response must have exactly one message.

    Attributes:
        messages: the whole messages that nobody has taken yet.
        begun: how many messages have begun, which is when the prefix is there.
    """

    __slots__ = ("_gathered", "_length", "_max_message_bytes", "_single", "begun", "messages")

    def __init__(self, max_message_bytes: int, *, single: bool) -> None:
        self.messages: deque[bytes] = deque()
        self.begun = 0
        self._max_message_bytes = max_message_bytes
        self._single = single
        self._gathered = bytearray()
        self._length = 0  # of the message that has begun, prefix included; 0 before it has

    @property
    def gathered(self) -> int:
        """How many bytes are there of a message that is not whole."""
        return len(self._gathered)

    @property
    def empty(self) -> bool:
        """Whether nothing of a message has come."""
        return not (self.begun or self._gathered)

    def feed(self, data: bytes) -> None:
        """Take in the next piece of the body.

        Raises:
            GRPCError: a message is compressed or too large, or the response has more messages than it may.
        """
        self._gathered += data
        self._cut(self._gathered)

    def clear(self) -> None:
        """Let go of all that was gathered and not taken."""
        self._gathered.clear()
        self.messages.clear()

    def check_end(self) -> None:
        """Check that the body may end here.

        Raises:
            GRPCError: it may not: a message is not whole, or there is none where one must be.
        """
        if self._gathered:
            raise self._fault("ends in the middle of a message")
        if self._single and not self.begun:
            raise self._fault("has no message")

    def _cut(self, gathered: bytearray) -> None:
        while gathered:
            if not self._length:
                if self._single and self.begun:
                    raise self._fault("is more than one message")
                if len(gathered) < MESSAGE_PREFIX_LENGTH:
                    return
                self._length = MESSAGE_PREFIX_LENGTH + message_length(gathered, self._max_message_bytes)
                self.begun += 1
            if len(gathered) < self._length:
                return
            if self._single and len(gathered) == self._length:
                self._gathered, self._length = bytearray(), 0
                del gathered[:MESSAGE_PREFIX_LENGTH]  # which moves nothing; to copy 60 MB takes 30 ms
                self.messages.append(cast("bytes", gathered))  # nobody else has it now: it stays as it is
                return
            self.messages.append(bytes(memoryview(gathered)[MESSAGE_PREFIX_LENGTH : self._length]))
            del gathered[: self._length]
            self._length = 0

    def _fault(self, what: str) -> GRPCError:
        text = f"is not exactly one message: it {what}" if self._single else what
        return GRPCError(Status.INTERNAL, f"the answer {text}")
