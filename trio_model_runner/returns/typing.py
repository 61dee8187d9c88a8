"""What may be given as ``returns=``, for type checkers.

Methods that take ``returns=`` have four overloads. The first that fits is taken, so their order matters:

1. ``decode: Literal[False]``: the values are `Encoded`.
2. ``returns: None = ...``: they are Any. It is before 4, for which None is a type like any other.
3. ``returns: Returns[T]``: a class, or a function. mypy and pyright know more of classes here than in 4.
4. ``returns: TypeForm[T]``: whatever else is written as a type, such as ``float | None`` or
   ``Literal["up", "down"]``. If 3 and 4 were one, mypy 2.4 would take ``float | None`` for ``float``.

Each ``T`` has Any for its default: without one, mypy says Never where it can't tell the type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typing_extensions import TypeVar

__all__ = ["Returns"]

T = TypeVar("T", default=Any)

Returns = type[T] | Callable[[Any], T]
"""A class, or a function that takes an answer and returns a value or raises ValueError."""
