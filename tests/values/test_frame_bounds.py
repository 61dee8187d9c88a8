"""Small files that hold a great deal, and what they may take."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from helpers.frame_files import arrow_of, parquet_of
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import DataType, InvalidAnswer, decode_data
from trio_model_runner.values.frames.bounds.limit import MAX_FRAME_BYTES
from trio_model_runner.values.frames.reading import read_plain

MIB = 2**20
ROWS = 2 * 10**5
LONG = "x" * 1000
TOO_LARGE = f"it would take more than {MIB} bytes$"
BY_REFERENCE = pyarrow.schema({"a": pyarrow.dictionary("int32", "string")})
WORDS = [f"word {index % 1000}" for index in range(20_000)]


def column(values: Any, kind: Any = None) -> pyarrow.Table:
    return pyarrow.table({"a": pyarrow.array(values, kind)})


@pytest.mark.parametrize(
    "data",
    [
        parquet_of(column([0.0] * ROWS), use_dictionary=False, compression="zstd"),
        parquet_of(column([0.0] * ROWS)),
        parquet_of(column([0.0] * ROWS), data_page_version="2.0"),
        parquet_of(column([7] * ROWS), use_dictionary=False, column_encoding={"a": "DELTA_BINARY_PACKED"}),
        parquet_of(column([True] * ROWS)),
        parquet_of(pyarrow.table({"a": pyarrow.nulls(ROWS)})),
        parquet_of(pyarrow.table({"a": pyarrow.nulls(ROWS, pyarrow.string())})),
        parquet_of(column([[0] * ROWS])),
        parquet_of(column([b"\0" * 16] * ROWS, pyarrow.binary(16))),
        parquet_of(column([LONG] * 10_000)),
        parquet_of(column([LONG] * 10_000, pyarrow.string_view())),
        parquet_of(column([LONG] * 10_000).cast(BY_REFERENCE)),
        parquet_of(column([[LONG] * 10_000])),
        parquet_of(column([{"b": [LONG]}] * 10_000)),
        parquet_of(pyarrow.table({str(index): [LONG] * 100 for index in range(20)})),
        parquet_of(column([LONG] * 10_000), use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"}),
    ],
    ids=lambda data: str(len(data)),
)
@pytest.mark.parametrize("frames", ["arrow", "pandas"])
def test_a_small_parquet_file_that_expands_is_refused(data: bytes, frames: Any) -> None:
    assert len(data) < MIB // 8
    with pytest.raises(InvalidAnswer, match=f"Parquet that can't be read: {TOO_LARGE}"):
        decode_data(data, DataType.PARQUET, frames=frames, max_frame_bytes=MIB)


def repeated_view() -> pyarrow.Table:
    validity, views, texts = pyarrow.array([LONG], pyarrow.string_view()).buffers()
    views = pyarrow.py_buffer(views.to_pybytes()[:16] * 10_000)
    array = pyarrow.Array.from_buffers(pyarrow.string_view(), 10_000, [validity, views, texts])
    return pyarrow.table({"a": array})


def growing_dictionary() -> bytes:
    sink = io.BytesIO()
    schema = pyarrow.schema({"a": pyarrow.dictionary(pyarrow.int32(), pyarrow.string())})
    options = pyarrow.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pyarrow.ipc.new_stream(sink, schema, options=options) as writer:
        for count in range(1, 100):
            words = pyarrow.array([str(index) * 500 for index in range(count)])
            array = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0], pyarrow.int32()), words)
            writer.write_batch(pyarrow.record_batch([array], schema=schema))
    return sink.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        arrow_of(column([0.0] * ROWS), compression="zstd"),
        arrow_of(column([0.0] * ROWS), compression="lz4"),
        arrow_of(pyarrow.table({"a": pyarrow.Array.from_buffers(pyarrow.null(), 2**31 - 1, [None])})),
        arrow_of(pyarrow.table({"a": pyarrow.nulls(2**20)}).select([])),
        arrow_of(column([LONG] * 5000).cast(BY_REFERENCE)),
        arrow_of(repeated_view()),
        arrow_of(column([{"b": LONG}] * 2000), compression="zstd"),
        growing_dictionary(),
    ],
    ids=lambda data: str(len(data)),
)
def test_a_small_arrow_stream_that_expands_is_refused(data: bytes) -> None:
    assert len(data) < MIB // 4
    with pytest.raises(InvalidAnswer, match=f"Arrow that can't be read: {TOO_LARGE}"):
        decode_data(data, DataType.ARROW, max_frame_bytes=MIB)


@pytest.mark.parametrize(
    "table",
    [
        column(WORDS),
        column([None, *WORDS]),
        column([WORDS]),
        column([{"b": word, "c": [word]} for word in WORDS[:10_000]]),
        column(WORDS).cast(BY_REFERENCE),
        column([word.encode() for word in WORDS]),
    ],
    ids=lambda table: str(table.schema.field("a").type),
)
def test_text_that_many_rows_share_is_read_as_it_was(table: pyarrow.Table) -> None:
    for options in ({}, {"row_group_size": 3000}, {"data_page_version": "2.0"}):
        assert read_plain(parquet_of(table, **options), DataType.PARQUET, 2 * MIB).equals(table)


def test_views_of_text_become_text() -> None:
    table = column(WORDS, pyarrow.string_view())
    for data, data_type in ((parquet_of(table), DataType.PARQUET), (arrow_of(table), DataType.ARROW)):
        read = read_plain(data, data_type, 2 * MIB).column("a")
        assert (read.type, read.to_pylist()) == (pyarrow.large_string(), WORDS)


@pytest.mark.parametrize(
    "table",
    [
        column([1.5, None]),
        column(["a", LONG, None], pyarrow.string_view()),
        column([], pyarrow.string_view()),
        column(["a", None, "b"]).slice(1),
        column(["a" * 20, "b" * 30], pyarrow.string_view()).slice(1),
        column([[("a", 1)], None], pyarrow.map_("string", "int64")),
        column([[1, 2], None], pyarrow.list_(pyarrow.int8(), 2)),
        column([{"a": [1]}, None]),
        column(["a", "b", "a"]).cast(BY_REFERENCE),
        pyarrow.table({"a": pyarrow.nulls(5)}).select([]),
        pyarrow.table({}),
    ],
    ids=lambda table: str(table.schema.types),
)
def test_what_is_not_too_large_is_read(table: pyarrow.Table) -> None:
    for options in ({}, {"compression": "zstd"}, {"compression": "lz4"}):
        read = read_plain(arrow_of(table, **options), DataType.ARROW, 20_000)
        assert (read.num_rows, read.to_pylist()) == (table.num_rows, table.to_pylist())


def test_what_is_behind_a_null_is_not_followed() -> None:
    validity, views, *texts = pyarrow.array(["a", None, LONG, None], pyarrow.string_view()).buffers()
    damaged = bytearray(views.to_pybytes())
    damaged[16:32] = b"\0\0\xff\xff\xff\xff" + b"\0" * 10
    buffers = [validity, pyarrow.py_buffer(bytes(damaged)), *texts]
    array = pyarrow.Array.from_buffers(pyarrow.string_view(), 4, buffers)
    for table in (
        pyarrow.table({"a": array}),
        pyarrow.table({"a": array[1:]}),
        pyarrow.table({"a": array[1:2]}),
    ):
        assert read_plain(arrow_of(table), DataType.ARROW, 20_000).to_pylist() == table.to_pylist()


def test_a_dictionary_that_batches_share_counts_once() -> None:
    words = pyarrow.array(WORDS[:1000])
    schema = pyarrow.schema({"a": pyarrow.dictionary(pyarrow.int16(), pyarrow.string())})
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, schema) as writer:
        for _ in range(200):
            array = pyarrow.DictionaryArray.from_arrays(pyarrow.array([7], "int16"), words)
            writer.write_batch(pyarrow.record_batch([array], schema=schema))
    assert read_plain(sink.getvalue(), DataType.ARROW, 20_000).num_rows == 200


def test_many_small_batches_become_one() -> None:
    sink = io.BytesIO()
    batch = pyarrow.record_batch({"a": [1], "b": pyarrow.array(["x"]).dictionary_encode()})
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(2000):
            writer.write_batch(batch)
    assert read_plain(sink.getvalue(), DataType.ARROW).column("a").num_chunks == 1


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pyarrow.table({"a" * 1001: [1]}), "the name of a column has more than 1000 characters"),
        (column([{"b" * 10**6: 1}]), "the name of a column has more than 1000 characters"),
        (pyarrow.table({str(index): [] for index in range(10_001)}), "more than 10000 columns"),
        (column([{str(index): 1 for index in range(10_001)}]), "more than 10000 columns and fields inside"),
        (column([[[[[[[[[[1]]]]]]]]]]), "column 'a' has a type that is nested in more than 8 others"),
    ],
    ids=["name", "inner name", "columns", "inner columns", "depth"],
)
@pytest.mark.parametrize("data_type", [DataType.PARQUET, DataType.ARROW])
def test_names_columns_and_depth_have_an_end(table: pyarrow.Table, reason: str, data_type: DataType) -> None:
    data = parquet_of(table) if data_type is DataType.PARQUET else arrow_of(table)
    with pytest.raises(ValueError, match=f"that can't be read: .*{reason}"):
        read_plain(data, data_type)


def test_a_frame_of_many_columns_is_read() -> None:
    table = pyarrow.table({str(index): [1] for index in range(2000)})
    assert read_plain(parquet_of(table), DataType.PARQUET).equals(table)


def test_by_default_a_frame_may_take_four_times_the_largest_message() -> None:
    assert MAX_FRAME_BYTES == 4 * 64 * MIB
    with pytest.raises(InvalidAnswer, match="it would take more than 268435456 bytes"):
        decode_data(arrow_of(pyarrow.table({"a": pyarrow.nulls(2**25 + 1)})), DataType.ARROW)


TABLE = pyarrow.table(
    {
        "number": [1.5, None] * 20,
        "text": ["a", "bb"] * 20,
        "list": [[1], []] * 20,
        "kind": pyarrow.array(["x", "y"] * 20).dictionary_encode(),
    }
)
PAGES = [
    parquet_of(TABLE),
    parquet_of(TABLE, data_page_version="2.0", compression="zstd", write_page_checksum=True),
    parquet_of(TABLE, use_dictionary=False, row_group_size=7, compression="none"),
]
STREAMS = [arrow_of(TABLE), arrow_of(TABLE, compression="zstd"), growing_dictionary()[:4000]]
damage = st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), min_size=1, max_size=5)


@given(st.sampled_from(STREAMS), damage)
def test_a_damaged_arrow_stream_takes_no_more_than_it_may(file: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(file)
    for position, byte in damage:
        data[position % len(data)] = byte
    with contextlib.suppress(ValueError):
        assert read_plain(bytes(data), DataType.ARROW, MIB).nbytes <= MIB


@given(st.sampled_from(PAGES), damage)
def test_damaged_pages_take_no_more_than_they_may(file: bytes, damage: list[tuple[int, int]]) -> None:
    # Of a damaged footer pyarrow may die; frames of strangers are read where that may happen.
    data, footer = bytearray(file), int.from_bytes(file[-8:-4], "little")
    for position, byte in damage:
        data[4 + position % (len(data) - footer - 12)] = byte
    with contextlib.suppress(ValueError):
        assert read_plain(bytes(data), DataType.PARQUET, MIB).nbytes <= MIB
