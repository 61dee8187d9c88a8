"""Frames of pandas, polars and pyarrow are sent as Parquet as they are, or refused."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

import attrs
import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from helpers.frame_files import arrow_of, parquet_of
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.errors import InvalidAnswer
from trio_model_runner.values.data import Arguments, DataType, Encoded, decode_data, encode, encode_data

TABLE = pyarrow.table({"price": [1.5, None, 3.0], "name": ["a", "b", None], "steps": [[1], [], [2, 3]]})


@attrs.frozen
class StreamFrame:
    """A frame of a library that nobody has heard of."""

    table: pyarrow.Table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


@attrs.frozen
class ArrayFrame:
    batch: pyarrow.RecordBatch

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.batch.__arrow_c_array__(requested_schema)


FRAMES = [
    TABLE,
    StreamFrame(TABLE),
    ArrayFrame(TABLE.to_batches()[0]),
    TABLE.to_batches()[0],
    pyarrow.RecordBatchReader.from_batches(TABLE.schema, TABLE.to_batches()),
]


@pytest.mark.parametrize("frame", FRAMES[:4], ids=lambda frame: type(frame).__name__)
def test_any_frame_is_sent_as_parquet(frame: Any) -> None:
    encoded = encode(frame)
    assert encoded.data_type is DataType.PARQUET
    assert encoded.data[:4] == encoded.data[-4:] == b"PAR1"
    assert pyarrow.parquet.read_table(io.BytesIO(encoded.data)).equals(TABLE)
    assert decode_data(encoded.data, DataType.PARQUET).equals(TABLE)


def test_a_reader_of_batches_is_read_once() -> None:
    arguments = Arguments(pyarrow.RecordBatchReader.from_batches(TABLE.schema, TABLE.to_batches()))
    assert decode_data(arguments.positional[0].data, DataType.PARQUET).equals(TABLE)
    assert decode_data(arguments.positional[0].data, DataType.PARQUET).equals(TABLE)


@pytest.mark.parametrize("frame", FRAMES[:4], ids=lambda frame: type(frame).__name__)
def test_arrow_is_a_stream_and_only_on_demand(frame: Any) -> None:
    encoded = encode(frame, DataType.ARROW)
    assert encoded.data_type is DataType.ARROW
    assert pyarrow.ipc.open_stream(encoded.data).read_all().equals(TABLE)
    assert decode_data(encoded.data, DataType.ARROW).equals(TABLE)
    assert encode_data(DataType.ARROW, frame) == encoded.data


def test_pandas_keeps_index_and_dtypes() -> None:
    frame = pandas.DataFrame(
        {
            "price": numpy.array([1, 2], dtype="float32"),
            "side": pandas.Categorical(["left", "right"]),
            "count": pandas.array([1, None], dtype="Int16"),
            "time": pandas.to_datetime(["2026-01-01", "2026-01-02"], utc=True),
            "name": ["a", "b"],
        },
        index=pandas.Index(["x", "y"], name="id"),
    )
    for data_type in (DataType.PARQUET, DataType.ARROW):
        encoded = encode(frame, data_type)
        pandas.testing.assert_frame_equal(decode_data(encoded.data, data_type, frames="pandas"), frame)
    assert encode(frame).data_type is DataType.PARQUET


def test_pandas_without_rows_or_columns() -> None:
    for frame in (pandas.DataFrame(), pandas.DataFrame({"a": []})):
        decoded = decode_data(encode(frame).data, DataType.PARQUET, frames="pandas")
        assert decoded.shape == frame.shape


def test_rows_without_columns_are_refused_where_they_would_be_lost() -> None:
    frame = pandas.DataFrame(index=range(2))
    with pytest.raises(ValueError, match=r"^the frame has rows but no columns: Parquet would lose the rows$"):
        encode(frame)
    decoded = decode_data(encode(frame, DataType.ARROW).data, DataType.ARROW, frames="pandas")
    assert decoded.shape == (2, 0)


def test_polars_frames_with_categories() -> None:
    import polars

    frame = polars.DataFrame(
        {
            "name": ["a", "b"],
            "side": polars.Series(["left", None], dtype=polars.Categorical),
            "level": polars.Series(["low", "high"], dtype=polars.Enum(["low", "high"])),
        }
    )
    decoded = decode_data(encode(frame).data, DataType.PARQUET)
    assert decoded.to_pylist() == frame.to_dicts()
    assert list(decode_data(encode(frame).data, DataType.PARQUET, frames="pandas")["name"]) == ["a", "b"]


def test_categories_as_string_views_become_strings() -> None:
    views = pyarrow.array(["left", "right"], pyarrow.string_view())
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([1, 0, None], pyarrow.uint8()), views)
    data = encode(pyarrow.table({"side": column})).data
    decoded = decode_data(data, DataType.PARQUET)
    assert decoded.column("side").to_pylist() == ["right", "left", None]
    assert pyarrow.types.is_dictionary(decoded.schema.field("side").type)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            pandas.Series([1]),
            r"^Series can't be read as a table of named columns \(send its \.tolist\(\), or a frame",
        ),
        (pyarrow.array([1]), "^Int64Array can't be read as a table of named columns"),
        (pandas.DataFrame({"a": [1, "x"]}), "^DataFrame can't be read as a table of named columns"),
        (
            pyarrow.table({"a": pyarrow.array([None], pyarrow.month_day_nano_interval())}),
            "^column 'a' has the type month_day_nano_interval, which can't be sent$",
        ),
    ],
)
def test_what_is_no_table_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        encode(value)


def test_columns_of_the_same_name_are_refused() -> None:
    table = pyarrow.table([[1], [2]], names=["a", "a"])
    with pytest.raises(ValueError, match=r"^argument 1: two columns of the frame have the same name$"):
        Arguments(table).encode()
    assert decode_data(parquet_of(table), DataType.PARQUET).equals(table)  # a model may send them


@pytest.mark.parametrize("frame", [TABLE, pandas.DataFrame({"a": [1]}), pyarrow.table({})])
def test_a_frame_inside_json_is_refused(frame: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^rows\[0\]: .* \(a data frame can only be an argument of its own\)$"
    ):
        encode({"rows": [frame]})


@pytest.mark.parametrize("data_type", [DataType.PARQUET, DataType.ARROW])
def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, data_type: DataType) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[arrow\]'"):
        encode(StreamFrame(TABLE), data_type)
    with pytest.raises(ImportError, match=r"pip install '\.\[arrow\]'") as caught:
        decode_data(b"anything", data_type)
    assert caught.value.name == "pyarrow"


def test_arguments_can_be_tried_again_once_pyarrow_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = Arguments(TABLE)
    with monkeypatch.context() as missing:
        missing.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ImportError, match=r"pip install '\.\[arrow\]'"):
            arguments.encode()
    assert arguments.positional[0].data_type is DataType.PARQUET


def test_without_pandas_only_pandas_frames_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(TABLE).data
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match='frames="pandas"'):
        decode_data(data, DataType.PARQUET, frames="pandas")
    assert decode_data(data, DataType.PARQUET).equals(TABLE)
    assert decode_data(encode(StreamFrame(TABLE)).data, DataType.PARQUET).equals(TABLE)


def test_pandas_metadata_that_makes_no_sense_is_an_invalid_answer() -> None:
    for metadata in (b"{", b"[]", b'{"index_columns": [7], "columns": [], "column_indexes": [{}]}'):
        data = parquet_of(TABLE.replace_schema_metadata({"pandas": metadata}))
        with pytest.raises(InvalidAnswer, match="Parquet that can't be read") as caught:
            decode_data(data, DataType.PARQUET, frames="pandas")
        assert caught.value.value == Encoded(DataType.PARQUET, data)
        assert decode_data(data, DataType.PARQUET).num_rows == 3


@pytest.mark.parametrize("build", [parquet_of, arrow_of])
def test_text_in_a_frame_must_be_utf8(build: Any) -> None:
    data_type = DataType.PARQUET if build is parquet_of else DataType.ARROW
    data = build(pyarrow.table({"name": ["marker"]}))
    assert data.count(b"marker") >= 1
    with pytest.raises(InvalidAnswer, match="can't be read"):
        decode_data(data.replace(b"marker", b"mark\xff\xff"), data_type)


@pytest.mark.parametrize(
    "column",
    [
        pyarrow.array([{"marker": 1}]),
        pyarrow.array([[{"marker": 1}]]),
        pyarrow.array(
            [[("a", {"marker": 1})]], pyarrow.map_("string", pyarrow.struct([("marker", "int64")]))
        ),
    ],
)
def test_names_inside_a_frame_must_be_utf8(column: Any) -> None:
    data = arrow_of(pyarrow.table({"name": column}))
    with pytest.raises(InvalidAnswer, match="Arrow that can't be read: UnicodeDecodeError"):
        decode_data(data.replace(b"marker", b"mark\xff\xff"), DataType.ARROW)


def test_what_arrow_had_to_say_is_the_cause() -> None:
    with pytest.raises(InvalidAnswer, match="Arrow that can't be read: ArrowInvalid") as caught:
        decode_data(b"nonsense", DataType.ARROW)
    assert isinstance(caught.value.__cause__, pyarrow.ArrowInvalid)


SOUND = {DataType.PARQUET: parquet_of(TABLE), DataType.ARROW: arrow_of(TABLE)}


@given(
    st.sampled_from(sorted(SOUND)),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 200),
    st.sampled_from(["arrow", "pandas"]),
)
def test_a_damaged_frame_is_readable_or_an_invalid_answer(
    data_type: DataType, damage: list[tuple[int, int]], cut: int, frames: Any
) -> None:
    data = bytearray(SOUND[data_type])
    # Of a damaged footer of Parquet, pyarrow may end the process.
    end = (
        len(data) - 8 - int.from_bytes(data[-8:-4], "little") if data_type is DataType.PARQUET else len(data)
    )
    for position, byte in damage:
        data[position % end] = byte
    if cut > 150:
        del data[-(cut - 150) :]
    with contextlib.suppress(InvalidAnswer):
        decoded = decode_data(bytes(data), data_type, frames=frames)
        # Whatever was let through can be looked at, all of it.
        _ = decoded.to_pylist() if frames == "arrow" else decoded.to_dict()
