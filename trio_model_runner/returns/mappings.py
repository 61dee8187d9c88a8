"""What kinds of mappings an answer can become: what their keys and values are, and how one is made of a dict.

This module must not know how keys and values are checked.
"""

from __future__ import annotations

import collections
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from ..abandoned import stop_if_abandoned
from .kinds import has_fields, plain
from .strict import UnsupportedTypeError, name_of

__all__ = ["filled_in", "maker_of", "types_of_items"]

_PLAIN: Final = ("builtins", "collections", "collections.abc", "typing", "types")
"""The modules of mappings whose arguments are the types of their keys and values."""

_ITEMS_BETWEEN_LOOKS: Final = 1000
"""After so many it is asked whether anybody still waits."""


def _is_plain(kind: Any) -> bool:
    """Whether a mapping is one of Python's own, and no class of the coordinator's."""
    return (typing.get_origin(kind) or kind).__module__ in _PLAIN


def types_of_items(kind: Any) -> tuple[Any, Any]:
    """The types of a mapping's keys and values; Any where they are not said.

    A class says them by its base, as in ``class Prices(dict[int, float])``.
    """
    arguments, origin = typing.get_args(kind), typing.get_origin(kind) or kind
    if _is_plain(kind):
        if issubclass(origin, collections.Counter):
            return (*arguments, Any)[0], int if arguments else Any
        return (arguments[0], arguments[1]) if len(arguments) == 2 else (Any, Any)
    bases = getattr(origin, "__orig_bases__", ())
    inside = (variable for base in bases for variable in getattr(base, "__parameters__", ()))
    variables = getattr(origin, "__parameters__", None) or tuple(dict.fromkeys(inside))
    given = dict(zip(variables, arguments, strict=False))
    for base in bases:
        of_base = typing.get_origin(base) or base
        if isinstance(of_base, type) and issubclass(of_base, Mapping):
            keys, values = _resolved(*types_of_items(base), origin)
            return filled_in(keys, given), filled_in(values, given)
    return Any, Any


def _resolved(keys: Any, values: Any, origin: type) -> tuple[Any, Any]:
    """The types of keys and values without names that are text, as in ``class Tree(dict[str, "Tree"])``."""
    said = types.SimpleNamespace(__annotations__={"keys": keys, "values": values})
    module = vars(sys.modules[origin.__module__])
    hints = typing.get_type_hints(said, module, {origin.__name__: origin}, include_extras=True)
    return hints["keys"], hints["values"]


def filled_in(kind: Any, given: Mapping[Any, Any]) -> Any:
    """A type, with the arguments of a generic class in place of its variables."""
    if isinstance(kind, typing.TypeVar):
        return given.get(kind, Any)
    inside = getattr(kind, "__parameters__", ())
    return kind[tuple(given.get(each, Any) for each in inside)] if inside else kind


def maker_of(kind: Any, values: Any) -> Callable[[dict[Any, Any]], Any]:
    """Make the function that makes a mapping of a dict, which it may keep.

    Args:
        kind: the mapping's type.
        values: the type of its values.

    Raises:
        UnsupportedTypeError: it can't be made of a dict.
    """
    origin = typing.get_origin(kind) or kind
    if has_fields(origin):
        raise UnsupportedTypeError(
            f"{name_of(kind)} has fields and is a mapping as well; give a function instead"
        )
    if origin in (dict, Mapping, MutableMapping):
        return lambda made: made
    if issubclass(origin, collections.defaultdict):
        factory = _factory_of(values)
        return lambda made: origin(factory, made)
    if issubclass(origin, collections.OrderedDict) and origin.__init__ is collections.OrderedDict.__init__:
        return lambda made: _filled(origin(), made)
    if not _is_plain(kind):
        _require_maker(origin)
    return typing.cast("Callable[[dict[Any, Any]], Any]", origin)


def _factory_of(values: Any) -> type | None:
    """The class of a defaultdict's values, if it can be called without arguments."""
    kind = plain(values)
    kind = typing.get_origin(kind) or kind
    try:
        kind()
    except Exception:
        return None
    return kind if isinstance(kind, type) and kind is not object else None


def _require_maker(origin: type) -> None:
    """Find out now whether a class of the coordinator's own is made of a dict.

    Raises:
        UnsupportedTypeError: it can't be called with one.
    """
    try:
        inspect.signature(origin).bind({})
    except TypeError as error:
        raise UnsupportedTypeError(f"a {name_of(origin)} can't be made of a dict: {error}") from None
    except ValueError:  # it has no signature
        return
    if inspect.isabstract(origin):
        raise UnsupportedTypeError(f"a {name_of(origin)} can't be made, since it is abstract")


def _filled(mapping: Any, items: Mapping[Any, Any]) -> Any:
    """Fill a mapping item by item. An `OrderedDict` would copy a large dict in one slow call into C."""
    for index, (key, value) in enumerate(items.items()):
        if index % _ITEMS_BETWEEN_LOOKS == 0:
            stop_if_abandoned()
        mapping[key] = value
    return mapping
