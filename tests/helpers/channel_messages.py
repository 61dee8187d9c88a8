# ruff: noqa: RUF009  (betterproto declares fields by calling functions)
"""Messages of all kinds: the node's, one with a field of each kind, and those that no reader is made for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import betterproto
from hypothesis import strategies as st

from trio_model_runner.proto import InferRequest as FirstInferRequest
from trio_model_runner.proto import InferResponse as FirstInferResponse
from trio_model_runner.proto.commons import Argument, KwArgument, Status, Variant
from trio_model_runner.proto.dynamic_subclass import (
    CallRequest,
    CallResponse,
    RestResponse,
    SetupRequest,
    SetupResponse,
)
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from trio_model_runner.proto.train_infer import InferRequest, InferResponse

NODE_MESSAGES: list[type[betterproto.Message]] = [
    *(Argument, KwArgument, Status, Variant),
    *(CallRequest, CallResponse, RestResponse, SetupRequest, SetupResponse),
    *(FirstInferRequest, FirstInferResponse, InferRequest, InferResponse),
    *(HealthCheckRequest, HealthCheckResponse),
]


class Colour(betterproto.Enum):
    RED = 0
    GREEN = 1


@dataclass(eq=False, repr=False)
class Inner(betterproto.Message):
    number: int = betterproto.int32_field(1)
    numbers: list[int] = betterproto.int32_field(2)


@dataclass(eq=False, repr=False)
class Everything(betterproto.Message):
    """One field of each kind; the numbers are out of order, and some take two bytes as a tag."""

    a_double: float = betterproto.double_field(20)
    a_float: float = betterproto.float_field(2)
    an_int32: int = betterproto.int32_field(3)
    an_int64: int = betterproto.int64_field(4)
    a_uint32: int = betterproto.uint32_field(5)
    a_uint64: int = betterproto.uint64_field(6)
    a_sint32: int = betterproto.sint32_field(7)
    a_sint64: int = betterproto.sint64_field(8)
    a_fixed32: int = betterproto.fixed32_field(9)
    a_fixed64: int = betterproto.fixed64_field(10)
    an_sfixed32: int = betterproto.sfixed32_field(11)
    an_sfixed64: int = betterproto.sfixed64_field(12)
    a_bool: bool = betterproto.bool_field(13)
    a_string: str = betterproto.string_field(14)
    some_bytes: bytes = betterproto.bytes_field(15)
    a_colour: Colour = betterproto.enum_field(16)
    inner: Inner = betterproto.message_field(1)
    inners: list[Inner] = betterproto.message_field(17)
    strings: list[str] = betterproto.string_field(18)
    sints: list[int] = betterproto.sint64_field(19)
    doubles: list[float] = betterproto.double_field(300)
    maybe: int | None = betterproto.int32_field(301, optional=True)


@dataclass(eq=False, repr=False)
class WithMap(betterproto.Message):
    entries: dict[str, int] = betterproto.map_field(1, betterproto.TYPE_STRING, betterproto.TYPE_INT32)


@dataclass(eq=False, repr=False)
class WithOneof(betterproto.Message):
    number: int = betterproto.int32_field(1, group="choice")
    text: str = betterproto.string_field(2, group="choice")


@dataclass(eq=False, repr=False)
class Recursive(betterproto.Message):
    child: Recursive = betterproto.message_field(1)


def as_tuple(message: betterproto.Message) -> tuple[Any, ...]:
    """What `message_reader` should give, read off a message that betterproto parsed."""

    def value_of(value: Any) -> Any:
        if isinstance(value, list):
            return [value_of(item) for item in value]
        if isinstance(value, betterproto.Message):
            return as_tuple(value) if betterproto.serialized_on_wire(value) else None
        return int(value) if isinstance(value, betterproto.Enum) else value

    return tuple(value_of(getattr(message, name)) for name in message._betterproto.sorted_field_names)


def same(left: Any, right: Any) -> bool:
    """Equality for which a NaN equals itself."""
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right) and type(left) is type(right)


INTEGERS = {
    "int32": st.integers(-(1 << 31), (1 << 31) - 1),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "uint32": st.integers(0, (1 << 32) - 1),
    "uint64": st.integers(0, (1 << 64) - 1),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **INTEGERS,
    "sint32": INTEGERS["int32"],
    "sint64": INTEGERS["int64"],
    "fixed32": INTEGERS["uint32"],
    "fixed64": INTEGERS["uint64"],
    "sfixed32": INTEGERS["int32"],
    "sfixed64": INTEGERS["int64"],
    "double": st.floats(),
    "float": st.floats(width=32),
    "bool": st.booleans(),
    "string": st.text(),
    "bytes": st.binary(),
}


def messages(message_type: type[betterproto.Message]) -> st.SearchStrategy[Any]:
    metadata = message_type._betterproto
    fields = {}
    for name, field in metadata.meta_by_field_name.items():
        field_type = metadata.cls_by_field[name]
        if field.proto_type == "message":
            values = messages(field_type)
        elif field.proto_type == "enum":
            values = st.sampled_from(list(field_type))
        else:
            values = VALUES[field.proto_type]
        fields[name] = st.lists(values, max_size=3) if metadata.default_gen[name] is list else values
    return st.fixed_dictionaries({}, optional=fields).map(lambda chosen: message_type(**chosen))


def any_message() -> st.SearchStrategy[betterproto.Message]:
    return st.sampled_from([*NODE_MESSAGES, Everything]).flatmap(messages)
