"""Types that answers are asked to have the shape of, of all the kinds that `returns=` takes."""

from __future__ import annotations

import collections
import dataclasses
import enum
import typing
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import attrs

from trio_model_runner.returns import structurer

__all__ = [
    "Box",
    "Chain",
    "Down",
    "Identifier",
    "Level",
    "Pair",
    "Path",
    "Plain",
    "Point",
    "Positive",
    "Quote",
    "Side",
    "Symbol",
    "Symbolled",
    "Tree",
    "Up",
    "Word",
    "taken",
]

T = TypeVar("T")


class Side(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


@attrs.frozen
class Point:
    x: float
    y: float = 0.0


@attrs.frozen
class Path:
    points: list[Point]
    side: Side = Side.LEFT
    tag: str | None = None


@dataclasses.dataclass
class Tree:
    size: int
    branches: list[Tree] = dataclasses.field(default_factory=list)


@attrs.frozen
class Chain:
    value: int
    next: Chain | None = None


class Symbolled(TypedDict):
    symbol: str


class Quote(Symbolled, total=False):
    price: float


class Pair(NamedTuple):
    first: int
    second: str


Plain = collections.namedtuple("Plain", "first second")


@attrs.frozen
class Box(Generic[T]):
    content: T


@attrs.frozen
class Up:
    kind: Literal["up"]
    by: int


@attrs.frozen
class Down:
    kind: Literal["down"]
    by: int


@attrs.frozen
class Positive:
    value: int = attrs.field(validator=attrs.validators.gt(0))


class Symbol(str):
    __slots__ = ()


Identifier = typing.NewType("Identifier", int)


def taken(wanted: Any, answer: Any) -> Any:
    structure = structurer(wanted)
    assert structure is not None
    return structure(answer)
