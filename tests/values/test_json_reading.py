"""JSON from strangers: how many values it may have, and that in pieces it is read as at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_model_runner import DataType, InvalidAnswer, decode_data
from trio_model_runner.abandoned import run_stoppable
from trio_model_runner.values import json_reading, json_structure
from trio_model_runner.values.json_reading import LONGEST_GAP_BYTES, LONGEST_TOKEN_BYTES, from_json
from trio_model_runner.values.json_structure import MAX_JSON_VALUES, PIECE_BYTES
from trio_model_runner.values.text_reading import MAX_TEXT_MEMORY, text_of_utf8


@contextmanager
def pieces_of(size: int, longest: int = LONGEST_TOKEN_BYTES) -> Iterator[None]:
    """Let JSON be cut after so many bytes, and a text be long after so many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_structure, "PIECE_BYTES", size)
        patch.setattr(json_reading, "PIECE_BYTES", size)
        patch.setattr(json_reading, "LONGEST_TOKEN_BYTES", longest)
        patch.setattr(json_reading, "LONGEST_GAP_BYTES", 300 + longest)
        yield


def weight(value: Any) -> int:
    """How many values there are, as they are counted."""
    if isinstance(value, dict):
        return 4 + sum(1 + weight(item) for item in value.values()) + (not value)
    return 4 + sum(map(weight, value)) + (not value) if isinstance(value, list) else 1


tricky = st.text(alphabet='[]{}",:\\a\n é\U0001f600', max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | tricky,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(tricky, inner, max_size=4),
    max_leaves=30,
)
written = st.builds(
    lambda value, ascii_only, separators: json.dumps(
        value, ensure_ascii=ascii_only, separators=separators
    ).encode(),
    values,
    st.booleans(),
    st.sampled_from([(",", ":"), (" ,\n", "\t: ")]),
)


@given(written, st.integers(1, 100))
def test_each_value_is_counted_once_and_arrays_and_objects_more_often(data: bytes, size: int) -> None:
    value = json.loads(data)
    values = weight(value)
    with pieces_of(size):
        assert from_json(data, values) == value
        with pytest.raises(ValueError, match=rf"^JSON of more than {values - 1} values \(max_json_values\)$"):
            from_json(data, values - 1)


@pytest.mark.parametrize(
    ("item", "values"),
    [(b"[]", 5), (b"{}", 5), (b"[[]]", 9), (b"0", 1), (b'"[,"', 1), (b"null", 1), (b'{"":1.5}', 6)],
)
def test_a_large_answer_at_the_limit_and_beyond(item: bytes, values: int) -> None:
    count = (MAX_JSON_VALUES - 4) // values
    data = b"[" + b",".join([item] * count) + b"]"
    assert decode_data(data, DataType.JSON) == [json.loads(item)] * count
    for more in (1, 10, 1_000_000):
        data = b"[" + b",".join([item] * (count + more)) + b"]"
        with pytest.raises(InvalidAnswer, match=r"^JSON of more than 500000 values \(max_json_values\)$"):
            decode_data(data, DataType.JSON)
    with pytest.raises(InvalidAnswer, match=r"^JSON of more than 3 values \(max_json_values\)$"):
        decode_data(b"[" + item + b"]", DataType.JSON, max_json_values=3)


def test_what_stands_in_a_text_is_not_counted() -> None:
    text = ',:[{"\\' * 200_000
    assert decode_data(json.dumps([text]).encode(), DataType.JSON, max_json_values=5) == [text]


