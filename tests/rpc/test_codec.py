# ruff: noqa: RUF009  (betterproto declares fields by calling functions)
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import betterproto
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from trio_model_runner.proto import InferRequest as FirstInferRequest
from trio_model_runner.proto import InferResponse as FirstInferResponse
from trio_model_runner.proto.commons import Argument, KwArgument, Status, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import (
    CallRequest,
    CallResponse,
    RestResponse,
    SetupRequest,
    SetupResponse,
)
from trio_model_runner.proto.grpc.health.v1 import HealthCheckRequest, HealthCheckResponse
from trio_model_runner.proto.train_infer import InferRequest, InferResponse
from trio_model_runner.rpc.message_reader import message_reader

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


def _official_everything() -> Any:
    """`Everything` as the official protobuf implementation has it."""
    file = descriptor_pb2.FileDescriptorProto(name="everything.proto", package="t", syntax="proto3")
    colour = file.enum_type.add(name="Colour")
    colour.value.add(name="RED", number=0)
    colour.value.add(name="GREEN", number=1)
    for message_type in (Inner, Everything):
        message = file.message_type.add(name=message_type.__name__)
        metadata = message_type._betterproto
        for name in metadata.sorted_field_names:
            field = metadata.meta_by_field_name[name]
            repeated = metadata.default_gen[name] is list
            added = message.field.add(name=name, number=field.number, label=3 if repeated else 1)
            added.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{field.proto_type.upper()}")
            if field.proto_type in {"message", "enum"}:
                added.type_name = ".t.Inner" if field.proto_type == "message" else ".t.Colour"
            if field.optional:
                message.oneof_decl.add(name="_maybe")
                added.oneof_index, added.proto3_optional = 0, True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Everything"))


OFFICIAL_EVERYTHING = _official_everything()


def as_tuple_of_official(message: Any) -> tuple[Any, ...]:
    def value_of(field: Any) -> Any:
        value = getattr(message, field.name)
        if field.is_repeated:
            return [as_tuple_of_official(item) if field.message_type else item for item in value]
        if field.has_presence and not message.HasField(field.name):
            return None
        return as_tuple_of_official(value) if field.message_type else value

    return tuple(map(value_of, sorted(message.DESCRIPTOR.fields, key=lambda field: field.number)))


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


def varint(value: int) -> bytes:
    return betterproto.encode_varint(value)


UNKNOWN_FIELDS = st.one_of(
    st.builds(lambda number: varint(999 << 3) + varint(number), INTEGERS["uint64"]),
    st.builds(lambda data: varint(999 << 3 | 1) + data, st.binary(min_size=8, max_size=8)),
    st.builds(lambda data: varint(999 << 3 | 2) + varint(len(data)) + data, st.binary()),
    st.builds(lambda data: varint(999 << 3 | 5) + data, st.binary(min_size=4, max_size=4)),
)


@given(any_message())
def test_reads_what_betterproto_wrote_as_betterproto_does(message):
    data = bytes(message)
    assert same(message_reader(type(message))(data), as_tuple(type(message)().parse(data)))


@given(any_message(), UNKNOWN_FIELDS, UNKNOWN_FIELDS)
def test_unknown_fields_are_skipped(message, before, after):
    read = message_reader(type(message))
    data = bytes(message)
    assert same(read(before + data + after), read(data))


@given(messages(Everything), messages(Everything))
def test_encodings_one_after_the_other_merge_as_in_the_official_implementation(first, second):
    data = bytes(first) + bytes(second)
    official = OFFICIAL_EVERYTHING.FromString(data)
    assert same(message_reader(Everything)(data), as_tuple_of_official(official))


@given(st.sampled_from([*NODE_MESSAGES, Everything]), st.binary())
@example(Status, b"\x0a\x02\xc3")
@example(Variant, b"\x10")
@example(Variant, b"\x10" + b"\xff" * 10)
def test_garbage_is_a_value_or_a_value_error(message_type, data):
    try:
        values = message_reader(message_type)(data)
    except ValueError:
        return
    assert len(values) == len(message_type._betterproto.meta_by_field_name)


@given(messages(Everything), st.data())
def test_damage_is_judged_as_the_official_implementation_does(message, data):
    encoded = bytearray(bytes(message))
    for _ in range(data.draw(st.integers(0, 3))):
        if encoded:
            encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    del encoded[data.draw(st.integers(0, len(encoded))) :]
    try:
        expected = as_tuple_of_official(OFFICIAL_EVERYTHING.FromString(bytes(encoded)))
    except DecodeError:
        expected = None
    try:
        values = message_reader(Everything)(bytes(encoded))
    except ValueError as error:
        values = None
        if "wire type" in str(error):
            return  # groups, which only we refuse
    assert same(values, expected)


@given(any_message().filter(bytes), st.data())
def test_a_message_cut_inside_a_field_is_refused(message, data):
    encoded = varint(15 << 3 | 2) + varint(len(bytes(message))) + bytes(message)
    cut = data.draw(st.integers(1, len(encoded) - 1))
    with pytest.raises(ValueError, match=r".+"):
        message_reader(type(message))(encoded[:cut])


def test_absent_fields_have_their_defaults():
    assert message_reader(CallResponse)(b"") == (None, None)
    assert message_reader(CallResponse)(b"\x0a\x00\x12\x00") == (("", ""), (0, b""))
    assert message_reader(CallRequest)(b"") == ("", [], [])


def test_lists_of_one_message_are_not_those_of_the_next():
    read = message_reader(CallRequest)
    read(bytes(CallRequest(method_arguments=[Argument(position=1)])))
    assert read(b"") == ("", [], [])


