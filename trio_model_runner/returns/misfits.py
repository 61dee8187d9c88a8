"""Where an answer does not fit what was asked for, and why, in one line.

Validation libraries describe a misfit on many lines, and quote the values. Here it becomes the detail of a
result, and details end in logs and tables. So it is one line of bounded length, with places and reasons and
without values: ``$.points[3].x: must be float, got str``. The ``$`` is the answer itself. The whole answer is
kept in the `InvalidAnswer`.

pydantic's errors are known by their methods; pydantic is not imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import attrs

from ..text import as_step, cut

__all__ = ["MOST_EXPLAINED", "Misfit", "describe_misfits", "misfits_of_pydantic"]

MOST_EXPLAINED: Final = 3
"""How many misfits a line names."""

_LONGEST: Final = 300
"""How many characters are kept of a place, and of a reason."""

_MOST_LISTED: Final = 1000
"""pydantic lists so many misfits within 10 ms. It lists all or none, and holds the interpreter's lock."""


@attrs.frozen
class Misfit:
    """One thing that does not fit.

    Attributes:
        place: the steps from the answer to it: fields and keys as text, positions in lists as numbers.
        reason: one sentence.
    """

    place: Sequence[str | int]
    reason: str

    def __str__(self) -> str:
        """``$.points[3].x: the reason``."""
        steps = "".join(map(as_step, self.place[:_LONGEST]))
        return f"${cut(steps, _LONGEST)}: {cut(self.reason, _LONGEST)}"


def describe_misfits(misfits: Iterable[Misfit]) -> str:
    """Write the first few misfits in one line."""
    told = list(misfits)
    more = "; ..." if len(told) > MOST_EXPLAINED else ""
    return "; ".join(map(str, told[:MOST_EXPLAINED])) + more


def misfits_of_pydantic(error: BaseException) -> list[Misfit] | None:
    """The misfits in a pydantic ValidationError, without their values; None for any other exception."""
    if not hasattr(type(error), "error_count") or not hasattr(type(error), "errors"):
        return None
    told: Any = error
    if told.error_count() > _MOST_LISTED:
        return [Misfit((), f"{told.error_count()} misfits")]
    return [
        Misfit(tuple(item["loc"]), item["msg"])
        for item in told.errors(include_url=False, include_context=False, include_input=False)
    ]
