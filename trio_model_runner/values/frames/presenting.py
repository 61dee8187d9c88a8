"""A plain table, as the coordinator wants its frames: as it is, or as a pandas frame.

To make a small pandas frame takes less than a millisecond. A large one is made in a worker thread, and then
the event loop must not wait for it. Arrow and numpy let other threads run while they copy numbers. But while
objects are made, none does. So columns of objects are made a slice of rows at a time, and then put into the
frame. What that costs, in time and memory, is bounded by `objects`.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...text import named_error
from .objects import (
    MOST_OF_CATEGORIES,
    dictionaries_in,
    is_made_of_objects,
    refuse_more_objects,
    units_of_categories,
)
from .pandas_dtypes import NATURAL
from .pandas_extensions import with_extensions
from .pandas_index import FEW_ROWS, LargeIndex
from .pandas_metadata import PANDAS, UNREADABLE, with_schema_metadata
from .slicing import AT_ONCE, in_small_chunks, objects_of, units_of
from .time_zones import refuse_far_times
from .writing import FrameKind, import_pandas, import_pyarrow

__all__ = ["present", "takes_long_to_present"]

_MOST_SLICED: Final = 1000
"""How many columns are put into a frame one by one: pandas takes up to 0.4 s for that, bit by bit."""

_MOST_CATEGORICAL: Final = 2000
"""How many columns of categories a frame may have, fields inside too: pyarrow makes all at once (40 ms)."""

_INLINE_COLUMNS: Final = 10
"""A column takes up to 40 us (texts), and the frame 100."""

_FEW_ROWS: Final = 500
_FEW_BYTES: Final = 2**14


def present(table: Any, frames: FrameKind) -> Any:
    """Turn a table that `reading.read_plain` made into what the coordinator wants.

    Args:
        table: the `pyarrow.Table`, or what came of it as an Arrow IPC stream.
        frames: "arrow" for a `pyarrow.Table`, "pandas" for a `pandas.DataFrame`.

    Raises:
        ValueError: pandas can't hold it, or would make too many objects of it.
        ImportError: pandas is asked for, and is missing.
    """
    pyarrow = import_pyarrow()
    pandas = import_pandas() if frames == "pandas" else None
    unreadable = (table.schema.metadata or {}).get(UNREADABLE)
    if unreadable is not None:
        if frames == "pandas":
            raise ValueError(unreadable.decode())
        table = with_schema_metadata(pyarrow, table, None)
    try:
        table = with_extensions(pyarrow, table, pandas)
        if frames == "arrow":
            return table
        refuse_far_times(pyarrow, table)
        return _to_pandas(pyarrow, pandas, table)
    except Exception as error:
        reason = str(error) if type(error) is ValueError else named_error(error)
        raise ValueError(f"a frame that pandas can't hold: {reason[:1000]}") from error


def takes_long_to_present(table: Any, frames: FrameKind) -> bool:
    """Say whether `present` takes more than about half a millisecond."""
    if frames == "arrow":
        return False
    imported = "pandas" in sys.modules and "pyarrow.pandas_compat" in sys.modules
    extended = any(field.metadata for field in table.schema)  # periods and intervals take 80 us each
    return not imported or extended or table.num_columns > _INLINE_COLUMNS or not _is_small(table)


def _is_small(table: Any) -> bool:
    """Say whether a table's size bounds what becomes of it: what is nested may have no size at all."""
    types = import_pyarrow().types
    return (
        table.num_rows <= _FEW_ROWS
        and not any(types.is_nested(kind) or types.is_dictionary(kind) for kind in table.schema.types)
        and table.nbytes <= _FEW_BYTES
    )


