"""Why a value can't be sent to a model, and where inside the value the reason is.

A payload may be nested, and one of its thousand leaves may be a datetime. The text "Object of type datetime
is not JSON serializable" does not help; ``payload.points[3].time: datetime can't be sent as JSON`` does. No
function knows the whole place: the code that walks through the value knows the path inside it, and only
`Arguments` knows which argument the value was. So the code below the public functions raises a `Refusal`,
which keeps place and reason apart. The public functions turn it into a `TypeError` or a `ValueError`.

This module knows nothing of encodings. A refusal never keeps or shows a value: payloads may be secret, or
large.
"""

from __future__ import annotations

from ..text import as_argument

__all__ = ["Refusal"]


class Refusal(Exception):
    """A value was refused. This exception never reaches a coordinator: see `to_error`.

    Attributes:
        kind: the class of the exception that a caller gets: `TypeError` if the type is wrong, `ValueError`
            if the content is wrong.
        reason: one sentence, without the place.
        path: the place inside the value, such as ``.points[3].time``; empty for the value itself. For an
            argument, it starts with that argument.
    """

    def __init__(self, kind: type[TypeError] | type[ValueError], reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.path = path

    def in_argument(self, argument: str | int) -> Refusal:
        """Return the same refusal with a path that begins with the argument.

        Args:
            argument: its keyword, or its position counted from 1.
        """
        if isinstance(argument, str):
            place = f"argument {as_argument(argument)}{self.path}"
        else:
            place = f"argument {argument}" + (f" at {self.path.removeprefix('.')}" if self.path else "")
        return Refusal(self.kind, self.reason, place)

    def to_error(self) -> TypeError | ValueError:
        """Make the exception that the caller gets."""
        place = self.path.removeprefix(".")
        return self.kind(f"{place}: {self.reason}" if place else self.reason)
