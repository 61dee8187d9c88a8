"""An answer may be made a pydantic model; what does not fit is told without values."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import pydantic
import pytest
from pydantic import Json

from trio_model_runner import InvalidAnswer
from trio_model_runner.returns import Structurer, structurer


class Point(pydantic.BaseModel):
    x: float
    tags: list[int] = []


def made(returns: Any) -> Structurer:
    structure = structurer(returns)
    assert structure is not None
    return structure


@pytest.mark.parametrize(
    "returns", [Point, Point.model_validate, pydantic.TypeAdapter(Point).validate_python]
)
def test_a_model_and_its_validators_are_taken(returns: type[Point] | Callable[[Any], Point]) -> None:
    structure = made(returns)
    assert structure({"x": 1}) == Point(x=1)
    answer = {"x": "secret", "tags": [1, "secret"]}
    with pytest.raises(InvalidAnswer) as caught:
        structure(answer)
    assert "$.tags[1]: " in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.value is answer


def test_models_inside_other_types() -> None:
    assert made(list[Point])([{"x": 1}]) == [Point(x=1)]
    with pytest.raises(InvalidAnswer) as caught:
        made(list[Point])([{"x": 1}, {}])
    assert str(caught.value) == "the answer does not fit: $[1].x: Field required"
    assert made(Point | None)(None) is None
    assert made(Point | None)({"x": 1}) == Point(x=1)


class Numbers(pydantic.BaseModel):
    all: list[int] = []
    more: Any = None


def misfit(returns: Any, answer: Any) -> str:
    with pytest.raises(InvalidAnswer) as caught:
        made(returns)(answer)
    return str(caught.value)


def test_it_is_not_given_too_many_values_at_once() -> None:
    largest = {"all": [1] * 49_998}
    assert made(Numbers)(largest).all == largest["all"]
    refused = "more than 50000 values for Numbers"
    assert misfit(Numbers, {"all": [1] * 49_999, "more": 1}) == f"the answer does not fit: $: {refused}"
    assert misfit(Numbers, {"all": [], "more": {"a": [[]] * 49_998}}).endswith(refused)
    assert misfit(list[Numbers], [largest, {"all": [1] * 50_000}]).endswith(f"$[1]: {refused}")
    assert len(made(list[Numbers])([largest] * 3)) == 3


def test_it_is_not_given_too_many_characters_at_once() -> None:
    class Strict(pydantic.BaseModel, extra="forbid"):
        text: str = ""

    class Root(pydantic.RootModel[str]):
        pass

    most = 2**19 - len("text")
    assert made(Strict)({"text": "a" * most}).text == "a" * most
    assert made(Root)("a" * 2**19).root == "a" * 2**19
    refused = f"more than {2**19} characters for "
    assert misfit(Strict, {"text": "a" * (most + 1)}).endswith(refused + "Strict")
    assert misfit(Strict, {"a" * 2**18: 1, "b" * 2**18: 1, "c": 1}).endswith(refused + "Strict")
    assert misfit(Root, "a" * (2**19 + 1)).endswith(refused + "Root")
    assert misfit(list[Root], ["", "a" * (2**19 + 1)]).endswith("$[1]: " + refused + "Root")


MODULUS = 2**61 - 1
SAME_HASH = [2**64 // MODULUS * MODULUS + index * MODULUS for index in range(1, 22)]


class Hashed(pydantic.BaseModel):
    numbers: set[int] = set()
    keys: dict[int | None, int] = {}


@pytest.mark.parametrize(
    "answer",
    [
        {"numbers": SAME_HASH},
        {"numbers": [str(number) for number in SAME_HASH]},
        {"numbers": [f" +0_{number}.00 " for number in SAME_HASH]},
        {"keys": {str(number): 0 for number in SAME_HASH}},
        {"keys": dict.fromkeys(map(str, SAME_HASH[:11]), 0), "numbers": SAME_HASH[11:]},
    ],
)
def test_it_is_not_given_many_whole_numbers_of_one_hash(answer: Any) -> None:
    assert misfit(Hashed, answer).endswith("$: more than 20 whole numbers of the same hash")
    few = {name: type(items)(list(items)[:10]) for name, items in answer.items() if isinstance(items, list)}
    made(Hashed)(few)


def test_other_whole_numbers_may_be_many_and_long() -> None:
    numbers = list(range(-2400, 2400))
    assert made(Hashed)({"numbers": numbers}).numbers == set(numbers)
    amounts = [10**30 + number for number in range(100)] + [2**80] * 100
    assert made(Hashed)({"numbers": amounts}).numbers == set(amounts)
    assert made(Numbers)({"more": ["1" * 5000, "1__0" * 9]}).more[1] == "1__0" * 9


@pytest.mark.parametrize(
    ("kind", "few"),
    [
        (set[UUID], [str(UUID(int=1))]),
        (frozenset[tuple[int, ...]], [[1, 2]]),
        (dict[UUID, Any], {}),
        (set[Decimal], ["1.5"]),
        (set[int | Decimal], [1]),
        (Json[set[int]], "[1]"),
    ],
)
def test_its_sets_of_what_may_have_any_hash_are_small(kind: Any, few: Any) -> None:
    model = pydantic.create_model("Model", items=(kind, ...))
    made(model)({"items": few, "more": [0] * 990})
    if kind == Json[set[int]]:
        refused = misfit(model, {"items": few, "more": "a" * 2**14})
        assert refused.endswith("more than 16384 characters for Model")
    else:
        refused = misfit(model, {"items": few, "more": [0] * 1000})
        assert refused.endswith("$: a list of 1000, too many for the sets in Model")


@pytest.mark.parametrize(
    "kind", [set[int], dict[int, Any], set[float], set[datetime.datetime], set[Any]], ids=str
)
def test_its_sets_of_what_can_be_chosen_for_its_hash_are_bounded(kind: Any) -> None:
    model = pydantic.create_model("Model", items=(kind, ...))
    few: Any = {} if kind == dict[int, Any] else []
    made(model)({"items": few, "more": [0] * 4990})
    refused = misfit(model, {"items": few, "more": [0] * 5000})
    assert refused.endswith("$: a list of 5000, too many for the sets in Model")
    made(model)({"items": few, "more": [[0] * 400] * 100})


def test_models_that_make_no_such_sets_have_no_such_bound() -> None:
    class Rows(pydantic.BaseModel):
        rows: list[list[int]]
        names: set[str]
        by_name: dict[str, int]
        later: Later | None = None

    class Later(pydantic.BaseModel):
        sides: set[Literal["a"]]

    Rows.model_rebuild()
    answer: dict[str, Any] = {"rows": [[-1, -2]] * 10_000, "names": ["a"] * 5000, "by_name": {}}
    assert len(made(Rows)(answer).rows) == 10_000
