"""The types of columns that a stranger's frame may have, and what each becomes.

Arrow has types that its own conversion to pandas fails on, in ways that end the process. So the types of a
frame are compared with a list before any column is read. What is not on the list is refused. What is on it
becomes a *plain* type: extension types become their storage, views of text become text, and nothing is left
of the metadata that a stranger wrote to a field, at any depth.

Read `plain_schema` first. This module looks at types, never at values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from .pandas_extensions import extension_of
from .time_zones import is_known_zone

__all__ = [
    "DEEPEST",
    "LONGEST_NAME",
    "MOST_COLUMNS",
    "names_of_types",
    "plain_schema",
    "with_wide_indices",
]

MOST_COLUMNS: Final = 10_000
"""How many fields a frame may have, those inside its columns included."""

LONGEST_NAME: Final = 1000
"""In characters. pandas evaluates names as Python literals if its metadata says that they were tuples."""

DEEPEST: Final = 8
"""How many lists, structs and maps may be inside each other."""

_FLAT: Final = (
    "NA BOOL INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 HALF_FLOAT FLOAT DOUBLE "
    "DECIMAL32 DECIMAL64 DECIMAL128 DECIMAL256 STRING LARGE_STRING BINARY LARGE_BINARY FIXED_SIZE_BINARY "
    "DATE32 DATE64 TIME32 TIME64 DURATION INTERVAL_MONTH_DAY_NANO"
)


def plain_schema(pyarrow: Any, schema: Any) -> Any:
    """Make the plain schema of a stranger's schema: the same columns, with plain types and without metadata.

    Args:
        pyarrow: the module.
        schema: a `pyarrow.Schema`.

    Raises:
        ValueError: a column has a type that is not on the list. The text names the column and the type.
            Or there are too many columns, a name is too long, or types are nested too deeply.
        UnicodeDecodeError: a name is not UTF-8.
    """
    if len(schema) > MOST_COLUMNS:
        raise ValueError(f"it has more than {MOST_COLUMNS} columns")
    plain = _PlainTypes(pyarrow)
    return pyarrow.schema([plain.column(schema.field(place)) for place in range(len(schema))])


def with_wide_indices(pyarrow: Any, kind: Any) -> Any:
    """Make the same plain type with dictionaries, at any depth, whose indices have 32 bits or more."""
    return _PlainTypes(pyarrow, least_index_bits=32).type(kind)


@lru_cache(maxsize=1)
def names_of_types(pyarrow: Any) -> dict[int, str]:
    """The names of types by their number. An older pyarrow lacks some."""
    names = (name for name in dir(pyarrow.lib) if name.startswith("Type_"))
    return {getattr(pyarrow.lib, name): name.removeprefix("Type_") for name in names}


class _Refused(Exception):
    """A type that is not on the list; its argument says what the column has."""


class _PlainTypes:
    """Makes plain types, and counts the fields of all of them."""

    def __init__(self, pyarrow: Any, least_index_bits: int = 8) -> None:
        self._pyarrow = pyarrow
        self._least_index_bits = least_index_bits
        self._fields = 0
        self._names = names_of_types(pyarrow)
        flat = dict.fromkeys(_FLAT.split(), _as_it_is)
        others = {
            "STRING_VIEW": lambda kind, depth: pyarrow.large_string(),
            "BINARY_VIEW": lambda kind, depth: pyarrow.large_binary(),
            "TIMESTAMP": self._timestamp,
            "DICTIONARY": self._dictionary,
            "LIST": self._list,
            "LARGE_LIST": self._large_list,
            "FIXED_SIZE_LIST": self._fixed_size_list,
            "STRUCT": self._struct,
            "MAP": self._map,
        }
        self._flat = frozenset({*flat, "STRING_VIEW", "BINARY_VIEW", "TIMESTAMP"})
        self._makers: Mapping[str, Callable[[Any, int], Any]] = {**flat, **others}

    def column(self, field: Any) -> Any:
        name = self._name(field)
        try:
            kind = self.type(field.type)
        except _Refused as refused:
            raise ValueError(f"column {name[:100]!r} has {refused}") from None
        metadata = extension_of(self._pyarrow, field, kind)
        return self._pyarrow.field(name, kind, nullable=field.nullable, metadata=metadata)

    def _name(self, field: Any) -> str:
        self._fields += 1
        if self._fields > MOST_COLUMNS:
            raise ValueError(f"it has more than {MOST_COLUMNS} columns and fields inside them")
        name: str = field.name
        if len(name) > LONGEST_NAME:
            raise ValueError(f"the name of a column has more than {LONGEST_NAME} characters")
        return name

    def _inner(self, field: Any, depth: int) -> Any:
        return self._pyarrow.field(
            self._name(field), self.type(field.type, depth + 1), nullable=field.nullable
        )

    def type(self, kind: Any, depth: int = 0) -> Any:
        while isinstance(kind, self._pyarrow.BaseExtensionType):
            kind = kind.storage_type
        if depth > DEEPEST:
            raise _Refused(f"a type that is nested in more than {DEEPEST} others")
        name = self._names.get(kind.id, "unknown")
        maker = self._makers.get(name)
        if maker is None:
            raise _Refused(f"the type {name.lower()}, which is not read")
        return maker(kind, depth)

    def _timestamp(self, kind: Any, depth: int) -> Any:
        if kind.tz is not None and not is_known_zone(kind.tz):
            raise _Refused(f"the type timestamp with an unknown time zone, {kind.tz[:100]!r}")
        return kind

    def _dictionary(self, kind: Any, depth: int) -> Any:
        name = self._names.get(kind.value_type.id, "unknown")
        if name not in self._flat:
            raise _Refused(f"the type dictionary of {name.lower()}, which is not read")
        value_type, index_type = self.type(kind.value_type, depth + 1), kind.index_type
        if name == "HALF_FLOAT":
            return (
                value_type  # pyarrow (release 26) makes other numbers of these when it unifies dictionaries
            )
        if index_type.bit_width < self._least_index_bits:
            index_type = self._pyarrow.int32()
        return self._pyarrow.dictionary(index_type, value_type, ordered=kind.ordered)

    def _list(self, kind: Any, depth: int) -> Any:
        return self._pyarrow.list_(self._inner(kind.value_field, depth))

    def _large_list(self, kind: Any, depth: int) -> Any:
        return self._pyarrow.large_list(self._inner(kind.value_field, depth))

    def _fixed_size_list(self, kind: Any, depth: int) -> Any:
        return self._pyarrow.list_(self._inner(kind.value_field, depth), kind.list_size)

    def _struct(self, kind: Any, depth: int) -> Any:
        return self._pyarrow.struct([self._inner(kind[place], depth) for place in range(kind.num_fields)])

    def _map(self, kind: Any, depth: int) -> Any:
        key, item = self._inner(kind.key_field, depth), self._inner(kind.item_field, depth)
        return self._pyarrow.map_(key, item, keys_sorted=kind.keys_sorted)


def _as_it_is(kind: Any, depth: int) -> Any:
    return kind
