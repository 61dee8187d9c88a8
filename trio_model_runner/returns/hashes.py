"""Sets and dicts of what a stranger chose, made in a bounded time.

Hashes of numbers, and of what is made of numbers, are not random: a stranger can choose them. An item is
compared with all that are there and have the same hash. And Python looks for a free place in a table along a
path that the hash decides. So items of different hashes can be chosen, too, of which each walks past all that
came before: the cost grows with the square of their number. Most of it is spent when the table grows, in one
call into C, for which everything else waits. Small numbers serve for that as well as large ones: only how
many there are can be bounded.

Hashes of text are random, and so are those of dates and times without a zone, and of enums, which are their
names'. Those of times with a zone are made of numbers.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from ..abandoned import stop_if_abandoned
from .strict import MisfitError

__all__ = ["Hashes", "set_of"]

_MOST_OF_ONE_HASH: Final = 100
"""So many items may have the same hash: it is a chance of numbers, or somebody made them so."""

_MOST: Final = 10_000
"""So many items may there be if hashes can be chosen. The worst single call then takes 11 ms, all 75 ms."""

_ITEMS_BETWEEN_LOOKS: Final = 1000
"""After so many it is asked whether anybody still waits."""

_RANDOM: Final[set[Any]] = {
    each.__hash__ for each in (str, bytes, datetime.date, datetime.datetime, datetime.time, Enum)
}
"""The methods that give random hashes. A class of the coordinator's own may have inherited one."""


class Hashes:
    """The hashes of the items of one set, or of the keys of one dict.

    Args:
        made: what is made of them, "set" or "dict", for the errors.
    """

    def __init__(self, made: str) -> None:
        self._made = made
        self._counts: Counter[int] = Counter()
        self._items = 0
        self._chosen = False

    def note(self, item: Any) -> None:
        """Note an item that was not there.

        Raises:
            MisfitError: there are too many that a stranger could have chosen for their hashes.
        """
        self._items += 1
        if self._items % _ITEMS_BETWEEN_LOOKS == 0:
            stop_if_abandoned()
        if not _is_random(item):
            self._chosen = True
            self._count(item)
        if self._chosen and self._items > _MOST:
            raise MisfitError(
                f"has more than {_MOST} items, for a {self._made} of numbers, or of what is made of them; "
                "frames may have more"
            )

    def _count(self, item: Any) -> None:
        own = hash(item)
        of_one_hash = self._counts[own] = self._counts[own] + 1
        if of_one_hash > 1:
            stop_if_abandoned()
        if of_one_hash > _MOST_OF_ONE_HASH:
            raise MisfitError(f"has more than {_MOST_OF_ONE_HASH} items of the same hash, for a {self._made}")


def _is_random(item: Any) -> bool:
    """Whether nobody can choose an item for its hash."""
    if item is None:
        return True
    return type(item).__hash__ in _RANDOM and getattr(item, "tzinfo", None) is None


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
