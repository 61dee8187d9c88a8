"""JSON that is deep or large."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.values.data import DataType, decode_data, encode, encode_data
from trio_model_runner.values.json_reading import from_json
from trio_model_runner.values.json_structure import MAX_DEPTH
from trio_model_runner.values.jsonable import to_json


@dataclasses.dataclass
class Price:
    value: Any
    currency: str = "EUR"


def nested(depth: int, wrap: Any) -> Any:
    value: Any = wrap(1)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: [inner],
        lambda inner: {"a": inner},
        lambda inner: (1, inner, 2),
        lambda inner: {'}"[': inner},
        lambda inner: ["\\", '\\"]', inner],
        Price,
    ],
)
def test_a_value_may_be_nested_so_deeply_and_no_deeper(wrap: Any) -> None:
    data = encode_data(DataType.JSON, nested(MAX_DEPTH, wrap))
    assert encode(decode_data(data, DataType.JSON)).data == data
    for depth in (MAX_DEPTH + 1, 100_000):
        value = nested(depth, wrap)
        with pytest.raises(ValueError, match="nested too deeply to be sent as JSON: more than 256 levels"):
            encode(value)
        while isinstance(value, Price):  # Python's own recursion, too, has an end when it frees these
            value = value.value


def test_brackets_in_text_are_not_nesting() -> None:
    value = ["[" * 300, "{[" * 300, {'"[{': '\\"' + "[" * 300}] * 20
    assert from_json(to_json(value)) == value


@pytest.mark.parametrize("end", [b"", b"1" + b"]" * 257, b'"]]]]', b"]{}" * 300, b'"' + b"]" * 900])
def test_an_answer_nested_too_deeply_is_refused_before_it_is_read(end: bytes) -> None:
    for depth in (257, 5000, 300_000):
        with pytest.raises(ValueError, match="JSON that is nested too deeply: more than 256 levels"):
            from_json(b"[" * depth + end)


brackets = st.text(alphabet='[]{}",:1a\\n ', max_size=60)


@given(st.lists(brackets, max_size=8), st.integers(0, 300))
def test_depth_is_that_of_the_value(texts: list[str], depth: int) -> None:
    value: Any = texts
    for text in range(depth):
        value = [value] if text % 2 else {texts[0] if texts else "a": value}
    data = json.dumps(value).encode()
    if depth + 1 > MAX_DEPTH:
        with pytest.raises(ValueError, match="nested too deeply"):
            from_json(data)
    else:
        assert from_json(data) == value


numbers = st.integers() | st.floats(allow_nan=False)
small_values = st.recursive(
    st.lists(numbers, min_size=1, max_size=5),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=3)
        | st.tuples(inner, st.text(max_size=9))
        | st.builds(Price, inner)
    ),
    max_leaves=3,
)


def enlarged(value: Any) -> Any:
    match value:
        case list() if isinstance(value[0], (int, float)):
            return value * 2000
        case list() | tuple():
            return type(value)(enlarged(item) for item in value)
        case dict():
            return {key: enlarged(item) for key, item in value.items()}
        case Price():
            return Price(enlarged(value.value))
    return value


@settings(max_examples=20)
@given(small_values)
def test_a_large_value_is_written_and_read_like_a_small_one(small: Any) -> None:
    value = enlarged(small)
    data = to_json(value)
    assert data == json.dumps(
        value, separators=(",", ":"), ensure_ascii=False, default=dataclasses.asdict
    ).encode("utf-8", "surrogatepass")
    assert repr(from_json(data)) == repr(json.loads(data))


def test_of_a_key_that_comes_twice_the_later_one_counts() -> None:
    assert from_json(b'{"a": 1, "b": 2, "a": 3}') == {"a": 3, "b": 2}


def test_a_large_value_is_refused_with_its_place() -> None:
    rows: list[Any] = [[1.5] * 100 for _ in range(1000)]
    rows[700][50] = b""
    with pytest.raises(TypeError, match=r"^rows\[700\]\[50\]: bytes can't be sent as JSON"):
        encode({"rows": rows})
    loop: list[Any] = [1.5] * 10_000
    loop.append(loop)
    with pytest.raises(ValueError, match=r"^\[10000\]: list holds itself"):
        encode(loop)
