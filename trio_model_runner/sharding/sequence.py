"""Messages with numbers, so that each arrives once and in order, though a batch of them may be sent twice.

`dask` and `dask_actor` have one `Outgoing` and one `Incoming` each, and between them go `Batch`es. There is
no I/O here.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

__all__ = ["Batch", "Incoming", "Outgoing"]

_HEAD: Final = struct.Struct("<BQQQ")
_MOST_BYTES: Final = 2**25
"""So many go together, or a single message."""

_MOST_WAITING_BYTES: Final = 2**23
"""So many may wait before there is no room for more."""


@attrs.frozen
class Batch:
    """Some messages, and how the shard is that they come from or go to.

    Attributes:
        first: the number of the first message, or of the next one if there is none.
        messages: in order.
        full: what was sent was taken, but has not been read: wait before more is sent.
        ended: the shard has ended, and these are its last messages.
        text: why it has ended, if that was an error.
    """

    first: int = 0
    messages: Sequence[bytes] = ()
    full: bool = False
    ended: bool = False
    text: str = ""

    def pack(self) -> bytes:
        """Make bytes of it; see `unpack`."""
        text = self.text.encode("utf-8", "replace")
        head = _HEAD.pack(self.full | self.ended << 1, self.first, len(self.messages), len(text))
        lengths = struct.pack(f"<{len(self.messages)}Q", *map(len, self.messages))
        return b"".join((head, text, lengths, *self.messages))

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Batch:
        """Read what `pack` has made.

        Raises:
            ValueError: it was not.
        """
        view = memoryview(data)
        try:
            flags, first, count, text_length = _HEAD.unpack_from(view)
            start = _HEAD.size + text_length
            text = bytes(view[_HEAD.size : start])
            lengths = struct.unpack_from(f"<{count}Q", view, start)
        except (struct.error, MemoryError, OverflowError) as error:
            raise ValueError(f"no batch of messages: {error}") from error
        start += 8 * count
        if start + sum(lengths) != len(view):
            raise ValueError("no batch of messages: its length is wrong")
        messages = []
        for length in lengths:
            messages.append(bytes(view[start : start + length]))
            start += length
        return cls(first, messages, bool(flags & 1), bool(flags & 2), text.decode("utf-8", "replace"))


class _Waiting:
    """Messages that wait."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def has_room(self) -> bool:
        """Whether more may be added."""
        return self._bytes < _MOST_WAITING_BYTES

    def _append(self, message: bytes) -> None:
        self._messages.append(message)
        self._bytes += len(message)

    def _take_out(self) -> bytes:
        message = self._messages.popleft()
        self._bytes -= len(message)
        return message


class Outgoing(_Waiting):
    """What was sent, until the other side has it."""

    def __init__(self) -> None:
        super().__init__()
        self._first = 0

    @property
    def first(self) -> int:
        """The number of the first message that the other side does not have."""
        return self._first

    @property
    def end(self) -> int:
        """The number of the next message that will be sent."""
        return self._first + len(self._messages)

    def add(self, message: bytes) -> None:
        """Send a message."""
        self._append(message)

    def next_messages(self) -> list[bytes]:
        """The next messages to be sent, from `first` on, without forgetting them."""
        messages: list[bytes] = []
        length = 0
        for message in self._messages:
            length += len(message)
            if messages and length > _MOST_BYTES:
                break
            messages.append(message)
        return messages

    def forget(self, before: int) -> None:
        """Forget what the other side has: all messages before a number."""
        while self._messages and self._first < before:
            self._take_out()
            self._first += 1


class Incoming(_Waiting):
    """What came, until it is read."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    @property
    def next(self) -> int:
        """The number of the next message that will be new."""
        return self._next

    def add(self, batch: Batch) -> None:
        """Take what is new of a batch.

        Raises:
            ValueError: messages before it are missing.
        """
        if batch.first > self._next:
            raise ValueError(f"messages {self._next} to {batch.first - 1} are missing")
        for message in batch.messages[self._next - batch.first :]:
            self._append(message)
            self._next += 1

    def read(self) -> bytes:
        """Take out the next message."""
        return self._take_out()
