"""Columns of Python objects in a pandas frame: what Arrow made of them is compared with what they are.

Arrow has one type for a column, and makes each object fit without a word: of a text among bytes it makes
bytes, of a time among dates a date, of nanoseconds microseconds, of a set a list. So a column of objects is
read back from Arrow, and refused if that is something else. What counts as the same is said in `equality`.

This module knows nothing of labels, and of what Parquet or a node make of Arrow's types: see `sent_types`.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from ..refusal import Refusal
from .equality import holds_objects, same

__all__ = ["kept_integers", "refuse_changed_objects", "refuse_unreadable_dtypes"]

_EXACT: Final = frozenset({"string", "bytes", "boolean", "integer", "floating", "empty"})
"""Kinds of objects (as pandas infers them) that have an Arrow type of their own: nothing is made to fit."""


_OF_ARROW: Final = (datetime.date, datetime.timedelta, decimal.Decimal)
"""Classes of which Arrow has a type: objects of one of these alone come through, and what is missing."""


def refuse_changed_objects(pandas: Any, frame: Any, table: Any) -> None:
    """Refuse a frame if a column's objects became others in the table that was made of it.

    Raises:
        Refusal: the reason names the column, and what is in it.
    """
    for place, dtype in enumerate(frame.dtypes):
        values = _objects_of(frame, place, dtype)
        if values is None:
            continue
        kind = pandas.api.types.infer_dtype(values, skipna=True)
        if kind in _EXACT or any(set(map(type, values)) <= {of, type(None)} for of in _OF_ARROW):
            continue
        column = table.column(place)
        made = column.chunk(0).dictionary if hasattr(dtype, "categories") else column
        if not _came_through(values, made):
            name = table.column_names[place][:100]
            reason = f"column {name!r} has objects ({kind}) that Arrow's {made.type} would change"
            raise Refusal(TypeError, f"{reason} (send numbers, times or texts of one kind)")


def _came_through(values: Iterable[Any], made: Any) -> bool:
    pairs = zip(values, made.to_pylist(), strict=True)
    if "tz=" in str(made.type):  # times of different zones may be equal
        return all(same(ours, theirs) for ours, theirs in pairs)
    # Arrow takes no booleans among numbers, so that lists which Python calls equal are.
    return all((type(ours) is list and ours == theirs) or same(ours, theirs) for ours, theirs in pairs)


def _objects_of(frame: Any, place: int, dtype: Any) -> Any:
    """The objects of a column, or those that are its categories; None, if it has none of its own."""
    if holds_objects(dtype):
        return frame.iloc[:, place]
    categories = getattr(dtype, "categories", None)
    if categories is None or not holds_objects(categories.dtype) or not len(frame):
        return None
    return categories


def refuse_unreadable_dtypes(pandas: Any, frame: Any) -> None:
    """Refuse a frame if pandas would not find a column's dtype by its name, as it must where it is read.

    Raises:
        Refusal: the reason names the column, the dtype, and what to do.
    """
    for label, dtype in frame.dtypes.items():
        if not _is_found(pandas, str(dtype)):
            name = str(label)[:100]
            reason = f"column {name!r} has the dtype {dtype}, which pandas would not find by its name"
            raise Refusal(TypeError, f"{reason} where it is read (send it .astype(object))")
        if hasattr(dtype, "sp_index") or type(dtype).__name__ == "SparseDtype":
            name = str(label)[:100]
            raise Refusal(TypeError, f"column {name!r} is sparse (send it .sparse.to_dense())")


@lru_cache(maxsize=1000)
def _is_found(pandas: Any, name: str) -> bool:
    try:
        pandas.api.types.pandas_dtype(name)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


def kept_integers(frame: Any) -> set[str]:
    """The names of a frame's columns whose dtypes keep whole numbers beside missing ones."""
    return {str(label) for label, dtype in frame.dtypes.items() if _is_nullable(dtype)}


def _is_nullable(dtype: Any) -> bool:
    return hasattr(dtype, "na_value") and not hasattr(dtype, "categories")