def fragments(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    key = st.sampled_from(['""', '"a"', '"\\u0061"', '"k,"', ' "b" '])
    pair = st.builds("{}:{}".format, key, values)
    return st.builds("[{}]".format, st.lists(values, max_size=4).map(",".join)) | st.builds(
        "{{{}}}".format, st.lists(pair, max_size=4).map(" ,".join)
    )


scalars = ["1", "-0.5e3", "null", " true", "Infinity", '"a"', '"x,y"', r'"\\"', r'"\"[{"', r'"\ud83d\ude00"']
spelled = st.recursive(st.sampled_from(scalars), fragments, max_leaves=40)
"""JSON as nobody writes it: with keys that come twice, and escapes."""


@st.composite
def damaged(draw: st.DrawFn) -> str:
    text = draw(spelled).replace(r"\ud83d\ude00", "a")  # whose halves are a fault of another kind
    place = draw(st.integers(0, len(text)))
    return (
        text[:place] + draw(st.sampled_from(list('[]{}:,"\\ 1u'))) + text[place + draw(st.integers(0, 2)) :]
    )


@given(spelled | damaged(), st.integers(1, 40))
@example('{"a":[1,2],"b":3,"a":[4,5,6]}', 25)  # a key comes again, and goes on in the next piece
@example("[1,2,]", 1)
@example("[,1]", 1)
@example('{"a":1,}', 1)
@example("1,2", 1)
@example("[1],[2]", 1)
@example("[1,2", 1)
@example("[1,2}", 1)
@example("[1,{2],3}", 6)
@example("[1,2]],3", 1)
@example('["a,b', 1)
def test_in_pieces_is_as_at_once(text: str, size: int) -> None:
    try:
        expected = json.JSONDecoder().decode(text)
    except ValueError:
        with pieces_of(size), pytest.raises(ValueError, match="JSON"):
            from_json(text.encode())
    else:
        with pieces_of(size):
            assert from_json(text.encode()) == expected


@given(written, st.integers(25, 60), st.integers(1, 60))
def test_long_texts_are_read_in_pieces(data: bytes, size: int, longest: int) -> None:
    with pieces_of(size, longest):
        try:
            value = from_json(data)
        except ValueError as error:  # a long key
            assert "a key of more than" in str(error)  # noqa: PT017 - or it is read
        else:
            assert value == json.loads(data)


units = st.sampled_from(["a", "é", "\U0001f600", '"', "\\", "\n", "a,", "[", "\\u", "ud83d"])


@given(st.lists(units, max_size=150), st.booleans(), st.integers(25, 60))
def test_a_text_is_cut_at_no_escape(units: list[str], ascii_only: bool, size: int) -> None:
    text = "".join(units)
    for value in (text, [text, 1], [[{"a": text}], 2, 3], {"a": {"b": text}, "c": [4, text]}):
        with pieces_of(size, 30):
            assert from_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize("size", range(25, 40))
def test_a_text_is_cut_between_no_halves_of_a_character(size: int) -> None:
    text = "\U0001f600" * 20
    with pieces_of(size, 30):
        assert from_json(json.dumps([text, 1]).encode()) == [text, 1]


def test_what_is_decoded_at_once_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    decode = json_reading._decode

    def noting(decoder: json.JSONDecoder, text: str, *, is_piece: bool) -> Any:
        lengths.append(len(text))
        return decode(decoder, text, is_piece=is_piece)

    monkeypatch.setattr(json_reading, "_decode", noting)
    value = {"a": [[index, f"{index},"] for index in range(50_000)], "b": "," * 1_500_000}
    assert from_json(json.dumps(value).encode()) == value
    assert len(lengths) > 5
    *small, _, large = sorted(lengths)
    assert max(small) < PIECE_BYTES + 100 < large < LONGEST_TOKEN_BYTES


@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_whole_number_has_a_limit_where_python_has_none(limit: int) -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        for more in ("", "1," * PIECE_BYTES):
            assert from_json(f"[{more}{'1' * 10_000}]".encode())[-1] == int("1" * 10_000)
            with pytest.raises(ValueError, match="JSON that can't be read: a whole number of 10001 digits"):
                from_json(f"[{more}{'1' * 10_001}]".encode())
    finally:
        sys.set_int_max_str_digits(before)


LONG = LONGEST_TOKEN_BYTES + PIECE_BYTES


LONG_GAP = "more than 4 MiB between two commas"
LONG_KEY = "a key of more than 2 MiB"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"1" * 2 * LONGEST_GAP_BYTES, LONG_GAP),
        (b"[1," + b" " * 2 * LONGEST_GAP_BYTES + b"2]", LONG_GAP),
        (b'["a": 0.' + b"1" * 2 * LONGEST_GAP_BYTES, LONG_GAP),
        ((b'{"' + b"k" * LONGEST_TOKEN_BYTES + b'":') * 3 + b"1}}}", LONG_GAP),
        (b'["' + b"a" * LONG + b'"' + b" " * LONGEST_GAP_BYTES * 2 + b"]", LONG_GAP),
        (b'{"' + b"k" * LONG + b'" : 1, "b": 2}', LONG_KEY),
        (b'{"' + b"k" * LONG + b'" : "' + b"b" * LONG + b'"}', LONG_KEY),
    ],
)
def test_what_can_not_be_read_in_pieces_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^JSON with {reason}, in bytes "):
        from_json(data)


HALF_LONG = LONGEST_TOKEN_BYTES * 9 // 16


