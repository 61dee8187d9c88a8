"""Sets of items with equal hashes, which are all compared with each other, and flags, which Python keeps."""

from __future__ import annotations

import collections
import datetime
import enum
import itertools
import threading
import uuid
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import attrs
import pytest
from helpers.shapes import taken

from trio_model_runner import InvalidAnswer
from trio_model_runner.abandoned import run_stoppable

MODULUS = 2**61 - 1
"""Of Python's hashes of numbers."""

SAME_HASH = [index * MODULUS for index in range(101)]
PAIRS = [list(pair) for pair in itertools.product([0, MODULUS, -MODULUS, 2 * MODULUS], repeat=4)]


class Pair(NamedTuple):
    a: int
    b: int
    c: int
    d: int


@attrs.frozen
class Point:
    a: int
    b: int
    c: int
    d: int


def misfit(returns: Any, answer: Any) -> str:
    with pytest.raises(InvalidAnswer) as caught:
        taken(returns, answer)
    return str(caught.value)


@pytest.mark.parametrize(
    ("returns", "answer"),
    [
        (set[int], SAME_HASH),
        (AbstractSet[int], SAME_HASH),
        (set[Any], SAME_HASH),
        (set, SAME_HASH),
        (frozenset[tuple[int, ...]], PAIRS),
        (set[Pair], PAIRS),
        (set[Point], [dict(zip("abcd", each, strict=True)) for each in PAIRS]),
        (set[frozenset[Pair]], [[each] for each in PAIRS]),
        (list[set[float | int]], [[1], SAME_HASH]),
        (set[tuple[int, ...]], [list(each) for each in itertools.product([-1, -2], repeat=7)]),
    ],
)
def test_items_of_one_hash_do_not_become_a_set(returns: Any, answer: Any) -> None:
    assert "has more than 100 items of the same hash, for a set" in misfit(returns, answer)


@pytest.mark.parametrize(
    ("returns", "answer", "value"),
    [
        (set[int], SAME_HASH[:100] * 2, set(SAME_HASH)),
        (list[int], SAME_HASH, SAME_HASH),
        (set[tuple[int, ...]], [[1, 2]] * 1000 + PAIRS[:100], {(1, 2), *map(tuple, PAIRS)}),
        (frozenset[str], ["a", "b", "a"], frozenset("ab")),
        (AbstractSet[str], ["a"], frozenset("a")),
        (set[frozenset[int]], [[1, 2], [2, 1], []], {frozenset([1, 2]), frozenset()}),
    ],
)
def test_other_items_become_a_set(returns: Any, answer: Any, value: Any) -> None:
    made = taken(returns, answer)
    assert type(made) is type(value)
    assert made <= value if isinstance(value, set) and len(value) > 100 else made == value


MANY = 10_001
ALMOST_TEXT = ["a" * index for index in range(10_000)]
HOURS = [f"{1900 + index // 24}-01-01T{index % 24:02}:00+01:00" for index in range(MANY)]


