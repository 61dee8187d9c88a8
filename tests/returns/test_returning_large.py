"""Answers that do not fit and are made so that finding that out, or saying so, takes long."""

from __future__ import annotations

import datetime
import enum
from typing import Any

import pydantic
import pytest
from helpers.shapes import taken

from trio_model_runner import InvalidAnswer


class Side(enum.Enum):
    LEFT = "left"
    BOTH = ["left", "right"]  # noqa: RUF012 - a member, not a default

    @classmethod
    def _missing_(cls, value: object) -> Any:
        assert not isinstance(value, str) or len(value) <= 1000
        return cls.LEFT if value == "LEFT" else None


class Numbers(pydantic.BaseModel):
    all: list[int]


def misfit(returns: Any, answer: Any) -> str:
    with pytest.raises(InvalidAnswer) as caught:
        taken(returns, answer)
    return str(caught.value)


class Unquotable(list[Any]):
    """A list that must not be written into an error's text."""

    def __repr__(self) -> str:
        raise AssertionError


def test_a_large_value_is_not_quoted_by_an_enum() -> None:
    expected = "the answer does not fit: $: must be one of 'left', ['left', 'right']"
    for answer in ("x" * 1001, Unquotable([1]), ["left"], {}):
        assert misfit(Side, answer) == expected
    assert taken(Side, ["left", "right"]) is Side.BOTH
    assert taken(Side, "LEFT") is Side.LEFT


@pytest.mark.parametrize("kind", [datetime.datetime, datetime.date, datetime.time])
def test_a_long_text_is_no_date(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kind(kind):  # type: ignore[misc]
        @classmethod
        def fromisoformat(cls, text: str) -> Any:
            assert len(text) <= 1000
            return super().fromisoformat(text)

    assert misfit(Kind, "2" * 1001) == "the answer does not fit: $: must be a Kind in ISO 8601"


def test_many_misfits_are_counted_and_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert misfit(Numbers, {"all": ["a"] * 1001}) == "the answer does not fit: $: 1001 misfits"
    assert misfit(Numbers, {"all": ["a"] * 1000}).count("$.all[") == 3


def test_the_text_is_short_however_long_keys_reasons_and_ways_are() -> None:
    answer: Any = "x"
    returns: Any = float
    for _ in range(20):
        answer, returns = {"k" * 1000: answer}, dict[str, returns]
    assert len(misfit(returns, answer)) < 500

    def check(answer: Any) -> Any:
        class Model(pydantic.BaseModel):
            @pydantic.field_validator("*")
            @classmethod
            def refuse(cls, value: str) -> str:
                raise ValueError(value)

            text: str

        return Model.model_validate(answer)

    assert len(misfit(check, {"text": "x" * 100_000})) < 500
