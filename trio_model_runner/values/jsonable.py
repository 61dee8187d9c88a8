"""What can go into JSON, and the JSON of it.

`json.dumps` is fast, and careless in three ways that cost a coordinator an evening: it turns the keys 1,
True and None into text without a word, so that a model looks up ``d[1]`` in vain; it lets lone surrogates
through to where UTF-8 fails on them; and its errors don't say where in a payload the trouble is. Walking
every value in Python would cure all three and cost more than the encoding. So the C encoder does the work,
a check of the keys runs beside it at nearly C speed (leaves are never visited one by one), and only after
a failure is the value walked to find the place.

What goes in, besides what JSON has: tuples and mappings (as arrays and objects), attrs and dataclass
instances (as objects of all their fields, under the fields' names), enums (as their values) and numbers
that are not Python's own, such as numpy's scalars. NaN and the infinities go in as deployed nodes (release
0.4.2) read and write them: ``NaN``, ``Infinity``, ``-Infinity``. Keys must be `str`. Nothing that JSON
would lose or bend is converted behind the caller's back: no dates, no decimals, no sets, no bytes, no
arrays.
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
import sys
from collections.abc import Mapping
from typing import Any

import attrs

from .frames import is_frame
from .refusal import Refusal

__all__ = ["as_number", "require_utf8", "to_json", "to_plain"]

_LEAVES = frozenset({type(None), bool, int, float, str})
_LONGEST_KEY_SHOWN = 40


def to_json(value: Any) -> bytes:
    """Write `value` as compact JSON in UTF-8.

    Raises:
        Refusal: JSON can't express it; the path says where it sits.
    """
    try:
        _require_text_keys(value)
        return _ENCODER.encode(value).encode("utf-8")
    except (Refusal, TypeError, ValueError, RecursionError) as error:
        try:
            _explain(value, "", set())
        except RecursionError:
            raise Refusal(ValueError, "it is nested too deeply to be sent as JSON") from None
        if isinstance(error, RecursionError):
            raise Refusal(ValueError, "it is nested too deeply to be sent as JSON") from None
        raise


def to_plain(value: Any) -> Any:
    """Copy `value` into what JSON gives back for it: dicts, lists, text, numbers, booleans, None.

    Raises:
        Refusal: JSON can't express it.
    """
    try:
        return json.loads(to_json(value))
    except RecursionError:
        raise Refusal(ValueError, "it is nested too deeply for JSON") from None


def as_number(value: Any) -> bool | int | float | None:
    """Return the Python number that `value` holds, or None if it is no number.

    Exact for whole numbers; other reals become the nearest float. `fractions.Fraction` and
    `decimal.Decimal` are not taken, since a float would round them, and neither is numpy's
    ``timedelta64``, which claims to be a number.
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
    numpy = sys.modules.get("numpy")  # not imported: then nothing is numpy's
    if numpy is not None and isinstance(value, numpy.bool_):
        return bool(value)
    return None


def require_utf8(text: str, path: str = "", what: str = "it") -> None:
    """Refuse text that UTF-8 can't carry.

    Raises:
        Refusal: there is a lone surrogate in it.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        reason = f"{what} has a lone surrogate at index {error.start}, which UTF-8 can't carry"
        raise Refusal(ValueError, reason, path) from None


def _replace(value: Any) -> Any:
    """Stand in for `value`, which `json` does not know, by something that it does."""
    replacement = _open(value, "")
    _require_text_keys(replacement)
    return replacement


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_replace)


def _open(value: Any, path: str) -> Any:
    """Return what `value` holds, one layer of it."""
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
        raise Refusal(TypeError, f"{kind.__name__} can't be sent as JSON{_advice(value)}", path)
    return number


_ADVICE: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((bytes, bytearray, memoryview), "send text, such as base64"),
    ((datetime.date, datetime.time), "send its .isoformat(), or a .timestamp()"),
    (datetime.timedelta, "send its .total_seconds()"),
    ((decimal.Decimal, fractions.Fraction), "a float would round it: send float(...) or str(...) yourself"),
    ((set, frozenset), "it has no order: send a sorted list"),
)


def _advice(value: Any) -> str:
    for kinds, advice in _ADVICE:
        if isinstance(value, kinds):
            return f" ({advice})"
    if hasattr(type(value), "tolist"):
        return " (send its .tolist())"
    return " (a data frame can only be an argument of its own)" if is_frame(value) else ""


def _require_text_keys(value: Any) -> None:
    """Refuse keys that are no text, without a path.

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
    """Raise the `Refusal` that says where in `value` the first thing is that JSON can't express.

    Args:
        value: what to look through.
        path: where it is itself.
        inside: the ids of the containers that it is in.
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
            _explain(item, path + _step(key), inside)
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


def _step(key: str) -> str:
    if len(key) > _LONGEST_KEY_SHOWN:
        return f"[{key[:_LONGEST_KEY_SHOWN]!r}...]"
    return f".{key}" if key.isidentifier() else f"[{key!r}]"
