r"""Any value, as JSON that every reader takes: for what `to_dict` gives to web pages, logs and files.

`jsonable` writes what is sent to a model, so it refuses what a model would not see as it was meant. Here
nothing is refused, since a result must be told whatever is in it. What JSON lacks becomes the next best:

- NaN and the infinities, and what stands for a missing value (pandas' NA and NaT), are None;
- tuples, sets, arrays and columns are lists, and sets are sorted if that is possible;
- attrs and dataclass instances and pydantic models are objects, enums are their values;
- dates and times are text in ISO 8601, a `timedelta` is its seconds;
- `Decimal`, `Fraction`, `UUID`, paths and addresses are text;
- bytes are text in base64, as in the JSON of Protocol Buffers;
- a data frame is an object with its ``shape`` and the names and types of its first 100 ``columns``: its
  content may be large, and has a form of its own (``value.to_pylist()``);
- keys are text as Python's `json` writes them. A mapping with other keys, or with keys of the same text, is a
  list of pairs;
- lone surrogates are written out (``\ud83d``), since UTF-8 can't carry them;
- whole numbers that fit into 64 bits neither with a sign nor without one are the nearest float, or None
  beyond a float's range: common encoders refuse them, and many readers take them so;
- anything else is None: other objects, and what is nested deeper than 200 levels or holds itself. (Encoders
  of web services end at 254 levels, and a handler may put a result into something else.)

What is returned has nothing in common with the value that was given. Values are visited by a loop and not by
recursion: how deep the stack is must make no difference. This module must not know of results.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import json
import math
import operator
import pathlib
import uuid
from collections import UserString, deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, Final, TypeAlias

import attrs

from .encoded import Encoded
from .jsonable import as_number

__all__ = ["strict_json"]

Json: TypeAlias = Any
"""None, a boolean, a number, text; a list of these, or a dict of them with text keys."""

_Place: TypeAlias = tuple[Any, Any, Any]
"""A list or dict that was made, the position or key in it, and the value that is to be told there."""

_MOST_LEVELS: Final = 200

_MOST_COLUMNS: Final = 100
_LONGEST_NAME: Final = 100  # characters of a column's name, and of its type

_MISSING: Final = frozenset({"NAType", "NaTType", "MaskedConstant"})
"""The names of the types of what stands for a missing value, in pandas and numpy."""

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1

_FEW: Final = 8
"""With fewer items it does not pay to look whether all are of one type."""

_TEXTUAL: Final = (fractions.Fraction, pathlib.PurePath, UserString, uuid.UUID)
_TEXTUAL_ELSEWHERE: Final = frozenset({"IPv4Address", "IPv6Address", "Period", "Interval"})
"""The names of the types of modules that are not imported here."""


@attrs.define
class _Instead:
    """What a value is told as: an enum's value, the fields of a model, what a frame is."""

    value: Any


@attrs.define
class _Object:
    """The keys of an object, as text, and its values, which are not told yet."""

    keys: Sequence[str]
    values: Sequence[Any]


_Contents: TypeAlias = _Instead | _Object | Sequence[Any] | None
"""What a value holds: an object's, or items in a row; None if it holds nothing."""


def strict_json(value: object) -> Json:
    """Make a copy of `value` that `json.dumps(..., allow_nan=False)` takes, as this module says.

    Never raises, whatever the value's own code does.
    """
    told: list[Json] = [None]
    inside: set[int] = set()  # the ids of the containers around a value
    left: list[tuple[Any, Iterator[_Place]]] = [(inside, iter([(told, 0, value)]))]
    while left:
        container, places = left[-1]
        for made, place, held in places:
            if id(held) in inside or len(inside) >= _MOST_LEVELS:
                continue
            held_places = _tell(made, place, held)
            if held_places is not None:
                inside.add(id(held))
                left.append((held, held_places))
                break
        else:
            left.pop()
            inside.discard(id(container))
    return told[0]


