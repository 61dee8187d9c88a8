"""Any value is told in JSON that every reader takes. What JSON lacks becomes the next best; nothing fails."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import inspect
import ipaddress
import json
import math
import pathlib
import sys
import types
import uuid
from collections.abc import Iterator
from typing import Any

import attrs
import numpy
import pandas
import polars
import pyarrow
import pydantic
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import DataType, Encoded
from trio_model_runner.values.results import PredictResult, Status
from trio_model_runner.values.strict_json import strict_json


class Side(enum.Enum):
    LEFT = 1
    PAIR = (1, math.nan)
    TEXT = "text"


class Level(enum.IntEnum):
    LOW = 1


@attrs.frozen
class Point:
    x: float
    y: Any = None


@dataclasses.dataclass
class Plain:
    sides: Any


class Quote(pydantic.BaseModel):
    price: float
    day: datetime.date
    key: pydantic.SecretStr
    kept_back: str = pydantic.Field(default="no", exclude=True)


class Numbers(pydantic.RootModel[list[float]]):
    pass


class Careless:
    """Fails whoever looks at it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    @property
    def __class__(self) -> Any:
        raise ValueError("no class")


class CarelessList(list[int]):
    def __iter__(self) -> Iterator[int]:
        raise ValueError("no items")


class CarelessDict(dict[str, int]):
    def items(self) -> Any:
        raise ValueError("no items")


class NoPairs(dict[str, int]):
    def items(self) -> Any:
        return [1, 2]


class NoZone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> Any:
        raise ValueError("no offset")


class Endless:
    def model_dump(self) -> Any:
        return self


class Boastful(int):
    def __repr__(self) -> str:
        return "many"


