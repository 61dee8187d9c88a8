"""Columns that are sent: their values arrive, or they are refused with the column and what to do."""

from __future__ import annotations

import datetime
import decimal
import uuid
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy
import pandas
import polars
import pyarrow
import pytest
from helpers.frame_trips import assert_that_it_arrives

from trio_model_runner.values.data import Arguments, DataType, decode_data, encode, encode_data
from trio_model_runner.values.frames.plain_arrays import plain_array

BOTH = (DataType.PARQUET, DataType.ARROW)
NOON = datetime.datetime(2026, 1, 1, 12)
UTC = datetime.UTC
DAY = datetime.date(2026, 1, 1)
LEVEL = polars.Enum(["lo", "hi"])
WORDS = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())


def test_columns_of_python_objects_of_polars_are_refused() -> None:
    frame = polars.DataFrame({"x": [1], "a": [object()]}, schema={"x": polars.Int8, "a": polars.Object})
    says = r"^argument history: column 'a' has Python objects, of which only the addresses in memory"
    with pytest.raises(TypeError, match=says):
        Arguments(history=frame).encode()
    for data_type in BOTH:
        with pytest.raises(TypeError, match=r"^column 'a' has Python objects"):
            encode(frame, data_type)


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.list_(pyarrow.binary(8)),
        pyarrow.struct([("a", pyarrow.list_(pyarrow.binary(8)))]),
        pyarrow.map_(pyarrow.string(), pyarrow.binary(8)),
    ],
)
def test_addresses_are_refused_at_any_depth(kind: Any) -> None:
    class OfPolars:
        __module__ = "polars.dataframe.frame"

        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return pyarrow.table({"a": pyarrow.nulls(2, kind)}).__arrow_c_stream__()

    for data_type in BOTH:
        with pytest.raises(TypeError, match=r"^column 'a' has Python objects"):
            encode(OfPolars(), data_type)
    encode(pyarrow.table({"a": pyarrow.array([b"8 bytes!"], pyarrow.binary(8))}))  # no addresses


def test_a_type_that_polars_alone_knows_is_refused_with_the_column() -> None:
    frame = polars.DataFrame({"x": [1], "a": [2**100]}, schema={"x": polars.Int8, "a": polars.Int128})
    with pytest.raises(TypeError, match=r"^DataFrame can't be read as a table .*: column 'a': .*_pli128"):
        encode(frame)


CATEGORIES: Mapping[str, tuple[Any, list[Any]]] = {
    "at the top": (polars.Categorical, ["x", "y", None]),
    "lists": (polars.List(polars.Categorical), [["x", "y", None], None, []]),
    "lists of enums": (polars.List(LEVEL), [["lo"], ["hi"]]),
    "structs": (polars.Struct({"c": polars.Categorical}), [{"c": "x"}, {"c": None}]),
    "structs of enums": (polars.Struct({"c": LEVEL}), [{"c": "lo"}]),
    "lists of structs": (polars.List(polars.Struct({"c": polars.Categorical})), [[], [{"c": "x"}]]),
    "arrays": (polars.Array(LEVEL, 2), [["lo", "hi"], ["hi", None]]),
    "arrays of which one is missing": (polars.Array(polars.Categorical, 2), [["x", "y"], None]),
    "arrays of arrays": (polars.Array(polars.Array(LEVEL, 2), 1), [[["lo", "hi"]], None]),
    "texts in structs in lists": (polars.List(polars.Struct({"t": polars.String})), [[{"t": "x"}], None]),
    "none at all": (polars.List(LEVEL), []),
}


@pytest.mark.parametrize("data_type", BOTH)
@pytest.mark.parametrize("name", CATEGORIES)
def test_categories_of_polars_are_sent_at_any_depth(name: str, data_type: DataType) -> None:
    dtype, values = CATEGORIES[name]
    frame = polars.DataFrame({"a": values}, schema={"a": dtype})
    in_chunks = polars.concat([frame, frame], rechunk=False)
    for sent in (frame, frame[1:], in_chunks):
        decoded = decode_data(encode_data(data_type, sent), data_type)
        assert decoded.to_pylist() == sent.to_dicts()
        assert_that_it_arrives(sent)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (WORDS, ["x", None, "x"]),
        (pyarrow.list_(WORDS), [["x"], None, ["y", "x"]]),
        (pyarrow.list_(WORDS, 1), [["x"], None, ["y"]]),
        (pyarrow.struct([("w", WORDS)]), [{"w": "x"}, None]),
    ],
    ids=str,
)
def test_dictionaries_of_pyarrow_are_sent_at_any_depth(kind: Any, values: list[Any]) -> None:
    table = pyarrow.table({"a": pyarrow.array(values, kind)})
    for sent in (table, table.slice(1), pyarrow.concat_tables([table, table.slice(2)])):
        assert assert_that_it_arrives(sent)


