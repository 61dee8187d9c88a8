"""TypedDicts whose annotations are text, as they are under ``from __future__ import annotations``."""

from __future__ import annotations

from typing import Annotated, Any, Generic, NotRequired, Required, TypedDict, TypeVar

import pytest
import typing_extensions
from helpers.shapes import taken

from trio_model_runner import InvalidAnswer

T = TypeVar("T")


class Partly(TypedDict):
    a: int
    b: NotRequired[dict[int, int]]


class Mostly(TypedDict, total=False):
    a: Required[int]
    b: Annotated[Required[float], "a note"]
    c: int


class More(Mostly):
    d: int


class Extended(typing_extensions.TypedDict):
    a: typing_extensions.ReadOnly[Required[int]]
    b: NotRequired[typing_extensions.ReadOnly[int]]


class Filled(TypedDict, Generic[T]):
    a: NotRequired[T]
    b: list[T]


class Node(TypedDict):
    sides: NotRequired[dict[int, Node]]
    next: NotRequired[Node | None]


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        (Partly, {"a": 1}, {"a": 1}),
        (Partly, {"a": 1, "b": {"1": 2}}, {"a": 1, "b": {1: 2}}),
        (Mostly, {"a": 1, "b": 1}, {"a": 1, "b": 1.0}),
        (More, {"a": 1, "b": 1, "d": 2}, {"a": 1, "b": 1.0, "d": 2}),
        (Extended, {"a": 1}, {"a": 1}),
        (Filled[float], {"b": [1]}, {"b": [1.0]}),
        (Filled[float], {"a": 1, "b": []}, {"a": 1.0, "b": []}),
        (Node, {}, {}),
        (Node, {"sides": {"1": {"next": {}}}, "next": None}, {"sides": {1: {"next": {}}}, "next": None}),
    ],
)
def test_fields_may_be_left_out_if_they_are_not_required(wanted: Any, answer: Any, value: Any) -> None:
    for returns, given, expected in [(wanted, answer, value), (list[wanted] | None, [answer], [value])]:
        assert repr(taken(returns, given)) == repr(expected)


@pytest.mark.parametrize(
    ("wanted", "answer", "reason"),
    [
        (Partly, {}, "$.a: it is missing"),
        (Partly, {"a": 1, "b": 1}, "$.b: must be an object, for dict[int, int], got int"),
        (Mostly, {"a": 1}, "$.b: it is missing"),
        (More, {"a": 1, "b": 1}, "$.d: it is missing"),
        (Extended, {}, "$.a: it is missing"),
        (Filled[float], {"a": "a", "b": []}, "$.a: must be float, got str"),
        (Node, {"sides": {"1": {"sides": {"a": {}}}}}, "$.sides['1'].sides.a: key must be int"),
        (Node, [], "$: must be an object, for Node, got list"),
    ],
)
def test_a_field_that_is_required_must_be_there(wanted: Any, answer: Any, reason: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        taken(wanted, answer)
    assert str(caught.value) == f"the answer does not fit: {reason}"