UUID = uuid.UUID(int=7)
DAY = datetime.date(2026, 1, 2)
DAY_ANYWHERE = datetime.datetime(2026, 1, 2, tzinfo=NoZone())
TIMES = numpy.array(["2026-01-02", "NaT"], dtype="datetime64[ns]")
COLUMNS = [{"name": "a", "type": "int64"}, {"name": "b", "type": "double"}]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, None),
        (True, True),
        ([2**64 - 1, -(2**63)], [2**64 - 1, -(2**63)]),
        ([2**64, -(2**63) - 1, 2**1023], [2.0**64, -(2.0**63), 2.0**1023]),
        ([2**1024, 10**5000], [None, None]),
        ({2**70: 2**70}, {str(2**70): 2.0**70}),
        (Boastful(5), 5),
        (1.5, 1.5),
        (math.nan, None),
        (-math.inf, None),
        ("\ud83d \u00e9", "\\ud83d \u00e9"),
        (numpy.str_("x"), "x"),
        ([1, (2, [math.inf])], [1, [2, [None]]]),
        (collections.deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({"a": math.nan, "\ud83d": 1}, {"a": None, "\\ud83d": 1}),
        (types.MappingProxyType({"a": [1]}), {"a": [1]}),
        ({1: 0, 1.5: 0, None: 0, math.inf: 0}, {"1": 0, "1.5": 0, "null": 0, "Infinity": 0}),
        ({True: 0, math.nan: 0, Side.TEXT: 0}, {"true": 0, "NaN": 0, "text": 0}),
        ({DAY: 0, UUID: 0, b"a": 0}, {"2026-01-02": 0, str(UUID): 0, "YQ==": 0}),
        ({numpy.int64(1): 0, Level.LOW: 0}, {"1": 0}),
        ({1: "a", "1": "b"}, [[1, "a"], ["1", "b"]]),
        ({(1, 2): [3], "a": 4}, [[[1, 2], [3]], ["a", 4]]),
        (Side.LEFT, 1),
        (Side.PAIR, [1, None]),
        (Level.LOW, 1),
        (Point(math.nan, Point(1.0)), {"x": None, "y": {"x": 1.0, "y": None}}),
        (Plain({1: Side.LEFT}), {"sides": {"1": 1}}),
        (Quote(price=math.inf, day=DAY, key="secret"), {"price": None, "day": "2026-01-02", "key": None}),
        (Numbers([1.0, math.nan]), [1.0, None]),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00+00:00"),
        (datetime.time(12, 30), "12:30:00"),
        (datetime.timedelta(minutes=1.5), 90.0),
        (decimal.Decimal("1.10"), "1.10"),
        (decimal.Decimal("NaN"), None),
        (fractions.Fraction(1, 3), "1/3"),
        (UUID, str(UUID)),
        (pathlib.PurePosixPath("/a"), "/a"),
        (ipaddress.ip_address("::1"), "::1"),
        (b"abc", "YWJj"),
        (memoryview(b"abc"), "YWJj"),
        (Encoded(DataType.DOUBLE, b"abc"), {"data_type": "DOUBLE", "data": "YWJj"}),
        (array.array("d", [1.0, math.nan]), [1.0, None]),
        (numpy.float32(0.5), 0.5),
        (numpy.float64("nan"), None),
        (numpy.bool_(True), True),
        (numpy.array([[1.0], [math.nan]]), [[1.0], [None]]),
        (numpy.array(5), 5),
        (numpy.array([object, 1], dtype=object), [None, 1]),
        (TIMES, ["2026-01-02T00:00:00.000000000", None]),
        (numpy.timedelta64(1500, "ms"), 1.5),
        (pandas.Timestamp(2026, 1, 2), "2026-01-02T00:00:00"),
        ([pandas.NaT, pandas.NA, numpy.ma.masked], [None, None, None]),
        (pandas.Series([1.0, None]), [1.0, None]),
        (pandas.Index(["a"]), ["a"]),
        (pandas.Period("2026"), "2026"),
        (polars.Series([1, None]), [1, None]),
        (pyarrow.array([1, None]), [1, None]),
        (pyarrow.chunked_array([[1]]), [1]),
        (pyarrow.table({"a": [1], "b": [1.5]}), {"shape": [1, 2], "columns": COLUMNS}),
        (pyarrow.record_batch({"a": [1], "b": [1.5]}), {"shape": [1, 2], "columns": COLUMNS}),
        ([pandas.DataFrame({"a": [1, 2]})], [{"shape": [2, 1], "columns": COLUMNS[:1]}]),
        (polars.DataFrame({"a": [1]}), {"shape": [1, 1], "columns": [{"name": "a", "type": "Int64"}]}),
        (polars.LazyFrame({"a": [1]}), None),
        ([complex(1), object(), print, ValueError("a"), Point, (each for each in "a")], [None] * 6),
        ([Careless(), CarelessList([1]), CarelessDict(a=1), Endless(), NoPairs(a=1)], [None] * 5),
        ([DAY_ANYWHERE] * 9 + [1], [None] * 9 + [1]),
        ([DAY_ANYWHERE] * 9, [None] * 9),
        ({"a": 1, Careless(): 2}, [["a", 1], [None, 2]]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_value_is_told_as(value: Any, told: Any) -> None:
    made = strict_json(value)
    assert made == told
    assert repr(made) == repr(told)  # with the types, too
    assert json.loads(json.dumps(made, allow_nan=False, ensure_ascii=False).encode()) == made


def test_a_wide_frame_is_told_by_its_first_columns() -> None:
    table = pyarrow.table({f"{index:0200}": [1] for index in range(1000)})
    told = strict_json(table)
    assert told["shape"] == [1, 1000]
    assert [column["name"] for column in told["columns"]] == ["0" * 100] * 100


def test_what_holds_itself_or_is_nested_too_deeply_has_an_end() -> None:
    loop: list[Any] = [1]
    loop += [loop, {"a": loop}]
    assert strict_json(loop) == [1, None, {"a": None}]
    shared = [1]
    assert strict_json([shared, shared]) == [[1], [1]]


def deepen(stack: int, function: Any) -> Any:
    return deepen(stack - 1, function) if stack else function()


@pytest.mark.parametrize(
    "wrap", [lambda inner: [inner], lambda inner: {"a": inner}, Point, lambda x: {(): x}]
)
def test_the_depth_does_not_depend_on_the_stack(wrap: Any) -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = wrap(deep)
    made = deepen(sys.getrecursionlimit() - len(inspect.stack(0)) - 60, lambda: strict_json(deep))
    levels = 0
    while made is not None:
        made = made["x"] if "x" in made else made["a"] if "a" in made else made[-1]
        levels += 1
    assert levels == 200


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary()
)
leaves |= (
    st.dates() | st.times() | st.datetimes() | st.timedeltas() | st.decimals() | st.uuids() | st.fractions()
)
leaves |= st.sampled_from([Side.LEFT, Side.PAIR, CarelessList(), pandas.NaT, TIMES, object()])
leaves |= st.just(10).map(lambda ten: ten**5000)
hashable = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=3)
)
hashable |= st.dates() | st.tuples(st.integers(), st.floats()) | st.sampled_from(Side)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.sets(hashable, max_size=3)
        | st.builds(Point, inner, inner)
        | st.builds(Plain, inner)
    ),
    max_leaves=8,
)


@given(values)
def test_a_handler_may_return_any_of_it(value: Any) -> None:
    told = PredictResult(FakeModel(), Status.SUCCESS, value).to_dict()
    text = json.dumps(told, allow_nan=False, ensure_ascii=False).encode()
    assert json.loads(text) == told
    assert pydantic_core.from_json(text, allow_inf_nan=False) == told  # a strict reader of another author


@attrs.frozen
class FakeModel:
    model_id: str = "m"
    deployment_id: str | None = None
    name: str = ""


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_what_is_strict_json_stays_as_it_is(value: Any) -> None:
    assert repr(strict_json(value)) == repr(value)