def test_categories_that_are_no_texts_become_their_values() -> None:
    durations = pandas.Categorical(pandas.to_timedelta([1, 2, 1], unit="s"))  # Parquet would make integers
    frame = pandas.DataFrame({"a": durations, "b": pandas.Categorical([1.5, 2, 1.5])})
    assert assert_that_it_arrives(frame)
    decoded = decode_data(encode(frame).data, DataType.PARQUET, frames="pandas")
    assert decoded["a"].tolist() == frame["a"].tolist()
    halves = pyarrow.array(numpy.array([1.5, 2], "float16"))
    table = pyarrow.table({"a": pyarrow.chunked_array([halves[:1].dictionary_encode()] * 2)})
    for data_type in BOTH:
        assert decode_data(encode_data(data_type, table), data_type).to_pylist() == table.to_pylist()


NEW = hasattr(pyarrow, "uuid")  # some types are newer than the oldest releases that we run with
NEW_REFUSED_TABLES: Mapping[str, tuple[Callable[[], Any], str]] = {
    "runs": (
        lambda: pyarrow.RunEndEncodedArray.from_arrays(
            pyarrow.array([1], pyarrow.int32()), pyarrow.array(["a"])
        ),
        "has the type run_end_encoded<",
    ),
    "extension": (
        lambda: pyarrow.array([uuid.UUID(int=1).bytes], pyarrow.uuid()),
        "has the extension type arrow.uuid: nodes would read bare fixed_size_binary[16] (send that, or text)",
    ),
    "intervals of times in a zone": (
        lambda: pyarrow.array(pandas.interval_range(pandas.Timestamp(NOON, tz="UTC"), periods=1).array),
        "has intervals of times with a zone",
    ),
    "views of lists": (
        lambda: pyarrow.array([[1]], pyarrow.list_view(pyarrow.int8())),
        "has the type list_view<",
    ),
}
REFUSED_TABLES: Mapping[str, tuple[Any, str]] = {
    "unions": (
        pyarrow.UnionArray.from_dense(
            pyarrow.array([0], pyarrow.int8()), pyarrow.array([0], pyarrow.int32()), [pyarrow.array([1])]
        ),
        "has the type dense_union<",
    ),
    "no fields": (pyarrow.array([{}], pyarrow.struct([])), "has objects without any field"),
    "fields of one name": (
        pyarrow.StructArray.from_arrays([pyarrow.array([1])] * 2, ["a", "a"]),
        "has objects with two fields of the same name",
    ),
    "a negative scale": (
        pyarrow.array([decimal.Decimal(100)], pyarrow.decimal128(5, -2)),
        "Parquet has no negative scale",
    ),
    "an unknown zone": (
        pyarrow.array([0], pyarrow.timestamp("us", "Nowhere/City")),
        "has times of a zone that is not known, 'Nowhere/City'",
    ),
    "zones in lists": (
        pyarrow.array([[0]], pyarrow.list_(pyarrow.timestamp("us", "UTC"))),
        "has lists of times with a zone",
    ),
    "zones in maps": (
        pyarrow.array([[("a", 0)]], pyarrow.map_("string", pyarrow.timestamp("us", "UTC"))),
        "has maps with times with a zone",
    ),
    "durations in maps": (
        pyarrow.array([[(0, 1)]], pyarrow.map_(pyarrow.duration("us"), "int8")),
        "has maps with durations",
    ),
    "nanoseconds in structs": (
        pyarrow.array([{"a": 0}], pyarrow.struct([("a", pyarrow.timestamp("ns"))])),
        "has timestamp[ns] inside a struct: pandas would make numbers of it (send microseconds)",
    ),
    "large integers and nulls": (
        pyarrow.array([2**53 + 1, None]),
        "has whole numbers of more than 53 bits, and missing ones: pandas would round them (fill",
    ),
    "large integers and nulls in lists": (pyarrow.array([[2**60 + 1, None]]), "has whole numbers of more"),
    "large integers and nulls in structs": (
        pyarrow.array([{"a": 2**60 + 1}, None]),
        "has whole numbers of more",
    ),
    "large integers, and nulls in another chunk": (
        pyarrow.chunked_array(
            [[{"a": 2**60 + 1}], pyarrow.nulls(1, pyarrow.struct([("a", pyarrow.int64())]))]
        ),
        "has whole numbers of more",
    ),
    "large integers as categories": (
        pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, None]), pyarrow.array([2**60 + 1])),
        "has whole numbers of more",
    ),
    "times of day in nanoseconds": (
        pyarrow.array([1], pyarrow.time64("ns")),
        "has times of day with nanoseconds, which pandas can't read (send microseconds)",
    ),
    "far dates": (pyarrow.array([3_000_000], pyarrow.date32()), "has dates outside of the years 1 to 9999"),
    "far times in a zone": (
        pyarrow.array([2**40], pyarrow.timestamp("s", "UTC")),
        "has times outside of the years 1 to 9999",
    ),
    "far times in structs": (
        pyarrow.array([{"a": [2**40]}], pyarrow.struct([("a", pyarrow.list_(pyarrow.timestamp("s")))])),
        "has times outside of the years 1 to 9999",
    ),
    "long durations in structs": (
        pyarrow.array([{"a": 2**60}], pyarrow.struct([("a", pyarrow.duration("s"))])),
        "has durations of more than 999999999 days",
    ),
    "times that Parquet can't count": (
        pyarrow.array([2**61], pyarrow.timestamp("s")),
        "has times that Parquet can't count in milliseconds",
    ),
}


