"""The fields of a `TypedDict`, and which of them must be there.

Python knows that itself, but not if annotations are text: under ``from __future__ import annotations`` it
does not see ``Required`` and ``NotRequired``.
"""

from __future__ import annotations

import typing
from typing import Annotated, Any, NotRequired, Required

import typing_extensions
from typing_extensions import ReadOnly, TypedDict

from .mappings import filled_in

__all__ = ["resolved"]


def resolved(kind: Any) -> Any:
    """Make a `TypedDict` of the same fields that has no text, and no variables, in its annotations.

    Raises:
        NameError: a name in the annotations is unknown.
    """
    origin = typing.get_origin(kind) or kind
    hints = typing_extensions.get_type_hints(origin, localns={origin.__name__: origin}, include_extras=True)
    given = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(kind), strict=False))
    fields: dict[str, Any] = {}
    for name, hint in hints.items():
        must, inside = name in origin.__required_keys__, hint
        while (qualifier := _qualifier(inside)) is not None:
            must = qualifier is Required if qualifier in (Required, NotRequired) else must
            inside = typing.get_args(inside)[0]
        field = filled_in(inside, given)
        fields[name] = Required[field] if must else NotRequired[field]
    return TypedDict(origin.__name__, fields)  # type: ignore[operator]


def _qualifier(hint: Any) -> Any:
    """``Required``, say, if it is the outermost part of a type."""
    outermost: Any = typing.get_origin(hint)
    return outermost if outermost in (Required, NotRequired, ReadOnly, Annotated) else None
