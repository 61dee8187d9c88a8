"""Every type of column, in every other one, in both formats: it is read as it was, or refused; nothing dies.

pyarrow may end the process for some types. So the cells of the grid are read in processes of their own (this
file, as a program), a lot of them in each. A process that dies is noticed, and another one goes on behind the
cell that it died of.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest

from trio_model_runner.values.encoded import DataType
from trio_model_runner.values.frames.plain_types import plain_schema
from trio_model_runner.values.frames.presenting import present
from trio_model_runner.values.frames.reading import read_plain

ZONES = ("UTC", "Europe/Berlin", "+01:00", "-05:30", "Etc/GMT+5")
NOON = datetime.datetime(2026, 1, 1, 12)
DAY = datetime.date(2026, 1, 1)


def flat_types() -> Mapping[str, tuple[pyarrow.DataType, Any]]:
    """Types without others inside, and a value of each."""
    types: dict[str, tuple[pyarrow.DataType, Any]] = {
        "null": (pyarrow.null(), None),
        "bool": (pyarrow.bool_(), True),
        "float16": (pyarrow.float16(), numpy.float16(1.5)),
        "float32": (pyarrow.float32(), 1.5),
        "float64": (pyarrow.float64(), 1.5),
        "decimal128": (pyarrow.decimal128(38, 10), decimal.Decimal("1.5")),
        "decimal256": (pyarrow.decimal256(76, -20), decimal.Decimal(10) ** 20),
        "string": (pyarrow.string(), "ü"),
        "large_string": (pyarrow.large_string(), "ü"),
        "binary": (pyarrow.binary(), b"\xff"),
        "large_binary": (pyarrow.large_binary(), b"\xff"),
        "fixed_size_binary": (pyarrow.binary(3), b"abc"),
        "empty_binary": (pyarrow.binary(0), b""),
        "date32": (pyarrow.date32(), DAY),
        "date64": (pyarrow.date64(), DAY),
        "month_day_nano": (pyarrow.month_day_nano_interval(), pyarrow.MonthDayNano([1, 2, 3])),
    }
    types |= {f"int{bits}": (getattr(pyarrow, f"int{bits}")(), -7) for bits in (8, 16, 32, 64)}
    types |= {f"uint{bits}": (getattr(pyarrow, f"uint{bits}")(), 7) for bits in (8, 16, 32, 64)}
    for unit in ("s", "ms", "us", "ns"):
        types[f"timestamp {unit}"] = pyarrow.timestamp(unit), NOON
        types[f"duration {unit}"] = pyarrow.duration(unit), datetime.timedelta(days=1)
        time = pyarrow.time32(unit) if unit in ("s", "ms") else pyarrow.time64(unit)
        types[f"time {unit}"] = time, datetime.time(12)
    types |= {f"timestamp {zone}": (pyarrow.timestamp("us", zone), NOON) for zone in ZONES}
    return types | newer_types()


def newer_types() -> Mapping[str, tuple[pyarrow.DataType, Any]]:
    """Types that older releases of pyarrow lack."""
    made: dict[str, tuple[pyarrow.DataType, Any]] = {}
    made_of: Mapping[str, tuple[str, tuple[Any, ...], Any]] = {
        "string_view": ("string_view", (), "a text of more than twelve bytes"),
        "binary_view": ("binary_view", (), b"a"),
        "decimal32": ("decimal32", (5, 2), decimal.Decimal("1.5")),
        "decimal64": ("decimal64", (5, 2), decimal.Decimal("1.5")),
    }
    for name, (function, arguments, value) in made_of.items():
        if hasattr(pyarrow, function):
            made[name] = getattr(pyarrow, function)(*arguments), value
    return made


def in_list(array: pyarrow.Array) -> pyarrow.Array:
    return pyarrow.ListArray.from_arrays(pyarrow.array([0, 1, None, len(array)], "int32"), array)


def in_large_list(array: pyarrow.Array) -> pyarrow.Array:
    return pyarrow.LargeListArray.from_arrays(pyarrow.array([0, 1, None, len(array)], "int64"), array)


def in_fixed_list(array: pyarrow.Array) -> pyarrow.Array:
    return pyarrow.FixedSizeListArray.from_arrays(array, len(array))


def in_struct(array: pyarrow.Array) -> pyarrow.Array:
    mask = pyarrow.array([True] + [False] * (len(array) - 1))
    return pyarrow.StructArray.from_arrays([array, array], ["x", "y"], mask=mask)


def in_map(array: pyarrow.Array) -> pyarrow.Array:
    keys = pyarrow.array([str(index) for index in range(len(array))])
    return pyarrow.MapArray.from_arrays(pyarrow.array([0, 1, len(array)], "int32"), keys, array)


def as_keys(array: pyarrow.Array) -> pyarrow.Array:
    keys = array.take(pyarrow.array([1]))
    return pyarrow.MapArray.from_arrays(pyarrow.array([0, 1], "int32"), keys, keys)


def in_dictionary(array: pyarrow.Array) -> pyarrow.Array:
    indices = pyarrow.array([0, None, 0], "int8")
    return pyarrow.DictionaryArray.from_arrays(indices, array.take(pyarrow.array([1])))


WRAPPERS: Mapping[str, Callable[[pyarrow.Array], pyarrow.Array]] = {
    "": lambda array: array,
    "in a list": in_list,
    "in a large list": in_large_list,
    "in a list of fixed size": in_fixed_list,
    "in a struct": in_struct,
    "in a map": in_map,
    "as keys": as_keys,
    "in a dictionary": in_dictionary,
    "in a list of dictionaries": lambda array: in_list(in_dictionary(array)),
    "in a struct of dictionaries": lambda array: in_struct(in_dictionary(array)),
    "in a map of lists": lambda array: in_map(in_list(array)),
    "in a list of structs": lambda array: in_list(in_struct(array)),
}


def unwanted() -> Mapping[str, pyarrow.Array]:
    """Arrays of types that are refused."""
    numbers, ids = pyarrow.array([1, 2, 3]), pyarrow.array([0, 0, 0], "int8")
    places = pyarrow.array([0, 1, 2], "int32")
    arrays = {
        "sparse union": pyarrow.UnionArray.from_sparse(ids, [numbers]),
        "dense union": pyarrow.UnionArray.from_dense(ids, places, [numbers]),
        "runs": pyarrow.RunEndEncodedArray.from_arrays([3], [1]),
        "zone": numbers.cast(pyarrow.timestamp("us", "Mars/Olympus")),
        "long zone": numbers.cast(pyarrow.timestamp("us", "UTC" * 10**6)),
        "path": numbers.cast(pyarrow.timestamp("us", "../../../../etc/passwd")),
    }
    if hasattr(pyarrow, "list_view"):
        arrays["list_view"] = pyarrow.array([[1], [2]], pyarrow.list_view(pyarrow.int64()))
        arrays["large_list_view"] = pyarrow.array([[1], [2]], pyarrow.large_list_view(pyarrow.int64()))
    return arrays


def extensions() -> Mapping[str, pyarrow.Array]:
    """Arrays of extension types, which become their storage."""
    arrays: dict[str, pyarrow.Array] = {}
    if hasattr(pyarrow, "uuid"):
        arrays["uuid"] = pyarrow.ExtensionArray.from_storage(
            pyarrow.uuid(), pyarrow.array([None, b"a" * 16, b"b" * 16], pyarrow.binary(16))
        )
        arrays["opaque"] = pyarrow.ExtensionArray.from_storage(
            pyarrow.opaque(pyarrow.int64(), "a", "b"), pyarrow.array([None, 1, 2])
        )
        arrays["bool8"] = pyarrow.ExtensionArray.from_storage(
            pyarrow.bool8(), pyarrow.array([None, 1, 0], "int8")
        )
        arrays["json"] = pyarrow.ExtensionArray.from_storage(
            pyarrow.json_(), pyarrow.array([None, "{}", "[]"])
        )
    tensor = pyarrow.fixed_shape_tensor(pyarrow.int32(), [2])
    arrays["tensor"] = pyarrow.ExtensionArray.from_storage(
        tensor, pyarrow.array([None, [1, 2], [3, 4]], pyarrow.list_(pyarrow.int32(), 2))
    )
    return arrays


def columns() -> Iterator[tuple[str, pyarrow.Array]]:
    """Every type by itself and in every wrapper; the names of unwanted ones begin with a mark."""
    arrays = {name: pyarrow.array([None, value, value], kind) for name, (kind, value) in flat_types().items()}
    arrays |= extensions()
    arrays |= {f"!{name}": array for name, array in unwanted().items()}
    for name, array in arrays.items():
        for wrapper, wrap in WRAPPERS.items():
            with contextlib.suppress(pyarrow.ArrowException, ValueError, TypeError):  # there is no such type
                yield f"{name} {wrapper}", wrap(array)


def cells() -> list[tuple[str, bytes, DataType]]:
    """A name, a file or stream, and its type."""
    made = []
    for name, array in columns():
        metadata = {b"a stranger's": b"metadata"}
        table = pyarrow.table({"a": array}).replace_schema_metadata(metadata)
        # Without rows, pyarrow has its own ways.
        tables = {name: table}
        if name.endswith((" ", "list")):
            tables[f"{name} without rows"] = table[:0]
        for cell, table in tables.items():
            for data_type in (DataType.PARQUET, DataType.ARROW):
                with contextlib.suppress(pyarrow.ArrowException, OSError):  # Parquet has no such type
                    made.append((f"{cell} {data_type.name}", WRITERS[data_type](table), data_type))
    return made


def write_parquet(table: pyarrow.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def write_arrow(table: pyarrow.Table) -> bytes:
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


WRITERS = {DataType.PARQUET: write_parquet, DataType.ARROW: write_arrow}


def outcome_of(data: bytes, data_type: DataType) -> str:
    """Read a cell, and say what came of it."""
    try:
        table = read_plain(data, data_type)
    except ValueError as error:
        return f"refused: {error}"
    assert table.schema.metadata is None
    assert_plain(table.schema.field("a"))
    expected = READERS[data_type](data)
    column = present(table, "arrow").column("a")
    if "extension<" not in str(expected.schema.types):
        assert repr(column.to_pylist()) == repr(expected.column("a").to_pylist())
    try:
        frame = present(table, "pandas")
    except ValueError as error:
        return f"arrow only: {error}"
    assert frame.shape == expected.shape
    return "read"


READERS: Mapping[DataType, Callable[[bytes], pyarrow.Table]] = {
    DataType.PARQUET: lambda data: pyarrow.parquet.read_table(io.BytesIO(data)),
    DataType.ARROW: lambda data: pyarrow.ipc.open_stream(data).read_all(),
}


def assert_plain(field: pyarrow.Field) -> None:
    kind = field.type
    assert not field.metadata
    assert not isinstance(kind, pyarrow.BaseExtensionType)
    assert str(kind) not in ("string_view", "binary_view")
    inner = [kind.field(place) for place in range(kind.num_fields)] if pyarrow.types.is_nested(kind) else []
    for each in inner:
        assert_plain(each)


def main() -> None:
    """Read the cells from a place on, and write a line before and after each."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for place, (name, data, data_type) in enumerate(cells()):
        if place >= int(sys.argv[1]):
            say(place, name)
            try:
                say(place, outcome_of(data, data_type))
            except Exception as error:
                say(place, f"wrong: {error!r}")


