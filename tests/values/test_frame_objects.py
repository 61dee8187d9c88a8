"""What becomes Python objects in a pandas frame is counted, bounded, and made a little at a time."""

from __future__ import annotations

import datetime
import decimal
import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from helpers.frame_files import parquet_of

from trio_model_runner.values.encoded import DataType
from trio_model_runner.values.frames.objects import MOST_CATEGORIES, MOST_OBJECTS, units_up_to
from trio_model_runner.values.frames.presenting import present, takes_long_to_present
from trio_model_runner.values.frames.reading import read_plain
from trio_model_runner.values.frames.slicing import AT_ONCE, _slices

ROWS = 6000  # more than a frame may have to be made at once
DAY = datetime.date(2026, 1, 1)


def with_index(table: pyarrow.Table, *names: str) -> pyarrow.Table:
    """A table with metadata as `read_plain` leaves them."""
    entries = [
        {"name": name, "field_name": name, "pandas_type": "object", "numpy_type": "object", "metadata": None}
        for name in table.column_names
    ]
    facts = {"index_columns": list(names), "column_indexes": [], "columns": entries}
    return table.replace_schema_metadata({"pandas": json.dumps(facts)})


def lists(count: int, values: Any, each: int = 0) -> pyarrow.Array:
    offsets = pyarrow.array(numpy.arange(count + 1) * each, pyarrow.int32())
    return pyarrow.ListArray.from_arrays(offsets, values)


def days(count: int) -> pyarrow.Array:
    return pyarrow.array(numpy.arange(count), pyarrow.int32()).cast(pyarrow.date32())


PERIOD = pyarrow.schema([pyarrow.field("a", "int64", metadata={"what": "it was"})]).empty_table()


def struct_of(parts: list[pyarrow.Array]) -> pyarrow.Array:
    return pyarrow.StructArray.from_arrays(parts, [str(index) for index in range(len(parts))])


def numbers_of(count: int) -> pyarrow.Array:
    return pyarrow.array(numpy.arange(count))


def texts_of(count: int) -> pyarrow.Array:
    return numbers_of(count).cast(pyarrow.string())


def test_ten_million_lists_are_refused_for_pandas_only() -> None:
    data = parquet_of(pyarrow.table({"a": lists(10**7, pyarrow.array([], pyarrow.int64()))}))
    assert len(data) < 25_000
    table = read_plain(data, DataType.PARQUET)
    assert present(table, "arrow").num_rows == 10**7
    with pytest.raises(ValueError, match=f"pandas would make more than {MOST_OBJECTS} objects of it"):
        present(table, "pandas")


def dictionary_of(values: pyarrow.Array) -> pyarrow.Array:
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0], "int32"), values)