@pytest.mark.parametrize("name", REFUSED_TABLES)
def test_what_nodes_would_read_otherwise_or_not_at_all_is_refused(name: str) -> None:
    assert_refused(*REFUSED_TABLES[name])


@pytest.mark.skipif(not NEW or pandas.__version__ < "3", reason="types that older releases lack")
@pytest.mark.parametrize("name", NEW_REFUSED_TABLES)
def test_new_types_that_nodes_would_read_otherwise_are_refused(name: str) -> None:
    make, says = NEW_REFUSED_TABLES[name]
    assert_refused(make(), says)


def assert_refused(column: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Arguments(pyarrow.table({"x": pyarrow.nulls(len(column)), "a": column})).encode()
    assert type(caught.value) in (TypeError, ValueError)
    assert str(caught.value).startswith("argument 1: column 'a' ")
    assert says in str(caught.value)


ARRIVING_TABLES: dict[str, Any] = {
    "bytes of a fixed length in lists": pyarrow.array([[b"abc"], None], pyarrow.list_(pyarrow.binary(3))),
    "bytes of no length": pyarrow.array([b"", None], pyarrow.binary(0)),
    "lists of a fixed length": pyarrow.array([[1, 2], None], pyarrow.list_(pyarrow.int64(), 2)),
    "integers and nulls": pyarrow.array([2**53, None]),
    "large integers": pyarrow.array([2**60 + 1, -(2**63)]),
    "times of day": pyarrow.array([1000, None], pyarrow.time64("ns")),
    "far times": pyarrow.array([2**40, None], pyarrow.timestamp("s")),
    "zones in structs": pyarrow.array(
        [{"a": NOON}, None], pyarrow.struct([("a", pyarrow.timestamp("us", "UTC"))])
    ),
    "durations in structs": pyarrow.array([{"a": 5}, None], pyarrow.struct([("a", pyarrow.duration("s"))])),
    "maps": pyarrow.array([[("a", 1)], [], None], pyarrow.map_("string", "int64")),
}


if NEW:
    OF_VIEWS = pyarrow.struct([("a", pyarrow.string_view())])
    ARRIVING_TABLES |= {
        "views": pyarrow.array(["a text of more than twelve bytes", None], pyarrow.string_view()),
        "views in structs in lists": pyarrow.array([[{"a": "x" * 20}], None], pyarrow.list_(OF_VIEWS)),
        "small decimals in lists": pyarrow.array(
            [[decimal.Decimal("1.5")]], pyarrow.list_(pyarrow.decimal32(5, 2))
        ),
    }


@pytest.mark.parametrize("name", ARRIVING_TABLES)
def test_what_has_another_type_with_the_same_values_arrives(name: str) -> None:
    table = pyarrow.table({"a": ARRIVING_TABLES[name]})
    for sent in (table, table.slice(1), table.slice(0, 0), pyarrow.concat_tables([table, table.slice(1)])):
        assert assert_that_it_arrives(sent)


def objects(*values: Any) -> pandas.DataFrame:
    array = numpy.empty(len(values), object)
    array[:] = values
    return pandas.DataFrame({"a": pandas.Series(array, dtype=object)})


STAMP = pandas.Timestamp("2026-01-01T00:00:00.123456789")

CHANGED_OBJECTS: Mapping[str, Any] = {
    "texts and bytes": objects("a", b"b"),
    "dates and times": objects(DAY, NOON),
    "times with and without a zone": objects(NOON, NOON.replace(tzinfo=UTC)),
    "times of two zones": objects(
        NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
    ),
    "nanoseconds": objects(STAMP, None),
    "durations in nanoseconds": objects(pandas.Timedelta(1), None),
    "nanoseconds in lists": objects([STAMP], None),
    "times of day in a zone": objects(datetime.time(1, tzinfo=UTC), None),
    "sets": objects({1}, None),
    "categories of dates and times": pandas.DataFrame({"a": pandas.Categorical(objects(DAY, NOON)["a"])}),
    "bytes and texts in lists": objects([b"a"], ["a"]),
}


@pytest.mark.parametrize("name", CHANGED_OBJECTS)
def test_objects_that_arrow_would_change_are_refused(name: str) -> None:
    for data_type in BOTH:
        with pytest.raises(TypeError, match=r"^column 'a' has objects \(.*\) that Arrow's .* would change"):
            encode(CHANGED_OBJECTS[name], data_type)


REFUSED_PANDAS: dict[str, tuple[Any, str]] = {
    "large integers and None": (objects(2**60 + 1, None), "column 'a' has whole numbers of more than 53"),
    "categories of periods": (
        pandas.DataFrame({"a": pandas.Categorical(pandas.period_range("2026", periods=2, freq="M"))}),
        "column 'a' has periods as categories",
    ),
    "lists in Arrow's dtype": (
        pandas.DataFrame({"a": pandas.array([[1]], dtype=pandas.ArrowDtype(pyarrow.list_(pyarrow.int64())))}),
        "column 'a' has the dtype list<",
    ),
    "sparse": (
        pandas.DataFrame({"a": pandas.arrays.SparseArray([0, 1])}),
        "column 'a' is sparse (send it .sparse.to_dense())",
    ),
    "complex": (pandas.DataFrame({"a": [1j]}), "column 'a' (complex128) has values of which Arrow makes"),
    "huge integers": (objects(2**70), "column 'a' (object) has values of which Arrow makes no column"),
    "a secret of two kinds": (objects("s3cret", 5), "column 'a' (object) has values of which Arrow makes"),
    "lone surrogates": (objects("\ud800"), "column 'a' (object) has values of which Arrow makes no column"),
}


if NEW:
    REFUSED_PANDAS["ids"] = objects(uuid.UUID(int=1)), "column 'a' has the extension type arrow.uuid"


@pytest.mark.parametrize("name", REFUSED_PANDAS)
def test_other_columns_of_pandas_are_refused_without_a_value(name: str) -> None:
    frame, says = REFUSED_PANDAS[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        encode(frame)
    assert type(caught.value) in (TypeError, ValueError)
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_columns_of_pandas_that_name_their_dtype_keep_large_integers_beside_missing_ones() -> None:
    frame = pandas.DataFrame(
        {
            "a": pandas.array([2**60 + 1, None], dtype="Int64"),
            "b": pandas.array([2**60 + 1, None], dtype=pandas.ArrowDtype(pyarrow.int64())),
        }
    )
    assert assert_that_it_arrives(frame)
    decoded = decode_data(encode(pyarrow.Table.from_pandas(frame)).data, DataType.PARQUET)
    assert decoded["a"].to_pylist() == [2**60 + 1, None]


@pytest.mark.parametrize("data_type", BOTH)
def test_attrs_are_left_out_whatever_they_are(data_type: DataType) -> None:
    frame = pandas.DataFrame({"a": [1]})
    frame.attrs = {"key": object()}
    with warnings.catch_warnings(action="error"):
        data = encode_data(data_type, frame)
    assert b"attributes" not in data or b'"attributes": {}' in data
    assert frame.attrs


def test_names_with_a_zero_byte_are_refused() -> None:
    for frame in (
        pyarrow.table({"a\0b": [1]}),
        pyarrow.table({"a": [[{"a\0b": 1}]]}),
        pandas.DataFrame({"a\0b": [1], "a": [2]}),
        pandas.DataFrame({"a": [1]}, index=pandas.Index(["x"], name="a\0b")),
    ):
        with pytest.raises(TypeError, match=r"^column 'a.* has a zero byte in its name"):
            encode(frame)
    with pytest.raises(ValueError, match=r"^a name in the frame has a zero byte"):
        encode(polars.DataFrame({"a\0b": [1]}))


def test_lists_of_a_fixed_length_inside_each_other_keep_their_values() -> None:
    inner = pyarrow.list_(pyarrow.int64(), 2)
    values = [[[1, 2], [3, None]], None, [None, [5, 6]]]
    array = pyarrow.array(values, pyarrow.list_(inner, 2))
    kind = pyarrow.list_(pyarrow.list_(pyarrow.int64()))
    for start in range(4):
        assert plain_array(pyarrow, array[start:], kind).to_pylist() == values[start:]


def test_whatever_pyarrow_can_not_take_apart_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise pyarrow.ArrowNotImplementedError("no kernel for the value s3cret")

    monkeypatch.setattr("trio_model_runner.values.frames.sent_tables.sent_schema", fail)
    with pytest.raises(TypeError, match=r"^Table has a type that pyarrow can't take apart \(ArrowNotImpl"):
        encode(pyarrow.table({"a": [1]}))