def _tell(made: Any, place: Any, value: Any) -> Iterator[_Place] | None:
    """Tell a value at its place, where None is so far; return the places in it where more is to be told."""
    kind: Any = type(value)
    try:
        if leaf := _LEAVES.get(kind):
            made[place] = leaf(value)
            return None
        contents = _contents_of(kind)(value)
        if contents is None:
            made[place] = _leaf(value)
            return None
    except Exception:  # a class may do anything when it is looked at
        return None
    if isinstance(contents, _Instead):
        return iter([(made, place, contents.value)])
    if isinstance(contents, _Object):
        row, waiting = _row(contents.values)
        told = made[place] = dict(zip(contents.keys, row, strict=True))
        return _places(told, waiting, contents.keys, contents.values) if waiting else None
    made[place], waiting = _row(contents)
    return _places(made[place], waiting, range(len(contents)), contents) if waiting else None


def _places(made: Any, waiting: Sequence[int], keys: Sequence[Any], held: Sequence[Any]) -> Iterator[_Place]:
    return ((made, keys[index], held[index]) for index in waiting)


def _row(items: Sequence[Any]) -> tuple[list[Json], Sequence[int]]:
    """Tell items in a row, as far as they hold no others; and say where those are that do, now None."""
    if len(items) >= _FEW and len(kinds := set(map(type, items))) == 1:
        leaf = _LEAVES.get(kinds.pop())
        if leaf is not None:
            with contextlib.suppress(Exception):  # one of them fails: it is found below
                return list(map(leaf, items)), ()
    told: list[Json] = []
    waiting: list[int] = []
    for item in items:
        leaf = _LEAVES.get(type(item))
        if leaf is None:
            waiting.append(len(told))
            told.append(None)
            continue
        try:
            told.append(leaf(item))
        except Exception:  # a time zone's, say
            told.append(None)
    return told, waiting


def _same(value: Any) -> Any:
    return value


