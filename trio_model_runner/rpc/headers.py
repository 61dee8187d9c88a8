"""Header blocks, through `hpack`, with a memory for the blocks that repeat.

A coordinator sends the same request headers to a node every few seconds, and gets the same ones back.
HPACK (RFC 7541) shrinks them to a few bytes: indexes into a table of earlier headers. But working out those
bytes in Python costs more than all the rest of a small call's framing, 20 us and more for each block.

What makes a memory possible is that a block has a meaning only against the table, and that few blocks
change the table. As long as nothing was inserted and nothing evicted, equal fields give equal bytes, and
equal bytes give equal fields. So both directions remember block by block, and forget everything whenever
the table changes. The table is read off hpack's own object: every insertion puts a new tuple at its
front, and an eviction alone makes it shorter.

Fields that differ from call to call (`grpc-timeout`, signed tokens) stay out of the table: they are written
as literals that are never indexed, so they neither disturb the memory nor rest in an intermediary's table.
"""

from __future__ import annotations

import functools
from typing import Final, TypeAlias

import attrs
from hpack import Encoder

from .field_reader import Block, FieldReader
from .frames import ErrorCode, require

__all__ = ["Fields", "HeaderBlock", "HeaderDecoder", "HeaderEncoder", "HeaderList", "RawFields"]

RawFields: TypeAlias = tuple[tuple[bytes, bytes], ...]
Fields: TypeAlias = tuple[tuple[str, str], ...]

_REMEMBERED_BLOCKS: Final = 32
_REMEMBERED_LENGTH: Final = 4096  # a proof with an RSA key of 4,096 bits has 1,336
_MAX_TABLE_SIZE: Final = 4096
_MAX_BLOCK_FRAMES: Final = 128
_MAX_BLOCK_LENGTH: Final = 1 << 20
_FREE_OVER_LIMIT: Final = 128 << 10  # units of `budget`: 3 ms, since honest servers go over it with each call
_CUT: Final = frozenset({b"grpc-message"})
_TIMEOUT: Final = b"grpc-timeout"
_NEEDED: Final = frozenset({b":status", b"content-type", b"grpc-status"})


class HeaderEncoder:
    """Writes header blocks for one connection, in the order in which they are sent."""

    __slots__ = ("_blocks", "_encoder", "_last")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._blocks: dict[RawFields, bytes] = {}
        self._last: tuple[RawFields | None, bytes] = (
            None,
            b"",
        )  # of `_blocks`, so that it need not be looked up

    def limit_table(self, size: int) -> None:
        """Keep to the peer's SETTINGS_HEADER_TABLE_SIZE, in bytes."""
        size = min(size, _MAX_TABLE_SIZE)
        if size == self._encoder.header_table_size:
            return  # hpack would take this for "never changed", and not announce an earlier change
        self._encoder.header_table_size = size
        self._forget()
        changes = self._encoder.table_size_changes  # the smallest and the last must be announced, no others
        changes[:] = [min(changes), size] if min(changes) < size else [size]

    def encode(self, fields: RawFields, volatile: RawFields = ()) -> bytes:
        """The block of `fields`, followed by `volatile` ones as literals that are never indexed."""
        last, block = self._last
        if fields is not last:
            known = self._blocks.get(fields)
            block = self._encode(fields) if known is None else known
        for field in volatile:
            block += _timeout(field) if field[0] == _TIMEOUT else _literal(field)
        return block

    def _encode(self, fields: RawFields) -> bytes:
        entries = self._encoder.header_table.dynamic_entries
        before = (len(entries), entries[0] if entries else None)
        resized = self._encoder.header_table.resized
        block = bytes(self._encoder.encode(fields, huffman=False))  # which saves 20 bytes and costs 20 us
        after = (len(entries), entries[0] if entries else None)
        if resized or before[0] != after[0] or before[1] is not after[1]:
            self._forget()
        elif len(self._blocks) < _REMEMBERED_BLOCKS:
            self._blocks[fields] = block
            self._last = (fields, block)
        return block

    def _forget(self) -> None:
        self._blocks.clear()
        self._last = (None, b"")