TOO_MUCH: Mapping[str, tuple[pyarrow.Table, str]] = {
    "days": (pyarrow.table({"a": days(MOST_OBJECTS + 1)}), "more than 2000000 objects"),
    "days in two columns": (pyarrow.table({"a": days(1_100_000), "b": days(1_100_000)}), "more than 2000000"),
    "empty structs": (
        pyarrow.table({"a": pyarrow.array([{}], pyarrow.struct([])).take(pyarrow.array([0] * 600_000))}),
        "more than 2000000 objects",
    ),
    "nulls": (pyarrow.table({"a": pyarrow.nulls(10**7)}), "more than 2000000 objects"),
    "a long value": (pyarrow.table({"a": lists(1, days(200_001), 200_001)}), "a single value would become"),
    "a long value of nothing": (
        pyarrow.table({"a": lists(1, pyarrow.nulls(10**6), 10**6)}),
        "a single value would become",
    ),
    "categories": (
        pyarrow.table({"a": dictionary_of(pyarrow.array(map(str, range(MOST_CATEGORIES + 1))))}),
        "a column has more than 32768 categories",
    ),
    "categories of many columns": (
        pyarrow.table({str(index): dictionary_of(texts_of(MOST_CATEGORIES)) for index in range(31)}),
        "the categories of its columns are more than 1000000 objects",
    ),
    "columns of categories": (
        pyarrow.table({str(index): dictionary_of(pyarrow.array([1])) for index in range(2001)}),
        "more than 2000 of its columns and fields are categories",
    ),
    "fields of categories": (
        pyarrow.table({"a": struct_of([lists(1, dictionary_of(numbers_of(1)), 1)] * 2001)}),
        "more than 2000 of its columns and fields are categories",
    ),
    "columns of objects": (
        pyarrow.table({str(index): days(20) for index in range(1001)}),
        "more than 1000 of its columns are objects",
    ),
    "objects in an index": (
        with_index(pyarrow.table({"a": days(20_001), "b": pyarrow.nulls(20_001, "int8")}), "a", "b"),
        "its index has more than 20000 different objects",
    ),
    "values in an index": (
        with_index(
            pyarrow.table({"a": pyarrow.nulls(4_000_001, "int8"), "b": pyarrow.nulls(4_000_001, "int8")}),
            "a",
            "b",
        ),
        "its index has several levels, and more than 8000000 values",
    ),
    "texts in an index": (
        with_index(pyarrow.table({"a": texts_of(10**6 + 1), "b": numbers_of(10**6 + 1)}), "a", "b"),
        "its index has (several levels, and one of more than 1000000 texts|more than 20000 different)",
    ),
    "lists in an index": (
        with_index(pyarrow.table({"a": lists(5001, days(0)), "b": days(5001)}), "a", "b"),
        "its index has several levels, more than 5000 rows, and lists or intervals",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_would_be_too_many_objects_is_refused(name: str) -> None:
    table, reason = TOO_MUCH[name]
    with pytest.raises(ValueError, match=f"^a frame that pandas can't hold: .*{reason}"):
        present(table, "pandas")
    assert present(table, "arrow").equals(table)


@pytest.mark.parametrize(
    ("array", "units"),
    [
        (pyarrow.array([1, 2, 3]), [0, 0, 0]),
        (pyarrow.array([DAY, None]), [1, 1]),
        (pyarrow.array(["a", "b" * 640, None]), [1, 11, 1]),
        (pyarrow.array([b"abc"], pyarrow.binary(3)), [1]),
        (pyarrow.array([[1, 2], [], None]), [1, 1, 1]),
        (pyarrow.array([["a", "b"], [], None, ["c"]]), [3, 1, 1, 2]),
        (pyarrow.array([["a", "b"], [], None, ["c"]])[1:], [1, 1, 2]),
        (pyarrow.array([[["a"], []], [], [[], []]]), [4, 1, 3]),
        (pyarrow.array([["a", "b"], None], pyarrow.list_(pyarrow.string(), 2)), [3, 3]),
        (pyarrow.array([["a", "b"], ["c", "d"]], pyarrow.list_(pyarrow.string(), 2))[1:], [3]),
        (pyarrow.array([{"a": 1, "b": "x"}, None]), [8, 8]),
        (pyarrow.array([{"a": {"b": 1}}]), [4 + 1 + 4 + 1 + 1]),
        (pyarrow.array([[{"a": 1}, {"a": 2}], []]), [13, 1]),
        (pyarrow.array([[("k", 1)], [], None], pyarrow.map_(pyarrow.string(), pyarrow.int64())), [11, 6, 6]),
        (lists(2, pyarrow.array(["a", "b" * 640]).dictionary_encode(), 1), [2, 12]),
        (pyarrow.array([True] * 8), [0, 0, 0, 1, 0, 0, 0, 1]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pyarrow.Array) else "",
)
def test_objects_are_counted(array: pyarrow.Array, units: list[int]) -> None:
    up_to = units_up_to(pyarrow, array)
    assert up_to[0] == 0
    assert (up_to[1:] - up_to[:-1]).tolist() == units


def test_numbers_take_no_memory_to_be_counted() -> None:
    up_to = units_up_to(pyarrow, numbers_of(10))
    assert (up_to.shape, up_to.strides) == ((11,), (0,))


def test_a_slice_has_few_objects_or_a_single_row() -> None:
    sizes = numpy.array([1, 5, 100, 30_000, 1, 19_990, 3, 19_999, 20_000, 20_001] * 3)
    offsets = pyarrow.array(numpy.concatenate([[0], numpy.cumsum(sizes)]), pyarrow.int32())
    array = pyarrow.ListArray.from_arrays(offsets, days(int(sizes.sum())))
    column = pyarrow.chunked_array([array[:7], array[7:]])
    slices = list(_slices(pyarrow, column))
    assert pyarrow.chunked_array(slices).equals(column)
    assert all(units_up_to(pyarrow, part)[-1] <= AT_ONCE or len(part) == 1 for part in slices)
    assert len(slices) < 20


@functools.cache
def large_columns() -> Mapping[str, pyarrow.Array]:
    numbers = numpy.arange(ROWS)
    texts = pyarrow.array([f"text {number % 500}" for number in range(ROWS)])
    some = pyarrow.array(numbers, mask=numbers % 7 == 3)
    pair = pyarrow.StructArray.from_arrays([some, texts], ["a", "b"])
    keys = pyarrow.array([str(number) for number in range(ROWS)])
    return {
        "number": pyarrow.array(numbers),
        "text": texts,
        "day": days(ROWS),
        "few days": pyarrow.array(numbers % 50, pyarrow.int32()).cast(pyarrow.date32()),
        "decimal": pyarrow.array([decimal.Decimal(number) / 4 for number in range(ROWS)]),
        "flag": pyarrow.array(numbers % 2 == 0, mask=numbers == ROWS - 1),
        "list": lists(ROWS, some, 1),
        "structs in lists": lists(ROWS, pair, 1),
        "map": pyarrow.MapArray.from_arrays(pyarrow.array(range(ROWS + 1), "int32"), keys, some),
        "category": texts.dictionary_encode(),
    }


@pytest.mark.parametrize(
    "index", [(), ("text",), ("day",), ("number", "few days", "flag"), ("text", "category")]
)
def test_a_large_frame_is_the_same_as_at_once(index: tuple[str, ...]) -> None:
    columns = large_columns()
    if index:
        columns = {name: columns[name] for name in {**dict.fromkeys(index), "decimal": None, "day": None}}
    table = with_index(pyarrow.table(columns), *index)
    expected = table.to_pandas()
    frame = present(table, "pandas")
    assert list(frame.dtypes) == list(expected.dtypes)
    pandas.testing.assert_index_equal(frame.index, expected.index, exact=True)
    pandas.testing.assert_index_equal(frame.columns, expected.columns, exact=True)
    for name in expected.columns:
        assert repr(frame[name].tolist()) == repr(expected[name].tolist())


@pytest.mark.parametrize("dtype", ["string[python]", "string", "str"])
def test_texts_of_pandas_own_are_made_in_chunks(dtype: str) -> None:
    frame = pandas.DataFrame({"a": pandas.array(["a", None, "b"] * 5 * ROWS, dtype=dtype)})
    table = pyarrow.Table.from_pandas(frame)
    pandas.testing.assert_frame_equal(present(table, "pandas"), table.to_pandas())


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pyarrow.table({"a": [1.5], "b": ["x"]}), False),
        (pyarrow.table({"a": pyarrow.array([0.0] * 500)}), False),
        (pyarrow.table({"a": pyarrow.array([0.0] * 501)}), True),
        (pyarrow.table({str(index): [1] for index in range(11)}), True),
        (pyarrow.table({"a": ["x" * 20_000]}), True),
        (pyarrow.table({"a": lists(1, pyarrow.nulls(10**6), 10**6)}), True),
        (pyarrow.table({"a": dictionary_of(pyarrow.nulls(10**6))}), True),
        (PERIOD, True),
    ],
    ids=[
        "small",
        "500 rows",
        "501 rows",
        "11 columns",
        "a long text",
        "a long list",
        "many categories",
        "a period",
    ],
)
def test_what_takes_long_is_known_before(table: pyarrow.Table, expected: bool) -> None:
    present(pyarrow.table({"a": [1]}), "pandas")  # imports what is needed
    assert takes_long_to_present(table, "pandas") is expected
    assert takes_long_to_present(table, "arrow") is False


