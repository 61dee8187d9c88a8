"""From bytes to plain tuples: what reads messages where that must be fast and strict.

betterproto's messages are pleasant to write and slow to read: `parse` goes through a stream object, byte by
byte, and works out anew for each field what its type is; a small answer costs 180 us, more than everything
else that happens to it. It is lenient, too: a string that was cut off is taken for a shorter one.

But all that one must know of a message is which fields it has, and that never changes. `reader_of` compiles
these into a table from the tag as it stands on the wire to a function that reads what follows it into the
field's place in a plain tuple. That is 3 us for the same answer, and strict. It needs no betterproto, whose
import takes as long as that of all else here, since asyncio comes with it.

Where protobuf's encoding leaves a choice, the official implementations decide: a field with an unexpected
wire type is skipped like an unknown one, as is any field that the type doesn't know; repeated numbers are
read packed or not; the last value of a field wins, and messages merge; numbers are cut to their width.
Groups, which proto3 does not have, are refused.

Read are the kinds of field that a gRPC service is likely to have. Maps, oneofs, well-known types and
recursive types are refused when the reader is made, not when a message comes.
"""

from __future__ import annotations

import functools
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import betterproto

__all__ = ["Field", "MessageReader", "fields_of", "message_reader", "reader_of"]

MessageReader: TypeAlias = Callable[[bytes], tuple[Any, ...]]

_Values: TypeAlias = list[Any]
_ReadValue: TypeAlias = Callable[[bytes, int, int], tuple[Any, int]]
"""Reads the value at a position, in a message that ends at another; the value, and the position after it."""

_ReadField: TypeAlias = Callable[[_Values, bytes, int, int], int]
"""Reads the value at a position into a field's place, as above; the position after it."""

_TakeField: TypeAlias = Callable[[_Values, bytes, int, int], None]
"""Puts what stands between two positions into a field's place: the content of a length-delimited field."""

_VARINT: Final = 0
_FIXED64: Final = 1
_LENGTH_DELIMITED: Final = 2
_FIXED32: Final = 5

_MAX_VARINT_BYTES: Final = 10
_MAX_TAG: Final = (1 << 32) - 1
_LARGE_BYTES: Final = 1 << 16
_REMEMBERED_BYTES: Final = 32
_FIELD_BEYOND: Final = "a field that ends beyond its message"
_UINT32: Final = (1 << 32) - 1
_UINT64: Final = (1 << 64) - 1


def _signed(bits: int) -> Callable[[int], int]:
    sign, mask = 1 << bits - 1, (1 << bits) - 1
    return lambda value: ((value & mask) ^ sign) - sign


def _zigzag(mask: int) -> Callable[[int], int]:
    return lambda value: (value & mask) >> 1 ^ -(value & 1)


_VARINTS: Final[dict[str, Callable[[int], Any]]] = {
    "bool": bool,
    "enum": _signed(32),
    "int32": _signed(32),
    "int64": _signed(64),
    "sint32": _zigzag(_UINT32),
    "sint64": _zigzag(_UINT64),
    "uint32": lambda value: value & _UINT32,
    "uint64": lambda value: value,
}
"""What a varint of up to 64 bits means, by betterproto's name of the field's type."""

_FIXED: Final = {
    "double": struct.Struct("<d"),
    "fixed32": struct.Struct("<I"),
    "fixed64": struct.Struct("<Q"),
    "float": struct.Struct("<f"),
    "sfixed32": struct.Struct("<i"),
    "sfixed64": struct.Struct("<q"),
}

