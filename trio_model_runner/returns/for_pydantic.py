"""How much pydantic is given at once.

It validates in one call, which holds the interpreter's lock. So what it is given is bounded, so that the call
takes about 30 ms at most: in values, in characters, and in what sets and keys of one hash may cost. All items
of a set that have the same hash are compared with each other. Hashes of whole numbers and of what is made of
them are not random, and a stranger can choose them.

pydantic is not imported.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from .strict import MisfitError, name_of

__all__ = ["bound_for"]

_MOST_VALUES: Final = 50_000
"""So many take 20 ms if none of them fits."""

_MOST_CHARACTERS: Final = 2**19
"""In texts and keys together. It takes 24 ms for a path, 20 ms for a URL's host, 33 ms for JSON in a text."""

_MOST_OF_ONE_HASH: Final = 20
"""So many whole numbers of more than 64 bits may have the same hash. 50,000 of them then take 6 ms."""

_MOST_COMPARED: Final = 1_000_000
"""The length of the longest list, times all values, if a set is made of what has no simple hash.

It takes 9 ms for a thousand decimals. UUIDs (25 ms) and frozen models (80 ms) are compared by Python's code,
and other threads have their turn in between.
"""

_MOST_WALKED: Final = 25_000_000
"""The same if the hashes can be chosen: 5,000 whole numbers, each of which walks past all before (`hashes`).

It takes 16 ms for a dict.
"""

_MOST_CHARACTERS_OF_JSON: Final = 2**14
"""The same for a model that reads JSON out of a text, where nothing is counted, and makes sets of it."""

_RANDOMLY_HASHED = {"bool", "bytes", "date", "enum", "literal", "none", "nullable", "str", "union"}
"""pydantic's names of types whose hashes are random, or few."""

_SIMPLY_HASHED = _RANDOMLY_HASHED | {"any", "datetime", "float", "int", "time"}
"""And of those whose hashes are nearly different. Whole numbers are counted."""

_WHOLE_NUMBER = re.compile(r"\s*([+-]?[0-9_]{19,})(?:\.0*)?\s*")


def bound_for(model: Any) -> Callable[[Any], None]:
    """Make the function that raises `MisfitError` if there is too much in a value for this model.

    Args:
        model: a pydantic model, or another class that has `model_validate`.
    """
    rebuild = getattr(model, "model_rebuild", None)
    if rebuild is not None:
        rebuild(raise_errors=False)
    schema = getattr(model, "__pydantic_core_schema__", None)
    hashed = list(_hashed(schema))
    most_compared = _most_compared(hashed if isinstance(schema, dict) else [{"unknown"}])
    reads_json = bool(hashed) and "json" in _types(schema)
    most_characters = _MOST_CHARACTERS_OF_JSON if reads_json else _MOST_CHARACTERS

    def check(value: Any) -> None:
        amount = _Amount(name_of(model), most_characters)
        longest = max(map(amount.add, _held(value)), default=0)
        if longest * amount.values > most_compared:
            raise MisfitError(f"a list of {longest}, too many for the sets in {name_of(model)}")
        amount.check_hashes()

    return check


def _most_compared(hashed: list[set[str]]) -> float:
    """The bound of the length of the longest list, times all values, for sets of such types."""
    if all(map(_RANDOMLY_HASHED.issuperset, hashed)):
        return math.inf
    return _MOST_WALKED if all(map(_SIMPLY_HASHED.issuperset, hashed)) else _MOST_COMPARED


class _Amount:
    """How much there is in a value, as far as it was looked at.

    Args:
        name: the name of the model, for the errors.
        most_characters: how many there may be.
    """

    def __init__(self, name: str, most_characters: int) -> None:
        self.values = 0
        self._name = name
        self._most_characters = most_characters
        self._characters = 0
        self._long_numbers: set[str] = set()  # as text, whose hashes are random

    def add(self, held: list[Any] | dict[str, Any]) -> int:
        """Count what is in a list or an object, but not what is in those in it, and return its length.

        Raises:
            MisfitError: it is too much.
        """
        self.values += len(held)
        if self.values > _MOST_VALUES:
            raise MisfitError(f"more than {_MOST_VALUES} values for {self._name}")
        for item in held:
            self._look_at(item)
        for item in held.values() if isinstance(held, dict) else ():
            self._look_at(item)
        return len(held)

    def check_hashes(self) -> None:
        """Refuse whole numbers of which too many have the same hash.

        Raises:
            MisfitError: there are too many.
        """
        hashes = Counter(hash(int(number, 16)) for number in self._long_numbers)
        if max(hashes.values(), default=0) > _MOST_OF_ONE_HASH:
            raise MisfitError(f"more than {_MOST_OF_ONE_HASH} whole numbers of the same hash")

    def _look_at(self, item: Any) -> None:
        if type(item) is str:
            self._characters += len(item)
            if self._characters > self._most_characters:
                raise MisfitError(f"more than {self._most_characters} characters for {self._name}")
            spelled = _WHOLE_NUMBER.fullmatch(item) if len(item) >= 19 else None
            if spelled is not None:
                self._add_number(spelled[1])
        elif type(item) is int and not -(2**63) <= item < 2**63:
            self._long_numbers.add(hex(item))

    def _add_number(self, spelled: str) -> None:
        try:
            self._long_numbers.add(hex(int(spelled)))
        except ValueError:  # two underscores, or too many digits: it is no number for pydantic, either
            return


def _held(value: Any) -> Iterator[Any]:
    """A list of the value, and the lists and objects in it."""
    left: list[Any] = [[value]]
    while left:
        value = left.pop()
        yield value
        items = value.values() if isinstance(value, dict) else value
        left.extend(item for item in items if isinstance(item, (list, dict)))


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema of pydantic's core, and all schemas in it."""
    left = [schema]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(part for name, part in node.items() if name != "metadata")
        elif isinstance(node, (list, tuple)):
            left.extend(node)


def _types(schema: Any) -> set[str]:
    types = (node.get("type") for node in _nodes(schema))
    return {kind for kind in types if isinstance(kind, str)}


def _hashed(schema: Any) -> Iterator[set[str]]:
    """The types in each set's items and in each mapping's keys, unless these are text."""
    for node in _nodes(schema):
        if node.get("type") in ("set", "frozenset"):
            yield _types(node.get("items_schema"))
        elif "keys_schema" in node:
            kinds = _types(node["keys_schema"])
            if kinds != {"str"}:
                yield kinds
