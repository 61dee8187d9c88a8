"""Why a value can't be sent to a model, and where inside it the reason sits.

A coordinator hands over a nested payload and one of its thousand leaves is a datetime. "Object of type
datetime is not JSON serializable" is no help; ``payload.points[3].time: datetime can't be sent as JSON``
is. The place is known in pieces: who walks the value knows the path inside it, and only `Arguments` knows
which argument the value was. So the code below the public functions raises a `Refusal`, which keeps place
and reason apart, and the public functions turn it into the `TypeError` or `ValueError` that a caller
expects.

It knows nothing of encodings, and no value is ever kept in it or shown by it: payloads may be secret, or
large.
"""

from __future__ import annotations

__all__ = ["Refusal"]


class Refusal(Exception):
    """A value was refused. Never leaves the package: see `to_error`.

    Attributes:
        kind: the exception that a caller gets: `TypeError` for what something is, `ValueError` for what it
            holds.
        reason: one sentence, without the place.
        path: where inside the value, such as ``.points[3].time``; empty for the value itself. In an
            argument it starts with that argument.
    """

    def __init__(self, kind: type[TypeError] | type[ValueError], reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.path = path

    def in_argument(self, argument: str | int) -> Refusal:
        """Return the same refusal, its place beginning with the argument.

        Args:
            argument: the keyword, or the position counted from 1.
        """
        if isinstance(argument, str):
            place = f"argument {argument}{self.path}"
        else:
            place = f"argument {argument}" + (f" at {self.path.removeprefix('.')}" if self.path else "")
        return Refusal(self.kind, self.reason, place)

    def to_error(self) -> TypeError | ValueError:
        """Make the exception for the caller."""
        place = self.path.removeprefix(".")
        return self.kind(f"{place}: {self.reason}" if place else self.reason)
