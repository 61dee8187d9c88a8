"""What JSON can express is sent whole; all else is refused, with its place."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import pathlib
import re
import types
import typing
import uuid
from typing import Any

import attrs
import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.values.data import DataType, encode, encode_data


class Side(enum.Enum):
    LEFT = "left"


class Name(enum.StrEnum):
    ANN = "ann"


class Size(enum.IntEnum):
    BIG = 9


class Pair(typing.NamedTuple):
    first: int
    second: Any


@attrs.frozen
class Bird:
    name: str
    _position: Any = None


@attrs.frozen
class Falcon(Bird):
    speed: float = 1.0


@dataclasses.dataclass
class Price:
    value: Any
    currency: str = "EUR"


class Shout(int):
    def __repr__(self) -> str:
        return "three!"


class Loud(str):
    __slots__ = ()


class Quiet(float):
    def __repr__(self) -> str:
        return "..."


class Quote(typing.TypedDict):
    symbol: str
    price: float


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass(slots=True)
class Unset:
    value: int = dataclasses.field(init=False)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ((1, (2,)), b"[1,[2]]"),
        (Pair(1, None), b"[1,null]"),
        (types.MappingProxyType({"a": 1}), b'{"a":1}'),
        (collections.OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
        (collections.ChainMap({"a": (1,)}), b'{"a":[1]}'),
        (Bird("x", (1, 2)), b'{"name":"x","_position":[1,2]}'),
        (Falcon("x"), b'{"name":"x","_position":null,"speed":1.0}'),
        (Price(Bird("x")), b'{"value":{"name":"x","_position":null},"currency":"EUR"}'),
        ([Side.LEFT, Name.ANN, Size.BIG], b'["left","ann",9]'),
        ({Name.ANN: 1}, b'{"ann":1}'),
        ([numpy.int8(-3), numpy.float32(0.5), numpy.float64(0.1), numpy.bool_(True)], b"[-3,0.5,0.1,true]"),
        ({"big": 2**70}, b'{"big":1180591620717411303424}'),
        ([numpy.uint64(2**64 - 1)], b"[18446744073709551615]"),
        (pandas.Series([3]).iloc[0], b"3"),
        ([Shout(3), Loud("a"), Quiet(1.5)], b'[3,"a",1.5]'),
        (Quote(symbol="BTC", price=1), b'{"symbol":"BTC","price":1}'),
        (Access.READ | Access.WRITE, b"3"),
        (collections.Counter("aab"), b'{"a":2,"b":1}'),
        ([{"a": [{"b": ({},)}]}], b'[{"a":[{"b":[{}]}]}]'),
    ],
)
def test_what_goes_into_json(value: Any, data: bytes) -> None:
    assert encode_data(DataType.JSON, value) == data


@pytest.mark.parametrize(
    ("stranger", "name", "advice"),
    [
        (datetime.datetime(2026, 1, 1), "datetime", "send its .isoformat(), or a .timestamp()"),
        (datetime.date(2026, 1, 1), "date", "send its .isoformat(), or a .timestamp()"),
        (datetime.time(1), "time", "send its .isoformat(), or a .timestamp()"),
        (datetime.timedelta(1), "timedelta", "send its .total_seconds()"),
        (decimal.Decimal("0.1"), "Decimal", "a float would round it: send float(...) or str(...) yourself"),
        (
            fractions.Fraction(1, 3),
            "Fraction",
            "a float would round it: send float(...) or str(...) yourself",
        ),
        (b"abc", "bytes", "send text, such as base64"),
        (bytearray(b"abc"), "bytearray", "send text, such as base64"),
        ({1}, "set", "it has no order: send a sorted list"),
        (numpy.array([1]), "ndarray", "send its .tolist()"),
        (numpy.timedelta64(5, "ns"), "timedelta64", "send it divided by numpy.timedelta64(1, 's')"),
        (numpy.datetime64(5, "ns"), "datetime64", "send its str(...)"),
        (numpy.ma.masked, "MaskedConstant", "it stands for a missing value: send None, or math.nan"),
        (pandas.NA, "NAType", "it stands for a missing value: send None, or math.nan"),
        (pandas.NaT, "NaTType", "it stands for a missing value: send None, or math.nan"),
        (pandas.Timestamp("2026-01-01"), "Timestamp", "send its .isoformat(), or a .timestamp()"),
        (pandas.Timedelta(1), "Timedelta", "send its .total_seconds()"),
        (pandas.Period("2026-01"), "Period", "send its str(...)"),
        (pandas.Interval(0, 1), "Interval", "send its str(...)"),
        (pandas.Index([1]), "Index", "send its .tolist()"),
        (pandas.array([1, None], dtype="Int64"), "IntegerArray", "send its .tolist()"),
        (1j, "complex", ""),
        (uuid.UUID(int=0), "UUID", "send its str(...)"),
        (pathlib.PurePosixPath("a"), "PurePosixPath", "send its str(...)"),
        (collections.UserString("a"), "UserString", "send its str(...)"),
        (range(3), "range", "send a list(...) of it"),
        (collections.deque([1]), "deque", "send a list(...) of it"),
        ({}.keys(), "dict_keys", "send a list(...) of it"),
        ((item for item in [1]), "generator", "send a list(...) of it"),
        (iter([]), "list_iterator", "send a list(...) of it"),
        (Price, "type", ""),
        (Bird, "type", ""),
        (Side, "EnumType", ""),
        (types.SimpleNamespace(a=1), "SimpleNamespace", ""),
        (print, "builtin_function_or_method", ""),
    ],
)
def test_strangers_to_json_are_refused_with_their_place(stranger: Any, name: str, advice: str) -> None:
    reason = f"{name} can't be sent as JSON" + (f" ({advice})" if advice else "")
    for value, place in [
        (stranger, ""),
        ([1, stranger], "[1]: "),
        ({"points": [0, 1, 2, {"time": stranger}]}, "points[3].time: "),
        ({"a key": (stranger,)}, "['a key'][0]: "),
        ({"x" * 50: stranger}, f"[{'x' * 40!r}...]: "),
        (Price(Bird("x", [stranger])), "value._position[0]: "),
        ([types.MappingProxyType({"a": stranger})], "[0].a: "),
        ([[], {}, "", Pair(1, stranger)], "[3][1]: "),
    ]:
        with pytest.raises(TypeError) as caught:
            encode(value)
        assert str(caught.value) == place + reason


@pytest.mark.parametrize("key", [1, 1.5, True, None, (1, 2), b"a", Side.LEFT, Size.BIG])
@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda inner: inner, ""),
        (lambda inner: [0, {"a": inner}], "[1].a: "),
        (lambda inner: {"a": (1.5, inner)}, "a[1]: "),
        (lambda inner: [Price(inner)], "[0].value: "),
        (lambda inner: [Bird("x", [inner])], "[0]._position[0]: "),
        (lambda inner: types.MappingProxyType({"a": types.MappingProxyType(inner)}), "a: "),
    ],
)
def test_keys_that_are_no_text_are_refused(key: Any, wrap: Any, place: str) -> None:
    reason = f"a key is of type {type(key).__name__}, and JSON has text keys only: send str keys"
    with pytest.raises(TypeError) as caught:
        encode(wrap({"fine": 1, key: 2}))
    assert str(caught.value) == place + reason


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": ["\ud800"]}, "a[0]: it has a lone surrogate at index 0, which UTF-8 can't carry"),
        ({"a": {"x\udc00": 1}}, "a: a key has a lone surrogate at index 1, which UTF-8 can't carry"),
        ([Unset], "[0]: type can't be sent as JSON"),
        ([Unset()], "[0]: Unset has a field without a value"),
    ],
)
def test_what_else_is_refused_with_its_place(value: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(text)}$"):
        encode(value)


def test_a_number_too_long_for_json_is_refused_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"^\[1\]: the number is too long for JSON"):
        encode([1, 10**5000])


def test_a_value_that_holds_itself_is_refused_with_its_place() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    with pytest.raises(ValueError, match=r"^\[1\]\.again: list holds itself, which JSON can't express$"):
        encode(loop)
    bird = Price(None)
    bird.value = [bird]
    with pytest.raises(ValueError, match=r"^value\[0\]: Price holds itself, which JSON can't express$"):
        encode(bird)


def test_the_same_value_may_appear_twice() -> None:
    shared = {"a": [1]}
    assert encode([shared, shared, (shared,)]).data == b'[{"a":[1]},{"a":[1]},[{"a":[1]}]]'
    with pytest.raises(TypeError, match=r"^\[2\]: object can't be sent as JSON$"):
        encode([shared, shared, object()])


def test_an_exception_of_the_value_itself_comes_through() -> None:
    class Broken(collections.UserDict[str, int]):
        def __iter__(self) -> Any:
            raise LookupError("no luck")

    with pytest.raises(LookupError, match="no luck"):
        encode([Broken(a=1)])


keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.integers() | st.none()
strangers = st.binary(max_size=3) | st.dates() | st.text(st.characters(), max_size=5)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | strangers
payloads = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.tuples(inner)
        | st.builds(Bird, st.just("x"), inner)
        | st.builds(Price, inner)
        | st.dictionaries(keys, inner, max_size=3).map(types.MappingProxyType)
    ),
    max_leaves=12,
)


def spell_out(value: Any) -> Any:
    """Convert to what JSON holds, the slow and plain way; ValueError where it can't."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            value.encode()
            return value
        case list() | tuple():
            return [spell_out(item) for item in value]
        case dict() | types.MappingProxyType():
            if not all(isinstance(key, str) for key in value):
                raise ValueError("key")
            return {spell_out(key): spell_out(item) for key, item in value.items()}
        case Bird():
            return {"name": "x", "_position": spell_out(value._position)}
        case Price():
            return {"value": spell_out(value.value), "currency": "EUR"}
    raise ValueError("stranger")


@given(payloads)
def test_a_payload_is_sent_whole_or_refused(value: Any) -> None:
    try:
        expected = spell_out(value)
    except ValueError:
        with pytest.raises((TypeError, ValueError)):
            encode_data(DataType.JSON, value)
    else:
        data = encode_data(DataType.JSON, value)
        assert data == json.dumps(expected, ensure_ascii=False, separators=(",", ":")).encode()