def _text(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _whole(number: int) -> int | float | None:
    if _SMALLEST <= number <= _LARGEST:
        return number
    try:
        return float(number)
    except OverflowError:
        return None


def _real(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _base64(data: Any) -> str:
    return base64.b64encode(data).decode()


def _decimal(number: decimal.Decimal) -> str | None:
    return str(number) if number.is_finite() else None


_LEAVES: Final[Mapping[type, Callable[[Any], Json]]] = {
    type(None): _same,
    bool: _same,
    str: _text,
    int: _whole,
    float: _real,
    bytes: _base64,
    datetime.date: datetime.date.isoformat,
    datetime.datetime: datetime.datetime.isoformat,
    datetime.time: datetime.time.isoformat,
    datetime.timedelta: datetime.timedelta.total_seconds,
    decimal.Decimal: _decimal,
    uuid.UUID: uuid.UUID.__str__,
}
"""The functions for values of exactly these types, which hold no others."""


@functools.lru_cache(maxsize=1024)
def _contents_of(kind: Any) -> Callable[[Any], _Contents]:
    """The function that says what a value of this type holds."""
    is_enum = issubclass(kind, enum.Enum)
    if kind is dict:
        return _of_dict
    if issubclass(kind, Mapping):
        return lambda value: _of_pairs([(key, held) for key, held in value.items()])
    if issubclass(kind, (list, tuple, deque, range)) and not is_enum:
        return _same if kind in (list, tuple) else list
    if issubclass(kind, Set):
        return _in_order
    return (lambda value: _Instead(value.value)) if is_enum else _contents_of_instances(kind)


def _contents_of_instances(kind: Any) -> Callable[[Any], _Contents]:
    if issubclass(kind, Encoded):
        return lambda value: _Object(("data_type", "data"), (value.data_type.name, value.data))
    if (names := _field_names(kind)) is not None:
        return _of_fields(names)
    if hasattr(kind, "model_dump"):
        return lambda value: _Instead(value.model_dump())
    if hasattr(kind, "columns") or hasattr(kind, "schema"):
        return lambda value: _Instead(_description(value))
    return _column


def _of_dict(value: dict[Any, Any]) -> _Contents:
    if set(map(type, value)) <= {str} and all(map(str.isascii, value)):
        return _Object(list(value), list(value.values()))
    return _of_pairs(list(value.items()))


def _of_pairs(pairs: Sequence[tuple[Any, Any]]) -> _Contents:
    """An object, or the pairs themselves if their keys can't be an object's."""
    keys = [_key(key) for key, _ in pairs]
    if None in keys or len(set(keys)) < len(keys):
        return pairs
    return _Object([key for key in keys if key is not None], [held for _, held in pairs])


def _field_names(kind: type) -> list[str] | None:
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None


def _of_fields(names: Sequence[str]) -> Callable[[Any], _Contents]:
    if len(names) < 2:
        return lambda value: _Object(names, [getattr(value, name) for name in names])
    get = operator.attrgetter(*names)
    return lambda value: _Object(names, get(value))


def _in_order(items: Set[Any]) -> Sequence[Any]:
    try:
        return sorted(items)
    except TypeError:
        return list(items)


def _column(value: Any) -> Sequence[Any] | None:
    """What is in an array, or in a column of a data frame; None if it is none of these."""
    if isinstance(value, memoryview) or not getattr(value, "shape", (1,)):  # a single number of numpy's
        return None
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") in ("m", "M"):  # times, of which `tolist` would make whole numbers
        return list(value)
    to_list = getattr(value, "tolist", None) or getattr(value, "to_pylist", None)
    to_list = to_list or getattr(value, "to_list", None)
    return None if to_list is None else list(to_list())


def _description(frame: Any) -> dict[str, Any]:
    """What a data frame is, without its content."""
    if hasattr(frame, "num_rows"):  # pyarrow's
        rows, names, kinds = frame.num_rows, frame.schema.names, frame.schema.types
    else:
        rows, names, kinds = frame.shape[0], list(frame.columns), list(frame.dtypes)
    columns = [
        {"name": str(name)[:_LONGEST_NAME], "type": str(kind)[:_LONGEST_NAME]}
        for name, kind in zip(names[:_MOST_COLUMNS], kinds, strict=False)
    ]
    return {"shape": [rows, len(names)], "columns": columns}


def _key(key: Any) -> str | None:
    """The text of a key; None if it has none."""
    try:
        if write := _KEYS.get(type(key)):
            return write(key)
        if isinstance(key, enum.Enum):
            return _key(key.value)
        number = as_number(key)
        told = json.dumps(number) if number is not None else _leaf(key)
    except Exception:
        return None
    return told if told is None or isinstance(told, str) else json.dumps(told)


def _key_of_float(key: float) -> str:
    return float.__repr__(key) if math.isfinite(key) else json.dumps(key)


_KEYS: Final[Mapping[type, Callable[[Any], str]]] = {
    type(None): json.dumps,
    bool: json.dumps,
    str: _text,
    int: int.__repr__,
    float: _key_of_float,
    datetime.date: datetime.date.isoformat,
    datetime.datetime: datetime.datetime.isoformat,
    uuid.UUID: uuid.UUID.__str__,
}
"""The functions for keys of exactly these types."""


def _leaf(value: Any) -> Json:
    """Convert a value that holds no others."""
    if value is None:
        return None
    if isinstance(value, str):
        return _text(str.__str__(value))
    number = as_number(value)
    if number is not None:
        return _number(number)
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, (datetime.date, datetime.time)):
        return str(value.isoformat())
    if isinstance(value, datetime.timedelta):
        return _number(value.total_seconds())
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _base64(value)
    if isinstance(value, _TEXTUAL) or type(value).__name__ in _TEXTUAL_ELSEWHERE:
        return _leaf(str(value))
    return _of_numpy(value)


def _number(number: float) -> Json:
    if isinstance(number, bool):
        return bool(number)
    return _whole(int.__pos__(number)) if isinstance(number, int) else _real(float.__pos__(number))


def _of_numpy(value: Any) -> Json:
    """Convert a time of numpy's, or an array that is one number; anything else is None."""
    kind = type(value)
    if kind.__module__ != "numpy":
        return None
    if kind.__name__ == "ndarray":
        return _leaf(value[()])
    if kind.__name__ not in ("datetime64", "timedelta64") or value != value:
        return None
    return str(value) if kind.__name__ == "datetime64" else float(value / kind(1, "s"))
