"""Keys that are no text: JSON has made them text, and `returns=` turns them back, exactly or not at all."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import math
import types
import typing
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import attrs
import pytest
from helpers.coordinating import coordinating
from helpers.shapes import Level, Point, Side, Symbol, taken
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from trio_model_runner import Arguments, InvalidAnswer, Status
from trio_model_runner.returns import structurer

T = TypeVar("T")
K = TypeVar("K")
Horizon = NewType("Horizon", int)
Seconds = TypeAliasType("Seconds", int)
UUID = uuid.UUID(int=7)
DAY = datetime.date(2026, 1, 2)
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)


class Whole(int):
    pass


class Mixed(enum.Enum):
    ONE = 1
    TEXT = "text"
    NONE = None
    HALF = 0.5


class Same(enum.Enum):
    NUMBER = 1
    TEXT = "1"


class Corner(enum.Enum):
    FIRST = (1, 2)


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


class Prices(dict[int, float]):
    pass


class Named(dict[str, T]):
    pass


class Lists(Named[list[T]]):
    pass


class Either(dict[K, T], Generic[T, K]):
    pass


@attrs.frozen
class Curve:
    prices: dict[int, float]
    of_side: Mapping[Side, int] | None = None


@dataclasses.dataclass
class Curves:
    of_day: dict[datetime.date, list[Curve]]


class Row(TypedDict):
    prices: dict[int, int]


class Pair(NamedTuple):
    prices: dict[int, int]
    more: Row | None


@attrs.frozen
class Box(Generic[K]):
    content: dict[K, int]


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (int, {"300": 300, "-5": -5, "0": 0, str(2**63 - 1): 2**63 - 1, str(-(2**63)): -(2**63)}),
        (float, {"1.5": 1.5, "300": 300.0, "1e+16": 1e16, "-0.0": -0.0, "5e-324": 5e-324}),
        (float, {"Infinity": math.inf, "-Infinity": -math.inf}),
        (bool, {"true": True, "false": False}),
        (None, {"null": None}),
        (Horizon, {"300": 300}),
        (Seconds, {"300": 300}),
        (Annotated[int, "seconds"], {"300": 300}),
        (Whole, {"300": Whole(300)}),
        (Symbol, {"BTC": Symbol("BTC")}),
        (int | None, {"300": 300, "null": None}),
        (int | float, {"300": 300, "1.5": 1.5}),
        (int | bool | Side, {"300": 300, "true": True, "left": Side.LEFT}),
        (str, {"300": "300", "null": "null"}),
        (Any, {"300": "300"}),
        (datetime.date, {"2026-01-02": DAY}),
        (datetime.datetime, {"2026-01-02T12:00:00+00:00": NOON, "2026-01-02": datetime.datetime(2026, 1, 2)}),
        (datetime.time, {"12:30": datetime.time(12, 30)}),
        (datetime.date | None, {"2026-01-02": DAY, "null": None}),
        (uuid.UUID, {str(UUID): UUID}),
        (Side, {"left": Side.LEFT}),
        (Level, {"2": Level.HIGH}),
        (Mixed, {"1": Mixed.ONE, "text": Mixed.TEXT, "null": Mixed.NONE, "0.5": Mixed.HALF}),
        (Bits, {"1": Bits.ONE, "3": Bits.ONE | Bits.TWO}),
        (Literal["a", 1, None, Level.HIGH], {"a": "a", "1": 1, "null": None, "2": Level.HIGH}),
        (Side | Level, {"left": Side.LEFT, "1": Level.LOW}),
    ],
    ids=str,
)
def test_keys_are_what_they_were(kind: Any, keys: dict[str, Any]) -> None:
    made = taken(dict[kind, str], {text: text for text in keys})
    assert made == {key: text for text, key in keys.items()}
    assert list(map(type, made)) == list(map(type, keys.values()))


@pytest.mark.parametrize(
    ("kind", "texts", "reason"),
    [
        (
            int,
            ["3.0", " 3", "3 ", "+3", "03", "-0", "1_000", "", "-", "\u0663", "3\n", "true"],
            "must be int",
        ),
        (int, [str(2**63), str(-(2**63) - 1), "9" * 10_000], "must be int of 64 bits at most"),
        (
            float,
            ["1.50", "1e5", "1E+16", "nan", "inf", "1_0.5", ".5", "03", "1" * 400, "0.10000000000000000"],
            "",
        ),
        (bool, ["1", "True", "TRUE", ""], "must be one of 'true', 'false'"),
        (int | None, ["None", "", "1.0"], "must be int or None"),
        (datetime.date, ["2026-02-30", "2026-01-02T00:00:00", "secret"], "must be a date in ISO 8601"),
        (uuid.UUID, [UUID.hex, f"{{{UUID}}}", "secret"], "must be a UUID, in 36 characters"),
        (Side, ["LEFT", ""], "must be one of 'left', 'right'"),
        (Level, ["3", "1.0", "true"], "must be one of '1', '2'"),
        (Bits, ["4", "true"], ""),
        (Literal[1], ["1.0", "true"], "must be one of '1'"),
    ],
    ids=str,
)
def test_other_texts_are_no_keys(kind: Any, texts: list[str], reason: str) -> None:
    for text in texts:
        with pytest.raises(InvalidAnswer) as caught:
            taken(list[dict[kind, int]], [{text: 1}])
        assert str(caught.value).startswith("the answer does not fit: $[0]")
        assert f": key {reason}" in str(caught.value)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("wanted", "answer", "value"),
    [
        (Curve, {"prices": {"1": 2}, "of_side": {"left": 1}}, Curve({1: 2.0}, {Side.LEFT: 1})),
        (Curves, {"of_day": {"2026-01-02": [{"prices": {"1": 2}}]}}, Curves({DAY: [Curve({1: 2.0})]})),
        (Row, {"prices": {"1": 2}}, {"prices": {1: 2}}),
        (Pair, [{"1": 2}, {"prices": {"3": 4}}], Pair({1: 2}, {"prices": {3: 4}})),
        (Box[int], {"content": {"1": 2}}, Box({1: 2})),
        (dict[int, dict[int, dict[int, int]]], {"1": {"2": {"3": 4}}}, {1: {2: {3: 4}}}),
        (dict[int, int] | list[int], {"1": 2}, {1: 2}),
        (dict[int, int] | None, {"1": 2}, {1: 2}),
        (typing.Dict[int, int], {"1": 2}, {1: 2}),  # noqa: UP006 - the test's point
        (Mapping[int, float], {"1": 2}, {1: 2.0}),
        (MutableMapping[int, int], {"1": 2}, {1: 2}),
        (collections.defaultdict[int, float], {"1": 2}, collections.defaultdict(float, {1: 2.0})),
        (collections.defaultdict[int, int | None], {"1": 2}, collections.defaultdict(None, {1: 2})),
        (collections.OrderedDict[int, int], {"2": 2, "1": 1}, collections.OrderedDict({2: 2, 1: 1})),
        (collections.Counter[int], {"1": 2}, collections.Counter({1: 2})),
        (collections.ChainMap[int, int], {"1": 2}, collections.ChainMap({1: 2})),
        (types.MappingProxyType[int, int], {"1": 2}, types.MappingProxyType({1: 2})),
        (Prices, {"1": 2}, Prices({1: 2.0})),
        (Named[float], {"1": 2}, Named({"1": 2.0})),
        (Lists[int], {"1": [2]}, Lists({"1": [2]})),
        (Either[int, bool], {"true": 2}, Either({True: 2})),
        (Named, {"1": 2}, Named({"1": 2})),
        (dict, {"1": 2}, {"1": 2}),
        (dict[object, int], {"1": 2}, {"1": 2}),
    ],
    ids=str,
)
def test_keys_are_turned_back_in_any_mapping_at_any_place(wanted: Any, answer: Any, value: Any) -> None:
    for _ in range(2):  # what was made the first time is kept
        made = taken(wanted, answer)
        assert made == value
        assert type(made) is type(value)
        assert getattr(made, "default_factory", None) is getattr(value, "default_factory", None)
        assert taken(list[wanted], [answer]) == [value]


@pytest.mark.parametrize(
    ("wanted", "answer", "reason"),
    [
        (Curve, {"prices": {"1.0": 2}}, "$.prices['1.0']: key must be int"),
        (Curve, {"prices": {}, "of_side": {"up": 1}}, "$.of_side.up: key must be one of 'left', 'right'"),
        (Curve, {"prices": {"1": "a"}}, "$.prices['1']: must be float, got str"),
        (Row, {"prices": {"a": 2}}, "$.prices.a: key must be int"),
        (dict[int, Row], {"1": {"prices": {"a": 2}}}, "$['1'].prices.a: key must be int"),
        (Prices, {"a": 2}, "$.a: key must be int"),
        (Prices, {"1": "a"}, "$['1']: must be float, got str"),
        (Lists[int], {"1": ["a"]}, "$['1'][0]: must be int, got str"),
        (dict[int, int], {"k" * 50: 1}, f"$[{'k' * 40!r}...]: key must be int"),
        (dict[int, int], [1], "$: must be an object, for dict[int, int], got list"),
        (dict[float, int], {"1": 1, "1.0": 2}, "$['1.0']: key means the same as another"),
        (
            dict[datetime.datetime, int],
            {"2026-01-02": 1, "2026-01-02 00:00": 2},
            "$['2026-01-02 00:00']: key means the same as another",
        ),
    ],
    ids=str,
)
def test_a_key_that_does_not_fit_is_told_with_its_place(wanted: Any, answer: Any, reason: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidAnswer) as caught:
            taken(wanted, answer)
        assert str(caught.value) == f"the answer does not fit: {reason}"
        assert caught.value.value is answer


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tuple[int, int], r"a key can't be made a tuple\[int, int\]: keys may be str, int, .*"),
        (list[int], r"a key can't be made a list\[int\]: .*"),
        (Point, "a key can't be made a Point: .*"),
        (frozenset[str], r"a key can't be made a frozenset\[str\]: .*"),
        (bytes, "a key can't be made a bytes: .*"),
        (datetime.timedelta, "a key can't be made a timedelta: .*"),
        (T, "a key can't be made a ~T: .*"),
        (Corner, "<Corner.FIRST.*> of Corner can't be a key, since it is a tuple"),
        (Same, "<Same.NUMBER.*> and <Same.TEXT.*> of Same would be the same key"),
        (Literal[1, "1"], "1 and '1' of .* would be the same key"),
        (str | None, r"the key 'null' of str \| None could be either; give a function instead"),
        (int | str, r"a key of int \| str could be either; give a function instead"),
        (int | datetime.date, "a key of .* could be either; .*"),  # 20260102
        (int | Level, "the key '1' of .* could be either; .*"),
        (Side | Literal["left"], "the key 'left' of .* could be either; .*"),
        (tuple[int] | None, r"a key can't be made a tuple\[int\]: .*"),
    ],
    ids=str,
)
def test_keys_that_can_not_be_are_refused_when_the_call_is_made(kind: Any, reason: str) -> None:
    for wanted in (dict[kind, int], list[Mapping[kind, int]], Box[kind], dict[str, dict[kind, int]] | None):
        if kind is T and wanted is not dict[kind, int]:
            continue
        with pytest.raises(TypeError, match=f"^returns: no answer can be made a .*: {reason}$"):
            structurer(wanted)


keys: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [(int, st.integers(-(2**63), 2**63 - 1)), (bool, st.booleans()), (type(None), st.none())]
    ),
    st.sampled_from([(float, st.floats(allow_nan=False)), (str, st.text(max_size=3))]),
    st.sampled_from([(int | float, st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False))]),
    st.sampled_from([(int | bool | None, st.integers(2, 2**40) | st.booleans() | st.none())]),
)


@given(keys.flatmap(lambda each: st.tuples(st.just(each[0]), st.dictionaries(each[1], st.integers()))))
def test_what_json_made_of_a_dict_becomes_the_dict_again(case: tuple[Any, dict[Any, int]]) -> None:
    kind, value = case
    made = taken(dict[kind, int], json.loads(json.dumps(value)))
    assert list(map(repr, made.items())) == list(map(repr, value.items()))


texts = st.text(max_size=4) | st.from_regex(
    r"[ +-]?0?[0-9]{0,20}([._][0-9]{1,3})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
texts |= st.sampled_from(["true", "false", "null", "NaN", "nan", "Infinity", "-Infinity", "infinity"])


@given(st.sampled_from([int, bool, type(None), float, int | float, int | None, float | bool]), texts)
def test_a_key_is_taken_only_if_json_would_have_written_it(kind: Any, text: str) -> None:
    try:
        (key,) = taken(dict[kind, int], {text: 1})
    except InvalidAnswer:
        return
    written = json.dumps({key: 1})
    assert written == json.dumps({text: 1}) or (
        type(key) is float and json.dumps({int(text): 1}) == f'{{"{text}": 1}}'
    )


class Forecaster:
    """Answers as condorgame's models do, whose `predict_all` returns ``dict[int, ...]``."""

    def predict_all(self, horizons: list[int]) -> dict[int, list[float]]:
        return {horizon: [horizon / 2, 1.0] for horizon in horizons}


class Careless:
    def predict_all(self, horizons: list[int]) -> dict[float, list[float]]:
        return {float(horizon): [1.0] for horizon in horizons}


async def test_a_model_s_dict_comes_back_with_its_keys() -> None:
    models: dict[str, Callable[[], Any]] = {"careful": Forecaster, "careless": Careless}
    async with coordinating(models) as (crunch, cluster):
        asked = Arguments([300, 3600])
        results = await cluster.call("predict_all", asked, returns=dict[int, list[float]])
        assert results.by_id["careful"].unwrap() == {300: [150.0, 1.0], 3600: [1800.0, 1.0]}
        careless = results.by_id["careless"]
        assert careless.status is Status.FAILED
        assert careless.detail == "the answer does not fit: $['300.0']: key must be int"
        with pytest.raises(TypeError, match=r"a key can't be made a tuple\[int, int\]"):
            await cluster.call("predict_all", asked, returns=dict[tuple[int, int], float])
        assert all(len(crunch.node(model_id).calls) == 1 for model_id in models)
