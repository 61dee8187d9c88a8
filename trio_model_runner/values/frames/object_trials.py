"""Columns of Python objects in a pandas frame: what Arrow made of them is compared with what they are.

Arrow has one type for a column, and makes each object fit without a word: of a text among bytes it makes
bytes, of a time among dates a date, of nanoseconds microseconds, of a set a list. So a column of objects is
read back from Arrow, and refused if that is something else. What counts as the same is said in `equality`.

This module knows nothing of labels, and of what Parquet or a node make of Arrow's types: see `sent_types`.
"""

from __future__ import annotations

import datetime
import decimal
from functools import lru_cache
from typing import Any, Final

from ..refusal import Refusal
from .equality import holds_objects, same

__all__ = ["kept_integers", "refuse_changed_objects", "refuse_unreadable_dtypes"]

_EXACT: Final = frozenset({"string", "bytes", "boolean", "integer", "floating", "empty"})
"""Kinds of objects (as pandas infers them) that have an Arrow type of their own: nothing is made to fit."""

_NEW: Final = frozenset({"string_view[pyarrow]", "binary_view[pyarrow]"})
"""Dtypes that pandas finds by their name where pyarrow is new."""

_AT_ONCE: Final = 1000
"""So many rows are compared at a time."""

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
        classes = set(map(type, values)) - {type(None)}
        if kind in _EXACT or any(classes <= {of} for of in _OF_ARROW):
            continue
        column = table.column(place)
        made = column.chunk(0).dictionary if hasattr(dtype, "categories") else column
        if not _came_through(values, made, classes):
            name = table.column_names[place][:100]
            reason = f"column {name!r} has objects ({kind}) that Arrow's {made.type} would change"
            raise Refusal(TypeError, f"{reason} (send numbers, times or texts of one kind)")


def _came_through(values: Any, made: Any, classes: set[type]) -> bool:
    """Compare a few rows at a time: Python's objects for all of them would hold up the event loop."""
    has_zone = "tz=" in str(made.type)  # times of different zones may be equal
    if classes == {datetime.datetime} and not has_zone:
        return all(value is None or value.tzinfo is None for value in values)  # Arrow has their microseconds
    for start in range(0, len(values), _AT_ONCE):
        ours, theirs = values[start : start + _AT_ONCE], made.slice(start, _AT_ONCE)
        if classes == {_class_of_arrays()} and _are_same_arrays(list(ours), theirs):
            continue
        pairs = zip(ours, theirs.to_pylist(), strict=True)
        # Arrow takes no booleans among numbers, so that lists which Python calls equal are.
        if not all(
            (type(ours) is list and not has_zone and ours == theirs) or same(ours, theirs)
            for ours, theirs in pairs
        ):
            return False
    return True


def _class_of_arrays() -> type:
    import numpy

    return numpy.ndarray


def _are_same_arrays(ours: list[Any], made: Any) -> bool:
    """Compare arrays of numbers of one type with the lists that Arrow made of them, all at once."""
    import numpy

    pieces = [piece for piece in ours if piece is not None]
    kinds = {(piece.dtype, piece.ndim) for piece in pieces}
    if len(kinds) != 1 or pieces[0].ndim != 1 or pieces[0].dtype.kind not in "iufb":
        return False
    lengths = [None if piece is None else len(piece) for piece in ours]
    whole = numpy.concatenate(pieces)
    theirs = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in made.chunks]
    got = numpy.concatenate(theirs)
    return (
        got.dtype == whole.dtype
        and _lengths_of(made) == lengths
        and numpy.array_equal(whole, got, equal_nan=whole.dtype.kind == "f")
    )


def _lengths_of(lists: Any) -> list[int | None]:
    from pyarrow import compute

    lengths: list[int | None] = compute.list_value_length(lists).to_pylist()
    return lengths


def _objects_of(frame: Any, place: int, dtype: Any) -> Any:
    """The objects of a column, or those that are its categories; None, if it has none of its own."""
    if holds_objects(dtype):
        return frame.iloc[:, place].to_numpy()  # no copy, and iterated faster
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
        name = str(label)[:100]
        if not _is_found(pandas, str(dtype)) or str(dtype) in _NEW:
            cure = '.dt.tz_convert("UTC")' if isinstance(dtype, pandas.DatetimeTZDtype) else ".astype(object)"
            reason = f"column {name!r} has the dtype {dtype}, which pandas would not find by its name"
            raise Refusal(TypeError, f"{reason} where it is read (send it {cure})")
        if hasattr(dtype, "sp_index") or type(dtype).__name__ == "SparseDtype":
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
