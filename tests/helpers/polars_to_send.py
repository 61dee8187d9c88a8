"""Strategies for frames of polars that a coordinator may send."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import polars
from hypothesis import strategies as st

from .frame_values import DAY, DURATIONS, FLOATS, PLAIN_TEXTS, TIMES, UTC, WHOLE, Decimal, make_or_none

__all__ = ["polars_frames"]

POLARS: Mapping[Any, Sequence[Any]] = {
    polars.Int8: [1, -1],
    polars.Int64: WHOLE,
    polars.UInt64: [1, 2**53 + 1, 2**64 - 1],
    polars.Float32: [0.5, 1.5],
    polars.Float64: FLOATS,
    polars.Boolean: [True, False],
    polars.String: PLAIN_TEXTS,
    polars.Binary: [b"a", b"\xff"],
    polars.Categorical: ["a", "b", "ü"],
    polars.Enum(["lo", "hi", "other"]): ["hi", "lo"],
    polars.Date: [DAY, datetime.date(1, 1, 1)],
    polars.Time: [datetime.time(1), datetime.time(2, 3, 4, 5)],
    polars.Datetime("us"): TIMES,
    polars.Datetime("ms"): TIMES,
    polars.Datetime("ns"): TIMES[:2],
    polars.Datetime("us", "Europe/Berlin"): [each.replace(tzinfo=UTC) for each in TIMES[:3]],
    polars.Duration("us"): DURATIONS,
    polars.Duration("ns"): DURATIONS,
    polars.Decimal(20, 3): [Decimal("1.5"), Decimal(2)],
    polars.Null: [],
    polars.Int128: [1, 2**100],
    polars.Object: [object(), "a", 1],
}


@lru_cache(maxsize=1000)
def _polars_types() -> st.SearchStrategy[Any]:
    flat = [dtype for dtype in POLARS if dtype not in (polars.Object, polars.Int128)]

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            inner.map(polars.List),
            inner.map(lambda dtype: polars.Array(dtype, 2)),
            inner.map(lambda dtype: polars.Struct({"a": dtype, "b": polars.String})),
        )

    nested = st.recursive(st.sampled_from(flat), around, max_leaves=2)
    return st.one_of(st.sampled_from(list(POLARS)), nested, nested)


@lru_cache(maxsize=1000)
def _polars_values(dtype: Any) -> st.SearchStrategy[Any]:
    if isinstance(dtype, polars.List):
        return st.one_of(st.lists(_polars_values(dtype.inner), max_size=2), st.none())
    if isinstance(dtype, polars.Array):
        return st.one_of(st.lists(_polars_values(dtype.inner), min_size=2, max_size=2), st.none())
    if isinstance(dtype, polars.Struct):
        fields = {field.name: _polars_values(field.dtype) for field in dtype.fields}
        return st.one_of(st.fixed_dictionaries(fields), st.none())
    values = POLARS[dtype]
    return st.sampled_from([*values, *values, None]) if values else st.none()


@st.composite
def polars_frames(draw: Any) -> Any:
    """Frames of polars: of one or two columns, whole, in chunks, or cut out of larger ones."""
    rows = draw(st.integers(0, 5))

    def column(name: str) -> Any:
        dtype = draw(_polars_types())
        values = draw(st.lists(_polars_values(dtype), min_size=rows, max_size=rows))
        return make_or_none(polars.Series, name, values, dtype=dtype)

    columns = [column(name) for name in ("a", "b")[: draw(st.sampled_from([1, 1, 2]))]]
    frame = polars.DataFrame([each for each in columns if each is not None])
    start = draw(st.integers(0, rows))
    way = draw(st.sampled_from(["whole", "chunks", "slice"]))
    if way == "chunks" and frame.width:
        return make_or_none(polars.concat, [frame[:start], frame[start:]], rechunk=False)
    return frame[start:] if way == "slice" else frame
