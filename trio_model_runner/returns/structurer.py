"""What `returns=` asks of an answer: a type that it must have the shape of, or a function that checks it.

A type is left to `structuring`, which is only imported when one is asked for, since `cattrs` takes a while.
Whatever does not fit is an `InvalidAnswer` that says where and why, and holds the answer.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import attrs

from ..errors import InvalidAnswer
from .misfits import describe_misfits, misfits_of_pydantic

__all__ = ["Structurer", "structurer"]


@attrs.frozen
class Structurer:
    """Turns a decoded answer into what `returns=` asked for.

    Attributes:
        convert: does it, or raises ValueError.
        in_any_thread: it may be called in any thread, since it is not the coordinator's own function.
    """

    convert: Callable[[Any], Any]
    in_any_thread: bool

    def __call__(self, answer: Any) -> Any:
        """Convert an answer.

        Raises:
            InvalidAnswer: it does not fit.
            Exception: whatever the coordinator's code raises.
        """
        try:
            return self.convert(answer)
        except ValueError as error:
            misfits = misfits_of_pydantic(error)
            reason = str(error) if misfits is None else describe_misfits(misfits)
            raise InvalidAnswer(f"the answer does not fit: {reason}", value=answer) from error


def structurer(returns: Any) -> Structurer | None:
    """Make what turns a decoded answer into what `returns` asks for.

    Args:
        returns: None for the answer as it is; a type, made with `cattrs`, strictly: see `structuring`; a
            pydantic model; or a function that takes the answer and returns the value, or raises ValueError.

    Raises:
        TypeError: it is none of these, or a type that no answer can become.
    """
    if returns is None:
        return None
    if _is_type(returns):
        from .structuring import structure_as

        return Structurer(structure_as(returns), in_any_thread=True)
    if inspect.iscoroutinefunction(returns):
        raise TypeError("returns: must be a plain function, not an async one")
    if callable(returns):
        return Structurer(returns, in_any_thread=False)
    raise TypeError(f"returns: must be a type or a function, got {type(returns).__name__}")


def _is_type(returns: Any) -> bool:
    if isinstance(returns, (type, types.UnionType, typing.NewType)) or returns is Any:
        return True
    is_alias = hasattr(returns, "__value__")  # `type X = ...`
    return is_alias or typing.get_origin(returns) is not None