@attrs.define
class HeaderList:
    """What a header block says.

    Attributes:
        fields: names and values as text with one character a byte.
        over_limit: not all of it is here, for it is larger than allowed.
        cost: what it costs who sends it for nothing; see `budget`.
        cost_in_call: what it costs as the headers or trailers of a call: what goes far over the limit.
        checked: what `validation` has found of it as headers and as trailers; None before it has looked.
        usual: as headers and as trailers, it is that of a good answer, and costs nothing.
    """

    fields: Fields
    over_limit: bool
    cost: int
    cost_in_call: int
    checked: list[int | None] = attrs.field(factory=lambda: [None, None], eq=False)
    usual: list[bool] = attrs.field(factory=lambda: [False, False], eq=False)


class HeaderDecoder:
    """Reads header blocks of one connection, in the order in which they arrive.

    Args:
        max_size: how large a list of headers is kept, in bytes as RFC 9113 counts them (name, value and
            32 for each field). Of a larger one, those fields are kept that fit, what says how the call
            went, and the beginning of a status message.

    Attributes:
        forgotten: no block means any more what it did; set back by whoever has noticed that.
    """

    __slots__ = ("_known", "_reader", "forgotten")

    def __init__(self, max_size: int) -> None:
        self._reader = FieldReader(max_size, cut=_CUT, needed=_NEEDED)
        self._known: dict[bytes, HeaderList] = {}
        self.forgotten = False

    def known(self, block: bytes) -> HeaderList | None:
        """What `block` says, if it has come before and means the same now."""
        return self._known.get(block)

    def decode(self, block: bytes) -> HeaderList:
        """What `block` says.

        Raises:
            hpack.HPACKError: the block is malformed. After this, the connection can't be read any further.
            ProtocolViolation: it has more fields than anybody needs; likewise.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        entries = self._reader.table.dynamic_entries
        before = (len(entries), entries[0] if entries else None)
        read = self._reader.read(block)
        headers = _header_list(read)
        after = (len(entries), entries[0] if entries else None)
        if read.resizes or before[0] != after[0] or before[1] is not after[1]:
            self._known.clear()
            self.forgotten = True
        elif len(self._known) < _REMEMBERED_BLOCKS and len(block) <= _REMEMBERED_LENGTH:
            self._known[block] = headers
        return headers


def _header_list(block: Block) -> HeaderList:
    fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in block.fields)
    cost_in_call = max(0, block.cost_over - _FREE_OVER_LIMIT)
    return HeaderList(fields, block.dropped > 0, block.cost, cost_in_call)


class HeaderBlock:
    """A header block of which not all frames have come.

    Args:
        stream_id: whose it is.
        end_stream: the stream ends with it.

    Attributes:
        data: what has come of it.
        frames: in how many frames.
    """

    __slots__ = ("data", "end_stream", "frames", "stream_id")

    def __init__(self, stream_id: int, *, end_stream: bool) -> None:
        self.stream_id = stream_id
        self.end_stream = end_stream
        self.data = bytearray()
        self.frames = 0

    def add(self, payload: bytes) -> None:
        """Take in the next frame's part.

        Raises:
            ProtocolViolation: the block is too long, or in too many frames.
        """
        self.data += payload
        self.frames += 1
        fits = len(self.data) <= _MAX_BLOCK_LENGTH and self.frames <= _MAX_BLOCK_FRAMES
        require(fits, ErrorCode.ENHANCE_YOUR_CALM, "a header block over the limit")


def _literal(field: tuple[bytes, bytes]) -> bytes:
    """One field as a "literal never indexed" with a literal name (RFC 7541, section 6.2.3)."""
    name, value = field
    return b"\x10" + _length(len(name)) + name + _length(len(value)) + value


@functools.lru_cache(maxsize=64)  # a round's calls have the same, and no other field is kept: some are secret
def _timeout(field: tuple[bytes, bytes]) -> bytes:
    return _literal(field)


def _length(length: int) -> bytes:
    """A string's length as a 7-bit prefix integer (RFC 7541, section 5.1), without Huffman coding."""
    if length < 0x7F:
        return bytes((length,))
    encoded = bytearray(b"\x7f")
    length -= 0x7F
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
