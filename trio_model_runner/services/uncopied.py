"""Protobuf messages around values, which are not copied for it.

A library that encodes messages writes each inner message into a buffer, and that into the next one. A value
lies three messages deep, so betterproto copies it often enough to need 7 ns for each of its bytes: 0.3 s for
40 MB, in which nothing else happens. Here a message is a list of buffers instead, the heads of fields and
between them the values themselves, as they are sent and as `Arguments` keeps them.

Only what requests need is here: numbers and what has a length, in fields with numbers below 16.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from ..values.encoded import Encoded

if TYPE_CHECKING:
    from ..rpc.http2 import Buffer

__all__ = ["few", "nested", "number", "variant"]

_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2

_SHORT: Final = 64 * 2**10
"""Bytes; joining buffers that are shorter takes less time than sending one more."""


def number(field: int, value: int) -> list[Buffer]:
    """A field with a number that is not negative; as in proto3, nothing for 0."""
    return [_varint(field << 3 | _VARINT) + _varint(value)] if value else []


def nested(field: int, *content: Sequence[Buffer]) -> list[Buffer]:
    """A field with a message, made of these fields; or with text or bytes, in one buffer."""
    buffers = [buffer for part in content for buffer in part]
    return [_varint(field << 3 | _LENGTH_DELIMITED) + _varint(sum(map(len, buffers))), *buffers]


def variant(value: Encoded) -> list[Buffer]:
    """The content of a `commons.Variant`."""
    return [*number(2, value.data_type), *nested(3, [value.data])]


def few(buffers: Iterable[Buffer]) -> tuple[Buffer, ...]:
    """The same bytes in few buffers: short ones that are neighbours are joined."""
    result: list[Buffer] = []
    short: list[Buffer] = []
    for buffer in buffers:
        if len(buffer) < _SHORT:
            short.append(buffer)
        else:
            result += (b"".join(short), buffer)
            short = []
    return (*result, b"".join(short)) if short else tuple(result)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
