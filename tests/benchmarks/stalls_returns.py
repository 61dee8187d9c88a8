"""The kinds of answers of `stalls.py` of which something is made, as `returns=` asks for.

Import it for what it adds to `stalls_kinds.KINDS`.
"""

from __future__ import annotations

import datetime
import enum
import itertools
import json
from pathlib import Path

import attrs
import pydantic
from stalls_kinds import KINDS, LARGEST, at_limit, filled, json_kind, numbered

from trio_model_runner.values.json_structure import MAX_JSON_VALUES

__all__ = ["KINDS"]


@attrs.frozen
class Point:
    """What `returns=` may ask for."""

    x: float
    y: float | None = None


@json_kind(list[float])
def inline_as_floats() -> bytes:
    return filled(b"0,", 32 << 10)


@json_kind(list[float])
def as_floats() -> bytes:
    return at_limit(b"0,", 1)


@json_kind(list[Point])
def as_points() -> bytes:
    return at_limit(b'{"x":0,"y":1},', 8)


@json_kind(list[Point])
def as_points_misfits() -> bytes:
    return at_limit(b'{"x":"","y":1},', 8)


@json_kind(list[float])
def as_floats_misfits() -> bytes:
    return at_limit(b'"",', 1)


@json_kind(dict[int, float])
def as_numbered() -> bytes:
    return numbered(b'"%d":0', MAX_JSON_VALUES // 2 - 10, b"{", b"}")


@json_kind(set[int])
def as_set() -> bytes:
    return numbered(b"%d", MAX_JSON_VALUES - 10)


@json_kind(list[int | float | str | None])
def as_union() -> bytes:
    return at_limit(b'"",', 1)


class Numbers(pydantic.BaseModel):
    """The same of pydantic's."""

    all: list[int | float]


@json_kind(Numbers)
def as_pydantic() -> bytes:
    return b'{"all":[' + b"0," * 49_990 + b"0]}"


@json_kind(Numbers)
def as_pydantic_misfits() -> bytes:
    return b'{"all":[' + b'"",' * 49_990 + b"0]}"


@json_kind(Numbers)
def as_pydantic_too_large() -> bytes:
    return at_limit(b"0,", 1, begin=b'{"all":[', end=b"0]}")


class Side(enum.Enum):
    """One of few."""

    LEFT = "left"


@json_kind(Side)
def as_enum() -> bytes:
    return b'"' + b"x" * (LARGEST - 2) + b'"'


@json_kind(datetime.datetime)
def as_time() -> bytes:
    return b'"' + b"x" * (LARGEST - 2) + b'"'


@json_kind(set[int])
def as_set_of_one_hash() -> bytes:
    return b"[" + b",".join(b"%d" % (index * (2**61 - 1)) for index in range(50_000)) + b"]"


@json_kind(set[int])
def as_set_of_long_numbers() -> bytes:
    return b"[" + b",".join(b"%d" % (2**64 + index) for index in range(300_000)) + b"]"


@json_kind(set[tuple[int, ...]])
def as_set_of_tuples_of_one_hash() -> bytes:
    rows = itertools.islice(itertools.product((-1, -2), repeat=16), 24_000)
    return json.dumps(list(rows)).encode()


class Hashed(pydantic.BaseModel):
    """What pydantic makes sets of."""

    all: set[int]


@json_kind(Hashed)
def as_pydantic_set_of_one_hash() -> bytes:
    return json.dumps({"all": [index * (2**61 - 1) for index in range(49_000)]}).encode()


class Located(pydantic.BaseModel):
    """What pydantic takes long for."""

    path: Path


@json_kind(Located)
def as_pydantic_path() -> bytes:
    return b'{"path":"' + "\U0001f600/".encode() * 262_000 + b'"}'


@json_kind(Located)
def as_pydantic_path_60mb() -> bytes:
    return b'{"path":"' + b"a/" * (30 << 20) + b'"}'
