"""A value as it is on the wire: one of seven types, and some bytes.

What the bytes of each type look like is told by `data`, which makes them and reads them.
"""

from __future__ import annotations

import enum

import attrs

__all__ = ["DataType", "Encoded", "require_data_type", "to_bytes"]


class DataType(enum.IntEnum):
    """What the bytes of a value are, numbered as on the wire.

    The nodes of the first release number them otherwise.

    Attributes:
        NONE: no bytes; `None`. Deployed nodes answer with it and can't decode it.
        DOUBLE: 8 bytes, IEEE 754, little-endian; `float`.
        INT: 8 bytes, signed, little-endian; `int`.
        STRING: UTF-8; `str`.
        PARQUET: a Parquet file; a data frame.
        ARROW: an Arrow IPC stream; a data frame. No deployed node writes or decodes it.
        JSON: JSON in UTF-8; `dict`, `list` and whatever else JSON gives back.
    """

    NONE = 0
    DOUBLE = 1
    INT = 2
    STRING = 3
    PARQUET = 4
    ARROW = 5
    JSON = 6


def require_data_type(data_type: DataType) -> DataType:
    """Refuse what is no `DataType`.

    Raises:
        ValueError: it is something else.
    """
    # A bare number is refused: which type it means depends on the service that it came from.
    if not isinstance(data_type, DataType):
        raise ValueError(f"data_type: must be a DataType, got {data_type!r}")
    return data_type


def to_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """Return `data` as bytes; what may change is copied.

    Raises:
        TypeError: it is no bytes.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"data: must be bytes, got {type(data).__name__}")


@attrs.frozen(repr=False)
class Encoded:
    """A value as it is on the wire. Wherever a value is taken, an `Encoded` passes through untouched.

    Attributes:
        data_type: what the bytes are.
        data: the bytes; a `bytearray` or `memoryview` is copied.

    Raises:
        ValueError: `data_type` is not a `DataType`.
        TypeError: `data` is not bytes.
    """

    data_type: DataType = attrs.field(converter=require_data_type)
    data: bytes = attrs.field(converter=to_bytes)

    def __repr__(self) -> str:
        """Show the type and the length, never the data."""
        return f"Encoded({self.data_type.name}, {len(self.data)} bytes)"
