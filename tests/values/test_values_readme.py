"""The tables of `values/README.md`, row by row, against the code."""

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
from typing import Any

import attrs
import numpy
import pandas
import polars
import pyarrow
import pytest
from helpers.documents import documents
from helpers.frame_facts import as_a_node_reads

from trio_model_runner import Arguments, DataType, Encoded, decode_data, encode
from trio_model_runner.values.frames.bounds.limit import MAX_FRAME_BYTES
from trio_model_runner.values.json_structure import MAX_DEPTH

SECTION = documents()["values/README.md"]
WORDS = " ".join(SECTION.split())
TABLE_OF_VALUES = SECTION[: SECTION.index("| `returns=` |")]
ROWS = re.findall(r"^\| (?!Python)(.+?) \| (.+?) \| (.+?) \|$", TABLE_OF_VALUES, re.MULTILINE)


class Quote(typing.TypedDict):
    price: float


class Side(enum.Enum):
    LEFT = "left"


class Word(enum.StrEnum):
    A = "a"


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
    assert f"`{caught.value}`" in WORDS


def test_the_bounds_are_those_of_the_code() -> None:
    assert WORDS.count(f"{MAX_DEPTH} levels") == 2
    assert f"{MAX_FRAME_BYTES // 2**20} MiB" in WORDS
    assert encode([2**70, math.nan]).data == b"[1180591620717411303424,NaN]"


NEXT_BEST = re.findall(r"^\| (.+?) \| (.+?) \|$", SECTION[SECTION.index("| what is sent |") :], re.MULTILINE)
NEXT_BEST = NEXT_BEST[1 : NEXT_BEST.index(next(row for row in NEXT_BEST if row[0] == "`returns=`"))]
DAYS = pandas.date_range("2026-01-01", periods=2, freq="D")
DAY = datetime.date(2026, 1, 1)


def column(*values: Any, dtype: Any = object) -> pandas.DataFrame:
    return pandas.DataFrame({"a": pandas.Series(list(values), dtype=dtype)})


def with_index(labels: Any) -> pandas.DataFrame:
    return pandas.DataFrame({"a": [1.0, 2.0]}, index=pandas.Index(labels))


def with_attrs() -> pandas.DataFrame:
    frame = with_index(DAYS)
    frame.attrs = {"a": 1}
    return frame


def values_of(frame: pandas.DataFrame) -> list[Any]:
    return [list(each) if isinstance(each, numpy.ndarray) else each for each in frame["a"]]


def dtype_of(frame: pandas.DataFrame) -> str:
    return str(frame["a"].dtype)


EXAMPLES_OF_NEXT_BEST: dict[str, list[tuple[Any, Any, Any]]] = {
    "the `freq`": [(with_attrs(), lambda frame: (frame.index.freq, frame.attrs), (None, {}))],
    "an index of a nullable": [
        (with_index(pandas.array([1, 2], dtype="Int64")), lambda frame: str(frame.index.dtype), "int64"),
        (with_index(pandas.Index([1, 2], dtype=object)), lambda frame: str(frame.index.dtype), "int64"),
        (with_index(pandas.Index([DAY, DAY])), lambda frame: frame.index.tolist(), [DAY, DAY]),
    ],
    "a range as labels": [
        (
            pandas.DataFrame([[1, 2]], columns=pandas.RangeIndex(2)),
            lambda frame: (type(frame.columns), frame.columns.tolist()),
            (pandas.Index, [0, 1]),
        )
    ],
    "labels of columns that are times": [
        # The unit is another one only with a node's pyarrow: see `real_nodes/test_frames_on_nodes.py`.
        (
            pandas.DataFrame([[1, 2]], columns=DAYS.tz_localize("UTC")),
            lambda frame: frame.columns.tolist(),
            list(DAYS.tz_localize("UTC")),
        )
    ],
    "times and times of day in seconds": [
        (column(*DAYS, dtype="datetime64[s]"), dtype_of, "datetime64[ms]"),
        (pyarrow.table({"a": pyarrow.array([1], pyarrow.time32("s"))}), values_of, [datetime.time(0, 0, 1)]),
        (pyarrow.table({"a": pyarrow.array([DAY], pyarrow.date64())}), values_of, [DAY]),
    ],
    "texts of any dtype": [
        (column("a"), values_of, ["a"]),
        (column(Word.A), lambda frame: type(frame["a"][0]), str),
        (column("a", dtype="string"), dtype_of, "string"),
        (column("a", dtype=pandas.ArrowDtype(pyarrow.string())), dtype_of, "string"),
    ],
    "a missing text": [
        (column("a", None), lambda frame: frame["a"].isna().tolist(), [False, True]),
        (column(decimal.Decimal("NaN")), values_of, [None]),
    ],
    "whole numbers of which": [
        (column(1, None), lambda frame: frame["a"].dropna().tolist(), [1.0]),
        (column(1, 2.5), lambda frame: (dtype_of(frame), values_of(frame)), ("float64", [1.0, 2.5])),
    ],
    "Python's times": [
        (column(datetime.datetime(2026, 1, 1)), dtype_of, "datetime64[us]"),
        (column(datetime.timedelta(1)), dtype_of, "timedelta64[us]"),
    ],
    "decimals": [
        (
            column(decimal.Decimal("1.50"), decimal.Decimal(2)),
            lambda frame: [str(each) for each in frame["a"]],
            ["1.50", "2.00"],
        ),
        (
            column(decimal.Decimal("1.50"), 2),
            lambda frame: [str(each) for each in frame["a"]],
            ["1.50", "2.00"],
        ),
    ],
    "categories that are no texts": [
        (
            column(2, 1, 2, dtype="category"),
            lambda frame: (dtype_of(frame), values_of(frame)),
            ("int64", [2, 1, 2]),
        )
    ],
    "categories of a column without": [
        (column("a", dtype="category")[:0], lambda frame: frame["a"].cat.categories.tolist(), [])
    ],
    "tuples, lists": [
        (column((1, 2), [3]), values_of, [[1, 2], [3]]),
        (
            pyarrow.table({"a": pyarrow.array([[1, 2]], pyarrow.list_(pyarrow.int8(), 2))}),
            values_of,
            [[1, 2]],
        ),
    ],
    "dicts": [(column({"a": "x"}, {"b": "y"}), values_of, [{"a": "x", "b": None}, {"a": None, "b": "y"}])],
    "bytes of a fixed length": [
        (column(bytearray(b"a")), values_of, [b"a"]),
        (column(memoryview(b"a")), values_of, [b"a"]),
        (
            pyarrow.table({"a": pyarrow.array([[b"ab"]], pyarrow.list_(pyarrow.binary(2)))}),
            values_of,
            [[b"ab"]],
        ),
    ],
}


@pytest.mark.parametrize("beginning", EXAMPLES_OF_NEXT_BEST)
def test_what_parquet_lacks_becomes_the_next_best_that_the_table_says(beginning: str) -> None:
    assert sum(row[0].startswith(beginning) for row in NEXT_BEST) == 1
    for frame, look, expected in EXAMPLES_OF_NEXT_BEST[beginning]:
        assert look(as_a_node_reads(encode(frame).data)) == expected


def test_every_row_of_the_table_of_the_next_best_has_examples() -> None:
    assert len(NEXT_BEST) == len(EXAMPLES_OF_NEXT_BEST)


def test_the_refusal_of_labels_that_is_shown_is_the_one_that_comes() -> None:
    with pytest.raises(TypeError) as caught:
        Arguments(prices=pandas.DataFrame([[1, 2]], columns=[True, False])).encode()
    assert f"`{caught.value}`" in WORDS
