"""What can go into JSON, and the JSON of it. `json_reading` reads it back.

`json.dumps` is fast, but has three faults. It turns the keys 1, True and None into text without notice, so a
model looks for ``d[1]`` and does not find it. It accepts lone surrogates, which can't be encoded as UTF-8
later. And its errors don't say where in a payload the reason is. A walk through every value in Python would
help with all three, and would cost more than the encoding. So the C encoder does the work. A check of the
keys runs beside it at nearly C speed, and never visits leaves one by one. Only after a failure the value is
walked through to find the place.

Besides what JSON has, these go in: tuples and mappings (as arrays and objects), attrs and dataclass
instances (as objects of all their fields, under the fields' names), enums (as their values) and numbers
that are not Python's own, such as numpy's scalars. NaN and the infinities go in as deployed nodes (release
0.4.2) read and write them: ``NaN``, ``Infinity``, ``-Infinity``. Keys must be `str`. What JSON would change
is refused, not converted: dates, decimals, sets, bytes, arrays.

Nesting is limited for writing and for reading, so that recursive programs can handle every value. Without a
limit, the depth that Python's JSON accepts would depend on its release and on the depth of the stack. Then
`copy.deepcopy` fails in the coordinator, or the node fails and the model seems to be at fault.

Python's JSON is one call into C, which no other thread can interrupt. For large values a worker thread would
not help: the event loop would stand still all the same. So large values are written in pieces.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import numbers
import operator
import pathlib
import sys
import types
from collections import UserString
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from ..text import as_step
from .effort import looks_large
from .frames.writing import is_frame
from .json_structure import MAX_DEPTH, is_deep
from .refusal import Refusal

__all__ = ["advice_on", "as_number", "require_utf8", "to_json"]

_LEAVES = frozenset({type(None), bool, int, float, str})
_PIECE_BYTES = 2**16  # takes 1 to 2 ms to write
_ITEMS_IN_PIECE = 256
_TOO_DEEP = f"it is nested too deeply to be sent as JSON: more than {MAX_DEPTH} levels"


def to_json(value: Any) -> bytes:
    """Write `value` as compact JSON in UTF-8.

    Raises:
        Refusal: JSON can't express the value; the path says where the reason is.
    """
    try:
        _require_text_keys(value)
        data = "".join(_pieces(value)).encode("utf-8")
    except (Refusal, TypeError, ValueError, RecursionError) as error:
        try:
            _explain(value, "", set())
        except RecursionError:
            raise Refusal(ValueError, _TOO_DEEP) from None
        if isinstance(error, RecursionError):
            raise Refusal(ValueError, _TOO_DEEP) from None
        raise
    if is_deep(data):
        raise Refusal(ValueError, _TOO_DEEP)
    return data


def as_number(value: Any) -> bool | int | float | None:
    """Return the Python number that `value` holds, or None if it is no number.

    Whole numbers are exact; other reals become the nearest float. `fractions.Fraction` and `decimal.Decimal`
    are not taken, since a float would round them. numpy's ``timedelta64`` claims to be a number, and is not
    taken either.
    """
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, numbers.Integral):
        try:
            return operator.index(value)
        except TypeError:
            return None
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational):
        return float(value)
    numpy = sys.modules.get("numpy")  # if it is not imported, no value is numpy's
    if numpy is not None and isinstance(value, numpy.bool_):
        return bool(value)
    return None


def require_utf8(text: str, path: str = "", what: str = "it") -> None:
    """Refuse text that UTF-8 can't encode.

    Raises:
        Refusal: the text has a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        reason = f"{what} has a lone surrogate at index {error.start}, which UTF-8 can't carry"
        raise Refusal(ValueError, reason, path) from None


def _replace(value: Any) -> Any:
    """Replace a value that `json` does not know by one that it knows."""
    replacement = _open(value, "")
    _require_text_keys(replacement)
    return replacement


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_replace)


def _pieces(value: Any, levels: int = 8) -> Iterator[str]:
    """Write `value` as JSON in pieces. They are small where `value` is made of large lists or dicts.

    Args:
        value: what to write.
        levels: how many levels of nesting are cut into pieces. There must be an end: a value may hold itself.
    """
    if not (levels and isinstance(value, (dict, list, tuple)) and looks_large(value, _PIECE_BYTES)):
        yield _ENCODER.encode(value)
    elif isinstance(value, dict):
        separator = "{"
        for key, item in value.items():
            yield f"{separator}{_ENCODER.encode(key)}:"
            yield from _pieces(item, levels - 1)
            separator = ","
        yield "}"
    else:
        separator = "["
        for begin in range(0, len(value), _ITEMS_IN_PIECE):
            part = value[begin : begin + _ITEMS_IN_PIECE]
            yield separator
            if looks_large(part, _PIECE_BYTES):
                yield from _with_commas(_pieces(item, levels - 1) for item in part)
            else:
                yield _ENCODER.encode(part)[1:-1]
            separator = ","
        yield "]"


