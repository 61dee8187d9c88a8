"""Frames that nobody would send who means well, and some at the limit of what is allowed.

Each is made when it is asked for: `FRAMES` has the functions by name. What they become is either a table, or
an `InvalidAnswer` of the one model that sent it; nobody else may notice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow
import pyarrow.parquet

from trio_model_runner import DataType, Encoded

from . import frame_files

__all__ = ["FRAMES", "arrow_of", "parquet_of"]

MIB = 2**20

FRAMES: dict[str, Callable[[], Encoded]] = {}


def kind(make: Callable[[], Encoded]) -> Callable[[], Encoded]:
    """Add a kind."""
    FRAMES[make.__name__] = make
    return make


def parquet_of(table: Any, **options: Any) -> Encoded:
    """A Parquet file of a table, as an answer."""
    return Encoded(DataType.PARQUET, frame_files.parquet_of(table, **options))


def arrow_of(table: Any, **options: Any) -> Encoded:
    """An Arrow stream of a table, or of a schema alone, as an answer."""
    return Encoded(DataType.ARROW, frame_files.arrow_of(table, **options))


def with_metadata(table: Any, metadata: dict[str, Any]) -> Any:
    return table.replace_schema_metadata({"pandas": json.dumps(metadata)})


@kind
def list_view() -> Encoded:
    """An empty stream that ends the process of whoever makes a pandas frame of it."""
    return arrow_of(pyarrow.schema([("a", pyarrow.list_view(pyarrow.int64()))]))


@kind
def list_view_in_map() -> Encoded:
    """The same, deeper."""
    values = pyarrow.large_list_view(pyarrow.int8())
    return arrow_of(pyarrow.schema([("a", pyarrow.map_(pyarrow.string(), values))]))


@kind
def wide_labels() -> Encoded:
    """1.2 KB whose labels would be cast to texts of 600 MB."""
    columns = {f"column {number}": [1.0] for number in range(10)}
    entry = {"name": None, "field_name": None, "pandas_type": "unicode", "metadata": None}
    metadata = {
        "index_columns": [],
        "column_indexes": [{**entry, "numpy_type": "S600000000"}],
        "columns": [],
        "pandas_version": "2.2.0",
    }
    return arrow_of(with_metadata(pyarrow.table(columns), metadata))


@kind
def many_lists() -> Encoded:
    """20 KB that become ten million lists."""
    offsets = pyarrow.array([0] * (10**6 + 1), pyarrow.int32())
    lists = pyarrow.ListArray.from_arrays(offsets, pyarrow.array([], pyarrow.int64()))
    table = pyarrow.table({"a": lists})
    return parquet_of(pyarrow.concat_tables([table] * 10), compression="zstd")


@kind
def many_structs() -> Encoded:
    """A small file that becomes a million dicts."""
    values = pyarrow.array([{"a": 1, "b": 2}], pyarrow.struct([("a", "int8"), ("b", "int8")]))
    table = pyarrow.table({"a": pyarrow.concat_arrays([values] * 1000)})
    return parquet_of(pyarrow.concat_tables([table] * 1000), compression="zstd")


@kind
def many_dates() -> Encoded:
    """Three million dates, each a Python object in pandas."""
    return parquet_of(pyarrow.table({"a": pyarrow.array([1] * (3 * 10**6), pyarrow.date32())}))


@kind
def many_texts() -> Encoded:
    """Five million different texts, about as large as a frame may be."""
    texts = pyarrow.array(map(str, range(5 * 10**6)), pyarrow.string())
    return parquet_of(pyarrow.table({"a": texts}), compression="zstd")


@kind
def deep_attributes() -> Encoded:
    """`DataFrame.attrs` of 900 levels, which no function of pandas survives."""
    deep = "[" * 900 + "]" * 900
    start = '{"index_columns": [], "column_indexes": [], "columns": [], "attributes": {"a": '
    metadata = start + deep + '}, "pandas_version": "3.0.0"}'
    return arrow_of(pyarrow.table({"a": [1]}).replace_schema_metadata({"pandas": metadata}))


@kind
def bomb() -> Encoded:
    """A small file that says, truly, that it has a gigabyte."""
    table = pyarrow.table({"a": pyarrow.array([0] * 10**6, pyarrow.int64())})
    return parquet_of(pyarrow.concat_tables([table] * 130), compression="zstd", use_dictionary=False)


@kind
def compressed_zeros() -> Encoded:
    """An Arrow stream of 2 GB of zeros, compressed."""
    table = pyarrow.table({"a": pyarrow.array([0] * 10**7, pyarrow.int64())})
    return arrow_of(pyarrow.concat_tables([table] * 25), compression="zstd")


@kind
def largest() -> Encoded:
    """Numbers, as many as are allowed."""
    table = pyarrow.table({str(column): pyarrow.array([0.0] * 10**6) for column in range(32)})
    return parquet_of(table, compression="zstd")


@kind
def many_columns() -> Encoded:
    """A hundred thousand columns."""
    return arrow_of(pyarrow.table({f"column {number}": [1] for number in range(100_000)}))


@kind
def deep_type() -> Encoded:
    """A list in a list in a list."""
    deep = pyarrow.int8()
    for _ in range(60):
        deep = pyarrow.list_(deep)
    return arrow_of(pyarrow.schema([("a", deep)]))


@kind
def long_name() -> Encoded:
    """A column with a name of 10 MB."""
    return arrow_of(pyarrow.table({"x" * 10 * MIB: [1]}))


@kind
def broken() -> Encoded:
    """A Parquet file with a footer that makes no sense."""
    data = bytearray(parquet_of(pyarrow.table({"a": [1, 2, 3]})).data)
    data[-60:-20] = bytes(40)
    return Encoded(DataType.PARQUET, bytes(data))
