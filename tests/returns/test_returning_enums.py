"""Members of enums and literals are known by value and type: True is not 1, nor is 1.0."""

from __future__ import annotations

import decimal
import enum
import math
from typing import Any, Literal

import numpy
import pytest
from helpers.shapes import taken
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import InvalidAnswer


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"
    NONE = None
    HALF = 0.5


class Zero(enum.Enum):
    NO = 0
    ONE = 1


class Switch(enum.Enum):
    ON = True
    OFF = False


class Price(enum.Enum):
    LOW = 1.0
    UNKNOWN = math.nan
    MOST = math.inf


class Corner(enum.Enum):
    FIRST = (1, 2)
    SECOND = [1, [True]]  # noqa: RUF012 - a member, not a default
    THIRD = {"a": 1}  # noqa: RUF012 - the same


class Point(tuple[int, int], enum.Enum):
    ORIGIN = (0, 0)
    UNIT = (1, 1)


class Level(enum.IntEnum):
    LOW = 1


class Weight(float, enum.Enum):
    LIGHT = 1.0


class Foreign(enum.Enum):
    ONE = numpy.int64(1)
    HALF = decimal.Decimal("0.5")


class Bit(enum.Flag):
    ONE = 1


class Lenient(enum.Enum):
    NO = 0
    OTHER = "other"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        if value == "none":
            raise ValueError("no such thing")
        return cls.OTHER if isinstance(value, str) else value


NAN = math.nan


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        (Colour, 1, Colour.RED),
        (Colour, "b", Colour.BLUE),
        (Colour, None, Colour.NONE),
        (Colour, 0.5, Colour.HALF),
        (Zero, 0, Zero.NO),
        (Switch, True, Switch.ON),
        (Switch, 0, Switch.OFF),  # as a node sends False
        (Price, 1.0, Price.LOW),
        (Price, 1, Price.LOW),  # as everywhere where a float is wanted
        (Price, NAN, Price.UNKNOWN),
        (Price, math.inf, Price.MOST),
        (Corner, [1, 2], Corner.FIRST),
        (Corner, [1, [True]], Corner.SECOND),
        (Corner, {"a": 1}, Corner.THIRD),
        (Point, [1, 1], Point.UNIT),
        (Weight, 1, Weight.LIGHT),
        (Foreign, 1, Foreign.ONE),
        (Foreign, 0.5, Foreign.HALF),
        (Lenient, "whatever", Lenient.OTHER),
        (Literal[Corner.FIRST], [1, 2], Corner.FIRST),
        (Colour | bool, True, True),
        (Zero | float, 1.0, 1.0),
        (Zero | str, 1, Zero.ONE),
    ],
    ids=str,
)
def test_a_member_is_taken_for_its_value(wanted: Any, answer: Any, value: Any) -> None:
    for shape in (lambda each: each, lambda each: [each], lambda each: {"a": each}):
        returns: Any = {list: list[wanted], dict: dict[str, wanted]}.get(type(shape(0)), wanted)
        made = taken(returns, shape(answer))
        assert made == shape(value)
        assert type(made) is type(shape(value))


@pytest.mark.parametrize(
    ("wanted", "answers"),
    [
        (Colour, [True, 1.0, "1", 0, [1], {"a": 1}, "secret"]),
        (Zero, [False, True, 0.0, -0.0, 1.0, None]),
        (Switch, [1.0, 2, "true"]),
        (Price, [True, "1.0", 2]),
        (Corner, [[True, 2], [1.0, 2], [1, [1.0]], [1], 1, {"a": True}, {"a": 1.0}, {"b": 1}, {}]),
        (Point, [[False, 0], [0.0, 0], [0]]),
        (Level, [True, 1.0]),
        (Weight, [True]),
        (Foreign, [True, 1.0, "0.5"]),
        (Bit, [True, 1.0]),
        (Lenient, [False, 0.0, "none", 1, [1]]),
        (Literal[1], [True, 1.0]),
        (Literal[True], [1.0]),
        (Literal[Zero.NO], [False, 0.0]),
        (Colour | str, [True, 1.0]),
        (Zero | Literal["a"], [False, 0.0]),
    ],
    ids=str,
)
def test_what_only_equals_a_member_s_value_is_refused(wanted: Any, answers: list[Any]) -> None:
    for answer in answers:
        for returns, wrapped in [
            (wanted, answer),
            (list[wanted], [answer]),
            (dict[str, wanted], {"a": answer}),
        ]:
            with pytest.raises(InvalidAnswer, match="must be") as caught:
                taken(returns, wrapped)
            assert "secret" not in str(caught.value)


plain_values = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 0.5, "", "a", "1"])


@given(st.lists(plain_values, min_size=1, max_size=4), plain_values)
def test_a_value_is_a_member_s_if_it_is_of_its_type(values: list[Any], answer: Any) -> None:
    made: Any = enum.Enum("Made", {f"M{index}": value for index, value in enumerate(values)})
    of_members = [member.value for member in made]
    fitting = [
        value
        for value in of_members
        if value == answer
        and (type(value) is type(answer) or (type(answer) is int and type(value) in (bool, float)))
    ]
    try:
        member = taken(made, answer)
    except InvalidAnswer:
        assert not fitting
    else:
        assert [member.value] == fitting
