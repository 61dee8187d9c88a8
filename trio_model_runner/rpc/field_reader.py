"""Reads header blocks by HPACK's rules (RFC 7541), however large they are, with bounded work and memory.

hpack's own decoder stops at the limit for a list of headers, in the middle of the block. Then nobody knows
any more what is in the table, and the connection must end with all its calls. An honest server can go over
the limit, with a traceback for a status message. So here the block is read on for the table's sake. What does
not fit is dropped, and the caller is told. The table and Huffman's code are hpack's.

Four bounds: fields in a block, bytes of fields that are kept, bytes of texts that are decoded, and what all
that is dropped may cost. A text that can't fit into the table is decoded only as far as it may be kept.
"""

from __future__ import annotations

from typing import Final

import attrs
from hpack import HPACKDecodingError, InvalidTableSizeError
from hpack.huffman_table import HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE, decode_huffman
from hpack.table import HeaderTable

from .budget import FIELD, HUFFMAN_BYTE, HUFFMAN_TEXT, INSERTION
from .frames import ErrorCode, require

__all__ = ["FIELD_OVERHEAD", "Block", "FieldReader"]

_MAX_TABLE_SIZE: Final = 4096  # SETTINGS_HEADER_TABLE_SIZE, which we leave at its default
FIELD_OVERHEAD: Final = 32  # bytes that a field counts beside its name and value; RFC 9113, section 6.5.2
_MAX_FIELDS: Final = 2048  # four times what fits under the usual limit
_MAX_RESIZES: Final = 16  # RFC 7541, section 4.2, needs two; Python's hpack announces each change
_MOST_DROPPED: Final = 256 << 10  # units of `budget`: 6 ms
_SHORT: Final = 64
_MOST_NEEDED: Final = 8
_LONGEST_NUMBER: Final = 5  # bytes; with them, numbers go beyond 2**28
_TOO_LONG_FOR_TABLE: Final = _MAX_TABLE_SIZE * 30 // 8
"""Bytes in Huffman's code, with at most 30 bits for a byte: what is no shorter can't fit into the table."""

_HUFFMAN: Final = 0x80
_INDEXED: Final = 0x80
_WITH_INDEXING: Final = 0x40
_TABLE_SIZE: Final = 0x20


@attrs.define
class Block:
    """What a header block says, and costs in units of `budget`.

    Attributes:
        fields: the names and values that are kept.
        count: all fields in the block.
        dropped: how many were not kept, or only in part, since they go over the limit.
        resizes: how often it changes the table's size.
        cost: what it costs.
        cost_over: what those fields cost of which nothing is kept, and Huffman's code beyond the limit.
        needed: how many fields were kept over the limit.
    """

    fields: list[tuple[bytes, bytes]] = attrs.Factory(list)
    count: int = 0
    dropped: int = 0
    resizes: int = 0
    cost: int = 0
    cost_over: int = 0
    needed: int = 0


