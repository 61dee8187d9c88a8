"""A round's line is strict JSON, has an entry for each model in each column, and is bounded."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from typing import Any

import attrs
import pyarrow as pa
import pytest
from helpers.played import played
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.instruments.record import as_line, round_row


def refuse(constant: str) -> Any:
    raise AssertionError(constant)


def read(line: bytes) -> Any:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line.decode("utf-8"), parse_constant=refuse)


def test_a_round_has_its_models_in_columns() -> None:
    assert list(read(as_line(round_row("bird-game", played()))).items()) == [
        ("v", 1),
        ("crunch_id", "bird-game"),
        ("id", 7),
        ("method", "predict"),
        ("started", 1764133200.123),
        ("timeout", 5.0),
        ("seconds", 0.9123),
        ("model_ids", ["m0", "m1", "m2", "m3", "m4", "m5"]),
        ("deployment_ids", ["17", "18", "19", "20", "21", "22"]),
        ("statuses", "SSTFKA"),
        ("elapsed", [0.1235, 0.2469, 0.3704, 0.4938, None, None]),
        ("sent", "111100"),
        ("details", {"m2": "it is T", "m3": "it is F", "m4": "it is K", "m5": "it is A"}),
    ]


def test_what_json_lacks_is_null() -> None:
    row = read(as_line(round_row("c", played("S", timeout=math.inf, elapsed=math.nan, round_id="x7"))))
    assert (row["timeout"], row["seconds"], row["id"]) == (None, None, "x7")


def test_lines_are_strict_whatever_is_in_them() -> None:
    assert read(as_line({"crunch_id": "a\ud83dä\u2028\n"})) == {"crunch_id": "a?ä\u2028\n"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_line({"seconds": math.nan})


def test_details_are_short_and_few() -> None:
    many = played("F" * 300)
    for result in many.values():
        object.__setattr__(result, "detail", "\x1b[31m\ud83d" + "long " * 100)
    details = read(as_line(round_row("c", many)))["details"]
    assert len(details) == 100
    assert {len(each) for each in details.values()} == {200}
    assert details["m0"].startswith("\\x1b[31m\\ud83dlong")


def test_a_thousand_models_take_little_room() -> None:
    assert len(as_line(round_row("bird-game", played("S" * 1000)))) < 32_000


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Point:
    x: float


@dataclasses.dataclass
class Pair:
    points: list[Point]


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (1.5, 1.5),
        (math.nan, None),
        ({"a": [1, (True, None)]}, {"a": [1, [True, None]]}),
        (Pair([Point(1.0), Point(-math.inf)]), {"points": [{"x": 1.0}, {"x": None}]}),
        (Colour.RED, "red"),
        ("x" * 256, "x" * 256),
        ([0] * 63, [0] * 63),
    ],
)
def test_small_values_are_recorded_on_request(value: Any, recorded: Any) -> None:
    row = read(as_line(round_row("c", played("SF", values=[value]), values=True)))
    assert row["values"] == [recorded, None]
    assert "values_left_out" not in row
    assert "values" not in round_row("c", played("SF", values=[value]))


@pytest.mark.parametrize(
    "value",
    ["x" * 257, [0] * 64, {1: 2}, {"x" * 300: 1}, 2**70, pa.table({"a": [1]}), b"x", {1}, [object()]],
    ids=lambda value: type(value).__name__,
)
def test_others_are_left_out(value: Any) -> None:
    row = read(as_line(round_row("c", played("SS", values=[value, 2]), values=True)))
    assert (row["values"], row["values_left_out"]) == ([None, 2], 1)


def test_one_that_holds_itself_is_left_out() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert round_row("c", played("S", values=[endless]), values=True)["values_left_out"] == 1


@attrs.define
class Unset:
    x: float
    y: float = attrs.field(init=False)


@dataclasses.dataclass
class UnsetToo:
    x: float
    y: float = dataclasses.field(init=False)


class Broken(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError("no items")


@pytest.mark.parametrize(
    "value", [Unset(1.0), UnsetToo(1.0), Broken()], ids=lambda value: type(value).__name__
)
def test_classes_that_raise_are_left_out(value: Any) -> None:
    row = round_row("c", played("SS", values=[value, 2]), values=True)
    assert (row["values"], row["values_left_out"]) == ([None, 2], 1)


@pytest.mark.parametrize(
    ("value", "recorded"),
    [([0.5] * 63, 125), ({f"k{number}": 1 for number in range(31)}, 126), ([0] * 100, 0), (1.5, 2000)],
    ids=["numbers", "keys", "too large", "small"],
)
def test_the_answers_of_a_round_are_bounded_together(value: Any, recorded: int) -> None:
    values = round_row("c", played("S" * 2000, values=[value] * 2000), values=True)["values"]
    assert values == [value] * recorded + [None] * (2000 - recorded)


@pytest.mark.parametrize("character", ["x", "\N{PILE OF POO}", "\x01"])
def test_their_texts_fill_less_than_a_mebibyte(character: str) -> None:
    row = round_row("c", played("S" * 1000, values=[[character * 256] * 63] * 1000), values=True)
    assert row["values_left_out"] == 992
    assert len(as_line(row)) < 1 << 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(st.text("SFTKA", max_size=20), st.lists(JSON, max_size=20), st.text(st.characters(), max_size=8))
def test_whatever_comes_the_line_is_strict(statuses: str, values: list[Any], crunch_id: str) -> None:
    row = read(as_line(round_row(crunch_id, played(statuses, values=values), values=True)))
    columns = ("model_ids", "deployment_ids", "statuses", "elapsed", "sent", "values")
    assert {len(row[column]) for column in columns} == {len(statuses)}
    assert row["statuses"] == statuses
