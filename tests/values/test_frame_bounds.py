"""Small files that hold a great deal, and what they may take."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import DataType, InvalidAnswer, decode_data
from trio_model_runner.values.frames.bounds.limit import MAX_FRAME_BYTES
from trio_model_runner.values.frames.bounds.parquet import measure_parquet
from trio_model_runner.values.frames.bounds.thrift import ThriftError
from trio_model_runner.values.frames.reading import read_arrow, read_parquet

MIB = 2**20
ROWS = 2 * 10**5
LONG = "x" * 1000
TOO_LARGE = f"it would take more than {MIB} bytes$"
BY_REFERENCE = pyarrow.schema({"a": pyarrow.dictionary("int32", "string")})
WORDS = [f"word {index % 1000}" for index in range(20_000)]


def parquet_of(table: pyarrow.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, **options)
    return sink.getvalue()


def arrow_of(table: pyarrow.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    options = {"options": pyarrow.ipc.IpcWriteOptions(**options)}
    with pyarrow.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def column(values: Any, kind: Any = None) -> pyarrow.Table:
    return pyarrow.table({"a": pyarrow.array(values, kind)})


@contextlib.contextmanager
def counted() -> Iterator[pyarrow.MemoryPool]:
    """Count what Arrow allocates inside."""
    pool = pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
    _POOLS.append(pool)  # tables and readers go on pointing to it
    before = pyarrow.default_memory_pool()
    pyarrow.set_memory_pool(pool)
    try:
        yield pool
    finally:
        pyarrow.set_memory_pool(before)


_POOLS: list[pyarrow.MemoryPool] = []


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
        parquet_of(pyarrow.table({str(index): [1] for index in range(300)})),
    ],
    ids=lambda data: str(len(data)),
)
@pytest.mark.parametrize("frames", ["arrow", "pandas"])
def test_a_small_parquet_file_that_expands_is_refused(data: bytes, frames: Any) -> None:
    assert len(data) < MIB // 8
    with (
        counted() as pool,
        pytest.raises(InvalidAnswer, match=f"Parquet that can't be read: {TOO_LARGE}"),
    ):
        decode_data(data, DataType.PARQUET, frames=frames, max_frame_bytes=MIB)
    assert pool.max_memory() < MIB


def runs(length: int) -> pyarrow.Table:
    ends, values = pyarrow.array([length], "int32"), pyarrow.array([1])
    return pyarrow.table({"a": pyarrow.RunEndEncodedArray.from_arrays(ends, values)})


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
        arrow_of(runs(2**30)),
        growing_dictionary(),
    ],
    ids=lambda data: str(len(data)),
)
def test_a_small_arrow_stream_that_expands_is_refused(data: bytes) -> None:
    assert len(data) < MIB // 4
    with (
        counted() as pool,
        pytest.raises(InvalidAnswer, match=f"Arrow that can't be read: {TOO_LARGE}"),
    ):
        decode_data(data, DataType.ARROW, max_frame_bytes=MIB)
    assert pool.max_memory() < MIB


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
        data = parquet_of(table, **options)
        assert measure_parquet(data, 2 * MIB).shared
        assert read_parquet(data, "arrow", 2 * MIB).equals(read_parquet(data, "arrow"))
        assert read_parquet(data, "arrow", 2 * MIB).equals(table)


def test_views_of_text_that_many_rows_share_become_text() -> None:
    data = parquet_of(column(WORDS, pyarrow.string_view()))
    assert read_parquet(data, "arrow", 2 * MIB).column("a").to_pylist() == WORDS
    assert read_parquet(data, "arrow").column("a").to_pylist() == WORDS


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
        column([[1], [2, 3]], pyarrow.list_view(pyarrow.int64())),
        column(["a", "b", "a"]).cast(BY_REFERENCE),
        runs(5),
        pyarrow.table({"a": pyarrow.nulls(5)}).select([]),
        pyarrow.table({}),
        column(["{}"] * 3).cast(pyarrow.schema({"a": pyarrow.json_()})),
    ],
    ids=lambda table: str(table.schema.types),
)
def test_what_is_not_too_large_is_read(table: pyarrow.Table) -> None:
    for options in ({}, {"compression": "zstd"}, {"compression": "lz4"}):
        assert read_arrow(arrow_of(table, **options), "arrow", 20_000).equals(table)


def test_the_sizes_in_the_footer_are_not_believed() -> None:
    rows = 5000
    honest = parquet_of(column([1.5] * rows), use_dictionary=False, write_statistics=False)
    size = measure_parquet(honest, MIB).bytes
    assert 2 * 8 * rows <= size < 4 * 8 * rows


def test_a_file_counts_its_footer() -> None:
    data = parquet_of(pyarrow.table({"x" * 100 + str(index): [1] for index in range(100)}))
    footer = int.from_bytes(data[-8:-4], "little")
    with pytest.raises(ValueError, match="it would take more than"):
        read_parquet(data, "arrow", 64 * footer - 1)
    assert read_parquet(data, "arrow", 64 * footer + 20_000).num_columns == 100


def test_by_default_a_frame_may_take_four_times_the_largest_message() -> None:
    assert MAX_FRAME_BYTES == 4 * 64 * MIB
    with pytest.raises(InvalidAnswer, match="it would take more than 268435456 bytes"):
        decode_data(arrow_of(pyarrow.table({"a": pyarrow.nulls(2**25 + 1)})), DataType.ARROW)


@pytest.mark.parametrize("form", ["Parquet", "Arrow"])
def test_the_name_of_a_column_has_an_end(form: str) -> None:
    table = pyarrow.table({"(" * 1001: [1]})
    data, read = (parquet_of(table), read_parquet) if form == "Parquet" else (arrow_of(table), read_arrow)
    with pytest.raises(ValueError, match=f"{form} that can't be read: the name of a column has more than"):
        read(data, "pandas")


TABLE = pyarrow.table(
    {
        "number": [1.5, None] * 20,
        "text": ["a", "bb"] * 20,
        "list": [[1], []] * 20,
        "kind": pyarrow.array(["x", "y"] * 20).dictionary_encode(),
    }
)
FILES = [
    parquet_of(TABLE),
    parquet_of(TABLE, data_page_version="2.0", compression="zstd", write_page_checksum=True),
    parquet_of(TABLE, use_dictionary=False, row_group_size=7, compression="none"),
]
STREAMS = [arrow_of(TABLE), arrow_of(TABLE, compression="zstd"), growing_dictionary()[:4000]]
damage = st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), min_size=1, max_size=5)


@given(st.sampled_from(FILES), damage)
def test_a_damaged_parquet_file_takes_no_more_than_it_may(file: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(file)
    for position, byte in damage:
        data[position % len(data)] = byte
    with contextlib.suppress(ValueError):
        assert read_parquet(bytes(data), "arrow", MIB).nbytes <= MIB


@given(st.sampled_from(STREAMS), damage)
def test_a_damaged_arrow_stream_takes_no_more_than_it_may(file: bytes, damage: list[tuple[int, int]]) -> None:
    data = bytearray(file)
    for position, byte in damage:
        data[position % len(data)] = byte
    with contextlib.suppress(ValueError):
        assert read_arrow(bytes(data), "arrow", MIB).nbytes <= MIB


@given(st.binary(max_size=80), st.integers(0, 80))
def test_any_page_header_is_read_or_refused(header: bytes, start: int) -> None:
    file = FILES[0]
    data = b"PAR1" + b"\x15" * (start % 4) + header + file[len(header) + 4 :]
    with contextlib.suppress(ThriftError):
        assert measure_parquet(data, MIB).bytes >= 0


def test_metadata_that_pyarrow_would_die_of_is_refused() -> None:
    # It aborts the process (release 26) when asked about a footer whose histograms have a wrong length.
    data = parquet_of(column([["a", "b"], []]))
    footer = int.from_bytes(data[-8:-4], "little")
    four_numbers, five_numbers = b"\x46", b"\x56\0"
    reasons = []
    for position in range(len(data) - 8 - footer, len(data) - 8):
        if data[position : position + 1] == four_numbers:
            tail = (footer + 1).to_bytes(4, "little") + b"PAR1"
            with pytest.raises(ValueError, match="Parquet that can't be read") as caught:
                read_parquet(data[:position] + five_numbers + data[position + 1 : -8] + tail, "arrow", MIB)
            reasons.append(str(caught.value))
    assert any("histogram size mismatch" in reason for reason in reasons)
