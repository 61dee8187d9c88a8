"""What a stranger's frame says about pandas: little of it is believed, and nothing of it costs anything."""

from __future__ import annotations

import contextlib
import datetime
import json
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from helpers.frame_files import arrow_of, parquet_of
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.values.encoded import DataType
from trio_model_runner.values.frames import pandas_extensions
from trio_model_runner.values.frames.pandas_dtypes import LABEL_DTYPES, NATURAL, fitting_dtype
from trio_model_runner.values.frames.presenting import present
from trio_model_runner.values.frames.reading import read_plain

TABLE = pyarrow.table({"1": [1.5, 2.5], "2": ["a", "b"], "k": [7, 8]})


def with_pandas(table: pyarrow.Table, **facts: Any) -> pyarrow.Table:
    """Read a table, as it comes with metadata of pandas."""
    facts = {"index_columns": [], "column_indexes": [], "columns": [], **facts}
    return read_plain(arrow_of(table.replace_schema_metadata({"pandas": json.dumps(facts)})), DataType.ARROW)


def entry(name: Any, numpy_type: Any = "object", pandas_type: Any = "object", **facts: Any) -> dict[str, Any]:
    return {"name": name, "field_name": name, "pandas_type": pandas_type, "numpy_type": numpy_type, **facts}


def facts_of(table: pyarrow.Table) -> Any:
    assert set(table.schema.metadata) == {b"pandas"}
    return json.loads(table.schema.metadata[b"pandas"])


def test_nothing_else_of_the_metadata_comes_back() -> None:
    inner = pyarrow.field("x", pyarrow.int64(), metadata={"ARROW:extension:name": "evil", "b": "c"})
    kind = pyarrow.struct([pyarrow.field("y", pyarrow.list_(inner), metadata={"d": "e"})])
    field = pyarrow.field("a", kind, metadata={"ARROW:extension:name": "evil"})
    schema = pyarrow.schema([field], metadata={"f": "g", "trio_model_runner.unreadable_pandas": "no"})
    table = pyarrow.Table.from_arrays([pyarrow.array([{"y": [1]}], kind)], schema=schema)
    for data, data_type in ((arrow_of(table), DataType.ARROW), (parquet_of(table), DataType.PARQUET)):
        read = read_plain(data, data_type)
        assert read.to_pylist() == table.to_pylist()
        (got,) = read.schema
        assert not read.schema.metadata
        assert not got.metadata
        assert not got.type[0].metadata
        assert not got.type[0].type.value_field.metadata


def test_attributes_are_not_taken() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    table = with_pandas(TABLE, attributes={"deep": deep, "large": "x" * 10**6}, creator={"a": 1}, other=1)
    assert set(facts_of(table)) == {"index_columns", "column_indexes", "columns"}
    assert present(table, "pandas").attrs == {}


HOSTILE_DTYPES = [
    "S600000000",
    "U600000000",
    "V600000000",
    "(1000000,1000000)f8",
    "f8,f8,f8",
    "datetime64[1000000000000ns]",
    "datetime64[generic]",
    "category",
    "Sparse[float64]",
    "period[D]",
    "interval[int64]",
    "datetime64[ns, Mars/Olympus]",
    "timestamp[ns, tz=Mars/Olympus][pyarrow]",
    "os.system",
    "x" * 10**5,
]


@pytest.mark.parametrize("dtype", HOSTILE_DTYPES, ids=lambda dtype: dtype[:20])
def test_labels_and_columns_get_no_dtype_that_is_not_known(dtype: str) -> None:
    for level in (entry(None, dtype, "unicode"), entry(None, "object", dtype), entry(None, dtype, dtype)):
        table = with_pandas(TABLE, columns=[entry(name, dtype, dtype) for name in TABLE.column_names])
        labels = with_pandas(TABLE, column_indexes=[level])
        for each in (table, labels):
            assert dtype not in each.schema.metadata[b"pandas"].decode()
            pandas.testing.assert_frame_equal(present(each, "pandas"), TABLE.to_pandas())


def test_dtypes_that_do_not_fit_their_column_are_not_taken() -> None:
    columns = [entry("1", "string[python]"), entry("2", "Int64"), entry("k", "boolean")]
    assert [each["numpy_type"] for each in facts_of(with_pandas(TABLE, columns=columns))["columns"]] == [
        NATURAL
    ] * 3
    columns = [entry("1", "Float64"), entry("2", "string[python]"), entry("k", "Int64")]
    frame = present(with_pandas(TABLE, columns=columns), "pandas")
    assert list(map(str, frame.dtypes)) == ["Float64", "string", "Int64"]


