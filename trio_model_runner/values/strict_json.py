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
- anything else is None: other objects, what is nested deeper than 256 levels or holds itself, and whole
  numbers of more digits than Python writes (4,300).

What is returned has nothing in common with the value that was given. This module must not know of results.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
from collections import UserString, deque
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, TypeAlias

import attrs

from .encoded import Encoded
from .json_structure import MAX_DEPTH
from .jsonable import as_number

__all__ = ["strict_json"]

Json: TypeAlias = Any
"""None, a boolean, a number, text; a list of these, or a dict of them with text keys."""

_MOST_COLUMNS: Final = 100
_LONGEST_NAME: Final = 100  # characters of a column's name, and of its type

_MISSING: Final = frozenset({"NAType", "NaTType", "MaskedConstant"})
"""The names of the types of what stands for a missing value, in pandas and numpy."""

_COMMON: Final = 2**63  # larger numbers may have too many digits

_TEXTUAL: Final = (fractions.Fraction, pathlib.PurePath, UserString)
_TEXTUAL_ELSEWHERE: Final = frozenset({"UUID", "IPv4Address", "IPv6Address", "Period", "Interval"})
"""The names of the types of modules that are not imported here."""


@attrs.frozen
class _Instead:
    """What a value is told as: an enum's value, the fields of a model, what a frame is."""

    value: Any


@attrs.frozen
class _Pairs:
    """The keys and values of a mapping, which are not converted yet."""

    pairs: Sequence[tuple[Any, Any]]


def strict_json(value: object) -> Json:
    """Make a copy of `value` that `json.dumps(..., allow_nan=False)` takes, as this module says.

    Never raises, whatever the value's own code does.
    """
    return _convert(value, set())


def _convert(value: Any, inside: set[int]) -> Json:
    """Convert a value. The ids of the containers around it are in `inside`."""
    kind = type(value)
    if value is None or kind is bool or (kind is str and value.isascii()):
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is int and -_COMMON < value < _COMMON:
        return value
    if id(value) in inside or len(inside) > MAX_DEPTH:
        return None
    try:
        contents = _contents(value)
        if contents is None:
            return _leaf(value)
    except Exception:  # a class may do anything when it is looked at
        return None
    inside.add(id(value))
    if isinstance(contents, _Instead):
        converted = _convert(contents.value, inside)
    elif isinstance(contents, _Pairs):
        converted = _object(contents.pairs, inside)
    else:
        converted = [_convert(each, inside) for each in contents]
    inside.discard(id(value))
    return converted


def _contents(value: Any) -> _Instead | _Pairs | Sequence[Any] | None:
    """What a value holds: pairs, or items in a row; None if it holds nothing."""
    if isinstance(value, Mapping):
        return _Pairs(list(value.items()))
    if isinstance(value, (list, tuple, deque, range)) and not isinstance(value, enum.Enum):
        return list(value)
    if isinstance(value, Set):
        return _in_order(value)
    kind = type(value)
    if isinstance(value, enum.Enum):
        return _Instead(value.value)
    if isinstance(value, Encoded):
        return _Pairs([("data_type", value.data_type.name), ("data", value.data)])
    if (names := _field_names(kind)) is not None:
        return _Pairs([(name, getattr(value, name)) for name in names])
    if hasattr(kind, "model_dump"):
        return _Instead(value.model_dump())
    if hasattr(kind, "columns") or hasattr(kind, "schema"):
        return _Instead(_description(value))
    return _column(value)


def _field_names(kind: type) -> list[str] | None:
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None


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


def _object(pairs: Sequence[tuple[Any, Any]], inside: set[int]) -> Json:
    keys = [_key(key) for key, _ in pairs]
    if None in keys or len(set(keys)) < len(keys):
        return [[_convert(key, inside), _convert(value, inside)] for key, value in pairs]
    return {key: _convert(value, inside) for key, (_, value) in zip(keys, pairs, strict=True)}


def _key(key: Any) -> str | None:
    """The text of a key; None if it has none."""
    if type(key) is str and key.isascii():
        return key
    try:
        if isinstance(key, enum.Enum):
            return _key(key.value)
        if isinstance(key, float) and not math.isfinite(key):
            return json.dumps(float(key))
        plain = _leaf(key)
    except Exception:
        return None
    if plain is None and key is not None:
        return None
    return plain if isinstance(plain, str) else json.dumps(plain)


def _leaf(value: Any) -> Json:
    """Convert a value that holds no others."""
    if value is None:
        return None
    if isinstance(value, str):
        return str.encode(value, "utf-8", "backslashreplace").decode()
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
        return str(value) if value.is_finite() else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, _TEXTUAL) or type(value).__name__ in _TEXTUAL_ELSEWHERE:
        return _leaf(str(value))
    return _of_numpy(value)


def _number(number: float) -> Json:
    if isinstance(number, bool):
        return bool(number)
    if isinstance(number, int):
        int.__repr__(number)  # raises where there are too many digits
        return int.__pos__(number)
    return float.__pos__(number) if math.isfinite(number) else None


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