_DEFAULTS: Final[dict[str, Any]] = {
    **dict.fromkeys(_VARINTS, 0),
    **dict.fromkeys(_FIXED, 0),
    "bool": False,
    "double": 0.0,
    "float": 0.0,
    "string": "",
    "bytes": b"",
    "message": None,
}


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: its number in the message.
        kind: its type, as `.proto` files name it: "int32", "string"...; "enum" or "message" for other types.
        fields: those of the message that it has, in the order of their numbers.
        repeated: it can be there many times.
        optional: it is marked so, and None where it is absent.
    """

    number: int
    kind: str
    fields: tuple[Field, ...] = ()
    repeated: bool = False
    optional: bool = False


@functools.cache
def message_reader(
    message_type: type[betterproto.Message],
    max_fields: int = sys.maxsize,
    max_text_bytes: int = sys.maxsize,
) -> MessageReader:
    """The reader of a `message_type`, compiled once, and kept; see `reader_of`.

    Raises:
        TypeError: the type has a kind of field that isn't supported; see the module.
    """
    return reader_of(fields_of(message_type), max_fields, max_text_bytes)


def reader_of(
    fields: tuple[Field, ...], max_fields: int = sys.maxsize, max_text_bytes: int = sys.maxsize
) -> MessageReader:
    """A function that reads the wire form of a message that has these fields.

    What it returns has one item for each field, in the order of their numbers: a number, text or bytes (an
    enum's number as an int), proto3's default where the field is absent; a list for a repeated field; for a
    message such a tuple, or None where it is absent, as for an absent field marked optional.

    It raises ValueError for malformed bytes, text that is not UTF-8 among them, and nothing else.

    Args:
        fields: in the order of their numbers.
        max_fields: how many fields a message may have, and each one in it. A field takes 2 us to read and two
            bytes to send, so whoever reads from strangers should say how many there can be.
        max_text_bytes: of a longer text, only the beginning is read, and not checked for UTF-8. To decode
            60 MB takes 80 ms.
    """
    read = _compile(fields, max_fields, max_text_bytes)

    def read_message(data: bytes) -> tuple[Any, ...]:
        try:
            return read(None, data, 0, len(data))
        except IndexError:
            raise ValueError("a truncated message") from None

    return read_message


def fields_of(
    message_type: type[betterproto.Message], within: tuple[type[betterproto.Message], ...] = ()
) -> tuple[Field, ...]:
    """The fields of a type of betterproto's, which is part of those that it is `within`.

    Raises:
        TypeError: the type has a kind of field that isn't supported; see the module.
    """
    within = (*within, message_type)
    any_type: Any = message_type  # betterproto types its class property for instances
    metadata = any_type._betterproto
    fields: list[Field] = []
    for name in metadata.sorted_field_names:
        field, inner = metadata.meta_by_field_name[name], metadata.cls_by_field[name]
        _refuse_unsupported(message_type, name, field, within, inner)
        parts = fields_of(inner, within) if field.proto_type == "message" else ()
        repeated = metadata.default_gen[name] is list
        fields.append(Field(field.number, field.proto_type, parts, repeated, bool(field.optional)))
    return tuple(fields)


def _compile(
    fields: tuple[Field, ...], max_fields: int, max_text_bytes: int
) -> Callable[[tuple[Any, ...] | None, bytes, int, int], tuple[Any, ...]]:
    """What reads a message between two positions, merged into what was read of it before."""
    readers: dict[int, _ReadField] = {}
    takers: dict[int, _TakeField] = {}
    defaults: list[Any] = []
    for index, field in enumerate(fields):
        kind, tag = field.kind, field.number << 3
        delimited = tag | _LENGTH_DELIMITED
        defaults.append(None if field.repeated or field.optional else _DEFAULTS[kind])
        if kind == "message":
            read = _compile(field.fields, max_fields, max_text_bytes)
            takers[delimited] = _message_taker(field)(index, read)
        elif kind in _VARINTS or kind in _FIXED:
            read_value = _value_reader(kind)
            readers[tag | _wire_type(kind)] = (_repeated if field.repeated else _singular)(index, read_value)
            if field.repeated:
                takers[delimited] = _packed(index, read_value)
        else:
            content = _text_reader(max_text_bytes) if kind == "string" else _bytes_between
            takers[delimited] = (_repeated_content if field.repeated else _singular_content)(index, content)
    repeated = [index for index, field in enumerate(fields) if field.repeated]
    return _message(readers, takers, defaults, repeated, max_fields)


def _message_taker(field: Field) -> Callable[[int, Callable[..., tuple[Any, ...]]], _TakeField]:
    """How a message within a message is taken: messages of numbers and texts alone are likely to repeat."""
    if field.repeated:
        return _repeated_message
    varies = any(each.repeated or each.kind in ("message", "bytes") for each in field.fields)
    return _singular_message if varies else _remembered_message


def _refuse_unsupported(
    message_type: type, name: str, field: Any, within: tuple[type, ...], field_type: Any
) -> None:
    reason = None
    if field.proto_type not in _DEFAULTS:
        reason = f"is a {field.proto_type}"
    elif field.group and not field.optional:
        reason = "is one of a oneof"
    elif field.proto_type == "message" and (field.wraps or not hasattr(field_type, "_betterproto")):
        reason = "has a well-known type"
    elif field_type in within:
        reason = "has a recursive type"
    if reason is not None:
        raise TypeError(f"{message_type.__name__}.{name} {reason}, which no reader is made for")


def _wire_type(kind: str) -> int:
    if kind in _VARINTS:
        return _VARINT
    return _FIXED32 if _FIXED[kind].size == 4 else _FIXED64


def _message(
    readers: dict[int, _ReadField],
    takers: dict[int, _TakeField],
    defaults: list[Any],
    repeated: list[int],
    max_fields: int,
) -> Callable[[tuple[Any, ...] | None, bytes, int, int], tuple[Any, ...]]:
    reader_of, taker_of = readers.get, takers.get
    new_values = functools.partial(_with_lists, defaults, repeated) if repeated else defaults.copy

    def read(known: tuple[Any, ...] | None, data: bytes, position: int, end: int) -> tuple[Any, ...]:
        values = new_values() if known is None else [*known]
        fields_left = max_fields
        while position < end:
            fields_left -= 1
            if fields_left < 0:
                raise ValueError(f"a message with more than {max_fields} fields")
            tag = data[position]
            position += 1
            if tag >= 0x80:
                tag, position = _read_varint(data, position - 1)
            if (take := taker_of(tag)) is not None:
                stop = data[position]  # here, since most fields come by: a tenth of what reading takes
                position += 1
                if stop >= 0x80:
                    stop, position = _read_varint(data, position - 1)
                stop += position
                if stop > end:
                    raise ValueError(_FIELD_BEYOND)
                take(values, data, position, stop)
                position = stop
            elif (read_field := reader_of(tag)) is not None:
                position = read_field(values, data, position, end)
            else:
                position = _skip(tag, data, position, end)
        if position > end:
            raise ValueError("a field that ends beyond its message")
        return tuple(values)

    return read


def _with_lists(defaults: list[Any], repeated: list[int]) -> list[Any]:
    values = defaults.copy()
    for index in repeated:
        values[index] = []
    return values


def _singular(index: int, read_value: _ReadValue) -> _ReadField:
    def read_field(values: _Values, data: bytes, position: int, end: int) -> int:
        values[index], position = read_value(data, position, end)
        return position

    return read_field


def _repeated(index: int, read_value: _ReadValue) -> _ReadField:
    def read_field(values: _Values, data: bytes, position: int, end: int) -> int:
        value, position = read_value(data, position, end)
        values[index].append(value)
        return position

    return read_field


def _packed(index: int, read_value: _ReadValue) -> _TakeField:
    def take(values: _Values, data: bytes, position: int, stop: int) -> None:
        append = values[index].append
        while position < stop:
            value, position = read_value(data, position, stop)
            append(value)
        if position > stop:
            raise ValueError("a number that ends beyond its field")

    return take


def _singular_message(index: int, read: Callable[..., tuple[Any, ...]]) -> _TakeField:
    def take(values: _Values, data: bytes, position: int, stop: int) -> None:
        values[index] = read(values[index], data, position, stop)

    return take


def _remembered_message(index: int, read: Callable[..., tuple[Any, ...]]) -> _TakeField:
    """As `_singular_message`, with a memory for the last one, if it was small. It must have no lists.

    Most answers have the same status as the one before. This saves a third of reading a small answer.
    """
    last: tuple[bytes, tuple[Any, ...]] | None = None

    def take(values: _Values, data: bytes, position: int, stop: int) -> None:
        nonlocal last
        if values[index] is not None or stop - position > _REMEMBERED_BYTES:
            values[index] = read(values[index], data, position, stop)
            return
        content, known = data[position:stop], last  # other threads read, too
        if known is None or content != known[0]:
            known = last = (bytes(content), read(None, data, position, stop))
        values[index] = known[1]

    return take


def _repeated_message(index: int, read: Callable[..., tuple[Any, ...]]) -> _TakeField:
    def take(values: _Values, data: bytes, position: int, stop: int) -> None:
        values[index].append(read(None, data, position, stop))

    return take


def _singular_content(index: int, between: Callable[[bytes, int, int], Any]) -> _TakeField:
    def take(values: _Values, data: bytes, position: int, stop: int) -> None:
        values[index] = between(data, position, stop)

    return take


def _repeated_content(index: int, between: Callable[[bytes, int, int], Any]) -> _TakeField:
    def take(values: _Values, data: bytes, position: int, stop: int) -> None:
        values[index].append(between(data, position, stop))

    return take


def _value_reader(kind: str) -> _ReadValue:
    return _varint_reader(_VARINTS[kind]) if kind in _VARINTS else _fixed_reader(_FIXED[kind])


def _varint_reader(meaning: Callable[[int], Any]) -> _ReadValue:
    def read_value(data: bytes, position: int, end: int) -> tuple[Any, int]:
        value = data[position]
        position += 1
        if value >= 0x80:
            value, position = _read_varint(data, position - 1)
        return meaning(value), position

    return read_value


def _fixed_reader(layout: struct.Struct) -> _ReadValue:
    size, unpack = layout.size, layout.unpack_from

    def read_value(data: bytes, position: int, end: int) -> tuple[Any, int]:
        stop = position + size
        if stop > end:
            raise ValueError("a number that ends beyond its message")
        return unpack(data, position)[0], stop

    return read_value


def _text_reader(max_bytes: int) -> Callable[[bytes, int, int], str]:
    def text_between(data: bytes, position: int, stop: int) -> str:
        if stop - position > max_bytes:
            return data[position : position + max_bytes].decode(errors="ignore")
        return data[position:stop].decode()

    return text_between


def _bytes_between(data: bytes, position: int, stop: int) -> bytes:
    if stop - position > _LARGE_BYTES:
        return bytes(memoryview(data)[position:stop])  # a slice of a bytearray would be one copy more
    return bytes(data[position:stop])


def _read_extent(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Where the length-delimited value at `position` starts and stops."""
    length = data[position]
    position += 1
    if length >= 0x80:
        length, position = _read_varint(data, position - 1)
    stop = position + length
    if stop > end:
        raise ValueError(_FIELD_BEYOND)
    return position, stop


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The varint at `position`, and the position after it, which may lie beyond the message's end.

    Raises:
        IndexError: it is truncated by the end of all data.
    """
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value = byte & 0x7F
    for index in range(1, _MAX_VARINT_BYTES):
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & _UINT64, position + index + 1
    raise ValueError("a varint of more than 10 bytes")


def _skip(tag: int, data: bytes, position: int, end: int) -> int:
    """The position after the value of a field that nobody wants."""
    if not 8 <= tag <= _MAX_TAG:
        raise ValueError(f"the tag {tag:#x} is no field's")
    match tag & 7:
        case 0:
            return _read_varint(data, position)[1]
        case 1:
            return position + 8
        case 2:
            return _read_extent(data, position, end)[1]
        case 5:
            return position + 4
        case wire_type:
            raise ValueError(f"the wire type {wire_type} is not one of proto3's")
