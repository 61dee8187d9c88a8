"""What a single value of an answer must be, so that it is taken as a `float`, an `int`, a member of an enum.

Here are hooks for `cattrs`. A hook takes the value and the type, and returns the value or raises a
`MisfitError`. `structuring` says why the hooks are strict, and checks values that hold other values.
"""

from __future__ import annotations

import datetime
import functools
import operator
import types
import typing
from collections.abc import Callable, Sequence
from enum import Enum, Flag
from typing import Any, Final, TypeAlias

__all__ = ["PRIMITIVES", "Hook", "MisfitError", "choice", "name_of", "wrong"]

Hook: TypeAlias = Callable[[Any, Any], Any]


_LONGEST_QUOTED: Final = 1000
"""Python's own errors quote the whole value. For a text of 60 MB that would take a tenth of a second."""


_MOST_FLAGS: Final = 16
"""With so many flags, all combinations of them take 25 MB."""


class MisfitError(ValueError):
    """A value is not what it must be. The text has the types, never the value."""


def _float(value: Any, kind: Any) -> Any:
    if type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise MisfitError("must be float, got an int too large for one") from None
    if type(value) is not float:
        raise wrong(kind, value)
    return value if kind is float else _special(value, kind)


def _int(value: Any, kind: Any) -> Any:
    if type(value) is not int:
        raise wrong(kind, value)
    return value if kind is int else _special(value, kind)


def _str(value: Any, kind: Any) -> Any:
    if type(value) is not str:
        raise wrong(kind, value)
    return value if kind is str else _special(value, kind)


def _bool(value: Any, kind: Any) -> Any:
    if type(value) is bool or (type(value) is int and value in (0, 1)):
        return bool(value)
    raise wrong(kind, value)


def _date(value: Any, kind: Any) -> Any:
    if type(value) is not str:
        raise wrong(kind, value)
    try:
        if len(value) > _LONGEST_QUOTED:
            raise ValueError
        return kind.fromisoformat(value)
    except ValueError:
        raise MisfitError(f"must be a {kind.__name__} in ISO 8601") from None


def _nothing(value: Any, kind: Any) -> Any:
    if value is not None:
        raise wrong(kind, value)


def _never(value: Any, kind: Any) -> Any:
    raise wrong(kind, value)


def _special(value: Any, kind: Any) -> Any:
    """Make a `kind`, which is a class of the coordinator's own or an enum, from a value of its base class."""
    return _member(value, kind) if issubclass(kind, Enum) else kind(value)


def _member(value: Any, kind: Any) -> Any:
    """Return the member of an enum that has this value."""
    if issubclass(kind, Flag):
        return _flags(value, kind)
    try:
        if isinstance(value, (list, dict)) or (type(value) is str and len(value) > _LONGEST_QUOTED):
            return next(each for each in kind if each.value == value)
        return kind(value)
    except (ValueError, StopIteration):
        values = [each.value for each in kind]
        raise MisfitError(f"must be one of {_listed(values)}") from None


def _flags(value: Any, kind: Any) -> Any:
    """Return the flags that have this value, together.

    Python keeps each combination that it has made, for ever. So it makes none where there could be too many,
    nor any of bits that no member has.
    """
    if type(value) is not int:
        raise wrong(kind, value)
    bits = functools.reduce(operator.or_, (each.value for each in kind.__members__.values()), 0)
    if value >= 0 and not value & ~bits and (bits.bit_count() <= _MOST_FLAGS or value in _values_of(kind)):
        return kind(value)
    raise MisfitError(f"must be made of the flags {_listed([each.value for each in kind])}")


def _values_of(kind: Any) -> set[int]:
    return {each.value for each in kind.__members__.values()}


PRIMITIVES: dict[type, Hook] = {
    float: _float,
    int: _int,
    str: _str,
    bool: _bool,
    bytes: _never,
    types.NoneType: _nothing,
    datetime.datetime: _date,
    datetime.date: _date,
    datetime.time: _date,
    Enum: _member,
}
"""The hooks by class. A class of the coordinator's own has the hook of its base class."""


def choice(kind: Any) -> Hook:
    """Make the hook for a ``Literal[...]``. True may come as 1, and a member of an enum as its value."""
    choices = [(each.value if isinstance(each, Enum) else each, each) for each in kind.__args__]

    def choose(value: Any, _: Any) -> Any:
        for plain, each in choices:
            if plain == value and (type(plain) is type(value) or type(plain) is bool):
                return each
        raise MisfitError(f"must be one of {_listed([plain for plain, _ in choices])}")

    return choose


def wrong(kind: Any, value: Any) -> MisfitError:
    """Make the error for a value that is not of the type `kind`."""
    return MisfitError(f"must be {name_of(kind)}, got {type(value).__name__}")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(repr, values))


def name_of(kind: Any) -> str:
    """Name a type as it is written."""
    if kind is types.NoneType:
        return "None"
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
