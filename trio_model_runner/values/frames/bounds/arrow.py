"""How much memory an Arrow IPC stream takes, found out before it is read.

A stream is a sequence of messages: the schema, dictionaries, record batches. Three things make a small stream
large. Buffers may be compressed: the 8 bytes before a buffer say how much a reader allocates for it. Two
buffers may be the same bytes. And a column without any bytes may have any number of rows. All of this is
written in the heads of the messages, which are Flatbuffers tables. This module reads what it needs of them,
and adds up. It decompresses nothing, and knows nothing of data frames.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import attrs

from .limit import CELL_BYTES

__all__ = ["MessageError", "measure_arrow"]

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3

# The fields' places in the tables Message, DictionaryBatch and RecordBatch.
_KIND, _HEADER = 1, 2
_DATA, _IS_DELTA = 1, 2
_ROWS, _NODES, _BUFFERS, _COMPRESSION = 0, 1, 2, 3

_PAIR: Final = struct.Struct("<qq")
"""A node is a length and a count of nulls; a buffer is an offset and a length in bytes."""

_NOT_COMPRESSED: Final = -1
"""The length before a buffer that is stored as it is, since compression would make it larger."""

_OLD_COMPRESSION: Final = b"ARROW:experimental_compression"
"""A key in the metadata of messages that Arrow 0.17 wrote. Readers still take them."""

_HEAD_WEIGHT: Final = 16
"""How many bytes of memory one byte of a head may take: a node of 16 bytes becomes an array object."""


class MessageError(ValueError):
    """The head of a message makes no sense."""


def measure_arrow(pyarrow: Any, data: bytes, limit: int) -> int:
    """Add up how much memory the messages of a stream take when they are read, in bytes.

    Args:
        pyarrow: the module.
        data: the stream.
        limit: in bytes. Once the sum is larger, the rest is not counted.

    Raises:
        MessageError: the head of a message makes no sense.
    """
    total = dictionaries = 0
    for message in pyarrow.ipc.MessageReader.open_stream(data):
        head = bytes(message.metadata)
        total += len(head) * _HEAD_WEIGHT
        try:
            batch = _batch_in(head)
            size = 0 if batch is None else _measure_batch(batch.table, memoryview(message.body or b""))
        except (struct.error, IndexError) as error:
            raise MessageError("the head of a message makes no sense") from error
        if batch is not None and batch.is_dictionary:
            dictionaries += size
            # A reader makes a new dictionary of the old one and this.
            size = dictionaries if batch.is_delta else size
        total += size
        if total > limit:
            break
    return total


@attrs.frozen
class _Table:
    """A Flatbuffers table. It begins with the offset of a list, which says where its fields are."""

    data: bytes
    start: int

    def field(self, place: int) -> int | None:
        """Where a field is, or None if it has its default."""
        (back,) = struct.unpack_from("<i", self.data, self.start)
        places = _not_negative(self.start - back)
        (length,) = struct.unpack_from("<H", self.data, places)
        if 4 + 2 * place >= length:
            return None
        (offset,) = struct.unpack_from("<H", self.data, places + 4 + 2 * place)
        return self.start + offset if offset else None

    def table(self, place: int) -> _Table | None:
        """The table that a field refers to."""
        at = self.field(place)
        return None if at is None else _Table(self.data, _follow(self.data, at))

    def byte(self, place: int) -> int:
        """A number of 8 bits."""
        at = self.field(place)
        return 0 if at is None else self.data[at]

    def number(self, place: int) -> int:
        """A number of 64 bits."""
        at = self.field(place)
        return 0 if at is None else int(struct.unpack_from("<q", self.data, at)[0])

    def pairs(self, place: int) -> list[tuple[int, int]]:
        """A vector of structs of two numbers of 64 bits."""
        at = self.field(place)
        if at is None:
            return []
        at = _follow(self.data, at)
        (count,) = struct.unpack_from("<I", self.data, at)
        if at + 4 + count * _PAIR.size > len(self.data):
            raise IndexError
        return list(_PAIR.iter_unpack(self.data[at + 4 : at + 4 + count * _PAIR.size]))


@attrs.frozen
class _Batch:
    table: _Table
    is_dictionary: bool = False
    is_delta: bool = False


def _batch_in(head: bytes) -> _Batch | None:
    message = _Table(head, _follow(head, 0))
    kind, header = message.byte(_KIND), message.table(_HEADER)
    if header is None or kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return None
    if kind == _RECORD_BATCH:
        return _Batch(header)
    data = header.table(_DATA)
    return None if data is None else _Batch(data, is_dictionary=True, is_delta=bool(header.byte(_IS_DELTA)))


def _measure_batch(batch: _Table, body: memoryview) -> int:
    lengths = [batch.number(_ROWS), *(length for length, _ in batch.pairs(_NODES))]
    total = sum(map(_not_negative, lengths)) * CELL_BYTES
    compressed = batch.field(_COMPRESSION) is not None or _OLD_COMPRESSION in batch.data
    for offset, length in batch.pairs(_BUFFERS):
        size = _not_negative(length)
        if compressed and size:
            (announced,) = struct.unpack_from("<q", body, _not_negative(offset))
            size = size if announced == _NOT_COMPRESSED else _not_negative(announced)
        total += size
    return total


def _follow(data: bytes, at: int) -> int:
    (offset,) = struct.unpack_from("<I", data, at)
    return at + int(offset)


def _not_negative(number: int) -> int:
    if number < 0:
        raise IndexError
    return number
