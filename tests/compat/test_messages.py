"""What is sent is what the asyncio client would send, whoever's objects it is made of."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import DataType as OurDataType
from trio_model_runner import Encoded, decode_data
from trio_model_runner.compat import (
    Argument,
    DataType,
    KwArgument,
    Variant,
    VariantType,
    detect_data_type,
    encode_data,
)
from trio_model_runner.compat import decode_data as decode_as_there
from trio_model_runner.compat.messages import to_arguments, to_variant_type

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


def foreign(**fields: Any) -> Any:
    """What a protobuf message is to us: an object with its fields."""
    return SimpleNamespace(**fields)


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=4))), st.booleans())
def test_arguments_go_by_their_positions_and_then_by_their_order(
    given: list[tuple[int, bytes]], ours: bool
) -> None:
    def argument(position: int, value: bytes) -> Any:
        if ours:
            return Argument(position, Variant(VariantType.STRING, value))
        return foreign(position=position, data=foreign(type=3, value=value))

    sent = to_arguments([argument(*each) for each in given], [])
    in_order = sorted(given, key=lambda each: each[0])
    assert sent.positional == tuple(Encoded(OurDataType.STRING, value) for _, value in in_order)


def test_keywords_are_sent_and_the_later_of_two_counts_as_at_the_node() -> None:
    one, two = Variant(VariantType.INT, encode_data(VariantType.INT, 1)), foreign(type=6, value=b"2")
    sent = to_arguments(None, [KwArgument("a", one), KwArgument("b", one), foreign(keyword="a", data=two)])
    assert sent.positional == ()
    assert dict(sent.keyword) == {
        "a": Encoded(OurDataType.JSON, b"2"),
        "b": Encoded(OurDataType.INT, one.value),
    }


@given(JSON)
def test_json_is_what_the_standard_library_makes_of_it(value: Any) -> None:
    assert encode_data(VariantType.JSON, value) == json.dumps(value).encode()


@pytest.mark.parametrize("types", [VariantType, DataType])
def test_other_types_are_read_back(types: Any) -> None:
    for name, value in (("DOUBLE", 1.5), ("DOUBLE", math.inf), ("INT", -3), ("STRING", "ü")):
        data = encode_data(types[name], value)
        assert decode_data(data, OurDataType[name]) == value


def test_a_bare_number_is_todays() -> None:
    assert encode_data(6, {1: 2}) == b'{"1": 2}'
    assert encode_data(0, None) == b""
    assert to_variant_type(5, of=VariantType) is OurDataType.ARROW
    assert to_variant_type(5, of=DataType) is OurDataType.JSON
    assert to_variant_type(OurDataType.JSON, of=DataType) is OurDataType.JSON
    assert to_variant_type(DataType.JSON, of=VariantType) is OurDataType.JSON
    assert to_variant_type(VariantType.JSON, of=DataType) is OurDataType.JSON
    assert to_variant_type("JSON", of=VariantType) is OurDataType.JSON


def test_the_types_are_enums_as_protobuf_makes_them() -> None:
    assert [*VariantType] == [*map(int, OurDataType)]
    assert (VariantType.Name(6), VariantType.Value("JSON"), f"{VariantType.JSON}") == ("JSON", 6, "6")
    assert (DataType.Name(5), DataType.Value("JSON")) == ("JSON", 5)
    assert VariantType.items() == [*zip(VariantType.keys(), VariantType.values(), strict=True)]
    assert VariantType.keys() == [each.name for each in OurDataType]
    with pytest.raises(ValueError, match="9"):
        VariantType.Name(9)
    with pytest.raises(ValueError, match="VariantType has no 'XML'"):
        VariantType.Value("XML")


def test_messages_are_made_of_names_and_of_mappings_too() -> None:
    variant = Variant(type="JSON", value=b"1")
    for data in (variant, {"type": "JSON", "value": b"1"}, {"type": 6, "value": b"1"}):
        sent = to_arguments([Argument(position=1, data=data)], [KwArgument(keyword="a", data=data)])
        assert sent.positional == (Encoded(OurDataType.JSON, b"1"),)
        assert sent.keyword["a"] == sent.positional[0]
    with pytest.raises(ValueError, match=r"^arguments: VariantType has no 'XML'"):
        to_arguments([Argument(1, Variant(type="XML"))], [])


def test_values_are_read_and_their_types_guessed_as_there() -> None:
    for value in (None, 1.5, 3, True, "text", {"a": [1]}, [1]):
        kind = detect_data_type(value)
        assert decode_as_there(encode_data(kind, value), kind) == value
    frame = pandas.DataFrame({"a": [1]})
    kind = detect_data_type(frame)
    assert kind is VariantType.PARQUET
    assert decode_as_there(encode_data(kind, frame), kind).equals(frame)
    with pytest.raises(ValueError, match="Unsupported data type"):
        detect_data_type({1, 2})
    with pytest.raises(ValueError, match="JSON"):
        decode_as_there(b"{", VariantType.JSON)


@pytest.mark.parametrize("data_type", [7, -1, True, "XML", None])
def test_there_is_no_such_type(data_type: Any) -> None:
    with pytest.raises(ValueError, match=r"data type|VariantType has no"):
        encode_data(data_type, 1)


def test_what_json_lacks_is_a_value_error_as_there() -> None:
    with pytest.raises(ValueError, match="Data cannot be serialized to JSON"):
        encode_data(VariantType.JSON, {1, 2})


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ([1], [], "must be lists of Argument and of KwArgument"),
        (5, [], "must be lists"),
        ([], [Argument()], "must be lists"),
        ([Argument(1, b"2")], [], "data must be a Variant"),  # type: ignore[arg-type]
        ([Argument(1, Variant(VariantType.JSON, "2"))], [], "data: must be bytes"),  # type: ignore[arg-type]
    ],
)
def test_a_mistake_is_named(args: Any, kwargs: Any, says: str) -> None:
    with pytest.raises(TypeError, match=f"^arguments: .*{says}"):
        to_arguments(args, kwargs)


def test_no_repr_shows_what_is_sent() -> None:
    argument = Argument(1, Variant(VariantType.STRING, b"secret"))
    assert repr(argument).endswith("value=<6 bytes>))")
