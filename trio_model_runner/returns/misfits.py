"""Where an answer does not fit what was asked for, and why, in one line.

Validation libraries tell of a misfit on many lines and quote the values. Here it becomes the detail of a
result, which ends in logs and tables, so it is one line, bounded, without values: places and reasons, as in
``$.points[3].x: must be float, got str``. The ``$`` is the answer itself. Who needs the values finds the
whole answer in the `InvalidAnswer`.

It knows pydantic's errors by their methods, and imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

__all__ = ["MOST_EXPLAINED", "Misfit", "describe_misfits", "misfits_of_pydantic"]

MOST_EXPLAINED: Final = 3
"""Misfits that a line tells of."""

_LONGEST_KEY_SHOWN: Final = 40


@attrs.frozen
class Misfit:
    """One thing that does not fit.

    Attributes:
        place: the way to it: fields and keys as text, positions in lists as numbers.
        reason: one sentence.
    """

    place: Sequence[str | int]
    reason: str

    def __str__(self) -> str:
        """``$.points[3].x: the reason``."""
        return f"${''.join(map(_step, self.place))}: {self.reason}"


def describe_misfits(misfits: Iterable[Misfit]) -> str:
    """The first few misfits in a line."""
    told = list(misfits)
    more = "; ..." if len(told) > MOST_EXPLAINED else ""
    return "; ".join(map(str, told[:MOST_EXPLAINED])) + more


def misfits_of_pydantic(error: BaseException) -> list[Misfit] | None:
    """What a pydantic ValidationError tells of, without the values in it; None for any other exception."""
    if not hasattr(type(error), "error_count") or not hasattr(type(error), "errors"):
        return None
    told: Any = error
    return [
        Misfit(tuple(item["loc"]), item["msg"])
        for item in told.errors(include_url=False, include_context=False, include_input=False)
    ]


def _step(part: str | int) -> str:
    if not isinstance(part, str):
        return f"[{part}]"
    if len(part) > _LONGEST_KEY_SHOWN:
        return f"[{part[:_LONGEST_KEY_SHOWN]!r}...]"
    return f".{part}" if part.isidentifier() else f"[{part!r}]"
