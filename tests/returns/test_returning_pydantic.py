"""An answer may be made a pydantic model; what does not fit is told without values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic
import pytest

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
