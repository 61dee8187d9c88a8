"""Keys of an answer's objects, turned back into what the model had.

JSON's keys are text. A model's dict may have others: Python's `json` writes the keys 300, 1.5, True and None
as "300", "1.5", "true" and "null". It refuses all others that are no text, so a date is a key as the model
wrote it. A key is turned back only if it is exactly what `json` would have written: "03", "3.0",
" 3" and "1_000" are no `int`.

What a key means must be certain. So unions are taken only if no text could be a key of two of their members,
and enums and literals if no two members have the same text.

This module must not know of values, nor of objects: `structuring` builds them.
"""

from __future__ import annotations

import datetime
import math
import re
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from enum import Enum, Flag
from typing import Any, Final, Literal, TypeAlias

from .kinds import plain
from .strict import PRIMITIVES, MisfitError, UnsupportedTypeError, listed, name_of

__all__ = ["ReadKey", "read_key_as"]

ReadKey: TypeAlias = Callable[[str], Any]
"""Takes the text and returns the key, or raises `MisfitError`."""

_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]*")
_LONGEST_WHOLE: Final = 20  # characters
_LARGEST: Final = 2**63
"""Whole numbers have 64 bits at most, signed, as they have on the wire by themselves."""

_LONGEST_FLOAT: Final = 24
"""The characters of a float that Python writes: ``-2.2250738585072014e-308``."""

_NO_NUMBERS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_WRITTEN_BY_MODELS: Final = (datetime.date, datetime.time, uuid.UUID)  # a datetime is a date

_POSSIBLE: Final = "keys may be str, int, float, bool, None, dates, times, UUIDs, enums, Literal[...]"


def read_key_as(kind: Any) -> ReadKey | None:
    """Make the function that turns the text of a key into a `kind`; None if the key stays text.

    Raises:
        UnsupportedTypeError: no key can become a `kind`, or not with certainty.
    """
    kind = plain(kind)
    if kind in (str, Any, object):
        return None
    table = _texts_of(kind)
    if table is not None:
        return _one_of(table)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _union(kind)
    if kind is float:
        return _float
    if isinstance(kind, type) and issubclass(kind, int) and not issubclass(kind, Enum):
        return _int if kind is int else lambda text: kind(_int(text))
    if isinstance(kind, type) and issubclass(kind, Flag):
        return lambda text: PRIMITIVES[Enum](_int(text), kind)
    if isinstance(kind, type) and issubclass(kind, float):
        return lambda text: kind(_float(text))
    if isinstance(kind, type) and issubclass(kind, (str, *_WRITTEN_BY_MODELS)):
        return _as_a_value(kind)
    raise UnsupportedTypeError(f"a key can't be made a {name_of(kind)}: {_POSSIBLE}; give a function instead")


def _int(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise MisfitError("must be int")
    if not _is_of_64_bits(text):
        raise MisfitError("must be int of 64 bits at most")
    return int(text)


def _is_of_64_bits(text: str) -> bool:
    return len(text) <= _LONGEST_WHOLE and -_LARGEST <= int(text) < _LARGEST


def _float(text: str) -> float:
    """A float as `json` writes it, or a whole number, as everywhere where a float is wanted."""
    if len(text) <= _LONGEST_FLOAT:
        if _WHOLE.fullmatch(text) and _is_of_64_bits(text):
            return float(text)
        if text in _NO_NUMBERS:
            return _NO_NUMBERS[text]
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number) and float.__repr__(number) == text:
            return number
    raise MisfitError("must be float")


def _as_a_value(kind: Any) -> ReadKey:
    """Read a key as a value that is the same text."""
    hook = next(PRIMITIVES[each] for each in kind.__mro__ if each in PRIMITIVES)
    return lambda text: hook(text, kind)


def _texts_of(kind: Any) -> Mapping[str, Any] | None:
    """All keys that there can be, by their texts; None if they are not a known few.

    Raises:
        UnsupportedTypeError: two have the same text, or one can't be a key.
    """
    if kind is bool:
        return {"true": True, "false": False}
    if kind is types.NoneType:
        return {"null": None}
    if typing.get_origin(kind) is Literal:
        choices = [(each.value if isinstance(each, Enum) else each, each) for each in kind.__args__]
    elif isinstance(kind, type) and issubclass(kind, Enum) and not issubclass(kind, Flag):
        choices = [(each.value, each) for each in kind]
    else:
        return None
    if not choices:
        raise UnsupportedTypeError(f"{name_of(kind)} has no members")
    texts: dict[str, Any] = {}
    for value, each in choices:
        text = _text_of(value)
        if text is None:
            name = type(value).__name__
            raise UnsupportedTypeError(f"{each!r} of {name_of(kind)} can't be a key, since it is a {name}")
        if text in texts:
            raise UnsupportedTypeError(
                f"{texts[text]!r} and {each!r} of {name_of(kind)} would be the same key"
            )
        texts[text] = each
    return texts


def _text_of(value: Any) -> str | None:
    """What `json` makes of a key; None if it can't be one."""
    if isinstance(value, str):
        return str.__str__(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if not isinstance(value, float):
        return None
    if math.isfinite(value):
        return float.__repr__(value)
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _one_of(table: Mapping[str, Any]) -> ReadKey:
    def read(text: str) -> Any:
        try:
            return table[text]
        except KeyError:
            raise MisfitError(f"must be one of {listed(list(table))}") from None

    return read


def _union(kind: Any) -> ReadKey:
    """Make the function for a union: of a few known keys, and of one type with more.

    Raises:
        UnsupportedTypeError: a text could be a key of two members.
    """
    members = {plain(member): None for member in typing.get_args(kind)}
    tables = {member: _texts_of(member) for member in members}
    more = [member for member, table in tables.items() if table is None]
    known: dict[str, Any] = {}
    for table in filter(None, tables.values()):
        if both := known.keys() & table.keys():
            raise _ambiguous(kind, min(both))
        known.update(table)
    read = _read_more(kind, more)
    for text in known:
        if _takes(read, text):
            raise _ambiguous(kind, text)
    expected = f"must be {' or '.join(map(name_of, members))}"

    def read_either(text: str) -> Any:
        if text in known:
            return known[text]
        try:
            return read(text)
        except MisfitError:
            raise MisfitError(expected) from None

    return read_either


def _read_more(kind: Any, more: list[Any]) -> ReadKey:
    """Make the function for those members of a union of which there can be more than a few keys."""
    if not more:
        return _one_of({})
    if set(more) == {int, float}:
        return _number
    if len(more) > 1:
        raise UnsupportedTypeError(f"a key of {name_of(kind)} could be either; give a function instead")
    return read_key_as(more[0]) or str


def _number(text: str) -> int | float:
    """An `int` where it is one, else a `float`."""
    return _int(text) if _WHOLE.fullmatch(text) else _float(text)


def _takes(read: ReadKey, text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _ambiguous(kind: Any, text: str) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"the key {text!r} of {name_of(kind)} could be either; give a function instead"
    )
