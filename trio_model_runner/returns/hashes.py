"""Sets and dicts of what a stranger chose, made in a bounded time.

Hashes of numbers, and of what is made of numbers, are not random: a stranger can choose them. An item is
compared with all that are there and have the same hash. And Python looks for a free place in a table along a
path that the hash decides. So items of different hashes can be chosen, too, of which each has a longer way
than the one before: 22,000 whole numbers took 0.23 s instead of 1.4 ms, and this grows with the square of
their number. A part of it may be spent in one call into C, for which everything else waits.

Hashes of text are random. Those of small numbers say too little for a long path.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from ..abandoned import stop_if_abandoned
from .strict import MisfitError

__all__ = ["Hashes", "set_of"]

_MOST_OF_ONE_HASH: Final = 100
"""So many items may have the same hash: it is a chance of numbers, or somebody made them so."""

_MOST_FAR_HASHES: Final = 10_000
"""So many hashes may be such that their path could have been chosen: then they take 50 ms, in small steps."""

_FAR: Final = 2**41
"""A smaller hash leaves few paths to choose from. Milliseconds since 1970 are smaller, until 2039."""

_RANDOMLY_HASHED: Final = frozenset({str, bytes, datetime.date, datetime.datetime, datetime.time, type(None)})
"""And those of times with a zone, which say too little as well."""


class Hashes:
    """The hashes of the items of one set, or of the keys of one dict.

    Args:
        made: what is made of them, "set" or "dict", for the errors.
    """

    def __init__(self, made: str) -> None:
        self._made = made
        self._counts: Counter[int] = Counter()
        self._far = 0

    def note(self, item: Any) -> None:
        """Note an item that was not there.

        Raises:
            MisfitError: there are too many that a stranger could have chosen for their hashes.
        """
        if type(item) in _RANDOMLY_HASHED:
            return
        own = hash(item)
        if not -_FAR < own < _FAR:
            self._far += 1
            if self._far > _MOST_FAR_HASHES:
                raise self._refused(f"{_MOST_FAR_HASHES} items of large hashes")
        of_one_hash = self._counts[own] = self._counts[own] + 1
        if of_one_hash > 1:
            stop_if_abandoned()
        if of_one_hash > _MOST_OF_ONE_HASH:
            raise self._refused(f"{_MOST_OF_ONE_HASH} items of the same hash")

    def _refused(self, too_many: str) -> MisfitError:
        return MisfitError(f"has more than {too_many}, for a {self._made}")


def set_of(items: Iterable[Any]) -> set[Any]:
    """Make a set, one item after the other.

    Raises:
        MisfitError: there are too many that a stranger could have chosen for their hashes.
    """
    hashes = Hashes("set")
    made: set[Any] = set()
    length = 0
    for item in items:
        made.add(item)
        if len(made) > length:
            length += 1
            hashes.note(item)
    return made
