"""How much memory a Parquet file takes, found out before it is read.

A few hundred bytes of Parquet can hold gigabytes: compressed zeros, one text to which a million rows refer, a
run of equal numbers. The sizes in the file's footer don't protect from an author who lies. Readers don't use
them either: they allocate what the header of each page announces. So this module goes from page header to
page header, as a reader does, and adds up what the reader would allocate. It decompresses nothing and reads
no values.

Some sizes can't be known this way. A text may be stored once, while any number of rows refers to it. Where
that could be too much, `ParquetSize` names the columns. The reader must keep these as dictionaries until they
are weighed.

This module reads the footer itself, and must not ask pyarrow about it. It knows nothing of data frames.
"""

from __future__ import annotations

from typing import Final

import attrs

from .limit import CELL_BYTES
from .thrift import I32, I64, LIST, STRUCT, ThriftError, ThriftReader

__all__ = ["FOOTER_WEIGHT", "ParquetSize", "measure_parquet"]

FOOTER_WEIGHT: Final = 64
"""How many bytes of memory one byte of the footer takes (measured: 20,000 columns of one row)."""

_MAGIC = b"PAR1"
_TAIL = 8  # the length of the footer, and the magic number again

# The physical types.
_BYTE_ARRAY, _FIXED_LENGTH = 6, 7
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}

# The kinds of pages, and the field of the page header that is about each kind of data page.
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PAGE_FIELDS = {5: _DATA_PAGE, 8: _DATA_PAGE_V2}
_ENCODING_FIELDS = {_DATA_PAGE: 2, _DATA_PAGE_V2: 4}

_BY_DICTIONARY = frozenset({2, 8})
_BY_PREFIX = 7  # each text is the beginning of the text before it, and a rest


@attrs.frozen
class ParquetSize:
    """How much memory a file takes when it is read.

    Attributes:
        bytes: the largest possible size, in bytes, without the texts in the columns `shared`.
        shared: the text columns whose size the headers don't tell, and that could be too large. They are
            counted from 0, in the file's own order.
    """

    bytes: int
    shared: tuple[int, ...] = ()


@attrs.define
class _Column:
    """A column chunk, as the footer has it."""

    values: int = 0
    stored: int = 0
    data_page_offset: int = 0
    dictionary_page_offset: int = 0


@attrs.define
class _RowGroup:
    rows: int = 0
    columns: list[_Column] = attrs.field(factory=list)


@attrs.define
class _Leaf:
    """An element of the schema; only those without children have values."""

    physical: int = -1
    length: int = 0
    children: int = 0

    @property
    def width(self) -> int:
        """How large a value is, in bytes; 0 for text."""
        if self.physical == _FIXED_LENGTH:
            return max(0, self.length)
        return 0 if self.physical == _BYTE_ARRAY else _WIDTHS.get(self.physical, CELL_BYTES)


@attrs.define
class _Size:
    """How large a column chunk is, in bytes: its own data, and at most the texts that it refers to."""

    own: int = 0
    referred: int = 0


def measure_parquet(data: bytes, limit: int) -> ParquetSize:
    """Add up how much memory a file takes when it is read.

    Args:
        data: the file.
        limit: in bytes. Text columns that could be larger are named in `ParquetSize.shared`.

    Raises:
        ThriftError: the footer or a page header makes no sense.
    """
    length = int.from_bytes(data[-_TAIL:-4], "little")
    begin = len(data) - _TAIL - length
    if not (data.startswith(_MAGIC) and data.endswith(_MAGIC)) or begin < len(_MAGIC):
        raise ThriftError("it is no Parquet file")
    total = length * FOOTER_WEIGHT
    if total > limit:
        return ParquetSize(total)
    rows, leaves, groups = _read_footer(ThriftReader(data, begin, len(data) - _TAIL))
    total += rows * CELL_BYTES
    referred: dict[int, int] = {}
    for group in groups:
        if len(group.columns) != len(leaves):
            raise ThriftError("a row group with other columns than the schema")
        total += group.rows * CELL_BYTES
        for number, (column, leaf) in enumerate(zip(group.columns, leaves, strict=True)):
            size = _measure_column(data, column, leaf.width)
            total += size.own
            if size.referred:
                referred[number] = referred.get(number, 0) + size.referred
            if total > limit:
                return ParquetSize(total)
    largest = total + sum(referred.values())
    return ParquetSize(largest) if largest <= limit else ParquetSize(total, tuple(referred))