def test_every_dtype_for_labels_is_one_and_is_small() -> None:
    for name in LABEL_DTYPES:
        assert getattr(pandas.api.types.pandas_dtype(name), "itemsize", 8) <= 8


@pytest.mark.parametrize("kind", [pyarrow.int64(), pyarrow.timestamp("us", "UTC"), pyarrow.date32()], ids=str)
def test_a_dtype_of_arrows_must_be_the_type_itself(kind: pyarrow.DataType) -> None:
    assert fitting_dtype(f"{kind}[pyarrow]", pyarrow, kind) == f"{kind}[pyarrow]"
    assert fitting_dtype("int32[pyarrow]", pyarrow, kind) == NATURAL


TIME = datetime.datetime(2026, 1, 1, 12)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pyarrow.timestamp("s"), TIME),
        (pyarrow.timestamp("s", "Europe/Berlin"), TIME.replace(tzinfo=datetime.UTC)),
        (pyarrow.time32("s"), TIME.time()),
        (pyarrow.date64(), TIME.date()),
    ],
    ids=str,
)
def test_what_parquet_holds_as_another_type_gets_its_dtype_back(kind: pyarrow.DataType, value: Any) -> None:
    frame = pandas.DataFrame({"a": pandas.Series([value, None], dtype=pandas.ArrowDtype(kind))})
    written = pyarrow.Table.from_pandas(frame)
    for data, data_type in ((parquet_of(written), DataType.PARQUET), (arrow_of(written), DataType.ARROW)):
        pandas.testing.assert_frame_equal(present(read_plain(data, data_type), "pandas"), frame)


@pytest.mark.parametrize("name", ["string", "binary"])
def test_views_of_pandas_become_large(name: str) -> None:
    dtype = f"large_{name}[pyarrow]"
    assert fitting_dtype(f"{name}_view[pyarrow]", pyarrow, getattr(pyarrow, f"large_{name}")()) == dtype
    assert fitting_dtype(f"{name}_view[pyarrow]", pyarrow, pyarrow.int64()) == NATURAL
    table = pyarrow.table({"a": pyarrow.array(["x", None], getattr(pyarrow, f"{name}_view")())})
    frame = present(with_pandas(table, columns=[entry("a", f"{name}_view[pyarrow]")]), "pandas")
    assert str(frame["a"].dtype) == dtype
    assert frame["a"][0] == ("x" if name == "string" else b"x")


@pytest.mark.parametrize(
    ("pandas_type", "numpy_type"),
    [
        ("int64", "int64"),
        ("float64", "float64"),
        ("datetime64[ns]", "datetime64[ns]"),
        ("decimal", "object"),
        ("datetimetz", "datetime64[ns]"),
    ],
)
@pytest.mark.parametrize("text", ["x", "9" * 900, "1e9999999", "0x10", "٣", "1_000", "", "2026-13-40x"])
def test_labels_that_are_not_what_they_are_said_to_be_stay_text(
    pandas_type: str, numpy_type: str, text: str
) -> None:
    level = entry(None, numpy_type, pandas_type, metadata={"timezone": "UTC"})
    table = with_pandas(TABLE.rename_columns([text, "b", "c"]), column_indexes=[level])
    assert list(present(table, "pandas").columns) == [text, "b", "c"]


@pytest.mark.parametrize(
    ("pandas_type", "numpy_type", "smallest", "largest"),
    [
        ("int64", "int64", -(2**63), 2**63 - 1),
        ("uint64", "uint64", 0, 2**64 - 1),
        ("int64", "Int64", -(2**63), 2**63 - 1),
        ("uint64", "UInt64", 0, 2**64 - 1),
        ("integer", "int64[pyarrow]", -(2**63), 2**63 - 1),
        ("int64", "int8", -(2**7), 2**7 - 1),
    ],
)
def test_labels_are_the_integers_that_their_type_can_hold(
    pandas_type: str, numpy_type: str, smallest: int, largest: int
) -> None:
    level = entry(None, numpy_type, pandas_type)
    for labels, fit in (
        ((smallest, largest), True),
        ((smallest - 1, largest), False),
        ((smallest, largest + 1), False),
    ):
        table = with_pandas(TABLE.rename_columns([*map(str, labels), "5"]), column_indexes=[level])
        columns = present(table, "pandas").columns
        assert list(columns) == ([*labels, 5] if fit else [*map(str, labels), "5"])
        assert not fit or str(columns.dtype) == numpy_type
        levels = TABLE.rename_columns([str((str(label), "x")) for label in (*labels, 5)])
        columns = present(with_pandas(levels, column_indexes=[level, entry(None)]), "pandas").columns
        assert list(columns) == [(label if fit else str(label), "x") for label in (*labels, 5)]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_number_or_a_time_among_labels_may_be_missing(missing: float | None) -> None:
    columns = [{**entry("1"), "name": missing}]
    for pandas_type, label, wanted in (
        ("float64", "2.5", 2.5),
        ("datetime64[ns]", "2026-01-01 00:00:00", pandas.Timestamp("2026-01-01")),
    ):
        table = TABLE.rename_columns(["1", label, label])
        level = entry(None, pandas_type, pandas_type)
        labels = present(with_pandas(table, columns=columns, column_indexes=[level]), "pandas").columns
        assert labels.equals(pandas.Index([missing, wanted, wanted], dtype=pandas_type))
    level = entry(None, "int64", "int64")
    table = with_pandas(TABLE.rename_columns(["1", "2", "3"]), columns=columns, column_indexes=[level])
    assert list(present(table, "pandas").columns[1:]) == ["2", "3"]


