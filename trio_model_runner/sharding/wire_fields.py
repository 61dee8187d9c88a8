"""The small fields of a message, as an object of JSON, and back.

A field that has its default is left out. What is read must be exactly of the field's type, within the bounds
for its name: nothing is converted, and an unknown field is refused. (So of `cattrs` nothing but the loop over
the fields would be left: each of its hooks would have to be replaced, since they convert.)

Infinity, which JSON does not have, is the text ``"inf"``. Members of enums travel by their names if they are
numbers, since two releases may number them differently. This module knows the types of fields, and must not
know what a message is for.
"""

from __future__ import annotations

import enum
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import attrs

from ..orchestrator.infos import freeze
from ..text import quoted
from ..values.strict_json import strict_json
from .wire_json import WireError

__all__ = ["MOST", "fields_of", "message_of"]

T = TypeVar("T")
Read = Callable[[Any], Any]
Write = Callable[[Any], Any]

MOST: Final = 2**53
"""No whole number is larger: beyond it, readers of JSON that know floats alone take two numbers for one."""

_WHOLE: Final[Mapping[str, int]] = {
    "index": 2**16,
    "number": 2**32 - 1,
    "epoch": 2**32 - 1,
    "port": 2**16 - 1,
    "pid": 2**32 - 1,
    "level": 2**31 - 1,
}
"""The largest value of a field, where that is not `MOST`. The smallest is 0."""

_REAL: Final[Mapping[str, tuple[float, float]]] = {
    "lease": (1e-9, 1e9),
    "renew_every": (1e-9, 1e9),
    "leave_after": (1e-9, 1e9),
    "seconds": (0.0, math.inf),
    "timeout": (0.0, math.inf),
    "stood": (0.0, math.inf),
    "round_trip": (0.0, math.inf),
    "overrun_timeout": (0.0, math.inf),
}
"""The smallest and the largest value of a field in seconds. All others may be any number, also infinite."""

_INFINITIES: Final = {"inf": math.inf, "-inf": -math.inf}
_NAMES_OF_INFINITIES: Final = {number: name for name, number in _INFINITIES.items()}


@attrs.frozen
class _Field:
    """How one field is written and read; without `write`, as it is."""

    name: str
    default: Any
    read: Read
    write: Write | None