def _measure_column(data: bytes, column: _Column, width: int) -> _Size:
    start = column.data_page_offset
    if 0 < column.dictionary_page_offset < start:
        start = column.dictionary_page_offset
    end = start + column.stored
    values = stored = dictionary = 0
    size = _Size()
    # A reader looks for pages until it has as many values as the footer says.
    while values < column.values and start < end:
        page = _read_page_header(ThriftReader(data, start, end))
        start = page.end + page.compressed
        stored += page.uncompressed
        values += page.values
        if page.kind == _DICTIONARY_PAGE:
            dictionary += page.uncompressed
        elif page.encoding in _BY_DICTIONARY and not width:
            size.referred += page.values * dictionary
        elif page.encoding == _BY_PREFIX and not width:
            size.own += page.values * page.uncompressed
    if width:
        size.own = max(stored, values * max(CELL_BYTES, width))
    else:
        size.own += stored + values * CELL_BYTES
    return size


@attrs.define
class _PageHeader:
    """A page's header.

    Attributes:
        kind: the kind of page, a number.
        uncompressed: its length when it is read, in bytes.
        compressed: its length as it is stored, in bytes.
        values: how many values it says it has, nulls included; 0 if it is no data page.
        encoding: the number of their encoding.
        end: where the header ends, and the page itself begins.
    """

    kind: int = -1
    uncompressed: int = -1
    compressed: int = -1
    values: int = 0
    encoding: int = -1
    end: int = 0


def _read_page_header(reader: ThriftReader) -> _PageHeader:
    header = _PageHeader()
    contents: dict[int, tuple[int, int]] = {}
    for number, kind in reader.fields():
        if kind == I32 and number == 1:
            header.kind = reader.integer(kind)
        elif kind == I32 and number == 2:
            header.uncompressed = reader.integer(kind)
        elif kind == I32 and number == 3:
            header.compressed = reader.integer(kind)
        elif kind == STRUCT and number in _PAGE_FIELDS:
            contents[_PAGE_FIELDS[number]] = _read_contents(reader, _PAGE_FIELDS[number])
        else:
            reader.skip(kind)
    header.values, header.encoding = contents.get(header.kind, (0, -1))
    header.end = reader.position
    if min(header.uncompressed, header.compressed, header.values) < 0:
        raise ThriftError("a page without a size")
    return header


def _read_contents(reader: ThriftReader, page: int) -> tuple[int, int]:
    """Read how many values a data page has, and their encoding."""
    values = encoding = -1
    for number, kind in reader.fields():
        if kind == I32 and number == 1:
            values = reader.integer(kind)
        elif kind == I32 and number == _ENCODING_FIELDS[page]:
            encoding = reader.integer(kind)
        else:
            reader.skip(kind)
    return values, encoding


def _read_footer(reader: ThriftReader) -> tuple[int, list[_Leaf], list[_RowGroup]]:
    """Read how many rows there are, which columns, and where they are."""
    rows = 0
    schema: list[_Leaf] = []
    groups: list[_RowGroup] = []
    for number, kind in reader.fields():
        if kind == LIST and number == 2:
            schema = [_read_leaf(reader) for _ in range(_structs(reader))]
        elif kind == I64 and number == 3:
            rows = _count(reader)
        elif kind == LIST and number == 4:
            groups = [_read_row_group(reader) for _ in range(_structs(reader))]
        else:
            reader.skip(kind)
    return rows, [leaf for leaf in schema[1:] if not leaf.children], groups


def _read_leaf(reader: ThriftReader) -> _Leaf:
    leaf = _Leaf()
    for number, kind in reader.fields():
        if kind == I32 and number == 1:
            leaf.physical = reader.integer(kind)
        elif kind == I32 and number == 2:
            leaf.length = reader.integer(kind)
        elif kind == I32 and number == 5:
            leaf.children = reader.integer(kind)
        else:
            reader.skip(kind)
    return leaf


def _read_row_group(reader: ThriftReader) -> _RowGroup:
    group = _RowGroup()
    for number, kind in reader.fields():
        if kind == LIST and number == 1:
            group.columns = [_read_column(reader) for _ in range(_structs(reader))]
        elif kind == I64 and number == 3:
            group.rows = _count(reader)
        else:
            reader.skip(kind)
    return group


def _read_column(reader: ThriftReader) -> _Column:
    column = _Column()
    for number, kind in reader.fields():
        if kind == STRUCT and number == 3:
            column = _read_column_metadata(reader)
        else:
            reader.skip(kind)
    return column


def _read_column_metadata(reader: ThriftReader) -> _Column:
    column = _Column()
    for number, kind in reader.fields():
        if kind == I64 and number == 5:
            column.values = _count(reader)
        elif kind == I64 and number == 7:
            column.stored = _count(reader)
        elif kind == I64 and number == 9:
            column.data_page_offset = _count(reader)
        elif kind == I64 and number == 11:
            column.dictionary_page_offset = _count(reader)
        else:
            reader.skip(kind)
    return column


def _structs(reader: ThriftReader) -> int:
    count, kind = reader.elements()
    if kind != STRUCT and count:
        raise ThriftError("a list of something else")
    return count


def _count(reader: ThriftReader) -> int:
    number = reader.integer(I64)
    if number < 0:
        raise ThriftError("a number below zero")
    return number
