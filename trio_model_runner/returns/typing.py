"""What type checkers make of ``returns=``; nothing here is needed at run time.

Methods that take ``returns=`` have five overloads. The first that fits is taken, so their order matters:

1. ``decode=False``: the values are `Encoded`.
2. ``returns=None``, or none given: Any. It is before 3, since None is a type, too.
3. ``returns: TypeForm[T]``: all that can be written as an annotation, such as ``float``, ``list[Point]``,
   ``float | None`` and ``Literal["up", "down"]``.
4. ``returns: Callable[[Any], T]``: a function that takes the answer and returns the value. mypy 2.4 gets
   ``float | None`` wrong if this and 3 are one overload.
5. ``returns: ReturnsAny``: Any. It is last, since ``float | None`` is a ``UnionType``, too.

The default of ``T`` is Any: without it, mypy says Never where it can't tell the type.
"""

from __future__ import annotations

from types import UnionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import _SpecialForm

    ReturnsAny = UnionType | _SpecialForm
    """Some type; the checker does not know which. A variable of type ``UnionType`` is one."""

__all__ = ["ReturnsAny"]