class FieldReader:
    """Reads the header blocks of one connection, in the order in which they arrive.

    Args:
        max_size: how large a list of fields is kept, in bytes as RFC 9113 counts them (name, value and 32
            for each field).
        cut: names of fields of which a part is kept where the whole does not fit.
        needed: names of fields that are kept over the limit, if they are short.
    """

    def __init__(
        self, max_size: int, *, cut: frozenset[bytes] = frozenset(), needed: frozenset[bytes] = frozenset()
    ) -> None:
        self.table = HeaderTable()
        self._max_size = max_size
        self._cut = cut
        self._needed = needed
        self._data = b""
        self._position = 0
        self._decodable = 0  # bytes of Huffman's code that are decoded, though they may be dropped
        self._cost = 0
        self._whole = True  # all of the field's texts were decoded

    def read(self, data: bytes) -> Block:
        """Read one block.

        Raises:
            hpack.HPACKError: the block is malformed, and the connection can't be read any further.
            ProtocolViolation: it has too many fields, or those over the limit cost too much; likewise.
        """
        self._data, self._position = data, 0
        self._decodable, self._cost = self._max_size, 0
        block, room = Block(), self._max_size
        try:
            while self._position < len(data):
                before, self._whole = self._cost, True
                field = self._read_field(data[self._position])
                if field is not None:
                    room = self._keep(field, block, room, self._cost - before)
                else:
                    block.resizes += 1
                    if block.count or block.resizes > _MAX_RESIZES:
                        raise HPACKDecodingError("the table's size changes in mid-block, or too often")
        except IndexError:
            raise HPACKDecodingError("a header block ends in the middle of a field") from None
        finally:
            self._data = b""
        block.cost = self._cost
        block.cost_over += HUFFMAN_BYTE * max(0, -self._decodable)
        return block

    def _keep(self, field: tuple[bytes, bytes], block: Block, room: int, cost: int) -> int:
        """Keep a field in `room` bytes, if it fits; the room that is left."""
        block.count += 1
        require(block.count <= _MAX_FIELDS, ErrorCode.ENHANCE_YOUR_CALM, "too many fields in a header block")
        name, value = field
        size = len(name) + len(value) + FIELD_OVERHEAD
        if size <= room and self._whole:
            block.fields.append(field)
            return room - size
        if name in self._needed and self._whole and len(value) <= _SHORT and block.needed < _MOST_NEEDED:
            block.needed += 1
            block.fields.append(field)
            return room
        block.dropped += 1
        left = room - len(name) - FIELD_OVERHEAD
        if name in self._cut and left > 0:
            block.fields.append((name, value[:left]))
            return 0
        block.cost_over += cost
        fits = block.cost_over <= _MOST_DROPPED
        require(fits, ErrorCode.ENHANCE_YOUR_CALM, "too much over the limit in a header block")
        return room

    def _read_field(self, first: int) -> tuple[bytes, bytes] | None:
        """The next field, or None where the table's size changes instead (RFC 7541, section 6)."""
        self._cost += FIELD
        if first & _INDEXED:
            field: tuple[bytes, bytes] = self.table.get_by_index(self._read_number(7))
            return field
        if first & _WITH_INDEXING:
            field = self._read_literal(6, _TOO_LONG_FOR_TABLE)
            self.table.add(*field)
            self._cost += INSERTION
            return field
        if first & _TABLE_SIZE:
            size = self._read_number(5)
            if size > _MAX_TABLE_SIZE:
                raise InvalidTableSizeError("a table over the limit")
            self.table.maxsize = size
            return None
        return self._read_literal(4, _SHORT)

    def _read_literal(self, prefix_bits: int, least: int) -> tuple[bytes, bytes]:
        index = self._read_number(prefix_bits)
        name: bytes = self.table.get_by_index(index)[0] if index else self._read_text(least)
        return name, self._read_text(least)

    def _read_number(self, prefix_bits: int) -> int:
        """RFC 7541, section 5.1."""
        data, position = self._data, self._position
        most = (1 << prefix_bits) - 1
        number = data[position] & most
        position += 1
        if number == most:
            for shift in range(0, 7 * _LONGEST_NUMBER, 7):
                byte = data[position]
                position += 1
                number += (byte & 0x7F) << shift
                if byte < 0x80:
                    break
            else:
                raise HPACKDecodingError("a number over the limit")
        self._position = position
        return number

    def _read_text(self, least: int) -> bytes:
        """RFC 7541, section 5.2. Behind `least` bytes of Huffman's code, the rest may be left undecoded."""
        huffman = self._data[self._position] & _HUFFMAN
        length = self._read_number(7)
        end = self._position + length
        if end > len(self._data):
            raise HPACKDecodingError("a header block ends in the middle of a text")
        text = self._data[self._position : end]
        self._position = end
        if not huffman:
            return text
        read = min(length, max(least, self._decodable))
        decoded: bytes = decode_huffman(text) if read == length else _decode_beginning(text[:read])
        self._whole = self._whole and read == length
        self._decodable -= read
        self._cost += HUFFMAN_TEXT + HUFFMAN_BYTE * read
        return decoded


def _decode_beginning(text: bytes) -> bytes:
    """What a text in Huffman's code says that may end in the middle of a symbol."""
    state, decoded = 0, bytearray()
    for byte in text:
        for nibble in (byte >> 4, byte & 0x0F):
            state, flags, symbol = HUFFMAN_TABLE[state * 16 + nibble]
            if flags & HUFFMAN_FAIL:
                raise HPACKDecodingError("a malformed text")
            if flags & HUFFMAN_EMIT_SYMBOL:
                decoded.append(symbol)
    return bytes(decoded)
