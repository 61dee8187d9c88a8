"""Thrift structs in the compact protocol, read as far as Parquet's metadata needs.

Parquet writes its footer and the header of each page this way. If a stranger wrote them, they must be checked
before a Parquet library reads them: the library believes their sizes, and pyarrow (26) even ends the whole
process if it is asked about metadata that makes no sense.

This module must understand the bytes as such a library does. So a field counts only if it has exactly the
right type, since libraries skip it otherwise. If a number comes twice, the later field counts. This module
knows nothing of Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

__all__ = ["I32", "I64", "LIST", "STRUCT", "ThriftError", "ThriftReader"]

I32: Final = 5
I64: Final = 6
LIST: Final = 9
STRUCT: Final = 12

_STOP, _TRUE, _FALSE, _BYTE, _I16, _DOUBLE, _BINARY, _SET = 0, 1, 2, 3, 4, 7, 8, 10
_INTEGERS = (_I16, I32, I64)
_BITS = {I32: 31, I64: 63}
_DEEPEST = 16  # how deep structs and lists are nested; those in use are 7 deep


class ThriftError(ValueError):
    """The bytes are no Thrift struct."""


class ThriftReader:
    """Reads one struct, in the order in which it is written.

    Args:
        data: where it is.
        position: where it begins.
        limit: where it must have ended.

    Attributes:
        position: where what comes next begins.
    """

    __slots__ = ("_data", "_limit", "position")

    def __init__(self, data: bytes, position: int, limit: int) -> None:
        self._data = data
        self._limit = min(limit, len(data))
        self.position = position
        if position < 0:
            raise ThriftError("a struct outside of the bytes")

    def fields(self) -> Iterator[tuple[int, int]]:
        """Go through the fields of a struct; each must be read, or skipped, before the next.

        Yields:
            The number and the type of the field.
        """
        number = 0
        while head := self._byte():
            kind, step = head & 0x0F, head >> 4
            if kind == _STOP:
                return
            number = number + step if step else _unfolded(self._varint())
            yield number, kind

    def integer(self, kind: int) -> int:
        """Read a number of the type I32 or I64."""
        number = _unfolded(self._varint())
        if number >> _BITS[kind] not in (0, -1):
            raise ThriftError("a number that is too large")
        return number

    def elements(self) -> tuple[int, int]:
        """Read the head of a list: how many elements follow, and their type."""
        head = self._byte()
        count = head >> 4
        count = self._varint() if count == 15 else count
        if count > self._limit - self.position:  # each takes a byte or more
            raise ThriftError("a list that is longer than the bytes")
        return count, head & 0x0F

    def skip(self, kind: int, depth: int = _DEEPEST) -> None:
        """Skip a value of that type."""
        if kind in _INTEGERS:
            self._varint()
        elif kind == _BINARY:
            self._advance(self._varint())
        elif kind == STRUCT and depth:
            for _, inner in self.fields():
                self.skip(inner, depth - 1)
        elif kind in (LIST, _SET) and depth:
            count, inner = self.elements()
            for _ in range(count):
                self._skip_element(inner, depth - 1)
        elif kind == _BYTE:
            self._advance(1)
        elif kind == _DOUBLE:
            self._advance(8)
        elif kind not in (_TRUE, _FALSE):  # the type is the whole value
            raise ThriftError(f"a field of type {kind}")

    def _skip_element(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE):  # in lists they take a byte
            self._advance(1)
        else:
            self.skip(kind, depth)

    def _byte(self) -> int:
        position = self.position
        if position >= self._limit:
            raise ThriftError("a struct that is cut off")
        self.position = position + 1
        return self._data[position]

    def _advance(self, length: int) -> None:
        self.position += length
        if self.position > self._limit:
            raise ThriftError("a struct that is cut off")

    def _varint(self) -> int:
        number = self._byte()
        if number < 0x80:
            return number
        number, shift = number & 0x7F, 7
        while shift < 64:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7
        raise ThriftError("a number that is too long")


def _unfolded(number: int) -> int:
    """Decode the zigzag encoding: even numbers stand for 0, 1, 2 ..., odd ones for -1, -2 ..."""
    return (number >> 1) ^ -(number & 1)
