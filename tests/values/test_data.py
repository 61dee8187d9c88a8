"""Each type of value has the bytes that deployed nodes have for it, and arguments are encoded once."""

from __future__ import annotations

import enum
import gc
import json
import math
import struct
import sys
import weakref
from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.errors import InvalidAnswer
from trio_model_runner.values.data import Arguments, DataType, Encoded, decode_data, encode, encode_data

text = st.text(st.characters(exclude_categories=["Cs"]))
small_ints = st.integers(-(2**63), 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


class Color(enum.Enum):
    RED = "red"
    WEIGHT = 1.5
    NOTHING = None


class Level(enum.IntEnum):
    HIGH = 3


class Unlisted(dict[str, Any]):
    """A dict that weak references can point to."""


@given(small_ints)
def test_int_is_8_bytes_signed_little_endian(value: int) -> None:
    spelled_out = bytes((value % 2**64) >> (8 * index) & 0xFF for index in range(8))
    assert encode(value) == Encoded(DataType.INT, spelled_out)
    assert decode_data(spelled_out, DataType.INT) == value


@given(st.floats(allow_nan=False))
def test_double_is_ieee_754_little_endian(value: float) -> None:
    encoded = encode(value)
    assert encoded.data_type is DataType.DOUBLE
    assert encoded.data == numpy.array([value], dtype="<f8").tobytes()
    decoded = decode_data(encoded.data, DataType.DOUBLE)
    assert decoded == value
    assert math.copysign(1, decoded) == math.copysign(1, value)


def test_double_spelled_out() -> None:
    assert encode(1.0).data == b"\0\0\0\0\0\0\xf0\x3f"
    assert encode(-2.5).data == b"\0\0\0\0\0\0\x04\xc0"
    assert encode(math.inf).data == b"\0\0\0\0\0\0\xf0\x7f"
    assert math.isnan(decode_data(encode(math.nan).data, DataType.DOUBLE))


@given(text)
def test_string_is_utf8(value: str) -> None:
    encoded = encode(value)
    assert encoded == Encoded(DataType.STRING, bytes(value, "utf-8"))
    assert decode_data(encoded.data, DataType.STRING) == value


def test_string_spelled_out() -> None:
    assert encode("aé€😀").data == b"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"
    assert encode("") == Encoded(DataType.STRING, b"")


@given(st.lists(json_values) | st.dictionaries(text, json_values))
def test_json_round_trips(value: Any) -> None:
    encoded = encode(value)
    assert encoded.data_type is DataType.JSON
    assert json.loads(encoded.data) == value
    assert decode_data(encoded.data, DataType.JSON) == value


def test_json_is_compact_utf8() -> None:
    assert encode({"a": [1, 2.5, None, True], "é": "😀"}).data == '{"a":[1,2.5,null,true],"é":"😀"}'.encode()
    assert encode([]).data == b"[]"


def test_json_passes_nan_and_infinity() -> None:
    assert encode([math.nan, math.inf, -math.inf]).data == b"[NaN,Infinity,-Infinity]"
    decoded = decode_data(b"[NaN,Infinity,-Infinity]", DataType.JSON)
    assert math.isnan(decoded[0])
    assert decoded[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("value", "data_type", "data"),
    [
        (None, DataType.JSON, b"null"),
        (True, DataType.INT, b"\x01" + b"\0" * 7),
        (False, DataType.INT, b"\0" * 8),
        (-1, DataType.INT, b"\xff" * 8),
        ((1, "a"), DataType.JSON, b'[1,"a"]'),
        (numpy.int16(-2), DataType.INT, b"\xfe" + b"\xff" * 7),
        (numpy.uint64(7), DataType.INT, b"\x07" + b"\0" * 7),
        (numpy.bool_(True), DataType.INT, b"\x01" + b"\0" * 7),
        (numpy.float64(1.0), DataType.DOUBLE, b"\0\0\0\0\0\0\xf0\x3f"),
        (numpy.float32(1.0), DataType.DOUBLE, b"\0\0\0\0\0\0\xf0\x3f"),
        (numpy.str_("a"), DataType.STRING, b"a"),
        (Color.RED, DataType.STRING, b"red"),
        (Color.WEIGHT, DataType.DOUBLE, struct.pack("<d", 1.5)),
        (Color.NOTHING, DataType.JSON, b"null"),
        (Level.HIGH, DataType.INT, b"\x03" + b"\0" * 7),
    ],
)
def test_the_value_decides_the_type(value: Any, data_type: DataType, data: bytes) -> None:
    assert encode(value) == Encoded(data_type, data)


def test_numpy_is_recognised_only_when_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    assert encode(5) == Encoded(DataType.INT, b"\x05" + b"\0" * 7)
    with pytest.raises(TypeError, match="object can't be sent as JSON"):
        encode(object())
    assert "numpy" not in sys.modules


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, numpy.uint64(2**63)])
def test_integers_beyond_64_bits_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="signed 64 bits") as caught:
        encode(value)
    assert "-9223372036854775808 to 9223372036854775807" in str(caught.value)
    assert encode([int(value)]).data == b"[%d]" % value  # JSON has room for it


