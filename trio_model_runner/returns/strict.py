"""What a single value of an answer must be, so that it is taken as a `float`, an `int`, a member of an enum.

Here are hooks for `cattrs`. A hook takes the value and the type, and returns the value or raises a
`MisfitError`. `structuring` says why the hooks are strict, and checks values that hold other values.
"""

from __future__ import annotations

import datetime
import functools
import numbers
import operator
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, Flag
from typing import Any, Final, TypeAlias

__all__ = [
    "PRIMITIVES",
    "Hook",
    "MisfitError",
    "UnsupportedTypeError",
    "choice",
    "listed",
    "name_of",
    "require_members",
    "same",
    "wrong",
]

Hook: TypeAlias = Callable[[Any, Any], Any]


_LONGEST_QUOTED: Final = 1000
"""Python's own errors quote the whole value. For a text of 60 MB that would take a tenth of a second."""


_MOST_FLAGS: Final = 16
"""With so many flags, all combinations of them take 25 MB."""


_DAY: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_AFTER_HOUR: Final = r":[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?"
_ZONE: Final = r"(Z|[+-][0-9]{2}(:?[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?)?"

_ISO_8601: Final = (
    (datetime.datetime, re.compile(f"{_DAY}([T ][0-9]{{2}}({_AFTER_HOUR})?{_ZONE})?")),
    (datetime.date, re.compile(_DAY)),
    (datetime.time, re.compile(f"[0-9]{{2}}{_AFTER_HOUR}{_ZONE}")),
)
"""What is taken, with separators: for Python "20200101" would be a time as well."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class MisfitError(ValueError):
    """A value is not what it must be. The text has the types, never the value."""


class UnsupportedTypeError(TypeError):
    """The coordinator asks for a type that no answer can be turned into."""


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
        if not next(form for base, form in _ISO_8601 if issubclass(kind, base)).fullmatch(value):
            raise ValueError
        return kind.fromisoformat(value)
    except ValueError:
        raise MisfitError(f"must be a {kind.__name__} in ISO 8601") from None


def _uuid(value: Any, kind: Any) -> Any:
    if type(value) is not str:
        raise wrong(kind, value)
    if not _UUID.fullmatch(value):
        raise MisfitError(f"must be a {kind.__name__}, in 36 characters")
    return kind(value)


def _nothing(value: Any, kind: Any) -> Any:
    if value is not None:
        raise wrong(kind, value)


def _never(value: Any, kind: Any) -> Any:
    raise wrong(kind, value)


def _special(value: Any, kind: Any) -> Any:
    """Make a `kind`, which is a class of the coordinator's own or an enum, from a value of its base class."""
    if issubclass(kind, Enum):
        return _member(value, kind)
    try:
        return kind(value)
    except KeyError:  # for `cattrs` that is a field which is missing
        raise MisfitError(f"must be {name_of(kind)}") from None


def _member(value: Any, kind: Any) -> Any:
    """Return the member of an enum that has this value, of this type: True is not 1, and 1.0 is not.

    What no member has may still mean one to the enum's own `_missing_`.
    """
    if issubclass(kind, Flag):
        return _flags(value, kind)
    simple, others = _members(kind)
    if isinstance(value, (list, dict)):
        found = next((member for member in others if same(member.value, value)), None)
    else:
        found = simple.get(_form(value))
        if found is None and not (type(value) is str and len(value) > _LONGEST_QUOTED):
            found = _missing(value, kind)
    if found is None:
        raise MisfitError(f"must be one of {listed([each.value for each in kind])}")
    return found


def _missing(value: Any, kind: Any) -> Any:
    try:
        found = kind._missing_(value)
    except (ValueError, LookupError):  # it looked the value up, say
        return None
    return found if isinstance(found, kind) else None


@functools.lru_cache(maxsize=128)
def _members(kind: Any) -> tuple[dict[tuple[type, Any], Any], list[Any]]:
    """The members of an enum by type and value in JSON, and those whose values are lists or objects."""
    simple: dict[tuple[type, Any], Any] = {}
    others = []
    for member in kind:
        forms = list(_forms(member.value))
        simple.update(dict.fromkeys(forms, member))
        if not forms:
            others.append(member)
    return simple, others


