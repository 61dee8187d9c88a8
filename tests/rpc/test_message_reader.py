"""`rpc.message_reader` reads what betterproto and the official protobuf read, and refuses the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import betterproto
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from helpers.channel_messages import (
    INTEGERS,
    NODE_MESSAGES,
    Everything,
    Inner,
    Recursive,
    WithMap,
    WithOneof,
    any_message,
    as_tuple,
    messages,
    same,
)
from hypothesis import example, given
from hypothesis import strategies as st

from trio_model_runner.proto.commons import Argument, Status, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse
from trio_model_runner.rpc.message_reader import message_reader


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


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 13, 16])
def test_a_varint_of_more_than_64_bits_is_cut_as_the_official_implementation_cuts_it(number):
    data = varint(number << 3) + b"\xff" * 9 + b"\x7f"
    official = OFFICIAL_EVERYTHING.FromString(data)
    assert same(message_reader(Everything)(data), as_tuple_of_official(official))


@dataclass(eq=False, repr=False)
class WithOptional(betterproto.Message):
    """An optional field as betterproto's compiler writes it: in a group of its own."""

    maybe: int | None = betterproto.int32_field(1, optional=True, group="_maybe")


def test_an_optional_field_of_generated_code_may_be_absent():
    read = message_reader(WithOptional)
    assert [read(b""), read(b"\x08\x00"), read(b"\x08\x07")] == [(None,), (0,), (7,)]


def test_of_a_long_text_the_beginning_is_read_and_what_follows_as_always() -> None:
    text = "a" + "\N{SNOWMAN}" * 10
    message = bytes(CallResponse(status=Status(code="OK", message=text)))
    assert message_reader(CallResponse, max_text_bytes=31)(message)[0] == ("OK", text)
    assert message_reader(CallResponse, max_text_bytes=5)(message)[0] == ("OK", "a\N{SNOWMAN}")
