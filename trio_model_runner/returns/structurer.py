"""What `returns=` asks of an answer: a type that it must have the shape of, or a function that checks it.

A type is left to `cattrs`, which is only imported when one is asked for.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any

from ..errors import InvalidAnswer

__all__ = ["structurer"]


def structurer(returns: Any) -> Callable[[Any], Any] | None:
    """Make a function that turns a decoded answer into what `returns` asks for.

    Args:
        returns: None for the answer as it is; a type, for which cattrs structures it; or a function that
            takes the answer and returns the value, or raises ValueError.

    Raises:
        TypeError: it is neither.
    """
    if returns is None:
        return None
    is_type = isinstance(returns, (type, types.UnionType)) or typing.get_origin(returns) is not None
    if not is_type and not callable(returns):
        raise TypeError(f"returns: must be a type or a function, got {type(returns).__name__}")
    convert: Callable[[Any], Any] = _cattrs_structurer(returns) if is_type else returns

    def structure(answer: Any) -> Any:
        try:
            return convert(answer)
        except ValueError as error:
            raise InvalidAnswer(f"the answer does not fit: {error}", value=answer) from error

    return structure


def _cattrs_structurer(wanted: Any) -> Callable[[Any], Any]:
    import cattrs

    converter = cattrs.Converter()

    def convert(answer: Any) -> Any:
        try:
            return converter.structure(answer, wanted)
        except Exception as error:  # cattrs lets through whatever a conversion raises
            lines = "; ".join(cattrs.transform_error(error))
            raise ValueError(lines or repr(error)) from error

    return convert