@pytest.mark.parametrize(
    "data",
    [
        b'{"' + b"a" * HALF_LONG + b'":{"' + b"b" * HALF_LONG + b'":1,"c":2},"d":3}',
        b"{" + b" " * HALF_LONG + b'"' + b"a" * HALF_LONG + b'":1,"b":2}',
        b'{"' + b"a" * HALF_LONG + b'":"' + b"b" * LONG + b'","c":3}',
        b"[[[" + b" " * LONGEST_TOKEN_BYTES + b'"' + b"b" * LONG + b'"' + b" " * HALF_LONG + b"],3]]",
    ],
)
def test_several_that_are_long_only_together_are_read(data: bytes) -> None:
    assert from_json(data) == json.loads(data)


@pytest.mark.parametrize(
    ("data_type", "data"),
    [
        (DataType.JSON, b"[" + b"0," * PIECE_BYTES + b"0]"),
        (DataType.JSON, b'"' + b"x" * LONG + b'"'),
        (DataType.STRING, b"x" * LONG),
    ],
)
def test_reading_stops_between_pieces_once_nobody_waits(data_type: DataType, data: bytes) -> None:
    class Unwanted(BaseException):
        """Like `trio.Cancelled`, which nobody may catch."""

    asked = 0

    def stop_at_last() -> None:
        nonlocal asked
        asked += 1
        if asked == times:
            raise Unwanted

    times = sys.maxsize
    value = run_stoppable(stop_at_last, decode_data, data, data_type)
    assert asked >= len(data) // 2**20
    assert value == decode_data(data, data_type)
    for last in (1, asked):
        asked, times = 0, last
        with pytest.raises(Unwanted):
            run_stoppable(stop_at_last, decode_data, data, data_type)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (b"", "a text without an end"),
        (b"\\", "a text without an end"),
        (b"\n" + b" " * PIECE_BYTES, "Invalid control character at"),
        (b'"', "Expecting ',' delimiter"),
        (rb'\ud83d"]', "a lone surrogate"),
        (b'\xf0"]', "not UTF-8"),
    ],
)
def test_a_long_text_that_can_not_be_read(end: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^JSON .*{reason}"):
        from_json(b'["' + b"a" * LONG + end)


def test_a_fault_at_the_end_of_a_large_answer_is_found_near_its_place() -> None:
    data = b"[" + b"0," * 100_000 + b"]"
    with pytest.raises(InvalidAnswer, match=r"^JSON that can't be read: .*, in bytes 1\d+ to 200002$"):
        decode_data(data, DataType.JSON)
    assert decode_data(data[:-1] + b"0]", DataType.JSON) == [0] * 100_001
    for last, reason in (
        (rb'"\ud83d"', "lone surrogate"),
        (b'"\xff"', "not UTF-8: invalid start byte at byte"),
    ):
        with pytest.raises(InvalidAnswer, match=reason):
            decode_data(data[:-1] + last + b"]", DataType.JSON)


def test_a_text_is_read_that_is_just_long_enough() -> None:
    for length in range(LONGEST_TOKEN_BYTES - 70_000, LONGEST_TOKEN_BYTES + 300_000, 65_536):
        value = {"k" * 1000: [["a" * length]], "b": 1}
        assert from_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("unit", ["a", "é", "中", "\U0001f600"])
def test_a_large_string_is_read_in_pieces(unit: str) -> None:
    text = unit * (3_000_000 // len(unit.encode())) + "a"
    assert decode_data(text.encode(), DataType.STRING) == text
    assert decode_data(json.dumps(text, ensure_ascii=False).encode(), DataType.JSON) == text
    for begin, end in (("a", "é"), ("é", "\U0001f600"), ("\U0001f600", "a")):
        assert decode_data((begin + text + end).encode(), DataType.STRING) == begin + text + end


@pytest.mark.parametrize(
    ("bad", "place"), [(b"\xff", 2**21), (b"\xf0\x9f\x98", 2**21), (b"\xf0\x9fa", 2**20 - 1)]
)
def test_a_large_string_with_a_fault(bad: bytes, place: int) -> None:
    data = b"a" * place + bad
    with pytest.raises(InvalidAnswer, match=rf"^STRING that is not UTF-8: .* at byte {place}$"):
        decode_data(data, DataType.STRING)


def test_a_string_may_take_so_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = "\U0001f600".encode()
    data = b"a" * (MAX_TEXT_MEMORY // 4) + wide
    for refused in (data, wide + data):
        with pytest.raises(InvalidAnswer, match=r"^STRING of a text that takes more than 80 MiB of memory$"):
            decode_data(refused, DataType.STRING)
    assert text_of_utf8(data[1:]).endswith("\U0001f600")
    with pytest.raises(InvalidAnswer, match=r"^JSON with a text that takes more than 80 MiB of memory$"):
        decode_data(b'["' + data + b'"]', DataType.JSON)
