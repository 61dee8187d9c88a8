"""What an answer must be to become a type, as the type alone says; and which members of a union come first.

For Python ``A | B`` and ``B | A`` are the same type, and whoever asks its caches may get either. So the order
in which a union is written can't count.

This module must not know how an answer is turned into a type.
"""

from __future__ import annotations

import dataclasses
import datetime
import types
import typing
import uuid
from collections import deque
from collections.abc import Mapping, Sequence, Set
from enum import Enum
from typing import Annotated, Any, Final, Literal

import attrs

from .strict import name_of

__all__ = ["form_of", "has_fields", "is_typed_dict", "is_union", "length_of", "may_be", "members_of", "plain"]

_LISTS = (list, tuple)

_FIRST: Final = (int, float, bool, uuid.UUID, datetime.time, datetime.date, datetime.datetime)
"""The order of simple types. A date is a datetime's text as well, and 1 may be meant as True."""


def plain(kind: Any) -> Any:
    """The type behind ``NewType``, ``Annotated`` and ``type X = ...``."""
    while True:
        if isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        elif typing.get_origin(kind) is Annotated:
            kind = kind.__origin__
        elif hasattr(kind, "__value__") and not isinstance(kind, type):
            kind = kind.__value__
        else:
            return types.NoneType if kind is None else kind


def is_union(kind: Any) -> bool:
    """Whether a type is a union."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def members_of(union: Any) -> list[Any]:
    """The members of a union, those of unions in it as well: which takes a value first, comes first.

    Literals and enums are before numbers, then `_FIRST`, lists of a certain length, other lists, objects,
    and text. The rest goes by name.
    """
    members: dict[Any, None] = {}
    for member in typing.get_args(union):
        inside = plain(member)
        members.update(dict.fromkeys(members_of(inside) if is_union(inside) else [member]))
    return sorted(members, key=lambda member: (_rank(plain(member)), name_of(member)))


def _rank(kind: Any) -> float:
    """Where a type is among the members of a union."""
    if typing.get_origin(kind) is Literal:
        return -2
    if isinstance(kind, type) and issubclass(kind, Enum):
        return -1
    form = form_of(kind)
    if form is not None:
        return 22 if form is Mapping else 20 if length_of(kind) is not None else 21
    if not isinstance(kind, type) or kind is object:
        return 33
    if issubclass(kind, (str, types.NoneType)):
        return 31 if issubclass(kind, str) else 32
    ranks = [rank for rank, base in enumerate(_FIRST) if issubclass(kind, base)]
    return max(ranks, default=30)


def form_of(kind: Any) -> Any:
    """What an answer must be to become a `kind` that holds other values; None if a `kind` holds none."""
    origin = typing.get_origin(kind) or kind
    if not isinstance(origin, type) or issubclass(origin, (str, bytes, Enum)):
        return None
    if issubclass(origin, Mapping) or has_fields(origin):
        return Mapping
    return _LISTS if issubclass(origin, (Sequence, Set, deque)) else None


def is_typed_dict(origin: type) -> bool:
    """Whether a class is a `TypedDict`."""
    return hasattr(origin, "__required_keys__")


def has_fields(origin: type) -> bool:
    """Whether a class says which fields an object must have."""
    return is_typed_dict(origin) or attrs.has(origin) or dataclasses.is_dataclass(origin)


def length_of(kind: Any) -> int | None:
    """How long a list must be to become a `kind`; None if it may have any length."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return None if Ellipsis in arguments else len(arguments)
    fields = getattr(kind, "_fields", None)  # a named tuple's
    return len(fields) if isinstance(fields, tuple) else None


def may_be(value: Any, member: Any) -> bool:
    """Say whether `value` could become a `member` of a union, by its type alone."""
    if type(value) is member:
        return True
    if is_union(member):  # of objects
        return isinstance(value, Mapping)
    form = form_of(member)
    if form is not None:
        return isinstance(value, form)
    if member in (str, int, types.NoneType):
        return False
    return member is not float or type(value) is int
