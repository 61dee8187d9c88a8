"""A value as it is on the wire: one of seven types, and some bytes.

`data` makes the bytes of each type, and reads them.
"""

from __future__ import annotations

import enum

import attrs

from ..text import shown

__all__ = ["DataType", "Encoded", "require_data_type", "to_bytes"]


class DataType(enum.IntEnum):
    """What the bytes of a value are, numbered as on the wire.

    The nodes of the first release have other numbers; see `services.model_runner`.

    Attributes:
        NONE: no bytes; `None`. Deployed nodes send it in answers, but can't decode it.
        DOUBLE: 8 bytes, IEEE 754, little-endian; `float`.
        INT: 8 bytes, signed, little-endian; `int`.
        STRING: UTF-8; `str`.
        PARQUET: a Parquet file; a data frame.
        ARROW: an Arrow IPC stream; a data frame. No deployed node writes or decodes it.
        JSON: JSON in UTF-8; `dict`, `list` and all other values that JSON has.
    """

    NONE = 0
    DOUBLE = 1
    INT = 2
    STRING = 3
    PARQUET = 4
    ARROW = 5
    JSON = 6


def require_data_type(data_type: DataType) -> DataType:
    """Return a `DataType`, and refuse everything else.

    Raises:
        ValueError: `data_type` is not a `DataType`.
    """
    # A bare number is refused: which type it means depends on the service that it came from.
    if not isinstance(data_type, DataType):
        raise ValueError(f"data_type: must be a DataType such as DataType.JSON, got {shown(data_type)}")
    return data_type


def to_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """Return `data` as bytes; a `bytearray` or `memoryview` is copied.

    Raises:
        TypeError: `data` is none of these types.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"data: must be bytes, got {type(data).__name__}")


@attrs.frozen(repr=False, init=False)
class Encoded:
    """A value as it is on the wire. It may be given wherever a value is taken, and is sent unchanged.

    Attributes:
        data_type: what the bytes are.
        data: the bytes; a `bytearray` or `memoryview` is copied.

    Raises:
        ValueError: `data_type` is not a `DataType`.
        TypeError: `data` is not bytes.
    """

    data_type: DataType
    data: bytes

    def __init__(self, data_type: DataType, data: bytes | bytearray | memoryview) -> None:
        # By hand, since each answer is one of these: attrs' converters would take four times as long.
        if type(data_type) is not DataType:
            require_data_type(data_type)
        object.__setattr__(self, "data_type", data_type)
        object.__setattr__(self, "data", data if type(data) is bytes else to_bytes(data))

    def __repr__(self) -> str:
        """Show the type and the length, never the data."""
        return f"Encoded({self.data_type.name}, {len(self.data)} bytes)"
