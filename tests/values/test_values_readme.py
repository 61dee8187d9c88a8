"""The README's tables of values, row by row, against the code."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import re
import types
import typing
from pathlib import Path
from typing import Any

import attrs
import numpy
import pandas
import polars
import pyarrow
import pytest

from trio_model_runner import Arguments, DataType, Encoded, decode_data, encode
from trio_model_runner.values.frames.bounds.limit import MAX_FRAME_BYTES
from trio_model_runner.values.json_structure import MAX_DEPTH

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README[README.index("\n### Values\n") : README.index("\n### Models that join late\n")]
TABLE_OF_VALUES = SECTION[: SECTION.index("| `returns=` |")]
ROWS = re.findall(r"^\| (?!Python)(.+?) \| (.+?) \| (.+?) \|$", TABLE_OF_VALUES, re.MULTILINE)


class Quote(typing.TypedDict):
    price: float


class Side(enum.Enum):
    LEFT = "left"


@attrs.frozen
class Bird:
    x: int


@dataclasses.dataclass
class Price:
    x: int


Pair = collections.namedtuple("Pair", "a b")
TABLE = pyarrow.table({"a": [1]})
BATCH = TABLE.to_batches()[0]

EXAMPLES: dict[str, tuple[DataType, list[tuple[Any, Any]]]] = {
    "`float`": (DataType.DOUBLE, [(1.5, 1.5), (numpy.float32(0.5), 0.5)]),
    "`int`": (DataType.INT, [(5, 5), (True, 1), (numpy.int8(5), 5), (numpy.bool_(True), 1)]),
    "`str`": (DataType.STRING, [("a", "a")]),
    "`None`": (DataType.JSON, [(None, None)]),
    "`dict`": (
        DataType.JSON,
        [({"a": 1}, {"a": 1}), (types.MappingProxyType({"a": 1}), {"a": 1}), (Quote(price=1), {"price": 1})],
    ),
    "`list`": (DataType.JSON, [([1], [1]), ((1, 2), [1, 2]), (Pair(1, 2), [1, 2])]),
    "attrs classes": (DataType.JSON, [(Bird(1), {"x": 1}), (Price(1), {"x": 1})]),
    "enums": (DataType.STRING, [(Side.LEFT, "left")]),
    "pandas and polars": (
        DataType.PARQUET,
        [
            (pandas.DataFrame({"a": [1]}), TABLE),
            (polars.DataFrame({"a": [1]}), TABLE),
            (TABLE, TABLE),
            (BATCH, TABLE),
            (pyarrow.RecordBatchReader.from_batches(BATCH.schema, [BATCH]), TABLE),
        ],
    ),
    "`Encoded": (DataType.STRING, [(Encoded(DataType.STRING, b"a"), "a")]),
}


@pytest.mark.parametrize("beginning", EXAMPLES)
def test_a_value_is_sent_and_comes_back_as_the_table_says(beginning: str) -> None:
    (row,) = (row for row in ROWS if row[0].startswith(beginning))
    data_type, examples = EXAMPLES[beginning]
    assert row[1].startswith((data_type.name, "untouched", "as their value"))
    for value, expected in examples:
        encoded = encode(value)
        assert encoded.data_type is data_type
        decoded = decode_data(encoded.data, encoded.data_type)
        assert decoded == expected
        name = "None" if decoded is None else type(decoded).__name__
        assert re.search(rf"`(pyarrow\.)?{name}`", row[2]) or row[2].startswith("as ")


def test_every_row_of_the_first_table_has_examples() -> None:
    assert len(ROWS) == len(EXAMPLES)


@pytest.mark.parametrize(
    "value",
    [
        decimal.Decimal(1),
        fractions.Fraction(1),
        datetime.date(2026, 1, 1),
        datetime.time(1),
        pandas.Timestamp("2026-01-01"),
        pandas.NA,
        pandas.NaT,
        b"a",
        {1},
        numpy.array([1]),
        pandas.Series([1]),
        (item for item in [1]),
        {1: 1},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_said_to_be_refused_is(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_the_refusal_that_is_shown_is_the_one_that_comes() -> None:
    points = [0, 0, 0, {"time": datetime.datetime(2026, 1, 1)}]
    with pytest.raises(TypeError) as caught:
        Arguments(payload={"points": points}).encode()
    assert f"`{caught.value}`" in SECTION


def test_the_bounds_are_those_of_the_code() -> None:
    assert SECTION.count(f"{MAX_DEPTH} levels") == 2
    assert f"{MAX_FRAME_BYTES // 2**20} MiB" in SECTION
    assert encode([2**70, math.nan]).data == b"[1180591620717411303424,NaN]"