def _with_commas(items: Iterable[Iterable[str]]) -> Iterator[str]:
    for index, item in enumerate(items):
        if index:
            yield ","
        yield from item


def _open(value: Any, path: str) -> Any:
    """Return what `value` holds, as something that JSON has. Values inside are not opened."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    names: list[str] | None = None
    if attrs.has(kind):
        names = [field.name for field in attrs.fields(kind)]
    elif dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    if names is not None:
        try:
            return {name: getattr(value, name) for name in names}
        except AttributeError:
            raise Refusal(TypeError, f"{kind.__name__} has a field without a value", path) from None
    number = as_number(value)
    if number is None:
        raise Refusal(TypeError, f"{kind.__name__} can't be sent as JSON{advice_on(value)}", path)
    return number


_TEXTUAL = "send its str(...)"
_ADVICE: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((bytes, bytearray, memoryview), "send text, such as base64"),
    (datetime.datetime, "send its .isoformat(), or a .timestamp()"),
    ((datetime.date, datetime.time), "send its .isoformat()"),
    (datetime.timedelta, "send its .total_seconds()"),
    ((decimal.Decimal, fractions.Fraction), "a float would round it: send float(...) or str(...) yourself"),
    ((set, frozenset), "it has no order: send a sorted list"),
    ((pathlib.PurePath, UserString), _TEXTUAL),
    (types.CoroutineType, "await it, and send what that gives"),
)
_MISSING = "it stands for a missing value: send None, or math.nan"
_ADVICE_BY_NAME = {
    "UUID": _TEXTUAL,
    "NAType": _MISSING,
    "NaTType": _MISSING,
    "MaskedConstant": _MISSING,
    "Period": _TEXTUAL,
    "Interval": _TEXTUAL,
    "LazyFrame": "send its .collect()",
    "datetime64": _TEXTUAL,
    "timedelta64": "send it divided by numpy.timedelta64(1, 's')",
}
"""By the type's name, for types of modules that are not imported here."""


def advice_on(value: object) -> str:
    """Say what a coordinator may send instead of `value`: a space and brackets, or "" if that is unknown."""
    kind = type(value)
    if (
        kind.__module__.partition(".")[0] in ("pandas", "numpy", "uuid", "polars")
        and kind.__name__ in _ADVICE_BY_NAME
    ):
        return f" ({_ADVICE_BY_NAME[kind.__name__]})"
    for kinds, advice in _ADVICE:
        if isinstance(value, kinds):
            return f" ({advice})"
    if kind.__name__ == "Arguments" and kind.__module__ == "trio_model_runner.values.data":
        return " (give its values themselves, or the Arguments as the only arguments of a call)"
    if hasattr(kind, "tolist"):
        return " (send its .tolist())"
    if is_frame(value):
        return " (a data frame can only be an argument of its own)"
    return " (send a list(...) of it)" if isinstance(value, Iterable) and not isinstance(value, type) else ""


def _require_text_keys(value: Any) -> None:
    """Refuse keys that are no text. The refusal has no path.

    The types of a container's items are collected in C. A container is entered only if something in it may
    have keys, so a list of a million floats costs one pass in C.
    """
    if isinstance(value, dict):
        for kind in set(map(type, value)):
            if not issubclass(kind, str):
                raise Refusal(TypeError, _text_keys_only(kind))
        items: Any = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    else:
        return
    if not _LEAVES.issuperset(map(type, items)):
        for item in items:
            _require_text_keys(item)


def _text_keys_only(kind: type) -> str:
    return f"a key is of type {kind.__name__}, and JSON has text keys only: send str keys"


def _explain(value: Any, path: str, inside: set[int]) -> None:
    """Find the first part of `value` that JSON can't express, and raise the `Refusal` with its path.

    Args:
        value: the value to look through.
        path: the path to `value` itself.
        inside: the ids of the containers around `value`.
    """
    if isinstance(value, str):
        return require_utf8(value, path)
    if isinstance(value, int):
        return _require_digits(value, path)
    if value is None or isinstance(value, float):
        return None
    if id(value) in inside:
        raise Refusal(ValueError, f"{type(value).__name__} holds itself, which JSON can't express", path)
    inside.add(id(value))
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise Refusal(TypeError, _text_keys_only(type(key)), path)
            require_utf8(key, path, "a key")
            _explain(item, path + as_step(key), inside)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _explain(item, f"{path}[{index}]", inside)
    else:
        _explain(_open(value, path), path, inside)
    inside.discard(id(value))
    return None


def _require_digits(value: int, path: str) -> None:
    try:
        int.__repr__(value)
    except ValueError as error:  # `sys.set_int_max_str_digits`
        raise Refusal(ValueError, f"the number is too long for JSON: {error}", path) from None