def _to_pandas(pyarrow: Any, pandas: Any, table: Any) -> Any:
    if _is_small(table):
        return table.to_pandas(use_threads=False)
    if sum(dictionaries_in(pyarrow.types, kind) for kind in table.schema.types) > _MOST_CATEGORICAL:
        raise ValueError(f"more than {_MOST_CATEGORICAL} of its columns and fields are categories")
    texts = pyarrow.array(["a"]).to_pandas().dtype  # depends on pandas' release, and on its options
    facts = json.loads((table.schema.metadata or {}).get(PANDAS, b"{}"))
    ways = _ways(pyarrow, pandas, table, facts, texts)
    if _units(pyarrow, table, ways, texts) <= AT_ONCE and table.num_rows <= FEW_ROWS:
        return table.to_pandas(use_threads=False)
    if ways.count(_Way.SLICES) > _MOST_SLICED:
        raise ValueError(f"more than {_MOST_SLICED} of its columns are objects, and {AT_ONCE} objects")
    made = []
    zeros = pyarrow.py_buffer(bytes(table.num_rows))
    numbers = pyarrow.Array.from_buffers(pyarrow.int8(), table.num_rows, [None, zeros])
    for place, (name, column, way) in enumerate(zip(table.column_names, table.columns, ways, strict=True)):
        if way is _Way.CHUNKS:
            table = table.set_column(place, table.field(place), in_small_chunks(pyarrow, column))
        elif way is _Way.SLICES:
            made.append((sum(way is not _Way.INDEX for way in ways[:place]), column))
            table = table.set_column(place, name, numbers)
    index = LargeIndex(pyarrow, pandas, table, facts, texts=_are_objects(texts))
    frame = index.table.to_pandas(use_threads=False)
    for place, column in made:
        values = pandas.Series(objects_of(pyarrow, column), frame.index, dtype=object, copy=False)
        frame.isetitem(place, values)
    index.put_into(frame)
    return frame


class _Way(enum.Enum):
    """How a column gets into the frame."""

    WHOLE = enum.auto()
    """As it is: other threads run meanwhile."""

    SLICES = enum.auto()
    """As objects that are made a slice of rows at a time."""

    CHUNKS = enum.auto()
    """As a dtype of pandas' own that makes objects, chunk by chunk."""

    INDEX = enum.auto()
    """As the index, or a part of it."""


def _are_objects(dtype: Any) -> bool:
    return getattr(dtype, "kind", None) == "O" and not hasattr(dtype, "storage")


def _ways(pyarrow: Any, pandas: Any, table: Any, facts: Mapping[str, Any], texts: Any) -> list[_Way]:
    dtypes: dict[str, str] = {entry["field_name"]: entry["numpy_type"] for entry in facts.get("columns", ())}
    index = {name for name in facts.get("index_columns", ()) if isinstance(name, str)}
    return [
        _Way.INDEX if name in index else _way(pyarrow, pandas, column, dtypes.get(name, NATURAL), texts)
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]


def _way(pyarrow: Any, pandas: Any, column: Any, dtype: str, texts: Any) -> _Way:
    kind = column.type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        if dtype.endswith("[pyarrow]"):
            return _Way.WHOLE
        given = pandas.api.types.pandas_dtype(dtype)
        storage = getattr(given if isinstance(given, pandas.StringDtype) else texts, "storage", None)
        if storage is None:
            return _Way.SLICES
        return _Way.CHUNKS if storage == "python" else _Way.WHOLE
    if dtype == NATURAL or not (dtype == "boolean" or dtype.endswith("[pyarrow]")):
        return _Way.SLICES if is_made_of_objects(pyarrow, column, texts=True) else _Way.WHOLE
    return _Way.WHOLE


def _units(pyarrow: Any, table: Any, ways: Sequence[_Way], texts: Any) -> int:
    """Count the objects that pandas makes of a table.

    Raises:
        ValueError: there are too many of them, or too many categories.
    """
    total = of_categories = 0
    for column, way in zip(table.columns, ways, strict=True):
        if pyarrow.types.is_dictionary(column.type):
            of_categories += (units := units_of_categories(pyarrow, column))
            total += units
            if of_categories > MOST_OF_CATEGORIES:
                raise ValueError(f"the categories of its columns are more than {MOST_OF_CATEGORIES} objects")
        elif way in (_Way.SLICES, _Way.CHUNKS) or (
            way is _Way.INDEX and is_made_of_objects(pyarrow, column, texts=_are_objects(texts))
        ):
            total += units_of(pyarrow, column)
        refuse_more_objects(total)
    return total