def fields_of(message: Any, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields that have not their defaults, for `write_json`.

    Args:
        message: an instance of an attrs class.
        without: the names of fields that are left out.
    """
    kind: Any = type(message)
    told = {}
    for field in _fields(kind):
        value = getattr(message, field.name)
        if field.name not in without and value != field.default:
            told[field.name] = value if field.write is None else field.write(value)
    return told


def message_of(kind: type[T], told: Any, **others: Any) -> T:
    """Make an instance of `kind` from what `fields_of` gave; others are its other fields.

    Raises:
        WireError: it is something else; the text names the field.
    """
    if type(told) is not dict:
        raise WireError(f"{kind.__name__}: must be an object")
    key: Any = kind
    for field in _fields(key):
        if field.name in told and field.name not in others:
            try:
                others[field.name] = field.read(told.pop(field.name))
            except WireError as error:
                raise WireError(f"{kind.__name__}.{field.name}: {error}") from None
        elif field.default is attrs.NOTHING and field.name not in others:
            raise WireError(f"{kind.__name__}.{field.name}: is missing")
    if told:
        raise WireError(f"{kind.__name__}: has no field {quoted(next(iter(told)), ascii_only=True)}")
    return kind(**others)


@functools.cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    hints = typing.get_type_hints(kind, localns={"array": list})  # Python 3.11 has no array[int]
    return tuple(_field(each, hints[each.name]) for each in attrs.fields(kind))


def _field(attribute: attrs.Attribute[Any], hint: Any) -> _Field:
    default: Any = attribute.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # it is a class
        default = default.factory()
    read, write = _ways(attribute.name, hint)
    return _Field(attribute.name, default, read, write)


def _ways(name: str, hint: Any) -> tuple[Read, Write | None]:
    """How a field with this name and of this type is read and written."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if isinstance(hint, types.UnionType):
        read, write = _ways(name, next(each for each in typing.get_args(hint) if each is not types.NoneType))
        return (
            lambda value: None if value is None else read(value),
            write and (lambda value: None if value is None else write(value)),
        )
    if hint is int:
        return functools.partial(_whole, _WHOLE.get(name, MOST)), None
    if hint is float:
        return functools.partial(_real, *_REAL.get(name, (-math.inf, math.inf))), _write_real
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return functools.partial(_member, hint), _write_member
    return _OF_TYPES.get(hint, _refuse), None


def _whole(most: int, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise WireError(f"must be a whole number from 0 to {most}, got {quoted(value, 40)}")
    return value


def _real(least: float, most: float, value: Any) -> float:
    number = _INFINITIES.get(value) if type(value) is str else value
    if type(number) is int and abs(number) <= MOST:
        number = float(number)
    if type(number) is not float or not least <= number <= most:
        raise WireError(f"must be a number from {least:g} to {most:g}, got {quoted(value, 40)}")
    return number


def _write_real(value: float) -> Any:
    return _NAMES_OF_INFINITIES.get(value, value)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise WireError(f"must be text, got {quoted(value, 40)}")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise WireError(f"must be true or false, got {quoted(value, 40)}")
    return value


def _member(kind: type[enum.Enum], value: Any) -> enum.Enum:
    members = kind.__members__ if issubclass(kind, int) else kind._value2member_map_
    if type(value) is not str or value not in members:
        raise WireError(f"must be a {kind.__name__}, got {quoted(value, 40)}")
    return members[value]


def _write_member(member: enum.Enum) -> str:
    return member.name if isinstance(member, int) else str(member.value)


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise WireError(f"must be an object, got {quoted(value, 40)}")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if type(value) is not list:
        raise WireError(f"must be a list, got {quoted(value, 40)}")
    return tuple(map(_text, value))


def _flags(value: Any) -> tuple[str, ...]:
    flags = _texts(value)
    if not _FLAGS.issuperset(flags) or len(set(flags)) < len(flags):
        raise WireError(f"must be some of {', '.join(sorted(_FLAGS))}, each once")
    return flags


def _infos(value: Any) -> Mapping[str, Any]:
    try:
        return freeze(_object(value))
    except WireError:
        raise
    except ValueError as error:
        raise WireError(str(error)) from None


def _pairs(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    pairs = [_texts(pair) for pair in value] if type(value) is list else [()]
    if any(len(pair) != 2 for pair in pairs):
        raise WireError("must be a list of pairs of texts")
    try:
        return tuple((key.encode("latin-1"), text.encode("latin-1")) for key, text in pairs)
    except UnicodeEncodeError:
        raise WireError("must be pairs of bytes, a letter for each") from None


def _write_pairs(pairs: tuple[tuple[bytes, bytes], ...]) -> list[tuple[str, str]]:
    return [(key.decode("latin-1"), value.decode("latin-1")) for key, value in pairs]


def _numbers_by_text(value: Any) -> dict[str, tuple[int, ...]]:
    return {key: _numbers(numbers) for key, numbers in _object(value).items()}


def _numbers(value: Any) -> tuple[int, ...]:
    if type(value) is not list:
        raise WireError(f"must be a list, got {quoted(value, 40)}")
    return tuple(_whole(_WHOLE["number"], number) for number in value)


def _refuse(_: Any) -> Any:
    raise WireError("can't be sent as a small field")


_FLAGS: Final = frozenset({"created", "good", "peaceful", "silent"})

_BY_NAME: Final[Mapping[str, tuple[Read, Write | None]]] = {
    "infos": (_infos, strict_json),
    "flags": (_flags, None),
    "metadata": (_pairs, _write_pairs),
}

_OF_TYPES: Final[Mapping[Any, Read]] = {
    str: _text,
    bool: _flag,
    Mapping[str, Any]: _object,
    Mapping[str, tuple[int, ...]]: _numbers_by_text,
}
