"""What `returns=` asks of an answer: that it has the shape of a type, or that a function accepts it.

`structuring` checks types. It is imported when a type is asked for, since importing `cattrs` takes a while.
An answer that does not fit is an `InvalidAnswer`: it says where and why, and holds the answer.
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
        convert: turns the answer into the value, or raises ValueError.
        in_any_thread: `convert` may be called in any thread. The coordinator's own functions may not.
    """

    convert: Callable[[Any], Any]
    in_any_thread: bool

    def __call__(self, answer: Any) -> Any:
        """Convert an answer.

        Raises:
            InvalidAnswer: it does not fit.
            Exception: the coordinator's code raised it.
        """
        try:
            return self.convert(answer)
        except ValueError as error:
            misfits = misfits_of_pydantic(error)
            reason = (str(error) or type(error).__name__) if misfits is None else describe_misfits(misfits)
            raise InvalidAnswer(f"the answer does not fit: {reason}", value=answer) from error


def structurer(returns: Any) -> Structurer | None:
    """Make the `Structurer` for a ``returns=``; None if the answer is taken as it is.

    Args:
        returns: None for the answer as it is; a type (see `structuring`); a pydantic model; or a function
            that takes the answer and returns the value, or raises ValueError.

    Raises:
        TypeError: `returns` is none of these, or a type that no answer can be turned into.
    """
    if returns is None:
        return None
    if _is_type(returns):
        from .structuring import structure_as

        return Structurer(structure_as(returns), in_any_thread=True)
    if callable(returns):
        if inspect.iscoroutinefunction(returns) or inspect.iscoroutinefunction(type(returns).__call__):
            raise TypeError("returns: must be a plain function, not an async one")
        return Structurer(returns, in_any_thread=False)
    raise TypeError(f"returns: must be a type or a function, got {type(returns).__name__}")


def _is_type(returns: Any) -> bool:
    if isinstance(returns, (type, types.UnionType, typing.NewType)) or returns is Any:
        return True
    is_alias = hasattr(returns, "__value__")  # `type X = ...`
    return is_alias or typing.get_origin(returns) is not None