@pytest.mark.parametrize(
    "label",
    [
        "x",
        "('a')",
        "('a',)",
        "('a', 'b', 'c')",
        "('a', ('b',))",
        "('a', ['b'])",
        "('a', 'b' 'c')",
        "('a', " + "(" * 900,
        "('a', " + "-" * 900 + "1)",
        "('a', b'b')",
        "('a', 1j)",
        "('a', " + "9" * 900 + ")",
        "('a', 'b' + 'c')",
        "('a', f'{1}')",
        "('a', '\\ud800')",
        "('a', '\\U00110000')",
        "('a', '\\N{DIGIT ONE}')",
        "__import__('os').abort()",
    ],
    ids=lambda label: label[:20],
)
def test_labels_of_levels_are_flat_tuples_of_literals(label: str) -> None:
    table = pyarrow.table({"('a', 'b')": [1], label: [1]})
    table = with_pandas(table, column_indexes=[entry(None), entry("level")])
    with pytest.raises(ValueError, match=r"^Arrow that can't be read: what it says about pandas"):
        present(table, "pandas")
    assert present(table, "arrow").num_columns == 2
    assert present(table, "arrow").schema.metadata is None


def test_a_range_that_does_not_fit_the_rows_is_no_index() -> None:
    for start, stop, step in ((0, 3, 1), (0, 2**40, 1), (0, 2, -1), (0, 2**60, 2**59), (-5, -3, 1)):
        index = {"kind": "range", "name": "r", "start": start, "stop": stop, "step": step}
        frame = present(with_pandas(TABLE, index_columns=[index]), "pandas")
        fits = len(range(start, stop, step)) == 2
        assert frame.index.equals(pandas.RangeIndex(start, stop, step) if fits else pandas.RangeIndex(2))
        assert frame.index.name == ("r" if fits else None)


@pytest.mark.parametrize(
    "index",
    [
        [7],
        [["k"]],
        ["k", "k"],
        ["missing"],
        ["1"] * 17,
        "k",
        [{"kind": "range"}],
        [{"kind": "other", "start": 0, "stop": 2, "step": 1}],
        [{"kind": "range", "start": 0, "stop": 2, "step": 0}],
        [{"kind": "range", "start": 0.0, "stop": 2, "step": 1}],
        [{"kind": "range", "start": 0, "stop": 2**70, "step": 1}],
        [{"kind": "range", "start": 0, "stop": 2, "step": 1, "name": ["a"]}],
    ],
    ids=str,
)
def test_an_index_that_makes_no_sense_is_refused(index: Any) -> None:
    table = with_pandas(TABLE, index_columns=index, columns=[entry("k"), entry("1")])
    with pytest.raises(ValueError, match=r"about pandas makes no sense: (index_columns|a name is)"):
        present(table, "pandas")


@pytest.mark.parametrize(
    "columns",
    [
        {},
        [1],
        [{}],
        [{"name": "1"}],
        [entry(1)],
        [entry("1", 5)],
        [entry("x" * 1001)],
        [entry("\ud800")],
        [entry(["1"])],
        [entry("1")] * 10_001,
    ],
    ids=lambda columns: str(columns)[:30],
)
def test_columns_that_make_no_sense_are_refused(columns: Any) -> None:
    with pytest.raises(ValueError, match="what it says about pandas makes no sense"):
        present(with_pandas(TABLE, columns=columns), "pandas")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10**5, b"1" * 5000, b" " * 2**23]
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    table = read_plain(arrow_of(TABLE.replace_schema_metadata({"pandas": text})), DataType.ARROW)
    with pytest.raises(ValueError, match="what it says about pandas makes no sense"):
        present(table, "pandas")
    assert present(table, "arrow").equals(TABLE)


