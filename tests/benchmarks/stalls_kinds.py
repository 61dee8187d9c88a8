"""The kinds of answers of `stalls.py`: each at a limit, or beyond, or made so that something takes long.

A kind is a function that makes JSON, under `json_kind`, or an entry of `KINDS`. "60mb" is the size of the
largest message; most others are as large as they may be to be taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trio_model_runner import DataType
from trio_model_runner.values.data import encode
from trio_model_runner.values.json_structure import MAX_JSON_VALUES

__all__ = ["KINDS", "LARGEST", "at_limit", "filled", "json_kind", "numbered"]

LARGEST = 64 << 20
"""Bytes of the largest message."""

Kind = tuple[DataType, Callable[[], bytes], Any]
KINDS: dict[str, Kind] = {}


def json_kind(returns: Any = None) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Make a kind of a function that makes JSON."""

    def add(make: Callable[[], bytes]) -> Callable[[], bytes]:
        KINDS[make.__name__] = DataType.JSON, make, returns
        return make

    return add


@json_kind()
def nothing() -> bytes:
    return b"0"


def filled(item: bytes, size: int, begin: bytes = b"[", end: bytes = b"0]") -> bytes:
    """JSON of about so many bytes, the same item all along."""
    return begin + item * ((size - len(begin) - len(end)) // len(item)) + end


def numbered(item: bytes, count: int, begin: bytes = b"[", end: bytes = b"]") -> bytes:
    """JSON of so many items, which differ in a number."""
    return begin + b",".join(item % index for index in range(count)) + end


def at_limit(item: bytes, values: int, begin: bytes = b"[", end: bytes | None = None) -> bytes:
    """JSON of as many items as may be, of which each counts as so many values."""
    return begin + item * ((MAX_JSON_VALUES - 10) // values - 1) + (item[:-1] + b"]" if end is None else end)


@json_kind()
def lists_60mb() -> bytes:
    return filled(b"[],", LARGEST)


@json_kind()
def objects_60mb() -> bytes:
    return filled(b"{},", LARGEST)


@json_kind()
def keys_60mb() -> bytes:
    return numbered(b'"%d":0', 4_500_000, b"{", b"}")


@json_kind()
def numbers_60mb() -> bytes:
    return filled(b"0,", LARGEST)


@json_kind()
def opened_60mb() -> bytes:
    return b"[" * LARGEST


@json_kind()
def pairs_without_commas() -> bytes:
    return b"[]" * (LARGEST // 2)


@json_kind()
def empty_lists() -> bytes:
    return at_limit(b"[],", 5)


@json_kind()
def lists_of_one() -> bytes:
    return at_limit(b"[0],", 5)


@json_kind()
def chains() -> bytes:
    return at_limit(b"[" * 250 + b"]" * 250 + b",", 1002)


@json_kind()
def objects_of_lists() -> bytes:
    return at_limit(b'{"a":[]},', 10)


@json_kind()
def objects_of_one() -> bytes:
    return at_limit(b'{"a":0},', 6)


@json_kind()
def keys() -> bytes:
    return numbered(b'"%d":0', MAX_JSON_VALUES // 2 - 10, b"{", b"}")


@json_kind()
def keys_of_lists() -> bytes:
    return numbered(b'"%d":[]', MAX_JSON_VALUES // 6 - 10, b"{", b"}")


@json_kind()
def same_keys() -> bytes:
    return at_limit(b'"a":0,', 2, begin=b"{", end=b'"b":0}')


@json_kind()
def large_keys() -> bytes:
    return numbered(b'"%d' + b"k" * 2**20 + b'":0', 60, b"{", b"}")


@json_kind()
def floats() -> bytes:
    return numbered(b"%d.123456789012345", MAX_JSON_VALUES - 10)


@json_kind()
def short_floats() -> bytes:
    return at_limit(b"1e9,", 1)


@json_kind()
def long_floats() -> bytes:
    return filled(b"0." + b"1" * 130 + b",", LARGEST)


@json_kind()
def one_long_float() -> bytes:
    return b"0." + b"1" * (LARGEST - 2)


@json_kind()
def long_float_at_limit() -> bytes:
    return b"0." + b"1" * ((2 << 20) - (1 << 17))


@json_kind()
def long_integers() -> bytes:
    return filled(b"1" * 4300 + b",", LARGEST)


@json_kind()
def one_long_integer() -> bytes:
    return b"1" * LARGEST


@json_kind()
def blanks() -> bytes:
    return b"[" + b" " * (LARGEST - 2) + b"]"


@json_kind()
def texts() -> bytes:
    return numbered(b'"%d"', MAX_JSON_VALUES - 10)


@json_kind()
def texts_60mb() -> bytes:
    return filled(b'"' + b"x" * 1000 + b'",', LARGEST)


@json_kind()
def texts_with_escapes_60mb() -> bytes:
    return filled(b'"' + rb"\n\"" * 250 + b'",', LARGEST)


@json_kind()
def texts_of_commas_60mb() -> bytes:
    return filled(b'"' + b"," * 1000 + b'",', LARGEST)


@json_kind()
def surrogates_60mb() -> bytes:
    return filled(b'"' + rb"\ud83d\ude00" * 80 + b'",', LARGEST)


@json_kind()
def lone_surrogate() -> bytes:
    return filled(b'"' + rb"\ud83d\ude00" * 80 + b'",', LARGEST, end=rb'"\ud83d"]')


@json_kind()
def one_text_60mb() -> bytes:
    return b'"' + b"x" * (LARGEST - 2) + b'"'


@json_kind()
def one_text_of_escapes_60mb() -> bytes:
    return b'["' + rb"\n" * (30 << 20) + b'",1]'


@json_kind()
def one_text_of_quotes_60mb() -> bytes:
    return b'["' + rb"\"," * (20 << 20) + b'",1]'


@json_kind()
def one_text_of_surrogates_60mb() -> bytes:
    return b'["' + rb"\ud83d\ude00" * (5 << 20) + b'",1]'


@json_kind()
def text_widened() -> bytes:
    return b'["' + b"x" * (40 << 20) + "\U0001f600".encode() + b'",1]'


@json_kind()
def text_widened_at_limit() -> bytes:
    return b'["' + b"x" * (19 << 20) + rb"\n" + "\U0001f600".encode() + b'",1]'


@json_kind()
def text_not_yet_long() -> bytes:
    return b'["' + rb"\n" * ((1 << 20) - (1 << 17)) + "\U0001f600".encode() + b'",1]'


@json_kind()
def texts_not_yet_long_60mb() -> bytes:
    return filled(b'"' + rb"\n" * (900 << 10) + b'",', LARGEST)


@json_kind()
def texts_of_2mb() -> bytes:
    return filled(b'"' + rb"\u00e9" * (400 << 10) + b'",', LARGEST)


@json_kind()
def malformed_at_the_end() -> bytes:
    return at_limit(b'{"a":0},', 6, end=b"0")


@json_kind()
def inline_lists() -> bytes:
    return filled(b"[],", 32 << 10)


@json_kind()
def inline_numbers() -> bytes:
    return filled(b"0,", 32 << 10)


@json_kind()
def small_floats_60mb() -> bytes:
    return filled(b"%.290e," % 2.2250738585072011e-308, LARGEST)


def frame_of_lists() -> bytes:
    """PARQUET of a column of lists, which are objects in pandas."""
    import pandas

    return encode(pandas.DataFrame({"a": [[index] for index in range(300_000)]})).data


KINDS["frame_of_lists"] = DataType.PARQUET, frame_of_lists, None


def of_string(unit: str, size: int, end: str = "") -> Kind:
    """A STRING of so many bytes."""
    data = unit.encode()
    return DataType.STRING, lambda: data * ((size - 4) // len(data)) + end.encode(), None


KINDS |= {
    "string": of_string("x", LARGEST),
    "string_latin": of_string("é", LARGEST),
    "string_chinese": of_string("中", LARGEST),
    "string_emoji": of_string("\U0001f600", LARGEST),
    "string_widened": of_string("x", LARGEST, "\U0001f600"),
    "string_widened_at_limit": of_string("x", 19 << 20, "\U0001f600"),
    "string_malformed": (DataType.STRING, lambda: b"x" * (LARGEST - 1) + b"\xff", None),
    "string_inline": of_string("x", 256 << 10, "\U0001f600"),
}