def test_a_message_in_two_parts_merges():
    parts = [
        CallResponse(status=Status(code="SUCCESS")),
        CallResponse(method_response=Variant(type=VariantType.INT)),
        CallResponse(status=Status(message="done")),
    ]
    assert message_reader(CallResponse)(b"".join(map(bytes, parts))) == (("SUCCESS", "done"), (2, b""))


def test_the_last_value_of_a_field_wins():
    assert message_reader(Status)(b"\x0a\x01a\x0a\x01b") == ("b", "")


def test_repeated_numbers_are_read_packed_and_unpacked_and_mixed():
    data = varint(2 << 3 | 2) + b"\x02\x01\x02" + varint(2 << 3) + b"\x03" + varint(2 << 3 | 2) + b"\x01\x04"
    assert message_reader(Inner)(data) == (0, [1, 2, 3, 4])


def test_a_field_with_an_unexpected_wire_type_is_skipped():
    assert message_reader(Status)(b"\x08\x01\x12\x02ok") == ("", "ok")
    assert message_reader(Variant)(b"\x12\x01\x05\x1a\x01x") == (0, b"x")


def test_a_negative_or_unknown_enum_is_its_number():
    assert message_reader(Variant)(b"\x10" + varint(-1)) == (-1, b"")
    assert message_reader(Variant)(b"\x10\x63") == (99, b"")


def test_numbers_are_cut_to_their_width():
    read = message_reader(Everything)
    names = Everything._betterproto.sorted_field_names
    too_wide = varint((1 << 40) + 7)
    data = varint(3 << 3) + too_wide + varint(5 << 3) + too_wide + varint(7 << 3) + too_wide
    values = dict(zip(names, read(data), strict=True))
    assert (values["an_int32"], values["a_uint32"], values["a_sint32"]) == (7, 7, -4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x02\xff\xfe", "utf-8"),
        (b"\x0a\x05abc", "beyond its message"),
        (b"\x0a", "truncated"),
        (b"\x0a\x80", "truncated"),
        (b"\x0b", "wire type 3"),
        (b"\x0c", "wire type 4"),
        (b"\x7e", "wire type 6"),
        (b"\x00\x00", "no field's"),
        (b"\x80\x80\x80\x80\x80\x01", "no field's"),
        (b"\x7d\x00\x00\x00", "beyond its message"),
        (b"\x79" + b"\x00" * 7, "beyond its message"),
        (b"\x78" + b"\x80" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "beyond its message"),
    ],
)
def test_malformed_bytes_are_refused_with_a_reason(data, reason):
    with pytest.raises(ValueError, match=reason):
        message_reader(Status)(data)


def test_a_varint_of_ten_bytes_is_taken():
    assert message_reader(Status)(b"\x78" + b"\x80" * 9 + b"\x01\x0a\x01a") == ("a", "")


def test_a_field_must_end_inside_its_message_even_where_more_bytes_follow():
    overlong = b"\x12\x03\x1a\x05x" + b"y" * 20  # the variant has 3 bytes, its value claims 5
    with pytest.raises(ValueError, match="beyond its message"):
        message_reader(CallResponse)(overlong)
    with pytest.raises(ValueError, match="beyond its message"):
        message_reader(CallResponse)(b"\x12\x02\x10\x80\x01" + b"\x0a\x00")


def test_a_packed_number_must_end_inside_its_field():
    with pytest.raises(ValueError, match="beyond its field"):
        message_reader(Inner)(b"\x12\x01\x80\x01\x08\x01")


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


@pytest.mark.parametrize(
    ("message_type", "reason"),
    [
        (WithMap, "WithMap.entries is a map"),
        (WithOneof, "WithOneof.number is one of a oneof"),
        (Recursive, "Recursive.child has a recursive type"),
    ],
)
def test_kinds_of_field_without_a_reader_are_refused_when_it_is_made(message_type, reason):
    with pytest.raises(TypeError, match=reason):
        message_reader(message_type)


def test_a_message_has_no_more_fields_than_the_reader_takes():
    read = message_reader(CallResponse, 3)
    variant = b"\x12\x00"
    assert read(3 * variant) == (None, (0, b""))
    for data in (4 * variant, 4 * b"\x78\x00", b"\x12\x08" + 4 * b"\x10\x01"):
        with pytest.raises(ValueError, match="more than 3 fields"):
            read(data)
    assert message_reader(Inner)(1000 * b"\x08\x01")[0] == 1


def test_a_reader_is_compiled_once():
    assert message_reader(CallResponse) is message_reader(CallResponse)


@given(any_message())
def test_the_codec_gives_back_what_it_was_given(message):
    codec = BetterprotoCodec()
    data = codec.encode(message, type(message))
    assert data == bytes(message)
    assert same(as_tuple(codec.decode(data, type(message))), as_tuple(type(message)().parse(data)))


def test_the_codec_refuses_another_type_of_message():
    with pytest.raises(TypeError, match="must be a CallRequest"):
        BetterprotoCodec().encode(Status(), CallRequest)


@given(st.sampled_from([*NODE_MESSAGES, Everything, WithMap, WithOneof, Recursive]), st.binary())
@example(Status, b"\x0a\x05abc")
@example(Recursive, b"\x0a\x01\x10")
def test_the_codec_raises_value_errors_alone_for_garbage(message_type, data):
    codec = BetterprotoCodec()
    try:
        message = codec.decode(data, message_type)
    except ValueError:
        return
    assert isinstance(message, message_type)


def test_the_codec_refuses_text_that_was_cut_off():
    with pytest.raises(ValueError, match="not a Status"):
        BetterprotoCodec().decode(b"\x0a\x05abc", Status)