def test_columns_of_the_same_name() -> None:
    table = pyarrow.Table.from_arrays([[1, 2], ["a", "b"]], names=["a", "a"])
    frame = present(with_pandas(table, columns=[entry("a", "Int64")] * 2, index_columns=["a"] * 1), "pandas")
    assert (frame.shape, list(frame.columns)) == ((2, 2), ["a", "a"])


def test_a_zone_that_only_pandas_knows_is_taken() -> None:
    table = pyarrow.table({"a": pyarrow.array([0], pyarrow.timestamp("us", "UTC"))})
    zoned = entry("a", "datetime64[ns]", "datetimetz", metadata={"timezone": "Asia/Tokyo"})
    frame = present(with_pandas(table, columns=[zoned]), "pandas")
    assert frame["a"][0] == pandas.Timestamp("1970-01-01 09:00", tz="Asia/Tokyo")
    assert str(frame["a"].dtype) == "datetime64[ns, Asia/Tokyo]"
    zoned["metadata"] = {"timezone": "../../etc/passwd"}
    assert str(present(with_pandas(table, columns=[zoned]), "pandas")["a"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pandas.period", '{"freq": "D; import os"}'),
        ("pandas.period", '{"freq": "99999D"}'),
        ("pandas.period", '{"freq": ["D"]}'),
        ("pandas.period", "[" * 150),
        ("pandas.period", '{"freq": "D", "x": "' + "x" * 10**6 + '"}'),
        ("pandas.period", "\ud800"),
        ("pandas.interval", '{"subtype": "int64", "closed": "left"}'),
        ("pandas.interval", '{"closed": []}'),
        ("evil", '{"freq": "D"}'),
    ],
    ids=lambda text: text[:20],
)
def test_extension_types_of_pandas_have_known_parameters(name: str, text: str) -> None:
    metadata = {pandas_extensions._NAME: name, pandas_extensions._METADATA: text.encode("utf8", "replace")}
    field = pyarrow.field("a", pyarrow.int64(), metadata=metadata)
    assert pandas_extensions.extension_of(pyarrow, field, field.type) is None


def test_a_period_that_pandas_does_not_know_is_refused_where_it_is_made() -> None:
    field = pyarrow.field(
        "a",
        pyarrow.int64(),
        metadata={pandas_extensions._OURS: "pandas.period", pandas_extensions._METADATA: '{"freq": "QQQ"}'},
    )
    with pytest.raises(ValueError, match="a frame that pandas can't hold"):
        present(pyarrow.Table.from_arrays([[1]], schema=pyarrow.schema([field])), "pandas")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["1", "2", "k", "range", "name", "('a', 'b')", "datetimetz", "S9", "object", "int64"])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
DTYPE = st.sampled_from([*HOSTILE_DTYPES[:-1], *sorted(LABEL_DTYPES), "unicode", "mixed", "date"]) | JSON
METADATA = st.none() | st.fixed_dictionaries({"timezone": st.sampled_from(["UTC", "+01:00", "x", 1])}) | JSON
ENTRY = (
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["1", "2", "k", None]) | JSON,
            "pandas_type": st.sampled_from(["datetimetz", "decimal", "int64", "bytes"]) | DTYPE,
            "numpy_type": DTYPE,
        },
        optional={"field_name": st.sampled_from(["1", "2", "k"]) | JSON, "metadata": METADATA},
    )
    | JSON
)
RANGE = st.fixed_dictionaries(
    {key: st.integers(-3, 3) | JSON for key in ("start", "stop", "step")},
    optional={"kind": st.just("range") | JSON, "name": JSON},
)
FACTS = st.fixed_dictionaries(
    {
        "index_columns": st.lists(st.sampled_from(["1", "2", "k"]) | RANGE | JSON, max_size=3) | JSON,
        "columns": st.lists(ENTRY, max_size=4) | JSON,
    },
    optional={"column_indexes": st.lists(ENTRY, max_size=3) | JSON, "attributes": JSON},
)


@given(FACTS, st.sampled_from([TABLE, TABLE[:0], TABLE.rename_columns(["('a', 'b')", "('c', '2')", "k"])]))
def test_any_metadata_make_a_frame_or_a_value_error(facts: Any, table: pyarrow.Table) -> None:
    with contextlib.suppress(ValueError):
        frame = present(with_pandas(table, **facts), "pandas")
        assert len(frame) == table.num_rows
        assert frame.attrs == {}
        assert frame.memory_usage(deep=True).sum() < 10_000
        assert numpy.prod(frame.shape) <= 6
    present(with_pandas(table, **facts), "arrow")
