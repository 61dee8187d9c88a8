"""Strategies for tables of pyarrow that a coordinator may send."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy
import pyarrow
from hypothesis import strategies as st

from .frame_values import DAY, FLOATS, NOON, PLAIN_TEXTS, WHOLE, ZONES, Decimal, make_or_none, there

__all__ = ["arrow_arrays", "arrow_tables"]

FLAT: dict[pyarrow.DataType, Sequence[Any]] = {
    pyarrow.null(): [],
    pyarrow.bool_(): [True, False],
    pyarrow.float16(): [numpy.float16(1.5)],
    pyarrow.float32(): [1.5, 0.0],
    pyarrow.float64(): FLOATS,
    pyarrow.decimal128(38, 10): [Decimal("1.5"), Decimal(3)],
    pyarrow.decimal256(70, 20): [Decimal("1.5")],
    pyarrow.decimal128(5, -2): [Decimal(100)],
    pyarrow.string(): PLAIN_TEXTS,
    pyarrow.large_string(): ["a", "ü"],
    pyarrow.binary(): [b"a", b"\xff"],
    pyarrow.large_binary(): [b"a"],
    pyarrow.binary(3): [b"abc"],
    pyarrow.binary(8): [b"abcdefgh"],
    pyarrow.binary(0): [b""],
    pyarrow.date32(): [DAY, datetime.date(1, 1, 1), 3_000_000, -800_000],
    pyarrow.date64(): [DAY],
    pyarrow.time32("s"): [datetime.time(1)],
    pyarrow.time32("ms"): [datetime.time(1, 2, 3, 4000)],
    pyarrow.time64("us"): [datetime.time(1, 2, 3, 4)],
    pyarrow.time64("ns"): [datetime.time(1, 2, 3, 4), 1],
    pyarrow.month_day_nano_interval(): [pyarrow.MonthDayNano([1, 2, 3])],
    **{getattr(pyarrow, f"int{bits}")(): [1, -7] for bits in (8, 16, 32)},
    **{getattr(pyarrow, f"uint{bits}")(): [1, 7] for bits in (8, 16, 32)},
    pyarrow.int64(): WHOLE,
    pyarrow.uint64(): [1, 2**53, 2**64 - 1],
    **{pyarrow.timestamp(unit): [NOON, 1, 2**55] for unit in ("s", "ms", "us", "ns")},
    **{pyarrow.timestamp("us", zone): [NOON, 1] for zone in (*ZONES, "Nowhere/City")},
    pyarrow.timestamp("ns", "UTC"): [NOON, 1],
    pyarrow.timestamp("s", "UTC"): [NOON, 2**40],
    **{pyarrow.duration(unit): [1, 10**9, -5] for unit in ("s", "ms", "us", "ns")},
}
"""Types of Arrow without others inside, and values of each; whole numbers are of the type's own unit."""

if hasattr(pyarrow, "string_view"):  # from pyarrow 16 on
    FLAT[pyarrow.string_view()] = ["a", "a text of more than twelve bytes"]
    FLAT[pyarrow.binary_view()] = [b"a", b"some bytes, more than twelve"]


@lru_cache(maxsize=1000)
def _flat_types() -> st.SearchStrategy[Any]:
    return st.sampled_from(list(FLAT))


def _dictionary(kind: Any) -> Any:
    return make_or_none(pyarrow.dictionary, pyarrow.int8(), kind)


@lru_cache(maxsize=1000)
def _types() -> st.SearchStrategy[Any]:
    leaves = st.one_of(_flat_types(), _flat_types(), there(_flat_types().map(_dictionary)))

    def around(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            inner.map(pyarrow.list_),
            inner.map(pyarrow.large_list),
            inner.map(lambda kind: pyarrow.list_(kind, 2)),
            inner.map(lambda kind: pyarrow.struct([("a", kind)])),
            st.tuples(inner, inner).map(lambda kinds: pyarrow.struct([("a", kinds[0]), ("b", kinds[1])])),
            inner.map(lambda kind: pyarrow.map_(pyarrow.string(), kind)),
            there(inner.map(lambda kind: make_or_none(pyarrow.map_, kind, pyarrow.int64()))),
        )

    return st.recursive(leaves, around, max_leaves=3)


@lru_cache(maxsize=1000)
def _values(kind: Any) -> st.SearchStrategy[Any]:
    """Python values of a type of Arrow, with None here and there."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _values(kind.value_type)
    if types.is_struct(kind):
        fields = {kind[place].name: _values(kind[place].type) for place in range(kind.num_fields)}
        return st.one_of(st.fixed_dictionaries(fields), st.fixed_dictionaries(fields), st.none())
    if types.is_map(kind):
        keys = _values(kind.key_type).filter(lambda key: key is not None)
        pairs = st.lists(st.tuples(keys, _values(kind.item_type)), max_size=2)
        return st.one_of(pairs, st.none())
    if types.is_fixed_size_list(kind):
        return st.one_of(st.lists(_values(kind.value_type), min_size=2, max_size=2), st.none())
    if types.is_nested(kind):
        return st.one_of(st.lists(_values(kind.value_type), max_size=3), st.none())
    values = FLAT[kind]
    return st.sampled_from([*values, *values, None]) if values else st.none()


def _without_dictionaries(kind: Any) -> Any:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return kind.value_type
    if types.is_struct(kind):
        return pyarrow.struct(
            [
                kind[place].with_type(_without_dictionaries(kind[place].type))
                for place in range(kind.num_fields)
            ]
        )
    if types.is_map(kind):
        return pyarrow.map_(_without_dictionaries(kind.key_type), _without_dictionaries(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(_without_dictionaries(kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pyarrow.large_list(_without_dictionaries(kind.value_type))
    return pyarrow.list_(_without_dictionaries(kind.value_type)) if types.is_list(kind) else kind


def _encoded(array: Any, kind: Any) -> Any:
    """An array, with dictionaries where its type is to have them: pyarrow casts to few of these."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        made = array.dictionary_encode()
        return made.cast(pyarrow.dictionary(pyarrow.int8(), kind.value_type)) if len(array) else made
    return array if not types.is_nested(kind) else array.cast(kind)


def _array(kind: Any, values: list[Any]) -> Any:
    plain = _without_dictionaries(kind)
    array = pyarrow.array(values, plain)
    return array if plain == kind else _encoded(array, kind)


@lru_cache(maxsize=1000)
def arrow_arrays(count: int) -> st.SearchStrategy[Any]:
    def of(kind: Any) -> st.SearchStrategy[Any]:
        values = st.lists(_values(kind), min_size=count, max_size=count)
        return values.map(lambda these: make_or_none(_array, kind, these))

    return there(_types().flatmap(of))


@st.composite
def arrow_tables(draw: Any) -> Any:
    """Tables of pyarrow: whole, in chunks, cut out of larger ones, and of no rows or columns."""
    rows = draw(st.integers(0, 6))
    count = draw(st.sampled_from([0, 1, 1, 1, 2]))
    names = draw(st.lists(st.sampled_from([*PLAIN_TEXTS, "x", "y"]), min_size=count, max_size=count))
    table = pyarrow.Table.from_arrays([draw(arrow_arrays(rows)) for _ in range(count)], names=names)
    start = draw(st.integers(0, rows))
    parts = [table.slice(0, start), table.slice(start)]
    way = draw(st.sampled_from(["whole", "chunks", "slice", "empty"]))
    if way == "chunks" and count:
        return pyarrow.concat_tables(parts)
    if way == "empty":
        return table.slice(rows)
    return parts[1] if way == "slice" else table
