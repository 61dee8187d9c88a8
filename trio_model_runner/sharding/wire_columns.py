"""The large parts of messages: columns of numbers, and the bytes of arguments, behind a message's JSON.

All numbers are little-endian, on machines of both kinds. What is read is checked by operations on whole
columns, never item by item in Python: a round of thousands of models has thousands of items. No
memory is taken for a count alone: columns are cut from the bytes that are there. This module must not know
which message has which columns.
"""

from __future__ import annotations

import itertools
import math
import operator
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..values.encoded import DataType, Encoded
from .messages import WireArguments
from .wire_json import WireError

__all__ = [
    "MOST_MEMBERS",
    "Columns",
    "arguments_index",
    "buffers_of",
    "check_each_once",
    "check_seconds",
    "column",
    "counted",
    "read_arguments",
]

MOST_MEMBERS: Final = 1_000_000
"""A message is about so many models at most."""

_COUNT: Final = struct.Struct("<I")
_IS_BIG: Final = sys.byteorder == "big"

assert (array("I").itemsize, array("Q").itemsize, array("d").itemsize) == (4, 8, 8)


def counted(count: int) -> bytes:
    """A count, as `Columns.count` reads it.

    Raises:
        WireError: it is more than `MOST_MEMBERS`.
    """
    if count > MOST_MEMBERS:
        raise WireError(f"has {count} items, more than {MOST_MEMBERS}")
    return _COUNT.pack(count)


def column(values: array[Any], code: str, count: int) -> bytes:
    """The bytes of a column.

    Raises:
        WireError: it has another type or length.
    """
    if values.typecode != code or len(values) != count:
        raise WireError(
            f"has a column of {len(values)} {values.typecode!r}, where {count} {code!r} are wanted"
        )
    return (_swapped(values[:]) if _IS_BIG else values).tobytes()


def _swapped(values: array[Any]) -> array[Any]:
    values.byteswap()
    return values


class Columns:
    """Takes columns from the front of what is left of a message. Nothing of it is copied before.

    Args:
        rest: what is left.
    """

    def __init__(self, rest: memoryview) -> None:
        self._rest = rest

    def count(self) -> int:
        """Take a count of items.

        Raises:
            WireError: it is more than `MOST_MEMBERS`.
        """
        (count,) = _COUNT.unpack(self.take(_COUNT.size))
        if count > MOST_MEMBERS:
            raise WireError(f"says that it has {count} items, more than {MOST_MEMBERS}")
        return int(count)

    def take(self, size: int) -> memoryview:
        """Take some bytes, without copying them.

        Raises:
            WireError: there are fewer.
        """
        if size > len(self._rest):
            raise WireError(f"ends {size - len(self._rest)} bytes too soon")
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def take_column(self, code: str, count: int) -> array[Any]:
        """Take a column of `count` numbers.

        Raises:
            WireError: there are fewer.
        """
        values = array(code)
        values.frombytes(self.take(count * values.itemsize))
        return _swapped(values) if _IS_BIG else values

    def take_all(self) -> memoryview:
        """Take all that is left."""
        return self.take(len(self._rest))

    def check_end(self) -> None:
        """Check that nothing is left.

        Raises:
            WireError: there is something.
        """
        if len(self._rest):
            raise WireError(f"has {len(self._rest)} bytes too many")


def check_each_once(members: array[int]) -> None:
    """Check that each number is there once.

    Raises:
        WireError: one is there twice.
    """
    # The numbers mostly ascend, and that is seen without a set, which takes twenty times their memory.
    if not all(map(operator.lt, members, itertools.islice(members, 1, None))) and len(set(members)) < len(
        members
    ):
        raise WireError("has a member twice")


def check_seconds(seconds: array[float]) -> None:
    """Check that all numbers of seconds are finite, and none is negative.

    Raises:
        WireError: one is not.
    """
    if seconds and not (min(seconds) >= 0.0 and math.isfinite(sum(seconds))):
        raise WireError("has seconds that are negative, infinite, or no number")


def arguments_index(arguments: WireArguments | None) -> dict[str, Any] | None:
    """What `read_arguments` must know of arguments, as JSON: types, lengths and names. None for None."""
    if arguments is None:
        return None
    return {
        "positional": [(int(value.data_type), len(value.data)) for value in arguments.positional],
        "keyword": [
            (int(value.data_type), len(value.data), name) for name, value in arguments.keyword.items()
        ],
        "shape": arguments.shape,
    }


def buffers_of(arguments: WireArguments | None) -> Sequence[bytes]:
    """The bytes of arguments, not copied."""
    if arguments is None:
        return ()
    return [value.data for value in (*arguments.positional, *arguments.keyword.values())]


def read_arguments(index: Any, columns: Columns) -> WireArguments | None:
    """Take arguments; their bytes are copied once, since requests are made of them.

    Raises:
        WireError: the index is malformed, or there are fewer bytes.
    """
    if index is None:
        return None
    if type(index) is not dict or index.keys() != {"positional", "keyword", "shape"}:
        raise WireError("has arguments that are not as they must be")
    positional, keyword, shape = index["positional"], index["keyword"], index["shape"]
    if type(positional) is not list or type(keyword) is not list or type(shape) is not str:
        raise WireError("has arguments that are not as they must be")
    values = tuple(_read_value(told, 2, columns) for told in positional)
    named: dict[str, Encoded] = {}
    for told in keyword:
        value = _read_value(told, 3, columns)
        name = told[2]
        if type(name) is not str or name in named:
            raise WireError("has an argument's name that is no text, or comes twice")
        named[name] = value
    return WireArguments(values, named, shape)


def _read_value(told: Any, length: int, columns: Columns) -> Encoded:
    if type(told) is not list or len(told) != length:
        raise WireError("has an argument that is not as it must be")
    data_type, size = told[:2]
    if type(data_type) is not int or data_type not in _DATA_TYPES or type(size) is not int or size < 0:
        raise WireError("has an argument whose type or length is none")
    return Encoded(_DATA_TYPES[data_type], bytes(columns.take(size)))


_DATA_TYPES: Final[Mapping[int, DataType]] = {int(each): each for each in DataType}
