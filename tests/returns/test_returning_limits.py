"""Functions given as `returns=`, pydantic's models, and answers that are made to hurt."""

from __future__ import annotations

import threading
from typing import Any

import attrs
import pytest
from helpers.shapes import Chain, Down, Pair, Path, Point, Positive, Quote, Side, Up, taken
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import InvalidAnswer
from trio_model_runner.returns import structurer


def test_a_function_that_raises_value_error_finds_a_misfit() -> None:
    def check(answer: Any) -> Any:
        raise ValueError("too high")

    with pytest.raises(InvalidAnswer, match=r"^the answer does not fit: too high$") as caught:
        taken(check, 5)
    assert caught.value.value == 5
    assert isinstance(caught.value.__cause__, ValueError)


def test_any_other_exception_of_a_function_is_its_own() -> None:
    def fail(answer: Any) -> Any:
        return answer["missing"]

    with pytest.raises(KeyError):
        taken(fail, {})


class LikePydantic(ValueError):
    """What a pydantic ValidationError looks like."""

    def __str__(self) -> str:
        return "1 validation error\nprice\n  Input should be ... [input_value='secret']"

    def error_count(self) -> int:
        return 1

    def errors(self, **options: bool) -> list[dict[str, Any]]:
        assert options == {"include_url": False, "include_context": False, "include_input": False}
        return [{"loc": ("prices", 2, "a b"), "msg": "Input should be a valid number"}]


class LikeAModel:
    """What a pydantic model looks like."""

    @classmethod
    def model_validate(cls, value: Any) -> LikeAModel:
        if value == "good":
            return cls()
        raise LikePydantic


def test_pydantic_s_errors_are_told_in_a_line_and_without_values() -> None:
    line = "the answer does not fit: $.prices[2]['a b']: Input should be a valid number"
    for wanted in (LikeAModel.model_validate, LikeAModel):
        assert isinstance(taken(wanted, "good"), LikeAModel)
        with pytest.raises(InvalidAnswer) as caught:
            taken(wanted, "secret")
        assert str(caught.value) == line
    with pytest.raises(InvalidAnswer) as caught:
        taken(list[LikeAModel], ["good", "secret"])
    assert str(caught.value) == line.replace("$", "$[1]")


def test_an_answer_that_does_not_fit_anywhere_is_not_looked_at_to_the_end() -> None:
    looked_at = []

    def look(instance: Any, attribute: Any, value: Any) -> None:
        looked_at.append(value)
        raise ValueError("no")

    @attrs.frozen
    class Watched:
        value: int = attrs.field(validator=look)

    with pytest.raises(
        InvalidAnswer, match=r"^the answer does not fit: \$\[0\]: ValueError: no; .*; \.\.\.$"
    ):
        taken(list[Watched], [{"value": number} for number in range(10_000)])
    assert len(looked_at) < 50


def test_an_answer_that_is_nested_too_deeply_for_a_type_does_not_fit() -> None:
    answer: Any = None
    for number in range(20_000):
        answer = {"value": number, "next": answer}
    with pytest.raises(InvalidAnswer, match="it is nested too deeply"):
        taken(Chain, answer)


def test_what_a_validator_says_has_an_end() -> None:
    with pytest.raises(InvalidAnswer) as caught:
        taken(Positive, {"value": -(10**4000)})
    assert len(str(caught.value)) < 300


def test_a_structurer_serves_several_threads() -> None:
    structure = structurer(list[Path])
    assert structure is not None
    texts: list[str] = []

    def misfit() -> None:
        for _ in range(50):
            try:
                structure([{"points": [{"x": "a"}]}])
            except InvalidAnswer as error:
                texts.append(str(error))

    threads = [threading.Thread(target=misfit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["the answer does not fit: $[0].points[0].x: must be float, got str"] * 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
near_misses = json_values | st.fixed_dictionaries(
    {"x": json_values, "points": st.lists(json_values, max_size=2), "value": json_values, "next": json_values}
)


@given(
    st.sampled_from(
        [
            float,
            bool,
            list[Point],
            Path,
            Chain,
            Quote,
            Pair,
            Side,
            Up | Down | None,
            dict[str, float | list[int]],
        ]
    ),
    near_misses,
)
def test_any_answer_fits_or_is_invalid(wanted: Any, answer: Any) -> None:
    caught: InvalidAnswer | None = None
    try:
        taken(wanted, answer)
    except InvalidAnswer as error:
        caught = error
    assert caught is None or (caught.value is answer and str(caught).startswith("the answer does not fit: $"))
