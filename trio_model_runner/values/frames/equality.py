"""Whether what came back from a trip through Arrow is what was there: a trip that was made here, as a trial.

Python's `==` is too kind for that: True equals 1, and a time equals the same instant in another zone. And it
is too strict: NaN does not equal itself, and what is missing is None, NaN or NaT as pandas' release likes it.
This module compares values, and knows nothing of frames.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final

__all__ = ["holds_objects", "is_missing", "kind_of", "same", "same_as_labels"]

_KINDS: Final[Sequence[tuple[Any, str]]] = (
    (str, "text"),
    ((bytes, bytearray, memoryview), "bytes"),
    (bool, "bool"),
    (numbers.Integral, "integer"),
    (numbers.Number, "number"),
)


def holds_objects(dtype: Any) -> bool:
    """Say whether a dtype is numpy's of Python objects; pandas' own have no `char`."""
    return getattr(dtype, "char", None) == "O"


def kind_of(value: object) -> str:
    """Say which of Python's kinds of values one is: text, bytes, bool, integer, number, or other."""
    numpys = getattr(getattr(value, "dtype", None), "kind", None)
    if numpys in ("b", "M", "m"):  # numpy's booleans are no `bool`, and its durations are numbers
        return "bool" if numpys == "b" else "other"
    return next((kind for of, kind in _KINDS if isinstance(value, of)), "other")


def is_missing(value: object) -> bool:
    """Say whether a value stands for none: None, NaN of any kind, pandas' NaT and NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if hasattr(value, "__len__"):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError, ArithmeticError):
        return False  # a signaling NaN has no answer


def same_as_labels(ours: Any, theirs: Any) -> bool:
    """Compare two labels: tuples part by part, whole numbers only with whole numbers."""
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        return len(ours) == len(theirs) and all(map(same_as_labels, ours, theirs))
    if is_missing(ours) or is_missing(theirs):
        return is_missing(ours) and is_missing(theirs)
    return kind_of(ours) == kind_of(theirs) and _equal(ours, theirs)


def same(ours: Any, theirs: Any) -> bool:
    """Compare a value of a column of objects with what Arrow has for it (as of `to_pylist`).

    Arrow has lists for tuples and arrays, floats for whole numbers among floats, and for each object all keys
    that any has, with None. These count as the same.
    """
    if theirs is None or is_missing(ours):
        return is_missing(ours) and is_missing(theirs)
    if isinstance(theirs, dict):
        return isinstance(ours, Mapping) and ours.keys() <= theirs.keys() and _same_fields(ours, theirs)
    if isinstance(theirs, (list, tuple)):
        items = _items_of(ours)
        return items is not None and len(items) == len(theirs) and all(map(same, items, theirs))
    pair = {kind_of(ours), kind_of(theirs)}
    return (len(pair) == 1 or pair == {"integer", "number"}) and _equal(ours, theirs)


def _same_fields(ours: Mapping[Any, Any], theirs: Mapping[str, Any]) -> bool:
    return all(same(ours.get(key), value) for key, value in theirs.items())


def _items_of(value: Any) -> Sequence[Any] | None:
    if isinstance(value, (str, bytes, Set, Mapping)):
        return None
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", None) in ("M", "m"):
        return list(value)  # a list of numpy's own: `tolist` makes bare numbers of nanoseconds
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, Iterable) else None


def _equal(ours: Any, theirs: Any) -> bool:
    numpys = getattr(getattr(ours, "dtype", None), "kind", "")
    if numpys in ("M", "m"):
        ours, theirs = _of_pandas(ours), _of_pandas(theirs)
    elif numpys and hasattr(ours, "item") and not hasattr(ours, "__len__"):
        ours = ours.item()  # numpy rounds the other one to its own type before it compares
    if isinstance(ours, datetime.datetime) and isinstance(theirs, datetime.datetime):
        return ours == theirs and ours.utcoffset() == theirs.utcoffset()
    answer = ours == theirs
    return not hasattr(answer, "__len__") and bool(answer)  # arrays answer with arrays


def _of_pandas(value: Any) -> Any:
    import pandas

    is_duration = (
        isinstance(value, datetime.timedelta) or getattr(getattr(value, "dtype", None), "kind", "") == "m"
    )
    return pandas.Timedelta(value) if is_duration else pandas.Timestamp(value)
