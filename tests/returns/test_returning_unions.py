"""Whatever the order in which a union or a literal is written, and whichever was asked for first."""

from __future__ import annotations

import datetime
import enum
import functools
import itertools
import operator
import typing
import uuid
from collections.abc import Sequence
from typing import Any, Literal, NewType

import pytest
from helpers.shapes import Point, Word, taken

from trio_model_runner import InvalidAnswer
from trio_model_runner.returns import structuring


class Number(enum.Enum):
    ONE = 1
    TEXT = "2026-01-02"


class Positive(int):
    pass


Amount = NewType("Amount", int)
DAY = "2026-01-02"


@pytest.mark.parametrize(
    ("members", "answer", "value"),
    [
        ([bool, Number], 1, Number.ONE),
        ([bool, Number], True, True),
        ([Literal[1], Number], 1, 1),
        ([Literal["a"], bool, Number], 1, Number.ONE),
        ([bool, float], 1, 1.0),
        ([bool, Positive], 1, Positive(1)),
        ([bool, Amount], 1, 1),
        ([bool, int, None], 1, 1),
        ([datetime.datetime, datetime.date], DAY, datetime.date(2026, 1, 2)),
        ([datetime.datetime, datetime.date], f"{DAY}T00:00", datetime.datetime(2026, 1, 2)),
        ([datetime.date, Number, Word], DAY, Number.TEXT),
        ([uuid.UUID, datetime.time, Word], "12:30", datetime.time(12, 30)),
        ([str, datetime.date], DAY, DAY),
        ([list[int], tuple[int, int], set[int]], [1, 2], (1, 2)),
        ([list[int], tuple[int, int], set[int]], [1], [1]),
        ([frozenset[int], set[int]], [1], frozenset([1])),
        ([list[int] | None, Point | bool, float], 1, 1.0),
    ],
    ids=str,
)
def test_the_order_of_a_union_makes_no_difference(members: list[Any], answer: Any, value: Any) -> None:
    for ordered in itertools.permutations(members):
        structuring._structurer.cache_clear()
        structuring._converter.cache_clear()
        union = functools.reduce(operator.or_, ordered)
        old: Any = typing.Union.__getitem__(ordered)  # type: ignore[attr-defined]
        for wanted, given, expected in [
            (union, answer, value),
            (list[union], [answer], [value]),
            (dict[str, old], {"a": answer}, {"a": value}),
        ]:
            made = taken(wanted, given)
            assert repr(made) == repr(expected)


def test_a_misfit_is_told_in_the_same_order() -> None:
    texts = set()
    for union in (bool | Number | None, None | Number | bool):
        structuring._structurer.cache_clear()
        structuring._converter.cache_clear()
        with pytest.raises(InvalidAnswer) as caught:
            taken(union, "a")
        texts.add(str(caught.value))
    assert texts == {"the answer does not fit: $: must be Number or bool or None, got str"}


@pytest.mark.parametrize(
    ("choices", "answer", "value"),
    [
        ((1, True), 1, 1),
        ((1, True), True, True),
        ((Number.ONE, 1), 1, 1),
        ((Number.ONE, True), 1, Number.ONE),
        ((Number.TEXT, DAY), DAY, DAY),
    ],
    ids=str,
)
def test_the_order_of_a_literal_makes_no_difference(choices: Sequence[Any], answer: Any, value: Any) -> None:
    for ordered in itertools.permutations(choices):
        structuring._structurer.cache_clear()
        structuring._converter.cache_clear()
        made = taken(Literal[ordered], answer)
        assert made == value
        assert type(made) is type(value)
