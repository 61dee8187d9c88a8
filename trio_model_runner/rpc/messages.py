"""gRPC's messages in the body of a response, which comes in pieces that have nothing to do with them."""

from __future__ import annotations

from collections import deque
from typing import Final

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from .protocol import MESSAGE_PREFIX_LENGTH, message_length, message_prefix

__all__ = ["MessageCutter"]

_NOTHING: Final = bytearray()  # never changed: most responses need no buffer of their own


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
        self._gathered = _NOTHING
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
        gathered = self._gathered
        if not gathered:
            if not self.begun:  # most answers are one message in one piece
                length = len(data) - MESSAGE_PREFIX_LENGTH
                if 0 <= length <= self._max_message_bytes and data.startswith(message_prefix(length)):
                    self.begun = 1
                    self.messages.append(data[MESSAGE_PREFIX_LENGTH:])
                    return
            gathered = self._gathered = bytearray()
        gathered += data
        self._cut(gathered)

    def clear(self) -> None:
        """Let go of all that was gathered and not taken."""
        self._gathered = _NOTHING
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
            self.messages.append(bytes(memoryview(gathered)[MESSAGE_PREFIX_LENGTH : self._length]))
            del gathered[: self._length]
            self._length = 0

    def _fault(self, what: str) -> GRPCError:
        text = f"is not exactly one message: it {what}" if self._single else what
        return GRPCError(Status.INTERNAL, f"the answer {text}")
