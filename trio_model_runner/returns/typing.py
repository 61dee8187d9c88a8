"""What may be given as ``returns=``, for type checkers."""

from __future__ import annotations

from collections.abc import Callable
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing import _SpecialForm

__all__ = ["Returns", "ReturnsAny"]

T = TypeVar("T")

Returns = type[T] | Callable[[Any], T]
"""A type, or a function that makes a value of that type, or raises ValueError."""

if TYPE_CHECKING:
    ReturnsAny = UnionType | _SpecialForm | None
    """What type checkers don't take for a type: ``float | None``, ``Literal["up", "down"]``; or nothing."""
