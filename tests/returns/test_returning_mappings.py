"""Classes of mappings: what they can be made of, trees of them, and those that no answer can become."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import attrs
import pytest
from helpers.shapes import Positive, taken

from trio_model_runner import InvalidAnswer
from trio_model_runner.returns import structurer

T = TypeVar("T")


class Tree(dict[str, "Tree"]):
    pass


class OldTree(typing.Dict[int, "list[OldTree]"]):  # noqa: UP006 - as many still write it
    pass


class Forest(collections.OrderedDict[int, typing.Optional["Tree"]]):
    pass


@attrs.frozen
class Holder:
    tree: OldTree


def test_a_class_may_hold_itself() -> None:
    tree = taken(Tree, {"a": {"b": {}}})
    assert type(tree["a"]["b"]) is Tree
    (old,) = taken(Holder, {"tree": {"1": [{"2": []}]}}).tree[1]
    assert old == {2: []}
    assert type(old) is OldTree
    forest = taken(list[Forest], [{"1": {"a": {}}, "2": None}])[0]
    assert type(forest) is Forest
    assert forest == {1: {"a": {}}, 2: None}


@pytest.mark.parametrize(
    ("wanted", "answer", "reason"),
    [
        (Tree, {"a": {"b": 1}}, "$.a.b: must be an object, for Tree, got int"),
        (Holder, {"tree": {"1": [{"a": []}]}}, "$.tree['1'][0].a: key must be int"),
    ],
)
def test_what_does_not_fit_into_a_tree_is_told_with_its_place(wanted: Any, answer: Any, reason: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        taken(wanted, answer)
    assert str(caught.value) == f"the answer does not fit: {reason}"


@dataclasses.dataclass
class WithFields(dict[str, int]):
    a: int = 0


@attrs.frozen
class OfFields(Mapping[str, int]):
    content: dict[str, int]

    def __getitem__(self, key: str) -> int:
        return self.content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)


class FromNothing(dict[str, int]):
    def __init__(self) -> None:
        super().__init__()


class Abstract(Mapping[str, int]):
    def __init__(self, content: dict[str, int]) -> None:
        pass


class Lost(dict[str, "Nowhere"]):  # type: ignore[name-defined]  # noqa: F821 - the test's point
    pass


class Day(enum.Enum):
    FIRST = datetime.date(2026, 1, 1)


class Empty(enum.Enum):
    pass


class Growing(dict[str, "Growing[list[T]]"], Generic[T]):
    pass


@attrs.frozen
class OfDay:
    day: Day


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (WithFields, "WithFields has fields and is a mapping as well; give a function instead"),
        (OfFields, "OfFields has fields and is a mapping as well; give a function instead"),
        (FromNothing, "a FromNothing can't be made of a dict: too many positional arguments"),
        (Abstract, "a Abstract can't be made, since it is abstract"),
        (Lost, "name 'Nowhere' is not defined"),
        (Day, "Day has no member whose value JSON has"),
        (OfDay, "Day has no member whose value JSON has"),
        (Empty, "Empty has no member whose value JSON has"),
        (dict[Empty, int], "Empty has no members"),
    ],
)
def test_what_no_answer_can_become_is_refused_when_the_call_is_made(wanted: Any, reason: str) -> None:
    for returns in (wanted, list[wanted], dict[str, wanted] | None):
        with pytest.raises(TypeError, match=f"^returns: no answer can be made a .*: {reason}$"):
            structurer(returns)


def test_a_type_without_end_is_refused_with_what_to_do() -> None:
    with pytest.raises(TypeError, match="it holds ever other types; give a function instead"):
        structurer(Growing[int])


class Strict(dict[str, int]):
    def __init__(self, *content: Any) -> None:
        super().__init__(*content)
        if not self:
            raise ValueError("nothing")


class Found(enum.Enum):
    FIRST = datetime.date(2026, 1, 1)

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls[str(value).upper()]


def test_what_a_class_makes_of_an_answer_is_up_to_it() -> None:
    assert taken(Strict, {"a": 1}) == {"a": 1}
    with pytest.raises(InvalidAnswer, match="nothing"):
        taken(Strict, {})
    assert taken(Found, "first") is Found.FIRST
    with pytest.raises(InvalidAnswer, match=r"\$: must be one of "):
        taken(Found, "second")


@pytest.mark.parametrize(
    ("values", "factory"),
    [
        (int, int),
        (list[float], list),
        (dict[int, float], dict),
        (typing.NewType("Amount", float), float),
        (float | None, None),
        (typing.Literal[1], None),
        (Positive, None),
        (Any, None),
    ],
    ids=str,
)
def test_a_missing_key_is_filled_if_the_type_of_values_says_with_what(values: Any, factory: Any) -> None:
    assert taken(collections.defaultdict[str, values], {}).default_factory is factory


def test_a_class_s_own_key_error_is_no_missing_field() -> None:
    class Known(str):
        __slots__ = ()

        def __new__(cls, value: str) -> Known:
            return super().__new__(cls, {"a": value}[value])

    assert taken(dict[Known, Known], {"a": "a"}) == {"a": "a"}
    for wanted, answer, place in [
        (Known, "b", "$"),
        (list[Known], ["b"], "$[0]"),
        (dict[Known, int], {"b": 1}, "$.b"),
    ]:
        with pytest.raises(InvalidAnswer) as caught:
            taken(wanted, answer)
        key = "key " if isinstance(answer, dict) else ""
        assert str(caught.value) == f"the answer does not fit: {place}: {key}must be Known"


def test_a_view_of_a_mapping_is_made() -> None:
    made = taken(types.MappingProxyType[int, float], {"1": 2})
    assert type(made) is types.MappingProxyType
    assert made == {1: 2.0}
