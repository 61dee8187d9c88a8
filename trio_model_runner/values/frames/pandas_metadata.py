"""What pandas wrote about a frame into its schema, checked and made anew.

pyarrow turns a table into a pandas frame as JSON in the schema's metadata says: which columns are the index,
of which dtype they and the labels are. What it says is evaluated, cast and looked up by name. From a stranger
nothing of that is harmless. So the JSON is read here, what is known and fits the table is taken, and new JSON
is written of it. ``attributes`` (pandas' ``attrs``) are never taken.

The JSON's form is in pandas' documentation ("Storing pandas DataFrame objects in Apache Parquet format");
what is done with it is in pyarrow's ``pandas_compat.py``, `table_to_dataframe`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from .pandas_dtypes import NATURAL, fitting_dtype
from .pandas_extensions import is_dtype_of
from .pandas_labels import check_label, describe_labels
from .plain_types import MOST_COLUMNS
from .time_zones import is_known_zone

__all__ = ["PANDAS", "UNREADABLE", "make_anew", "with_schema_metadata"]

PANDAS: Final = b"pandas"
"""The key in a schema's metadata."""

UNREADABLE: Final = b"trio_model_runner.unreadable_pandas"
"""The key for the reason why there is no `PANDAS`, although the stranger's schema had one."""

_MOST_BYTES: Final = 4 * 2**20
_MOST_INDEX_LEVELS: Final = 16


def make_anew(pyarrow: Any, text: bytes, table: Any) -> bytes:
    """Make a plain table's `PANDAS` metadata of a stranger's.

    Args:
        pyarrow: the module.
        text: the stranger's JSON.
        table: the table, without metadata.

    Raises:
        ValueError: the JSON makes no sense.
    """
    facts = _parse(text)
    entries = _check_columns(pyarrow, facts.get("columns"), table.schema)
    index_columns = _check_index(facts.get("index_columns"), entries, table)
    labels = [
        entries[name]["name"] if name in entries else name
        for name in table.column_names
        if name not in index_columns
    ]
    described = describe_labels(facts.get("column_indexes", []), labels)
    held = set(table.column_names)
    columns = [entry for name, entry in entries.items() if name in held]
    anew = {"index_columns": index_columns, "column_indexes": described, "columns": columns}
    return json.dumps(anew).encode()


def with_schema_metadata(pyarrow: Any, table: Any, metadata: Any) -> Any:
    """Replace the metadata of a table, also where it has rows and no columns, which pyarrow loses then."""
    if table.num_columns:
        return table.replace_schema_metadata(metadata)
    batches = [batch.replace_schema_metadata(metadata) for batch in table.to_batches()]
    return pyarrow.Table.from_batches(batches, table.schema.with_metadata(metadata))


def _parse(text: bytes) -> dict[str, Any]:
    if len(text) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    try:
        facts = json.loads(text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(facts, dict):
        raise ValueError("it is no JSON object")
    return facts


def _check_columns(pyarrow: Any, entries: object, schema: Any) -> dict[str, dict[str, Any]]:
    """Make the entries for columns anew, by the name of their field."""
    if not isinstance(entries, list) or len(entries) > MOST_COLUMNS:
        raise ValueError("columns is no list, or has too many entries")
    counts = Counter(schema.names)
    fields = {field.name: field for field in schema if counts[field.name] == 1}
    checked: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "name" not in entry:
            raise ValueError("an entry of columns has no name")
        name = check_label(entry["name"])
        field_name = check_label(entry.get("field_name", name))
        if isinstance(name, int) or not isinstance(field_name, str):
            raise ValueError("the name of a column is no text")
        checked.setdefault(
            field_name,
            {
                "name": name,
                "field_name": field_name,
                **_check_dtype(pyarrow, entry, fields.get(field_name)),
            },
        )
    return checked


def _check_dtype(pyarrow: Any, entry: Mapping[str, Any], field: Any) -> dict[str, Any]:
    pandas_type, numpy_type = entry.get("pandas_type"), entry.get("numpy_type")
    if not isinstance(pandas_type, str) or not isinstance(numpy_type, str):
        raise ValueError("an entry of columns has no dtype")
    if field is None:
        return {"pandas_type": "object", "numpy_type": NATURAL, "metadata": None}
    metadata = entry.get("metadata")
    zone = metadata.get("timezone") if isinstance(metadata, dict) else None
    # Of the types only this one matters: such a column gets the zone, if its Arrow type has another one.
    zoned = (
        pandas_type == "datetimetz"
        and pyarrow.types.is_timestamp(field.type)
        and isinstance(zone, str)
        and is_known_zone(zone)
    )
    if not is_dtype_of(field, numpy_type):
        numpy_type = fitting_dtype(numpy_type, pyarrow, field.type)
    return {
        "pandas_type": "datetimetz" if zoned else "object",
        "numpy_type": numpy_type,
        "metadata": {"timezone": zone} if zoned else None,
    }


def _check_index(levels: object, entries: Mapping[str, Any], table: Any) -> list[str | dict[str, Any]]:
    """Check what the index is made of, names of columns or ranges, and leave out what does not fit."""
    if not isinstance(levels, list) or len(levels) > _MOST_INDEX_LEVELS:
        raise ValueError("index_columns is no short list")
    names: Sequence[str] = table.column_names
    checked: list[str | dict[str, Any]] = []
    for level in levels:
        if isinstance(level, str):
            if level not in entries or level in checked:
                raise ValueError("index_columns has a name without an entry in columns, or twice")
            if names.count(level) == 1:
                checked.append(level)
        elif (made := _check_range(level, table.num_rows)) is not None:
            checked.append(made)
    return checked


def _check_range(level: object, rows: int) -> dict[str, Any] | None:
    if not isinstance(level, dict) or level.get("kind") != "range":
        raise ValueError("index_columns has something that is neither a name nor a range")
    start, stop, step = level.get("start"), level.get("stop"), level.get("step")
    if not (_is_index_number(start) and _is_index_number(stop) and _is_index_number(step)) or not step:
        raise ValueError("index_columns has a range without numbers")
    name = check_label(level.get("name"))
    if len(range(start, stop, step)) != rows:
        return None  # pandas leaves it out, too
    return {"kind": "range", "name": name, "start": start, "stop": stop, "step": step}


def _is_index_number(number: object) -> TypeGuard[int]:
    return type(number) is int and -(2**61) < number < 2**61  # so that a range has a length
