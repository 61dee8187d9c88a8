"""What `returns=` takes, and what it says of what does not fit."""

from __future__ import annotations

import collections
import datetime
import math
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import attrs
import pandas
import pyarrow
import pytest
from helpers.shapes import (
    Box,
    Chain,
    Down,
    Identifier,
    Level,
    Pair,
    Path,
    Plain,
    Point,
    Positive,
    Quote,
    Side,
    Symbol,
    Tree,
    Up,
    Word,
    taken,
)

from trio_model_runner import InvalidAnswer
from trio_model_runner.returns import structurer

THREE_MISFITS = (
    "$.points[0].x: must be float, got NoneType; "
    "$.side: must be one of 'left', 'right'; "
    "$.tag: must be str or None, got int"
)
UUID = uuid.UUID(int=7)
TABLE = pyarrow.table({"a": [1]})


def named(value: object) -> str:
    """A test's id, the same in every process."""
    return re.sub(" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        (float, 1.5, 1.5),
        (float, 3, 3.0),
        (float, math.inf, math.inf),
        (int, 2**70, 2**70),
        (str, "a", "a"),
        (bool, True, True),
        (bool, 1, True),
        (bool, 0, False),
        (type(None), None, None),
        (object, [1], [1]),
        (Any, [1], [1]),
        (list, [1, "a"], [1, "a"]),
        (dict, {"a": [1]}, {"a": [1]}),
        (list[float], [1, 2.5], [1.0, 2.5]),
        (tuple[float, str], [1, "a"], (1.0, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (set[int], [1, 1], {1}),
        (frozenset[str], ["a"], frozenset("a")),
        (collections.deque[int], [1], collections.deque([1])),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (list[list[int]], [[1], []], [[1], []]),
        (Point, {"x": 1}, Point(1.0)),
        (Point, {"x": 1, "y": 2.5, "z": "ignored"}, Point(1.0, 2.5)),
        (list[Point], [{"x": 1}], [Point(1.0)]),
        (Path, {"points": [{"x": 1}], "side": "right"}, Path([Point(1.0)], Side.RIGHT)),
        (Tree, {"size": 1, "branches": [{"size": 2}]}, Tree(1, [Tree(2)])),
        (Chain, {"value": 1, "next": {"value": 2}}, Chain(1, Chain(2))),
        (Quote, {"symbol": "BTC"}, {"symbol": "BTC"}),
        (Pair, [1, "a"], Pair(1, "a")),
        (Plain, [1, "a"], Plain(1, "a")),
        (Box[int], {"content": 1}, Box(1)),
        (dict[str, list[Side]], {"a": ["left"]}, {"a": [Side.LEFT]}),
        (uuid.UUID, str(UUID), UUID),
        (Side, "left", Side.LEFT),
        (Level, 2, Level.HIGH),
        (Word, "yes", Word.YES),
        (Symbol, "BTC", Symbol("BTC")),
        (Identifier, 7, 7),
        (Literal["up", "down"], "up", "up"),
        (Literal[True], 1, True),
        (Literal[Side.LEFT], "left", Side.LEFT),
        (Annotated[float, "in metres"], 1, 1.0),
        (float | None, None, None),
        (float | None, 1, 1.0),
        (int | float, 5.5, 5.5),
        (float | int, 5, 5),
        (int | str, "a", "a"),
        (bool | str, 1, True),
        (float | list[float], [1], [1.0]),
        (list[int] | list[str], ["a"], ["a"]),
        (Up | Down, {"kind": "down", "by": 1}, Down("down", 1)),
        (Up | Down | float, 1, 1.0),
        (Point | None, {"x": 1}, Point(1.0)),
        (
            datetime.datetime,
            "2026-01-01T12:00:00+00:00",
            datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC),
        ),
        (datetime.date, "2026-01-01", datetime.date(2026, 1, 1)),
        (datetime.time, "12:30", datetime.time(12, 30)),
        (pyarrow.Table, TABLE, TABLE),
        (lambda answer: answer + 1, 1, 2),
        (dict.fromkeys, ["a"], {"a": None}),
    ],
    ids=named,
)
def test_what_fits_is_made_what_was_asked_for(wanted: Any, answer: Any, value: Any) -> None:
    made = taken(wanted, answer)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("wanted", "answer", "reason"),
    [
        (float, "3", "$: must be float, got str"),
        (float, True, "$: must be float, got bool"),
        (float, None, "$: must be float, got NoneType"),
        (float, 10**400, "$: must be float, got an int too large for one"),
        (int, 3.0, "$: must be int, got float"),
        (int, True, "$: must be int, got bool"),
        (str, 5, "$: must be str, got int"),
        (bool, 2, "$: must be bool, got int"),
        (bool, "true", "$: must be bool, got str"),
        (bytes, "a", "$: must be bytes, got str"),
        (type(None), 0, "$: must be None, got int"),
        (list, "abc", "$: must be a list, for list, got str"),
        (list[str], "abc", "$: must be a list, for list[str], got str"),
        (list[str], {"a": 1}, "$: must be a list, for list[str], got dict"),
        (list[float], [1, "a"], "$[1]: must be float, got str"),
        (tuple[float, float], [1], "$: must be a list of 2, for tuple[float, float], got 1"),
        (set[int], [[1]], "$[0]: must be int, got list"),
        (dict[str, float], [1], "$: must be an object, for dict[str, float], got list"),
        (dict[str, float], {"a key": "1"}, "$['a key']: must be float, got str"),
        (dict[str, float], {"k" * 50: "1"}, f"$[{'k' * 40!r}...]: must be float, got str"),
        (Point, [1], "$: must be an object, for Point, got list"),
        (Point, {"y": 1}, "$.x: it is missing"),
        (list[Point], [{"x": 1}, {"x": "a"}], "$[1].x: must be float, got str"),
        (
            Path,
            {"points": [{"x": None}], "side": "up", "tag": 5},
            THREE_MISFITS,
        ),
        (Tree, {"size": 1, "branches": [{"size": "a"}]}, "$.branches[0].size: must be int, got str"),
        (Chain, {"value": 1, "next": {"value": "a"}}, "$.next.value: must be int, got str"),
        (Quote, {"symbol": 1}, "$.symbol: must be str, got int"),
        (Quote, {"symbol": "BTC", "price": "1"}, "$.price: must be float, got str"),
        (Quote, {}, "$.symbol: it is missing"),
        (Quote, "BTC", "$: must be an object, for Quote, got str"),
        (Pair, [1], "$: must be a list of 2, for Pair, got 1"),
        (Pair, ["a", "b"], "$[0]: must be int, got str"),
        (Box[int], {"content": "a"}, "$.content: must be int, got str"),
        (Side, "up", "$: must be one of 'left', 'right'"),
        (Level, 3, "$: must be one of 1, 2"),
        (Level, "1", "$: must be Level, got str"),
        (Word, "no", "$: must be one of 'yes'"),
        (Identifier, "7", "$: must be int, got str"),
        (Literal["up", 1], "secret", "$: must be one of 'up', 1"),
        (Literal[1], True, "$: must be one of 1"),
        (float | None, "a", "$: must be float or None, got str"),
        (int | str, 5.0, "$: must be int or str, got float"),
        (float | list[float], ["a"], "$[0]: must be float, got str"),
        (list[int] | list[str], [1.5], "$: must be list[int] or list[str], got list"),
        (Up | Down, {"kind": "secret"}, "$: must be Down or Up"),
        (Up | Down, {"kind": "up"}, "$.by: it is missing"),
        (Up | Down | None, 3, "$: must be Down or Up or None, got int"),
        (datetime.datetime, 5, "$: must be datetime, got int"),
        (uuid.UUID, UUID.hex, "$: must be a UUID, in 36 characters"),
        (uuid.UUID, 5, "$: must be UUID, got int"),
        (datetime.datetime, "secret", "$: must be a datetime in ISO 8601"),
        (pyarrow.Table, [1], "$: must be Table, got list"),
        (pandas.DataFrame, TABLE, "$: must be DataFrame, got Table"),
        (Positive, {"value": -1}, "$: ValueError: 'value' must be > 0: -1"),
        (
            list[int],
            ["a"] * 5,
            "; ".join(f"$[{index}]: must be int, got str" for index in range(3)) + "; ...",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_with_its_place_and_without_its_value(
    wanted: Any, answer: Any, reason: str
) -> None:
    for _ in range(2):
        with pytest.raises(InvalidAnswer) as caught:
            taken(wanted, answer)
        assert str(caught.value) == f"the answer does not fit: {reason}"
        assert caught.value.value is answer


def test_nothing_asked_for_is_nothing_to_do() -> None:
    assert structurer(None) is None


@pytest.mark.parametrize("wanted", ["float", 5, object(), [float]])
def test_what_is_no_type_and_no_function_is_refused_at_once(wanted: Any) -> None:
    with pytest.raises(TypeError, match="returns: must be a type or a function, got"):
        structurer(wanted)


@pytest.mark.parametrize(
    "wanted",
    [complex, list[complex], tuple[complex], dict[str, complex], Box[complex], complex | None, InvalidAnswer],
)
def test_a_type_that_no_answer_can_become_is_refused_at_once(wanted: Any) -> None:
    with pytest.raises(TypeError, match=r"returns: no answer can be made a .*give a function instead"):
        structurer(wanted)


def test_a_name_that_means_nothing_is_refused_at_once() -> None:
    @attrs.frozen
    class Lost:
        value: Nowhere  # type: ignore[name-defined]  # noqa: F821 - the test's point

    with pytest.raises(
        TypeError, match="returns: no answer can be made a Lost: name 'Nowhere' is not defined"
    ):
        structurer(Lost)
