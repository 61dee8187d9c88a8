"""What a coordinator sends, in the asyncio client's words: variants, arguments, and their types.

The classes here have the fields of that client's protobuf messages. Whatever has these fields is taken, so
its own messages are, too; nothing of it is imported. `Arguments` are made of them, and nothing is encoded a
second time. This module must not know of clusters, or of event loops.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, Self

import attrs

from ..text import shown
from ..values.data import Arguments
from ..values.data import decode_data as decode_strictly
from ..values.data import encode_data as encode_strictly
from ..values.encoded import DataType as TypeOnWire
from ..values.encoded import Encoded

__all__ = [
    "Argument",
    "ArgumentLike",
    "DataType",
    "KwArgument",
    "KwArgumentLike",
    "Variant",
    "VariantLike",
    "VariantType",
    "decode_data",
    "detect_data_type",
    "encode_data",
    "to_arguments",
    "to_encoded",
    "to_variant_type",
]


class _ProtobufEnum(enum.IntEnum):
    """Numbers with names, and with the methods of an enum that protobuf made."""

    @classmethod
    def Name(cls, number: int) -> str:  # noqa: N802 - protobuf's name
        """The name of a number."""
        return cls(number).name

    @classmethod
    def Value(cls, name: str) -> Self:  # noqa: N802 - protobuf's name
        """The number of a name."""
        try:
            return cls[name]
        except KeyError:
            raise ValueError(f"{cls.__name__} has no {shown(name)}") from None

    @classmethod
    def keys(cls) -> list[str]:
        """The names."""
        return [each.name for each in cls]

    @classmethod
    def values(cls) -> list[Self]:
        """The numbers."""
        return list(cls)

    @classmethod
    def items(cls) -> list[tuple[str, Self]]:
        """Both."""
        return [(each.name, each) for each in cls]


class VariantType(_ProtobufEnum):
    """The types of a value, with the numbers of deployed nodes."""

    NONE = 0
    DOUBLE = 1
    INT = 2
    STRING = 3
    PARQUET = 4
    ARROW = 5
    JSON = 6


class DataType(_ProtobufEnum):
    """The types of a value in the first release, with its numbers: one less than those of `VariantType`."""

    DOUBLE = 0
    INT = 1
    STRING = 2
    PARQUET = 3
    ARROW = 4
    JSON = 5


class VariantLike(Protocol):
    """A value as it is sent; a `Variant` is one, and so is that of the asyncio client."""

    @property
    def type(self) -> Any:
        """A type, or its number."""

    @property
    def value(self) -> bytes:
        """The encoded value."""


class ArgumentLike(Protocol):
    """A positional argument; an `Argument` is one, and so is that of the asyncio client."""

    @property
    def position(self) -> int:
        """Arguments are sent in the order of their positions."""

    @property
    def data(self) -> VariantLike:
        """The value."""


class KwArgumentLike(Protocol):
    """A keyword argument; a `KwArgument` is one, and so is that of the asyncio client."""

    @property
    def keyword(self) -> str:
        """The keyword."""

    @property
    def data(self) -> VariantLike:
        """The value."""


def _size_alone(value: bytes) -> str:
    return f"<{len(value)} bytes>"


@attrs.define
class Variant:
    """A value as it is sent: its type, and its bytes, as `encode_data` makes them.

    Attributes:
        type: a `VariantType` or a `DataType`. A bare number is one of `VariantType`, and so is a name.
        value: the bytes.
    """

    type: VariantType | DataType | int | str = VariantType.NONE
    value: bytes = attrs.field(default=b"", repr=_size_alone)


def _to_variant(data: VariantLike | Mapping[str, Any]) -> VariantLike:
    return Variant(**data) if isinstance(data, Mapping) else data


@attrs.define
class Argument:
    """A positional argument.

    Attributes:
        position: arguments are sent in the order of their positions, which usually begin at 1.
        data: the value; a mapping has the fields of a `Variant`.
    """

    position: int = 0
    data: VariantLike = attrs.field(factory=Variant, converter=_to_variant)


@attrs.define
class KwArgument:
    """A keyword argument.

    Attributes:
        keyword: the keyword.
        data: the value; a mapping has the fields of a `Variant`.
    """

    keyword: str = ""
    data: VariantLike = attrs.field(factory=Variant, converter=_to_variant)


def encode_data(data_type: VariantType | DataType | int | str, data: Any) -> bytes:
    """Encode a value for a `Variant`, or for `ModelConcurrentRunner.predict`.

    JSON is what `json.dumps` makes of it. All other types are those of `trio_model_runner.encode_data`, which
    refuses what would come back as something else.

    Args:
        data_type: a bare number is one of `VariantType`, and so is a name.
        data: the value.

    Raises:
        ValueError: JSON can't express the value, it is out of range, or there is no such type.
        TypeError: the value is of another type than `data_type`.
        ImportError: PARQUET or ARROW, and pyarrow (the extra ``arrow``) is missing.
    """
    variant_type = to_variant_type(data_type, of=VariantType)
    if variant_type is TypeOnWire.NONE:
        return b""
    if variant_type is not TypeOnWire.JSON:
        return encode_strictly(variant_type, data)
    try:
        return json.dumps(data).encode()
    except TypeError as error:
        raise ValueError(f"Data cannot be serialized to JSON: {error}") from error


def decode_data(data_bytes: bytes, data_type: VariantType | DataType | int | str) -> Any:
    """Decode a value; data frames become pandas frames. See `trio_model_runner.decode_data`.

    Args:
        data_bytes: the bytes.
        data_type: a bare number is one of `VariantType`, and so is a name.

    Raises:
        ValueError: the bytes are not of that type, or there is no such type.
        ImportError: a frame came, and pyarrow or pandas is missing.
    """
    return decode_strictly(data_bytes, to_variant_type(data_type, of=VariantType), frames="pandas")


def detect_data_type(data: Any) -> VariantType:
    """The type that the asyncio client would send a value as.

    Raises:
        ValueError: there is none.
    """
    if data is None:
        return VariantType.NONE
    kinds: list[tuple[type | tuple[type, ...], VariantType]] = [
        (float, VariantType.DOUBLE),
        (int, VariantType.INT),
        (str, VariantType.STRING),
        ((dict, list), VariantType.JSON),
    ]
    if (pandas := sys.modules.get("pandas")) is not None:  # a frame's owner has imported it
        kinds.append((pandas.DataFrame, VariantType.PARQUET))
    for kind, variant_type in kinds:
        if isinstance(data, kind):
            return variant_type
    raise ValueError(f"Unsupported data type: {type(data)}")


def to_variant_type(data_type: object, *, of: type[VariantType | DataType]) -> TypeOnWire:
    """The type that is meant.

    Args:
        data_type: a member of `VariantType` or of `DataType`; or a number or a name, as the protobuf modules
            have them.
        of: what a bare number or a name is one of.

    Raises:
        ValueError: there is no such type.
    """
    if isinstance(data_type, TypeOnWire):
        return data_type
    if isinstance(data_type, str):
        return TypeOnWire[of.Value(data_type).name]
    if isinstance(data_type, int) and not isinstance(data_type, bool):
        try:
            member = data_type if isinstance(data_type, _ProtobufEnum) else of(data_type)
        except ValueError:
            raise ValueError(f"no data type has the number {data_type}") from None
        return TypeOnWire[member.name]
    raise ValueError(f"data type: must be a {of.__name__}, got {shown(data_type)}")


def to_arguments(
    args: Iterable[ArgumentLike] | None, kwargs: Iterable[KwArgumentLike] | None, *, where: str = "arguments"
) -> Arguments:
    """The arguments of a call, which are encoded already.

    Args:
        args: positional arguments, in any order; None for none.
        kwargs: keyword arguments; None for none.
        where: what an error's text begins with.

    Raises:
        TypeError: something is of another type.
        ValueError: a value has a type that there is not.
    """
    try:
        positional = [
            argument.data for argument in sorted(args or (), key=lambda argument: argument.position)
        ]
        keyword = {argument.keyword: argument.data for argument in kwargs or ()}
    except (AttributeError, TypeError) as error:
        must_be = "must be lists of Argument and of KwArgument"
        raise TypeError(f"{where}: {must_be}: {error}") from None
    return Arguments(
        *(to_encoded(value, where) for value in positional),
        **{name: to_encoded(value, where) for name, value in keyword.items()},
    )


def to_encoded(value: VariantLike, where: str) -> Encoded:
    """A variant's value.

    Raises:
        TypeError: it is no variant.
        ValueError: there is no such type.
    """
    try:
        data_type, data = value.type, value.value
    except AttributeError as error:
        raise TypeError(f"{where}: data must be a Variant: {error}") from None
    try:
        return Encoded(to_variant_type(data_type, of=VariantType), data)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