def require_members(kind: Any) -> None:
    """Find out now whether an answer can be a member of an enum.

    Raises:
        UnsupportedTypeError: JSON has none of its members.
    """
    if issubclass(kind, Flag) or kind._missing_.__func__ is not Enum._missing_.__func__:  # type: ignore[attr-defined]
        return
    simple, others = _members(kind)
    if not simple and not any(isinstance(each.value, (list, tuple, Mapping)) for each in others):
        raise UnsupportedTypeError(f"{name_of(kind)} has no member whose value JSON has")


def _form(value: Any) -> tuple[type, Any]:
    """The type and the value of what JSON has as one. All NaN are the same here."""
    return type(value), value if value == value else None


def _forms(plain: Any) -> Iterable[tuple[type, Any]]:
    """The types and values that a value, which JSON has as one, may come as.

    As everywhere, a float may come as a whole number, and a boolean as 0 or 1.
    """
    if plain is None:
        yield types.NoneType, None
    elif isinstance(plain, str):
        yield str, str.__str__(plain)
    elif isinstance(plain, bool):
        yield bool, plain
        yield int, int(plain)
    elif isinstance(plain, numbers.Integral):
        yield int, int(plain)
    elif isinstance(plain, numbers.Number) and not isinstance(plain, complex):
        number = float(plain)  # type: ignore[arg-type]
        yield _form(number)
        if number.is_integer():
            yield int, int(number)


def same(plain: Any, value: Any) -> bool:
    """Whether a value of JSON is `plain`, down to the types of what is in it. A list may be a tuple's."""
    if isinstance(plain, (list, tuple)):
        return (
            type(value) is list
            and len(plain) == len(value)
            and all(same(each, other) for each, other in zip(plain, value, strict=True))
        )
    if isinstance(plain, Mapping):
        return (
            type(value) is dict
            and plain.keys() == value.keys()
            and all(same(each, value[key]) for key, each in plain.items())
        )
    return not isinstance(value, (list, dict)) and _form(value) in _forms(plain)


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
    raise MisfitError(f"must be made of the flags {listed([each.value for each in kind])}")


def _values_of(kind: Any) -> set[int]:
    return {each.value for each in kind.__members__.values()}


PRIMITIVES: dict[type, Hook] = {
    float: _float,
    int: _int,
    str: _str,
    bool: _bool,
    bytes: _never,
    types.NoneType: _nothing,
    uuid.UUID: _uuid,
    datetime.datetime: _date,
    datetime.date: _date,
    datetime.time: _date,
    Enum: _member,
}
"""The hooks by class. A class of the coordinator's own has the hook of its base class."""


def choice(kind: Any) -> Hook:
    """Make the hook for a ``Literal[...]``. True may come as 1, and a member of an enum as its value."""
    choices = [(each.value if isinstance(each, Enum) else each, each) for each in kind.__args__]
    # In whichever order the choices are written, it is the same type for Python.
    in_order = sorted(choices, key=lambda pair: (isinstance(pair[1], Enum), repr(pair[1])))

    def choose(value: Any, _: Any) -> Any:
        fitting = [(plain, each) for plain, each in in_order if same(plain, value)]
        for plain, each in fitting:
            if type(plain) is type(value):
                return each
        if fitting:
            return fitting[0][1]
        raise MisfitError(f"must be one of {listed([plain for plain, _ in choices])}")

    return choose


def wrong(kind: Any, value: Any) -> MisfitError:
    """Make the error for a value that is not of the type `kind`."""
    return MisfitError(f"must be {name_of(kind)}, got {type(value).__name__}")


def listed(values: Sequence[Any]) -> str:
    """Write values one after the other, as Python does."""
    return ", ".join(map(repr, values))


def name_of(kind: Any) -> str:
    """Name a type as it is written."""
    if kind is types.NoneType:
        return "None"
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