@pytest.mark.parametrize("module", ["pandas", "pyarrow.pandas_compat"])
def test_the_first_frame_takes_long_since_modules_are_imported(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    present(pyarrow.table({"a": [1]}), "pandas")
    monkeypatch.delitem(sys.modules, module)
    assert takes_long_to_present(pyarrow.table({"a": [1]}), "pandas")
    assert not takes_long_to_present(pyarrow.table({"a": [1]}), "arrow")


PROGRAM = """
import sys
from trio_model_runner.values.encoded import DataType
from trio_model_runner.values.frames.presenting import present
from trio_model_runner.values.frames.reading import read_plain
table = read_plain(sys.stdin.buffer.read(), DataType.PARQUET)
present(table, "arrow")
assert "pandas" not in sys.modules
frame = present(table, "pandas")
assert list(map(str, [*frame.dtypes, frame.index.dtype])) == ["period[D]", "interval[int64, right]"]
"""


def test_reading_imports_no_pandas_and_presenting_knows_its_types() -> None:
    periods = pandas.period_range("2026-01-01", periods=2, freq="D")
    frame = pandas.DataFrame({"a": periods}, index=pandas.interval_range(0, 2))
    data = parquet_of(pyarrow.Table.from_pandas(frame))
    subprocess.run([sys.executable, "-c", PROGRAM], input=data, check=True, timeout=60)


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize("year", [0, 10_000, 200_000])
def test_times_with_a_zone_that_pandas_can_t_look_at_are_refused(unit: str, year: int) -> None:
    seconds = int((year - 1970) * 365.2425 * 86_400) * {"s": 1, "ms": 10**3, "us": 10**6}[unit]
    far = pyarrow.array([0, None, seconds], pyarrow.timestamp(unit, "Europe/Paris"))
    for column in (far, far.dictionary_encode()):
        with pytest.raises(ValueError, match="column 'a' has times outside of the years 1 to 9999"):
            present(pyarrow.table({"a": column}), "pandas")
    present(pyarrow.table({"a": far}), "arrow")
    near = pyarrow.array([None, -62_135_510_400, 253_402_214_399], pyarrow.timestamp("s", "-12:00"))
    frame = present(pyarrow.table({"a": near, "b": pyarrow.nulls(3, near.type)}), "pandas")
    assert [time.year for time in frame["a"][1:]] == [1, 9999]