def say(*facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def play() -> tuple[dict[str, str], list[str]]:
    """Play the whole grid. Return the outcomes by name, and the names of the cells that a process died of."""
    outcomes, deaths, place = {}, [], 0
    while True:
        command = [sys.executable, __file__, str(place)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        lines = [json.loads(line) for line in ended.stdout.splitlines()]
        outcomes |= {lines[at][1]: lines[at + 1][1] for at in range(0, len(lines) - 1, 2)}
        if ended.returncode == 0:
            return outcomes, deaths
        assert len(lines) % 2, ended.stderr
        deaths.append(f"{lines[-1][1]}: {ended.stderr[-200:]}")
        place = lines[-1][0] + 1


def test_every_type_is_read_as_it_was_or_refused_and_nothing_dies() -> None:
    outcomes, deaths = play()
    assert not deaths
    assert not {name: outcome for name, outcome in outcomes.items() if outcome.startswith("wrong: ")}
    assert len(outcomes) > 900
    # Parquet has no unions, views of lists or dictionaries of zones: what comes out is another type.
    unwanted = {name: outcome for name, outcome in outcomes.items() if name.startswith("!")}
    assert {name for name, outcome in unwanted.items() if not outcome.startswith("refused: ")} <= {
        name for name in unwanted if name.endswith("PARQUET")
    }
    assert "column 'a' has the type dense_union, which is not read" in unwanted["!dense union  ARROW"]
    honest = {name: outcome for name, outcome in outcomes.items() if name not in unwanted}
    refused = {name for name, outcome in honest.items() if outcome.startswith("refused: ")}
    assert not {name for name in refused if name.split()[0] not in extensions()}
    assert sum(outcome == "read" for outcome in honest.values()) > len(honest) * 0.9


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (pyarrow.dictionary("int8", pyarrow.dictionary("int8", "string")), "dictionary of dictionary"),
        (pyarrow.dictionary("int8", pyarrow.list_(pyarrow.int8())), "dictionary of list"),
        (pyarrow.list_(pyarrow.map_("string", pyarrow.sparse_union([]))), "sparse_union"),
        (pyarrow.struct([("x", pyarrow.run_end_encoded(pyarrow.int32(), "string"))]), "run_end_encoded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_inside_of_a_type_is_looked_at(kind: pyarrow.DataType, reason: str) -> None:
    schema = pyarrow.schema([("ok", "int64"), ("column", kind)])
    with pytest.raises(ValueError, match=f"column 'column' has the type {reason}, which is not read"):
        plain_schema(pyarrow, schema)


@pytest.mark.parametrize("levels", [90, 3000])
def test_types_that_are_nested_deeply_are_refused(levels: int) -> None:
    kind = pyarrow.int64()
    for _ in range(levels):
        kind = pyarrow.struct([("x", kind)])
    sink = io.BytesIO()
    pyarrow.parquet.ParquetWriter(sink, pyarrow.schema([("a", kind)]), store_schema=False).close()
    with pytest.raises(ValueError, match=r"Parquet that can't be read: .* nested"):
        read_plain(sink.getvalue(), DataType.PARQUET)


if __name__ == "__main__":
    main()