@pytest.mark.parametrize(
    ("returns", "answer"),
    [
        (set[int], list(range(MANY))),
        (frozenset[float], [index / 7 for index in range(MANY)]),
        (set[Any], [*ALMOST_TEXT, 1]),
        (set[Any], [1, *ALMOST_TEXT]),
        (set[tuple[str, int]], [["a", index] for index in range(MANY)]),
        (set[datetime.datetime], HOURS),
        (dict[int, int], {str(number): 1 for number in range(MANY)}),
        (dict[float | None, int], {str(number / 2): 1 for number in range(MANY)}),
        (dict[datetime.datetime, int], dict.fromkeys(HOURS, 1)),
        (dict[uuid.UUID, int], {str(uuid.UUID(int=number)): 1 for number in range(MANY)}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_items_whose_hashes_could_be_chosen_are_few(returns: Any, answer: Any) -> None:
    made = "dict" if isinstance(answer, dict) else "set"
    text = misfit(list[returns], [answer])
    assert text.endswith(
        f"$[0]: has more than 10000 items, for a {made} of numbers, or of what is made of them; "
        "frames may have more"
    )
    fewer = list(answer)[1:]
    assert len(taken(returns, dict.fromkeys(fewer, 1) if made == "dict" else fewer)) == 10_000


def test_uuids_of_one_hash_are_no_keys() -> None:
    same = [str(uuid.UUID(int=index * MODULUS)) for index in range(101)]
    text = "has more than 100 items of the same hash, for a dict"
    assert misfit(dict[uuid.UUID, int], dict.fromkeys(same, 1)).endswith(f"$: {text}")
    assert len(taken(dict[uuid.UUID, int], dict.fromkeys(same[1:], 1))) == 100


class Name(str):
    """Has a random hash as well."""

    __slots__ = ()


def test_texts_and_times_have_no_such_bound() -> None:
    days = [str(datetime.date.fromordinal(number)) for number in range(1, 11_000)]
    for kind in (str, datetime.date, datetime.datetime, Name):
        assert len(taken(set[kind], days)) == len(taken(dict[kind, int], dict.fromkeys(days, 1))) == 10_999


def test_the_place_in_a_set_is_told() -> None:
    text = "the answer does not fit: $[1][0]: must be float, got str"
    assert misfit(set[tuple[float, ...]], [[1], ["a"]]) == text
    assert "unhashable" in misfit(set[Any], [[1]])


def test_structuring_stops_once_nobody_waits() -> None:
    class Unwanted(BaseException):
        """Like `trio.Cancelled`, which nobody may catch."""

    made = threading.Event()

    def stop() -> None:
        if made.is_set():
            raise Unwanted

    @attrs.frozen
    class Made:
        value: int = attrs.field(validator=lambda *_: made.set())

    answer = [{"value": 1}, {"value": "a"}]
    for returns in (list[Made], dict[str, Any] | list[Made]):
        made.clear()
        with pytest.raises(Unwanted):
            run_stoppable(stop, taken, returns, answer)


@pytest.mark.parametrize(
    "returns", [set[str], dict[datetime.date, Any], collections.OrderedDict[str, Any]], ids=str
)
def test_filling_stops_once_nobody_waits(returns: Any) -> None:
    looks = []
    days = [str(datetime.date.fromordinal(number)) for number in range(1, 5001)]
    answer = days if returns == set[str] else dict.fromkeys(days, 1)
    run_stoppable(lambda: looks.append(1), taken, returns, answer)
    assert len(looks) >= 5


class Permission(enum.IntFlag):
    READ = 1
    WRITE = 2
    OWN = 8


Mark = enum.Flag("Mark", ["A", "B"])  # type: ignore[misc]
Many = enum.IntFlag("Many", [f"F{index}" for index in range(17)])  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [4, 5, -1, 16, 2**70, True, 1.0, "1", None, [1]])
def test_flags_are_made_of_members(wrong: Any) -> None:
    for returns in (Permission, Mark):
        kept = len(returns._value2member_map_)
        assert "must be" in misfit(returns, wrong)
        assert len(returns._value2member_map_) == kept
    assert misfit(Permission, 4).endswith("$: must be made of the flags 1, 2, 8")


def test_flags_are_taken() -> None:
    assert taken(list[Permission], [1, 3, 11, 0]) == [
        Permission.READ,
        Permission.READ | Permission.WRITE,
        Permission.READ | Permission.WRITE | Permission.OWN,
        Permission(0),
    ]
    assert taken(Mark, 3) == Mark(1) | Mark(2)


def test_of_many_flags_only_those_with_a_name_are_taken() -> None:
    assert taken(Many, 2**16) is Many(2**16)
    kept = len(Many._value2member_map_)
    assert "must be made of the flags" in misfit(Many, 3)
    assert len(Many._value2member_map_) == kept