def test_text_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="it has a lone surrogate at index 1, which UTF-8 can't carry"):
        encode("a\ud800")


def test_encoded_passes_through_untouched() -> None:
    encoded = Encoded(DataType.ARROW, b"whatever")
    assert encode(encoded) is encoded
    assert encode(encoded, DataType.ARROW) is encoded
    assert encode_data(DataType.ARROW, encoded) is encoded.data
    assert Arguments(encoded).positional[0] is encoded
    with pytest.raises(ValueError, match="already encoded, as ARROW, not INT"):
        encode(encoded, DataType.INT)


def test_encoded_shows_its_length_and_never_its_data() -> None:
    assert repr(Encoded(DataType.STRING, b"secret")) == "Encoded(STRING, 6 bytes)"


def test_encoded_copies_what_can_change() -> None:
    data = bytearray(b"abc")
    encoded = Encoded(DataType.STRING, data)
    data[0] = 0
    assert encoded.data == b"abc"
    assert type(encoded.data) is bytes
    assert Encoded(DataType.STRING, memoryview(b"abc")) == encoded


def test_encoded_refuses_what_is_no_type_or_no_bytes() -> None:
    with pytest.raises(ValueError, match=r"^data_type: must be a DataType such as .*, got 1$"):
        Encoded(1, b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data: must be bytes, got str"):
        Encoded(DataType.STRING, "abc")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data_type", "value", "data"),
    [
        (DataType.NONE, None, b""),
        (DataType.DOUBLE, 1, b"\0\0\0\0\0\0\xf0\x3f"),
        (DataType.DOUBLE, True, b"\0\0\0\0\0\0\xf0\x3f"),
        (DataType.INT, True, b"\x01" + b"\0" * 7),
        (DataType.JSON, 1.5, b"1.5"),
        (DataType.JSON, "a", b'"a"'),
        (DataType.JSON, Color.RED, b'"red"'),
        (DataType.STRING, Color.RED, b"red"),
        (DataType.JSON, numpy.float32(0.5), b"0.5"),
    ],
)
def test_encode_data_takes_what_fits(data_type: DataType, value: Any, data: bytes) -> None:
    assert encode_data(data_type, value) == data
    assert encode(value, data_type) == Encoded(data_type, data)


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        (DataType.NONE, 0),
        (DataType.DOUBLE, "1.0"),
        (DataType.DOUBLE, None),
        (DataType.INT, 1.0),
        (DataType.INT, "1"),
        (DataType.INT, Fraction(1)),
        (DataType.STRING, b"abc"),
        (DataType.STRING, 1),
        (DataType.PARQUET, {"a": [1]}),
        (DataType.ARROW, [1]),
        (DataType.JSON, b"abc"),
    ],
)
def test_encode_data_refuses_another_type(data_type: DataType, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{type(value).__name__} can't be sent as {data_type.name}"):
        encode_data(data_type, value)
    with pytest.raises(TypeError, match=f"^{type(value).__name__} can't be sent as {data_type.name}"):
        encode(value, data_type)


def test_encode_data_refuses_what_is_out_of_range() -> None:
    with pytest.raises(ValueError, match="too large for a DOUBLE"):
        encode_data(DataType.DOUBLE, 10**400)
    with pytest.raises(ValueError, match="signed 64 bits"):
        encode_data(DataType.INT, 2**63)


@pytest.mark.parametrize("data_type", [1, 99, "INT", None])
def test_encode_data_refuses_an_unknown_type(data_type: Any) -> None:
    with pytest.raises(ValueError, match="data_type: must be a DataType"):
        encode_data(data_type, 1)


@pytest.mark.parametrize(
    ("data", "data_type", "reason"),
    [
        (b"\0" * 7, DataType.DOUBLE, "DOUBLE of 7 bytes instead of 8"),
        (b"", DataType.INT, "INT of 0 bytes instead of 8"),
        (b"\0" * 9, DataType.INT, "INT of 9 bytes instead of 8"),
        (b"x", DataType.NONE, "NONE of 1 bytes instead of 0"),
        (b"\xff", DataType.STRING, "STRING that is not UTF-8"),
        (b"\xed\xa0\x80", DataType.STRING, "STRING that is not UTF-8"),
        (b"\xff", DataType.JSON, "JSON that is not UTF-8"),
        (b"", DataType.JSON, "JSON that can't be read"),
        (b"{", DataType.JSON, "JSON that can't be read"),
        (b"9" * 5000, DataType.JSON, "JSON that can't be read"),
        (b'["\\uD800"]', DataType.JSON, "JSON with a lone surrogate"),
        (b'{"\\udfff": 1}', DataType.JSON, "JSON with a lone surrogate"),
        (b"[" * 200_000, DataType.JSON, "JSON that is nested too deeply"),
        (b"PAR1", DataType.PARQUET, "Parquet that can't be read"),
        (b"", DataType.PARQUET, "Parquet that can't be read"),
        (b"", DataType.ARROW, "Arrow that can't be read"),
    ],
)
def test_an_answer_that_can_not_be_read(data: bytes, data_type: DataType, reason: str) -> None:
    with pytest.raises(InvalidAnswer, match=reason) as caught:
        decode_data(data, data_type)
    assert isinstance(caught.value, ValueError)
    assert caught.value.value == Encoded(data_type, data)


def test_an_answer_of_an_unknown_type() -> None:
    with pytest.raises(InvalidAnswer, match="unknown data type 7") as caught:
        decode_data(b"abc", 7)
    assert caught.value.value == b"abc"


def test_a_number_off_the_wire_is_a_type() -> None:
    assert decode_data(b"abc", 3) == "abc"


def test_none_is_no_bytes() -> None:
    assert decode_data(b"", DataType.NONE) is None


def test_escaped_surrogate_pairs_are_text() -> None:
    assert decode_data(b'"\\ud83d\\ude00"', DataType.JSON) == "😀"


def test_frames_must_be_known() -> None:
    with pytest.raises(ValueError, match='frames: must be "arrow" or "pandas"') as caught:
        decode_data(b"", DataType.NONE, frames="polars")  # type: ignore[arg-type]
    assert not isinstance(caught.value, InvalidAnswer)


@given(st.binary(max_size=64), st.sampled_from(DataType), st.sampled_from(["arrow", "pandas"]))
def test_any_bytes_are_a_value_or_an_invalid_answer(data: bytes, data_type: DataType, frames: Any) -> None:
    came: Any = None
    try:
        decode_data(data, data_type, frames=frames)
    except InvalidAnswer as error:
        came = error.value
    assert came in (None, Encoded(data_type, data))


@given(st.text(alphabet='[]{}",:\\ud8e0123456789.-+nultrefasNIiy ', max_size=40))
def test_a_decoded_json_value_can_be_sent_again(spelling: str) -> None:
    try:
        value = decode_data(spelling.encode(), DataType.JSON)
    except InvalidAnswer:
        return
    again = decode_data(encode_data(DataType.JSON, value), DataType.JSON)
    assert repr(again) == repr(value)  # NaN is not equal to itself


def test_arguments_are_encoded_in_order() -> None:
    arguments = Arguments(1, "a", payload={"b": None}, metrics=None)
    assert arguments.positional == (encode(1), encode("a"))
    assert list(arguments.keyword.items()) == [("payload", encode({"b": None})), ("metrics", encode(None))]
    with pytest.raises(TypeError):
        arguments.keyword["payload"] = encode(1)  # type: ignore[index]
    assert Arguments().positional == ()
    assert Arguments(self=1).keyword == {"self": encode(1)}


def test_arguments_are_encoded_once_on_first_use() -> None:
    payload = {"price": 1}
    arguments = Arguments(payload, again=payload)
    payload["price"] = 2
    arguments.encode()
    payload["price"] = 3
    assert arguments.positional[0].data == b'{"price":2}'
    assert arguments.positional is arguments.positional
    assert arguments.keyword is arguments.keyword
    assert arguments.keyword["again"].data == b'{"price":2}'


def test_arguments_let_the_values_go() -> None:
    sent, refused = Unlisted(a=1), Unlisted(a=object())
    watched = [weakref.ref(sent), weakref.ref(refused)]
    arguments, unsendable = Arguments(sent), Arguments(refused)
    arguments.encode()
    with pytest.raises(TypeError):
        unsendable.encode()
    del sent, refused
    gc.collect()
    assert [reference() for reference in watched] == [None, None]
    assert arguments.positional[0].data == b'{"a":1}'


def test_arguments_never_show_values() -> None:
    arguments = Arguments("secret", "secret", key="secret", metrics={})
    before = repr(arguments)
    assert before == "Arguments(2 positional, key=..., metrics=...)"
    arguments.encode()
    assert repr(arguments) == before
    assert repr(Arguments()) == "Arguments()"


def test_a_refused_argument_is_named_and_refused_again() -> None:
    points = [{}, {}, {}, {"time": object()}]
    arguments = Arguments(1, payload={"points": points})
    for _ in range(2):
        with pytest.raises(
            TypeError, match=r"^argument payload\.points\[3\]\.time: object can't be sent as JSON$"
        ):
            arguments.encode()
        points[3].clear()
    with pytest.raises(TypeError, match=r"^argument 2 at points\[0\]: object can't be sent as JSON$"):
        _ = Arguments(1, {"points": [object()]}).positional
    with pytest.raises(TypeError, match=r"^argument 1 at \[0\]: object can't be sent as JSON$"):
        _ = Arguments([object()]).keyword
    with pytest.raises(ValueError, match=r"^argument 1: the integer does not fit"):
        Arguments(2**63).encode()
    with pytest.raises(ValueError, match=r"its name has a lone surrogate"):
        Arguments(**{"\ud800": 1}).encode()


def test_arguments_are_equal_by_identity() -> None:
    arguments = Arguments(1)
    assert arguments == arguments
    assert arguments != Arguments(1)
    assert len({arguments, Arguments(1)}) == 2


def test_once_makes_once_for_a_key() -> None:
    arguments = Arguments(1)
    made: list[Arguments] = []

    def make(given: Arguments) -> object:
        made.append(given)
        return object()

    first = arguments.once("tick", make)
    assert arguments.once("tick", make) is first
    assert arguments.once("predict", make) is not first
    assert made == [arguments, arguments]


def test_once_keeps_nothing_of_a_failure() -> None:
    arguments = Arguments(1)
    with pytest.raises(ZeroDivisionError):
        arguments.once("key", lambda _: 1 // 0)
    assert arguments.once("key", lambda _: 1) == 1


def test_an_arguments_name_is_shown_short_and_printable() -> None:
    arguments = Arguments(**{"a\x1b[31m": {1}, "n" * 500: 1})
    with pytest.raises(TypeError, match=r"^argument 'a\\x1b\[31m': set can't be sent as JSON"):
        arguments.encode()
    assert "\x1b" not in repr(arguments)
    assert len(repr(arguments)) < 150
